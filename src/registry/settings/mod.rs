//! Settings for registries from the user's files: mirrors, short names, certificates, and which hosts may go without TLS.
//!
//! Reads the user's `config.kdl`, podman's `registries.conf` and Docker's `daemon.json`; earlier ones in this list take
//! precedence. User names and passwords belong to `credentials`, the communication to `http`.

mod containers;
mod docker;
mod own;

use crate::model::{DOCKER_HUB, Error, Result, Subnet, bounds, text_of};
use crate::sys::{self, Unread};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The host of Docker Hub's API.
const HUB_HOST: &str = "registry-1.docker.io";

/// The files that have settings for registries.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The user's `stead/config.kdl`.
    pub config: Option<PathBuf>,
    /// Docker's `daemon.json`.
    pub docker_daemon: PathBuf,
    /// Podman's `registries.conf` files; later ones take precedence.
    pub containers: Vec<PathBuf>,
    /// Directories that have a directory of certificates for each host.
    pub certificates: Vec<PathBuf>,
}

impl Files {
    /// The files of this user.
    ///
    /// # Errors
    /// Fails when a directory cannot be listed.
    pub fn of_user() -> Result<Self> {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = path("HOME").map(|home| home.join(".config"));
        let config = path("XDG_CONFIG_HOME").or_else(|| folder.clone());
        let user = folder.as_ref().map(|folder| folder.join("containers"));
        let mut certificates: Vec<PathBuf> = vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()];
        if let Some(folder) = &folder {
            certificates.extend([folder.join("containers/certs.d"), folder.join("docker/certs.d")]);
        }
        Ok(Self {
            config: config.map(|folder| folder.join("stead/config.kdl")),
            docker_daemon: "/etc/docker/daemon.json".into(),
            containers: containers::files(Path::new("/etc/containers"), user.as_deref(), path("CONTAINERS_REGISTRIES_CONF"))?,
            certificates,
        })
    }
}

fn ending_in(extension: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let found = sys::names(folder)?.into_iter().map(|name| folder.join(name));
    Ok(found.filter(|path| path.extension().is_some_and(|other| other == extension)).collect())
}

/// How strictly a server's identity is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// HTTPS with a known certificate.
    Checked,
    /// HTTPS with any certificate, else HTTP.
    Unchecked,
    /// HTTPS, or HTTP if the server does not speak TLS: the host is this machine.
    Loopback,
}

/// A registry or mirror to ask for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port, as `mirror.example:5000`.
    pub host: String,
    /// The repository there: `library/redis`, perhaps with a mirror's own prefix in front.
    pub repository: String,
    pub security: Security,
    /// PEM files of certificate authorities to trust for it, besides those of the system.
    pub authorities: Vec<PathBuf>,
    /// Our client certificate, if the server asks for one.
    pub identity: Option<Identity>,
}

/// A certificate and its private key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Whether an image is asked for by tag or by digest: some mirrors serve only one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Tag,
    Digest,
}

#[derive(Clone, Debug)]
struct Mirror {
    location: String,
    insecure: Option<bool>,
    authorities: Vec<PathBuf>,
    only: Option<Asked>,
}

/// The settings in a file for all names with a common prefix.
#[derive(Clone, Debug, Default)]
struct Rule {
    /// A host, a host and the first parts of a repository, or `*.` and a domain.
    prefix: String,
    /// What replaces the prefix when images are pulled.
    location: Option<String>,
    insecure: Option<bool>,
    authorities: Vec<PathBuf>,
    identity: Option<Identity>,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

impl Rule {
    /// What follows the prefix in a name, including the slash; `None` if the name does not have the prefix.
    fn rest<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = match self.prefix.strip_prefix('*') {
            Some(domain) => {
                let (host, rest) = split(name);
                without_port(host).ends_with(domain).then_some(rest)?
            }
            None => name.strip_prefix(&self.prefix)?,
        };
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// The rule with the longest prefix.
fn find<'r>(rules: &'r [Rule], name: &str) -> Option<&'r Rule> {
    rules.iter().filter(|rule| rule.rest(name).is_some()).max_by_key(|rule| rule.prefix.len())
}

/// The settings for registries from all files.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    default_host: Option<String>,
    aliases: BTreeMap<String, String>,
    own: Vec<Rule>,
    containers: Vec<Rule>,
    docker: Vec<Rule>,
    docker_insecure: Vec<String>,
    certificates: Vec<PathBuf>,
}

impl Settings {
    /// Reads the files that exist.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is malformed, with its name, the line, and what is wrong there.
    pub fn read(files: &Files) -> Result<Self> {
        let mut settings = Self { certificates: files.certificates.clone(), ..Self::default() };
        // This file belongs to a daemon: a user who cannot read it goes without it.
        if fs::File::open(&files.docker_daemon).is_ok()
            && let Some(text) = content(&files.docker_daemon)?
        {
            settings.read_docker(&files.docker_daemon, &text)?;
        }
        for path in &files.containers {
            if let Some(text) = content(path)? {
                settings.read_containers(path, &text)?;
            }
        }
        if let Some(path) = &files.config
            && let Some(text) = own_content(path)?
        {
            settings.read_own(path, &text)?;
        }
        Ok(settings)
    }

    /// The registry of names without a host.
    pub fn default_host(&self) -> &str {
        self.default_host.as_deref().unwrap_or(DOCKER_HUB)
    }

    /// The full name that a short one stands for. Neither has a tag or a digest.
    pub fn alias(&self, name: &str) -> Option<&str> {
        self.aliases.get(name).map(String::as_str)
    }

    /// Where to ask for a tag of a repository: mirrors first, the registry itself last.
    pub fn endpoints(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        self.places(&join(host, repository), Asked::Tag)
    }

    /// As [`Self::endpoints`], but for an image with a digest: some mirrors serve only those.
    pub fn endpoints_by_digest(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        self.places(&join(host, repository), Asked::Digest)
    }

    fn places(&self, name: &str, asked: Asked) -> Vec<Endpoint> {
        let mut found = Vec::new();
        let groups = [&self.own, &self.containers, &self.docker].into_iter().enumerate();
        let rule =
            groups.filter_map(|(weight, rules)| Some((weight, find(rules, name)?))).find(|(_, rule)| !rule.mirrors.is_empty());
        if let Some((weight, rule)) = rule {
            let rest = rule.rest(name).unwrap_or_default();
            for mirror in rule.mirrors.iter().filter(|mirror| mirror.only.is_none_or(|only| only == asked)) {
                let place = format!("{}{rest}", mirror.location);
                let insecure = if weight == 0 { mirror.insecure } else { self.own_insecure(&place).or(mirror.insecure) };
                found.push(self.endpoint(&place, insecure, &mirror.authorities));
            }
        }
        let moved = find(&self.containers, name).and_then(|rule| {
            let place = format!("{}{}", rule.location.as_ref()?, rule.rest(name)?);
            let insecure = self.own_insecure(&place).or(rule.insecure);
            Some(self.endpoint(&place, insecure, &[]))
        });
        found.push(moved.unwrap_or_else(|| self.endpoint(name, None, &[])));
        found
    }

    /// The registry itself, for pushing: mirrors and other locations are only for pulling.
    pub fn origin(&self, host: &str, repository: &str) -> Endpoint {
        self.endpoint(&join(host, repository), None, &[])
    }

    /// If a file blocks images with this name, the reason.
    pub fn blocked(&self, host: &str, repository: &str) -> Option<String> {
        let rule = find(&self.containers, &join(host, repository)).filter(|rule| rule.blocked)?;
        Some(format!("{} has `blocked = true` for {:?}", rule.file.display(), rule.prefix))
    }

    fn own_insecure(&self, place: &str) -> Option<bool> {
        find(&self.own, place)?.insecure
    }

    fn endpoint(&self, place: &str, insecure: Option<bool>, authorities: &[PathBuf]) -> Endpoint {
        let (host, rest) = split(place);
        let insecure = insecure
            .or_else(|| self.own_insecure(place))
            .or_else(|| find(&self.containers, place)?.insecure)
            .unwrap_or_else(|| self.docker_insecure.iter().any(|entry| covers(entry, host)));
        let security = match insecure {
            true => Security::Unchecked,
            false if is_loopback(host) => Security::Loopback,
            false => Security::Checked,
        };
        // A directory that cannot be listed counts as empty: without its files we trust less, and are trusted less.
        let beside = |extension: &str, folder: &PathBuf| ending_in(extension, &folder.join(host)).unwrap_or_default();
        let mut authorities = authorities.to_vec();
        let own = find(&self.own, place);
        authorities.extend(own.into_iter().flat_map(|rule| rule.authorities.iter().cloned()));
        authorities.extend(self.certificates.iter().flat_map(|folder| beside("crt", folder)));
        let with_key = |certificate: PathBuf| Identity { key: certificate.with_extension("key"), certificate };
        let mut certificates = self.certificates.iter().flat_map(|folder| beside("cert", folder));
        let identity = own.and_then(|rule| rule.identity.clone()).or_else(|| certificates.next().map(with_key));
        let api = if host == DOCKER_HUB { HUB_HOST } else { host };
        Endpoint { host: api.to_owned(), repository: rest.trim_start_matches('/').to_owned(), security, authorities, identity }
    }
}

/// Reads the user's own file, if it exists.
fn own_content(path: &Path) -> Result<Option<String>> {
    match sys::read_regular(path, bounds::CONFIG_FILE) {
        Ok(bytes) => text_of(&path.display().to_string(), bytes).map(Some).map_err(Error::new),
        Err(Unread::Absent) => Ok(None),
        Err(why) => Err(Error::caused(format!("cannot read {}", path.display()), why)),
    }
}

fn content(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::caused(format!("cannot read {}", path.display()), error)),
    }
}

fn damaged(path: &Path, line: usize, why: &str) -> Error {
    Error::new(format!("{}:{line}: {why}", path.display()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Splits a name into its host and the rest, which begins with the slash.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.find('/').unwrap_or(name.len()))
}

/// One name for Docker Hub's hosts; other hosts stay as they are.
fn hub(host: &str) -> &str {
    if matches!(host, "index.docker.io" | HUB_HOST) { DOCKER_HUB } else { host }
}

fn join(host: &str, repository: &str) -> String {
    if repository.is_empty() { hub(host).to_owned() } else { format!("{}/{repository}", hub(host)) }
}

/// Reads a host from a file, perhaps followed by the first parts of a repository.
fn place(text: &str) -> Result<String, String> {
    if let Some((_, rest)) = text.split_once("://") {
        return Err(format!("{text:?} is a URL; write it without a scheme: {rest:?}"));
    }
    let (host, rest) = split(text.trim_end_matches('/'));
    if host.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!("{text:?} is no host of a registry"));
    }
    Ok(format!("{}{rest}", hub(host)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()))
}

/// Whether an entry of Docker's `insecure-registries` matches a host: it is the host, or a network with the host's address.
fn covers(entry: &str, host: &str) -> bool {
    let Some((network, prefix)) = entry.split_once('/') else { return entry == host };
    let (Ok(network), Ok(prefix)) = (network.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else { return false };
    without_port(host).parse::<Ipv4Addr>().is_ok_and(|address| Subnet::new(network, prefix).contains(address))
}

#[cfg(test)]
mod tests;

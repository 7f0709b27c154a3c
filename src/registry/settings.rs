//! What the user's files say of registries: mirrors, short names, certificates, what may go without TLS.
//!
//! Reads the user's `config.kdl`, podman's `registries.conf` and Docker's `daemon.json`; the earlier counts before
//! the later. Who the user is belongs to `credentials`; how a registry is spoken to belongs to `http`.

use crate::model::{DOCKER_HUB, Fault, Outcome, Subnet, nearest};
use kdl::{KdlDocument, KdlNode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The host that answers for Docker Hub.
const HUB_HOST: &str = "registry-1.docker.io";

/// Where the files are that say something of registries.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The user's `stead/config.kdl`.
    pub config: Option<PathBuf>,
    /// Docker's `daemon.json`.
    pub docker_daemon: PathBuf,
    /// Podman's `registries.conf` files; the later count more.
    pub containers: Vec<PathBuf>,
    /// Folders that have a folder of certificates for each host.
    pub certificates: Vec<PathBuf>,
}

impl Files {
    /// Where they are for this user.
    pub fn of_user() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = path("HOME").map(|home| home.join(".config"));
        let config = path("XDG_CONFIG_HOME").or_else(|| folder.clone());
        let user = folder.as_ref().map(|folder| folder.join("containers"));
        let mut certificates: Vec<PathBuf> = vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()];
        if let Some(folder) = &folder {
            certificates.extend([folder.join("containers/certs.d"), folder.join("docker/certs.d")]);
        }
        Self {
            config: config.map(|folder| folder.join("stead/config.kdl")),
            docker_daemon: "/etc/docker/daemon.json".into(),
            containers: containers(Path::new("/etc/containers"), user.as_deref(), path("CONTAINERS_REGISTRIES_CONF")),
            certificates,
        }
    }
}

/// Podman's files in their order (containers-registries.conf(5) and containers-registries.conf.d(5)): a user's own
/// file comes instead of the host's, and of the host's folder.
fn containers(system: &Path, user: Option<&Path>, named: Option<PathBuf>) -> Vec<PathBuf> {
    let own = user.map(|folder| folder.join("registries.conf")).filter(|path| path.exists());
    let system_counts = named.is_some() || own.is_none();
    let mut files = vec![named.or(own).unwrap_or_else(|| system.join("registries.conf"))];
    for folder in Some(system).filter(|_| system_counts).into_iter().chain(user) {
        files.extend(ending_in("conf", &folder.join("registries.conf.d")));
    }
    files
}

fn ending_in(extension: &str, folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|other| other == extension)).collect();
    found.sort();
    found
}

/// How sure one must be of who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// HTTPS with a known certificate.
    Checked,
    /// HTTPS with any certificate, else HTTP.
    Unchecked,
    /// HTTPS, or HTTP where nothing speaks TLS: the host is this one.
    Loopback,
}

/// A place to ask for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port, as `mirror.example:5000`.
    pub host: String,
    /// The repository there: `library/redis`, perhaps with a mirror's own prefix in front.
    pub repository: String,
    pub security: Security,
    /// PEM files of certificate authorities to trust for it, besides the host's.
    pub authorities: Vec<PathBuf>,
}

/// What a name is asked by: some mirrors are for one of them only.
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

/// What a file says of all names that begin alike.
#[derive(Clone, Debug, Default)]
struct Rule {
    /// A host, a host and the first parts of a repository, or `*.` and a domain.
    prefix: String,
    /// What stands in the prefix's place when images are read.
    location: Option<String>,
    insecure: Option<bool>,
    authorities: Vec<PathBuf>,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

impl Rule {
    /// What follows the prefix in a name, with its slash; nothing for names that begin otherwise.
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

/// What the user's files say of registries.
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
    /// Reads the files that are there.
    ///
    /// # Errors
    /// A file that cannot be read as what it is: its name, the line, and what is wrong there.
    pub fn read(files: &Files) -> Outcome<Self> {
        let mut settings = Self { certificates: files.certificates.clone(), ..Self::default() };
        // This file is a daemon's: not every user has to be able to read it.
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
            && let Some(text) = content(path)?
        {
            settings.read_own(&Own { path, text: &text })?;
        }
        Ok(settings)
    }

    /// The registry of names that name none.
    pub fn default_host(&self) -> &str {
        self.default_host.as_deref().unwrap_or(DOCKER_HUB)
    }

    /// The full name that a short one stands for; neither has a tag or a digest.
    pub fn alias(&self, name: &str) -> Option<&str> {
        self.aliases.get(name).map(String::as_str)
    }

    /// Where a repository is to be asked for a tag, mirrors first, the registry itself last.
    pub fn endpoints(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        self.places(&join(host, repository), Asked::Tag)
    }

    /// As [`Self::endpoints`] for what has a digest: some mirrors may be asked for nothing else.
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

    /// The registry itself, for pushing: mirrors and other locations are for reading only.
    pub fn origin(&self, host: &str, repository: &str) -> Endpoint {
        self.endpoint(&join(host, repository), None, &[])
    }

    /// Why images with this name are not to be had, if a file forbids them.
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
        let mut authorities = authorities.to_vec();
        authorities.extend(find(&self.own, place).into_iter().flat_map(|rule| rule.authorities.iter().cloned()));
        authorities.extend(self.certificates.iter().flat_map(|folder| ending_in("crt", &folder.join(host))));
        let api = if host == DOCKER_HUB { HUB_HOST } else { host };
        Endpoint { host: api.to_owned(), repository: rest.trim_start_matches('/').to_owned(), security, authorities }
    }

    fn read_own(&mut self, file: &Own<'_>) -> Outcome<()> {
        for node in file.document()?.nodes() {
            match node.name().value() {
                "default-registry" => {
                    let [host] = file.words(node, &[])?;
                    self.default_host = Some(file.place(node, host)?);
                }
                "alias" => {
                    let [short, full] = file.words(node, &[])?;
                    self.aliases.insert(short.to_owned(), full.to_owned());
                }
                "registry" => {
                    let rule = file.registry(node)?;
                    if self.own.iter().any(|other| other.prefix == rule.prefix) {
                        let why = format!("registry {:?} stands here twice", rule.prefix);
                        return Err(file.fault(node.span().offset(), &why).hint("make one node of them"));
                    }
                    self.own.push(rule);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_containers(&mut self, path: &Path, text: &str) -> Outcome<()> {
        let file: Containers = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            damaged(path, line, error.message())
        })?;
        let wrong = |why: String| Fault::new(format!("{}: {why}", path.display()));
        if let Some(hosts) = file.unqualified_search_registries {
            self.default_host = hosts.first().map(|host| place(host)).transpose().map_err(wrong)?;
        }
        for (short, full) in file.aliases {
            // An empty one takes back what an earlier file says.
            self.aliases.remove(&short);
            if !full.is_empty() {
                self.aliases.insert(short, full);
            }
        }
        for entry in file.registry {
            let rule = entry.rule(path).map_err(wrong)?;
            self.containers.retain(|other| other.prefix != rule.prefix);
            self.containers.push(rule);
        }
        Ok(())
    }

    fn read_docker(&mut self, path: &Path, text: &str) -> Outcome<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let file: Docker = serde_json::from_str(text).map_err(|error| damaged(path, error.line(), &error.to_string()))?;
        let mut mirrors = Vec::new();
        for url in file.registry_mirrors.iter().flatten() {
            let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
            let location = place(rest).map_err(|why| Fault::new(format!("{}: {why}", path.display())))?;
            let insecure = (scheme == "http").then_some(true);
            mirrors.push(Mirror { location, insecure, authorities: Vec::new(), only: None });
        }
        self.docker.push(Rule { prefix: DOCKER_HUB.into(), mirrors, file: path.to_owned(), ..Rule::default() });
        for entry in file.insecure_registries.iter().flatten() {
            let bare = entry.split_once("://").map_or(entry.as_str(), |(_, rest)| rest);
            self.docker_insecure.push(bare.to_owned());
        }
        Ok(())
    }
}

/// Docker's `daemon.json`, as far as it says something of registries.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Docker {
    registry_mirrors: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
}

/// Podman's `registries.conf`, version 2.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Containers {
    unqualified_search_registries: Option<Vec<String>>,
    aliases: BTreeMap<String, String>,
    registry: Vec<ContainersRegistry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ContainersRegistry {
    prefix: String,
    location: String,
    insecure: Option<bool>,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<ContainersMirror>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ContainersMirror {
    location: String,
    insecure: Option<bool>,
    pull_from_mirror: String,
}

impl ContainersRegistry {
    fn rule(self, file: &Path) -> Result<Rule, String> {
        let location = if self.location.is_empty() { None } else { Some(place(&self.location)?) };
        let prefix = match &location {
            _ if !self.prefix.is_empty() => place(&self.prefix)?,
            Some(location) => location.clone(),
            None => return Err("a [[registry]] has neither `prefix` nor `location`".into()),
        };
        let mut mirrors = Vec::new();
        for mirror in self.mirror {
            let only = match mirror.pull_from_mirror.as_str() {
                "digest-only" => Some(Asked::Digest),
                "tag-only" => Some(Asked::Tag),
                _ => self.mirror_by_digest_only.then_some(Asked::Digest),
            };
            let location = place(&mirror.location)?;
            mirrors.push(Mirror { location, insecure: mirror.insecure, authorities: Vec::new(), only });
        }
        let (insecure, blocked) = (self.insecure, self.blocked);
        Ok(Rule { prefix, location, insecure, blocked, mirrors, file: file.to_owned(), authorities: Vec::new() })
    }
}

/// The user's `config.kdl`.
struct Own<'f> {
    path: &'f Path,
    text: &'f str,
}

impl Own<'_> {
    fn fault(&self, offset: usize, why: &str) -> Fault {
        damaged(self.path, line_of(self.text, offset), why)
    }

    fn document(&self) -> Outcome<KdlDocument> {
        KdlDocument::parse_v2(self.text).map_err(|error| {
            let first = error.diagnostics.first();
            let why = first.and_then(|found| found.message.as_deref()).unwrap_or("this is not KDL");
            let fault = self.fault(first.map_or(0, |found| found.span.offset()), why);
            match first.and_then(|found| found.help.as_deref()) {
                Some(help) => fault.hint(help),
                None => fault,
            }
        })
    }

    fn unknown(&self, offset: usize, word: &str, known: &[&str]) -> Fault {
        let fault = self.fault(offset, &format!("`{word}` is not known here"));
        match nearest(word, known.iter().copied()) {
            Some(near) => fault.hint(format!("write `{near}`")),
            None if known.is_empty() => fault.hint("leave it out"),
            None => fault.hint(format!("known here: {}", known.join(", "))),
        }
    }

    /// A node's texts, of which there are exactly so many; it has no other properties than these.
    fn words<'n, const COUNT: usize>(&self, node: &'n KdlNode, properties: &[&str]) -> Outcome<[&'n str; COUNT]> {
        for entry in node.entries() {
            if let Some(name) = entry.name()
                && !properties.contains(&name.value())
            {
                return Err(self.unknown(entry.span().offset(), name.value(), properties));
            }
        }
        let name = node.name().value();
        if name != "registry" && node.children().is_some() {
            return Err(self.fault(node.span().offset(), &format!("`{name}` has nothing in braces")));
        }
        let texts = node.entries().iter().filter(|entry| entry.name().is_none()).map(|entry| entry.value().as_string());
        let texts: Option<[&str; COUNT]> = texts.collect::<Option<Vec<_>>>().and_then(|texts| texts.try_into().ok());
        let count = if COUNT == 1 { "one text" } else { "two texts" };
        texts.ok_or_else(|| self.fault(node.span().offset(), &format!("`{name}` takes {count} in quotes")))
    }

    fn place(&self, node: &KdlNode, text: &str) -> Outcome<String> {
        place(text).map_err(|why| self.fault(node.span().offset(), &why))
    }

    fn insecure(&self, node: &KdlNode) -> Outcome<Option<bool>> {
        let Some(entry) = node.entry("insecure") else { return Ok(None) };
        let wrong = || self.fault(entry.span().offset(), "`insecure` is #true or #false");
        entry.value().as_bool().map(Some).ok_or_else(wrong)
    }

    fn authorities(&self, node: &KdlNode) -> Outcome<Vec<PathBuf>> {
        let Some(entry) = node.entry("ca") else { return Ok(Vec::new()) };
        let wrong = || self.fault(entry.span().offset(), "`ca` is the path of a file, in quotes");
        let path = entry.value().as_string().ok_or_else(wrong)?;
        Ok(vec![self.path.parent().unwrap_or(Path::new("/")).join(path)])
    }

    fn registry(&self, node: &KdlNode) -> Outcome<Rule> {
        let [name] = self.words(node, &["insecure", "ca"])?;
        let mut mirrors = Vec::new();
        for child in node.children().into_iter().flat_map(KdlDocument::nodes) {
            if child.name().value() != "mirror" {
                return Err(self.unknown(child.span().offset(), child.name().value(), &["mirror"]));
            }
            let [location] = self.words(child, &["insecure", "ca"])?;
            let location = self.place(child, location)?;
            let (insecure, authorities) = (self.insecure(child)?, self.authorities(child)?);
            mirrors.push(Mirror { location, insecure, authorities, only: None });
        }
        let (prefix, insecure) = (self.place(node, name)?, self.insecure(node)?);
        let (authorities, file) = (self.authorities(node)?, self.path.to_owned());
        Ok(Rule { prefix, insecure, authorities, mirrors, file, location: None, blocked: false })
    }
}

fn content(path: &Path) -> Outcome<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Fault::caused(format!("cannot read {}", path.display()), error)),
    }
}

fn damaged(path: &Path, line: usize, why: &str) -> Fault {
    Fault::new(format!("{}:{line}: {why}", path.display()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A host, and what follows it with its slash.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.find('/').unwrap_or(name.len()))
}

/// Docker Hub by its one name; other hosts as they are.
fn hub(host: &str) -> &str {
    if matches!(host, "index.docker.io" | HUB_HOST) { DOCKER_HUB } else { host }
}

fn join(host: &str, repository: &str) -> String {
    if repository.is_empty() { hub(host).to_owned() } else { format!("{}/{repository}", hub(host)) }
}

/// A host with perhaps the first parts of a repository, as a file has it.
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

/// Whether one of Docker's `insecure-registries` means a host: the host itself, or a network that has its address.
fn covers(entry: &str, host: &str) -> bool {
    let Some((network, prefix)) = entry.split_once('/') else { return entry == host };
    let (Ok(network), Ok(prefix)) = (network.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else { return false };
    without_port(host).parse::<Ipv4Addr>().is_ok_and(|address| Subnet::new(network, prefix).contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, own: &str, containers: &[&str], docker: &str) -> Files {
        let keep = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let containers = containers.iter().enumerate().map(|(at, text)| keep(&format!("registries-{at}.conf"), text));
        Files {
            config: Some(keep("config.kdl", own)),
            containers: containers.collect(),
            docker_daemon: keep("daemon.json", docker),
            certificates: vec![folder.join("certs.d")],
        }
    }

    fn read(own: &str, containers: &[&str], docker: &str) -> Outcome<Settings> {
        let folder = tempfile::tempdir().unwrap();
        Settings::read(&files(folder.path(), own, containers, docker))
    }

    fn shown(endpoint: &Endpoint) -> String {
        format!("{}/{} {:?}", endpoint.host, endpoint.repository, endpoint.security)
    }

    fn asked(settings: &Settings, host: &str, repository: &str) -> Vec<String> {
        settings.endpoints(host, repository).iter().map(shown).collect()
    }

    #[test]
    fn without_files_all_is_as_usual() {
        let settings = Settings::read(&Files { config: Some("/nowhere/config.kdl".into()), ..Files::default() }).unwrap();
        assert_eq!((settings.default_host(), settings.alias("redis")), ("docker.io", None));
        assert_eq!(asked(&settings, "docker.io", "library/redis"), ["registry-1.docker.io/library/redis Checked"]);
        assert_eq!(settings.endpoints("ghcr.io", "o/n"), [settings.origin("ghcr.io", "o/n")]);
        assert_eq!(shown(&settings.origin("docker.io", "")), "registry-1.docker.io/ Checked");
        assert_eq!(settings.blocked("ghcr.io", "o/n"), None);
    }

    #[test]
    fn the_own_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let own = r#"
            default-registry "quay.io"
            alias "redis" "docker.io/bitnami/redis"
            mirror "http://debian.test/debian"
            registry "index.docker.io" {
                mirror "mirror.test:5000/cache/" insecure=#true ca="certs/x.pem"
                mirror "second.test"
            }
            registry "second.test" ca="second.pem"
            registry "plain.test" insecure=#true
        "#;
        let settings = Settings::read(&files(folder.path(), own, &[], "")).unwrap();
        assert_eq!((settings.default_host(), settings.alias("redis")), ("quay.io", Some("docker.io/bitnami/redis")));
        assert_eq!(
            asked(&settings, "docker.io", "library/redis"),
            [
                "mirror.test:5000/cache/library/redis Unchecked",
                "second.test/library/redis Checked",
                "registry-1.docker.io/library/redis Checked"
            ]
        );
        let endpoints = settings.endpoints("docker.io", "library/redis");
        assert_eq!(endpoints[0].authorities, [folder.path().join("certs/x.pem")]);
        assert_eq!(endpoints[1].authorities, [folder.path().join("second.pem")]);
        assert_eq!(shown(&settings.origin("plain.test", "a")), "plain.test/a Unchecked");
        assert_eq!(shown(&settings.origin("plain.test:5000", "a")), "plain.test:5000/a Checked");
    }

    #[test]
    fn mistakes_in_the_own_file_have_a_place_and_a_hint() {
        for (text, place, advice) in [
            ("registry \"a.test\" insecur=#true", "config.kdl:1: `insecur` is not known", Some("write `insecure`")),
            ("\nregistry \"a.test\" {\n    miror \"b.test\"\n}", "config.kdl:3: `miror` is not known", Some("write `mirror`")),
            ("registry \"a.test\" {\n    mirror \"b.test\" zzzzzz=1\n}", "config.kdl:2: ", Some("known here: insecure, ca")),
            ("registry \"a.test\" {\n    mirror \"b.test\" {\n        x\n    }\n}", "config.kdl:2: `mirror` has", None),
            ("registry \"https://a.test\"", "without a scheme: \"a.test\"", None),
            ("registry \"a.test\" insecure=\"yes\"", "#true or #false", None),
            ("registry \"a.test\" ca=#true", "`ca` is the path", None),
            (
                "registry \"a.test\"\nregistry \"a.test/\"",
                "config.kdl:2: registry \"a.test\" stands here twice",
                Some("make one"),
            ),
            ("registry", "config.kdl:1: `registry` takes one text", None),
            ("registry \"a\" \"b\"", "takes one text", None),
            ("alias \"x\"", "takes two texts", None),
            ("default-registry 5", "config.kdl:1: ", None),
            ("\nregistry \"a.test\" insecure=true", "config.kdl:2: ", None),
        ] {
            let fault = read(text, &[], "").unwrap_err();
            assert!(fault.to_string().contains(place), "{text}: {fault}");
            let right = advice.is_none_or(|advice| fault.advice().is_some_and(|found| found.contains(advice)));
            assert!(right, "{text}: {:?}", fault.advice());
        }
    }

    const PODMAN: &str = r#"
        unqualified-search-registries = ["quay.io", "docker.io"]
        short-name-mode = "enforcing"
        [aliases]
        "fedora" = "registry.fedoraproject.org/fedora"
        "gone" = "x.test/gone"
        [[registry]]
        prefix = "example.com/foo"
        location = "internal.test/bar"
        [[registry.mirror]]
        location = "mirror-0.local/mirror-for-foo"
        [[registry.mirror]]
        location = "mirror-1.local/foo"
        insecure = true
        [[registry]]
        location = "example.com"
        insecure = true
        [[registry]]
        prefix = "*.wild.test"
        location = "caught.test/all"
        [[registry]]
        prefix = "bad.test/worse"
        blocked = true
    "#;

    #[test]
    fn podmans_files_are_read() {
        let later = "[aliases]\n\"gone\" = \"\"\n[[registry]]\nlocation = \"bad.test/worse\"\ninsecure = true";
        let settings = read("", &[PODMAN, later], "").unwrap();
        assert_eq!((settings.default_host(), settings.alias("gone")), ("quay.io", None));
        assert_eq!(settings.alias("fedora"), Some("registry.fedoraproject.org/fedora"));
        assert_eq!(
            asked(&settings, "example.com", "foo/image"),
            [
                "mirror-0.local/mirror-for-foo/image Checked",
                "mirror-1.local/foo/image Unchecked",
                "internal.test/bar/image Checked"
            ]
        );
        assert_eq!(settings.origin("example.com", "foo/image").host, "example.com");
        assert_eq!(asked(&settings, "example.com", "foobar/image"), ["example.com/foobar/image Unchecked"]);
        assert_eq!(asked(&settings, "example.com:5000", "foo/image"), ["example.com:5000/foo/image Checked"]);
        assert_eq!(asked(&settings, "a.wild.test:5000", "x/y"), ["caught.test/all/x/y Checked"]);
        assert_eq!(asked(&settings, "wild.test", "x"), ["wild.test/x Checked"]);
        // The later file says anew what the earlier one said.
        assert_eq!(asked(&settings, "bad.test", "worse"), ["bad.test/worse Unchecked"]);
        assert_eq!(settings.blocked("bad.test", "worse"), None);
    }

    #[test]
    fn podman_can_block() {
        let settings = read("", &[PODMAN], "").unwrap();
        let why = settings.blocked("bad.test", "worse/x").unwrap();
        assert!(why.contains("registries-0.conf") && why.contains("bad.test/worse"), "{why}");
        assert_eq!((settings.blocked("bad.test", "better"), settings.blocked("example.com", "foo")), (None, None));
    }

    #[test]
    fn some_mirrors_are_for_digests_only() {
        let podman = r#"
            [[registry]]
            location = "a.test"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.test"
            [[registry]]
            location = "b.test"
            [[registry.mirror]]
            location = "digest.test"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "tag.test"
            pull-from-mirror = "tag-only"
        "#;
        let settings = read("", &[podman], "").unwrap();
        let by_digest = |host| settings.endpoints_by_digest(host, "x").iter().map(shown).collect::<Vec<_>>();
        assert_eq!(asked(&settings, "a.test", "x"), ["a.test/x Checked"]);
        assert_eq!(by_digest("a.test"), ["m.test/x Checked", "a.test/x Checked"]);
        assert_eq!(asked(&settings, "b.test", "x"), ["tag.test/x Checked", "b.test/x Checked"]);
        assert_eq!(by_digest("b.test"), ["digest.test/x Checked", "b.test/x Checked"]);
    }

    #[test]
    fn dockers_file_is_read() {
        let docker = r#"{"registry-mirrors": ["https://m.test/", "http://plain.test:5000"], "debug": true,
            "insecure-registries": ["in.test:5000", "10.0.0.0/8", "http://old.test", "fd00::/8"]}"#;
        let settings = read("", &[], docker).unwrap();
        assert_eq!(
            asked(&settings, "docker.io", "library/x"),
            ["m.test/library/x Checked", "plain.test:5000/library/x Unchecked", "registry-1.docker.io/library/x Checked"]
        );
        for (host, security) in [
            ("in.test:5000", Security::Unchecked),
            ("in.test", Security::Checked),
            ("old.test", Security::Unchecked),
            ("10.1.2.3:5000", Security::Unchecked),
            ("11.1.2.3:5000", Security::Checked),
            ("ghcr.io", Security::Checked),
        ] {
            assert_eq!(settings.endpoints(host, "x").len(), 1);
            assert_eq!(settings.origin(host, "x").security, security, "{host}");
        }
    }

    #[test]
    fn the_own_file_counts_before_podmans_and_podmans_before_dockers() {
        let docker = r#"{"registry-mirrors": ["https://docker.test"], "insecure-registries": ["in.test", "podman.test"]}"#;
        let podman = "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"podman.test\"\ninsecure = true\n\
            [[registry]]\nlocation = \"in.test\"\ninsecure = false\n[aliases]\n\"x\" = \"podman.test/x\"";
        let own = "registry \"docker.io\" { mirror \"own.test\"; }\nregistry \"in.test\" insecure=#true\n\
            default-registry \"own.test\"\nalias \"x\" \"own.test/x\"";
        let first = |settings: &Settings| asked(settings, "docker.io", "x").remove(0);
        let all = read(own, &[podman], docker).unwrap();
        assert_eq!(
            (first(&all), all.default_host(), all.alias("x")),
            ("own.test/x Checked".to_owned(), "own.test", Some("own.test/x"))
        );
        assert_eq!(all.origin("in.test", "").security, Security::Unchecked);
        let two = read("registry \"podman.test\" insecure=#false", &[podman], docker).unwrap();
        assert_eq!((first(&two), two.origin("in.test", "").security), ("podman.test/x Checked".to_owned(), Security::Checked));
        let one = read("registry \"docker.io\"", &[], docker).unwrap();
        assert_eq!((first(&one), one.origin("in.test", "").security), ("docker.test/x Checked".to_owned(), Security::Unchecked));
    }

    #[test]
    fn this_host_needs_no_tls() {
        let settings = read("", &[], r#"{"insecure-registries": ["localhost:5001"]}"#).unwrap();
        for host in ["localhost", "localhost:5000", "x.localhost:1", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert_eq!(settings.origin(host, "x").security, Security::Loopback, "{host}");
        }
        for host in ["128.0.0.1", "localhost.test", "notlocalhost", "[::2]:5000", "127.0.0.1.test"] {
            assert_eq!(settings.origin(host, "x").security, Security::Checked, "{host}");
        }
        assert_eq!(settings.origin("localhost:5001", "x").security, Security::Unchecked);
    }

    #[test]
    fn certificates_lie_in_folders_of_their_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("certs.d/a.test:5000");
        fs::create_dir_all(&certificates).unwrap();
        for name in ["b.crt", "a.crt", "client.cert", "client.key"] {
            fs::write(certificates.join(name), "").unwrap();
        }
        let own = "registry \"a.test:5000\" ca=\"/own.pem\"";
        let settings = Settings::read(&files(folder.path(), own, &[], "")).unwrap();
        let expected = [PathBuf::from("/own.pem"), certificates.join("a.crt"), certificates.join("b.crt")];
        assert_eq!(settings.origin("a.test:5000", "x").authorities, expected);
        assert_eq!(settings.origin("a.test", "x").authorities, Vec::<PathBuf>::new());
    }

    #[test]
    fn damaged_files_of_others_are_named() {
        for (podman, docker, place) in [
            ("a = 1\nb = x", "", "registries-0.conf:2: "),
            ("[[registry]]\ninsecure = \"x\"\nlocation = \"a.test\"", "", "registries-0.conf:"),
            ("[[registry]]\nblocked = true", "", "registries-0.conf: a [[registry]] has neither"),
            ("[[registry]]\nlocation = \"http://a.test\"", "", "registries-0.conf: \"http://a.test\" is a URL"),
            ("", "{\n", "daemon.json:"),
            ("", "{\"registry-mirrors\": 5}", "daemon.json:1: "),
            ("", "{\"registry-mirrors\": [\"https://\"]}", "daemon.json: \"\" is no host"),
        ] {
            let fault = read("", &[podman], docker).unwrap_err().chain();
            assert!(fault.contains(place), "{fault}");
        }
        let folder = tempfile::tempdir().unwrap();
        let config = Some(folder.path().to_owned());
        assert!(Settings::read(&Files { config, ..Files::default() }).unwrap_err().chain().contains("cannot read"));
    }

    #[test]
    fn podmans_files_have_an_order() {
        let folder = tempfile::tempdir().unwrap();
        let (system, user) = (folder.path().join("etc"), folder.path().join("home"));
        for name in ["etc/registries.conf.d", "home/registries.conf.d"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["etc/registries.conf.d/b.conf", "etc/registries.conf.d/a.conf", "etc/registries.conf.d/x.bak"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(user.join("registries.conf.d/c.conf"), "").unwrap();
        let found = |named: Option<PathBuf>| -> Vec<String> {
            let files = containers(&system, Some(&user), named);
            files.iter().map(|path| path.strip_prefix(folder.path()).unwrap_or(path).display().to_string()).collect()
        };
        let parts = ["etc/registries.conf.d/a.conf", "etc/registries.conf.d/b.conf", "home/registries.conf.d/c.conf"];
        assert_eq!(found(None), [&["etc/registries.conf"][..], &parts[..]].concat());
        fs::write(user.join("registries.conf"), "").unwrap();
        assert_eq!(found(None), ["home/registries.conf", "home/registries.conf.d/c.conf"]);
        assert_eq!(found(Some("/named.conf".into())), [&["/named.conf"][..], &parts[..]].concat());
        assert_eq!(containers(&system, None, None).len(), 3);
    }
}

//! Where packages come from: the step's mirror, the project's, the user's, or the host's own sources.
//!
//! No mirror is built into this program.

use crate::fetch::{Bound, Origin, read_file};
use crate::lock::stanzas;
use crate::model::bounds::debian as limits;
use crate::model::kdl_text::{self, Limits};
use crate::model::{Context, Error, Result, bounds};
use crate::project::Mirror;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The location of the security archive that usually exists beside an archive.
fn security_sibling(place: &Origin) -> Option<Origin> {
    match place {
        Origin::Url(url) => url.strip_suffix("debian").map(|rest| Origin::Url(format!("{rest}debian-security"))),
        Origin::Folder(path) => Some(Origin::Folder(path.with_file_name("debian-security"))),
    }
}

/// An archive of a suite: `bookworm`, `bookworm-updates` or `bookworm-security` at some location.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    pub place: Origin,
    pub suite: String,
    pub need: Need,
}

/// What it means if a mirror does not have an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The suite cannot be resolved without it.
    Required,
    /// The host's own sources name it, or a lock was made with it: without it packages would be older than before.
    Expected,
    /// Most mirrors of Debian have it beside the suite, and fixes are published there.
    Usual,
    /// Its absence means nothing.
    Optional,
}

/// What chooses mirrors in addition to the project file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The project's directory, for vendored mirrors and keys.
    pub folder: PathBuf,
    /// The user's configuration file.
    pub config: Option<PathBuf>,
    /// The host's package sources.
    pub sources: PathBuf,
}

impl Settings {
    /// The settings for a project's directory: the user's `config.kdl` and the host's `/etc/apt`.
    pub fn for_folder(folder: &Path) -> Self {
        let config = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
        Self {
            folder: folder.to_owned(),
            config: config.map(|config| config.join("stead/config.kdl")),
            sources: "/etc/apt".into(),
        }
    }
}

/// The mirrors that a suite is fetched from, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirrors {
    pub places: Vec<Origin>,
    /// Security archives that the host's sources name.
    security: Vec<Origin>,
    /// Suites that the host's sources name; empty if the mirrors come from elsewhere.
    named: BTreeSet<String>,
}

/// Suites that have no updates or security archive of their own.
const ALONE: [&str; 4] = ["sid", "unstable", "experimental", "rc-buggy"];

impl Mirrors {
    fn only(places: Vec<Origin>) -> Self {
        Self { places, security: Vec::new(), named: BTreeSet::new() }
    }

    /// The mirrors for a suite.
    ///
    /// # Errors
    /// Fails when nothing names a mirror; the hint says how to name one.
    pub fn find(suite: &str, step: Option<&str>, named: &[Mirror], settings: &Settings) -> Result<Self> {
        if let Some(step) = step {
            return Ok(Self::only(vec![Origin::parse(step, &settings.folder)]));
        }
        let here = named.iter().find(|mirror| mirror.suite.as_deref() == Some(suite));
        if let Some(mirror) = here.or_else(|| named.iter().find(|mirror| mirror.suite.is_none())) {
            let places = mirror.places.iter().map(|place| Origin::parse(place, &settings.folder)).collect();
            return Ok(Self::only(places));
        }
        let configured = settings.config.as_deref().map(configured).transpose()?.unwrap_or_default();
        if !configured.is_empty() {
            return Ok(Self::only(configured));
        }
        let host = host(&settings.sources)?;
        if host.places.is_empty() {
            return Err(Error::new(format!("nothing says where packages of \"{suite}\" come from"))
                .hint("this host has no Debian package sources; write `mirror \"URL\"` in the project file, or in the user's config.kdl"));
        }
        Ok(host)
    }

    /// The archives to ask for a suite: itself, its updates, its security archive.
    pub fn archives(&self, suite: &str) -> Vec<Archive> {
        let usual = if ALONE.contains(&suite) { Need::Optional } else { Need::Usual };
        let beside = |place: &Origin, suffix: &str| {
            let suite = format!("{suite}{suffix}");
            let need = if self.named.contains(&suite) { Need::Expected } else { usual };
            Archive { place: place.clone(), suite, need }
        };
        let mut found = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            let need = if index == 0 { Need::Required } else { Need::Optional };
            found.push(Archive { place: place.clone(), suite: suite.to_owned(), need });
            found.push(beside(place, "-updates"));
            let security = security_sibling(place).filter(|_| self.security.is_empty());
            found.extend(security.iter().chain([place]).map(|place| beside(place, "-security")));
        }
        found.extend(self.security.iter().map(|place| beside(place, "-security")));
        found
    }

    /// The archives to ask for a further suite: the suite itself, and its updates and security archives if they exist.
    pub fn further(&self, suite: &str) -> Vec<Archive> {
        let welcome = |archive: Archive| match archive.need {
            Need::Usual => Archive { need: Need::Optional, ..archive },
            _ => archive,
        };
        self.archives(suite).into_iter().map(welcome).collect()
    }

    /// Where a package may be, the likeliest place first: paths of the security archive have a prefix of their own.
    pub fn pools(&self, path: &str) -> Vec<Origin> {
        let siblings = self.places.iter().filter_map(security_sibling);
        let security: Vec<Origin> = self.security.iter().cloned().chain(siblings).collect();
        let (first, second) =
            if path.starts_with("pool/updates/") { (security, self.places.clone()) } else { (self.places.clone(), security) };
        let mut all = first;
        for place in second {
            if !all.contains(&place) {
                all.push(place);
            }
        }
        all
    }
}

/// The mirrors in the user's configuration file, which need not exist.
fn configured(path: &Path) -> Result<Vec<Origin>> {
    let failed = || format!("cannot use {}", path.display());
    let Some(text) = text(path)? else { return Ok(Vec::new()) };
    let limits = Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS };
    let document = kdl_text::read(&text, limits).map_err(|_| Error::new("it is not KDL")).context(failed)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let nodes = document.nodes().iter().filter(|node| node.name().value() == "mirror");
    let named = nodes.flat_map(|node| node.entries()).filter_map(|entry| entry.value().as_string());
    Ok(named.map(|text| Origin::parse(text, folder)).collect())
}

/// The text of a file, if it exists.
fn text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_file(path, Bound::AtMost(limits::TEXT))? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).context(|| format!("{} is not text", path.display()))
}

/// Names of Debian's suites; other repositories in the host's sources are not mirrors of Debian.
const SUITES: &[&str] =
    &["bullseye", "bookworm", "trixie", "forky", "duke", "sid", "stable", "oldstable", "oldoldstable", "testing", "unstable"];

/// The mirrors in the host's own sources, in either of apt's two formats (sources.list(5)).
fn host(apt: &Path) -> Result<Mirrors> {
    let mut files = vec![apt.join("sources.list")];
    let parts = apt.join("sources.list.d");
    if parts.is_dir() {
        let failed = || format!("cannot read {}", parts.display());
        let found = fs::read_dir(&parts).context(failed)?.map(|entry| entry.map(|entry| entry.path()));
        let mut found: Vec<PathBuf> = found.collect::<Result<_, _>>().context(failed)?;
        // apt ignores all other files, too.
        found.retain(|path| path.extension().is_some_and(|ending| ending == "list" || ending == "sources") && !path.is_dir());
        found.sort();
        files.extend(found);
    }
    let mut mirrors = Mirrors::only(Vec::new());
    let mut add = |uri: &str, suite: &str| {
        let base = suite.split(['-', '/']).next().unwrap_or(suite);
        if !SUITES.contains(&base) || !uri.starts_with("http") && !uri.starts_with("file:") {
            return;
        }
        let place = match uri.strip_prefix("file:") {
            Some(path) => Origin::Folder(format!("/{}", path.trim_start_matches('/')).into()),
            None => Origin::Url(uri.trim_end_matches('/').to_owned()),
        };
        mirrors.named.insert(suite.to_owned());
        let list =
            if suite.contains("security") || suite.ends_with("/updates") { &mut mirrors.security } else { &mut mirrors.places };
        if !list.contains(&place) {
            list.push(place);
        }
    };
    for file in files {
        let Some(text) = text(&file)? else { continue };
        if file.extension().is_some_and(|extension| extension == "sources") {
            for fields in stanzas(&text) {
                let field =
                    |name: &str| fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value);
                if field("Enabled") != "no" && field("Types").split_whitespace().any(|kind| kind == "deb") {
                    for uri in field("URIs").split_whitespace() {
                        field("Suites").split_whitespace().for_each(|suite| add(uri, suite));
                    }
                }
            }
        } else {
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("deb ")) {
                let line = line.trim_start();
                let line = if line.starts_with('[') { line.split_once(']').map_or("", |(_, rest)| rest) } else { line };
                let mut words = line.split_whitespace();
                if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
                    add(uri, suite);
                }
            }
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        fs::write(
            apt.path().join("sources.list"),
            "# x\ndeb [arch=amd64] http://m.test/debian bookworm main\ndeb http://other.test/apt stable-x main\n",
        )
        .unwrap();
        let deb822 = "Types: deb\nURIs: http://m.test/debian-security\nSuites: bookworm-security\n\nTypes: deb\nURIs: http://n.test\nSuites: nodistro\n";
        fs::write(apt.path().join("sources.list.d/debian.sources"), deb822).unwrap();
        let mirrors = host(apt.path()).unwrap();
        assert_eq!(mirrors.security, [Origin::Url("http://m.test/debian-security".into())]);
        assert_eq!(mirrors.places[0], Origin::Url("http://m.test/debian".into()));
        fs::write(apt.path().join("sources.list.d/old.list.off"), "deb http://old.test/debian bookworm main\n").unwrap();
        assert_eq!(host(apt.path()).unwrap(), mirrors, "apt does not look at it, nor do we");
        fs::write(apt.path().join("sources.list.d/bad.list"), b"deb \xff").unwrap();
        assert!(host(apt.path()).is_err(), "what cannot be read is not taken for empty");
        let need = |mirrors: &Mirrors, suite: &str, beside: &str| {
            let archives = mirrors.archives(suite);
            archives.iter().find(|archive| archive.suite == format!("{suite}-{beside}")).map(|archive| archive.need)
        };
        assert_eq!(need(&mirrors, "bookworm", "security"), Some(Need::Expected), "the host has it");
        assert_eq!(need(&mirrors, "bookworm", "updates"), Some(Need::Usual));
        assert_eq!(need(&mirrors, "trixie", "security"), Some(Need::Usual));
        assert_eq!(need(&mirrors, "sid", "security"), Some(Need::Optional));
        assert!(mirrors.further("bookworm-backports").iter().all(|archive| archive.need != Need::Usual));
        assert_eq!(mirrors.pools("pool/updates/x")[0], mirrors.security[0]);
    }
}

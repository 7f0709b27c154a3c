//! Podman's `registries.conf` files (containers-registries.conf(5)).

use super::{Asked, Mirror, Rule, Settings, damaged, ending_in, line_of, place};
use crate::model::{Context, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Podman's files in their order (containers-registries.conf(5) and containers-registries.conf.d(5)): a user's own
/// file replaces the host's file and the host's directory.
///
/// # Errors
/// Fails when a directory cannot be listed: it may hold a file that blocks a registry.
pub fn files(system: &Path, user: Option<&Path>, named: Option<PathBuf>) -> Result<Vec<PathBuf>> {
    let own = user.map(|folder| folder.join("registries.conf")).filter(|path| path.exists());
    let system_counts = named.is_some() || own.is_none();
    let mut files = vec![named.or(own).unwrap_or_else(|| system.join("registries.conf"))];
    for folder in Some(system).filter(|_| system_counts).into_iter().chain(user) {
        files.extend(
            ending_in("conf", &folder.join("registries.conf.d")).context(|| "cannot read the settings for registries".into())?,
        );
    }
    Ok(files)
}

impl Settings {
    pub(super) fn read_containers(&mut self, path: &Path, text: &str) -> Result<()> {
        let file: Containers = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            damaged(path, line, error.message())
        })?;
        let wrong = |why: String| Error::new(format!("{}: {why}", path.display()));
        if let Some(hosts) = file.unqualified_search_registries {
            self.default_host = hosts.first().map(|host| place(host)).transpose().map_err(wrong)?;
        }
        for (short, full) in file.aliases {
            // An empty value removes the alias of an earlier file.
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
        Ok(Rule { prefix, location, insecure, blocked, mirrors, file: file.to_owned(), ..Rule::default() })
    }
}

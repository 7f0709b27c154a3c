//! Files in the form of Docker's `config.json`.

use super::helper::{Helper, Scope};
use super::{Credentials, place};
use crate::model::{Context, Error, Result};
use crate::sys;
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file in the form of Docker's `config.json`.
pub struct Store {
    path: PathBuf,
    pub content: Map<String, Value>,
}

impl Store {
    /// Reads a file; a missing or empty one has no entries.
    ///
    /// # Errors
    /// Fails when the file cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
            Err(error) => return Err(Error::caused(format!("cannot read {}", path.display()), error)),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Self { path: path.to_owned(), content: Map::new() });
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(content)) => Ok(Self { path: path.to_owned(), content }),
            Ok(_) => Err(Error::new(format!("{} is damaged: it is no JSON object", path.display()))),
            Err(error) => Err(Error::caused(format!("{} is damaged", path.display()), error)),
        }
        .map_err(|error| error.hint("repair it, or remove it and log in again"))
    }

    /// Writes the file; only its owner can read it.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        // If the path is a symbolic link, its target is written and the link stays.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut bytes = serde_json::to_vec_pretty(&self.content).context(failed)?;
        bytes.push(b'\n');
        sys::write_lasting(&target, &bytes, 0o600).context(failed)
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.content.get(name).and_then(Value::as_object).into_iter().flatten()
    }

    /// The helper for this host, and the one for all hosts.
    ///
    /// # Errors
    /// Fails when a helper's name is not valid: it could be a path to another program.
    pub fn helpers(&self, host: &str) -> Result<[Option<Helper>; 2]> {
        let special = self.section("credHelpers").find(|(other, _)| place(other) == place(host));
        let special = special.map(|(_, name)| name);
        let general = self.content.get("credsStore");
        Ok([Helper::named(special, &self.path, Scope::Host)?, Helper::named(general, &self.path, Scope::All)?])
    }

    /// The credentials from the entry with the longest key that is a prefix of the repository's name.
    ///
    /// # Errors
    /// Fails when an entry is damaged.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let name = format!("{}/{repository}", place(host));
        let mut best: Option<(usize, Credentials)> = None;
        for (key, entry) in self.section("auths") {
            let place = place(key);
            let fits = name == place || name.strip_prefix(&place).is_some_and(|rest| rest.starts_with('/'));
            if !fits || best.as_ref().is_some_and(|(length, _)| *length > place.len()) {
                continue;
            }
            let read = Credentials::read(entry).map_err(|why| {
                Error::new(format!("{} is damaged: {why}, in the entry {key:?}", self.path.display()))
                    .hint("remove the entry and log in again")
            })?;
            best = read.map(|credentials| (place.len(), credentials)).or(best);
        }
        Ok(best.map(|(_, credentials)| credentials))
    }

    /// Whether there are credentials for a host or one of its repositories.
    pub fn knows(&self, host: &str) -> bool {
        let host = place(host);
        self.section("auths").any(|(key, entry)| {
            let place = place(key);
            let fits = place.strip_prefix(&host).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            fits && !matches!(Credentials::read(entry), Ok(None))
        })
    }
}

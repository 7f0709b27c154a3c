//! Credentials for registries: names, passwords and tokens, in files and credential helpers.
//!
//! Reads the files of stead, podman and Docker, all in the form of Docker's `config.json`; writes only stead's own file.
//! `auth` sends the credentials to a registry.

mod file;
mod helper;

use self::file::Store;
use self::helper::Helper;
use crate::model::{Context, DOCKER_HUB, Error, Result};
use crate::sys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The key of Docker Hub in files and for helpers: the address of its old version 1, which Docker kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks the secret as a token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";
/// A user's credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Basic {
        user: String,
        password: String,
    },
    /// A refresh token from a login.
    Token(String),
}

impl Credentials {
    /// From the user name and secret of a helper or file; `None` if both are empty.
    fn from_texts(user: &str, secret: &str) -> Option<Self> {
        match user {
            "" if secret.is_empty() => None,
            TOKEN_USER => Some(Self::Token(secret.to_owned())),
            _ => Some(Self::Basic { user: user.to_owned(), password: secret.to_owned() }),
        }
    }

    /// User name and secret, in the form that helpers take.
    fn texts(&self) -> (&str, &str) {
        match self {
            Self::Basic { user, password } => (user.as_str(), password.as_str()),
            Self::Token(token) => (TOKEN_USER, token.as_str()),
        }
    }

    /// Reads an entry of a file.
    fn read(entry: &Value) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let token = text("identitytoken");
        if !token.is_empty() {
            return Ok(Some(Self::Token(token.to_owned())));
        }
        let encoded = text("auth").trim();
        if encoded.is_empty() {
            return Ok(Self::from_texts(text("username"), text("password")));
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| "its `auth` is no base64")?;
        let decoded = String::from_utf8(bytes).map_err(|_| "its `auth` is no text")?;
        let (user, password) = decoded.split_once(':').ok_or("its `auth` has no colon")?;
        Ok(Self::from_texts(user, password.trim_end_matches('\0')))
    }

    /// Writes an entry of a file.
    fn entry(&self) -> Result<Value> {
        match self {
            Self::Basic { user, .. } if user.contains(':') => {
                Err(Error::new(format!("a user's name must not contain a colon: {user:?}")))
            }
            Self::Basic { user, password } => Ok(json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })),
            Self::Token(token) => Ok(json!({ "identitytoken": token })),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Shows no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Token(_) => f.write_str("Token(..)"),
        }
    }
}

/// Where credentials were put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// A helper, by its name.
    Helper(String),
    File(PathBuf),
}

/// The files that hold credentials, or name helpers that hold them.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The file of stead itself.
    pub own: PathBuf,
    /// The files of other tools, in order; they are never changed.
    pub others: Vec<PathBuf>,
    /// The search path for helpers, instead of `PATH`.
    path: Option<OsString>,
}

impl Stores {
    /// The files of this user.
    pub fn of_user() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME").unwrap_or_else(|| "/".into());
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        // Podman's rule for its file (containers-auth.json(5)).
        let runtime = path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
        let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{}/auth.json", nix::unistd::getuid()).into());
        let docker = path("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
        let mut others: Vec<PathBuf> = path("REGISTRY_AUTH_FILE").into_iter().collect();
        others.extend([runtime, home.join(".config/containers/auth.json"), docker]);
        Self { own: config.join("stead/auth.json"), others, path: None }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// The credentials for a repository: from our own file first, then from those of other tools.
    ///
    /// # Errors
    /// Fails when a file is damaged, or when a helper is missing or fails.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        for path in self.files() {
            let file = Store::read(path)?;
            let [special, general] = file.helpers(host)?;
            let mut found = self.ask(special.as_ref(), host)?;
            if found.is_none() {
                found = file.find(host, repository)?;
            }
            if found.is_none() {
                found = self.ask(general.as_ref(), host)?;
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Stores credentials: in the helper that a file names, otherwise in our own file.
    ///
    /// # Errors
    /// Fails when a file is damaged or cannot be written, or when a helper is missing or fails.
    pub fn keep(&self, host: &str, credentials: &Credentials) -> Result<Kept> {
        let (user, secret) = credentials.texts();
        let message = json!({ "ServerURL": key(host), "Username": user, "Secret": secret }).to_string();
        'files: for path in self.files() {
            for helper in Store::read(path)?.helpers(host)?.into_iter().flatten() {
                if helper.run(self.path.as_deref(), "store", &message)?.is_some() {
                    // An entry in our own file would take precedence over the helper.
                    self.change(host, None)?;
                    if self.find(host, "")?.as_ref() != Some(credentials) {
                        // An entry in another tool's file takes precedence, too: then our own file must hold the credentials.
                        break 'files;
                    }
                    return Ok(Kept::Helper(helper.name));
                }
            }
        }
        self.change(host, Some(credentials.entry()?))?;
        Ok(Kept::File(self.own.clone()))
    }

    /// Removes credentials; returns where they were, and where they still are.
    ///
    /// # Errors
    /// Fails when a file is damaged or cannot be written, or when a helper is missing or fails.
    pub fn forget(&self, host: &str) -> Result<Vec<String>> {
        let mut told = Vec::new();
        if self.change(host, None)? {
            told.push(self.own.display().to_string());
        }
        let mut asked = BTreeSet::new();
        for path in self.files() {
            let file = Store::read(path)?;
            for helper in file.helpers(host)?.into_iter().flatten() {
                if asked.insert(helper.name.clone()) && self.ask(Some(&helper), host)?.is_some() {
                    helper.run(self.path.as_deref(), "erase", &key(host))?;
                    told.push(helper.name);
                }
            }
            if *path != self.own && file.knows(host) {
                told.push(format!("still in {}", path.display()));
            }
        }
        Ok(told)
    }

    /// Replaces or removes the entry for a host in our own file; returns whether the file changed.
    fn change(&self, host: &str, entry: Option<Value>) -> Result<bool> {
        if entry.is_none() && !self.own.exists() {
            return Ok(false);
        }
        let failed = || format!("cannot write {}", self.own.display());
        if let Some(folder) = self.own.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).context(failed)?;
        }
        // Another login may run at the same time.
        let lock = self.own.with_added_extension("lock");
        let _lock = sys::Lock::wait(&lock, sys::Hold::Alone).context(failed)?;
        let mut file = Store::read(&self.own)?;
        let mut entries = match file.content.remove("auths") {
            Some(Value::Object(entries)) => entries,
            _ => Map::new(),
        };
        let before = entries.len();
        entries.retain(|other, _| place(other) != place(host));
        let changed = entry.is_some() || entries.len() < before;
        if let Some(entry) = entry {
            entries.insert(key(host), entry);
        }
        file.content.insert("auths".into(), Value::Object(entries));
        if changed {
            file.write()?;
        }
        Ok(changed)
    }

    /// Asks a helper for a host's credentials.
    fn ask(&self, helper: Option<&Helper>, host: &str) -> Result<Option<Credentials>> {
        let Some(helper) = helper else { return Ok(None) };
        let Some(answer) = helper.run(self.path.as_deref(), "get", &key(host))? else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer).map_err(|_| helper.error("gave no JSON"))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        Ok(Credentials::from_texts(text("Username"), text("Secret")))
    }
}

/// The key of a host in files and for helpers.
fn key(host: &str) -> String {
    let place = place(host);
    if place == DOCKER_HUB { HUB_KEY.to_owned() } else { place }
}

/// Normalises a key to a host, perhaps followed by a repository: without scheme and version, and with one name for Docker Hub.
fn place(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    // If it does not look like a URL, the end may be part of a repository's name.
    let is_url = bare.is_some() || key.ends_with('/');
    let whole = bare.unwrap_or(key).trim_end_matches('/');
    let version = ["/v1", "/v2"].into_iter().find_map(|version| whole.strip_suffix(version));
    let whole = version.filter(|_| is_url).unwrap_or(whole);
    let (host, rest) = whole.split_at(whole.find('/').unwrap_or(whole.len()));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { DOCKER_HUB } else { host };
    format!("{host}{rest}")
}

#[cfg(test)]
mod tests;

//! Who the user is to a registry: names, passwords and tokens, in files and credential helpers.
//!
//! Reads what stead, podman and Docker keep, in the form of Docker's `config.json`; writes stead's own file only.
//! How a registry is told is for `http`.

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

/// Docker Hub in files and for helpers: the address of its first version, which Docker kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The name that says that the secret is a token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";
/// Who the user is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Basic {
        user: String,
        password: String,
    },
    /// A refresh token that a login gave.
    Token(String),
}

impl Credentials {
    /// From the two texts that helpers and files have; nothing where both are empty.
    fn from_texts(user: &str, secret: &str) -> Option<Self> {
        match user {
            "" if secret.is_empty() => None,
            TOKEN_USER => Some(Self::Token(secret.to_owned())),
            _ => Some(Self::Basic { user: user.to_owned(), password: secret.to_owned() }),
        }
    }

    /// As helpers take them.
    fn texts(&self) -> (&str, &str) {
        match self {
            Self::Basic { user, password } => (user.as_str(), password.as_str()),
            Self::Token(token) => (TOKEN_USER, token.as_str()),
        }
    }

    /// An entry of a file.
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

    /// As an entry of a file.
    fn entry(&self) -> Result<Value> {
        match self {
            Self::Basic { user, .. } if user.contains(':') => {
                Err(Error::new(format!("a user's name has no colon, as {user:?} has")))
            }
            Self::Basic { user, password } => Ok(json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })),
            Self::Token(token) => Ok(json!({ "identitytoken": token })),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Without what must stay secret.
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

/// The files that have credentials, or name helpers that have them.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Stead's own file.
    pub own: PathBuf,
    /// The files of other tools, in order; they are never changed.
    pub others: Vec<PathBuf>,
    /// Where helpers are looked for instead of `PATH`.
    path: Option<OsString>,
}

impl Stores {
    /// Those of this user.
    pub fn of_user() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME").unwrap_or_else(|| "/".into());
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        // Podman's own rule (containers-auth.json(5)).
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

    /// The credentials for a repository: the own file's first, then those of other tools.
    ///
    /// # Errors
    /// A damaged file; a helper that is missing or fails.
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

    /// Keeps credentials: in the helper that a file names, else in the own file.
    ///
    /// # Errors
    /// A damaged file; a helper that is missing or fails; a file that cannot be written.
    pub fn keep(&self, host: &str, credentials: &Credentials) -> Result<Kept> {
        let (user, secret) = credentials.texts();
        let message = json!({ "ServerURL": key(host), "Username": user, "Secret": secret }).to_string();
        'files: for path in self.files() {
            for helper in Store::read(path)?.helpers(host)?.into_iter().flatten() {
                if helper.run(self.path.as_deref(), "store", &message)?.is_some() {
                    // What was in the file would count before it.
                    self.change(host, None)?;
                    if self.find(host, "")?.as_ref() != Some(credentials) {
                        // So would what is in another tool's file: then it must stand before that.
                        break 'files;
                    }
                    return Ok(Kept::Helper(helper.name));
                }
            }
        }
        self.change(host, Some(credentials.entry()?))?;
        Ok(Kept::File(self.own.clone()))
    }

    /// Forgets credentials; says where they were, and where they still are.
    ///
    /// # Errors
    /// A damaged file; a helper that is missing or fails; a file that cannot be written.
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

    /// Replaces what the own file has for a host; says whether there was or is something.
    fn change(&self, host: &str, entry: Option<Value>) -> Result<bool> {
        if entry.is_none() && !self.own.exists() {
            return Ok(false);
        }
        let failed = || format!("cannot write {}", self.own.display());
        if let Some(folder) = self.own.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).context(failed)?;
        }
        // Another login may be at it, too.
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

    /// What a helper knows of a host.
    fn ask(&self, helper: Option<&Helper>, host: &str) -> Result<Option<Credentials>> {
        let Some(helper) = helper else { return Ok(None) };
        let Some(answer) = helper.run(self.path.as_deref(), "get", &key(host))? else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer).map_err(|_| helper.error("gave no JSON"))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        Ok(Credentials::from_texts(text("Username"), text("Secret")))
    }
}

/// What a host is called in files and for helpers.
fn key(host: &str) -> String {
    let place = place(host);
    if place == DOCKER_HUB { HUB_KEY.to_owned() } else { place }
}

/// A key as host and perhaps a repository: without scheme and version, and with one name for Docker Hub.
fn place(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    // Without these signs of a URL the end may be a repository's name.
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

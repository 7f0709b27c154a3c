//! Who the user is to a registry: names, passwords and tokens, in files and credential helpers.
//!
//! Reads what stead, podman and Docker keep, in the form of Docker's `config.json`; writes stead's own file only.
//! How a registry is told is for `http`.

use crate::model::{Context, DOCKER_HUB, Fault, Outcome};
use crate::sys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Docker Hub in files and for helpers: the address of its first version, which Docker kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The name that says that the secret is a token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";
/// What helpers say of hosts that they know nothing of (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";

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
    fn entry(&self) -> Outcome<Value> {
        match self {
            Self::Basic { user, .. } if user.contains(':') => {
                Err(Fault::new(format!("a user's name has no colon, as {user:?} has")))
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
    pub fn find(&self, host: &str, repository: &str) -> Outcome<Option<Credentials>> {
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
    pub fn keep(&self, host: &str, credentials: &Credentials) -> Outcome<Kept> {
        let (user, secret) = credentials.texts();
        let message = json!({ "ServerURL": key(host), "Username": user, "Secret": secret }).to_string();
        for path in self.files() {
            for helper in Store::read(path)?.helpers(host)?.into_iter().flatten() {
                if self.run(&helper, "store", &message)?.is_some() {
                    // What was in the file would count before it.
                    self.change(host, None)?;
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
    pub fn forget(&self, host: &str) -> Outcome<Vec<String>> {
        let mut told = Vec::new();
        if self.change(host, None)? {
            told.push(self.own.display().to_string());
        }
        let mut asked = BTreeSet::new();
        for path in self.files() {
            let file = Store::read(path)?;
            for helper in file.helpers(host)?.into_iter().flatten() {
                if asked.insert(helper.name.clone()) && self.ask(Some(&helper), host)?.is_some() {
                    self.run(&helper, "erase", &key(host))?;
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
    fn change(&self, host: &str, entry: Option<Value>) -> Outcome<bool> {
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
    fn ask(&self, helper: Option<&Helper>, host: &str) -> Outcome<Option<Credentials>> {
        let Some(helper) = helper else { return Ok(None) };
        let Some(answer) = self.run(helper, "get", &key(host))? else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer).map_err(|_| helper.fault("gave no JSON"))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        Ok(Credentials::from_texts(text("Username"), text("Secret")))
    }

    /// Runs a helper (docker-credential-helpers, "Development"); nothing where it is not there or knows nothing.
    fn run(&self, helper: &Helper, verb: &str, input: &str) -> Outcome<Option<String>> {
        let Some(program) = self.locate(&helper.program()) else {
            return match helper.scope {
                Scope::All => Ok(None),
                Scope::Host => Err(helper.fault("is not installed").hint("install it, or take its name out of the file")),
            };
        };
        let failed = || format!("{} failed to {verb}", helper.describe());
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read says below what is wrong with it.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().doing(failed)?;
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(Some(said.into_owned()));
        }
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        let why = [said.trim(), complaint.trim()].into_iter().find(|text| !text.is_empty());
        Err(Fault::caused(failed(), why.map_or_else(|| output.status.to_string(), str::to_owned)))
    }

    /// A program in `PATH`; folders that depend on where one is do not count.
    fn locate(&self, program: &str) -> Option<PathBuf> {
        let path = self.path.clone().or_else(|| std::env::var_os("PATH"))?;
        let mut places = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
        places.find(|path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
    }
}

/// Which hosts a file names a helper for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// One (`credHelpers`).
    Host,
    /// All (`credsStore`); files are shared with hosts that have no such program.
    All,
}

/// A program that has credentials, as a file names it.
struct Helper {
    name: String,
    file: PathBuf,
    scope: Scope,
}

impl Helper {
    fn named(name: Option<&Value>, file: &Path, scope: Scope) -> Outcome<Option<Self>> {
        let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) else { return Ok(None) };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(Fault::new(format!("{} names a credential helper {name:?}", file.display()))
                .hint("such a name has letters, digits and `.` `_` `-` only"));
        }
        Ok(Some(Self { name: name.to_owned(), file: file.to_owned(), scope }))
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn describe(&self) -> String {
        format!("{}, named in {},", self.program(), self.file.display())
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::new(format!("{} {what}", self.describe()))
    }
}

/// A file in the form of Docker's `config.json`.
struct Store {
    path: PathBuf,
    content: Map<String, Value>,
}

impl Store {
    /// A file; an absent one and an empty one have nothing.
    fn read(path: &Path) -> Outcome<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
            Err(error) => return Err(Fault::caused(format!("cannot read {}", path.display()), error)),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Self { path: path.to_owned(), content: Map::new() });
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(content)) => Ok(Self { path: path.to_owned(), content }),
            Ok(_) => Err(Fault::new(format!("{} is damaged: it is no JSON object", path.display()))),
            Err(error) => Err(Fault::caused(format!("{} is damaged", path.display()), error)),
        }
        .map_err(|fault| fault.hint("mend it, or remove it and log in again"))
    }

    fn write(&self) -> Outcome<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).doing(failed)?;
        // What is linked to from here stays linked.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut bytes = serde_json::to_vec_pretty(&self.content).doing(failed)?;
        bytes.push(b'\n');
        sys::write_atomic(&target, &bytes, 0o600).doing(failed)
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.content.get(name).and_then(Value::as_object).into_iter().flatten()
    }

    /// The helper for a host, and the one for all.
    fn helpers(&self, host: &str) -> Outcome<[Option<Helper>; 2]> {
        let special = self.section("credHelpers").find(|(other, _)| place(other) == place(host));
        let special = special.map(|(_, name)| name);
        let general = self.content.get("credsStore");
        Ok([Helper::named(special, &self.path, Scope::Host)?, Helper::named(general, &self.path, Scope::All)?])
    }

    /// The entry with the longest key that a repository's name begins with.
    fn find(&self, host: &str, repository: &str) -> Outcome<Option<Credentials>> {
        let name = format!("{}/{repository}", place(host));
        let mut best: Option<(usize, Credentials)> = None;
        for (key, entry) in self.section("auths") {
            let place = place(key);
            let fits = name == place || name.strip_prefix(&place).is_some_and(|rest| rest.starts_with('/'));
            if !fits || best.as_ref().is_some_and(|(length, _)| *length > place.len()) {
                continue;
            }
            let read = Credentials::read(entry).map_err(|why| {
                Fault::new(format!("{} is damaged: {why}, in the entry {key:?}", self.path.display()))
                    .hint("remove the entry and log in again")
            })?;
            best = read.map(|credentials| (place.len(), credentials)).or(best);
        }
        Ok(best.map(|(_, credentials)| credentials))
    }

    /// Whether there is something for a host or one of its repositories.
    fn knows(&self, host: &str) -> bool {
        let host = place(host);
        self.section("auths").any(|(key, entry)| {
            let place = place(key);
            let fits = place.strip_prefix(&host).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            fits && !matches!(Credentials::read(entry), Ok(None))
        })
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
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: password.into() }
    }

    /// A helper that has one entry, in a file beside it; what it was asked for last is there, too.
    const HELPER: &str = r#"#!/bin/sh
        cd "$(dirname "$0")" || exit 2
        case "$1" in
        store) cat > vault ;;
        get) cat > asked; cat vault 2> /dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
        erase) cat > asked; rm vault ;;
        esac
    "#;

    struct Desk {
        folder: tempfile::TempDir,
        stores: Stores,
    }

    impl Desk {
        /// Stores with this own file and these others.
        fn new(own: &str, others: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            if !own.is_empty() {
                fs::create_dir(at("stead")).unwrap();
                fs::write(at("stead/auth.json"), own).unwrap();
            }
            let mut paths = vec![at("absent.json")];
            for (index, text) in others.iter().enumerate() {
                paths.push(at(&format!("other-{index}.json")));
                fs::write(&paths[index + 1], text).unwrap();
            }
            let stores = Stores { own: at("stead/auth.json"), others: paths, path: Some(at("bin").into()) };
            fs::create_dir(at("bin")).unwrap();
            Self { folder, stores }
        }

        /// Adds a helper. A child writes it: no other test's child can then hold it open for writing.
        fn helper(&self, name: &str, script: &str) -> PathBuf {
            let path = self.folder.path().join(format!("bin/docker-credential-{name}"));
            let mut command = Command::new("sh");
            command.args(["-c", r#"printf '%s' "$1" > "$2" && chmod 755 "$2""#, "sh", script]).arg(&path);
            assert!(command.status().unwrap().success());
            path
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).unwrap()
        }
    }

    /// An entry with `user:KEY` in it.
    fn auths(keys: &[&str]) -> String {
        let entries = keys.iter().map(|key| ((*key).to_owned(), basic("user", key).entry().unwrap()));
        let entries: Map<String, Value> = entries.collect();
        json!({ "auths": entries }).to_string()
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", basic("user", "hush"), Credentials::Token("hush".into()));
        assert!(shown.contains("user") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn keys_are_known_in_all_their_forms() {
        for (key, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io/v1/", "docker.io"),
            ("docker.io", "registry-1.docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("https://a.test:5000", "a.test:5000"),
            ("http://a.test/v2/", "a.test"),
            ("a.test/", "a.test"),
        ] {
            let desk = Desk::new("", &[&auths(&[key])]);
            assert_eq!(desk.stores.find(host, "o/n").unwrap(), Some(basic("user", key)), "{key}");
            assert_eq!(desk.stores.find(host, "").unwrap(), Some(basic("user", key)), "{key}");
            assert_eq!(desk.stores.find("b.test", "o/n").unwrap(), None, "{key}");
        }
        let desk = Desk::new("", &[&auths(&["a.test:5000"])]);
        assert_eq!((desk.stores.find("a.test", "o").unwrap(), place("a.test/v1")), (None, "a.test/v1".to_owned()));
    }

    #[test]
    fn the_longest_key_and_the_first_file_win() {
        let keys = ["a.test", "a.test/team", "a.test/team/app", "b.test/only"];
        let desk = Desk::new("", &[&auths(&keys), &auths(&["a.test/team/app/deep", "b.test"])]);
        for (repository, key) in [
            ("x", "a.test"),
            ("teams/app", "a.test"),
            ("team", "a.test/team"),
            ("team/x", "a.test/team"),
            ("team/app", "a.test/team/app"),
            ("team/app/deep", "a.test/team/app"),
        ] {
            assert_eq!(desk.stores.find("a.test", repository).unwrap(), Some(basic("user", key)), "{repository}");
        }
        assert_eq!(desk.stores.find("b.test", "only").unwrap(), Some(basic("user", "b.test/only")));
        assert_eq!(desk.stores.find("b.test", "other").unwrap(), Some(basic("user", "b.test")));
        let own =
            Desk::new(&json!({ "auths": { "a.test": { "identitytoken": "t", "auth": "" } } }).to_string(), &[&auths(&keys)]);
        assert_eq!(own.stores.find("a.test", "team").unwrap(), Some(Credentials::Token("t".into())));
    }

    #[test]
    fn entries_have_several_forms() {
        let other = json!({ "auths": {
            "empty.test": {}, "null.test": null, "plain.test": { "username": "u", "password": "p" },
            "zero.test": { "auth": STANDARD.encode("u:p\0\0") }, "token.test": { "auth": STANDARD.encode("<token>:t") },
            "colons.test": { "auth": STANDARD.encode("u:p:q") },
        } });
        let desk = Desk::new("\n", &[&other.to_string()]);
        for (host, expected) in [
            ("empty.test", None),
            ("null.test", None),
            ("plain.test", Some(basic("u", "p"))),
            ("zero.test", Some(basic("u", "p"))),
            ("token.test", Some(Credentials::Token("t".into()))),
            ("colons.test", Some(basic("u", "p:q"))),
        ] {
            assert_eq!(desk.stores.find(host, "x").unwrap(), expected, "{host}");
        }
    }

    #[test]
    fn damaged_files_are_named() {
        for text in
            ["{", "[]", "{\"auths\": {\"a.test\": {\"auth\": \"%%\"}}}", "{\"auths\": {\"a.test\": {\"auth\": \"eA==\"}}}"]
        {
            let fault = Desk::new("", &[text]).stores.find("a.test", "x").unwrap_err();
            assert!(fault.chain().contains("other-0.json is damaged") && fault.advice().is_some(), "{}", fault.chain());
        }
        let desk = Desk::new("{", &[]);
        assert!(desk.stores.keep("a.test", &basic("u", "p")).unwrap_err().to_string().contains("auth.json is damaged"));
        assert!(desk.stores.forget("a.test").is_err());
        assert_eq!(desk.read("stead/auth.json"), "{");
    }

    #[test]
    fn helpers_are_asked() {
        let desk = Desk::new("", &[r#"{"credHelpers": {"a.test": "one"}, "credsStore": "two"}"#]);
        let (one, two) = (desk.helper("one", HELPER), desk.helper("two", "#!/bin/sh\nexit 3\n"));
        fs::write(one.with_file_name("vault"), r#"{"ServerURL": "a.test", "Username": "u", "Secret": "p"}"#).unwrap();
        assert_eq!(desk.stores.find("a.test", "x").unwrap(), Some(basic("u", "p")));
        assert_eq!(desk.read("bin/asked"), "a.test");
        fs::write(one.with_file_name("vault"), r#"{"Username": "<token>", "Secret": "t"}"#).unwrap();
        assert_eq!(desk.stores.find("a.test", "x").unwrap(), Some(Credentials::Token("t".into())));
        fs::write(one.with_file_name("vault"), "nonsense").unwrap();
        assert!(desk.stores.find("a.test", "x").unwrap_err().to_string().contains("docker-credential-one"));
        // The general one is asked only where nothing else knows, and then has to work.
        let fault = desk.stores.find("b.test", "x").unwrap_err().chain();
        assert!(fault.contains("docker-credential-two") && fault.contains("other-0.json") && fault.contains('3'), "{fault}");
        fs::remove_file(two).unwrap();
        assert_eq!(desk.stores.find("b.test", "x").unwrap(), None);
        fs::remove_file(one).unwrap();
        let fault = desk.stores.find("a.test", "x").unwrap_err();
        assert!(fault.to_string().contains("docker-credential-one") && fault.to_string().contains("other-0.json"), "{fault}");
    }

    #[test]
    fn a_helper_that_knows_nothing_leaves_it_to_the_rest() {
        let file = r#"{"credHelpers": {"docker.io": "one"}, "auths": {"docker.io": {"auth": "dTpw"}}}"#;
        let desk = Desk::new("", &[file]);
        desk.helper("one", HELPER);
        assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(basic("u", "p")));
        assert_eq!(desk.read("bin/asked"), HUB_KEY);
        desk.helper("one", "#!/bin/sh\necho 'the door is locked' >&2; exit 1\n");
        let fault = desk.stores.find("docker.io", "library/x").unwrap_err().chain();
        assert!(fault.contains("failed to get: the door is locked"), "{fault}");
    }

    #[test]
    fn names_of_helpers_are_no_commands() {
        for name in ["../x", "a b", "x;y", "$(x)", "a/b", "ä"] {
            let desk = Desk::new("", &[&json!({ "credsStore": name }).to_string()]);
            let fault = desk.stores.find("a.test", "x").unwrap_err().to_string();
            assert!(fault.contains("other-0.json names a credential helper"), "{name}: {fault}");
        }
    }

    #[test]
    fn the_own_file_is_written_and_keeps_the_rest() {
        let own = r#"{"auths": {"index.docker.io": {"auth": "eDp5"}, "b.test": {"x": 1}}, "more": [1, 2]}"#;
        let desk = Desk::new(own, &[&auths(&["docker.io"])]);
        let file = desk.stores.own.clone();
        assert_eq!(desk.stores.keep("docker.io", &basic("u", "p:q")).unwrap(), Kept::File(file.clone()));
        assert_eq!(desk.stores.keep("a.test:5000", &Credentials::Token("t".into())).unwrap(), Kept::File(file.clone()));
        let written: Value = serde_json::from_str(&desk.read("stead/auth.json")).unwrap();
        let expected = json!({ "auths": { HUB_KEY: { "auth": STANDARD.encode("u:p:q") }, "b.test": { "x": 1 },
            "a.test:5000": { "identitytoken": "t" } }, "more": [1, 2] });
        assert_eq!(written, expected);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(basic("u", "p:q")));
        assert_eq!(desk.stores.find("a.test:5000", "x").unwrap(), Some(Credentials::Token("t".into())));
        assert!(desk.stores.keep("a.test", &basic("u:v", "p")).is_err());
    }

    #[test]
    fn a_new_file_has_a_folder_of_its_own_and_a_linked_one_stays_linked() {
        let desk = Desk::new("", &[]);
        desk.stores.keep("a.test", &basic("u", "p")).unwrap();
        let (own, folder) = (&desk.stores.own, desk.folder.path());
        assert_eq!(fs::metadata(folder.join("stead")).unwrap().permissions().mode() & 0o777, 0o700);
        fs::rename(own, folder.join("real.json")).unwrap();
        std::os::unix::fs::symlink("../real.json", own).unwrap();
        desk.stores.keep("b.test", &basic("u", "q")).unwrap();
        assert!(fs::symlink_metadata(own).unwrap().is_symlink());
        assert!(desk.read("real.json").contains("b.test"));
    }

    #[test]
    fn a_helper_keeps_before_the_file_does() {
        let desk = Desk::new(&auths(&["docker.io"]), &[r#"{"credsStore": "absent"}"#, r#"{"credsStore": "one"}"#]);
        desk.helper("one", HELPER);
        assert_eq!(desk.stores.keep("docker.io", &Credentials::Token("t".into())).unwrap(), Kept::Helper("one".into()));
        let kept: Value = serde_json::from_str(&desk.read("bin/vault")).unwrap();
        assert_eq!(kept, json!({ "ServerURL": HUB_KEY, "Username": "<token>", "Secret": "t" }));
        assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(Credentials::Token("t".into())));
        assert!(!desk.read("stead/auth.json").contains("docker.io"));
    }

    #[test]
    fn forgetting_says_where() {
        let named = r#"{"credHelpers": {"a.test": "one"}, "credsStore": "one"}"#;
        let desk = Desk::new(&auths(&["a.test", "b.test"]), &[named, &auths(&["a.test/team"])]);
        desk.helper("one", HELPER);
        fs::write(desk.folder.path().join("bin/vault"), r#"{"Username": "u", "Secret": "p"}"#).unwrap();
        let other = format!("still in {}", desk.stores.others[2].display());
        let own = desk.stores.own.display().to_string();
        assert_eq!(desk.stores.forget("a.test").unwrap(), [own.clone(), "one".to_owned(), other.clone()]);
        assert_eq!(desk.stores.find("a.test", "x").unwrap(), None);
        assert_eq!(desk.read("bin/asked"), "a.test");
        assert_eq!(desk.stores.forget("a.test").unwrap(), [other]);
        assert_eq!(desk.stores.forget("c.test").unwrap(), Vec::<String>::new());
        assert_eq!(desk.stores.forget("b.test").unwrap(), [own]);
    }

    #[test]
    fn nothing_anywhere_is_nobody() {
        let desk = Desk::new("", &[]);
        assert_eq!(desk.stores.find("a.test", "x").unwrap(), None);
        assert_eq!(desk.stores.forget("a.test").unwrap(), Vec::<String>::new());
        assert!(!desk.stores.own.exists());
        assert_eq!(Stores::of_user().own.file_name().unwrap(), "auth.json");
    }
}

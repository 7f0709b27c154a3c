//! Credential helpers: programs that keep secrets (docker-credential-helpers, "Development").

use crate::model::{Context, Error, Result};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What helpers print when they have no credentials for a host (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The hosts that a file names a helper for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One host (`credHelpers`).
    Host,
    /// All hosts (`credsStore`). The program may be missing, because people share these files between machines.
    All,
}

/// A helper program that a file names.
pub struct Helper {
    pub name: String,
    file: PathBuf,
    scope: Scope,
}

impl Helper {
    /// The helper that a file names, if it names one.
    ///
    /// # Errors
    /// Fails when the name has other characters than letters, digits and `.` `_` `-`: it could be a path to another program.
    pub fn named(name: Option<&Value>, file: &Path, scope: Scope) -> Result<Option<Self>> {
        let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) else { return Ok(None) };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(Error::new(format!("{} names a credential helper {name:?}", file.display()))
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

    /// An error about this helper.
    pub fn error(&self, what: &str) -> Error {
        Error::new(format!("{} {what}", self.describe()))
    }

    /// Runs the helper; `None` if it has no credentials, or if a helper for all hosts is not installed.
    ///
    /// # Errors
    /// Fails when a helper for this host is not installed, or when the helper fails.
    pub fn run(&self, path: Option<&OsStr>, verb: &str, input: &str) -> Result<Option<String>> {
        let Some(program) = locate(path, &self.program()) else {
            return match self.scope {
                Scope::All => Ok(None),
                Scope::Host => Err(self.error("is not installed").hint("install it, or take its name out of the file")),
            };
        };
        let failed = || format!("{} failed to {verb}", self.describe());
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the helper does not read its input, its output says why, below.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context(failed)?;
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(Some(said.into_owned()));
        }
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        let why = [said.trim(), complaint.trim()].into_iter().find(|text| !text.is_empty());
        Err(Error::caused(failed(), why.map_or_else(|| output.status.to_string(), str::to_owned)))
    }
}

/// Finds a program in a search path, by default `PATH`. Relative directories are skipped.
fn locate(path: Option<&OsStr>, program: &str) -> Option<PathBuf> {
    let path = path.map(OsStr::to_owned).or_else(|| std::env::var_os("PATH"))?;
    let mut places = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
    places.find(|path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

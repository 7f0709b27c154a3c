//! Files that must last: what they are and of which version is written in them, and checked when they are read.
//!
//! Absent, damaged, and written by another version are three different things: what runs is neither replaced nor ended
//! because of the latter two.

use crate::model::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// A form of something on disk.
pub trait Kept: Serialize + DeserializeOwned {
    /// What it is, in a word.
    const KIND: &'static str;
    /// Raised when what an older program wrote is not understood any more, or means something else.
    const VERSION: u32;
}

#[derive(Serialize)]
struct Written<'a, T> {
    kind: &'static str,
    version: u32,
    content: &'a T,
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
}

#[derive(Deserialize)]
struct Body<T> {
    content: T,
}

/// The bytes of something that is to be kept.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn state_bytes<T: Kept>(content: &T) -> Result<Vec<u8>> {
    let written = Written { kind: T::KIND, version: T::VERSION, content };
    serde_json::to_vec(&written).context(|| format!("cannot write a {}", T::KIND))
}

/// Reads what must not be lost.
///
/// # Errors
/// A file that cannot be read, does not hold what it should, or is of another version.
pub fn read_state<T: Kept>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = bytes(path)? else { return Ok(None) };
    let head: Head = match serde_json::from_slice(&bytes) {
        Ok(head) => head,
        Err(error) => return unversioned(path, &bytes).ok_or_else(|| damaged(path, error))?.map(Some),
    };
    if head.kind != T::KIND {
        return Err(damaged(path, format!("it is a {:?}, and no {:?}", head.kind, T::KIND)));
    }
    if head.version < T::VERSION {
        return Err(older(path));
    }
    if head.version > T::VERSION {
        let why = format!(
            "{} was written by a newer stead (version {} of a {}; this one reads {})",
            path.display(),
            head.version,
            T::KIND,
            T::VERSION
        );
        return Err(Error::new(why).hint("use the stead that wrote it; what runs goes on meanwhile"));
    }
    let body: Body<T> = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
    Ok(Some(body.content))
}

/// What was written before forms had versions: it is read if it still means the same. Nothing where it is no such thing.
fn unversioned<T: Kept>(path: &Path, bytes: &[u8]) -> Option<Result<T>> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let has_head = value.get("kind").is_some() || value.get("content").is_some();
    value.as_object().filter(|fields| !fields.is_empty() && !has_head)?;
    Some(serde_json::from_value(value).map_err(|_| older(path)))
}

fn older(path: &Path) -> Error {
    Error::new(format!("{} was written by an older stead, and this one does not read it", path.display()))
        .hint("type `down` with the stead that wrote it, then `up` with this one; what runs goes on meanwhile")
}

/// Reads a file of a form that others have made, and that must not be lost.
///
/// # Errors
/// A file that cannot be read or does not hold what it should.
pub fn read_foreign<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = bytes(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(path, error))
}

fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot read {}", path.display())),
    }
}

fn damaged(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(format!("{} is damaged, and nothing is done without it", path.display()), why)
        .hint("restore it from a copy; what runs goes on meanwhile")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Thing {
        number: u32,
    }

    impl Kept for Thing {
        const KIND: &'static str = "thing";
        const VERSION: u32 = 2;
    }

    #[test]
    fn absent_damaged_and_of_another_version_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thing.json");
        let read = || read_state::<Thing>(&path).map_err(|error| error.chain());
        assert_eq!(read(), Ok(None));
        let bytes = state_bytes(&Thing { number: 7 }).unwrap();
        assert_eq!(bytes, br#"{"kind":"thing","version":2,"content":{"number":7}}"#);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(), Ok(Some(Thing { number: 7 })));
        for damaged in [&b""[..], &bytes[..bytes.len() - 1], b"{}", br#"{"kind":"other","version":2,"content":{"number":7}}"#] {
            fs::write(&path, damaged).unwrap();
            assert!(read().unwrap_err().contains("is damaged"));
        }
        fs::write(&path, r#"{"number":8}"#).unwrap();
        assert_eq!(read(), Ok(Some(Thing { number: 8 })), "before there were versions");
        fs::write(&path, r#"{"letters":"x"}"#).unwrap();
        assert!(read().unwrap_err().contains("an older stead"));
        for (version, says) in [(1, "an older stead"), (3, "a newer stead")] {
            fs::write(&path, format!(r#"{{"kind":"thing","version":{version},"content":{{"letters":"x"}}}}"#)).unwrap();
            assert!(read().unwrap_err().contains(says));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read().unwrap_err().contains("cannot read"));
    }
}

//! Files that must last: their kind and version are written in them, and checked when they are read.
//!
//! A missing file, a damaged one, and one by another version are three different things: because of the latter two,
//! running containers are neither replaced nor stopped.

use crate::model::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// The format of something on disk.
pub trait Kept: Serialize + DeserializeOwned {
    /// The kind, in one word.
    const KIND: &'static str;
    /// The version; raise it when what an older program wrote cannot be read any more, or means something else.
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

/// The bytes of a file with this content.
///
/// # Errors
/// Fails when JSON cannot hold the value.
pub fn state_bytes<T: Kept>(content: &T) -> Result<Vec<u8>> {
    let written = Written { kind: T::KIND, version: T::VERSION, content };
    serde_json::to_vec(&written).context(|| format!("cannot write a {}", T::KIND))
}

/// Reads a file that must not be lost; `None` if it does not exist.
///
/// # Errors
/// Fails when the file cannot be read, does not hold what it should, or is of another version.
pub fn read_state<T: Kept>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = bytes(path)? else { return Ok(None) };
    let head: Head = match serde_json::from_slice(&bytes) {
        Ok(head) => head,
        Err(error) => return unversioned(path, &bytes).ok_or_else(|| damaged(path, error))?.map(Some),
    };
    if head.kind != T::KIND {
        return Err(damaged(path, format!("it is a {:?}, not a {:?}", head.kind, T::KIND)));
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
        return Err(Error::new(why).hint("use the stead that wrote it; what is running keeps running"));
    }
    let body: Body<T> = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
    Ok(Some(body.content))
}

/// Reads a file from before formats had versions, if its content still has the same form. `None` if it is not such a file.
fn unversioned<T: Kept>(path: &Path, bytes: &[u8]) -> Option<Result<T>> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let has_head = value.get("kind").is_some() || value.get("content").is_some();
    value.as_object().filter(|fields| !fields.is_empty() && !has_head)?;
    Some(serde_json::from_value(value).map_err(|_| older(path)))
}

fn older(path: &Path) -> Error {
    Error::new(format!("{} was written by an older stead, and this one does not read it", path.display()))
        .hint("type `down` with the stead that wrote it, then `up` with this one; what is running keeps running")
}

/// Reads a file in a format defined elsewhere that must not be lost; `None` if it does not exist.
///
/// # Errors
/// Fails when the file cannot be read or does not hold what it should.
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
        .hint("restore it from a copy; what is running keeps running")
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

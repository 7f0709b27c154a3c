//! Results of steps, imports and compressions, found by a key that is made from their inputs.
//!
//! Each result says what it refers to, so that garbage collection need not understand its content.

use super::Store;
use crate::model::{Context, Digest, Result};
use crate::sys;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The directory of results, in the store and in bundles. It gets a new name whenever an older program would misread its
/// files: readers of the first format would take one of these results for a step that changed nothing.
pub const RESULTS: &str = "results-2";

/// What a result refers to in the store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refers {
    /// The object that it is useless without, and is removed with. A result without one stays: it is small.
    pub to: Option<Digest>,
    /// An object that is kept as long as `to` is kept.
    pub brings: Option<Digest>,
}

impl Refers {
    /// A result that is useful as long as this object exists.
    pub fn to(digest: Digest) -> Self {
        Self { to: Some(digest), brings: None }
    }

    /// Also keeps another object.
    #[must_use]
    pub fn bringing(self, digest: Digest) -> Self {
        Self { brings: Some(digest), ..self }
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    refers: Refers,
    content: &'a T,
}

#[derive(Deserialize)]
struct Head {
    refers: Refers,
}

#[derive(Deserialize)]
struct Body<T> {
    content: T,
}

/// Reads a result from a file; `None` for a missing or damaged one, which is then made again.
pub fn read_result<T: DeserializeOwned>(path: &Path) -> Option<T> {
    super::read_json::<Body<T>>(path).map(|body| body.content)
}

impl Store {
    /// The result that is recorded under a key.
    pub fn result<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        read_result(&self.root().join(RESULTS).join(key.hex()))
    }

    /// Records a result.
    ///
    /// # Errors
    /// Fails when the result cannot be written.
    pub fn put_result(&self, key: &Digest, refers: Refers, content: &impl Serialize) -> Result<()> {
        let path = self.root().join(RESULTS).join(key.hex());
        let bytes = serde_json::to_vec(&Written { refers, content }).context(|| "cannot write a step's result".into())?;
        sys::write_whole(&path, &bytes, 0o644).context(|| format!("cannot write {}", path.display()))
    }

    /// All results, with their bytes and, if that can be read, what they refer to.
    ///
    /// # Errors
    /// Fails when the results cannot be listed.
    pub fn results(&self) -> Result<impl Iterator<Item = (Digest, Option<Refers>, Vec<u8>)>> {
        let folder = self.root().join(RESULTS);
        Ok(self.list(RESULTS)?.into_iter().filter_map(move |key| {
            // It may have been removed meanwhile.
            let bytes = fs::read(folder.join(key.hex())).ok()?;
            let refers = serde_json::from_slice::<Head>(&bytes).ok().map(|head| head.refers);
            Some((key, refers, bytes))
        }))
    }
}

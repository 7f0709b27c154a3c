//! Results: what a step, an import or a compression came to, found by the key of what it was made of.
//!
//! Each says what it refers to, so that whoever collects needs to know nothing of what is in it.

use super::Store;
use crate::model::{Context, Digest, Result};
use crate::sys;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The directory that they are in, in the store and in bundles. It is another one whenever an older program would take what is
/// in it for something else: the first form's readers take this one for a step that changed nothing.
pub const RESULTS: &str = "results-2";

/// What a result refers to in the store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refers {
    /// What it is of no use without, and goes with. One that needs nothing stays: its bytes are few.
    pub to: Option<Digest>,
    /// What is kept as long as that is.
    pub brings: Option<Digest>,
}

impl Refers {
    /// A result that is of use as long as something is there.
    pub fn to(digest: Digest) -> Self {
        Self { to: Some(digest), brings: None }
    }

    /// And keeps something else.
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

/// A result in a file; what is absent or damaged is made again.
pub fn read_result<T: DeserializeOwned>(path: &Path) -> Option<T> {
    super::read_json::<Body<T>>(path).map(|body| body.content)
}

impl Store {
    /// What is recorded under a key.
    pub fn result<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        read_result(&self.root().join(RESULTS).join(key.hex()))
    }

    /// Records a result.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_result(&self, key: &Digest, refers: Refers, content: &impl Serialize) -> Result<()> {
        let path = self.root().join(RESULTS).join(key.hex());
        let bytes = serde_json::to_vec(&Written { refers, content }).context(|| "cannot write a step's result".into())?;
        sys::write_whole(&path, &bytes, 0o644).context(|| format!("cannot write {}", path.display()))
    }

    /// All results, with what they refer to, if that can be read, and their bytes.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub fn results(&self) -> Result<impl Iterator<Item = (Digest, Option<Refers>, Vec<u8>)>> {
        let folder = self.root().join(RESULTS);
        Ok(self.list(RESULTS)?.into_iter().filter_map(move |key| {
            // One that goes meanwhile is none.
            let bytes = fs::read(folder.join(key.hex())).ok()?;
            let refers = serde_json::from_slice::<Head>(&bytes).ok().map(|head| head.refers);
            Some((key, refers, bytes))
        }))
    }
}

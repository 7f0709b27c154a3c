//! Drift: what live syncs have made different in a container from its image.
//!
//! The record lies beside the container's root and ends with it. It is written before the files are, so that it never misses
//! one: whoever starts from it may replace a container that is equal to its image, but never keeps one that is not.

use super::identity::Instance;
use crate::model::{Context, Digest, Result};
use crate::store::{Kept, read_state, state_bytes};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The paths of a container that differ from its image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Drift {
    /// What is there now, by path as it is spelled; nothing if the path is gone.
    pub files: BTreeMap<String, Option<Digest>>,
}

impl Kept for Drift {
    const KIND: &'static str = "drift";
    const VERSION: u32 = 1;
}

fn place(instance: &Instance, replica: &str, generation: u64) -> PathBuf {
    instance.root(replica, generation).join("drift.json")
}

impl Drift {
    /// Reads the record of a replica; without one it is equal to its image.
    ///
    /// # Errors
    /// Fails when the record is damaged or cannot be read.
    pub fn read(instance: &Instance, replica: &str, generation: u64) -> Result<Self> {
        Ok(read_state(&place(instance, replica, generation))?.unwrap_or_default())
    }

    /// Writes the record, or removes it if nothing differs.
    ///
    /// # Errors
    /// Fails when it cannot be written: then nothing may be synced.
    pub fn save(&self, instance: &Instance, replica: &str, generation: u64) -> Result<()> {
        let path = place(instance, replica, generation);
        if self.files.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).context(|| format!("cannot remove {}", path.display()))
                }
                _ => Ok(()),
            };
        }
        sys::write_atomic(&path, &state_bytes(self)?, 0o600)
            .map_err(|error| crate::store::disk_error(&format!("cannot write {}", path.display()), error))
    }

    /// A digest of what differs.
    pub fn digest(&self) -> Digest {
        let lines = self.files.iter().map(|(path, digest)| match digest {
            Some(digest) => format!("{digest} {path}\n"),
            None => format!("- {path}\n"),
        });
        Digest::of(lines.collect::<String>())
    }
}

//! Leases: they tell collections in other processes what a running process needs.

use super::Store;
use crate::model::{Context, Digest, Result};
use crate::sys::{self, Hold, Lock};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

/// A process's claim on objects in the store; it ends when it is dropped or the process dies.
#[derive(Debug)]
pub struct Lease {
    gate: PathBuf,
    path: PathBuf,
    lock: Lock,
}

impl Lease {
    /// Opens a lease that pins nothing yet.
    ///
    /// # Errors
    /// Fails when its file cannot be made or locked.
    pub fn open(store: &Store) -> Result<Self> {
        // Between making the file and locking it, a collection must not take it for the lease of a dead process.
        let gate = store.root().join("gate");
        let _gate = Lock::wait(&gate, Hold::Shared).context(|| format!("cannot lock {}", gate.display()))?;
        let path = store.root().join("leases").join(sys::unique());
        let lock = Lock::wait(&path, Hold::Alone).context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { gate: gate.clone(), path, lock })
    }

    /// Pins objects. Those that exist now stay, so look for them only after this call.
    ///
    /// # Errors
    /// Fails when the lease cannot be written.
    pub fn pin<'a>(&mut self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        let lines: String = digests.into_iter().map(|digest| digest.hex() + "\n").collect();
        // While this lock is held, no collection is between reading the leases and deleting.
        let _gate = Lock::wait(&self.gate, Hold::Shared).context(|| format!("cannot lock {}", self.gate.display()))?;
        self.lock.file().write_all(lines.as_bytes()).context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A leftover is harmless: its lock is free, so the next collection removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What all living processes have pinned; leases of dead processes are removed.
///
/// # Errors
/// Fails when a lease cannot be read, because then what it pins is not known.
pub fn pinned(store: &Store) -> Result<BTreeSet<Digest>> {
    let mut found = BTreeSet::new();
    let folder = store.root().join("leases");
    for entry in std::fs::read_dir(&folder).context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.context(|| format!("cannot read {}", folder.display()))?.path();
        if Lock::is_held(&path) {
            match std::fs::read_to_string(&path) {
                Ok(text) => found.extend(text.lines().filter_map(Digest::parse)),
                // Its process ended in the meantime.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(|| format!("cannot read {}, so nothing is collected", path.display())),
            }
        } else {
            // Another collection may have been faster.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(found)
}

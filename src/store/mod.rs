//! The content-addressed store: blobs, layers, step results, images, roots, garbage collection.
//!
//! Objects appear whole or not at all: they are made under `tmp/`, synced, then renamed to their
//! digest. Many processes use the store at once. A process pins what it needs with its [`Lease`]
//! before it looks for it, so that a collection in another process never removes it.

mod caches;
mod collect;
mod lease;
mod results;
mod state;

pub use caches::{CACHE_QUOTA, Cache, Use};
pub use collect::{Collected, Pin};
pub use lease::Lease;
pub use results::{RESULTS, Refers, read_result};
pub use state::{Kept, read_foreign, read_state, state_bytes};

use crate::model::{Context, Digest, Error, LayerInfo, Result};
use crate::sys;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories in which stead keeps everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Home {
    /// Objects: safe to delete, costly to make again.
    pub store: PathBuf,
    /// The state of instances: records, logs, history, volumes.
    pub state: PathBuf,
    /// What is gone after a reboot: sockets, roots of containers. It is on a memory file system.
    pub run: PathBuf,
}

impl Home {
    /// The directories of this installation: below `STEAD_ROOT` if that is set, else the system's.
    pub fn find(root: Option<&Path>) -> Self {
        match root {
            Some(root) => Self { store: root.join("store"), state: root.join("state"), run: root.join("run") },
            None => Self { store: "/var/lib/stead/store".into(), state: "/var/lib/stead/state".into(), run: "/run/stead".into() },
        }
    }

    /// Closes its directories to all other users: images and volumes hold programs that run as root, and secrets
    /// (CVE-2021-41091). New directories are private from the start; those that an earlier version left open are closed here.
    ///
    /// # Errors
    /// Fails when a directory belongs to another user or cannot be closed.
    pub fn secure(&self) -> Result<()> {
        let own = [&self.store, &self.state, &self.run];
        let above = self.store.parent().filter(|above| self.state.parent() == Some(*above));
        for folder in own.map(PathBuf::as_path).into_iter().chain(above) {
            let metadata = match fs::metadata(folder) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(|| format!("cannot look at {}", folder.display())),
            };
            // The directory above may be used for other things, too: then it is left as it is.
            if Some(folder) != above || metadata.mode() & 0o077 != 0 && self.fills(folder)? {
                close(folder, &metadata)?;
            }
        }
        Ok(())
    }

    /// Whether a directory holds nothing but this home.
    fn fills(&self, folder: &Path) -> Result<bool> {
        let own = [&self.store, &self.state, &self.run].map(|own| own.file_name());
        let entries = fs::read_dir(folder).context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.context(|| format!("cannot read {}", folder.display()))?;
            if !own.contains(&Some(entry.file_name().as_os_str())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A short hash that keeps kernel objects of two installations apart.
    pub fn tag(&self) -> String {
        use std::os::unix::ffi::OsStrExt;
        Digest::of(self.store.as_os_str().as_bytes()).short(4)
    }
}

/// Closes a directory of our own to all other users.
fn close(folder: &Path, metadata: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::new(format!("{} belongs to another user (number {})", folder.display(), metadata.uid()))
            .hint("that user could change what is kept there: set STEAD_ROOT to a directory of your own, or remove it"));
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let closed = fs::set_permissions(folder, fs::Permissions::from_mode(metadata.mode() & 0o700));
    closed.context(|| format!("cannot close {} to other users", folder.display()))
}

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in a directory, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the store's directories.
    ///
    /// # Errors
    /// Fails when a directory cannot be made.
    pub fn prepare(&self) -> Result<()> {
        for folder in ["blobs", "layers", RESULTS, "images", "roots", "leases", "tmp", "downloads", "decoded"] {
            let path = self.root.join(folder);
            if path.is_dir() {
                continue;
            }
            sys::make_private(&path)
                .context(|| format!("cannot make {}", path.display()))
                .map_err(|error| error.hint("set STEAD_ROOT to a directory that can be written"))?;
        }
        Ok(())
    }

    /// The directory it lives in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a layer's tree is, or would be.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Where a file being fetched is kept until it is whole.
    pub fn download_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("downloads").join(digest.hex())
    }

    /// The record of a layer, if the store has the layer.
    pub fn layer(&self, diff_id: &Digest) -> Option<LayerInfo> {
        read_json(&self.layer_path(diff_id).with_extension("json")).filter(|_| self.layer_path(diff_id).is_dir())
    }

    /// Reads a blob.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.blob_path(digest)).ok()
    }

    /// Stores a blob.
    ///
    /// # Errors
    /// Fails when the blob cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        // A power cut while an older version wrote it may have left the name without the content.
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
            sys::write_whole(&path, bytes, 0o644).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(digest)
    }

    /// Makes a private temporary directory to prepare something in.
    ///
    /// # Errors
    /// Fails when the directory cannot be made or locked.
    pub fn staging(&self) -> Result<Staging> {
        let gate = self.root.join("gate");
        let _gate = sys::Lock::wait(&gate, sys::Hold::Shared).context(|| format!("cannot lock {}", gate.display()))?;
        let path = self.root.join("tmp").join(sys::unique());
        let lock = sys::Lock::wait(&path.with_extension("lock"), sys::Hold::Alone)
            .context(|| "cannot lock a staging directory".into())?;
        sys::make_private(&path).context(|| format!("cannot make {}", path.display()))?;
        Ok(Staging { path, _lock: lock })
    }

    /// Takes a finished tree into the store as a layer. The tree must be normalised already.
    ///
    /// # Errors
    /// Fails when syncing or renaming fails; the error says so if the disk is full.
    pub fn adopt_layer(&self, tree: &Path, info: &LayerInfo) -> Result<()> {
        if self.layer(&info.diff_id).is_some() {
            return Ok(());
        }
        self.sync()?;
        self.name_layer(tree, info)
    }

    /// Makes everything that was written to the store durable.
    ///
    /// # Errors
    /// Fails when syncing fails; the error says so if the disk is full.
    pub fn sync(&self) -> Result<()> {
        sys::sync_file_system(&self.root).map_err(|error| disk_error("cannot sync the store", error))
    }

    /// Moves a finished and synced tree to its name as a layer.
    ///
    /// # Errors
    /// Fails when renaming fails or the record cannot be written; the error says so if the disk is full.
    pub fn name_layer(&self, tree: &Path, info: &LayerInfo) -> Result<()> {
        let target = self.layer_path(&info.diff_id);
        match fs::rename(tree, &target) {
            Ok(()) => {}
            // Another process was faster, or was killed between this rename and writing the record.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {}
            Err(error) => return Err(Error::caused(format!("cannot move a layer to {}", target.display()), error)),
        }
        let record = serde_json::to_vec(info).context(|| "cannot write a layer's record".into())?;
        let path = target.with_extension("json");
        sys::write_whole(&path, &record, 0o644).map_err(|error| disk_error(&format!("cannot write {}", path.display()), error))
    }

    /// The digests of all objects of a kind.
    ///
    /// # Errors
    /// Fails when the directory exists but cannot be listed: it must not count as empty.
    pub fn list(&self, folder: &str) -> Result<Vec<Digest>> {
        let path = self.root.join(folder);
        let names = || match fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let names = names().context(|| format!("cannot list {}", path.display()))?;
        let mut found: Vec<Digest> = names.iter().filter_map(|name| Digest::parse(name.to_str()?)).collect();
        found.sort();
        Ok(found)
    }
}

/// An error with a hint if the cause is a full disk.
pub fn disk_error(doing: &str, error: io::Error) -> Error {
    // An error that was wrapped in a message has lost its number, but not its kind.
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    // An error from a network stream has its own hint.
    let error = match error.downcast::<Error>() {
        Ok(error) => {
            return Error::caused(doing.to_owned(), error);
        }
        Err(error) => Error::caused(doing.to_owned(), error),
    };
    if full {
        error.hint("the disk is full; `stead gc` frees what no project uses, or set STEAD_ROOT to another disk")
    } else {
        error
    }
}

/// A private directory in the store, removed when dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _lock: sys::Lock,
}

impl Staging {
    /// A directory or file inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next collection removes what cannot be removed now, because its lock is free.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(self.path.with_extension("lock"));
    }
}

/// Reads a JSON file that can be made again; `None` for both missing and damaged files.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

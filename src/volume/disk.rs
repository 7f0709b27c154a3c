//! What went wrong on the disk of the volumes: a full one is named.

use crate::model::{Error, Size};
use crate::store::{Home, disk_error};
use std::io;

/// The error for something that could not be read or written in the directories of volumes and snapshots.
pub fn failed(home: &Home, doing: &str, error: io::Error) -> Error {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = disk_error(doing, error);
    if !is_full {
        return error;
    }
    let size = nix::sys::statvfs::statvfs(&home.state).ok().map(|disk| disk.blocks().saturating_mul(disk.fragment_size()));
    let size = size.map(|bytes| format!(" ({})", Size(bytes))).unwrap_or_default();
    error.hint(format!(
        "the disk is full: the one with {}{size}; `stead volume ls --all --snapshots` lists what could go, and `stead gc` frees \
         what no project uses",
        home.state.display()
    ))
}

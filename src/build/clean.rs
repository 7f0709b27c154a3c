//! Cleans a command's tree of what the command did not change itself: mount points, and unchanged directories.
//!
//! The command may have replaced any directory with a link, so all access is by file descriptor (CVE-2024-23652).
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::view::View;
use crate::image::{OPAQUE, is_mark};
use crate::sys::{self, Kind, Tree};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Removes mount points that the runtime made, directories that are unchanged from the layers below, and device nodes,
/// which layers must not contain.
///
/// # Errors
/// Fails when something cannot be read or removed.
pub fn clean(tree: &Path, layers: &[PathBuf], missing: &[PathBuf]) -> io::Result<()> {
    let root = Tree::open(tree)?;
    for path in missing {
        sys::remove_if_empty(&root, path)?;
    }
    prune(&root, Path::new("/"), &View::new(layers.to_vec()))
}

fn prune(folder: &Tree, path: &Path, below: &View) -> io::Result<()> {
    for listed in folder.list()? {
        let path = path.join(&listed.name);
        match listed.kind {
            Kind::Folder => {}
            Kind::Character | Kind::Block => {
                leave_out(folder, &listed.name, below.entry(&path).is_some())?;
                continue;
            }
            _ => continue,
        }
        let inner = folder.folder(&listed.name)?;
        prune(&inner, &path, below)?;
        let stat = inner.facts()?;
        let unchanged = below.entry(&path).is_some_and(|(_, old)| {
            old.is_dir() && old.mode() == stat.st_mode && (old.uid(), old.gid()) == (stat.st_uid, stat.st_gid)
        });
        if unchanged && inner.attribute(OsStr::new("."), OPAQUE)?.is_none() {
            match folder.remove_folder(&listed.name) {
                // Only an empty directory is removed.
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes a device node; if it hid something in the layers below, a whiteout replaces it.
fn leave_out(folder: &Tree, name: &OsStr, hides: bool) -> io::Result<()> {
    if is_mark(&folder.stat(name)?) {
        return Ok(());
    }
    folder.remove(name)?;
    if hides { folder.make_whiteout(name) } else { Ok(()) }
}

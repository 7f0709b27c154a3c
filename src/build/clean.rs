//! What a command leaves in its tree that is not its doing: mount points, and directories that are as they were.
//!
//! The command may have put a link in place of any directory: everything is reached by descriptor (CVE-2024-23652).
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::view::View;
use crate::image::{OPAQUE, is_mark};
use crate::sys::{self, Kind, Tree};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Takes out mount points that the runtime made, directories that are as they are below, and device nodes, which layers
/// do not have.
///
/// # Errors
/// Those of reading and removing.
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
                // Only an empty one goes.
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes a device node; what it stood in front of stays hidden.
fn leave_out(folder: &Tree, name: &OsStr, hides: bool) -> io::Result<()> {
    if is_mark(&folder.stat(name)?) {
        return Ok(());
    }
    folder.remove(name)?;
    if hides { folder.make_whiteout(name) } else { Ok(()) }
}

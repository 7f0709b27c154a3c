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
/// which layers must not contain. Returns the paths of these devices.
///
/// # Errors
/// Fails when something cannot be read or removed.
pub fn clean(tree: &Path, layers: &[PathBuf], missing: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let root = Tree::open(tree)?;
    for path in missing {
        sys::remove_if_empty(&root, path)?;
    }
    let mut devices = Vec::new();
    prune(&root, Path::new("/"), &View::new(layers.to_vec()), &mut devices)?;
    Ok(devices)
}

fn prune(folder: &Tree, path: &Path, below: &View, devices: &mut Vec<PathBuf>) -> io::Result<()> {
    for listed in folder.list()? {
        let path = path.join(&listed.name);
        match listed.kind {
            Kind::Folder => {}
            Kind::Character | Kind::Block => {
                if leave_out(folder, &listed.name, below.entry(&path).is_some())? {
                    devices.push(path);
                }
                continue;
            }
            _ => continue,
        }
        let inner = folder.folder(&listed.name)?;
        prune(&inner, &path, below, devices)?;
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

/// Removes a device node; if it hid something in the layers below, a whiteout replaces it. Returns false for a whiteout, which
/// only the kernel makes: to the command, a device with the number 0/0 is refused (`ovl_mknod`).
fn leave_out(folder: &Tree, name: &OsStr, hides: bool) -> io::Result<bool> {
    if is_mark(&folder.stat(name)?) {
        return Ok(false);
    }
    folder.remove(name)?;
    if hides {
        folder.make_whiteout(name)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, lstat, makedev, mknod};
    use std::fs;

    #[test]
    fn devices_are_left_out_and_named_and_whiteouts_stay() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: device nodes need root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["below/srv/deep", "tree/srv/deep", "tree/new"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("below/srv/deep/hidden"), "").unwrap();
        fs::write(at("tree/srv/file"), "").unwrap();
        let node = |path: &str, kind: SFlag, (major, minor): (u64, u64)| {
            mknod(&at(path), kind, Mode::from_bits_truncate(0o666), makedev(major, minor)).unwrap();
        };
        node("tree/srv/null", SFlag::S_IFCHR, (1, 3));
        node("tree/srv/deep/hidden", SFlag::S_IFBLK, (7, 0));
        node("tree/srv/deleted", SFlag::S_IFCHR, (0, 0));
        node("tree/new/block", SFlag::S_IFBLK, (0, 0));
        node("tree/new/fifo", SFlag::S_IFIFO, (0, 0));
        let mut devices = clean(&at("tree"), &[at("below")], &[]).unwrap();
        devices.sort();
        assert_eq!(devices, ["/new/block", "/srv/deep/hidden", "/srv/null"].map(PathBuf::from));
        let mark = |path: &str| is_mark(&lstat(&at(path)).unwrap());
        assert!(mark("tree/srv/deleted") && mark("tree/srv/deep/hidden"), "what it hid stays hidden");
        assert!(!at("tree/srv/null").exists() && !at("tree/new/block").exists());
        assert!(at("tree/srv/file").exists() && at("tree/new/fifo").exists());
    }
}

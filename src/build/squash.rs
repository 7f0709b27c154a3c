//! The layers of an image's own steps → one layer that comes to the same.

use super::copy::copy_times;
use crate::image::{CAPABILITY, OPAQUE, is_whiteout};
use crate::model::{Context, Outcome};
use crate::store::disk_fault;
use crate::sys;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Puts layers upon each other in an empty tree, from the lowest up.
///
/// # Errors
/// Those of reading and writing.
pub fn squash(layers: &[PathBuf], tree: &Path) -> Outcome<()> {
    for layer in layers {
        let mut links = HashMap::new();
        put(layer, tree, &mut links).map_err(|error| disk_fault("cannot put layers together", error))?;
    }
    // Folders last: what is put in them changes their times.
    for layer in layers {
        folders(layer, tree).doing(|| "cannot put layers together".into())?;
    }
    Ok(())
}

fn put(from: &Path, to: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let there = fs::symlink_metadata(&target).ok();
        let opaque = metadata.is_dir() && is_opaque(&source)?;
        // A whiteout, a file and an opaque folder stand for whatever was there.
        let stays = metadata.is_dir() && !opaque && there.as_ref().is_some_and(Metadata::is_dir);
        let hid = there.as_ref().is_some_and(is_whiteout) || there.as_ref().is_some_and(Metadata::is_dir) && is_opaque(&target)?;
        if let (Some(old), false) = (&there, stays) {
            if old.is_dir() { fs::remove_dir_all(&target)? } else { fs::remove_file(&target)? }
        }
        if metadata.is_dir() {
            if !stays {
                fs::create_dir(&target)?;
            }
            // What hid the layers below goes on hiding them.
            if opaque || hid {
                sys::set_attribute(&target, OPAQUE, b"y")?;
            }
            put(&source, &target, links)?;
            continue;
        }
        if let Some(first) = links.get(&(metadata.dev(), metadata.ino())) {
            fs::hard_link(first, &target)?;
            continue;
        }
        file(&source, &target, &metadata)?;
        if metadata.nlink() > 1 {
            links.insert((metadata.dev(), metadata.ino()), target);
        }
    }
    Ok(())
}

fn file(source: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        sys::copy_file(&File::open(source)?, &File::create_new(target)?)?;
    } else if kind.is_socket() {
        return Ok(());
    } else {
        use nix::sys::stat::{Mode, SFlag, mknod};
        let mode = SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
        mknod(target, mode, Mode::from_bits_truncate(metadata.mode() & 0o7777), metadata.rdev())?;
    }
    sys::set_owner(target, metadata.uid(), metadata.gid())?;
    if !kind.is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    if let Some(value) = sys::get_attribute(source, CAPABILITY)?.filter(|_| kind.is_file()) {
        sys::set_attribute(target, CAPABILITY, &value)?;
    }
    copy_times(metadata, target)
}

/// Gives folders the owners, permissions and times of the uppermost layer that has them.
fn folders(layer: &Path, tree: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layer)? {
        let entry = entry?;
        let target = tree.join(entry.file_name());
        if entry.file_type()?.is_dir() && fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_dir()) {
            folders(&entry.path(), &target)?;
        }
    }
    let metadata = fs::symlink_metadata(layer)?;
    sys::set_owner(tree, metadata.uid(), metadata.gid())?;
    fs::set_permissions(tree, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_times(&metadata, tree)
}

fn is_opaque(path: &Path) -> io::Result<bool> {
    Ok(sys::get_attribute(path, OPAQUE)?.as_deref() == Some(b"y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_become_one_that_comes_to_the_same() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: whiteouts need root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        let write = |path: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), path).unwrap();
        };
        let hide = |path: &str| {
            use nix::sys::stat::{Mode, SFlag, mknod};
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            mknod(&at(path), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        };
        for path in
            ["1/kept", "1/gone", "1/dir/old", "1/opaque/old", "1/was-file", "2/dir/new", "2/opaque/new", "2/was-file/now-folder"]
        {
            if path == "2/was-file/now-folder" {
                fs::create_dir_all(at("2/was-file")).unwrap();
            }
            write(path);
        }
        fs::hard_link(at("1/kept"), at("1/twin")).unwrap();
        hide("2/gone");
        hide("2/of-the-base");
        sys::set_attribute(&at("2/opaque"), OPAQUE, b"y").unwrap();
        fs::set_permissions(at("2/dir"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(at("out")).unwrap();
        squash(&[at("1"), at("2")], &at("out")).unwrap();
        let is = |path: &str| fs::read_to_string(at("out").join(path)).ok();
        assert_eq!(is("kept").as_deref(), Some("1/kept"));
        assert_eq!((is("dir/old").is_some(), is("dir/new").is_some()), (true, true));
        assert_eq!((is("opaque/old"), is("opaque/new").is_some()), (None, true));
        assert!(is("was-file/now-folder").is_some());
        assert_eq!(fs::metadata(at("out/twin")).unwrap().ino(), fs::metadata(at("out/kept")).unwrap().ino());
        for path in ["gone", "of-the-base"] {
            assert!(is_whiteout(&fs::symlink_metadata(at("out").join(path)).unwrap()), "the base below may have {path}");
        }
        assert!(is_opaque(&at("out/opaque")).unwrap());
        assert_eq!(fs::metadata(at("out/dir")).unwrap().mode() & 0o777, 0o700);
    }
}

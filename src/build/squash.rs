//! Squashes the layers of an image's own steps into one layer with the same effect.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::image::{Hiding, OPAQUE, Twin, is_mark, is_opaque};
use crate::model::{Context, Result};
use crate::store::disk_error;
use crate::sys::{Facts, Kind, Tree};
use std::io;
use std::path::PathBuf;

/// Merges layers into an empty tree, from lowest to highest.
///
/// # Errors
/// Fails when something cannot be read or written.
pub fn squash(layers: &[PathBuf], tree: &Tree) -> Result<()> {
    let opened: io::Result<Vec<Tree>> = layers.iter().map(|layer| Tree::open(layer)).collect();
    let layers = opened.context(|| "cannot open the layers".into())?;
    for layer in &layers {
        let mut twin = Twin::new(tree, Hiding::Kept);
        put(layer, tree, &mut PathBuf::new(), &mut twin).map_err(|error| disk_error("cannot put layers together", error))?;
    }
    // Directories come last, because adding entries changes their times.
    for layer in &layers {
        folders(layer, tree).context(|| "cannot put layers together".into())?;
    }
    Ok(())
}

fn put(from: &Tree, to: &Tree, at: &mut PathBuf, twin: &mut Twin) -> io::Result<()> {
    for listed in from.list()? {
        let name = &listed.name;
        let stat = from.stat(name)?;
        let there = to.look(name)?;
        at.push(name);
        if Kind::of(&stat) == Kind::Folder {
            let source = from.folder(name)?;
            let opaque = is_opaque(&source)?;
            // A whiteout, a file or an opaque directory hides whatever is below it.
            let old = there.filter(|there| Kind::of(there) == Kind::Folder).map(|_| to.folder(name)).transpose()?;
            let hid = there.as_ref().is_some_and(is_mark) || old.as_ref().map_or(Ok(false), is_opaque)?;
            let target = match old.filter(|_| !opaque) {
                Some(old) => old,
                None => {
                    to.remove(name)?;
                    to.make_folder(name, 0o700)?
                }
            };
            // Whatever hid the layers below must still hide them.
            if opaque || hid {
                target.set_attribute(OPAQUE, b"y")?;
            }
            put(&source, &target, at, twin)?;
        } else {
            to.remove(name)?;
            twin.entry((from, name), &stat, (to, at))?;
        }
        at.pop();
    }
    Ok(())
}

/// Gives directories the owners, permissions and times that they have in the highest layer that contains them.
fn folders(layer: &Tree, tree: &Tree) -> io::Result<()> {
    for listed in layer.list()?.into_iter().filter(|listed| listed.kind == Kind::Folder) {
        if tree.look(&listed.name)?.is_some_and(|stat| Kind::of(&stat) == Kind::Folder) {
            folders(&layer.folder(&listed.name)?, &tree.folder(&listed.name)?)?;
        }
    }
    let stat = layer.facts()?;
    tree.become_like(Facts { time: (stat.st_mtime, 0), ..Facts::of(&stat) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
        crate::sys::set_attribute_of(&fs::File::open(at("2/opaque")).unwrap(), OPAQUE, b"y").unwrap();
        fs::set_permissions(at("2/dir"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(at("out")).unwrap();
        squash(&[at("1"), at("2")], &Tree::open(&at("out")).unwrap()).unwrap();
        let is = |path: &str| fs::read_to_string(at("out").join(path)).ok();
        assert_eq!(is("kept").as_deref(), Some("1/kept"));
        assert_eq!((is("dir/old").is_some(), is("dir/new").is_some()), (true, true));
        assert_eq!((is("opaque/old"), is("opaque/new").is_some()), (None, true));
        assert!(is("was-file/now-folder").is_some());
        assert_eq!(fs::metadata(at("out/twin")).unwrap().ino(), fs::metadata(at("out/kept")).unwrap().ino());
        for path in ["gone", "of-the-base"] {
            assert!(is_mark(&nix::sys::stat::lstat(&at("out").join(path)).unwrap()), "the base below may have {path}");
        }
        assert!(is_opaque(&Tree::open(&at("out/opaque")).unwrap()).unwrap());
        assert_eq!(fs::metadata(at("out/dir")).unwrap().mode() & 0o777, 0o700);
    }
}

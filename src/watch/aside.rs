//! How a new file takes the place of an old one in a container: it is made under a temporary name, beside its place or, if there
//! are many, in a directory aside.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::sys::{self, Tree};
use std::ffi::{OsStr, OsString};
use std::io;

/// What the names of our temporary files and directories begin with.
const OWN: &str = ".stead-";

/// A directory in a container's root where many files are made before each is renamed to where it belongs.
///
/// Whoever watches a directory in the container sees the files in it appear, and nothing else. And ext4 takes the inode of a new
/// file from the part of the disk that its directory lies in, from the beginning; without a journal it passes over each inode
/// there that was freed in the last minutes (`recently_deleted`, fs/ext4/ialloc.c). When thousands of files are replaced by
/// renaming, that is as many as were freed the last time, for each of them. This directory lies where few directories are, and
/// each time elsewhere, because the root is marked by [`sys::spread`].
#[derive(Debug)]
pub struct Aside {
    /// The root, and the directory's name in it, until it is removed.
    top: Option<(Tree, OsString)>,
    folder: Tree,
}

impl Aside {
    /// Makes one in a root, which is removed when this is dropped.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn make(top: Tree) -> io::Result<Self> {
        let name = OsString::from(format!("{OWN}{}", sys::unique()));
        let folder = top.make_folder(&name, 0o700)?;
        Ok(Self { top: Some((top, name)), folder })
    }

    /// The directory.
    pub fn folder(&self) -> &Tree {
        &self.folder
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let Some((top, name)) = self.top.take() else { return };
        if top.remove_folder(&name).is_err() {
            remove_beside(top, vec![name]);
        }
    }
}

/// Removes entries of a root on another thread: what has reached the disk takes its time. What is left if this process ends is
/// removed by the next one.
fn remove_beside(top: Tree, names: Vec<OsString>) {
    let remove = move || names.iter().for_each(|name| drop(top.remove(name)));
    let _ = std::thread::Builder::new().spawn(remove);
}

/// What becomes of a file that another one takes the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It is replaced by renaming. ext4 begins to write the new file to the disk then (`auto_da_alloc`, ext4(5)), and waits for
    /// that when it is replaced in turn.
    Replaced,
    /// The two exchange their names, and it is removed.
    Removed,
    /// The two exchange their names, and it is left where the new one was made.
    Left,
}

/// Makes something under a temporary name, at some place of the same mount, and gives it its name: whoever looks sees the old
/// one or the new one.
///
/// # Errors
/// Fails when it cannot be made or renamed; what was there is whole then.
pub fn replace(
    (directory, name): (&Tree, &OsStr),
    place: &Tree,
    old: Old,
    make: impl FnOnce(&OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = format!("{OWN}{}", sys::unique());
    let temporary = OsStr::new(&temporary);
    let named = || {
        // Where that cannot be done, or if the old one is gone, the new one is renamed.
        if old == Old::Replaced || directory.exchange_with(name, place, temporary).is_err() {
            return directory.rename(name, place, temporary);
        }
        if old == Old::Removed { place.remove_file(temporary) } else { Ok(()) }
    };
    let done = make(temporary).and_then(|()| named());
    if done.is_err() {
        // It may not have been made at all.
        let _ = place.remove_file(temporary);
    }
    done
}

/// Removes what other processes have left at the top of a root.
///
/// # Errors
/// Fails when the root cannot be read.
pub fn sweep(top: Tree) -> io::Result<()> {
    let names: Vec<OsString> = top.list()?.into_iter().map(|listed| listed.name).filter(|name| is_left(name)).collect();
    if !names.is_empty() {
        remove_beside(top, names);
    }
    Ok(())
}

/// Whether a name is one that another process has made.
fn is_left(name: &OsStr) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    let numbers = || name.to_str()?.strip_prefix(OWN)?.split_once('-');
    numbers()
        .is_some_and(|(process, count)| number(process).is_some_and(|id| id != std::process::id()) && number(count).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_processes_have_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!("{OWN}{}", sys::unique());
        for (name, is_swept) in [(".stead-1-7", true), (".stead-mine", false), ("stead-1-7", false), (&own, false)] {
            let place = folder.path().join(name);
            std::fs::create_dir_all(place.join("below")).unwrap();
            sweep(Tree::open(folder.path()).unwrap()).unwrap();
            while is_swept && place.exists() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert!(is_swept || place.exists(), "{name}");
        }
    }
}

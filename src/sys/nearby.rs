//! Access to many files of a tree in a row: as long as they are in the same directory, its path is looked up only once.

use super::tree::no_file;
use super::{Kind, Tree};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A tree together with the directory that was used last.
#[derive(Debug)]
pub struct Nearby<'t> {
    root: &'t Tree,
    open: Option<(PathBuf, Tree)>,
}

impl<'t> Nearby<'t> {
    /// Starts without an open directory.
    pub fn of(root: &'t Tree) -> Self {
        Self { root, open: None }
    }

    /// The directory of a path beneath the root, and the name in it.
    ///
    /// # Errors
    /// Fails when the path has no file name, or when the directory cannot be opened, for example because its path
    /// contains a symbolic link.
    pub fn at<'p>(&mut self, path: &'p Path) -> io::Result<(&Tree, &'p OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        };
        if self.open.as_ref().is_none_or(|(known, _)| known.as_os_str() != folder.as_os_str()) {
            self.open = Some((folder.to_owned(), self.root.folder(folder)?));
        }
        match &self.open {
            Some((_, folder)) => Ok((folder, name)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    /// Opens a plain file that belongs to the user for reading, and returns it with its metadata.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails, and for a symbolic link or anything else that is not a plain file, which is not
    /// even opened.
    pub fn open(&mut self, path: &Path) -> io::Result<(File, FileStat)> {
        let (folder, name) = self.at(path)?;
        opened(folder.file(name)?)
    }

    /// Opens a plain file of one of our own layers for reading, without updating its access time.
    ///
    /// # Errors
    /// Fails when `openat(2)` fails, and for a symbolic link or anything else that is not a plain file.
    pub fn open_own(&mut self, path: &Path) -> io::Result<(File, FileStat)> {
        let (folder, name) = self.at(path)?;
        match openat(folder.as_fd(), name, READ | OFlag::O_NOATIME, Mode::empty()) {
            // Only the file's owner may use O_NOATIME.
            Err(Errno::EPERM) => opened(openat(folder.as_fd(), name, READ, Mode::empty())?.into()),
            file => opened(file?.into()),
        }
    }
}

/// Flags for files that were checked a moment ago: if a FIFO or a symbolic link has taken their place since, opening
/// neither blocks nor follows it.
const READ: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

fn opened(file: File) -> io::Result<(File, FileStat)> {
    let stat = fstat(&file)?;
    if Kind::of(&stat) == Kind::File { Ok((file, stat)) } else { Err(no_file()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};

    #[test]
    fn files_are_made_read_and_linked_in_several_folders() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::create_dir(at("b")).unwrap();
        let root = Tree::open(folder.path()).unwrap();
        let (mut one, mut other) = (Nearby::of(&root), Nearby::of(&root));
        for path in ["a/x", "a/y", "b/x"] {
            let (folder, name) = one.at(Path::new(path)).unwrap();
            folder.make_file(name, 0o600).unwrap().write_all(path.as_bytes()).unwrap();
        }
        let (folder, name) = one.at(Path::new("b/linked")).unwrap();
        let (from, old) = other.at(Path::new("a/x")).unwrap();
        folder.hard_link(name, from, old).unwrap();
        let mut text = String::new();
        one.open_own(Path::new("b/linked")).unwrap().0.read_to_string(&mut text).unwrap();
        one.open(Path::new("a/y")).unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a/xa/y");
        std::os::unix::fs::symlink("x", at("a/link")).unwrap();
        std::os::unix::fs::symlink("a", at("c")).unwrap();
        nix::unistd::mkfifo(&at("a/fifo"), Mode::S_IRUSR).unwrap();
        for path in ["a/link", "a/fifo", "c/x", "d/x", "/", "a"] {
            assert!(one.open(Path::new(path)).is_err() && one.open_own(Path::new(path)).is_err(), "{path}");
        }
    }
}

//! Access to an unpacked tree from outside: others wrote everything in it, so all access is by file descriptor.
//!
//! Links are followed as if the tree's root were `/`. Only regular files are opened, and reading them is bounded:
//! opening a FIFO would block forever, and opening a device has whatever effect that device has.

use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::libc::stat;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fchown, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// An unpacked tree, opened at its root.
pub struct Inside {
    root: OwnedFd,
}

/// The kind of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Folder,
    Link,
    /// An overlay whiteout, which hides something in the layers below.
    Whiteout,
    /// A FIFO, socket or device.
    Other,
}

impl Kind {
    fn of(stat: &stat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Folder,
            SFlag::S_IFLNK => Self::Link,
            SFlag::S_IFCHR if stat.st_rdev == 0 => Self::Whiteout,
            _ => Self::Other,
        }
    }
}

impl Inside {
    /// Opens the tree in a directory of our own.
    ///
    /// # Errors
    /// Fails when the directory cannot be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into() })
    }

    /// The kind of a path itself, without following a final link; `None` if it does not exist.
    ///
    /// # Errors
    /// Fails when links on the way form a loop, and on any other failure than absence.
    pub fn kind(&self, path: &str) -> io::Result<Option<Kind>> {
        let (parent, name) = split(path)?;
        let Some(parent) = present(sys::open_in_root(&self.root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY))? else {
            return Ok(None);
        };
        kind_at(&parent, name)
    }

    /// Opens a regular file, following links; `None` if it does not exist.
    ///
    /// # Errors
    /// Fails when it is not a regular file, and on any other failure than absence.
    pub fn file(&self, path: &str) -> io::Result<Option<File>> {
        let Some(found) = present(sys::open_in_root(&self.root, path, OFlag::O_PATH))? else { return Ok(None) };
        match Kind::of(&fstat(&found)?) {
            Kind::File => reopen(&found, OFlag::O_RDONLY).map(Some),
            kind => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is not a file, but a {kind:?}"))),
        }
    }

    /// The content of a file, if it exists.
    ///
    /// # Errors
    /// As for [`file`](Self::file); also fails when the file has more than `most` bytes.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(most + 1).read_to_end(&mut content)?;
        if content.len() as u64 > most {
            return Err(io::Error::other(format!("{path} has more than {most} bytes")));
        }
        Ok(Some(content))
    }

    /// The text of a file, if it exists.
    ///
    /// # Errors
    /// As for [`read`](Self::read); also fails when the file is not UTF-8.
    pub fn text(&self, path: &str, most: u64) -> io::Result<Option<String>> {
        let Some(content) = self.read(path, most)? else { return Ok(None) };
        String::from_utf8(content).map(Some).map_err(|_| io::Error::other(format!("{path} is not text")))
    }

    /// The names in a directory, sorted; empty if there is no directory.
    ///
    /// # Errors
    /// Fails on any other failure than absence.
    pub fn names(&self, path: &str) -> io::Result<Vec<OsString>> {
        let folder = present(sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
        folder.map_or_else(|| Ok(Vec::new()), |folder| names(&folder))
    }

    /// Resolves a path to an absolute path inside the tree, if it leads to a directory.
    ///
    /// # Errors
    /// Fails on any other failure than absence.
    pub fn real_folder(&self, path: &str) -> io::Result<Option<std::path::PathBuf>> {
        match present(sys::open_in_root(&self.root, path, OFlag::O_PATH | OFlag::O_DIRECTORY))? {
            Some(_) => sys::resolve_in_root(&self.root, Path::new(path)).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a file, replacing whatever was there; but a link to a file of the tree stays, and its target is written.
    ///
    /// # Errors
    /// Fails when a directory is in its place, when links form a loop, or when the file cannot be written.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<File> {
        let (parent, name) = split(path)?;
        let parent = sys::make_folders_in_root(&self.root, parent, 0o755)?;
        if kind_at(&parent, name)? == Some(Kind::Link) {
            // The file replaces a dangling link.
            if let Some(found) = present(sys::open_in_root(&self.root, path, OFlag::O_PATH))? {
                let Kind::File = Kind::of(&fstat(&found)?) else {
                    return Err(io::Error::other(format!("{path} does not lead to a file")));
                };
                return fill(reopen(&found, OFlag::O_WRONLY | OFlag::O_TRUNC)?, content, mode);
            }
        }
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&parent, name, flags, Mode::from_bits_truncate(0o600))?;
        fill(file.into(), content, mode)
    }

    /// Makes a link, unless something is there.
    ///
    /// # Errors
    /// Fails when the link or one of its parent directories cannot be made.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let parent = sys::make_folders_in_root(&self.root, parent, 0o755)?;
        match symlinkat(target, &parent, name) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory with these permissions, and its missing parents.
    ///
    /// # Errors
    /// Fails when one of them cannot be made.
    pub fn folder(&self, path: &str, mode: u32) -> io::Result<()> {
        let made = sys::make_folders_in_root(&self.root, Path::new(path), 0o755)?;
        let made = sys::open_in_root(&made, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(fchmod(&made, Mode::from_bits_truncate(mode))?)
    }

    /// Removes a directory if it exists and is empty, and nothing else.
    ///
    /// # Errors
    /// Fails when it cannot be removed.
    pub fn remove_empty_folder(&self, path: &str) -> io::Result<()> {
        if self.kind(path)? == Some(Kind::Folder) { sys::remove_if_empty(&self.root, Path::new(path)) } else { Ok(()) }
    }

    /// Opens a directory, if it exists and no link is on the way to it.
    ///
    /// # Errors
    /// Fails on any other failure than absence or a link.
    pub fn plain_folder(&self, path: &str) -> io::Result<Option<Folder>> {
        let how = OpenHow::new()
            .flags(FOLDER | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match nix::fcntl::openat2(&self.root, path, how) {
            Ok(folder) => Ok(Some(Folder(folder))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sets a file's owner, and then its permissions, because a change of owner clears some permission bits.
///
/// # Errors
/// Fails when `fchown(2)` or `fchmod(2)` fails.
pub fn own(file: &File, user: u32, group: u32, mode: u32) -> io::Result<()> {
    fchown(file, Some(user.into()), Some(group.into()))?;
    Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
}

/// An open directory: operations affect its own entries, and never follow a link.
pub struct Folder(OwnedFd);

impl Folder {
    /// The names in it, sorted.
    ///
    /// # Errors
    /// Fails when the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.0)
    }

    /// The kind of an entry, if it exists.
    ///
    /// # Errors
    /// Fails when `fstatat(2)` fails.
    pub fn kind(&self, name: &OsStr) -> io::Result<Option<Kind>> {
        kind_at(&self.0, name)
    }

    /// Opens a directory in it.
    ///
    /// # Errors
    /// Fails when the entry is not a directory or cannot be opened.
    pub fn folder(&self, name: &OsStr) -> io::Result<Self> {
        let opened = nix::fcntl::openat(&self.0, name, FOLDER | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self(opened))
    }

    /// Opens a regular file in it, for reading and writing.
    ///
    /// # Errors
    /// Fails when the entry is not a regular file or cannot be opened.
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        let found = nix::fcntl::openat(&self.0, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        if Kind::of(&fstat(&found)?) != Kind::File {
            return Err(io::Error::other(format!("{} is not a file", Path::new(name).display())));
        }
        reopen(&found, OFlag::O_RDWR)
    }

    /// Removes an entry that is not a directory.
    ///
    /// # Errors
    /// Fails when `unlinkat(2)` fails.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

/// Opens a file for reading or writing that was found to be a regular file; its descriptor still refers to that file.
fn reopen(found: &OwnedFd, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(nix::fcntl::open(path.as_str(), flags, Mode::empty())?.into())
}

fn fill(mut file: File, content: &[u8], mode: u32) -> io::Result<File> {
    file.write_all(content)?;
    fchmod(&file, Mode::from_bits_truncate(mode))?;
    Ok(file)
}

fn kind_at(folder: impl AsFd, name: &OsStr) -> io::Result<Option<Kind>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Kind::of(&stat))),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    let mut names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Turns absence into `None`; every other failure stays an error.
fn present(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory that a path is in, and its name there.
fn split(path: &str) -> io::Result<(&Path, &OsStr)> {
    let path = Path::new(path);
    let name = path.file_name().ok_or_else(|| io::Error::other(format!("{} names no file", path.display())))?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fifo(path: &Path) {
        nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (at, target) = (|path: &str| root.path().join(path), outside.path().join("file"));
        fs::write(&target, "host").unwrap();
        fs::create_dir_all(at("var")).unwrap();
        symlink(&target, at("var/status")).unwrap();
        symlink(outside.path(), at("var/folder")).unwrap();
        symlink("/var/real", at("alias")).unwrap();
        symlink("loop", at("loop")).unwrap();
        fs::write(at("var/real"), "old").unwrap();
        let tree = Inside::open(root.path()).unwrap();
        assert_eq!(tree.read("/var/status", 9).unwrap(), None, "it leads to nothing inside");
        tree.write("/var/status", b"package", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "host");
        assert_eq!(fs::read_to_string(at("var/status")).unwrap(), "package");
        assert!(tree.write("/var/folder/x", b"", 0o644).is_err(), "its parent leads to nothing");
        assert!(tree.folder("/var/folder/x", 0o755).is_err() && tree.link("/var/folder/x", "y").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        tree.write("/alias", b"new", 0o600).unwrap();
        assert!(at("alias").is_symlink() && fs::read_to_string(at("var/real")).unwrap() == "new");
        for failed in [tree.write("/loop", b"", 0o644).map(drop), tree.write("/loop/x", b"", 0o644).map(drop)] {
            assert!(failed.is_err(), "nothing can be written through a loop of links");
        }
        assert!(tree.read("/loop", 9).is_err() && tree.kind("/loop/x").is_err());
        assert!(tree.plain_folder("alias").unwrap().is_none() && tree.plain_folder("var").unwrap().is_some());
    }

    #[test]
    fn only_files_are_opened_and_no_further_than_they_may_reach() {
        let root = tempfile::tempdir().unwrap();
        fifo(&root.path().join("fifo"));
        symlink("fifo", root.path().join("link")).unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        fs::write(root.path().join("file"), "12345").unwrap();
        let tree = Inside::open(root.path()).unwrap();
        for path in ["fifo", "link", "folder"] {
            assert!(tree.read(path, 9).unwrap_err().to_string().contains("is not a file"), "{path}");
        }
        assert_eq!(tree.read("file", 5).unwrap().unwrap(), b"12345");
        assert!(tree.read("file", 4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert_eq!(tree.read("file/x", 4).unwrap(), None);
        tree.write("fifo", b"now a file", 0o600).unwrap();
        assert_eq!(tree.kind("fifo").unwrap(), Some(Kind::File));
        assert!(tree.write("folder", b"", 0o600).is_err());
        assert!(tree.write("..", b"", 0o600).is_err() && tree.write("/", b"", 0o600).is_err());
    }
}

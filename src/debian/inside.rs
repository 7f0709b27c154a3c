//! An unpacked tree from outside: everything in it was written by others, so it is held by descriptor.
//!
//! Links are followed as if the tree's root were `/`. Only regular files are opened, and only as far as they may
//! reach: opening a FIFO would wait for ever, and opening a device does whatever that device does.

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

/// A tree.
pub struct Inside {
    root: OwnedFd,
}

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Folder,
    Link,
    /// What hides something of the layers below (overlay's whiteout).
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
    /// The tree in a directory of ours.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into() })
    }

    /// What a path is itself, if it is there.
    ///
    /// # Errors
    /// Links on the way that lead in circles, and other failures than absence.
    pub fn kind(&self, path: &str) -> io::Result<Option<Kind>> {
        let (parent, name) = split(path)?;
        let Some(parent) = present(sys::open_in_root(&self.root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY))? else {
            return Ok(None);
        };
        kind_at(&parent, name)
    }

    /// A regular file, links followed; nothing where there is none.
    ///
    /// # Errors
    /// Failures other than absence, and what is no regular file.
    pub fn file(&self, path: &str) -> io::Result<Option<File>> {
        let Some(found) = present(sys::open_in_root(&self.root, path, OFlag::O_PATH))? else { return Ok(None) };
        match Kind::of(&fstat(&found)?) {
            Kind::File => reopen(&found, OFlag::O_RDONLY).map(Some),
            kind => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is no file, but a {kind:?}"))),
        }
    }

    /// The content of a file, if it is there.
    ///
    /// # Errors
    /// Those of [`file`](Self::file); one that is longer than this.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(most + 1).read_to_end(&mut content)?;
        if content.len() as u64 > most {
            return Err(io::Error::other(format!("{path} has more than {most} bytes")));
        }
        Ok(Some(content))
    }

    /// The text of a file, if it is there.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); one that is not UTF-8.
    pub fn text(&self, path: &str, most: u64) -> io::Result<Option<String>> {
        let Some(content) = self.read(path, most)? else { return Ok(None) };
        String::from_utf8(content).map(Some).map_err(|_| io::Error::other(format!("{path} is not text")))
    }

    /// The names in a directory, sorted; none where there is no directory.
    ///
    /// # Errors
    /// Failures other than absence.
    pub fn names(&self, path: &str) -> io::Result<Vec<OsString>> {
        let folder = present(sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
        folder.map_or_else(|| Ok(Vec::new()), |folder| names(&folder))
    }

    /// Where a path leads, as an absolute path inside, if it leads to a directory.
    ///
    /// # Errors
    /// Failures other than absence.
    pub fn real_folder(&self, path: &str) -> io::Result<Option<std::path::PathBuf>> {
        match present(sys::open_in_root(&self.root, path, OFlag::O_PATH | OFlag::O_DIRECTORY))? {
            Some(_) => sys::resolve_in_root(&self.root, Path::new(path)).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a file, whatever was there; a link to a file of the tree stays, and that file is written.
    ///
    /// # Errors
    /// A directory in its place, links that lead in circles, failures to write.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<File> {
        let (parent, name) = split(path)?;
        let parent = sys::make_folders_in_root(&self.root, parent, 0o755)?;
        if kind_at(&parent, name)? == Some(Kind::Link) {
            // A link that leads to nothing is replaced by the file.
            if let Some(found) = present(sys::open_in_root(&self.root, path, OFlag::O_PATH))? {
                let Kind::File = Kind::of(&fstat(&found)?) else {
                    return Err(io::Error::other(format!("{path} leads to what is no file")));
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
    /// Those of making it and the directories on its way.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let parent = sys::make_folders_in_root(&self.root, parent, 0o755)?;
        match symlinkat(target, &parent, name) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory with these permissions, and those on its way.
    ///
    /// # Errors
    /// Those of making them.
    pub fn folder(&self, path: &str, mode: u32) -> io::Result<()> {
        let made = sys::make_folders_in_root(&self.root, Path::new(path), 0o755)?;
        let made = sys::open_in_root(&made, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(fchmod(&made, Mode::from_bits_truncate(mode))?)
    }

    /// Removes a directory if it is there and empty; nothing else.
    ///
    /// # Errors
    /// Those of removing it.
    pub fn remove_empty_folder(&self, path: &str) -> io::Result<()> {
        if self.kind(path)? == Some(Kind::Folder) { sys::remove_if_empty(&self.root, Path::new(path)) } else { Ok(()) }
    }

    /// A directory that is there without any link on the way to it.
    ///
    /// # Errors
    /// Failures other than absence and links.
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

/// Gives a file its owner, who takes bits of its permissions away, and these.
///
/// # Errors
/// Those of `fchown(2)` and `fchmod(2)`.
pub fn own(file: &File, user: u32, group: u32, mode: u32) -> io::Result<()> {
    fchown(file, Some(user.into()), Some(group.into()))?;
    Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
}

/// An open directory: what is done with it is done to what is in it, not to what is behind a link.
pub struct Folder(OwnedFd);

impl Folder {
    /// The names in it, sorted.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.0)
    }

    /// What one of them is, if it is there.
    ///
    /// # Errors
    /// Those of `fstatat(2)`.
    pub fn kind(&self, name: &OsStr) -> io::Result<Option<Kind>> {
        kind_at(&self.0, name)
    }

    /// A directory in it.
    ///
    /// # Errors
    /// What is none.
    pub fn folder(&self, name: &OsStr) -> io::Result<Self> {
        let opened = nix::fcntl::openat(&self.0, name, FOLDER | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self(opened))
    }

    /// A regular file in it, for reading and writing.
    ///
    /// # Errors
    /// What is none.
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        let found = nix::fcntl::openat(&self.0, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        if Kind::of(&fstat(&found)?) != Kind::File {
            return Err(io::Error::other(format!("{} is no file", Path::new(name).display())));
        }
        reopen(&found, OFlag::O_RDWR)
    }

    /// Removes what is not a directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

/// Opens for real what was found to be a regular file: the descriptor keeps naming that file.
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

/// Absence is an answer; everything else stays an error.
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
        assert!(tree.write("/var/folder/x", b"", 0o644).is_err(), "its way leads to nothing");
        assert!(tree.folder("/var/folder/x", 0o755).is_err() && tree.link("/var/folder/x", "y").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        tree.write("/alias", b"new", 0o600).unwrap();
        assert!(at("alias").is_symlink() && fs::read_to_string(at("var/real")).unwrap() == "new");
        for failed in [tree.write("/loop", b"", 0o644).map(drop), tree.write("/loop/x", b"", 0o644).map(drop)] {
            assert!(failed.is_err(), "links in circles are no place");
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
            assert!(tree.read(path, 9).unwrap_err().to_string().contains("is no file"), "{path}");
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

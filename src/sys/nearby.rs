//! Files of one folder after another: a folder's path is looked up once for all that stand together in it.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The folder that was used last.
#[derive(Debug, Default)]
pub struct Nearby {
    open: Option<(PathBuf, OwnedFd)>,
}

impl Nearby {
    /// The folder of a path, and the name in it.
    fn of<'p>(&mut self, path: &'p Path) -> io::Result<(&OwnedFd, &'p OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        };
        if self.open.as_ref().is_none_or(|(known, _)| known.as_os_str() != folder.as_os_str()) {
            let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.open = Some((folder.to_owned(), nix::fcntl::open(shown, flags, Mode::empty())?));
        }
        match &self.open {
            Some((_, folder)) => Ok((folder, name)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    /// Looks at what a path, and a link there, leads to.
    ///
    /// # Errors
    /// Those of `fstatat(2)`.
    pub fn look(&mut self, path: &Path) -> io::Result<FileStat> {
        let (folder, name) = self.of(path)?;
        Ok(fstatat(folder, name, AtFlags::empty())?)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn open(&mut self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.of(path)?;
        Ok(openat(folder, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
    }

    /// Opens a file of our own for reading; a link is not followed, and that it was read is not noted in it.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn open_own(&mut self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.of(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match openat(folder, name, flags | OFlag::O_NOATIME, Mode::empty()) {
            // Only owners may ask for that.
            Err(Errno::EPERM) => Ok(openat(folder, name, flags, Mode::empty())?.into()),
            opened => Ok(opened?.into()),
        }
    }

    /// Makes a new file that has its permissions from the start, as far as the umask lets it.
    ///
    /// # Errors
    /// Those of `openat(2)`; a file or link that is there.
    pub fn create(&mut self, path: &Path, mode: u32) -> io::Result<File> {
        let (folder, name) = self.of(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        Ok(openat(folder, name, flags, Mode::from_bits_truncate(mode & 0o777))?.into())
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// Those of `linkat(2)`.
    pub fn link(&mut self, from: &mut Self, old: &Path, new: &Path) -> io::Result<()> {
        let (from, old) = from.of(old)?;
        let (to, new) = self.of(new)?;
        Ok(nix::unistd::linkat(from, old, to, new, AtFlags::empty())?)
    }
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
        let (mut one, mut other) = (Nearby::default(), Nearby::default());
        for name in ["a/x", "a/y", "b/x"] {
            one.create(&at(name), 0o600).unwrap().write_all(name.as_bytes()).unwrap();
        }
        assert_eq!(one.create(&at("a/x"), 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        one.link(&mut other, &at("a/x"), &at("b/linked")).unwrap();
        let mut text = String::new();
        one.open_own(&at("b/linked")).unwrap().read_to_string(&mut text).unwrap();
        one.open(&at("a/y")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a/xa/y");
        std::os::unix::fs::symlink("x", at("a/link")).unwrap();
        assert!(one.open_own(&at("a/link")).is_err() && one.open(&at("a/link")).is_ok());
        assert_eq!(one.look(&at("a/link")).unwrap().st_ino, other.look(&at("b/linked")).unwrap().st_ino);
        assert_eq!(one.open(&at("c/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(one.open(Path::new("/")).is_err());
    }
}

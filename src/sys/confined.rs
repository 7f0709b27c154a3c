//! The files of a project, opened relative to the descriptor of its directory.
//!
//! A cloned directory may contain anything: symbolic links to other files of this machine, FIFOs that make a
//! reader wait for ever, device nodes, endless files. Such files are opened here and nowhere else: they are
//! checked before they are opened, opening them never blocks, and they are read only up to a limit.

use crate::model::Amount;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

/// The directory of a project.
#[derive(Debug)]
pub struct ProjectFiles {
    root: OwnedFd,
}

/// Why a file of a project cannot be used. The message names the cause and, where possible, a remedy.
#[derive(Debug)]
pub enum Unread {
    Absent,
    Denied,
    /// The path, or a symbolic link in it, leads out of the project's directory.
    LeadsOut,
    Folder,
    /// It is neither a regular file nor a directory.
    Special(&'static str),
    /// It is longer than this number of bytes.
    TooLong(u64),
    Other(io::Error),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such file"),
            Self::Denied => f.write_str("permission denied"),
            Self::LeadsOut => f.write_str("it leads out of the project's directory; a project's own files must be inside it"),
            Self::Folder => f.write_str("it is a directory"),
            Self::Special(kind) => write!(f, "it is {kind}; put an ordinary file in its place"),
            Self::TooLong(limit) => write!(f, "it is longer than {}", Amount::Bytes(*limit)),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Unread {}

impl From<Errno> for Unread {
    fn from(error: Errno) -> Self {
        match error {
            Errno::ENOENT | Errno::ENOTDIR => Self::Absent,
            Errno::EACCES | Errno::EPERM => Self::Denied,
            Errno::EXDEV => Self::LeadsOut,
            other => Self::Other(other.into()),
        }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

/// An opened file or directory of a project.
#[derive(Debug)]
pub enum Opened {
    File(File),
    Folder(File),
}

impl ProjectFiles {
    /// Opens a project's directory and keeps it open.
    ///
    /// # Errors
    /// Fails when `open(2)` fails.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: nix::fcntl::open(folder, flags, Mode::empty())? })
    }

    /// Reads one of the project's own files. It must be inside the project's directory, and so must everything it links to.
    ///
    /// # Errors
    /// Returns the reason why it cannot be read.
    pub fn own(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Unread> {
        match self.open(path)? {
            Opened::File(file) => up_to(&file, limit),
            Opened::Folder(_) => Err(Unread::Folder),
        }
    }

    /// Reads a file that the project passes on: a secret, a filter, a key. An absolute path, or one with `..`, is outside
    /// on purpose, and the plan shows it; symbolic links in the project's directory must not lead outside.
    ///
    /// # Errors
    /// Returns the reason why it cannot be read.
    pub fn named(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Unread> {
        let path = path.as_ref();
        if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return self.own(path, limit);
        }
        match open(self.root.as_fd(), path, ResolveFlag::empty())? {
            Opened::File(file) => up_to(&file, limit),
            Opened::Folder(_) => Err(Unread::Folder),
        }
    }

    /// Opens a file or a directory inside the project's directory.
    ///
    /// # Errors
    /// Returns the reason why it cannot be opened, for example because it is neither a file nor a directory.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Opened, Unread> {
        open(self.root.as_fd(), path.as_ref(), ResolveFlag::RESOLVE_BENEATH)
    }

    /// Whether there is a symbolic link at this path, wherever it leads.
    ///
    /// # Errors
    /// Returns the reason why that is not known.
    pub fn is_link(&self, path: impl AsRef<Path>) -> Result<bool, Unread> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match look_up_with(self.root.as_fd(), path.as_ref(), flags, ResolveFlag::RESOLVE_BENEATH) {
            Ok(found) => Ok(fstat(found)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits()),
            Err(Unread::Absent) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// A file's device number and inode number. Two paths with the same numbers lead to the same file.
    pub fn identity(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let found = look_up(self.root.as_fd(), path.as_ref(), ResolveFlag::RESOLVE_BENEATH).ok()?;
        fstat(found).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }
}

/// Opens a file that the user named, wherever it is. This is not for files of a project.
///
/// # Errors
/// Returns the reason why it cannot be opened, for example that it does not exist or is not a regular file.
pub fn open_regular(path: &Path) -> Result<File, Unread> {
    match open(AT_FDCWD, path, ResolveFlag::empty())? {
        Opened::File(file) => Ok(file),
        Opened::Folder(_) => Err(Unread::Folder),
    }
}

/// Reads a file that the user named, up to a limit.
///
/// # Errors
/// Fails when [`open_regular`] fails or the file is too long.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, Unread> {
    up_to(&open_regular(path)?, limit)
}

/// Reads a file up to a limit. Its length in the metadata is not trusted: for files in `/proc` it is 0.
///
/// # Errors
/// Fails when `read(2)` fails or the file is too long.
pub fn up_to(file: &File, limit: u64) -> Result<Vec<u8>, Unread> {
    let expected = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(Unread::TooLong(limit)) } else { Ok(bytes) }
}

/// Finds what a path leads to, without opening it.
fn look_up(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Unread> {
    look_up_with(root, path, OFlag::O_PATH | OFlag::O_CLOEXEC, resolve)
}

fn look_up_with(root: BorrowedFd<'_>, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Unread> {
    let how = OpenHow::new().flags(flags).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // The kernel asks for a retry when something was renamed meanwhile (openat2(2), EAGAIN).
    let mut tries = 0;
    loop {
        match nix::fcntl::openat2(root, path, how) {
            Err(Errno::EAGAIN) if tries < 64 => tries += 1,
            found => return Ok(found?),
        }
    }
}

fn open(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> Result<Opened, Unread> {
    let found = look_up(root, path, resolve)?;
    let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFREG | SFlag::S_IFDIR => {}
        SFlag::S_IFIFO => return Err(Unread::Special("a FIFO")),
        SFlag::S_IFSOCK => return Err(Unread::Special("a socket")),
        _ => return Err(Unread::Special("a device")),
    }
    // Only now is it opened, and it is exactly what was checked: opening a device may have side effects. With
    // O_NONBLOCK, files of the kernel that wait for events do not block us.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let shown = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::from(nix::fcntl::open(shown.as_str(), flags, Mode::empty())?);
    Ok(if kind == SFlag::S_IFDIR { Opened::Folder(file) } else { Opened::File(file) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn ground() -> (tempfile::TempDir, ProjectFiles) {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        fs::create_dir_all(project.join("sub")).unwrap();
        fs::write(folder.path().join("outside"), "outside").unwrap();
        fs::write(project.join("inside"), "inside").unwrap();
        symlink("../inside", project.join("sub/in")).unwrap();
        symlink("../../outside", project.join("sub/out")).unwrap();
        symlink("/dev/zero", project.join("zero")).unwrap();
        symlink("/proc/self/fd/0", project.join("magic")).unwrap();
        nix::unistd::mkfifo(&project.join("fifo"), Mode::S_IRWXU).unwrap();
        let files = ProjectFiles::at(&project).unwrap();
        (folder, files)
    }

    #[test]
    fn own_files_lie_inside() {
        let (folder, files) = ground();
        let own = |path: &str| files.own(path, 100);
        assert_eq!(own("inside").unwrap(), b"inside");
        assert_eq!(own("sub/in").unwrap(), b"inside");
        assert_eq!(own("sub/../inside").unwrap(), b"inside");
        let absolute = folder.path().join("project/inside").display().to_string();
        for path in ["sub/out", "../outside", "/etc/hostname", "/proc/self/environ", "zero", "magic", &absolute] {
            assert!(matches!(own(path), Err(Unread::LeadsOut)), "{path}");
        }
        assert!(matches!(own("nowhere"), Err(Unread::Absent)));
        assert!(matches!(own("inside/x"), Err(Unread::Absent)));
        assert!(matches!(own("sub"), Err(Unread::Folder)));
        assert!(matches!(own("fifo"), Err(Unread::Special("a FIFO"))));
        assert!(matches!(files.own("inside", 5), Err(Unread::TooLong(5))));
        assert_eq!(files.own("inside", 6).unwrap(), b"inside");
        assert_eq!(files.identity("sub/in"), files.identity("inside"));
        assert_eq!(files.identity("sub/out"), None);
        for (path, link) in
            [("sub/in", true), ("sub/out", true), ("zero", true), ("inside", false), ("sub", false), ("no", false)]
        {
            assert_eq!(files.is_link(path).unwrap(), link, "{path}");
        }
        assert!(files.is_link("../outside").is_err());
    }

    #[test]
    fn named_files_may_be_elsewhere_if_their_path_says_so() {
        let (folder, files) = ground();
        let named = |path: &str| files.named(path, 100);
        assert_eq!(named("../outside").unwrap(), b"outside");
        assert_eq!(named(folder.path().join("outside").to_str().unwrap()).unwrap(), b"outside");
        assert_eq!(named("./inside").unwrap(), b"inside");
        assert!(matches!(named("sub/out"), Err(Unread::LeadsOut)));
        assert!(matches!(named("/dev/zero"), Err(Unread::Special("a device"))));
        assert!(matches!(named("/proc/self/fd/0"), Err(Unread::Other(_))), "a link in /proc is not a path");
        // The length that a file of the kernel reports is not trusted.
        assert!(matches!(files.named("/proc/self/status", 16), Err(Unread::TooLong(16))));
    }
}

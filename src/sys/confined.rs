//! The files that a project consists of, by the descriptor of its directory.
//!
//! A directory that somebody cloned may hold anything: links to other files of this machine, FIFOs that make a
//! reader wait for ever, device nodes, files without an end. Here, and nowhere else, such files are opened:
//! looked at before they are opened, never waited for, and read up to a limit.

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

/// Why a file of a project cannot be used: the cause, and the way out.
#[derive(Debug)]
pub enum Unread {
    Absent,
    Denied,
    /// It, or a link on its way, leads out of the project's directory.
    LeadsOut,
    Folder,
    /// Something that is no file at all.
    Special(&'static str),
    /// It has more bytes than this.
    TooLong(u64),
    Other(io::Error),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such file"),
            Self::Denied => f.write_str("permission denied"),
            Self::LeadsOut => f.write_str("it leads out of the project's directory; what a project is made of lies in it"),
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

/// Something that lies in a project's directory, opened.
#[derive(Debug)]
pub enum Opened {
    File(File),
    Folder(File),
}

impl ProjectFiles {
    /// Holds a directory.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: nix::fcntl::open(folder, flags, Mode::empty())? })
    }

    /// A file that the project is made of; it lies in the project's directory, and so does all that it links to.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn own(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Unread> {
        match self.open(path)? {
            Opened::File(file) => up_to(&file, limit),
            Opened::Folder(_) => Err(Unread::Folder),
        }
    }

    /// A file that the project hands on: a secret, a filter, a key. One whose path is absolute, or climbs with
    /// `..`, is elsewhere on purpose, and the plan says so; links of the project's directory do not lead there.
    ///
    /// # Errors
    /// Why it cannot be read.
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

    /// A file or a directory that lies in the project's directory.
    ///
    /// # Errors
    /// Why it cannot be opened; what is neither.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Opened, Unread> {
        open(self.root.as_fd(), path.as_ref(), ResolveFlag::RESOLVE_BENEATH)
    }

    /// The number of a file's device, and of the file on it: two paths with the same lead to the same file.
    pub fn identity(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let found = look_up(self.root.as_fd(), path.as_ref(), ResolveFlag::RESOLVE_BENEATH).ok()?;
        fstat(found).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }
}

/// A file that a person named, wherever it is; no file of a project.
///
/// # Errors
/// Why it cannot be opened: it is absent, no ordinary file …
pub fn open_regular(path: &Path) -> Result<File, Unread> {
    match open(AT_FDCWD, path, ResolveFlag::empty())? {
        Opened::File(file) => Ok(file),
        Opened::Folder(_) => Err(Unread::Folder),
    }
}

/// What a file of a person has, up to a limit.
///
/// # Errors
/// Those of [`open_regular`]; a file that is too long.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, Unread> {
    up_to(&open_regular(path)?, limit)
}

/// What a file has, up to a limit; its length says nothing, for that of a file of `/proc` is 0.
///
/// # Errors
/// Those of `read(2)`; a file that is too long.
pub fn up_to(file: &File, limit: u64) -> Result<Vec<u8>, Unread> {
    let expected = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(Unread::TooLong(limit)) } else { Ok(bytes) }
}

/// Finds what a path leads to, without opening it.
fn look_up(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Unread> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // The kernel asks for another try when something was renamed meanwhile (openat2(2), EAGAIN).
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
    // Only now, and exactly what was looked at, is it opened: opening a device may do something. Files of the
    // kernel that wait for news do not make us wait.
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
        assert!(matches!(named("/proc/self/fd/0"), Err(Unread::Other(_))), "a link of /proc is no path");
        // What a file of the kernel says of its length is not believed.
        assert!(matches!(files.named("/proc/self/status", 16), Err(Unread::TooLong(16))));
    }
}

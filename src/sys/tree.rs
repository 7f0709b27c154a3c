//! A directory that is held open, in a place that somebody else may change while we work on it.
//!
//! Everything in a container's root, a layer, a volume, a build's context or a target of `cp` is reached from
//! such a descriptor and handled by descriptor. Beneath it, symbolic links are never followed (`openat2`,
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), so a name that became a link a moment ago causes an error and cannot be
//! used to escape (CVE-2018-15664, CVE-2024-23651 and similar ones). The callers decide what is done there.

use super::{c_path, check, set_attribute_of};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fstat, fstatat};
use nix::unistd::UnlinkatFlags;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How many nested directories are held open while a tree is removed. Deeper ones are moved up first.
const DEEP: usize = 64;

/// The kind of a directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Folder,
    File,
    Link,
    Fifo,
    Socket,
    Character,
    Block,
}

impl Kind {
    /// The kind that `stat` reports.
    pub fn of(stat: &FileStat) -> Self {
        match stat.st_mode & SFlag::S_IFMT.bits() {
            libc::S_IFDIR => Self::Folder,
            libc::S_IFLNK => Self::Link,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::Character,
            libc::S_IFBLK => Self::Block,
            _ => Self::File,
        }
    }

    /// The kind that a directory entry reports (`readdir(3)`), if the file system supports that.
    fn told(kind: u8) -> Option<Self> {
        Some(match kind {
            libc::DT_DIR => Self::Folder,
            libc::DT_REG => Self::File,
            libc::DT_LNK => Self::Link,
            libc::DT_FIFO => Self::Fifo,
            libc::DT_SOCK => Self::Socket,
            libc::DT_CHR => Self::Character,
            libc::DT_BLK => Self::Block,
            _ => return None,
        })
    }
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: OsString,
    pub kind: Kind,
    /// The inode number as the directory reports it; the file's own may differ.
    pub inode: u64,
}

/// Owner, permissions and modification time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    pub owner: (u32, u32),
    pub mode: u32,
    /// Seconds and nanoseconds since 1970.
    pub time: (i64, i64),
}

impl Facts {
    /// Takes them from a file's metadata.
    pub fn of(stat: &FileStat) -> Self {
        Self { owner: (stat.st_uid, stat.st_gid), mode: stat.st_mode & 0o7777, time: (stat.st_mtime, stat.st_mtime_nsec) }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Tree {
    /// Opens a directory by a path that is our own or that the user gave. Symbolic links in it are followed.
    ///
    /// # Errors
    /// Fails when `open(2)` fails.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory of our own that nobody else may enter, and creates it and its parents if necessary.
    ///
    /// # Errors
    /// Fails when `mkdir(2)` or `open(2)` fails.
    pub fn private(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)
    }

    /// Opens the directory at a path beneath a root, following symbolic links as if the root were `/`.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails.
    pub fn in_root(root: impl AsFd, path: &Path) -> io::Result<Self> {
        Ok(Self(super::open_in_root(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY)?))
    }

    /// Like [`Tree::in_root`], but fails with `EXDEV` when a mount lies on the way.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails.
    pub fn on_mount(root: impl AsFd, path: &Path) -> io::Result<Self> {
        Ok(Self(super::open_on_mount(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY)?))
    }

    fn beneath(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(nix::fcntl::openat2(&self.0, path, how)?)
    }

    /// Opens a directory beneath this one.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails, and when the path is or contains a symbolic link.
    pub fn folder(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.beneath(path.as_ref(), OFlag::O_PATH | OFlag::O_DIRECTORY).map(Self)
    }

    /// Opens a directory beneath this one and reads its entries, unsorted.
    ///
    /// # Errors
    /// Fails like [`Tree::folder`], and when `getdents64(2)` fails.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<(Self, Vec<Listed>)> {
        let folder = Self(self.beneath(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?);
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 32 << 10];
        loop {
            // SAFETY: the descriptor is open and the buffer has the length that is passed.
            let length =
                check(unsafe { libc::syscall(libc::SYS_getdents64, folder.0.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })?;
            let mut rest = buffer.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            if rest.is_empty() {
                return Ok((folder, found));
            }
            while let Some((entry, after)) = Entry::take(rest) {
                rest = after;
                if entry.name != b"." && entry.name != b".." {
                    let name = OsString::from_vec(entry.name.to_vec());
                    let kind = Kind::told(entry.kind);
                    let kind = kind.map_or_else(|| folder.stat(&name).map(|stat| Kind::of(&stat)), Ok)?;
                    found.push(Listed { name, kind, inode: entry.inode });
                }
            }
        }
    }

    /// The entries of this directory, sorted.
    ///
    /// # Errors
    /// Fails like [`Tree::read`].
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let (_, mut found) = self.read(".")?;
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Opens a plain file beneath this directory for reading.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails, when the path contains a symbolic link, and for anything but a plain file. That is not
    /// even opened: opening a device may have side effects, and opening a FIFO may block.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        read_plain(&self.beneath(path.as_ref(), OFlag::O_PATH | OFlag::O_NOFOLLOW)?)
    }

    /// The metadata of this directory itself.
    ///
    /// # Errors
    /// Fails when `fstat(2)` fails.
    pub fn facts(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.0)?)
    }

    /// What tells this directory from every other one, also from one that had its place before: its inode number, which is used
    /// again, and the time of its creation, if the file system keeps that (statx(2), `STATX_BTIME`).
    ///
    /// # Errors
    /// Fails when `statx(2)` fails.
    pub fn birth(&self) -> io::Result<String> {
        let metadata = File::from(self.0.try_clone()?).metadata()?;
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born = born.map(|since| format!(" {}.{:09}", since.as_secs(), since.subsec_nanos())).unwrap_or_default();
        Ok(format!("{}{born}", metadata.ino()))
    }

    /// The metadata of an entry; a symbolic link is not followed.
    ///
    /// # Errors
    /// Fails when `fstatat(2)` fails.
    pub fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(fstatat(&self.0, one(name)?, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Like [`Tree::stat`], but returns `None` for an entry that does not exist.
    ///
    /// # Errors
    /// Fails when `fstatat(2)` fails for another reason.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// Fails when `readlinkat(2)` fails.
    pub fn link(&self, name: &OsStr) -> io::Result<OsString> {
        Ok(nix::fcntl::readlinkat(&self.0, one(name)?)?)
    }

    /// Creates a directory that does not exist yet, and opens it.
    ///
    /// # Errors
    /// Fails when `mkdirat(2)` fails or the new directory cannot be opened.
    pub fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        nix::sys::stat::mkdirat(&self.0, one(name)?, Mode::from_bits_truncate(mode))?;
        self.folder(name)
    }

    /// Creates the missing directories of a path beneath this one, and opens the last.
    ///
    /// # Errors
    /// Fails when `mkdirat(2)` fails, when the path leads out of the tree, and when there is a symbolic link or a file in the
    /// place of a directory.
    pub fn make_folders(&self, path: &Path, mode: u32) -> io::Result<Self> {
        let mut at = self.folder(".")?;
        for part in path.components() {
            match part {
                Component::Normal(part) => match at.make_folder(part, mode) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at = at.folder(part)?,
                    made => at = made?,
                },
                Component::CurDir => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the tree")),
            }
        }
        Ok(at)
    }

    /// Creates a new file for writing. It has the given permissions from the start, reduced by the umask.
    ///
    /// # Errors
    /// Fails when `openat(2)` fails, and when the name exists already.
    pub fn make_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(nix::fcntl::openat(&self.0, one(name)?, flags, Mode::from_bits_truncate(mode & 0o777))?.into())
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// Fails when `symlinkat(2)` fails.
    pub fn make_link(&self, name: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::symlinkat(to, &self.0, one(name)?)?)
    }

    /// Creates a FIFO.
    ///
    /// # Errors
    /// Fails when `mknodat(2)` fails.
    pub fn make_fifo(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::sys::stat::mknodat(&self.0, one(name)?, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?)
    }

    /// Creates a whiteout, which hides what lower layers have under this name: for overlayfs a device 0:0.
    ///
    /// # Errors
    /// Fails when `mknodat(2)` fails.
    pub fn make_whiteout(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::sys::stat::mknodat(&self.0, one(name)?, SFlag::S_IFCHR, Mode::empty(), 0)?)
    }

    /// Creates a hard link here to a file of another directory. A symbolic link is not followed but linked itself.
    ///
    /// # Errors
    /// Fails when `linkat(2)` fails.
    pub fn hard_link(&self, name: &OsStr, from: &Self, old: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::linkat(&from.0, one(old)?, &self.0, one(name)?, AtFlags::empty())?)
    }

    /// Moves an entry of another directory here. It replaces what has this name, a directory only if that is empty.
    ///
    /// # Errors
    /// Fails when `renameat2(2)` fails.
    pub fn rename(&self, name: &OsStr, from: &Self, old: &OsStr) -> io::Result<()> {
        Ok(nix::fcntl::renameat2(&from.0, one(old)?, &self.0, one(name)?, RenameFlags::empty())?)
    }

    /// Exchanges two entries in one step: each has the other's name afterwards.
    ///
    /// # Errors
    /// Fails when `renameat2(2)` fails: with `EINVAL` if the file system cannot do this.
    pub fn exchange(&self, one_name: &OsStr, other: &OsStr) -> io::Result<()> {
        Ok(nix::fcntl::renameat2(&self.0, one(one_name)?, &self.0, one(other)?, RenameFlags::RENAME_EXCHANGE)?)
    }

    /// Exchanges an entry with one of another directory in one step: each has the other's name afterwards.
    ///
    /// # Errors
    /// Fails like [`Tree::exchange`].
    pub fn exchange_with(&self, name: &OsStr, from: &Self, other: &OsStr) -> io::Result<()> {
        Ok(nix::fcntl::renameat2(&from.0, one(other)?, &self.0, one(name)?, RenameFlags::RENAME_EXCHANGE)?)
    }

    /// Whether a file system is mounted on an entry, or on something in it.
    ///
    /// # Errors
    /// Fails when the list of mounts cannot be read.
    pub fn has_mounts(&self, name: &OsStr) -> io::Result<bool> {
        let place = std::fs::read_link(magic(&self.0))?.join(one(name)?);
        Ok(super::mount_points()?.iter().any(|point| point.starts_with(&place)))
    }

    /// Sets this directory's own owner, permissions and time.
    ///
    /// # Errors
    /// Fails when one of them cannot be changed.
    pub fn become_like(&self, facts: Facts) -> io::Result<()> {
        let (owner, time) = arguments(facts);
        nix::unistd::fchownat(&self.0, ".", owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        nix::sys::stat::fchmodat(&self.0, ".", Mode::from_bits_truncate(facts.mode), FchmodatFlags::FollowSymlink)?;
        Ok(nix::sys::stat::utimensat(&self.0, ".", &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets this directory's own permissions.
    ///
    /// # Errors
    /// Fails when `fchmodat(2)` fails.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(nix::sys::stat::fchmodat(&self.0, ".", Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?)
    }

    /// Sets owner, permissions and time of an entry; a symbolic link has no permissions.
    ///
    /// # Errors
    /// Fails when one of them cannot be changed.
    pub fn set(&self, name: &OsStr, facts: Facts) -> io::Result<()> {
        let (owner, time) = arguments(facts);
        let name = one(name)?;
        let found = self.beneath(Path::new(name), OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        nix::unistd::fchownat(&found, "", owner.0, owner.1, AtFlags::AT_EMPTY_PATH)?;
        if Kind::of(&fstat(&found)?) != Kind::Link {
            // This goes through the descriptor's path in /proc because `fchmodat2(2)` only exists since Linux 6.6.
            let mode = Mode::from_bits_truncate(facts.mode);
            nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, magic(&found).as_str(), mode, FchmodatFlags::FollowSymlink)?;
        }
        Ok(nix::sys::stat::utimensat(&self.0, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets the time of an entry, or of this directory for `.`, in seconds.
    ///
    /// # Errors
    /// Fails when `utimensat(2)` fails.
    pub fn set_time(&self, name: &OsStr, seconds: i64) -> io::Result<()> {
        let time = nix::sys::time::TimeSpec::new(seconds, 0);
        Ok(nix::sys::stat::utimensat(&self.0, one_or_self(name)?, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Reads an extended attribute of an entry, or of this directory for `.`. Returns `None` if there is none.
    ///
    /// # Errors
    /// Fails when `lgetxattr(2)` fails for another reason.
    pub fn attribute(&self, name: &OsStr, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
        let path = self.magic_name(name)?;
        super::attribute(|buffer| {
            // SAFETY: both strings end in NUL and the buffer has the length that is passed.
            unsafe { libc::lgetxattr(path.as_ptr(), attribute.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
        })
    }

    /// Sets an extended attribute of this directory.
    ///
    /// # Errors
    /// Fails when `setxattr(2)` fails.
    pub fn set_attribute(&self, attribute: &CStr, value: &[u8]) -> io::Result<()> {
        // Extended attributes cannot be set through an `O_PATH` descriptor.
        set_attribute_of(&self.beneath(Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, attribute, value)
    }

    /// Gives this directory all extended attributes of another one.
    ///
    /// # Errors
    /// Fails when they cannot be read or set.
    pub fn take_attributes(&self, from: &Self) -> io::Result<()> {
        let open = |tree: &Self| tree.beneath(Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        super::copy_attributes(&open(from)?, &open(self)?)
    }

    /// The path of an entry for calls that have no `*at` form. Its only link is that of the descriptor in /proc.
    fn magic_name(&self, name: &OsStr) -> io::Result<CString> {
        c_path(Path::new(&magic(&self.0)).join(one_or_self(name)?))
    }

    /// Makes everything in this directory's file system durable.
    ///
    /// # Errors
    /// Fails when `syncfs(2)` fails.
    pub fn sync(&self) -> io::Result<()> {
        let open = self.beneath(Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        // SAFETY: the descriptor is open for the whole call.
        check(libc::c_long::from(unsafe { libc::syncfs(open.as_raw_fd()) })).map(drop)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Fails when `unlinkat(2)` fails.
    pub fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.0, one(name)?, UnlinkatFlags::RemoveDir)?)
    }

    /// Removes an entry that is not a directory.
    ///
    /// # Errors
    /// Fails when `unlinkat(2)` fails.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.0, one(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes an entry with everything in it. It is not an error if the entry does not exist.
    ///
    /// # Errors
    /// Fails when `unlinkat(2)` fails, and when something is mounted in the tree, since that belongs to somebody else.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let mut left = vec![one(name)?.to_owned()];
        while let Some(name) = left.pop() {
            self.remove_in(self, &name, 0, &mut left)?;
        }
        Ok(())
    }

    fn remove_in(&self, top: &Self, name: &OsStr, depth: usize, left: &mut Vec<OsString>) -> io::Result<()> {
        match self.remove_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Linux returns EISDIR; POSIX says EPERM.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EPERM)) => {}
            done => return done,
        }
        if depth > DEEP {
            // The tree may be arbitrarily deep, but the number of open descriptors is limited.
            let moved = OsString::from(format!(".gone-{}", super::unique()));
            top.rename(&moved, self, name)?;
            left.push(moved);
            return Ok(());
        }
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve);
        let (folder, inside) = Self(nix::fcntl::openat2(&self.0, name, how)?).read(".")?;
        for entry in inside {
            folder.remove_in(top, &entry.name, depth + 1, left)?;
        }
        match self.remove_folder(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Resolves a path beneath this directory to a path without symbolic links. Links are followed as long as they stay
    /// beneath it.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails: with `EXDEV` when the path leads out.
    pub fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let base = std::fs::read_link(magic(&self.0))?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let open = |path: &Path| {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            nix::fcntl::openat2(&self.0, path, how)
        };
        let found = match open(path) {
            // A link may have an absolute target and still stay beneath this directory.
            Err(Errno::EXDEV) => {
                // An error of the lookup would tell what exists outside.
                let out = || io::Error::from_raw_os_error(libc::EXDEV);
                let whole = std::fs::canonicalize(base.join(path)).map_err(|_| out())?;
                let inside = whole.strip_prefix(&base).map_err(|_| out())?;
                open(if inside.as_os_str().is_empty() { Path::new(".") } else { inside })?
            }
            found => found?,
        };
        let whole = std::fs::read_link(magic(&found))?;
        whole.strip_prefix(&base).map(Path::to_owned).map_err(|_| io::Error::from_raw_os_error(libc::EXDEV))
    }
}

/// Opens the file behind an `O_PATH` descriptor for reading, if it is a plain file.
///
/// # Errors
/// Fails when `open(2)` fails, and for anything but a plain file.
pub fn read_plain(found: &OwnedFd) -> io::Result<File> {
    if Kind::of(&fstat(found)?) != Kind::File {
        return Err(no_file());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    Ok(nix::fcntl::open(magic(found).as_str(), flags, Mode::empty())?.into())
}

/// Opens a plain file by a path that the user gave, following symbolic links. This never blocks.
///
/// # Errors
/// Fails when `open(2)` fails, and for anything but a plain file.
pub fn open_plain(path: &Path) -> io::Result<File> {
    read_plain(&nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// An entry of `getdents64(2)`: inode, offset, length, kind, name.
struct Entry<'b> {
    inode: u64,
    kind: u8,
    name: &'b [u8],
}

impl<'b> Entry<'b> {
    fn take(bytes: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let inode = u64::from_ne_bytes(*bytes.first_chunk()?);
        let length = usize::from(u16::from_ne_bytes(*bytes.get(16..18)?.first_chunk()?));
        let (entry, rest) = bytes.split_at_checked(length)?;
        let name = CStr::from_bytes_until_nul(entry.get(19..)?).ok()?.to_bytes();
        Some((Self { inode, kind: *entry.get(18)?, name }, rest))
    }
}

/// Checks that this is a single name: in a path, symbolic links would be followed.
fn one(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file name", name.display())));
    }
    Ok(name)
}

fn one_or_self(name: &OsStr) -> io::Result<&OsStr> {
    if name == "." { Ok(name) } else { one(name) }
}

/// The path of a descriptor in `/proc`.
fn magic(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The error for something that is not a plain file where one was expected.
pub(super) fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")
}

type Owner = (Option<nix::unistd::Uid>, Option<nix::unistd::Gid>);

fn arguments(facts: Facts) -> (Owner, nix::sys::time::TimeSpec) {
    let owner = (Some(facts.owner.0.into()), Some(facts.owner.1.into()));
    (owner, nix::sys::time::TimeSpec::new(facts.time.0, facts.time.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_files_is_opened() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| inside.path().join(path);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/file"), "in").unwrap();
        fs::write(outside.path().join("file"), "out").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("away")).unwrap();
        std::os::unix::fs::symlink("folder", at("near")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
        let tree = Tree::open(inside.path()).unwrap();
        let mut text = String::new();
        tree.file("folder/file").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "in");
        for path in ["away/file", "near/file", "away", "fifo", "folder", "../x", "/etc/passwd", "folder/../../x"] {
            assert!(tree.file(path).is_err(), "{path} was opened as a file");
        }
        for path in ["away", "near", "..", "folder/file", "/"] {
            assert!(tree.folder(path).is_err() && tree.read(path).is_err(), "{path} was opened as a directory");
        }
        for wrong in ["a/b", "..", ".", "", "/"] {
            assert!(tree.make_file(name(wrong), 0o600).is_err() && tree.stat(name(wrong)).is_err(), "{wrong:?}");
        }
        assert!(tree.make_folders(Path::new("away/x"), 0o755).is_err());
        assert!(tree.make_folders(Path::new("../x"), 0o755).is_err());
        assert!(tree.make_file(name("away"), 0o600).is_err());
        let kinds = tree.list().unwrap().into_iter().map(|listed| (listed.name.into_string().unwrap(), listed.kind));
        let wanted = [("away", Kind::Link), ("fifo", Kind::Fifo), ("folder", Kind::Folder), ("near", Kind::Link)];
        assert_eq!(kinds.collect::<Vec<_>>(), wanted.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(tree.follow(Path::new("near/file")).unwrap(), Path::new("folder/file"));
        assert_eq!(tree.follow(Path::new("away/file")).unwrap_err().raw_os_error(), Some(libc::EXDEV));
        std::os::unix::fs::symlink(at("folder"), at("whole")).unwrap();
        assert_eq!(tree.follow(Path::new("whole/file")).unwrap(), Path::new("folder/file"));
    }

    #[test]
    fn owners_permissions_times_and_attributes_are_set_by_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let before = nix::sys::stat::stat(outside.path()).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let facts = Facts { owner: me, mode: 0o640, time: (5, 6) };
        tree.make_file(name("file"), 0o600).unwrap().write_all(b"x").unwrap();
        tree.make_link(name("link"), outside.path().as_os_str()).unwrap();
        for entry in ["file", "link"] {
            tree.set(name(entry), facts).unwrap();
        }
        assert_eq!(Facts::of(&tree.stat(name("file")).unwrap()), facts);
        assert_eq!(tree.stat(name("link")).unwrap().st_mtime, 5);
        let after = nix::sys::stat::stat(outside.path()).unwrap();
        assert_eq!((before.st_mode, before.st_mtime, before.st_ctime), (after.st_mode, after.st_mtime, after.st_ctime));
        let deep = tree.make_folders(Path::new("a/b"), 0o755).unwrap();
        deep.become_like(Facts { mode: 0o2750, ..facts }).unwrap();
        assert_eq!(Facts::of(&tree.folder("a").unwrap().stat(name("b")).unwrap()), Facts { mode: 0o2750, ..facts });
        deep.hard_link(name("twin"), &tree, name("file")).unwrap();
        assert_eq!(deep.stat(name("twin")).unwrap().st_nlink, 2);
    }

    #[test]
    fn two_entries_are_exchanged() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        tree.make_folder(name("one"), 0o755).unwrap().make_file(name("x"), 0o600).unwrap();
        tree.make_file(name("other"), 0o600).unwrap();
        tree.exchange(name("one"), name("other")).unwrap();
        assert!(folder.path().join("other/x").exists() && folder.path().join("one").is_file());
        assert!(tree.exchange(name("one"), name("absent")).is_err());
        assert!(!tree.has_mounts(name("other")).unwrap());
        let root = Tree::open(Path::new("/")).unwrap();
        assert!(root.has_mounts(name("proc")).unwrap());
    }

    #[test]
    fn a_tree_is_removed_however_deep_and_nothing_beside_it() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut at = tree.make_folder(name("top"), 0o755).unwrap();
        for _ in 0..300 {
            at.make_link(name("away"), outside.path().as_os_str()).unwrap();
            at = at.make_folder(name("d"), 0o755).unwrap();
        }
        tree.remove(name("top")).unwrap();
        tree.remove(name("top")).unwrap();
        assert_eq!(tree.list().unwrap(), []);
        assert!(outside.path().join("kept").exists());
    }
}

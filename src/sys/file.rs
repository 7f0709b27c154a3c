//! Files: atomic writes, locks, extended attributes, opening beneath a root.

use super::{c_path, check};
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Files up to this size are copied through memory: asking the file system for more costs more.
const SMALL: u64 = 64 << 10;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other process or thread uses.
pub fn unique() -> String {
    format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Writes a file that can be made again, so that whoever reads it meanwhile sees the old or the new one. After a
/// power cut it may be empty: what must outlive one is written by [`write_lasting`].
///
/// # Errors
/// Those of creating, writing and renaming; the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, false)
}

/// Writes a file so that its name never stands for a part of it, also after a power cut, which may take it away again.
///
/// # Errors
/// Those of creating, writing, syncing and renaming; the temporary file is removed.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)
}

/// Writes a file so that it is either the old or the new one, also after a power cut; when this returns, the new one.
///
/// # Errors
/// Those of creating, writing, syncing and renaming; the temporary file is removed.
pub fn write_lasting(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)?;
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, bytes: &[u8], mode: u32, lasting: bool) -> io::Result<()> {
    let temporary = parent(path).join(format!(".tmp-{}", unique()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        if lasting {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// Makes everything written to a path's file system durable.
///
/// # Errors
/// Those of opening the path and of `syncfs(2)`.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: the descriptor is open for the whole call.
    check(libc::c_long::from(unsafe { libc::syncfs(file.as_raw_fd()) })).map(drop)
}

/// Lets the kernel begin to write a file out, so that a later sync finds little left to do.
pub fn begin_writing_out(file: &File) {
    // SAFETY: the descriptor is open; nothing is waited for, and a refusal costs time only.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How much is written before the kernel is told to begin with it.
const BEGIN: u64 = 8 << 20;

/// Begins to write a file out as it grows from one length to another, so that a sync at the end finds little to do.
pub fn write_out_along(file: &File, before: u64, after: u64) {
    if before / BEGIN != after / BEGIN {
        begin_writing_out(file);
    }
}

/// A lock on a file, held until it is dropped.
#[derive(Debug)]
pub struct Lock(Flock<File>);

/// Whether others may hold the lock too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    Shared,
    Alone,
}

impl Lock {
    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
    }

    /// Waits for a lock.
    ///
    /// # Errors
    /// Those of opening the file and of `flock(2)`.
    pub fn wait(path: &Path, hold: Hold) -> io::Result<Self> {
        let how = if hold == Hold::Alone { FlockArg::LockExclusive } else { FlockArg::LockShared };
        Flock::lock(Self::open(path)?, how).map(Self).map_err(|(_, error)| error.into())
    }

    /// Takes a lock if it is free.
    ///
    /// # Errors
    /// Those of opening the file and of `flock(2)`, except that it is taken.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        match Flock::lock(Self::open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Whether somebody holds the lock of an existing file.
    pub fn is_held(path: &Path) -> bool {
        let file = match File::open(path) {
            Ok(file) => file,
            // Who cannot look must not take what is held for free.
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }

    /// The locked file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// The names in a directory, in order; one that is not there has none. Names that are not text are left out: those of
/// our own files are.
///
/// # Errors
/// A directory that cannot be read: it is not empty.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    match entries(folder) {
        Ok(entries) => Ok(entries.into_iter().filter_map(|name| name.into_string().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Everything in a directory, in order.
///
/// # Errors
/// A directory that is not there or cannot be read.
pub fn entries(folder: &Path) -> io::Result<Vec<OsString>> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut found: Vec<OsString> =
        listed.map_err(|error| io::Error::new(error.kind(), format!("cannot list {}: {error}", folder.display())))?;
    found.sort();
    Ok(found)
}

/// Opens a path beneath a root, following links as if the root were `/`.
///
/// # Errors
/// Those of `openat2(2)`: a path can never lead out of the root.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let path = relative(path.as_ref());
    let how =
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(nix::fcntl::openat2(root, &path, how)?)
}

/// Makes a directory that only its owner may enter, and those above it that are missing; one that is there stays as it is.
///
/// # Errors
/// Those of `mkdir(2)`.
pub fn make_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a directory of our own, to stand on.
///
/// # Errors
/// Those of `open(2)`.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    super::doing(&path.display().to_string(), nix::fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from))
}

/// Opens a path of the host that was resolved before: what has become a link since is refused.
///
/// # Errors
/// Those of `openat2(2)`: `ELOOP` for a link.
pub fn open_real(path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(nix::fcntl::AT_FDCWD, path, how).map_err(|error| match error {
        nix::errno::Errno::ELOOP => {
            super::in_words(&format!("{} is a link now, or leads over one", path.display()), error.into())
        }
        error => super::in_words(&path.display().to_string(), error.into()),
    })
}

/// Opens a path beneath a directory that neither leads over a link nor into another file system.
///
/// # Errors
/// Those of `openat2(2)`: `ELOOP` for a link, `EXDEV` where something is mounted or the path climbs.
pub fn open_here(folder: impl AsFd, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(nix::fcntl::openat2(folder, &relative(path.as_ref()), how)?)
}

/// Opens an absolute path on which no link may stand, not even as its last part.
///
/// # Errors
/// Those of `openat2(2)`; a link, which is told.
pub fn open_without_links(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o640) } else { Mode::empty() })
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(nix::fcntl::AT_FDCWD, path, how).map_err(|error| match error {
        nix::errno::Errno::ELOOP => io::Error::other("a link stands on its path that was not there when it was looked at"),
        error => error.into(),
    })
}

/// Removes an empty directory or an empty file beneath a root; what is anything else stays, and what is behind
/// a link is not looked at.
///
/// # Errors
/// Those of `unlinkat(2)`, other than that it is not empty.
pub fn remove_if_empty(root: impl AsFd, path: &Path) -> io::Result<()> {
    use nix::sys::stat::{SFlag, fstatat};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    let path = relative(path);
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let Ok(folder) = nix::fcntl::openat2(root, parent, how) else { return Ok(()) };
    let Ok(stat) = fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return Ok(()) };
    let removed = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => unlinkat(&folder, name, UnlinkatFlags::RemoveDir),
        SFlag::S_IFREG if stat.st_size == 0 => unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir),
        _ => return Ok(()),
    };
    match removed {
        Ok(()) | Err(nix::errno::Errno::ENOTEMPTY | nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn relative(path: &Path) -> PathBuf {
    let stripped: PathBuf = path.components().filter(|part| !matches!(part, std::path::Component::RootDir)).collect();
    if stripped.as_os_str().is_empty() { PathBuf::from(".") } else { stripped }
}

/// Where a path beneath a root really leads, as an absolute path inside it; absent parts are kept as
/// they are written.
///
/// # Errors
/// Those of `openat2(2)` other than absence.
pub fn resolve_in_root(root: impl AsFd, path: &Path) -> io::Result<PathBuf> {
    let path = relative(path);
    let mut known = path.clone();
    let mut rest = Vec::new();
    loop {
        match open_in_root(&root, &known, OFlag::O_PATH) {
            Ok(found) => {
                let base = descriptor_path(root.as_fd())?;
                let found = descriptor_path(&found)?;
                let inside = found.strip_prefix(&base).unwrap_or(Path::new("")).to_owned();
                return Ok(rest
                    .iter()
                    .rev()
                    .fold(Path::new("/").join(inside), |path, part: &std::ffi::OsString| path.join(part)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing is there: whoever used its own path would follow it on the host.
                if open_in_root(&root, &known, OFlag::O_PATH | OFlag::O_NOFOLLOW).is_ok() {
                    return Err(io::Error::other(format!("{} is a link to nothing", known.display())));
                }
                let Some(name) = known.file_name().map(OsStr::to_owned) else { return Err(error) };
                rest.push(name);
                if !known.pop() || known.as_os_str().is_empty() {
                    known = PathBuf::from(".");
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// The path that `/proc` shows for an open descriptor.
fn descriptor_path(fd: impl AsFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Makes the directories of a path beneath a root, following links as if the root were `/`.
///
/// # Errors
/// Those of `openat2(2)` and `mkdirat(2)`.
pub fn make_folders_in_root(root: impl AsFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    // Most are there.
    let whole = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if let Ok(found) = open_in_root(&root, whole, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        return Ok(found);
    }
    let mut at = open_in_root(&root, ".", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let std::path::Component::Normal(part) = part else { continue };
        so_far.push(part);
        at = match open_in_root(&root, &so_far, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match nix::sys::stat::mkdirat(&at, part, Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open_in_root(&root, &so_far, OFlag::O_PATH | OFlag::O_DIRECTORY)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(at)
}

/// An extended attribute of a path itself, not of what it links to.
///
/// # Errors
/// Those of `lgetxattr(2)`, except absence and file systems without attributes.
pub fn get_attribute(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = c_path(path)?;
    // SAFETY: both strings end in NUL and the buffer has the length that is passed.
    attribute(|buffer| unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// An extended attribute of an open file; none where there is none, or where the file system has none.
///
/// # Errors
/// Those of `fgetxattr(2)`.
pub fn get_file_attribute(file: &File, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    // SAFETY: the name ends in NUL and the buffer has the length that is passed.
    attribute(|buffer| unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub(super) fn attribute(get: impl FnOnce(&mut [u8]) -> libc::ssize_t) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0u8; 256];
    match check(get(&mut buffer) as libc::c_long) {
        Ok(length) => Ok(buffer.get(..usize::try_from(length).unwrap_or(0)).map(<[u8]>::to_vec)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOTSUP | libc::EPERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets an extended attribute of an open file or directory.
///
/// # Errors
/// Those of `fsetxattr(2)`.
pub fn set_attribute_of(file: &impl AsRawFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, the string ends in NUL and the value has the length that is passed.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(libc::c_long::from(result)).map(drop)
}

/// Sets an open file's modification and access time, in seconds.
///
/// # Errors
/// Those of `futimens(2)`.
pub fn set_file_time(file: &File, seconds: i64) -> io::Result<()> {
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Gives a new file of this process its owner, permissions and time.
///
/// # Errors
/// Those of `fchown(2)`, `fchmod(2)` and `futimens(2)`.
pub fn finish_file(file: &File, mode: u32, owner: (u32, u32), seconds: i64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let changes = (metadata.uid(), metadata.gid()) != owner;
    if changes {
        nix::unistd::fchown(file, Some(owner.0.into()), Some(owner.1.into()))?;
    }
    // A change of owner takes bits away.
    if changes || metadata.permissions().mode() & 0o7777 != mode {
        nix::sys::stat::fchmod(file, Mode::from_bits_truncate(mode))?;
    }
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Gives an open file the owner, permissions and time of another.
///
/// # Errors
/// Those of `fchown(2)`, `fchmod(2)` and `futimens(2)`.
pub fn become_like(file: &File, facts: super::Facts) -> io::Result<()> {
    nix::unistd::fchown(file, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
    nix::sys::stat::fchmod(file, Mode::from_bits_truncate(facts.mode))?;
    let time = nix::sys::time::TimeSpec::new(facts.time.0, facts.time.1);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Sets a path's own owner.
///
/// # Errors
/// Those of `fchownat(2)`.
pub fn set_owner(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(group));
    Ok(nix::unistd::fchownat(nix::fcntl::AT_FDCWD, path, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Copies a whole file, sharing its blocks where the file system can.
///
/// # Errors
/// Those of reading and writing.
pub fn copy_file(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    if length <= SMALL {
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
        (&mut &*from).read_to_end(&mut content)?;
        (&mut &*to).write_all(&content)?;
        return Ok(content.len() as u64);
    }
    // SAFETY: both descriptors are open for the whole call.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } == 0 {
        return Ok(length);
    }
    io::copy(&mut &*from, &mut &*to)
}

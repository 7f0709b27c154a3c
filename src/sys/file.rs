//! Files: atomic writes, locks, extended attributes, opening beneath a root.

use super::{c_path, check};
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use nix::unistd::Whence;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Files up to this size are copied through memory: for them, asking the file system to share blocks would cost more.
const SMALL: u64 = 64 << 10;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Returns a name that no other process or thread uses.
pub fn unique() -> String {
    format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Writes a file that can be recreated, so that concurrent readers see either the old or the new content. It may be
/// empty after a power cut; use [`write_lasting`] for data that must survive one.
///
/// # Errors
/// Fails when the file cannot be created, written or renamed; the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, false)
}

/// Writes a file so that its name never refers to a partly written file, even after a power cut. A power cut may still
/// undo the whole write.
///
/// # Errors
/// Fails when the file cannot be created, written, synced or renamed; the temporary file is removed.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)
}

/// Writes a file so that it is either the old or the new one, even after a power cut. Once this has returned, it is the
/// new one.
///
/// # Errors
/// Fails when the file cannot be created, written, synced or renamed; the temporary file is removed.
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

/// Replaces the content of an opened file as [`write_lasting`] does, where it is now; its mode, owner and attributes, so also
/// its access list, stay. This is for files that people write: whoever opened it followed the links to it.
///
/// # Errors
/// Fails when the new file cannot be made or cannot have that owner or those attributes, when the file has several hard links, of
/// which only one would get the new content, and when another file has the name by now.
pub fn rewrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let old = file.metadata()?;
    if old.nlink() > 1 {
        let why = format!(
            "it has {} hard links, and the others would keep the old content; make it a file of its own first (`cp FILE NEW`, then \
             `mv NEW FILE`), or edit it by hand",
            old.nlink()
        );
        return Err(io::Error::other(why));
    }
    let temporary = parent(&path).join(format!(".tmp-{}", unique()));
    let write = || {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(bytes)?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        // The directory may have given it an access list that the old one does not have. Permissions come last: until then nobody
        // else can open it.
        remove_attribute(&new, c"system.posix_acl_access")?;
        copy_attributes(file, &new)?;
        new.set_permissions(old.permissions())?;
        new.sync_all()?;
        let now = fs::symlink_metadata(&path)?;
        if (now.dev(), now.ino()) != (old.dev(), old.ino()) {
            return Err(io::Error::other("another file has its name by now"));
        }
        fs::rename(&temporary, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    File::open(parent(&path))?.sync_all()
}

fn spare(path: &Path) -> PathBuf {
    path.with_extension("spare")
}

/// Keeps room on the disk for this many bytes of a file's content, for [`write_reserved`].
///
/// # Errors
/// Fails when the room is not there.
pub fn reserve(path: &Path, size: usize) -> io::Result<()> {
    let spare = spare(path);
    if std::fs::metadata(&spare).is_ok_and(|found| found.len() >= size as u64) {
        return Ok(());
    }
    // What is in it does not matter.
    replace(&spare, &vec![b'\n'; size], 0o600, false)
}

/// Like [`write_lasting`] or, if it need not be `lasting`, [`write_atomic`]. On a full disk it uses the room that
/// [`reserve`] keeps; without a reservation, the file that is replaced first stays as that room. What was there before a
/// write into the room is the room for the next time.
///
/// # Errors
/// Fails as those do. If the content does not fit into the room either, the error is that of the full disk.
pub fn write_reserved(path: &Path, bytes: &[u8], mode: u32, lasting: bool) -> io::Result<()> {
    let spare = spare(path);
    if let Ok(file) = OpenOptions::new().write(true).create_new(true).mode(mode).open(&spare) {
        match exchange(file, &spare, path, bytes, lasting) {
            Ok(()) => return Ok(()),
            // There may be no room: then it is written as if nothing had been tried.
            Err(_) => std::fs::remove_file(&spare)?,
        }
    }
    let written = if lasting { write_lasting(path, bytes, mode) } else { write_atomic(path, bytes, mode) };
    let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let Some(error) = written.as_ref().err().filter(|error| full(error)) else { return written };
    let reserved = OpenOptions::new().write(true).open(&spare);
    reserved
        .and_then(|file| exchange(file, &spare, path, bytes, lasting))
        .map_err(|_| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::ENOSPC)))
}

/// Writes into the room, which becomes the file; the file, if there is one, becomes the room.
fn exchange(mut room: File, spare: &Path, path: &Path, bytes: &[u8], lasting: bool) -> io::Result<()> {
    room.write_all(bytes)?;
    room.set_len(bytes.len() as u64)?;
    if lasting {
        room.sync_all()?;
    }
    let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    match nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, spare, nix::fcntl::AT_FDCWD, path, exchange) {
        Err(nix::Error::ENOENT) => std::fs::rename(spare, path)?,
        exchanged => exchanged?,
    }
    if lasting { File::open(parent(path))?.sync_all() } else { Ok(()) }
}

/// Makes everything durable that was written to the file system of a path.
///
/// # Errors
/// Fails when the path cannot be opened or `syncfs(2)` fails.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: the descriptor is open for the whole call.
    check(libc::c_long::from(unsafe { libc::syncfs(file.as_raw_fd()) })).map(drop)
}

/// Tells the kernel to start writing a file to disk, so that a later sync has little left to do.
pub fn begin_writing_out(file: &File) {
    // SAFETY: the descriptor is open. The call does not wait, and if it fails, the later sync only takes longer.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How many bytes are written before the kernel is told to start writing them to disk.
const BEGIN: u64 = 8 << 20;

/// Starts writing a file to disk as it grows from one length to another, so that a sync at the end has little left to do.
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
    /// Fails when the file cannot be opened or `flock(2)` fails.
    pub fn wait(path: &Path, hold: Hold) -> io::Result<Self> {
        let how = if hold == Hold::Alone { FlockArg::LockExclusive } else { FlockArg::LockShared };
        Flock::lock(Self::open(path)?, how).map(Self).map_err(|(_, error)| error.into())
    }

    /// Takes a lock if it is free, and returns `None` otherwise.
    ///
    /// # Errors
    /// Fails when the file cannot be opened, or when `flock(2)` fails for another reason than that the lock is held.
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
            // If the file cannot be opened, the lock might be held, so it is not reported as free.
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }

    /// The locked file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// The names in a directory, sorted. The list is empty if the directory does not exist. Names that are not UTF-8 are left
/// out: the names of our own files always are UTF-8.
///
/// # Errors
/// Fails when the directory exists but cannot be read: that does not mean that it is empty.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    match entries(folder) {
        Ok(entries) => Ok(entries.into_iter().filter_map(|name| name.into_string().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All names in a directory, sorted.
///
/// # Errors
/// Fails when the directory does not exist or cannot be read.
pub fn entries(folder: &Path) -> io::Result<Vec<OsString>> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut found: Vec<OsString> =
        listed.map_err(|error| io::Error::new(error.kind(), format!("cannot list {}: {error}", folder.display())))?;
    found.sort();
    Ok(found)
}

/// Opens a path beneath a root, following symbolic links as if the root were `/`. The path can never lead out of the root.
///
/// # Errors
/// Fails when `openat2(2)` fails.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let path = relative(path.as_ref());
    let how =
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(nix::fcntl::openat2(root, &path, how)?)
}

/// Like [`open_in_root`], but never leaves the file system mount that the root is on.
///
/// # Errors
/// Fails when `openat2(2)` fails, and with `EXDEV` when a mount lies on the way.
pub fn open_on_mount(root: impl AsFd, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let path = relative(path.as_ref());
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    Ok(nix::fcntl::openat2(root, &path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))?)
}

/// Creates a directory that only its owner may enter, with any missing parents. An existing one stays as it is.
///
/// # Errors
/// Fails when `mkdir(2)` fails.
pub fn make_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens one of our own directories as a base for operations relative to it.
///
/// # Errors
/// Fails when `open(2)` fails.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    super::doing(&path.display().to_string(), nix::fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from))
}

/// Opens a path of the host that was resolved before, and refuses it if any part has become a symbolic link since.
///
/// # Errors
/// Fails when `openat2(2)` fails: with `ELOOP` for a symbolic link.
pub fn open_real(path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(nix::fcntl::AT_FDCWD, path, how).map_err(|error| match error {
        nix::errno::Errno::ELOOP => {
            super::in_words(&format!("{} is a symbolic link now, or has one in its path", path.display()), error.into())
        }
        error => super::in_words(&path.display().to_string(), error.into()),
    })
}

/// Opens a path beneath a directory that neither goes through a symbolic link nor into another file system.
///
/// # Errors
/// Fails when `openat2(2)` fails: with `ELOOP` for a symbolic link, with `EXDEV` where something is mounted or the path
/// leads out of the directory.
pub fn open_here(folder: impl AsFd, path: impl AsRef<Path>, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(nix::fcntl::openat2(folder, &relative(path.as_ref()), how)?)
}

/// Opens an absolute path that must not contain a symbolic link, not even as its last part.
///
/// # Errors
/// Fails when `openat2(2)` fails; for a symbolic link the error says so.
pub fn open_without_links(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o640) } else { Mode::empty() })
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(nix::fcntl::AT_FDCWD, path, how).map_err(|error| match error {
        nix::errno::Errno::ELOOP => io::Error::other("its path contains a symbolic link that was not there when it was checked"),
        error => error.into(),
    })
}

/// Removes an empty directory or an empty file beneath a root. Anything else stays, and symbolic links are not
/// followed.
///
/// # Errors
/// Fails when `unlinkat(2)` fails for another reason than that the directory is not empty.
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

/// Where a path beneath a root really leads, as an absolute path inside it. Parts that do not exist are kept as
/// written.
///
/// # Errors
/// Fails when `openat2(2)` fails for another reason than that a part does not exist.
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
                // A dangling symbolic link does exist: anyone who used its path would follow it on the host.
                if open_in_root(&root, &known, OFlag::O_PATH | OFlag::O_NOFOLLOW).is_ok() {
                    return Err(io::Error::other(format!("{} is a dangling symbolic link", known.display())));
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

/// Creates the missing directories of a path beneath a root, following symbolic links as if the root were `/`.
///
/// # Errors
/// Fails when `openat2(2)` or `mkdirat(2)` fails.
pub fn make_folders_in_root(root: impl AsFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    // Most exist already.
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

/// Resolves a path beneath a root to one without symbolic links, as if the root were `/`; parts that do not exist stay as
/// they are. So a target can be created where a dangling link leads (as runc and Go's `securejoin` do).
///
/// # Errors
/// Fails when `openat2(2)` or `readlinkat(2)` fails, and with `ELOOP` after 255 links.
pub fn without_links_in_root(root: impl AsFd, path: &Path) -> io::Result<PathBuf> {
    let mut found = PathBuf::new();
    let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let (mut left, mut links) = (parts(path), 0);
    while let Some(part) = left.pop() {
        if part == "/" || part == "." {
            continue;
        }
        if part == ".." {
            found.pop();
            continue;
        }
        let here = found.join(&part);
        match open_in_root(&root, &here, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => found = here,
            Err(error) => return Err(error),
            Ok(place) => match nix::fcntl::readlinkat(&place, "") {
                // It is not a link.
                Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => found = here,
                Err(error) => return Err(error.into()),
                Ok(target) => {
                    links += 1;
                    if links > 255 {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    let target = PathBuf::from(target);
                    if target.is_absolute() {
                        found = PathBuf::new();
                    }
                    left.extend(parts(&target));
                }
            },
        }
    }
    Ok(found)
}

/// Reads an extended attribute of the path itself, not of what it links to. Returns `None` if there is none, or if the file
/// system does not support attributes.
///
/// # Errors
/// Fails when `lgetxattr(2)` fails for another reason.
pub fn get_attribute(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = c_path(path)?;
    // SAFETY: both strings end in NUL and the buffer has the length that is passed.
    attribute(|buffer| unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Reads an extended attribute of an open file. Returns `None` if there is none, or if the file system does not support
/// attributes.
///
/// # Errors
/// Fails when `fgetxattr(2)` fails.
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

/// Gives an open file or directory all extended attributes of another one. Those that its file system does not have are left
/// out.
///
/// # Errors
/// Fails when `flistxattr(2)`, `fgetxattr(2)` or `fsetxattr(2)` fails.
pub fn copy_attributes(from: &impl AsRawFd, to: &impl AsRawFd) -> io::Result<()> {
    let from = from.as_raw_fd();
    // SAFETY: the descriptor is open and the buffer has the length that is passed.
    let names = whole_attribute(|buffer| unsafe { libc::flistxattr(from, buffer.as_mut_ptr().cast(), buffer.len()) })?;
    for name in names.unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // SAFETY: as above, and the name ends in NUL.
        let get = |buffer: &mut [u8]| unsafe { libc::fgetxattr(from, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Some(value) = whole_attribute(get)? else { continue };
        match set_attribute_of(to, name, &value) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => {}
            set => set?,
        }
    }
    Ok(())
}

/// Reads an attribute, or the list of them, of whatever length; `None` if there is none.
fn whole_attribute(get: impl Fn(&mut [u8]) -> libc::ssize_t) -> io::Result<Option<Vec<u8>>> {
    loop {
        // With an empty buffer the kernel only tells the length.
        let length = match check(get(&mut []) as libc::c_long) {
            Ok(length) => usize::try_from(length).unwrap_or(0),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOTSUP)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut buffer = vec![0; length];
        match check(get(&mut buffer) as libc::c_long) {
            Ok(length) => {
                buffer.truncate(usize::try_from(length).unwrap_or(0));
                return Ok(Some(buffer));
            }
            // It has become longer.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Sets an extended attribute of an open file or directory.
///
/// # Errors
/// Fails when `fsetxattr(2)` fails.
pub fn set_attribute_of(file: &impl AsRawFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, the string ends in NUL and the value has the length that is passed.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(libc::c_long::from(result)).map(drop)
}

/// Removes an extended attribute of an open file, if it has it.
fn remove_attribute(file: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is open and the string ends in NUL.
    match check(libc::c_long::from(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) })) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOTSUP)) => Ok(()),
        removed => removed.map(drop),
    }
}

/// Sets the modification and access time of an open file, in seconds.
///
/// # Errors
/// Fails when `futimens(2)` fails.
pub fn set_file_time(file: &File, seconds: i64) -> io::Result<()> {
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Sets owner, permissions and time of a file that this process has just created.
///
/// # Errors
/// Fails when `fchown(2)`, `fchmod(2)` or `futimens(2)` fails.
pub fn finish_file(file: &File, mode: u32, owner: (u32, u32), seconds: i64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let changes = (metadata.uid(), metadata.gid()) != owner;
    if changes {
        nix::unistd::fchown(file, Some(owner.0.into()), Some(owner.1.into()))?;
    }
    // Changing the owner clears the setuid and setgid bits.
    if changes || metadata.permissions().mode() & 0o7777 != mode {
        nix::sys::stat::fchmod(file, Mode::from_bits_truncate(mode))?;
    }
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Gives an open file the owner, permissions and time of another file.
///
/// # Errors
/// Fails when `fchown(2)`, `fchmod(2)` or `futimens(2)` fails.
pub fn become_like(file: &File, facts: super::Facts) -> io::Result<()> {
    nix::unistd::fchown(file, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
    nix::sys::stat::fchmod(file, Mode::from_bits_truncate(facts.mode))?;
    let time = nix::sys::time::TimeSpec::new(facts.time.0, facts.time.1);
    Ok(nix::sys::stat::futimens(file, &time, &time)?)
}

/// Sets the owner of the path itself, not of what it links to.
///
/// # Errors
/// Fails when `fchownat(2)` fails.
pub fn set_owner(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(group));
    Ok(nix::unistd::fchownat(nix::fcntl::AT_FDCWD, path, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Copies a whole file, sharing its blocks where the file system can.
///
/// # Errors
/// Fails when reading or writing fails.
pub fn copy_file(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    if length <= SMALL {
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
        (&mut &*from).read_to_end(&mut content)?;
        (&mut &*to).write_all(&content)?;
        return Ok(content.len() as u64);
    }
    if share_blocks(from, to) { Ok(length) } else { io::copy(&mut &*from, &mut &*to) }
}

/// ext4 keeps what is in a directory close together. This tells it that the directories in this one have nothing to do with each
/// other, so that it puts each where few others are (chattr(1), `T`).
///
/// # Errors
/// Fails on file systems that do not know this, and when `ioctl(2)` fails.
pub fn spread(folder: &Path) -> io::Result<()> {
    /// `FS_TOPDIR_FL` of linux/fs.h.
    const TOP: libc::c_int = 0x0002_0000;
    let folder = File::open(folder)?;
    let mut flags: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int (despite the request's name, ioctl_iflags(2)).
    check(libc::c_long::from(unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_GETFLAGS, std::ptr::from_mut(&mut flags)) }))?;
    flags |= TOP;
    // SAFETY: the descriptor is open, and the kernel reads one int.
    check(libc::c_long::from(unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_SETFLAGS, std::ptr::from_ref(&flags)) }))
        .map(drop)
}

/// Makes an empty file share all blocks of another one, if their file system can do that; returns whether it did.
pub fn share_blocks(from: &File, to: &File) -> bool {
    // SAFETY: both descriptors are open for the whole call.
    unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) == 0 }
}

/// Copies the data of a file to an empty one: what is a hole in it stays one. Returns how many bytes were copied.
///
/// # Errors
/// Fails when `lseek(2)`, reading or writing fails.
pub fn copy_data(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    let (mut at, mut copied) = (0, 0);
    while at < length {
        let data = match seek(from, at, Whence::SeekData) {
            // Only a hole follows.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
            found => found?,
        };
        let end = seek(from, data, Whence::SeekHole)?.min(length);
        if end <= data {
            break;
        }
        seek(from, data, Whence::SeekSet)?;
        seek(to, data, Whence::SeekSet)?;
        copied += io::copy(&mut from.take(end - data), &mut &*to)?;
        at = end;
    }
    to.set_len(length)?;
    Ok(copied)
}

fn seek(file: &File, at: u64, whence: Whence) -> io::Result<u64> {
    let at = i64::try_from(at).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    Ok(nix::unistd::lseek(file, at, whence)?.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_file_keeps_mode_and_attributes_and_one_with_several_links_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let file = File::open(&path).unwrap();
        let has_attributes = set_attribute_of(&file, c"user.note", b"mine").is_ok();
        rewrite(&file, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
        if has_attributes {
            assert_eq!(get_file_attribute(&file, c"user.note").unwrap().as_deref(), Some(&b"mine"[..]));
        }
        fs::hard_link(&path, folder.path().join("other")).unwrap();
        let error = rewrite(&file, b"newer").unwrap_err();
        assert!(error.to_string().contains("2 hard links"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(folder.path()).unwrap(), ["file", "other"]);
    }
}

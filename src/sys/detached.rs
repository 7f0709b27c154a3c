//! Detached mounts: they are created, get their attributes, and only then are attached to a tree.
//!
//! A mount that is attached first and made read-only afterwards is writable in between, and a path that is looked up a
//! second time may lead to something else by then (CVE-2021-30465, CVE-2025-31133). Here a mount is held by one descriptor
//! from its creation until it is attached, and its attributes can be set for everything mounted below it (`AT_RECURSIVE`).
//!
//! This needs Linux 5.12 (`mount_setattr(2)`); older kernels are refused.

use super::check;
use nix::mount::MsFlags;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const AT_RECURSIVE: libc::c_uint = 0x8000;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Attributes of a mount to set and to clear, as `MOUNT_ATTR_*` (mount_setattr(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    /// How mounts propagate: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves it unchanged.
    pub propagation: u64,
}

impl Attributes {
    pub const READ_ONLY: u64 = 0x1;
    pub const NO_SUID: u64 = 0x2;
    pub const NO_DEVICES: u64 = 0x4;
    pub const NO_EXECUTION: u64 = 0x8;
    const STRICT_ACCESS_TIMES: u64 = 0x20;
    /// The modes of access times share one field, which must be cleared before one of them is set (mount_setattr(2)).
    const ACCESS_TIMES: u64 = 0x70;
    /// Forbids setuid programs, devices, and executing any program.
    pub const QUIET: u64 = Self::NO_SUID | Self::NO_DEVICES | Self::NO_EXECUTION;

    /// Sets these attributes and clears none.
    pub fn set(set: u64) -> Self {
        Self { set, ..Self::default() }
    }

    /// Converts flags of `mount(2)` to attributes.
    pub fn of_flags(flags: MsFlags) -> u64 {
        [
            (MsFlags::MS_RDONLY, Self::READ_ONLY),
            (MsFlags::MS_NOSUID, Self::NO_SUID),
            (MsFlags::MS_NODEV, Self::NO_DEVICES),
            (MsFlags::MS_NOEXEC, Self::NO_EXECUTION),
            (MsFlags::MS_NOATIME, 0x10),
            (MsFlags::MS_STRICTATIME, Self::STRICT_ACCESS_TIMES),
            (MsFlags::MS_NODIRATIME, 0x80),
            // MS_NOSYMFOLLOW, which nix does not define.
            (MsFlags::from_bits_retain(256), 0x20_0000),
        ]
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(0, |all, (_, attribute)| all | attribute)
    }
}

/// Whether an operation affects only the top of a tree of mounts, or all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    Top,
    Whole,
}

impl Depth {
    fn flag(self) -> libc::c_uint {
        if self == Self::Whole { AT_RECURSIVE } else { 0 }
    }
}

/// A mount that is not attached anywhere. Dropping it unmounts it.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Creates a new file system of the given kind, with comma-separated options as in `mount(8)`.
    ///
    /// # Errors
    /// Fails when `fsopen(2)`, `fsconfig(2)` or `fsmount(2)` fails.
    pub fn new(kind: &str, options: &str, attributes: u64) -> io::Result<Self> {
        Self::labelled(kind, options, attributes, None)
    }

    /// Like [`new`](Self::new), with an SELinux label for all its files if one is given.
    ///
    /// # Errors
    /// Fails under the same conditions as [`new`](Self::new).
    pub fn labelled(kind: &str, options: &str, attributes: u64, label: Option<&str>) -> io::Result<Self> {
        let label = label.map(CString::new).transpose()?;
        let kind = CString::new(kind)?;
        let options = options.split(',').filter(|option| !option.is_empty());
        let options = options.map(|option| match option.split_once('=') {
            Some((key, value)) => Ok((CString::new(key)?, Some(CString::new(value)?))),
            None => Ok((CString::new(option)?, None)),
        });
        let options = options.collect::<io::Result<Vec<_>>>()?;
        let options = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()));
        // A label may itself contain commas.
        Self::configured(&kind, options.chain(label.as_deref().map(|label| (c"context", Some(label)))), attributes)
    }

    /// Creates a new file system of the given kind from keys and values; a key may occur several times.
    ///
    /// # Errors
    /// Fails when `fsopen(2)`, `fsconfig(2)` or `fsmount(2)` fails.
    pub fn configured<'a>(
        kind: &CStr,
        options: impl Iterator<Item = (&'a CStr, Option<&'a CStr>)>,
        attributes: u64,
    ) -> io::Result<Self> {
        // SAFETY: the name ends in NUL; the flag is FSOPEN_CLOEXEC.
        let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
        for (key, value) in options {
            let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
            let value = value.map_or(std::ptr::null(), CStr::as_ptr);
            // SAFETY: the strings end in NUL, or the pointer is null; the descriptor is open.
            check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), value, 0) })?;
        }
        let none = std::ptr::null::<u8>();
        // SAFETY: a command without arguments on an open descriptor.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
        // SAFETY: the descriptor is a context that was created above; the flag is FSMOUNT_CLOEXEC.
        owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) }).map(Self)
    }

    /// Copies the mount that contains the given place, with that place as the top of the copy.
    ///
    /// # Errors
    /// Fails when `open_tree(2)` fails.
    pub fn copy_of(place: impl AsFd, depth: Depth) -> io::Result<Self> {
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint | depth.flag();
        // SAFETY: the path is empty, the descriptor is open.
        owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_fd().as_raw_fd(), c"".as_ptr(), flags) }).map(Self)
    }

    /// Sets and clears attributes.
    ///
    /// # Errors
    /// Fails when `mount_setattr(2)` fails.
    pub fn change(&self, attributes: Attributes, depth: Depth) -> io::Result<()> {
        change_mount(&self.0, attributes, depth)
    }

    /// Attaches the mount at the target, on top of what is there, and returns the descriptor of its top.
    ///
    /// # Errors
    /// Fails when `move_mount(2)` fails.
    pub fn attach(self, target: impl AsFd) -> io::Result<OwnedFd> {
        attach_mount(&self.0, target)?;
        Ok(self.0)
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets and clears attributes of a mount, given the descriptor of its top; with [`Depth::Whole`] also of all mounts below it.
///
/// # Errors
/// Fails when `mount_setattr(2)` fails, or when the kernel does not have it.
pub fn change_mount(top: impl AsFd, attributes: Attributes, depth: Depth) -> io::Result<()> {
    let Attributes { set, mut clear, propagation } = attributes;
    if (set | clear) & Attributes::ACCESS_TIMES != 0 {
        clear |= Attributes::ACCESS_TIMES;
    }
    if set | clear | propagation == 0 {
        return Ok(());
    }
    let attributes: [u64; 4] = [set, clear, propagation, 0];
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | depth.flag();
    // SAFETY: the path is empty, the descriptor refers to a mount, the attributes have the size that is passed.
    let changed = check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            top.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            std::mem::size_of_val(&attributes),
        )
    });
    match changed {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel cannot make whole trees of mounts read-only: Linux 5.12 or later is needed",
        )),
        other => other.map(drop),
    }
}

/// Moves a mount, attached or not, with all that is mounted below it, to the place of the target descriptor.
///
/// # Errors
/// Fails when `move_mount(2)` fails.
pub fn attach_mount(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let (from, to) = (mount.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty, the descriptors refer to a mount and to a place.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) }).map(drop)
}

/// Takes ownership of the descriptor that a system call just returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel made this descriptor for this process just now, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_mounts_have_their_attributes() {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_REC;
        assert_eq!(Attributes::of_flags(flags), Attributes::READ_ONLY | Attributes::QUIET);
        assert_eq!(Attributes::of_flags(MsFlags::MS_STRICTATIME | MsFlags::MS_NODIRATIME), 0xa0);
    }
}

//! Mounts: overlay by the new API where the kernel has it, binds, masks, the move to a new root.

use super::{c_path, check};
use nix::mount::{MntFlags, MsFlags};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Mounts a file system.
///
/// # Errors
/// Those of `mount(2)`.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    let data = (!data.is_empty()).then_some(data);
    Ok(nix::mount::mount(Some(source), target, Some(kind), flags, data)?)
}

/// Binds a path (or an open descriptor's `/proc/self/fd` path) onto another.
///
/// # Errors
/// Those of `mount(2)`.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> io::Result<()> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    Ok(nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)?)
}

/// Changes the flags of a bind mount, or how it propagates.
///
/// # Errors
/// Those of `mount(2)`.
pub fn remount(target: &Path, flags: MsFlags) -> io::Result<()> {
    Ok(nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
}

/// A copy of the mounts at a path that is mounted nowhere yet.
///
/// # Errors
/// Those of `open_tree(2)`.
pub fn detached_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let all = if recursive { AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | all;
    // SAFETY: the path ends in NUL and lives during the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel made this descriptor for this process just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Mounts a detached tree on what a descriptor stands for.
///
/// # Errors
/// Those of `move_mount(2)`.
pub fn attach_tree(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty, the descriptors stand for a mount and a place.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) }).map(drop)
}

/// Sets and clears attributes of a whole tree of mounts, by the descriptor of its top.
///
/// # Errors
/// Those of `mount_setattr(2)`.
pub fn set_mount_attributes(top: &OwnedFd, set: u64, clear: u64) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    // The three ways of access times are one field: it is cleared before one is set (mount_setattr(2)).
    let clear = if set & 0x30 != 0 { clear | 0x70 } else { clear };
    let attributes: [u64; 4] = [set, clear, 0, 0];
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | AT_RECURSIVE;
    // SAFETY: the path is empty, the descriptor stands for a mount, the attributes have the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            top.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            std::mem::size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Detaches whatever is mounted at a path.
///
/// # Errors
/// Those of `umount2(2)`.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn set_string(context: &OwnedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    // SAFETY: both strings end in NUL; the descriptor is open.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0) };
    check(result).map(drop)
}

/// An overlay as a detached mount: `lower` from the topmost layer down.
///
/// # Errors
/// Those of `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`; `ENOSYS` and `EINVAL` where the kernel is
/// older than 6.7 and has no `lowerdir+`.
fn overlay_detached(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in NUL.
    let context = check(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), 1) })?;
    // SAFETY: fsopen returned this descriptor and nothing else owns it.
    let context = unsafe { OwnedFd::from_raw_fd(context as i32) };
    for layer in lower {
        set_string(&context, c"lowerdir+", &c_path(layer)?)?;
    }
    if let Some((upper, work)) = upper {
        set_string(&context, c"upperdir", &c_path(upper)?)?;
        set_string(&context, c"workdir", &c_path(work)?)?;
    }
    // A layer's tar knows neither: files must be whole, and folders where they seem to be.
    set_string(&context, c"metacopy", c"off")?;
    set_string(&context, c"redirect_dir", c"nofollow")?;
    // SAFETY: a command without arguments on an open descriptor.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            0,
        )
    })?;
    // SAFETY: the descriptor is an fs context that was created above.
    let mount = check(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) })?;
    // SAFETY: fsmount returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(mount as i32) })
}

/// Mounts layers as one tree; `lower` from the topmost layer down, `upper` with its work folder.
///
/// # Errors
/// Those of the mount calls; on kernels without `lowerdir+` the names of all layers must fit a page.
pub fn mount_overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    match overlay_detached(lower, upper) {
        Ok(mount) => move_mount(&mount, target),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => overlay_by_page(lower, upper, target),
        Err(error) => Err(error),
    }
}

/// Attaches a detached mount.
fn move_mount(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let target = c_path(target)?;
    // SAFETY: the strings end in NUL; the descriptor is a detached mount.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn overlay_by_page(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    // Names relative to the folder that all layers share keep the option string short.
    let folder = lower.first().and_then(|layer| layer.parent()).unwrap_or(Path::new("/")).to_owned();
    let names: Vec<String> =
        lower.iter().map(|layer| layer.strip_prefix(&folder).unwrap_or(layer).to_string_lossy().into_owned()).collect();
    let mut data = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = upper {
        data.push_str(&format!(",upperdir={},workdir={}", upper.display(), work.display()));
    }
    if data.len() >= 4096 {
        return Err(io::Error::other(format!(
            "{} layers are too many for this kernel's overlay; Linux 6.7 has no such limit",
            lower.len()
        )));
    }
    let before = std::env::current_dir()?;
    std::env::set_current_dir(&folder)?;
    let result = mount("overlay", target, "overlay", MsFlags::empty(), &data);
    std::env::set_current_dir(before)?;
    result
}

/// Makes a folder the root of this mount namespace and lets go of the old one.
///
/// # Errors
/// Those of `chdir(2)`, `pivot_root(2)` and `umount2(2)`.
pub fn enter_root(root: &Path) -> io::Result<()> {
    nix::unistd::chdir(root)?;
    // `pivot_root(".", ".")` stacks the old root on the new one (pivot_root(2), NOTES).
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Makes a mount the root of this mount namespace where the root is one that cannot be pivoted (an initramfs): it is
/// moved over it. `chroot(2)` alone is no wall: who may call it again climbs out. What is covered stays mounted, and a
/// whole /proc or /sys would let a user namespace have a new one with nothing masked (mount_namespaces(7)): those go.
///
/// # Errors
/// Those of `chdir(2)`, `mount(2)` and `chroot(2)`.
pub fn move_root(root: &Path) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    nix::unistd::chdir(root)?;
    for line in mounts.lines().rev() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let place = unescaped(left.split(' ').nth(4).unwrap_or_default());
        if right.starts_with("proc ") || right.starts_with("sysfs ") {
            let is_gone = place.starts_with(root) || nix::mount::umount2(&place, MntFlags::MNT_DETACH).is_ok();
            // What is locked in a user namespace is covered.
            if !is_gone && place.exists() {
                nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)?;
            }
        }
    }
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// A path as /proc/PID/mountinfo has it, with octal numbers for blanks and the like.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (number, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        out.extend(u8::from_str_radix(number, 8).ok());
        out.extend(rest.bytes());
    }
    std::ffi::OsString::from_vec(out).into()
}

/// A string for a mount option, with the commas and backslashes that overlay would split at refused.
///
/// # Errors
/// When the path holds a character that mount options cannot.
pub fn plain_option(path: &Path) -> io::Result<CString> {
    let path = c_path(path)?;
    if path.as_bytes().iter().any(|c| matches!(c, b',' | b':' | b'\\')) {
        return Err(io::Error::other("a path with a comma, colon or backslash cannot be used here"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mountinfo_are_read() {
        for (text, path) in [("/a", "/a"), ("/a\\040b\\134c\\011", "/a b\\c\t"), ("\\043", "#"), ("/broken\\9", "/broken")] {
            assert_eq!(unescaped(text), Path::new(path));
        }
    }
}

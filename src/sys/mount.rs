//! Mounts: overlays (by the new mount API where the kernel has it), bind mounts, and the change to a new root.

use super::c_path;
use super::detached::Detached;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::Mode;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Mounts a file system.
///
/// # Errors
/// Fails when `mount(2)` fails.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    let data = (!data.is_empty()).then_some(data);
    Ok(nix::mount::mount(Some(source), target, Some(kind), flags, data)?)
}

/// Bind-mounts a path (or the `/proc/self/fd` path of an open descriptor) onto another.
///
/// # Errors
/// Fails when `mount(2)` fails.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> io::Result<()> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    Ok(nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)?)
}

/// Changes the flags of a bind mount, or how it propagates.
///
/// # Errors
/// Fails when `mount(2)` fails.
pub fn remount(target: &Path, flags: MsFlags) -> io::Result<()> {
    Ok(nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
}

/// Detaches whatever is mounted at a path.
///
/// # Errors
/// Fails when `umount2(2)` fails.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Creates an overlay as a detached mount; `lower` lists the layers from the topmost down.
///
/// # Errors
/// Fails when `fsopen(2)`, `fsconfig(2)` or `fsmount(2)` fails: with `ENOSYS` or `EINVAL` when the kernel is
/// older than 6.7 and has no `lowerdir+`.
fn overlay_detached(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<Detached> {
    let layers = lower.iter().map(c_path).collect::<io::Result<Vec<_>>>()?;
    let upper = upper.map(|(upper, work)| Ok::<_, io::Error>((c_path(upper)?, c_path(work)?))).transpose()?;
    let mut options: Vec<(&CStr, Option<&CStr>)> = layers.iter().map(|layer| (c"lowerdir+", Some(layer.as_c_str()))).collect();
    if let Some((upper, work)) = &upper {
        options.extend([(c"upperdir", Some(upper.as_c_str())), (c"workdir", Some(work.as_c_str()))]);
    }
    // A layer's tar can represent neither: files must be complete, and directories must be where they appear to be.
    options.extend([(c"metacopy", Some(c"off")), (c"redirect_dir", Some(c"nofollow"))]);
    Detached::configured(c"overlay", options.into_iter(), 0)
}

/// Mounts layers as one tree. `lower` lists the layers from the topmost down, `upper` is the upper and the work directory.
///
/// # Errors
/// Fails when one of the mount calls fails. On kernels without `lowerdir+` it also fails when the names of all layers
/// do not fit into one page.
pub fn mount_overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    let lower = &topmost(lower);
    match overlay_detached(lower, upper) {
        Ok(mount) => {
            let place = nix::fcntl::open(target, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            mount.attach(&place).map(drop)
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => overlay_by_page(lower, upper, target),
        Err(error) => Err(error),
    }
}

/// The layers without those that appear again further up. Images often have a layer twice, such as the empty one, and the
/// kernel refuses a directory that is given twice (`ELOOP`); everything in the lower one is hidden by the upper one anyway.
fn topmost(lower: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    lower.iter().filter(|layer| seen.insert(layer.as_path())).cloned().collect()
}

fn overlay_by_page(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    // Names relative to the directory that all layers share keep the option string short.
    let folder = lower.first().and_then(|layer| layer.parent()).unwrap_or(Path::new("/")).to_owned();
    let names: Vec<String> =
        lower.iter().map(|layer| layer.strip_prefix(&folder).unwrap_or(layer).to_string_lossy().into_owned()).collect();
    let mut data = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = upper {
        data.push_str(&format!(",upperdir={},workdir={}", upper.display(), work.display()));
    }
    let names = lower.iter().map(PathBuf::as_path).chain(upper.iter().flat_map(|(upper, work)| [*upper, *work]));
    if let Some(odd) = names.into_iter().find(|path| path.as_os_str().as_encoded_bytes().iter().any(|c| b",:\\".contains(c))) {
        return Err(io::Error::other(format!(
            "{}: this kernel's overlay does not accept a path with a comma, colon or backslash",
            odd.display()
        )));
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

/// Makes a mount the root of this mount namespace and unmounts the old root.
///
/// # Errors
/// Fails when `fchdir(2)`, `pivot_root(2)` or `umount2(2)` fails.
pub fn enter_root(root: impl AsFd) -> io::Result<()> {
    nix::unistd::fchdir(root)?;
    // `pivot_root(".", ".")` stacks the old root on the new one (pivot_root(2), NOTES).
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Makes a mount the root of this mount namespace where pivot_root(2) does not work (on an initramfs), by moving it over
/// the old root. `chroot(2)` alone does not confine: a process that may call it again can escape. What is covered stays
/// mounted, and an unmasked /proc or /sys among it would let a user namespace mount a new one with nothing masked
/// (mount_namespaces(7)), so those are unmounted.
///
/// # Errors
/// Fails when `chdir(2)`, `mount(2)` or `chroot(2)` fails.
pub fn move_root(root: &Path) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    nix::unistd::chdir(root)?;
    for line in mounts.lines().rev() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let place = unescaped(left.split(' ').nth(4).unwrap_or_default());
        if right.starts_with("proc ") || right.starts_with("sysfs ") {
            let is_gone = place.starts_with(root) || nix::mount::umount2(&place, MntFlags::MNT_DETACH).is_ok();
            // A mount that is locked in a user namespace cannot be unmounted, so it is covered instead.
            if !is_gone && place.exists() {
                nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)?;
            }
        }
    }
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// The paths on which something is mounted in this mount namespace.
///
/// # Errors
/// Fails when `/proc/self/mountinfo` cannot be read.
pub fn mount_points() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect())
}

/// Decodes a path from /proc/PID/mountinfo, where blanks and some other characters are written as octal numbers.
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

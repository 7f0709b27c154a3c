//! Protects this program's own file from being written by a container.
//!
//! A process that enters a container can be made to execute `/proc/self/exe`, and through that link the
//! host's binary could be opened and overwritten (CVE-2019-5736). So every process that enters a container runs
//! from a detached read-only mount of the file: nothing can be written through its link. Where the kernel
//! does not allow such a mount, a sealed copy in memory is used.

use super::check;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A path for executing this program. It is valid as long as this process lives.
///
/// # Errors
/// Fails when `open_tree(2)`, `mount_setattr(2)` or `memfd_create(2)` fails.
pub fn own_program() -> io::Result<PathBuf> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let fd = match PROGRAM.get() {
        Some(fd) => fd,
        None if is_protected() => return Ok("/proc/self/exe".into()),
        None => {
            let made = read_only_mount().or_else(|_| sealed_copy())?;
            PROGRAM.get_or_init(|| made)
        }
    };
    Ok(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())))
}

/// Executes this program again with the same arguments, from a file that no container can write. It returns at once if
/// that has been done already.
///
/// # Errors
/// Fails when the protected file cannot be created or `execve(2)` fails.
pub fn protect() -> io::Result<()> {
    if is_protected() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    Err(std::process::Command::new(own_program()?).arg0(name).args(arguments).exec())
}

/// Whether this process runs from a file that cannot be written through its link.
fn is_protected() -> bool {
    let read_only = nix::sys::statvfs::statvfs("/proc/self/exe")
        .is_ok_and(|found| found.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    read_only || File::open("/proc/self/exe").is_ok_and(|file| is_sealed(&file))
}

/// Whether a file is a file in memory that is sealed against writing.
fn is_sealed(file: &File) -> bool {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    // Another kind of file has no seals at all.
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the path ends in NUL.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/proc/self/exe".as_ptr(), flags) })?;
    // SAFETY: open_tree returned this descriptor and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // struct mount_attr: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the path is empty, the descriptor refers to a mount, the attributes have the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            std::mem::size_of_val(&attributes),
        )
    })?;
    Ok(fd)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(c"stead", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut copy = File::from(fd);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    copy.flush()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sealed_copy_is_protected() {
        assert!(is_sealed(&File::from(sealed_copy().unwrap())));
        let open = nix::sys::memfd::memfd_create(c"stead", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(!is_sealed(&File::from(open)) && !is_sealed(&File::open("/proc/self/exe").unwrap()));
    }
}

//! The root file system: layers or a directory, what is mounted in it, devices, masks.
//!
//! Everything beneath the root is hostile: it may hold a link wherever a directory is expected, and another container may
//! change it meanwhile where they share a volume. So the tree is put together of detached mounts (`sys::Detached`): each
//! is made, gets its attributes for all that is below it, and is then attached to a descriptor; nothing is looked up a
//! second time (CVE-2021-30465 and its successors). What the kernel itself shows stands on ordinary directories only and is
//! always new (`mounts.rs`), and is masked by the real null device (`kernel.rs`); images and secrets are `project.rs`'s.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod kernel;
mod mounts;
mod options;
mod project;

pub use mounts::Sources;

use super::host::Host;
use super::identity::{Identity, identity};
use super::spec::Blueprint;
use crate::sys::{self, Attributes, Depth, doing};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Paths that may be made in a root because something is mounted there.
pub const TARGETS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// A root being put together in this mount namespace.
pub struct Root {
    /// The top of its mount.
    pub fd: OwnedFd,
    /// An empty directory that nobody can write, once something is masked.
    nothing: OnceCell<OwnedFd>,
}

/// A path by which a descriptor can be named to calls that take paths.
pub fn through(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The flags by which the specification names how mounts travel (mount_namespaces(7)), without `r` for a whole tree.
fn travel(word: &str) -> MsFlags {
    match word {
        "private" => MsFlags::MS_PRIVATE,
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => MsFlags::empty(),
    }
}

/// A path beneath a place of the host, opened so that links cannot lead out of it; without one, the place itself.
fn beneath(place: OwnedFd, subpath: Option<&Path>) -> io::Result<OwnedFd> {
    match subpath {
        Some(subpath) => doing(&format!("its subpath {}", subpath.display()), sys::open_in_root(&place, subpath, OFlag::O_PATH)),
        None => Ok(place),
    }
}

impl Root {
    /// A root that is mounted already.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { fd, nothing: OnceCell::new() })
    }

    /// Where a blueprint's root is.
    ///
    /// # Errors
    /// A configuration without one.
    pub fn place(blueprint: &Blueprint) -> io::Result<&Path> {
        let root = blueprint.oci.root().as_ref().ok_or_else(|| io::Error::other("the configuration has no `root`"))?;
        Ok(root.path())
    }

    /// Mounts a blueprint's root and everything in it, in a mount namespace that is the container's.
    ///
    /// # Errors
    /// The mount that failed and why.
    pub fn assemble(blueprint: &Blueprint, sources: Sources, contents: &[Vec<u8>], host: &Host) -> io::Result<Self> {
        let place = Self::place(blueprint)?;
        let linux = blueprint.oci.linux().as_ref();
        let spread = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default();
        // What the root is to be is set once it is `/`: pivot_root(2) takes no shared parent.
        let first = if spread.trim_start_matches('r') == "private" { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
        doing("cannot detach from the host's mounts", sys::remount(Path::new("/"), first | MsFlags::MS_REC))?;
        match &blueprint.beyond.layers {
            Some(layers) => {
                let made = sys::mount_overlay(&layers.trees, Some((&layers.upper, &layers.work)), place);
                doing("cannot mount the root", made)?;
            }
            None => doing("cannot bind the root", sys::bind(place, place, true))?,
        }
        let root = doing("cannot open the root", Self::at(place))?;
        let late = root.mounts(blueprint, sources, host, first)?;
        root.files(blueprint, contents)?;
        if let Some(process) = blueprint.oci.process() {
            // What cannot be made now is told when it is entered.
            let _ = root.folder(&process.cwd().to_string_lossy());
        }
        for (shown, top) in late {
            let made = sys::change_mount(&top, Attributes::set(Attributes::READ_ONLY), Depth::Top);
            doing(&format!("cannot make {shown} read-only"), made)?;
        }
        Ok(root)
    }

    /// Who a process will be, by the root's own files.
    ///
    /// # Errors
    /// Unknown users.
    pub fn identity(&self, user: &str, groups: &[String]) -> io::Result<Identity> {
        identity(&self.fd, user, groups)
    }

    /// Opens a directory to mount on, making it if it is not there.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `mkdirat(2)`.
    pub fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        sys::make_folders_in_root(&self.fd, Path::new(path), 0o755)
    }

    /// Opens a file to mount on, making it if it is not there.
    ///
    /// # Errors
    /// Those of `openat2(2)`.
    pub fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = sys::make_folders_in_root(&self.fd, path.parent().unwrap_or(Path::new("")), 0o755)?;
                let name = path.file_name().ok_or_else(|| io::Error::other("not a file's path"))?;
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                match nix::fcntl::openat(&parent, name, flags, Mode::from_bits_truncate(0o644)) {
                    Ok(_) | Err(nix::errno::Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                sys::open_in_root(&self.fd, path, OFlag::O_PATH)
            }
            other => other,
        }
    }

    /// Opens one of the root's own directories, making it if it is not there: an ordinary one, with nothing mounted on it.
    /// The kernel's file systems stand on no other (CVE-2019-19921, CVE-2023-27561, CVE-2025-31133).
    fn own_folder(&self, name: &str) -> io::Result<OwnedFd> {
        let open = || sys::open_here(&self.fd, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = nix::sys::stat::mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755));
                match made {
                    Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open()
            }
            other => other,
        };
        opened.map_err(|error| match sys::errno(&error) {
            Some(libc::ELOOP | libc::ENOTDIR) => io::Error::other(format!(
                "/{name} must be mounted on an ordinary directory, and the image has a link or a file there: remove it from the image"
            )),
            Some(libc::EXDEV) => io::Error::other(format!("something else is mounted at /{name}, which the runtime mounts itself")),
            _ => sys::in_words(&format!("cannot open /{name}"), error),
        })
    }

    /// Makes this root `/`; `in_place` where pivot_root(2) does not work, on a root in memory.
    ///
    /// # Errors
    /// Those of `pivot_root(2)`.
    pub fn enter(self, in_place: Option<&Path>) -> io::Result<()> {
        let entered = match in_place {
            Some(place) => sys::move_root(place),
            None => sys::enter_root(&self.fd),
        };
        doing("cannot enter the root", entered)
    }
}

/// What is done once the root is `/`: how mounts travel, read-only and masked paths.
///
/// # Errors
/// What the kernel refuses; anything that hides whether a path is there.
pub fn protect(blueprint: &Blueprint) -> io::Result<()> {
    let root = Root::at(Path::new("/"))?;
    let linux = blueprint.oci.linux().as_ref();
    if let Some(spread) = linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        let flags = match travel(spread.trim_start_matches('r')) {
            none if none.is_empty() => MsFlags::MS_SLAVE,
            flags => flags,
        };
        let all = if spread.starts_with('r') { MsFlags::MS_REC } else { MsFlags::empty() };
        // The root alone is private, or a slave, since it was mounted.
        if !all.is_empty() || !flags.intersects(MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE) {
            doing("cannot set the root's propagation", sys::remount(Path::new("/"), flags | all))?;
        }
    }
    if blueprint.oci.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        let made = sys::change_mount(&root.fd, Attributes::set(Attributes::READ_ONLY), Depth::Top);
        doing("cannot make the root read-only", made)?;
    }
    let Some(linux) = linux else { return Ok(()) };
    for path in linux.readonly_paths().iter().flatten().filter(|path| !is_hidden_early(blueprint, path)) {
        root.protect(path.trim_start_matches('/'))?;
    }
    for path in linux.masked_paths().iter().flatten().filter(|path| !is_hidden_early(blueprint, path)) {
        root.mask(path.trim_start_matches('/'))?;
    }
    Ok(())
}

/// Whether a path of the kernel's is made read-only, or masked, before its file system has a place: in a project's
/// container, whose mounts come in an order that is ours. In a bundle something may be mounted over it.
fn is_hidden_early(blueprint: &Blueprint, path: &str) -> bool {
    blueprint.beyond.bundle.is_none() && (path.starts_with("/proc/") || path.starts_with("/sys/"))
}

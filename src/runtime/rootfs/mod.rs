//! The root file system: layers or a directory, what is mounted in it, devices, masks.
//!
//! Everything beneath the root is hostile: it may contain a symbolic link wherever a directory is expected, and another
//! container that shares a volume may change it meanwhile. So the tree is assembled from detached mounts (`sys::Detached`):
//! each is created, gets its attributes for everything below it, and is then attached at a descriptor; no path is looked up
//! a second time (CVE-2021-30465 and its successors). The kernel's file systems are mounted on ordinary directories only and
//! are always new mounts (`mounts.rs`), and paths are masked with the real null device (`kernel.rs`). Images and secrets are
//! in `project.rs`.

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

/// Paths that may be created in a root because something is mounted there.
pub const TARGETS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// A root that is being assembled in this mount namespace.
pub struct Root {
    /// The descriptor of the top of its mount.
    pub fd: OwnedFd,
    /// An empty read-only directory, created when the first directory is masked.
    nothing: OnceCell<OwnedFd>,
}

/// The path of a descriptor, for calls that take paths.
pub fn through(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The mount flag for a propagation type as the specification names it (mount_namespaces(7)), without the `r` for a whole
/// tree.
fn travel(word: &str) -> MsFlags {
    match word {
        "private" => MsFlags::MS_PRIVATE,
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => MsFlags::empty(),
    }
}

/// Opens a subpath of a place of the host so that symbolic links cannot lead out of it. Without a subpath, it is the place
/// itself.
fn beneath(place: OwnedFd, subpath: Option<&Path>) -> io::Result<OwnedFd> {
    match subpath {
        Some(subpath) => doing(&format!("its subpath {}", subpath.display()), sys::open_in_root(&place, subpath, OFlag::O_PATH)),
        None => Ok(place),
    }
}

impl Root {
    /// Opens a root that is already mounted.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { fd, nothing: OnceCell::new() })
    }

    /// The path of a blueprint's root.
    ///
    /// # Errors
    /// Fails when the configuration has none.
    pub fn place(blueprint: &Blueprint) -> io::Result<&Path> {
        let root = blueprint.oci.root().as_ref().ok_or_else(|| io::Error::other("the configuration has no `root`"))?;
        Ok(root.path())
    }

    /// Mounts a blueprint's root and everything in it. It must be called in the container's mount namespace.
    ///
    /// # Errors
    /// Says which mount failed and why.
    pub fn assemble(blueprint: &Blueprint, sources: Sources, contents: &[Vec<u8>], host: &Host) -> io::Result<Self> {
        let place = Self::place(blueprint)?;
        let linux = blueprint.oci.linux().as_ref();
        let spread = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default();
        // The root's own propagation is set once it is `/`: pivot_root(2) refuses a shared parent mount.
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
            // If it cannot be created now, entering it later reports that.
            let _ = root.folder(&process.cwd().to_string_lossy());
        }
        for (shown, top) in late {
            let made = sys::change_mount(&top, Attributes::set(Attributes::READ_ONLY), Depth::Top);
            doing(&format!("cannot make {shown} read-only"), made)?;
        }
        Ok(root)
    }

    /// The identity that a process will have, according to the root's own user and group files.
    ///
    /// # Errors
    /// Fails when the user or a group is unknown.
    pub fn identity(&self, user: &str, groups: &[String]) -> io::Result<Identity> {
        identity(&self.fd, user, groups)
    }

    /// Opens a directory to mount on, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails when `openat2(2)` or `mkdirat(2)` fails.
    pub fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        match sys::make_folders_in_root(&self.fd, Path::new(path), 0o755) {
            // A dangling link is on the way: what it leads to is created inside the root, as runc does.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                sys::make_folders_in_root(&self.fd, &sys::without_links_in_root(&self.fd, Path::new(path))?, 0o755)
            }
            made => made,
        }
    }

    /// Opens a file to mount on, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails when `openat2(2)` fails.
    pub fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = &sys::without_links_in_root(&self.fd, path)?;
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

    /// Opens one of the root's own directories, and creates it if it does not exist. It must be an ordinary directory with
    /// nothing mounted on it; the kernel's file systems are mounted nowhere else (CVE-2019-19921, CVE-2023-27561,
    /// CVE-2025-31133).
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

    /// Makes this root `/`. `in_place` is given where pivot_root(2) does not work, on a root in memory.
    ///
    /// # Errors
    /// Fails when the root cannot be entered.
    pub fn enter(self, in_place: Option<&Path>) -> io::Result<()> {
        let entered = match in_place {
            Some(place) => sys::move_root(place),
            None => sys::enter_root(&self.fd),
        };
        doing("cannot enter the root", entered)
    }
}

/// Does what remains once the root is `/`: sets the propagation of mounts, makes paths read-only, and masks paths.
///
/// # Errors
/// Fails when the kernel refuses, and when it cannot be determined whether a path exists.
pub fn protect(blueprint: &Blueprint) -> io::Result<()> {
    let root = Root::at(Path::new("/"))?;
    let linux = blueprint.oci.linux().as_ref();
    if let Some(spread) = linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        let flags = match travel(spread.trim_start_matches('r')) {
            none if none.is_empty() => MsFlags::MS_SLAVE,
            flags => flags,
        };
        let all = if spread.starts_with('r') { MsFlags::MS_REC } else { MsFlags::empty() };
        // The root mount itself has been private, or a slave, since it was mounted.
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

/// Whether a path of the kernel's file systems is made read-only, or masked, before its file system is attached. That is so
/// in a project's container, where we decide the order of mounts. In a bundle something may be mounted over the path.
fn is_hidden_early(blueprint: &Blueprint, path: &str) -> bool {
    blueprint.beyond.bundle.is_none() && (path.starts_with("/proc/") || path.starts_with("/sys/"))
}

//! The root file system: overlay, /dev, /sys, mounts, /proc, masks.
//!
//! Everything beneath the root is hostile: it may hold a link wherever a folder is expected, and another container may
//! change it meanwhile where they share a volume. So the tree is put together of detached mounts (`sys::Detached`): each
//! is made, gets its attributes for all that is below it, and is then attached to a descriptor; nothing is looked up a
//! second time (CVE-2021-30465 and its successors). What the kernel itself shows (`kernel.rs`) stands on ordinary folders
//! only, is always new, and is masked by its own descriptor; what the project mounts is `project.rs`'s.

mod kernel;
mod project;

pub use kernel::DEVICE_LINKS;

use super::identity::{Identity, identity};
use super::spec::{MountKind, MountSpec, NetSpec, Spec};
use crate::spec::{Propagation, is_namespaced};
use crate::sys::{self, Attributes, Depth, doing};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use project::Given;
use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Paths that may be made in a root because something is mounted there.
pub const TARGETS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// A root being put together in this mount namespace.
pub struct Root {
    /// The top of its mount.
    pub fd: OwnedFd,
    /// The tops of what the kernel shows in it.
    dev: OnceCell<OwnedFd>,
    sys: OnceCell<OwnedFd>,
    /// An empty folder that nobody can write, once something is masked.
    nothing: OnceCell<OwnedFd>,
}

/// A path by which a descriptor can be named to calls that take paths.
pub fn through(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

impl Root {
    /// A root that is mounted already.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { fd, dev: OnceCell::new(), sys: OnceCell::new(), nothing: OnceCell::new() })
    }

    /// Mounts the image's layers and everything that needs no pid namespace.
    ///
    /// # Errors
    /// The mount that failed and why.
    pub fn assemble(spec: &Spec, contents: &[Vec<u8>]) -> io::Result<Self> {
        // Held before this namespace lets go of the host's: what is to appear on the host needs its company.
        let given = Given::open(spec)?;
        let travels = |mount: &MountSpec| matches!(&mount.kind, MountKind::Bind { propagation, .. } if *propagation != Propagation::Private);
        let spread = if spec.mounts.iter().any(travels) { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
        doing("cannot detach from the host's mounts", sys::remount(Path::new("/"), MsFlags::MS_REC | spread))?;
        doing("cannot mount the root", sys::mount_overlay(&spec.layers, Some((&spec.upper, &spec.work)), &spec.root))?;
        let root = doing("cannot open the root", Self::at(&spec.root))?;
        root.devices(spec, &given)?;
        let privileged = spec.security.privileged;
        root.sysfs(if privileged { Attributes::QUIET } else { Attributes::QUIET | Attributes::READ_ONLY })?;
        if !privileged {
            root.mask_sysfs()?;
        }
        root.mounts(spec, given)?;
        root.files(spec, contents)?;
        Ok(root)
    }

    /// What needs the container's own pid and cgroup namespaces: cgroups, /proc and its masks.
    ///
    /// # Errors
    /// The mount that failed and why.
    pub fn complete(&self, spec: &Spec, host: &super::host::Host) -> io::Result<()> {
        let privileged = spec.security.privileged;
        let attributes = if privileged { Attributes::QUIET } else { Attributes::QUIET | Attributes::READ_ONLY };
        // The project may have put something else there, and said so in its plan.
        let covered = |mount: &MountSpec| Path::new("/sys/fs/cgroup").starts_with(&mount.to);
        if !spec.mounts.iter().any(covered) {
            self.own_cgroups(host, attributes)?;
        }
        self.proc(&spec.scratch, privileged)?;
        if spec.security.read_only {
            let made = sys::change_mount(&self.fd, Attributes::set(Attributes::READ_ONLY), Depth::Top);
            doing("cannot make the root read-only", made)?;
        }
        Ok(())
    }

    /// Who a process will be, by the root's own files.
    ///
    /// # Errors
    /// Unknown users.
    pub fn identity(&self, user: &str, groups: &[String]) -> io::Result<Identity> {
        identity(&self.fd, user, groups)
    }

    /// Opens a folder to mount on, making it if it is not there.
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

    /// Opens one of the root's own folders, making it if it is not there: an ordinary one, with nothing mounted on it.
    /// The kernel's file systems stand on no other (CVE-2019-19921, CVE-2023-27561, CVE-2025-31133).
    ///
    /// # Errors
    /// A link or a file in its place; something that is mounted there.
    pub fn own_folder(&self, name: &str) -> io::Result<OwnedFd> {
        let open = || sys::open_here(&self.fd, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = Path::new(name);
                if let Some(parent) = folder.parent().and_then(Path::to_str).filter(|parent| !parent.is_empty()) {
                    self.own_folder(parent)?;
                }
                let parent = sys::open_here(&self.fd, folder.parent().unwrap_or(Path::new("")), OFlag::O_PATH)?;
                match nix::sys::stat::mkdirat(&parent, folder.file_name().unwrap_or_default(), Mode::from_bits_truncate(0o755)) {
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

    /// Mounts a file system at a path, by the older call: with options of any length.
    ///
    /// # Errors
    /// Those of opening the path and of `mount(2)`.
    pub fn mount(&self, source: &str, to: &str, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
        let target = doing(&format!("cannot open /{to}"), self.folder(to))?;
        doing(&format!("cannot mount /{to}"), sys::mount(source, &through(&target), kind, flags, data))
    }

    /// Writes kernel settings of this container's own namespaces.
    ///
    /// # Errors
    /// A setting that is not namespaced, or that the kernel refuses.
    pub fn sysctls(spec: &Spec) -> io::Result<()> {
        for (name, value) in &spec.sysctls {
            if !is_namespaced(name, spec.network != NetSpec::Host, !spec.host_ipc) {
                return Err(io::Error::other(format!("the setting {name} is the host's, not the container's")));
            }
            doing(&format!("cannot set {name}"), fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value))?;
        }
        Ok(())
    }

    /// Makes a working directory.
    ///
    /// # Errors
    /// Those of making folders.
    pub fn make_workdir(&self, path: &str) -> io::Result<()> {
        doing(&format!("cannot make the working directory {path}"), self.folder(path.trim_start_matches('/')).map(drop))
    }

    /// Makes this root `/`.
    ///
    /// # Errors
    /// Those of `pivot_root(2)`.
    pub fn enter(self) -> io::Result<()> {
        doing("cannot enter the root", sys::enter_root(&self.fd))
    }
}

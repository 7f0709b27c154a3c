//! What the kernel provides in a root: devices, the links to them, and cgroups; also read-only and masked paths.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::Root;
use super::options::options;
use crate::runtime::host::Host;
use crate::runtime::spec::Blueprint;
use crate::sys::{self, Attributes, Depth, Detached, doing};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use oci_spec::runtime::LinuxDeviceType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The links in /dev that Docker creates, too.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// The devices that every container has (OCI runtime specification, "Default Devices").
const ALWAYS: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Creates a directory in one of the kernel's file systems and opens it.
fn inner(top: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match nix::sys::stat::mkdirat(top, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    sys::open_here(top, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)
}

impl Root {
    /// Creates the devices that every container has, then the container's own, then the links. A bind-mounted /dev stays as it
    /// is.
    pub(super) fn devices(&self, blueprint: &Blueprint) -> io::Result<()> {
        let mut on_dev = blueprint.oci.mounts().iter().flatten().filter(|one| one.destination() == Path::new("/dev"));
        if on_dev.clone().any(|one| options(one).bind) {
            return Ok(());
        }
        for (name, major, minor) in ALWAYS {
            let made = device(self, &Path::new("dev").join(name), SFlag::S_IFCHR, (major, minor), 0o666, (0, 0));
            doing(&format!("cannot make /dev/{name}"), made)?;
        }
        for one in blueprint.oci.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten() {
            let path = one.path().strip_prefix("/").unwrap_or(one.path());
            let kind = match one.typ() {
                LinuxDeviceType::B => SFlag::S_IFBLK,
                LinuxDeviceType::P => SFlag::S_IFIFO,
                _ => SFlag::S_IFCHR,
            };
            let number = (u64::try_from(one.major()).unwrap_or(0), u64::try_from(one.minor()).unwrap_or(0));
            let owner = (one.uid().unwrap_or(0), one.gid().unwrap_or(0));
            let made = device(self, path, kind, number, one.file_mode().unwrap_or(0o666), owner);
            doing(&format!("cannot make {}", one.path().display()), made)?;
        }
        links(self, on_dev.next().is_some())
    }

    /// Mounts the cgroup file systems on a directory, as seen from the container's own cgroup. A container without a cgroup
    /// namespace gets only its own part of them.
    ///
    /// # Errors
    /// Fails when a mount fails.
    pub fn cgroups(&self, target: &OwnedFd, host: &Host, attributes: u64, own: Option<&str>) -> io::Result<()> {
        let part = |place: &Path, target: OwnedFd| {
            let bound = Detached::copy_of(sys::open_folder(place)?, Depth::Top)?;
            bound.change(Attributes::set(attributes), Depth::Top)?;
            bound.attach(target).map(drop)
        };
        let failed = "cannot mount the cgroups";
        if host.v1.is_empty() {
            let target = target.try_clone()?;
            return match (&host.v2, own) {
                (Some(place), Some(own)) => doing(failed, part(&place.join(own), target)),
                (Some(_), None) => {
                    let made =
                        Detached::new("cgroup2", "nsdelegate", attributes).or_else(|_| Detached::new("cgroup2", "", attributes));
                    doing(failed, made.and_then(|made| made.attach(target)).map(drop))
                }
                (None, _) => Ok(()),
            };
        }
        let top = Detached::new("tmpfs", "mode=755", attributes & !Attributes::READ_ONLY);
        let top = doing(failed, top.and_then(|top| top.attach(target)))?;
        for (name, place) in &host.v1 {
            // Controllers that share a hierarchy are mounted once, under all their names.
            let folder = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let first = name.strip_prefix("name=").unwrap_or(name);
            if folder.split(',').next() != Some(first) {
                continue;
            }
            let bound = match own {
                // The container is not in a cgroup of this controller, so there is nothing to show.
                Some(own) if is_absent(&sys::open_folder(&place.join(own))) => continue,
                Some(own) => part(&place.join(own), inner(&top, &folder)?),
                None => {
                    let options = if name.starts_with("name=") { format!("none,{name}") } else { folder.clone() };
                    Detached::new("cgroup", &options, attributes).and_then(|made| made.attach(inner(&top, &folder)?)).map(drop)
                }
            };
            doing(&format!("{failed} of {folder}"), bound)?;
        }
        sys::change_mount(&top, Attributes::set(attributes), Depth::Top)
    }

    /// Makes a path of the root read-only, if it exists.
    ///
    /// # Errors
    /// Fails when a mount fails, and when it cannot be determined whether the path exists.
    pub(super) fn protect(&self, path: &str) -> io::Result<()> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Ok(found) => protect_place(&found, &format!("/{path}")),
            Err(error) => absent_or(&format!("cannot look at /{path}"), error),
        }
    }

    /// Makes a path of one of the kernel's file systems read-only, if it exists.
    pub(super) fn protect_in(&self, top: &OwnedFd, path: &str, shown: &str) -> io::Result<()> {
        match sys::open_here(top, path, OFlag::O_PATH) {
            Ok(found) => protect_place(&found, &format!("/{shown}/{path}")),
            Err(error) => absent_or(&format!("cannot look at /{shown}/{path}"), error),
        }
    }

    /// Hides a path of one of the kernel's file systems, if it exists.
    pub(super) fn mask_in(&self, top: &OwnedFd, path: &str, shown: &str) -> io::Result<()> {
        match sys::open_here(top, path, OFlag::O_PATH) {
            Ok(found) => doing(&format!("cannot mask /{shown}/{path}"), self.cover(&found)),
            Err(error) => absent_or(&format!("cannot look at /{shown}/{path}"), error),
        }
    }

    /// Hides a path of the root, if it exists.
    ///
    /// # Errors
    /// Fails when a mount fails, when /dev/null is not the null device, and when it cannot be determined whether the path
    /// exists.
    pub(super) fn mask(&self, path: &str) -> io::Result<()> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Ok(found) => doing(&format!("cannot mask /{path}"), self.cover(&found)),
            Err(error) => absent_or(&format!("cannot look at /{path}"), error),
        }
    }

    /// Covers a place: a directory with an empty directory, anything else with the null device.
    fn cover(&self, found: &OwnedFd) -> io::Result<()> {
        if kind_of(found)? != SFlag::S_IFDIR {
            return Detached::copy_of(self.null()?, Depth::Top)?.attach(found).map(drop);
        }
        match self.nothing.get() {
            // All masked directories share one file system: creating and removing one for each would take time.
            Some(nothing) => Detached::copy_of(nothing, Depth::Top)?.attach(found).map(drop),
            None => {
                let empty = Detached::new("tmpfs", "size=0k", Attributes::QUIET | Attributes::READ_ONLY)?.attach(found)?;
                // It was empty a moment ago.
                let _ = self.nothing.set(empty);
                Ok(())
            }
        }
    }

    /// Opens the null device of the root. In a bundle anything may be at its path, and masking with something else would not
    /// hide anything (CVE-2025-31133).
    fn null(&self) -> io::Result<OwnedFd> {
        let null = sys::open_in_root(&self.fd, "dev/null", OFlag::O_PATH)?;
        if kind_of(&null)? != SFlag::S_IFCHR || fstat(&null)?.st_rdev != makedev(1, 3) {
            return Err(io::Error::other("/dev/null is not the null device, so nothing can be masked with it"));
        }
        Ok(null)
    }
}

fn is_absent<T>(opened: &io::Result<T>) -> bool {
    opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// If the path does not exist, there is nothing to hide. Any other error ends the start.
fn absent_or(what: &str, error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(sys::in_words(what, error)) }
}

/// Makes a place read-only, with all that is mounted below it.
fn protect_place(found: &OwnedFd, shown: &str) -> io::Result<()> {
    let protect = || {
        let copy = Detached::copy_of(found, Depth::Whole)?;
        copy.change(Attributes::set(Attributes::READ_ONLY | Attributes::QUIET), Depth::Whole)?;
        copy.attach(found).map(drop)
    };
    doing(&format!("cannot make {shown} read-only"), protect())
}

fn kind_of(found: impl AsFd) -> io::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(found)?.st_mode) & SFlag::S_IFMT)
}

fn device(root: &Root, path: &Path, kind: SFlag, number: (u64, u64), mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let parent = sys::make_folders_in_root(&root.fd, path.parent().unwrap_or(Path::new("")), 0o755)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("not a device's path"))?;
    let permissions = Mode::from_bits_truncate(mode & 0o777);
    match nix::sys::stat::mknodat(&parent, name, kind, permissions, makedev(number.0, number.1)) {
        Ok(()) => {
            nix::unistd::fchownat(
                &parent,
                name,
                Some(owner.0.into()),
                Some(owner.1.into()),
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
        }
        // What the image already has there is used only if it is exactly this device (CVE-2025-31133).
        Err(nix::errno::Errno::EEXIST) => {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let found = nix::sys::stat::fstat(nix::fcntl::openat(&parent, name, flags, Mode::empty())?)?;
            let same = found.st_rdev == makedev(number.0, number.1) && found.st_mode & SFlag::S_IFMT.bits() == kind.bits();
            if !same {
                return Err(io::Error::other(format!("/{} exists already and is something else", path.display())));
            }
        }
        // Devices cannot be created in a user namespace, so the host's device is bind-mounted.
        Err(nix::errno::Errno::EPERM) => {
            let own = sys::open_real(&Path::new("/").join(path))?;
            Detached::copy_of(own, Depth::Top)?.attach(root.file(path)?)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn links(root: &Root, own_dev: bool) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
    let dev = sys::open_in_root(&root.fd, "dev", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    for (name, target) in LINKS {
        // What the image has there stays, unless we mounted /dev.
        let made = match symlinkat(target, &dev, name) {
            Err(nix::errno::Errno::EEXIST) if own_dev || name == "ptmx" => {
                unlinkat(&dev, name, UnlinkatFlags::NoRemoveDir).and_then(|()| symlinkat(target, &dev, name))
            }
            Err(nix::errno::Errno::EEXIST) => Ok(()),
            other => other,
        };
        doing(&format!("cannot make /dev/{name}"), made.map_err(io::Error::from))?;
    }
    Ok(())
}

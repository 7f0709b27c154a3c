//! What the kernel itself shows in a root: /dev, /sys, cgroups and /proc, always new, and their masks.

use super::Root;
use super::project::Given;
use crate::runtime::host::Host;
use crate::runtime::spec::Spec;
use crate::sys::{self, Attributes, Depth, Detached, doing};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Links in /dev, as Docker makes them.
pub const DEVICE_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Docker's masked paths (`oci/defaults.go`), of /proc and of /sys.
pub(super) const MASKED_PROC: [&str; 10] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"];
pub(super) const MASKED_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];
/// Docker's read-only paths of /proc.
pub(super) const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Where the processors' own files are, below /sys: `thermal_throttle` in each is masked.
const PROCESSORS: &str = "devices/system/cpu";

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Makes a folder in one of the kernel's file systems and opens it.
fn inner(top: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match nix::sys::stat::mkdirat(top, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    sys::open_here(top, name, FOLDER)
}

impl Root {
    /// /dev as Docker makes it: a small tmpfs with the six devices, pts, shm, mqueue and links.
    pub(super) fn devices(&self, spec: &Spec, given: &Given) -> io::Result<()> {
        const STRICT_ACCESS_TIMES: u64 = 0x20;
        let attributes = Attributes::NO_SUID | STRICT_ACCESS_TIMES;
        let made = Detached::new("tmpfs", "mode=755,size=65536k", attributes);
        let dev = doing("cannot mount /dev", made.and_then(|made| made.attach(self.own_folder("dev")?)))?;
        for (name, major, minor) in
            [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        {
            let mode = Mode::from_bits_truncate(0o666);
            let made = nix::sys::stat::mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor));
            doing(&format!("cannot make /dev/{name}"), made.map_err(io::Error::from))?;
            // mknod is subject to the umask, and every user writes to /dev/null.
            let opened = nix::sys::stat::fchmodat(&dev, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink);
            doing(&format!("cannot open /dev/{name} to everybody"), opened.map_err(io::Error::from))?;
        }
        for (name, target) in DEVICE_LINKS {
            let made = nix::unistd::symlinkat(target, &dev, name);
            doing(&format!("cannot make /dev/{name}"), made.map_err(io::Error::from))?;
        }
        let put = |kind: &str, name: &str, options: &str, attributes: u64| {
            let made = Detached::new(kind, options, attributes).and_then(|made| made.attach(inner(&dev, name)?));
            doing(&format!("cannot mount /dev/{name}"), made.map(drop))
        };
        let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
        put("devpts", "pts", terminals, Attributes::NO_SUID | Attributes::NO_EXECUTION)?;
        if let Some(memory) = &given.shared_memory {
            let bound = Detached::copy_of(memory, Depth::Top).and_then(|bound| bound.attach(inner(&dev, "shm")?));
            doing("cannot bind the host's /dev/shm", bound.map(drop))?;
        } else {
            put("mqueue", "mqueue", "", Attributes::QUIET)?;
            put("tmpfs", "shm", &format!("mode=1777,size={}", spec.shm.0), Attributes::QUIET)?;
        }
        if spec.security.privileged {
            every_device(Path::new("/dev"), &dev)?;
        }
        for ((source, to), device) in spec.devices.iter().zip(&given.devices) {
            let to = to.strip_prefix("/").unwrap_or(to);
            let bound = Detached::copy_of(device, Depth::Top).and_then(|bound| bound.attach(self.file(to)?));
            doing(&format!("cannot give the device {}", source.display()), bound.map(drop))?;
        }
        // A root has one /dev.
        let _ = self.dev.set(dev);
        Ok(())
    }

    /// A new sysfs: also where the network is the host's, since the host's own comes with debugfs, tracefs, bpf and all
    /// else that is mounted below it.
    pub(super) fn sysfs(&self, attributes: u64) -> io::Result<()> {
        let made = Detached::new("sysfs", "", attributes).and_then(|made| made.attach(self.own_folder("sys")?));
        // A root has one /sys.
        let _ = self.sys.set(doing("cannot mount /sys", made)?);
        Ok(())
    }

    /// Docker's masked paths of /sys.
    pub(super) fn mask_sysfs(&self) -> io::Result<()> {
        let Some(top) = self.sys.get() else { return Ok(()) };
        MASKED_SYS.iter().try_for_each(|path| self.mask_in(top, path, "sys"))?;
        let processors = match std::fs::read_dir(Path::new("/sys").join(PROCESSORS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(sys::in_words("cannot list the processors", error)),
        };
        for processor in processors {
            let name = processor?.file_name();
            let Some(name) = name.to_str().filter(|name| name.strip_prefix("cpu").is_some_and(is_number)) else { continue };
            self.mask_in(top, &format!("{PROCESSORS}/{name}/thermal_throttle"), "sys")?;
        }
        Ok(())
    }

    /// The container's own cgroups, at their usual place in the new /sys.
    pub(super) fn own_cgroups(&self, host: &Host, attributes: u64) -> io::Result<()> {
        let Some(top) = self.sys.get() else { return Ok(()) };
        match sys::open_here(top, "fs/cgroup", FOLDER) {
            Ok(target) => self.cgroups(&target, host, attributes, None),
            // A kernel without cgroups.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(sys::in_words("cannot open /sys/fs/cgroup", error)),
        }
    }

    /// The cgroup file systems on a folder, as seen from the container's own cgroup; where it has no namespace of
    /// cgroups, only its own part of them.
    ///
    /// # Errors
    /// Those of mounting.
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
                // A controller that the container is not in has nothing to show.
                Some(own) if !place.join(own).is_dir() => continue,
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

    /// A new /proc, masked where only this namespace sees it, then moved to its place. Also where the processes are the
    /// host's: what is mounted below the host's own (binfmt_misc) is not the container's.
    pub(super) fn proc(&self, aside: &Path, privileged: bool) -> io::Result<()> {
        let proc = doing("cannot mount /proc", Detached::new("proc", "", Attributes::QUIET))?;
        let target = self.own_folder("proc")?;
        if privileged {
            return doing("cannot mount /proc", proc.attach(&target).map(drop));
        }
        let top = doing("cannot mount /proc aside", sys::open_folder(aside).and_then(|aside| proc.attach(aside)))?;
        READ_ONLY.iter().try_for_each(|path| self.protect_in(&top, path, "proc"))?;
        MASKED_PROC.iter().try_for_each(|path| self.mask_in(&top, path, "proc"))?;
        doing("cannot mount /proc", sys::attach_mount(&top, &target))
    }

    /// Makes a path of one of the kernel's file systems read-only, if it is there.
    fn protect_in(&self, top: &OwnedFd, path: &str, shown: &str) -> io::Result<()> {
        match sys::open_here(top, path, OFlag::O_PATH) {
            Ok(found) => protect_place(&found, &format!("/{shown}/{path}")),
            Err(error) => absent_or(&format!("cannot look at /{shown}/{path}"), error),
        }
    }

    /// Hides a path of one of the kernel's file systems, if it is there.
    fn mask_in(&self, top: &OwnedFd, path: &str, shown: &str) -> io::Result<()> {
        match sys::open_here(top, path, OFlag::O_PATH) {
            Ok(found) => doing(&format!("cannot mask /{shown}/{path}"), self.cover(&found)),
            Err(error) => absent_or(&format!("cannot look at /{shown}/{path}"), error),
        }
    }

    /// Makes what is at a path of a bundle's root read-only, if anything is.
    ///
    /// # Errors
    /// Those of mounting; anything that hides whether it is there.
    pub fn protect(&self, path: &str) -> io::Result<()> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Ok(found) => protect_place(&found, &format!("/{path}")),
            Err(error) => absent_or(&format!("cannot look at /{path}"), error),
        }
    }

    /// Hides what is at a path of a bundle's root, if anything is.
    ///
    /// # Errors
    /// Those of mounting; a null device that is none; anything that hides whether it is there.
    pub fn mask(&self, path: &str) -> io::Result<()> {
        match sys::open_in_root(&self.fd, path, OFlag::O_PATH) {
            Ok(found) => doing(&format!("cannot mask /{path}"), self.cover(&found)),
            Err(error) => absent_or(&format!("cannot look at /{path}"), error),
        }
    }

    /// Covers a place: a folder by an empty one, all else by the null device.
    fn cover(&self, found: &OwnedFd) -> io::Result<()> {
        if kind_of(found)? != SFlag::S_IFDIR {
            return Detached::copy_of(self.null()?, Depth::Top)?.attach(found).map(drop);
        }
        match self.nothing.get() {
            // A file system for all of them: each would take its time, and again when it goes.
            Some(nothing) => Detached::copy_of(nothing, Depth::Top)?.attach(found).map(drop),
            None => {
                let empty = Detached::new("tmpfs", "size=0k", Attributes::QUIET | Attributes::READ_ONLY)?.attach(found)?;
                // It was asked a moment ago.
                let _ = self.nothing.set(empty);
                Ok(())
            }
        }
    }

    /// The null device of the root's own /dev. In a bundle anything may stand there: what is not the device itself would
    /// unmask (CVE-2025-31133).
    fn null(&self) -> io::Result<OwnedFd> {
        let null = match self.dev.get() {
            Some(dev) => sys::open_here(dev, "null", OFlag::O_PATH)?,
            None => sys::open_in_root(&self.fd, "dev/null", OFlag::O_PATH)?,
        };
        if kind_of(&null)? != SFlag::S_IFCHR || fstat(&null)?.st_rdev != makedev(1, 3) {
            return Err(io::Error::other("/dev/null is not the null device, so nothing can be masked by it"));
        }
        Ok(null)
    }
}

/// Only what is not there is nothing to hide; an error of any other kind ends the start.
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

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// Makes the host's devices in a /dev, as Docker does for privileged containers.
fn every_device(from: &Path, to: &OwnedFd) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // A device that was taken out in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kind = metadata.file_type();
        let name = entry.file_name();
        if kind.is_dir() && !["pts", "shm", "fd", "mqueue"].iter().any(|own| name == *own) {
            match nix::sys::stat::mkdirat(to, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            every_device(&entry.path(), &sys::open_here(to, &name, FOLDER)?)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            let mode = Mode::from_bits_truncate(metadata.mode() & 0o777);
            match nix::sys::stat::mknodat(to, name.as_os_str(), kind, mode, metadata.rdev()) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

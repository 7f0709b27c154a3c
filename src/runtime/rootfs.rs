//! The root file system: overlay, /proc, /sys, /dev, mounts, masks.
//!
//! Everything beneath the root is hostile: it may hold a link wherever a folder is expected. So a
//! target is always opened beneath the root's descriptor (`openat2`, `RESOLVE_IN_ROOT`) and mounted
//! on through that descriptor, never by its path (research: runc CVE-2021-30465 and its successors).

use super::identity::{Identity, identity};
use super::spec::{MountKind, MountSpec, NetSpec, Spec};
use crate::spec::{Propagation, is_namespaced};
use crate::sys;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev};
use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Paths that may be made in a root because something is mounted there.
pub const TARGETS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// Links in /dev, as Docker makes them.
pub const DEVICE_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);

/// Docker's masked paths (`oci/defaults.go`); those of /sys for each processor are found at run time.
const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// A root being put together in this mount namespace.
pub struct Root {
    pub fd: OwnedFd,
    path: PathBuf,
    /// An empty folder that nobody can write, once something is masked.
    nothing: OnceCell<OwnedFd>,
}

/// Adds what was being done to an error.
fn at<T>(what: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// A path by which a descriptor can be mounted on.
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
        Ok(Self { fd, path: path.to_owned(), nothing: OnceCell::new() })
    }

    /// Mounts the image's layers and everything that needs no pid namespace.
    ///
    /// # Errors
    /// The mount that failed and why.
    pub fn assemble(spec: &Spec, contents: &[Vec<u8>]) -> io::Result<Self> {
        let travels = |mount: &MountSpec| matches!(&mount.kind, MountKind::Bind { propagation, .. } if *propagation != Propagation::Private);
        let propagation = if spec.mounts.iter().any(travels) { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
        at("cannot detach from the host's mounts", sys::remount(Path::new("/"), MsFlags::MS_REC | propagation))?;
        // Binds of `shared` kind are taken before anything else hides them.
        at("cannot mount the root", sys::mount_overlay(&spec.layers, Some((&spec.upper, &spec.work)), &spec.root))?;
        let fd = at(
            "cannot open the root",
            nix::fcntl::open(&spec.root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(io::Error::from),
        )?;
        let root = Self { fd, path: spec.root.clone(), nothing: OnceCell::new() };
        root.devices(spec)?;
        let sys = if spec.security.privileged { QUIET } else { QUIET | MsFlags::MS_RDONLY };
        if spec.network == NetSpec::Host {
            // A new sysfs needs a network namespace of its own: bind the host's, read-only.
            root.bind(Path::new("/sys"), "sys", true, !spec.security.privileged)?;
        } else {
            root.mount("sysfs", "sys", "sysfs", sys, "")?;
        }
        let mut mounts: Vec<&MountSpec> = spec.mounts.iter().collect();
        mounts.sort_by_key(|mount| mount.to.components().count());
        for mount in mounts {
            at(&format!("cannot mount {}", mount.to.display()), root.user_mount(mount, &spec.scratch))?;
        }
        root.files(spec, contents)?;
        Ok(root)
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

    /// Mounts a file system at a path.
    ///
    /// # Errors
    /// Those of opening the path and of `mount(2)`.
    pub fn mount(&self, source: &str, to: &str, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
        let target = at(&format!("cannot open /{to}"), self.folder(to))?;
        at(&format!("cannot mount /{to}"), sys::mount(source, &through(&target), kind, flags, data))
    }

    fn bind(&self, source: &Path, to: &str, recursive: bool, read_only: bool) -> io::Result<()> {
        let is_folder = source.is_dir();
        let target = at(&format!("cannot open /{to}"), if is_folder { self.folder(to) } else { self.file(Path::new(to)) })?;
        at(&format!("cannot bind {} to /{to}", source.display()), sys::bind(source, &through(&target), recursive))?;
        if read_only {
            let again = sys::open_in_root(&self.fd, to, OFlag::O_PATH)?;
            at(
                &format!("cannot make /{to} read-only"),
                sys::remount(&through(&again), MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY),
            )?;
        }
        Ok(())
    }

    /// /dev as Docker makes it: a small tmpfs with the six devices, pts, shm, mqueue and links.
    fn devices(&self, spec: &Spec) -> io::Result<()> {
        self.mount("tmpfs", "dev", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=65536k")?;
        // From here on /dev is our own tmpfs: nothing of the image is in it.
        let dev = sys::open_in_root(&self.fd, "dev", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        for (name, major, minor) in
            [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        {
            let mode = Mode::from_bits_truncate(0o666);
            let made = nix::sys::stat::mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor));
            at(&format!("cannot make /dev/{name}"), made.map_err(io::Error::from))?;
            // mknod is subject to the umask, and every user writes to /dev/null.
            let opened = nix::sys::stat::fchmodat(&dev, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink);
            at(&format!("cannot open /dev/{name} to everybody"), opened.map_err(io::Error::from))?;
        }
        let here = through(&dev);
        for (name, target) in DEVICE_LINKS {
            at(&format!("cannot make /dev/{name}"), symlink(target, here.join(name)))?;
        }
        self.mount(
            "devpts",
            "dev/pts",
            "devpts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        )?;
        if spec.host_ipc {
            self.bind(Path::new("/dev/shm"), "dev/shm", false, false)?;
        } else {
            self.mount("mqueue", "dev/mqueue", "mqueue", QUIET, "")?;
            self.mount("shm", "dev/shm", "tmpfs", QUIET, &format!("mode=1777,size={}", spec.shm.0))?;
        }
        if spec.security.privileged {
            every_device(Path::new("/dev"), &dev)?;
        }
        for (source, to) in &spec.devices {
            let to = to.strip_prefix("/").unwrap_or(to).to_string_lossy().into_owned();
            at(&format!("cannot give the device {}", source.display()), self.bind(source, &to, false, false))?;
        }
        Ok(())
    }

    fn user_mount(&self, mount: &MountSpec, scratch: &Path) -> io::Result<()> {
        let to = mount.to.strip_prefix("/").unwrap_or(&mount.to).to_string_lossy().into_owned();
        match &mount.kind {
            MountKind::Tmpfs { size, mode } => {
                let size = size.map(|size| format!(",size={}", size.0)).unwrap_or_default();
                self.mount("tmpfs", &to, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &format!("mode={mode:o}{size}"))
            }
            MountKind::Bind { source, subpath, propagation } => {
                let source = beneath(source, subpath.as_deref())?;
                self.bind(&through(&source), &to, true, mount.read_only)?;
                let flags = match propagation {
                    Propagation::Private => return Ok(()),
                    Propagation::Slave => MsFlags::MS_SLAVE,
                    Propagation::Shared => MsFlags::MS_SHARED,
                };
                let target = sys::open_in_root(&self.fd, &to, OFlag::O_PATH)?;
                sys::remount(&through(&target), flags | MsFlags::MS_REC)
            }
            MountKind::Image { layers, subpath, writes } => {
                // An overlay needs two layers; an empty one below changes nothing.
                let mut lower = layers.clone();
                lower.push(scratch.to_owned());
                let place = scratch.with_file_name("image-mount");
                fs::create_dir_all(&place)?;
                let writes = writes.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
                sys::mount_overlay(&lower, writes, &place)?;
                let source = beneath(&place, subpath.as_deref())?;
                let bound = self.bind(&through(&source), &to, false, writes.is_none());
                sys::unmount(&place)?;
                bound
            }
        }
    }

    /// Secrets and configs: files of a tmpfs that has no name in the container, bound one by one.
    fn files(&self, spec: &Spec, contents: &[Vec<u8>]) -> io::Result<()> {
        if spec.files.is_empty() {
            return Ok(());
        }
        at("cannot mount a file system for secrets", sys::mount("tmpfs", &spec.scratch, "tmpfs", QUIET, "mode=700"))?;
        for (index, file) in spec.files.iter().enumerate() {
            let content = contents.get(file.content).ok_or_else(|| io::Error::other("a secret's content did not arrive"))?;
            let owner = self.identity(file.owner.as_deref().unwrap_or(&spec.process.user), &[])?;
            let place = spec.scratch.join(index.to_string());
            let mut out = File::create_new(&place)?;
            out.write_all(content)?;
            out.set_permissions(fs::Permissions::from_mode(file.mode))?;
            sys::set_owner(&place, owner.uid, owner.gid)?;
            let to = file.to.strip_prefix("/").unwrap_or(&file.to);
            let target = at(&format!("cannot open {}", file.to.display()), self.file(to))?;
            at(&format!("cannot bind {}", file.to.display()), sys::bind(&place, &through(&target), false))?;
        }
        sys::unmount(&spec.scratch)
    }

    /// What needs the container's own pid and cgroup namespaces: /proc, masks, cgroups.
    ///
    /// # Errors
    /// The mount that failed and why.
    pub fn complete(&self, spec: &Spec, cgroups: &super::cgroup::Host) -> io::Result<()> {
        if spec.host_pid {
            self.bind(Path::new("/proc"), "proc", true, false)?;
        } else {
            self.mount("proc", "proc", "proc", QUIET, "")?;
        }
        let flags = if spec.security.privileged { QUIET } else { QUIET | MsFlags::MS_RDONLY };
        self.cgroups("sys/fs/cgroup", cgroups, flags, None)?;
        if !spec.security.privileged {
            self.hide()?;
        }
        if spec.security.read_only {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            at("cannot make the root read-only", sys::remount(&self.path, flags))?;
        }
        Ok(())
    }

    /// Docker's masked and read-only paths.
    fn hide(&self) -> io::Result<()> {
        for path in READ_ONLY {
            self.protect(path)?;
        }
        for path in MASKED {
            self.mask(path)?;
        }
        Ok(())
    }

    /// Makes what is at a path read-only, if anything is.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn protect(&self, path: &str) -> io::Result<()> {
        let Ok(found) = sys::open_in_root(&self.fd, path, OFlag::O_PATH) else { return Ok(()) };
        sys::bind(&through(&found), &through(&found), true)?;
        let again = sys::open_in_root(&self.fd, path, OFlag::O_PATH)?;
        sys::remount(&through(&again), MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | QUIET)
    }

    /// Hides what is at a path, if anything is: an empty folder, or the null device, stands there then.
    ///
    /// # Errors
    /// Those of mounting; a null device that is none.
    pub fn mask(&self, path: &str) -> io::Result<()> {
        let Ok(found) = sys::open_in_root(&self.fd, path, OFlag::O_PATH) else { return Ok(()) };
        let folder = nix::sys::stat::fstat(&found)
            .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR);
        let result = if folder {
            match self.nothing.get() {
                // A file system for all of them: each would take its time, and again when it goes.
                Some(nothing) => sys::bind(&through(nothing), &through(&found), false),
                None => sys::mount("tmpfs", &through(&found), "tmpfs", MsFlags::MS_RDONLY, "size=0k").and_then(|()| {
                    let nothing = sys::open_in_root(&self.fd, path, OFlag::O_PATH)?;
                    if nix::sys::statfs::fstatfs(&nothing)?.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
                        let _ = self.nothing.set(nothing);
                    }
                    Ok(())
                }),
            }
        } else {
            let null = sys::open_in_root(&self.fd, "dev/null", OFlag::O_PATH)?;
            // A mount of the project file may stand there: what is not the device itself would unmask (CVE-2025-31133).
            if nix::sys::stat::fstat(&null)?.st_rdev != makedev(1, 3) {
                return Err(io::Error::other(format!("/dev/null is not the null device, so /{path} cannot be masked")));
            }
            sys::bind(&through(&null), &through(&found), false)
        };
        at(&format!("cannot mask /{path}"), result)
    }

    /// The cgroup file systems at a path, as seen from the container's own cgroup.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn cgroups(&self, to: &str, host: &super::cgroup::Host, flags: MsFlags, own: Option<&str>) -> io::Result<()> {
        let read_only = flags.contains(MsFlags::MS_RDONLY);
        if host.v1.is_empty() {
            if let (Some(place), Some(own)) = (&host.v2, own) {
                self.bind(&place.join(own), to, false, read_only)?;
            } else if host.v2.is_some() {
                self.mount("cgroup", to, "cgroup2", flags, "nsdelegate")
                    .or_else(|_| self.mount("cgroup", to, "cgroup2", flags, ""))?;
            }
            return Ok(());
        }
        self.mount("tmpfs", to, "tmpfs", flags & !MsFlags::MS_RDONLY, "mode=755")?;
        for (name, place) in &host.v1 {
            // Controllers that share a hierarchy are mounted once, under all their names.
            let folder = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if folder.split(',').next() != Some(name) {
                continue;
            }
            if let Some(own) = own {
                let source = place.join(own);
                // A controller that the container is not in has nothing to show.
                if source.is_dir() {
                    self.bind(&source, &format!("{to}/{folder}"), false, read_only)?;
                }
            } else {
                self.mount("cgroup", &format!("{to}/{folder}"), "cgroup", flags, &folder)?;
            }
        }
        let top = sys::open_in_root(&self.fd, to, OFlag::O_PATH)?;
        sys::remount(&through(&top), MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags)
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
            at(&format!("cannot set {name}"), fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value))?;
        }
        Ok(())
    }

    /// Makes a working directory.
    ///
    /// # Errors
    /// Those of making folders.
    pub fn make_workdir(&self, path: &str) -> io::Result<()> {
        at(&format!("cannot make the working directory {path}"), self.folder(path.trim_start_matches('/')).map(drop))
    }

    /// Makes this root `/`.
    ///
    /// # Errors
    /// Those of `pivot_root(2)`.
    pub fn enter(self) -> io::Result<()> {
        at("cannot enter the root", sys::enter_root(&self.path))
    }
}

/// Makes the host's devices in a /dev, as Docker does for privileged containers.
fn every_device(from: &Path, to: &OwnedFd) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for entry in fs::read_dir(from)?.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        let name = entry.file_name();
        if kind.is_dir() && !["pts", "shm", "fd", "mqueue"].iter().any(|own| name == *own) {
            let _ = nix::sys::stat::mkdirat(to, name.as_os_str(), Mode::from_bits_truncate(0o755));
            let inner = nix::fcntl::openat(
                to,
                name.as_os_str(),
                OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            every_device(&entry.path(), &inner)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            let mode = Mode::from_bits_truncate(metadata.mode() & 0o777);
            match nix::sys::stat::mknodat(to, name.as_os_str(), kind, mode, metadata.rdev()) {
                Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// A path beneath a folder of the host, opened so that links cannot lead out of it.
fn beneath(folder: &Path, subpath: Option<&Path>) -> io::Result<OwnedFd> {
    let base = nix::fcntl::open(folder, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
    })?;
    match subpath {
        Some(subpath) => {
            at(&format!("its subpath {}", subpath.display()), sys::open_in_root(base.as_fd(), subpath, OFlag::O_PATH))
        }
        None => Ok(base),
    }
}

//! What a project puts into a root: its mounts, and files in memory.

use super::Root;
use crate::runtime::spec::{FileSpec, MountKind, MountSpec, Spec};
use crate::spec::Propagation;
use crate::sys::{self, Attributes, Depth, Detached, doing};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the host gives, held before the mount namespace changes.
pub(super) struct Given {
    /// The trees of bind mounts, by their place in the list of mounts.
    binds: Vec<Option<Bound>>,
    pub devices: Vec<OwnedFd>,
    /// The host's, where it is shared.
    pub shared_memory: Option<OwnedFd>,
}

/// A bind mount that only lacks its place.
struct Bound {
    tree: Detached,
    is_folder: bool,
}

impl Given {
    /// # Errors
    /// A source that is not there, or whose path has become a link since it was resolved.
    pub fn open(spec: &Spec) -> io::Result<Self> {
        let binds = spec.mounts.iter().map(|mount| {
            let MountKind::Bind { source, subpath, propagation } = &mount.kind else { return Ok(None) };
            let failed = || format!("cannot mount {} at {}", source.display(), mount.to.display());
            bind(source, subpath.as_deref(), *propagation, mount.read_only)
                .map(Some)
                .map_err(|error| sys::in_words(&failed(), error))
        });
        let device = |source: &PathBuf| doing(&format!("cannot give the device {}", source.display()), sys::open_real(source));
        Ok(Self {
            binds: binds.collect::<io::Result<_>>()?,
            devices: spec.devices.iter().map(|(source, _)| device(source)).collect::<io::Result<_>>()?,
            shared_memory: spec.host_ipc.then(|| sys::open_real(Path::new("/dev/shm"))).transpose()?,
        })
    }
}

/// A bind mount, whole: read-only holds for all that is mounted below it, and what its source forbids (setuid
/// programs, devices, programs) stays forbidden.
fn bind(source: &Path, subpath: Option<&Path>, propagation: Propagation, read_only: bool) -> io::Result<Bound> {
    let source = beneath(&sys::open_real(source)?, subpath)?;
    let tree = Detached::copy_of(&source, Depth::Whole)?;
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let set = if read_only { Attributes::READ_ONLY } else { 0 };
    tree.change(Attributes { set, clear: 0, propagation }, Depth::Whole)?;
    Ok(Bound { tree, is_folder: is_folder(&source)? })
}

fn is_folder(place: impl AsFd) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(place)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// A path beneath a place of the host, opened so that links cannot lead out of it; without one, the place itself.
fn beneath(place: &OwnedFd, subpath: Option<&Path>) -> io::Result<OwnedFd> {
    match subpath {
        Some(subpath) => doing(&format!("its subpath {}", subpath.display()), sys::open_in_root(place, subpath, OFlag::O_PATH)),
        None => place.try_clone(),
    }
}

impl Root {
    /// The project's mounts, the outermost first.
    pub(super) fn mounts(&self, spec: &Spec, given: Given) -> io::Result<()> {
        let mut all: Vec<(&MountSpec, Option<Bound>)> = spec.mounts.iter().zip(given.binds).collect();
        all.sort_by_key(|(mount, _)| mount.to.components().count());
        for (mount, bound) in all {
            let failed = format!("cannot mount {}", mount.to.display());
            if mount.to.starts_with("/proc") {
                return Err(io::Error::other(format!("{failed}: /proc is the kernel's own, nothing can be mounted in it")));
            }
            doing(&failed, self.project_mount(mount, bound, &spec.scratch))?;
        }
        Ok(())
    }

    fn project_mount(&self, mount: &MountSpec, bound: Option<Bound>, scratch: &Path) -> io::Result<()> {
        let to = mount.to.strip_prefix("/").unwrap_or(&mount.to);
        let tree = match (&mount.kind, bound) {
            (MountKind::Tmpfs { size, mode }, _) => {
                let size = size.map(|size| format!(",size={}", size.0)).unwrap_or_default();
                let attributes = Attributes::NO_SUID | Attributes::NO_DEVICES;
                Bound { tree: Detached::new("tmpfs", &format!("mode={mode:o}{size}"), attributes)?, is_folder: true }
            }
            (MountKind::Image { layers, subpath, writes }, _) => image(layers, subpath.as_deref(), writes.as_ref(), scratch)?,
            (MountKind::Bind { .. }, Some(bound)) => bound,
            (MountKind::Bind { .. }, None) => return Err(io::Error::other("its source was not opened")),
        };
        let target = if tree.is_folder { sys::make_folders_in_root(&self.fd, to, 0o755) } else { self.file(to) };
        tree.tree.attach(doing("cannot open its place", target)?).map(drop)
    }

    /// Secrets and configs: files of a tmpfs that has no name in the container, bound one by one.
    pub(super) fn files(&self, spec: &Spec, contents: &[Vec<u8>]) -> io::Result<()> {
        if spec.files.is_empty() {
            return Ok(());
        }
        let memory = Detached::new("tmpfs", "mode=700", Attributes::QUIET)
            .and_then(|memory| memory.attach(sys::open_folder(&spec.scratch)?));
        let memory = doing("cannot mount a file system for secrets", memory)?;
        for (index, file) in spec.files.iter().enumerate() {
            let content = contents.get(file.content).ok_or_else(|| io::Error::other("a secret's content did not arrive"))?;
            let made = self.secret(&memory, index, file, content, &spec.process.user);
            doing(&format!("cannot make {}", file.to.display()), made)?;
        }
        sys::unmount(&spec.scratch)
    }

    fn secret(&self, memory: &OwnedFd, index: usize, file: &FileSpec, content: &[u8], user: &str) -> io::Result<()> {
        let owner = self.identity(file.owner.as_deref().unwrap_or(user), &[])?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut made =
            File::from(nix::fcntl::openat(memory, index.to_string().as_str(), flags, Mode::from_bits_truncate(0o600))?);
        made.write_all(content)?;
        nix::unistd::fchown(&made, Some(owner.uid.into()), Some(owner.gid.into()))?;
        nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(file.mode))?;
        let target = self.file(file.to.strip_prefix("/").unwrap_or(&file.to))?;
        Detached::copy_of(&made, Depth::Top)?.attach(target).map(drop)
    }
}

/// Another image's tree. It stands aside for a moment: a kernel before 6.15 copies no part of what is attached nowhere.
fn image(layers: &[PathBuf], subpath: Option<&Path>, writes: Option<&(PathBuf, PathBuf)>, scratch: &Path) -> io::Result<Bound> {
    // An overlay needs two layers; an empty one below changes nothing.
    let mut lower = layers.to_vec();
    lower.push(scratch.to_owned());
    let aside = scratch.with_file_name("image-mount");
    fs::create_dir_all(&aside)?;
    sys::mount_overlay(&lower, writes.map(|(upper, work)| (upper.as_path(), work.as_path())), &aside)?;
    let part = || {
        let source = beneath(&sys::open_folder(&aside)?, subpath)?;
        let tree = Detached::copy_of(&source, Depth::Top)?;
        if writes.is_none() {
            tree.change(Attributes::set(Attributes::READ_ONLY), Depth::Top)?;
        }
        Ok(Bound { tree, is_folder: is_folder(&source)? })
    };
    let part = part();
    sys::unmount(&aside)?;
    part
}

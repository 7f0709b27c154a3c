//! The mounts of a blueprint, in their order. Each is complete before it is attached.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::options::{Options, options};
use super::{Root, beneath as part_of, through};
use crate::runtime::confine;
use crate::runtime::host::Host;
use crate::runtime::spec::Blueprint;
use crate::sys::{self, Attributes, Depth, Detached, Facts, Kind, Listed, Tree, doing};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{LinuxNamespaceType, Mount};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The sources of bind mounts, by the position of the mount in the list. They are opened while this process can still reach
/// them, which it may not be able to do in a user namespace, and while they are still in the host's peer groups, so that
/// mounts can propagate to the host.
#[derive(Default)]
pub struct Sources(Vec<Option<Detached>>);

impl Sources {
    /// Opens the sources.
    ///
    /// # Errors
    /// Fails when a source does not exist, and in a project's container also when its path has become a symbolic link since it
    /// was resolved.
    pub fn open(blueprint: &Blueprint) -> io::Result<Self> {
        let mounts = blueprint.oci.mounts().iter().flatten().enumerate();
        let open = |(index, one): (usize, &Mount)| {
            let found = options(one);
            let Some(source) = one.source().as_ref().filter(|_| found.bind) else { return Ok(None) };
            let depth = if found.flags.contains(MsFlags::MS_REC) { Depth::Whole } else { Depth::Top };
            let opened = match &blueprint.beyond.bundle {
                Some(folder) => nix::fcntl::open(&folder.join(source), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(io::Error::from),
                None => sys::open_real(source),
            };
            let beneath = |place: OwnedFd| part_of(place, blueprint.beyond.subpaths.get(&index).map(PathBuf::as_path));
            let tree = opened.and_then(beneath).and_then(|place| Detached::copy_of(place, depth));
            let failed = format!("cannot mount {} at {}", source.display(), one.destination().display());
            doing(&failed, tree).map(Some)
        };
        mounts.map(open).collect::<io::Result<_>>().map(Self)
    }
}

/// A mount that becomes read-only only after everything beneath it has been created, with the path for messages.
type Late = (String, OwnedFd);

/// What is needed for every mount of a root.
struct Ground<'a> {
    root: &'a Root,
    blueprint: &'a Blueprint,
    host: &'a Host,
    /// The propagation of mounts unless their options say otherwise.
    spread: MsFlags,
}

impl Root {
    /// Mounts everything in the list.
    pub(super) fn mounts(&self, blueprint: &Blueprint, sources: Sources, host: &Host, spread: MsFlags) -> io::Result<Vec<Late>> {
        let ground = Ground { root: self, blueprint, host, spread };
        let mut sources = sources.0.into_iter();
        let mut late = Vec::new();
        for (index, one) in blueprint.oci.mounts().iter().flatten().enumerate() {
            let shown = one.destination().display().to_string();
            let top = doing(&format!("cannot mount {shown}"), ground.mount(index, one, sources.next().flatten()))?;
            // In a bundle devices come last, since anything may be mounted over their paths.
            if blueprint.beyond.bundle.is_none() && shown == "/dev" {
                self.devices(blueprint)?;
            }
            let is_late = one.typ().as_deref() == Some("tmpfs") && options(one).flags.contains(MsFlags::MS_RDONLY);
            late.extend(top.filter(|_| is_late).map(|top| (shown, top)));
        }
        if blueprint.beyond.bundle.is_some() {
            self.devices(blueprint)?;
        }
        Ok(late)
    }

    /// The mount point for one of the kernel's file systems. At its usual place it must be an ordinary directory of the root
    /// itself; elsewhere it must not be a symbolic link, either (CVE-2019-19921).
    fn kernel_place(&self, to: &str) -> io::Result<OwnedFd> {
        if matches!(to, "proc" | "sys" | "dev") {
            return self.own_folder(to);
        }
        let path = Path::new(to);
        let parent = self.folder(&path.parent().unwrap_or(Path::new("")).to_string_lossy())?;
        let name = path.file_name().unwrap_or_default();
        match nix::sys::stat::mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&parent, name, flags, Mode::empty()).map_err(|error| match error {
            nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR => io::Error::other(format!(
                "/{to} must be mounted on an ordinary directory, and the image has a link or a file there"
            )),
            error => error.into(),
        })
    }
}

impl Ground<'_> {
    /// Mounts one of them, and returns the descriptor of its top, if there is one.
    fn mount(&self, index: usize, one: &Mount, tree: Option<Detached>) -> io::Result<Option<OwnedFd>> {
        let found = options(one);
        let to = one.destination().strip_prefix("/").unwrap_or(one.destination()).to_string_lossy().into_owned();
        if let Some(image) = self.blueprint.beyond.images.get(&index) {
            let tree = super::project::image(image, &self.blueprint.beyond.scratch)?;
            return self.attach(tree, &to).map(Some);
        }
        if found.bind {
            let tree = tree.ok_or_else(|| io::Error::other("its source was not opened"))?;
            self.settle(&tree, &found)?;
            return self.attach(tree, &to).map(Some);
        }
        let root = self.root;
        let label = confine::mount_label(&self.blueprint.oci)?;
        let kind = one.typ().clone().unwrap_or_default();
        let attributes = Attributes::of_flags(found.flags);
        let top = match kind.as_str() {
            "cgroup" | "cgroup2" => {
                let private = self.blueprint.has(LinuxNamespaceType::Cgroup);
                let own = (!private).then(|| self.blueprint.cgroup());
                root.cgroups(&root.folder(&to)?, self.host, attributes, own.as_deref())?;
                return Ok(None);
            }
            "tmpfs" => self.tmpfs(one, &to, label)?,
            "proc" | "sysfs" | "mqueue" | "devpts" => {
                let place = root.kernel_place(&to)?;
                match (Detached::new(&kind, &found.data, attributes), kind.as_str()) {
                    // A new sysfs needs a network namespace of its own (user_namespaces(7)). Without one, the host's is used, and
                    // everything mounted below it gets the requested attributes.
                    (Err(error), "sysfs") if sys::errno(&error) == Some(libc::EPERM) => {
                        let tree = Detached::copy_of(sys::open_real(Path::new("/sys"))?, Depth::Whole)?;
                        tree.change(Attributes { set: attributes, clear: 0, propagation: self.spread.bits() }, Depth::Whole)?;
                        tree.attach(place)?
                    }
                    (made, "proc" | "sysfs") if self.blueprint.beyond.bundle.is_none() => self.hidden(made?, &to, &place)?,
                    (made, _) => made?.attach(place)?,
                }
            }
            _ => {
                let source = one.source().clone().unwrap_or_else(|| PathBuf::from("none"));
                let data = match label {
                    Some(label) if found.data.is_empty() => format!("context=\"{label}\""),
                    Some(label) => format!("{},context=\"{label}\"", found.data),
                    None => found.data.clone(),
                };
                // This uses the older call, which takes options of any length.
                let target = through(&root.folder(&to)?);
                sys::mount(&source.to_string_lossy(), &target, &kind, found.flags, &data)?;
                sys::open_in_root(&root.fd, &to, OFlag::O_PATH)?
            }
        };
        sys::change_mount(&top, Attributes { set: found.recursive.0, clear: found.recursive.1, propagation: 0 }, Depth::Whole)?;
        spread_as_said(&top, found.propagation)?;
        Ok(Some(top))
    }

    /// Attaches one of the kernel's file systems after hiding what must be hidden in it. Meanwhile it is attached in a temporary
    /// place that only this namespace sees: before Linux 6.15, nothing can be mounted inside a detached mount.
    fn hidden(&self, made: Detached, to: &str, place: &OwnedFd) -> io::Result<OwnedFd> {
        let top = made.attach(sys::open_folder(&self.blueprint.beyond.scratch)?)?;
        let linux = self.blueprint.oci.linux().as_ref();
        let prefix = format!("/{to}/");
        let within = |paths: &Option<Vec<String>>| -> Vec<String> {
            paths.iter().flatten().filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned)).collect()
        };
        for path in linux.map(|linux| within(linux.readonly_paths())).unwrap_or_default() {
            self.root.protect_in(&top, &path, to)?;
        }
        for path in linux.map(|linux| within(linux.masked_paths())).unwrap_or_default() {
            self.root.mask_in(&top, &path, to)?;
        }
        sys::attach_mount(&top, place)?;
        Ok(top)
    }

    fn attach(&self, tree: Detached, to: &str) -> io::Result<OwnedFd> {
        let place = if is_folder(&tree)? { self.root.folder(to) } else { self.root.file(Path::new(to)) };
        tree.attach(doing("cannot open its mount point", place)?)
    }

    /// Applies the options of a bind mount. What its source forbids (setuid programs, devices, executing programs) stays
    /// forbidden unless the options say otherwise.
    fn settle(&self, tree: &Detached, found: &Options) -> io::Result<()> {
        let set = Attributes::of_flags(found.flags);
        let wanted = Attributes { set, clear: Attributes::of_flags(found.clear), propagation: 0 };
        let changed = tree.change(wanted, Depth::Top).or_else(|error| match sys::errno(&error) {
            // In a user namespace what the source forbids is locked, so it stays forbidden (mount_namespaces(7)).
            Some(libc::EPERM) => tree.change(Attributes::set(set), Depth::Top),
            _ => Err(error),
        });
        changed?;
        tree.change(Attributes { set: found.recursive.0, clear: found.recursive.1, propagation: 0 }, Depth::Whole)?;
        // Unless the options set the propagation of the whole tree, it is that of the root. A mount that is to be shared
        // stays shared with the peers of its source.
        if !found.propagation.intersects(MsFlags::MS_SHARED | MsFlags::MS_REC) {
            tree.change(Attributes { propagation: self.spread.bits(), ..Attributes::default() }, Depth::Whole)?;
        }
        spread_as_said(tree, found.propagation)
    }

    /// Mounts a tmpfs. It gets the mode of the directory that it covers, unless its options set one, and a copy of that
    /// directory's content if `tmpcopyup` is given.
    fn tmpfs(&self, one: &Mount, to: &str, label: Option<&str>) -> io::Result<OwnedFd> {
        let (root, found) = (self.root, options(one));
        let covered = match sys::open_in_root(&root.fd, to, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(covered) => Some(covered),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut data = found.data.clone();
        let mut add = |word: String| data = if data.is_empty() { word } else { format!("{data},{word}") };
        if let (Some(covered), false) = (&covered, found.data.split(',').any(|word| word.starts_with("mode="))) {
            add(format!("mode={:o}", fstat(covered)?.st_mode & 0o7777));
        }
        for (flag, word) in [(MsFlags::MS_SYNCHRONOUS, "sync"), (MsFlags::MS_DIRSYNC, "dirsync")] {
            if found.flags.contains(flag) {
                add(word.to_owned());
            }
        }
        let attributes = Attributes::of_flags(found.flags & !MsFlags::MS_RDONLY);
        let place = if to == "dev" { root.own_folder(to)? } else { root.folder(to)? };
        let top = Detached::labelled("tmpfs", &data, attributes, label)?.attach(place)?;
        let copies = one.options().iter().flatten().any(|option| option == "tmpcopyup");
        if let (Some(covered), true) = (covered, copies) {
            let here = |folder: &OwnedFd| Tree::in_root(folder, Path::new("."));
            let copied = here(&covered).and_then(|covered| copy_up(&covered, &here(&top)?));
            doing("cannot copy what it covers", copied)?;
        }
        Ok(top)
    }
}

/// Whether a descriptor refers to a directory.
pub(super) fn is_folder(place: impl AsFd) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(place)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Copies a directory's content with modes and owners, by descriptor. Another container that shares a volume there may
/// replace files by symbolic links meanwhile; a link is copied, never followed.
fn copy_up(from: &Tree, to: &Tree) -> io::Result<()> {
    for Listed { name, kind, .. } in from.list()? {
        let facts = Facts::of(&from.stat(&name)?);
        match kind {
            Kind::Link => to.make_link(&name, &from.link(&name)?)?,
            Kind::Folder => copy_up(&from.folder(&name)?, &to.make_folder(&name, 0o700)?)?,
            Kind::File => drop(io::copy(&mut from.file(&name)?, &mut to.make_file(&name, 0o600)?)?),
            _ => continue,
        }
        to.set(&name, facts).or_else(|error| match sys::errno(&error) {
            // An owner that has no mapping in the user namespace is not set.
            Some(libc::EINVAL | libc::EPERM) => {
                let made = Facts::of(&to.stat(&name)?);
                to.set(&name, Facts { owner: made.owner, ..facts })
            }
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// Sets the propagation of a tree of mounts, if the options say anything about it.
fn spread_as_said(top: impl AsFd, propagation: MsFlags) -> io::Result<()> {
    let depth = if propagation.contains(MsFlags::MS_REC) { Depth::Whole } else { Depth::Top };
    sys::change_mount(top, Attributes { propagation: (propagation & !MsFlags::MS_REC).bits(), ..Attributes::default() }, depth)
}

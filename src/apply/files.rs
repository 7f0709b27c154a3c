//! A container's files, running or not: what changed, copies in and out, export, commit.
//!
//! Everything beneath its root is hostile: paths are resolved beneath the root's descriptor
//! (`openat2`, `RESOLVE_IN_ROOT`), and from there on no link is followed (CVE-2018-15664).

use super::instance::Instance;
use crate::build::View;
use crate::image;
use crate::model::{Context, Fault, Name, Outcome};
use crate::plan::Image;
use crate::runtime::TARGETS;
use crate::store::{Lease, Store};
use crate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How a path differs from the image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    Added,
    Changed,
    Deleted,
}

/// One container's layers: what it wrote, above those of its image, topmost first.
struct Layers {
    upper: PathBuf,
    work: PathBuf,
    lower: Vec<PathBuf>,
    scratch: PathBuf,
}

fn layers(instance: &Instance, name: &str) -> Outcome<Layers> {
    let folder = instance.container(name);
    let spec = folder.spec().ok_or_else(|| Fault::new(format!("container {name} was never started")))?.spec;
    Ok(Layers { upper: spec.upper, work: spec.work, lower: spec.layers, scratch: folder.join("root") })
}

/// Whether a path is there only because the runtime mounts something on it.
fn is_target(path: &Path) -> bool {
    TARGETS.iter().any(|target| path == Path::new("/").join(target))
}

/// What differs from the image, sorted by path.
///
/// # Errors
/// A container that was never started; those of reading.
pub fn changes(instance: &Instance, name: &str) -> Outcome<Vec<(PathBuf, Difference)>> {
    let layers = layers(instance, name)?;
    let below = View::new(layers.lower.iter().rev().cloned().collect());
    let mut found = Vec::new();
    compare(&layers.upper, Path::new("/"), &below, &mut found).doing(|| "cannot read what the container wrote".into())?;
    found.retain(|(path, _)| !is_target(path));
    // A folder above a change is one itself only if it was there to be changed.
    found.sort();
    Ok(found)
}

fn compare(upper: &Path, folder: &Path, below: &View, found: &mut Vec<(PathBuf, Difference)>) -> io::Result<()> {
    let here = upper.join(folder.strip_prefix("/").unwrap_or(folder));
    for entry in fs::read_dir(&here)? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let metadata = entry.metadata()?;
        let before = below.entry(&path);
        let whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        let difference = match (&before, whiteout) {
            (_, true) => Difference::Deleted,
            (Some(_), false) => Difference::Changed,
            (None, false) => Difference::Added,
        };
        found.push((path.clone(), difference));
        if metadata.is_dir() {
            if sys::get_attribute(&entry.path(), image::OPAQUE)?.as_deref() == Some(b"y") {
                let gone = below.list(&path).into_iter().filter(|name| !entry.path().join(name).exists());
                found.extend(gone.map(|name| (path.join(name), Difference::Deleted)));
            }
            compare(upper, &path, below, found)?;
        }
    }
    Ok(())
}

/// Writes the whole tree as a canonical tar, without what is mounted into it.
///
/// # Errors
/// A container that was never started; those of mounting, reading and writing.
pub fn export(instance: &Instance, name: &str, out: &mut (impl Write + Send)) -> Outcome<u64> {
    let layers = layers(instance, name)?;
    let mut lower = vec![layers.upper];
    lower.extend(layers.lower);
    let merged = mount_apart(&lower, None, &layers.scratch)?;
    image::write_tar(&merged, out).doing(|| "cannot export the container".into())
}

/// Mounts layers where nobody else sees it: in a mount namespace of this process's own.
fn mount_apart(lower: &[PathBuf], upper: Option<(&Path, &Path)>, place: &Path) -> Outcome<PathBuf> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(io::Error::from)
        .and_then(|()| {
            sys::remount(Path::new("/"), nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE)?;
            // An overlay without an upper layer needs two below.
            let mut lower = lower.to_vec();
            if upper.is_none() && lower.len() == 1 {
                lower.push(place.with_file_name("scratch"));
            }
            sys::mount_overlay(&lower, upper, place)
        })
        .doing(|| "cannot look into the container".into())?;
    Ok(place.to_owned())
}

/// Makes an image of a container: its image's layers, and one of what it wrote.
///
/// # Errors
/// A container that was never started; those of copying.
pub fn commit(instance: &Instance, name: &str, image_name: &Name, changes: &[String]) -> Outcome<Image> {
    let layers = layers(instance, name)?;
    let store = Store::at(&instance.home.store);
    let _queue = instance.lock()?;
    let mut record = instance.record();
    let made_from = record.containers.get(name).map(|container| container.image);
    let base = made_from.and_then(|digest| image::load(&store, &digest));
    let base = base.ok_or_else(|| Fault::new(format!("the image of container {name} is no longer in the store")))?;
    let config = super::change::change(base.config.clone(), changes)?;
    let staging = store.staging()?;
    let tree = staging.join("tree");
    copy_tree(&layers.upper, &tree).map_err(|error| crate::store::disk_fault("cannot copy what the container wrote", error))?;
    let below = View::new(layers.lower.iter().rev().cloned().collect());
    for target in TARGETS {
        if below.entry(&Path::new("/").join(target)).is_none() {
            let place = tree.join(target);
            let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir(&place));
        }
    }
    let lock = super::project::read_lock(instance)?;
    let info = image::digest_tree(&tree, lock.epoch).doing(|| "cannot read the layer".into())?;
    let mut lease = Lease::open(&store)?;
    lease.pin(base.parts().chain([&info.diff_id]))?;
    store.adopt_layer(&tree, &info)?;
    let mut all = base.layers.clone();
    all.push(info);
    let made = image::save(&store, &config, &all, lock.epoch)?;
    lease.pin([&made.digest])?;
    record.commits.insert(image_name.clone(), made.digest);
    record.serial += 1;
    instance.save(&record)?;
    super::execute::pin_record(instance, &store, &record, &lock)?;
    Ok(made)
}

/// Copies a tree with owners, permissions, times, links, whiteouts and capabilities.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = metadata.file_type();
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            sys::set_owner(&target, metadata.uid(), metadata.gid())?;
            sys::set_time(&target, metadata.mtime())?;
        } else if kind.is_file() {
            sys::copy_file(&File::open(&source)?, &File::create_new(&target)?)?;
            same(&source, &target, &metadata, c"security.capability")?;
        } else if !kind.is_socket() {
            let mode = SFlag::from_bits_truncate(metadata.mode());
            nix::sys::stat::mknod(&target, mode & SFlag::S_IFMT, Mode::from_bits_truncate(0o600), metadata.rdev())?;
            sys::set_owner(&target, metadata.uid(), metadata.gid())?;
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
            sys::set_time(&target, metadata.mtime())?;
        }
    }
    same(from, to, &fs::symlink_metadata(from)?, image::OPAQUE)
}

fn same(from: &Path, to: &Path, metadata: &fs::Metadata, attribute: &std::ffi::CStr) -> io::Result<()> {
    sys::set_owner(to, metadata.uid(), metadata.gid())?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    if let Some(value) = sys::get_attribute(from, attribute)? {
        sys::set_attribute(to, attribute, &value)?;
    }
    sys::set_time(to, metadata.mtime())
}

/// A container's root, opened: with its mounts while it runs, without them else.
fn open_root(instance: &Instance, name: &str) -> Outcome<OwnedFd> {
    let folder = instance.container(name);
    let path = match folder.status().filter(|status| status.pid > 0 && folder.alive()) {
        Some(status) => PathBuf::from(format!("/proc/{}/root", status.pid)),
        None => {
            let layers = layers(instance, name)?;
            mount_apart(&layers.lower, Some((&layers.upper, &layers.work)), &layers.scratch)?
        }
    };
    nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .doing(|| format!("cannot open the root of container {name}"))
}

/// Copies a path of a container to the host, as `cp -r` would; owners become this process's.
///
/// # Errors
/// Paths that are not there; those of reading and writing.
pub fn copy_out(instance: &Instance, name: &str, from: &str, to: &Path) -> Outcome<()> {
    let root = open_root(instance, name)?;
    let contents_only = from.ends_with("/.");
    let inside = Path::new(from.trim_start_matches('/'));
    let source = sys::open_in_root(&root, inside, OFlag::O_PATH)
        .map_err(|error| Fault::caused(format!("container {name} has no {from}"), error))?;
    // The link itself is resolved above, inside the root; below it none is followed.
    let base = inside.file_name().unwrap_or(OsStr::new("."));
    let is_folder = kind_of(&source).doing(|| "cannot look at it".into())? == SFlag::S_IFDIR;
    let target = if to.is_dir() && !(contents_only && is_folder) { to.join(base) } else { to.to_owned() };
    if is_folder && target.exists() && !target.is_dir() {
        return Err(Fault::new(format!("{} is a file, and {from} a folder", target.display())));
    }
    out(&source, &target).doing(|| format!("cannot copy {name}:{from} to {}", target.display()))
}

fn kind_of(fd: impl AsFd) -> io::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(nix::sys::stat::fstat(fd)?.st_mode) & SFlag::S_IFMT)
}

/// Opens what a descriptor of kind `O_PATH` stands for, for reading.
fn reopen(fd: &OwnedFd, flags: OFlag) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(nix::fcntl::open(path.as_str(), flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
}

fn out(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let metadata = nix::sys::stat::fstat(source)?;
    let mode = metadata.st_mode & 0o777;
    let kind = SFlag::from_bits_truncate(metadata.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        if !target.is_dir() {
            fs::create_dir(target)?;
        }
        for name in names_in(&reopen(source, OFlag::O_DIRECTORY)?)? {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            out(&nix::fcntl::openat(source, name.as_os_str(), flags, Mode::empty())?, &target.join(&name))?;
        }
        fs::set_permissions(target, fs::Permissions::from_mode(mode))
    } else if kind == SFlag::S_IFLNK {
        let link = nix::fcntl::readlinkat(source, "")?;
        make_room(target)?;
        std::os::unix::fs::symlink(link, target)
    } else if kind == SFlag::S_IFREG {
        make_room(target)?;
        let copy = File::create_new(target)?;
        sys::copy_file(&reopen(source, OFlag::empty())?, &copy)?;
        copy.set_permissions(fs::Permissions::from_mode(mode))
    } else {
        // Devices, sockets and pipes are the container's own.
        Ok(())
    }
}

/// Takes a file or link away, so that what is written follows no link.
fn make_room(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => Err(io::Error::other(format!("{} is a folder", target.display()))),
        Ok(_) => fs::remove_file(target),
        Err(_) => Ok(()),
    }
}

fn names_in(folder: &File) -> io::Result<Vec<std::ffi::OsString>> {
    use std::os::fd::AsRawFd;
    let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names)
}

/// Copies a path of the host into a container, as `cp -r` would; everything becomes root's.
///
/// # Errors
/// Paths that are not there; those of reading and writing.
pub fn copy_in(instance: &Instance, name: &str, from: &Path, to: &str) -> Outcome<()> {
    let metadata = fs::metadata(from).doing(|| format!("cannot read {}", from.display()))?;
    let root = open_root(instance, name)?;
    let inside = Path::new(to.trim_start_matches('/'));
    let contents_only = from.as_os_str().as_encoded_bytes().ends_with(b"/.");
    let place = sys::open_in_root(&root, inside, OFlag::O_PATH | OFlag::O_DIRECTORY);
    let (folder, base) = match place {
        Ok(folder) if contents_only && metadata.is_dir() => {
            return into(from, &folder).doing(|| format!("cannot copy to {name}:{to}"));
        }
        Ok(folder) => (folder, from.file_name().unwrap_or(OsStr::new("copy")).to_owned()),
        Err(_) if to.ends_with('/') => return Err(Fault::new(format!("container {name} has no folder {to}"))),
        Err(_) => {
            let parent = inside.parent().unwrap_or(Path::new(""));
            let folder = sys::open_in_root(&root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY)
                .map_err(|error| Fault::caused(format!("container {name} has no folder /{}", parent.display()), error))?;
            (folder, inside.file_name().ok_or_else(|| Fault::new(format!("{to} names no file")))?.to_owned())
        }
    };
    put(from, &folder, &base).doing(|| format!("cannot copy {} to {name}:{to}", from.display()))
}

/// Puts what is in a folder of the host into an opened one.
fn into(from: &Path, folder: &OwnedFd) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        put(&entry.path(), folder, &entry.file_name())?;
    }
    Ok(())
}

fn put(from: &Path, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let mode = Mode::from_bits_truncate(metadata.mode() & 0o777);
    let kind = metadata.file_type();
    if kind.is_dir() {
        match nix::sys::stat::mkdirat(folder, name, mode) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        return into(from, &nix::fcntl::openat(folder, name, flags, Mode::empty())?);
    }
    match nix::unistd::unlinkat(folder, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if kind.is_symlink() {
        nix::unistd::symlinkat(&fs::read_link(from)?, folder, name)?;
    } else if kind.is_file() {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let copy = File::from(nix::fcntl::openat(folder, name, flags, mode)?);
        sys::copy_file(&File::open(from)?, &copy)?;
        copy.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    }
    Ok(())
}

//! The files of a container, running or not: what changed, copies in and out, export, commit.
//!
//! Everything beneath its root is hostile, and so is what an earlier copy brought to the host: paths are resolved
//! beneath the root's descriptor (`openat2`, `RESOLVE_IN_ROOT`), and from there on no link is followed on either
//! side (CVE-2018-15664). While the container is read as a whole (`changes`, `export`, `commit`), it is held still, as
//! in Docker, so that the result is consistent; that no file of the host gets into it does not depend on that.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::build::View;
use crate::image::{self, Hiding, Twin};
use crate::instance::Instance;
use crate::model::{Context, Error, Name, Result};
use crate::monitor::{self, Held};
use crate::plan::Image;
use crate::runtime::TARGETS;
use crate::store::{Lease, Store};
use crate::sys::{self, Kind, Tree};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How a path differs from the image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    Added,
    Changed,
    Deleted,
}

/// One container's layers: the one that it writes to, and those of its image, topmost first.
struct Layers {
    upper: PathBuf,
    work: PathBuf,
    lower: Vec<PathBuf>,
    scratch: PathBuf,
}

fn layers(instance: &Instance, name: &str) -> Result<Layers> {
    let folder = instance.container(name);
    let spec = folder.spec()?.ok_or_else(|| Error::new(format!("container {name} was never started")))?;
    let layers = spec.blueprint.beyond.layers.ok_or_else(|| Error::new(format!("container {name} has no layers")))?;
    Ok(Layers { upper: layers.upper, work: layers.work, lower: layers.trees, scratch: folder.join("root") })
}

/// Whether a path exists only because the runtime mounts something on it.
fn is_target(path: &Path) -> bool {
    TARGETS.iter().any(|target| path == Path::new("/").join(target))
}

/// Holds a running container still, if possible: the host may lack a freezer, or the monitor may be an older one.
/// Then what is read may be inconsistent, but reading it is just as safe.
fn still(instance: &Instance, name: &str) -> Option<Held> {
    let folder = instance.container(name);
    folder.alive().then(|| monitor::hold(&folder).ok()).flatten()
}

fn open(path: &Path) -> Result<Tree> {
    Tree::open(path).context(|| "cannot open the container's file system".into())
}

/// What differs from the image, sorted by path.
///
/// # Errors
/// Fails when the container was never started or its files cannot be read.
pub fn changes(instance: &Instance, name: &str) -> Result<Vec<(PathBuf, Difference)>> {
    let layers = layers(instance, name)?;
    let below = View::new(layers.lower.iter().rev().cloned().collect());
    let mut found = Vec::new();
    let _still = still(instance, name);
    let upper = open(&layers.upper)?;
    compare(&upper, Path::new("/"), &below, &mut found).context(|| "cannot read what the container wrote".into())?;
    found.retain(|(path, _)| !is_target(path));
    // A directory above a change counts as changed only if the image has it.
    found.sort();
    Ok(found)
}

fn compare(upper: &Tree, folder: &Path, below: &View, found: &mut Vec<(PathBuf, Difference)>) -> io::Result<()> {
    for listed in upper.list()? {
        let path = folder.join(&listed.name);
        // The container may have removed it meanwhile.
        let Some(stat) = upper.look(&listed.name)? else { continue };
        let difference = match (below.entry(&path), image::is_mark(&stat)) {
            (_, true) => Difference::Deleted,
            (Some(_), false) => Difference::Changed,
            (None, false) => Difference::Added,
        };
        found.push((path.clone(), difference));
        if Kind::of(&stat) == Kind::Folder {
            let inner = upper.folder(&listed.name)?;
            if image::is_opaque(&inner)? {
                for name in below.list(&path)? {
                    if inner.look(&name)?.is_none() {
                        found.push((path.join(name), Difference::Deleted));
                    }
                }
            }
            compare(&inner, &path, below, found)?;
        }
    }
    Ok(())
}

/// Writes the whole tree as a canonical tar archive, without its mounts.
///
/// # Errors
/// Fails when the container was never started, or when mounting, reading or writing fails.
pub fn export(instance: &Instance, name: &str, out: &mut (impl Write + Send)) -> Result<u64> {
    let layers = layers(instance, name)?;
    let mut lower = vec![layers.upper];
    lower.extend(layers.lower);
    let _still = still(instance, name);
    let merged = open(&mount_apart(&lower, None, &layers.scratch)?)?;
    image::write_tar(&merged, out).context(|| "cannot export the container".into())
}

/// Mounts layers where no other process sees them: in a mount namespace of this process's own.
fn mount_apart(lower: &[PathBuf], upper: Option<(&Path, &Path)>, place: &Path) -> Result<PathBuf> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(io::Error::from)
        .and_then(|()| {
            sys::remount(Path::new("/"), nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE)?;
            // An overlay without an upper layer needs two lower layers.
            let mut lower = lower.to_vec();
            if upper.is_none() && lower.len() == 1 {
                lower.push(place.with_file_name("scratch"));
            }
            sys::mount_overlay(&lower, upper, place)
        })
        .context(|| "cannot open the container's file system".into())?;
    Ok(place.to_owned())
}

/// Creates an image from a container: the layers of its image, and a layer with what it wrote.
///
/// # Errors
/// Fails when the container was never started or copying fails.
pub fn commit(instance: &Instance, name: &str, image_name: &Name, changes: &[String]) -> Result<Image> {
    let layers = layers(instance, name)?;
    let store = Store::at(&instance.home.store);
    let _queue = instance.lock()?;
    let mut record = instance.record()?;
    let made_from = record.containers.get(name).map(|container| container.image);
    let base = made_from.and_then(|digest| image::load(&store, &digest));
    let base = base.ok_or_else(|| Error::new(format!("the image of container {name} is no longer in the store")))?;
    let config = crate::library::change(base.config.clone(), changes)?;
    let staging = store.staging()?;
    let tree = staging.join("tree");
    let copy = Tree::private(&tree).context(|| "cannot make a staging directory".into())?;
    let still = still(instance, name);
    let copied =
        open(&layers.upper).map(|upper| Twin::new(&copy, Hiding::Kept).everything(&upper, &copy, &mut PathBuf::new()))?;
    drop(still);
    copied.map_err(|error| crate::store::disk_error("cannot copy what the container wrote", error))?;
    let below = View::new(layers.lower.iter().rev().cloned().collect());
    for target in TARGETS {
        if below.entry(&Path::new("/").join(target)).is_none() {
            // The container may have replaced any directory on the way by a link.
            sys::remove_if_empty(&copy, Path::new(target)).context(|| format!("cannot remove /{target}"))?;
        }
    }
    let lock = crate::instance::read_lock(instance)?;
    let info = image::digest_tree(&copy, lock.epoch).context(|| "cannot read the layer".into())?;
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
    crate::reconcile::pin_record(instance, &store, &record, &lock)?;
    Ok(made)
}

/// Opens a container's root: with its mounts while the container is running, otherwise without them.
fn open_root(instance: &Instance, name: &str) -> Result<OwnedFd> {
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
        .context(|| format!("cannot open the root of container {name}"))
}

/// Copies a path of a container to the host, as `cp -r` would; the copies belong to the user of this process, so they lose
/// their setuid and setgid bits. A link is copied as a link, unless a `/` follows its name.
///
/// Links in the target path itself are followed, because a person typed it. What is below the target may come from an
/// earlier copy, so a link there is replaced, never followed.
///
/// # Errors
/// Fails when a path does not exist, and when reading or writing fails.
pub fn copy_out(instance: &Instance, name: &str, from: &str, to: &Path) -> Result<()> {
    let root = open_root(instance, name)?;
    let contents_only = from.ends_with("/.");
    let inside = Path::new(from.trim_matches('/'));
    // Links on the way are resolved here, inside the root; below the path, no link is followed.
    let last = if from.ends_with('/') || contents_only { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let source = sys::open_in_root(&root, inside, OFlag::O_PATH | last)
        .map_err(|error| Error::caused(format!("container {name} has no {from}"), error))?;
    let cannot = || format!("cannot copy {name}:{from} to {}", to.display());
    let stat = nix::sys::stat::fstat(&source).map_err(io::Error::from).context(cannot)?;
    let kind = Kind::of(&stat);
    let folder = (kind == Kind::Folder).then(|| Tree::in_root(&root, inside)).transpose().context(cannot)?;
    let (above, own) = match (Tree::open(to), inside.file_name(), &folder) {
        (Ok(target), own, Some(folder)) if contents_only || own.is_none() => return folder_out(folder, &target).context(cannot),
        (Ok(target), Some(own), _) => (target, own),
        (Ok(_), None, _) => return Err(Error::new(format!("{from} names no file"))),
        (Err(error), ..) if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::NotADirectory => {
            return Err(error).context(cannot);
        }
        (Err(_), ..) => {
            let own = to.file_name().ok_or_else(|| Error::new(format!("{} names no file", to.display())))?;
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let above = Tree::open(parent).context(cannot)?;
            if folder.is_some() && above.look(own).context(cannot)?.is_some() {
                return Err(Error::new(format!("{} is a file, and {from} a directory", to.display())));
            }
            (above, own)
        }
    };
    match folder {
        Some(folder) => room_for_folder(&above, own).and_then(|target| folder_out(&folder, &target)).context(cannot),
        None if kind == Kind::File => sys::read_plain(&source).and_then(|file| file_out(&file, &above, own)).context(cannot),
        None if kind == Kind::Link => Tree::in_root(&root, inside.parent().unwrap_or(Path::new("")))
            .and_then(|source| one_out(&source, inside.file_name().unwrap_or_default(), &stat, &above, own))
            .context(cannot),
        None => Err(only_plain(from)),
    }
}

fn only_plain(path: &str) -> Error {
    Error::new(format!("{path} is a device, a FIFO or a socket: only files, directories and links are copied"))
}

/// Copies what is in a directory, then its permissions.
fn folder_out(source: &Tree, target: &Tree) -> io::Result<()> {
    for listed in source.list()? {
        // The container may have removed it meanwhile.
        let Some(stat) = source.look(&listed.name)? else { continue };
        one_out(source, &listed.name, &stat, target, &listed.name)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", listed.name.display())))?;
    }
    target.set_mode(source.facts()?.st_mode & 0o777)
}

fn one_out(source: &Tree, name: &OsStr, stat: &FileStat, target: &Tree, own: &OsStr) -> io::Result<()> {
    match Kind::of(stat) {
        Kind::Folder => folder_out(&source.folder(name)?, &room_for_folder(target, own)?),
        Kind::Link => {
            let link = source.link(name)?;
            make_room(target, own)?;
            target.make_link(own, &link)
        }
        Kind::File => file_out(&source.file(name)?, target, own),
        // Whiteouts, devices, sockets and pipes mean something only in the container.
        _ => Ok(()),
    }
}

fn file_out(file: &std::fs::File, target: &Tree, name: &OsStr) -> io::Result<()> {
    make_room(target, name)?;
    let copy = target.make_file(name, 0o600)?;
    sys::copy_file(file, &copy)?;
    let mode = nix::sys::stat::fstat(file)?.st_mode & 0o777;
    Ok(nix::sys::stat::fchmod(&copy, Mode::from_bits_truncate(mode))?)
}

/// A directory in the target: the existing one, or a new one, which also replaces a link.
fn room_for_folder(target: &Tree, name: &OsStr) -> io::Result<Tree> {
    match target.look(name)?.map(|stat| Kind::of(&stat)) {
        Some(Kind::Folder) => return target.folder(name),
        Some(Kind::Link) => target.remove_file(name)?,
        Some(_) => return Err(io::Error::other("it is a directory, but the target has a file with its name")),
        None => {}
    }
    target.make_folder(name, 0o700)
}

/// Removes a file or link, so that nothing is written through a link. Anything else stays: a copy that replaced a device
/// such as /dev/null would break every program that uses it.
fn make_room(target: &Tree, name: &OsStr) -> io::Result<()> {
    match target.look(name)?.map(|stat| Kind::of(&stat)) {
        None => Ok(()),
        Some(Kind::File | Kind::Link) => target.remove_file(name),
        Some(Kind::Folder) => Err(io::Error::other("the target has a directory with its name")),
        Some(Kind::Fifo | Kind::Socket | Kind::Character | Kind::Block) => {
            Err(io::Error::other("the target is a device, a FIFO or a socket, which a copy does not replace"))
        }
    }
}

/// Copies a path of the host into a container, as `cp -r` would; the copies belong to root. A link is copied as a link.
///
/// The container keeps running meanwhile, as in Docker: nothing is written through a link of the container.
///
/// # Errors
/// Fails when a path does not exist, and when reading or writing fails.
pub fn copy_in(instance: &Instance, name: &str, from: &Path, to: &str) -> Result<()> {
    let cannot = || format!("cannot read {}", from.display());
    let contents_only = from.as_os_str().as_encoded_bytes().ends_with(b"/.");
    let whole = Tree::open(from);
    // Whatever its kind, a missing source is reported before anything is opened.
    let stat = nix::sys::stat::lstat(from).map_err(io::Error::from).context(cannot)?;
    if !matches!(Kind::of(&stat), Kind::File | Kind::Folder | Kind::Link) {
        return Err(only_plain(&from.display().to_string()));
    }
    let root = open_root(instance, name)?;
    let inside = Path::new(to.trim_start_matches('/'));
    let done = || format!("cannot copy {} to {name}:{to}", from.display());
    let (folder, base) = match Tree::in_root(&root, inside) {
        Ok(folder) if contents_only && whole.is_ok() => {
            return whole.and_then(|from| into(&from, &folder)).context(done);
        }
        Ok(folder) => (folder, from.file_name().unwrap_or(OsStr::new("copy")).to_owned()),
        Err(_) if to.ends_with('/') => return Err(Error::new(format!("container {name} has no directory {to}"))),
        Err(_) => {
            let parent = inside.parent().unwrap_or(Path::new(""));
            let folder = Tree::in_root(&root, parent)
                .map_err(|error| Error::caused(format!("container {name} has no directory /{}", parent.display()), error))?;
            (folder, inside.file_name().ok_or_else(|| Error::new(format!("{to} names no file")))?.to_owned())
        }
    };
    match (from.file_name(), from.parent()) {
        // With a `/` behind its name, a link is followed.
        _ if whole.is_ok() && from.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            let whole = whole.context(cannot)?;
            let mode = whole.facts().context(cannot)?.st_mode & 0o7777;
            room_inside(&folder, &base, mode).and_then(|folder| into(&whole, &folder)).context(done)
        }
        (Some(own), Some(above)) => {
            let above = Tree::open(above).context(cannot)?;
            put((&above, own), &folder, &base).context(done)
        }
        _ => room_inside(&folder, &base, 0o755).and_then(|folder| into(&whole?, &folder)).context(done),
    }
}

/// Copies what is in a directory of the host into a directory of a container.
fn into(from: &Tree, folder: &Tree) -> io::Result<()> {
    from.list()?.iter().try_for_each(|listed| put((from, &listed.name), folder, &listed.name))
}

fn put((from, own): (&Tree, &OsStr), folder: &Tree, name: &OsStr) -> io::Result<()> {
    let stat = from.stat(own)?;
    let mode = stat.st_mode & 0o7777;
    if Kind::of(&stat) == Kind::Folder {
        return into(&from.folder(own)?, &room_inside(folder, name, mode)?);
    }
    make_room(folder, name)?;
    match Kind::of(&stat) {
        Kind::Link => folder.make_link(name, &from.link(own)?),
        Kind::File => {
            let copy = folder.make_file(name, mode)?;
            sys::copy_file(&from.file(own)?, &copy)?;
            Ok(nix::sys::stat::fchmod(&copy, Mode::from_bits_truncate(mode))?)
        }
        _ => Ok(()),
    }
}

/// A directory of a container: the existing one, or a new one.
fn room_inside(folder: &Tree, name: &OsStr, mode: u32) -> io::Result<Tree> {
    match folder.make_folder(name, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => folder.folder(name),
        made => made,
    }
}

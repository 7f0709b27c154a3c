//! Unpacks packages into a tree, without running anything.
//!
//! Decompression runs on all cores; writing happens in the order of the packages' names, so that the
//! tree is the same whatever was done first. Every path is opened beneath the tree's root, and links
//! are followed as if that root were `/`: this is how `/bin/sh` lands in `/usr/bin`.

use super::synthesise;
use crate::lock::LockedPackage;
use crate::model::{Context, EPOCH, Outcome};
use crate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

/// How many packages may wait, decompressed, for their turn to be written.
const AHEAD: usize = 6;

/// Files from this size on are sent to the disk while the next are being unpacked.
const LARGE: usize = 32 << 10;

/// What a package's control archive holds.
#[derive(Clone, Debug, Default)]
pub struct Control {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Paths of the package, as dpkg lists them.
    pub paths: Vec<String>,
}

/// A package's control files, and its data as one uncompressed tar.
type Opened = (Control, Vec<u8>);

/// What unpacking came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unpacked {
    /// Packages whose scripts would have done something that nothing here stands in for.
    pub skipped: Vec<String>,
}

/// Unpacks packages into an empty folder and makes what their scripts would have made.
///
/// # Errors
/// Damaged packages by name; failures to write.
pub fn unpack(packages: &[&LockedPackage], files: &[PathBuf], root: &Path) -> Outcome<Unpacked> {
    let tree = Tree::new(root)?;
    synthesise::merge_usr(root)?;
    let mut controls: BTreeMap<String, Control> = BTreeMap::new();
    let next = AtomicUsize::new(0);
    let slots: Mutex<HashMap<usize, Outcome<Opened>>> = Mutex::default();
    let (arrived, written) = (Condvar::new(), Condvar::new());
    let turn = AtomicUsize::new(0);
    let stopped = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(index) else { return };
                    let mut guard = slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    while index > turn.load(Ordering::Acquire) + AHEAD && stopped.load(Ordering::Acquire) == 0 {
                        guard = written.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                    }
                    drop(guard);
                    let opened = open_package(file).doing(|| format!("cannot unpack {}", packages[index].key()));
                    slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(index, opened);
                    arrived.notify_all();
                }
            });
        }
        let mut tree = tree;
        let mut write_all = || {
            for (index, package) in packages.iter().enumerate() {
                let mut guard = slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let opened = loop {
                    if let Some(opened) = guard.remove(&index) {
                        break opened;
                    }
                    guard = arrived.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                };
                drop(guard);
                let (mut control, data) = opened?;
                control.paths = tree
                    .write(&data)
                    .map_err(|error| crate::store::disk_fault(&format!("cannot unpack {}", package.key()), error))?;
                controls.insert(package.name.clone(), control);
                turn.store(index + 1, Ordering::Release);
                drop(slots.lock());
                written.notify_all();
            }
            Ok(())
        };
        let result = write_all();
        stopped.store(1, Ordering::Release);
        next.store(files.len(), Ordering::Relaxed);
        drop(slots.lock());
        written.notify_all();
        result
    })?;
    synthesise::finish(root, packages, &controls)
}

/// A package's control files and its data as one uncompressed tar.
fn open_package(path: &Path) -> io::Result<Opened> {
    let bytes = fs::read(path)?;
    let damaged = |what: &str| io::Error::other(format!("it is damaged: {what}"));
    let mut rest = bytes.strip_prefix(b"!<arch>\n").ok_or_else(|| damaged("not an ar archive"))?;
    let (mut control, mut data) = (None, None);
    while rest.len() >= 60 {
        let (header, body) = rest.split_at(60);
        let name = String::from_utf8_lossy(&header[..16]).trim_end().trim_end_matches('/').to_owned();
        let size: usize = String::from_utf8_lossy(&header[48..58]).trim().parse().map_err(|_| damaged("a bad length"))?;
        let member = body.get(..size).ok_or_else(|| damaged("cut off"))?;
        if let Some(kind) = name.strip_prefix("control.tar") {
            control = Some(inflate(kind, member)?);
        } else if let Some(kind) = name.strip_prefix("data.tar") {
            data = Some(inflate(kind, member)?);
        }
        rest = body.get(size.next_multiple_of(2)..).unwrap_or_default();
    }
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&control.ok_or_else(|| damaged("no control data"))?[..]).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (Some(name), true) = (name, entry.header().entry_type().is_file()) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(name, content);
        }
    }
    Ok((Control { files, paths: Vec::new() }, data.ok_or_else(|| damaged("no files"))?))
}

fn inflate(kind: &str, member: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(member.len() * 4);
    match kind {
        ".xz" => liblzma::read::XzDecoder::new(member).read_to_end(&mut out)?,
        ".zst" => zstd::stream::read::Decoder::new(member)?.read_to_end(&mut out)?,
        ".gz" => flate2::read::GzDecoder::new(member).read_to_end(&mut out)?,
        "" => {
            out.extend(member);
            member.len()
        }
        other => return Err(io::Error::other(format!("it is compressed as `{other}`, which is not known here"))),
    };
    Ok(out)
}

/// A tree being written, with the folder of the last file kept open.
struct Tree {
    root: OwnedFd,
    folder: Option<(PathBuf, OwnedFd)>,
}

impl Tree {
    fn new(root: &Path) -> Outcome<Self> {
        let root = File::open(root).doing(|| format!("cannot open {}", root.display()))?;
        Ok(Self { root: root.into(), folder: None })
    }

    /// Writes a tar's entries; tells their paths.
    fn write(&mut self, data: &[u8]) -> io::Result<Vec<String>> {
        let mut paths = Vec::new();
        let mut archive = tar::Archive::new(data);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = clean(&entry.path()?)?;
            paths.push(format!("/{}", path.display()).trim_end_matches('/').to_owned());
            self.write_entry(&path, &mut entry)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(paths)
    }

    fn parent(&mut self, path: &Path) -> io::Result<&OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.folder.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = sys::make_folders_in_root(&self.root, parent, 0o755)?;
            // `O_PATH` cannot be used for `*at` calls that follow; open it for real.
            let fd = sys::open_in_root(&fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            self.folder = Some((parent.to_owned(), fd));
        }
        let (_, fd) = self.folder.as_ref().ok_or_else(|| io::Error::other("no folder"))?;
        Ok(fd)
    }

    fn write_entry(&mut self, path: &Path, entry: &mut tar::Entry<&[u8]>) -> io::Result<()> {
        use tar::EntryType;
        let header = entry.header().clone();
        let mode = header.mode()? & 0o7777;
        let owner = (u32::try_from(header.uid()?).unwrap_or(0), u32::try_from(header.gid()?).unwrap_or(0));
        let time = i64::try_from(header.mtime()?).unwrap_or(0).min(EPOCH);
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            nix::sys::stat::fchmod(&self.root, Mode::from_bits_truncate(mode))?;
            return Ok(());
        };
        let name = Path::new(&name).to_owned();
        if header.entry_type() == EntryType::Directory {
            return self.write_folder(path, &name, mode, owner);
        }
        if header.entry_type() == EntryType::Link {
            let target = clean(&entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?)?;
            let target_name = target.file_name().map(Path::new).ok_or_else(|| io::Error::other("a link to nothing"))?;
            let from =
                sys::open_in_root(&self.root, target.parent().unwrap_or(Path::new(".")), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            let into = self.parent(path)?;
            remove(into, &name)?;
            nix::unistd::linkat(&from, target_name, into, &name, nix::fcntl::AtFlags::empty())?;
            return Ok(());
        }
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let into = self.parent(path)?;
        remove(into, &name)?;
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = nix::fcntl::openat(into, &name, flags, Mode::from_bits_truncate(0o600))?;
                let mut file = File::from(file);
                let mut content = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
                entry.read_to_end(&mut content)?;
                file.write_all(&content)?;
                nix::unistd::fchown(&file, Some(owner.0.into()), Some(owner.1.into()))?;
                nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(mode))?;
                let time = nix::sys::time::TimeSpec::new(time, 0);
                nix::sys::stat::futimens(&file, &time, &time)?;
                if content.len() >= LARGE {
                    sys::begin_writing_out(&file);
                }
                return Ok(());
            }
            EntryType::Symlink => {
                let target = link.ok_or_else(|| io::Error::other("a link to nothing"))?;
                nix::unistd::symlinkat(&target, into, &name)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                use nix::sys::stat::{SFlag, makedev, mknodat};
                let kind = match header.entry_type() {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let device = makedev(header.device_major()?.unwrap_or(0).into(), header.device_minor()?.unwrap_or(0).into());
                mknodat(into, &name, kind, Mode::from_bits_truncate(mode), device)?;
            }
            other => return Err(io::Error::other(format!("an entry of the kind {other:?}"))),
        }
        nix::unistd::fchownat(into, &name, Some(owner.0.into()), Some(owner.1.into()), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let time = nix::sys::time::TimeSpec::new(time, 0);
        nix::sys::stat::utimensat(into, &name, &time, &time, nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    /// A folder; one that is there, or a link to one, is kept and takes the new permissions.
    fn write_folder(&mut self, path: &Path, name: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let into = self.parent(path)?;
        match nix::sys::stat::mkdirat(into, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        nix::unistd::fchown(&folder, Some(owner.0.into()), Some(owner.1.into()))?;
        nix::sys::stat::fchmod(&folder, Mode::from_bits_truncate(mode))?;
        Ok(())
    }
}

/// Takes away what stands where something is to be written.
fn remove(folder: impl AsFd, name: &Path) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, unlinkat};
    match unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EISDIR) => {
            // A package replaces a folder by a link or file: only an empty one may go.
            unlinkat(folder.as_fd(), name, UnlinkatFlags::RemoveDir).map_err(io::Error::from)
        }
        Err(error) => Err(io::Error::other(format!("cannot replace it (in descriptor {}): {error}", folder.as_fd().as_raw_fd()))),
    }
}

/// A path without `./`, refused if it climbs.
fn clean(path: &Path) -> io::Result<PathBuf> {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) if !part.as_bytes().contains(&0) => out.push(part),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(io::Error::other(format!("{} leads out of the tree", path.display()))),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut data = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            if *kind == tar::EntryType::Regular {
                header.set_size(content.len() as u64);
                header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                data.append(&header, content.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
                header.set_link_name_literal(content).unwrap();
                header.set_cksum();
                data.append(&header, io::empty()).unwrap();
            }
        }
        data.into_inner().unwrap()
    }

    #[test]
    fn hostile_entries_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(root.path()).unwrap();
        assert!(tree.write(&deb(&[("../escape", tar::EntryType::Regular, "x")])).is_err());
        let link = outside.path().to_str().unwrap();
        fs::create_dir_all(root.path().join(link.trim_start_matches('/'))).unwrap();
        tree.write(&deb(&[("a", tar::EntryType::Symlink, link), ("a/x", tar::EntryType::Regular, "x")])).unwrap();
        assert!(!outside.path().join("x").exists(), "a link led out");
        assert!(root.path().join(link.trim_start_matches('/')).join("x").exists(), "the link was not followed inside");
    }

    #[test]
    fn links_to_folders_are_kept() {
        let root = tempfile::tempdir().unwrap();
        synthesise::merge_usr(root.path()).unwrap();
        let mut tree = Tree::new(root.path()).unwrap();
        let paths =
            tree.write(&deb(&[("./bin/", tar::EntryType::Directory, ""), ("./bin/sh", tar::EntryType::Regular, "x")])).unwrap();
        assert_eq!(paths, ["/bin", "/bin/sh"]);
        assert!(root.path().join("usr/bin/sh").exists());
        assert!(root.path().join("bin").is_symlink());
    }
}

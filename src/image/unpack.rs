//! Tar archives → trees on disk.
//!
//! Owns extraction: every path is opened beneath the root's descriptor (`openat2`), so nothing is read or
//! written outside of it, whatever names and links say, and no more is written than the budget allows. It is used for
//! packages, for archives that a step adds, and for layers of images that were made elsewhere.

use super::layer::{CAPABILITY, OPAQUE};
use super::tarball::{Entries, Entry, Kind};
use crate::model::{Budget, shown};
use crate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Files from this size on are written back to the disk while the next ones are being unpacked.
const LARGE: u64 = 32 << 10;
/// Files up to this size are read whole before they are written.
const SMALL: u64 = 1 << 20;
/// How much of a long file is read at a time; a piece that is all zeros is not written, but left as a hole.
const PIECE: usize = 256 << 10;

/// What an archive may do to the tree.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The latest modification time that a file may get, in seconds since 1970.
    pub latest: i64,
    /// The owner of everything, instead of the owners in the archive.
    pub owner: Option<(u32, u32)>,
    /// Whether `.wh.` entries hide what is in the layers below (image-spec, layer.md, "Whiteouts").
    pub whiteouts: bool,
    /// Whether the tree is part of a container's root file system. There FIFOs are kept, and device nodes are left out,
    /// because the runtime makes a container's `/dev`. Elsewhere both are refused: opening a FIFO blocks, and opening a
    /// device reaches the device.
    pub rootfs: bool,
    /// Whether directories get the times that the archive gives them.
    pub folder_times: bool,
}

/// A tree that is being written. The directory of the last file is kept open.
pub struct Tree {
    root: OwnedFd,
    rules: Rules,
    folder: Option<(PathBuf, OwnedFd)>,
    /// Directories and the times that they get at the end: adding an entry to a directory changes its time.
    times: BTreeMap<PathBuf, i64>,
    budget: Arc<Budget>,
}

impl Tree {
    /// A tree in an existing directory; what is written is taken from the budget.
    ///
    /// # Errors
    /// Fails when the directory cannot be opened.
    pub fn new(root: &Path, rules: Rules, budget: Arc<Budget>) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into(), rules, folder: None, times: BTreeMap::new(), budget })
    }

    /// Writes a tar's entries and returns how many there were.
    ///
    /// # Errors
    /// Fails when the archive is damaged, leads out of the tree or holds a forbidden entry, when the budget is exceeded,
    /// or when writing fails.
    pub fn write(&mut self, data: impl Read) -> io::Result<u64> {
        self.write_each(data, &mut |_| {})
    }

    /// As [`Self::write`], but returns the paths of the entries in the tree.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_listing(&mut self, data: impl Read) -> io::Result<Vec<String>> {
        let mut paths = Vec::new();
        self.write_each(data, &mut |path| paths.push(format!("/{}", path.display()).trim_end_matches('/').to_owned()))?;
        Ok(paths)
    }

    fn write_each(&mut self, data: impl Read, told: &mut dyn FnMut(&Path)) -> io::Result<u64> {
        let mut entries = Entries::new(data);
        let mut count = 0;
        while let Some(entry) = entries.next_entry()? {
            count += 1;
            let path = self.admit(&entry)?;
            told(&path);
            self.entry(&path, &entry, &mut entries)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", shown(&path))))?;
        }
        Ok(count)
    }

    /// Takes an entry from the budget and returns its path in the tree.
    fn admit(&self, entry: &Entry) -> io::Result<PathBuf> {
        let path = clean(&entry.path)?;
        self.budget.entry(path.as_os_str().len())?;
        self.budget.spend(entry.size)?;
        Ok(path)
    }

    /// Sets the times of directories, once everything is written.
    ///
    /// # Errors
    /// Fails when `futimens(2)` fails.
    pub fn finish(self) -> io::Result<()> {
        for (path, time) in self.times.iter().rev() {
            // A later entry may have replaced the directory.
            let Ok(folder) = sys::open_in_root(&self.root, path.as_path(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) else {
                continue;
            };
            let time = nix::sys::time::TimeSpec::new(*time, 0);
            nix::sys::stat::futimens(&folder, &time, &time)?;
        }
        Ok(())
    }

    fn parent(&mut self, path: &Path) -> io::Result<&OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.folder.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = sys::make_folders_in_root(&self.root, parent, 0o755)?;
            // `O_PATH` cannot be used for `*at` calls that follow; open it for real.
            let fd = sys::open_in_root(&fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            self.folder = Some((parent.to_owned(), fd));
        }
        let (_, fd) = self.folder.as_ref().ok_or_else(|| io::Error::other("no directory"))?;
        Ok(fd)
    }

    fn entry(&mut self, path: &Path, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
        let facts = Facts::of(entry, &self.rules);
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            nix::unistd::fchown(&self.root, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
            nix::sys::stat::fchmod(&self.root, Mode::from_bits_truncate(facts.mode))?;
            self.times.insert(PathBuf::new(), facts.time);
            return Ok(());
        };
        if name.as_bytes().starts_with(b".wh.") {
            if !self.rules.whiteouts {
                return Err(io::Error::other("names that begin with .wh. are whiteouts in a layer"));
            }
            return self.whiteout(path, &name);
        }
        let name = Path::new(&name);
        match entry.kind {
            Kind::Folder => return self.make_folder(path, name, &facts),
            Kind::HardLink => return self.hard_link(path, name, entry),
            Kind::Character | Kind::Block if self.rules.rootfs => return self.leave_out(path, name),
            Kind::Character | Kind::Block => {
                return Err(io::Error::other("it is a device, which an archive must not contain"));
            }
            Kind::Fifo if !self.rules.rootfs => {
                return Err(io::Error::other("it is a FIFO, which an archive must not contain"));
            }
            Kind::Other(kind) => {
                let kind = kind.escape_ascii();
                return Err(io::Error::other(format!("it is of the kind \"{kind}\", which is not supported")));
            }
            _ => {}
        }
        let into = self.parent(path)?;
        remove(into, name)?;
        match entry.kind {
            Kind::SymbolicLink => {
                let target = entry.link.as_ref().ok_or_else(|| io::Error::other("it is a link without a target"))?;
                nix::unistd::symlinkat(target, into, name)?;
            }
            Kind::Fifo => make_fifo(into, name, &facts)?,
            _ => return write_file(into, name, entry, content, &facts),
        }
        let no_follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(into, name, Some(facts.owner.0.into()), Some(facts.owner.1.into()), no_follow)?;
        let time = nix::sys::time::TimeSpec::new(facts.time, 0);
        nix::sys::stat::utimensat(into, name, &time, &time, nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    /// Leaves out a device node. Nothing remains at its path: neither an earlier entry nor what a lower layer has there.
    fn leave_out(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let whiteouts = self.rules.whiteouts;
        let into = self.parent(path)?;
        remove(into, name)?;
        if whiteouts {
            nix::sys::stat::mknodat(into, name, SFlag::S_IFCHR, Mode::empty(), 0)?;
        }
        Ok(())
    }

    /// Makes a hard link to a file that came earlier in the archive. If the target is a symbolic link, it is not followed.
    fn hard_link(&mut self, path: &Path, name: &Path, entry: &Entry) -> io::Result<()> {
        let target = clean(entry.link.as_ref().ok_or_else(|| io::Error::other("it is a link without a target"))?)?;
        let target_name = target.file_name().map(Path::new).ok_or_else(|| io::Error::other("it is a link without a target"))?;
        let folder = target.parent().unwrap_or(Path::new("."));
        let from = sys::open_in_root(&self.root, folder, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(|error| io::Error::new(error.kind(), format!("it links to {}: {error}", shown(&target))))?;
        if target == path {
            return Ok(());
        }
        let into = self.parent(path)?;
        remove(into, name)?;
        nix::unistd::linkat(&from, target_name, into, name, nix::fcntl::AtFlags::empty())
            .map_err(|error| io::Error::other(format!("it links to {}, which is not in the archive: {error}", shown(&target))))
    }

    /// Makes a directory. If the path already is one, or a link to one, it is kept and gets the new permissions.
    fn make_folder(&mut self, path: &Path, name: &Path, facts: &Facts) -> io::Result<()> {
        let whiteouts = self.rules.whiteouts;
        let into = self.parent(path)?;
        match nix::sys::stat::mkdirat(into, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(nix::errno::Errno::EEXIST) => {
                let there = sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                if there.is_err() {
                    // Of two entries with one name the later wins. If the earlier is a whiteout, the directory becomes opaque.
                    let into = self.parent(path)?;
                    let hidden = is_whiteout(into, name);
                    remove(into, name)?;
                    nix::sys::stat::mkdirat(into, name, Mode::from_bits_truncate(0o755))?;
                    if whiteouts && hidden {
                        let folder = sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                        sys::set_attribute_of(&folder, OPAQUE, b"y")?;
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        let folder = sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        nix::unistd::fchown(&folder, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
        nix::sys::stat::fchmod(&folder, Mode::from_bits_truncate(facts.mode))?;
        if self.rules.folder_times {
            self.times.insert(path.to_owned(), facts.time);
        }
        Ok(())
    }

    /// Writes a whiteout in overlayfs' form: it hides a path of the layers below.
    fn whiteout(&mut self, path: &Path, name: &OsStr) -> io::Result<()> {
        let into = self.parent(path)?;
        if name == ".wh..wh..opq" {
            return sys::set_attribute_of(into, OPAQUE, b"y");
        }
        let hidden = name.as_bytes().strip_prefix(b".wh.").unwrap_or_default();
        // aufs keeps its own metadata under such names.
        if hidden.starts_with(b".wh.") || matches!(hidden, b"" | b"." | b"..") {
            return Ok(());
        }
        let hidden = Path::new(OsStr::from_bytes(hidden));
        // A whiteout concerns only the layers below: what this layer itself has at the path stays, and is not merged with them.
        match nix::sys::stat::mknodat(into, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(nix::errno::Errno::EEXIST) => {
                let opened = sys::open_in_root(into.as_fd(), hidden, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
                opened.map_or(Ok(()), |folder| sys::set_attribute_of(&folder, OPAQUE, b"y"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What a written entry gets: the archive's values, with the rules applied.
struct Facts<'e> {
    mode: u32,
    owner: (u32, u32),
    time: i64,
    capability: Option<&'e [u8]>,
}

impl<'e> Facts<'e> {
    fn of(entry: &'e Entry, rules: &Rules) -> Self {
        Self {
            mode: entry.mode,
            owner: rules.owner.unwrap_or(entry.owner),
            time: entry.time.min(rules.latest),
            capability: entry.capability.as_deref(),
        }
    }
}

fn make_fifo(into: &OwnedFd, name: &Path, facts: &Facts) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(facts.mode);
    nix::sys::stat::mknodat(into, name, SFlag::S_IFIFO, mode, 0)?;
    Ok(nix::sys::stat::fchmodat(into, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?)
}

fn write_file(into: &OwnedFd, name: &Path, entry: &Entry, content: &mut impl Read, facts: &Facts) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(nix::fcntl::openat(into, name, flags, Mode::from_bits_truncate(0o600))?);
    let size = entry.size;
    if entry.kind == Kind::Sparse {
        entry.parts.iter().try_for_each(|(at, length)| write_part(&file, *at, *length, content))?;
        file.set_len(size)?;
    } else if size <= SMALL {
        let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        content.read_to_end(&mut whole)?;
        file.write_all(&whole)?;
    } else {
        write_part(&file, 0, size, content)?;
        file.set_len(size)?;
    }
    nix::unistd::fchown(&file, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
    nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(facts.mode))?;
    if let Some(value) = facts.capability {
        // Changing the owner clears the capability, so it is set after that.
        sys::set_attribute_of(&file, CAPABILITY, value)?;
    }
    let time = nix::sys::time::TimeSpec::new(facts.time, 0);
    nix::sys::stat::futimens(&file, &time, &time)?;
    if size >= LARGE {
        sys::begin_writing_out(&file);
    }
    Ok(())
}

/// Writes some bytes of a file to their place; pieces that are all zeros become holes.
fn write_part(file: &File, at: u64, length: u64, content: &mut impl Read) -> io::Result<()> {
    let (mut buffer, mut done) = (vec![0; PIECE], 0);
    while done < length {
        let wanted = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
        content.read_exact(&mut buffer[..wanted])?;
        if buffer[..wanted].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..wanted], at + done)?;
        }
        done += wanted as u64;
    }
    Ok(())
}

fn is_whiteout(folder: &OwnedFd, name: &Path) -> bool {
    nix::sys::stat::fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && stat.st_rdev == 0)
}

/// Removes what is at a path where something is to be written.
fn remove(folder: impl AsFd, name: &Path) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, unlinkat};
    match unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EISDIR) => {
            // The entry replaces a directory with a link or a file: only an empty directory may go.
            unlinkat(folder.as_fd(), name, UnlinkatFlags::RemoveDir).map_err(io::Error::from)
        }
        Err(error) => Err(io::Error::other(format!("cannot replace it (in descriptor {}): {error}", folder.as_fd().as_raw_fd()))),
    }
}

/// A path without `./`; one that contains `..` or a NUL byte is refused.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) if !part.as_bytes().contains(&0) => out.push(part),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(io::Error::other(format!("{} leads out of the tree", shown(path)))),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tar::EntryType;

    const RULES: Rules = Rules { latest: crate::model::EPOCH, owner: None, whiteouts: false, rootfs: false, folder_times: true };

    fn tar(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut data = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind == EntryType::Regular {
                header.set_size(content.len() as u64);
                header.set_cksum();
                data.append(&header, content.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                header.set_link_name_literal(content).unwrap();
                header.set_cksum();
                data.append(&header, io::empty()).unwrap();
            }
        }
        data.into_inner().unwrap()
    }

    fn write(root: &Path, rules: Rules, entries: &[(&str, EntryType, &str)]) -> io::Result<Vec<String>> {
        let mut tree = Tree::new(root, rules, Arc::new(Budget::new(crate::model::bounds::image::ARCHIVE)))?;
        let paths = tree.write_listing(&tar(entries)[..])?;
        tree.finish()?;
        Ok(paths)
    }

    #[test]
    fn hostile_entries_stay_inside() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| root.path().join(path);
        assert!(write(root.path(), RULES, &[("../escape", EntryType::Regular, "x")]).is_err());
        assert!(write(root.path(), RULES, &[("a/../../escape", EntryType::Regular, "x")]).is_err());
        assert!(write(root.path(), RULES, &[("null", EntryType::Char, "")]).unwrap_err().to_string().contains("device"));
        write(root.path(), RULES, &[("/etc/absolute", EntryType::Regular, "x")]).unwrap();
        assert!(at("etc/absolute").exists());
        let link = outside.path().to_str().unwrap();
        fs::write(outside.path().join("secret"), "host").unwrap();
        fs::create_dir_all(at(link.trim_start_matches('/'))).unwrap();
        write(root.path(), RULES, &[("a", EntryType::Symlink, link), ("a/x", EntryType::Regular, "x")]).unwrap();
        assert!(!outside.path().join("x").exists(), "a link led out");
        assert!(at(link.trim_start_matches('/')).join("x").exists(), "the link was not followed inside");
        let stolen = write(root.path(), RULES, &[("a", EntryType::Symlink, link), ("b", EntryType::Link, "a/secret")]);
        assert!(stolen.is_err() && !at("b").exists(), "a hard link led out");
        write(root.path(), RULES, &[("l", EntryType::Symlink, "/etc/passwd"), ("l", EntryType::Regular, "mine")]).unwrap();
        assert_eq!(fs::read_to_string(at("l")).unwrap(), "mine");
    }

    #[test]
    fn whiteouts_hide_what_is_below() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: device nodes need root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let rules = Rules { whiteouts: true, ..RULES };
        let entries = [
            ("etc/.wh.gone", EntryType::Regular, ""),
            ("var/", EntryType::Directory, ""),
            ("var/.wh..wh..opq", EntryType::Regular, ""),
            (".wh..wh.plnk", EntryType::Regular, ""),
            (".wh...", EntryType::Regular, ""),
            (".wh.new", EntryType::Regular, ""),
            ("new/", EntryType::Directory, ""),
        ];
        write(root.path(), rules, &entries).unwrap();
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let gone = fs::symlink_metadata(root.path().join("etc/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        for folder in ["var", "new"] {
            assert_eq!(sys::get_attribute(&root.path().join(folder), OPAQUE).unwrap().as_deref(), Some(&b"y"[..]), "{folder}");
        }
        assert_eq!(fs::metadata(root.path().join("var")).unwrap().mtime(), 1);
    }

    #[test]
    fn device_nodes_are_left_out_of_root_file_systems_and_fifos_are_not() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: device nodes need root");
            return;
        }
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let entries = [
            ("dev/", EntryType::Directory, ""),
            ("dev/sda", EntryType::Regular, "was a file"),
            ("dev/sda", EntryType::Block, ""),
            ("dev/null", EntryType::Char, ""),
            ("pipe", EntryType::Fifo, ""),
        ];
        for whiteouts in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let look = |path: &str| fs::symlink_metadata(root.path().join(path)).ok();
            write(root.path(), Rules { whiteouts, rootfs: true, ..RULES }, &entries).unwrap();
            assert!(look("pipe").unwrap().file_type().is_fifo());
            for left_out in ["dev/sda", "dev/null"] {
                // The file of a layer below must not show in its place.
                let hides = look(left_out).map(|there| there.file_type().is_char_device() && there.rdev() == 0);
                assert_eq!(hides, whiteouts.then_some(true), "{left_out}");
            }
        }
    }
}

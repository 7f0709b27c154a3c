//! Tar archives → trees on disk.
//!
//! Owns extraction: every path is opened beneath the root's descriptor (`openat2`), so nothing is read or
//! written outside of it, whatever names and links say. The `tar` crate only parses headers. Used for
//! packages, for archives that a step adds, and for layers of images that were made elsewhere.

use super::layer::{CAPABILITY, OPAQUE};
use crate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Files from this size on are sent to the disk while the next are being unpacked.
const LARGE: u64 = 32 << 10;
/// Files up to this size are read whole before they are written.
const SMALL: u64 = 1 << 20;
/// More entries than this are no archive that anybody means.
const ENTRIES: u64 = 4_000_000;
/// What an archive may come to in any case, and beyond that for each of its own bytes.
const ALLOWED: u64 = 1 << 30;
const RATIO: u64 = 200;

/// What an archive may do to the tree.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// No file is younger than this, in seconds since 1970.
    pub latest: i64,
    /// Owner of everything, instead of the archive's own.
    pub owner: Option<(u32, u32)>,
    /// Whether `.wh.` entries hide what is in the layers below (image-spec, layer.md, "Whiteouts").
    pub whiteouts: bool,
    /// Whether it may hold device nodes.
    pub devices: bool,
    /// Whether folders get the times that the archive gives them.
    pub folder_times: bool,
    /// How much its files may come to.
    pub allowed: u64,
}

/// What an archive of some length may come to: far more is made to fill disks.
pub fn allowance(compressed: u64) -> u64 {
    compressed.saturating_mul(RATIO).max(ALLOWED)
}

/// A tree being written, with the folder of the last file kept open.
pub struct Tree {
    root: OwnedFd,
    rules: Rules,
    folder: Option<(PathBuf, OwnedFd)>,
    /// Folders with the times that they get in the end: what is put in them changes it.
    times: BTreeMap<PathBuf, i64>,
    entries: u64,
}

impl Tree {
    /// A tree in a folder that is there.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn new(root: &Path, rules: Rules) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into(), rules, folder: None, times: BTreeMap::new(), entries: 0 })
    }

    /// Writes a tar's entries; tells their paths.
    ///
    /// # Errors
    /// An archive that is damaged, climbs, or holds what it may not; failures to write.
    pub fn write(&mut self, data: impl Read) -> io::Result<Vec<String>> {
        let mut paths = Vec::new();
        let mut archive = tar::Archive::new(Headers::new(data));
        for entry in archive.entries()? {
            let mut entry = entry?;
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(io::Error::other(format!("it has more than {ENTRIES} entries")));
            }
            self.rules.allowed = self.rules.allowed.checked_sub(entry.size()).ok_or_else(too_much)?;
            let path = clean(&entry.path()?)?;
            paths.push(format!("/{}", path.display()).trim_end_matches('/').to_owned());
            self.entry(&path, &mut entry)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(paths)
    }

    /// Sets the times of folders, once nothing more comes.
    ///
    /// # Errors
    /// Those of `futimens(2)`.
    pub fn finish(self) -> io::Result<()> {
        for (path, time) in self.times.iter().rev() {
            // One that was replaced later has no time to be given.
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
        let (_, fd) = self.folder.as_ref().ok_or_else(|| io::Error::other("no folder"))?;
        Ok(fd)
    }

    fn entry<R: Read>(&mut self, path: &Path, entry: &mut tar::Entry<R>) -> io::Result<()> {
        use tar::EntryType;
        let facts = Facts::read(entry, &self.rules)?;
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            nix::unistd::fchown(&self.root, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
            nix::sys::stat::fchmod(&self.root, Mode::from_bits_truncate(facts.mode))?;
            self.times.insert(PathBuf::new(), facts.time);
            return Ok(());
        };
        if name.as_bytes().starts_with(b".wh.") {
            if !self.rules.whiteouts {
                return Err(io::Error::other("names that begin with .wh. mean something else in a layer"));
            }
            return self.whiteout(path, &name);
        }
        let name = Path::new(&name);
        match facts.kind {
            EntryType::Directory => return self.make_folder(path, name, &facts),
            EntryType::Link => return self.hard_link(path, name, entry),
            EntryType::Char | EntryType::Block if !self.rules.devices => {
                return Err(io::Error::other("it is a device, which no archive may bring"));
            }
            _ => {}
        }
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let into = self.parent(path)?;
        remove(into, name)?;
        match facts.kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => return write_file(into, name, entry, &facts),
            EntryType::Symlink => {
                let target = link.ok_or_else(|| io::Error::other("a link to nothing"))?;
                nix::unistd::symlinkat(&target, into, name)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                // To overlay this one would be a whiteout.
                if facts.kind == EntryType::Char && facts.device == 0 {
                    return Err(io::Error::other("it is the device 0:0, which hides files"));
                }
                let kind = match facts.kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                nix::sys::stat::mknodat(into, name, kind, Mode::from_bits_truncate(facts.mode), facts.device)?;
                nix::sys::stat::fchmodat(
                    into,
                    name,
                    Mode::from_bits_truncate(facts.mode),
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )?;
            }
            other => return Err(io::Error::other(format!("it is of the kind {other:?}, which is not known here"))),
        }
        let no_follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(into, name, Some(facts.owner.0.into()), Some(facts.owner.1.into()), no_follow)?;
        let time = nix::sys::time::TimeSpec::new(facts.time, 0);
        nix::sys::stat::utimensat(into, name, &time, &time, nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    /// A second name of a file that the archive brought before; no link leads to it.
    fn hard_link<R: Read>(&mut self, path: &Path, name: &Path, entry: &tar::Entry<R>) -> io::Result<()> {
        let target = clean(&entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?)?;
        let target_name = target.file_name().map(Path::new).ok_or_else(|| io::Error::other("a link to nothing"))?;
        let folder = target.parent().unwrap_or(Path::new("."));
        let from = sys::open_in_root(&self.root, folder, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(|error| io::Error::new(error.kind(), format!("it links to {}: {error}", target.display())))?;
        if target == path {
            return Ok(());
        }
        let into = self.parent(path)?;
        remove(into, name)?;
        nix::unistd::linkat(&from, target_name, into, name, nix::fcntl::AtFlags::empty())
            .map_err(|error| io::Error::other(format!("it links to {}, which is not in the archive: {error}", target.display())))
    }

    /// A folder; one that is there, or a link to one, is kept and takes the new permissions.
    fn make_folder(&mut self, path: &Path, name: &Path, facts: &Facts) -> io::Result<()> {
        let whiteouts = self.rules.whiteouts;
        let into = self.parent(path)?;
        match nix::sys::stat::mkdirat(into, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(nix::errno::Errno::EEXIST) => {
                let there = sys::open_in_root(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                if there.is_err() {
                    // Of two entries by one name the later stands; a whiteout in its place makes it opaque.
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

    /// What a layer hides of those below it, in overlay's form.
    fn whiteout(&mut self, path: &Path, name: &OsStr) -> io::Result<()> {
        let into = self.parent(path)?;
        if name == ".wh..wh..opq" {
            return sys::set_attribute_of(into, OPAQUE, b"y");
        }
        let hidden = name.as_bytes().strip_prefix(b".wh.").unwrap_or_default();
        // aufs kept its own notes under such names.
        if hidden.starts_with(b".wh.") || matches!(hidden, b"" | b"." | b"..") {
            return Ok(());
        }
        let hidden = Path::new(OsStr::from_bytes(hidden));
        // It concerns only what is below: what this layer itself has there stays, and stands alone.
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

/// What an entry's header says, with what PAX records say better.
struct Facts {
    kind: tar::EntryType,
    mode: u32,
    owner: (u32, u32),
    time: i64,
    device: u64,
    capability: Option<Vec<u8>>,
}

impl Facts {
    fn read<R: Read>(entry: &mut tar::Entry<R>, rules: &Rules) -> io::Result<Self> {
        let header = entry.header();
        let number = |number: u64| u32::try_from(number).map_err(|_| io::Error::other("a number of its owner is too large"));
        let mut found = Self {
            kind: header.entry_type(),
            mode: header.mode()? & 0o7777,
            owner: (number(header.uid()?)?, number(header.gid()?)?),
            time: i64::try_from(header.mtime()?).unwrap_or(0),
            device: match header.entry_type() {
                tar::EntryType::Char | tar::EntryType::Block => {
                    let part = |part: io::Result<Option<u32>>| part.map(|part| u64::from(part.unwrap_or(0)));
                    nix::sys::stat::makedev(part(header.device_major())?, part(header.device_minor())?)
                }
                _ => 0,
            },
            capability: None,
        };
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record?;
            let text = || record.value().ok().map(|text| text.split('.').next().unwrap_or_default());
            match record.key_bytes() {
                b"uid" => found.owner.0 = text().and_then(|text| text.parse().ok()).unwrap_or(found.owner.0),
                b"gid" => found.owner.1 = text().and_then(|text| text.parse().ok()).unwrap_or(found.owner.1),
                b"mtime" => found.time = text().and_then(|text| text.parse().ok()).unwrap_or(found.time),
                b"SCHILY.xattr.security.capability" => found.capability = Some(record.value_bytes().to_vec()),
                _ => {}
            }
        }
        found.time = found.time.min(rules.latest);
        found.owner = rules.owner.unwrap_or(found.owner);
        Ok(found)
    }
}

fn write_file<R: Read>(into: &OwnedFd, name: &Path, entry: &mut tar::Entry<R>, facts: &Facts) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(nix::fcntl::openat(into, name, flags, Mode::from_bits_truncate(0o600))?);
    let size = entry.size();
    if size <= SMALL {
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        entry.read_to_end(&mut content)?;
        file.write_all(&content)?;
    } else {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match entry.read(&mut buffer)? {
                0 => break,
                length => file.write_all(&buffer[..length])?,
            }
        }
    }
    nix::unistd::fchown(&file, Some(facts.owner.0.into()), Some(facts.owner.1.into()))?;
    nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(facts.mode))?;
    if let Some(value) = &facts.capability {
        // A change of owner takes it away, so it comes behind that.
        sys::set_attribute_of(&file, CAPABILITY, value)?;
    }
    let time = nix::sys::time::TimeSpec::new(facts.time, 0);
    nix::sys::stat::futimens(&file, &time, &time)?;
    if size >= LARGE {
        sys::begin_writing_out(&file);
    }
    Ok(())
}

fn is_whiteout(folder: &OwnedFd, name: &Path) -> bool {
    nix::sys::stat::fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && stat.st_rdev == 0)
}

/// Takes away what stands where something is to be written.
fn remove(folder: impl AsFd, name: &Path) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, unlinkat};
    match unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EISDIR) => {
            // An entry replaces a folder by a link or file: only an empty one may go.
            unlinkat(folder.as_fd(), name, UnlinkatFlags::RemoveDir).map_err(io::Error::from)
        }
        Err(error) => Err(io::Error::other(format!("cannot replace it (in descriptor {}): {error}", folder.as_fd().as_raw_fd()))),
    }
}

/// A path without `./`, refused if it climbs.
fn clean(path: &Path) -> io::Result<PathBuf> {
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

/// Whether bytes begin as the archives do that are unpacked: a tar, plain or compressed.
pub fn is_archive(start: &[u8]) -> bool {
    compression(start).is_some() || start.get(257..262) == Some(b"ustar")
}

/// How a stream is compressed, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// How it is, if it is.
pub fn compression(start: &[u8]) -> Option<Compression> {
    let marks: [(&[u8], Compression); 4] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (b"BZh", Compression::Bzip2),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    ];
    marks.into_iter().find(|(mark, _)| start.starts_with(mark)).map(|(_, kind)| kind)
}

/// A stream without its compression, whichever it has.
///
/// # Errors
/// Those of reading its beginning.
pub fn decompressed<'a>(stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut stream = BufReader::with_capacity(128 << 10, stream);
    Ok(match compression(stream.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        Some(Compression::Xz) => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(stream)),
        Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        None => Box::new(stream),
    })
}

/// A tar whose headers are watched as they pass: names and records that are longer than anybody's would be
/// read whole into memory.
pub struct Headers<R> {
    inner: R,
    block: Vec<u8>,
    /// Bytes of content until the next header.
    content: u64,
    /// A size that a PAX record gave to the next entry.
    size: Option<u64>,
    records: Option<Vec<u8>>,
    extended: bool,
}

/// The longest name, link or set of records.
const LONGEST_HEADER: u64 = 1 << 20;

impl<R> Headers<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, block: Vec::with_capacity(512), content: 0, size: None, records: None, extended: false }
    }

    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.content > 0 {
                let length = bytes.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
                if let Some(records) = &mut self.records {
                    records.extend_from_slice(&bytes[..length]);
                }
                self.content -= length as u64;
                bytes = &bytes[length..];
                if self.content == 0
                    && let Some(records) = self.records.take()
                {
                    self.size = size_record(&records);
                }
                continue;
            }
            let length = bytes.len().min(512 - self.block.len());
            self.block.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if self.block.len() == 512 {
                self.header()?;
                self.block.clear();
            }
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<()> {
        if self.extended {
            // Further places of a sparse file's parts (GNU tar, "Sparse Formats").
            self.extended = self.block[504] != 0;
            return Ok(());
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&self.block);
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let size = header.entry_size().unwrap_or(0);
        let kind = self.block[156];
        if matches!(kind, b'L' | b'K' | b'x' | b'g') {
            if size > LONGEST_HEADER {
                return Err(io::Error::other(format!("a name or record in it has {size} bytes")));
            }
            self.records = (kind == b'x').then(Vec::new);
            self.content = size.next_multiple_of(512);
            return Ok(());
        }
        self.extended = kind == b'S' && self.block[482] != 0;
        self.content = self.size.take().unwrap_or(size).next_multiple_of(512);
        Ok(())
    }
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.pass(&buffer[..length])?;
        Ok(length)
    }
}

/// The size among PAX records (POSIX pax, "Extended Header").
fn size_record(records: &[u8]) -> Option<u64> {
    let lines = records.split(|byte| *byte == b'\n');
    let found = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(" size=")?.1.parse().ok());
    found.fold(None, |_, size| Some(size))
}

fn too_much() -> io::Error {
    io::Error::other(format!("it comes to more than {RATIO} times its size, as archives made to fill disks do"))
}

/// A stream that ends in an error when it gives far more than it was made of.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Bounds what a compressed stream of some length may come to.
    pub fn new(inner: R, compressed: u64) -> Self {
        Self { inner, left: allowance(compressed) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            io::Error::other(format!("it comes to more than {RATIO} times its size, as archives made to fill disks do"))
        })?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tar::EntryType;

    const RULES: Rules = Rules {
        latest: crate::model::EPOCH,
        owner: None,
        whiteouts: false,
        devices: false,
        folder_times: true,
        allowed: u64::MAX,
    };

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
        let mut tree = Tree::new(root, rules)?;
        let paths = tree.write(&tar(entries)[..])?;
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
    fn what_fills_disks_is_cut_off() {
        let mut bounded = Bounded { inner: io::repeat(0), left: 1 << 20 };
        assert!(io::copy(&mut bounded, &mut io::sink()).unwrap_err().to_string().contains("fill disks"));
    }

    #[test]
    fn every_compression_is_known_by_its_first_bytes() {
        let plain = b"x".repeat(3000);
        let gzip = {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&plain).unwrap();
            out.finish().unwrap()
        };
        let bzip2 = {
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            out.write_all(&plain).unwrap();
            out.finish().unwrap()
        };
        for bytes in [gzip, bzip2, zstd::encode_all(&plain[..], 1).unwrap(), plain.clone()] {
            let mut found = Vec::new();
            decompressed(&bytes[..]).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, plain);
        }
    }
}

//! A tree on disk → its canonical tar, whose digest is the layer's identity.
//!
//! The rules (in each of them other tools differ): entries are sorted by path; the root has an entry;
//! owners are numbers without names; times are whole seconds no later than the epoch; of several hard
//! links the first path in the order is the file; `security.capability` is the only extended attribute;
//! PAX records are used only for what ustar cannot hold. A tree is read by descriptor: even if a container
//! changes it meanwhile, nothing from outside the tree gets into the tar.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::checkpoint::{Checkpoints, Counter};
use super::gate::{Gate, Plain, Sink, Turn};
use crate::model::{Digest, Hasher, LayerInfo};
use crate::sys::{self, Kind, Nearby, Tree};
use nix::sys::stat::FileStat;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io::{self, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tar::EntryType;

/// The attribute by which overlayfs marks a directory as opaque: it hides what the layers below have there.
pub const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The attribute that gives a program capabilities.
pub const CAPABILITY: &CStr = c"security.capability";

/// An entry of a directory in the tree.
struct Entry {
    path: PathBuf,
    kind: Kind,
    /// The inode number in the directory entry; `stat` of the file may give another.
    inode: u64,
}

/// All paths of a tree except its root, sorted by their bytes, so that directories come before what they hold.
fn walk(root: &Tree) -> io::Result<Vec<Entry>> {
    let mut found = sys::by_levels(PathBuf::new(), |folder, inside, below| {
        for listed in root.read(folder)?.1 {
            let path = folder.join(listed.name);
            if listed.kind == Kind::Folder {
                below.push(path.clone());
            }
            inside.push(Entry { path, kind: listed.kind, inode: listed.inode });
        }
        Ok::<(), io::Error>(())
    })?;
    found.sort_unstable_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(found)
}

/// Sets the times of a tree to those that its layer records, and returns the digest and length of its canonical tar.
///
/// # Errors
/// Fails when the tree cannot be read or a time cannot be set.
pub fn digest_tree(root: &Tree, epoch: i64) -> io::Result<LayerInfo> {
    let (tree, mut counter) = (Ordered::of(root, Some(epoch))?, Counter::default());
    tree.write(&mut counter)?;
    Ok(counter.layer(tree.count()))
}

/// As [`digest_tree`], for a tree that may begin as an earlier one did: what is the same is not read again. `known` tells the
/// content and permissions of a file, or `None` if they are not known; everything else about a file that is known must be as in
/// the earlier tree. The checkpoints of this tree are for the next one.
///
/// # Errors
/// Fails as [`digest_tree`] does.
pub fn digest_tree_after(
    root: &Tree,
    epoch: i64,
    earlier: &Checkpoints,
    known: &(impl Fn(&Path) -> Option<(Digest, u32)> + Sync),
) -> io::Result<(LayerInfo, Checkpoints)> {
    let tree = Ordered::of(root, Some(epoch))?;
    let marks = tree.marks(known)?;
    let mut counter = Counter::default();
    let begun = earlier.last_before(&marks, &mut counter);
    if begun == 0 {
        tree.write(&mut counter)?;
    } else {
        tree.write_parts(begun, &mut counter)?;
        counter.write_all(&END)?;
    }
    let checkpoints = Checkpoints::new(marks, mem::take(&mut counter.states));
    Ok((counter.layer(tree.count()), checkpoints))
}

/// Writes a tree's canonical tar and returns the number of entries.
///
/// # Errors
/// Fails when the tree cannot be read or writing fails.
pub fn write_tar(root: &Tree, out: &mut (impl Write + Send)) -> io::Result<u64> {
    let tree = Ordered::of(root, None)?;
    tree.write(&mut Plain(out))?;
    Ok(tree.count())
}

impl Counter {
    fn layer(self, files: u64) -> LayerInfo {
        LayerInfo { diff_id: self.hasher.finish(), size: self.length, files, blob: None }
    }
}

/// What a tar ends with.
const END: [u8; 1024] = [0; 1024];

/// The entries of a tree in the order of its tar. With an epoch, the times in the tree itself are also set: to whole seconds no
/// later than the epoch.
struct Ordered<'t> {
    root: &'t Tree,
    all: Vec<Entry>,
    links: HashMap<usize, usize>,
    writer: Writer,
}

impl<'t> Ordered<'t> {
    fn of(root: &'t Tree, epoch: Option<i64>) -> io::Result<Self> {
        let all = walk(root)?;
        let links = links(root, &all)?;
        Ok(Self { root, all, links, writer: Writer { epoch } })
    }

    /// The number of entries, with the root's own.
    fn count(&self) -> u64 {
        self.all.len() as u64 + 1
    }

    fn top(&self) -> io::Result<Vec<u8>> {
        let mut top = Vec::new();
        self.writer.write_root(self.root, &mut top)?;
        Ok(top)
    }

    fn write(&self, out: &mut impl Sink) -> io::Result<()> {
        out.write_all(&self.top()?)?;
        self.write_parts(0, out)?;
        out.write_all(&END)
    }

    /// Writes all parts but the first ones.
    fn write_parts(&self, begun: usize, out: &mut impl Sink) -> io::Result<()> {
        let gate = Gate::new(begun, out);
        let read = sys::on_all_cores(&self.all[(begun * PART).min(self.all.len())..], PART, |index, part| {
            let index = begun + index;
            let (mut nearby, mut turn) = (Nearby::of(self.root), Turn::new(&gate, index));
            let written = (index * PART..).zip(part).try_for_each(|(at, entry)| {
                let done = if self.is_content(at) {
                    self.writer.write_file(&entry.path, &mut nearby, &mut turn)
                } else {
                    self.writer.write(&entry.path, self.first(at), &mut nearby, &mut turn.buffer)
                };
                done.map_err(|error| cannot(&entry.path, &error))
            });
            written.and_then(|()| turn.end()).map_err(|error| gate.fail(error))
        });
        match (read, gate.failed()) {
            (Err(()), Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// The path of the first name of a file, if the entry is a further one.
    fn first(&self, at: usize) -> Option<&Path> {
        self.links.get(&at).map(|first| self.all[*first].path.as_path())
    }

    /// Whether an entry has content: it is a file under its first name.
    fn is_content(&self, at: usize) -> bool {
        self.all[at].kind == Kind::File && !self.links.contains_key(&at)
    }

    /// What tells the parts of this tar from other ones: a digest of all that is in a part, the root's entry in the first.
    /// `None` for a part with a file whose content is not known.
    fn marks(&self, known: &(impl Fn(&Path) -> Option<(Digest, u32)> + Sync)) -> io::Result<Vec<Option<Digest>>> {
        let (top, found) = (self.top()?, Mutex::new(Vec::new()));
        sys::on_all_cores(&self.all, PART, |index, part| {
            let (mut nearby, mut buffer, mut hasher) = (Nearby::of(self.root), Vec::new(), Some(Hasher::default()));
            if index == 0 {
                buffer.extend(&top);
            }
            for (at, entry) in (index * PART..).zip(part) {
                if !self.is_content(at) {
                    let written = self.writer.write(&entry.path, self.first(at), &mut nearby, &mut buffer);
                    written.map_err(|error| cannot(&entry.path, &error))?;
                } else if let Some((content, mode)) = known(&entry.path) {
                    buffer.extend(content.bytes());
                    buffer.extend(mode.to_le_bytes());
                    buffer.extend(entry.path.as_os_str().as_bytes());
                } else {
                    hasher = None;
                    continue;
                }
                if let Some(hasher) = &mut hasher {
                    // The length keeps what is in one entry apart from what is in the next.
                    hasher.update(&buffer.len().to_le_bytes());
                    hasher.update(&buffer);
                }
                buffer.clear();
            }
            found.lock().unwrap_or_else(PoisonError::into_inner).push((index, hasher.map(Hasher::finish)));
            Ok::<(), io::Error>(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, mark)| mark).collect())
    }
}

fn cannot(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", path.display()))
}

/// For files with several names: maps each further name to the first one, both as indexes into `entries`.
fn links(root: &Tree, entries: &[Entry]) -> io::Result<HashMap<usize, usize>> {
    let mut inodes: Vec<(u64, usize)> =
        entries.iter().enumerate().filter(|(_, entry)| entry.kind != Kind::Folder).map(|(at, entry)| (entry.inode, at)).collect();
    inodes.sort_unstable();
    let mut links = HashMap::new();
    let mut nearby = Nearby::of(root);
    // Inode numbers in directory entries are only a hint: `stat` decides whether two names are one file.
    for alike in inodes.chunk_by(|one, other| one.0 == other.0).filter(|alike| alike.len() > 1) {
        let mut firsts = HashMap::new();
        for (_, at) in alike {
            let (folder, name) = nearby.at(&entries[*at].path)?;
            let stat = folder.stat(name)?;
            let first = *firsts.entry((stat.st_dev, stat.st_ino)).or_insert(*at);
            if first != *at {
                links.insert(*at, first);
            }
        }
    }
    Ok(links)
}

/// How many entries a thread takes at a time.
const PART: usize = 64;
/// Writes the entries of a tree. With an epoch, it also corrects their times.
struct Writer {
    epoch: Option<i64>,
}

impl Writer {
    /// Writes a file under its first name.
    fn write_file<W: Sink>(&self, path: &Path, nearby: &mut Nearby, turn: &mut Turn<W>) -> io::Result<()> {
        no_marker(path)?;
        let (mut file, stat) = nearby.open_own(path)?;
        let capability = sys::get_file_attribute(&file, CAPABILITY)?;
        let size = stat.st_size.unsigned_abs();
        let time = self.time(&stat, |time| sys::set_file_time(&file, time))?;
        let header = Header { path, stat: &stat, time, kind: EntryType::Regular, size, link: None };
        header.write(capability.as_deref(), &mut turn.buffer)?;
        turn.take(&mut file, size)?;
        turn.buffer.resize(turn.buffer.len() + usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0), 0);
        Ok(())
    }

    fn write_root(&self, root: &Tree, out: &mut Vec<u8>) -> io::Result<()> {
        let (stat, itself) = (root.facts()?, OsStr::new("."));
        let time = self.time(&stat, |time| root.set_time(itself, time))?;
        let header = Header { path: Path::new("./"), stat: &stat, time, kind: EntryType::Directory, size: 0, link: None };
        header.write(None, out)?;
        Self::write_opaque(&header, (root, itself), out)
    }

    /// Writes an entry that has no content: everything but a file under its first name.
    fn write(&self, path: &Path, first: Option<&Path>, nearby: &mut Nearby, out: &mut Vec<u8>) -> io::Result<()> {
        no_marker(path)?;
        let (folder, own) = nearby.at(path)?;
        let stat = folder.stat(own)?;
        let time = self.time(&stat, |time| folder.set_time(own, time))?;
        let header = Header { path, stat: &stat, time, kind: EntryType::Regular, size: 0, link: None };
        if is_mark(&stat) {
            // The whiteout of OCI layers (image-spec, layer.md, "Whiteouts").
            let mut name = std::ffi::OsString::from(".wh.");
            name.push(own);
            return Header { path: &path.with_file_name(name), ..header }.write(None, out);
        }
        let kind = Kind::of(&stat);
        let target = if kind == Kind::Link { Some(PathBuf::from(folder.link(own)?)) } else { None };
        let kind = match kind {
            // A tar cannot hold sockets, and they are useless without the process that made them. A container gets its
            // devices from the runtime.
            Kind::Socket | Kind::Character | Kind::Block => return Ok(()),
            _ if first.is_some() => EntryType::Link,
            Kind::Folder => EntryType::Directory,
            Kind::Link => EntryType::Symlink,
            Kind::Fifo => EntryType::Fifo,
            Kind::File => return Ok(()),
        };
        let header = Header { kind, link: first.or(target.as_deref()), ..header };
        header.write(None, out)?;
        if kind == EntryType::Directory { Self::write_opaque(&header, (folder, own), out) } else { Ok(()) }
    }

    /// Writes the opaque whiteout behind an opaque directory.
    fn write_opaque(header: &Header, (folder, name): (&Tree, &OsStr), out: &mut Vec<u8>) -> io::Result<()> {
        if folder.attribute(name, OPAQUE)?.as_deref() != Some(b"y") {
            return Ok(());
        }
        Header { path: &header.path.join(".wh..wh..opq"), kind: EntryType::Regular, ..*header }.write(None, out)
    }

    /// The time that a layer records; with an epoch, a different time in the tree is corrected.
    fn time(&self, stat: &FileStat, set: impl FnOnce(i64) -> io::Result<()>) -> io::Result<i64> {
        let Some(epoch) = self.epoch else { return Ok(stat.st_mtime) };
        let time = stat.st_mtime.min(epoch);
        if (stat.st_mtime, stat.st_mtime_nsec) != (time, 0) {
            set(time)?;
        }
        Ok(time)
    }
}

/// Refuses names that would hide a file when they are in a layer (image-spec, layer.md, "Whiteouts").
fn no_marker(path: &Path) -> io::Result<()> {
    if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
        return Err(io::Error::other(format!("/{}: names that begin with .wh. are whiteouts in a layer", path.display())));
    }
    Ok(())
}

/// Whether a file is an overlayfs whiteout: a character device with the number 0/0.
pub fn is_mark(stat: &FileStat) -> bool {
    Kind::of(stat) == Kind::Character && stat.st_rdev == 0
}

/// The header of a tar entry.
struct Header<'a> {
    path: &'a Path,
    stat: &'a FileStat,
    time: i64,
    kind: EntryType,
    size: u64,
    link: Option<&'a Path>,
}

impl Header<'_> {
    fn write(&self, capability: Option<&[u8]>, out: &mut Vec<u8>) -> io::Result<()> {
        let mut name = self.path.as_os_str().as_bytes().to_vec();
        if self.kind == EntryType::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let link = self.link.map_or(&[][..], |link| link.as_os_str().as_bytes());
        let mut records = Vec::new();
        let mut header = tar::Header::new_ustar();
        let raw = header.as_old_mut();
        if name.len() <= 100 {
            raw.name[..name.len()].copy_from_slice(&name);
        } else {
            raw.name.copy_from_slice(&name[..100]);
            record(&mut records, "path", &name);
        }
        if link.len() <= 100 {
            raw.linkname[..link.len()].copy_from_slice(link);
        } else {
            raw.linkname.copy_from_slice(&link[..100]);
            record(&mut records, "linkpath", link);
        }
        header.set_entry_type(self.kind);
        header.set_mode(self.stat.st_mode & 0o7777);
        for (key, id) in [("uid", self.stat.st_uid), ("gid", self.stat.st_gid)] {
            let small = if id < 0o777_7777 { id } else { 0 };
            if id != small {
                record(&mut records, key, id.to_string().as_bytes());
            }
            if key == "uid" { header.set_uid(small.into()) } else { header.set_gid(small.into()) }
        }
        if self.size < 0o77_777_777_777 {
            header.set_size(self.size);
        } else {
            header.set_size(0);
            record(&mut records, "size", self.size.to_string().as_bytes());
        }
        header.set_mtime(u64::try_from(self.time).unwrap_or(0));
        if let Some(capability) = capability {
            record(&mut records, "SCHILY.xattr.security.capability", capability);
        }
        if !records.is_empty() {
            let mut pax = tar::Header::new_ustar();
            pax.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
            pax.set_entry_type(EntryType::XHeader);
            pax.set_mode(0o644);
            pax.set_size(records.len() as u64);
            pax.set_mtime(0);
            pax.set_cksum();
            out.extend(pax.as_bytes());
            let padding = records.len().next_multiple_of(512) - records.len();
            records.extend(std::iter::repeat_n(0, padding));
            out.extend(&records);
        }
        header.set_cksum();
        out.extend(header.as_bytes());
        Ok(())
    }
}

/// Appends a PAX record: its length, which counts the length field too, then key and value (POSIX pax, "Extended Header").
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} {key}=").bytes());
    records.extend(value);
    records.push(b'\n');
}

/// The digest of a tree, for tests that compare layers.
#[cfg(test)]
pub fn digest(root: &Path) -> crate::model::Digest {
    digest_tree(&Tree::open(root).unwrap(), crate::model::EPOCH).unwrap().diff_id
}

#[cfg(test)]
mod tests;

//! A tree on disk → its canonical tar, whose digest is the layer's identity.
//!
//! The rules (in each of them other tools differ): entries are sorted by path; the root has an entry;
//! owners are numbers without names; times are whole seconds no later than the epoch; of several hard
//! links the first path in the order is the file; `security.capability` is the only extended attribute;
//! PAX records are used only for what ustar cannot hold. A tree is read by descriptor: even if a container
//! changes it meanwhile, nothing from outside the tree gets into the tar.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::model::{Hasher, LayerInfo};
use crate::sys::{self, Kind, Nearby, Tree};
use nix::sys::stat::FileStat;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
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
    let mut counter = Counter { hasher: Hasher::default(), length: 0 };
    let files = write_entries(root, Some(epoch), &mut counter)?;
    Ok(LayerInfo { diff_id: counter.hasher.finish(), size: counter.length, files, blob: None })
}

struct Counter {
    hasher: Hasher,
    length: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a tree's canonical tar and returns the number of entries.
///
/// # Errors
/// Fails when the tree cannot be read or writing fails.
pub fn write_tar(root: &Tree, out: &mut (impl Write + Send)) -> io::Result<u64> {
    write_entries(root, None, out)
}

/// Writes a tree. With an epoch, the times in the tree itself are also set: to whole seconds no later than the epoch.
fn write_entries(root: &Tree, epoch: Option<i64>, out: &mut (impl Write + Send)) -> io::Result<u64> {
    let entries = walk(root)?;
    let links = links(root, &entries)?;
    let writer = Writer { epoch };
    let mut top = Vec::new();
    writer.write_root(root, &mut top)?;
    out.write_all(&top)?;
    let gate = Gate { state: Mutex::new(Passed { parts: 0, out, failed: None }), changed: Condvar::new() };
    let read = sys::on_all_cores(&entries, PART, |index, part| {
        let (mut nearby, mut turn) = (Nearby::of(root), Turn { gate: &gate, index, buffer: Vec::new() });
        let written = (index * PART..).zip(part).try_for_each(|(at, entry)| {
            let done = match links.get(&at) {
                Some(first) => writer.write(&entry.path, Some(&entries[*first].path), &mut nearby, &mut turn.buffer),
                None if entry.kind == Kind::File => writer.write_file(&entry.path, &mut nearby, &mut turn),
                None => writer.write(&entry.path, None, &mut nearby, &mut turn.buffer),
            };
            done.map_err(|error| io::Error::new(error.kind(), format!("/{}: {error}", entry.path.display())))
        });
        written.and_then(|()| turn.end()).map_err(|error| gate.fail(error))
    });
    let passed = gate.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let (Err(()), Some(error)) = (read, passed.failed) {
        return Err(error);
    }
    passed.out.write_all(&[0; 1024])?;
    Ok(entries.len() as u64 + 1)
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
/// How many bytes a thread reads ahead of its turn to write; the rest of a longer file is read once its turn has come.
const AHEAD: usize = 1 << 20;

/// Parts are read at the same time; here they are written one after the other.
struct Gate<'w, W> {
    state: Mutex<Passed<'w, W>>,
    changed: Condvar,
}

struct Passed<'w, W> {
    /// How many parts have been written.
    parts: usize,
    out: &'w mut W,
    failed: Option<io::Error>,
}

impl<W> Gate<'_, W> {
    /// Keeps the first error, and wakes the threads that wait for their turn: it will not come.
    fn fail(&self, error: io::Error) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// One part, which waits at the gate for its turn to be written.
struct Turn<'g, 'w, W> {
    gate: &'g Gate<'w, W>,
    index: usize,
    buffer: Vec<u8>,
}

impl<W: Write> Turn<'_, '_, W> {
    /// Reads a file's content, which must be exactly as long as its header says.
    fn take(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let piece = left.min(AHEAD as u64);
            self.buffer.reserve(AHEAD.min(usize::try_from(piece).unwrap_or(AHEAD)));
            if file.take(piece).read_to_end(&mut self.buffer)? as u64 != piece {
                return Err(io::Error::other("it changed while it was read"));
            }
            left -= piece;
            if self.buffer.len() >= AHEAD {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what was read, and gives the next part its turn.
    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).parts += 1;
        self.gate.changed.notify_all();
        Ok(())
    }

    /// Waits for this part's turn, then writes the buffer.
    fn flush(&mut self) -> io::Result<()> {
        let state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let not_yet = |state: &mut Passed<W>| state.parts != self.index && state.failed.is_none();
        let mut state = self.gate.changed.wait_while(state, not_yet).unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_some() {
            return Err(io::Error::other("another part failed"));
        }
        state.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes the entries of a tree. With an epoch, it also corrects their times.
struct Writer {
    epoch: Option<i64>,
}

impl Writer {
    /// Writes a file under its first name.
    fn write_file<W: Write>(&self, path: &Path, nearby: &mut Nearby, turn: &mut Turn<W>) -> io::Result<()> {
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
mod tests {
    use super::*;
    use crate::model::Digest;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn sample(root: &Path, order: &[&str]) {
        for name in order {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::hard_link(root.join("b/x"), root.join("a-link")).unwrap();
        std::os::unix::fs::symlink("b/x", root.join("s")).unwrap();
    }

    #[test]
    fn order_of_creation_and_place_do_not_matter() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        sample(one.path(), &["b/x", "c", &long]);
        sample(two.path(), &[&long, "c", "b/x"]);
        // The permissions of both roots come from `tempdir`, and are the same.
        assert_eq!(digest(one.path()), digest(two.path()));
        fs::write(two.path().join("c"), "d").unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
    }

    #[test]
    fn the_tar_is_one_that_others_read() {
        let tree = tempfile::tempdir().unwrap();
        sample(tree.path(), &["b/x", &format!("{}/{}", "d".repeat(90), "f".repeat(90))]);
        digest(tree.path());
        let mut bytes = Vec::new();
        write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<(String, tar::EntryType)> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().entry_type()))
            .collect();
        assert_eq!(names[0].0, "./");
        assert_eq!(names[1], ("a-link".into(), EntryType::Regular));
        assert!(names.contains(&("b/x".into(), EntryType::Link)));
        assert!(names.iter().any(|(name, _)| name.len() > 170));
    }

    #[test]
    fn what_many_threads_read_stands_in_order() {
        let tree = tempfile::tempdir().unwrap();
        let text = |number: usize| format!("{number}").repeat(if number == 77 { 2 << 20 } else { number });
        for number in 0..300 {
            fs::write(tree.path().join(format!("{number:03}")), text(number)).unwrap();
        }
        let mut bytes = Vec::new();
        assert_eq!(write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap(), 301);
        let mut archive = tar::Archive::new(&bytes[..]);
        for (number, entry) in archive.entries().unwrap().skip(1).enumerate() {
            let mut entry = entry.unwrap();
            let mut found = String::new();
            entry.read_to_string(&mut found).unwrap();
            assert_eq!((entry.path().unwrap().display().to_string(), found), (format!("{number:03}"), text(number)));
        }
        fs::write(tree.path().join(".wh.150"), "").unwrap();
        let failed = write_tar(&Tree::open(tree.path()).unwrap(), &mut Vec::new()).unwrap_err();
        assert!(failed.to_string().contains("/.wh.150"), "{failed}");
    }

    #[test]
    fn names_of_one_file_far_apart_are_one_file_of_one_time() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        for number in 0..300 {
            fs::write(at(&format!("{number:03}")), "x").unwrap();
        }
        fs::hard_link(at("000"), at("zzz")).unwrap();
        let info = digest_tree(&Tree::open(tree.path()).unwrap(), 1000).unwrap();
        // Times that were too late were set meanwhile; the second tar has the same ones.
        assert_eq!(fs::metadata(at("zzz")).unwrap().mtime(), 1000);
        let mut bytes = Vec::new();
        write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (info.diff_id, info.size));
        let mut archive = tar::Archive::new(&bytes[..]);
        let last = archive.entries().unwrap().last().unwrap().unwrap();
        assert_eq!(last.link_name().unwrap().unwrap().as_ref(), Path::new("000"));
        assert_eq!(last.header().mtime().unwrap(), 1000);
    }
}

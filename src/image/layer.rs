//! A tree on disk → its canonical tar, whose digest is the layer's identity.
//!
//! The rules (each one a source of difference elsewhere): entries sorted by path, the root entry
//! written out, owners as numbers without names, whole seconds no later than the epoch, of hard
//! links the first path by name is the file, only `security.capability` among extended attributes,
//! PAX records only where ustar cannot say it.

use crate::model::{Hasher, LayerInfo};
use crate::sys::{self, Nearby};
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// The attribute by which overlay hides what lies below a folder.
pub const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The attribute that gives a program capabilities.
pub const CAPABILITY: &CStr = c"security.capability";

/// Every path of a tree but its root, sorted by their bytes, folders before what they hold.
fn walk(root: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let found = Mutex::new(Vec::new());
    let mut folders = vec![PathBuf::new()];
    // One level after the other, the folders of each on all cores.
    while !folders.is_empty() {
        let below = Mutex::new(Vec::new());
        sys::on_all_cores(&folders, 8, |_, part| {
            let mut entries = Vec::new();
            for folder in part {
                for entry in fs::read_dir(root.join(folder))? {
                    let entry = entry?;
                    entries.push((folder.join(entry.file_name()), entry.metadata()?));
                }
            }
            let inner = entries.iter().filter(|(_, metadata)| metadata.is_dir()).map(|(path, _)| path.clone());
            below.lock().unwrap_or_else(PoisonError::into_inner).extend(inner);
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
            Ok::<(), io::Error>(())
        })?;
        folders = below.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by(|(a, _), (b, _)| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(found)
}

/// Brings the times of a tree to what its layer says, and tells the digest and length of its canonical tar.
///
/// # Errors
/// Those of reading the tree and setting times.
pub fn digest_tree(root: &Path, epoch: i64) -> io::Result<LayerInfo> {
    let mut entries = walk(root)?;
    let mut top = fs::symlink_metadata(root)?;
    // Deepest first, although setting a time changes no parent's.
    for (path, metadata) in entries.iter_mut().rev() {
        *metadata = normal(root.join(path), metadata, epoch)?.unwrap_or_else(|| metadata.clone());
    }
    top = normal(root.to_owned(), &top, epoch)?.unwrap_or(top);
    let mut counter = Counter { hasher: Hasher::default(), length: 0 };
    let files = write_entries(root, &top, &entries, &mut counter)?;
    Ok(LayerInfo { diff_id: counter.hasher.finish(), size: counter.length, files, blob: None })
}

/// Sets a time that is too late or too fine; what stands there is told then.
fn normal(path: PathBuf, metadata: &Metadata, epoch: i64) -> io::Result<Option<Metadata>> {
    if metadata.mtime() <= epoch && metadata.mtime_nsec() == 0 {
        return Ok(None);
    }
    sys::set_time(&path, metadata.mtime().min(epoch))?;
    fs::symlink_metadata(&path).map(Some)
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

/// Writes a tree's canonical tar; tells the number of entries.
///
/// # Errors
/// Those of reading the tree and of writing.
pub fn write_tar(root: &Path, out: &mut (impl Write + Send)) -> io::Result<u64> {
    write_entries(root, &fs::symlink_metadata(root)?, &walk(root)?, out)
}

fn write_entries(root: &Path, top: &Metadata, entries: &[(PathBuf, Metadata)], out: &mut (impl Write + Send)) -> io::Result<u64> {
    write_entry(root, Path::new("./"), top, None, &mut Nearby::default(), out)?;
    let links = first_links(entries);
    let gate = Gate { state: Mutex::new(Passed { parts: 0, out, failed: None }), changed: Condvar::new() };
    let read = sys::on_all_cores(entries, PART, |index, part| {
        let (mut nearby, mut turn) = (Nearby::default(), Turn { gate: &gate, index, buffer: Vec::new() });
        let written = part.iter().try_for_each(|(path, metadata)| {
            let first = links.get(&(metadata.dev(), metadata.ino())).filter(|first| **first != path);
            write_whole(root, path, metadata, first.map(|first| first.as_path()), &mut nearby, &mut turn)
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

/// How many entries a thread reads before it takes others.
const PART: usize = 64;
/// How much a thread reads before its turn to write; a longer file is read when its turn has come.
const AHEAD: usize = 1 << 20;

/// Where parts that are read at the same time are written one after the other.
struct Gate<'w, W> {
    state: Mutex<Passed<'w, W>>,
    changed: Condvar,
}

struct Passed<'w, W> {
    /// How many parts are written.
    parts: usize,
    out: &'w mut W,
    failed: Option<io::Error>,
}

impl<W> Gate<'_, W> {
    /// Tells the others that their turn will not come.
    fn fail(&self, error: io::Error) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// One part's way through the gate.
struct Turn<'g, 'w, W> {
    gate: &'g Gate<'w, W>,
    index: usize,
    buffer: Vec<u8>,
}

impl<W: Write> Turn<'_, '_, W> {
    /// Writes what was read, and lets the next part pass.
    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).parts += 1;
        self.gate.changed.notify_all();
        Ok(())
    }
}

impl<W: Write> Write for Turn<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= AHEAD {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    /// Waits for its turn.
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

/// Of files with several names, the first.
fn first_links(entries: &[(PathBuf, Metadata)]) -> HashMap<(u64, u64), &PathBuf> {
    let mut first = HashMap::new();
    for (path, metadata) in entries.iter().filter(|(_, metadata)| metadata.nlink() > 1 && !metadata.is_dir()) {
        first.entry((metadata.dev(), metadata.ino())).or_insert(path);
    }
    first
}

/// Writes an entry, and what a layer says beside it.
fn write_whole(
    root: &Path,
    path: &Path,
    metadata: &Metadata,
    first: Option<&Path>,
    nearby: &mut Nearby,
    out: &mut dyn Write,
) -> io::Result<()> {
    // In a layer such a name would hide a file (image-spec, layer.md, "Whiteouts").
    if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
        return Err(io::Error::other(format!("/{}: names that begin with .wh. mean something else in a layer", path.display())));
    }
    if is_whiteout(metadata) {
        return write_marker(path, metadata, out);
    }
    write_entry(root, path, metadata, first, nearby, out)?;
    if metadata.is_dir() && sys::get_attribute(&root.join(path), OPAQUE)?.as_deref() == Some(b"y") {
        write_header(&path.join(".wh..wh..opq"), metadata, tar::EntryType::Regular, 0, None, None, out)?;
    }
    Ok(())
}

/// Whether something is overlayfs' mark for what is gone.
pub fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// A whiteout, in the form that OCI layers give it (image-spec, layer.md, "Whiteouts").
fn write_marker(path: &Path, metadata: &Metadata, out: &mut dyn Write) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".wh.");
    name.push(path.file_name().unwrap_or_default());
    write_header(&path.with_file_name(name), metadata, tar::EntryType::Regular, 0, None, None, out)
}

fn write_entry(
    root: &Path,
    path: &Path,
    metadata: &Metadata,
    first: Option<&Path>,
    nearby: &mut Nearby,
    out: &mut dyn Write,
) -> io::Result<()> {
    use tar::EntryType;
    let full = root.join(path);
    if let Some(first) = first {
        return write_header(path, metadata, EntryType::Link, 0, Some(first), None, out);
    }
    let kind = metadata.file_type();
    if kind.is_file() {
        let (size, mut file) = (metadata.len(), nearby.open_own(&full)?);
        let capability = sys::get_file_attribute(&file, CAPABILITY)?;
        write_header(path, metadata, EntryType::Regular, size, None, capability.as_deref(), out)?;
        copy(&mut file, size, out).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", full.display())))?;
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        return out.write_all(&[0; 512][..padding]);
    }
    let target = if kind.is_symlink() { Some(fs::read_link(&full)?) } else { None };
    let kind = match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_symlink() => EntryType::Symlink,
        () if kind.is_char_device() => EntryType::Char,
        () if kind.is_block_device() => EntryType::Block,
        () if kind.is_fifo() => EntryType::Fifo,
        // Sockets have no form in a tar, and no meaning without the process that made them.
        () => return Ok(()),
    };
    write_header(path, metadata, kind, 0, target.as_deref(), None, out)
}

/// Copies a file's bytes, which must be as many as its header said.
fn copy(file: &mut File, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut left = size;
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(AHEAD).clamp(1, 64 << 10)];
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(AHEAD));
        match file.read(&mut buffer[..wanted])? {
            0 => return Err(io::Error::other("it changed while it was read")),
            length => {
                out.write_all(&buffer[..length])?;
                left -= length as u64;
            }
        }
    }
    Ok(())
}

fn write_header(
    path: &Path,
    metadata: &Metadata,
    kind: tar::EntryType,
    size: u64,
    link: Option<&Path>,
    capability: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    if kind == tar::EntryType::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    let link = link.map_or(&[][..], |link| link.as_os_str().as_bytes());
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
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    for (key, id) in [("uid", metadata.uid()), ("gid", metadata.gid())] {
        let small = if id < 0o777_7777 { id } else { 0 };
        if id != small {
            record(&mut records, key, id.to_string().as_bytes());
        }
        if key == "uid" { header.set_uid(small.into()) } else { header.set_gid(small.into()) }
    }
    if size < 0o77_777_777_777 {
        header.set_size(size);
    } else {
        header.set_size(0);
        record(&mut records, "size", size.to_string().as_bytes());
    }
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
        let device = metadata.rdev();
        header.set_device_major(u32::try_from(nix::sys::stat::major(device)).unwrap_or(0))?;
        header.set_device_minor(u32::try_from(nix::sys::stat::minor(device)).unwrap_or(0))?;
    }
    if let Some(capability) = capability {
        record(&mut records, "SCHILY.xattr.security.capability", capability);
    }
    if !records.is_empty() {
        let mut pax = tar::Header::new_ustar();
        pax.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
        pax.set_entry_type(tar::EntryType::XHeader);
        pax.set_mode(0o644);
        pax.set_size(records.len() as u64);
        pax.set_mtime(0);
        pax.set_cksum();
        out.write_all(pax.as_bytes())?;
        let padding = records.len().next_multiple_of(512) - records.len();
        records.extend(std::iter::repeat_n(0, padding));
        out.write_all(&records)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A PAX record: its length, itself included, then key and value (POSIX pax, "Extended Header").
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
    digest_tree(root, crate::model::EPOCH).unwrap().diff_id
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // The root's own permissions come from `tempdir`, alike in both.
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
        write_tar(tree.path(), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<(String, tar::EntryType)> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().entry_type()))
            .collect();
        assert_eq!(names[0].0, "./");
        assert_eq!(names[1], ("a-link".into(), tar::EntryType::Regular));
        assert!(names.contains(&("b/x".into(), tar::EntryType::Link)));
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
        assert_eq!(write_tar(tree.path(), &mut bytes).unwrap(), 301);
        let mut archive = tar::Archive::new(&bytes[..]);
        for (number, entry) in archive.entries().unwrap().skip(1).enumerate() {
            let mut entry = entry.unwrap();
            let mut found = String::new();
            entry.read_to_string(&mut found).unwrap();
            assert_eq!((entry.path().unwrap().display().to_string(), found), (format!("{number:03}"), text(number)));
        }
        fs::write(tree.path().join(".wh.150"), "").unwrap();
        let failed = write_tar(tree.path(), &mut Vec::new()).unwrap_err();
        assert!(failed.to_string().contains("/.wh.150"), "{failed}");
    }
}

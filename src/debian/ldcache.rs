//! `/etc/ld.so.cache`, written as glibc's `ldconfig` writes it (format "glibc-ld.so.cache1.1").
//!
//! This file also reads just enough of ELF to find a library's name. No program of the image is run.

use super::inside::{Inside, Kind};
use crate::model::LIBRARIES;
use crate::model::bounds::debian as limits;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The most directories that `ld.so.conf`, with the files that it includes, may name.
const MOST_FOLDERS: usize = 1000;
/// The most that is read of a library in one piece, to find its name.
const PIECE: usize = 1 << 20;
/// The longest name of a library.
const NAME: usize = 255;
/// Flags of an entry: ELF, libc6, x86-64 (`FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`).
const FLAGS: u32 = 0x0303;

/// Writes the cache of a tree, if the tree has an `/etc`.
///
/// # Errors
/// Fails when a library cannot be read or the cache cannot be written.
pub fn write(tree: &Inside) -> io::Result<()> {
    if tree.real_folder("/etc")?.is_none() {
        return Ok(());
    }
    let mut folders = Vec::new();
    configured(tree, "/etc/ld.so.conf", 0, &mut folders)?;
    folders.extend(LIBRARIES.iter().map(|folder| (*folder).to_owned()));
    let mut entries: BTreeMap<Key, String> = BTreeMap::new();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    for folder in folders {
        let Some(real) = tree.real_folder(&folder)? else { continue };
        if !seen.insert(real) {
            continue;
        }
        for name in tree.names(&folder)? {
            let Some(name) = name.to_str() else { continue };
            if !(name.starts_with("lib") || name.starts_with("ld-")) || !name.contains(".so") {
                continue;
            }
            let Some(soname) = library(tree, &format!("{folder}/{name}"))? else { continue };
            // The cache lists libraries by their soname; the path is the file or link with that name, if there is one.
            let named = format!("{folder}/{soname}");
            let path = if tree.kind(&named)?.is_some() { named } else { format!("{folder}/{name}") };
            entries.entry(Key(soname)).or_insert(path);
        }
    }
    tree.write("/etc/ld.so.cache", &encode(&entries), 0o644).map(drop)
}

/// The soname of a file, if it is a library; dangling links, directories and the like have none.
fn library(tree: &Inside, path: &str) -> io::Result<Option<String>> {
    match tree.file(path) {
        Ok(file) => Ok(file.and_then(|file| soname(&file))),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        // A loop of links counts as a dangling link, as in ldconfig.
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Collects the directories that `ld.so.conf` and its included files name; every path is looked up inside the tree.
fn configured(tree: &Inside, file: &str, depth: usize, found: &mut Vec<String>) -> io::Result<()> {
    if tree.kind(file)? == Some(Kind::Folder) {
        return Ok(());
    }
    let Some(text) = tree.read(file, limits::TEXT)? else { return Ok(()) };
    for line in String::from_utf8_lossy(&text).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if found.len() > MOST_FOLDERS {
            return Err(io::Error::other(format!("{file} names more than {MOST_FOLDERS} directories")));
        }
        let Some(pattern) = line.strip_prefix("include").map(str::trim).filter(|_| depth < 4) else {
            found.push(line.trim_end_matches('/').to_owned());
            continue;
        };
        let (folder, wanted) = pattern.rsplit_once('/').unwrap_or(("/etc", pattern));
        for name in tree.names(folder)? {
            if let Some(name) = name.to_str().filter(|name| crate::model::pattern_matches(wanted, name)) {
                configured(tree, &format!("{folder}/{name}"), depth + 1, found)?;
            }
        }
    }
    Ok(())
}

/// A library's name in the order of the cache, which is searched by bisection.
///
/// Digits compare as numbers (glibc, `_dl_cache_libcmp`), and the greatest name comes first.
#[derive(PartialEq, Eq)]
struct Key(String);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(self.0.as_bytes(), other.0.as_bytes()).reverse()
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn compare(mut a: &[u8], mut b: &[u8]) -> std::cmp::Ordering {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let number = |text: &[u8]| {
        let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
        let value =
            text[..digits].iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        (value, digits)
    };
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Equal,
            (None, Some(_)) => return Less,
            (Some(_), None) => return Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let ((left, skip_left), (right, skip_right)) = (number(a), number(b));
                if left != right {
                    return left.cmp(&right);
                }
                a = &a[skip_left..];
                b = &b[skip_right..];
            }
            (Some(x), Some(_)) if x.is_ascii_digit() => return Greater,
            (Some(_), Some(y)) if y.is_ascii_digit() => return Less,
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            _ => {
                a = &a[1..];
                b = &b[1..];
            }
        }
    }
}

/// Encodes the cache: the header (48 bytes), the entries (24 bytes each), then their strings.
fn encode(entries: &BTreeMap<Key, String>) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut table = Vec::new();
    let base = 48 + entries.len() * 24;
    for (Key(name), path) in entries {
        let mut add = |text: &str| {
            let at = base + strings.len();
            strings.extend(text.bytes());
            strings.push(0);
            u32::try_from(at).unwrap_or(u32::MAX)
        };
        let (key, value) = (add(name), add(path));
        table.extend(FLAGS.to_le_bytes());
        table.extend(key.to_le_bytes());
        table.extend(value.to_le_bytes());
        table.extend([0; 12]);
    }
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend(u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(u32::try_from(strings.len()).unwrap_or(u32::MAX).to_le_bytes());
    // The flags say little endian (2); then come three bytes of padding, no extension, and three unused words.
    out.extend([2, 0, 0, 0]);
    out.extend([0; 16]);
    out.extend(table);
    out.extend(strings);
    out
}

/// The `DT_SONAME` of a 64-bit little-endian x86 shared library; only the parts that lead to it are read.
pub fn soname(file: &File) -> Option<String> {
    let piece = |at: u64, length: usize| {
        let mut bytes = vec![0; length.min(PIECE)];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    };
    let head = piece(0, 64)?;
    if head.get(..6)? != b"\x7fELF\x02\x01" || half(&head, 16)? != 3 || half(&head, 18)? != 62 {
        return None;
    }
    let (table, size, count) = (long(&head, 32)?, usize::from(half(&head, 54)?), usize::from(half(&head, 56)?));
    if size < 56 {
        return None;
    }
    let headers = piece(table, size.checked_mul(count).filter(|length| *length <= PIECE)?)?;
    let segments: Vec<(u32, u64, u64, u64)> = headers
        .chunks_exact(size)
        .filter_map(|header| Some((word(header, 0)?, long(header, 8)?, long(header, 16)?, long(header, 32)?)))
        .collect();
    let (_, start, _, length) = *segments.iter().find(|(kind, ..)| *kind == 2)?;
    let dynamic = piece(start, usize::try_from(length).ok().filter(|length| *length <= PIECE)?)?;
    let value = |tag: u64| dynamic.chunks_exact(16).find(|entry| long(entry, 0) == Some(tag)).and_then(|entry| long(entry, 8));
    let (name, strings) = (value(14)?, value(5)?);
    let (_, offset, address, _) = *segments
        .iter()
        .find(|(kind, _, address, length)| *kind == 1 && (*address..address.saturating_add(*length)).contains(&strings))?;
    let at = strings.checked_sub(address)?.checked_add(offset)?.checked_add(name)?;
    let mut text = [0; NAME + 1];
    let length = file.read_at(&mut text, at).ok()?;
    let end = text[..length].iter().position(|c| *c == 0)?;
    let name = std::str::from_utf8(&text[..end]).ok()?;
    // The name becomes a part of a path.
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    part(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    part(bytes, at).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    part(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn order_is_that_of_the_linker() {
        assert_eq!(compare(b"libc.so.6", b"libc.so.10"), Ordering::Less);
        assert_eq!(compare(b"liba.so.1", b"libb.so.1"), Ordering::Less);
        assert_eq!(compare(b"libfoo2.so", b"libfoo.so"), Ordering::Greater);
    }

    /// Makes a minimal library: one loaded segment, one dynamic one, a table of strings.
    fn elf(change: impl Fn(&mut Vec<u8>)) -> Option<String> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"\x7fELF\x02\x01");
        put(16, &3u16.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &2u16.to_le_bytes());
        for (at, kind, offset, address, length) in [(64, 1u32, 0u64, 0x1000u64, 512u64), (120, 2, 256, 0x1100, 48)] {
            put(at, &kind.to_le_bytes());
            put(at + 8, &offset.to_le_bytes());
            put(at + 16, &address.to_le_bytes());
            put(at + 32, &length.to_le_bytes());
        }
        for (index, (tag, value)) in [(14u64, 1u64), (5, 0x1000 + 400), (0, 0)].into_iter().enumerate() {
            put(256 + index * 16, &tag.to_le_bytes());
            put(264 + index * 16, &value.to_le_bytes());
        }
        put(401, b"libx.so.1\0");
        change(&mut bytes);
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        soname(&file)
    }

    #[test]
    fn names_are_read_and_nonsense_has_none() {
        assert_eq!(elf(|_| {}).as_deref(), Some("libx.so.1"));
        // Offsets and lengths near the maximum must not overflow; there were unchecked additions once.
        for at in [32, 72, 80, 96, 128, 136, 152, 264, 280] {
            for value in [u64::MAX, u64::MAX - 1, u64::MAX - 8, u64::MAX / 2, 511] {
                elf(|bytes| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()));
            }
        }
        for at in [54, 56] {
            elf(|bytes| bytes[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes()));
        }
        assert_eq!(elf(|bytes| bytes.truncate(405)), None);
        assert_eq!(elf(|bytes| bytes.truncate(6)), None);
        assert_eq!(elf(|bytes| bytes.fill(0xff)), None);
        assert_eq!(elf(|bytes| bytes[401..405].copy_from_slice(b"/../")), None);
        assert_eq!(elf(|bytes| bytes.splice(401.., [b'x'; 400]).for_each(drop)), None);
    }
}

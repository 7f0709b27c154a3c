//! `/etc/ld.so.cache`, written as glibc's `ldconfig` writes it (format "glibc-ld.so.cache1.1").
//!
//! Owns reading just enough ELF to know a library's name. No program of the image is run.

use crate::sys;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that the dynamic linker of Debian's amd64 searches by itself.
const STANDARD: [&str; 4] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
/// Flags of an entry: ELF, libc6, x86-64 (`FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`).
const FLAGS: u32 = 0x0303;

/// Writes the cache of a tree, if it has a C library.
///
/// # Errors
/// Those of reading libraries and of writing the cache.
pub fn write(root: &Path) -> io::Result<()> {
    let root_fd = fs::File::open(root)?;
    let inside = |path: &str| {
        sys::resolve_in_root(&root_fd, Path::new(path)).map(|found| root.join(found.strip_prefix("/").unwrap_or(&found)))
    };
    if !inside("/etc")?.is_dir() {
        return Ok(());
    }
    let mut folders = configured(&inside, "/etc/ld.so.conf", 0);
    folders.extend(STANDARD.iter().map(|folder| (*folder).to_owned()));
    let mut entries: BTreeMap<Key, String> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for folder in folders {
        let real = inside(&folder)?;
        if !real.is_dir() || !seen.insert(real.clone()) {
            continue;
        }
        let mut names: Vec<PathBuf> = fs::read_dir(&real)?.flatten().map(|entry| entry.path()).collect();
        names.sort();
        for path in names {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !(name.starts_with("lib") || name.starts_with("ld-")) || !name.contains(".so") {
                continue;
            }
            let Ok(target) = inside(&format!("{folder}/{name}")) else { continue };
            let Some(soname) = fs::read(&target).ok().and_then(|bytes| soname(&bytes)) else { continue };
            // The cache names libraries by their soname, and finds each by a file or link of that name.
            let path = if real.join(&soname).exists() { format!("{folder}/{soname}") } else { format!("{folder}/{name}") };
            entries.entry(Key(soname)).or_insert(path);
        }
    }
    fs::write(inside("/etc/ld.so.cache")?, encode(&entries))
}

/// Folders named by `ld.so.conf` and what it includes; every path is looked up inside the tree.
fn configured(inside: &impl Fn(&str) -> io::Result<PathBuf>, file: &str, depth: usize) -> Vec<String> {
    let Ok(text) = inside(file).and_then(fs::read_to_string) else { return Vec::new() };
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty()) {
        let Some(pattern) = line.strip_prefix("include").map(str::trim).filter(|_| depth < 4) else {
            found.push(line.trim_end_matches('/').to_owned());
            continue;
        };
        let (folder, wanted) = pattern.rsplit_once('/').unwrap_or(("/etc", pattern));
        let entries = inside(folder).and_then(fs::read_dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| crate::model::pattern_matches(wanted, name));
        names.sort();
        found.extend(names.iter().flat_map(|name| configured(inside, &format!("{folder}/{name}"), depth + 1)));
    }
    found
}

/// A library's name in the order of the cache, which is searched by bisection.
///
/// Digits compare as numbers (glibc, `_dl_cache_libcmp`), and the greatest comes first.
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

/// The header (48 bytes), the entries (24 each), then their strings.
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
    // Flags: little endian (2); then three bytes of padding, no extension, three unused words.
    out.extend([2, 0, 0, 0]);
    out.extend([0; 16]);
    out.extend(table);
    out.extend(strings);
    out
}

/// The `DT_SONAME` of a 64-bit little-endian x86 shared library.
fn soname(bytes: &[u8]) -> Option<String> {
    let half = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let long = |at: usize| {
        bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).and_then(|n| usize::try_from(n).ok())
    };
    if bytes.get(..6)? != b"\x7fELF\x02\x01" || half(16)? != 3 || half(18)? != 62 {
        return None;
    }
    let (table, size, count) = (long(32)?, usize::from(half(54)?), usize::from(half(56)?));
    let segments: Vec<(u32, usize, usize, usize)> = (0..count)
        .filter_map(|index| {
            let at = table.checked_add(index * size)?;
            Some((word(at)?, long(at + 8)?, long(at + 16)?, long(at + 32)?))
        })
        .collect();
    let (_, start, _, length) = *segments.iter().find(|(kind, ..)| *kind == 2)?;
    let dynamic: Vec<(usize, usize)> =
        (0..length / 16).map_while(|index| Some((long(start + index * 16)?, long(start + index * 16 + 8)?))).collect();
    let value = |tag: usize| dynamic.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
    let (name, strings) = (value(14)?, value(5)?);
    let (_, offset, address, _) = *segments
        .iter()
        .find(|(kind, _, address, length)| *kind == 1 && (*address..address.saturating_add(*length)).contains(&strings))?;
    let text = bytes.get((strings - address).checked_add(offset)?.checked_add(name)?..)?;
    let end = text.iter().position(|c| *c == 0)?;
    String::from_utf8(text[..end].to_vec()).ok()
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

    #[test]
    fn nonsense_has_no_name() {
        assert_eq!(soname(b"\x7fELF\x02\x01"), None);
        assert_eq!(soname(&[0xff; 4096]), None);
    }
}

//! The scan cache: the digests of files when they were last read.
//!
//! A file's identity is its path, size, mtime, ctime, inode and device. An entry is trusted only if the file
//! was last changed well before it was read (git's racy-entry rule). Losing the cache costs only time.

use crate::model::Digest;
use nix::sys::stat::FileStat;
use std::fs;
use std::path::Path;

/// How long a file must have been unchanged before its entry is trusted, in nanoseconds.
const RACY: i128 = 100_000_000;
/// The format of the cache's file.
const FORM: &[u8; 8] = b"stscan03";

/// Tells whether a file changed since it was last read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    size: u64,
    mtime: i128,
    ctime: i128,
    inode: u64,
    device: u64,
}

impl Identity {
    /// The identity of a file.
    pub fn of(stat: &FileStat) -> Self {
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self {
            size: stat.st_size.unsigned_abs(),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
        }
    }

    /// Whether the file has changed at a moment or later, in nanoseconds since 1970.
    pub fn is_since(&self, moment: i128) -> bool {
        self.mtime.max(self.ctime) >= moment
    }

    /// Whether the file has been unchanged long enough.
    pub fn is_settled(&self) -> bool {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = since.map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or(0));
        self.mtime.max(self.ctime) + RACY < now
    }
}

/// Digests of files, in the order of their paths.
#[derive(Clone, Debug, Default)]
pub struct ScanCache {
    entries: Vec<Entry>,
    /// All paths, concatenated, so that thousands of them need only one allocation.
    paths: String,
    /// Whether the cache holds something that its file does not.
    changed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The offset of its path in `paths`, and the path's length.
    path: (usize, usize),
    identity: Identity,
    digest: Digest,
}

impl ScanCache {
    /// Reads a cache; a missing or damaged one counts as empty.
    pub fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }

    /// Writes the cache.
    pub fn keep(&self, path: &Path) {
        // A failure is harmless: the next scan reads the files again.
        let _ = crate::sys::write_whole(path, &self.encode(), 0o600);
    }

    /// Whether it holds something new, or has fewer or more entries than before.
    pub fn differs(&self, before: &Self) -> bool {
        self.changed || self.entries.len() != before.entries.len()
    }

    /// The number of files in it.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The digest of a file that is unchanged.
    pub fn get(&self, path: &str, identity: &Identity) -> Option<Digest> {
        self.get_after(&mut { usize::MAX }, path, identity)
    }

    /// What is known of a file, whatever it is now.
    pub fn find(&self, path: &str) -> Option<(Identity, Digest)> {
        let entry = self.entries.get(self.place(path).ok()?)?;
        Some((entry.identity, entry.digest))
    }

    /// Like [`get`](Self::get), but faster for paths in order: `next` is where the path is expected. It may start as any number.
    pub fn get_after(&self, next: &mut usize, path: &str, identity: &Identity) -> Option<Digest> {
        if self.entries.get(*next).is_none_or(|entry| self.path(entry) != path) {
            *next = self.place(path).ok()?;
        }
        let entry = &self.entries[*next];
        *next += 1;
        (entry.identity == *identity).then_some(entry.digest)
    }

    /// Whether the cache has this digest for the file, and the file's identity is unchanged.
    pub fn knows(&self, path: &str, stat: &FileStat, digest: &Digest) -> bool {
        self.get(path, &Identity::of(stat)).as_ref() == Some(digest)
    }

    /// Records a file's digest; `known` says that the cache's file has it already.
    pub fn put(&mut self, path: &str, identity: Identity, digest: Digest, known: bool) {
        self.changed |= !known;
        // Paths usually come in order.
        let place = match self.entries.last() {
            Some(last) if self.path(last) >= path => self.place(path),
            _ => Err(self.entries.len()),
        };
        match place {
            Ok(at) => self.entries[at] = Entry { path: self.entries[at].path, identity, digest },
            Err(at) => {
                let start = self.paths.len();
                self.paths.push_str(path);
                self.entries.insert(at, Entry { path: (start, path.len()), identity, digest });
            }
        }
    }

    fn path(&self, entry: &Entry) -> &str {
        let (start, length) = entry.path;
        &self.paths[start..start + length]
    }

    fn place(&self, path: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| self.path(entry).cmp(path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 160);
        out.extend(FORM);
        for entry in &self.entries {
            let (path, Entry { identity, digest, .. }) = (self.path(entry), entry);
            let Ok(length) = u32::try_from(path.len()) else { continue };
            out.extend(length.to_le_bytes());
            out.extend(path.as_bytes());
            out.extend(identity.size.to_le_bytes());
            out.extend(identity.mtime.to_le_bytes());
            out.extend(identity.ctime.to_le_bytes());
            out.extend(identity.inode.to_le_bytes());
            out.extend(identity.device.to_le_bytes());
            out.extend(digest.bytes());
        }
        // This end mark tells a whole file from a truncated one.
        out.extend(u32::MAX.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(FORM)?;
        let (entries, paths) = (Vec::with_capacity(rest.len() / 120), String::with_capacity(rest.len() / 4));
        let mut cache = Self { entries, paths, changed: false };
        loop {
            let length = u32::from_le_bytes(take(&mut rest)?);
            if length == u32::MAX {
                let in_order = cache.entries.is_sorted_by(|one, next| cache.path(one) < cache.path(next));
                return (rest.is_empty() && in_order).then_some(cache);
            }
            let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            let identity = Identity {
                size: u64::from_le_bytes(take(&mut rest)?),
                mtime: i128::from_le_bytes(take(&mut rest)?),
                ctime: i128::from_le_bytes(take(&mut rest)?),
                inode: u64::from_le_bytes(take(&mut rest)?),
                device: u64::from_le_bytes(take(&mut rest)?),
            };
            let digest = Digest::from_bytes(take(&mut rest)?);
            let start = cache.paths.len();
            cache.paths.push_str(str::from_utf8(path).ok()?);
            cache.entries.push(Entry { path: (start, path.len()), identity, digest });
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::stat;

    #[test]
    fn what_is_kept_is_read_back_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a"), folder.path().join("scan"));
        fs::write(&file, "1").unwrap();
        let found = stat(&file).unwrap();
        let mut cache = ScanCache::default();
        cache.put("a", Identity::of(&found), Digest::of("1"), false);
        cache.put("ä/b", Identity::of(&found), Digest::of("2"), false);
        cache.put("0", Identity::of(&found), Digest::of("0"), false);
        cache.put("a", Identity::of(&found), Digest::of("1"), true);
        assert!(cache.differs(&ScanCache::default()));
        cache.keep(&kept);
        let again = ScanCache::read(&kept);
        assert_eq!(again.count(), 3);
        let mut next = usize::MAX;
        let digests = ["0", "a", "b", "ä/b"].map(|path| again.get_after(&mut next, path, &Identity::of(&found)));
        assert_eq!(digests, [Some(Digest::of("0")), Some(Digest::of("1")), None, Some(Digest::of("2"))]);
        assert!(again.knows("a", &found, &Digest::of("1")) && !again.knows("a", &found, &Digest::of("2")));
        let bytes = fs::read(&kept).unwrap();
        for end in 0..bytes.len() {
            assert!(ScanCache::decode(&bytes[..end]).is_none(), "{end}");
        }
        fs::write(&file, "22").unwrap();
        assert!(!again.knows("a", &stat(&file).unwrap(), &Digest::of("1")));
    }
}

//! What files held when they were last read: the scan cache.
//!
//! A file's identity is path, size, mtime, ctime, inode and device; an entry is trusted only if the file
//! was last changed well before it was read (git's racy-entry rule). Losing the cache costs time only.

use crate::model::Digest;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How long a file must have been left alone before its entry is trusted, in nanoseconds.
const RACY: i128 = 100_000_000;
/// The form of the cache's file.
const FORM: &[u8; 8] = b"stscan02";

/// What tells a file from what it was.
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
    pub fn of(metadata: &Metadata) -> Self {
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self {
            size: metadata.size(),
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime: time(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether it was left alone long enough before a moment, in nanoseconds since 1970.
    pub fn is_old(&self, now: i128) -> bool {
        self.mtime.max(self.ctime) + RACY < now
    }
}

/// Digests of files, by path.
#[derive(Clone, Debug, Default)]
pub struct ScanCache {
    entries: HashMap<String, (Identity, Digest)>,
    /// Whether it holds something that its file does not.
    changed: bool,
}

impl ScanCache {
    /// Reads a cache; one that is not there or damaged is empty.
    pub fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }

    /// Writes the cache.
    pub fn keep(&self, path: &Path) {
        let _ = crate::sys::write_atomic(path, &self.encode(), 0o600);
    }

    /// Whether it holds something new, or less than before.
    pub fn differs(&self, before: &Self) -> bool {
        self.changed || self.entries.len() != before.entries.len()
    }

    /// How many files it knows.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The digest of a file that is as it was.
    pub fn get(&self, path: &str, identity: &Identity) -> Option<Digest> {
        self.entries.get(path).filter(|(known, _)| known == identity).map(|(_, digest)| *digest)
    }

    /// Whether a file has the digest that it was seen with, as its identity tells.
    pub fn knows(&self, path: &str, metadata: &Metadata, digest: &Digest) -> bool {
        self.get(path, &Identity::of(metadata)).as_ref() == Some(digest)
    }

    /// Notes what a file holds; `known` says that the cache's file has it already.
    pub fn put(&mut self, path: String, identity: Identity, digest: Digest, known: bool) {
        self.changed |= !known;
        self.entries.insert(path, (identity, digest));
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 160);
        out.extend(FORM);
        for (path, (identity, digest)) in &self.entries {
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
        // A file that was cut off is told by its end.
        out.extend(u32::MAX.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(FORM)?;
        let mut entries = HashMap::with_capacity(rest.len() / 120);
        loop {
            let length = u32::from_le_bytes(take(&mut rest)?);
            if length == u32::MAX {
                return rest.is_empty().then_some(Self { entries, changed: false });
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
            entries.insert(String::from_utf8(path.to_vec()).ok()?, (identity, digest));
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

    #[test]
    fn what_is_kept_is_read_back_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a"), folder.path().join("scan"));
        fs::write(&file, "1").unwrap();
        let metadata = fs::metadata(&file).unwrap();
        let mut cache = ScanCache::default();
        cache.put("a".into(), Identity::of(&metadata), Digest::of("1"), false);
        cache.put("ä/b".into(), Identity::of(&metadata), Digest::of("2"), false);
        assert!(cache.differs(&ScanCache::default()));
        cache.keep(&kept);
        let again = ScanCache::read(&kept);
        assert_eq!(again.count(), 2);
        assert!(again.knows("a", &metadata, &Digest::of("1")) && !again.knows("a", &metadata, &Digest::of("2")));
        let bytes = fs::read(&kept).unwrap();
        for end in 0..bytes.len() {
            assert!(ScanCache::decode(&bytes[..end]).is_none(), "{end}");
        }
        fs::write(&file, "22").unwrap();
        assert!(!again.knows("a", &fs::metadata(&file).unwrap(), &Digest::of("1")));
    }
}

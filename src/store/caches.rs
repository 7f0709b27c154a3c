//! Directories that build commands share from build to build: cache mounts, with a quota of their own.
//!
//! A cache belongs to nobody: it may be removed whenever no command uses it, the least recently used first.

use super::{Store, disk_error, read_json};
use crate::model::{Context, Digest, Result, Size};
use crate::sys::{self, Hold, Kind, Lock, Tree};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The default limit for all caches together.
pub const CACHE_QUOTA: Size = Size(10 << 30);

/// A cache that is in use until this is dropped.
#[derive(Debug)]
pub struct Cache {
    pub place: PathBuf,
    id: String,
    _lock: Lock,
}

/// The record of a cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    id: String,
    /// Seconds since 1970.
    used: u64,
    bytes: u64,
}

/// Who else may use a cache at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    WithOthers,
    Alone,
    /// Another copy is used if the cache is in use.
    OwnCopy,
}

impl Store {
    /// Opens a cache, after waiting for its other users if `how` asks for that; a new cache is filled first.
    ///
    /// # Errors
    /// Fails when a directory cannot be made, or when filling the cache fails.
    pub fn cache(
        &self,
        id: &str,
        mode: u32,
        owner: (u32, u32),
        how: Use,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Cache> {
        let folder = self.root().join("caches");
        sys::make_private(&folder).map_err(|error| disk_error("cannot make the directory of caches", error))?;
        let named = |number: u32| {
            let name = if number == 0 { id.to_owned() } else { format!("{id}\0{number}") };
            folder.join(Digest::of(name).short(32))
        };
        let failed = || format!("cannot wait for the cache {id}");
        let (place, lock) = match how {
            Use::WithOthers => (named(0), Lock::wait(&named(0).with_extension("lock"), Hold::Shared).context(failed)?),
            Use::Alone => (named(0), Lock::wait(&named(0).with_extension("lock"), Hold::Alone).context(failed)?),
            Use::OwnCopy => {
                let mut number = 0;
                loop {
                    if let Some(lock) = Lock::attempt(&named(number).with_extension("lock")).context(failed)? {
                        break (named(number), lock);
                    }
                    number += 1;
                }
            }
        };
        let making = Lock::wait(&place.with_extension("making"), Hold::Alone).context(failed)?;
        if !place.is_dir() {
            let new = folder.join(format!("new-{}", sys::unique()));
            let made = fs::create_dir(&new).map_err(|error| disk_error(&format!("cannot make the cache {id}"), error));
            made.and_then(|()| fill(&new))?;
            sys::set_owner(&new, owner.0, owner.1)
                .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
                .context(|| format!("cannot make the cache {id}"))?;
            fs::rename(&new, &place).context(|| format!("cannot make the cache {id}"))?;
        }
        drop(making);
        Ok(Cache { place, id: id.to_owned(), _lock: lock })
    }

    /// Records the sizes of caches after their use, and removes the least recently used ones if all together hold too much.
    pub fn caches_used(&self, caches: Vec<Cache>, quota: Size) {
        for cache in &caches {
            let record = Record { id: cache.id.clone(), used: now(), bytes: held(&cache.place) };
            if let Ok(bytes) = serde_json::to_vec(&record) {
                let _ = sys::write_whole(&cache.place.with_extension("json"), &bytes, 0o600);
            }
        }
        drop(caches);
        self.trim_caches(quota, false);
    }

    /// Removes the least recently used caches until the others hold no more than the quota. Returns how many were removed,
    /// and their bytes.
    pub(super) fn trim_caches(&self, quota: Size, dry: bool) -> (u64, u64) {
        let folder = self.root().join("caches");
        // If the directory cannot be listed, everything stays.
        let mut all: Vec<(Record, PathBuf)> = sys::names(&folder)
            .unwrap_or_default()
            .into_iter()
            .map(|name| folder.join(name))
            .filter(|path| path.is_dir())
            .map(|path| {
                let unknown = || Record { id: String::new(), used: 0, bytes: held(&path) };
                (read_json(&path.with_extension("json")).unwrap_or_else(unknown), path)
            })
            .collect();
        all.sort_by_key(|(record, _)| record.used);
        let mut total: u64 = all.iter().map(|(record, _)| record.bytes).sum();
        let (mut count, mut bytes) = (0, 0);
        for (record, path) in all {
            if total <= quota.0 {
                break;
            }
            let lock = path.with_extension("lock");
            let Ok(Some(_free)) = Lock::attempt(&lock) else { continue };
            total -= record.bytes;
            count += 1;
            bytes += record.bytes;
            if !dry {
                // The lock file stays: another process may be waiting for it.
                super::collect::remove(self.root(), &path);
            }
        }
        (count, bytes)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The bytes on disk below a directory, as far as they can be counted: commands may write to it meanwhile.
fn held(folder: &Path) -> u64 {
    Tree::open(folder).map_or(0, |tree| held_in(&tree))
}

fn held_in(tree: &Tree) -> u64 {
    let listed = tree.list().unwrap_or_default();
    let stats = listed.iter().filter_map(|listed| Some((&listed.name, tree.stat(&listed.name).ok()?)));
    stats
        .map(|(name, stat)| {
            let inside = if Kind::of(&stat) == Kind::Folder { tree.folder(name).map_or(0, |inner| held_in(&inner)) } else { 0 };
            stat.st_blocks.unsigned_abs() * 512 + inside
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.prepare().unwrap();
        (folder, store)
    }

    fn open(store: &Store, id: &str, how: Use) -> Cache {
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        store.cache(id, 0o755, me, how, |place| fs::write(place.join("first"), "1").context(String::new)).unwrap()
    }

    #[test]
    fn a_cache_is_filled_once_and_found_again() {
        let (_folder, store) = store();
        let cache = open(&store, "pip", Use::WithOthers);
        fs::write(cache.place.join("more"), "2").unwrap();
        fs::remove_file(cache.place.join("first")).unwrap();
        store.caches_used(vec![cache], CACHE_QUOTA);
        let again = open(&store, "pip", Use::Alone);
        assert!(again.place.join("more").exists() && !again.place.join("first").exists());
    }

    #[test]
    fn who_wants_it_alone_gets_another_copy() {
        let (_folder, store) = store();
        let (one, two) = (open(&store, "x", Use::OwnCopy), open(&store, "x", Use::OwnCopy));
        assert_ne!(one.place, two.place);
        let place = one.place.clone();
        drop(one);
        assert_eq!(open(&store, "x", Use::OwnCopy).place, place);
    }

    #[test]
    fn the_longest_unused_go_first_and_those_in_use_stay() {
        let (_folder, store) = store();
        for (id, used) in [("old", 1), ("new", 3), ("busy", 0)] {
            let cache = open(&store, id, Use::WithOthers);
            let record = serde_json::to_vec(&Record { id: id.into(), used, bytes: 100 }).unwrap();
            fs::write(cache.place.with_extension("json"), record).unwrap();
        }
        let busy = open(&store, "busy", Use::WithOthers);
        assert_eq!(store.trim_caches(Size(250), true), (1, 100));
        assert_eq!(store.trim_caches(Size(250), false), (1, 100));
        let left = fs::read_dir(store.root().join("caches")).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(left, 2);
        assert!(busy.place.is_dir());
    }
}

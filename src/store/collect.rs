//! Garbage collection: deletes what no root and no lease holds, and reports who holds the rest.
//!
//! What running containers need is held by the leases of their monitors, even if the project's directory is gone.

use super::{RESULTS, Refers, Store, lease, read_json};
use crate::model::{Context, Digest, Result, Size};
use crate::sys::{self, Hold, Lock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A root: objects that an instance needs as long as its project directory exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// The directory of the project: when it disappears, the root is dropped.
    pub folder: PathBuf,
    pub project: String,
    pub digests: BTreeSet<Digest>,
}

/// What a collection did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Collected {
    pub removed: u64,
    pub bytes: u64,
    /// Bytes of layers that are kept, by who keeps them.
    pub kept: BTreeMap<String, u64>,
}

impl Store {
    /// Sets an instance's root.
    ///
    /// # Errors
    /// Fails when the root cannot be written.
    pub fn set_root(&self, instance: &str, pin: &Pin) -> Result<()> {
        let path = self.root().join("roots").join(instance);
        if read_json::<Pin>(&path).as_ref() == Some(pin) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(pin).context(|| "cannot write a root".into())?;
        crate::sys::write_lasting(&path, &bytes, 0o600).context(|| format!("cannot write {}", path.display()))
    }

    /// Notes that the directory of an instance was moved, in its root and in those of its generations.
    ///
    /// # Errors
    /// Fails when a root cannot be read or written.
    pub fn roots_moved(&self, instance: &str, folder: &Path) -> Result<()> {
        let place = self.root().join("roots");
        let own = |name: &String| name.strip_prefix(instance).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        for name in sys::names(&place).context(|| format!("cannot list {}", place.display()))?.iter().filter(|name| own(name)) {
            let path = place.join(name);
            let bytes = match fs::read(&path) {
                // A collection has dropped it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                bytes => bytes.context(|| format!("cannot read {}", path.display()))?,
            };
            let pin: Pin = serde_json::from_slice(&bytes).context(|| format!("{} is damaged", path.display()))?;
            self.set_root(name, &Pin { folder: folder.to_owned(), ..pin })?;
        }
        Ok(())
    }

    /// Removes an instance's root.
    pub fn remove_root(&self, instance: &str) {
        let _ = fs::remove_file(self.root().join("roots").join(instance));
    }

    /// The roots whose directories still exist; the others are removed, unless this is a dry run.
    ///
    /// # Errors
    /// Fails when a root cannot be read or is damaged: what it holds is not known, so nothing may be deleted.
    fn roots(&self, dry: bool) -> Result<Vec<Pin>> {
        let folder = self.root().join("roots");
        let entries = fs::read_dir(&folder).context(|| format!("cannot read {}", folder.display()))?;
        let mut live = Vec::new();
        for entry in entries {
            let path = entry.context(|| format!("cannot read {}", folder.display()))?.path();
            // It is a root that is being written.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp-")) {
                continue;
            }
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Another process has removed it in the meantime.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(|| format!("cannot read {}, so nothing is collected", path.display())),
            };
            let pin: Pin = serde_json::from_slice(&bytes)
                .context(|| format!("{} is damaged, so nothing is collected: what it keeps is not known", path.display()))
                .map_err(|error| {
                    error.hint("`stead up` in its project's directory rewrites it; without it that project's images are removed")
                })?;
            // A root is dropped only if its directory is known to be gone; one that cannot be accessed may still exist.
            match fs::symlink_metadata(&pin.folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    if !dry {
                        fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
                    }
                }
                _ => live.push(pin),
            }
        }
        Ok(live)
    }

    /// Deletes what nothing holds, or only counts it (`dry`); build caches are reduced to a quota.
    ///
    /// # Errors
    /// Fails when the store cannot be locked, or when roots, leases or objects cannot be read. What cannot be deleted is
    /// left for the next time.
    pub fn collect(&self, dry: bool, caches: Size) -> Result<Collected> {
        let gate = self.root().join("gate");
        let _gate = Lock::wait(&gate, Hold::Alone).context(|| format!("cannot lock {}", gate.display()))?;
        let roots = self.roots(dry)?;
        let mut held: BTreeSet<Digest> = lease::pinned(self)?;
        held.extend(roots.iter().flat_map(|root| &root.digests));
        self.hold_what_follows(&mut held)?;
        let mut done = Collected::default();
        // A project has a root for what is up and one for each generation, and most of their layers are the same.
        let mut keeps: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for root in &roots {
            keeps.entry(format!("{} ({})", root.project, root.folder.display())).or_default().extend(&root.digests);
        }
        for (who, digests) in keeps {
            let bytes = digests.iter().filter_map(|digest| self.layer(digest)).map(|layer| layer.size).sum();
            done.kept.insert(who, bytes);
        }
        // A result is kept as long as what it refers to. One that cannot be read is useless.
        let follows = |refers: Refers| refers.to.is_none_or(|to| held.contains(&to));
        let results = self.results()?.filter(|(_, refers, _)| refers.clone().is_some_and(follows)).map(|(key, ..)| key);
        let results: BTreeSet<Digest> = results.collect();
        for folder in ["layers", "blobs", RESULTS, "images", "decoded", "downloads"] {
            for digest in self.list(folder)?.into_iter().filter(|digest| !held.contains(digest)) {
                let path = self.root().join(folder).join(digest.hex());
                if folder == RESULTS && results.contains(&digest) {
                    continue;
                }
                done.removed += 1;
                done.bytes += if folder == "layers" { self.layer(&digest).map_or(0, |layer| layer.size) } else { size(&path) };
                if !dry {
                    remove(self.root(), &path);
                }
            }
        }
        let (count, bytes) = self.trim_caches(caches, dry);
        done.removed += count;
        done.bytes += bytes;
        if !dry {
            self.sweep_staging();
            self.sweep_downloads();
        }
        Ok(done)
    }

    /// Adds what belongs to held objects: configurations to manifests, compressed layers to layers.
    fn hold_what_follows(&self, held: &mut BTreeSet<Digest>) -> Result<()> {
        let parse = |value: &serde_json::Value| Digest::parse(value.as_str()?.strip_prefix("sha256:")?);
        let mut more: Vec<Digest> = Vec::new();
        for image in self.list("images")?.into_iter().filter(|image| held.contains(image)) {
            let path = self.blob_path(&image);
            match fs::read(&path) {
                // A damaged manifest names nothing useful.
                Ok(manifest) => more.extend(
                    serde_json::from_slice(&manifest)
                        .ok()
                        .and_then(|manifest: serde_json::Value| parse(&manifest["config"]["digest"])),
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(|| format!("cannot read {}, so nothing is collected", path.display())),
            }
        }
        for (_, refers, _) in self.results()? {
            let Some(Refers { to: Some(to), brings }) = refers else { continue };
            more.extend(brings.filter(|_| held.contains(&to)));
        }
        held.extend(more);
        Ok(())
    }

    /// Removes the leftovers of downloads that were cut off.
    fn sweep_downloads(&self) {
        let folder = self.root().join("downloads");
        // If the directory cannot be listed, everything stays.
        for path in sys::names(&folder).unwrap_or_default().into_iter().map(|name| folder.join(name)) {
            let leftover = path.extension().is_some_and(|extension| extension == "part" || extension == "lock");
            if leftover && !Lock::is_held(&path.with_extension("lock")) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes staging directories of processes that are gone.
    fn sweep_staging(&self) {
        let folder = self.root().join("tmp");
        for path in sys::names(&folder).unwrap_or_default().into_iter().map(|name| folder.join(name)) {
            let lock = path.with_extension("lock");
            if !Lock::is_held(&lock) {
                let _ = fs::remove_dir_all(&path);
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Removes an object: first its record; then a directory is renamed away in one step, and deleted piece by piece.
pub(super) fn remove(root: &Path, path: &Path) {
    let _ = fs::remove_file(path.with_extension("json"));
    if path.is_dir() {
        let trash = root.join("tmp").join(format!("trash-{}", crate::sys::unique()));
        if fs::rename(path, &trash).is_ok() {
            let _ = fs::remove_dir_all(&trash);
        }
    } else {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerInfo;

    #[test]
    fn a_layer_that_several_generations_keep_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("store"));
        store.prepare().unwrap();
        let layer = |name: &str, size: u64| {
            let info = LayerInfo { diff_id: Digest::of(name), size, files: 0, blob: None };
            fs::create_dir(store.layer_path(&info.diff_id)).unwrap();
            fs::write(store.layer_path(&info.diff_id).with_extension("json"), serde_json::to_vec(&info).unwrap()).unwrap();
            info.diff_id
        };
        let (base, one, two, nobodys) = (layer("base", 1000), layer("one", 10), layer("two", 20), layer("nobodys", 7));
        let pin = |root: &str, digests: &[Digest]| {
            let digests = digests.iter().copied().collect();
            store.set_root(root, &Pin { folder: folder.path().to_owned(), project: "p".into(), digests }).unwrap();
        };
        pin("i", &[base, two]);
        pin("i-1", &[base, one]);
        pin("i-2", &[base, two]);
        let done = store.collect(false, Size(0)).unwrap();
        assert_eq!(done.kept.values().copied().collect::<Vec<_>>(), [1030], "{done:?}");
        assert_eq!(done.bytes, 7);
        assert!(store.layer(&nobodys).is_none() && store.layer(&base).is_some());
        // Its directory is moved.
        let new = tempfile::tempdir().unwrap();
        store.roots_moved("i", new.path()).unwrap();
        let pins: Vec<Pin> = store.roots(true).unwrap();
        assert!(pins.len() == 3 && pins.iter().all(|pin| pin.folder == new.path()), "{pins:?}");
    }
}

//! Names that the user gives to images in the store: by `pull`, `tag`, `load`, `import`.
//!
//! They belong to no project, and keep the named images from being collected.

use crate::image;
use crate::model::{Context, Digest, Reference, Result};
use crate::registry::Registries;
use crate::store::{Home, Kept, Pin, Store, read_state, state_bytes};
use crate::sys::{self, Hold, Lock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Full names, and the images that they stand for.
#[derive(Default, Serialize, Deserialize)]
struct Names(BTreeMap<String, Digest>);

impl Kept for Names {
    const KIND: &'static str = "names";
    const VERSION: u32 = 1;
}

/// All full names, and the images that they stand for.
///
/// # Errors
/// Fails when the list of names is damaged or cannot be read.
pub fn names(home: &Home) -> Result<BTreeMap<String, Digest>> {
    // Without a list there are no names.
    Ok(read_state::<Names>(&home.state.join("names.json"))?.unwrap_or_default().0)
}

/// The full form of a name.
///
/// # Errors
/// Fails when the text is not a valid name.
pub fn full_name(text: &str) -> Result<Reference> {
    Registries::open(Arc::default())?.reference(text)
}

/// Gives an image a name.
///
/// # Errors
/// Fails when the names cannot be changed.
pub fn name_image(home: &Home, name: String, digest: Digest) -> Result<()> {
    change_names(home, |names| {
        names.insert(name, digest);
    })
}

/// Changes the names.
///
/// # Errors
/// Fails when the names cannot be locked, read or written.
pub fn change_names(home: &Home, change: impl FnOnce(&mut BTreeMap<String, Digest>)) -> Result<()> {
    sys::make_private(&home.state).context(|| format!("cannot make {}", home.state.display()))?;
    let path = home.state.join("names.json");
    let lock = path.with_extension("lock");
    let _lock = Lock::wait(&lock, Hold::Alone).context(|| format!("cannot lock {}", lock.display()))?;
    // A list that cannot be read must not be overwritten with an empty one.
    let Names(mut all) = read_state(&path)?.unwrap_or_default();
    change(&mut all);
    let store = Store::at(&home.store);
    store.prepare()?;
    let mut digests = BTreeSet::new();
    for digest in all.values().collect::<BTreeSet<_>>() {
        digests.extend(parts(&store, digest));
    }
    // The images are pinned before their names are written.
    let pin = Pin { folder: home.state.clone(), project: "named images".into(), digests };
    let bytes = state_bytes(&Names(all))?;
    store.set_root("names", &pin)?;
    sys::write_lasting(&path, &bytes, 0o644).context(|| format!("cannot write {}", path.display()))
}

/// The digests of everything that an image consists of in the store.
pub fn parts(store: &Store, digest: &Digest) -> Vec<Digest> {
    let Some(image) = image::load(store, digest) else { return vec![*digest] };
    let config = store.blob(digest).and_then(|manifest| {
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
        Digest::parse(manifest["config"]["digest"].as_str()?.strip_prefix("sha256:")?)
    });
    image.parts().copied().chain(config).collect()
}

//! Names that the user gives to images of the store: by `pull`, `tag`, `load`, `import`.
//!
//! They belong to no project and keep what they name from being collected.

use crate::image;
use crate::model::{Context, Digest, Reference, Result};
use crate::registry::Registries;
use crate::store::{Home, Kept, Pin, Store, read_state, state_bytes};
use crate::sys::{self, Hold, Lock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names as they are written in full, and the images they mean.
#[derive(Default, Serialize, Deserialize)]
struct Names(BTreeMap<String, Digest>);

impl Kept for Names {
    const KIND: &'static str = "names";
    const VERSION: u32 = 1;
}

/// All names, as they are written in full, and the images they mean.
///
/// # Errors
/// A list of names that is damaged or cannot be read.
pub fn names(home: &Home) -> Result<BTreeMap<String, Digest>> {
    // Where no list is, nothing has a name.
    Ok(read_state::<Names>(&home.state.join("names.json"))?.unwrap_or_default().0)
}

/// The full form of a name.
///
/// # Errors
/// What is none.
pub fn full_name(text: &str) -> Result<Reference> {
    Registries::open(Arc::default())?.reference(text)
}

/// Gives an image a name.
///
/// # Errors
/// Those of writing it.
pub fn name_image(home: &Home, name: String, digest: Digest) -> Result<()> {
    change_names(home, |names| {
        names.insert(name, digest);
    })
}

/// Changes the names.
///
/// # Errors
/// Those of writing them.
pub fn change_names(home: &Home, change: impl FnOnce(&mut BTreeMap<String, Digest>)) -> Result<()> {
    sys::make_private(&home.state).context(|| format!("cannot make {}", home.state.display()))?;
    let path = home.state.join("names.json");
    let lock = path.with_extension("lock");
    let _lock = Lock::wait(&lock, Hold::Alone).context(|| format!("cannot lock {}", lock.display()))?;
    // What cannot be read must not be written back as nothing.
    let Names(mut all) = read_state(&path)?.unwrap_or_default();
    change(&mut all);
    let store = Store::at(&home.store);
    store.prepare()?;
    let mut digests = BTreeSet::new();
    for digest in all.values().collect::<BTreeSet<_>>() {
        digests.extend(parts(&store, digest));
    }
    // What is named is kept before its name says so.
    let pin = Pin { folder: home.state.clone(), project: "named images".into(), digests };
    let bytes = state_bytes(&Names(all))?;
    store.set_root("names", &pin)?;
    sys::write_lasting(&path, &bytes, 0o644).context(|| format!("cannot write {}", path.display()))
}

/// All that an image consists of in the store.
pub fn parts(store: &Store, digest: &Digest) -> Vec<Digest> {
    let Some(image) = image::load(store, digest) else { return vec![*digest] };
    let config = store.blob(digest).and_then(|manifest| {
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
        Digest::parse(manifest["config"]["digest"].as_str()?.strip_prefix("sha256:")?)
    });
    image.parts().copied().chain(config).collect()
}

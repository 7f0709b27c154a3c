//! Containers of images without a project: `stead run IMAGE` anywhere.
//!
//! Each image has a small project of its own in the state directory; its lock says what the image's name means.

use crate::image;
use crate::instance::{Instance, Reporter};
use crate::library::{full_name, known_images, names, pull};
use crate::lock::{self, Lock, LockedImage};
use crate::model::{Context, Digest, Result};
use crate::store::{Home, Store};
use crate::sys;
use std::fs;
use std::path::PathBuf;

/// The directory of a project that holds nothing but an image, which is pulled if the store does not have it.
///
/// # Errors
/// Fails when the text is not the name of an image, when [`pull`] fails, and when the directory cannot be written.
pub fn loose(home: &Home, text: &str, reporter: &dyn Reporter) -> Result<(PathBuf, String)> {
    let store = Store::at(&home.store);
    let whole = |digest: &Digest| image::load(&store, digest).is_some();
    let (name, digest) = match known_images(home)?.get(text).filter(|digest| whole(digest)) {
        Some(digest) => (text.to_owned(), *digest),
        None => {
            let full = full_name(text)?.to_string();
            match names(home)?.get(&full).filter(|digest| whole(digest)) {
                Some(digest) => (full, *digest),
                None => (full, pull(home, text, reporter)?.1.digest),
            }
        }
    };
    let folder = home.state.join("loose").join(Digest::of(&name).short(16));
    let lock = Lock { images: [(name.clone(), LockedImage::here(digest))].into(), ..Lock::default() };
    let project = format!("project \"loose\"\nimage \"main\" {{ from {} }}\n", crate::spec::text(&name));
    sys::make_private(&folder).context(|| format!("cannot make {}", folder.display()))?;
    for (file, text) in [("stead.kdl", project), ("stead.lock", lock::write(&lock))] {
        let path = folder.join(file);
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            sys::write_whole(&path, text.as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok((folder, "main".into()))
}

/// Removes the store's root for an image that no container uses any more; its name still keeps it in the store.
///
/// # Errors
/// Fails when its containers cannot be listed.
pub fn forget_loose(instance: &Instance) -> Result<()> {
    if instance.container_folders()?.is_empty() {
        Store::at(&instance.home.store).remove_root(&instance.id);
    }
    Ok(())
}

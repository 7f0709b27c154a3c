//! Images in registries and archives: pulling, pushing, importing and naming them.

use super::images::{find_image, known_images, not_whole};
use super::tags::{change_names, full_name, name_image, names};
use crate::fetch;
use crate::image::{self, PublicKey};
use crate::instance::{LoadedProject, Progress, Reporter};
use crate::lock::LockedImage;
use crate::model::{Context, Digest, Error, PLATFORM, Reference, Result, bounds, nearest};
use crate::plan::Image;
use crate::registry::{Pushed, Pushing, Registries, Signed};
use crate::store::{Home, Lease, Staging, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Does some work and reports its progress meanwhile.
pub fn watched<T>(reporter: &dyn Reporter, progress: &fetch::Progress, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let look = || {
        progress.notes().into_iter().for_each(|note| reporter.report(Progress::Warning(note)));
        let (got, total) = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
        if total > 0 {
            reporter.report(Progress::Download { done: got, total });
        }
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look();
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        // The watcher may be sleeping.
        watcher.thread().unpark();
        let _ = watcher.join();
        look();
        result
    })
}

/// Opens the registries and does some work with them; their progress is reported.
fn with<T>(reporter: &dyn Reporter, work: impl FnOnce(&Registries) -> Result<T>) -> Result<T> {
    let progress = Arc::new(fetch::Progress::default());
    watched(reporter, &progress, || work(&Registries::open(progress.clone())?))
}

/// Pulls an image and gives it its name.
///
/// # Errors
/// Fails when the name is not valid, when the registry cannot be reached or does not have the image, when a part is
/// damaged, or when the disk is full.
pub fn pull(home: &Home, text: &str, reporter: &dyn Reporter) -> Result<(Reference, Image)> {
    let store = Store::at(&home.store);
    store.prepare()?;
    let lease = Mutex::new(Lease::open(&store)?);
    with(reporter, |registries| {
        let reference = registries.reference(text)?;
        let source = registries.source(&reference)?;
        let pin = |digests: &[Digest]| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests);
        let image = source.take_in(&store, &source.find()?, &pin)?;
        name_image(home, reference.to_string(), image.digest)?;
        Ok((reference, image))
    })
}

/// Pushes an image to registries, under the given names.
///
/// # Errors
/// Fails when the store has lost a part, or when a registry cannot be reached or refuses.
pub fn push(home: &Home, pushing: &Pushing, texts: &[String], reporter: &dyn Reporter) -> Result<(Vec<Reference>, Pushed)> {
    let store = Store::at(&home.store);
    let lease = Mutex::new(Lease::open(&store)?);
    with(reporter, |registries| {
        let references = texts.iter().map(|text| registries.reference(text)).collect::<Result<Vec<_>>>()?;
        if let Some(reference) = references.iter().find(|reference| reference.digest.is_some()) {
            return Err(Error::new(format!("{reference} names a digest, and a digest follows from what is pushed"))
                .hint("write a tag instead")
                .usage());
        }
        let pin = |digests: &[Digest]| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests);
        pin(&pushing.image.parts().copied().collect::<Vec<_>>())?;
        let pushed = registries.push(&store, pushing, &references, &pin)?;
        Ok((references, pushed))
    })
}

/// Gives an image in the store a name.
///
/// # Errors
/// Fails when the image is not there, or when the new name is not valid.
pub fn tag(home: &Home, project: Option<&LoadedProject>, from: &str, to: &str) -> Result<(Reference, Image)> {
    let image = find_image(home, project, from)?;
    let reference = full_name(to)?;
    name_image(home, reference.to_string(), image.digest)?;
    Ok((reference, image))
}

/// Removes names; the next `gc` removes images that nothing names any more.
///
/// # Errors
/// Fails when a name does not exist, with a hint at what may have been meant.
pub fn untag(home: &Home, texts: &[String]) -> Result<Vec<(String, Digest)>> {
    let known = names(home)?;
    let mut gone = Vec::new();
    for text in texts {
        let full = full_name(text).map(|reference| reference.to_string()).unwrap_or_default();
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let by_digest = |digest: &Digest| hex.len() >= 12 && digest.hex().starts_with(hex);
        let found: Vec<(String, Digest)> = known
            .iter()
            .filter(|(name, digest)| **name == full || *name == text || by_digest(digest))
            .map(|(name, digest)| (name.clone(), *digest))
            .collect();
        if found.is_empty() {
            let error = Error::new(format!("no image has the name \"{text}\""));
            return Err(
                match nearest(text, known.keys().map(String::as_str)).or_else(|| nearest(&full, known.keys().map(String::as_str)))
                {
                    Some(near) => error.hint(format!("perhaps \"{near}\"")),
                    None => error.hint("images of projects have no names to take away: `stead gc` removes what no project uses"),
                },
            );
        }
        gone.extend(found);
    }
    change_names(home, |names| names.retain(|name, _| !gone.iter().any(|(other, _)| other == name)))?;
    Ok(gone)
}

/// Loads the images of an archive: an OCI layout, or what `docker save` writes.
///
/// # Errors
/// Fails when it is not such an archive, when a part is damaged, or when the disk is full.
pub fn load_archive(home: &Home, path: &Path, name: Option<&str>) -> Result<Vec<(Option<String>, Image)>> {
    let store = Store::at(&home.store);
    store.prepare()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let archive = image::Archive::open(path)?;
    let known = archive.names().context(|| format!("in {}", path.display()))?;
    let wanted: Vec<Option<String>> = match name {
        Some(name) => vec![Some(name.to_owned())],
        None if known.len() < 2 => vec![None],
        None => known.iter().cloned().map(Some).collect(),
    };
    let mut taken = Vec::new();
    for wanted in wanted {
        let image = archive
            .image(wanted.as_deref())?
            .import(&store, &|digests| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests))?;
        let called =
            wanted.or_else(|| known.first().cloned()).and_then(|name| full_name(&name).ok()).map(|name| name.to_string());
        let name = called.clone().unwrap_or_else(|| image.digest.to_string());
        name_image(home, name, image.digest)?;
        taken.push((called, image));
    }
    Ok(taken)
}

/// Makes a temporary directory in the store, and a file in it named `archive`.
///
/// # Errors
/// Fails when they cannot be made.
pub fn scratch_file(home: &Home) -> Result<(Staging, fs::File)> {
    let store = Store::at(&home.store);
    store.prepare()?;
    let staging = store.staging()?;
    let file =
        fs::File::create(staging.join("archive")).map_err(|error| crate::store::disk_error("cannot make a file", error))?;
    Ok((staging, file))
}

/// Makes an image from a root file system in an archive.
///
/// # Errors
/// Fails when it is not an archive, when an entry leads out of it, or when the disk is full.
pub fn import(
    home: &Home,
    from: impl std::io::Read + Send,
    name: &str,
    config: &crate::plan::Config,
) -> Result<(Reference, Image)> {
    let reference = full_name(name)?;
    let store = Store::at(&home.store);
    store.prepare()?;
    let mut lease = Lease::open(&store)?;
    let staging = store.staging()?;
    let tree = staging.join("tree");
    fs::create_dir(&tree).map_err(|error| crate::store::disk_error("cannot make a staging directory", error))?;
    let failed = |error| crate::store::disk_error("it cannot be unpacked", error);
    let rules = image::Rules { latest: i64::MAX, owner: None, whiteouts: false, rootfs: true, folder_times: true };
    let budget = std::sync::Arc::new(crate::model::Budget::new(bounds::image::ARCHIVE));
    let mut writer = image::Tree::new(&tree, rules, budget.clone()).map_err(failed)?;
    let entries = writer.write(image::budgeted(from, &budget).map_err(failed)?).map_err(failed)?;
    writer.finish().map_err(failed)?;
    if entries == 0 {
        return Err(Error::new("the archive is empty").hint("a root file system comes as a tar, plain or compressed"));
    }
    let info = crate::sys::Tree::open(&tree).and_then(|tree| image::digest_tree(&tree, i64::MAX));
    let info = info.context(|| "cannot read the layer".into())?;
    lease.pin([&info.diff_id])?;
    store.adopt_layer(&tree, &info)?;
    let made = image::save(&store, config, &[info], crate::model::EPOCH)?;
    lease.pin([&made.digest])?;
    name_image(home, reference.to_string(), made.digest)?;
    Ok((reference, made))
}

/// Resolves an image reference of a project now: by a name in the store, or at its registry.
///
/// # Errors
/// Fails when neither has the image, or when a signature is missing or wrong.
pub fn resolve(home: &Home, text: &str, keys: &[(String, PublicKey)], ask: Ask, reporter: &dyn Reporter) -> Result<LockedImage> {
    let store = Store::at(&home.store);
    let local = local(home, &store, text, ask)?.filter(|_| keys.is_empty());
    // An image that a project built exists nowhere else.
    if let Some((digest, true)) = local {
        return Ok(LockedImage::here(digest));
    }
    if let (Some((digest, false)), Ask::IfUnknown) = (local, ask) {
        return Ok(LockedImage::here(digest));
    }
    if let Some(near) = of_a_project(home, text)? {
        return Err(Error::new(format!("the store has no image \"{text}\"")).hint(format!("perhaps \"{near}\"")));
    }
    let found = with(reporter, |registries| {
        let source = registries.source(&registries.reference(text)?)?;
        let found = source.find()?;
        let mut locked = LockedImage { platforms: found.platforms.clone(), signed_by: None };
        locked.platforms.insert(PLATFORM.to_owned(), found.digest);
        for (path, key) in keys {
            let signed = source.verify(&found, key).context(|| format!("\"{text}\" is not signed by {path}"))?;
            if signed == Signed::ThisPlatform {
                locked.platforms.retain(|platform, _| platform == PLATFORM);
            }
            locked.signed_by = signer(keys);
        }
        // Whoever pulls what is locked now need not ask for its manifest again. If it cannot be kept, they ask.
        let _ = store.put_blob(&found.manifest);
        Ok(locked)
    });
    match (found, local) {
        // The image was never pushed, or its registry cannot be reached now.
        (Err(error), Some((digest, _))) if ask != Ask::Always => {
            reporter.report(Progress::Warning(format!("{}; the image of that name in the store is used", error.chain())));
            Ok(LockedImage::here(digest))
        }
        (found, _) => found.map_err(|error| near(home, text, error)),
    }
}

/// The digest that stands for one or more keys in a lock.
pub fn signer(keys: &[(String, PublicKey)]) -> Option<Digest> {
    let mut all: Vec<Digest> = keys.iter().map(|(_, key)| key.fingerprint()).collect();
    all.sort();
    all.dedup();
    match all.as_slice() {
        [] => None,
        [one] => Some(*one),
        several => Some(Digest::of_json(&several)),
    }
}

/// Whether a registry is asked for an image whose name the store knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Always: if it cannot be asked, an existing lock stays.
    Always,
    /// If it cannot give the image, and nothing is locked, the store's image of that name is used.
    OrElseStore,
    IfUnknown,
}

/// Finds an image in the store by a name; also returns whether a project built it.
///
/// # Errors
/// Fails when the named image is not complete: another image of that name must not silently take its place.
fn local(home: &Home, store: &Store, text: &str, ask: Ask) -> Result<Option<(Digest, bool)>> {
    let lost = |digest: &Digest| image::load(store, digest).is_none();
    if let Some(digest) = known_images(home)?.get(text).copied() {
        if lost(&digest) {
            let error = not_whole(text);
            return Err(match text.split_once('/') {
                Some((project, image)) => error.hint(format!("`stead build {image}` in the project \"{project}\" makes it anew")),
                None => error,
            });
        }
        return Ok(Some((digest, true)));
    }
    let known = names(home)?;
    let named = full_name(text).ok().and_then(|full| known.get(&full.to_string()).copied());
    if named.as_ref().is_some_and(lost) {
        return match ask {
            Ask::IfUnknown => Err(not_whole(text).hint(format!("`stead pull {text}` fetches what has the name now"))),
            _ => Ok(None),
        };
    }
    Ok(named.map(|digest| (digest, false)))
}

/// The name of an image of a project on this machine that is nearly the given one.
fn of_a_project(home: &Home, text: &str) -> Result<Option<String>> {
    let Some((project, _)) = text.split_once('/').filter(|(_, name)| !name.contains(['/', ':', '@'])) else { return Ok(None) };
    let known = known_images(home)?;
    let own = known.keys().map(String::as_str).filter(|name| name.split_once('/').is_some_and(|(other, _)| other == project));
    Ok(nearest(text, own).map(str::to_owned))
}

fn near(home: &Home, text: &str, error: Error) -> Error {
    if error.advice().is_some() {
        return error;
    }
    // If the names cannot be read, only the hint is lost.
    let (built, given) = (known_images(home).unwrap_or_default(), names(home).unwrap_or_default());
    let known: BTreeMap<String, Digest> = built.into_iter().chain(given).collect();
    match nearest(text, known.keys().map(String::as_str)) {
        Some(near) => error.hint(format!("perhaps \"{near}\"")),
        None => error,
    }
}

/// The host in a URL: many registries tell their users to log in at a URL.
fn bare(text: &str) -> &str {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    ["/v1", "/v2"]
        .iter()
        .find_map(|version| host.trim_end_matches('/').strip_suffix(version))
        .unwrap_or(host)
        .trim_end_matches('/')
}

/// Logs in to a registry.
///
/// # Errors
/// Fails when the registry cannot be reached or refuses, or when the credentials cannot be stored.
pub fn login(
    host: Option<&str>,
    credentials: &crate::registry::Credentials,
    reporter: &dyn Reporter,
) -> Result<(String, crate::registry::Kept)> {
    with(reporter, |registries| {
        let host = bare(host.unwrap_or_else(|| registries.default_host())).to_owned();
        let kept = registries.login(&host, credentials)?;
        Ok((host, kept))
    })
}

/// Logs out; returns where the password was stored.
///
/// # Errors
/// Fails when a place that has it cannot be changed.
pub fn logout(host: Option<&str>) -> Result<(String, Vec<String>)> {
    let registries = Registries::open(Arc::default())?;
    let host = bare(host.unwrap_or_else(|| registries.default_host())).to_owned();
    let gone = registries.logout(&host)?;
    Ok((host, gone))
}

/// Searches a registry.
///
/// # Errors
/// Fails when the registry cannot be reached or offers no search.
pub fn search(host: Option<&str>, word: &str, limit: usize, reporter: &dyn Reporter) -> Result<Vec<crate::registry::Hit>> {
    with(reporter, |registries| registries.search(host.unwrap_or_else(|| registries.default_host()), word, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_be_written_as_urls() {
        for text in ["ghcr.io", "https://ghcr.io", "http://ghcr.io/", "https://ghcr.io/v2/", "ghcr.io/v1"] {
            assert_eq!(bare(text), "ghcr.io", "{text}");
        }
        assert_eq!(bare("https://127.0.0.1:5000/"), "127.0.0.1:5000");
    }
}

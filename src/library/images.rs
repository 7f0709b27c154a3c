//! Inspecting images: which one a name means, what its steps made, how two differ.

use super::tags::{full_name, names};
use crate::build::{StoreFacts, View};
use crate::image::{self, Component};
use crate::instance::{LoadedProject, all_instances, observe, read_lock};
use crate::lock::Lock;
use crate::model::{Context, Digest, Error, LayerInfo, Name, Result, nearest};
use crate::plan::{self, Image, Walk};
use crate::store::{Home, Store};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Finds the image that a text means: a name in the project, the beginning of a digest, `PROJECT/IMAGE`, or a name in
/// the store.
///
/// # Errors
/// Fails when the image is not built or not there, or when several digests begin with the text.
pub fn find_image(home: &Home, project: Option<&LoadedProject>, text: &str) -> Result<Image> {
    let store = Store::at(&home.store);
    if let Some((loaded, name)) = project.and_then(|loaded| Some((loaded, loaded.project.images.get_key_value(text)?.0))) {
        let lock = read_lock(&loaded.instance)?;
        let observation = observe(loaded)?;
        let facts = StoreFacts { store: &store, scanner: &observation.scanner };
        return match plan::walk(&loaded.project, &lock, name, &facts) {
            Walk::Built(image) => Ok(image),
            _ => {
                Err(Error::new(format!("the image \"{text}\" is not built as it stands"))
                    .hint(format!("type `stead build {text}`")))
            }
        };
    }
    let hex = text.trim_start_matches("sha256:");
    if hex.len() >= 4 && hex.chars().all(|c| c.is_ascii_hexdigit()) {
        let all = store.list("images")?;
        let found: Vec<&Digest> = all.iter().filter(|digest| digest.hex().starts_with(hex)).collect();
        match found.as_slice() {
            [one] => {
                return image::load(&store, one).ok_or_else(|| not_whole(text));
            }
            [] => {}
            several => {
                return Err(Error::new(format!("{} images begin with {text}", several.len())).hint("write more of the digest"));
            }
        }
    }
    let mut known = known_images(home)?;
    let named = names(home)?;
    if let Some(digest) = full_name(text).ok().and_then(|reference| named.get(&reference.to_string()).copied()) {
        known.entry(text.to_owned()).or_insert(digest);
    }
    known.extend(named);
    // In its project, an image that was committed needs no more than its own name.
    let whole = project.map(|loaded| format!("{}/{text}", loaded.project.name));
    if let Some(digest) = known.get(text).or_else(|| known.get(&whole?)) {
        return image::load(&store, digest).ok_or_else(|| not_whole(text));
    }
    let own = project.iter().flat_map(|loaded| loaded.project.images.keys()).map(Name::as_str);
    let near = nearest(text, own.chain(known.keys().map(String::as_str))).map(|near| format!("perhaps \"{near}\""));
    let error = Error::new(format!("there is no image \"{text}\""));
    Err(match near {
        Some(near) => error.hint(near),
        None => error.hint("`stead images` lists what is in the store"),
    })
}

/// The error for an image that has a name, but has lost a part.
pub fn not_whole(text: &str) -> Error {
    Error::new(format!("the image \"{text}\" is not whole in the store: a part of it is lost or damaged"))
}

/// Images in the store by the names that projects give them: `PROJECT/IMAGE`.
///
/// # Errors
/// Fails when a project's record cannot be read: images that it built must not be looked for in registries.
pub fn known_images(home: &Home) -> Result<BTreeMap<String, Digest>> {
    let mut known = BTreeMap::new();
    for (_, record) in all_instances(home)?.into_iter().filter(|(instance, _)| !instance.is_loose()) {
        let images = record.images.iter().map(|(name, image)| (name, image.digest));
        let commits = record.commits.iter().map(|(name, digest)| (name, *digest));
        known.extend(images.chain(commits).map(|(name, digest)| (format!("{}/{name}", record.project), digest)));
    }
    Ok(known)
}

/// The layers of a project's image, each with the step that made it; the layers of its base have no step.
///
/// # Errors
/// Fails when the lock file or the project's directory cannot be read.
pub fn history(loaded: &LoadedProject, name: &Name) -> Result<Vec<(Option<usize>, LayerInfo)>> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = read_lock(&loaded.instance)?;
    let observation = observe(loaded)?;
    let facts = StoreFacts { store: &store, scanner: &observation.scanner };
    let mut project = loaded.project.clone();
    let steps = project.images.get(name).map_or(0, |image| image.steps.len());
    let mut found: Vec<(Option<usize>, LayerInfo)> = Vec::new();
    // The image is truncated after each step in turn: new layers come from the last step.
    for end in 0..=steps {
        if let Some(image) = project.images.get_mut(name) {
            image.steps = loaded.project.images[name].steps[..end].to_vec();
        }
        let layers = match plan::walk(&project, &lock, name, &facts) {
            Walk::Built(image) => image.layers,
            Walk::Assemble(assembly) => assembly.layers,
            _ => break,
        };
        let step = end.checked_sub(1);
        found.extend(layers.into_iter().skip(found.len()).map(|layer| (step, layer)));
    }
    Ok(found)
}

/// How a path differs between two images.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathChange {
    pub path: PathBuf,
    /// The size in each image; `None` where the path does not exist.
    pub before: Option<u64>,
    pub after: Option<u64>,
}

/// How two images differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImageChanges {
    pub paths: Vec<PathChange>,
    /// Packages by name, with their versions before and after.
    pub packages: BTreeMap<String, (Option<String>, Option<String>)>,
}

/// Compares two images, path by path; the lowest layers that both share are skipped.
///
/// # Errors
/// Fails when a file in the store cannot be read.
pub fn compare(store: &Store, before: &Image, after: &Image) -> Result<ImageChanges> {
    Ok(compare_in((store, before), (store, after))?.0)
}

/// As [`compare`], but the images may be in different stores; also returns the views of their trees.
///
/// # Errors
/// As [`compare`].
pub fn compare_in(before: (&Store, &Image), after: (&Store, &Image)) -> Result<(ImageChanges, (View, View))> {
    let unread = || "cannot compare the images".into();
    let shared = before.1.layers.iter().zip(&after.1.layers).take_while(|(a, b)| a.diff_id == b.diff_id).count();
    let mut candidates = BTreeSet::new();
    let view = |(store, image): (&Store, &Image), candidates: &mut BTreeSet<PathBuf>| {
        let places: Vec<PathBuf> = image.layers.iter().map(|layer| store.layer_path(&layer.diff_id)).collect();
        places[shared..].iter().try_for_each(|place| paths(place, place, candidates)).context(unread)?;
        Ok(View::new(places))
    };
    let (old, new) = (view(before, &mut candidates)?, view(after, &mut candidates)?);
    let mut found = ImageChanges { packages: package_changes(&old, &new), ..ImageChanges::default() };
    for path in candidates {
        let (a, b) = (old.entry(&path), new.entry(&path));
        if a.as_ref().map(|(place, _)| place) == b.as_ref().map(|(place, _)| place) {
            continue;
        }
        let size = |entry: &Option<(PathBuf, fs::Metadata)>| {
            entry.as_ref().map(|(_, metadata)| if metadata.is_file() { metadata.len() } else { 0 })
        };
        let same = match (&a, &b) {
            (Some((a, before)), Some((b, after))) => alike(a, before, b, after).context(unread)?,
            _ => false,
        };
        if !same {
            found.paths.push(PathChange { path, before: size(&a), after: size(&b) });
        }
    }
    Ok((found, (old, new)))
}

fn paths(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for name in sys::entries(folder)? {
        let path = folder.join(name);
        if path.symlink_metadata()?.is_dir() {
            paths(root, &path, found)?;
        }
        if let Ok(inside) = path.strip_prefix(root) {
            found.insert(Path::new("/").join(inside));
        }
    }
    Ok(())
}

fn alike(a: &Path, before: &fs::Metadata, b: &Path, after: &fs::Metadata) -> io::Result<bool> {
    let plain = |metadata: &fs::Metadata| (metadata.mode(), metadata.uid(), metadata.gid(), metadata.rdev());
    if plain(before) != plain(after) {
        return Ok(false);
    }
    if before.is_symlink() {
        return Ok(fs::read_link(a)? == fs::read_link(b)?);
    }
    Ok(!before.is_file() || before.len() == after.len() && fs::read(a)? == fs::read(b)?)
}

/// The packages that dpkg has on record in an image, with the digests of their files from the lock.
pub fn components(store: &Store, image: &Image, lock: &Lock) -> Vec<Component> {
    let view = View::new(image.layers.iter().map(|layer| store.layer_path(&layer.diff_id)).collect());
    let mut known: BTreeMap<(&str, &str, &str), Digest> = BTreeMap::new();
    for package in lock.suites.values().flat_map(|suite| suite.packages.values()) {
        known.insert((&package.name, &package.version, &package.architecture), package.sha256);
    }
    let mut found = installed(&view);
    for one in &mut found {
        one.sha256 = known.get(&(one.name.as_str(), one.version.as_str(), one.architecture.as_str())).copied();
    }
    found
}

fn installed(view: &View) -> Vec<Component> {
    let status = view.read("/var/lib/dpkg/status");
    let paragraph = |text: &str| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        // Packages that were removed but not purged are on record, too (deb-substvars, dpkg(1) "Package states").
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        Some(Component {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture").unwrap_or_default(),
            source: field("Source"),
            maintainer: field("Maintainer"),
            sha256: None,
        })
    };
    let mut found: Vec<Component> = status.split("\n\n").filter_map(paragraph).collect();
    found.sort();
    found
}

fn package_changes(old: &View, new: &View) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let versions =
        |view: &View| -> BTreeMap<String, String> { installed(view).into_iter().map(|one| (one.name, one.version)).collect() };
    let (before, after) = (versions(old), versions(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let pair = |name: &String| (before.get(name).cloned(), after.get(name).cloned());
    names.into_iter().map(|name| (name.clone(), pair(name))).filter(|(_, (before, after))| before != after).collect()
}

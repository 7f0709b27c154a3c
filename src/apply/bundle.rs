//! A sealed environment: project, lock and all bytes that it needs, in one file.
//!
//! It is an OCI layout of the project's images, which any tool of the field can read, with the project's
//! files and the results of its steps beside them.

use super::elsewhere::watched;
use super::execute::build_only;
use super::observe::observe;
use super::project::LoadedProject;
use super::report::{Reporter, UpOptions};
use crate::fetch;
use crate::image;
use crate::model::{Context, Digest, Fault, Name, Outcome};
use crate::plan::Image;
use crate::spec::{ConfigSource, MountSource};
use crate::store::{Home, Lease, Store, disk_fault};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where a bundle says what it is.
const LABEL: &str = "stead/bundle.json";

/// What a bundle holds beside images.
#[derive(Serialize, Deserialize)]
struct Label {
    version: u32,
    project: String,
    /// The project file.
    file: String,
    /// The images' names in the bundle.
    images: Vec<String>,
}

/// What was put into a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundled {
    pub images: usize,
    pub files: usize,
    /// Files of secrets, which are left out.
    pub secrets: Vec<String>,
}

/// Writes a project, built and locked, into one file.
///
/// # Errors
/// What cannot be locked or built; files that cannot be read; a full disk.
pub fn bundle(loaded: &LoadedProject, path: &Path, options: &UpOptions, reporter: &dyn Reporter) -> Outcome<Bundled> {
    let store = Store::at(&loaded.instance.home.store);
    let names: BTreeSet<Name> = loaded.project.images.keys().cloned().collect();
    let built = build_only(loaded, &names, options, reporter)?;
    let mut lease = Lease::open(&store)?;
    built.values().try_for_each(|image| lease.pin(image.parts()))?;
    let mut extra: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, bytes) in results(&store, built.values()) {
        extra.insert(format!("stead/results/{}", key.hex()), bytes);
    }
    let files = files(loaded)?;
    for file in &files {
        let whole = loaded.instance.folder.join(file);
        let bytes = fs::read(&whole).doing(|| format!("cannot read {}", whole.display()))?;
        let mode = fs::metadata(&whole).map_or(0o644, |metadata| metadata.mode() & 0o7777);
        extra.insert(format!("stead/project/{mode:o}/{}", file.display()), bytes);
    }
    let images: Vec<(String, &Image)> = built.iter().map(|(name, image)| (name.to_string(), image)).collect();
    let label = Label {
        version: 1,
        project: loaded.project.name.to_string(),
        file: loaded.instance.file.clone(),
        images: images.iter().map(|(name, _)| name.clone()).collect(),
    };
    let label = serde_json::to_vec(&label).doing(|| "cannot describe the bundle".into())?;
    // Whole or not at all.
    let partial = path.with_file_name(format!(".{}", crate::sys::unique()));
    let write = || {
        let out = File::create(&partial).map_err(|error| disk_fault(&format!("cannot write {}", path.display()), error))?;
        image::write_several(&store, &images, (LABEL, &label), &extra, &mut BufWriter::new(out))?;
        fs::rename(&partial, path).doing(|| format!("cannot write {}", path.display()))
    };
    watched(reporter, &fetch::Progress::default(), write).inspect_err(|_| drop(fs::remove_file(&partial)))?;
    Ok(Bundled { images: images.len(), files: files.len(), secrets: loaded.project.secrets.values().cloned().collect() })
}

/// The results of steps that came to what images are made of, as they are kept.
fn results<'i>(store: &Store, images: impl Iterator<Item = &'i Image>) -> BTreeMap<Digest, Vec<u8>> {
    let held: BTreeSet<Digest> = images.flat_map(|image| image.parts().copied()).collect();
    let fits = |value: &serde_json::Value| {
        let digest =
            value.as_str().or(value["layer"]["diff_id"].as_str()).and_then(|text| Digest::parse(text.strip_prefix("sha256:")?));
        digest.is_some_and(|digest| held.contains(&digest)) || value.get("layer").is_some_and(serde_json::Value::is_null)
    };
    let all = store.list("results").into_iter();
    let kept = all.filter_map(|key| {
        let value: serde_json::Value = store.result(&key)?;
        Some((key, serde_json::to_vec(&value).ok()?)).filter(|_| fits(&value))
    });
    kept.collect()
}

/// The files of the project's folder that it is made of; secrets are not among them.
fn files(loaded: &LoadedProject) -> Outcome<BTreeSet<PathBuf>> {
    let folder = &loaded.instance.folder;
    let observation = observe(loaded)?;
    let mut found: BTreeSet<PathBuf> = loaded.files.keys().map(PathBuf::from).collect();
    found.insert(loaded.instance.file.clone().into());
    found.insert("stead.lock".into());
    found.insert(".steadignore".into());
    found.insert(".dockerignore".into());
    let read = observation.scanner.read();
    found.extend(read.iter().filter_map(|path| path.strip_prefix(folder).ok().map(Path::to_owned)));
    let project = &loaded.project;
    found.extend(project.configs.values().filter_map(|config| match config {
        ConfigSource::File(path) => Some(PathBuf::from(path)),
        ConfigSource::Content(_) => None,
    }));
    found.extend(project.images.values().filter_map(|image| image.signed_by.as_ref().map(PathBuf::from)));
    for container in project.containers.values() {
        found.extend(container.env_files.iter().map(|file| PathBuf::from(&file.path)));
        for mount in &container.mounts {
            if let MountSource::Bind(path) = &mount.source {
                below(folder, Path::new(path), &mut found);
            }
        }
    }
    let secret = |path: &PathBuf| project.secrets.values().any(|secret| Path::new(secret) == path);
    found.retain(|path| {
        !secret(path) && folder.join(path).is_file() && path.components().all(|part| matches!(part, Component::Normal(_)))
    });
    Ok(found)
}

/// Files of a folder that is mounted.
fn below(folder: &Path, path: &Path, found: &mut BTreeSet<PathBuf>) {
    if path.is_absolute() {
        return;
    }
    let whole = folder.join(path);
    if whole.is_file() {
        found.insert(path.to_owned());
    }
    for entry in fs::read_dir(whole).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            below(folder, &path.join(entry.file_name()), found);
        }
    }
}

/// Whether a file is a bundle.
pub fn is_bundle(path: &Path) -> bool {
    let label = || {
        let mut archive = tar::Archive::new(File::open(path).ok()?);
        let first = archive.entries().ok()?.next()?.ok()?;
        Some(first.path().ok()?.to_string_lossy() == LABEL)
    };
    label().unwrap_or(false)
}

/// Takes a bundle in, once; the folder of its project and the project file come back.
///
/// # Errors
/// What is no bundle, damaged parts, a full disk.
pub fn unbundle(home: &Home, path: &Path) -> Outcome<(PathBuf, String)> {
    let failed = || format!("cannot take in {}", path.display());
    let metadata = fs::metadata(path).doing(failed)?;
    let whole = fs::canonicalize(path).doing(failed)?;
    let identity = Digest::of_json(&(whole, metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()));
    let folder = home.state.join("bundles").join(identity.short(16));
    let label: Label = serde_json::from_slice(&first(path).doing(failed)?).doing(failed)?;
    if label.version != 1 {
        return Err(Fault::new(format!("{} was written by a newer stead", path.display())).hint("update stead"));
    }
    let store = Store::at(&home.store);
    store.prepare()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let pin = |digests: &[Digest]| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests);
    if folder.join(&label.file).is_file() {
        return Ok((folder, label.file));
    }
    for name in &label.images {
        image::Layout::open(path, Some(name))?.import(&store, &pin).doing(failed)?;
    }
    let making = folder.with_extension(crate::sys::unique());
    fs::create_dir_all(&making).doing(failed)?;
    let taken = take(&store, path, &making).doing(failed);
    let moved = taken.and_then(|()| fs::rename(&making, &folder).doing(failed));
    moved.inspect_err(|_| drop(fs::remove_dir_all(&making)))?;
    Ok((folder, label.file))
}

/// The first file of a tar.
fn first(path: &Path) -> Outcome<Vec<u8>> {
    let mut archive = tar::Archive::new(File::open(path).doing(|| "cannot open it".into())?);
    let mut entries = archive.entries().doing(|| "it is no tar".into())?;
    let first = entries.next().ok_or_else(|| Fault::new("it is empty"))?.doing(|| "it is no tar".into())?;
    let mut bytes = Vec::new();
    first.take(image::LONGEST).read_to_end(&mut bytes).doing(|| "it cannot be read".into())?;
    Ok(bytes)
}

/// Takes the project's files and the results of its steps.
fn take(store: &Store, path: &Path, folder: &Path) -> Outcome<()> {
    let damaged = || "it is damaged".to_owned();
    let mut archive = tar::Archive::new(File::open(path).doing(damaged)?);
    for entry in archive.entries().doing(damaged)? {
        let mut entry = entry.doing(damaged)?;
        let name = entry.path().doing(damaged)?.to_string_lossy().into_owned();
        if let Some(key) = name.strip_prefix("stead/results/").and_then(Digest::parse) {
            let value: serde_json::Value = serde_json::from_reader(&mut entry).doing(damaged)?;
            store.put_result(&key, &value)?;
        } else if let Some((mode, inner)) = name.strip_prefix("stead/project/").and_then(|rest| rest.split_once('/')) {
            let inner = Path::new(inner);
            if !inner.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(Fault::new(format!("the file {} in it leads out of its folder", inner.display())));
            }
            let target = folder.join(inner);
            fs::create_dir_all(target.parent().unwrap_or(folder)).doing(damaged)?;
            let mut out = File::create_new(&target).doing(|| format!("cannot write {}", target.display()))?;
            std::io::copy(&mut entry, &mut out).map_err(|error| disk_fault("cannot write a file", error))?;
            let mode = u32::from_str_radix(mode, 8).unwrap_or(0o644);
            fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777)).doing(damaged)?;
        }
    }
    Ok(())
}

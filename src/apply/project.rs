//! Reads a project from disk for everyone upstairs, and keeps what decoding gave.
//!
//! Decoding KDL costs about a millisecond for two kilobytes; the decoded project is kept beside the
//! instance's record, and used as long as every file it was read from has the same digest.

use super::instance::Instance;
use crate::image;
use crate::lock::{self, Lock, LockedImage, StepLock, SuiteLock};
use crate::model::{Context, Digest, Fault, Name, Outcome};
use crate::spec::{self, Choices, Diagnostic, Inherited, Loaded, Outside, Places, Project, Sources};
use crate::store::{Home, Store, read_json};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which project, and how it is read.
#[derive(Clone, Debug)]
pub struct Options {
    pub home: Home,
    pub folder: PathBuf,
    pub file: String,
    pub choices: Choices,
}

/// A project that was read.
#[derive(Debug)]
pub struct LoadedProject {
    pub instance: Instance,
    pub project: Project,
    pub places: Places,
    pub warnings: Vec<Diagnostic>,
    /// The files it was read from.
    pub files: BTreeMap<String, String>,
    /// Images of elsewhere that Dockerfiles start from and of which nothing is known yet: once they are
    /// locked, the project must be read again.
    pub unsettled: Vec<String>,
}

/// What the cache holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: String,
    choices: Choices,
    files: BTreeMap<String, Digest>,
    env: BTreeMap<String, Option<String>>,
    /// What was known of images that are made elsewhere.
    outside: Vec<(Outside, Option<Inherited>)>,
    project: Project,
    places: Places,
}

/// The project's folder, and what the lock and the store know of images that are made elsewhere.
struct Disk<'a> {
    folder: &'a Path,
    instance: &'a Instance,
}

impl Sources for Disk<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let full = self.folder.join(path);
        let length = fs::metadata(&full).map_err(|error| plain(&error))?.len();
        if length > 16 << 20 {
            return Err(format!("it has {length} bytes"));
        }
        let bytes = fs::read(&full).map_err(|error| plain(&error))?;
        String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 (byte {})", error.utf8_error().valid_up_to()))
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn outside(&self, outside: &Outside) -> Option<Inherited> {
        let config = match outside {
            Outside::Archive { path, name } => {
                image::Archive::open(&self.folder.join(path)).ok()?.image(name.as_deref()).ok()?.config().ok()?
            }
            Outside::Reference(text) => {
                let digest = read_lock(self.instance).ok()?.image(text)?;
                image::load(&Store::at(&self.instance.home.store), &digest)?.config
            }
        };
        Some(Inherited { env: config.env, workdir: config.workdir, shell: config.shell, onbuild: config.onbuild })
    }
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => error.to_string(),
    }
}

/// Everything that is wrong with a project, or the project.
#[derive(Debug)]
pub struct Findings {
    pub loaded: Loaded,
    pub instance: Instance,
}

/// Reads and checks a project's files, without any cache.
///
/// # Errors
/// When there is no project file.
pub fn findings(options: &Options) -> Outcome<Findings> {
    if !options.folder.join(&options.file).exists() {
        return Err(Fault::new(format!("there is no {} in {}", options.file, options.folder.display()))
            .hint("go to the project's folder, or name it with -C DIR; a first file needs: project \"NAME\"")
            .exit(1));
    }
    let instance = Instance::new(&options.home, &options.folder, &options.file);
    let loaded = spec::load(&options.file, &options.choices, &Disk { folder: &options.folder, instance: &instance });
    Ok(Findings { loaded, instance })
}

/// What [`load`] found wrong, if it found anything.
#[derive(Debug)]
pub enum LoadError {
    Fault(Fault),
    /// Findings with the files that they are in; they are shown together.
    Wrong(Vec<Diagnostic>, BTreeMap<String, String>),
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads a project that is to be carried out: errors and what is not supported yet are refused.
///
/// `remember` says whether the decoded project may be kept; a dry command writes nothing.
///
/// # Errors
/// Everything wrong with the files, at once.
pub fn load(options: &Options, remember: bool) -> Result<LoadedProject, LoadError> {
    let mut instance = Instance::new(&options.home, &options.folder, &options.file);
    let cache = instance.state().join("decoded.json");
    if let Some(kept) = read_json::<Kept>(&cache).filter(|kept| current(kept, options, &instance)) {
        instance.project = kept.project.name.to_string();
        return Ok(LoadedProject {
            instance,
            project: kept.project,
            places: kept.places,
            warnings: Vec::new(),
            files: BTreeMap::new(),
            unsettled: unsettled(kept.outside.iter().map(|(outside, known)| (outside, known))),
        });
    }
    let Findings { loaded, .. } = findings(options)?;
    let Some(project) = loaded.project else { return Err(LoadError::Wrong(loaded.diagnostics, loaded.files)) };
    if !loaded.unsupported.is_empty() {
        let all = loaded.diagnostics.into_iter().chain(loaded.unsupported).collect();
        return Err(LoadError::Wrong(all, loaded.files));
    }
    instance.project = project.name.to_string();
    if remember && loaded.diagnostics.is_empty() {
        let kept = Kept {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            choices: options.choices.clone(),
            files: loaded.files.iter().map(|(path, text)| (path.clone(), Digest::of(text))).collect(),
            env: loaded.env,
            outside: loaded.outside.clone().into_iter().collect(),
            project: project.clone(),
            places: loaded.places.clone(),
        };
        // A cache that cannot be written costs time, nothing else.
        if super::instance::private_folder(&instance.state()).is_ok()
            && let Ok(bytes) = serde_json::to_vec(&kept)
        {
            let _ = sys::write_atomic(&cache, &bytes, 0o600);
        }
    }
    let unsettled = unsettled(loaded.outside.iter());
    Ok(LoadedProject { instance, project, places: loaded.places, warnings: loaded.diagnostics, files: loaded.files, unsettled })
}

/// References of which nothing is known yet.
fn unsettled<'a>(asked: impl Iterator<Item = (&'a Outside, &'a Option<Inherited>)>) -> Vec<String> {
    asked
        .filter_map(|pair| match pair {
            (Outside::Reference(text), None) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

fn current(kept: &Kept, options: &Options, instance: &Instance) -> bool {
    kept.version == env!("CARGO_PKG_VERSION")
        && kept.choices == options.choices
        && kept.env.iter().all(|(name, value)| std::env::var(name).ok() == *value)
        && kept.outside.iter().all(|(outside, known)| Disk { folder: &options.folder, instance }.outside(outside) == *known)
        && kept
            .files
            .iter()
            .all(|(path, digest)| fs::read(options.folder.join(path)).is_ok_and(|bytes| Digest::of(bytes) == *digest))
}

/// A decoded lock as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptLock {
    digest: Digest,
    epoch: i64,
    images: BTreeMap<String, LockedImage>,
    remotes: BTreeMap<String, String>,
    suites: BTreeMap<String, SuiteLock>,
    steps: Vec<((Name, usize), StepLock)>,
}

fn kept_lock(instance: &Instance) -> PathBuf {
    instance.state().join("lock.json")
}

/// The project's lock; an absent one is empty.
///
/// # Errors
/// A damaged lock, with the line.
pub fn read_lock(instance: &Instance) -> Outcome<Lock> {
    let text = match fs::read_to_string(instance.folder.join("stead.lock")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
        Err(error) => return Err(error).doing(|| "cannot read stead.lock".into()),
    };
    if let Some(lock) = decoded_lock(instance, &Digest::of(&text)) {
        return Ok(lock);
    }
    lock::parse(&text).map_err(|error| Fault::new(format!("stead.lock:{}: {}", error.line, error.message)))
}

fn decoded_lock(instance: &Instance, digest: &Digest) -> Option<Lock> {
    let kept = read_json::<KeptLock>(&kept_lock(instance)).filter(|kept| kept.digest == *digest)?;
    let KeptLock { epoch, images, remotes, suites, steps, .. } = kept;
    Some(Lock { epoch, images, remotes, suites, steps: steps.into_iter().collect() })
}

/// Reads the lock as [`read_lock`] does, and keeps it decoded: reading it as text is the dearest part of a
/// short command.
///
/// # Errors
/// Those of [`read_lock`].
pub fn read_and_keep_lock(instance: &Instance) -> Outcome<Lock> {
    let text = fs::read(instance.folder.join("stead.lock")).unwrap_or_default();
    if let Some(lock) = decoded_lock(instance, &Digest::of(&text)) {
        return Ok(lock);
    }
    let lock = read_lock(instance)?;
    keep_lock(instance, &lock);
    Ok(lock)
}

/// Keeps the decoded lock for the next time; losing it costs time only.
pub fn keep_lock(instance: &Instance, lock: &Lock) {
    let Ok(text) = fs::read(instance.folder.join("stead.lock")) else { return };
    let digest = Digest::of(text);
    if decoded_lock(instance, &digest).is_some() {
        return;
    }
    let steps = lock.steps.iter().map(|(key, step)| (key.clone(), step.clone())).collect();
    if let Ok(bytes) = serde_json::to_vec(&KeptLock {
        digest,
        epoch: lock.epoch,
        images: lock.images.clone(),
        remotes: lock.remotes.clone(),
        suites: lock.suites.clone(),
        steps,
    }) {
        let _ = sys::write_atomic(&kept_lock(instance), &bytes, 0o600);
    }
}

//! Reads a project from disk for everyone upstairs, and keeps what decoding gave.
//!
//! Decoding KDL costs about a millisecond for two kilobytes; the decoded project is kept beside the
//! instance's record, and used as long as every file it was read from has the same digest.

use super::identity::Instance;
use crate::image;
use crate::lock::{self, Lock, LockedImage, StepLock, SuiteLock};
use crate::model::{Context, Digest, Error, Name, Result, bounds, text_of};
use crate::project::{Locations, Outside, Project};
use crate::spec::{self, Choices, Diagnostic, Inherited, Loaded, Sources};
use crate::store::{Home, Store, read_json};
use crate::sys::{self, ProjectFiles, Unread};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Which project, and how it is read.
#[derive(Clone, Debug)]
pub struct Options {
    pub home: Home,
    pub folder: PathBuf,
    pub file: String,
    pub chosen: Chosen,
    pub choices: Choices,
}

/// Who says which file is the project's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// The directory has one of the usual name, which lies in it as all its other files do.
    ByFolder,
    /// A person named it, and may name a link to a file elsewhere.
    ByPerson,
}

/// A project that was read.
#[derive(Debug)]
pub struct LoadedProject {
    pub instance: Instance,
    pub project: Project,
    pub places: Locations,
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
    places: Locations,
}

/// The project's directory, and what the lock and the store know of images that are made elsewhere.
struct Disk<'a> {
    options: &'a Options,
    files: ProjectFiles,
    instance: &'a Instance,
}

impl<'a> Disk<'a> {
    fn new(options: &'a Options, instance: &'a Instance) -> Result<Self> {
        Ok(Self { options, files: project_files(&options.folder)?, instance })
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        if path == self.options.file && self.options.chosen == Chosen::ByPerson {
            return sys::read_regular(&self.options.folder.join(path), bounds::DOCKERFILE);
        }
        self.files.own(path, bounds::DOCKERFILE)
    }
}

/// The files of a project's directory.
///
/// # Errors
/// A directory that is not there.
pub fn project_files(folder: &std::path::Path) -> Result<ProjectFiles> {
    ProjectFiles::at(folder).context(|| format!("cannot open the directory {}", folder.display()))
}

impl Sources for Disk<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let bytes = self.bytes(path).map_err(|why| why.to_string())?;
        String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 (byte {})", error.utf8_error().valid_up_to()))
    }

    fn identity(&self, path: &str) -> String {
        match self.files.identity(path) {
            Some((device, number)) => format!("{device}:{number}"),
            None => spec::tidy(path),
        }
    }

    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn outside(&self, outside: &Outside) -> Option<Inherited> {
        let config = match outside {
            Outside::Archive { path, name } => {
                image::Archive::within(&self.files, path).ok()?.image(name.as_deref()).ok()?.config().ok()?
            }
            Outside::Reference(text) => {
                let digest = read_lock(self.instance).ok()?.image(text)?;
                image::load(&Store::at(&self.instance.home.store), &digest)?.config
            }
        };
        Some(Inherited { env: config.env, workdir: config.workdir, shell: config.shell, onbuild: config.onbuild })
    }
}

/// Reads and checks a project's files, without any cache.
///
/// # Errors
/// When there is no project file.
pub fn findings(options: &Options) -> Result<Loaded> {
    if !options.folder.join(&options.file).exists() {
        return Err(Error::new(format!("there is no {} in {}", options.file, options.folder.display()))
            .hint("go to the project's directory, or name it with -C DIR; a first file needs: project \"NAME\""));
    }
    let instance = Instance::new(&options.home, &options.folder, &options.file);
    let loaded = spec::load(&options.file, &options.choices, &Disk::new(options, &instance)?);
    Ok(loaded)
}

/// What [`load`] found wrong, if it found anything.
#[derive(Debug)]
pub enum LoadError {
    Error(Error),
    /// Findings with the files that they are in; they are shown together.
    Wrong(Vec<Diagnostic>, BTreeMap<String, String>),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Error(error)
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
    let loaded = findings(options)?;
    let Ok(project) = loaded.project else { return Err(LoadError::Wrong(loaded.diagnostics, loaded.files)) };
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
        if super::identity::private_folder(&instance.state()).is_ok()
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
    let Ok(disk) = Disk::new(options, instance) else { return false };
    kept.version == env!("CARGO_PKG_VERSION")
        && kept.choices == options.choices
        && kept.env.iter().all(|(name, value)| std::env::var_os(name) == value.as_ref().map(OsString::from))
        && kept.outside.iter().all(|(outside, known)| disk.outside(outside) == *known)
        && kept.files.iter().all(|(path, digest)| disk.bytes(path).is_ok_and(|bytes| Digest::of(bytes) == *digest))
}

/// A decoded lock as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptLock {
    /// By which rules it was read: what older programs took for good is read again.
    rules: u32,
    digest: Digest,
    epoch: i64,
    images: BTreeMap<String, LockedImage>,
    remotes: BTreeMap<String, String>,
    suites: BTreeMap<String, SuiteLock>,
    steps: Vec<((Name, usize), StepLock)>,
}

/// Changes with what a lock may say.
const LOCK_RULES: u32 = 3;

fn kept_lock(instance: &Instance) -> PathBuf {
    instance.state().join("lock.json")
}

/// The text of a project's lock; none where there is no such file, or no such directory any more.
///
/// # Errors
/// A lock that cannot be read: another answer than none.
fn lock_text(instance: &Instance) -> Result<Option<String>> {
    let failed = |why: Unread| {
        Error::caused("cannot read stead.lock", why).hint("restore the file from git, or delete it and run `stead update`")
    };
    let files = match ProjectFiles::at(&instance.folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(Unread::Other(error))),
    };
    match files.own("stead.lock", bounds::LOCK_FILE) {
        Ok(bytes) => text_of("stead.lock", bytes).map(Some).map_err(Error::new),
        Err(Unread::Absent) => Ok(None),
        Err(why) => Err(failed(why)),
    }
}

/// The project's lock; an absent one is empty.
///
/// # Errors
/// A damaged lock, with the line.
pub fn read_lock(instance: &Instance) -> Result<Lock> {
    match lock_text(instance)? {
        Some(text) => parse_lock(instance, &text),
        None => Ok(Lock::default()),
    }
}

fn parse_lock(instance: &Instance, text: &str) -> Result<Lock> {
    if let Some(lock) = decoded_lock(instance, &Digest::of(text)) {
        return Ok(lock);
    }
    lock::parse(text).map_err(|error| Error::new(format!("stead.lock:{}: {}", error.line, error.message)))
}

fn decoded_lock(instance: &Instance, digest: &Digest) -> Option<Lock> {
    let kept = read_json::<KeptLock>(&kept_lock(instance)).filter(|kept| kept.digest == *digest && kept.rules == LOCK_RULES)?;
    let KeptLock { epoch, images, remotes, suites, steps, .. } = kept;
    Some(Lock { epoch, images, remotes, suites, steps: steps.into_iter().collect() })
}

/// Reads the lock as [`read_lock`] does, and keeps it decoded: reading it as text is the dearest part of a
/// short command.
///
/// # Errors
/// Those of [`read_lock`].
pub fn read_and_keep_lock(instance: &Instance) -> Result<Lock> {
    let Some(text) = lock_text(instance)? else { return Ok(Lock::default()) };
    let lock = parse_lock(instance, &text)?;
    keep(instance, &text, &lock);
    Ok(lock)
}

/// Keeps the decoded lock for the next time; losing it costs time only.
pub fn keep_lock(instance: &Instance, lock: &Lock) {
    if let Ok(Some(text)) = lock_text(instance) {
        keep(instance, &text, lock);
    }
}

fn keep(instance: &Instance, text: &str, lock: &Lock) {
    let digest = Digest::of(text);
    if decoded_lock(instance, &digest).is_some() {
        return;
    }
    let steps = lock.steps.iter().map(|(key, step)| (key.clone(), step.clone())).collect();
    if let Ok(bytes) = serde_json::to_vec(&KeptLock {
        rules: LOCK_RULES,
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

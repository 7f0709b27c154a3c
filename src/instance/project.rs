//! Reads a project from disk for all rooms above, and caches the decoded result.
//!
//! Decoding KDL takes about a millisecond for two kilobytes. The decoded project is kept next to the
//! instance's record, and used as long as every file that it was read from has the same digest.

use super::absent::absent;
use super::env_file;
use super::generations::Generation;
use super::identity::{Checkout, Instance};
use super::nameless::nameless;
use crate::image;
use crate::lock::{self, Lock, LockedImage, StepLock, SuiteLock};
use crate::model::{Context, Digest, Error, Name, Result, bounds, text_of};
use crate::project::{Locations, Outside, Project};
use crate::spec::{self, Choices, Diagnostic, Inherited, Loaded, Origins, Sources, Texts};
use crate::store::{Home, Store, read_json};
use crate::sys::{self, ProjectFiles, Unread};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Which project, and how it is read.
#[derive(Clone, Debug)]
pub struct Options {
    pub home: Home,
    pub folder: PathBuf,
    pub file: String,
    pub chosen: Chosen,
    pub choices: Choices,
    /// The files of another commit, if those count instead of the directory's.
    pub checkout: Option<Checkout>,
}

impl Options {
    /// Where the project's files are read.
    pub fn source(&self) -> &Path {
        self.checkout.as_ref().map_or(&self.folder, |checkout| &checkout.folder)
    }

    /// Whether the user named this file on the command line, so that it may be anywhere.
    pub fn is_named(&self, path: &str) -> bool {
        self.chosen == Chosen::ByPerson && (path == self.file || self.choices.files.iter().any(|file| file == path))
    }

    pub(super) fn instance(&self) -> Instance {
        Instance { checkout: self.checkout.clone(), ..Instance::new(&self.home, &self.folder, &self.file) }
    }
}

/// How the project file was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// The directory has a file with the usual name; it must lie in the directory like all other files.
    ByFolder,
    /// The user named it; it may be a symbolic link to a file elsewhere.
    ByPerson,
}

/// A project that was read.
#[derive(Debug)]
pub struct LoadedProject {
    pub instance: Instance,
    pub project: Project,
    pub places: Locations,
    pub warnings: Vec<Diagnostic>,
    /// The files that it was read from.
    pub files: BTreeMap<String, String>,
    /// The images from elsewhere that Dockerfiles start from and that are not known yet: once they are
    /// locked, the project must be read again.
    pub unsettled: Vec<String>,
    /// The generation that is brought back, if it is one: then nothing of the project's files counts, secrets excepted.
    pub restored: Option<Box<Generation>>,
}

/// The content of the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: String,
    choices: Choices,
    files: BTreeMap<String, Digest>,
    env: BTreeMap<String, Option<String>>,
    /// The variables that were looked for in `.env`.
    settings: BTreeMap<String, Option<String>>,
    /// What was known of images from elsewhere.
    outside: Vec<(Outside, Option<Inherited>)>,
    project: Project,
    places: Locations,
}

/// The project's directory, and what the lock file and the store know of images from elsewhere.
pub(super) struct Disk<'a> {
    options: &'a Options,
    files: ProjectFiles,
    instance: &'a Instance,
    /// Texts that count in place of those of the files.
    instead: &'a BTreeMap<String, String>,
}

/// The file with values of parameters.
const SETTINGS: &str = ".env";

/// No texts.
const NONE: &BTreeMap<String, String> = &BTreeMap::new();

impl<'a> Disk<'a> {
    pub(super) fn new(options: &'a Options, instance: &'a Instance) -> Result<Self> {
        Ok(Self { options, files: project_files(options.source())?, instance, instead: NONE })
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        if let Some(text) = self.instead.get(path) {
            return Ok(text.clone().into_bytes());
        }
        if self.options.is_named(path) && self.options.checkout.is_none() {
            return sys::read_regular(&self.options.folder.join(path), bounds::DOCKERFILE);
        }
        self.files.own(path, bounds::DOCKERFILE)
    }
}

/// Opens the directory of a project.
///
/// # Errors
/// Fails when the directory cannot be opened.
pub fn project_files(folder: &Path) -> Result<ProjectFiles> {
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

    fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        // The file is rarely in commits, so that of the directory counts for them, too.
        let directory = self.options.checkout.as_ref().map(|_| ProjectFiles::at(&self.options.folder)).transpose();
        let directory = directory.map_err(|error| error.to_string())?;
        let read = |files: &ProjectFiles| files.own(SETTINGS, bounds::ENV_FILE);
        let bytes = match (read(&self.files), directory) {
            (Err(Unread::Absent), Some(directory)) => read(&directory),
            (read, _) => read,
        };
        let bytes = match bytes {
            Err(Unread::Absent) => return Ok(BTreeMap::new()),
            bytes => bytes.map_err(|why| why.to_string())?,
        };
        env_file::parse(&text_of(SETTINGS, bytes)?).map_err(|wrong| format!("line {}: {}", wrong.line, wrong.why))
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
/// Fails when there is no project file.
pub fn findings(options: &Options) -> Result<Loaded> {
    findings_if(options, NONE)
}

/// As [`findings`], but as if some files had other texts.
///
/// # Errors
/// Fails when there is no project file.
pub fn findings_if(options: &Options, instead: &BTreeMap<String, String>) -> Result<Loaded> {
    exists(options)?;
    let instance = options.instance();
    let disk = Disk { instead, ..Disk::new(options, &instance)? };
    Ok(with_facts(spec::load(&options.file, &options.choices, &disk), options))
}

/// Adds what only the machine tells: files that are not there, and name servers that nobody reaches.
pub(super) fn with_facts(mut loaded: Loaded, options: &Options) -> Loaded {
    if let Ok(project) = &loaded.project {
        loaded.diagnostics.extend(absent(project, &loaded.places, &[options.source(), &options.folder]));
        loaded.diagnostics.extend(nameless(project, &loaded.places));
    }
    loaded
}

/// The texts of the project file and of the files that it includes.
///
/// # Errors
/// Fails when there is no project file.
pub fn texts(options: &Options) -> Result<Texts> {
    exists(options)?;
    let instance = options.instance();
    Ok(spec::texts(&options.file, &options.choices, &Disk::new(options, &instance)?))
}

/// The project as it is when everything is put together, as text, and the values in it that did not come from its files.
///
/// # Errors
/// Reports everything that is wrong with the files at once.
pub fn resolved(options: &Options, origins: Origins) -> Result<(String, Project), LoadError> {
    exists(options)?;
    let instance = options.instance();
    let (text, loaded) = spec::resolved(&options.file, &options.choices, &Disk::new(options, &instance)?, origins);
    match loaded.project {
        Ok(project) => Ok((text, project)),
        Err(_) => Err(LoadError::Wrong(loaded.diagnostics, loaded.files)),
    }
}

/// Fails when there is no project file.
pub(super) fn exists(options: &Options) -> Result<()> {
    if !options.source().join(&options.file).exists() {
        return Err(Error::new(format!("there is no {} in {}", options.file, options.folder.display()))
            .hint("go to the project's directory, or name it with -C DIR; a first file needs: project \"NAME\""));
    }
    Ok(())
}

/// The errors of [`load`].
#[derive(Debug)]
pub enum LoadError {
    Error(Error),
    /// Findings, and the texts of the files that they are in, which are needed to show them.
    Wrong(Vec<Diagnostic>, BTreeMap<String, String>),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Loads a project for use: errors and unsupported nodes are refused.
///
/// `remember` says whether the decoded project may be cached; a dry run writes nothing.
///
/// # Errors
/// Reports everything that is wrong with the files at once.
pub fn load(options: &Options, remember: bool) -> Result<LoadedProject, LoadError> {
    let mut instance = options.instance();
    let cache = instance.state().join("decoded.json");
    // What the host lacks is shown in the file, so the file is read.
    let is_silent = |kept: &Kept| nameless(&kept.project, &kept.places).is_empty();
    if let Some(kept) = read_json::<Kept>(&cache).filter(|kept| current(kept, options, &instance) && is_silent(kept)) {
        instance.project = kept.project.name.to_string();
        return Ok(LoadedProject {
            instance,
            project: kept.project,
            places: kept.places,
            warnings: Vec::new(),
            files: BTreeMap::new(),
            unsettled: unsettled(kept.outside.iter().map(|(outside, known)| (outside, known))),
            restored: None,
        });
    }
    let mut loaded = findings(options)?;
    // What is no matter of whoever does something else is told by `check`, and what cannot be watched by `watch`, too.
    let elsewhere = ["unused-image", "absent-watch", "no-sync", "profiles-differ"];
    loaded.diagnostics.retain(|found| !elsewhere.contains(&found.code));
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
            settings: loaded.settings,
            outside: loaded.outside.clone().into_iter().collect(),
            project: project.clone(),
            places: loaded.places.clone(),
        };
        // If the cache cannot be written, that only costs time.
        if super::identity::private_folder(&instance.state()).is_ok()
            && let Ok(bytes) = serde_json::to_vec(&kept)
        {
            let _ = sys::write_atomic(&cache, &bytes, 0o600);
        }
    }
    let unsettled = unsettled(loaded.outside.iter());
    Ok(LoadedProject {
        instance,
        project,
        places: loaded.places,
        warnings: loaded.diagnostics,
        files: loaded.files,
        unsettled,
        restored: None,
    })
}

/// The references that are not known yet.
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
        && (kept.settings.is_empty() || disk.settings().is_ok_and(|now| agrees(&kept.settings, &now)))
        && kept.outside.iter().all(|(outside, known)| disk.outside(outside) == *known)
        && kept.files.iter().all(|(path, digest)| disk.bytes(path).is_ok_and(|bytes| Digest::of(bytes) == *digest))
}

/// Whether variables have the values that they had.
fn agrees(kept: &BTreeMap<String, Option<String>>, now: &BTreeMap<String, String>) -> bool {
    kept.iter().all(|(name, value)| now.get(name) == value.as_ref())
}

/// A decoded lock file in the cache.
#[derive(Serialize, Deserialize)]
struct KeptLock {
    /// The version of the rules by which it was read: a lock file that an older program accepted is read again.
    rules: u32,
    digest: Digest,
    epoch: i64,
    images: BTreeMap<String, LockedImage>,
    remotes: BTreeMap<String, String>,
    suites: BTreeMap<String, SuiteLock>,
    steps: Vec<((Name, usize), StepLock)>,
}

/// Must be raised when the rules for lock files change.
const LOCK_RULES: u32 = 3;

fn kept_lock(instance: &Instance) -> PathBuf {
    instance.state().join("lock.json")
}

/// The text of a project's lock file; `None` if there is no such file, or no such directory any more.
///
/// # Errors
/// Fails when the lock file exists but cannot be read: that is not the same as an absent one.
fn lock_text(instance: &Instance) -> Result<Option<String>> {
    let failed = |why: Unread| {
        Error::caused("cannot read stead.lock", why).hint("restore the file from git, or delete it and run `stead update`")
    };
    let files = match ProjectFiles::at(instance.source()) {
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

/// Reads the project's lock file; an absent one is empty.
///
/// # Errors
/// Fails with the line when the lock file is damaged.
pub fn read_lock(instance: &Instance) -> Result<Lock> {
    match lock_text(instance)? {
        Some(text) => Ok(parse_lock(instance, &text)?.0),
        None => Ok(Lock::default()),
    }
}

/// Parses the lock file's text, and says whether its decoded form is kept already.
fn parse_lock(instance: &Instance, text: &str) -> Result<(Lock, bool)> {
    if let Some(lock) = decoded_lock(instance, &Digest::of(text)) {
        return Ok((lock, true));
    }
    let lock = lock::parse(text).map_err(|error| Error::new(format!("stead.lock:{}: {}", error.line, error.message)))?;
    Ok((lock, false))
}

fn decoded_lock(instance: &Instance, digest: &Digest) -> Option<Lock> {
    let kept = read_json::<KeptLock>(&kept_lock(instance)).filter(|kept| kept.digest == *digest && kept.rules == LOCK_RULES)?;
    let KeptLock { epoch, images, remotes, suites, steps, .. } = kept;
    Some(Lock { epoch, images, remotes, suites, steps: steps.into_iter().collect() })
}

/// Reads the lock file as [`read_lock`] does, and caches the decoded result: parsing the text is the most
/// expensive part of a short command.
///
/// # Errors
/// Fails as [`read_lock`] does.
pub fn read_and_keep_lock(instance: &Instance) -> Result<Lock> {
    let Some(text) = lock_text(instance)? else { return Ok(Lock::default()) };
    let (lock, is_kept) = parse_lock(instance, &text)?;
    if !is_kept {
        keep(instance, Digest::of(&text), &lock);
    }
    Ok(lock)
}

/// Caches the decoded lock file for the next time; losing it only costs time.
pub fn keep_lock(instance: &Instance, lock: &Lock) {
    if let Ok(Some(text)) = lock_text(instance) {
        let digest = Digest::of(&text);
        if decoded_lock(instance, &digest).is_none() {
            keep(instance, digest, lock);
        }
    }
}

fn keep(instance: &Instance, digest: Digest, lock: &Lock) {
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

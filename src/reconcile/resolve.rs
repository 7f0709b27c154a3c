//! The lock file: what is missing in it is resolved, and what `update` names is brought up to date.

use crate::debian::{self, Settings};
use crate::fetch;
use crate::git;
use crate::image::PublicKey;
use crate::instance::{LoadedProject, Progress, Reporter, SourceFiles, UpOptions, consent, read_lock};
use crate::library::{Ask, resolve, signer, watched};
use crate::lock::{self, Foreign, Lock, remotes};
use crate::model::{Context, Digest, Error, Result, bounds};
use crate::plan::{Mark, Observed, of_repository};
use crate::project::{AddSource, GitSource, NodePath};
use crate::registry;
use crate::store::{Lease, Store};
use crate::sys;
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::debian::{Downgrade, Update};

/// Resolves what is missing in the lock, or what `update` says, and writes the lock file.
///
/// # Errors
/// Fails when something cannot be fetched, verified or satisfied, or would be downgraded. The old lock file is unchanged
/// then.
pub fn update_lock(
    loaded: &LoadedProject,
    update: &Update,
    downgrade: Downgrade,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<(Lock, Lock)> {
    let (old, new) = resolved(loaded, update, downgrade, options, reporter)?;
    write(loaded, &old, &new)?;
    let packages = new.suites.values().map(|suite| suite.packages.len()).sum();
    reporter.report(Progress::Resolved { packages, images: new.images.len(), remotes: new.remotes.len() });
    Ok((old, new))
}

/// The lock as it is now, and as it would be after an update.
fn resolved(
    loaded: &LoadedProject,
    update: &Update,
    downgrade: Downgrade,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<(Lock, Lock)> {
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    let old = read_lock(&loaded.instance)?;
    may_use_keys(loaded, update, &old, options, reporter)?;
    reporter.report(Progress::Resolving);
    let settings = Settings::for_folder(loaded.instance.source());
    let wanted = debian::Wanted { project: &loaded.project, places: &loaded.places, lock: &old, update, downgrade };
    let debian::Resolved { lock: mut new, warnings } = debian::resolve(&wanted, &store, &settings)?;
    warnings.into_iter().for_each(|warning| reporter.report(Progress::Warning(warning)));
    images(loaded, update, &mut new, reporter)?;
    fetched(loaded, update, &mut new, &store)?;
    Ok((old, new))
}

/// What a check of the lock found.
#[derive(Debug)]
pub struct CheckedLock {
    pub packages: debian::Checked,
    /// The lock as it is now, and as it would be after an update.
    pub old: Lock,
    pub new: Lock,
}

/// Compares the lock with the signed indexes that it names, and with what an update would make of it. It writes nothing.
///
/// # Errors
/// Fails when the lock names something that the project does not declare, and when something cannot be fetched, verified
/// or satisfied, or would be downgraded.
pub fn check_lock(
    loaded: &LoadedProject,
    downgrade: Downgrade,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<CheckedLock> {
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    let lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    let settings = Settings::for_folder(loaded.instance.source());
    let packages = debian::check(&loaded.project, &lock, &store, &settings)?;
    let (old, new) = resolved(loaded, &Update::All, downgrade, options, reporter)?;
    Ok(CheckedLock { packages, old, new })
}

/// Sets the latest timestamp that may occur in anything that is built.
///
/// # Errors
/// Fails when the lock file cannot be read or written.
pub fn set_epoch(loaded: &LoadedProject, epoch: i64) -> Result<()> {
    let old = read_lock(&loaded.instance)?;
    write(loaded, &old, &Lock { epoch, ..old.clone() })
}

fn write(loaded: &LoadedProject, old: &Lock, new: &Lock) -> Result<()> {
    let path = loaded.instance.folder.join("stead.lock");
    if new == old && (path.exists() || *new == Lock::default()) {
        return Ok(());
    }
    sys::write_lasting(&path, lock::write(new).as_bytes(), 0o644)
        .map_err(|error| crate::store::disk_error("cannot write stead.lock", error))
}

/// Whether something must be resolved, given whether it is in the lock already.
fn moves(update: &Update, what: &str, locked: bool) -> bool {
    match update {
        Update::All => true,
        Update::Missing => !locked,
        Update::Names(names) => !locked || names.contains(what),
    }
}

/// Locks the images that come from elsewhere: resolves what each name means now.
fn images(loaded: &LoadedProject, update: &Update, lock: &mut Lock, reporter: &dyn Reporter) -> Result<()> {
    for (name, reference) in loaded.project.references() {
        let keys = keys(loaded, reference)?;
        let known = lock.image(reference).is_some() && signer(&keys) == lock.images[reference].signed_by;
        if !moves(update, reference, known) {
            continue;
        }
        let ask = match update {
            Update::Missing => Ask::IfUnknown,
            _ if known => Ask::Always,
            _ => Ask::OrElseStore,
        };
        let found = resolve(&loaded.instance.home, reference, &keys, ask, reporter).map_err(|error| {
            let place = loaded.places.of(&NodePath::image(name));
            Error::caused(format!("cannot lock the image \"{reference}\""), error).at(place)
        })?;
        lock.images.insert(reference.to_owned(), found);
    }
    Ok(())
}

/// The keys that must have signed an image, with their files.
///
/// # Errors
/// Fails when a file cannot be read or is not a public key.
fn keys(loaded: &LoadedProject, reference: &str) -> Result<Vec<(String, PublicKey)>> {
    let signers = loaded.project.signers().filter(|(_, wanted, _)| *wanted == reference);
    let files = SourceFiles::of(&loaded.instance)?;
    signers
        .map(|(image, _, path)| {
            let read = files.named(path, bounds::SMALL_FILE).context(|| format!("cannot read \"{path}\""));
            let key =
                read.and_then(|bytes| PublicKey::parse(&String::from_utf8_lossy(&bytes)).context(|| format!("in \"{path}\"")));
            key.map(|key| (path.to_owned(), key)).map_err(|error| {
                let place = loaded.places.of(&NodePath::image(image).node("signed-by"));
                Error::caused("the key cannot be used", error).at(place)
            })
        })
        .collect()
}

/// Removes from a lock the images that must be signed by other keys than those recorded there.
///
/// # Errors
/// Fails when a key cannot be read, and when a package comes from a repository that the project does not declare.
pub fn trusted(loaded: &LoadedProject, mut lock: Lock) -> Result<Lock> {
    if let Some(foreign) = lock.foreign(&loaded.project) {
        return Err(refuse(loaded, &foreign));
    }
    for (_, reference, _) in loaded.project.signers() {
        let wanted = signer(&keys(loaded, reference)?);
        lock.images.retain(|known, image| known != reference || image.signed_by == wanted);
    }
    Ok(lock)
}

/// The error for a package from an undeclared repository. Few people read lock files, so a lock file alone must not decide
/// whose packages are used.
fn refuse(loaded: &LoadedProject, foreign: &Foreign) -> Error {
    let Foreign { image, suite, package, repository } = foreign;
    let text = std::fs::read_to_string(loaded.instance.source().join("stead.lock")).unwrap_or_default();
    let line = lock::line_of(&text, suite, package).map_or_else(String::new, |line| format!(":{line}"));
    Error::new(format!(
        "stead.lock{line}: {package} comes from {repository}, which the debian step of image {image} does not declare"
    ))
    .hint(format!(
        "if you want that, declare it there: repository \"{repository}\" …; else run `stead update` or restore the lock from git"
    ))
}

/// Makes sure that the user's keys may be used for the repositories that will be contacted.
fn may_use_keys(
    loaded: &LoadedProject,
    update: &Update,
    lock: &Lock,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<()> {
    let observed = Observed::default();
    let asked = remotes(&loaded.project).filter(|(_, _, _, unknown)| moves(update, unknown, lock.remotes.contains_key(unknown)));
    let marks: Vec<Mark> =
        asked.flat_map(|(image, step, ..)| of_repository(&loaded.project, &loaded.places, &observed, image, step)).collect();
    consent::require(&loaded.instance, &marks, options, reporter)
}

/// Locks files and repositories on the web whose content the project does not pin itself.
fn fetched(loaded: &LoadedProject, update: &Update, lock: &mut Lock, store: &Store) -> Result<()> {
    for (image, index, add, unknown) in remotes(&loaded.project) {
        if !moves(update, &unknown, lock.remotes.contains_key(&unknown)) {
            continue;
        }
        let known = match &add.source {
            AddSource::Url { url, .. } => {
                fetch::file(store, url, None, &fetch::Progress::default()).map(|digest: Digest| digest.hex())
            }
            AddSource::Git(git) => commit(git),
        };
        let known = known.map_err(|error| {
            let place = loaded.places.of(&NodePath::image(image).step(index));
            Error::caused(format!("cannot lock {unknown}"), error).at(place)
        })?;
        lock.remotes.insert(unknown, known);
    }
    Ok(())
}

/// The commit that a repository's reference names now.
fn commit(source: &GitSource) -> Result<String> {
    let found = git::resolve(&source.place, source.reference.as_deref())?;
    match source.commit.as_deref().filter(|wanted| !found.starts_with(wanted)) {
        None => Ok(found),
        Some(wanted) => Err(Error::new(format!("it is commit {found} now, which does not begin with {wanted}"))
            .hint("if you want the new one, write it in the project file; otherwise write the full hash of the old one")),
    }
}

/// The lock, completed for the project if that is allowed.
///
/// # Errors
/// Fails when something is missing that cannot be resolved or must not be.
pub fn complete_lock(loaded: &LoadedProject, options: &UpOptions, reporter: &dyn Reporter) -> Result<Lock> {
    let mut lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    if !lock.is_whole(&loaded.project) {
        let what = unanswered(&lock, loaded);
        if let Some(checkout) = &loaded.instance.checkout {
            let commit = &checkout.commit[..checkout.commit.len().min(12)];
            let why = format!("{what} in commit {commit}, and what a commit does not lock has no answer that stays");
            return Err(Error::new(why).hint("check the commit out with `git worktree add`, and run `stead up` there"));
        }
        if options.frozen {
            return Err(
                Error::new(format!("{what}, and --frozen forbids resolving it")).hint("run `stead update` and commit stead.lock")
            );
        }
        if options.offline {
            return Err(Error::new(format!("{what}, and --offline forbids fetching what is needed for it"))
                .hint("run it once without --offline"));
        }
        lock = update_lock(loaded, &Update::Missing, Downgrade::Refused, options, reporter)?.1;
    }
    if let Some(epoch) = options.epoch {
        lock.epoch = epoch;
    }
    Ok(lock)
}

fn unanswered(lock: &Lock, loaded: &LoadedProject) -> String {
    if let Some(((image, _), step)) = lock.missing(&loaded.project).first() {
        return format!("stead.lock has no packages for what image {image} asks of \"{}\"", step.suite);
    }
    if let Some((_, reference)) = loaded.project.references().find(|(_, reference)| lock.image(reference).is_none()) {
        let signed = loaded.project.signers().any(|(_, wanted, _)| wanted == reference);
        let by = if signed { ", signed by the key that the project names" } else { "" };
        return format!("stead.lock does not say which image \"{reference}\" is{by}");
    }
    let unknown = remotes(&loaded.project).find(|(_, _, _, unknown)| !lock.remotes.contains_key(unknown));
    format!("stead.lock does not say what {} is", unknown.map_or_else(String::new, |(_, _, _, unknown)| unknown))
}

/// Locks and pulls the images from elsewhere that a project's Dockerfiles start from. The project must be read again
/// afterwards.
///
/// # Errors
/// Fails when an image cannot be resolved or pulled.
pub fn settle(loaded: &LoadedProject, options: &UpOptions, reporter: &dyn Reporter) -> Result<()> {
    let lock = complete_lock(loaded, options, reporter)?;
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let pin = |digests: &[Digest]| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests);
    // The base image decides what the rest of a Dockerfile means: it sets the environment, the directory and triggers.
    for reference in &loaded.unsettled {
        let Some(digest) = lock.image(reference).filter(|digest| crate::image::load(&store, digest).is_none()) else { continue };
        if options.offline {
            return Err(Error::new(format!("the image \"{reference}\" is not in the store, and --offline forbids fetching it"))
                .hint("run it once without --offline"));
        }
        let progress = Arc::new(fetch::Progress::default());
        watched(reporter, &progress, || registry::pull(&store, reference, digest, &progress, &pin))
            .context(|| format!("cannot pull \"{reference}\""))?;
    }
    Ok(())
}

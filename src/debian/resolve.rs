//! Resolves the `debian` steps of a project into its lock.

use super::archive::{Downgrade, Reader, WAY_BACK};
use super::keys::Moment;
use super::mirror::Settings;
use super::universe::{self, Source};
use crate::fetch::Client;
use crate::lock::{
    IndexLock, Lock, LockedPackage, Package, Request, StepLock, SuiteLock, Unsolved, compare, debian_steps, request_key, sound,
};
use crate::model::{Digest, Error, Name, Result};
use crate::project::{Debian, Locations, NodePath, Project};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a resolution may change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only what is not locked yet.
    Missing,
    /// These packages, wherever they are used.
    Names(BTreeSet<String>),
    /// Everything.
    All,
}

/// What to resolve.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub project: &'a Project,
    pub places: &'a Locations,
    /// The current lock.
    pub lock: &'a Lock,
    pub update: &'a Update,
    pub downgrade: Downgrade,
}

/// The result of a resolution.
#[derive(Debug)]
pub struct Resolved {
    pub lock: Lock,
    /// Warnings to show: missing archives, and packages that moved back.
    pub warnings: Vec<String>,
}

/// Seconds since 1970. A clock that is set to an earlier time puts every signature in the future.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Resolves what `update` says and returns the new lock.
///
/// # Errors
/// Fails when something cannot be fetched, verified or satisfied (with the place in the project file), or would move back.
pub fn resolve(wanted: &Wanted, store: &Store, settings: &Settings) -> Result<Resolved> {
    let Wanted { project, places, lock, update, downgrade } = *wanted;
    let mut new = lock.clone();
    new.prune(project);
    let chosen: Vec<((Name, usize), &Debian)> = debian_steps(project)
        .filter(|(key, step)| match update {
            Update::All => true,
            Update::Missing => lock.packages(key, step).is_none(),
            Update::Names(names) => {
                lock.packages(key, step).is_none_or(|packages| packages.iter().any(|package| names.contains(&package.name)))
            }
        })
        .collect();
    let mut sources: BTreeMap<Source, Vec<(Name, usize)>> = BTreeMap::new();
    for (key, step) in &chosen {
        sources.entry(Source::of(step)).or_default().push(key.clone());
        new.steps.remove(key);
    }
    if sources.is_empty() {
        return Ok(Resolved { lock: new, warnings: Vec::new() });
    }
    let reader = Reader { client: Client::new()?, store, moment: Moment::Now(now()), downgrade };
    let mut warnings = Vec::new();
    let mut indexes: BTreeMap<&str, BTreeMap<String, IndexLock>> = BTreeMap::new();
    for source in sources.into_keys() {
        let suite = source.suite;
        let known = lock.suites.get(suite).map(|suite| suite.indexes.clone()).unwrap_or_default();
        let universe = universe::read(&reader, &source, &known, project, settings)?;
        warnings.extend(universe.warnings);
        indexes.entry(suite).or_default().extend(universe.indexes);
        let keep = kept(lock, suite, update);
        let here = chosen.iter().filter(|(_, step)| Source::of(step) == source);
        for (key @ (image, index), step) in here {
            let (essential, recommends) = (step.essential, step.recommends);
            let request = Request { packages: &step.packages, essential, recommends, keep: &keep, pins: &step.pins };
            let found =
                universe.packages.solve(&request).map_err(|unsolved| explain(unsolved, image, *index, step, project, places))?;
            warnings.extend(going_back(lock, key, step, &found, downgrade)?);
            let others = in_use(&new, suite);
            let locked = new.suites.entry(suite.to_owned()).or_default();
            let step = record(locked, &others, suite, step, &found)?;
            new.steps.insert(key.clone(), step);
        }
    }
    for (suite, found) in indexes {
        let locked = new.suites.entry(suite.to_owned()).or_default();
        let all = debian_steps(project)
            .filter(|(_, step)| step.suite == suite)
            .all(|(key, _)| chosen.iter().any(|(one, _)| *one == key));
        if all {
            locked.indexes.clear();
        }
        locked.indexes.extend(found);
    }
    new.prune(project);
    Ok(Resolved { lock: new, warnings })
}

/// The packages of a suite that steps use in the versions that are locked now.
fn in_use(lock: &Lock, suite: &str) -> BTreeSet<String> {
    lock.steps.values().filter(|step| step.suite == suite).flat_map(|step| step.packages.iter().cloned()).collect()
}

/// Describes which packages of a step would get older versions. This is fine if the project changed what it asks for.
///
/// # Errors
/// Fails when the step asks for the same as before, and a downgrade was not allowed.
fn going_back(
    lock: &Lock,
    key: &(Name, usize),
    step: &Debian,
    found: &[&Package],
    downgrade: Downgrade,
) -> Result<Option<String>> {
    let Some(before) = lock.steps.get(key).filter(|before| before.suite == step.suite) else { return Ok(None) };
    let had = |package: &&&Package| {
        let locked = lock.suites.get(&step.suite)?;
        let had = before.packages.iter().filter_map(|key| locked.packages.get(key)).find(|had| had.name == package.name)?;
        let back = compare(&package.version, &had.version).is_lt() && !step.pins.contains_key(&package.name);
        back.then(|| format!("{} {} → {}", package.name, had.version, package.version))
    };
    let back: Vec<String> = found.iter().filter_map(|package| had(&package)).collect();
    if back.is_empty() {
        return Ok(None);
    }
    let text = format!("\"{}\" offers older versions than stead.lock has: {}", step.suite, back.join(", "));
    if downgrade == Downgrade::Refused && before.request == request_key(step) {
        return Err(Error::new(text).hint(format!(
            "an archive seldom takes a version back; if a mirror lags behind, try again later; to go back: {WAY_BACK}"
        )));
    }
    Ok(Some(text))
}

/// Versions that should stay, as long as they are still offered.
fn kept(lock: &Lock, suite: &str, update: &Update) -> BTreeMap<String, String> {
    let packages = lock.suites.get(suite).into_iter().flat_map(|suite| suite.packages.values());
    packages
        .filter(|package| match update {
            Update::All => false,
            Update::Missing => true,
            Update::Names(names) => !names.contains(&package.name),
        })
        .map(|package| (package.name.clone(), package.version.clone()))
        .collect()
}

/// Locks the packages that were found for a step.
///
/// # Errors
/// Fails when an entry of the index is not a valid package, or when another step locks the same package with other bytes.
fn record(locked: &mut SuiteLock, others: &BTreeSet<String>, suite: &str, step: &Debian, found: &[&Package]) -> Result<StepLock> {
    let mut names = BTreeSet::new();
    for package in found {
        let sha256 = Digest::parse(&package.sha256)
            .ok_or_else(|| Error::new(format!("the index gives no digest for {}", package.name)))?;
        let entry = LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256,
            size: package.size,
            path: package.path.trim_start_matches("./").to_owned(),
            repository: package.repository.clone(),
        };
        sound(&entry).map_err(|why| {
            Error::new(format!("the index of \"{suite}\" lists an invalid package: {why}"))
                .hint("tell the maintainers of the archive")
        })?;
        let key = entry.key();
        match locked.packages.get(&key).filter(|_| others.contains(&key)) {
            // Another step uses it, from its own repositories: both steps must get the same bytes.
            Some(other) if other.sha256 != entry.sha256 || other.repository != entry.repository => {
                return Err(Error::new(format!("{key} comes from two places in the steps of \"{suite}\""))
                    .hint("name the same repositories in each of these steps, or ask for other versions"));
            }
            _ => locked.packages.insert(key.clone(), entry),
        };
        names.insert(key);
    }
    Ok(StepLock { suite: suite.to_owned(), request: request_key(step), packages: names })
}

/// Explains in the user's terms why the solver failed, with the place in the file.
fn explain(unsolved: Unsolved, image: &Name, index: usize, step: &Debian, project: &Project, places: &Locations) -> Error {
    let steps = project.images.get(image).map_or(&[][..], |image| image.steps.as_slice());
    let debians = steps.iter().enumerate().filter(|(_, step)| matches!(step, crate::project::Step::Debian(_)));
    let position = debians.map(|(position, _)| position).nth(index).unwrap_or(0);
    let path = NodePath::image(image).step(position);
    let package = |name: &str| places.of(&path.clone().named("package", name));
    match unsolved {
        Unsolved::NoSuchPackage { name, near } => {
            let error = Error::new(format!("there is no package \"{name}\" in \"{}\"", step.suite)).at(package(&name));
            if near.is_empty() {
                error
            } else {
                error.hint(format!("perhaps {}", near.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")))
            }
        }
        Unsolved::NoSuchVersion { name, pin, versions } => {
            let why = format!("\"{}\" has no version of {name} like {pin}", step.suite);
            let error = Error::new(why).at(package(&name));
            if versions.is_empty() { error } else { error.hint(format!("it has: {}", versions.join(", "))) }
        }
        Unsolved::Conflict(why) => {
            let what = format!("these packages of \"{}\" cannot be installed together", step.suite);
            Error::caused(what, why).at(places.of(&path))
        }
    }
}

//! Checks a lock's packages against the signed indexes that the lock names, because anybody can edit a lock file.

use super::archive::{Downgrade, Reader, Trouble};
use super::keys::{Keyring, Moment};
use super::mirror::{Archive, Settings};
use super::resolve::now;
use super::universe::{self, Source};
use crate::fetch::{Client, runtime};
use crate::lock::{IndexLock, Lock, LockedPackage, Package, debian_steps, packages};
use crate::model::{ARCHITECTURE, Error, Result};
use crate::project::Project;
use crate::store::Store;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The result of checking the packages of a lock.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// How many packages the signed indexes list exactly as they are locked.
    pub verified: usize,
    /// Packages in the lock that no index lists, in words.
    pub wrong: BTreeSet<String>,
    /// Packages that could not be looked up, in words.
    pub unverified: BTreeSet<String>,
}

/// The packages of an index, each with everything that a lock says about one.
type Listed = BTreeSet<(String, String, String, String, u64, String)>;

/// The indexes of a suite, or why one cannot be read, by their repository and name.
type Looked = BTreeMap<(Option<String>, String), Result<Listed, String>>;

/// Looks every locked package up in the signed index that the lock names for it. A release is judged as of the time when it
/// was signed, because it was trusted when the lock was made.
///
/// # Errors
/// Fails when nothing says where archives are, or when a release or index does not verify.
pub fn check(project: &Project, lock: &Lock, store: &Store, settings: &Settings) -> Result<Checked> {
    let mut checked = Checked::default();
    let reader = Reader { client: Client::new()?, store, moment: Moment::Made { now: now() }, downgrade: Downgrade::Refused };
    let mut known: BTreeMap<Source, Looked> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, step) in debian_steps(project) {
        let Some(locked) = lock.packages(&key, step) else { continue };
        let source = Source::of(step);
        let looked = match known.entry(source) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let indexes = lock.suites.get(&step.suite).map(|suite| suite.indexes.clone()).unwrap_or_default();
                place.insert(look(&reader, &source, &indexes, project, settings)?)
            }
        };
        for package in locked.into_iter().filter(|package| seen.insert((source, package.key()))) {
            checked.judge(package, &step.suite, looked);
        }
    }
    Ok(checked)
}

impl Checked {
    fn judge(&mut self, package: &LockedPackage, suite: &str, looked: &Looked) {
        let here: Vec<_> = looked.iter().filter(|((repository, _), _)| *repository == package.repository).collect();
        let entry = entry(package);
        let key = package.key();
        if here.iter().any(|(_, looked)| looked.as_ref().is_ok_and(|listed| listed.contains(&entry))) {
            self.verified += 1;
        } else if let Some(((_, name), Err(why))) = here.iter().find(|(_, looked)| looked.is_err()) {
            self.unverified.insert(format!("{key} of \"{suite}\" is not verified against its index ({name}: {why})"));
        } else {
            self.wrong
                .insert(format!("{key} of \"{suite}\" is not in the signed indexes that stead.lock names, or differs there"));
        }
    }
}

fn entry(package: &LockedPackage) -> (String, String, String, String, u64, String) {
    let LockedPackage { name, version, architecture, sha256, size, path, repository: _ } = package;
    (name.clone(), version.clone(), architecture.clone(), sha256.hex(), *size, path.clone())
}

/// Reads the indexes that a lock names for a suite.
fn look(
    reader: &Reader,
    source: &Source,
    indexes: &BTreeMap<String, IndexLock>,
    project: &Project,
    settings: &Settings,
) -> Result<Looked> {
    let mut looked = BTreeMap::new();
    let archives = source.archives(project, settings)?;
    let keys = source.keys(settings)?;
    runtime()?.block_on(async {
        for (name, index) in indexes {
            for component in source.components {
                let mut places = archives.iter().filter(|archive| *name == format!("{}/{component}", archive.suite)).peekable();
                if places.peek().is_some() {
                    looked.insert((None, name.clone()), first(reader, places, component, index, &keys).await?);
                }
            }
            for repository in source.repositories {
                let archive = universe::archive(repository, settings);
                let named = |component: &&String| *name == format!("{}/{}/{component}", repository.place, repository.suite);
                if let Some(component) = repository.components.iter().find(named) {
                    let keys = Keyring::file(&settings.folder, Path::new(&repository.key))?;
                    let of = (Some(repository.place.clone()), name.clone());
                    looked.insert(of, first(reader, [&archive].into_iter(), component, index, &keys).await?);
                }
            }
        }
        Ok::<_, Error>(())
    })?;
    Ok(looked)
}

/// Lists the packages of an index, from the first archive that still has it.
async fn first<'a>(
    reader: &Reader<'_>,
    places: impl Iterator<Item = &'a Archive>,
    component: &str,
    index: &IndexLock,
    keys: &Keyring,
) -> Result<Result<Listed, String>> {
    let mut why = "it is no longer available".to_owned();
    for archive in places {
        let release = match reader.known_release(archive, keys, &index.release).await {
            Ok(release) => release,
            Err(Trouble::Absent) => continue,
            Err(Trouble::Unreachable(error)) => {
                why = error.chain();
                continue;
            }
            Err(Trouble::Wrong(error)) => return Err(error),
        };
        let Some(listed) = release.forms(component, ARCHITECTURE).find(|listed| listed.digest == index.packages) else {
            return Err(Error::new(format!(
                "the signed release of \"{}\" that stead.lock names lists another index of {component} than stead.lock does",
                archive.suite
            ))
            .hint("somebody edited the lock; restore it from git, or recreate it with `stead update`"));
        };
        match reader.index(archive, &release, &listed).await {
            Ok(text) => {
                let all = packages(&text, ARCHITECTURE).into_iter();
                let tuple = |package: Package| {
                    let Package { name, version, architecture, sha256, size, path, .. } = package;
                    (name, version, architecture, sha256.to_ascii_lowercase(), size, path.trim_start_matches("./").to_owned())
                };
                return Ok(Ok(all.map(tuple).collect()));
            }
            Err(error) => why = error.chain(),
        }
    }
    Ok(Err(why))
}

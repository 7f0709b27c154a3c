//! Resolves the `debian` steps of a project into its lock.

use super::mirror::{Archive, Mirrors, Settings};
use super::release::{Keyring, Release};
use crate::fetch::{Client, Place, runtime};
use crate::lock::{
    IndexLock, Lock, LockedPackage, Package, Request, StepLock, SuiteLock, Universe, Unsolved, debian_steps, packages,
    request_key,
};
use crate::model::{Context, Digest, Fault, Name, Outcome};
use crate::spec::{Debian, Places, Project, Repository};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a resolution may move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only what is not locked yet.
    Missing,
    /// These packages, wherever they are used.
    Names(BTreeSet<String>),
    /// Everything.
    All,
}

/// The architecture that packages are made for.
pub const ARCHITECTURE: &str = "amd64";

/// One suite as one group of steps sees it: where it is, what signs it, what stands beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source<'a> {
    suite: &'a str,
    mirror: Option<&'a str>,
    key: Option<&'a str>,
    components: &'a [String],
    suites: &'a [String],
    repositories: &'a [Repository],
}

impl<'a> Source<'a> {
    fn of(step: &'a Debian) -> Self {
        Self {
            suite: &step.suite,
            mirror: step.mirror.as_deref(),
            key: step.key.as_deref(),
            components: &step.components,
            suites: &step.suites,
            repositories: &step.repositories,
        }
    }
}

/// Resolves what `update` says and gives the new lock.
///
/// # Errors
/// What cannot be fetched, verified or satisfied, with the place in the project file.
pub fn resolve(
    project: &Project,
    places: &Places,
    lock: &Lock,
    update: &Update,
    store: &Store,
    settings: &Settings,
) -> Outcome<Lock> {
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
    }
    for source in sources.into_keys() {
        let suite = source.suite;
        let (universe, indexes) = universe(&source, project, store, settings)?;
        let keep = kept(lock, suite, update);
        let locked = new.suites.entry(suite.to_owned()).or_default();
        locked.indexes = indexes;
        let here = chosen.iter().filter(|(_, step)| Source::of(step) == source);
        for ((image, index), step) in here {
            let (essential, recommends) = (step.essential, step.recommends);
            let request = Request { packages: &step.packages, essential, recommends, keep: &keep, pins: &step.pins };
            let found = universe.solve(&request).map_err(|unsolved| explain(unsolved, image, *index, step, project, places))?;
            new.steps.insert((image.clone(), *index), record(locked, suite, step, &found)?);
        }
    }
    new.prune(project);
    Ok(new)
}

/// Versions that stay where they are still offered.
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

fn record(locked: &mut SuiteLock, suite: &str, step: &Debian, found: &[&Package]) -> Outcome<StepLock> {
    let mut names = BTreeSet::new();
    for package in found {
        let sha256 = Digest::parse(&package.sha256)
            .ok_or_else(|| Fault::new(format!("the index gives no digest for {}", package.name)))?;
        let entry = LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256,
            size: package.size,
            path: package.path.clone(),
            repository: package.repository.clone(),
        };
        names.insert(entry.key());
        locked.packages.insert(entry.key(), entry);
    }
    Ok(StepLock { suite: suite.to_owned(), request: request_key(step), packages: names })
}

/// Puts the solver's refusal into the user's words, with the place in the file.
fn explain(unsolved: Unsolved, image: &Name, index: usize, step: &Debian, project: &Project, places: &Places) -> Fault {
    let steps = project.images.get(image).map_or(&[][..], |image| image.steps.as_slice());
    let debians = steps.iter().enumerate().filter(|(_, step)| matches!(step, crate::spec::Step::Debian(_)));
    let position = debians.map(|(position, _)| position).nth(index).unwrap_or(0);
    let path = format!("image.{image}.step{position}");
    let at = |key: &str| places.of(key).map_or_else(String::new, |place| format!("{place}: "));
    match unsolved {
        Unsolved::NoSuchPackage { name, near } => {
            let fault = Fault::new(format!(
                "{}there is no package \"{name}\" in \"{}\"",
                at(&format!("{path}.package.{name}")),
                step.suite
            ));
            if near.is_empty() {
                fault
            } else {
                fault.hint(format!("perhaps {}", near.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")))
            }
        }
        Unsolved::NoSuchVersion { name, pin, versions } => {
            let place = at(&format!("{path}.package.{name}"));
            let fault = Fault::new(format!("{place}\"{}\" has no version of {name} like {pin}", step.suite));
            if versions.is_empty() { fault } else { fault.hint(format!("it has: {}", versions.join(", "))) }
        }
        Unsolved::Conflict(why) => {
            Fault::caused(format!("{}these packages of \"{}\" cannot be installed together", at(&path), step.suite), why)
        }
    }
}

/// Fetches and verifies the indexes of a suite with its updates and security archives.
fn universe(
    source: &Source,
    project: &Project,
    store: &Store,
    settings: &Settings,
) -> Outcome<(Universe, BTreeMap<String, IndexLock>)> {
    let suite = source.suite;
    let mirrors = Mirrors::find(suite, source.mirror, project, settings)?;
    let file = |path: &str| Keyring::file(&settings.folder, Path::new(path));
    let keys = source.key.map_or_else(Keyring::shipped, file)?;
    let further = source.suites.iter().flat_map(|further| mirrors.archives(further));
    let wanted: Vec<Archive> = mirrors.archives(suite).into_iter().chain(further).collect();
    let client = Client::new()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let mut all = Vec::new();
    let mut locks = BTreeMap::new();
    let mut unreachable: Vec<(String, Fault)> = Vec::new();
    runtime()?.block_on(async {
        for archive in wanted {
            if locks.keys().any(|name: &String| name.split('/').next() == Some(&archive.suite)) {
                continue;
            }
            match archive_packages(&client, &archive, source.components, &keys, store, now).await {
                Ok(Some((packages, indexes))) => {
                    all.extend(packages);
                    locks.extend(indexes);
                }
                Ok(None) if archive.required => {
                    let fault = Fault::new(format!("{} has no suite \"{}\"", archive.place.describe(), archive.suite));
                    unreachable.push((archive.suite.clone(), fault.hint("suites have names like \"bookworm\" and \"trixie\"")));
                }
                Ok(None) => {}
                // What is there and wrong is never passed over.
                Err(Trouble::Wrong(fault)) => return Err(fault),
                Err(Trouble::Unreachable(fault)) => unreachable.push((archive.suite.clone(), fault)),
            }
        }
        for repository in source.repositories {
            let place = Place::parse(&repository.place, &settings.folder);
            let archive = Archive { place, suite: repository.suite.clone(), required: true };
            let found = archive_packages(&client, &archive, &repository.components, &file(&repository.key)?, store, now).await;
            let (packages, indexes) = match found {
                Ok(Some(found)) => found,
                Ok(None) => {
                    let fault = Fault::new(format!("{} has no suite \"{}\"", repository.place, repository.suite));
                    return Err(fault.hint("look below dists/ there: that is where suites are"));
                }
                Err(Trouble::Wrong(fault) | Trouble::Unreachable(fault)) => return Err(fault),
            };
            let of = |package: Package| Package { repository: Some(repository.place.clone()), ..package };
            all.extend(packages.into_iter().map(of));
            locks.extend(indexes.into_iter().map(|(name, index)| (format!("{}/{name}", repository.place), index)));
        }
        Ok::<_, Fault>(())
    })?;
    // A mirror of a list may be away, as long as another one gave what it would have given.
    let given = |suite: &str| locks.keys().any(|name| name.split('/').next() == Some(suite));
    match unreachable.into_iter().find(|(suite, _)| !given(suite)) {
        Some((_, fault)) => Err(fault),
        None => Ok((Universe::new(all), locks)),
    }
}

/// Why an archive gives nothing.
enum Trouble {
    Unreachable(Fault),
    Wrong(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault)
    }
}

type Indexed = (Vec<Package>, BTreeMap<String, IndexLock>);

async fn archive_packages(
    client: &Client,
    archive: &Archive,
    components: &[String],
    keys: &Keyring,
    store: &Store,
    now: i64,
) -> Result<Option<Indexed>, Trouble> {
    let base = format!("dists/{}", archive.suite);
    let Some(bytes) = client.get(&archive.place, &format!("{base}/InRelease")).await.map_err(Trouble::Unreachable)? else {
        return Ok(None);
    };
    let release = Release::verify(archive, &bytes, keys, now)?;
    let mut found = Vec::new();
    let mut locks = BTreeMap::new();
    for component in components {
        let Some((path, digest)) = release.index(component, ARCHITECTURE) else {
            if archive.required {
                return Err(Trouble::Wrong(Fault::new(format!(
                    "\"{}\" has no component \"{component}\" for {ARCHITECTURE}",
                    archive.suite
                ))));
            }
            continue;
        };
        let compressed = index_bytes(client, archive, &base, &path, &digest, release.by_hash, store).await?;
        let text = decompress(&path, &compressed).doing(|| format!("cannot unpack {base}/{path}"))?;
        let of = |package: Package| Package { reluctant: release.reluctant, ..package };
        found.extend(packages(&text, ARCHITECTURE).into_iter().map(of));
        locks.insert(format!("{}/{component}", archive.suite), IndexLock { release: release.digest, packages: digest, date: None });
    }
    Ok(Some((found, locks)))
}

/// An index by its digest: from the store, by its hash, or by its name.
async fn index_bytes(
    client: &Client,
    archive: &Archive,
    base: &str,
    path: &str,
    digest: &Digest,
    by_hash: bool,
    store: &Store,
) -> Outcome<Vec<u8>> {
    let kept = store.download_path(digest);
    if let Ok(bytes) = std::fs::read(&kept)
        && Digest::of(&bytes) == *digest
    {
        return Ok(bytes);
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let hashed = format!("{base}/{folder}/by-hash/SHA256/{}", digest.hex());
    let plain = format!("{base}/{path}");
    let by_hash = by_hash && matches!(archive.place, Place::Url(_));
    for candidate in by_hash.then_some(&hashed).into_iter().chain([&plain]) {
        let Some(bytes) = client.get(&archive.place, candidate).await? else { continue };
        if Digest::of(&bytes) != *digest {
            return Err(Fault::new(format!(
                "{}/{candidate} has a wrong hash: its signed InRelease says {digest}",
                archive.place.describe()
            ))
            .hint("the mirror is damaged, or in the middle of an update; try again in a minute"));
        }
        crate::sys::write_atomic(&kept, &bytes, 0o644)
            .map_err(|error| crate::store::disk_fault("cannot keep an index", error))?;
        return Ok(bytes);
    }
    Err(Fault::new(format!("{} lists {plain} and does not have it", archive.place.describe()))
        .hint("the mirror is incomplete; name another"))
}

fn decompress(path: &str, bytes: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    if path.ends_with(".xz") {
        liblzma::read::XzDecoder::new(bytes).read_to_string(&mut text)?;
    } else if path.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8_lossy(bytes).into_owned();
    }
    Ok(text)
}

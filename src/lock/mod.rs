//! Names → digests: the content of `stead.lock`, and the solver that chooses packages for a request.
//!
//! This module is pure: indexes come in as text, the lock comes in and goes out as text. `debian` fetches and
//! verifies the indexes.

mod control;
mod file;
mod origin;
mod solve;
mod version;

pub use control::{Package, Relation, packages, relations, stanzas};
pub use file::{line_of, parse, write};
pub use origin::{Foreign, sound};
pub use solve::{Request, Universe, Unsolved};
pub use version::compare;

use crate::model::{Digest, EPOCH, Name, PLATFORM};
use crate::project::{Add, Debian, Project, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The content of a lock file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The latest time that any built file may have, in seconds since 1970.
    pub epoch: i64,
    /// Images that are made elsewhere, by reference.
    pub images: BTreeMap<String, LockedImage>,
    /// What was fetched: digests of files by their URLs, commits by `URL#REFERENCE`.
    pub remotes: BTreeMap<String, String>,
    pub suites: BTreeMap<String, SuiteLock>,
    /// The packages of each `debian` step, by image and by the step's index among the image's `debian` steps.
    pub steps: BTreeMap<(Name, usize), StepLock>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { epoch: EPOCH, images: BTreeMap::new(), remotes: BTreeMap::new(), suites: BTreeMap::new(), steps: BTreeMap::new() }
    }
}

/// An image that is made elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LockedImage {
    /// The digests of its manifests, by platform.
    pub platforms: BTreeMap<String, Digest>,
    /// The digest of the key that signed them all.
    pub signed_by: Option<Digest>,
}

impl LockedImage {
    /// An image that is known for this platform only.
    pub fn here(digest: Digest) -> Self {
        Self { platforms: [(PLATFORM.to_owned(), digest)].into(), signed_by: None }
    }
}

/// A suite: the indexes it was resolved against, and every package in use.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SuiteLock {
    pub indexes: BTreeMap<String, IndexLock>,
    pub packages: BTreeMap<String, LockedPackage>,
}

/// An index by its archive and component, as in `bookworm-security/main`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexLock {
    pub release: Digest,
    pub packages: Digest,
    /// The date that the archive gives for its release, in seconds since 1970: an older release is refused later.
    /// Older locks do not have it.
    #[serde(default)]
    pub date: Option<i64>,
}

/// A package, with everything that is needed to fetch and verify it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub sha256: Digest,
    pub size: u64,
    pub path: String,
    /// The repository that it comes from, if that is not the suite's own archive.
    #[serde(default)]
    pub repository: Option<String>,
}

impl LockedPackage {
    /// `name=version`: what identifies it within a suite.
    pub fn key(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// What a step asked for when it was locked, and the packages that were chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepLock {
    pub suite: String,
    pub request: String,
    pub packages: BTreeSet<String>,
}

/// The key of a step's request: when it changes, the step is resolved again.
pub fn request_key(step: &Debian) -> String {
    let plain = (&step.suite, &step.packages, step.essential, step.recommends, &step.components);
    if step.pins.is_empty() && step.suites.is_empty() && step.repositories.is_empty() {
        return Digest::of_json(&plain).short(16);
    }
    Digest::of_json(&(plain, &step.pins, &step.suites, &step.repositories)).short(16)
}

/// The `add` steps of a project that fetch something without a digest or commit, each with its image and index.
pub fn remotes(project: &Project) -> impl Iterator<Item = (&Name, usize, &Add, String)> {
    project.images.iter().flat_map(|(name, image)| {
        let adds = image.steps.iter().enumerate();
        adds.filter_map(
            move |(index, step)| if let Step::Add(add) = step { Some((name, index, add, add.unknown()?)) } else { None },
        )
    })
}

/// The `debian` steps of a project, with their indexes among each image's `debian` steps.
pub fn debian_steps(project: &Project) -> impl Iterator<Item = ((Name, usize), &Debian)> {
    project.images.iter().flat_map(|(name, image)| {
        let steps = image.steps.iter().filter_map(|step| if let Step::Debian(debian) = step { Some(debian) } else { None });
        steps.enumerate().map(move |(index, debian)| ((name.clone(), index), debian))
    })
}

impl Lock {
    /// The packages of a step, if it is locked in its present form.
    pub fn packages(&self, key: &(Name, usize), step: &Debian) -> Option<Vec<&LockedPackage>> {
        let packages = self.named(key, step)?;
        packages.iter().all(|package| origin::is_declared(package, step)).then_some(packages)
    }

    /// The packages that the lock has for a step, from whichever repository.
    fn named(&self, key: &(Name, usize), step: &Debian) -> Option<Vec<&LockedPackage>> {
        let locked = self.steps.get(key).filter(|locked| locked.request == request_key(step) && locked.suite == step.suite)?;
        let suite = self.suites.get(&locked.suite)?;
        locked.packages.iter().map(|key| suite.packages.get(key)).collect()
    }

    /// The steps of a project that are not locked in their present form.
    pub fn missing<'a>(&self, project: &'a Project) -> Vec<((Name, usize), &'a Debian)> {
        debian_steps(project).filter(|(key, step)| self.packages(key, step).is_none()).collect()
    }

    /// The manifest of an image that is made elsewhere, for this platform.
    pub fn image(&self, reference: &str) -> Option<Digest> {
        self.images.get(reference)?.platforms.get(PLATFORM).copied()
    }

    /// Whether everything that a project asks for is locked.
    pub fn is_whole(&self, project: &Project) -> bool {
        self.missing(project).is_empty()
            && project.references().all(|(_, reference)| self.image(reference).is_some())
            && remotes(project).all(|(_, _, _, unknown)| self.remotes.contains_key(&unknown))
    }

    /// Drops what the project no longer asks for.
    pub fn prune(&mut self, project: &Project) {
        self.images.retain(|reference, _| project.references().any(|(_, wanted)| wanted == reference));
        self.remotes.retain(|known, _| remotes(project).any(|(_, _, _, unknown)| unknown == *known));
        let wanted: BTreeSet<_> = debian_steps(project).map(|(key, _)| key).collect();
        self.steps.retain(|key, _| wanted.contains(key));
        let steps = &self.steps;
        for (name, suite) in &mut self.suites {
            suite.packages.retain(|key, _| steps.values().any(|step| step.suite == *name && step.packages.contains(key)));
        }
        self.suites.retain(|_, suite| !suite.packages.is_empty());
    }
}

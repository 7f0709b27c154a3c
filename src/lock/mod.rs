//! Names → digests: what `stead.lock` says, and what satisfies a request for packages.
//!
//! Pure: indexes come in as text, the lock comes in and goes out as text. Fetching and verifying
//! them is `debian`'s.

mod control;
mod file;
mod solve;
mod version;

pub use control::{Package, packages, stanzas};
pub use file::{LockError, parse, write};
pub use solve::{Request, Universe, Unsolved};
pub use version::compare;

use crate::model::{Digest, Name};
use crate::spec::{Debian, Project, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is locked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lock {
    pub suites: BTreeMap<String, SuiteLock>,
    /// The packages of each `debian` step, by image and by the step's place among its `debian`s.
    pub steps: BTreeMap<(Name, usize), StepLock>,
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
}

/// A package, by everything needed to fetch and verify it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub sha256: Digest,
    pub size: u64,
    pub path: String,
}

impl LockedPackage {
    /// `name=version`: what identifies it within a suite.
    pub fn key(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// What a step asked for when it was locked, and what that came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepLock {
    pub suite: String,
    pub request: String,
    pub packages: BTreeSet<String>,
}

/// What identifies a step's request: when it differs, the step is resolved anew.
pub fn request_key(step: &Debian) -> String {
    Digest::of_json(&(&step.suite, &step.packages, step.essential, step.recommends, &step.components)).short(16)
}

/// The `debian` steps of a project, with their places among each image's `debian`s.
pub fn debian_steps(project: &Project) -> impl Iterator<Item = ((Name, usize), &Debian)> {
    project.images.iter().flat_map(|(name, image)| {
        let steps = image.steps.iter().filter_map(|step| if let Step::Debian(debian) = step { Some(debian) } else { None });
        steps.enumerate().map(move |(index, debian)| ((name.clone(), index), debian))
    })
}

impl Lock {
    /// The packages of a step, if it is locked as it stands.
    pub fn packages(&self, key: &(Name, usize), step: &Debian) -> Option<Vec<&LockedPackage>> {
        let locked = self.steps.get(key).filter(|locked| locked.request == request_key(step))?;
        let suite = self.suites.get(&locked.suite)?;
        locked.packages.iter().map(|key| suite.packages.get(key)).collect()
    }

    /// The steps of a project that are not locked as they stand.
    pub fn missing<'a>(&self, project: &'a Project) -> Vec<((Name, usize), &'a Debian)> {
        debian_steps(project).filter(|(key, step)| self.packages(key, step).is_none()).collect()
    }

    /// Drops what the project no longer asks for.
    pub fn prune(&mut self, project: &Project) {
        let wanted: BTreeSet<_> = debian_steps(project).map(|(key, _)| key).collect();
        self.steps.retain(|key, _| wanted.contains(key));
        let steps = &self.steps;
        for (name, suite) in &mut self.suites {
            suite.packages.retain(|key, _| steps.values().any(|step| step.suite == *name && step.packages.contains(key)));
        }
        self.suites.retain(|_, suite| !suite.packages.is_empty());
    }
}

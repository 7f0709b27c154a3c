//! Why an image is built, or a step runs: the input that changed since the last time.

use super::cause::Cause;
use super::difference::difference;
use super::image::StepInputs;
use super::images::{locked_images, settings, step_records};
use super::observed::{Facts, FileTree, ImageRecord, Observed, StepRecord, TreeKind};
use crate::lock::Lock;
use crate::model::{Digest, Name};
use crate::project::{Base, Locations, NodePath, Outside, Project};
use std::collections::{BTreeMap, BTreeSet};

/// What causes are found in.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub project: &'a Project,
    pub places: &'a Locations,
    pub lock: &'a Lock,
    pub observed: &'a Observed,
    pub facts: &'a dyn Facts,
}

/// Why a step of an image runs: what changed since the last build, or which earlier step ran.
///
/// `ran` lists the image's steps that ran before it in the same build.
pub fn step_cause(
    (project, places, lock, observed): (&Project, &Locations, &Lock, &Observed),
    facts: &dyn Facts,
    name: &Name,
    index: usize,
    ran: &[usize],
) -> Cause {
    Known { project, places, lock, observed, facts }.step_cause(name, index, ran)
}

/// A cause without a place.
pub fn cause(text: impl Into<String>) -> Cause {
    Cause { text: text.into(), place: None }
}

impl Known<'_> {
    /// A cause with the place of a node.
    pub fn at(&self, path: &NodePath, text: impl Into<String>) -> Cause {
        Cause { text: text.into(), place: self.places.of(path).cloned() }
    }

    pub fn image_causes(&self, name: &Name, record: Option<&ImageRecord>, pending: &BTreeMap<Name, Cause>) -> Vec<Cause> {
        let Some(record) = record else { return vec![self.at(&NodePath::image(name), "not built yet")] };
        let from: Vec<Cause> = self
            .project
            .images
            .get(name)
            .map(made_from)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|other| Some(pending.get(other)?.under(format!("the image {other} is rebuilt"))))
            .collect();
        if !from.is_empty() {
            return from;
        }
        let moved = self.lock_causes(name, record);
        if !moved.is_empty() {
            return moved;
        }
        let now = step_records(self.project, self.lock, name, self.facts);
        for (position, (index, step)) in now.iter().enumerate() {
            let path = NodePath::image(name).step(*index);
            let Some(before) = record.steps.get(position) else { return vec![self.at(&path, "a new step")] };
            if before.inputs != step.inputs {
                let causes = self.input_causes(name, *index, before, &step.inputs, &path);
                if !causes.is_empty() {
                    return causes;
                }
            }
            if before.definition != step.definition {
                return vec![self.at(&path, "the step changed")];
            }
        }
        if record.steps.len() > now.len() {
            return vec![self.at(&NodePath::image(name), "a step was removed")];
        }
        let causes = self.setting_causes(name, record);
        if causes.is_empty() {
            return vec![self.at(&NodePath::image(name), "its layers are no longer in the store")];
        }
        causes
    }

    fn step_cause(&self, name: &Name, index: usize, ran: &[usize]) -> Cause {
        let Some(record) = self.observed.record.images.get(name) else {
            return self.at(&NodePath::image(name), "the image is not built yet");
        };
        let path = NodePath::image(name).step(index);
        let now = step_records(self.project, self.lock, name, self.facts);
        let found = now.iter().enumerate().find(|(_, (other, _))| *other == index);
        let Some((position, (_, step))) = found else { return self.at(&path, "a new step") };
        let Some(before) = record.steps.get(position) else { return self.at(&path, "a new step") };
        if before.inputs != step.inputs
            && let Some(first) = self.input_causes(name, index, before, &step.inputs, &path).into_iter().next()
        {
            return first;
        }
        if before.definition != step.definition {
            return self.at(&path, "the step changed");
        }
        if let Some(earlier) = ran.iter().rev().find(|earlier| **earlier < index) {
            return self.at(&NodePath::image(name).step(*earlier), "an earlier step gave a different result");
        }
        let mut causes = self.lock_causes(name, record).into_iter().chain(self.setting_causes(name, record));
        if let Some(first) = causes.next() {
            return first;
        }
        match self.project.images.get(name).map(made_from).unwrap_or_default().into_iter().next() {
            Some(other) => cause(format!("the image {other} changed, or its result is no longer in the store")),
            None => cause("its result is no longer in the store"),
        }
    }

    /// What `update` moved: images from elsewhere that an image is made from, and for which the lock has other digests than when
    /// it was built. An image that was built by an older stead has no record of them.
    fn lock_causes(&self, name: &Name, record: &ImageRecord) -> Vec<Cause> {
        let now = locked_images(self.project, self.lock, name);
        let text = |(reference, new): (&String, &Digest)| match record.locked.get(reference) {
            Some(old) if old != new => Some(moved(reference, old, new)),
            None if !record.locked.is_empty() => Some(format!("it is made from {reference} now")),
            _ => None,
        };
        now.iter().filter_map(text).map(|text| self.at(&NodePath::image(name).node("from"), text)).collect()
    }

    /// Changes of nodes that only affect an image's configuration, or what its commands see.
    fn setting_causes(&self, name: &Name, record: &ImageRecord) -> Vec<Cause> {
        let now = self.project.images.get(name).map(|image| settings(image, self.lock)).unwrap_or_default();
        let private = self.project.private_of(&now);
        let is_shown = |path: &str| path != "healthcheck" && !private.contains(path) && !record.private.contains(path);
        let reference = self.project.images.get(name).and_then(|image| match &image.from {
            Base::Outside(Outside::Reference(reference)) => Some(reference),
            _ => None,
        });
        let digests = |old: &str, new: &str| Some((reference?, Digest::parse(old)?, Digest::parse(new)?));
        let paths: BTreeSet<&String> = record.settings.keys().chain(now.keys()).collect();
        let changed = paths.into_iter().filter(|path| record.settings.get(*path) != now.get(*path));
        changed
            .map(|path| {
                let text = match (record.settings.get(path), now.get(path)) {
                    (Some(_), None) if path == "from" && self.is_unlocked(name) => "not in stead.lock".to_owned(),
                    (Some(old), Some(new)) if is_shown(path) => match digests(old, new).filter(|_| path == "from") {
                        Some((reference, old, new)) => moved(reference, &old, &new),
                        None => format!("{path} {}", difference(old, new)),
                    },
                    (None, _) => format!("{path} is new"),
                    (_, None) => format!("{path} is gone"),
                    _ => format!("{path} changed"),
                };
                self.at(&NodePath::image(name).aspect(path), text)
            })
            .collect()
    }

    /// Whether an image starts from one that the lock does not name.
    fn is_unlocked(&self, name: &Name) -> bool {
        let from = self.project.images.get(name).map(|image| &image.from);
        matches!(from, Some(Base::Outside(Outside::Reference(reference))) if self.lock.image(reference).is_none())
    }

    fn input_causes(&self, name: &Name, index: usize, before: &StepRecord, now: &StepInputs, path: &NodePath) -> Vec<Cause> {
        match (&before.inputs, now) {
            (StepInputs::Packages(old), StepInputs::Packages(new)) => {
                let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.iter().collect(), new.iter().collect());
                if new.is_empty() {
                    return Vec::new();
                }
                let gone: BTreeMap<&str, &str> = old.difference(&new).filter_map(|key| key.rsplit_once('=')).collect();
                let come: BTreeMap<&str, &str> = new.difference(&old).filter_map(|key| key.rsplit_once('=')).collect();
                let names: BTreeSet<&str> = gone.keys().chain(come.keys()).copied().collect();
                names
                    .into_iter()
                    .map(|name| match (gone.get(name).map(locked), come.get(name).map(locked)) {
                        (Some((old, _)), Some((new, _))) if old != new => cause(format!("stead.lock: {name} {old} → {new}")),
                        (Some(_), Some((_, sha256))) => cause(format!("stead.lock: {name}: its sha256 is {sha256} now")),
                        (None, Some((new, _))) => cause(format!("stead.lock: {name} {new} is new")),
                        _ => cause(format!("stead.lock: {name} is gone")),
                    })
                    .collect()
            }
            (StepInputs::Files(_), StepInputs::Files(_)) => {
                let old = before.listing.and_then(|listing| self.facts.listing(&listing));
                let (Some(old), Ok(new)) = (old, self.facts.tree(name, index)) else {
                    return vec![self.at(path, "its files changed")];
                };
                let index = |tree: &FileTree| {
                    tree.entries
                        .iter()
                        .map(|entry| (entry.from.clone(), (entry.kind.clone(), entry.mode)))
                        .collect::<BTreeMap<_, _>>()
                };
                let (old, new) = (index(&old), index(new));
                let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                paths
                    .into_iter()
                    .filter_map(|path| match (old.get(path), new.get(path)) {
                        (Some(old), Some(new)) if old == new => None,
                        (Some(old), Some(new)) if content(&old.0) == content(&new.0) => {
                            Some(cause(format!("{path}: permissions changed")))
                        }
                        (Some(_), Some(_)) => Some(cause(format!("{path} changed"))),
                        (None, _) => Some(cause(format!("{path} is new"))),
                        (_, None) => Some(cause(format!("{path} is gone"))),
                    })
                    .collect()
            }
            _ => vec![self.at(path, "the step changed")],
        }
    }
}

/// That the lock has another digest for an image from elsewhere.
fn moved(reference: &str, old: &Digest, new: &Digest) -> String {
    format!("stead.lock: {reference} sha256:{}… → sha256:{}…", old.short(12), new.short(12))
}

/// The two parts of what the lock says of a package: its version and, in short, its sha256.
fn locked<'k>(key: &&'k str) -> (&'k str, &'k str) {
    let (version, sha256) = key.split_once('#').unwrap_or((key, ""));
    (version, sha256.get(..12).unwrap_or(sha256))
}

/// What an entry of a tree is, apart from its permissions.
fn content(kind: &TreeKind) -> TreeKind {
    match kind {
        TreeKind::File { digest, .. } => TreeKind::File { digest: *digest, executable: false },
        other => other.clone(),
    }
}

/// The images that an image needs.
pub fn made_from(image: &crate::project::Image) -> BTreeSet<&Name> {
    image.needs().collect()
}

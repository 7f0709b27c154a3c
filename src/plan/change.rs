//! Computes what would change, each change with the input that causes it.

use super::address::networks;
use super::cause::Cause;
use super::desired::{Desired, desired};
use super::graph::{Parts, graph};
use super::image::{Image, StepInputs};
use super::images::{Walk, locked_images, settings, step_records, walk};
use super::observed::{ContainerRecord, Down, Drifted, Facts, ImageRecord, NetworkRecord, Observed, Port, Seen, TreeKind};
use super::task::{Change, Deed, How, Object, Plan, Planned, Symbol};
use super::trust::{self, widenings};
use super::wants;
use crate::lock::Lock;
use crate::lock::remotes;
use crate::model::{Digest, Error, Name, Result};
use crate::project::{Base, Locations, MountSource, NodePath, Outside, Project, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The aspects that can be changed while a container runs.
const LIVE: [&str; 9] = [
    "limits.cpus",
    "limits.cpu-weight",
    "limits.cpuset",
    "limits.memory",
    "limits.memory-reservation",
    "limits.swap",
    "limits.pids",
    "limits.io",
    "limits.hugepages",
];

/// Plans a project; `only` limits the plan to these containers, if it is not empty.
///
/// # Errors
/// Reports everything that makes the plan impossible at once: missing sources, taken ports, overlapping subnets.
pub fn plan(
    (project, places, lock): (&Project, &Locations, &Lock),
    observed: &Observed,
    facts: &dyn Facts,
    only: &BTreeSet<Name>,
) -> Result<Planned> {
    let mut planner = Planner { project, places, lock, observed, facts, changes: Vec::new(), deeds: BTreeMap::new() };
    let images = needed_images(project);
    let mut errors = Vec::new();
    let networks = networks(project, places, observed, &mut errors);
    let (built, pending) = planner.images(&images, &mut errors);
    let desired = desired(project, places, observed, &networks, &built, &mut errors);
    Error::all(errors)?;
    planner.networks(&networks);
    let volumes = planner.volumes();
    planner.containers(&desired, &pending, only);
    let wants_firewall = !networks.is_empty();
    if wants_firewall && !observed.firewall && planner.changes.is_empty() {
        let reason = cause("the host's packet filter changed since the last `up`, or that `up` was interrupted");
        planner.add(Symbol::Change, Object::Firewall, "firewall", "", vec![reason]);
    }
    let Planner { changes, deeds, .. } = planner;
    let record = &observed.record;
    let tasks = graph(Parts { project, record, desired: &desired, volumes: &volumes, deeds: &deeds, changes, only });
    let plan = Plan {
        version: Plan::VERSION,
        project: project.name.to_string(),
        instance: observed.instance.clone(),
        serial: record.serial,
        images: built.iter().map(|(name, image)| (name.clone(), image.digest)).collect(),
        tasks,
        trust: trust::of_project(project, places, observed),
    };
    Ok(Planned { plan, desired, networks, deeds, built })
}

/// Completes a plan's containers once all images are built: their desired state, and what remains to be done about
/// each, which is never more than was planned.
///
/// # Errors
/// Fails as [`plan`] does.
pub fn settle(
    (project, places): (&Project, &Locations),
    observed: &Observed,
    planned: &Planned,
    built: &BTreeMap<Name, Image>,
) -> Result<(BTreeMap<String, Desired>, BTreeMap<String, Deed>)> {
    let mut errors = Vec::new();
    let desired = desired(project, places, observed, &planned.networks, built, &mut errors);
    Error::all(errors)?;
    let left = planned.deeds.iter().filter_map(|(name, deed)| match deed {
        Deed::End => Some((name.clone(), *deed)),
        Deed::Start(_) | Deed::Adjust => Some((name.clone(), deed_of(observed, desired.get(name)?, false)?)),
    });
    let left = left.collect();
    Ok((desired, left))
}

/// The aspects of a container that differ from its record; the image is left out while it is not built.
fn differing<'a>(record: &'a ContainerRecord, wish: &'a Desired, unbuilt: bool) -> Vec<&'a String> {
    let keys: BTreeSet<&String> = record.aspects.keys().chain(wish.aspects.keys()).collect();
    let differs = |key: &&String| record.aspects.get(*key) != wish.aspects.get(*key) && !(unbuilt && key.as_str() == "image");
    keys.into_iter().filter(differs).collect()
}

/// What is to be done about a container; `None` if it is in its desired state.
fn deed_of(observed: &Observed, wish: &Desired, unbuilt: bool) -> Option<Deed> {
    let Some(record) = observed.record.containers.get(&wish.name) else { return Some(Deed::Start(How::Fresh)) };
    let differing = differing(record, wish, unbuilt);
    let are = |fits: &dyn Fn(&str) -> bool| !differing.is_empty() && differing.iter().all(|key| fits(key));
    let seen = observed.containers.get(&wish.name).copied().unwrap_or(Seen::Down(Down::Lost));
    if seen == Seen::Running
        && !unbuilt
        && !wish.is_job()
        && !observed.drift.contains_key(&wish.name)
        && are(&|key| LIVE.contains(&key))
    {
        return Some(Deed::Adjust);
    }
    if observed.drift.contains_key(&wish.name) {
        return Some(Deed::Start(How::Fresh));
    }
    if wish.is_job() {
        return deed_of_job(seen, differing.is_empty(), unbuilt);
    }
    let only_files = are(&|key| key.starts_with("secret.") || key.starts_with("config."));
    match seen {
        _ if !differing.is_empty() && (!only_files || unbuilt) => Some(Deed::Start(How::Fresh)),
        _ if unbuilt => Some(Deed::Start(How::FreshIfImageChanges)),
        _ if only_files => Some(Deed::Start(How::Again)),
        Seen::Down(_) => Some(Deed::Start(How::Again)),
        Seen::Running | Seen::Finished => None,
    }
}

/// What is to be done about a job that is on record: each run has a new root.
fn deed_of_job(seen: Seen, same: bool, unbuilt: bool) -> Option<Deed> {
    match seen {
        Seen::Running | Seen::Finished if same && unbuilt => Some(Deed::Start(How::FreshIfImageChanges)),
        Seen::Running | Seen::Finished if same => None,
        Seen::Running | Seen::Finished | Seen::Down(_) => Some(Deed::Start(How::Fresh)),
    }
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
    let planner = Planner { project, places, lock, observed, facts, changes: Vec::new(), deeds: BTreeMap::new() };
    planner.step_cause(name, index, ran)
}

fn needed_images(project: &Project) -> BTreeSet<Name> {
    let containers = project.containers.values().filter(|container| container.replicas > 0);
    containers
        .flat_map(|container| {
            let mounted = container
                .mounts
                .iter()
                .filter_map(|mount| if let MountSource::Image(name) = &mount.source { Some(name.clone()) } else { None });
            std::iter::once(container.image.clone()).chain(mounted).collect::<Vec<_>>()
        })
        .collect()
}

fn cause(text: impl Into<String>) -> Cause {
    Cause { text: text.into(), place: None }
}

struct Planner<'a> {
    project: &'a Project,
    places: &'a Locations,
    lock: &'a Lock,
    observed: &'a Observed,
    facts: &'a dyn Facts,
    changes: Vec<Change>,
    deeds: BTreeMap<String, Deed>,
}

impl Planner<'_> {
    fn add(&mut self, symbol: Symbol, object: Object, name: &str, detail: &str, causes: Vec<Cause>) {
        let (name, detail) = (name.to_owned(), detail.to_owned());
        self.changes.push(Change { symbol, object, name, detail, causes, trust: Vec::new(), wants: None });
    }

    /// Sets `wants` of the change that was added last.
    fn wants(&mut self, wants: Digest) {
        if let Some(change) = self.changes.last_mut() {
            change.wants = Some(wants);
        }
    }

    /// Sets the trust marks and `wants` of the container change that was added last.
    fn mark(&mut self, wish: &Desired) {
        if let Some(change) = self.changes.last_mut() {
            change.trust = widenings(self.project, self.places, self.observed, wish);
            change.wants = Some(wants::container(self.observed, wish));
        }
    }

    /// Whether a text contains a value from the caller's environment: it may be a password.
    fn at(&self, path: &NodePath, text: impl Into<String>) -> Cause {
        Cause { text: text.into(), place: self.places.of(path).cloned() }
    }

    /// The images that are built, and those that must be built first, including all that they need.
    fn images(&mut self, needed: &BTreeSet<Name>, errors: &mut Vec<Error>) -> (BTreeMap<Name, Image>, BTreeMap<Name, Cause>) {
        let (mut built, mut pending) = (BTreeMap::new(), BTreeMap::new());
        let mut order = Vec::new();
        for name in needed {
            self.collect(name, &mut order);
        }
        self.locks(&order);
        for name in order {
            let record = self.observed.record.images.get(&name);
            if let Some(image) = self.observed.pinned.get(&name) {
                built.insert(name, image.clone());
                continue;
            }
            match walk(self.project, self.lock, &name, self.facts) {
                Walk::Built(image) => {
                    built.insert(name, image);
                    continue;
                }
                Walk::Missing { step, why } => {
                    let place = self.places.of(&NodePath::image(&name).step(step).source(0));
                    let advice = "sources are relative to the project's directory, and ignore files can hide them";
                    errors.push(Error::new(why).hint(advice).at(place));
                }
                Walk::NoArchive(why) => {
                    let place = self.places.of(&NodePath::image(&name).node("from"));
                    errors.push(Error::new(why).at(place));
                }
                Walk::Step(_) | Walk::Assemble(_) | Walk::Squash(_) | Walk::Import(_) | Walk::Blocked(_) | Walk::Unlocked => {}
            }
            let causes = self.image_causes(&name, record, &pending);
            let first = causes.first().cloned().unwrap_or_else(|| cause("its inputs changed"));
            let symbol = if record.is_some() { Symbol::Change } else { Symbol::Create };
            let verb = self.project.images.get(&name).map_or("build", how_made);
            self.add(symbol, Object::Image, name.as_str(), verb, causes);
            let marks = trust::of_image(self.project, self.places, self.observed, &name);
            let wants = wants::image((self.project, self.lock, self.observed), self.facts, &name);
            if let Some(change) = self.changes.last_mut() {
                change.trust = marks;
                change.wants = Some(wants);
            }
            pending.insert(name, first);
        }
        (built, pending)
    }

    /// Collects an image and the images that it needs, the latter first.
    fn collect(&self, name: &Name, order: &mut Vec<Name>) {
        if order.contains(name) {
            return;
        }
        for other in self.project.images.get(name).map(made_from).unwrap_or_default() {
            self.collect(other, order);
        }
        order.push(name.clone());
    }

    /// Adds what would be resolved: everything that the lock file lacks.
    fn locks(&mut self, images: &[Name]) {
        let missing = self.lock.missing(self.project);
        for ((image, index), step) in missing.into_iter().filter(|((image, _), _)| images.contains(image)) {
            let positions =
                self.project.images[&image].steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Debian(_)));
            let position = positions.map(|(position, _)| position).nth(index).unwrap_or(0);
            let known = self.lock.steps.contains_key(&(image.clone(), index));
            let text = if known { "what it asks for changed" } else { "not in stead.lock" };
            let detail = format!("resolve {} for image {image}", step.packages.join(", "));
            let cause = self.at(&NodePath::image(&image).step(position).node("suite"), text);
            let symbol = if known { Symbol::Change } else { Symbol::Create };
            self.add(symbol, Object::Lock, &step.suite, &detail, vec![cause]);
            self.wants(wants::resolved(self.observed, step));
        }
        for (name, reference) in self.project.references().filter(|(name, _)| images.contains(name)) {
            if self.lock.image(reference).is_none() {
                let known = self.lock.images.contains_key(reference);
                let text = if known { "locked for other platforms only" } else { "not in stead.lock" };
                let cause = self.at(&NodePath::image(name), text);
                let symbol = if known { Symbol::Change } else { Symbol::Create };
                self.add(symbol, Object::Lock, reference, "resolve which image that is", vec![cause]);
                self.wants(wants::resolved(self.observed, &reference));
            }
        }
        for (image, index, _, unknown) in remotes(self.project).filter(|(image, ..)| images.contains(image)) {
            if !self.lock.remotes.contains_key(&unknown) {
                let cause = self.at(&NodePath::image(image).step(index), "not in stead.lock");
                self.add(Symbol::Create, Object::Lock, &unknown, &format!("resolve for image {image}"), vec![cause]);
                self.wants(wants::resolved(self.observed, &unknown));
            }
        }
    }

    fn image_causes(&self, name: &Name, record: Option<&ImageRecord>, pending: &BTreeMap<Name, Cause>) -> Vec<Cause> {
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

    fn input_causes(
        &self,
        name: &Name,
        index: usize,
        before: &super::observed::StepRecord,
        now: &StepInputs,
        path: &NodePath,
    ) -> Vec<Cause> {
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
                let index = |tree: &super::observed::FileTree| {
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

    fn networks(&mut self, wanted: &BTreeMap<Name, NetworkRecord>) {
        if !wanted.is_empty() {
            for (name, value) in self.observed.settings.clone() {
                let reason = cause("containers reach other hosts through it; it stays set after `down`");
                self.add(Symbol::Change, Object::Setting, &format!("{name}={value}"), "setting of the host", vec![reason]);
            }
        }
        for (name, record) in wanted {
            let path = NodePath::network(name);
            let detail = format!("{}{}", record.subnet, if record.internal { ", internal" } else { "" });
            match self.observed.record.networks.get(name) {
                Some(old) if old != record => {
                    let mut causes = Vec::new();
                    if old.subnet != record.subnet {
                        causes.push(self.at(&path, format!("subnet {} → {}", old.subnet, record.subnet)));
                    }
                    if old.internal != record.internal {
                        causes.push(self.at(&path, format!("internal {} → {}", old.internal, record.internal)));
                    }
                    if causes.is_empty() {
                        causes.push(self.at(&path, "its settings changed"));
                    }
                    self.add(Symbol::Change, Object::Network, name.as_str(), &detail, causes);
                    self.wants(wants::network((self.project, self.observed), name, record));
                }
                _ if record.external => {}
                None => {
                    let reason = self.at(&path, "not there yet");
                    self.add(Symbol::Create, Object::Network, name.as_str(), &detail, vec![reason]);
                    self.wants(wants::network((self.project, self.observed), name, record));
                }
                Some(_) if !self.observed.bridges.contains(&record.bridge) => {
                    self.add(
                        Symbol::Create,
                        Object::Network,
                        name.as_str(),
                        &detail,
                        vec![cause(format!("its bridge {} is gone", record.bridge))],
                    );
                    self.wants(wants::network((self.project, self.observed), name, record));
                }
                Some(_) => {}
            }
        }
        let gone: Vec<Name> = self.observed.record.networks.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.add(Symbol::Remove, Object::Network, name.as_str(), "", vec![cause("no container is on it any more")]);
        }
    }

    fn volumes(&mut self) -> BTreeSet<Name> {
        let mounts = self.project.containers.values().flat_map(|container| &container.mounts);
        let used: BTreeSet<Name> = mounts
            .filter_map(|mount| if let MountSource::Volume(name) = &mount.source { Some(name.clone()) } else { None })
            .collect();
        for name in used.difference(&self.observed.record.volumes).cloned().collect::<Vec<_>>() {
            let reason = self.at(&NodePath::volume(&name), "not there yet");
            self.add(Symbol::Create, Object::Volume, name.as_str(), "", vec![reason]);
            self.wants(wants::volume((self.project, self.observed), &name));
        }
        used
    }

    fn containers(&mut self, desired: &BTreeMap<String, Desired>, pending: &BTreeMap<Name, Cause>, only: &BTreeSet<Name>) {
        let meant = |container: &Name| only.is_empty() || only.contains(container);
        for (name, wish) in desired.iter().filter(|(_, wish)| meant(&wish.container)) {
            let rebuilt = pending.get(&wish.image_name);
            let Some(deed) = deed_of(self.observed, wish, rebuilt.is_some()) else { continue };
            self.deeds.insert(name.clone(), deed);
            let Some(record) = self.observed.record.containers.get(name) else {
                let mut causes = vec![self.creation(wish)];
                causes.extend(self.not_kept(wish));
                let detail = if wish.is_job() { "run".to_owned() } else { format!("image {}", wish.image_name) };
                self.add(Symbol::Create, Object::Container, name, &detail, causes);
                self.mark(wish);
                continue;
            };
            let mut causes: Vec<Cause> = differing(record, wish, rebuilt.is_some())
                .into_iter()
                .map(|key| self.aspect_cause(wish, key, record.aspects.get(key), wish.aspects.get(key)))
                .collect();
            if let Some(Drifted { files, digest }) = self.observed.drift.get(name) {
                let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                causes
                    .push(cause(format!("`watch` has synced {files} that its image does not have (drift {})", digest.short(12))));
            }
            let detail = match deed {
                Deed::Adjust => {
                    self.add(Symbol::Change, Object::Container, name, "while it runs", causes);
                    self.wants(wants::container(self.observed, wish));
                    continue;
                }
                Deed::Start(How::FreshIfImageChanges) => {
                    let image = &wish.image_name;
                    causes.extend(rebuilt.map(|deeper| deeper.under(format!("the image {image} is rebuilt"))));
                    "if the image changes"
                }
                Deed::Start(_) if wish.is_job() => {
                    if causes.is_empty() {
                        causes.push(self.why_down(name, "it was not done"));
                    }
                    "run"
                }
                Deed::Start(How::Again) if causes.is_empty() => {
                    causes.push(self.why_down(name, "it is not running"));
                    "start"
                }
                Deed::Start(How::Again) => "restart",
                Deed::Start(How::Fresh) | Deed::End => {
                    causes.extend(self.not_kept(wish));
                    "replace"
                }
            };
            self.add(Symbol::Change, Object::Container, name, detail, causes);
            self.mark(wish);
        }
        let gone: Vec<(String, Name)> = self
            .observed
            .record
            .containers
            .iter()
            .filter(|(name, record)| !desired.contains_key(*name) && meant(&record.container))
            .map(|(name, record)| (name.clone(), record.container.clone()))
            .collect();
        for (name, container) in gone {
            let text = if self.project.containers.contains_key(&container) {
                "fewer replicas are wanted"
            } else {
                "no longer in the project file"
            };
            let reason = self.at(&NodePath::container(&container).node("replicas"), text);
            self.add(Symbol::Remove, Object::Container, &name, "", vec![reason]);
            self.deeds.insert(name, Deed::End);
        }
    }

    /// Why a container does not run.
    fn why_down(&self, name: &str, otherwise: &str) -> Cause {
        cause(match self.observed.containers.get(name) {
            Some(Seen::Down(Down::Stopped)) => "somebody stopped it".to_owned(),
            Some(Seen::Down(Down::Ended(status))) => format!("its command ended with exit status {status}"),
            _ => otherwise.to_owned(),
        })
    }

    /// What the image says is data, and what no mount keeps: there are no anonymous volumes here. Nobody expects a job to keep
    /// anything.
    fn not_kept(&self, wish: &Desired) -> Vec<Cause> {
        if wish.is_job() {
            return Vec::new();
        }
        let is_kept = |path: &str| {
            let mounts = wish.spec.mounts.iter().map(|mount| &mount.to).chain(wish.spec.tmpfs.iter().map(|tmpfs| &tmpfs.path));
            mounts.into_iter().any(|to| Path::new(path).starts_with(to))
        };
        let volumes = wish.image.iter().flat_map(|image| &image.config.volumes).filter(|path| !is_kept(path));
        let text = |path: &String| format!("what it keeps in {path} is lost when it is replaced: mount a volume there");
        volumes.map(|path| self.at(&NodePath::container(&wish.container), text(path))).collect()
    }

    /// Why a container that does not exist is created.
    fn creation(&self, wish: &Desired) -> Cause {
        let path = NodePath::container(&wish.container);
        if self.observed.record.stopped.contains(&wish.name) && wish.is_job() {
            return cause("its last result was removed");
        }
        if self.observed.record.stopped.contains(&wish.name) {
            return cause("somebody removed it");
        }
        match self.observed.record.containers.values().filter(|record| record.container == wish.container).count() {
            0 => self.at(&path, "not there yet"),
            before => self.at(&path.node("replicas"), format!("replicas {before} → {}", wish.spec.replicas)),
        }
    }

    fn aspect_cause(&self, wish: &Desired, key: &str, old: Option<&String>, new: Option<&String>) -> Cause {
        let path = NodePath::container(&wish.container).aspect(key);
        let record = self.observed.record.containers.get(&wish.name);
        let is_private =
            || record.is_some_and(|record| record.private.contains(key)) || self.project.private_of(&wish.aspects).contains(key);
        let text = match (key, old, new) {
            ("image", Some(_), Some(_)) => return self.image_cause(wish),
            _ if let Some(volume) = key.strip_prefix("volume.") => format!("volume {volume} is another one than when it ran"),
            (_, Some(old), Some(new)) if !is_private() => change_of(key, old, new).unwrap_or_else(|| format!("{key} changed")),
            (_, None, Some(_)) => format!("{key} is new"),
            (_, Some(_), None) => format!("{key} is gone"),
            _ => format!("{key} changed"),
        };
        self.at(&path, text)
    }

    /// Why a container's image differs from the one on record.
    fn image_cause(&self, wish: &Desired) -> Cause {
        let record = self.observed.record.containers.get(&wish.name);
        if record.is_some_and(|record| record.image_name != wish.image_name.as_str()) {
            return self.at(&NodePath::container(&wish.container).node("image"), format!("image is {} now", wish.image_name));
        }
        if self.observed.pinned.contains_key(&wish.image_name) {
            return cause(format!("that generation has another image {}", wish.image_name));
        }
        let text = format!("image {} changed", wish.image_name);
        // If another project or an earlier command has built it already, the inputs still show why.
        let before = self.observed.record.images.get(&wish.image_name);
        let deeper = before
            .filter(|before| record.is_some_and(|record| record.image == before.digest))
            .map(|before| self.image_causes(&wish.image_name, Some(before), &BTreeMap::new()));
        match deeper.and_then(|causes| causes.into_iter().next()) {
            Some(deeper) => deeper.under(text),
            None => cause(text),
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

/// What a change of an aspect is, if it can be said in a few words: a value, a list of words, a table's entry, ports.
pub fn change_of(key: &str, old: &str, new: &str) -> Option<String> {
    let is_value = key.starts_with("env.")
        || key.starts_with("limits.")
        || matches!(key, "workdir" | "user" | "hostname" | "stop-grace" | "init" | "tty" | "stop-signal");
    if is_value && !new.starts_with(['[', '{']) {
        return Some(format!("{key} {}", difference(old, new)));
    }
    let words = |text: &str| serde_json::from_str::<Vec<String>>(text).ok().map(|words| words.join(" "));
    let ports = |text: &str| {
        let one = |port: Port| format!("{}:{} → {}/{:?}", port.address, port.port, port.to, port.protocol).to_lowercase();
        let ports: Vec<String> = serde_json::from_str::<Vec<Port>>(text).ok()?.into_iter().map(one).collect();
        Some(ports.join(", "))
    };
    let table = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).ok();
    match key {
        "inputs" => Some(inputs_changed(&table(old)?, &table(new)?)),
        "cmd" | "entrypoint" | "group-add" => Some(format!("{key} {}", difference(&words(old)?, &words(new)?))),
        "publish" => Some(format!("{key} {}", difference(&ports(old)?, &ports(new)?))),
        "label" | "sysctl" => {
            let (old, new) = (table(old)?, table(new)?);
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
            let one = |name: &String| match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => format!("{key} {name} {}", difference(old, new)),
                (None, _) => format!("{key} {name} is new"),
                (_, None) => format!("{key} {name} is gone"),
            };
            Some(names.into_iter().map(one).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    }
}

/// How many files a cause names.
const FILES: usize = 3;

/// Which inputs of a job are others than when it ran.
fn inputs_changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> String {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
    let one = |path: &&String| match (old.get(*path), new.get(*path)) {
        (Some(_), Some(_)) => format!("{path} changed"),
        (None, _) => format!("{path} is new"),
        (_, None) => format!("{path} is gone"),
    };
    let named: Vec<String> = paths.iter().take(FILES).map(one).collect();
    let more = paths.len().saturating_sub(FILES);
    format!("inputs: {}{}", named.join(", "), if more > 0 { format!(", and {more} more") } else { String::new() })
}

/// How many characters of a value are shown, and how many of them are before the first that differs.
const SHOWN: usize = 40;
const BEFORE: usize = 12;

/// Two values for a cause; long ones are cut around their first difference.
fn difference(old: &str, new: &str) -> String {
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let cut = |value: &str| {
        let length = value.chars().count();
        let from = if length <= SHOWN || same < SHOWN - BEFORE { 0 } else { same.saturating_sub(BEFORE) };
        let part: String = value.chars().skip(from).take(SHOWN).collect();
        let (before, after) = (if from > 0 { "…" } else { "" }, if length > from + SHOWN { "…" } else { "" });
        format!("{:?}", format!("{before}{part}{after}"))
    };
    format!("{} → {}", cut(old), cut(new))
}

/// What is done to have an image: one from elsewhere that gets no steps of its own is not built.
fn how_made(image: &crate::project::Image) -> &'static str {
    match &image.from {
        Base::Outside(Outside::Reference(_)) if image.steps.is_empty() => "pull",
        Base::Outside(Outside::Archive { .. }) if image.steps.is_empty() => "import",
        _ => "build",
    }
}

/// The images that an image needs.
fn made_from(image: &crate::project::Image) -> BTreeSet<&Name> {
    image.needs().collect()
}

//! What comes of a plan beyond its changes: what is cached and how long the rest took, who uses what changes, who is down and
//! when, and which generation it makes.
//!
//! Everything comes from what is known already: nothing is scanned or fetched for it.

use super::desired::Desired;
use super::image_cause::Known;
use super::images::{Walk, recorded_steps, walk};
use super::observed::Port;
use super::task::{Action, Object, Planned};
use crate::model::{LayerInfo, Name};
use crate::project::{Base, MountSource, Outside, Until};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What comes of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outlook {
    /// The generation that it makes; none if it changes nothing of the environment.
    pub generation: Option<u64>,
    /// The images that it uses.
    pub images: Vec<ImageOutlook>,
    /// The containers that it changes.
    pub containers: Vec<ContainerOutlook>,
    /// The replicas that it ends, in that order; those of a group end together. Some start again afterwards.
    pub downtime: Vec<Vec<String>>,
}

/// How far an image is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ImageOutlook {
    pub name: Name,
    /// What is done to have it.
    pub how: Making,
    /// How many of its steps make layers, and how many of these are in the store.
    pub steps: usize,
    pub cached: usize,
    /// The bytes of the layers that are in the store, as far as they are known to belong to it.
    pub bytes: u64,
    /// How long those of the other steps took that ran here before, in milliseconds.
    pub millis: Option<u64>,
    /// The images and containers that use it.
    pub used_by: Vec<String>,
}

/// What is done to have an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Making {
    /// It is in the store.
    Cached,
    Build,
    /// It comes from a registry as it is.
    Pull,
    /// It comes from an archive as it is.
    Import,
}

/// What else is to be known of a container that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ContainerOutlook {
    pub name: Name,
    pub ports: Vec<Port>,
    /// The containers that depend on it, with what they wait for.
    pub used_by: BTreeMap<Name, Until>,
    /// How many files of its replicas live syncs have changed, which are lost.
    pub drift: BTreeMap<String, usize>,
}

/// What comes of a plan, if this is the next generation's number.
pub fn outlook(known: Known, planned: &Planned, next: u64) -> Outlook {
    let is_new = planned.plan.changes().any(|change| !matches!(change.object, Object::Firewall | Object::Setting));
    Outlook {
        generation: is_new.then_some(next),
        images: images(known, planned),
        containers: containers(known, planned),
        downtime: downtime(planned),
    }
}

fn images(known: Known, planned: &Planned) -> Vec<ImageOutlook> {
    let made = planned.plan.tasks.iter().filter_map(|task| match &task.action {
        Action::Build { image } => Some(image),
        _ => None,
    });
    let all: BTreeSet<&Name> = planned.built.keys().chain(made).collect();
    let mut used_by: BTreeMap<&Name, BTreeSet<String>> = BTreeMap::new();
    for (name, image) in &known.project.images {
        for needed in image.needs() {
            used_by.entry(needed).or_default().insert(format!("image {name}"));
        }
    }
    for (name, container) in &known.project.containers {
        let mounted = container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image(image) => Some(image),
            MountSource::Volume(_) | MountSource::Bind(_) => None,
        });
        for image in mounted.chain([&container.image]) {
            used_by.entry(image).or_default().insert(format!("container {name}"));
        }
    }
    let users = |name: &Name| used_by.get(name).into_iter().flatten().cloned().collect();
    all.into_iter().map(|name| ImageOutlook { used_by: users(name), ..image(known, planned, name) }).collect()
}

fn image(known: Known, planned: &Planned, name: &Name) -> ImageOutlook {
    let described = known.project.images.get(name);
    let steps = described.map(recorded_steps).unwrap_or_default();
    let bytes = |layers: &[LayerInfo]| layers.iter().map(|layer| layer.size).sum();
    let whole = |how, layers: &[LayerInfo]| (how, steps.len(), bytes(layers));
    let (how, cached, bytes) = match planned.built.get(name) {
        Some(built) => whole(Making::Cached, &built.layers),
        None => match walk(known.project, known.lock, name, known.facts) {
            Walk::Built(built) => whole(Making::Cached, &built.layers),
            Walk::Assemble(all) => whole(Making::Build, &all.layers),
            Walk::Squash(all) => (Making::Build, steps.len(), bytes(&all.below) + bytes(&all.own)),
            Walk::Step(next) => {
                (Making::Build, steps.iter().take_while(|index| **index < next.index).count(), bytes(&next.layers))
            }
            Walk::Import(_) | Walk::Blocked(_) | Walk::Unlocked | Walk::Missing { .. } | Walk::NoArchive(_) => {
                (described.map_or(Making::Build, made), 0, 0)
            }
        },
    };
    let before = known.observed.record.images.get(name);
    let took = before.into_iter().flat_map(|before| &before.steps).skip(cached).take(steps.len() - cached);
    let took: Vec<u64> = took.filter_map(|step| step.millis).collect();
    let millis = (!took.is_empty()).then(|| took.iter().sum());
    ImageOutlook { name: name.clone(), how, steps: steps.len(), cached, bytes, millis, used_by: Vec::new() }
}

/// What is done to have an image of which nothing is there.
fn made(image: &crate::project::Image) -> Making {
    match &image.from {
        Base::Outside(Outside::Reference(_)) if image.steps.is_empty() => Making::Pull,
        Base::Outside(Outside::Archive { .. }) if image.steps.is_empty() => Making::Import,
        _ => Making::Build,
    }
}

fn containers(known: Known, planned: &Planned) -> Vec<ContainerOutlook> {
    let changed = planned.plan.changes().filter(|change| change.object == Object::Container);
    let replicas: BTreeMap<&str, &Desired> =
        changed.filter_map(|change| Some((change.name.as_str(), planned.desired.get(&change.name)?))).collect();
    let mut users: BTreeMap<&Name, BTreeMap<Name, Until>> = BTreeMap::new();
    for (name, container) in &known.project.containers {
        for (needed, until) in &container.depends_on {
            users.entry(needed).or_default().insert(name.clone(), *until);
        }
    }
    let mut found: BTreeMap<&Name, ContainerOutlook> = BTreeMap::new();
    for (name, one) in replicas {
        let about = found.entry(&one.container).or_insert_with(|| ContainerOutlook {
            name: one.container.clone(),
            ports: one.ports.clone(),
            used_by: users.get(&one.container).cloned().unwrap_or_default(),
            drift: BTreeMap::new(),
        });
        if let Some(drifted) = known.observed.drift.get(name) {
            about.drift.insert(name.to_owned(), drifted.files);
        }
    }
    found.into_values().collect()
}

/// The replicas that end, in the order in which their tasks can begin.
fn downtime(planned: &Planned) -> Vec<Vec<String>> {
    let tasks = &planned.plan.tasks;
    let ended = |action: &Action| match action {
        Action::End { container } | Action::Retire { container } => Some(container.clone()),
        _ => None,
    };
    if !tasks.iter().any(|task| ended(&task.action).is_some()) {
        return Vec::new();
    }
    let places: BTreeMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (task.name.as_str(), at)).collect();
    let (mut next, mut missing) = (vec![Vec::new(); tasks.len()], vec![0_usize; tasks.len()]);
    for (at, task) in tasks.iter().enumerate() {
        for before in task.after.iter().chain(&task.whatever).filter_map(|name| places.get(name.as_str())) {
            next[*before].push(at);
            missing[at] += 1;
        }
    }
    // How many ends come before each task at least.
    let mut rank = vec![0_usize; tasks.len()];
    let mut ready: Vec<usize> = (0..tasks.len()).filter(|at| missing[*at] == 0).collect();
    let mut groups: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    while let Some(at) = ready.pop() {
        let ends = ended(&tasks[at].action);
        let after = rank[at] + usize::from(ends.is_some());
        groups.entry(rank[at]).or_default().extend(ends);
        for follower in std::mem::take(&mut next[at]) {
            rank[follower] = rank[follower].max(after);
            missing[follower] -= 1;
            if missing[follower] == 0 {
                ready.push(follower);
            }
        }
    }
    let mut groups: Vec<Vec<String>> = groups.into_values().filter(|group| !group.is_empty()).collect();
    groups.iter_mut().for_each(|group| group.sort());
    groups
}

//! Computes what would change, each change with the input that causes it.

use super::address::networks;
use super::cause::Cause;
use super::deed::{deed_of, differing};
use super::desired::{Desired, desired};
use super::graph::{Parts, graph};
use super::image::Image;
use super::image_cause::{Known, cause, made_from};
use super::images::{Walk, walk};
use super::loss::losses;
use super::observed::{Drifted, Facts, NetworkRecord, Observed};
use super::seeding::add_seeds;
use super::task::{Change, Deed, How, Object, Plan, Planned, Symbol};
use super::trust::{self, widenings};
use super::turns::{Scene, Turns};
use super::wants;
use crate::lock::Lock;
use crate::lock::remotes;
use crate::model::{Digest, Error, Name, Result, with_advice};
use crate::project::{Base, Locations, MountSource, NodePath, Outside, Project, Step};
use std::collections::{BTreeMap, BTreeSet};

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
    let known = Known { project, places, lock, observed, facts };
    let mut planner = Planner { known, changes: Vec::new(), deeds: BTreeMap::new() };
    let images = needed_images(project);
    let mut errors = Vec::new();
    let networks = networks(project, places, observed, &mut errors);
    let (built, pending) = planner.images(&images, &mut errors);
    let mut desired = desired(project, places, observed, &networks, &built, &mut errors);
    add_seeds(project, places, observed, &mut desired);
    Error::all(errors)?;
    planner.networks(&networks);
    let volumes = planner.known.used_volumes();
    planner.changes.extend(volumes.iter().filter_map(|name| known.volume_change(name, &desired)));
    let turns = planner.containers(&mut desired, &pending, &networks, only);
    let wants_firewall = !networks.is_empty();
    if wants_firewall && !observed.firewall && planner.changes.is_empty() {
        let reason = cause("the host's packet filter changed since the last `up`, or that `up` was interrupted");
        planner.add(Symbol::Change, Object::Firewall, "firewall", "", vec![reason]);
    }
    let Planner { changes, deeds, .. } = planner;
    let record = &observed.record;
    let tasks =
        graph(Parts { project, record, desired: &desired, volumes: &volumes, deeds: &deeds, turns: &turns, changes, only });
    let plan = Plan {
        version: Plan::VERSION,
        project: project.name.to_string(),
        instance: observed.instance.clone(),
        serial: record.serial,
        images: built.iter().map(|(name, image)| (name.clone(), image.digest)).collect(),
        tasks,
        losses: losses(observed, &deeds),
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
    let mut desired = desired(project, places, observed, &planned.networks, built, &mut errors);
    add_seeds(project, places, observed, &mut desired);
    Error::all(errors)?;
    desired.retain(|name, _| planned.desired.contains_key(name));
    let left = planned.deeds.iter().filter_map(|(name, deed)| match deed {
        Deed::End => Some((name.clone(), *deed)),
        Deed::Start(_) | Deed::Adjust => Some((name.clone(), deed_of(observed, desired.get(name)?, false)?)),
    });
    let mut left: BTreeMap<String, Deed> = left.collect();
    let is_start = |deed: Option<&Deed>| matches!(deed, Some(Deed::Start(_)));
    let replaced: BTreeSet<&Name> =
        desired.values().filter(|one| !one.stands_in && is_start(left.get(&one.name))).map(|one| &one.container).collect();
    // Nobody stands in where nothing is replaced.
    let idle = desired.values().filter(|one| one.stands_in && !replaced.contains(&one.container));
    let idle: Vec<String> = idle.filter(|one| is_start(left.get(&one.name))).map(|one| one.name.clone()).collect();
    left.retain(|name, _| !idle.contains(name));
    Ok((desired, left))
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

/// What a change of a job, or of another container, is about.
fn object_of(is_job: bool) -> Object {
    if is_job { Object::Job } else { Object::Container }
}

struct Planner<'a> {
    known: Known<'a>,
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
            change.trust = widenings(self.known.project, self.known.places, self.known.observed, wish);
            change.wants = Some(wants::container(self.known.observed, wish));
        }
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
            let record = self.known.observed.record.images.get(&name);
            if let Some(image) = self.known.observed.pinned.get(&name) {
                built.insert(name, image.clone());
                continue;
            }
            match walk(self.known.project, self.known.lock, &name, self.known.facts) {
                Walk::Built(image) => {
                    built.insert(name, image);
                    continue;
                }
                Walk::Missing { step, why } => {
                    let place = self.known.places.of(&NodePath::image(&name).step(step).source(0));
                    // What is wrong with an ignore file has a way out of its own.
                    let usual = "sources are relative to the project's directory, and ignore files can hide them";
                    let (why, advice) = with_advice(&why);
                    errors.push(Error::new(why).hint(advice.unwrap_or(usual)).at(place));
                }
                Walk::NoArchive(why) => {
                    let place = self.known.places.of(&NodePath::image(&name).node("from"));
                    errors.push(Error::new(why).at(place));
                }
                Walk::Step(_) | Walk::Assemble(_) | Walk::Squash(_) | Walk::Import(_) | Walk::Blocked(_) | Walk::Unlocked => {}
            }
            let causes = self.known.image_causes(&name, record, &pending);
            let first = causes.first().cloned().unwrap_or_else(|| cause("its inputs changed"));
            let symbol = if record.is_some() { Symbol::Change } else { Symbol::Create };
            let verb = self.known.project.images.get(&name).map_or("build", how_made);
            self.add(symbol, Object::Image, name.as_str(), verb, causes);
            let marks = trust::of_image(self.known.project, self.known.places, self.known.observed, &name);
            let wants = wants::image((self.known.project, self.known.lock, self.known.observed), self.known.facts, &name);
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
        for other in self.known.project.images.get(name).map(made_from).unwrap_or_default() {
            self.collect(other, order);
        }
        order.push(name.clone());
    }

    /// Adds what would be resolved: everything that the lock file lacks.
    fn locks(&mut self, images: &[Name]) {
        let missing = self.known.lock.missing(self.known.project);
        for ((image, index), step) in missing.into_iter().filter(|((image, _), _)| images.contains(image)) {
            let positions =
                self.known.project.images[&image].steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Debian(_)));
            let position = positions.map(|(position, _)| position).nth(index).unwrap_or(0);
            let known = self.known.lock.steps.contains_key(&(image.clone(), index));
            let text = if known { "what it asks for changed" } else { "not in stead.lock" };
            let detail = format!("resolve {} for image {image}", step.packages.join(", "));
            let cause = self.known.at(&NodePath::image(&image).step(position).node("suite"), text);
            let symbol = if known { Symbol::Change } else { Symbol::Create };
            self.add(symbol, Object::Lock, &step.suite, &detail, vec![cause]);
            self.wants(wants::resolved(self.known.observed, step));
        }
        for (name, reference) in self.known.project.references().filter(|(name, _)| images.contains(name)) {
            if self.known.lock.image(reference).is_none() {
                let known = self.known.lock.images.contains_key(reference);
                let text = if known { "locked for other platforms only" } else { "not in stead.lock" };
                let cause = self.known.at(&NodePath::image(name), text);
                let symbol = if known { Symbol::Change } else { Symbol::Create };
                self.add(symbol, Object::Lock, reference, "resolve which image that is", vec![cause]);
                self.wants(wants::resolved(self.known.observed, &reference));
            }
        }
        for (image, index, _, unknown) in remotes(self.known.project).filter(|(image, ..)| images.contains(image)) {
            if !self.known.lock.remotes.contains_key(&unknown) {
                let cause = self.known.at(&NodePath::image(image).step(index), "not in stead.lock");
                self.add(Symbol::Create, Object::Lock, &unknown, &format!("resolve for image {image}"), vec![cause]);
                self.wants(wants::resolved(self.known.observed, &unknown));
            }
        }
    }

    fn networks(&mut self, wanted: &BTreeMap<Name, NetworkRecord>) {
        if !wanted.is_empty() {
            for (name, value) in self.known.observed.settings.clone() {
                let reason = cause("containers reach other hosts through it; it stays set after `down`");
                self.add(Symbol::Change, Object::Setting, &format!("{name}={value}"), "setting of the host", vec![reason]);
            }
        }
        for (name, record) in wanted {
            let path = NodePath::network(name);
            let detail = format!("{}{}", record.subnet, if record.internal { ", internal" } else { "" });
            match self.known.observed.record.networks.get(name) {
                Some(old) if old != record => {
                    let mut causes = Vec::new();
                    if old.subnet != record.subnet {
                        causes.push(self.known.at(&path, format!("subnet {} → {}", old.subnet, record.subnet)));
                    }
                    if old.internal != record.internal {
                        causes.push(self.known.at(&path, format!("internal {} → {}", old.internal, record.internal)));
                    }
                    if causes.is_empty() {
                        causes.push(self.known.at(&path, "its settings changed"));
                    }
                    self.add(Symbol::Change, Object::Network, name.as_str(), &detail, causes);
                    self.wants(wants::network((self.known.project, self.known.observed), name, record));
                }
                _ if record.external => {}
                None => {
                    let reason = self.known.at(&path, "not there yet");
                    self.add(Symbol::Create, Object::Network, name.as_str(), &detail, vec![reason]);
                    self.wants(wants::network((self.known.project, self.known.observed), name, record));
                }
                Some(_) if !self.known.observed.bridges.contains(&record.bridge) => {
                    self.add(
                        Symbol::Create,
                        Object::Network,
                        name.as_str(),
                        &detail,
                        vec![cause(format!("its bridge {} is gone", record.bridge))],
                    );
                    self.wants(wants::network((self.known.project, self.known.observed), name, record));
                }
                Some(_) => {}
            }
        }
        let gone: Vec<Name> =
            self.known.observed.record.networks.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            let unchosen = self.unchosen("network", &name, &self.known.project.unchosen.networks);
            let reason = unchosen.unwrap_or_else(|| cause("no container is on it any more"));
            self.add(Symbol::Remove, Object::Network, name.as_str(), "", vec![reason]);
        }
    }

    /// Whether the state that a job would give to a volume is kept.
    fn is_kept(&self, wish: &Desired) -> bool {
        wish.seed.as_ref().is_some_and(|seed| seed.kept(self.known.observed).is_some())
    }

    /// The cause of a removal that only follows from which profiles are chosen.
    fn unchosen(&self, kind: &'static str, name: &Name, all: &BTreeMap<Name, String>) -> Option<Cause> {
        let profile = all.get(name)?;
        let text = format!("added by profile {profile}, which is not chosen now");
        Some(self.known.at(&NodePath::unchosen(kind, name), text))
    }

    /// Says what happens to containers, and in which turns; those that stand in for nobody are taken out of `desired`.
    fn containers(
        &mut self,
        desired: &mut BTreeMap<String, Desired>,
        pending: &BTreeMap<Name, Cause>,
        networks: &BTreeMap<Name, NetworkRecord>,
        only: &BTreeSet<Name>,
    ) -> BTreeMap<Name, Turns> {
        let meant = |container: &Name| only.is_empty() || only.contains(container);
        for (name, wish) in desired.iter().filter(|(_, wish)| meant(&wish.container) && !wish.stands_in) {
            let rebuilt = pending.get(&wish.image_name);
            let Some(deed) = deed_of(self.known.observed, wish, rebuilt.is_some()) else { continue };
            self.deeds.insert(name.clone(), deed);
            if matches!(deed, Deed::Start(_)) {
                self.changes.extend(self.known.image_volumes(wish));
            }
            let Some(record) = self.known.observed.record.containers.get(name) else {
                let causes = vec![self.known.creation(wish)];
                let detail = match (self.is_kept(wish), wish.is_job()) {
                    (true, _) => "its result is kept".to_owned(),
                    (false, true) => "run".to_owned(),
                    (false, false) => format!("image {}", wish.image_name),
                };
                self.add(Symbol::Create, object_of(wish.is_job()), name, &detail, causes);
                self.mark(wish);
                continue;
            };
            let mut causes: Vec<Cause> = differing(record, wish, rebuilt.is_some())
                .into_iter()
                .map(|key| self.known.aspect_cause(wish, key, record.aspects.get(key), wish.aspects.get(key)))
                .collect();
            if let Some(Drifted { files, digest }) = self.known.observed.drift.get(name) {
                let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                causes
                    .push(cause(format!("`watch` has synced {files} that its image does not have (drift {})", digest.short(12))));
            }
            let detail = match deed {
                Deed::Adjust => {
                    self.add(Symbol::Change, Object::Container, name, "while it runs", causes);
                    self.wants(wants::container(self.known.observed, wish));
                    continue;
                }
                Deed::Start(How::FreshIfImageChanges) => {
                    let image = &wish.image_name;
                    causes.extend(rebuilt.map(|deeper| deeper.under(format!("the image {image} is rebuilt"))));
                    causes.extend(self.known.covered(wish));
                    "if the image changes"
                }
                Deed::Start(_) if wish.is_job() => {
                    if causes.is_empty() {
                        causes.push(self.known.why_down(wish, desired, "it was not done"));
                    }
                    if self.is_kept(wish) { "its result is kept" } else { "run" }
                }
                Deed::Start(How::Again) if causes.is_empty() => {
                    causes.push(self.known.why_down(wish, desired, "it is not running"));
                    "start"
                }
                Deed::Start(How::Again) => "restart",
                Deed::Start(How::Fresh) | Deed::End => "replace",
            };
            self.add(Symbol::Change, object_of(wish.is_job()), name, detail, causes);
            self.mark(wish);
        }
        let turns = self.turns(desired, pending, networks, &meant);
        let stays = |name: &String| desired.contains_key(name) && self.deeds.get(name) != Some(&Deed::End);
        let gone: Vec<(String, Name, Object)> = self
            .known
            .observed
            .record
            .containers
            .iter()
            .filter(|(name, record)| !stays(name) && meant(&record.container))
            .map(|(name, record)| (name.clone(), record.container.clone(), object_of(record.job.is_some())))
            .collect();
        for (name, container, object) in gone {
            let text = if self.known.project.containers.contains_key(&container) {
                "fewer replicas are wanted"
            } else {
                "no longer in the project file"
            };
            let unchosen = self.unchosen("container", &container, &self.known.project.unchosen.containers);
            let reason = unchosen.unwrap_or_else(|| self.known.at(&NodePath::container(&container).node("replicas"), text));
            self.add(Symbol::Remove, object, &name, "", vec![reason]);
            self.deeds.insert(name, Deed::End);
        }
        turns
    }

    /// Says which replicas stand in for others while these are replaced, and in which turns that is done.
    fn turns(
        &mut self,
        desired: &mut BTreeMap<String, Desired>,
        pending: &BTreeMap<Name, Cause>,
        networks: &BTreeMap<Name, NetworkRecord>,
        meant: &dyn Fn(&Name) -> bool,
    ) -> BTreeMap<Name, Turns> {
        let mut found = BTreeMap::new();
        for (name, container) in &self.known.project.containers {
            let Some(update) = container.update.filter(|_| meant(name)) else { continue };
            let scene = Scene { observed: self.known.observed, networks, desired };
            let unbuilt = pending.contains_key(&container.image);
            if let Some(turns) = scene.turns(name, update, unbuilt, &mut self.deeds) {
                found.insert(name.clone(), turns);
            }
        }
        desired.retain(|name, one| !one.stands_in || self.deeds.contains_key(name));
        let starts = |one: &&Desired| one.stands_in && matches!(self.deeds.get(&one.name), Some(Deed::Start(_)));
        let starting: Vec<&Desired> = desired.values().filter(starts).collect();
        for one in starting {
            let path = NodePath::container(&one.container).node("update");
            let reason = self.known.at(&path, "it serves while the others are replaced, then ends");
            self.add(Symbol::Create, Object::Container, &one.name, "stands in", vec![reason]);
            self.mark(one);
        }
        found
    }
}

/// What is done to have an image: one from elsewhere that gets no steps of its own is not built.
fn how_made(image: &crate::project::Image) -> &'static str {
    match &image.from {
        Base::Outside(Outside::Reference(_)) if image.steps.is_empty() => "pull",
        Base::Outside(Outside::Archive { .. }) if image.steps.is_empty() => "import",
        _ => "build",
    }
}

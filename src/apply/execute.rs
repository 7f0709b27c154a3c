//! `up`: resolve, build, then bring every container to what the plan says, by dependency.

use super::container::{Maker, bridges, hold_ports, launch_one};
use super::crash::boundary;
use super::history::{self, Entry};
use super::hosts;
use super::instance::{Instance, private_folder};
use super::observe::{Observation, observe};
use super::project::{LoadedProject, read_lock};
use super::report::{Progress, Reporter};
use super::{down, firewall};
use crate::build::{Builder, StoreFacts, View};
use crate::debian::{self, Settings, Update};
use crate::lock::{self, Lock};
use crate::model::{Context, Digest, Fault, Name, Outcome as Result};
use crate::monitor::{Folder, Health, State, now_ms};
use crate::network;
use crate::plan::{self, Change, ContainerRecord, Desired, Image, ImageRecord, InstanceRecord, Kind, Plan, Planned};
use crate::spec::{MountSource, Until};
use crate::store::{Lease, Pin, Store};
use crate::sys;
use crate::volume;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Containers that are started at the same time: starting is the kernel's work, not ours.
const AT_ONCE: usize = 8;
/// A container that ends this soon after its start did not start well.
const SETTLE: Duration = Duration::from_millis(60);

/// How a failure that is another's consequence begins.
const DEPENDS: &str = "it depends on";

/// How `up` is to behave.
#[derive(Clone, Default, Debug)]
pub struct UpOptions {
    /// Refuse to resolve what is not locked.
    pub frozen: bool,
    /// Refuse the network.
    pub offline: bool,
    /// Only these containers; all if empty.
    pub only: BTreeSet<Name>,
    /// Carry out exactly this plan, or nothing.
    pub exactly: Option<Plan>,
    /// What history calls it.
    pub command: String,
}

/// What `up` came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changes: Vec<Change>,
    pub failures: Vec<Failure>,
}

/// A container that did not come up.
#[derive(Debug)]
pub struct Failure {
    pub container: String,
    pub why: String,
    /// Its last lines of output.
    pub last: Vec<String>,
}

/// Makes a plan without writing anything.
///
/// # Errors
/// What makes the wish impossible.
pub fn plan_only(loaded: &LoadedProject) -> Result<Planned> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = read_lock(&loaded.instance.folder)?;
    let observation = observe(loaded, &store)?;
    make_plan(loaded, &lock, &observation, &store)
}

fn make_plan(loaded: &LoadedProject, lock: &Lock, observation: &Observation, store: &Store) -> Result<Planned> {
    let facts = StoreFacts { store, scanner: &observation.scanner };
    plan::plan(&loaded.project, &loaded.places, lock, &observation.observed, &facts)
}

/// Carries out a saved plan exactly, or refuses because the world moved.
///
/// # Errors
/// A plan that is no longer the plan; then as [`up`].
pub fn apply_saved(loaded: &LoadedProject, saved: Plan, reporter: &dyn Reporter) -> Result<Outcome> {
    let options = UpOptions { exactly: Some(saved), command: "apply".into(), ..UpOptions::default() };
    up(loaded, &options, reporter)
}

/// Resolves what the lock does not answer, or what `update` says, and writes the lock.
///
/// # Errors
/// What cannot be fetched, verified or satisfied; the old lock stands then.
pub fn update_lock(loaded: &LoadedProject, update: &Update, reporter: &dyn Reporter) -> Result<(Lock, Lock)> {
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    let old = read_lock(&loaded.instance.folder)?;
    reporter.report(Progress::Resolving);
    let settings = Settings::for_folder(&loaded.instance.folder);
    let new = debian::resolve(&loaded.project, &loaded.places, &old, update, &store, &settings)?;
    if new != old {
        let path = loaded.instance.folder.join("stead.lock");
        sys::write_atomic(&path, lock::write(&new).as_bytes(), 0o644)
            .map_err(|error| crate::store::disk_fault("cannot write stead.lock", error))?;
    }
    let packages = new.suites.values().map(|suite| suite.packages.len()).sum();
    reporter.report(Progress::Resolved(packages));
    Ok((old, new))
}

/// The lock, complete for the project, or why it may not be completed.
fn complete_lock(loaded: &LoadedProject, options: &UpOptions, reporter: &dyn Reporter) -> Result<Lock> {
    let lock = read_lock(&loaded.instance.folder)?;
    let missing = lock.missing(&loaded.project);
    let Some(((image, _), step)) = missing.first() else { return Ok(lock) };
    let what = format!("stead.lock does not answer what image {image} asks of \"{}\"", step.suite);
    if options.frozen {
        return Err(
            Fault::new(format!("{what}, and --frozen forbids resolving it")).hint("run `stead update` and commit stead.lock")
        );
    }
    if options.offline {
        return Err(
            Fault::new(format!("{what}, and --offline forbids fetching the indexes")).hint("run it once without --offline")
        );
    }
    Ok(update_lock(loaded, &Update::Missing, reporter)?.1)
}

/// Builds images, nothing else.
///
/// # Errors
/// The first step that failed.
pub fn build_only(
    loaded: &LoadedProject,
    names: &BTreeSet<Name>,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<BTreeMap<Name, Image>> {
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    let lock = complete_lock(loaded, options, reporter)?;
    let _queue = loaded.instance.lock()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let observation = observe(loaded, &store)?;
    let mut record = loaded.instance.record();
    record.project = loaded.project.name.to_string();
    record.folder = loaded.instance.folder.display().to_string();
    record.file.clone_from(&loaded.instance.file);
    let images = build(loaded, &lock, names, &observation, &store, &lease, options, &mut record, reporter)?;
    loaded.instance.save(&record)?;
    pin(loaded, &store, &record, &lock)?;
    Ok(images)
}

/// Makes the machine match the project.
///
/// # Errors
/// What stops everything: a broken plan, a step that fails, a port that is taken. Containers that do
/// not come up are in the outcome; the others are as converged as they can be.
pub fn up(loaded: &LoadedProject, options: &UpOptions, reporter: &dyn Reporter) -> Result<Outcome> {
    let instance = &loaded.instance;
    let store = Store::at(&instance.home.store);
    store.prepare()?;
    let _queue = instance.lock()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let mut observation = observe(loaded, &store)?;
    let mut lock = read_lock(&instance.folder)?;
    let mut planned = make_plan(loaded, &lock, &observation, &store)?;
    if let Some(saved) = &options.exactly
        && planned.plan != *saved
    {
        return Err(Fault::new("the plan is out of date: the project, its lock or this machine changed since it was made")
            .hint("make a new one with `stead plan --json`"));
    }
    let mut record = observation.observed.record.clone();
    sweep(instance, &record)?;
    if planned.plan.changes.is_empty() && options.only.is_empty() {
        keep_scan(instance, &observation);
        return Ok(Outcome::default());
    }
    reporter.report(Progress::Planned(planned.plan.clone()));
    record.project = loaded.project.name.to_string();
    record.folder = instance.folder.display().to_string();
    record.file.clone_from(&instance.file);
    let mut changes = planned.plan.changes.clone();
    boundary();
    if planned.needs_images() {
        lock = complete_lock(loaded, options, reporter)?;
        boundary();
        build(loaded, &lock, &planned.images, &observation, &store, &lease, options, &mut record, reporter)?;
        record.serial += 1;
        instance.save(&record)?;
        boundary();
        observation = observe(loaded, &store)?;
        planned = make_plan(loaded, &lock, &observation, &store)?;
        changes = merge(&changes, &planned.plan.changes);
    }
    keep_scan(instance, &observation);
    remember(loaded, &lock, &observation, &store, &planned.built, &mut record)?;
    pin(loaded, &store, &record, &lock)?;
    let mut executor = Executor {
        loaded,
        store: &store,
        planned: &planned,
        observation: &observation,
        reporter,
        options,
        record,
        failures: Vec::new(),
    };
    let result = executor.run();
    let mut failures = std::mem::take(&mut executor.failures);
    // What failed first is told first; what only waited for it comes after.
    failures.sort_by_key(|failure| failure.why.starts_with(DEPENDS));
    let ok = result.is_ok() && failures.is_empty();
    history::add(instance, &Entry { at: now_ms(), command: options.command.clone(), ok, changes: changes.clone() })?;
    result?;
    Ok(Outcome { changes, failures })
}

/// The first plan's images with their causes, the second plan's containers with what became certain.
fn merge(first: &[Change], second: &[Change]) -> Vec<Change> {
    let images: BTreeMap<&str, &Change> =
        first.iter().filter(|change| change.kind == Kind::Image).map(|change| (change.name.as_str(), change)).collect();
    let kept = first.iter().filter(|change| matches!(change.kind, Kind::Lock | Kind::Image)).cloned();
    let refined = second.iter().cloned().map(|mut change| {
        for cause in &mut change.causes {
            let image = cause
                .text
                .strip_prefix("image ")
                .and_then(|text| text.strip_suffix(" changed"))
                .and_then(|name| images.get(name));
            if let Some(deeper) = image.and_then(|image| image.causes.first()) {
                cause.text = format!("{} ← {}", cause.text, deeper.text);
                cause.place = cause.place.take().or_else(|| deeper.place.clone());
            }
        }
        change
    });
    kept.chain(refined).collect()
}

/// Keeps the digests of scanned files for the next time; losing them costs time only.
fn keep_scan(instance: &Instance, observation: &Observation) {
    let path = instance.state().join("scan.json");
    if let Ok(bytes) = serde_json::to_vec(&observation.scanner.cache)
        && !std::fs::read(&path).is_ok_and(|old| old == bytes)
    {
        let _ = sys::write_atomic(&path, &bytes, 0o600);
    }
}

#[expect(clippy::too_many_arguments, reason = "each is used once, and a struct of them would only be taken apart again")]
fn build(
    loaded: &LoadedProject,
    lock: &Lock,
    names: &BTreeSet<Name>,
    observation: &Observation,
    store: &Store,
    lease: &Mutex<Lease>,
    options: &UpOptions,
    record: &mut InstanceRecord,
    reporter: &dyn Reporter,
) -> Result<BTreeMap<Name, Image>> {
    let settings = Settings::for_folder(&loaded.instance.folder);
    let progress = Arc::new(debian::Progress::default());
    let shown = progress.clone();
    let report = |event| reporter.report(Progress::Build(event));
    let builder = Builder {
        project: &loaded.project,
        places: &loaded.places,
        lock,
        store,
        lease,
        scanner: &observation.scanner,
        settings: &settings,
        offline: options.offline,
        progress,
        report: &report,
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let built = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (got, total) = (shown.done.load(Ordering::Relaxed), shown.total.load(Ordering::Relaxed));
                if total > 0 {
                    reporter.report(Progress::Download { done: got, total });
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        let built = builder.build(names);
        done.store(true, Ordering::Relaxed);
        built
    })?;
    remember(loaded, lock, observation, store, &built, record)?;
    Ok(built)
}

/// Records where images came from, those that somebody else built included.
fn remember(
    loaded: &LoadedProject,
    lock: &Lock,
    observation: &Observation,
    store: &Store,
    images: &BTreeMap<Name, Image>,
    record: &mut InstanceRecord,
) -> Result<()> {
    let facts = StoreFacts { store, scanner: &observation.scanner };
    for (name, image) in images {
        if record.images.get(name).is_none_or(|known| known.digest != image.digest) {
            record.images.insert(name.clone(), crate::build::record(&loaded.project, lock, &facts, name, image)?);
        }
    }
    Ok(())
}

/// Sets the instance's root in the store: its images, their layers, and what the lock names.
fn pin(loaded: &LoadedProject, store: &Store, record: &InstanceRecord, lock: &Lock) -> Result<()> {
    let mut digests: BTreeSet<Digest> = BTreeSet::new();
    let images =
        record.images.values().map(|image| image.digest).chain(record.containers.values().map(|container| container.image));
    for digest in images.collect::<BTreeSet<_>>() {
        digests.insert(digest);
        if let Some(image) = crate::image::load(store, &digest) {
            digests.extend(image.layers.iter().map(|layer| layer.diff_id));
            digests.insert(plan::image_key(&image.config, &image.layers));
            digests.extend(store.blob(&digest).iter().filter_map(|manifest| {
                let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
                Digest::parse(manifest["config"]["digest"].as_str()?)
            }));
        }
    }
    digests.extend(record.images.values().flat_map(|image: &ImageRecord| &image.steps).filter_map(|step| step.listing));
    for suite in lock.suites.values() {
        digests.extend(suite.packages.values().map(|package| package.sha256));
        digests.extend(suite.indexes.values().map(|index| index.packages));
    }
    store.set_root(
        &loaded.instance.id,
        &Pin { folder: loaded.instance.folder.clone(), project: loaded.project.name.to_string(), digests },
    )
}

/// Ends what runs and is not on record: left by an `up` that was killed.
fn sweep(instance: &Instance, record: &InstanceRecord) -> Result<()> {
    for name in instance.container_folders() {
        // A one-off container belongs to the command that runs it, while that lives.
        let somebodys = name.starts_with("run-") && instance.container(&name).alive();
        if !record.containers.contains_key(&name) && !somebodys {
            down::end(instance, &name)?;
            down::forget(instance, &name);
        }
    }
    Ok(())
}

struct Executor<'a> {
    loaded: &'a LoadedProject,
    store: &'a Store,
    planned: &'a Planned,
    observation: &'a Observation,
    reporter: &'a dyn Reporter,
    options: &'a UpOptions,
    record: InstanceRecord,
    failures: Vec<Failure>,
}

/// What is to be done with a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Todo {
    Fresh,
    Again,
}

impl Executor<'_> {
    fn instance(&self) -> &Instance {
        &self.loaded.instance
    }

    fn save(&mut self) -> Result<()> {
        self.record.serial += 1;
        self.instance().save(&self.record)?;
        boundary();
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let todo = self.todo();
        let mut held = self.hold(&todo)?;
        for setting in network::HOST_SETTINGS.iter().filter(|setting| !setting.holds() && !self.planned.networks.is_empty()) {
            setting.apply()?;
            boundary();
        }
        self.remove(&todo)?;
        self.networks()?;
        self.volumes()?;
        self.put_on_record(&todo)?;
        // The table leads to planned addresses: it can be there before the containers are.
        if !self.planned.networks.is_empty()
            || !self.record.networks.is_empty()
            || !self.observation.observed.record.networks.is_empty()
        {
            firewall::refresh(&self.instance().home)?;
            boundary();
        }
        self.start(&todo, &mut held);
        self.neighbours()?;
        self.wait()?;
        let forwards = self.planned.networks.values().any(|network| !network.internal);
        if let Some(blocked) = firewall::blockers(&self.instance().home).filter(|_| forwards) {
            self.reporter.report(Progress::Warning(blocked));
        }
        self.pin()
    }

    fn pin(&self) -> Result<()> {
        let lock = read_lock(&self.instance().folder)?;
        pin(self.loaded, self.store, &self.record, &lock)
    }

    fn todo(&self) -> BTreeMap<String, Todo> {
        let changes = self.planned.plan.changes.iter();
        changes
            .filter_map(|change| match change.kind {
                Kind::Create | Kind::Replace | Kind::ReplaceIfImageChanges => Some((change.name.clone(), Todo::Fresh)),
                Kind::Restart => Some((change.name.clone(), Todo::Again)),
                _ => None,
            })
            .filter(|(name, _)| {
                self.options.only.is_empty()
                    || self.planned.desired.get(name).is_some_and(|one| self.options.only.contains(&one.container))
            })
            .collect()
    }

    /// Takes published ports before anything is touched.
    fn hold(&self, todo: &BTreeMap<String, Todo>) -> Result<BTreeMap<String, Vec<OwnedFd>>> {
        let wishes = todo.keys().filter_map(|name| self.planned.desired.get(name));
        wishes.map(|one| Ok((one.name.clone(), hold_ports(one)?))).collect()
    }

    /// Ends what is to go, and what is to be replaced or started anew.
    fn remove(&mut self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        let gone: Vec<String> = self
            .planned
            .plan
            .changes
            .iter()
            .filter(|change| change.kind == Kind::Remove)
            .map(|change| change.name.clone())
            .collect();
        let gone: Vec<String> = if self.options.only.is_empty() { gone } else { Vec::new() };
        let old: Vec<String> =
            todo.keys().filter(|name| self.record.containers.contains_key(*name)).chain(&gone).cloned().collect();
        let order = down::order(&self.loaded.project, &old);
        for name in &old {
            if self.instance().container(name).alive() {
                self.reporter.report(Progress::Container { name: name.clone(), what: "stopping" });
            }
        }
        down::end_all(self.instance(), &old, &order)?;
        boundary();
        for name in &gone {
            self.record.containers.remove(name);
        }
        if !gone.is_empty() {
            self.save()?;
            for name in &gone {
                down::forget(self.instance(), name);
                self.reporter.report(Progress::Container { name: name.clone(), what: "removed" });
                boundary();
            }
        }
        Ok(())
    }

    fn networks(&mut self) -> Result<()> {
        let wanted = &self.planned.networks;
        let stale: Vec<String> = self
            .record
            .networks
            .iter()
            .filter(|(name, old)| !old.external && wanted.get(*name) != Some(old))
            .map(|(_, old)| old.bridge.clone())
            .collect();
        network::delete_links(&stale)?;
        // On record first: a kill in between leaves nothing that `down` does not know.
        self.record.networks.clone_from(wanted);
        self.save()?;
        network::ensure_bridges(&bridges(self.instance(), wanted))?;
        boundary();
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        for name in &self.planned.volumes {
            let user = self.planned.desired.values().find_map(|one| {
                let mount = one.spec.mounts.iter().find(|mount| mount.source == MountSource::Volume(name.clone()))?;
                Some((one.image.as_ref()?, mount))
            });
            let Some((image, mount)) = user else { continue };
            let view = View::new(image.layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect());
            volume::create(&self.instance().home, &self.instance().id, name, &view, Path::new(&mount.to))?;
            boundary();
        }
        Ok(())
    }

    /// Records containers before they are made, so that nobody loses sight of them.
    fn put_on_record(&mut self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        for (name, what) in todo {
            let Some(one) = self.planned.desired.get(name) else { continue };
            let Some(image) = &one.image else { continue };
            let known = self
                .record
                .containers
                .get(name)
                .map_or_else(|| newest_generation(self.instance(), name), |record| record.generation);
            let generation = if *what == Todo::Fresh { known + 1 } else { known.max(1) };
            self.record.containers.insert(
                name.clone(),
                ContainerRecord {
                    container: one.container.clone(),
                    replica: one.replica,
                    image_name: one.image_name.to_string(),
                    image: image.digest,
                    aspects: one.aspects.clone(),
                    addresses: one.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect(),
                    ports: one.ports.clone(),
                    generation,
                },
            );
        }
        if todo.is_empty() { Ok(()) } else { self.save() }
    }

    /// Starts containers, several at once, each when what it depends on is as far as it asks.
    fn start(&mut self, todo: &BTreeMap<String, Todo>, held: &mut BTreeMap<String, Vec<OwnedFd>>) {
        let maker = Maker {
            instance: &self.loaded.instance,
            store: self.store,
            all: &self.planned.desired,
            images: &self.planned.built,
            contents: &self.observation.contents,
        };
        let generations: BTreeMap<&String, u64> =
            todo.keys().filter_map(|name| Some((name, self.record.containers.get(name)?.generation))).collect();
        let queue = Mutex::new(Queue {
            waiting: generations.keys().map(|name| (*name).clone()).collect(),
            busy: BTreeSet::new(),
            failed: BTreeMap::new(),
        });
        let changed = Condvar::new();
        let held = &*held;
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(generations.len()) {
                scope.spawn(|| {
                    while let Some(name) = self.next(&queue, &changed) {
                        let one = &self.planned.desired[&name];
                        self.reporter.report(Progress::Container { name: name.clone(), what: "starting" });
                        boundary();
                        let started = launch_one(&maker, one, generations[&name], held.get(&name).map_or(&[][..], Vec::as_slice));
                        boundary();
                        if started.is_ok() {
                            self.reporter.report(Progress::Container { name: name.clone(), what: "started" });
                        }
                        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                        queue.busy.remove(&name);
                        if let Err(fault) = started {
                            queue.failed.insert(name, fault.chain());
                        }
                        changed.notify_all();
                    }
                });
            }
        });
        let failed = queue.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
        for (name, why) in failed {
            // What never began said nothing in this generation.
            let last = if why.starts_with(DEPENDS) { Vec::new() } else { last_lines(self.instance(), &name) };
            self.failures.push(Failure { container: name, why, last });
        }
    }

    /// The next container whose dependencies are ready; nothing when all are done.
    fn next(&self, queue: &Mutex<Queue>, changed: &Condvar) -> Option<String> {
        let mut guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if guard.waiting.is_empty() {
                return None;
            }
            let names: Vec<String> = guard.waiting.iter().cloned().collect();
            for name in names {
                match self.readiness(&name, &guard) {
                    Ready::Yes => {
                        guard.waiting.remove(&name);
                        guard.busy.insert(name.clone());
                        return Some(name);
                    }
                    Ready::NotYet => {}
                    Ready::Never(why) => {
                        guard.waiting.remove(&name);
                        guard.failed.insert(name, why);
                        changed.notify_all();
                    }
                }
            }
            // Health and ends of other containers are in files: look again soon.
            guard = changed.wait_timeout(guard, Duration::from_millis(5)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn readiness(&self, name: &str, queue: &Queue) -> Ready {
        let Some(one) = self.planned.desired.get(name) else { return Ready::Yes };
        for (needed, until) in &one.spec.depends_on {
            for replica in self.planned.desired.values().filter(|other| other.container == *needed) {
                if let Some(why) = queue.failed.get(&replica.name) {
                    return Ready::Never(format!(
                        "{DEPENDS} {}, which failed: {}",
                        replica.name,
                        why.lines().next().unwrap_or_default()
                    ));
                }
                if queue.waiting.contains(&replica.name) || queue.busy.contains(&replica.name) {
                    return Ready::NotYet;
                }
                match reached(&self.instance().container(&replica.name), *until) {
                    Reached::Yes => {}
                    Reached::NotYet => return Ready::NotYet,
                    Reached::Never(why) => return Ready::Never(format!("{DEPENDS} {}, which {why}", replica.name)),
                }
            }
        }
        Ready::Yes
    }

    /// Tells running containers where their new neighbours are.
    fn neighbours(&self) -> Result<()> {
        for one in self.planned.desired.values() {
            let folder = self.instance().container(&one.name);
            if folder.join("hosts").exists() {
                hosts::write(&folder.join("hosts"), &hosts::hosts(one, &self.planned.desired))?;
            }
        }
        Ok(())
    }

    /// Waits until every container is as healthy as it can say.
    fn wait(&mut self) -> Result<()> {
        boundary();
        let failed: BTreeSet<String> = self.failures.iter().map(|failure| failure.container.clone()).collect();
        let watched = self
            .planned
            .desired
            .values()
            .filter(|one| self.options.only.is_empty() || self.options.only.contains(&one.container));
        let mut waiting: Vec<&Desired> = watched.filter(|one| !failed.contains(&one.name)).collect();
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for one in waiting {
                let folder = self.instance().container(&one.name);
                match settled(&folder) {
                    Reached::Yes => {
                        if folder.status().is_some_and(|status| status.health == Health::Healthy) {
                            self.reporter.report(Progress::Container { name: one.name.clone(), what: "healthy" });
                        }
                    }
                    Reached::NotYet => left.push(one),
                    Reached::Never(why) => {
                        let last = last_lines(&self.loaded.instance, &one.name);
                        self.failures.push(Failure { container: one.name.clone(), why, last });
                    }
                }
            }
            waiting = left;
            if !waiting.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

struct Queue {
    waiting: BTreeSet<String>,
    busy: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

enum Ready {
    Yes,
    NotYet,
    Never(String),
}

enum Reached {
    Yes,
    NotYet,
    Never(String),
}

/// Whether a dependency is as far as it must be.
fn reached(folder: &Folder, until: Until) -> Reached {
    let Some(status) = folder.status() else { return Reached::Never("is not there".into()) };
    let ended = || format!("ended with exit status {}", status.exit_code.unwrap_or(1));
    match (until, status.state) {
        (Until::Completed, State::Exited) if status.exit_code == Some(0) => Reached::Yes,
        (_, State::Exited) if status.exit_code == Some(0) && until == Until::Started => Reached::Yes,
        (_, State::Exited | State::Dead) => Reached::Never(status.error.clone().unwrap_or_else(ended)),
        (Until::Started, State::Running) => Reached::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Healthy => Reached::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Unhealthy => {
            Reached::Never(unhealthy(&status.health_output))
        }
        _ => Reached::NotYet,
    }
}

fn unhealthy(output: &str) -> String {
    if output.is_empty() { "is unhealthy".into() } else { format!("is unhealthy: {output}") }
}

/// Whether a container has come up, for good or ill.
fn settled(folder: &Folder) -> Reached {
    let Some(status) = folder.status() else { return Reached::Never("it was not started".into()) };
    match (status.state, status.health) {
        (State::Exited, _) if status.exit_code == Some(0) => Reached::Yes,
        (State::Exited, _) => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            Reached::Never(format!("it ended with exit status {}{memory}", status.exit_code.unwrap_or(1)))
        }
        (State::Dead, _) => Reached::Never(status.error.unwrap_or_else(|| "its monitor is gone".into())),
        (State::Restarting, _) => {
            Reached::Never(format!("it ended with exit status {} and is being restarted", status.exit_code.unwrap_or(1)))
        }
        (State::Running, Health::Starting) => Reached::NotYet,
        (State::Running, Health::Unhealthy) => Reached::Never(format!("it {}", unhealthy(&status.health_output))),
        (State::Running, Health::None)
            if status.started_at.is_some_and(|at| now_ms().saturating_sub(at) < SETTLE.as_millis() as u64) =>
        {
            Reached::NotYet
        }
        (State::Created, _) => Reached::NotYet,
        _ => Reached::Yes,
    }
}

/// The last lines that a container said.
fn last_lines(instance: &Instance, name: &str) -> Vec<String> {
    let generation = newest_generation(instance, name);
    let lines = crate::monitor::lines(&instance.logs(name).join(generation.to_string()));
    lines.iter().rev().take(10).rev().map(|line| line.text.clone()).collect()
}

/// The newest generation that a container left logs of; 0 if none.
fn newest_generation(instance: &Instance, name: &str) -> u64 {
    let entries = std::fs::read_dir(instance.logs(name)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(0)
}

/// The time that `up` may take is told by whoever calls it.
#[must_use]
pub fn since(start: Instant) -> String {
    let millis = start.elapsed().as_millis();
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

/// Prepares an instance's folders for a one-off container.
///
/// # Errors
/// Those of making folders.
pub fn prepare_folders(instance: &Instance) -> Result<()> {
    private_folder(&instance.state())?;
    private_folder(&instance.home.run.join(&instance.id)).doing(|| "cannot prepare the instance".into())
}

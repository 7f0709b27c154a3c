//! `up`: observe, plan, resolve, build, plan again, then hand the containers to `converge`.

use super::consent;
use super::converge::Executor;
use super::crash::boundary;
use super::down;
use super::history::{self, Entry};
use super::instance::{Instance, is_one_off_replica, private_folder};
use super::observe::{Observation, observe, observe_again};
use super::project::{LoadedProject, keep_lock, read_lock};
use super::registries::watched;
use super::report::{Failure, Progress, Reporter, UpOptions};
use super::resolve::{complete_lock, trusted};
use crate::build::{Builder, Event, StoreFacts};
use crate::debian::Settings;
use crate::lock::Lock;
use crate::model::{Context, Digest, Fault, Name, Outcome as Result};
use crate::monitor::{self, now_ms};
use crate::network::{self, Reservation};
use crate::plan::{self, Change, Image, ImageRecord, InstanceRecord, Kind, Mark, Plan, Planned};
use crate::project::{Add, AddSource, Step};
use crate::store::{Lease, Pin, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What `up` came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changes: Vec<Change>,
    pub failures: Vec<Failure>,
}

/// Makes a plan without writing anything.
///
/// # Errors
/// What makes the wish impossible.
pub fn plan_only(loaded: &LoadedProject) -> Result<Planned> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    let observation = observe(loaded)?;
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
pub fn apply_saved(loaded: &LoadedProject, saved: Plan, options: UpOptions, reporter: &dyn Reporter) -> Result<Outcome> {
    up(loaded, &UpOptions { exactly: Some(saved), ..options }, reporter)
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
    let lease = Mutex::new(Lease::open(&store)?);
    let look = || -> Result<_> {
        let observation = observe(loaded)?;
        let marks = image_marks(loaded, &lock, names, &observation, &store);
        Ok((observation, marks))
    };
    let mut queue = loaded.instance.lock()?;
    let (mut observation, mut marks) = look()?;
    loop {
        let missing = consent::missing(&loaded.instance, &marks, &options.allow)?;
        if missing.is_empty() {
            break;
        }
        // Whoever is asked may take his time, and nobody else waits for him.
        drop(queue);
        consent::ask(&loaded.instance, &missing, &options.command, reporter)?;
        queue = loaded.instance.lock()?;
        (observation, marks) = look()?;
    }
    if !marks.is_empty() {
        reporter.report(Progress::Marked(marks));
    }
    let mut record = loaded.instance.record()?;
    record.project = loaded.project.name.to_string();
    record.folder = loaded.instance.folder.display().to_string();
    record.file.clone_from(&loaded.instance.file);
    let images = build(loaded, &lock, names, &observation, &store, &lease, options, &mut record, reporter)?;
    observation.scanner.keep(&loaded.instance.scan_cache());
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
    let lease = Mutex::new(Lease::open(&store)?);
    let look = || -> Result<_> {
        let observation = observe(loaded)?;
        let lock = trusted(loaded, read_lock(instance)?)?;
        let mut planned = make_plan(loaded, &lock, &observation, &store)?;
        if options.exactly.as_ref().is_some_and(|saved| planned.plan != *saved) {
            return Err(outdated("the project, its lock or this machine changed since it was made"));
        }
        only_these(&mut planned, &options.only, &observation.observed.record);
        Ok((observation, lock, planned))
    };
    let mut queue = instance.lock()?;
    let (mut observation, mut lock, mut planned) = look()?;
    loop {
        let missing = consent::missing(instance, marks(&planned), &options.allow)?;
        if missing.is_empty() {
            break;
        }
        // Whoever is asked may take his time, and nobody else waits for him.
        drop(queue);
        consent::ask(instance, &missing, &options.command, reporter)?;
        queue = instance.lock()?;
        (observation, lock, planned) = look()?;
    }
    let mut record = observation.observed.record.clone();
    sweep(instance, &record)?;
    if planned.plan.changes.is_empty() {
        observation.scanner.keep(&instance.scan_cache());
        keep_lock(instance, &lock);
        crate::ship::revive(&instance.home.run.join(&instance.id))?;
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
        observation = observe_again(loaded, observation)?;
        planned = make_plan(loaded, &lock, &observation, &store)?;
        only_these(&mut planned, &options.only, &observation.observed.record);
        if options.exactly.as_ref().is_some_and(|saved| !saved.holds(&planned.plan)) {
            return Err(outdated("something that it reads changed while images were built"));
        }
        // While it was built, a link may have been made to lead elsewhere.
        consent::require(instance, marks(&planned), options, reporter)?;
        changes = merge(&changes, &planned.plan.changes);
    }
    reserve(loaded, (&lock, &store), &mut observation, &mut planned, options)?;
    boundary();
    observation.scanner.keep(&instance.scan_cache());
    keep_lock(instance, &lock);
    remember(loaded, &lock, &observation, &store, &planned.built, &mut record)?;
    pin(loaded, &store, &record, &lock)?;
    let (store, planned, observation) = (&store, &planned, &observation);
    let mut executor = Executor { loaded, store, planned, observation, reporter, options, record, failures: Vec::new() };
    let result = executor.run();
    Reservation::end(&instance.home, &instance.id)?;
    let (record, failures) = executor.finish();
    pin(loaded, store, &record, &lock)?;
    let ok = result.is_ok() && failures.is_empty();
    history::add(instance, &Entry { at: now_ms(), command: options.command.clone(), ok, changes: changes.clone() })?;
    result?;
    Ok(Outcome { changes, failures })
}

/// A saved plan that is no longer the plan.
fn outdated(why: &str) -> Fault {
    Fault::new(format!("the plan is out of date: {why}")).hint("make a new one with `stead plan --json`")
}

/// What carrying a plan out is trusted with.
fn marks(planned: &Planned) -> impl Iterator<Item = &Mark> {
    planned.plan.changes.iter().flat_map(|change| &change.trust)
}

/// What building images that are not built yet is trusted with.
fn image_marks(
    loaded: &LoadedProject,
    lock: &Lock,
    names: &BTreeSet<Name>,
    observation: &Observation,
    store: &Store,
) -> Vec<Mark> {
    let facts = StoreFacts { store, scanner: &observation.scanner };
    let built = |name: &Name| matches!(plan::walk(&loaded.project, lock, name, &facts), plan::Walk::Built(_));
    let pending = consent::with_needs(loaded, names).into_iter().filter(|name| !built(name));
    pending.flat_map(|name| plan::of_image(&loaded.project, &loaded.places, &observation.observed, &name)).collect()
}

/// Takes the ports, subnets and addresses of a plan before anybody else does, until they are on record; makes
/// the plan anew, if somebody has taken any since it was made.
fn reserve(
    loaded: &LoadedProject,
    (lock, store): (&Lock, &Store),
    observation: &mut Observation,
    planned: &mut Planned,
    options: &UpOptions,
) -> Result<()> {
    let instance = &loaded.instance;
    let _ledger = network::lock_ledger(&instance.home)?;
    let taken = network::taken(&instance.home, &instance.id)?;
    if taken != observation.observed.taken {
        observation.observed.taken = taken;
        let before = std::mem::replace(planned, make_plan(loaded, lock, observation, store)?);
        only_these(planned, &options.only, &observation.observed.record);
        if options.exactly.is_some() && planned.plan != before.plan {
            return Err(outdated("another project has taken a port or a subnet of it"));
        }
    }
    let all = planned.desired.values();
    let outside = all.clone().flat_map(|one| &one.networks).filter(|attached| attached.record.external);
    let reservation = Reservation {
        project: loaded.project.name.to_string(),
        folder: instance.folder.display().to_string(),
        ports: all.flat_map(|one| one.ports.clone()).collect(),
        subnets: planned.networks.values().map(|network| network.subnet).collect(),
        outside: outside.map(|attached| (attached.record.bridge.clone(), attached.address)).collect(),
    };
    reservation.keep(&instance.home, &instance.id)
}

/// Leaves out of a plan what concerns containers that are not meant.
fn only_these(planned: &mut Planned, only: &BTreeSet<Name>, record: &InstanceRecord) {
    if only.is_empty() {
        return;
    }
    let meant = |name: &str| {
        let wished = planned.desired.get(name).map(|one| &one.container);
        wished.or_else(|| record.containers.get(name).map(|known| &known.container)).is_some_and(|name| only.contains(name))
    };
    let kept = planned.plan.changes.iter().filter(|change| !change.kind.is_container() || meant(&change.name));
    planned.plan.changes = kept.cloned().collect();
}

/// The first plan's images with their causes, the second plan's containers with what became certain.
fn merge(first: &[Change], second: &[Change]) -> Vec<Change> {
    let images: BTreeMap<&str, &Change> =
        first.iter().filter(|change| change.kind == Kind::Image).map(|change| (change.name.as_str(), change)).collect();
    let kept = first.iter().filter(|change| matches!(change.kind, Kind::Lock | Kind::Image)).cloned();
    let refined = second.iter().cloned().map(|mut change| {
        for cause in &mut change.causes {
            let image = cause.image.take().and_then(|name| images.get(name.as_str()));
            if let Some(deeper) = image.and_then(|image| image.causes.first()) {
                cause.text = format!("{} ← {}", cause.text, deeper.text);
                cause.place = cause.place.take().or_else(|| deeper.place.clone());
            }
        }
        change
    });
    kept.chain(refined).collect()
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
    let progress = Arc::new(crate::fetch::Progress::default());
    let shown = progress.clone();
    let facts = StoreFacts { store, scanner: &observation.scanner };
    let ran: Mutex<BTreeMap<Name, Vec<usize>>> = Mutex::default();
    let report = |event: Event| {
        if let (true, Event::Started { image, step, index: Some(index) }) = (options.why, &event) {
            let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
            let ran = ran.entry(image.clone()).or_default();
            let known = (&loaded.project, &loaded.places, lock, &observation.observed);
            let cause = plan::step_cause(known, &facts, image, *index, ran);
            ran.push(*index);
            reporter.report(Progress::Why { image: image.clone(), step: step.clone(), cause });
        }
        reporter.report(Progress::Build(event));
    };
    let builder = Builder {
        home: &loaded.instance.home,
        network: Mutex::default(),
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
        ssh: options.ssh,
    };
    let built = watched(reporter, &shown, || builder.build(names))?;
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
    let adds = loaded.project.images.values().flat_map(|image| &image.steps);
    let files = adds.filter_map(|step| match step {
        Step::Add(Add { source: AddSource::Url { sha256, .. }, .. }) => *sha256,
        _ => None,
    });
    pin_all(&loaded.instance, store, record, lock, files.collect())
}

/// As [`pin`], for what needs no project file.
///
/// # Errors
/// Those of writing.
pub fn pin_record(instance: &Instance, store: &Store, record: &InstanceRecord, lock: &Lock) -> Result<()> {
    pin_all(instance, store, record, lock, BTreeSet::new())
}

fn pin_all(
    instance: &Instance,
    store: &Store,
    record: &InstanceRecord,
    lock: &Lock,
    mut digests: BTreeSet<Digest>,
) -> Result<()> {
    let images =
        record.images.values().map(|image| image.digest).chain(record.containers.values().map(|container| container.image));
    let images = images.chain(record.commits.values().copied());
    for digest in images.collect::<BTreeSet<_>>() {
        digests.insert(digest);
        if let Some(image) = crate::image::load(store, &digest) {
            digests.extend(image.parts());
            digests.insert(plan::image_key(lock.epoch, &image.config, &image.layers));
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
    digests.extend(lock.images.values().flat_map(|image| image.platforms.values()));
    digests.extend(lock.remotes.values().filter_map(|known| Digest::parse(known)));
    store.set_root(&instance.id, &Pin { folder: instance.folder.clone(), project: record.project.clone(), digests })
}

/// Ends what runs and is not on record, and what builds left: by an `up` or a `build` that was killed.
fn sweep(instance: &Instance, record: &InstanceRecord) -> Result<()> {
    monitor::sweep_builds(&instance.home)?;
    crate::build::sweep();
    for name in instance.container_folders()? {
        // A one-off container belongs to the command that runs it, while that lives.
        let somebodys = is_one_off_replica(&name) && instance.container(&name).alive();
        if !record.containers.contains_key(&name) && !somebodys {
            down::end(instance, &name)?;
            down::forget(instance, &name);
        }
    }
    Ok(())
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

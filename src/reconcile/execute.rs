//! `up`: observe, plan, get consent, reserve, then hand the plan's tasks to the scheduler. `build` is a part of it.

use super::converge::Executor;
use super::crash::boundary;
use super::data;
use super::down;
use super::forge::{Building, Forge};
use super::generations::{self, Reached};
use super::pins::pin;
use super::resolve::{complete_lock, trusted};
use super::schedule::{self, State};
use crate::build::StoreFacts;
use crate::instance::{
    Entry, Failure, Instance, LoadedProject, Observation, Progress, Reporter, UpOptions, all_instances, consent,
    generation_numbers, is_one_off_replica, keep_lock, observe, private_folder, read_lock,
};
use crate::library::watched;
use crate::lock::Lock;
use crate::model::{Context, Error, Name, Result};
use crate::monitor::{self, now_ms};
use crate::network::{self, Reservation};
use crate::plan::{self, Change, Image, InstanceRecord, JobState, Known, Mark, Object, Outlook, Plan, Planned, Seen};
use crate::store::{Lease, Store};
use crate::volume;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;

/// The outcome of `up`.
#[derive(Debug, Default)]
pub struct Converged {
    pub changes: Vec<Change>,
    pub failures: Vec<Failure>,
}

/// Makes a plan without writing anything.
///
/// # Errors
/// Returns what makes the project impossible to carry out.
pub fn plan_only(loaded: &LoadedProject) -> Result<Planned> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    let observation = observe(loaded)?;
    make_plan(loaded, &lock, &observation, &store, &BTreeSet::new())
}

/// Makes a plan and tells what would come of it, without writing anything.
///
/// # Errors
/// Fails as [`plan_only`] does.
pub fn foresee(loaded: &LoadedProject) -> Result<(Planned, Outlook)> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    let observation = observe(loaded)?;
    let planned = make_plan(loaded, &lock, &observation, &store, &BTreeSet::new())?;
    let facts = StoreFacts { store: &store, scanner: &observation.scanner };
    let (project, places) = (&loaded.project, &loaded.places);
    let known = Known { project, places, lock: &lock, observed: &observation.observed, facts: &facts };
    let next = generation_numbers(&loaded.instance)?.last().map_or(1, |last| last + 1);
    let outlook = plan::outlook(known, &planned, next);
    Ok((planned, outlook))
}

fn make_plan(
    loaded: &LoadedProject,
    lock: &Lock,
    observation: &Observation,
    store: &Store,
    only: &BTreeSet<Name>,
) -> Result<Planned> {
    let facts = StoreFacts { store, scanner: &observation.scanner };
    plan::plan((&loaded.project, &loaded.places, lock), &observation.observed, &facts, only)
}

/// Carries out a saved plan exactly, or refuses because something has changed since it was made.
///
/// # Errors
/// Fails when the plan is out of date, and like [`up`].
pub fn apply_saved(loaded: &LoadedProject, saved: Plan, options: UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    up(loaded, &UpOptions { exactly: Some(saved), ..options }, reporter)
}

/// Builds images and does nothing else.
///
/// # Errors
/// Returns the error of the first step that failed.
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
        // The user may take time to answer, and nobody else should have to wait for that.
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
    let forge = Forge::new((loaded, &store, &lease), &observation, options, reporter);
    let tasks = plan::building(&loaded.project, &Vec::from_iter(consent::with_needs(loaded, names)), &BTreeSet::new());
    let building = Building { forge: &forge, lock: &lock };
    let states = watched(reporter, &forge.progress, || schedule::run(&tasks, &building));
    let images = forge.finish();
    schedule::interrupted()?;
    Error::all(schedule::failed(states))?;
    forge.remember(&lock, &images, &mut record)?;
    observation.scanner.keep(&loaded.instance.scan_cache());
    loaded.instance.save(&record)?;
    pin(loaded, &store, &record, &lock)?;
    Ok(images)
}

/// Makes the machine match the project.
///
/// # Errors
/// Returns what stops everything: a broken plan, a build step that fails, a port that is taken. Containers that do
/// not come up are part of the outcome; everything else is carried out as far as possible.
pub fn up(loaded: &LoadedProject, options: &UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    let instance = &loaded.instance;
    let store = Store::at(&instance.home.store);
    store.prepare()?;
    let lease = Mutex::new(Lease::open(&store)?);
    let look = || -> Result<_> {
        let mut observation = observe(loaded)?;
        if options.keep_drift {
            observation.observed.drift.clear();
        }
        let lock = trusted(loaded, read_lock(instance)?)?;
        let planned = make_plan(loaded, &lock, &observation, &store, &options.only)?;
        if options.exactly.as_ref().is_some_and(|saved| planned.plan != *saved) {
            return Err(outdated("the project, its lock or this machine changed since it was made"));
        }
        Ok((observation, lock, planned))
    };
    let mut queue = instance.lock()?;
    let (mut observation, mut lock, mut planned) = look()?;
    loop {
        let missing = consent::missing(instance, marks(&planned), &options.allow)?;
        if missing.is_empty() {
            break;
        }
        // The user may take time to answer, and nobody else should have to wait for that.
        drop(queue);
        consent::ask(instance, &missing, &options.command, reporter)?;
        queue = instance.lock()?;
        (observation, lock, planned) = look()?;
    }
    if !options.data_kept {
        data::refuse_halves(instance)?;
    }
    reporter.report(Progress::Scanned(observation.scanner.clone()));
    sweep(instance, &observation.observed.record)?;
    if let Some(warning) = vanished(loaded)? {
        reporter.report(Progress::Warning(warning));
    }
    if planned.plan.tasks.is_empty() {
        note_done(instance, &observation)?;
        if loaded.restored.is_some() {
            // Going to a generation that is there already counts: the next rollback goes one further.
            keep_data(instance, options, reporter)?;
            let record = &observation.observed.record;
            let reached = Reached { command: &options.command, ok: true, changes: &[], images: &planned.built, record };
            generations::keep(loaded, &observation, &store, &reached)?;
        }
        observation.scanner.keep(&instance.scan_cache());
        keep_lock(instance, &lock);
        crate::ship::revive(&instance.home.run.join(&instance.id))?;
        return Ok(Converged::default());
    }
    reserve(loaded, (&lock, &store), &mut observation, &mut planned, options)?;
    reporter.report(Progress::Planned(planned.plan.clone()));
    boundary();
    if planned.plan.changes().any(is_of_environment) {
        if let Err(error) = keep_data(instance, options, reporter) {
            Reservation::end(&instance.home, &instance.id)?;
            return Err(error);
        }
        boundary();
    }
    let (tasks, planned) = (planned.plan.tasks.clone(), &planned);
    let forge = Forge::new((loaded, &store, &lease), &observation, options, reporter);
    let executor = Executor::new(&forge, planned, &lock);
    let states = if planned.builds() {
        watched(reporter, &forge.progress, || schedule::run(&tasks, &executor))
    } else {
        schedule::run(&tasks, &executor)
    };
    let failures = executor.failures(&tasks, &states);
    // Tasks that never began changed nothing.
    let begun = tasks.iter().zip(&states).filter(|(_, state)| matches!(state, State::Done | State::Failed(..)));
    let changes: Vec<Change> = begun.flat_map(|(task, _)| task.changes.clone()).collect();
    let stopped = tasks.iter().zip(states).filter(|(task, _)| !task.action.is_of_one()).map(|(_, state)| state);
    let stopped = schedule::interrupted().and_then(|()| Error::all(schedule::failed(stopped)));
    let ok = stopped.is_ok() && failures.is_empty();
    let entry = Entry { at: now_ms(), command: options.command.clone(), ok, changes: changes.clone() };
    let (images, record) = executor.reached();
    // Volumes that went back make another environment, too.
    let is_new = changes.iter().any(is_of_environment) || options.data_kept && ok;
    let reached = Reached { command: &options.command, ok, changes: &changes, images: &images, record: &record };
    let kept = Reservation::end(&instance.home, &instance.id)
        .and_then(|()| executor.pin())
        .and_then(|()| entry.add(instance))
        .and_then(|()| if is_new { generations::keep(loaded, &observation, &store, &reached) } else { Ok(()) });
    // The error that stopped everything may be the cause of the other one, so it is the one that is reported.
    stopped.and(kept)?;
    executor.warn_of_blockers();
    Ok(Converged { changes, failures })
}

/// Keeps the data of the generation that is about to be left.
fn keep_data(instance: &Instance, options: &UpOptions, reporter: &dyn Reporter) -> Result<()> {
    match generation_numbers(instance)?.last() {
        Some(number) if !options.data_kept => {
            // While files are watched, one generation follows the other faster than anybody goes back.
            if options.keep_drift {
                return data::drop_stale(instance, *number, reporter);
            }
            data::keep_cheaply(instance, *number, reporter);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a change makes another environment: a packet filter that was flushed is none.
fn is_of_environment(change: &Change) -> bool {
    !matches!(change.object, Object::Firewall | Object::Setting)
}

/// Notes the jobs that were done while no `up` waited for them: after a boot nothing else tells.
fn note_done(instance: &Instance, observation: &Observation) -> Result<()> {
    let mut record = observation.observed.record.clone();
    let is_done = |name: &String| observation.observed.containers.get(name) == Some(&Seen::Finished);
    let done: Vec<_> = record
        .containers
        .iter_mut()
        .filter(|(name, container)| container.job == Some(JobState::Begun) && is_done(name))
        .map(|(_, container)| container.job = Some(JobState::Done))
        .collect();
    if done.is_empty() { Ok(()) } else { instance.save(&record) }
}

/// Says so if this project was up in another directory that is gone: its containers run on and keep their ports, and its
/// volumes stay there.
///
/// # Errors
/// Fails when the records of other projects cannot be read.
pub fn vanished(loaded: &LoadedProject) -> Result<Option<String>> {
    let own = &loaded.instance;
    let left = |(instance, record): &(Instance, InstanceRecord)| {
        let same = instance.id != own.id && record.project == loaded.project.name.as_str();
        let has =
            !record.containers.is_empty() || volume::existing(&instance.home, &instance.id).is_ok_and(|all| !all.is_empty());
        same && has && instance.folder.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    if own.state().join("record.json").exists() {
        return Ok(None);
    }
    Ok(all_instances(&own.home)?.into_iter().find(left).map(|(instance, _)| {
        let folder = instance.folder.display();
        format!(
            "the project \"{}\" was up in {folder}, which is gone: what it has there stays there, volumes too; move the directory \
             back, or take it down with `stead -C {folder} down`",
            loaded.project.name
        )
    }))
}

/// The error for a saved plan that is out of date.
fn outdated(why: &str) -> Error {
    Error::new(format!("the plan is out of date: {why}")).hint("make a new one with `stead plan --json`")
}

/// The marks of a plan, which need consent before it is carried out.
fn marks(planned: &Planned) -> impl Iterator<Item = &Mark> {
    planned.plan.changes().flat_map(|change| &change.trust)
}

/// The marks of images that are not built yet, which need consent before they are built.
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

/// Reserves the ports, subnets and addresses of a plan until they are in the record. If anything has been taken
/// since the plan was made, the plan is made again.
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
        let before = std::mem::replace(planned, make_plan(loaded, lock, observation, store, &options.only)?);
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

/// Ends containers that run but are not in the record, and removes what builds left: both come from an `up` or a `build`
/// that was killed.
fn sweep(instance: &Instance, record: &InstanceRecord) -> Result<()> {
    monitor::sweep_builds(&instance.home)?;
    crate::build::sweep();
    for name in instance.container_folders()? {
        // A one-off container belongs to the command that runs it, as long as that lives.
        let somebodys = is_one_off_replica(&name) && instance.container(&name).alive();
        if !record.containers.contains_key(&name) && !somebodys {
            down::end(instance, &name)?;
            down::forget(instance, &name);
        }
    }
    Ok(())
}

/// The time since `start`, as text.
#[must_use]
pub fn since(start: Instant) -> String {
    took(start.elapsed().as_millis())
}

/// A number of milliseconds, as text.
#[must_use]
pub fn took(millis: u128) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

/// Prepares an instance's directories for a one-off container.
///
/// # Errors
/// Fails when a directory cannot be created.
pub fn prepare_folders(instance: &Instance) -> Result<()> {
    private_folder(&instance.state())?;
    private_folder(&instance.home.run.join(&instance.id)).context(|| "cannot prepare the instance".into())
}

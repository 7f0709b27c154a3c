//! Generations of an environment: listing, comparing and bringing back.

use super::containers::{Stop, stop};
use super::volumes::{discard_half, refuse_running};
use crate::instance::{
    Generation, Instance, LoadedProject, Progress, Reporter, UpOptions, agree, forget_generation, generation, generation_numbers,
    generations, newest_generation,
};
use crate::model::{Error, Name, Result};
use crate::plan::{ContainerRecord, JobState, Planned, Version, compare, volume_aspect};
use crate::project::{Locations, MountSource};
use crate::reconcile::{self, Converged};
use crate::store::Store;
use crate::volume::{self, Cost, SnapshotName};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// The generation that a command means by a number; without one, the newest.
///
/// # Errors
/// Fails when there is none, or when it is damaged.
pub fn generation_meant(instance: &Instance, number: Option<u64>) -> Result<Generation> {
    match number {
        Some(number) => generation(instance, number),
        None => newest_generation(instance)?
            .ok_or_else(|| Error::new("there is no generation yet").hint("`stead up` makes the first one")),
    }
}

/// The generation that is meant by a number, and `None` for what names a commit. Digits alone are a generation, unless there is
/// none of that number and as many digits can begin the id of a commit.
///
/// # Errors
/// Fails when there is no such generation, or when it is damaged.
pub fn generation_or_commit(instance: &Instance, at: &str) -> Result<Option<Generation>> {
    /// The fewest digits that git takes for the beginning of an id.
    const FEWEST: usize = 4;
    let Ok(number) = at.parse() else { return Ok(None) };
    if at.len() >= FEWEST && !generation_numbers(instance)?.contains(&number) {
        return Ok(None);
    }
    generation(instance, number).map(Some)
}

/// What is different between two generations, line by line, in the words of the project.
pub fn generations_differ(old: &Generation, new: &Generation) -> Vec<String> {
    fn version(of: &Generation) -> Version<'_> {
        Version { project: &of.project, containers: &of.containers, images: &of.records }
    }
    compare(&version(old), &version(new))
}

/// The generation that `rollback` goes to without a number: the newest one that came up before the current one. Going back
/// twice goes two back.
///
/// # Errors
/// Fails when there is none.
pub fn generation_before(instance: &Instance) -> Result<Generation> {
    let all = generations(instance)?;
    let current = all.last().map(Generation::origin);
    let before = |one: &&Generation| one.of.is_none() && one.ok && current.is_some_and(|current| one.number < current);
    all.iter().rfind(before).cloned().ok_or_else(|| {
        Error::new("there is no earlier generation that came up")
            .hint("`stead history` lists what there is; `stead rollback NUMBER` goes to any of it")
    })
}

/// A generation as a project, so that `up` brings it back.
///
/// # Errors
/// Fails when something that it needs is no longer in the store.
pub fn restored(instance: &Instance, generation: Generation) -> Result<LoadedProject> {
    let store = Store::at(&instance.home.store);
    let is_there = |image: &crate::plan::Image| {
        crate::image::load(&store, &image.digest).is_some()
            && image.layers.iter().all(|layer| store.layer_path(&layer.diff_id).exists())
    };
    let lost: Vec<&str> = generation.images.iter().filter(|(_, image)| !is_there(image)).map(|(name, _)| name.as_str()).collect();
    if !lost.is_empty() {
        let why = format!(
            "generation {} cannot be brought back: {} {} no longer in the store",
            generation.number,
            lost.join(", "),
            if lost.len() == 1 { "is" } else { "are" }
        );
        let help = match &generation.commit {
            Some(commit) => {
                format!("`git checkout {}` and `stead up` build it again from stead.lock", &commit[..commit.len().min(12)])
            }
            None => "bring the project's files back as they were; `stead up` then builds it again from stead.lock".to_owned(),
        };
        return Err(Error::new(why).hint(help));
    }
    let mut instance = instance.clone();
    instance.project = generation.project.name.to_string();
    // The images are there, so nothing of how they are made matters.
    let project = crate::project::Project { images: BTreeMap::new(), ..generation.project.clone() };
    Ok(LoadedProject {
        instance,
        project,
        places: Locations::default(),
        warnings: Vec::new(),
        files: BTreeMap::new(),
        unsettled: Vec::new(),
        restored: Some(Box::new(generation)),
    })
}

/// What bringing back a generation would do.
///
/// # Errors
/// Fails when something that it needs is gone, or is in the way.
pub fn plan_back(instance: &Instance, generation: Generation) -> Result<Planned> {
    reconcile::plan_only(&restored(instance, generation)?)
}

/// Brings back a generation.
///
/// # Errors
/// Fails when something that it needs is gone, and as `up` does.
pub fn go_back(instance: &Instance, generation: Generation, options: &UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    reconcile::up(&restored(instance, generation)?, options, reporter)
}

/// The volumes of a generation: those that it declares, and those that its containers mount, also for what images declare as
/// data.
fn volumes_of(generation: &Generation) -> BTreeSet<Name> {
    let mounts = generation.project.containers.values().flat_map(|container| &container.mounts);
    let mounted = mounts.filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name),
        MountSource::Bind(_) | MountSource::Image(_) => None,
    });
    let of_images = generation.containers.values().flat_map(ContainerRecord::volumes);
    generation.project.volumes.keys().chain(mounted).cloned().chain(of_images).collect()
}

/// The snapshots that belong to a generation, one for each of its volumes.
fn data_of(instance: &Instance, generation: &Generation) -> Result<Vec<(Name, SnapshotName)>> {
    let (home, id, number) = (&instance.home, &instance.id, generation.number);
    let name = SnapshotName::of_generation(number);
    let newest = generation_numbers(instance)?.last().copied();
    let is_up = || {
        Error::new(format!("generation {number} is what is up, so its data is what the volumes have"))
            .hint("`stead history` lists the others")
    };
    let volumes = volumes_of(generation);
    // What was kept of it by an `up` that did not get any further is older than what the volumes have.
    if newest == Some(number) && !volumes.is_empty() && volume::half_restored(home, id, newest)?.is_none() {
        return Err(is_up());
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for one in volumes {
        let there = volume::snapshots(home, id, &one)?.iter().any(|snapshot| snapshot.name == name);
        if there { found.push((one, name.clone())) } else { missing.push(one.to_string()) }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    if newest == Some(number) {
        return Err(is_up());
    }
    let why = if volume::can_share(home) {
        "it was left by a stead or a command that kept none, by `watch`, or before a job had filled the volume, or that has too many files"
    } else {
        "the file system of the volumes cannot clone files, as btrfs and xfs can"
    };
    let noun = if missing.len() == 1 { "the volume" } else { "the volumes" };
    let what = format!("no data was kept for generation {number}: {noun} {}", missing.join(", "));
    Err(Error::new(format!("{what} ({why})")).hint(format!(
        "`stead rollback {number}` goes back without the data; `stead volume snapshot` keeps a volume by hand, and `stead volume \
         restore` brings it back"
    )))
}

/// Brings back a generation with the data that its volumes had when it was left. What they have now is kept for the generation
/// that is left.
///
/// # Errors
/// Fails as [`go_back`] does, and before anything is stopped when the data of a volume is missing. If the data cannot be brought
/// back, the volumes have what they had, and containers are stopped. If the containers cannot be brought up after that, the
/// volumes have the data, and nothing else is done until this, or going back with the data of another generation, is finished.
pub fn go_back_with_data(
    instance: &Instance,
    generation: Generation,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<Converged> {
    let (number, records) = (generation.number, generation.containers.clone());
    let data = data_of(instance, &generation)?;
    let loaded = restored(instance, generation.clone())?;
    agree(&loaded, &BTreeSet::new(), options, reporter)?;
    let mut running = BTreeSet::new();
    for (name, _) in &data {
        running.extend(reconcile::running_users(instance, name)?);
    }
    let running: Vec<String> = running.into_iter().collect();
    // Without names all containers would be stopped. They come up again, so that no stop is on record.
    if !running.is_empty() {
        let told = |name: &str| reporter.report(Progress::Container { name: name.to_owned(), what: "stopped" });
        stop(instance, Some(&loaded), &running, Stop { grace: None, forgotten: true }, &told)?;
    }
    let left = {
        let _queue = instance.lock()?;
        let left = generation_numbers(instance)?.last().copied();
        let data = data_of(instance, &generation)?;
        for (name, _) in &data {
            refuse_running(instance, name, "it was started meanwhile: run the command again")?;
        }
        keep_present(instance, left, &data)?;
        data.iter().try_for_each(|(name, _)| discard_half(instance, name))?;
        volume::restore_all(&instance.home, &instance.id, (number, left), &data)?;
        done_again(instance, &records)?;
        left
    };
    let came = reconcile::up(&loaded, &UpOptions { data_kept: true, ..options.clone() }, reporter);
    let _queue = instance.lock()?;
    // Without a new generation, what is on record is not what the volumes have: that it is kept for `left` must not be lost.
    if generation_numbers(instance)?.last().copied() != left {
        volume::end_restoring(&instance.home, &instance.id)?;
    }
    came
}

/// Keeps what volumes have now for the generation that is left, whatever that costs. It is none of those whose data is brought
/// back: either it is another one, or it was kept before.
fn keep_present(instance: &Instance, left: Option<u64>, data: &[(Name, SnapshotName)]) -> Result<()> {
    let (home, id) = (&instance.home, &instance.id);
    // What is there after a rollback that was not finished is of another generation, or of two; what there was, was kept.
    if volume::half_restored(home, id, left)?.is_some() {
        return Ok(());
    }
    let Some(present) = left else { return Ok(()) };
    let existing = volume::existing(home, id)?;
    let half = instance.record()?.seeding;
    let going: BTreeSet<&Name> = data.iter().map(|(name, _)| name).collect();
    for name in &volume::with_snapshots(home, id)? {
        // Each of those that go back has a snapshot.
        if going.contains(name) && existing.contains(name) && !half.contains(name) {
            volume::keep(home, id, name, present, Cost::Any, ())?;
        } else {
            // What an `up` that did not get any further has kept of it would be taken for its data.
            reconcile::forget_data(instance, name, present)?;
        }
    }
    Ok(())
}

/// Notes that what the jobs of a generation did is in the data again, so that none of them runs again. What
/// runs now is left alone.
fn done_again(instance: &Instance, records: &BTreeMap<String, ContainerRecord>) -> Result<()> {
    let mut record = instance.record()?;
    // One that runs has yet to end: with a record that says otherwise nothing would wait for it.
    let is_over = |name: &str| !instance.container(name).alive();
    for (name, done) in records.iter().filter(|(name, one)| one.job == Some(JobState::Done) && is_over(name)) {
        let mut done = done.clone();
        for one in done.volumes() {
            done.aspects.insert(volume_aspect(&one), volume::birth(&instance.home, &instance.id, &one)?);
        }
        // Its logs go on behind those of the runs that it has had.
        done.generation = record.containers.get(name).map_or(done.generation, |known| known.generation.max(done.generation));
        record.containers.insert(name.clone(), done);
    }
    record.serial += 1;
    instance.save(&record)
}

/// Forgets all but the newest generations. Returns how many were forgotten. The newest one always stays: it is what is up.
///
/// # Errors
/// Fails when one cannot be removed.
pub fn keep_generations(instance: &Instance, count: NonZeroUsize) -> Result<usize> {
    let _queue = instance.lock()?;
    let store = Store::at(&instance.home.store);
    let all = generation_numbers(instance)?;
    let needed = volume::half_restored(&instance.home, &instance.id, all.last().copied())?;
    let old: Vec<u64> = all.into_iter().rev().skip(count.get()).collect();
    let old: Vec<u64> = old.into_iter().filter(|number| Some(*number) != needed).collect();
    for number in &old {
        reconcile::unpin(&store, instance, *number);
        volume::forget_generation(&instance.home, &instance.id, *number)?;
        forget_generation(instance, *number)?;
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::store::Home;
    use crate::sys;

    fn job(state: JobState) -> ContainerRecord {
        ContainerRecord {
            container: Name::parse("load").unwrap(),
            replica: 1,
            image_name: "made".into(),
            image: Digest::of("image"),
            aspects: BTreeMap::new(),
            private: BTreeSet::new(),
            addresses: BTreeMap::new(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            web: None,
            job: Some(state),
            in_turns: false,
            generation: 1,
        }
    }

    #[test]
    fn a_job_that_runs_is_not_on_record_as_done() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::new(&Home::find(Some(&folder.path().join("root"))), folder.path(), "stead.kdl");
        std::fs::create_dir_all(instance.state()).unwrap();
        let names = ["load-1", "over-1"];
        let mut record = instance.record().unwrap();
        record.containers = names.iter().map(|name| ((*name).to_owned(), job(JobState::Begun))).collect();
        instance.save(&record).unwrap();
        let place = instance.container("load-1");
        std::fs::create_dir_all(place.join("")).unwrap();
        let _monitor = sys::Lock::attempt(&place.join("lock")).unwrap().unwrap();
        let done = names.iter().map(|name| ((*name).to_owned(), job(JobState::Done))).collect();
        done_again(&instance, &done).unwrap();
        let record = instance.record().unwrap();
        let states = names.map(|name| record.containers[name].job);
        assert_eq!(states, [Some(JobState::Begun), Some(JobState::Done)]);
    }
}

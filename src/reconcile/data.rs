//! The data of generations: what volumes had when a generation was left, kept where that is cheap, and brought back.

use crate::instance::{Instance, Progress, Reporter, generation_numbers};
use crate::model::{Error, Name, Result};
use crate::monitor::{self, Held};
use crate::volume::{self, Cost, SnapshotName};
use std::collections::BTreeSet;

/// The running containers that have a volume mounted.
///
/// # Errors
/// Fails when the containers cannot be listed.
pub fn running_users(instance: &Instance, name: &Name) -> Result<BTreeSet<String>> {
    let all = instance.container_folders()?.into_iter();
    Ok(all.filter(|full| instance.has_volume(&instance.container(full), name)).collect())
}

/// Holds the running containers that use a volume still; gives the names of those for which that is impossible.
///
/// # Errors
/// Fails when the containers cannot be listed.
pub fn hold_users(instance: &Instance, name: &Name) -> Result<(Vec<Held>, Vec<String>)> {
    let (mut held, mut moving) = (Vec::new(), Vec::new());
    for user in running_users(instance, name)? {
        let folder = instance.container(&user);
        match monitor::hold(&folder) {
            Ok(one) => held.push(one),
            // It may have ended by now.
            Err(_) if !folder.alive() => {}
            Err(_) => moving.push(user),
        }
    }
    Ok((held, moving))
}

/// Keeps the data of the generation that is about to be left, where that is cheap; whoever wants to go back to it is told where
/// it was not. What was kept of it before, by an `up` that did not get any further, is older than the generation and goes in any
/// case. The caller holds the instance's lock.
pub fn keep_cheaply(instance: &Instance, number: u64, reporter: &dyn Reporter) {
    let (home, id) = (&instance.home, &instance.id);
    let all = || -> Result<()> {
        let names = volume::existing(home, id)?;
        // Without volumes nothing is tried, and where nothing can be shared, no container is held still for it.
        let shares = !names.is_empty() && volume::can_share(home);
        let half = instance.record()?.seeding;
        let mut errors = Vec::new();
        if shares {
            for name in names.difference(&half) {
                errors.extend(keep_one(instance, name, number, reporter).err());
            }
        }
        let old = volume::with_snapshots(home, id)?;
        for name in old.iter().filter(|name| !shares || half.contains(*name) || !names.contains(*name)) {
            errors.extend(drop_one(instance, name, number, reporter).err());
        }
        Error::all(errors)
    };
    if let Err(error) = all() {
        let why = format!("the data of generation {number} is not kept, and `rollback --data` will not go to it");
        reporter.report(Progress::Warning(Error::caused(why, error).chain()));
    }
}

fn keep_one(instance: &Instance, name: &Name, number: u64, reporter: &dyn Reporter) -> Result<()> {
    let kept = hold_users(instance, name).and_then(|(held, moving)| {
        // What is written meanwhile would be there in part.
        if moving.is_empty() { volume::keep(&instance.home, &instance.id, name, number, Cost::Cheap, held) } else { Ok(false) }
    });
    match kept {
        Ok(true) => Ok(()),
        Ok(false) => drop_one(instance, name, number, reporter),
        Err(error) => Error::all(std::iter::once(error).chain(drop_one(instance, name, number, reporter).err()).collect()),
    }
}

/// Forgets what was kept of a volume for a generation, and tells so if there was something.
fn drop_one(instance: &Instance, name: &Name, number: u64, reporter: &dyn Reporter) -> Result<()> {
    if forget_data(instance, name, number)? {
        reporter.report(Progress::Warning(format!(
            "what was kept of the volume {name} for generation {number} is older than what it has now, and is deleted: `rollback \
             --data` will not go to it"
        )));
    }
    Ok(())
}

/// Forgets what was kept for the generation that is about to be left without its data being kept. The caller holds the instance's
/// lock.
///
/// # Errors
/// Fails when it cannot be deleted: it would be taken for the data of that generation.
pub fn drop_stale(instance: &Instance, number: u64, reporter: &dyn Reporter) -> Result<()> {
    let all = volume::with_snapshots(&instance.home, &instance.id)?;
    all.iter().try_for_each(|name| drop_one(instance, name, number, reporter))
}

/// Forgets what was kept of a volume for a generation: the volume is not filled to its end now, and what is older would be taken
/// for its data. Returns whether there was something. The caller holds the instance's lock.
///
/// # Errors
/// Fails when that cannot be deleted.
pub fn forget_data(instance: &Instance, volume: &Name, number: u64) -> Result<bool> {
    let (home, id, kept) = (&instance.home, &instance.id, SnapshotName::of_generation(number));
    let is_there = volume::snapshots(home, id, volume)?.iter().any(|snapshot| snapshot.name == kept);
    if is_there {
        volume::delete_snapshot(home, id, volume, &kept)?;
    }
    Ok(is_there)
}

/// Refuses to go on while volumes are of two generations, or of another one than what is up.
///
/// # Errors
/// Fails when a rollback of data was not finished.
pub fn refuse_halves(instance: &Instance) -> Result<()> {
    let newest = generation_numbers(instance)?.last().copied();
    match volume::half_restored(&instance.home, &instance.id, newest)? {
        None => Ok(()),
        Some(number) => Err(Error::new(format!(
            "a rollback of data to generation {number} was not finished: some volumes may have its data, and some not, or its \
             containers did not come up"
        ))
        .hint(format!("`stead rollback --data {number}` finishes it"))),
    }
}

//! The data of generations: what volumes had when a generation was left, kept where that is cheap, and brought back.

use crate::instance::{Instance, Progress, Reporter};
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
/// it was not. The caller holds the instance's lock.
pub fn keep_cheaply(instance: &Instance, number: u64, reporter: &dyn Reporter) {
    let (home, id) = (&instance.home, &instance.id);
    let keep = |name: &Name| -> Result<()> {
        let (held, moving) = hold_users(instance, name)?;
        // What is written meanwhile would be there in part.
        if moving.is_empty() { volume::keep(home, id, name, number, Cost::Cheap, held).map(drop) } else { Ok(()) }
    };
    let all = || -> Result<()> {
        let names = volume::existing(home, id)?;
        // Without volumes nothing is tried, and where nothing can be shared, no container is held still for it.
        if names.is_empty() || !volume::can_share(home) {
            return Ok(());
        }
        let half = instance.record()?.seeding;
        names.iter().try_for_each(|name| if half.contains(name) { forget_data(instance, name, number) } else { keep(name) })
    };
    if let Err(error) = all() {
        let why = format!("the data of generation {number} is not kept, and `rollback --data` will not go to it");
        reporter.report(Progress::Warning(Error::caused(why, error).chain()));
    }
}

/// Forgets what was kept of a volume for a generation: the volume is not filled to its end now, and what is older would be taken
/// for its data. The caller holds the instance's lock.
///
/// # Errors
/// Fails when that cannot be deleted.
pub fn forget_data(instance: &Instance, volume: &Name, number: u64) -> Result<()> {
    let (home, id, kept) = (&instance.home, &instance.id, SnapshotName::of_generation(number));
    let is_there = volume::snapshots(home, id, volume)?.iter().any(|snapshot| snapshot.name == kept);
    if is_there { volume::delete_snapshot(home, id, volume, &kept) } else { Ok(()) }
}

/// Refuses to go on while volumes are of two generations.
///
/// # Errors
/// Fails when a rollback of data was cut off.
pub fn refuse_halves(instance: &Instance) -> Result<()> {
    match volume::half_restored(&instance.home, &instance.id)? {
        None => Ok(()),
        Some(number) => Err(Error::new(format!(
            "a rollback of data to generation {number} was cut off: some volumes may have its data, and some not"
        ))
        .hint(format!("`stead rollback --data {number}` finishes it"))),
    }
}

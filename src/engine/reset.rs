//! A volume that a job fills once gets the state again that the job gave it.

use super::containers::{Stop, stop};
use super::volumes::{InUse, VolumeCopy, discard_half, refuse_running, unknown};
use crate::instance::LoadedProject;
use crate::model::{Error, Name, Result};
use crate::reconcile::{plan_only, running_users};
use crate::volume;

/// How a volume was reset.
#[derive(Clone, Debug)]
pub enum Reset {
    /// It has the state that its job gave it.
    Seeded(VolumeCopy),
    /// That state is not kept for what the job is made from now, so the volume is gone, and `up` fills it.
    Emptied { job: Name },
}

/// Gives a volume the state again that its job gave it.
///
/// # Errors
/// Fails when the volume has no seed, when a running container uses it and may not be stopped, or cannot be, when no plan can be
/// made, and when something cannot be read or written. The volume is then as it was, but for what a job has left in it half-way.
pub fn reset_volume(loaded: &LoadedProject, typed: &str, in_use: InUse, stopped: &dyn Fn(&str)) -> Result<Reset> {
    let (instance, project) = (&loaded.instance, &loaded.project);
    let Some((name, declared)) = project.volumes.get_key_value(typed) else {
        let known = project.volumes.iter().filter(|(_, volume)| volume.seed.is_some()).map(|(name, _)| name.to_string());
        let none = "a volume is filled by a job with: volume \"db\" { seed from=\"job:load\"; }";
        return Err(unknown(format!("the project has no volume \"{typed}\""), typed, known.collect(), none));
    };
    let Some(job) = &declared.seed else {
        let error = Error::new(format!("no job fills the volume {name}, so there is nothing to reset it to"));
        return Err(error.hint(format!(
            "write: volume \"{name}\" {{ seed from=\"job:NAME\"; }}; `stead volume restore {name}` brings a snapshot back"
        )));
    };
    let planned = plan_only(loaded)?;
    let seed = planned.desired.values().find(|one| one.container == *job).and_then(|one| one.seed.clone());
    let running: Vec<String> = running_users(instance, name)?.into_iter().collect();
    // Without names all containers would be stopped.
    if in_use == InUse::Stopped && !running.is_empty() {
        stop(instance, Some(loaded), &running, Stop::default(), stopped)?;
    }
    let _queue = instance.lock()?;
    refuse_running(instance, name, "`--stop` stops what uses it; `stead up` starts it again")?;
    let (home, id) = (&instance.home, &instance.id);
    let mut kept = volume::snapshots(home, id, name)?.into_iter().map(|snapshot| snapshot.name);
    let kept = kept.rfind(|snapshot| seed.as_ref().is_some_and(|seed| seed.is(snapshot.as_str())));
    discard_half(instance, name)?;
    Ok(match kept {
        Some(snapshot) => {
            let copied = volume::restore(home, id, name, &snapshot)?;
            Reset::Seeded(VolumeCopy { name: name.to_string(), copied, moving: Vec::new() })
        }
        None => {
            if volume::existing(home, id)?.contains(name) {
                volume::remove(home, id, name)?;
            }
            Reset::Emptied { job: job.clone() }
        }
    })
}

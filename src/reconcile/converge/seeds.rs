//! Volumes that a job fills once: marked on record before they appear, and ready for others once their seed is kept.
//!
//! Whatever is killed in between, the mark says that what is in the volume is not whole; then the next `up` begins anew.

use super::super::crash::boundary;
use super::super::schedule::Came;
use super::Executor;
use crate::instance::Instance;
use crate::model::{Error, Name, Result};
use crate::plan::{Desired, JobState, Seed, is_seed};
use crate::volume::{self, SnapshotName};
use std::sync::PoisonError;

/// How many seeds of a volume are kept: those of the branches that one goes back and forth between.
const KEPT: usize = 3;

impl Executor<'_> {
    /// The job that fills a volume, if there is one.
    fn filler(&self, volume: &Name) -> Result<Option<(&Desired, &Seed)>> {
        let all = self.certain()?.desired.values();
        let mut fillers = all.filter_map(|one| Some((one, one.seed.as_ref().filter(|seed| seed.volume == *volume)?)));
        Ok(fillers.next())
    }

    /// Prepares a volume that a job fills. Returns whether the volume is ready: it is whole, or is being filled, or has the state
    /// that the job gave it before.
    pub(super) fn begin_seed(&self, volume: &Name) -> Result<bool> {
        let Some((one, seed)) = self.filler(volume)? else { return Ok(false) };
        if !self.certain()?.starting.contains(&one.name) {
            return Ok(true);
        }
        let (instance, observed) = (self.instance(), &self.forge.observation.observed);
        if seed.is_filled(observed) {
            return Err(Error::new(format!("the volume {volume} is filled already, so the job {} must not run", one.container)));
        }
        let mut record = self.record();
        record.seeding.insert(volume.clone());
        self.save(&mut record)?;
        drop(record);
        let _alone = self.alone();
        if observed.record.volumes.contains(volume) {
            if instance.runs_with_volume(volume) {
                let error = Error::new(format!("the volume {volume} is not filled to its end, and something runs with it"));
                return Err(error.hint("end that: `stead ps` lists what runs"));
            }
            volume::remove(&instance.home, &instance.id, volume)?;
            boundary();
        }
        let Some(kept) = seed.kept(observed) else { return Ok(false) };
        let name = SnapshotName::parse(&kept.name).map_err(Error::new)?;
        let from = kept.elsewhere.as_ref().map_or(instance.id.as_str(), |(id, _)| id);
        // Whoever has the lock of the other directory's instance may be about to delete the seed.
        let _there = match &kept.elsewhere {
            None => None,
            Some((other, _)) => {
                let lock = Instance::attempt(&instance.home, other)?;
                let is_there = |one: volume::Snapshot| one.name == name;
                if lock.is_none() || !volume::snapshots(&instance.home, other, volume)?.into_iter().any(is_there) {
                    // Then the job does it again.
                    return Ok(false);
                }
                lock
            }
        };
        volume::seed(&instance.home, &instance.id, volume, (from, &name))?;
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.clone());
        boundary();
        Ok(true)
    }

    /// Keeps what a volume has been filled with, and takes the mark away. It is the job's result, so it is whole.
    pub(super) fn keep_seed(&self, volume: &Name) -> Result<()> {
        let Some((_, seed)) = self.filler(volume)? else { return Ok(()) };
        let (home, id) = (&self.instance().home, &self.instance().id);
        let name = seed.name().ok_or_else(|| Error::new(format!("the image of the job that fills {volume} is not built")))?;
        let name = SnapshotName::parse(&name).map_err(Error::new)?;
        let mut kept: Vec<SnapshotName> =
            volume::snapshots(home, id, volume)?.into_iter().map(|snapshot| snapshot.name).collect();
        // All others are of users.
        kept.retain(|snapshot| is_seed(snapshot.as_str()));
        if !kept.iter().any(|snapshot| seed.is(snapshot.as_str())) {
            volume::take(home, id, volume, &name, ())?;
            boundary();
            let old = (kept.len() + 1).saturating_sub(KEPT);
            kept.iter().take(old).try_for_each(|snapshot| volume::delete_snapshot(home, id, volume, snapshot))?;
        }
        self.unmark(volume)
    }

    /// Deletes what a job that failed has left in the volume that it was to fill.
    fn give_up(&self, volume: &Name) -> Result<()> {
        let instance = self.instance();
        if !self.record().seeding.contains(volume) {
            return Ok(());
        }
        let _alone = self.alone();
        if volume::existing(&instance.home, &instance.id)?.contains(volume) {
            volume::remove(&instance.home, &instance.id, volume)?;
            boundary();
        }
        self.unmark(volume)
    }

    fn unmark(&self, volume: &Name) -> Result<()> {
        let mut record = self.record();
        if record.seeding.remove(volume) { self.save(&mut record) } else { Ok(()) }
    }
    /// Whether the result of a job is there without a run.
    pub(super) fn is_restored(&self, one: &Desired) -> bool {
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        one.seed.as_ref().is_some_and(|seed| restored.contains(&seed.volume))
    }

    /// Notes that a job is done, without a run: its result is there.
    pub(super) fn note_result(&self, name: &str) -> Result<Came> {
        let mut record = self.record();
        if let Some(known) = record.containers.get_mut(name) {
            known.job = Some(JobState::Done);
        }
        self.save(&mut record)?;
        self.tell(name, "done before");
        Ok(Came::Done)
    }

    /// Whether a job has nothing to do because the volume that it fills is whole.
    pub(super) fn has_filled(&self, name: &str) -> bool {
        let Ok(certain) = self.certain() else { return false };
        let seed = certain.desired.get(name).and_then(|one| one.seed.as_ref());
        !certain.starting.contains(name) && seed.is_some_and(|seed| seed.is_filled(&self.forge.observation.observed))
    }

    /// The error of a job that failed; of the volume that it was to fill, nothing is left.
    pub(super) fn without_seed(&self, name: &str, error: Error) -> Error {
        let Some(seed) = self.planned.desired.get(name).and_then(|one| one.seed.as_ref()) else { return error };
        let (volume, why) = (&seed.volume, error.message());
        match self.give_up(volume) {
            Ok(()) => Error::new(format!("{why}; the volume {volume} is not filled, and the next `up` begins anew")),
            Err(left) => Error::new(format!(
                "{why}; the volume {volume} is not filled, and the next `up` begins anew, because what is in it cannot be deleted \
                 now: {}",
                left.chain()
            )),
        }
    }
}

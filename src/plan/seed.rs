//! Seeds: the state that a job gives to a volume once, and whether that was made before.

use super::observed::{KeptSeed, Observed};
use crate::model::Name;

/// The beginning of the names of snapshots that are seeds.
pub const SEED: &str = "seed-";

/// What a job is to fill.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seed {
    pub volume: Name,
    /// Absent while the job's image is not built.
    pub key: Option<Key>,
}

/// What tells the state that a job gives to a volume from every other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Of everything that the job is made from.
    pub(super) own: String,
    /// Of whatever else could have had a say in it; absent if that cannot be known for another directory.
    pub(super) around: Option<String>,
}

impl Seed {
    /// The name of its snapshot.
    pub fn name(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(format!("{SEED}{}-{}", key.own, key.around.as_deref().unwrap_or("here")))
    }

    /// Whether a snapshot of this directory is this seed.
    pub fn is(&self, snapshot: &str) -> bool {
        self.key.as_ref().is_some_and(|key| snapshot.strip_prefix(SEED).is_some_and(|rest| rest.starts_with(&key.own)))
    }

    /// The snapshot with its state, in this directory or in another one.
    pub fn kept<'o>(&self, observed: &'o Observed) -> Option<&'o KeptSeed> {
        let all = observed.seeds.get(&self.volume)?;
        let shared = self.name().filter(|_| self.key.as_ref().is_some_and(|key| key.around.is_some()));
        let own = all.iter().find(|kept| kept.elsewhere.is_none() && self.is(&kept.name));
        own.or_else(|| all.iter().find(|kept| shared.as_ref() == Some(&kept.name)))
    }

    /// Whether its volume is there, and whole.
    pub fn is_filled(&self, observed: &Observed) -> bool {
        observed.record.volumes.contains(&self.volume) && !observed.record.seeding.contains(&self.volume)
    }
}

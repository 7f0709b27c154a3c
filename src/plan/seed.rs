//! Seeds: the state that a job gives to a volume once, and whether that was made before.

use super::observed::{KeptSeed, Observed};
use crate::model::Name;

/// The beginning of the names of snapshots that are seeds.
const SEED: &str = "seed-";
/// The end of the names of seeds that are of use in their own directory only.
const HERE: &str = "here";
/// How many hexadecimal digits of a digest are in a name.
pub(super) const DIGITS: usize = 24;

/// Whether a snapshot's name is one that we give to seeds. Every other one is a user's, whatever it begins with.
pub fn is_seed(name: &str) -> bool {
    let is_digest = |part: &str| part.len() == DIGITS && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts = name.strip_prefix(SEED).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(own, around)| is_digest(own) && (around == HERE || is_digest(around)))
}

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
        Some(format!("{SEED}{}-{}", key.own, key.around.as_deref().unwrap_or(HERE)))
    }

    /// Whether a snapshot of this directory is this seed.
    pub fn is(&self, snapshot: &str) -> bool {
        let is_own = |key: &Key| snapshot.strip_prefix(SEED).is_some_and(|rest| rest.starts_with(&key.own));
        is_seed(snapshot) && self.key.as_ref().is_some_and(is_own)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_form_that_seeds_get_are_theirs() {
        let digest = "0123456789abcdef01234567";
        for around in [None, Some(digest.to_owned())] {
            let seed = Seed { volume: Name::of_reference("db"), key: Some(Key { own: digest.into(), around }) };
            let name = seed.name().unwrap();
            assert!(is_seed(&name) && seed.is(&name), "{name}");
        }
        let upper = format!("seed-{}-here", digest.to_uppercase());
        for name in
            ["seed-of-monday", "seed-", "seed-0123-here", &format!("seed-{digest}"), &format!("seed-{digest}-mine"), &upper]
        {
            assert!(!is_seed(name), "{name}");
        }
    }
}

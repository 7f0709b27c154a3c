//! What is to be done about a replica, from how it differs from what is wanted.

use super::desired::Desired;
use super::observed::{ContainerRecord, Down, IMAGE_VOLUME, Observed, Seen};
use super::seed::Seed;
use super::task::{Deed, How};
use std::collections::BTreeSet;

/// The aspects that can be changed while a container runs.
const LIVE: [&str; 9] = [
    "limits.cpus",
    "limits.cpu-weight",
    "limits.cpuset",
    "limits.memory",
    "limits.memory-reservation",
    "limits.swap",
    "limits.pids",
    "limits.io",
    "limits.hugepages",
];

/// The aspects of a container that differ from its record; the image is left out while it is not built.
pub fn differing<'a>(record: &'a ContainerRecord, wish: &'a Desired, unbuilt: bool) -> Vec<&'a String> {
    let keys: BTreeSet<&String> = record.aspects.keys().chain(wish.aspects.keys()).collect();
    // What its image declares is known for certain once it is built, and then the image is another one, too.
    let is_unknown = |key: &str| unbuilt && (key == "image" || key.starts_with(IMAGE_VOLUME));
    let differs = |key: &&String| record.aspects.get(*key) != wish.aspects.get(*key) && !is_unknown(key.as_str());
    keys.into_iter().filter(differs).collect()
}

/// What is to be done about a container; `None` if it is in its desired state.
pub fn deed_of(observed: &Observed, wish: &Desired, unbuilt: bool) -> Option<Deed> {
    if let Some(seed) = &wish.seed {
        return deed_of_seed(observed, wish, seed, unbuilt);
    }
    let Some(record) = observed.record.containers.get(&wish.name) else { return Some(Deed::Start(How::Fresh)) };
    let differing = differing(record, wish, unbuilt);
    let are = |fits: &dyn Fn(&str) -> bool| !differing.is_empty() && differing.iter().all(|key| fits(key));
    let seen = observed.containers.get(&wish.name).copied().unwrap_or(Seen::Down(Down::Lost));
    if seen == Seen::Running
        && !unbuilt
        && !wish.is_job()
        && !observed.drift.contains_key(&wish.name)
        && are(&|key| LIVE.contains(&key))
    {
        return Some(Deed::Adjust);
    }
    if observed.drift.contains_key(&wish.name) {
        return Some(Deed::Start(How::Fresh));
    }
    if wish.is_job() {
        return deed_of_job(seen, differing.is_empty(), unbuilt);
    }
    let only_files = are(&|key| key.starts_with("secret.") || key.starts_with("config."));
    match seen {
        _ if !differing.is_empty() && (!only_files || unbuilt) => Some(Deed::Start(How::Fresh)),
        _ if unbuilt => Some(Deed::Start(How::FreshIfImageChanges)),
        _ if only_files => Some(Deed::Start(How::Again)),
        Seen::Down(_) => Some(Deed::Start(How::Again)),
        Seen::Running | Seen::Finished => None,
    }
}

/// What is to be done about a job that is on record: each run has a new root.
fn deed_of_job(seen: Seen, same: bool, unbuilt: bool) -> Option<Deed> {
    match seen {
        Seen::Running | Seen::Finished if same && unbuilt => Some(Deed::Start(How::FreshIfImageChanges)),
        Seen::Running | Seen::Finished if same => None,
        Seen::Running | Seen::Finished | Seen::Down(_) => Some(Deed::Start(How::Fresh)),
    }
}

/// What is to be done about a job that fills a volume: nothing once that is whole, however it has changed since. Another seed would
/// replace what has been written into the volume.
pub fn deed_of_seed(observed: &Observed, wish: &Desired, seed: &Seed, unbuilt: bool) -> Option<Deed> {
    if seed.is_filled(observed) {
        return None;
    }
    let goes_on = observed.record.volumes.contains(&seed.volume)
        && matches!(observed.containers.get(&wish.name), Some(Seen::Running | Seen::Finished))
        && observed.record.containers.get(&wish.name).is_some_and(|record| differing(record, wish, unbuilt).is_empty());
    (!goes_on).then_some(Deed::Start(How::Fresh))
}

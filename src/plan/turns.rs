//! Replacement in turns: which running replicas of a container are replaced together, what must have come up before, and which
//! further replicas stand in for them meanwhile.

use super::deed::deed_of;
use super::desired::Desired;
use super::observed::{NetworkRecord, Observed, Port, Seen};
use super::task::{Deed, How};
use crate::model::Name;
use crate::project::{Update, UpdateOrder};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// How the replicas of one container are replaced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// The replicas that must have come up before the first turn: those in whose place nothing runs, and those that stand in.
    pub first: Vec<String>,
    /// The replicas that are replaced together, turn by turn.
    pub turns: Vec<Vec<String>>,
    /// The replicas that end when all turns are over.
    pub last: Vec<String>,
}

/// What turns are made from.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub observed: &'a Observed,
    pub networks: &'a BTreeMap<Name, NetworkRecord>,
    /// The desired replicas, with all that could stand in.
    pub desired: &'a BTreeMap<String, Desired>,
}

impl Scene<'_> {
    /// The turns of a container, or `None` if its replicas are replaced all at once. `deeds` gets those of its stand-ins.
    pub fn turns(&self, container: &Name, update: Update, unbuilt: bool, deeds: &mut BTreeMap<String, Deed>) -> Option<Turns> {
        let own = |stands_in: bool| {
            let mut own: Vec<&Desired> =
                self.desired.values().filter(|one| one.container == *container && one.stands_in == stands_in).collect();
            own.sort_by_key(|one| one.replica);
            own
        };
        let names = |some: &[&Desired]| some.iter().map(|one| one.name.clone()).collect::<Vec<String>>();
        let runs = |one: &&Desired| self.observed.containers.get(&one.name) == Some(&Seen::Running);
        let starts = |one: &&Desired| matches!(deeds.get(&one.name), Some(Deed::Start(_)));
        let (old, empty): (Vec<&Desired>, Vec<&Desired>) = own(false).into_iter().filter(starts).partition(runs);
        let on_record = |one: &&Desired| self.observed.record.containers.contains_key(&one.name);
        let (left, new): (Vec<&Desired>, Vec<&Desired>) = own(true).into_iter().partition(on_record);
        let serving: Vec<&Desired> = left.iter().copied().filter(|one| runs(one) && self.can_go_on(one, deeds)).collect();
        let parallel = usize::try_from(update.parallel).unwrap_or(usize::MAX).max(1);
        let at_once = update.order == UpdateOrder::StopFirst && old.len() <= parallel && empty.is_empty();
        if old.is_empty() && serving.is_empty() || at_once || !old.iter().all(|one| self.can_go_on(one, deeds)) {
            return None;
        }
        if old.is_empty() {
            // Those that were left when a replacement failed, or was killed, go on until all others have come up.
            deeds.extend(left.iter().map(|one| (one.name.clone(), Deed::End)));
            return Some(Turns { first: names(&own(false)), turns: Vec::new(), last: names(&left) });
        }
        let (mut first, mut last) = (names(&empty), names(&left));
        if update.order == UpdateOrder::StartFirst {
            // What starts in an empty place serves as well as one that stands in.
            let needed = parallel.min(old.len()).saturating_sub(first.len());
            let good = |one: &&&Desired| deed_of(self.observed, one, unbuilt).is_none();
            let good: Vec<&Desired> = serving.iter().filter(good).take(needed).copied().collect();
            let new: Vec<&Desired> = new.into_iter().take(needed - good.len()).collect();
            first.extend(names(&good).into_iter().chain(names(&new)));
            last.extend(names(&new));
            deeds.extend(left.iter().map(|one| (one.name.clone(), Deed::End)));
            deeds.extend(new.iter().map(|one| (one.name.clone(), Deed::Start(How::Fresh))));
        }
        let turns = old.chunks(parallel).map(names).collect();
        Some(Turns { first, turns, last })
    }

    /// Whether a replica can go on while others of its container are replaced: its networks and its addresses there stay, and no
    /// other container gets a port of its.
    fn can_go_on(&self, one: &Desired, deeds: &BTreeMap<String, Deed>) -> bool {
        let Some(known) = self.observed.record.containers.get(&one.name) else { return false };
        let stays = |(network, address): (&Name, &Ipv4Addr)| {
            self.observed.record.networks.get(network).is_some_and(|before| self.networks.get(network) == Some(before))
                && one.networks.iter().any(|there| there.network == *network && there.address == *address)
        };
        let starts = |other: &&Desired| matches!(deeds.get(&other.name), Some(Deed::Start(_)));
        let mut others = self.desired.values().filter(|other| other.container != one.container).filter(starts);
        let takes = |other: &Desired| other.ports.iter().any(|port| known.ports.iter().any(|old| clash(port, old)));
        known.addresses.iter().all(stays) && !others.any(takes)
    }
}

/// Whether two ports of the host cannot be held at the same time.
pub fn clash(a: &Port, b: &Port) -> bool {
    let anywhere = a.address.is_unspecified() || b.address.is_unspecified();
    (a.port, a.protocol) == (b.port, b.protocol) && (anywhere || a.address == b.address)
}

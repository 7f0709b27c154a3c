//! A plan as a graph: which tasks there are, and what each waits for.

use super::desired::Desired;
use super::observed::{ContainerRecord, InstanceRecord};
use super::task::{Action, Change, Deed, Object, Task};
use super::turns::{Turns, clash};
use crate::model::Name;
use crate::project::{MountSource, Project, ReplicaId, Until};
use std::collections::{BTreeMap, BTreeSet};

/// The tasks that end replicas: containers end before those that they depend on. If one fails to end, the others are
/// ended anyway.
pub fn ending(project: Option<&Project>, names: &[String]) -> Vec<Task> {
    let base = ReplicaId::container_of;
    let needs = |name: &str| project.and_then(|project| project.containers.get(base(name))).map(|one| &one.depends_on);
    let users = |needed: &str| {
        let users = names.iter().filter(|name| needs(name).is_some_and(|needs| needs.contains_key(base(needed))));
        users.map(|name| Action::End { container: name.clone() }.name()).collect()
    };
    let end = |name: &String| {
        let end = Task::new(Action::End { container: name.clone() }, BTreeSet::new());
        Task { whatever: users(name), ..end }
    };
    names.iter().map(end).collect()
}

/// The tasks that build images, each after those of the images that it needs.
pub fn building(project: &Project, names: &[Name], first: &BTreeSet<String>) -> Vec<Task> {
    let build = |name: &Name| {
        let needs = project.images.get(name).into_iter().flat_map(|image| image.needs());
        let needs = needs.filter(|other| names.contains(*other)).map(|other| Action::Build { image: other.clone() }.name());
        Task::new(Action::Build { image: name.clone() }, first.iter().cloned().chain(needs).collect())
    };
    names.iter().map(build).collect()
}

/// The input of a graph.
pub struct Parts<'a> {
    pub project: &'a Project,
    pub record: &'a InstanceRecord,
    pub desired: &'a BTreeMap<String, Desired>,
    pub volumes: &'a BTreeSet<Name>,
    pub deeds: &'a BTreeMap<String, Deed>,
    /// The containers whose replicas are replaced in turns.
    pub turns: &'a BTreeMap<Name, Turns>,
    pub changes: Vec<Change>,
    /// The containers that the plan is limited to; all if empty.
    pub only: &'a BTreeSet<Name>,
}

/// The tasks of a plan, in reading order; none if nothing changes.
pub fn graph(parts: Parts) -> Vec<Task> {
    let Parts { project, record, desired, volumes, deeds, turns, mut changes, only } = parts;
    if changes.is_empty() {
        return Vec::new();
    }
    let mut take = |meant: &dyn Fn(&Change) -> bool| -> Vec<Change> { changes.extract_if(.., |change| meant(change)).collect() };
    let names = |tasks: &[Task]| tasks.iter().map(|task| task.name.clone()).collect::<BTreeSet<_>>();
    let one = |action: &Action| BTreeSet::from([action.name()]);

    let mut tasks = Vec::new();
    let locks = take(&|change| change.object == Object::Lock);
    if !locks.is_empty() {
        tasks.push(Task { changes: locks, ..Task::new(Action::Resolve, BTreeSet::new()) });
    }
    let images = take(&|change| change.object == Object::Image);
    let named = |change: &Change| project.images.keys().find(|name| name.as_str() == change.name).cloned();
    let mut builds = building(project, &images.iter().filter_map(named).collect::<Vec<_>>(), &names(&tasks));
    for (task, change) in builds.iter_mut().zip(images) {
        task.changes.push(change);
    }
    tasks.extend(builds);
    tasks.push(Task::new(Action::Prepare, names(&tasks)));

    let gone = |name: &&String| deeds.get(*name) == Some(&Deed::End);
    let old = |name: &&String| record.containers.contains_key(*name) && matches!(deeds.get(*name), Some(Deed::Start(_)));
    let last: BTreeSet<&String> = turns.values().flat_map(|turns| &turns.last).collect();
    let leaves = |name: &&String| (gone(name) || old(name)) && !last.contains(*name);
    let leaving: Vec<String> = record.containers.keys().filter(leaves).cloned().collect();
    let moved = take(&|change| matches!(change.object, Object::Setting | Object::Network));
    let stays = |name: &&String| {
        let wish = desired.get(*name).zip(record.containers.get(*name)).filter(|_| moved.is_empty());
        wish.is_some_and(|(wish, known)| keeps_its_place(wish, known, volumes, desired.values(), deeds))
    };
    let settled = |name: &String| Action::Settle { container: name.clone() }.name();
    let waits_for_turn: BTreeMap<&String, BTreeSet<String>> = turns.values().flat_map(|turns| in_turn(turns, &settled)).collect();
    let is_late = |name: &&String| waits_for_turn.contains_key(*name) || old(name) && stays(name);
    let late: BTreeSet<String> = leaving.iter().filter(is_late).cloned().collect();
    let mut ends = ending(Some(project), &leaving);
    for task in &mut ends {
        task.after.insert(Action::Prepare.name());
        task.whatever.retain(|user| !late.iter().any(|name| Action::End { container: name.clone() }.name() == *user));
    }
    let ends_late = |task: &Task| matches!(&task.action, Action::End { container } if late.contains(container));
    let (mut late_ends, mut ends): (Vec<Task>, Vec<Task>) = ends.into_iter().partition(ends_late);
    let connect = Task::new(Action::Connect, names(&ends).into_iter().chain(one(&Action::Prepare)).collect());
    tasks.push(Task { changes: moved, ..connect });
    let fill = |volume: &Name| {
        let changes = changes.iter().filter(|change| change.object == Object::Volume && change.name == volume.as_str());
        let after = one(&Action::Connect);
        Task { changes: changes.cloned().collect(), ..Task::new(Action::Fill { volume: volume.clone() }, after) }
    };
    let fills: Vec<Task> = volumes.iter().map(fill).collect();
    let recorded = names(&fills).into_iter().chain(one(&Action::Connect)).collect();
    tasks.extend(fills);
    tasks.push(Task::new(Action::Record, recorded));
    let firewall = changes.iter().filter(|change| change.object == Object::Firewall).cloned().collect();
    tasks.push(Task { changes: firewall, ..Task::new(Action::Admit, one(&Action::Record)) });

    let said = |name: &str| {
        let keeps = |change: &Change| {
            let mut kept = desired.get(name).into_iter().flat_map(|wish| wish.kept.values());
            change.object == Object::Volume && kept.any(|volume| volume.as_str() == change.name)
        };
        let is_its = |change: &Change| matches!(change.object, Object::Container | Object::Job) && change.name == name;
        let meant = changes.iter().filter(|change| is_its(change) || keeps(change));
        meant.cloned().collect::<Vec<_>>()
    };
    // A volume that a job fills is for others only once it is whole and kept.
    let filled = |one: &Desired| {
        let seed = one.seed.as_ref()?;
        let under_way = record.seeding.contains(&seed.volume) || matches!(deeds.get(&one.name), Some(Deed::Start(_)));
        under_way.then(|| Action::Seed { volume: seed.volume.clone() })
    };
    let (mut waits, mut starts) = (BTreeMap::new(), Vec::new());
    let start = |name: &str| match deeds.get(name) {
        Some(Deed::Start(how)) => Some(Action::Start { container: name.to_owned(), how: *how }),
        _ => None,
    };
    let begun = |name: &str| start(name).map_or_else(|| one(&Action::Admit), |start| one(&start));
    for (name, wish) in desired {
        let action = match deeds.get(name) {
            Some(Deed::Start(how)) => Action::Start { container: name.clone(), how: *how },
            Some(Deed::Adjust) => Action::Adjust { container: name.clone() },
            Some(Deed::End) | None => continue,
        };
        let mut after = one(&Action::Admit);
        let end = Action::End { container: name.clone() }.name();
        if start(name).is_some() {
            for (needed, until) in &wish.spec.depends_on {
                for other in desired.values().filter(|other| other.container == *needed && !other.stands_in) {
                    let wait = Action::Await { container: other.name.clone(), until: *until };
                    after.insert(wait.name());
                    after.extend(filled(other).map(|seed| seed.name()));
                    waits.entry(wait.name()).or_insert_with(|| Task::new(wait, begun(&other.name)));
                }
            }
        }
        // It is ended as late as it can be: what it waits for may fail, and then it goes on.
        if let Some(end) = late_ends.iter_mut().find(|task| task.name == end) {
            end.after.extend(after.clone());
            end.after.extend(waits_for_turn.get(name).into_iter().flatten().cloned());
            after.insert(end.name.clone());
        }
        starts.push(Task { changes: said(name), ..Task::new(action, after) });
    }
    let mut seeds = Vec::new();
    for (one, seed) in desired.values().filter_map(|one| Some((one, filled(one)?))) {
        let wait = Action::Await { container: one.name.clone(), until: Until::Completed };
        seeds.push(Task::new(seed, BTreeSet::from([wait.name(), Action::Record.name()])));
        waits.entry(wait.name()).or_insert_with(|| Task::new(wait, begun(&one.name)));
    }
    let retire = |turns: &Turns| {
        let over: BTreeSet<String> = turns.first.iter().chain(turns.turns.iter().flatten()).map(settled).collect();
        let retire = |name: &String| {
            let gone = deeds.get(name) == Some(&Deed::End);
            let changes = if gone { said(name) } else { Vec::new() };
            let task = Task::new(Action::Retire { container: name.clone() }, one(&Action::Admit));
            Task { changes, whatever: over.clone(), ..task }
        };
        turns.last.iter().map(retire).collect::<Vec<_>>()
    };
    let retires: Vec<Task> = turns.values().flat_map(retire).collect();
    let done = names(&starts).into_iter().chain(names(&retires)).collect();
    let publish = Task { whatever: done, ..Task::new(Action::Publish, one(&Action::Admit)) };
    for task in &mut ends {
        if let Action::End { container } = &task.action
            && deeds.get(container) == Some(&Deed::End)
        {
            task.changes = said(container);
        }
    }
    let in_turns: BTreeSet<&String> =
        turns.values().flat_map(|turns| turns.first.iter().chain(turns.turns.iter().flatten())).collect();
    // The containers are watched only after all have been started, except those for which others wait.
    let settle = |name: &String| {
        let settle = Task::new(Action::Settle { container: name.clone() }, begun(name));
        if in_turns.contains(name) { settle } else { Task { whatever: one(&Action::Publish), ..settle } }
    };
    let meant = |wish: &Desired| only.is_empty() || only.contains(&wish.container);
    let is_watched =
        |name: &&String| in_turns.contains(*name) || desired.get(*name).is_some_and(|wish| meant(wish) && !wish.stands_in);
    let settles: Vec<Task> = desired.keys().filter(is_watched).map(settle).collect();
    tasks.extend(waits.into_values());
    tasks.extend(seeds);
    tasks.extend(starts);
    tasks.extend(ends);
    tasks.extend(late_ends);
    tasks.extend(retires);
    tasks.push(publish);
    tasks.extend(settles);
    tasks
}

/// What the end of each replica waits for that has its turn: the replicas of the turn before have come up.
fn in_turn<'a>(turns: &'a Turns, settled: &dyn Fn(&String) -> String) -> Vec<(&'a String, BTreeSet<String>)> {
    let mut before: BTreeSet<String> = turns.first.iter().map(settled).collect();
    let mut found = Vec::new();
    for turn in &turns.turns {
        found.extend(turn.iter().map(|name| (name, before.clone())));
        before = turn.iter().map(settled).collect();
    }
    found
}

/// Whether a container that is replaced can go on until what it waits for is there: it waits for something, its addresses stay,
/// it has no volume that is filled, and nobody else gets a port of its.
fn keeps_its_place<'a>(
    wish: &Desired,
    known: &ContainerRecord,
    fills: &BTreeSet<Name>,
    mut all: impl Iterator<Item = &'a Desired>,
    deeds: &BTreeMap<String, Deed>,
) -> bool {
    let addresses: BTreeMap<_, _> = wish.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect();
    let starts = |other: &Desired| other.name != wish.name && matches!(deeds.get(&other.name), Some(Deed::Start(_)));
    let takes = |other: &Desired| other.ports.iter().any(|port| known.ports.iter().any(|old| clash(port, old)));
    // A volume is filled only while nobody has it.
    let fills = wish.spec.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Volume(name) if fills.contains(name)));
    let stays = !fills && addresses == known.addresses && !all.any(|other| starts(other) && takes(other));
    stays && !wish.spec.depends_on.is_empty()
}

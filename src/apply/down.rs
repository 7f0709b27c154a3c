//! `down`: ends everything of an instance and leaves no trace but logs, history, images and volumes.

use super::history::{self, Entry};
use super::instance::Instance;
use crate::model::{Fault, Name, Outcome};
use crate::monitor::{self, Request, now_ms};
use crate::network;
use crate::plan::{Cause, Change, Kind, Symbol};
use crate::project::{Project, ReplicaId};
use crate::runtime::{self, Cgroup};
use crate::ship;
use crate::volume;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What a monitor may need beyond the grace period, on a busy machine.
const MARGIN: Duration = Duration::from_secs(10);

/// What `down` also removes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DownOptions {
    pub volumes: bool,
    /// Only if it has no container.
    pub if_unused: bool,
}

/// For each container, those that depend on it and must end first.
pub type Order = BTreeMap<String, BTreeSet<String>>;

/// The order in which some replicas end: what depends on others goes first.
pub fn order(project: &Project, names: &[String]) -> Order {
    let base = ReplicaId::container_of;
    let dependents = |needed: &str| {
        let users = names.iter().filter(|other| {
            let container = project.containers.get(base(other));
            container.is_some_and(|container| container.depends_on.keys().any(|name| name.as_str() == base(needed)))
        });
        users.cloned().collect::<BTreeSet<_>>()
    };
    names.iter().map(|name| (name.clone(), dependents(name))).collect()
}

/// Ends one container, whatever state it is in, and waits until nothing of it runs.
///
/// # Errors
/// Processes that do not die.
pub fn end(instance: &Instance, name: &str) -> Outcome<()> {
    let folder = instance.container(name);
    if folder.alive() {
        // A monitor that does not answer is killed: its container dies with it.
        // Where its description cannot be read, its monitor, which has it, gets Docker's grace.
        let patience = folder.spec().ok().flatten().map_or(Duration::from_secs(10), |spec| {
            Duration::from(spec.stop_grace).saturating_mul(u32::try_from(spec.on_stop.len()).unwrap_or(0).saturating_add(1))
        });
        let asked = monitor::call(&folder, &Request::Stop { signal: None, grace: None }, Some(patience.saturating_add(MARGIN)));
        if asked.is_err()
            && let Some(pid) = folder.status().and_then(|status| i32::try_from(status.monitor).ok()).filter(|pid| *pid > 1)
            && folder.alive()
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder.path())
        {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    Cgroup::open(runtime::host(), &instance.cgroup(name))
        .destroy()
        .map_err(|error| Fault::caused(format!("cannot end container {name}"), error))
}

/// Ends containers, several at once, in order.
///
/// # Errors
/// The first that does not die; the others are ended all the same.
pub fn end_all(instance: &Instance, names: &[String], order: &Order) -> Outcome<()> {
    struct Ending {
        waiting: BTreeSet<String>,
        busy: BTreeSet<String>,
        failed: Option<Fault>,
    }
    let state = Mutex::new(Ending { waiting: names.iter().cloned().collect(), busy: BTreeSet::new(), failed: None });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..names.len().min(16) {
            scope.spawn(|| {
                let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
                while !guard.waiting.is_empty() {
                    let free = |name: &&String| {
                        order.get(*name).is_none_or(|first| {
                            first.iter().all(|other| !guard.waiting.contains(other) && !guard.busy.contains(other))
                        })
                    };
                    let next = guard
                        .waiting
                        .iter()
                        .find(free)
                        .or_else(|| guard.waiting.first().filter(|_| guard.busy.is_empty()))
                        .cloned();
                    let Some(name) = next else {
                        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                        continue;
                    };
                    guard.waiting.remove(&name);
                    guard.busy.insert(name.clone());
                    drop(guard);
                    let ended = end(instance, &name);
                    guard = state.lock().unwrap_or_else(PoisonError::into_inner);
                    guard.busy.remove(&name);
                    if let Err(fault) = ended {
                        guard.failed = guard.failed.take().or(Some(fault));
                    }
                    changed.notify_all();
                }
            });
        }
    });
    state.into_inner().unwrap_or_else(PoisonError::into_inner).failed.map_or(Ok(()), Err)
}

/// Stops containers without forgetting them; `project` gives the order.
///
/// # Errors
/// The first that does not die.
pub fn stop(instance: &Instance, project: Option<&Project>, names: &[String]) -> Outcome<()> {
    let order = project.map(|project| order(project, names)).unwrap_or_default();
    end_all(instance, names, &order)
}

/// Removes what tells of a container while it runs.
pub fn forget_run(instance: &Instance, name: &str) {
    let _ = fs::remove_dir_all(instance.container(name).path());
}

/// Removes what an ended container wrote, but its logs.
pub fn forget(instance: &Instance, name: &str) {
    forget_run(instance, name);
    let _ = fs::remove_dir_all(instance.state().join("roots").join(name));
}

/// Ends an environment. `project` gives the order; a project file that cannot be read is no obstacle.
///
/// # Errors
/// Processes that do not die, links that cannot be deleted.
pub fn down(instance: &Instance, project: Option<&Project>, options: DownOptions) -> Outcome<Vec<Change>> {
    let known = instance.state().exists() || instance.home.run.join(&instance.id).exists();
    if !known && !options.volumes {
        return Ok(Vec::new());
    }
    let _queue = instance.lock()?;
    if options.if_unused && !instance.container_folders()?.is_empty() {
        return Ok(Vec::new());
    }
    let mut record = instance.record()?;
    let mut names: BTreeSet<String> = record.containers.keys().cloned().collect();
    names.extend(instance.container_folders()?);
    let names: Vec<String> = names.into_iter().collect();
    let order = project.map(|project| order(project, &names)).unwrap_or_default();
    end_all(instance, &names, &order)?;
    // It sends what was said last, and ends.
    ship::stop(&instance.home.run.join(&instance.id));
    let removed = |kind: Kind, name: String| Change {
        symbol: Symbol::Remove,
        kind,
        name,
        detail: String::new(),
        causes: vec![Cause { text: "down".into(), place: None, image: None }],
        trust: Vec::new(),
        wants: None,
    };
    let mut changes: Vec<Change> = names.iter().map(|name| removed(Kind::Remove, name.clone())).collect();
    changes.extend(record.networks.keys().map(|name: &Name| removed(Kind::Network, name.to_string())));
    let had_networks = !record.networks.is_empty();
    if had_networks || !names.is_empty() {
        network::delete_group(instance.link_group())?;
    }
    record.containers.clear();
    record.networks.clear();
    record.serial += 1;
    instance.save(&record)?;
    // One that was killed may have left the table behind.
    if had_networks || monitor::is_there(&instance.home) {
        monitor::refresh(&instance.home)?;
    }
    // Of containers for one command, which leave their project's cgroups for the next.
    Cgroup::remove_parents_of(runtime::host(), &instance.cgroup("any"));
    let _ = fs::remove_dir_all(instance.state().join("roots"));
    let _ = fs::remove_dir_all(instance.home.run.join(&instance.id));
    if options.volumes {
        changes.extend(
            volume::existing(&instance.home, &instance.id)?.into_iter().map(|name| removed(Kind::Volume, name.to_string())),
        );
        volume::delete_all(&instance.home, &instance.id)?;
    }
    if !changes.is_empty() {
        history::add(instance, &Entry { at: now_ms(), command: "down".into(), ok: true, changes: changes.clone() })?;
    }
    Ok(changes)
}

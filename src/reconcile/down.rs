//! `down`: ends everything that belongs to an instance, and leaves only logs, history, images and volumes.

use super::schedule::{self, Came, Lane, Work};
use crate::instance::{Entry, Instance, end_watcher};
use crate::model::{Error, Name, Result};
use crate::monitor::{self, Request, now_ms};
use crate::network;
use crate::plan::{self, Action, Cause, Change, Object, Symbol, Task};
use crate::project::Project;
use crate::runtime::{self, Cgroup};
use crate::ship;
use crate::volume;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// How much longer than the grace period a monitor may take on a busy machine.
const MARGIN: Duration = Duration::from_secs(10);

/// How many containers are ended at the same time: ending one is almost only waiting for it, so all are asked at once.
pub const ENDS: usize = 1024;

/// Options of `down`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DownOptions {
    pub volumes: bool,
    /// Act only if the instance has no containers.
    pub if_unused: bool,
}

/// Ends one container, whatever state it is in, and waits until none of its processes is left.
///
/// # Errors
/// Fails when a process does not die.
pub fn end(instance: &Instance, name: &str) -> Result<()> {
    let folder = instance.container(name);
    if folder.alive() {
        // A monitor that does not answer is killed, and its container dies with it.
        // If the container's description cannot be read here, its monitor, which knows it, gets Docker's grace period.
        let timeout = folder.spec().ok().flatten().map_or(Duration::from_secs(10), |spec| {
            Duration::from(spec.stop_grace).saturating_mul(u32::try_from(spec.on_stop.len()).unwrap_or(0).saturating_add(1))
        });
        let asked = monitor::call(&folder, &Request::Stop { signal: None, grace: None }, Some(timeout.saturating_add(MARGIN)));
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
        .map_err(|error| Error::caused(format!("cannot end container {name}"), error))
}

/// The work of a command that only ends containers.
struct Ending<'a> {
    instance: &'a Instance,
}

impl Work for Ending<'_> {
    fn lane(&self, _: &Task) -> Lane {
        Lane::Threads("end", ENDS)
    }

    fn run(&self, task: &Task) -> Result<Came> {
        if let Action::End { container } = &task.action {
            end(self.instance, container)?;
        }
        Ok(Came::Done)
    }
}

/// Ends containers, several at once. A container is ended before those that it depends on.
///
/// # Errors
/// Returns the errors of containers that do not die; the others are ended anyway.
fn end_all(instance: &Instance, project: Option<&Project>, names: &[String]) -> Result<()> {
    let states = schedule::run(&plan::ending(project, names), &Ending { instance });
    schedule::interrupted()?;
    Error::all(schedule::failed(states))
}

/// Stops containers but keeps them in the record. `project` gives the order.
///
/// # Errors
/// Returns the errors of containers that do not die.
pub fn stop(instance: &Instance, project: Option<&Project>, names: &[String]) -> Result<()> {
    end_all(instance, project, names)
}

/// Removes the runtime directory of a container.
pub fn forget_run(instance: &Instance, name: &str) {
    let _ = fs::remove_dir_all(instance.container(name).path());
}

/// Removes everything that an ended container left, except its logs.
pub fn forget(instance: &Instance, name: &str) {
    forget_run(instance, name);
    let _ = fs::remove_dir_all(instance.state().join("roots").join(name));
}

/// Ends an environment. `project` gives the order; without it (because the project file cannot be read) it works, too.
///
/// # Errors
/// Fails when a process does not die or a link cannot be deleted.
pub fn down(instance: &Instance, project: Option<&Project>, options: DownOptions) -> Result<Vec<Change>> {
    let known = instance.state().exists() || instance.home.run.join(&instance.id).exists();
    if !known && !options.volumes {
        return Ok(Vec::new());
    }
    if !options.if_unused {
        // It would bring everything up again at the next change.
        end_watcher(instance);
    }
    let _queue = instance.lock()?;
    if options.if_unused && !instance.container_folders()?.is_empty() {
        return Ok(Vec::new());
    }
    let mut record = instance.record()?;
    let mut names: BTreeSet<String> = record.containers.keys().cloned().collect();
    names.extend(instance.container_folders()?);
    let names: Vec<String> = names.into_iter().collect();
    end_all(instance, project, &names)?;
    // The shipper sends the last log lines and ends.
    ship::stop(&instance.home.run.join(&instance.id));
    let removed = |object: Object, name: String| Change {
        symbol: Symbol::Remove,
        object,
        name,
        detail: String::new(),
        causes: vec![Cause { text: "down".into(), place: None }],
        trust: Vec::new(),
        wants: None,
    };
    let of = |name: &String| match record.containers.get(name) {
        Some(known) if known.job.is_some() => Object::Job,
        _ => Object::Container,
    };
    let mut changes: Vec<Change> = names.iter().map(|name| removed(of(name), name.clone())).collect();
    changes.extend(record.networks.keys().map(|name: &Name| removed(Object::Network, name.to_string())));
    let had_networks = !record.networks.is_empty();
    if had_networks || !names.is_empty() {
        network::delete_group(instance.link_group())?;
    }
    record.containers.clear();
    record.networks.clear();
    record.serial += 1;
    instance.save(&record)?;
    // A command that was killed may have left the firewall table behind.
    if had_networks || monitor::is_there(&instance.home) {
        monitor::refresh(&instance.home)?;
    }
    // One-off containers leave the cgroups of their project for the next one; they are removed here.
    Cgroup::remove_parents_of(runtime::host(), &instance.cgroup("any"));
    let _ = fs::remove_dir_all(instance.state().join("roots"));
    let _ = fs::remove_dir_all(instance.home.run.join(&instance.id));
    if options.volumes {
        changes.extend(
            volume::existing(&instance.home, &instance.id)?.into_iter().map(|name| removed(Object::Volume, name.to_string())),
        );
        volume::delete_all(&instance.home, &instance.id)?;
        if !std::mem::take(&mut record.seeding).is_empty() {
            instance.save(&record)?;
        }
    }
    if !changes.is_empty() {
        // On a full disk the history misses that everything has ended.
        let _ = Entry { at: now_ms(), command: "down".into(), ok: true, changes: changes.clone() }.add(instance);
    }
    Ok(changes)
}

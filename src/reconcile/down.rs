//! `down`: ends everything of an instance and leaves no trace but logs, history, images and volumes.

use super::schedule::{self, Came, Lane, Work};
use crate::instance::{Entry, Instance};
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

/// What a monitor may need beyond the grace period, on a busy machine.
const MARGIN: Duration = Duration::from_secs(10);

/// Containers that are ended at the same time.
pub const ENDS: usize = 16;

/// What `down` also removes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DownOptions {
    pub volumes: bool,
    /// Only if it has no container.
    pub if_unused: bool,
}

/// Ends one container, whatever state it is in, and waits until nothing of it runs.
///
/// # Errors
/// Processes that do not die.
pub fn end(instance: &Instance, name: &str) -> Result<()> {
    let folder = instance.container(name);
    if folder.alive() {
        // A monitor that does not answer is killed: its container dies with it.
        // Where its description cannot be read, its monitor, which has it, gets Docker's grace.
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

/// Ends, and nothing else.
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

/// Ends containers, several at once: what depends on others goes first.
///
/// # Errors
/// Those that do not die; the others are ended all the same.
fn end_all(instance: &Instance, project: Option<&Project>, names: &[String]) -> Result<()> {
    let states = schedule::run(&plan::ending(project, names), &Ending { instance });
    schedule::interrupted()?;
    Error::all(schedule::failed(states))
}

/// Stops containers without forgetting them; `project` gives the order.
///
/// # Errors
/// The first that does not die.
pub fn stop(instance: &Instance, project: Option<&Project>, names: &[String]) -> Result<()> {
    end_all(instance, project, names)
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
pub fn down(instance: &Instance, project: Option<&Project>, options: DownOptions) -> Result<Vec<Change>> {
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
    end_all(instance, project, &names)?;
    // It sends what was said last, and ends.
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
    let mut changes: Vec<Change> = names.iter().map(|name| removed(Object::Container, name.clone())).collect();
    changes.extend(record.networks.keys().map(|name: &Name| removed(Object::Network, name.to_string())));
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
            volume::existing(&instance.home, &instance.id)?.into_iter().map(|name| removed(Object::Volume, name.to_string())),
        );
        volume::delete_all(&instance.home, &instance.id)?;
    }
    if !changes.is_empty() {
        Entry { at: now_ms(), command: "down".into(), ok: true, changes: changes.clone() }.add(instance)?;
    }
    Ok(changes)
}

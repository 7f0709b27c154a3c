//! Replacement in turns: nothing leads to a replica any more before it is stopped, and what stood in for others ends when these
//! have come up.

use super::super::crash::boundary;
use super::super::schedule::{Came, Look};
use super::super::{down, hosts};
use super::Executor;
use super::condition::settled;
use crate::instance::Progress;
use crate::model::Result;
use crate::monitor;
use crate::network::{self, Endpoint};
use crate::plan::Action;
use crate::project::Protocol;
use std::time::{Duration, Instant};

/// How soon it is looked again whether a replica still has connections.
const AGAIN: Duration = Duration::from_millis(25);
/// How long a replica is left alone where the kernel does not tell about connections.
const UNTOLD: Duration = Duration::from_millis(500);

impl Executor<'_> {
    /// Whether a replica ends only after others have been replaced.
    pub(super) fn retires(&self, name: &str) -> bool {
        let retires = |action: &Action| matches!(action, Action::Retire { container } if container == name);
        self.planned.plan.tasks.iter().any(|task| retires(&task.action))
    }

    /// Whether a replica was to stand in for others, and these turned out to stay as they are.
    pub(super) fn stands_idle(&self, name: &str) -> bool {
        let stands_in = self.planned.desired.get(name).is_some_and(|one| one.stands_in);
        stands_in && self.certain.get().is_some_and(|certain| !certain.deeds.contains_key(name))
    }

    /// Leads new connections to other replicas, then waits until those to this one are over, at most for its grace period.
    /// Other containers and published ports must know the replicas that have come up since.
    pub(super) fn lead_away(&self, name: &str) -> Result<()> {
        let folder = self.instance().container(name);
        let Some(known) = self.record().containers.get(name).cloned() else { return Ok(()) };
        // It may be the first time that it is replaced in turns.
        let in_turns = self.planned.desired.get(name).is_some_and(|one| one.spec.update.is_some());
        if !(known.in_turns || in_turns) || !folder.alive() {
            return Ok(());
        }
        self.introduce()?;
        monitor::withdraw(&folder)?;
        self.open()?;
        boundary();
        let to = |address| known.ports.iter().map(move |port| (address, port));
        let tcp = known.addresses.values().flat_map(|address| to(*address)).filter(|(_, port)| port.protocol == Protocol::Tcp);
        let endpoints: Vec<Endpoint> = tcp.map(|(address, port)| Endpoint { address, port: port.to }).collect();
        if endpoints.is_empty() {
            return Ok(());
        }
        // What is unreadable here is told by the end of the container.
        let grace = folder.spec().ok().flatten().map_or(Duration::from_secs(10), |spec| spec.stop_grace.into());
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            match network::has_connections(&endpoints)? {
                Some(false) => break,
                Some(true) => std::thread::sleep(AGAIN),
                None => {
                    std::thread::sleep(UNTOLD.min(grace));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells all running containers which neighbours they have by now.
    fn introduce(&self) -> Result<()> {
        let certain = self.certain()?;
        for one in certain.desired.values().filter(|one| !one.networks.is_empty()) {
            let folder = self.instance().container(&one.name);
            if folder.alive() {
                monitor::keep_names(folder.path(), &hosts::hosts(one, &certain.desired))?;
            }
        }
        Ok(())
    }

    /// Lets ports lead to replicas again that were to be replaced and go on as they were.
    pub(super) fn lead_back(&self) -> Result<()> {
        for name in self.record().containers.keys() {
            if !self.retires(name) {
                monitor::readmit(&self.instance().container(name))?;
            }
        }
        Ok(())
    }

    /// Ends a replica that stood in for others, unless one of these did not come up: then it goes on in its place.
    pub(super) fn retire(&self, name: &str) -> Result<Came> {
        let (instance, folder) = (self.instance(), self.instance().container(name));
        if !self.record().containers.contains_key(name) {
            return Ok(Came::Unneeded);
        }
        let failed = |name: &str| matches!(settled(&instance.container(name)), Look::Never(_));
        let container = self.planned.desired.get(name).map(|one| &one.container);
        let others = self.planned.desired.values().filter(|one| !one.stands_in && Some(&one.container) == container);
        let missing: Vec<&str> = others.map(|one| one.name.as_str()).filter(|other| failed(other)).collect();
        if !missing.is_empty() && folder.alive() && !failed(name) {
            let text = format!("{name} goes on in the place of {}, until the next `stead up`", missing.join(", "));
            self.forge.reporter.report(Progress::Warning(text));
            return Ok(Came::Unneeded);
        }
        self.lead_away(name)?;
        if folder.alive() {
            self.tell(name, "stopping");
        }
        down::end(instance, name)?;
        boundary();
        let mut record = self.record();
        record.containers.remove(name);
        self.save(&mut record)?;
        drop(record);
        down::forget(instance, name);
        self.tell(name, "removed");
        Ok(Came::Done)
    }
}

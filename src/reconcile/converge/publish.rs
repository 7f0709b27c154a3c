//! What leads to containers from outside and from each other: bridges, the firewall, published ports, names; and where their
//! output goes.

use super::super::container::bridges;
use super::super::crash::boundary;
use super::super::{down, hosts};
use super::Executor;
use crate::model::{Context, Result};
use crate::monitor;
use crate::network::{self, Forwarding};
use crate::plan::{Deed, InstanceRecord};
use crate::ship;
use crate::sys;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

impl Executor<'_> {
    /// Removes ended containers from the record, and brings networks into the planned state.
    pub(super) fn connect(&self) -> Result<()> {
        let (certain, wanted, instance) = (self.certain()?, &self.planned.networks, self.instance());
        let mut record = self.record();
        let own = record.networks.iter().filter(|(name, old)| !old.external && wanted.get(*name) != Some(old));
        network::delete_links(&own.map(|(_, old)| old.bridge.clone()).collect::<Vec<_>>())?;
        let ends = |name: &String| !self.retires(name);
        let gone = certain.deeds.iter().filter(|(name, deed)| **deed == Deed::End && ends(name));
        let gone: Vec<&String> = gone.map(|(name, _)| name).collect();
        for name in &gone {
            record.containers.remove(*name);
        }
        // The record is written first: if we are killed in between, `down` knows about everything that is left.
        record.networks.clone_from(wanted);
        self.save(&mut record)?;
        drop(record);
        for name in gone {
            down::forget(instance, name);
            self.tell(name, "removed");
            boundary();
        }
        network::ensure_bridges(&bridges(instance, wanted), certain.forwarding.alias())?;
        boundary();
        Ok(())
    }

    /// Makes networks ready before a container is attached to them: its very first packets must be translated.
    pub(super) fn admit(&self) -> Result<()> {
        let (certain, observed, home) = (self.certain()?, &self.forge.observation.observed, &self.instance().home);
        let (before, wanted) = (&observed.record.networks, &self.planned.networks);
        let switch = certain.forwarding == Forwarding::Off && !wanted.is_empty();
        if before != wanted || switch || !wanted.is_empty() && !observed.firewall {
            monitor::refresh(home)?;
            boundary();
        }
        if switch {
            // By now the firewall table drops foreign packets.
            Forwarding::switch_on()?;
            boundary();
        }
        if !certain.starting.is_empty() {
            sys::write_atomic(&self.instance().opening(), b"", 0o600).context(|| "cannot mark that containers start".into())?;
        }
        Ok(())
    }

    /// Updates published ports and names to the containers that are running now.
    pub(super) fn open(&self) -> Result<()> {
        let instance = self.instance();
        let publishes = |record: &InstanceRecord| record.containers.values().any(|container| !container.ports.is_empty());
        if publishes(&self.forge.observation.observed.record) || publishes(&self.record()) {
            monitor::refresh(&instance.home)?;
            boundary();
        }
        if self.planned.networks.is_empty() { Ok(()) } else { monitor::refresh_names(&instance.home, &instance.id) }
    }

    pub(super) fn publish(&self) -> Result<()> {
        self.ship()?;
        self.neighbours()?;
        self.lead_back()?;
        self.news.store(false, Ordering::Relaxed);
        self.open()?;
        match std::fs::remove_file(self.instance().opening()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| "cannot remove the mark that containers start".into())
            }
            _ => Ok(()),
        }
    }

    /// Starts or updates the shipper of log lines, if a container has a log driver.
    fn ship(&self) -> Result<()> {
        let instance = self.instance();
        let run = instance.home.run.join(&instance.id);
        let before = ship::told(&run)?.map(|told| told.targets).unwrap_or_default();
        let observed = &self.forge.observation.observed;
        let record = self.record();
        let targets: BTreeMap<String, ship::Target> = self
            .certain()?
            .desired
            .values()
            .filter_map(|one| {
                // A container that does not match the project file yet keeps the target that was declared, and allowed, before.
                if record.containers.get(&one.name).is_none_or(|record| record.aspects != one.aspects) {
                    return before.get(&one.name).map(|target| (one.name.clone(), target.clone()));
                }
                let mut driver = one.spec.log.driver.clone().filter(|driver| driver.name != "none")?;
                let path = driver.path().map(|path| observed.lead(path).path.display().to_string());
                driver.address = path.or(driver.address);
                let target = ship::Target {
                    container: one.name.clone(),
                    image: one.image_name.to_string(),
                    logs: instance.logs(&one.name),
                    folder: instance.container(&one.name).path().to_owned(),
                    driver,
                };
                Some((one.name.clone(), target))
            })
            .collect();
        if targets.is_empty() {
            ship::stop(&run);
            return Ok(());
        }
        let manifest = ship::Manifest {
            project: self.forge.loaded.project.name.to_string(),
            places: instance.state().join("ship.json"),
            events: instance.events(),
            folder: instance.folder.clone(),
            targets,
        };
        ship::start(&run, &manifest)
    }

    /// Updates what running containers know of their neighbours; those just started know them.
    pub(super) fn neighbours(&self) -> Result<()> {
        let certain = self.certain()?;
        for one in certain.desired.values().filter(|one| !certain.starting.contains(&one.name)) {
            let folder = self.instance().container(&one.name);
            if folder.join("hosts").exists() {
                monitor::keep_names(folder.path(), &hosts::hosts(one, &certain.desired))?;
            }
        }
        Ok(())
    }
}

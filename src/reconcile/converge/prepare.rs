//! Everything that may fail before anything is ended: names are resolved, the images are there, the machine has what the
//! containers need, and their ports are free.

use super::super::crash::boundary;
use super::super::pins::pin;
use super::super::ports::Held;
use super::super::preflight;
use super::super::resolve::complete_lock;
use super::{Certain, Executor};
use crate::instance::{Progress, keep_lock, leads};
use crate::model::{Error, Name, Result};
use crate::network::Forwarding;
use crate::plan::{self, Deed, Desired, Image};
use crate::project::MountSource;
use std::collections::{BTreeMap, BTreeSet};

impl Executor<'_> {
    /// Protects what the instance has now from garbage collection.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn pin(&self) -> Result<()> {
        pin(self.forge.loaded, self.forge.store, &self.record(), self.lock())
    }

    pub(super) fn resolve(&self) -> Result<()> {
        let lock = complete_lock(self.forge.loaded, self.forge.options, self.forge.reporter)?;
        boundary();
        // The scheduler runs this task only once.
        let _ = self.resolved.set(lock);
        Ok(())
    }

    /// Settles what is to be done, and checks that it can be done. This is the last step that may fail before anything is
    /// ended.
    pub(super) fn prepare(&self) -> Result<()> {
        let (instance, observed) = (self.instance(), &self.forge.observation.observed);
        let mut built = self.planned.built.clone();
        built.extend(self.forge.finish());
        let (desired, deeds) = if self.planned.builds() {
            let project = (&self.forge.loaded.project, &self.forge.loaded.places);
            plan::settle(project, observed, self.planned, &built)?
        } else {
            (self.planned.desired.clone(), self.planned.deeds.clone())
        };
        if self.planned.builds() {
            self.still_there()?;
        }
        let mut record = self.record();
        self.forge.remember(self.lock(), &built, &mut record)?;
        if self.planned.builds() {
            self.save(&mut record)?;
        }
        drop(record);
        self.forge.observation.scanner.keep(&instance.scan_cache());
        keep_lock(instance, self.lock());
        self.pin()?;
        self.preflight(&desired, &deeds, &built)?;
        let starting: BTreeSet<String> =
            deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Start(_))).map(|(name, _)| name.clone()).collect();
        let wishes: Vec<&Desired> = starting.iter().filter_map(|name| desired.get(name)).collect();
        // Published ports are taken before anything is changed.
        let held = Held::take(instance, &wishes)?;
        let forwarding = Forwarding::look()?;
        // The scheduler runs this task only once.
        let _ = self.certain.set(Certain { desired, deeds, built, starting, held, forwarding });
        boundary();
        Ok(())
    }

    /// Makes sure that paths of the host still lead where they led when they were resolved, and allowed, before the build.
    fn still_there(&self) -> Result<()> {
        let before = &self.forge.observation.observed.leads;
        let now = leads(self.instance(), &self.forge.loaded.project);
        let moved = now.into_iter().find(|(path, lead)| before.get(path) != Some(lead));
        moved.map_or(Ok(()), |(path, lead)| {
            let why = format!("while images were built, \"{path}\" was changed to lead to {}", lead.path.display());
            Err(Error::new(why).hint("nothing was started or ended: check it, then run the command again"))
        })
    }

    /// Checks that this machine has what the containers need.
    fn preflight(
        &self,
        desired: &BTreeMap<String, Desired>,
        deeds: &BTreeMap<String, Deed>,
        built: &BTreeMap<Name, Image>,
    ) -> Result<()> {
        let host = crate::runtime::host();
        let (mut seen, mut errors) = (BTreeSet::new(), Vec::new());
        for name in deeds.iter().filter(|(_, deed)| **deed != Deed::End).map(|(name, _)| name) {
            let Some(one) = desired.get(name) else { continue };
            if !seen.insert(&one.container) {
                continue;
            }
            let (places, folder) = (&self.forge.loaded.places, &self.instance().folder);
            for caveat in preflight::check(one, places, folder, host, &mut errors) {
                self.forge.reporter.report(Progress::Warning(caveat));
            }
            errors.extend(preflight::security(one, self.forge.observation, &self.instance().home).err());
            let mounted = one.spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Image(name) => Some(name),
                _ => None,
            });
            if let Some(name) = mounted.into_iter().find(|name| !built.contains_key(*name)) {
                let why = format!("container {}: the image {name}, which it mounts, is not built", one.container);
                errors.push(Error::new(why).hint("its files may have changed while it was built: run the command again"));
            }
        }
        Error::all(errors)
    }
}

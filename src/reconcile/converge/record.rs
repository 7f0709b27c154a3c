//! What the record says of containers: it is written before they are created, so that none is lost track of.

use super::super::crash::boundary;
use super::{Executor, newest_generation};
use crate::model::Result;
use crate::network::Reservation;
use crate::plan::{ContainerRecord, Deed, Desired, How, InstanceRecord, JobState, volume_aspect};
use crate::volume;
use std::collections::BTreeMap;

impl Executor<'_> {
    /// Records containers before they are created, so that none is lost track of.
    pub(super) fn put_on_record(&self) -> Result<()> {
        let certain = self.certain()?;
        let mut record = self.record();
        let mut new = false;
        for name in certain.starting.iter().filter(|name| !self.late.contains(*name)) {
            new |= self.begin_record(name, &mut record)?;
        }
        if new {
            self.save(&mut record)?;
        }
        Reservation::end(&self.instance().home, &self.instance().id)?;
        boundary();
        Ok(())
    }

    /// Puts a container that starts into the record; returns whether it does start.
    pub(super) fn begin_record(&self, name: &str, record: &mut InstanceRecord) -> Result<bool> {
        let certain = self.certain()?;
        let (Some(one), Some(Deed::Start(how))) = (certain.desired.get(name), certain.deeds.get(name)) else { return Ok(false) };
        let Some(image) = &one.image else { return Ok(false) };
        let known = match record.containers.get(name) {
            Some(record) => record.generation,
            None => newest_generation(self.instance(), name)?,
        };
        let generation = if *how == How::Again { known.max(1) } else { known + 1 };
        let mut aspects = one.aspects.clone();
        aspects.extend(self.births(one)?);
        record.containers.insert(
            name.to_owned(),
            ContainerRecord {
                container: one.container.clone(),
                replica: one.replica,
                image_name: one.image_name.to_string(),
                image: image.digest,
                aspects,
                private: self.forge.loaded.project.private_of(&one.aspects),
                addresses: one.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect(),
                ports: one.ports.clone(),
                labels: one.spec.labels.clone(),
                web: one.web(),
                job: one.is_job().then_some(JobState::Begun),
                in_turns: one.spec.update.is_some(),
                generation,
            },
        );
        record.stopped.remove(name);
        Ok(true)
    }

    /// Which volumes a job is about to see: they may have been made since the plan was.
    fn births(&self, one: &Desired) -> Result<BTreeMap<String, String>> {
        let instance = self.instance();
        let mounted = one.volumes().filter(|_| one.is_job());
        let named = mounted.map(|name| Ok((volume_aspect(name), volume::birth(&instance.home, &instance.id, name)?)));
        named.collect()
    }
}

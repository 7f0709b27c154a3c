//! What would change about volumes: those of the project, with what fills them, and those for what images declare as data.

use super::deed::deed_of_seed;
use super::desired::Desired;
use super::image_cause::Known;
use super::task::{Change, Object, Symbol};
use super::wants;
use crate::model::Name;
use crate::project::{MountSource, NodePath};
use std::collections::{BTreeMap, BTreeSet};

impl Known<'_> {
    /// The volumes of the project that containers mount.
    pub fn used_volumes(&self) -> BTreeSet<Name> {
        let mounts = self.project.containers.values().flat_map(|container| &container.mounts);
        let named = mounts.filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name.clone()),
            MountSource::Bind(_) | MountSource::Image(_) => None,
        });
        named.collect()
    }

    /// What would change about a volume of the project.
    pub fn volume_change(&self, name: &Name, desired: &BTreeMap<String, Desired>) -> Option<Change> {
        let is_there = self.observed.record.volumes.contains(name);
        let mut causes = if is_there { Vec::new() } else { vec![self.at(&NodePath::volume(name), "not there yet")] };
        let (mut detail, mut wanted) = (String::new(), None);
        let filler = desired.values().find_map(|one| Some((one, one.seed.as_ref().filter(|seed| seed.volume == *name)?)));
        if let Some((one, seed)) = filler.filter(|(_, seed)| !seed.is_filled(self.observed)) {
            let (job, path) = (&one.container, NodePath::volume(name).node("seed"));
            let kept = seed.kept(self.observed);
            detail = match deed_of_seed(self.observed, one, seed, one.image.is_none()) {
                None => "its seed is kept".to_owned(),
                Some(_) if kept.is_some() => format!("as job {job} has filled it before"),
                Some(_) => format!("filled by job {job}"),
            };
            if is_there {
                causes.push(self.at(&path, format!("the job {job} has not filled it to the end")));
            }
            if let Some((_, folder)) = kept.and_then(|kept| kept.elsewhere.as_ref()) {
                causes.push(self.at(&path, format!("{folder} has the same seed")));
            }
            wanted = kept.map(|kept| kept.name.as_str());
        }
        if causes.is_empty() {
            return None;
        }
        let symbol = if is_there { Symbol::Change } else { Symbol::Create };
        let wants = Some(wants::volume((self.project, self.observed), name, wanted));
        Some(Change { symbol, object: Object::Volume, name: name.to_string(), detail, causes, trust: Vec::new(), wants })
    }

    /// The volumes that are made for what a container's image declares as data.
    pub fn image_volumes(&self, wish: &Desired) -> Vec<Change> {
        let new = wish.kept.iter().filter(|(_, volume)| !self.observed.record.volumes.contains(*volume));
        let change = |(path, volume): (&String, &Name)| {
            let text = format!("the image of {} keeps data in {path}, and nothing is mounted there", wish.name);
            Change {
                symbol: Symbol::Create,
                object: Object::Volume,
                name: volume.to_string(),
                detail: format!("{path} of {}", wish.name),
                causes: vec![self.at(&NodePath::container(&wish.container).node("image"), text)],
                trust: Vec::new(),
                wants: Some(wants::volume((self.project, self.observed), volume, None)),
            }
        };
        new.map(change).collect()
    }
}

//! Why a replica is created, replaced or started: what changed of it.

use super::cause::Cause;
use super::desired::Desired;
use super::difference::change_of;
use super::hidden::{Covered, covered};
use super::image_cause::{Known, cause};
use super::images::step_records;
use super::observed::{Down, IMAGE_VOLUME, Seen};
use crate::project::NodePath;
use std::collections::BTreeMap;

impl Known<'_> {
    /// That a mount of the container hides a file because of which its image is built again.
    pub fn covered(&self, wish: &Desired) -> Option<Cause> {
        let (image, before) = (self.project.images.get(&wish.image_name)?, self.observed.record.images.get(&wish.image_name)?);
        let now = step_records(self.project, self.lock, &wish.image_name, self.facts);
        let Covered { file, mount } = covered(image, self.facts, before, &now, wish)?;
        let text = format!("{file} is covered by the mount at {mount} here; an ignore file would keep it out of the image");
        Some(self.at(&NodePath::container(&wish.container).named("mount", mount), text))
    }

    /// Why a container does not run.
    pub fn why_down(&self, wish: &Desired, all: &BTreeMap<String, Desired>, otherwise: &str) -> Cause {
        match self.observed.containers.get(&wish.name) {
            Some(Seen::Down(Down::Stopped)) => cause("somebody stopped it"),
            Some(Seen::Down(Down::Ended(status))) => cause(format!("its command ended with exit status {status}")),
            Some(Seen::Down(Down::TimedOut(after))) => cause(format!("it timed out after {after}")),
            _ => self.needed_failed(wish, all).unwrap_or_else(|| cause(otherwise)),
        }
    }

    /// That something a container depends on has failed, so that it was not started.
    fn needed_failed(&self, wish: &Desired, all: &BTreeMap<String, Desired>) -> Option<Cause> {
        wish.spec.depends_on.keys().find_map(|needed| {
            let path = NodePath::container(&wish.container).named("depends-on", needed);
            all.values().filter(|other| other.container == *needed).find_map(|other| {
                let name = &other.name;
                match self.observed.containers.get(name) {
                    Some(Seen::Down(Down::Ended(status))) => {
                        Some(self.at(&path, format!("it depends on {name}, which ended with exit status {status}")))
                    }
                    Some(Seen::Down(Down::TimedOut(after))) => {
                        Some(self.at(&path, format!("it depends on {name}, which timed out after {after}")))
                    }
                    Some(Seen::Down(Down::Lost)) => {
                        let deeper = self.needed_failed(other, all)?;
                        Some(deeper.under(format!("it depends on {name}, which was not started")))
                    }
                    Some(Seen::Running | Seen::Finished | Seen::Down(Down::Stopped)) | None => None,
                }
            })
        })
    }

    /// Why a container that does not exist is created.
    pub fn creation(&self, wish: &Desired) -> Cause {
        let path = NodePath::container(&wish.container);
        if self.observed.record.stopped.contains(&wish.name) && wish.is_job() {
            return cause("its last result was removed");
        }
        if self.observed.record.stopped.contains(&wish.name) {
            return cause("somebody removed it");
        }
        match self.observed.record.containers.values().filter(|record| record.container == wish.container).count() {
            0 => self.at(&path, "not there yet"),
            before => self.at(&path.node("replicas"), format!("replicas {before} → {}", wish.spec.replicas)),
        }
    }

    pub fn aspect_cause(&self, wish: &Desired, key: &str, old: Option<&String>, new: Option<&String>) -> Cause {
        let path = NodePath::container(&wish.container).aspect(key);
        let record = self.observed.record.containers.get(&wish.name);
        let is_private =
            || record.is_some_and(|record| record.private.contains(key)) || self.project.private_of(&wish.aspects).contains(key);
        let text = match (key, old, new) {
            ("image", Some(_), Some(_)) => return self.image_cause(wish),
            _ if let Some(path) = key.strip_prefix(IMAGE_VOLUME) => match new {
                Some(_) => format!("what its image keeps in {path} gets a volume"),
                None => format!("its image keeps nothing in {path}, or something is mounted there"),
            },
            _ if let Some(volume) = key.strip_prefix("volume.") => format!("volume {volume} is another one than when it ran"),
            (_, Some(old), Some(new)) if !is_private() => change_of(key, old, new).unwrap_or_else(|| format!("{key} changed")),
            (_, None, Some(_)) => format!("{key} is new"),
            (_, Some(_), None) => format!("{key} is gone"),
            _ => format!("{key} changed"),
        };
        self.at(&path, text)
    }

    /// Why a container's image differs from the one on record.
    fn image_cause(&self, wish: &Desired) -> Cause {
        let record = self.observed.record.containers.get(&wish.name);
        if record.is_some_and(|record| record.image_name != wish.image_name.as_str()) {
            return self.at(&NodePath::container(&wish.container).node("image"), format!("image is {} now", wish.image_name));
        }
        if self.observed.pinned.contains_key(&wish.image_name) {
            return cause(format!("that generation has another image {}", wish.image_name));
        }
        let text = format!("image {} changed", wish.image_name);
        // If another project or an earlier command has built it already, the inputs still show why.
        let before = self.observed.record.images.get(&wish.image_name);
        let deeper = before
            .filter(|before| record.is_some_and(|record| record.image == before.digest))
            .map(|before| self.image_causes(&wish.image_name, Some(before), &BTreeMap::new()));
        match deeper.and_then(|causes| causes.into_iter().next()) {
            Some(deeper) => deeper.under(text),
            None => cause(text),
        }
    }
}

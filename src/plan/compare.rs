//! Compares two versions of an environment, in the words of its project.

use super::difference::change_of;
use super::observed::{ContainerRecord, ImageRecord};
use crate::model::Name;
use crate::project::Project;
use std::collections::{BTreeMap, BTreeSet};

/// A version of an environment.
pub struct Version<'a> {
    pub project: &'a Project,
    pub containers: &'a BTreeMap<String, ContainerRecord>,
    pub images: &'a BTreeMap<Name, ImageRecord>,
}

/// What is different, line by line.
pub fn compare(old: &Version, new: &Version) -> Vec<String> {
    let mut lines = Vec::new();
    let mut sets = |kind: &str, old: BTreeSet<&Name>, new: BTreeSet<&Name>| {
        lines.extend(old.difference(&new).map(|name| format!("- {kind} {name}")));
        lines.extend(new.difference(&old).map(|name| format!("+ {kind} {name}")));
    };
    let (a, b) = (old.project, new.project);
    sets("image", a.images.keys().collect(), b.images.keys().collect());
    sets("network", a.networks.keys().collect(), b.networks.keys().collect());
    sets("volume", a.volumes.keys().collect(), b.volumes.keys().collect());
    sets("secret", a.secrets.keys().collect(), b.secrets.keys().collect());
    sets("config", a.configs.keys().collect(), b.configs.keys().collect());
    sets("container", a.containers.keys().collect(), b.containers.keys().collect());
    for (name, one) in old.images {
        let Some(other) = new.images.get(name).filter(|other| other.digest != one.digest) else { continue };
        lines.push(format!("~ image {name} {} → {}", one.digest.short(12), other.digest.short(12)));
        let private = |key: &str| one.private.contains(key) || other.private.contains(key);
        lines.extend(differences(&one.settings, &other.settings, &private));
        let steps = one.steps.len().max(other.steps.len());
        for step in (0..steps).filter(|step| one.steps.get(*step) != other.steps.get(*step)) {
            let what = match (one.steps.get(step), other.steps.get(step)) {
                (Some(one), Some(other)) if one.definition == other.definition => "what it takes is different",
                (Some(_), Some(_)) => "is another one",
                (None, _) => "is new",
                (_, None) => "is gone",
            };
            lines.push(format!("    step {} {what}", step + 1));
        }
    }
    for (name, container) in &b.containers {
        let first = |version: &Version| version.containers.values().find(|record| record.container == *name).cloned();
        let Some(before) = a.containers.get(name) else { continue };
        let mut found = Vec::new();
        if before.replicas != container.replicas {
            found.push(format!("    replicas {} → {}", before.replicas, container.replicas));
        }
        if let (Some(one), Some(other)) = (first(old), first(new)) {
            let private = |key: &str| one.private.contains(key) || other.private.contains(key);
            found.extend(differences(&one.aspects, &other.aspects, &private));
        }
        if !found.is_empty() {
            lines.push(format!("~ container {name}"));
            lines.extend(found);
        }
    }
    lines
}

fn differences(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>, private: &dyn Fn(&str) -> bool) -> Vec<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
    let line = |key: &String| match (old.get(key), new.get(key)) {
        (None, _) => format!("    {key} is new"),
        (_, None) => format!("    {key} is gone"),
        (Some(_), Some(_)) if private(key) => format!("    {key} changed"),
        (Some(_), Some(_)) if key == "image" => "    its image is another one".to_owned(),
        (Some(old), Some(new)) => format!("    {}", change_of(key, old, new).unwrap_or_else(|| format!("{key} changed"))),
    };
    keys.into_iter().map(line).collect()
}

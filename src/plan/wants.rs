//! What a change wants: a digest of everything that determines its result.
//!
//! A saved plan is applied only if a plan made now is the same, including these digests. They are bound to the instance.
//! A digest does not reveal its input, but a short password in that input can be guessed: keep a saved plan as private
//! as the project's variables.

use super::desired::Desired;
use super::observed::{Facts, NetworkRecord, Observed};
use crate::lock::{Lock, remotes};
use crate::model::{Digest, Name};
use crate::project::{Base, MountSource, Outside, Project, Step};
use serde::Serialize;
use std::collections::BTreeMap;

fn digest(observed: &Observed, kind: &str, value: &impl Serialize) -> Digest {
    Digest::of_json(&("wants 1", &observed.instance, kind, value))
}

/// A container without its images: those that are not built yet are changes of their own, and the others are in
/// [`Plan::images`](super::Plan::images).
pub fn container(observed: &Observed, wish: &Desired) -> Digest {
    let of_image = |path: &str| {
        wish.spec
            .mounts
            .iter()
            .any(|mount| matches!(mount.source, MountSource::Image(_)) && path == format!("mount.{}", mount.to))
    };
    let aspects: BTreeMap<&String, &String> =
        wish.aspects.iter().filter(|(path, _)| path.as_str() != "image" && !of_image(path)).collect();
    let networks: Vec<_> =
        wish.networks.iter().map(|there| (&there.network, &there.record, there.address, &there.alias)).collect();
    digest(observed, "container", &(&wish.name, &wish.spec, aspects, networks, &wish.ports))
}

/// An image that must be built.
pub fn image((project, lock, observed): (&Project, &Lock, &Observed), facts: &dyn Facts, name: &Name) -> Digest {
    let Some(image) = project.images.get(name) else { return digest(observed, "image", name) };
    let files: Vec<Option<Digest>> =
        (0..image.steps.len()).map(|index| facts.tree(name, index).ok().map(super::FileTree::digest)).collect();
    let archive = match &image.from {
        Base::Outside(outside @ Outside::Archive { .. }) => facts.archive(outside).ok(),
        _ => None,
    };
    let reference = match &image.from {
        Base::Outside(Outside::Reference(reference)) => lock.images.get(reference).map(|locked| &locked.platforms),
        _ => None,
    };
    let debian = image.steps.iter().filter_map(|step| if let Step::Debian(debian) = step { Some(debian) } else { None });
    let packages: Vec<_> =
        debian.enumerate().map(|(index, debian)| lock.packages(&(name.clone(), index), debian).map(packages)).collect();
    let added: Vec<_> = remotes(project).filter(|(image, ..)| *image == name).map(|(.., what)| lock.remotes.get(&what)).collect();
    digest(observed, "image", &(name, image, files, archive, reference, packages, added, lock.epoch))
}

fn packages(locked: Vec<&crate::lock::LockedPackage>) -> Vec<(String, Digest)> {
    locked.into_iter().map(|package| (package.key(), package.sha256)).collect()
}

/// A network.
pub fn network((project, observed): (&Project, &Observed), name: &Name, record: &NetworkRecord) -> Digest {
    digest(observed, "network", &(project.networks.get(name), record))
}

/// A volume, with the snapshot that it is made from, if there is one.
pub fn volume((project, observed): (&Project, &Observed), name: &Name, seed: Option<&str>) -> Digest {
    match seed {
        None => digest(observed, "volume", &project.volumes.get(name)),
        Some(seed) => digest(observed, "seeded volume", &(project.volumes.get(name), seed)),
    }
}

/// Something that must be resolved.
pub fn resolved(observed: &Observed, request: &impl Serialize) -> Digest {
    digest(observed, "lock", request)
}

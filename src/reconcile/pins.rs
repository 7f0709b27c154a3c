//! What an instance protects from garbage collection in the store: its images, and what its lock file names.

use crate::instance::{Instance, LoadedProject};
use crate::lock::Lock;
use crate::model::{Digest, Result};
use crate::plan::{self, ImageRecord, InstanceRecord};
use crate::project::{Add, AddSource, Step};
use crate::store::{Pin, Store};
use std::collections::BTreeSet;

/// Sets the instance's root in the store: its images, their layers, and what the lock file names.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn pin(loaded: &LoadedProject, store: &Store, record: &InstanceRecord, lock: &Lock) -> Result<()> {
    let adds = loaded.project.images.values().flat_map(|image| &image.steps);
    let files = adds.filter_map(|step| match step {
        Step::Add(Add { source: AddSource::Url { sha256, .. }, .. }) => *sha256,
        _ => None,
    });
    pin_all(&loaded.instance, store, record, lock, files.collect())
}

/// Like [`pin`], for callers that have no loaded project.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn pin_record(instance: &Instance, store: &Store, record: &InstanceRecord, lock: &Lock) -> Result<()> {
    pin_all(instance, store, record, lock, BTreeSet::new())
}

fn pin_all(
    instance: &Instance,
    store: &Store,
    record: &InstanceRecord,
    lock: &Lock,
    mut digests: BTreeSet<Digest>,
) -> Result<()> {
    let images =
        record.images.values().map(|image| image.digest).chain(record.containers.values().map(|container| container.image));
    let images = images.chain(record.commits.values().copied());
    for digest in images.collect::<BTreeSet<_>>() {
        digests.insert(digest);
        if let Some(image) = crate::image::load(store, &digest) {
            digests.extend(image.parts());
            digests.insert(plan::image_key(lock.epoch, &image.config, &image.layers));
            digests.extend(store.blob(&digest).iter().filter_map(|manifest| {
                let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
                Digest::parse(manifest["config"]["digest"].as_str()?)
            }));
        }
    }
    digests.extend(record.images.values().flat_map(|image: &ImageRecord| &image.steps).filter_map(|step| step.listing));
    for suite in lock.suites.values() {
        digests.extend(suite.packages.values().map(|package| package.sha256));
        digests.extend(suite.indexes.values().map(|index| index.packages));
    }
    digests.extend(lock.images.values().flat_map(|image| image.platforms.values()));
    digests.extend(lock.remotes.values().filter_map(|known| Digest::parse(known)));
    store.set_root(&instance.id, &Pin { folder: instance.folder.clone(), project: record.project.clone(), digests })
}

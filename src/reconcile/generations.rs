//! Keeps a generation after each `up` that changed something, with its images in the store.

use crate::git;
use crate::instance::{Generation, Instance, LoadedProject, Observation, generation_numbers};
use crate::model::{Digest, Name, Result};
use crate::monitor::now_ms;
use crate::plan::{Change, Image, InstanceRecord};
use crate::project::ConfigSource;
use crate::store::{Pin, Store};
use crate::volume;
use std::collections::BTreeMap;

/// How many generations' images are kept in the store without anybody asking.
pub const KEPT: usize = 10;

/// What a finished `up` resulted in.
pub struct Reached<'a> {
    pub command: &'a str,
    pub ok: bool,
    pub changes: &'a [Change],
    pub images: &'a BTreeMap<Name, Image>,
    pub record: &'a InstanceRecord,
}

/// Keeps a generation.
///
/// # Errors
/// Fails when it cannot be written.
pub fn keep(loaded: &LoadedProject, observation: &Observation, store: &Store, reached: &Reached) -> Result<()> {
    let instance = &loaded.instance;
    let numbers = generation_numbers(instance)?;
    let number = numbers.last().map_or(1, |last| last + 1);
    let (project, places) = match &loaded.restored {
        Some(restored) => (restored.project.clone(), restored.places.clone()),
        None => (loaded.project.clone(), loaded.places.clone()),
    };
    let from_files = project.configs.iter().filter(|(_, source)| matches!(source, ConfigSource::File(_)));
    let configs = from_files.filter_map(|(name, _)| Some((name.clone(), observation.contents.get(name)?.clone()))).collect();
    let generation = Generation {
        number,
        at: now_ms(),
        command: reached.command.to_owned(),
        author: author(),
        branch: if instance.checkout.is_some() { None } else { git::checked_out(&instance.folder) },
        commit: match &instance.checkout {
            Some(checkout) => Some(checkout.commit.clone()),
            None => git::head_commit(&instance.folder),
        },
        ok: reached.ok,
        of: loaded.restored.as_ref().map(|restored| restored.origin()),
        project,
        places,
        images: reached.images.clone(),
        records: reached.record.images.clone(),
        containers: reached.record.containers.clone(),
        configs,
        env_files: observation.observed.env_files.clone(),
        inputs: observation.observed.inputs.clone(),
        changes: reached.changes.to_vec(),
    };
    let digests = reached.images.values().flat_map(Image::parts).copied().collect();
    pin(store, instance, number, digests, loaded.project.name.as_str())?;
    generation.save(instance)?;
    for old in numbers.iter().rev().skip(KEPT - 1) {
        unpin(store, instance, *old);
        // Volumes that were going back to one of them have done so: this generation came after.
        volume::forget_generation(&instance.home, &instance.id, *old)?;
    }
    Ok(())
}

fn root(instance: &Instance, number: u64) -> String {
    format!("{}-{number}", instance.id)
}

fn pin(
    store: &Store,
    instance: &Instance,
    number: u64,
    digests: std::collections::BTreeSet<Digest>,
    project: &str,
) -> Result<()> {
    let pin = Pin { folder: instance.folder.clone(), project: project.to_owned(), digests };
    store.set_root(&root(instance, number), &pin)
}

/// Lets go of what a generation keeps in the store.
pub fn unpin(store: &Store, instance: &Instance, number: u64) {
    store.remove_root(&root(instance, number));
}

/// Who typed the command: the caller of sudo, else the account.
fn author() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok());
    let mut named = named.filter(|name| !name.is_empty());
    named.next().unwrap_or_else(|| format!("user {}", nix::unistd::getuid()))
}

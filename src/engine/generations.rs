//! Generations of an environment: listing, comparing and bringing back.

use crate::instance::{
    Generation, Instance, LoadedProject, Reporter, UpOptions, forget_generation, generation, generation_numbers, generations,
    newest_generation,
};
use crate::model::{Error, Result};
use crate::plan::{Planned, Version, compare};
use crate::project::Locations;
use crate::reconcile::{self, Converged};
use crate::store::Store;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The generation that a command means by a number; without one, the newest.
///
/// # Errors
/// Fails when there is none, or when it is damaged.
pub fn generation_meant(instance: &Instance, number: Option<u64>) -> Result<Generation> {
    match number {
        Some(number) => generation(instance, number),
        None => newest_generation(instance)?
            .ok_or_else(|| Error::new("there is no generation yet").hint("`stead up` makes the first one")),
    }
}

/// The generation that is meant by a number, and `None` for what names a commit. Digits alone are a generation, unless there is
/// none of that number and as many digits can begin the id of a commit.
///
/// # Errors
/// Fails when there is no such generation, or when it is damaged.
pub fn generation_or_commit(instance: &Instance, at: &str) -> Result<Option<Generation>> {
    /// The fewest digits that git takes for the beginning of an id.
    const FEWEST: usize = 4;
    let Ok(number) = at.parse() else { return Ok(None) };
    if at.len() >= FEWEST && !generation_numbers(instance)?.contains(&number) {
        return Ok(None);
    }
    generation(instance, number).map(Some)
}

/// What is different between two generations, line by line, in the words of the project.
pub fn generations_differ(old: &Generation, new: &Generation) -> Vec<String> {
    fn version(of: &Generation) -> Version<'_> {
        Version { project: &of.project, containers: &of.containers, images: &of.records }
    }
    compare(&version(old), &version(new))
}

/// The generation that `rollback` goes to without a number: the newest one that came up before the current one. Going back
/// twice goes two back.
///
/// # Errors
/// Fails when there is none.
pub fn generation_before(instance: &Instance) -> Result<Generation> {
    let all = generations(instance)?;
    let current = all.last().map(Generation::origin);
    let before = |one: &&Generation| one.of.is_none() && one.ok && current.is_some_and(|current| one.number < current);
    all.iter().rfind(before).cloned().ok_or_else(|| {
        Error::new("there is no earlier generation that came up")
            .hint("`stead history` lists what there is; `stead rollback NUMBER` goes to any of it")
    })
}

/// A generation as a project, so that `up` brings it back.
///
/// # Errors
/// Fails when something that it needs is no longer in the store.
pub fn restored(instance: &Instance, generation: Generation) -> Result<LoadedProject> {
    let store = Store::at(&instance.home.store);
    let is_there = |image: &crate::plan::Image| {
        crate::image::load(&store, &image.digest).is_some()
            && image.layers.iter().all(|layer| store.layer_path(&layer.diff_id).exists())
    };
    let lost: Vec<&str> = generation.images.iter().filter(|(_, image)| !is_there(image)).map(|(name, _)| name.as_str()).collect();
    if !lost.is_empty() {
        let why = format!(
            "generation {} cannot be brought back: {} {} no longer in the store",
            generation.number,
            lost.join(", "),
            if lost.len() == 1 { "is" } else { "are" }
        );
        let help = match &generation.commit {
            Some(commit) => {
                format!("`git checkout {}` and `stead up` build it again from stead.lock", &commit[..commit.len().min(12)])
            }
            None => "bring the project's files back as they were; `stead up` then builds it again from stead.lock".to_owned(),
        };
        return Err(Error::new(why).hint(help));
    }
    let mut instance = instance.clone();
    instance.project = generation.project.name.to_string();
    // The images are there, so nothing of how they are made matters.
    let project = crate::project::Project { images: BTreeMap::new(), ..generation.project.clone() };
    Ok(LoadedProject {
        instance,
        project,
        places: Locations::default(),
        warnings: Vec::new(),
        files: BTreeMap::new(),
        unsettled: Vec::new(),
        restored: Some(Box::new(generation)),
    })
}

/// What bringing back a generation would do.
///
/// # Errors
/// Fails when something that it needs is gone, or is in the way.
pub fn plan_back(instance: &Instance, generation: Generation) -> Result<Planned> {
    reconcile::plan_only(&restored(instance, generation)?)
}

/// Brings back a generation.
///
/// # Errors
/// Fails when something that it needs is gone, and as `up` does.
pub fn go_back(instance: &Instance, generation: Generation, options: &UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    reconcile::up(&restored(instance, generation)?, options, reporter)
}

/// Forgets all but the newest generations. Returns how many were forgotten. The newest one always stays: it is what is up.
///
/// # Errors
/// Fails when one cannot be removed.
pub fn keep_generations(instance: &Instance, count: NonZeroUsize) -> Result<usize> {
    let _queue = instance.lock()?;
    let store = Store::at(&instance.home.store);
    let old: Vec<u64> = generation_numbers(instance)?.into_iter().rev().skip(count.get()).collect();
    for number in &old {
        reconcile::unpin(&store, instance, *number);
        forget_generation(instance, *number)?;
    }
    Ok(old.len())
}

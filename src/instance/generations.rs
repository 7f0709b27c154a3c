//! Generations of an environment: what each `up` that changed something resulted in, complete enough to bring it back.

use super::identity::{Instance, private_folder};
use crate::model::{Context, Error, Name, Result};
use crate::plan::{Change, ContainerRecord, Image, ImageRecord};
use crate::project::{Locations, Project};
use crate::store::{Kept, read_state, state_bytes};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One generation of an environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, counted from 1.
    pub number: u64,
    /// When it was reached, in milliseconds since 1970.
    pub at: u64,
    pub command: String,
    /// Who typed the command.
    pub author: String,
    /// What was checked out in the project's directory.
    pub branch: Option<String>,
    pub commit: Option<String>,
    /// Whether everything came up.
    pub ok: bool,
    /// The earlier generation that it brought back.
    pub of: Option<u64>,
    pub project: Project,
    pub places: Locations,
    pub images: BTreeMap<Name, Image>,
    /// What the images were made of.
    pub records: BTreeMap<Name, ImageRecord>,
    pub containers: BTreeMap<String, ContainerRecord>,
    /// The contents of configs. Secrets are not kept.
    pub configs: BTreeMap<Name, Vec<u8>>,
    pub env_files: BTreeMap<String, BTreeMap<String, String>>,
    /// What the inputs of jobs were, so that bringing it back runs none again.
    pub inputs: BTreeMap<Name, BTreeMap<String, String>>,
    pub changes: Vec<Change>,
}

impl Kept for Generation {
    const KIND: &'static str = "generation";
    const VERSION: u32 = 1;
}

impl Generation {
    /// The generation that this one is, apart from when it was reached.
    pub fn origin(&self) -> u64 {
        self.of.unwrap_or(self.number)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn save(&self, instance: &Instance) -> Result<()> {
        let folder = folder(instance);
        private_folder(&folder)?;
        let path = folder.join(format!("{}.json", self.number));
        sys::write_lasting(&path, &state_bytes(self)?, 0o600)
            .map_err(|error| crate::store::disk_error(&format!("cannot write {}", path.display()), error))
    }
}

fn folder(instance: &Instance) -> PathBuf {
    instance.state().join("generations")
}

/// The numbers of the generations that are kept, in order.
///
/// # Errors
/// Fails when they cannot be listed.
pub fn generation_numbers(instance: &Instance) -> Result<Vec<u64>> {
    let names = sys::names(&folder(instance)).context(|| "cannot list the generations".into())?;
    let mut found: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads a generation.
///
/// # Errors
/// Fails when it is not kept, is damaged or cannot be read.
pub fn generation(instance: &Instance, number: u64) -> Result<Generation> {
    if let Some(found) = read_state(&folder(instance).join(format!("{number}.json")))? {
        return Ok(found);
    }
    let known = generation_numbers(instance)?;
    let error = Error::new(format!("there is no generation {number}"));
    Err(match (known.first(), known.last()) {
        (Some(first), Some(last)) => error.hint(format!("`stead history` lists {first} to {last}")),
        _ => error.hint("nothing was up here yet; `stead up` makes the first one"),
    })
}

/// Reads all generations, the oldest first.
///
/// # Errors
/// Fails when one is damaged or cannot be read.
pub fn generations(instance: &Instance) -> Result<Vec<Generation>> {
    generation_numbers(instance)?.into_iter().map(|number| generation(instance, number)).collect()
}

/// The newest generation.
///
/// # Errors
/// Fails when it is damaged or cannot be read.
pub fn newest_generation(instance: &Instance) -> Result<Option<Generation>> {
    generation_numbers(instance)?.last().map(|number| generation(instance, *number)).transpose()
}

/// Forgets a generation.
///
/// # Errors
/// Fails when its file cannot be removed.
pub fn forget_generation(instance: &Instance, number: u64) -> Result<()> {
    let path = folder(instance).join(format!("{number}.json"));
    std::fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))
}

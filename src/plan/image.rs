//! Images and what steps come to, as they are kept on record.

use crate::model::{Digest, LayerInfo};
use crate::project::Health;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a container takes from its image.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub user: String,
    pub cmd: Vec<String>,
    pub entrypoint: Vec<String>,
    pub expose: Vec<(u16, u16)>,
    #[serde(default)]
    pub expose_udp: Vec<(u16, u16)>,
    #[serde(default)]
    pub onbuild: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub health: Option<Health>,
    /// What runs a command of one string, where it is not /bin/sh -c.
    #[serde(default)]
    pub shell: Vec<String>,
}

impl Config {
    /// The words that a command of one string is given to.
    pub fn shell(&self) -> Vec<String> {
        if self.shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { self.shell.clone() }
    }
}

/// An image in the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest: its identity.
    pub digest: Digest,
    pub config: Config,
    /// From the lowest layer up.
    pub layers: Vec<LayerInfo>,
}

impl Image {
    /// Everything in the store that it consists of.
    pub fn parts(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.layers.iter().flat_map(|layer| [Some(&layer.diff_id), layer.blob.as_ref().map(|blob| &blob.digest)]);
        layers.flatten().chain([&self.digest])
    }
}

/// What a step came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepOutput {
    /// Absent when the step changed nothing.
    pub layer: Option<LayerInfo>,
    /// Packages whose scripts did nothing for us.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// What a step depends on, for telling why it must run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StepInputs {
    Packages(Vec<String>),
    Files(Digest),
    /// Only on what is below it.
    Below,
}

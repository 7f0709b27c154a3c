//! Images and the results of steps, as they are kept on record.

use crate::model::{Digest, LayerInfo};
use crate::project::Health;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The configuration that a container gets from its image.
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
    pub expose_sctp: Vec<(u16, u16)>,
    #[serde(default)]
    pub onbuild: Vec<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub health: Option<Health>,
    /// The shell that runs a command of one string, if it is not /bin/sh -c.
    #[serde(default)]
    pub shell: Vec<String>,
}

impl Config {
    /// The words of the shell that gets a command of one string.
    pub fn shell(&self) -> Vec<String> {
        if self.shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { self.shell.clone() }
    }
}

/// An image in the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest, which identifies it.
    pub digest: Digest,
    pub config: Config,
    /// Its layers, from the lowest up.
    pub layers: Vec<LayerInfo>,
}

impl Image {
    /// Everything in the store that belongs to it.
    pub fn parts(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.layers.iter().flat_map(|layer| [Some(&layer.diff_id), layer.blob.as_ref().map(|blob| &blob.digest)]);
        layers.flatten().chain([&self.digest])
    }
}

/// The result of a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepOutput {
    /// The layer; absent if the step changed nothing.
    pub layer: Option<LayerInfo>,
    /// The packages whose scripts were not run, and whose effects are not provided otherwise.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// What a step depends on, to explain why it must run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StepInputs {
    Packages(Vec<String>),
    Files(Digest),
    /// Only the layers below it.
    Below,
}

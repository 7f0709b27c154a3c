//! The definition of an image: its base, its steps, and the configuration for its containers.

use super::container::Health;
use super::step::{RunMount, Step};
use crate::model::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Servers or directories that packages are fetched from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mirror {
    pub places: Vec<String>,
    pub suite: Option<String>,
}

/// An image: its base, then its steps.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    pub from: Base,
    /// The file of the public key that must have signed its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    pub steps: Vec<Step>,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub expose: Vec<(u16, u16)>,
    pub expose_udp: Vec<(u16, u16)>,
    #[serde(default)]
    pub expose_sctp: Vec<(u16, u16)>,
    pub labels: BTreeMap<String, String>,
    /// Who wrote it, as its configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub healthcheck: Option<Health>,
    /// Dockerfile instructions for images that start from it.
    pub onbuild: Vec<String>,
    /// Whether the layers of its own steps are merged into one.
    pub squash: bool,
}

/// The base of an image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Base {
    #[default]
    Scratch,
    Image(Name),
    Outside(Outside),
}

/// An image from elsewhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Outside {
    /// An OCI layout, as a directory or a tar, or the output of `docker save`, and the name of the image in it.
    Archive { path: String, name: Option<String> },
    /// The name of an image in the store or in a registry.
    Reference(String),
}

impl Image {
    /// The images that it starts from, copies from or mounts.
    pub fn needs(&self) -> impl Iterator<Item = &Name> {
        let base = if let Base::Image(name) = &self.from { Some(name) } else { None };
        let used = self.steps.iter().flat_map(|step| -> Vec<&Name> {
            match step {
                Step::Copy(copy) => copy.from.iter().collect(),
                Step::Run(run) => run.mounts.iter().filter_map(RunMount::image).collect(),
                _ => Vec::new(),
            }
        });
        base.into_iter().chain(used)
    }
}

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

/// Ranges of ports with each port in one of them, in order: ranges that overlap or meet become one.
pub fn merged_ports(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Ranges of ports as they are written in a project file.
pub fn shown_ports(ranges: &[(u16, u16)]) -> String {
    let one = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(one).collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_as_few_ranges() {
        for (ranges, wanted) in [
            (&[(80, 80), (81, 81), (83, 83)][..], "80-81 83"),
            (&[(8000, 9000), (8500, 8500), (8999, 9001)], "8000-9001"),
            (&[(65535, 65535), (1, 65535), (0, 0)], "0-65535"),
            (&[(65534, 65534), (65535, 65535), (65535, 65535)], "65534-65535"),
            (&[], ""),
        ] {
            assert_eq!(shown_ports(&merged_ports(ranges.to_vec())), wanted);
        }
        let each: Vec<(u16, u16)> = (1..=u16::MAX).rev().map(|port| (port, port)).collect();
        assert_eq!(merged_ports(each), [(1, 65535)]);
    }
}

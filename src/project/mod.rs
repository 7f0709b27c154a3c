//! The definition of an environment as plain values, independent of the language it was written in.
//!
//! The values contain no locations, so that equal projects compare equal: [`Locations`] records separately where each
//! part was written. `spec` creates a project from KDL and Dockerfiles; other input languages would produce the same
//! types.

mod command;
mod confine;
mod container;
mod cover;
mod image;
mod limits;
mod locations;
mod replica;
mod secret;
mod step;
mod watch;

pub use command::NamedCommand;
pub use confine::{Namespaces, NetworkMode, Security, is_namespaced};
pub use container::{
    Attachment, Container, EnvFile, FileUse, Health, JobSpec, Log, LogDriver, Mount, MountSource, Probe, Propagation, Protocol,
    Publish, Restart, Tmpfs, Until, Update, UpdateOrder, is_command_line, is_one_off,
};
pub use cover::{Cover, cover, no_sync, tidy};
pub use image::{Base, Image, Mirror, Outside};
pub use limits::{IoLimit, Limits, Ulimit};
pub use locations::{Locations, NodePath};
pub use replica::ReplicaId;
pub use secret::looks_secret;
pub use step::{
    Add, AddSource, BuildContext, Copy, Debian, GitSource, Repository, Run, RunMount, RunNetwork, RunSource, Sharing, Step,
    is_commit,
};
pub use watch::{Then, Watch, WatchRule};

use crate::model::{Name, Subnet};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

/// A project, as defined by its files, parameters and profiles.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Project {
    pub name: Name,
    pub mirrors: Vec<Mirror>,
    pub images: BTreeMap<Name, Image>,
    pub containers: BTreeMap<Name, Container>,
    pub networks: BTreeMap<Name, Network>,
    pub volumes: BTreeMap<Name, Volume>,
    pub secrets: BTreeMap<Name, String>,
    pub configs: BTreeMap<Name, ConfigSource>,
    /// The commands that have names; they affect no container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<Name, NamedCommand>,
    /// The variables of the caller's environment that parameters read, with their values.
    #[serde(default)]
    pub variables: BTreeMap<String, Option<String>>,
    /// The variables of the file `.env` that give values to parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The values that the command line gives to parameters.
    #[serde(default)]
    pub given: BTreeMap<String, String>,
    /// Where the values of parameters come from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParamSource>,
    /// What only profiles have that were not chosen.
    #[serde(default, skip_serializing_if = "Unchosen::is_empty")]
    pub unchosen: Unchosen,
}

/// Where the value of a parameter comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamSource {
    /// Its `default=`.
    Default,
    /// The variable of this name of the caller's environment.
    Environment(String),
    /// The variable of this name in the file `.env`.
    Settings(String),
    /// `--set`.
    Set,
}

impl ParamSource {
    /// Whether the value is in the project's files, where everybody can read it.
    pub fn is_of_project(&self) -> bool {
        *self == Self::Default
    }
}

impl fmt::Display for ParamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("its default"),
            Self::Environment(name) => write!(f, "{name} of the environment"),
            Self::Settings(name) => write!(f, "{name} in .env"),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// What a project has only with a profile that was not chosen, each with the profile's name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Unchosen {
    /// Containers and jobs.
    pub containers: BTreeMap<Name, String>,
    pub networks: BTreeMap<Name, String>,
}

impl Unchosen {
    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty()
    }
}

impl Project {
    /// The values that did not come from the project's files, each with the name of its variable or parameter.
    pub fn private(&self) -> Vec<(String, String)> {
        let variables = self.variables.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        variables.chain(self.settings.clone()).chain(self.given.clone()).collect()
    }

    /// The keys of those values that are never shown: they are not from the project's files, or their names are those of secrets.
    pub fn private_of(&self, values: &BTreeMap<String, String>) -> BTreeSet<String> {
        let private = self.private();
        let secret = |key: &str| key.strip_prefix("env.").is_some_and(looks_secret);
        let outside = |text: &str| private.iter().any(|(_, value)| value == text) || without_values(&private, text) != text;
        let hidden = values.iter().filter(|(key, value)| secret(key) || !private.is_empty() && outside(value));
        hidden.map(|(key, _)| key.clone()).collect()
    }

    /// Adds an image from elsewhere, under its own name.
    pub fn add_outside(&mut self, reference: &str) -> Name {
        let name = Name::of_reference(reference);
        let image = || Image { from: Base::Outside(Outside::Reference(reference.to_owned())), ..Image::default() };
        self.images.entry(name.clone()).or_insert_with(image);
        name
    }

    /// A container that has the name of another one's replica: commands could not tell the two apart.
    pub fn replica_clash(&self) -> Option<(&Name, &Name, u32)> {
        self.containers.keys().find_map(|name| {
            let replica = ReplicaId::parse(name.as_str())?;
            let (other, container) = self.containers.get_key_value(&replica.container)?;
            (replica.index <= container.replicas).then_some((name, other, replica.index))
        })
    }

    /// What must be signed: the image, the reference that it starts from, and the file of the key.
    pub fn signers(&self) -> impl Iterator<Item = (&Name, &str, &str)> {
        self.images.iter().filter_map(|(name, image)| {
            let (Base::Image(below), Some(key)) = (&image.from, &image.signed_by) else { return None };
            match &self.images.get(below)?.from {
                Base::Outside(Outside::Reference(text)) => Some((name, text.as_str(), key.as_str())),
                _ => None,
            }
        })
    }

    /// The containers that one waits for, directly or through others.
    pub fn needed_by(&self, name: &Name) -> BTreeSet<Name> {
        let (mut found, mut left) = (BTreeSet::new(), vec![name]);
        while let Some(next) = left.pop() {
            let needs = self.containers.get(next).into_iter().flat_map(|container| container.depends_on.keys());
            left.extend(needs.filter(|needed| found.insert((*needed).clone())));
        }
        found
    }

    /// The volume that a job fills once.
    pub fn seeded_by(&self, job: &Name) -> Option<&Name> {
        self.volumes.iter().find(|(_, volume)| volume.seed.as_ref() == Some(job)).map(|(name, _)| name)
    }

    /// The paths that an image declares as data, as far as the project says it: by itself, or by images of the project that it
    /// starts from.
    pub fn image_volumes(&self, image: &Name) -> BTreeSet<&str> {
        let (mut found, mut at) = (BTreeSet::new(), image);
        for _ in 0..=self.images.len() {
            let Some(image) = self.images.get(at) else { break };
            found.extend(image.volumes.iter().map(String::as_str));
            let Base::Image(base) = &image.from else { break };
            at = base;
        }
        found
    }

    /// The project with a mount where the images of its containers declare data, as those that run have: what is synced there
    /// goes into a volume. Whose it is is left open.
    #[must_use]
    pub fn with_image_volumes(&self) -> Self {
        let mut all = self.clone();
        for container in all.containers.values_mut() {
            let declared = self.image_volumes(&container.image).into_iter().filter(|path| !container.covers(Path::new(path)));
            let mounts: Vec<Mount> = declared.map(|path| Mount::of_volume(Name::none(), path)).collect();
            container.mounts.extend(mounts);
        }
        all
    }

    /// The references of images that must be in the lock file.
    pub fn references(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.images.iter().filter_map(|(name, image)| match &image.from {
            Base::Outside(Outside::Reference(text)) => Some((name, text.as_str())),
            _ => None,
        })
    }
}

/// The shortest value that is replaced: a shorter one is not a secret, and would occur all over a text.
const PRIVATE: usize = 4;

/// Replaces the values of variables in a text by their names: a value from the caller's environment may be a
/// password, and plans end up in logs.
pub fn without_values(values: &[(String, String)], text: &str) -> String {
    let known = values.iter().map(|(name, value)| (value.as_str(), name));
    let mut all: Vec<(&str, &String)> = known.filter(|(value, _)| value.chars().count() >= PRIVATE).collect();
    // Longer values first: one may be part of another.
    all.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    all.into_iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, &format!("${{{name}}}")))
}

/// A network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    pub internal: bool,
    pub subnet: Option<Subnet>,
    pub gateway: Option<Ipv4Addr>,
    pub mtu: Option<u32>,
    pub external: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Volume {
    pub labels: BTreeMap<String, String>,
    /// The job that fills it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Name>,
}

/// Where a config's text comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigSource {
    File(String),
    Content(String),
}

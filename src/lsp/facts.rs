//! What the machine knows about a project: its lock, the sizes of images, what is up. Only read, and never waited for: the
//! threads of `work` gather it, and answers use what is there.

use super::document::Document;
use crate::engine::{self, Instance, Which};
use crate::image;
use crate::lock::{Lock, LockedPackage};
use crate::model::{Digest, Name, Result, Size};
use crate::monitor::{Health, State};
use crate::store::Store;
use std::collections::BTreeMap;

/// What is locked, and how large it is here.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Locked {
    pub lock: Lock,
    /// The sizes of images that are in the store, in bytes, by reference.
    pub sizes: BTreeMap<String, u64>,
}

/// What was built and what is up.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    /// How long the steps of each image took when they last ran, in milliseconds.
    pub builds: BTreeMap<String, u64>,
    /// The subnets of networks.
    pub networks: BTreeMap<String, String>,
    pub replicas: Vec<Replica>,
}

/// A replica of a container.
#[derive(Clone, PartialEq, Debug)]
pub struct Replica {
    pub name: String,
    pub container: String,
    pub state: State,
    pub health: Health,
    /// The published ports, as `127.0.0.1:8080`.
    pub ports: Vec<String>,
    /// Its addresses, by network.
    pub addresses: BTreeMap<String, String>,
}

impl Locked {
    /// Reads the lock file of a project.
    ///
    /// # Errors
    /// Fails when the lock file is damaged or cannot be read.
    pub fn read(instance: &Instance) -> Result<Self> {
        let lock = engine::read_lock(instance)?;
        let store = Store::at(&instance.home.store);
        let size = |reference: &String| {
            let image = image::load(&store, &lock.image(reference)?)?;
            Some((reference.clone(), image.layers.iter().map(|layer| layer.size).sum()))
        };
        let sizes = lock.images.keys().filter_map(size).collect();
        Ok(Self { lock, sizes })
    }

    /// The digest of an image from elsewhere.
    pub fn digest(&self, reference: &str) -> Option<Digest> {
        self.lock.image(reference)
    }

    /// The locked package that a name in a `package` node stands for.
    pub fn package(&self, document: &Document, node: usize, name: &str) -> Option<&LockedPackage> {
        let (debian, image) = debian_step(document, node)?;
        let index = document
            .scan
            .children(Some(image))
            .filter(|other| document.name(*other) == "debian")
            .position(|one| one == debian)?;
        let step = self.lock.steps.get(&(Name::parse(&document.first(image)?).ok()?, index))?;
        let prefix = format!("{name}=");
        let key = step.packages.iter().find(|key| key.starts_with(&prefix))?;
        self.lock.suites.get(&step.suite)?.packages.get(key)
    }
}

/// The `debian` node that a `package` node is in, and the `image` around it.
pub fn debian_step(document: &Document, node: usize) -> Option<(usize, usize)> {
    let debian = document.scan.nodes[node].parent.filter(|parent| document.name(*parent) == "debian")?;
    let image = document.scan.nodes[debian].parent.filter(|parent| document.name(*parent) == "image")?;
    Some((debian, image))
}

impl Observed {
    /// Looks at what is up and what was built.
    ///
    /// # Errors
    /// Fails when the record of the project is damaged or cannot be read.
    pub fn look(instance: &Instance) -> Result<Self> {
        let record = instance.record()?;
        let cost = |image: &crate::plan::ImageRecord| {
            let known: Vec<u64> = image.steps.iter().filter_map(|step| step.millis).collect();
            (!known.is_empty()).then(|| known.iter().sum())
        };
        let builds = record.images.iter().filter_map(|(name, image)| Some((name.to_string(), cost(image)?))).collect();
        let networks = record.networks.iter().map(|(name, network)| (name.to_string(), network.subnet.to_string())).collect();
        let replicas = engine::listing(instance, Which::All)?.into_iter().map(|row| Replica {
            name: row.name,
            container: row.container,
            state: row.state,
            health: row.health,
            ports: row.ports.iter().map(|port| format!("{}:{}", port.address, port.port)).collect(),
            addresses: row.addresses,
        });
        Ok(Self { builds, networks, replicas: replicas.collect() })
    }

    /// The replicas of a container.
    pub fn replicas(&self, container: &str) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(move |replica| replica.container == container)
    }
}

impl Replica {
    /// Its state in a word or two.
    pub fn state(&self) -> &'static str {
        match (self.state, self.health) {
            (State::Running, Health::Healthy) => "healthy",
            (State::Running, Health::Unhealthy) => "unhealthy",
            (State::Running, Health::Starting) => "starting",
            (State::Running, Health::None) => "running",
            (State::Created, _) => "created",
            (State::Paused, _) => "paused",
            (State::Restarting, _) => "restarting",
            (State::Exited, _) => "exited",
            (State::Dead, _) => "dead",
        }
    }
}

/// A number of bytes as text.
pub fn size_text(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A time in milliseconds as text.
pub fn time_text(millis: u64) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

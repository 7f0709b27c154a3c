//! The definition of a container: what runs, where, with which mounts, and when it is healthy.

use super::confine::{Namespaces, Security};
use super::limits::Limits;
use super::watch::Watch;
use crate::model::{Duration, Name, Size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// Whether a text that should name a program has arguments in it. A path may have spaces.
pub fn is_command_line(text: &str) -> bool {
    text.trim().contains(char::is_whitespace) && !text.starts_with(['/', '.'])
}

/// Whether a container's name has the form that `stead run` uses.
pub fn is_one_off(name: &str) -> bool {
    name.strip_prefix("run-").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A kind of container and how many replicas it has.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Container {
    pub image: Name,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub env_files: Vec<EnvFile>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub hostname: Option<String>,
    pub replicas: u32,
    /// How running replicas are replaced; all at once if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    pub networks: Vec<Attachment>,
    pub publish: Vec<Publish>,
    pub mounts: Vec<Mount>,
    pub tmpfs: Vec<Tmpfs>,
    pub secrets: Vec<FileUse>,
    pub configs: Vec<FileUse>,
    pub depends_on: BTreeMap<Name, Until>,
    pub healthcheck: Option<Health>,
    pub restart: Restart,
    pub restart_unhealthy: bool,
    pub limits: Limits,
    /// The size of /dev/shm.
    pub shm: Size,
    pub security: Security,
    pub devices: Vec<(String, String)>,
    pub sysctls: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub stop_grace: Duration,
    pub init: bool,
    pub tty: bool,
    pub log: Log,
    /// The name servers that it asks in place of the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    pub extra_hosts: Vec<(String, String)>,
    pub labels: BTreeMap<String, String>,
    pub namespaces: Namespaces,
    pub on_start: Vec<Vec<String>>,
    pub on_stop: Vec<Vec<String>>,
    #[serde(default)]
    pub watch: Option<Watch>,
    /// What makes it a job; a container runs as long as the environment is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

/// How running replicas are replaced: some at a time, and the next only when those before them have come up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Update {
    pub order: UpdateOrder,
    /// How many are replaced at once.
    pub parallel: u32,
}

/// What happens first when a replica is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    StopFirst,
    /// Another replica comes up before the old one is stopped.
    StartFirst,
}

impl Container {
    /// Whether it mounts a volume.
    pub fn mounts_volume(&self, volume: &Name) -> bool {
        self.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Volume(name) if name == volume))
    }

    /// Whether something is mounted at a path or above it, so that what the image declares there as data is kept elsewhere.
    pub fn covers(&self, path: &Path) -> bool {
        let mounts = self.mounts.iter().map(|mount| &mount.to).chain(self.tmpfs.iter().map(|tmpfs| &tmpfs.path));
        let files = self.secrets.iter().chain(&self.configs);
        mounts.into_iter().any(|to| path.starts_with(to)) || files.into_iter().any(|used| Path::new(&used.to) == path)
    }

    /// How many further replicas serve while others are replaced.
    pub fn stand_ins(&self) -> u32 {
        let update = self.update.filter(|update| update.order == UpdateOrder::StartFirst);
        update.map_or(0, |update| update.parallel.min(self.replicas))
    }
}

/// What makes a container a job: it runs to its end, and once for the same inputs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JobSpec {
    /// The files and directories of the project whose changes make it run again.
    pub inputs: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// A file of environment variables.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnvFile {
    pub path: String,
    pub required: bool,
}

/// The attachment of a container to a network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub network: Name,
    pub alias: Option<String>,
    pub address: Option<Ipv4Addr>,
}

/// A port, or range of ports, of the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Publish {
    pub host: (u16, u16),
    pub to: (u16, u16),
    pub address: Ipv4Addr,
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A mount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    pub to: String,
    pub read_only: bool,
    pub subpath: Option<String>,
    pub create: bool,
    pub propagation: Propagation,
}

impl Mount {
    /// A volume at a path, which can be written.
    pub fn of_volume(volume: Name, to: impl Into<String>) -> Self {
        let (source, propagation) = (MountSource::Volume(volume), Propagation::Private);
        Self { source, to: to.into(), read_only: false, subpath: None, create: false, propagation }
    }
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MountSource {
    Volume(Name),
    Bind(String),
    Image(Name),
}

/// How mounts below a bind mount propagate between host and container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    #[default]
    Private,
    Slave,
    Shared,
}

/// A file system in memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tmpfs {
    pub path: String,
    pub size: Option<Size>,
    pub mode: u32,
}

/// A secret or config as a file in a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileUse {
    pub name: Name,
    pub to: String,
    pub mode: u32,
    pub owner: Option<String>,
}

/// The state of a dependency to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    Started,
    Healthy,
    /// Its command has ended with exit status 0: a job is done, a container has completed.
    Completed,
}

/// A health check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
    pub start_period: Duration,
    pub start_interval: Duration,
}

impl Health {
    /// No check at all: it disables the check of an image.
    pub fn none() -> Self {
        Self {
            probe: Probe::None,
            interval: Duration::seconds(10),
            timeout: Duration::seconds(5),
            retries: 3,
            start_period: Duration(0),
            start_interval: Duration(250),
        }
    }
}

/// How health is checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Probe {
    /// Disables the image's check.
    None,
    Exec(Vec<String>),
    Http {
        port: u16,
        path: String,
    },
    Tcp(u16),
}

/// When a container is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Restart {
    #[default]
    No,
    OnFailure(Option<u32>),
    Always,
    UnlessStopped,
}

/// How much output is kept, and where else it goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Log {
    pub size: Size,
    pub files: u32,
    #[serde(default)]
    pub driver: Option<LogDriver>,
}

/// Where output lines go in addition to the files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogDriver {
    pub name: String,
    pub address: Option<String>,
}

impl LogDriver {
    /// The file or socket of the host that it writes to, if its address names one.
    pub fn path(&self) -> Option<&str> {
        let address = self.address.as_deref();
        match self.name.as_str() {
            "json-file" => Some(address.unwrap_or("logs.json")),
            "syslog" => address.map(|text| text.strip_prefix("unix://").unwrap_or(text)).filter(|text| text.starts_with('/')),
            _ => None,
        }
    }
}

//! The decoded project: plain values, without places, so that equal projects compare equal.
//!
//! Where each part was written is kept beside it, in [`Places`].

use crate::model::{Digest, GitRepository, Mode, Name, Place, Size, Span, Subnet, without_login};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A project, as its files, parameters and profiles say.
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
    /// Variables of the caller's environment that parameters read, with what they were.
    #[serde(default)]
    pub variables: BTreeMap<String, Option<String>>,
}

impl Project {
    /// Adds an image that is made elsewhere, under its own name.
    pub fn add_outside(&mut self, reference: &str) -> Name {
        let name = Name::of_reference(reference);
        let image = || Image { from: Base::Outside(Outside::Reference(reference.to_owned())), ..Image::default() };
        self.images.entry(name.clone()).or_insert_with(image);
        name
    }

    /// A container whose name is that of another's replica: the two would be one to whoever asks for either.
    pub fn replica_clash(&self) -> Option<(&Name, &Name, u32)> {
        self.containers.keys().find_map(|name| {
            let (base, number) = name.as_str().rsplit_once('-')?;
            let number = number.parse::<u32>().ok().filter(|parsed| parsed.to_string() == number && *parsed > 0)?;
            let (other, container) = self.containers.iter().find(|(other, _)| other.as_str() == base)?;
            (number <= container.replicas).then_some((name, other, number))
        })
    }

    /// What must be signed: an image, the reference that it starts from, and the file of the key.
    pub fn signers(&self) -> impl Iterator<Item = (&Name, &str, &str)> {
        self.images.iter().filter_map(|(name, image)| {
            let (Base::Image(below), Some(key)) = (&image.from, &image.signed_by) else { return None };
            match &self.images.get(below)?.from {
                Base::Outside(Outside::Reference(text)) => Some((name, text.as_str(), key.as_str())),
                _ => None,
            }
        })
    }

    /// The references of images that the lock must know.
    pub fn references(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.images.iter().filter_map(|(name, image)| match &image.from {
            Base::Outside(Outside::Reference(text)) => Some((name, text.as_str())),
            _ => None,
        })
    }
}

/// A shorter value is no secret, and would be found in every second word.
const PRIVATE: usize = 4;

/// Text with the name of a variable where its value stands: what came from the caller's environment may be a
/// password, and plans are read in logs.
pub fn without_values(variables: &BTreeMap<String, Option<String>>, text: &str) -> String {
    let known = variables.iter().filter_map(|(name, value)| Some((value.as_deref()?, name)));
    let mut all: Vec<(&str, &String)> = known.filter(|(value, _)| value.chars().count() >= PRIVATE).collect();
    // The longer first: one may be a part of another.
    all.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    all.into_iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, &format!("${{{name}}}")))
}

/// Where parts of a project were written: keys like `container.web.env.LANG`.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Places(pub BTreeMap<String, Place>);

impl Places {
    /// The place of a part, or of the nearest part that holds it.
    pub fn of(&self, path: &str) -> Option<&Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind('.')?];
        }
    }
}

/// Where packages come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mirror {
    pub places: Vec<String>,
    pub suite: Option<String>,
}

/// An image: what it starts from, then its steps.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    pub from: Base,
    /// The file of the public key that must have signed what it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    pub steps: Vec<Step>,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub expose: Vec<(u16, u16)>,
    pub expose_udp: Vec<(u16, u16)>,
    pub labels: BTreeMap<String, String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub healthcheck: Option<Health>,
    /// Dockerfile instructions for whoever starts from it.
    pub onbuild: Vec<String>,
    /// Whether the layers of its own steps become one.
    pub squash: bool,
}

/// What an image starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Base {
    #[default]
    Scratch,
    Image(Name),
    Outside(Outside),
}

/// An image that is not made here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Outside {
    /// An OCI layout, as a folder or a tar, or what `docker save` writes; in it the image by a name.
    Archive { path: String, name: Option<String> },
    /// An image by its name in the store, or in a registry.
    Reference(String),
}

/// A step of an image, in order. Steps that only change the configuration never make layers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Step {
    Debian(Debian),
    Copy(Copy),
    Add(Add),
    Run(Run),
    Env(BTreeMap<String, String>),
    Arg(BTreeMap<String, String>),
    Workdir(String),
    User(String),
    Shell(Vec<String>),
    /// A folder, made if it is not there.
    Folder(String),
}

/// Packages of a suite.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Debian {
    pub suite: String,
    pub packages: Vec<String>,
    pub essential: bool,
    pub recommends: bool,
    pub components: Vec<String>,
    pub mirror: Option<String>,
    pub key: Option<String>,
    /// Patterns of the versions that may be taken, by package.
    pub pins: BTreeMap<String, String>,
    /// Further suites of the same archive.
    pub suites: Vec<String>,
    pub repositories: Vec<Repository>,
    /// Whether the packages' scripts run, in a sandbox.
    pub configure: bool,
}

/// A signed repository of packages beside a suite's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Repository {
    pub place: String,
    pub suite: String,
    pub components: Vec<String>,
    /// The file of the keys that may sign it.
    pub key: String,
}

/// Files copied in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Copy {
    pub sources: Vec<String>,
    pub to: String,
    pub from: Option<Name>,
    pub owner: Option<String>,
    pub mode: Option<Mode>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// The sources' folders are kept below `to`.
    pub parents: bool,
    /// The folder that it takes files from; the project's if there is none.
    pub context: Option<BuildContext>,
    /// Files whose content stands in the step: name and content.
    pub inline: Vec<(String, String)>,
    /// As a Dockerfile has it: permissions stay, and a file goes into a folder that is there.
    pub as_docker: bool,
    /// Archives are unpacked.
    pub unpack: bool,
}

impl Copy {
    /// Whether its layer holds the files it takes, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.from.is_none() && self.inline.is_empty() && !self.unpack
    }
}

/// Something fetched, and copied or unpacked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Add {
    pub source: AddSource,
    pub to: String,
    pub owner: Option<String>,
    pub mode: Option<Mode>,
    pub exclude: Vec<String>,
    pub unpack: bool,
    pub as_docker: bool,
}

/// Where an `add` fetches from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AddSource {
    /// A file; where no digest is written the lock has it.
    Url { url: String, sha256: Option<Digest> },
    /// The files of a git repository; where the project says no whole commit the lock has it.
    Git(GitSource),
}

/// What of a git repository is added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GitSource {
    pub place: GitRepository,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// The commit, or how its id begins, whatever the reference says.
    pub commit: Option<String>,
    /// One folder, and nothing else.
    pub folder: Option<String>,
    /// Also what git keeps beside the files.
    pub dot_git: bool,
    pub submodules: bool,
}

impl GitSource {
    /// The commit, where the project says it in full.
    pub fn pinned(&self) -> Option<&str> {
        [&self.commit, &self.reference].into_iter().flatten().map(String::as_str).find(|text| is_commit(text))
    }
}

impl Add {
    /// What the lock must know before this can be fetched: a URL, or a repository and its reference; without passwords.
    pub fn unknown(&self) -> Option<String> {
        match &self.source {
            AddSource::Url { url, sha256: None } => Some(without_login(url)),
            AddSource::Git(git) if git.pinned().is_none() => {
                let commit = git.commit.as_ref().map(|commit| format!("?checksum={commit}")).unwrap_or_default();
                Some(format!("{}{commit}#{}", git.place.shown(), git.reference.as_deref().unwrap_or("HEAD")))
            }
            _ => None,
        }
    }
}

/// Whether text is the name of a git object.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// A folder that a Dockerfile takes files from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct BuildContext {
    /// Relative to the project's.
    pub folder: String,
    /// The file of patterns that is looked for before the context's own `.dockerignore`.
    pub ignore: String,
}

/// What a command reaches while it runs. It is kept as it is written: a flag, or "host".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "WrittenNetwork", into = "WrittenNetwork")]
pub enum RunNetwork {
    #[default]
    None,
    /// A network of the build's own, translated to the host's addresses.
    Own,
    Host,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenNetwork {
    Flag(bool),
    Word(NetworkWord),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NetworkWord {
    Host,
}

impl From<RunNetwork> for WrittenNetwork {
    fn from(network: RunNetwork) -> Self {
        match network {
            RunNetwork::None => Self::Flag(false),
            RunNetwork::Own => Self::Flag(true),
            RunNetwork::Host => Self::Word(NetworkWord::Host),
        }
    }
}

impl From<WrittenNetwork> for RunNetwork {
    fn from(written: WrittenNetwork) -> Self {
        match written {
            WrittenNetwork::Flag(false) => Self::None,
            WrittenNetwork::Flag(true) => Self::Own,
            WrittenNetwork::Word(NetworkWord::Host) => Self::Host,
        }
    }
}

/// A command run in the image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    pub words: Vec<String>,
    /// One string for the image's shell, not words of their own.
    pub shell: bool,
    pub network: RunNetwork,
    /// With every capability and device, nothing masked, no system call filter.
    pub privileged: bool,
    pub mounts: Vec<RunMount>,
    /// For this command only.
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// Something that is there while a command runs, and not in the image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunMount {
    pub to: String,
    pub read_only: bool,
    pub source: RunSource,
}

/// What a command finds at a mount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunSource {
    /// A folder that the next build finds again.
    Cache {
        id: String,
        mode: u32,
        owner: (u32, u32),
        sharing: Sharing,
        /// Whether other projects find it, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        shared: bool,
        /// An image, and a path in it, whose files it begins with.
        from: Option<(Name, String)>,
    },
    Tmpfs {
        size: Option<Size>,
    },
    /// A secret of the project.
    Secret {
        name: Name,
        mode: u32,
        owner: (u32, u32),
        required: bool,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether it is a file, too.
        file: bool,
    },
    /// The socket of the user's ssh agent.
    Ssh {
        required: bool,
    },
    Image {
        name: Name,
        path: String,
    },
    Context {
        context: BuildContext,
        path: String,
    },
    /// A program that stands in the step.
    Script(String),
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    #[default]
    Shared,
    /// One command after the other.
    Locked,
    /// Each command another copy.
    Private,
}

impl Image {
    /// Images that it starts from, copies from or mounts.
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

impl RunMount {
    /// The image whose files it shows.
    pub fn image(&self) -> Option<&Name> {
        match &self.source {
            RunSource::Image { name, .. } | RunSource::Cache { from: Some((name, _)), .. } => Some(name),
            _ => None,
        }
    }
}

/// Whether a container's name is one that `stead run` gives.
pub fn is_one_off(name: &str) -> bool {
    name.strip_prefix("run-").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A kind of container and how many there are of it.
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
    pub hostname: Option<Name>,
    pub replicas: u32,
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
    pub security: Security,
    pub devices: Vec<(String, String)>,
    pub sysctls: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub stop_grace: Span,
    pub init: bool,
    pub tty: bool,
    pub log: Log,
    pub extra_hosts: Vec<(String, String)>,
    pub labels: BTreeMap<String, String>,
    pub namespaces: Namespaces,
    pub on_start: Vec<Vec<String>>,
    pub on_stop: Vec<Vec<String>>,
}

impl Container {
    /// A container of an image with nothing else said.
    pub fn of_image(image: Name) -> Self {
        Self {
            image,
            cmd: None,
            entrypoint: None,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            workdir: None,
            user: None,
            groups: Vec::new(),
            hostname: None,
            replicas: 1,
            networks: Vec::new(),
            publish: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            secrets: Vec::new(),
            configs: Vec::new(),
            depends_on: BTreeMap::new(),
            healthcheck: None,
            restart: Restart::No,
            restart_unhealthy: false,
            limits: Limits::default(),
            security: Security::default(),
            devices: Vec::new(),
            sysctls: BTreeMap::new(),
            stop_signal: None,
            stop_grace: Span::seconds(10),
            init: false,
            tty: false,
            log: Log { size: Size::mib(20), files: 5, driver: None },
            extra_hosts: Vec::new(),
            labels: BTreeMap::new(),
            namespaces: Namespaces::default(),
            on_start: Vec::new(),
            on_stop: Vec::new(),
        }
    }
}

/// A file of environment variables.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnvFile {
    pub path: String,
    pub required: bool,
}

/// A container's place on a network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub network: Name,
    pub alias: Option<Name>,
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

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MountSource {
    Volume(Name),
    Bind(String),
    Image(Name),
}

/// How mounts below a bind mount travel between host and container.
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

/// What to wait for in a dependency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    Started,
    Healthy,
    Completed,
}

/// A health check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    pub probe: Probe,
    pub interval: Span,
    pub timeout: Span,
    pub retries: u32,
    pub start_period: Span,
    pub start_interval: Span,
}

impl Health {
    /// No check at all, which says so of an image's own.
    pub fn none() -> Self {
        Self {
            probe: Probe::None,
            interval: Span::seconds(10),
            timeout: Span::seconds(5),
            retries: 3,
            start_period: Span(0),
            start_interval: Span(250),
        }
    }
}

/// How health is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Probe {
    /// Switches the image's check off.
    None,
    Exec(Vec<String>),
    Http {
        port: u16,
        path: String,
    },
    Tcp(u16),
}

/// When a container is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Restart {
    #[default]
    No,
    OnFailure(Option<u32>),
    Always,
    UnlessStopped,
}

/// Limits on what a container may use.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    pub cpus: Option<f64>,
    /// In the scale of cgroup v2: from 1 to 10000, 100 by default.
    pub cpu_weight: Option<u32>,
    pub cpuset: Option<String>,
    pub memory: Option<Size>,
    pub memory_reservation: Option<Size>,
    /// Beside the memory, not with it.
    pub swap: Option<Size>,
    pub pids: Option<u32>,
    pub io: Vec<IoLimit>,
    /// Page size and room.
    pub hugepages: Vec<(Size, Size)>,
    pub ulimits: Vec<Ulimit>,
    pub oom_score: Option<i32>,
    pub shm: Option<Size>,
    pub log: Option<Size>,
}

/// Rates, each a second, and share of a block device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IoLimit {
    pub device: String,
    pub read: Option<Size>,
    pub write: Option<Size>,
    pub read_operations: Option<u32>,
    pub write_operations: Option<u32>,
    pub weight: Option<u32>,
}

/// A resource limit of each process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// What a container is trusted with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Security {
    /// "unconfined" or a file; Docker's default profile if nothing is said.
    pub seccomp: Option<String>,
    /// Names without `CAP_`; "ALL" for all.
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub no_new_privileges: bool,
    pub privileged: bool,
    pub read_only: bool,
}

/// How much output is kept, and where else it goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Log {
    pub size: Size,
    pub files: u32,
    #[serde(default)]
    pub driver: Option<LogDriver>,
}

/// Where lines go beside the files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogDriver {
    pub name: String,
    pub address: Option<String>,
}

impl LogDriver {
    /// The file or socket of the host that it writes to, if that is what its address names.
    pub fn path(&self) -> Option<&str> {
        let address = self.address.as_deref();
        match self.name.as_str() {
            "json-file" => Some(address.unwrap_or("logs.json")),
            "syslog" => address.map(|text| text.strip_prefix("unix://").unwrap_or(text)).filter(|text| text.starts_with('/')),
            _ => None,
        }
    }
}

/// Namespaces that are the host's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Namespaces {
    pub network: NetworkMode,
    pub host_pid: bool,
    pub host_ipc: bool,
}

/// Where a container's network comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The project's networks.
    #[default]
    Own,
    Host,
    None,
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
}

/// Where a config's text comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigSource {
    File(String),
    Content(String),
}

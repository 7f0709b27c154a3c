//! What the runtime is told: an OCI runtime specification, and the little that cannot be said in one.
//!
//! A project's container, a one-off, a build step and `stead oci`'s bundles all come here as a [`Blueprint`]; there is one
//! runtime. [`ContainerSpec`] is how a project's containers are described, and `compile.rs` makes a
//! blueprint of it.

use crate::model::Size;
use crate::project::{Limits, Propagation, Ulimit};
use oci_spec::runtime::{self as oci, LinuxDevice, LinuxNamespaceType, Process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Everything needed to start a container, again and again: kept in its directory, and read by its monitor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Blueprint {
    /// What any OCI runtime understands.
    pub oci: oci::Spec,
    pub beyond: Beyond,
}

/// What an OCI runtime specification cannot say.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Beyond {
    /// The directory of a bundle: sources of its mounts are relative to it, and may be links. Without one they are absolute,
    /// and refused if a part of them has become a link.
    pub bundle: Option<PathBuf>,
    /// The root is mounted of these; without them it is a directory.
    pub layers: Option<Layers>,
    /// A directory for what is mounted aside.
    pub scratch: PathBuf,
    /// Who the process is by the container's own files, in the place of the specification's numbers.
    pub user: Option<UserSpec>,
    /// Paths beneath the sources of bind mounts, by the mount's place in the list, resolved as if the source were `/`.
    pub subpaths: BTreeMap<usize, PathBuf>,
    /// Mounts of other images, by the mount's place in the list.
    pub images: BTreeMap<usize, ImageSpec>,
    pub files: Vec<FileSpec>,
    /// Its ends of the networks' cables, in a network namespace of its own.
    pub interfaces: Vec<Interface>,
    /// As the project writes them: what cannot be applied is told in its words.
    pub limits: Limits,
    /// A file with a compiled filter; the profile lies beside it.
    pub filter: Option<PathBuf>,
    /// Whether a process of ours is process 1, and reaps.
    pub init: bool,
}

/// The trees of an image, and where writes go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// From the topmost layer down.
    pub trees: Vec<PathBuf>,
    /// Where writes go; it lives as long as the container.
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// A user as written: name or number, with group; empty for root.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserSpec {
    pub user: String,
    pub groups: Vec<String>,
}

/// Another image's trees, from the topmost layer down; read-only, unless writes have directories to go to: the writes
/// themselves, and overlay's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageSpec {
    pub layers: Vec<PathBuf>,
    pub subpath: Option<PathBuf>,
    pub writes: Option<(PathBuf, PathBuf)>,
}

impl Blueprint {
    /// Whether the container has a namespace of a kind to itself, or joins one.
    pub fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|namespace| namespace.typ() == kind)
    }

    /// Whether a namespace of a kind is made for the container.
    pub fn makes(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|namespace| namespace.typ() == kind && joined(namespace).is_none())
    }

    /// The namespaces that are made or joined.
    pub fn namespaces(&self) -> impl Iterator<Item = &oci::LinuxNamespace> {
        self.oci.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten())
    }

    /// The process, which every blueprint that is started has.
    ///
    /// # Errors
    /// A bundle's configuration without one.
    pub fn process(&self) -> io::Result<&Process> {
        self.oci.process().as_ref().ok_or_else(|| io::Error::other("the configuration has no process"))
    }

    /// A further process like its first one, with other words and no terminal.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    pub fn like_process(&self, words: &[String]) -> io::Result<ExecSpec> {
        let mut process = self.process()?.clone();
        process.set_args(Some(words.to_vec())).set_terminal(None);
        // Without one it would be root's.
        let user = self.beyond.user.clone().ok_or_else(|| io::Error::other("the container's user is not known"))?;
        Ok(ExecSpec { process, user })
    }

    /// Its cgroup below the root of each hierarchy, without a leading slash.
    pub fn cgroup(&self) -> String {
        let path = self.oci.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        path.map(|path| path.to_string_lossy().trim_matches('/').to_owned()).unwrap_or_default()
    }

    /// The rules for its devices.
    pub fn device_rules(&self) -> &[oci::LinuxDeviceCgroup] {
        let resources = self.oci.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default()
    }

    /// Whether its process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.oci.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }
}

/// The path of a namespace that is joined; an empty one is none.
pub fn joined(namespace: &oci::LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// A container as a project describes it.
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerSpec {
    pub hostname: String,
    pub layers: Layers,
    /// An empty directory that the root is mounted on, in the container's mount namespace only.
    pub root: PathBuf,
    /// A directory for a file system in memory with secrets and configs.
    pub scratch: PathBuf,
    pub process: ProcessSpec,
    pub mounts: Vec<MountSpec>,
    pub files: Vec<FileSpec>,
    pub devices: Vec<LinuxDevice>,
    pub sysctls: BTreeMap<String, String>,
    pub shm: Size,
    pub network: NetSpec,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub init: bool,
    pub security: SecuritySpec,
    /// The cgroup, below the root of each hierarchy, without a leading slash.
    pub cgroup: String,
    pub limits: Limits,
    /// How many processors the host may have: of each something is masked.
    pub processors: u32,
}

/// A process of a container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessSpec {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub user: UserSpec,
    pub tty: bool,
}

/// A further process in a running container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub process: Process,
    pub user: UserSpec,
}

impl ExecSpec {
    /// Puts it elsewhere, makes it somebody else's, and gives it further variables.
    pub fn change(&mut self, workdir: Option<&str>, user: Option<&str>, variables: &[(String, String)]) {
        if let Some(workdir) = workdir {
            self.process.set_cwd(Path::new("/").join(workdir));
        }
        if let Some(user) = user {
            user.clone_into(&mut self.user.user);
        }
        let all = self.process.env_mut().get_or_insert_default();
        for (name, value) in variables {
            all.retain(|pair| pair.split_once('=').is_none_or(|(known, _)| known != name));
            all.push(format!("{name}={value}"));
        }
    }

    /// Gives it a terminal, with rows and columns if they are known.
    pub fn with_terminal(&mut self, size: Option<(u16, u16)>) {
        let size = size.and_then(|(rows, columns)| oci::BoxBuilder::default().height(rows).width(columns).build().ok());
        self.process.set_terminal(Some(true)).set_console_size(size);
    }
}

/// Something mounted beneath the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountSpec {
    pub kind: MountKind,
    pub to: PathBuf,
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountKind {
    Bind {
        /// Without links on the way.
        source: PathBuf,
        /// A path beneath the source, resolved as if the source were `/`.
        subpath: Option<PathBuf>,
        propagation: Propagation,
    },
    Tmpfs {
        size: Option<Size>,
        mode: u32,
    },
    Image(ImageSpec),
}

impl MountKind {
    /// A bind of a path of the host as it is now: should a part of it become a link before it is mounted, now or at any
    /// later start, it is refused (a container may write in the project's directory).
    ///
    /// # Errors
    /// Those of resolving the path.
    pub fn bind(source: &Path, subpath: Option<PathBuf>, propagation: Propagation) -> io::Result<Self> {
        let source = std::fs::canonicalize(source)?;
        Ok(Self::Bind { source, subpath, propagation })
    }
}

/// A file in memory; its content comes over an inherited descriptor, never in this text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSpec {
    pub to: PathBuf,
    pub mode: u32,
    /// User, or user:group; empty for the container's own user.
    pub owner: Option<String>,
    /// Which of the contents that the monitor holds.
    pub content: usize,
}

/// A container's network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetSpec {
    Host,
    /// An own namespace; with no interfaces only loopback.
    Own {
        interfaces: Vec<Interface>,
    },
}

/// One end of a pair of virtual Ethernet devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// The name of the host's end.
    pub host: String,
    pub bridge: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// The way out, on the one network that has it.
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u32,
    /// The group that the installation's links are in, so that they can be deleted together.
    pub group: u32,
}

/// What processes of a container may do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecuritySpec {
    /// As a bit mask; of root's processes, and the bound of all others.
    pub capabilities: u64,
    /// A file with a compiled filter; none for no filter.
    pub filter: Option<PathBuf>,
    pub no_new_privileges: bool,
    /// Nothing masked or read-only, and every device.
    pub privileged: bool,
    pub read_only: bool,
    pub ulimits: Vec<Ulimit>,
    pub oom_score: Option<i32>,
}

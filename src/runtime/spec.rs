//! The runtime's input: an OCI runtime specification, and the few settings that such a specification cannot express.
//!
//! A project's container, a one-off, a build step and the bundles of `stead oci` all come to the one runtime as a
//! [`Blueprint`]. [`ContainerSpec`] describes a project's container, and `compile.rs` makes a blueprint from it.

use super::raw::{Raw, Variable};
use crate::model::Size;
use crate::project::{Limits, Propagation, Ulimit};
use oci_spec::runtime::{self as oci, LinuxDevice, LinuxNamespaceType, Process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Everything that is needed to start a container repeatedly. It is kept in its directory and read by its monitor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Blueprint {
    /// The part that any OCI runtime understands.
    pub oci: oci::Spec,
    pub beyond: Beyond,
}

/// What an OCI runtime specification cannot express.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Beyond {
    /// The directory of a bundle. The sources of its mounts are relative to it, and may be symbolic links. Without a bundle the
    /// sources are absolute, and refused if a part of the path has become a symbolic link.
    pub bundle: Option<PathBuf>,
    /// The layers from which the root is mounted. Without them the root is a directory.
    pub layers: Option<Layers>,
    /// A directory for mounts that are made outside of the root.
    pub scratch: PathBuf,
    /// The user, to be looked up in the container's own files. It replaces the numbers of the specification.
    pub user: Option<UserSpec>,
    /// Paths beneath the sources of bind mounts, by the mount's index in the list. They are resolved as if the source were `/`.
    pub subpaths: BTreeMap<usize, PathBuf>,
    /// Mounts of other images, by the mount's index in the list.
    pub images: BTreeMap<usize, ImageSpec>,
    pub files: Vec<FileSpec>,
    /// Its network interfaces, in its own network namespace.
    pub interfaces: Vec<Interface>,
    /// The limits as the project gives them, so that messages about a limit use the project's own terms.
    pub limits: Limits,
    /// A file with a compiled filter. Its profile is in the same directory.
    pub filter: Option<PathBuf>,
    /// Whether process 1 is one of ours that reaps other processes.
    pub init: bool,
    /// What of the process is not text.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub raw: Raw,
}

/// The trees of an image, and the directories for writes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// The layers, from the topmost down.
    pub trees: Vec<PathBuf>,
    /// The directory for writes, which exists as long as the container.
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// A user as it is written: a name or number, perhaps with a group, or empty for root.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserSpec {
    pub user: String,
    pub groups: Vec<String>,
}

/// The trees of another image, from the topmost layer down. They are read-only, unless `writes` gives the directories for
/// the writes themselves and for overlayfs's work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageSpec {
    pub layers: Vec<PathBuf>,
    pub subpath: Option<PathBuf>,
    pub writes: Option<(PathBuf, PathBuf)>,
}

impl Blueprint {
    /// Whether the container has its own namespace of a kind, or joins one.
    pub fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|namespace| namespace.typ() == kind)
    }

    /// Whether a new namespace of a kind is created for the container.
    pub fn makes(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|namespace| namespace.typ() == kind && joined(namespace).is_none())
    }

    /// The namespaces that are created or joined.
    pub fn namespaces(&self) -> impl Iterator<Item = &oci::LinuxNamespace> {
        self.oci.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten())
    }

    /// The process, which every blueprint needs to be started.
    ///
    /// # Errors
    /// Fails when a bundle's configuration has none.
    pub fn process(&self) -> io::Result<&Process> {
        self.oci.process().as_ref().ok_or_else(|| io::Error::other("the configuration has no process"))
    }

    /// A further process like the first one, with other arguments and no terminal.
    ///
    /// # Errors
    /// Fails when there is no process, or its user is not known.
    pub fn like_process(&self, words: &[String]) -> io::Result<ExecSpec> {
        let mut process = self.process()?.clone();
        process.set_args(Some(words.to_vec())).set_terminal(None);
        // Without a user the process would run as root.
        let user = self.beyond.user.clone().ok_or_else(|| io::Error::other("the container's user is not known"))?;
        Ok(ExecSpec { process, user, raw: Raw::default() })
    }

    /// The path of its cgroup below the root of each hierarchy, without a leading slash.
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

/// The path of a namespace that is joined. An empty path counts as none.
pub fn joined(namespace: &oci::LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// A container as a project describes it.
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerSpec {
    pub hostname: String,
    pub layers: Layers,
    /// An empty directory on which the root is mounted, in the container's mount namespace only.
    pub root: PathBuf,
    /// A directory on which a file system in memory with secrets and configs is mounted.
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
    /// The path of the cgroup below the root of each hierarchy, without a leading slash.
    pub cgroup: String,
    pub limits: Limits,
    /// How many processors the host may have: a path is masked for each of them.
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
    /// What of the process is not text.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub raw: Raw,
}

impl ExecSpec {
    /// Changes its command, and its working directory and its user, if they are given, and sets further variables.
    pub fn change(&mut self, words: &[OsString], workdir: Option<&OsStr>, user: Option<&str>, variables: &[Variable]) {
        self.process.set_args(Some(self.raw.take_args(words)));
        if let Some(workdir) = workdir {
            self.process.set_cwd(Path::new("/").join(self.raw.take_workdir(workdir)));
        }
        if let Some(user) = user {
            user.clone_into(&mut self.user.user);
        }
        let all = self.process.env_mut().get_or_insert_default();
        for (name, value) in &self.raw.take_env(variables) {
            all.retain(|pair| pair.split_once('=').is_none_or(|(known, _)| known != name));
            all.push(format!("{name}={value}"));
        }
    }

    /// Gives it a terminal, with the number of rows and columns if they are known.
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
        /// A path without symbolic links.
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
    /// A bind mount of a path of the host as it is now. If a part of the path becomes a symbolic link before a start mounts it,
    /// the mount is refused (a container may be able to write in the project's directory).
    ///
    /// # Errors
    /// Fails when the path cannot be resolved.
    pub fn bind(source: &Path, subpath: Option<PathBuf>, propagation: Propagation) -> io::Result<Self> {
        let source = std::fs::canonicalize(source)?;
        Ok(Self::Bind { source, subpath, propagation })
    }
}

/// A file in memory. Its content comes over an inherited descriptor and is never part of this specification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSpec {
    pub to: PathBuf,
    pub mode: u32,
    /// The user, or user:group. Without it, the file belongs to the container's own user.
    pub owner: Option<String>,
    /// The index of its content among those that the monitor holds.
    pub content: usize,
}

/// A container's network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetSpec {
    Host,
    /// Its own namespace. Without interfaces it has only loopback.
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
    /// The default gateway, on the one network that provides it.
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u32,
    /// The group that the installation's links are in, so that they can be deleted together.
    pub group: u32,
}

/// What processes of a container may do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecuritySpec {
    /// A bit mask of the capabilities of root's processes, which is also the bounding set of all others.
    pub capabilities: u64,
    /// A file with a compiled filter, or `None` for no filter.
    pub filter: Option<PathBuf>,
    pub no_new_privileges: bool,
    /// Nothing is masked or read-only, and every device may be used.
    pub privileged: bool,
    pub read_only: bool,
    pub ulimits: Vec<Ulimit>,
    pub oom_score: Option<i32>,
}

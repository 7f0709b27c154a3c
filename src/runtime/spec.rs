//! What the runtime is told: plain data, written to the container's folder and read by its monitor.

use crate::model::Size;
use crate::spec::{Limits, Propagation, Ulimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Everything needed to start a container, again and again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub hostname: String,
    /// The trees of the image, from the topmost layer down.
    pub layers: Vec<PathBuf>,
    /// Where writes go; it lives as long as the container.
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty folder that the root is mounted on, in the container's mount namespace only.
    pub root: PathBuf,
    /// A folder for a file system in memory with secrets and configs.
    pub scratch: PathBuf,
    pub process: ProcessSpec,
    pub mounts: Vec<MountSpec>,
    pub files: Vec<FileSpec>,
    pub devices: Vec<(PathBuf, PathBuf)>,
    pub sysctls: BTreeMap<String, String>,
    pub shm: Size,
    pub network: NetSpec,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub init: bool,
    pub security: SecuritySpec,
    pub cgroup: CgroupSpec,
}

/// A process of a container.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    /// As written: name or number, with group; empty for root.
    pub user: String,
    pub groups: Vec<String>,
    pub tty: bool,
}

/// A further process in a running container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub process: ProcessSpec,
    /// Rows and columns of the caller's terminal.
    pub size: Option<(u16, u16)>,
}

/// Something mounted beneath the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountSpec {
    pub kind: MountKind,
    pub to: PathBuf,
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// Another image's trees, from the topmost layer down; read-only, unless writes have folders to go to:
    /// the writes themselves, and overlay's own.
    Image {
        layers: Vec<PathBuf>,
        subpath: Option<PathBuf>,
        #[serde(default)]
        writes: Option<(PathBuf, PathBuf)>,
    },
}

impl MountKind {
    /// A bind of a path of the host as it is now: should a part of it become a link before it is mounted, now or at any
    /// later start, it is refused (a container may write in the project's folder).
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

/// The cgroup and its limits.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CgroupSpec {
    /// Below the root of each hierarchy, without a leading slash.
    pub path: String,
    #[serde(default)]
    pub limits: Limits,
    /// Devices of the host that it may use beside those that every container has.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    /// Whether it may use every device.
    #[serde(default)]
    pub all_devices: bool,
}

/// What processes of a container may do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SecuritySpec {
    /// As a bit mask; of root's processes, and the bound of all others.
    pub capabilities: u64,
    /// A file with a compiled filter; none for no filter.
    pub filter: Option<PathBuf>,
    pub no_new_privileges: bool,
    /// Nothing masked or read-only.
    pub privileged: bool,
    pub read_only: bool,
    pub ulimits: Vec<Ulimit>,
    pub oom_score: Option<i32>,
}

//! What a container is trusted with, and what it sees of the host.

use serde::{Deserialize, Serialize};

/// What a container is trusted with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Security {
    /// "unconfined" or a file; Docker's default profile if absent.
    pub seccomp: Option<String>,
    /// Capabilities without `CAP_`; "ALL" for all.
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub no_new_privileges: bool,
    pub privileged: bool,
    pub read_only: bool,
}

/// The namespaces that a container shares with the host.
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

/// Whether a kernel setting belongs to a network or IPC namespace (namespaces(7)).
pub fn is_namespaced(setting: &str, own_network: bool, own_ipc: bool) -> bool {
    let plain = !setting.contains("..") && !setting.contains('/');
    let ipc = ["fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"].iter().any(|start| setting.starts_with(start));
    plain && (own_network && setting.starts_with("net.") || own_ipc && ipc)
}

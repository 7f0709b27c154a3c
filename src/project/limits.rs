//! How much a container may use.

use crate::model::Size;
use serde::{Deserialize, Serialize};

/// Limits on what a container may use.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    pub cpus: Option<f64>,
    /// The weight on the scale of cgroup v2: from 1 to 10000, 100 by default.
    pub cpu_weight: Option<u32>,
    pub cpuset: Option<String>,
    pub memory: Option<Size>,
    pub memory_reservation: Option<Size>,
    /// Swap in addition to the memory, not including it.
    pub swap: Option<Size>,
    pub pids: Option<u32>,
    pub io: Vec<IoLimit>,
    /// Page sizes, each with its limit.
    pub hugepages: Vec<(Size, Size)>,
    pub ulimits: Vec<Ulimit>,
    pub oom_score: Option<i32>,
    pub log: Option<Size>,
}

/// Rates per second and the weight of a block device.
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

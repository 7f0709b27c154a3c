//! The layout of this host's cgroups: which hierarchies there are, and where they are mounted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How this host's cgroups are laid out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The v1 controllers, with the directories where they are mounted.
    pub v1: Vec<(String, PathBuf)>,
    /// Where the v2 tree is mounted.
    pub v2: Option<PathBuf>,
    /// The controllers of the v2 tree.
    pub v2_controllers: Vec<String>,
}

/// Which of the two cgroup interfaces a controller uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    One,
    Two,
}

/// The host's cgroup layout. It is determined once.
pub fn host() -> &'static Host {
    static FOUND: OnceLock<Host> = OnceLock::new();
    FOUND.get_or_init(find)
}

fn find() -> Host {
    let mut host = Host { v1: Vec::new(), v2: None, v2_controllers: Vec::new() };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(place) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") if host.v2.is_none() => host.v2 = Some(place),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let is_hierarchy = |option: &&str| CONTROLLERS.contains(option) || option.starts_with("name=");
                for option in options.split(',').filter(is_hierarchy) {
                    if !host.v1.iter().any(|(known, _)| known == option) {
                        host.v1.push((option.to_owned(), place.clone()));
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(v2) = &host.v2 {
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        host.v2_controllers = controllers.split_whitespace().map(str::to_owned).collect();
    }
    host
}

/// The numbers in a list such as `0-1,3`.
pub fn processors(list: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > 4095 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// How many processors this machine may have. They are counted once.
///
/// # Errors
/// Fails when the list cannot be read.
pub fn possible_processors() -> io::Result<u32> {
    static COUNTED: OnceLock<u32> = OnceLock::new();
    if let Some(counted) = COUNTED.get() {
        return Ok(*counted);
    }
    let list = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = processors(list.trim()).and_then(|numbers| numbers.last().copied());
    let counted = last.ok_or_else(|| io::Error::other(format!("{list:?} is not a list of processors")))? + 1;
    Ok(*COUNTED.get_or_init(|| counted))
}

/// The controllers of v1. Other hierarchies only have a name (`name=systemd`).
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "memory",
    "pids",
    "freezer",
    "devices",
    "blkio",
    "cpuset",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

impl Host {
    /// Which interface a controller, given by its name in v2, uses here. `None` if it is absent.
    pub fn version(&self, controller: &str) -> Option<Version> {
        if self.place(controller).is_some() {
            return Some(Version::One);
        }
        self.v2_controllers.iter().any(|known| known == controller).then_some(Version::Two)
    }

    /// Where a v1 controller, given by its name in v2, is mounted.
    pub(super) fn place(&self, controller: &str) -> Option<&Path> {
        let name = if controller == "io" { "blkio" } else { controller };
        self.v1.iter().find(|(known, _)| known == name).map(|(_, place)| place.as_path())
    }

    /// Whether the memory controller counts swap.
    pub fn accounts_swap(&self) -> bool {
        match self.place("memory") {
            Some(place) => place.join("memory.memsw.limit_in_bytes").exists(),
            // The root cgroup has no such file, but other cgroups have one if the kernel supports swap.
            None => Path::new("/proc/swaps").exists(),
        }
    }

    /// Whether iocost is active on a disk.
    pub fn has_cost_model(&self, disk: &str) -> bool {
        let text = self.v2.as_ref().and_then(|root| fs::read_to_string(root.join("io.cost.qos")).ok()).unwrap_or_default();
        text.lines().any(|line| line.split(' ').next() == Some(disk) && line.contains("enable=1"))
    }

    /// A path's directories in the v1 hierarchies, each once. A container is placed in every hierarchy: otherwise it would stay
    /// in the cgroup of its caller there, and see all other cgroups of that hierarchy.
    pub(super) fn hierarchies(&self, path: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for (_, place) in &self.v1 {
            let folder = place.join(path);
            if !found.contains(&folder) {
                found.push(folder);
            }
        }
        found
    }
}

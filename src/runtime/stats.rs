//! The resource usage of a container, read from its cgroup and its network namespace.
//!
//! The numbers are the kernel's own counters. Derived numbers (percentages, the working set)
//! follow Docker's formulas, so that both show the same.

use super::host::{Host, Version};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A container's counters at one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Usage {
    /// Processor time in microseconds.
    pub cpu: u64,
    pub cpu_user: u64,
    pub cpu_system: u64,
    /// The number of scheduling periods, of those in which it was throttled, and the throttled time in microseconds.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
    /// The bytes that are charged to it, including page cache.
    pub memory: u64,
    pub memory_limit: Option<u64>,
    /// Page cache that was not used recently, which Docker subtracts.
    pub inactive_file: u64,
    pub cache: u64,
    pub rss: u64,
    pub swap: u64,
    /// How often the limit was hit, and how many processes were killed because of it.
    pub memory_failures: u64,
    pub oom_kills: u64,
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
    pub networks: BTreeMap<String, Network>,
    pub pressure: BTreeMap<String, Pressure>,
}

/// Counters of one interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Network {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_errors: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_errors: u64,
    pub sent_dropped: u64,
}

/// Pressure stall information of one resource (Documentation/accounting/psi.rst).
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Pressure {
    /// The share of the last ten seconds in which some, or all, processes waited, in percent.
    pub some: f64,
    pub full: f64,
    /// The total time in microseconds.
    pub some_total: u64,
    pub full_total: u64,
}

impl Usage {
    /// The memory in use as Docker reports it, without page cache that was not used recently.
    pub fn working_set(&self) -> u64 {
        self.memory.saturating_sub(self.inactive_file)
    }
}

/// The files of one container's cgroup.
struct Files<'a> {
    host: &'a Host,
    path: &'a str,
}

impl Files<'_> {
    fn folder(&self, controller: &str) -> Option<PathBuf> {
        let root = match self.host.version(controller)? {
            Version::One => self.host.place(controller)?,
            Version::Two => self.host.v2.as_deref()?,
        };
        Some(root.join(self.path))
    }

    fn is_v1(&self, controller: &str) -> bool {
        self.host.version(controller) == Some(Version::One)
    }

    fn text(&self, controller: &str, v1: &str, v2: &str) -> String {
        let name = if self.is_v1(controller) { v1 } else { v2 };
        self.folder(controller).and_then(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default()
    }

    fn number(&self, controller: &str, v1: &str, v2: &str) -> u64 {
        self.text(controller, v1, v2).trim().parse().unwrap_or(0)
    }

    /// A limit, or `None` if there is no limit (which is a number near 2^63 in v1).
    fn limit(&self, controller: &str, v1: &str, v2: &str) -> Option<u64> {
        self.text(controller, v1, v2).trim().parse().ok().filter(|limit: &u64| *limit < 1 << 62)
    }
}

/// The value of a key in a text with a key and a value on each line.
fn keyed(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

/// Reads a container's counters: those of its cgroup, and those of the network namespace of one of its processes.
pub fn usage(host: &Host, path: &str, pid: i32) -> Usage {
    let files = Files { host, path };
    let mut usage = Usage::default();
    files.cpu(&mut usage);
    files.memory(&mut usage);
    usage.pids = files.number("pids", "pids.current", "pids.current");
    usage.pids_limit = files.limit("pids", "pids.max", "pids.max");
    files.io(&mut usage);
    if pid > 0 {
        usage.networks = networks(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default());
    }
    // Pressure is read from the v2 tree, also on a hybrid host.
    let v2 = host.v2.as_ref().map(|root| root.join(path));
    for resource in ["cpu", "memory", "io"] {
        let text = v2.as_ref().and_then(|folder| fs::read_to_string(folder.join(format!("{resource}.pressure"))).ok());
        if let Some(text) = text {
            usage.pressure.insert(resource.to_owned(), pressure(&text));
        }
    }
    usage
}

impl Files<'_> {
    fn cpu(&self, usage: &mut Usage) {
        if self.host.place("cpuacct").is_some() {
            let folder = self.host.place("cpuacct").unwrap_or(Path::new("/")).join(self.path);
            let number = |name: &str| {
                fs::read_to_string(folder.join(name)).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) / 1000
            };
            (usage.cpu, usage.cpu_user, usage.cpu_system) =
                (number("cpuacct.usage"), number("cpuacct.usage_user"), number("cpuacct.usage_sys"));
            let stat = self.text("cpu", "cpu.stat", "cpu.stat");
            usage.periods = keyed(&stat, "nr_periods");
            usage.throttled_periods = keyed(&stat, "nr_throttled");
            usage.throttled = keyed(&stat, "throttled_time") / 1000;
            return;
        }
        let stat = self.text("cpu", "cpu.stat", "cpu.stat");
        (usage.cpu, usage.cpu_user, usage.cpu_system) =
            (keyed(&stat, "usage_usec"), keyed(&stat, "user_usec"), keyed(&stat, "system_usec"));
        usage.periods = keyed(&stat, "nr_periods");
        usage.throttled_periods = keyed(&stat, "nr_throttled");
        usage.throttled = keyed(&stat, "throttled_usec");
    }

    fn memory(&self, usage: &mut Usage) {
        let v1 = self.is_v1("memory");
        let stat = self.text("memory", "memory.stat", "memory.stat");
        usage.memory = self.number("memory", "memory.usage_in_bytes", "memory.current");
        usage.memory_limit = self.limit("memory", "memory.limit_in_bytes", "memory.max");
        let names = if v1 { ["total_inactive_file", "total_cache", "total_rss"] } else { ["inactive_file", "file", "anon"] };
        [usage.inactive_file, usage.cache, usage.rss] = names.map(|name| keyed(&stat, name));
        usage.swap = if v1 { keyed(&stat, "total_swap") } else { self.number("memory", "", "memory.swap.current") };
        let events = self.text("memory", "memory.oom_control", "memory.events");
        usage.oom_kills = keyed(&events, "oom_kill");
        usage.memory_failures = if v1 { self.number("memory", "memory.failcnt", "") } else { keyed(&events, "max") };
    }

    fn io(&self, usage: &mut Usage) {
        if self.is_v1("io") {
            let sum = |name: &str, kind: &str| -> u64 {
                let text = self.folder("io").and_then(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default();
                let lines = text.lines().filter_map(|line| {
                    let mut words = line.split(' ').skip(1);
                    (words.next()? == kind).then(|| words.next()?.parse::<u64>().ok()).flatten()
                });
                lines.sum()
            };
            let (bytes, count) = ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive");
            usage.read_bytes = sum(bytes, "Read");
            usage.write_bytes = sum(bytes, "Write");
            usage.reads = sum(count, "Read");
            usage.writes = sum(count, "Write");
            return;
        }
        let text = self.text("io", "", "io.stat");
        let sum = |key: &str| -> u64 {
            let words = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
            words.sum()
        };
        usage.read_bytes = sum("rbytes");
        usage.write_bytes = sum("wbytes");
        usage.reads = sum("rios");
        usage.writes = sum("wios");
    }
}

/// The interfaces in /proc/net/dev, except the loopback interface.
fn networks(text: &str) -> BTreeMap<String, Network> {
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        if name.trim() != "lo" {
            found.insert(
                name.trim().to_owned(),
                Network {
                    received_bytes: at(0),
                    received_packets: at(1),
                    received_errors: at(2),
                    received_dropped: at(3),
                    sent_bytes: at(8),
                    sent_packets: at(9),
                    sent_errors: at(10),
                    sent_dropped: at(11),
                },
            );
        }
    }
    found
}

fn pressure(text: &str) -> Pressure {
    let read = |kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or("0").to_owned();
        (value("avg10=").parse().unwrap_or(0.0), value("total=").parse().unwrap_or(0))
    };
    let ((some, some_total), (full, full_total)) = (read("some"), read("full"));
    Pressure { some, full, some_total, full_total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read() {
        assert_eq!(keyed("usage_usec 12\nuser_usec 3\n", "user_usec"), 3);
        assert_eq!(keyed("oom 1\noom_kill 2\n", "oom_kill"), 2);
        let all = networks("a\nb\n  lo: 1 0 0 0 0 0 0 0 1 0 0 0\n eth0: 10 2 0 1 0 0 0 0 20 3 0 0 0 0 0 0\n");
        assert_eq!((all.len(), all["eth0"].received_bytes, all["eth0"].sent_bytes, all["eth0"].received_dropped), (1, 10, 20, 1));
        let pressure = pressure("some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.25 avg60=0 avg300=0 total=5\n");
        assert_eq!((pressure.some, pressure.full, pressure.some_total, pressure.full_total), (1.5, 0.25, 77, 5));
    }
}

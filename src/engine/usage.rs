//! The resource usage of containers, and their processes.

use super::containers::replicas;
use crate::instance::Instance;
use crate::model::Result;
use crate::runtime::{self, Cgroup, Host, Usage};
use serde::Serialize;
use std::fs;
use std::time::{Duration, Instant};

/// A reading, and what is computed from it and the previous one.
#[derive(Serialize)]
pub struct Reading {
    pub name: String,
    pub cpu_percent: f64,
    /// The memory in use as Docker reports it, in bytes; `memory` of the usage counts all page cache.
    #[serde(rename = "working_set")]
    pub memory: u64,
    pub memory_percent: f64,
    pub throttled_percent: f64,
    #[serde(flatten)]
    pub usage: Usage,
}

/// Reads the resource usage of containers repeatedly.
pub struct Meter {
    instance: Instance,
    names: Vec<String>,
    before: Vec<(String, Usage)>,
    at: Instant,
}

impl Meter {
    /// A meter for containers or replicas; for all running ones if there are no names.
    ///
    /// # Errors
    /// Fails when a name is unknown.
    pub fn of(instance: Instance, names: &[String]) -> Result<Self> {
        let before = read(&instance, runtime::host(), names)?;
        Ok(Self { instance, names: names.to_vec(), before, at: Instant::now() })
    }

    /// Reads what they use now, with percentages since the last reading.
    ///
    /// # Errors
    /// Fails when a name is not known any more.
    pub fn read(&mut self) -> Result<Vec<Reading>> {
        let now = read(&self.instance, runtime::host(), &self.names)?;
        let wall = self.at.elapsed();
        self.at = Instant::now();
        let before = std::mem::replace(&mut self.before, now);
        let readings = self.before.iter().map(|(name, usage)| {
            let old = before.iter().find(|(other, _)| other == name).map_or(usage, |(_, old)| old);
            reading(name, old, usage, wall)
        });
        Ok(readings.collect())
    }
}

fn read(instance: &Instance, host: &Host, names: &[String]) -> Result<Vec<(String, Usage)>> {
    let mut all = replicas(instance, names)?;
    all.sort();
    let running = all.into_iter().filter_map(|name| {
        let status = instance.container(&name).status().filter(|status| status.pid > 0)?;
        Some((name.clone(), runtime::usage(host, &instance.cgroup(&name), status.pid)))
    });
    Ok(running.collect())
}

#[expect(clippy::cast_precision_loss, reason = "percentages are only shown, with two digits")]
fn reading(name: &str, old: &Usage, new: &Usage, wall: Duration) -> Reading {
    let share = |part: u64, whole: f64| if whole > 0.0 { part as f64 / whole * 100.0 } else { 0.0 };
    let memory = new.working_set();
    let limit = new.memory_limit.or_else(host_memory).unwrap_or(0);
    Reading {
        name: name.to_owned(),
        cpu_percent: share(new.cpu.saturating_sub(old.cpu), wall.as_micros() as f64),
        memory,
        memory_percent: share(memory, limit as f64),
        throttled_percent: share(
            new.throttled_periods.saturating_sub(old.throttled_periods),
            new.periods.saturating_sub(old.periods) as f64,
        ),
        usage: new.clone(),
    }
}

/// The memory of this machine, in bytes: the limit of a container that has no other.
pub fn host_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A process of a container, as it is shown.
pub struct Process {
    pub pid: i32,
    /// Its number in the container.
    pub inside: String,
    /// The number of its user on the host.
    pub user: String,
    pub state: String,
    /// Processor time, as hours, minutes and seconds.
    pub time: String,
    pub memory: String,
    pub command: String,
}

/// The processes of containers, for each replica.
///
/// # Errors
/// Fails when a name is unknown.
pub fn processes(instance: &Instance, names: &[String]) -> Result<Vec<(String, Vec<Process>)>> {
    let of = |name: String| {
        let mut pids = Cgroup::open(runtime::host(), &instance.cgroup(&name)).processes();
        pids.sort_unstable();
        (name, pids.into_iter().filter_map(process).collect())
    };
    Ok(replicas(instance, names)?.into_iter().map(of).collect())
}

/// A process; `None` if it has ended, or if it is the init process that stead adds to a container.
pub fn process(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    let inside: Vec<String> = value("NSpid:").split_whitespace().map(str::to_owned).collect();
    // The guard has no number in the container's own PID namespace, or is the init process of it.
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    if command == "stead init" && inside.len() < 3 && inside.len() > 1 {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let seconds = ticks / 100;
    Some(Process {
        pid,
        inside: inside.last().cloned().unwrap_or_default(),
        user: value("Uid:").split_whitespace().nth(1).unwrap_or_default().to_owned(),
        state: value("State:").split(' ').next().unwrap_or_default().to_owned(),
        time: format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        memory: value("VmRSS:"),
        command: if command.is_empty() { format!("[{}]", value("Name:")) } else { command },
    })
}

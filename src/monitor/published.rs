//! What is updated when a container starts, ends, is paused or is resumed: published ports lead to running containers, and
//! `/etc/hosts` names running containers.
//!
//! Both are derived from the records and from the status that the monitors write. Whoever knows of a change first
//! rewrites them: `up`, `down`, a build, or a monitor. Many simultaneous changes share one rewrite: a process that gets
//! the lock and finds that a rewrite began after its own change was recorded has nothing left to do.

use super::files::{Folder, Health, State, boot_id};
use crate::model::{Context, Name, Result};
use crate::network::{self, BuildNetwork, Endpoint, Forwarding, Known, Loopback, NetworkRule, PortRule, Strangers, Table};
use crate::plan::ContainerRecord;
use crate::store::{Home, read_json};
use crate::sys::{self, Lock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was written last, and what it changed on the host.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The ruleset's generation after the write.
    generation: u32,
    boot: String,
    /// Whether forwarding is on because we switched it on.
    #[serde(default)]
    forwarding: bool,
    /// The rules, so that the tracked connections of changed ones can be forgotten.
    #[serde(default)]
    ports: Vec<PortRule>,
}

/// A line of a container's `/etc/hosts`, which is present while a certain neighbour runs, or always.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostLine {
    pub while_runs: Option<String>,
    pub text: String,
}

fn marker(home: &Home) -> PathBuf {
    home.state.join("firewall.json")
}

/// The name of the installation's table.
pub fn table_name(home: &Home) -> String {
    format!("stead-{}", home.tag())
}

/// Whether the host's ruleset is unchanged since our table was written.
pub fn is_current(home: &Home) -> bool {
    let written: Option<Written> = read_json(&marker(home));
    written.is_some_and(|written| {
        written.boot == boot_id() && network::generation().is_ok_and(|generation| generation == written.generation)
    })
}

/// Whether this installation has a table, or had one when the table was last written.
pub fn is_there(home: &Home) -> bool {
    marker(home).exists()
}

/// The file that says that nothing leads to a container any more, because it is about to be replaced.
fn withdrawn(folder: &Folder) -> PathBuf {
    folder.join("withdrawn")
}

/// Takes a container out of published ports and names from the next update of these on.
///
/// # Errors
/// Fails when that cannot be noted.
pub fn withdraw(folder: &Folder) -> Result<()> {
    let path = withdrawn(folder);
    sys::write_atomic(&path, b"", 0o600).context(|| format!("cannot write {}", path.display()))
}

/// Lets published ports and names lead to a container again, from their next update on.
///
/// # Errors
/// Fails when the note that they do not cannot be removed.
pub fn readmit(folder: &Folder) -> Result<()> {
    match fs::remove_file(withdrawn(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", withdrawn(folder).display()))
        }
        _ => Ok(()),
    }
}

/// The health of a container that runs, unless it is withdrawn. No ports lead to a container that is paused or about to be
/// restarted.
fn health(home: &Home, instance: &str, container: &str) -> Option<Health> {
    let folder = Folder::of(&home.run, instance, container);
    let status = folder.status().filter(|status| status.state == State::Running)?;
    (!withdrawn(&folder).exists()).then_some(status.health)
}

/// The containers that published ports lead to, of those that run. One that is replaced in turns is among them only when it is
/// healthy, or if none of its replicas is.
fn reached(running: Vec<(&ContainerRecord, Health)>) -> Vec<&ContainerRecord> {
    let is_ready =
        |(record, health): &(&ContainerRecord, Health)| !record.in_turns || matches!(health, Health::None | Health::Healthy);
    let ready: BTreeSet<&Name> = running.iter().filter(|one| is_ready(one)).map(|(record, _)| &record.container).collect();
    let are = running.iter().filter(|one| is_ready(one) || !ready.contains(&one.0.container));
    are.map(|(record, _)| *record).collect()
}

/// Brings the table up to date with the records and the running containers.
///
/// # Errors
/// Fails when the kernel refuses the table or the records cannot be read.
pub fn refresh(home: &Home) -> Result<()> {
    Change::ports(home)?.settle(None).map(drop)
}

/// Brings the `/etc/hosts` of an instance's containers up to date with its running containers.
///
/// # Errors
/// Fails when the files cannot be read or written.
pub fn refresh_names(home: &Home, instance: &str) -> Result<()> {
    Change::names(home, instance)?.settle(None).map(drop)
}

/// A change that is recorded in the container's status, but that the ports or names may not reflect yet.
pub struct Change {
    home: Home,
    ports: Option<Asked>,
    names: Option<(String, Asked)>,
}

/// The number of rewrites that had begun when a change was recorded. The lock file holds two numbers: that of the last
/// rewrite that began, and that of the last one that was completed. A rewrite that was killed is never completed.
struct Asked {
    lock: PathBuf,
    begun: u64,
}

impl Change {
    fn ports(home: &Home) -> Result<Self> {
        Ok(Self { home: home.clone(), ports: Some(Asked::at(home.state.join("network.lock"))?), names: None })
    }

    fn names(home: &Home, instance: &str) -> Result<Self> {
        let asked = Asked::at(home.run.join(instance).join("names.lock"))?;
        Ok(Self { home: home.clone(), ports: None, names: Some((instance.to_owned(), asked)) })
    }

    /// A change of a container, which may publish ports. Its new status must have been written already.
    ///
    /// # Errors
    /// Fails when the lock files cannot be read.
    pub fn of_container(home: &Home, instance: &str, publishes: bool) -> Result<Self> {
        let mut change = Self::names(home, instance)?;
        if publishes {
            change.ports = Self::ports(home)?.ports;
        }
        Ok(change)
    }

    /// Updates ports and names, or waits until another process has. Returns whether that succeeded within the timeout.
    ///
    /// # Errors
    /// Fails when the kernel refuses the table or the records cannot be read.
    pub fn settle(&mut self, timeout: Option<Duration>) -> Result<bool> {
        if let Some(asked) = &self.ports {
            if !asked.settle(timeout, || write_table(&self.home))? {
                return Ok(false);
            }
            self.ports = None;
        }
        if let Some((instance, asked)) = &self.names {
            if !asked.settle(timeout, || write_names(&self.home, instance))? {
                return Ok(false);
            }
            self.names = None;
        }
        Ok(true)
    }
}

impl Asked {
    fn at(lock: PathBuf) -> Result<Self> {
        let begun = match fs::read(&lock) {
            Ok(bytes) => numbers(&bytes).0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).context(|| format!("cannot read {}", lock.display())),
        };
        Ok(Self { lock, begun })
    }

    fn settle(&self, timeout: Option<Duration>, work: impl FnOnce() -> Result<()>) -> Result<bool> {
        let Some(mut lock) = self.lock(timeout).context(|| format!("cannot lock {}", self.lock.display()))? else {
            return Ok(false);
        };
        let file = lock.file();
        let read = fs::read(&self.lock).map(|bytes| numbers(&bytes));
        let (begun, done) = read.context(|| format!("cannot read {}", self.lock.display()))?;
        // That rewrite began after this change was recorded.
        if done > self.begun {
            return Ok(true);
        }
        let mut note = |at: u64| {
            let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&(begun + 1).to_le_bytes()));
            written.context(|| format!("cannot write {}", self.lock.display()))
        };
        note(0)?;
        work()?;
        note(8)?;
        Ok(true)
    }

    fn lock(&self, timeout: Option<Duration>) -> io::Result<Option<Lock>> {
        let Some(timeout) = timeout else { return Lock::wait(&self.lock, sys::Hold::Alone).map(Some) };
        let deadline = Instant::now() + timeout;
        loop {
            match Lock::attempt(&self.lock)? {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                lock => return Ok(lock),
            }
        }
    }
}

fn numbers(bytes: &[u8]) -> (u64, u64) {
    let number = |part: Option<&[u8]>| part.and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes);
    (number(bytes.get(..8)), number(bytes.get(8..16)))
}

/// Replaces the whole table. Without networks the table is removed and forwarding is restored.
fn write_table(home: &Home) -> Result<()> {
    let known = network::known(home)?;
    let (live, dead): (Vec<_>, Vec<_>) = network::build_networks(home)?.into_iter().partition(|(_, live)| *live);
    for (network, _) in &dead {
        network.end(home)?;
    }
    let builds: Vec<BuildNetwork> = live.into_iter().map(|(network, _)| network).collect();
    let old = read_json::<Written>(&marker(home)).filter(|written| written.boot == boot_id());
    let old_ports = old.as_ref().map_or(&[][..], |written| &written.ports);
    let (mut table, bridges) = table(home, &known, &builds);
    if table.networks.is_empty() {
        network::remove_table(&table_name(home))?;
        network::forget(old_ports, &[])?;
        if old.is_some_and(|written| written.forwarding) {
            Forwarding::restore()?;
        }
        return match fs::remove_file(marker(home)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(|| "cannot remove the firewall's marker".into())
            }
            _ => Ok(()),
        };
    }
    let forwarding = Forwarding::look()?.alias().is_some();
    if forwarding {
        table.strangers = Strangers::Dropped { bridges: network::seen_bridges()? };
    }
    let generation = network::replace_table(&table_name(home), &table)?;
    network::open_loopback(&bridges)?;
    network::forget(old_ports, &table.ports)?;
    let written = Written { generation, boot: boot_id(), forwarding, ports: table.ports };
    let bytes = serde_json::to_vec(&written).context(|| "cannot write the firewall's marker".into())?;
    sys::write_atomic(&marker(home), &bytes, 0o600).context(|| "cannot write the firewall's marker".into())
}

fn table(home: &Home, known: &[Known], builds: &[BuildNetwork]) -> (Table, Vec<(String, Loopback)>) {
    let mut table = Table::default();
    let mut bridges = Vec::new();
    for build in builds {
        table.networks.push(NetworkRule { bridge: build.bridge.clone(), subnet: build.subnet, internal: false });
    }
    for Known { id, record } in known {
        for network in record.networks.values() {
            table.networks.push(NetworkRule {
                bridge: network.bridge.clone(),
                subnet: network.subnet,
                internal: network.internal,
            });
        }
        let others = table.ports.len();
        let mut open = Vec::new();
        let publishing = record.containers.iter().filter(|(_, container)| !container.ports.is_empty());
        let running = publishing.filter_map(|(name, container)| Some((container, health(home, id, name)?))).collect();
        for container in reached(running) {
            let outer =
                container.addresses.iter().find(|(name, _)| record.networks.get(*name).is_some_and(|network| !network.internal));
            let Some((network, address)) = outer.or_else(|| container.addresses.iter().next()) else { continue };
            for port in &container.ports {
                if port.address.is_loopback() || port.address.is_unspecified() {
                    open.push(network);
                }
                let endpoint = Endpoint { address: *address, port: port.to };
                let same =
                    |rule: &PortRule| rule.address == port.address && rule.port == port.port && rule.protocol == port.protocol;
                match table.ports.iter().position(same) {
                    // It belongs to another instance. Only one can hold the socket, and instances do not share ports.
                    Some(index) if index < others => {}
                    Some(index) => table.ports[index].endpoints.push(endpoint),
                    None => table.ports.push(PortRule {
                        address: port.address,
                        port: port.port,
                        protocol: port.protocol,
                        endpoints: vec![endpoint],
                    }),
                }
            }
        }
        for (name, network) in record.networks.iter().filter(|(_, network)| !network.external) {
            let wanted = if open.contains(&name) { Loopback::Published } else { Loopback::Closed };
            bridges.push((network.bridge.clone(), wanted));
        }
    }
    (table, bridges)
}

/// Removes the networks of builds that were killed. Returns whether there were any.
///
/// # Errors
/// Fails when the records cannot be read or the kernel refuses the change.
pub fn sweep_builds(home: &Home) -> Result<bool> {
    let dead = network::build_networks(home)?.iter().any(|(_, live)| !live);
    if dead {
        refresh(home)?;
    }
    Ok(dead)
}

/// Stores the lines from which a container's `/etc/hosts` is written.
///
/// # Errors
/// Fails when they cannot be written.
pub fn keep_names(folder: &Path, lines: &[HostLine]) -> Result<()> {
    let path = folder.join("names.json");
    let bytes = serde_json::to_vec(lines).context(|| "cannot write a container's names".into())?;
    if fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    sys::write_atomic(&path, &bytes, 0o600).context(|| format!("cannot write {}", path.display()))
}

fn write_names(home: &Home, instance: &str) -> Result<()> {
    let folder = home.run.join(instance);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // `down` has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(|| format!("cannot list {}", folder.display())),
    };
    let mut running = BTreeMap::new();
    let mut is_up = |name: &str| *running.entry(name.to_owned()).or_insert_with(|| health(home, instance, name).is_some());
    for entry in entries {
        let entry = entry.context(|| format!("cannot list {}", folder.display()))?;
        // A container that does not run reads no names. It gets them when it is started.
        if !is_up(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let place = entry.path();
        let Some(lines) = read_json::<Vec<HostLine>>(&place.join("names.json")) else { continue };
        let kept = lines.iter().filter(|line| line.while_runs.as_ref().is_none_or(|name| is_up(name)));
        let text: String = kept.map(|line| format!("{}\n", line.text)).collect();
        match write_in_place(&place.join("hosts"), &text) {
            // It has ended meanwhile, and its directory is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.context(|| format!("cannot write {}", place.join("hosts").display()))?,
        }
    }
    Ok(())
}

/// Overwrites an existing file in place if its text differs. The container sees this inode, so the file is not replaced.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path)? == text.as_bytes() {
        return Ok(());
    }
    fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lead_to_replicas_in_turns_only_when_they_are_healthy() {
        let record = |container: &str, replica: u32, in_turns: bool| -> ContainerRecord {
            let text = serde_json::json!({
                "container": container, "replica": replica, "image_name": "i", "image": crate::model::Digest::of("i"),
                "aspects": {}, "addresses": {}, "ports": [], "in_turns": in_turns, "generation": 1,
            });
            serde_json::from_value(text).unwrap()
        };
        let (a, b, old) = (record("web", 1, true), record("web", 2, true), record("web", 3, false));
        let other = record("other", 1, false);
        let to = |running: Vec<(&ContainerRecord, Health)>| -> Vec<String> {
            reached(running).iter().map(|one| format!("{}-{}", one.container, one.replica)).collect()
        };
        assert_eq!(to(vec![(&a, Health::Starting)]), ["web-1"], "there is no other");
        assert_eq!(to(vec![(&a, Health::Healthy), (&b, Health::Starting)]), ["web-1"]);
        assert_eq!(to(vec![(&a, Health::Unhealthy), (&b, Health::Healthy), (&other, Health::Starting)]), ["web-2", "other-1"]);
        assert_eq!(to(vec![(&old, Health::Starting), (&b, Health::Starting)]), ["web-3"], "one of before `update` was written");
        assert_eq!(to(vec![(&a, Health::Unhealthy), (&b, Health::Unhealthy)]), ["web-1", "web-2"]);
        assert_eq!(to(vec![(&a, Health::None), (&b, Health::Healthy)]), ["web-1", "web-2"]);
    }

    #[test]
    fn a_container_is_withdrawn_until_it_is_readmitted() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path());
        readmit(&folder).unwrap();
        withdraw(&folder).unwrap();
        withdraw(&folder).unwrap();
        assert!(withdrawn(&folder).exists());
        readmit(&folder).unwrap();
        assert!(!withdrawn(&folder).exists());
    }
}

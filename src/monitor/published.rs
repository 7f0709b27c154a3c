//! What follows when a container begins, ends, pauses or goes on: published ports lead to what runs, and
//! `/etc/hosts` names what runs.
//!
//! Both are derived, from the records and from what the monitors tell, by whoever knows of a change first:
//! `up`, `down`, a build, a monitor. Many changes at once are one rewrite: who comes to the lock and finds
//! that a rewrite began after his own change was told has nothing left to do.

use super::files::{Folder, State, boot_id};
use crate::model::{Context, Result};
use crate::network::{self, BuildNetwork, Endpoint, Forwarding, Known, Loopback, NetworkRule, PortRule, Strangers, Table};
use crate::store::{Home, read_json};
use crate::sys::{self, Lock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was written last, and what it replaced at the host.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The ruleset's generation after it.
    generation: u32,
    boot: String,
    /// Whether forwarding is on because of us.
    #[serde(default)]
    forwarding: bool,
    /// The rules, to forget flows by when they change.
    #[serde(default)]
    ports: Vec<PortRule>,
}

/// A line of a container's `/etc/hosts`, there while a neighbour runs, or always.
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

/// Whether nobody changed the host's ruleset since our table was written.
pub fn is_current(home: &Home) -> bool {
    let written: Option<Written> = read_json(&marker(home));
    written.is_some_and(|written| {
        written.boot == boot_id() && network::generation().is_ok_and(|generation| generation == written.generation)
    })
}

/// Whether this installation has a table, or had one when it was last looked after.
pub fn is_there(home: &Home) -> bool {
    marker(home).exists()
}

/// Whether a container runs: nothing is led to what is paused, and nothing to what is about to be restarted.
fn runs(home: &Home, instance: &str, container: &str) -> bool {
    Folder::of(&home.run, instance, container).status().is_some_and(|status| status.state == State::Running)
}

/// Makes the table what records and running containers come to.
///
/// # Errors
/// What the kernel refuses; records that cannot be read.
pub fn refresh(home: &Home) -> Result<()> {
    Change::ports(home)?.settle(None).map(drop)
}

/// Makes the `/etc/hosts` of an instance's containers what runs of it.
///
/// # Errors
/// Those of reading and writing the files.
pub fn refresh_names(home: &Home, instance: &str) -> Result<()> {
    Change::names(home, instance)?.settle(None).map(drop)
}

/// A change that was told and is not yet followed everywhere.
pub struct Change {
    home: Home,
    ports: Option<Asked>,
    names: Option<(String, Asked)>,
}

/// The number of rewrites that had begun when a change was told. The lock's file holds two numbers: of the last
/// rewrite that began, and of the last that was done; one that was killed never is.
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

    /// A change of a container, which publishes ports or not; what it is now has been told.
    ///
    /// # Errors
    /// Those of reading the locks' files.
    pub fn of_container(home: &Home, instance: &str, publishes: bool) -> Result<Self> {
        let mut change = Self::names(home, instance)?;
        if publishes {
            change.ports = Self::ports(home)?.ports;
        }
        Ok(change)
    }

    /// Follows it, or waits until somebody else has; whether that was possible within some time.
    ///
    /// # Errors
    /// What the kernel refuses; records that cannot be read.
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
        // It began after this change was told.
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

/// Replaces the table, whole; without networks it is removed, and forwarding is put back.
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
        for (_, container) in publishing.filter(|(name, _)| runs(home, id, name)) {
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
                    // Another instance's: only one can hold the socket, and strangers share nothing.
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

/// Ends the networks of builds that were killed; whether there were any.
///
/// # Errors
/// Those of reading; what the kernel refuses.
pub fn sweep_builds(home: &Home) -> Result<bool> {
    let dead = network::build_networks(home)?.iter().any(|(_, live)| !live);
    if dead {
        refresh(home)?;
    }
    Ok(dead)
}

/// Keeps what a container's `/etc/hosts` is made of.
///
/// # Errors
/// Those of writing.
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
        // `down` was here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(|| format!("cannot list {}", folder.display())),
    };
    let mut running = BTreeMap::new();
    let mut is_up = |name: &str| *running.entry(name.to_owned()).or_insert_with(|| runs(home, instance, name));
    for entry in entries {
        let entry = entry.context(|| format!("cannot list {}", folder.display()))?;
        // One that does not run reads no names; it gets them when it is started.
        if !is_up(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let place = entry.path();
        let Some(lines) = read_json::<Vec<HostLine>>(&place.join("names.json")) else { continue };
        let kept = lines.iter().filter(|line| line.while_runs.as_ref().is_none_or(|name| is_up(name)));
        let text: String = kept.map(|line| format!("{}\n", line.text)).collect();
        match write_in_place(&place.join("hosts"), &text) {
            // It ended meanwhile, and its directory with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.context(|| format!("cannot write {}", place.join("hosts").display()))?,
        }
    }
    Ok(())
}

/// Writes a file that is there already in place, if it says something else: its inode is what a container sees.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path)? == text.as_bytes() {
        return Ok(());
    }
    fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

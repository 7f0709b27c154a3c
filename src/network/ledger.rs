//! What the installation has taken: ports, subnets, addresses on foreign bridges.
//!
//! This information is in the records of the instances, in the reservations of running `up` commands that are not
//! in a record yet, and in the networks of builds. A process that takes something holds one lock from reading to
//! writing, so that two never take the same. What only a running process needs counts as long as that process holds
//! its lock, which is released if the process is killed.

use crate::model::{Context, Result, Subnet};
use crate::plan::{InstanceRecord, Port, Taken, TakenPort};
use crate::store::{Home, Kept, read_state, state_bytes};
use crate::sys::{self, Hold, Lock};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// An instance and its record.
#[derive(Debug)]
pub struct Known {
    pub id: String,
    pub record: InstanceRecord,
}

// The record is written by whatever changes an instance (`instance/identity.rs`); here only its networks are read.
impl Kept for InstanceRecord {
    const KIND: &'static str = "record";
    const VERSION: u32 = 1;
}

impl Kept for Reservation {
    const KIND: &'static str = "reservation";
    const VERSION: u32 = 1;
}

impl Kept for BuildNetwork {
    const KIND: &'static str = "build-network";
    const VERSION: u32 = 1;
}

/// What an `up` has planned but not yet written to the record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reservation {
    pub project: String,
    pub folder: String,
    pub ports: Vec<Port>,
    pub subnets: Vec<Subnet>,
    pub outside: Vec<(String, Ipv4Addr)>,
}

/// The network of a running build.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BuildNetwork {
    pub bridge: String,
    pub subnet: Subnet,
}

/// Locks the ledger, and waits until nobody else holds it.
///
/// # Errors
/// Fails when the lock file cannot be created or locked.
pub fn lock_ledger(home: &Home) -> Result<Lock> {
    let path = home.state.join("ledger.lock");
    fs::create_dir_all(&home.state).context(|| format!("cannot make {}", home.state.display()))?;
    Lock::wait(&path, Hold::Alone).context(|| format!("cannot lock {}", path.display()))
}

fn read<T: Kept>(path: &Path) -> Result<Option<T>> {
    read_state(path).map_err(|error| {
        error.hint("stead needs it to find free ports and subnets: restore it, or remove its directory if nothing of it runs")
    })
}

fn listed(folder: &Path) -> Result<Vec<String>> {
    sys::names(folder).context(|| "cannot tell what other projects use".into())
}

/// The records of all instances of an installation.
///
/// # Errors
/// Fails when a record exists but cannot be read.
pub fn known(home: &Home) -> Result<Vec<Known>> {
    known_but(home, None)
}

/// The records of all instances, or of all but one.
fn known_but(home: &Home, left_out: Option<&str>) -> Result<Vec<Known>> {
    let folder = home.state.join("instances");
    let mut found = Vec::new();
    for id in listed(&folder)?.into_iter().filter(|id| Some(id.as_str()) != left_out) {
        if let Some(record) = read(&folder.join(&id).join("record.json"))? {
            found.push(Known { id, record });
        }
    }
    Ok(found)
}

/// What all instances except one have taken.
///
/// # Errors
/// Fails when a record exists but cannot be read.
pub fn taken(home: &Home, own: &str) -> Result<Taken> {
    let mut taken = Taken::default();
    // Reservations come first: one that ends meanwhile is in a record that is read after it.
    let instances = home.state.join("instances");
    for id in listed(&instances)?.into_iter().filter(|id| id != own) {
        let folder = instances.join(&id);
        // A reservation counts only while its `up` runs: afterwards, what was done is in the record.
        if !Lock::is_held(&folder.join("lock")) {
            continue;
        }
        if let Some(reserved) = read::<Reservation>(&folder.join("reserved.json"))? {
            taken.ports.extend(reserved.ports.iter().map(|port| taken_port(port, &reserved.project, &reserved.folder)));
            taken.subnets.extend(reserved.subnets);
            taken.outside.extend(reserved.outside);
        }
    }
    for Known { record: known, .. } in known_but(home, Some(own))? {
        taken.subnets.extend(known.networks.values().map(|network| network.subnet));
        for container in known.containers.values() {
            taken.ports.extend(container.ports.iter().map(|port| taken_port(port, &known.project, &known.folder)));
            let outside = container.addresses.iter().filter_map(|(name, address)| {
                let network = known.networks.get(name).filter(|network| network.external)?;
                Some((network.bridge.clone(), *address))
            });
            taken.outside.extend(outside);
        }
    }
    taken.subnets.extend(build_networks(home)?.into_iter().filter(|(_, live)| *live).map(|(network, _)| network.subnet));
    taken.ports.sort();
    taken.ports.dedup();
    taken.subnets.sort();
    taken.subnets.dedup();
    taken.outside.sort();
    taken.outside.dedup();
    Ok(taken)
}

fn taken_port(port: &Port, project: &str, folder: &str) -> TakenPort {
    TakenPort {
        address: port.address,
        port: port.port,
        protocol: port.protocol,
        project: project.to_owned(),
        folder: folder.to_owned(),
    }
}

impl Reservation {
    fn path(home: &Home, instance: &str) -> PathBuf {
        home.state.join("instances").join(instance).join("reserved.json")
    }

    /// Writes the reservation, which counts as long as the instance's lock is held. The caller holds the ledger's lock.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn keep(&self, home: &Home, instance: &str) -> Result<()> {
        let path = Self::path(home, instance);
        sys::write_whole(&path, &state_bytes(self)?, 0o600).context(|| format!("cannot write {}", path.display()))
    }

    /// Removes an instance's reservation: what it was for is in the record by now, or was never created.
    ///
    /// # Errors
    /// Fails when the file exists but cannot be removed.
    pub fn end(home: &Home, instance: &str) -> Result<()> {
        remove(&Self::path(home, instance))
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The networks of builds, each with whether its build is still running.
///
/// # Errors
/// Fails when they cannot be read.
pub fn build_networks(home: &Home) -> Result<Vec<(BuildNetwork, bool)>> {
    let folder = home.state.join("builds");
    let mut found = Vec::new();
    for name in listed(&folder)? {
        let Some(bridge) = name.strip_suffix(".json") else { continue };
        if let Some(network) = read::<BuildNetwork>(&folder.join(&name))? {
            found.push((network, Lock::is_held(&folder.join(format!("{bridge}.lock")))));
        }
    }
    Ok(found)
}

impl BuildNetwork {
    /// Writes the network, which counts as long as the returned lock is held. The caller holds the ledger's lock.
    ///
    /// # Errors
    /// Fails when a file cannot be written or locked.
    pub fn keep(&self, home: &Home) -> Result<Lock> {
        let folder = home.state.join("builds");
        fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.lock", self.bridge));
        let lock = Lock::wait(&path, Hold::Alone).context(|| format!("cannot lock {}", path.display()))?;
        let path = folder.join(format!("{}.json", self.bridge));
        sys::write_whole(&path, &state_bytes(self)?, 0o600).context(|| format!("cannot write {}", path.display()))?;
        Ok(lock)
    }

    /// Deletes its bridge and its record.
    ///
    /// # Errors
    /// Fails when the kernel refuses or a file cannot be removed.
    pub fn end(&self, home: &Home) -> Result<()> {
        super::delete_links(std::slice::from_ref(&self.bridge))?;
        let folder = home.state.join("builds");
        remove(&folder.join(format!("{}.json", self.bridge)))?;
        remove(&folder.join(format!("{}.lock", self.bridge)))
    }
}

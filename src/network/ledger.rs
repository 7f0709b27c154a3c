//! What the installation has taken: ports, subnets, addresses on bridges of others.
//!
//! It is in the records of the instances, in what an `up` that is under way has reserved and not yet put on
//! record, and in the networks of builds. Whoever takes something holds one lock from looking to writing, so
//! that two at once never take the same. What only a process needs counts as long as that process holds its
//! lock: a kill lets go of it.

use crate::model::{Context, Result, Subnet};
use crate::plan::{InstanceRecord, Port, Taken, TakenPort};
use crate::store::{Home, Kept, read_state, state_bytes};
use crate::sys::{self, Hold, Lock};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// An instance's record, with the instance.
#[derive(Debug)]
pub struct Known {
    pub id: String,
    pub record: InstanceRecord,
}

// Whoever changes an instance writes it (`apply/instance.rs`); what it has of networks is asked for here.
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

/// What an `up` has planned and not yet put on record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reservation {
    pub project: String,
    pub folder: String,
    pub ports: Vec<Port>,
    pub subnets: Vec<Subnet>,
    pub outside: Vec<(String, Ipv4Addr)>,
}

/// The network of a build that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BuildNetwork {
    pub bridge: String,
    pub subnet: Subnet,
}

/// Waits until nobody else takes anything.
///
/// # Errors
/// Those of making and locking the file.
pub fn lock_ledger(home: &Home) -> Result<Lock> {
    let path = home.state.join("ledger.lock");
    fs::create_dir_all(&home.state).context(|| format!("cannot make {}", home.state.display()))?;
    Lock::wait(&path, Hold::Alone).context(|| format!("cannot lock {}", path.display()))
}

fn read<T: Kept>(path: &Path) -> Result<Option<T>> {
    read_state(path).map_err(|error| {
        error.hint("which ports and subnets are free cannot be told without it: put it back, or remove its directory when nothing of it runs")
    })
}

fn listed(folder: &Path) -> Result<Vec<String>> {
    sys::names(folder).context(|| "cannot tell what other projects use".into())
}

/// The records of all instances of an installation.
///
/// # Errors
/// One that is there and cannot be read.
pub fn known(home: &Home) -> Result<Vec<Known>> {
    let folder = home.state.join("instances");
    let mut found = Vec::new();
    for id in listed(&folder)? {
        if let Some(record) = read(&folder.join(&id).join("record.json"))? {
            found.push(Known { id, record });
        }
    }
    Ok(found)
}

/// What everybody but one instance has taken.
///
/// # Errors
/// Records that are there and cannot be read.
pub fn taken(home: &Home, own: &str) -> Result<Taken> {
    let mut taken = Taken::default();
    for known in known(home)?.into_iter().filter(|known| known.id != own).map(|known| known.record) {
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
    let instances = home.state.join("instances");
    for id in listed(&instances)?.into_iter().filter(|id| id != own) {
        let folder = instances.join(&id);
        // Only while its `up` lives: what that has done is on record.
        if !Lock::is_held(&folder.join("lock")) {
            continue;
        }
        if let Some(reserved) = read::<Reservation>(&folder.join("reserved.json"))? {
            taken.ports.extend(reserved.ports.iter().map(|port| taken_port(port, &reserved.project, &reserved.folder)));
            taken.subnets.extend(reserved.subnets);
            taken.outside.extend(reserved.outside);
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

    /// Writes it, for as long as the instance's lock is held. The ledger is locked.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep(&self, home: &Home, instance: &str) -> Result<()> {
        let path = Self::path(home, instance);
        sys::write_whole(&path, &state_bytes(self)?, 0o600).context(|| format!("cannot write {}", path.display()))
    }

    /// Takes an instance's reservation away: what it was for is on record, or never came to be.
    ///
    /// # Errors
    /// Those of removing the file, other than that it is not there.
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

/// The networks of builds, each with whether its build lives.
///
/// # Errors
/// Those of reading.
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
    /// Writes it, for as long as the lock that comes back is held. The ledger is locked.
    ///
    /// # Errors
    /// Those of writing and locking.
    pub fn keep(&self, home: &Home) -> Result<Lock> {
        let folder = home.state.join("builds");
        fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.lock", self.bridge));
        let lock = Lock::wait(&path, Hold::Alone).context(|| format!("cannot lock {}", path.display()))?;
        let path = folder.join(format!("{}.json", self.bridge));
        sys::write_whole(&path, &state_bytes(self)?, 0o600).context(|| format!("cannot write {}", path.display()))?;
        Ok(lock)
    }

    /// Takes its bridge and its record away.
    ///
    /// # Errors
    /// What the kernel refuses; those of removing files.
    pub fn end(&self, home: &Home) -> Result<()> {
        super::delete_links(std::slice::from_ref(&self.bridge))?;
        let folder = home.state.join("builds");
        remove(&folder.join(format!("{}.json", self.bridge)))?;
        remove(&folder.join(format!("{}.lock", self.bridge)))
    }
}

//! The sockets that keep published ports from being used by others: one for each port, shared by the replicas behind it.

use crate::instance::Instance;
use crate::model::{Error, Result};
use crate::monitor;
use crate::network;
use crate::plan::{Desired, Port};
use crate::project::Protocol;
use crate::sys;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The sockets, by the address and protocol that they hold.
#[derive(Default)]
pub struct Held(BTreeMap<(SocketAddrV4, Protocol), OwnedFd>);

fn key(port: &Port) -> (SocketAddrV4, Protocol) {
    (SocketAddrV4::new(port.address, port.port), port.protocol)
}

impl Held {
    /// Takes the ports of containers that are about to start: from running replicas or predecessors of this instance
    /// that hold them, otherwise from the host.
    ///
    /// # Errors
    /// Fails when a port is in use by another program.
    pub fn take(instance: &Instance, wishes: &[&Desired]) -> Result<Self> {
        let mut held = Self::default();
        let wanted = wishes.iter().flat_map(|one| &one.ports).map(key);
        let wanted: std::collections::BTreeSet<_> = wanted.collect();
        if wanted.is_empty() {
            return Ok(held);
        }
        for (name, record) in &instance.record()?.containers {
            let folder = instance.container(name);
            let missing = record.ports.iter().map(key).any(|port| wanted.contains(&port) && !held.0.contains_key(&port));
            if !missing || !folder.alive() {
                continue;
            }
            // A container that is just ending releases its ports: they are bound again below.
            let mut fds = monitor::held_ports(&folder).unwrap_or_default();
            if fds.is_empty() {
                let monitor = folder.status().and_then(|status| i32::try_from(status.monitor).ok()).filter(|pid| *pid > 1);
                fds = monitor.map(network::borrow_sockets).unwrap_or_default();
            }
            for fd in fds {
                if let Ok((address, udp)) = sys::bound_to(&fd) {
                    held.0.insert((address, if udp { Protocol::Udp } else { Protocol::Tcp }), fd);
                }
            }
        }
        held.0.retain(|port, _| wanted.contains(port));
        let mut errors = Vec::new();
        for one in wishes {
            for port in &one.ports {
                if let Entry::Vacant(free) = held.0.entry(key(port)) {
                    match bind(one, port) {
                        Ok(socket) => drop(free.insert(socket)),
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
        Error::all(errors)?;
        Ok(held)
    }

    /// The sockets of one container's ports.
    pub fn of(&self, one: &Desired) -> Vec<RawFd> {
        one.ports.iter().filter_map(|port| self.0.get(&key(port))).map(AsRawFd::as_raw_fd).collect()
    }
}

fn bind(one: &Desired, port: &Port) -> Result<OwnedFd> {
    let (address, protocol) = key(port);
    let udp = protocol == Protocol::Udp;
    sys::hold_port(address, udp).map_err(|error| {
        let code = error.raw_os_error();
        let error = Error::caused(format!("container {}: cannot publish {address}", one.container), error);
        match code {
            Some(libc::EADDRINUSE) => {
                let owner = network::port_owner(address, udp).map_or_else(String::new, |owner| format!(" ({owner})"));
                error.hint(format!("another program has this port{owner}: stop it, or publish another one"))
            }
            Some(libc::EMFILE) => error.hint("each published port takes an open file: raise the limit with `ulimit -Hn NUMBER`"),
            _ => error,
        }
    })
}

//! The network of a build's commands: a bridge of its own, with NAT to the host's addresses.
//!
//! It is made when the first command asks for it, and removed at the end of the build. A command on it can reach neither
//! the host's loopback, nor its abstract sockets, nor its interfaces (class of CVE-2020-15257).

use super::Builder;
use crate::model::{Context, Digest, Error, Result};
use crate::monitor;
use crate::network::{self, BRIDGES, BridgeSpec, BuildNetwork, Forwarding};
use crate::plan::free_subnet;
use crate::project::RunNetwork;
use crate::runtime::Interface;
use crate::store::Home;
use crate::sys;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

/// The link group of builds; the groups of instances are higher.
const GROUP: u32 = 999;
const MTU: u32 = 1500;

/// A build's network; it exists as long as the build runs.
pub struct Network {
    home: Home,
    made: BuildNetwork,
    steps: AtomicU32,
    _lock: sys::Lock,
}

impl Network {
    fn make(home: &Home) -> Result<Self> {
        let ledger = network::lock_ledger(home)?;
        let taken = network::taken(home, "")?;
        let routes = network::routes()?;
        let identity = format!("{}/{}", home.tag(), sys::unique());
        let free = |subnet: &crate::model::Subnet| {
            !routes.iter().any(|(route, _)| route.overlaps(subnet)) && !taken.subnets.iter().any(|other| other.overlaps(subnet))
        };
        let subnet =
            free_subnet(&identity, 24, free).ok_or_else(|| Error::new("no subnet of 10.128.0.0/9 is free for the build"))?;
        let bridge = format!("{BRIDGES}{}{}", home.tag(), Digest::of(&identity).short(6));
        let made = BuildNetwork { bridge, subnet };
        // The record is written first: if the build is killed after this, the next `up` or `gc` still knows what to remove.
        let lock = made.keep(home)?;
        drop(ledger);
        let network = Self { home: home.clone(), made, steps: AtomicU32::new(0), _lock: lock };
        let forwarding = Forwarding::look()?;
        let spec = BridgeSpec {
            name: network.made.bridge.clone(),
            gateway: subnet.host(1),
            prefix: subnet.prefix(),
            mtu: MTU,
            group: GROUP,
        };
        network::ensure_bridges(&[spec], forwarding.alias())?;
        monitor::refresh(home)?;
        if forwarding == Forwarding::Off {
            Forwarding::switch_on()?;
        }
        Ok(network)
    }

    /// Makes an interface on this network, for one command.
    fn interface(&self) -> Interface {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        let subnet = self.made.subnet;
        // Addresses are reused after some two hundred commands; the first has ended by then.
        let address = subnet.host(2 + number % (subnet.hosts() - 2));
        Interface {
            name: "eth0".into(),
            host: format!("vst{}", Digest::of(format!("{}/{number}", self.made.bridge)).short(12)),
            bridge: self.made.bridge.clone(),
            address,
            prefix: subnet.prefix(),
            gateway: Some(subnet.host(1)),
            mtu: MTU,
            group: GROUP,
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whatever cannot be removed now is on record; the next `up`, `gc` or build removes it.
        if self.made.end(&self.home).is_ok() {
            let _ = monitor::refresh(&self.home);
        }
    }
}

impl Builder<'_> {
    /// Makes an interface for a command that asks for the network; the `Arc` keeps the network alive.
    pub(super) fn interface(&self, wanted: RunNetwork) -> Result<Option<(Interface, Arc<Network>)>> {
        if wanted != RunNetwork::Own {
            return Ok(None);
        }
        let mut made = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let network = match &*made {
            Some(network) => network.clone(),
            None => {
                let network = Network::make(self.home).context(|| "cannot make the build's network".into())?;
                made.insert(Arc::new(network)).clone()
            }
        };
        Ok(Some((network.interface(), network)))
    }
}

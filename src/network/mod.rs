//! Networks: bridges, veth pairs, addresses, routes, the firewall table, published ports.
//!
//! This module configures the kernel, and keeps the ledger of what the installation has taken. Which addresses and
//! names are used is decided by the plan.

mod conntrack;
mod firewall;
mod foreign;
mod forwarding;
mod ledger;
mod link_settings;
mod links;
mod nf_tables;
mod owner;
mod resolver;

pub use conntrack::{forget, has_connections};
pub use firewall::{Endpoint, NetworkRule, PortRule, Strangers, Table, generation, remove_table, replace_table};
pub use foreign::blockers;
pub use forwarding::{Forwarding, seen_bridges};
pub use ledger::{BuildNetwork, Known, Reservation, build_networks, known, lock_ledger, taken};
pub use link_settings::Loopback;
pub use links::{BridgeSpec, bridges, connect, delete_group, delete_links, ensure_bridges, no_bridges, open_loopback, routes};
pub use owner::{borrow_sockets, port_owner};
pub use resolver::{Servers, out_of_reach, resolver};

use std::fs;

/// The prefix of the names of all our bridges, in every installation.
pub const BRIDGES: &str = "br-st";

/// A setting of the host that a project's networks need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSetting {
    pub name: &'static str,
    pub value: &'static str,
}

/// Settings of the whole host. Each is shown in the plan when it must change.
pub const HOST_SETTINGS: [HostSetting; 1] = [HostSetting { name: "net.ipv4.ip_forward", value: "1" }];

impl HostSetting {
    /// Whether the host already has this value.
    pub fn holds(&self) -> bool {
        fs::read_to_string(format!("/proc/sys/{}", self.name.replace('.', "/"))).is_ok_and(|value| value.trim() == self.value)
    }
}

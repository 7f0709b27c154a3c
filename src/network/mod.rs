//! Networks: bridges, veth pairs, addresses, routes, the firewall table, published ports.
//!
//! Owns what the kernel is told. Which addresses and names are used is planned upstairs.

mod firewall;
mod foreign;
mod links;

pub use firewall::{Endpoint, NetworkRule, PortRule, Table, generation, remove_table, replace_table};
pub use foreign::{Blockers, blockers};
pub use links::{BridgeSpec, bridges, connect, delete_group, delete_links, ensure_bridges, routes};

use crate::model::{Context, Outcome};
use std::fs;

/// A setting of the host that a project's networks need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSetting {
    pub name: &'static str,
    pub value: &'static str,
}

/// Settings of the whole host, each told in the plan when it must change.
pub const HOST_SETTINGS: [HostSetting; 1] = [HostSetting { name: "net.ipv4.ip_forward", value: "1" }];

impl HostSetting {
    /// Whether the host has it already.
    pub fn holds(&self) -> bool {
        fs::read_to_string(self.path()).is_ok_and(|value| value.trim() == self.value)
    }

    fn path(&self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }

    /// Sets it.
    ///
    /// # Errors
    /// Those of writing below /proc/sys.
    pub fn apply(&self) -> Outcome<()> {
        fs::write(self.path(), self.value).doing(|| format!("cannot set {}={}", self.name, self.value))
    }
}

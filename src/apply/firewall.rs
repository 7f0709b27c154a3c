//! The installation's firewall table: derived from the records of all its instances.

use super::instance::all_instances;
use crate::model::{Context, Outcome};
use crate::network::{self, Endpoint, NetworkRule, PortRule, Table};
use crate::plan::InstanceRecord;
use crate::store::{Home, read_json};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Serialize, Deserialize)]
struct Written {
    generation: u32,
    boot: String,
}

fn marker(home: &Home) -> PathBuf {
    home.state.join("firewall.json")
}

fn name(home: &Home) -> String {
    format!("stead-{}", home.tag())
}

/// Whether nobody changed the host's ruleset since our table was written.
pub fn is_current(home: &Home) -> bool {
    let written: Option<Written> = read_json(&marker(home));
    written.is_some_and(|written| {
        written.boot == crate::monitor::boot() && network::generation().is_ok_and(|generation| generation == written.generation)
    })
}

/// Replaces the table by what all records together come to; without networks it is removed.
///
/// # Errors
/// What the kernel refuses.
pub fn refresh(home: &Home) -> Outcome<()> {
    let lock = home.state.join("network.lock");
    let _lock = sys::Lock::wait(&lock, sys::Hold::Alone).doing(|| format!("cannot lock {}", lock.display()))?;
    let records: Vec<InstanceRecord> = all_instances(home).into_iter().map(|(_, record)| record).collect();
    let table = table(&records);
    if table.networks.is_empty() {
        network::remove_table(&name(home))?;
        let _ = std::fs::remove_file(marker(home));
        return Ok(());
    }
    let generation = network::replace_table(&name(home), &table)?;
    let bytes = serde_json::to_vec(&Written { generation, boot: crate::monitor::boot() })
        .doing(|| "cannot write the firewall's marker".into())?;
    sys::write_atomic(&marker(home), &bytes, 0o600).doing(|| "cannot write the firewall's marker".into())
}

/// Chains of other tables that block what ours accepts for a bridge.
pub fn blockers(home: &Home, bridge: &str) -> Option<String> {
    let found = network::blockers(&name(home), bridge).unwrap_or_default();
    if found.chains.is_empty() {
        return None;
    }
    let way_out = if found.firewalld {
        format!("type `firewall-cmd --zone=trusted --add-interface={bridge}`")
    } else if found.docker {
        "type `iptables -I DOCKER-USER -i br-st+ -j ACCEPT; iptables -I DOCKER-USER -o br-st+ -j ACCEPT`".to_owned()
    } else {
        "accept packets from and to br-st* there".to_owned()
    };
    let chains = found.chains.join("; ");
    Some(format!("{chains}: it blocks what containers send out, or what other hosts send to published ports; {way_out}"))
}

fn table(records: &[InstanceRecord]) -> Table {
    let mut table = Table::default();
    for record in records {
        for network in record.networks.values() {
            table.networks.push(NetworkRule {
                bridge: network.bridge.clone(),
                subnet: network.subnet,
                internal: network.internal,
            });
        }
        for container in record.containers.values() {
            let outer =
                container.addresses.iter().find(|(name, _)| record.networks.get(*name).is_some_and(|network| !network.internal));
            let Some((_, address)) = outer.or_else(|| container.addresses.iter().next()) else { continue };
            for port in &container.ports {
                let endpoint = Endpoint { address: *address, port: port.to };
                let same = |rule: &&mut PortRule| {
                    rule.address == port.address && rule.port == port.port && rule.protocol == port.protocol
                };
                match table.ports.iter_mut().find(same) {
                    Some(rule) => rule.endpoints.push(endpoint),
                    None => table.ports.push(PortRule {
                        address: port.address,
                        port: port.port,
                        protocol: port.protocol,
                        endpoints: vec![endpoint],
                    }),
                }
            }
        }
    }
    table
}

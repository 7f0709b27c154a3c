//! Reports when other tables on the host block our packets.

use crate::monitor;
use crate::network;
use crate::store::Home;

/// Describes the chains of other tables that block what our table accepts for a bridge, with a way to change that.
pub fn blockers(home: &Home, bridge: &str) -> Option<String> {
    let found = network::blockers(&monitor::table_name(home), bridge).unwrap_or_default();
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

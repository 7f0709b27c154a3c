//! One nftables table for the installation: derived state, replaced whole in one transaction.
//!
//! It is never read back; only the ruleset's generation is compared. Names that users chose never
//! become identifiers: chains and sets are numbered. Wire format: include/uapi/linux/netfilter/
//! nf_tables.h; the rules are those that `nft list ruleset` shows.

use super::BRIDGES;
use crate::model::{Context, Fault, Outcome, Subnet};
use crate::project::Protocol;
use crate::sys::netlink::{ACK, APPEND, Batch, CREATE, Family, Netlink};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A network as the firewall sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetworkRule {
    pub bridge: String,
    pub subnet: Subnet,
    pub internal: bool,
}

/// A published port and the containers it leads to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortRule {
    /// Unspecified for every address of the host.
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: Protocol,
    pub endpoints: Vec<Endpoint>,
}

/// Where a published port leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub port: u16,
}

/// Everything in the table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub networks: Vec<NetworkRule>,
    pub ports: Vec<PortRule>,
    pub strangers: Strangers,
}

/// What becomes of packets between interfaces that are none of ours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Strangers {
    /// The host forwarded before we came.
    #[default]
    AsBefore,
    /// It forwards because of us only: they stay dropped, but for frames that these bridges pass within
    /// themselves and br_netfilter shows to the forward hook.
    Dropped { bridges: Vec<String> },
}

const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
pub(super) const NEWCHAIN: u16 = SUBSYSTEM | 3;
pub(super) const GETCHAIN: u16 = SUBSYSTEM | 4;
pub(super) const NEWRULE: u16 = SUBSYSTEM | 6;
pub(super) const GETRULE: u16 = SUBSYSTEM | 7;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const GETGEN: u16 = SUBSYSTEM | 16;

/// Address families of tables: both protocols, and IPv4 alone.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
const ACCEPT: i32 = 1;
const DROP: i32 = 0;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

const PREROUTING: u32 = 0;
pub(super) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const LIST: u16 = 1;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// The first 16-byte register, and the 4-byte registers that it is made of.
const REGISTER: u32 = 1;
const REGISTER_1: u32 = 9;
const REGISTER_2: u32 = 10;

/// A nfgenmsg header.
pub(super) fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// Marks where a transaction begins and ends.
fn marker(batch: &mut Batch, kind: u16) {
    batch.begin(kind, 0, &[0, 0, 0, 10]);
}

/// A rule being written: its expressions, in order.
struct Rule<'a>(&'a mut Batch);

impl Rule<'_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Batch)) -> &mut Self {
        self.0.nested(LIST, |batch| {
            batch.text(1, name);
            batch.nested(2, fill);
        });
        self
    }

    fn meta(&mut self, key: u32, register: u32) -> &mut Self {
        self.expression("meta", |batch| {
            batch.network_number(2, key);
            batch.network_number(1, register);
        })
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |batch| {
            batch.network_number(1, register);
            batch.network_number(2, base);
            batch.network_number(3, offset);
            batch.network_number(4, length);
        })
    }

    fn compare(&mut self, equal: bool, value: &[u8]) -> &mut Self {
        self.expression("cmp", |batch| {
            batch.network_number(1, REGISTER);
            batch.network_number(2, u32::from(!equal));
            batch.nested(3, |batch| batch.attribute(VALUE, value));
        })
    }

    fn masked(&mut self, mask: &[u8; 4]) -> &mut Self {
        self.expression("bitwise", |batch| {
            batch.network_number(1, REGISTER);
            batch.network_number(2, REGISTER);
            batch.network_number(3, 4);
            batch.nested(4, |batch| batch.attribute(VALUE, mask));
            batch.nested(5, |batch| batch.attribute(VALUE, &[0; 4]));
        })
    }

    fn iif(&mut self, name: &str) -> &mut Self {
        self.meta(6, REGISTER).compare(true, &interface(name))
    }

    fn oif(&mut self, name: &str) -> &mut Self {
        self.meta(7, REGISTER).compare(true, &interface(name))
    }

    fn not_oif(&mut self, name: &str) -> &mut Self {
        self.meta(7, REGISTER).compare(false, &interface(name))
    }

    /// The incoming (6) or outgoing (7) interface is a bridge of some installation.
    fn any_of_ours(&mut self, key: u32) -> &mut Self {
        self.meta(key, REGISTER).compare(true, BRIDGES.as_bytes())
    }

    fn iif_in(&mut self, set: &str) -> &mut Self {
        self.meta(6, REGISTER).lookup(set, false)
    }

    fn oif_in(&mut self, set: &str) -> &mut Self {
        self.meta(7, REGISTER).lookup(set, false)
    }

    fn lookup(&mut self, set: &str, verdict: bool) -> &mut Self {
        self.expression("lookup", |batch| {
            batch.text(1, set);
            batch.network_number(2, REGISTER);
            if verdict {
                batch.network_number(3, 0);
            }
        })
    }

    /// Source (12) or destination (16) address in a subnet.
    fn address(&mut self, offset: u32, subnet: &Subnet) -> &mut Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(subnet.prefix())).unwrap_or(0).to_be_bytes();
        self.payload(1, offset, 4, REGISTER).masked(&mask).compare(true, &subnet.host(0).octets())
    }

    /// Any of some bits of a connection's state (0) or status (2).
    fn connection(&mut self, key: u32, bits: u32) -> &mut Self {
        self.expression("ct", |batch| {
            batch.network_number(2, key);
            batch.network_number(1, REGISTER);
        })
        .masked(&bits.to_ne_bytes())
        .compare(false, &[0; 4])
    }

    /// The packet's destination is an address of this host.
    fn local(&mut self) -> &mut Self {
        self.expression("fib", |batch| {
            batch.network_number(3, 2);
            batch.network_number(2, 3);
            batch.network_number(1, REGISTER);
        })
        .compare(true, &2u32.to_ne_bytes())
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |batch| {
            batch.network_number(1, 0);
            batch.nested(2, |batch| verdict(batch, code, chain));
        });
    }

    fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    fn destination(&mut self, endpoint: &Endpoint) {
        self.expression("immediate", |batch| {
            batch.network_number(1, REGISTER);
            batch.nested(2, |batch| batch.attribute(VALUE, &endpoint.address.octets()));
        })
        .expression("immediate", |batch| {
            batch.network_number(1, 2);
            batch.nested(2, |batch| batch.attribute(VALUE, &endpoint.port.to_be_bytes()));
        })
        .expression("nat", |batch| {
            batch.network_number(1, 1);
            batch.network_number(2, u32::from(IPV4));
            batch.network_number(3, REGISTER);
            batch.network_number(5, 2);
        });
    }
}

fn verdict(batch: &mut Batch, code: i32, chain: Option<&str>) {
    batch.nested(VERDICT, |batch| {
        batch.attribute(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            batch.text(2, chain);
        }
    });
}

/// An interface's name as the kernel compares it: 16 bytes.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// Writes a table's messages.
struct Writer<'a> {
    batch: Batch,
    table: &'a str,
    sets: u32,
}

impl Writer<'_> {
    fn table(&mut self, kind: u16, flags: u16) {
        self.batch.begin(kind, flags | ACK, &header(IPV4));
        self.batch.text(1, self.table);
    }

    fn chain(&mut self, name: &str, base: Option<(&str, u32, i32)>) {
        self.batch.begin(NEWCHAIN, ACK | CREATE, &header(IPV4));
        self.batch.text(1, self.table);
        self.batch.text(3, name);
        if let Some((kind, hook, priority)) = base {
            self.batch.nested(4, |batch| {
                batch.network_number(1, hook);
                batch.attribute(2, &priority.to_be_bytes());
            });
            self.batch.text(7, kind);
            self.batch.network_number(5, ACCEPT.unsigned_abs());
        }
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Rule)) {
        self.batch.begin(NEWRULE, ACK | CREATE | APPEND, &header(IPV4));
        self.batch.text(1, self.table);
        self.batch.text(2, chain);
        self.batch.nested(4, |batch| fill(&mut Rule(batch)));
    }

    /// A set of values, or a map from values to chains; `kind` is what `nft` shows the keys as.
    fn set(&mut self, name: &str, kind: u32, length: u32, elements: &[(Vec<u8>, Option<String>)], map: bool) {
        self.sets += 1;
        self.batch.begin(NEWSET, ACK | CREATE, &header(IPV4));
        self.batch.text(1, self.table);
        self.batch.text(2, name);
        self.batch.network_number(3, if map { 8 } else { 0 });
        self.batch.network_number(4, kind);
        self.batch.network_number(5, length);
        if map {
            self.batch.network_number(6, 0xffff_ff00);
            self.batch.network_number(7, 16);
        }
        self.batch.network_number(10, self.sets);
        // An attribute holds at most 64 KiB.
        for some in elements.chunks(400) {
            self.batch.begin(NEWSETELEM, ACK | CREATE, &header(IPV4));
            self.batch.text(1, self.table);
            self.batch.text(2, name);
            self.batch.network_number(4, self.sets);
            self.batch.nested(3, |batch| {
                for (key, chain) in some {
                    batch.nested(LIST, |batch| {
                        batch.nested(1, |batch| batch.attribute(VALUE, key));
                        if let Some(chain) = chain {
                            batch.nested(2, |batch| verdict(batch, GOTO, Some(chain)));
                        }
                    });
                }
            });
        }
    }

    fn names(&mut self, name: &str, bridges: impl Iterator<Item = String>) {
        let elements: Vec<_> = bridges.map(|bridge| (interface(&bridge).to_vec(), None)).collect();
        self.set(name, 41, 16, &elements, false);
    }

    fn networks(&mut self, networks: &[NetworkRule]) {
        self.names("bridges", networks.iter().map(|network| network.bridge.clone()));
        self.names("internal", networks.iter().filter(|network| network.internal).map(|network| network.bridge.clone()));
        self.chain("guard", Some(("filter", PREROUTING, -300)));
        let loopback = Subnet::new(Ipv4Addr::new(127, 0, 0, 0), 8);
        // `route_localnet` opens 127/8 to what arrives from the bridges: close it again.
        self.rule("guard", |rule| rule.iif_in("bridges").address(16, &loopback).verdict(DROP, None));
        self.chain("forward", Some(("filter", FORWARD, 0)));
        self.rule("forward", |rule| rule.connection(0, 2 | 4).verdict(ACCEPT, None));
        for network in networks {
            self.rule("forward", |rule| rule.iif(&network.bridge).oif(&network.bridge).verdict(ACCEPT, None));
        }
        self.rule("forward", |rule| rule.iif_in("internal").verdict(DROP, None));
        self.rule("forward", |rule| rule.oif_in("internal").verdict(DROP, None));
        // What a published port led here (IPS_DST_NAT) may come in; nothing else may.
        self.rule("forward", |rule| rule.oif_in("bridges").connection(2, 1 << 5).verdict(ACCEPT, None));
        self.rule("forward", |rule| rule.oif_in("bridges").verdict(DROP, None));
        self.chain("outgoing", Some(("nat", POSTROUTING, 100)));
        self.rule("outgoing", |rule| rule.oif_in("bridges").address(12, &loopback).masquerade());
        for network in networks {
            if !network.internal {
                self.rule("outgoing", |rule| rule.address(12, &network.subnet).not_oif(&network.bridge).masquerade());
            }
            // A container that reaches itself, or a neighbour, through a published port.
            self.rule("outgoing", |rule| {
                rule.address(12, &network.subnet).oif(&network.bridge).connection(2, 1 << 5).masquerade()
            });
        }
    }

    /// Keeps the host from being a router for others.
    fn strangers(&mut self, strangers: &Strangers) {
        let Strangers::Dropped { bridges } = strangers else { return };
        self.chain("strangers", Some(("filter", FORWARD, -1)));
        self.rule("strangers", |rule| rule.any_of_ours(6).verdict(ACCEPT, None));
        self.rule("strangers", |rule| rule.any_of_ours(7).verdict(ACCEPT, None));
        // Bridges that are not ours, and whose networks containers are on.
        self.rule("strangers", |rule| rule.iif_in("bridges").verdict(ACCEPT, None));
        self.rule("strangers", |rule| rule.oif_in("bridges").verdict(ACCEPT, None));
        for bridge in bridges {
            self.rule("strangers", |rule| rule.iif(bridge).oif(bridge).verdict(ACCEPT, None));
        }
        self.rule("strangers", |rule| rule.verdict(DROP, None));
    }

    fn ports(&mut self, ports: &[PortRule]) {
        let (mut exact, mut any) = (Vec::new(), Vec::new());
        for (index, port) in ports.iter().enumerate().filter(|(_, port)| !port.endpoints.is_empty()) {
            let chain = format!("port{index}");
            let mut key = Vec::new();
            if !port.address.is_unspecified() {
                key.extend(port.address.octets());
            }
            let protocol = if port.protocol == Protocol::Tcp { 6 } else { 17 };
            key.extend([protocol, 0, 0, 0]);
            key.extend(port.port.to_be_bytes());
            key.extend([0, 0]);
            if port.address.is_unspecified() { &mut any } else { &mut exact }.push((key, Some(chain.clone())));
            self.endpoints(&chain, &port.endpoints);
        }
        // What `nft` calls ipv4_addr . inet_proto . inet_service, six bits a type.
        self.set("ports", 7 << 12 | 12 << 6 | 13, 12, &exact, true);
        self.set("ports-any", 12 << 6 | 13, 8, &any, true);
        for (chain, hook) in [("incoming", PREROUTING), ("own", OUTPUT)] {
            self.chain(chain, Some(("nat", hook, -100)));
            if hook == PREROUTING {
                // A neighbour's packet to 127.0.0.1 must not be led in before the kernel drops it.
                let loopback = Subnet::new(Ipv4Addr::new(127, 0, 0, 0), 8);
                self.rule(chain, |rule| rule.address(16, &loopback).verdict(RETURN, None));
            }
            self.rule(chain, |rule| {
                rule.payload(1, 16, 4, REGISTER).meta(16, REGISTER_1).payload(2, 2, 2, REGISTER_2).lookup("ports", true);
            });
            self.rule(chain, |rule| {
                rule.local().meta(16, REGISTER).payload(2, 2, 2, REGISTER_1).lookup("ports-any", true);
            });
        }
    }

    /// One chain that leads to an endpoint, or to each of several in turn.
    fn endpoints(&mut self, chain: &str, endpoints: &[Endpoint]) {
        self.chain(chain, None);
        if let [only] = endpoints {
            self.rule(chain, |rule| rule.destination(only));
            return;
        }
        let mut turns = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let name = format!("{chain}-{index}");
            self.chain(&name, None);
            self.rule(&name, |rule| rule.destination(endpoint));
            turns.push((u32::try_from(index).unwrap_or(0).to_ne_bytes().to_vec(), Some(name)));
        }
        let map = format!("{chain}-turns");
        self.set(&map, 4, 4, &turns, true);
        let count = u32::try_from(endpoints.len()).unwrap_or(1);
        self.rule(chain, |rule| {
            rule.expression("numgen", |batch| {
                batch.network_number(1, REGISTER);
                batch.network_number(2, count);
                batch.network_number(3, 0);
                batch.network_number(4, 0);
            })
            .lookup(&map, true);
        });
    }
}

/// Replaces the installation's table; tells the ruleset's new generation.
///
/// # Errors
/// What the kernel refuses: then the old table stands unchanged.
pub fn replace_table(name: &str, table: &Table) -> Outcome<u32> {
    let mut writer = Writer { batch: Batch::default(), table: name, sets: 0 };
    marker(&mut writer.batch, 0x10);
    // Made if it was not there, so that it can be deleted in any case.
    writer.table(NEWTABLE, CREATE);
    writer.table(DELTABLE, 0);
    writer.table(NEWTABLE, CREATE);
    writer.networks(&table.networks);
    writer.strangers(&table.strangers);
    writer.ports(&table.ports);
    marker(&mut writer.batch, 0x11);
    let socket = Netlink::open(Family::Netfilter).doing(|| "cannot open a netlink socket".into())?;
    let (_, failures) = socket.exchange(&writer.batch).doing(|| "cannot write the firewall table".into())?;
    if let Some((number, error)) = failures.into_iter().next() {
        return Err(Fault::caused(format!("the kernel refuses the firewall table (message {number})"), error)
            .hint("networks need CAP_NET_ADMIN and the kernel's nf_tables, nft_nat, nft_masq and nft_fib modules"));
    }
    generation()
}

/// Removes the installation's table, if it is there.
///
/// # Errors
/// What the kernel refuses.
pub fn remove_table(name: &str) -> Outcome<()> {
    let mut writer = Writer { batch: Batch::default(), table: name, sets: 0 };
    marker(&mut writer.batch, 0x10);
    writer.table(NEWTABLE, CREATE);
    writer.table(DELTABLE, 0);
    marker(&mut writer.batch, 0x11);
    let socket = Netlink::open(Family::Netfilter).doing(|| "cannot open a netlink socket".into())?;
    socket.send(&writer.batch).map(drop).doing(|| "cannot remove the firewall table".into())
}

/// The ruleset's generation: it grows with every change that anybody makes.
///
/// # Errors
/// Those of netlink.
pub fn generation() -> Outcome<u32> {
    let socket = Netlink::open(Family::Netfilter).doing(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(GETGEN, ACK, &header(0));
    let messages = socket.send(&batch).doing(|| "cannot read the ruleset's generation".into())?;
    let found = messages.first().and_then(|message| {
        let attributes = message.attributes(4);
        let value = attributes.iter().find(|(kind, _)| *kind == 1)?.1;
        Some(u32::from_be_bytes(value.try_into().ok()?))
    });
    found.ok_or_else(|| Fault::new("the kernel tells no generation of its ruleset"))
}

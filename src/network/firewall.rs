//! One nftables table for the installation. It is derived state, which is replaced as a whole in one transaction.
//!
//! The table is never read back; only the ruleset's generation is compared. Names that users choose never
//! become identifiers: chains and sets have fixed names or numbers. The wire format is that of
//! include/uapi/linux/netfilter/nf_tables.h; `nft list ruleset` shows the rules.

use super::BRIDGES;
use super::nf_tables::*;
use crate::model::{Context, Error, Result, Subnet};
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
    /// The address of the host, or 0.0.0.0 for all of them.
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

/// What happens to packets between interfaces that are not ours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Strangers {
    /// The host already forwarded packets before stead came, and nothing changes for them.
    #[default]
    AsBefore,
    /// The host forwards only because of us: such packets stay dropped, except for frames that these bridges pass between
    /// their own ports and that br_netfilter sends through the forward hook.
    Dropped { bridges: Vec<String> },
}

/// Offsets of the addresses in an IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;

/// Key types of sets, which `nft` needs to print them (its include/datatype.h).
const INTEGER: u32 = 4;
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const INTERFACE_NAME: u32 = 41;

/// An nfgenmsg header.
pub(super) fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// Adds the message that marks the beginning or the end of a transaction.
fn marker(batch: &mut Batch, kind: u16) {
    batch.begin(kind, 0, &[0, 0, 0, 10]);
}

/// A rule that is being written, expression by expression.
struct Rule<'a>(&'a mut Batch);

impl Rule<'_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Batch)) -> &mut Self {
        self.0.nested(NFTA_LIST_ELEM, |batch| {
            batch.text(NFTA_EXPR_NAME, name);
            batch.nested(NFTA_EXPR_DATA, fill);
        });
        self
    }

    fn meta(&mut self, key: u32, register: u32) -> &mut Self {
        self.expression("meta", |batch| {
            batch.network_number(NFTA_META_KEY, key);
            batch.network_number(NFTA_META_DREG, register);
        })
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |batch| {
            batch.network_number(NFTA_PAYLOAD_DREG, register);
            batch.network_number(NFTA_PAYLOAD_BASE, base);
            batch.network_number(NFTA_PAYLOAD_OFFSET, offset);
            batch.network_number(NFTA_PAYLOAD_LEN, length);
        })
    }

    fn destination_port(&mut self, register: u32) -> &mut Self {
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register)
    }

    fn compare(&mut self, equal: bool, value: &[u8]) -> &mut Self {
        self.expression("cmp", |batch| {
            batch.network_number(NFTA_CMP_SREG, NFT_REG_1);
            batch.network_number(NFTA_CMP_OP, if equal { NFT_CMP_EQ } else { NFT_CMP_NEQ });
            batch.nested(NFTA_CMP_DATA, |batch| batch.attribute(NFTA_DATA_VALUE, value));
        })
    }

    fn masked(&mut self, mask: &[u8; 4]) -> &mut Self {
        self.expression("bitwise", |batch| {
            batch.network_number(NFTA_BITWISE_SREG, NFT_REG_1);
            batch.network_number(NFTA_BITWISE_DREG, NFT_REG_1);
            batch.network_number(NFTA_BITWISE_LEN, 4);
            batch.nested(NFTA_BITWISE_MASK, |batch| batch.attribute(NFTA_DATA_VALUE, mask));
            batch.nested(NFTA_BITWISE_XOR, |batch| batch.attribute(NFTA_DATA_VALUE, &[0; 4]));
        })
    }

    fn iif(&mut self, name: &str) -> &mut Self {
        self.meta(NFT_META_IIFNAME, NFT_REG_1).compare(true, &interface(name))
    }

    fn oif(&mut self, name: &str) -> &mut Self {
        self.meta(NFT_META_OIFNAME, NFT_REG_1).compare(true, &interface(name))
    }

    fn not_oif(&mut self, name: &str) -> &mut Self {
        self.meta(NFT_META_OIFNAME, NFT_REG_1).compare(false, &interface(name))
    }

    /// Matches if the incoming or outgoing interface is a bridge of any installation.
    fn any_of_ours(&mut self, key: u32) -> &mut Self {
        self.meta(key, NFT_REG_1).compare(true, BRIDGES.as_bytes())
    }

    fn iif_in(&mut self, set: &str) -> &mut Self {
        self.meta(NFT_META_IIFNAME, NFT_REG_1).lookup(set, false)
    }

    fn oif_in(&mut self, set: &str) -> &mut Self {
        self.meta(NFT_META_OIFNAME, NFT_REG_1).lookup(set, false)
    }

    fn lookup(&mut self, set: &str, verdict: bool) -> &mut Self {
        self.expression("lookup", |batch| {
            batch.text(NFTA_LOOKUP_SET, set);
            batch.network_number(NFTA_LOOKUP_SREG, NFT_REG_1);
            if verdict {
                batch.network_number(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
            }
        })
    }

    /// Matches if the address at an offset of the header is in a subnet.
    fn address(&mut self, offset: u32, subnet: &Subnet) -> &mut Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(subnet.prefix())).unwrap_or(0).to_be_bytes();
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, NFT_REG_1).masked(&mask).compare(true, &subnet.host(0).octets())
    }

    /// Matches if any of these bits is set in a connection's state or status.
    fn connection(&mut self, key: u32, bits: u32) -> &mut Self {
        self.expression("ct", |batch| {
            batch.network_number(NFTA_CT_KEY, key);
            batch.network_number(NFTA_CT_DREG, NFT_REG_1);
        })
        .masked(&bits.to_ne_bytes())
        .compare(false, &[0; 4])
    }

    /// Matches if the packet's destination is an address of this host.
    fn local(&mut self) -> &mut Self {
        self.expression("fib", |batch| {
            batch.network_number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            batch.network_number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            batch.network_number(NFTA_FIB_DREG, NFT_REG_1);
        })
        .compare(true, &RTN_LOCAL.to_ne_bytes())
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |batch| {
            batch.network_number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            batch.nested(NFTA_IMMEDIATE_DATA, |batch| verdict(batch, code, chain));
        });
    }

    fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    fn destination(&mut self, endpoint: &Endpoint) {
        self.expression("immediate", |batch| {
            batch.network_number(NFTA_IMMEDIATE_DREG, NFT_REG_1);
            batch.nested(NFTA_IMMEDIATE_DATA, |batch| batch.attribute(NFTA_DATA_VALUE, &endpoint.address.octets()));
        })
        .expression("immediate", |batch| {
            batch.network_number(NFTA_IMMEDIATE_DREG, NFT_REG_2);
            batch.nested(NFTA_IMMEDIATE_DATA, |batch| batch.attribute(NFTA_DATA_VALUE, &endpoint.port.to_be_bytes()));
        })
        .expression("nat", |batch| {
            batch.network_number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
            batch.network_number(NFTA_NAT_FAMILY, u32::from(IPV4));
            batch.network_number(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
            batch.network_number(NFTA_NAT_REG_PROTO_MIN, NFT_REG_2);
        });
    }
}

fn verdict(batch: &mut Batch, code: i32, chain: Option<&str>) {
    batch.nested(NFTA_DATA_VERDICT, |batch| {
        batch.attribute(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            batch.text(NFTA_VERDICT_CHAIN, chain);
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

/// Writes the messages of a table.
struct Writer<'a> {
    batch: Batch,
    table: &'a str,
    sets: u32,
}

impl Writer<'_> {
    fn table(&mut self, kind: u16, flags: u16) {
        self.batch.begin(kind, flags | ACK, &header(IPV4));
        self.batch.text(NFTA_TABLE_NAME, self.table);
    }

    fn chain(&mut self, name: &str, base: Option<(&str, u32, i32)>) {
        self.batch.begin(NEWCHAIN, ACK | CREATE, &header(IPV4));
        self.batch.text(NFTA_CHAIN_TABLE, self.table);
        self.batch.text(NFTA_CHAIN_NAME, name);
        if let Some((kind, hook, priority)) = base {
            self.batch.nested(NFTA_CHAIN_HOOK, |batch| {
                batch.network_number(NFTA_HOOK_HOOKNUM, hook);
                batch.attribute(NFTA_HOOK_PRIORITY, &priority.to_be_bytes());
            });
            self.batch.text(NFTA_CHAIN_TYPE, kind);
            self.batch.network_number(NFTA_CHAIN_POLICY, ACCEPT.unsigned_abs());
        }
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Rule)) {
        self.batch.begin(NEWRULE, ACK | CREATE | APPEND, &header(IPV4));
        self.batch.text(NFTA_RULE_TABLE, self.table);
        self.batch.text(NFTA_RULE_CHAIN, chain);
        self.batch.nested(NFTA_RULE_EXPRESSIONS, |batch| fill(&mut Rule(batch)));
    }

    /// Adds a set of values, or a map from values to chains. `kind` is the type as which `nft` prints the keys.
    fn set(&mut self, name: &str, kind: u32, length: u32, elements: &[(Vec<u8>, Option<String>)], map: bool) {
        self.sets += 1;
        self.batch.begin(NEWSET, ACK | CREATE, &header(IPV4));
        self.batch.text(NFTA_SET_TABLE, self.table);
        self.batch.text(NFTA_SET_NAME, name);
        self.batch.network_number(NFTA_SET_FLAGS, if map { NFT_SET_MAP } else { 0 });
        self.batch.network_number(NFTA_SET_KEY_TYPE, kind);
        self.batch.network_number(NFTA_SET_KEY_LEN, length);
        if map {
            self.batch.network_number(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            self.batch.network_number(NFTA_SET_DATA_LEN, 16);
        }
        self.batch.network_number(NFTA_SET_ID, self.sets);
        // An attribute holds at most 64 KiB.
        for some in elements.chunks(400) {
            self.batch.begin(NEWSETELEM, ACK | CREATE, &header(IPV4));
            self.batch.text(NFTA_SET_ELEM_LIST_TABLE, self.table);
            self.batch.text(NFTA_SET_ELEM_LIST_SET, name);
            self.batch.network_number(NFTA_SET_ELEM_LIST_SET_ID, self.sets);
            self.batch.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |batch| {
                for (key, chain) in some {
                    batch.nested(NFTA_LIST_ELEM, |batch| {
                        batch.nested(NFTA_SET_ELEM_KEY, |batch| batch.attribute(NFTA_DATA_VALUE, key));
                        if let Some(chain) = chain {
                            batch.nested(NFTA_SET_ELEM_DATA, |batch| verdict(batch, GOTO, Some(chain)));
                        }
                    });
                }
            });
        }
    }

    fn names(&mut self, name: &str, bridges: impl Iterator<Item = String>) {
        let elements: Vec<_> = bridges.map(|bridge| (interface(&bridge).to_vec(), None)).collect();
        self.set(name, INTERFACE_NAME, 16, &elements, false);
    }

    fn networks(&mut self, networks: &[NetworkRule]) {
        self.names("bridges", networks.iter().map(|network| network.bridge.clone()));
        self.names("internal", networks.iter().filter(|network| network.internal).map(|network| network.bridge.clone()));
        self.chain("guard", Some(("filter", PREROUTING, -300)));
        let loopback = Subnet::new(Ipv4Addr::new(127, 0, 0, 0), 8);
        // `route_localnet` makes 127/8 reachable for packets that arrive from the bridges: drop those.
        self.rule("guard", |rule| rule.iif_in("bridges").address(DESTINATION, &loopback).verdict(DROP, None));
        self.chain("forward", Some(("filter", FORWARD, 0)));
        self.rule("forward", |rule| rule.connection(NFT_CT_STATE, ESTABLISHED | RELATED).verdict(ACCEPT, None));
        for network in networks {
            self.rule("forward", |rule| rule.iif(&network.bridge).oif(&network.bridge).verdict(ACCEPT, None));
        }
        self.rule("forward", |rule| rule.iif_in("internal").verdict(DROP, None));
        self.rule("forward", |rule| rule.oif_in("internal").verdict(DROP, None));
        // Packets that a published port led to a container are accepted; everything else is dropped.
        self.rule("forward", |rule| rule.oif_in("bridges").connection(NFT_CT_STATUS, IPS_DST_NAT).verdict(ACCEPT, None));
        self.rule("forward", |rule| rule.oif_in("bridges").verdict(DROP, None));
        self.chain("outgoing", Some(("nat", POSTROUTING, 100)));
        self.rule("outgoing", |rule| rule.oif_in("bridges").address(SOURCE, &loopback).masquerade());
        for network in networks {
            if !network.internal {
                self.rule("outgoing", |rule| rule.address(SOURCE, &network.subnet).not_oif(&network.bridge).masquerade());
            }
            // For a container that reaches itself, or a neighbour, through a published port.
            self.rule("outgoing", |rule| {
                rule.address(SOURCE, &network.subnet).oif(&network.bridge).connection(NFT_CT_STATUS, IPS_DST_NAT).masquerade()
            });
        }
    }

    /// Keeps the host from forwarding packets for others.
    fn strangers(&mut self, strangers: &Strangers) {
        let Strangers::Dropped { bridges } = strangers else { return };
        self.chain("strangers", Some(("filter", FORWARD, -1)));
        self.rule("strangers", |rule| rule.any_of_ours(NFT_META_IIFNAME).verdict(ACCEPT, None));
        self.rule("strangers", |rule| rule.any_of_ours(NFT_META_OIFNAME).verdict(ACCEPT, None));
        // External networks: bridges that are not ours, but to which our containers are attached.
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
        // The type of a concatenated key has six bits for each part.
        self.set("ports", ADDRESS << 12 | PROTOCOL << 6 | SERVICE, 12, &exact, true);
        self.set("ports-any", PROTOCOL << 6 | SERVICE, 8, &any, true);
        for (chain, hook) in [("incoming", PREROUTING), ("own", OUTPUT)] {
            self.chain(chain, Some(("nat", hook, -100)));
            if hook == PREROUTING {
                // A packet from the network to 127.0.0.1 must not be translated before the kernel can drop it.
                let loopback = Subnet::new(Ipv4Addr::new(127, 0, 0, 0), 8);
                self.rule(chain, |rule| rule.address(DESTINATION, &loopback).verdict(RETURN, None));
            }
            self.rule(chain, |rule| {
                rule.payload(NFT_PAYLOAD_NETWORK_HEADER, DESTINATION, 4, NFT_REG_1);
                rule.meta(NFT_META_L4PROTO, NFT_REG32_01).destination_port(NFT_REG32_02).lookup("ports", true);
            });
            self.rule(chain, |rule| {
                rule.local().meta(NFT_META_L4PROTO, NFT_REG_1).destination_port(NFT_REG32_01).lookup("ports-any", true);
            });
        }
    }

    /// Adds a chain that leads to an endpoint, or to several in turn.
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
        self.set(&map, INTEGER, 4, &turns, true);
        let count = u32::try_from(endpoints.len()).unwrap_or(1);
        self.rule(chain, |rule| {
            rule.expression("numgen", |batch| {
                batch.network_number(NFTA_NG_DREG, NFT_REG_1);
                batch.network_number(NFTA_NG_MODULUS, count);
                batch.network_number(NFTA_NG_TYPE, NFT_NG_INCREMENTAL);
                batch.network_number(NFTA_NG_OFFSET, 0);
            })
            .lookup(&map, true);
        });
    }
}

/// Replaces the installation's table and returns the new generation of the ruleset.
///
/// # Errors
/// Fails when the kernel refuses the new table; the old one is unchanged then.
pub fn replace_table(name: &str, table: &Table) -> Result<u32> {
    let mut writer = Writer { batch: Batch::default(), table: name, sets: 0 };
    marker(&mut writer.batch, BATCH_BEGIN);
    // Create the table if it does not exist, so that it can be deleted in any case.
    writer.table(NEWTABLE, CREATE);
    writer.table(DELTABLE, 0);
    writer.table(NEWTABLE, CREATE);
    writer.networks(&table.networks);
    writer.strangers(&table.strangers);
    writer.ports(&table.ports);
    marker(&mut writer.batch, BATCH_END);
    let socket = Netlink::open(Family::Netfilter).context(|| "cannot open a netlink socket".into())?;
    let (_, failures) = socket.exchange(&writer.batch).context(|| "cannot write the firewall table".into())?;
    if let Some((number, error)) = failures.into_iter().next() {
        return Err(Error::caused(format!("the kernel refuses the firewall table (message {number})"), error)
            .hint("networks need CAP_NET_ADMIN and the kernel's nf_tables, nft_nat, nft_masq and nft_fib modules"));
    }
    generation()
}

/// Removes the installation's table, if it exists.
///
/// # Errors
/// Fails when the kernel refuses.
pub fn remove_table(name: &str) -> Result<()> {
    let mut writer = Writer { batch: Batch::default(), table: name, sets: 0 };
    marker(&mut writer.batch, BATCH_BEGIN);
    writer.table(NEWTABLE, CREATE);
    writer.table(DELTABLE, 0);
    marker(&mut writer.batch, BATCH_END);
    let socket = Netlink::open(Family::Netfilter).context(|| "cannot open a netlink socket".into())?;
    socket.send(&writer.batch).map(drop).context(|| "cannot remove the firewall table".into())
}

/// The generation of the ruleset. It grows with every change by anyone.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn generation() -> Result<u32> {
    let socket = Netlink::open(Family::Netfilter).context(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(GETGEN, ACK, &header(0));
    let messages = socket.send(&batch).context(|| "cannot read the ruleset's generation".into())?;
    let found = messages.first().and_then(|message| {
        let attributes = message.attributes(4);
        let value = attributes.iter().find(|(kind, _)| *kind == NFTA_GEN_ID)?.1;
        Some(u32::from_be_bytes(value.try_into().ok()?))
    });
    found.ok_or_else(|| Error::new("the kernel did not report the generation of its ruleset"))
}

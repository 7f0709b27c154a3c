//! Flows that the kernel tracks (ctnetlink; include/uapi/linux/netfilter/nfnetlink_conntrack.h).
//!
//! A datagram of a known flow goes where the flow's first datagram went, whatever the firewall says by then.
//! So when a UDP port is published, moved or withdrawn, its flows that lead elsewhere are deleted.

use super::{Endpoint, PortRule};
use crate::model::{Context, Error, Result};
use crate::project::Protocol;
use crate::sys::netlink::{ACK, Batch, DUMP, Family, Message, Netlink, attributes};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The states of a TCP connection in which something may still be sent (enum tcp_conntrack in nf_conntrack_tcp.h): from the
/// first packet until both sides have closed it.
const OPEN: std::ops::RangeInclusive<u8> = 1..=5;
/// An nfgenmsg header for IPv4.
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// One direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Side {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    protocol: u8,
}

impl Side {
    fn parse(tuple: &[u8]) -> Option<Self> {
        let parts = attributes(tuple);
        let part = |kind: u16| parts.iter().find(|(found, _)| *found == kind).map(|(_, value)| attributes(value));
        let (addresses, ports) = (part(CTA_TUPLE_IP)?, part(CTA_TUPLE_PROTO)?);
        let address = |kind: u16| {
            let value = addresses.iter().find(|(found, _)| *found == kind)?.1;
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
        };
        let port = |kind: u16| {
            let value = ports.iter().find(|(found, _)| *found == kind)?.1;
            Some(u16::from_be_bytes(value.try_into().ok()?))
        };
        let protocol = *ports.iter().find(|(kind, _)| *kind == CTA_PROTO_NUM)?.1.first()?;
        Some(Self {
            source: (address(CTA_IP_V4_SRC)?, port(CTA_PROTO_SRC_PORT)?),
            destination: (address(CTA_IP_V4_DST)?, port(CTA_PROTO_DST_PORT)?),
            protocol,
        })
    }
}

/// Deletes UDP flows to ports whose rules changed, except those that lead where the new rules lead.
///
/// # Errors
/// Fails when the kernel refuses. A kernel without connection tracking has nothing to delete.
pub fn forget(old: &[PortRule], new: &[PortRule]) -> Result<()> {
    let udp = |rules: &[PortRule]| -> Vec<PortRule> {
        rules.iter().filter(|rule| rule.protocol == Protocol::Udp && !rule.endpoints.is_empty()).cloned().collect()
    };
    let (old, new) = (udp(old), udp(new));
    let changed: Vec<&PortRule> =
        old.iter().filter(|rule| !new.contains(rule)).chain(new.iter().filter(|rule| !old.contains(rule))).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let own = if changed.iter().any(|rule| rule.address.is_unspecified()) { own_addresses()? } else { BTreeSet::new() };
    let socket = Netlink::open(Family::Conntrack).context(|| "cannot open a netlink socket".into())?;
    let Some(messages) = flows(&socket)? else { return Ok(()) };
    let mut removal = Batch::default();
    for message in messages.iter().filter(|message| message.kind == NEW) {
        let parts = message.attributes(4);
        let part = |kind: u16| parts.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value);
        let (Some(original), Some(reply)) = (part(CTA_TUPLE_ORIG), part(CTA_TUPLE_REPLY)) else { continue };
        let (Some(asked), Some(answered)) = (Side::parse(original), Side::parse(reply)) else { continue };
        if asked.protocol == UDP && changed.iter().any(|rule| is_stale(rule, &asked, &answered, &old, &new, &own)) {
            removal.begin(DELETE, ACK, &HEADER);
            removal.nested(CTA_TUPLE_ORIG, |batch| batch.raw(original));
            if let Some(id) = part(CTA_ID) {
                removal.attribute(CTA_ID, id);
            }
        }
    }
    if removal.is_empty() {
        return Ok(());
    }
    let (_, failures) = socket.exchange(&removal).context(|| "cannot forget flows".into())?;
    // A flow that timed out in the meantime is gone anyway.
    match failures.into_iter().find(|(_, error)| error.raw_os_error() != Some(libc::ENOENT)) {
        Some((_, error)) => Err(Error::caused("cannot forget a flow", error)),
        None => Ok(()),
    }
}

/// Whether there are open TCP connections to endpoints; `None` where the kernel does not tell.
///
/// # Errors
/// Fails when the kernel refuses.
pub fn has_connections(endpoints: &[Endpoint]) -> Result<Option<bool>> {
    let socket = Netlink::open(Family::Conntrack).context(|| "cannot open a netlink socket".into())?;
    let messages = flows(&socket)?;
    Ok(messages.map(|messages| {
        let mut flows = messages.iter().filter(|message| message.kind == NEW);
        flows.any(|flow| is_open(&flow.attributes(4), endpoints))
    }))
}

/// All flows; `None` if the kernel has no connection tracking, or it cannot be queried.
fn flows(socket: &Netlink) -> Result<Option<Vec<Message>>> {
    let mut batch = Batch::default();
    batch.begin(GET, DUMP, &HEADER);
    let (messages, failures) = socket.exchange(&batch).context(|| "cannot read the flows".into())?;
    match failures.into_iter().next() {
        Some((_, error)) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(None),
        Some((_, error)) => Err(Error::caused("cannot read the flows", error)),
        None => Ok(Some(messages)),
    }
}

/// Whether a flow is an open TCP connection that one of the endpoints answers.
fn is_open(parts: &[(u16, &[u8])], endpoints: &[Endpoint]) -> bool {
    let reply = parts.iter().find(|(kind, _)| *kind == CTA_TUPLE_REPLY).and_then(|(_, value)| Side::parse(value));
    let Some(Side { source, protocol: TCP, .. }) = reply else { return false };
    if !endpoints.iter().any(|endpoint| (endpoint.address, endpoint.port) == source) {
        return false;
    }
    let state = within(parts, CTA_PROTOINFO)
        .and_then(|info| within(&info, CTA_PROTOINFO_TCP))
        .and_then(|tcp| tcp.iter().find(|(kind, _)| *kind == CTA_PROTOINFO_TCP_STATE)?.1.first().copied());
    // One whose state is not told counts as open.
    state.is_none_or(|state| OPEN.contains(&state))
}

/// The attributes in an attribute.
fn within<'a>(parts: &[(u16, &'a [u8])], kind: u16) -> Option<Vec<(u16, &'a [u8])>> {
    parts.iter().find(|(found, _)| *found == kind).map(|(_, value)| attributes(value))
}

/// Whether a flow belongs to a port's rule and leads where no rule leads any more.
fn is_stale(
    rule: &PortRule,
    asked: &Side,
    answered: &Side,
    old: &[PortRule],
    new: &[PortRule],
    own: &BTreeSet<Ipv4Addr>,
) -> bool {
    let (address, port) = asked.destination;
    let same = |other: &&PortRule| other.port == port && (other.address == address || other.address.is_unspecified());
    let leads = |rules: &[PortRule]| {
        let there = |endpoint: &Endpoint| (endpoint.address, endpoint.port) == answered.source;
        rules.iter().filter(same).any(|rule| rule.endpoints.iter().any(there))
    };
    // A flow to a port with this number on another host is not ours.
    let ours = rule.address == address || rule.address.is_unspecified() && (own.contains(&address) || address.is_loopback());
    rule.port == port && (ours || leads(old)) && !leads(new)
}

fn own_addresses() -> Result<BTreeSet<Ipv4Addr>> {
    let all = nix::ifaddrs::getifaddrs().context(|| "cannot read this host's addresses".into())?;
    Ok(all.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(address: [u8; 4], endpoints: &[[u8; 4]]) -> PortRule {
        let endpoints = endpoints.iter().map(|address| Endpoint { address: (*address).into(), port: 53 }).collect();
        PortRule { address: address.into(), port: 5300, protocol: Protocol::Udp, endpoints }
    }

    fn flow(to: [u8; 4], answers: ([u8; 4], u16)) -> (Side, Side) {
        let client = (Ipv4Addr::LOCALHOST, 999);
        let asked = Side { source: client, destination: (to.into(), 5300), protocol: UDP };
        let answered = Side { source: (answers.0.into(), answers.1), destination: client, protocol: UDP };
        (asked, answered)
    }

    #[test]
    fn a_flow_stays_where_a_rule_still_leads_and_no_other() {
        let (a, b) = ([10, 128, 0, 2], [10, 128, 0, 3]);
        let host = [127, 0, 0, 1];
        let own = BTreeSet::new();
        let stale = |flow: &(Side, Side), old: &[PortRule], new: &[PortRule]| {
            old.iter().chain(new).any(|rule| is_stale(rule, &flow.0, &flow.1, old, new, &own))
        };
        let (both, only) = ([rule(host, &[a, b])], [rule(host, &[b])]);
        assert!(stale(&flow(host, (a, 53)), &both, &only), "a replica ended");
        assert!(!stale(&flow(host, (b, 53)), &both, &only), "the other goes on");
        assert!(stale(&flow(host, (host, 5300)), &[], &only), "published: what went to the host itself");
        assert!(stale(&flow(host, (b, 53)), &only, &[]), "withdrawn");
        let any = [rule([0; 4], &[a])];
        assert!(!stale(&flow([192, 0, 2, 1], ([192, 0, 2, 1], 5300)), &any, &[]), "another host's port");
        assert!(stale(&flow([192, 0, 2, 1], (a, 53)), &any, &[]), "it was led in");
    }

    /// An attribute as the kernel writes it.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_connection_is_open_until_both_sides_have_closed_it() {
        let (own, other) = ([10, 128, 0, 2], [10, 128, 0, 3]);
        let open = |protocol: u8, from: [u8; 4], port: u16, state: Option<u8>| {
            let ip = [attribute(CTA_IP_V4_SRC, &from), attribute(CTA_IP_V4_DST, &[127, 0, 0, 1])].concat();
            let numbers = [(CTA_PROTO_SRC_PORT, port), (CTA_PROTO_DST_PORT, 40000)];
            let ports: Vec<u8> = numbers.iter().flat_map(|(kind, port)| attribute(*kind, &port.to_be_bytes())).collect();
            let proto = [attribute(CTA_PROTO_NUM, &[protocol]), ports].concat();
            let reply = [attribute(CTA_TUPLE_IP, &ip), attribute(CTA_TUPLE_PROTO, &proto)].concat();
            let state = state.map(|state| attribute(CTA_PROTOINFO_TCP, &attribute(CTA_PROTOINFO_TCP_STATE, &[state])));
            let info = state.map(|state| attribute(CTA_PROTOINFO, &state)).unwrap_or_default();
            let flow = [attribute(CTA_TUPLE_REPLY, &reply), info].concat();
            is_open(&attributes(&flow), &[Endpoint { address: own.into(), port: 80 }])
        };
        assert!(open(TCP, own, 80, Some(1)), "its first packet was sent");
        assert!(open(TCP, own, 80, Some(3)) && open(TCP, own, 80, Some(5)), "established, and half closed");
        assert!(open(TCP, own, 80, None), "its state is not told");
        assert!(!open(TCP, own, 80, Some(6)) && !open(TCP, own, 80, Some(7)), "closed by both");
        assert!(!open(TCP, other, 80, Some(3)) && !open(TCP, own, 81, Some(3)), "another one's");
        assert!(!open(UDP, own, 80, None), "a datagram");
    }
}

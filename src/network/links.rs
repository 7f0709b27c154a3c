//! Links, addresses and routes, through route netlink (rtnetlink(7)).

use super::BRIDGES;
use super::link_settings::{self, Loopback};
use crate::model::{Context, Error, Result, Subnet};
use crate::runtime::{Blueprint, Interface};
use crate::sys::netlink::{ACK, Batch, CREATE, DUMP, EXCLUSIVE, Family, Netlink, attributes};
use oci_spec::runtime::LinuxNamespaceType;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_EXT_MASK: u16 = 29;
const WITHOUT_COUNTERS: u32 = 1 << 3;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const BR_MULTICAST_SNOOPING: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;

/// The desired state of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeSpec {
    pub name: String,
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    pub mtu: u32,
    pub group: u32,
}

fn link_header(index: i32, up: bool) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    let flags = if up { IFF_UP } else { 0 };
    header.extend(flags.to_ne_bytes());
    header.extend(IFF_UP.to_ne_bytes());
    header
}

/// Adds a message that gives a link an address.
fn address(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8) {
    let mut header = vec![AF_INET, prefix, 0, 0];
    header.extend(index.to_ne_bytes());
    batch.begin(NEWADDR, ACK | CREATE, &header);
    batch.attribute(IFA_LOCAL, &address.octets());
    batch.attribute(IFA_ADDRESS, &address.octets());
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    batch.attribute(IFA_BROADCAST, &Ipv4Addr::from(u32::from(address) | !mask).octets());
}

/// The hardware address of the interface that has this IP address. It never changes, so neighbours that have cached it
/// reach a bridge or container that replaces another one at once.
fn hardware_address(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}

/// The hardware address of the host's end of a container's veth pair. A bridge without an address of its own uses the
/// lowest one of its ports, and changes it as they come and go, so that cached addresses become wrong. An address that
/// begins with fe is never the lowest (libvirt and LXC use fe, too), so we never change the address of a foreign bridge.
fn host_end_address(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0xfe, 0x42, a, b, c, d]
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// A bridge of this network namespace. (/sys shows the namespace of the process that mounted it.)
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    pub group: u32,
}

/// All bridges of this network namespace.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn all_bridges(socket: &Netlink) -> io::Result<Vec<Link>> {
    let mut batch = Batch::default();
    batch.begin(GETLINK, DUMP, &link_header(0, false));
    batch.number(IFLA_EXT_MASK, WITHOUT_COUNTERS);
    // The kernel leaves out other links, of which there may be hundreds; older kernels send them anyway.
    batch.nested(IFLA_LINKINFO, |batch| batch.text(INFO_KIND, "bridge"));
    let messages = socket.send(&batch)?;
    let links = messages.iter().filter(|message| message.kind == NEWLINK && message.body.len() >= 16);
    Ok(links
        .filter_map(|message| {
            let parts = message.attributes(16);
            let part = |kind: u16| parts.iter().find(|(found, _)| *found == kind).map_or(&[][..], |(_, value)| *value);
            let text = |value: &[u8]| String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned();
            let kind = attributes(part(IFLA_LINKINFO)).into_iter().find(|(kind, _)| *kind == INFO_KIND);
            if kind.is_none_or(|(_, value)| text(value) != "bridge") {
                return None;
            }
            Some(Link {
                index: u32::from_ne_bytes(message.body[4..8].try_into().ok()?),
                name: text(part(IFLA_IFNAME)),
                alias: text(part(IFLA_IFALIAS)),
                group: part(IFLA_GROUP).try_into().map_or(0, u32::from_ne_bytes),
            })
        })
        .collect())
}

/// The names of all bridges that are in a group.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn bridges(group: u32) -> Result<Vec<String>> {
    let links =
        Netlink::open(Family::Route).and_then(|socket| all_bridges(&socket)).context(|| "cannot read the links".into())?;
    Ok(links.into_iter().filter(|link| link.group == group).map(|link| link.name).collect())
}

/// Those names that no bridge of this network namespace has, each with why.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn no_bridges<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<BTreeMap<String, String>> {
    let mut names = names.into_iter().peekable();
    if names.peek().is_none() {
        return Ok(BTreeMap::new());
    }
    let links =
        Netlink::open(Family::Route).and_then(|socket| all_bridges(&socket)).context(|| "cannot read the links".into())?;
    let others = names.filter(|name| !links.iter().any(|link| link.name == *name));
    let why = |name: &str| {
        let what = if index_of(name).is_ok() { "is not a bridge" } else { "is not there" };
        (name.to_owned(), format!("{name} {what} on this host"))
    };
    Ok(others.map(why).collect())
}

/// Writes a link's alias.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn set_alias(socket: &Netlink, index: u32, alias: &str) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.begin(NEWLINK, ACK, &[&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat());
    batch.attribute(IFLA_IFALIAS, alias.as_bytes());
    socket.send(&batch).map(drop)
}

/// The state of an existing link.
struct State {
    index: u32,
    up: bool,
    hardware_address: Vec<u8>,
}

/// The state of a link, or `None` if it does not exist.
fn state(socket: &Netlink, name: &str) -> io::Result<Option<State>> {
    let mut batch = Batch::default();
    batch.begin(GETLINK, ACK, &link_header(0, false));
    batch.text(IFLA_IFNAME, name);
    batch.number(IFLA_EXT_MASK, WITHOUT_COUNTERS);
    let messages = match socket.send(&batch) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        messages => messages?,
    };
    let link = messages.iter().find(|message| message.kind == NEWLINK && message.body.len() >= 16);
    let link = link.ok_or_else(|| io::Error::other(format!("the kernel did not describe the link {name}")))?;
    let number = |at: usize| u32::from_ne_bytes([link.body[at], link.body[at + 1], link.body[at + 2], link.body[at + 3]]);
    let hardware_address = link.attributes(16).into_iter().find(|(kind, _)| *kind == IFLA_ADDRESS);
    let hardware_address = hardware_address.map_or(Vec::new(), |(_, value)| value.to_vec());
    Ok(Some(State { index: number(4), up: number(8) & IFF_UP != 0, hardware_address }))
}

/// Creates the missing bridges in one batch. IPv6 and redirects are disabled on each of them before it is brought up.
///
/// `alias` is the alias that each bridge gets.
///
/// # Errors
/// Fails when the kernel refuses.
pub fn ensure_bridges(wanted: &[BridgeSpec], alias: Option<&str>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let socket = Netlink::open(Family::Route).context(|| "cannot open a netlink socket".into())?;
    let look = |bridge: &BridgeSpec| state(&socket, &bridge.name).context(|| "cannot read the links".into());
    let there = wanted.iter().map(look).collect::<Result<Vec<_>>>()?;
    let mut batch = Batch::default();
    for (bridge, _) in wanted.iter().zip(&there).filter(|(_, found)| found.is_none()) {
        batch.begin(NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, false));
        batch.text(IFLA_IFNAME, &bridge.name);
        batch.number(IFLA_MTU, bridge.mtu);
        batch.number(IFLA_GROUP, bridge.group);
        batch.attribute(IFLA_ADDRESS, &hardware_address(bridge.gateway));
        batch.nested(IFLA_LINKINFO, |batch| {
            batch.text(INFO_KIND, "bridge");
            batch.nested(INFO_DATA, |batch| batch.attribute(BR_MULTICAST_SNOOPING, &[0]));
        });
    }
    let made = if batch.is_empty() { Ok((Vec::new(), Vec::new())) } else { socket.exchange(&batch) };
    let (_, failures) = made.context(|| "cannot make bridges".into())?;
    // Another `up` may have made the same bridge in the meantime.
    if let Some((_, error)) = failures.into_iter().find(|(_, error)| error.raw_os_error() != Some(libc::EEXIST)) {
        return Err(
            Error::caused("cannot make a bridge", error).hint("networks need CAP_NET_ADMIN and the kernel's bridge module")
        );
    }
    // This goes over all of them: a bridge may exist half configured, from an `up` that was killed in between.
    let mut batch = Batch::default();
    for (bridge, found) in wanted.iter().zip(there) {
        let found = if found.is_some() { found } else { look(bridge)? };
        let found = found.ok_or_else(|| Error::new(format!("the bridge {} does not exist", bridge.name)))?;
        // A bridge that is up has been through this already.
        if !found.up {
            link_settings::quieten(&bridge.name).context(|| format!("cannot disable IPv6 on the bridge {}", bridge.name))?;
        }
        batch.begin(NEWLINK, ACK, &link_header(i32::try_from(found.index).unwrap_or(0), true));
        if let Some(alias) = alias {
            batch.attribute(IFLA_IFALIAS, alias.as_bytes());
        }
        // A bridge from an earlier version keeps the address that its containers know by now. Setting it makes it permanent.
        if found.hardware_address != hardware_address(bridge.gateway) {
            let known = found.hardware_address.iter().any(|byte| *byte != 0);
            let kept = if known { found.hardware_address } else { hardware_address(bridge.gateway).to_vec() };
            batch.attribute(IFLA_ADDRESS, &kept);
        }
        address(&mut batch, found.index, bridge.gateway, bridge.prefix);
    }
    let (_, failures) = socket.exchange(&batch).context(|| "cannot give bridges their addresses".into())?;
    match failures.into_iter().find(|(_, error)| error.raw_os_error() != Some(libc::EEXIST)) {
        Some((_, error)) => Err(Error::caused("cannot give a bridge its address", error)),
        None => Ok(()),
    }
}

/// Sets for each bridge whether ports published on loopback may be reached over it.
///
/// # Errors
/// Fails when the kernel refuses.
pub fn open_loopback(bridges: &[(String, Loopback)]) -> Result<()> {
    for (bridge, wanted) in bridges {
        link_settings::set_loopback(bridge, *wanted)
            .context(|| format!("cannot publish ports of the bridge {bridge} on loopback"))?;
    }
    Ok(())
}

/// Deletes all links of a group at once: if they were deleted one by one, each would cost a grace period of the kernel.
///
/// # Errors
/// Fails when the kernel refuses. An empty group is not an error.
pub fn delete_group(group: u32) -> Result<()> {
    let socket = Netlink::open(Family::Route).context(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(DELLINK, ACK, &link_header(0, false));
    batch.number(IFLA_GROUP, group);
    match socket.send(&batch) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        Err(error) => Err(Error::caused("cannot delete network links", error)),
    }
}

/// Deletes links by name, in one batch. Links that no longer exist are not an error.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn delete_links(names: &[String]) -> Result<()> {
    let mut batch = Batch::default();
    for name in names {
        batch.begin(DELLINK, ACK, &link_header(0, false));
        batch.text(IFLA_IFNAME, name);
    }
    if batch.is_empty() {
        return Ok(());
    }
    let socket = Netlink::open(Family::Route).context(|| "cannot open a netlink socket".into())?;
    socket.exchange(&batch).map(drop).context(|| "cannot delete network links".into())
}

/// Gives one end of a veth pair just the one queue per direction that it uses. Otherwise it would get one for each processor
/// and free them at once; for that the kernel waits for all processors, and every other change of links has to wait, too.
fn one_queue(batch: &mut Batch) {
    batch.number(IFLA_NUM_TX_QUEUES, 1);
    batch.number(IFLA_NUM_RX_QUEUES, 1);
}

/// Connects a process's network namespace: a veth pair for each interface, addresses, routes, loopback.
///
/// The calling process must have a single thread. It enters the namespace and comes back.
///
/// # Errors
/// Fails when the kernel refuses.
pub fn connect(pid: i32, process: &OwnedFd, blueprint: &Blueprint) -> io::Result<()> {
    if !blueprint.has(LinuxNamespaceType::Network) {
        return Ok(());
    }
    let interfaces = &blueprint.beyond.interfaces;
    let socket = Netlink::open(Family::Route)?;
    let mut batch = Batch::default();
    for interface in interfaces {
        let master = index_of(&interface.bridge).map_err(|_| {
            io::Error::other(format!(
                "the bridge {} does not exist (one of stead's own is created by `stead up`)",
                interface.bridge
            ))
        })?;
        batch.begin(NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, false));
        batch.text(IFLA_IFNAME, &interface.host);
        batch.number(IFLA_MTU, interface.mtu);
        batch.number(IFLA_MASTER, master);
        batch.number(IFLA_GROUP, interface.group);
        batch.attribute(IFLA_ADDRESS, &host_end_address(interface.address));
        one_queue(&mut batch);
        batch.nested(IFLA_LINKINFO, |batch| {
            batch.text(INFO_KIND, "veth");
            batch.nested(INFO_DATA, |batch| {
                batch.nested(VETH_PEER, |batch| {
                    // Neither end is brought up yet: the host's end would get an IPv6 address at once.
                    batch.raw(&link_header(0, false));
                    batch.text(IFLA_IFNAME, &interface.name);
                    batch.attribute(IFLA_ADDRESS, &hardware_address(interface.address));
                    batch.number(IFLA_MTU, interface.mtu);
                    one_queue(batch);
                    batch.number(IFLA_NET_NS_PID, u32::try_from(pid).unwrap_or(0));
                });
            });
        });
    }
    if !batch.is_empty() {
        let mut outcome = socket.exchange(&batch)?.1;
        // The veth pair of the container's previous run may not be gone yet: delete it to free its name.
        if outcome.iter().any(|(_, error)| error.raw_os_error() == Some(libc::EEXIST)) {
            let mut removal = Batch::default();
            for interface in interfaces {
                removal.begin(DELLINK, ACK, &link_header(0, false));
                removal.text(IFLA_IFNAME, &interface.host);
            }
            let mut rest = removal;
            let _ = socket.exchange(&rest);
            rest = batch;
            outcome = socket.exchange(&rest)?.1;
        }
        if let Some((_, error)) = outcome.into_iter().next() {
            return Err(io::Error::new(error.kind(), format!("cannot connect the container to its network: {error}")));
        }
    }
    open_ends(&socket, interfaces)?;
    let own = fs::File::open("/proc/self/ns/net")?;
    let namespace = nix::sched::CloneFlags::CLONE_NEWNET;
    crate::sys::enter_namespace(process, namespace)?;
    let inside = configure(interfaces);
    crate::sys::enter_namespace(&own, namespace)?;
    inside
}

/// Brings up the host's ends. Each gets its filter, and is kept from getting an IPv6 address, before it is up. It needs no
/// other settings of its own, because packets that arrive at a port of a bridge go to the bridge.
fn open_ends(socket: &Netlink, interfaces: &[Interface]) -> io::Result<()> {
    if interfaces.is_empty() {
        return Ok(());
    }
    let wrong = |error: io::Error| {
        let advice = "networks need the kernel's modules sch_ingress and cls_bpf";
        io::Error::new(error.kind(), format!("cannot filter what the container sends: {error}; {advice}"))
    };
    let (mut filters, mut up) = (Batch::default(), Batch::default());
    for interface in interfaces {
        let index = index_of(&interface.host)?;
        link_settings::without_address(&mut up, &link_header(i32::try_from(index).unwrap_or(0), false));
        // Traffic on foreign bridges is not filtered: that is up to their owners.
        if interface.bridge.starts_with(BRIDGES) {
            link_settings::filter(&mut filters, index);
            link_settings::hairpin(&mut up, &link_header(i32::try_from(index).unwrap_or(0), false));
        }
        up.begin(NEWLINK, ACK, &link_header(i32::try_from(index).unwrap_or(0), true));
    }
    if !filters.is_empty() {
        socket.send(&filters).map_err(wrong)?;
    }
    socket.send(&up).map(drop)
}

/// Configures loopback, addresses and the default route from inside the namespace.
fn configure(interfaces: &[Interface]) -> io::Result<()> {
    link_settings::without_ipv6()?;
    let socket = Netlink::open(Family::Route)?;
    let mut batch = Batch::default();
    batch.begin(NEWLINK, ACK, &link_header(1, true));
    for interface in interfaces {
        let index = index_of(&interface.name)?;
        batch.begin(NEWLINK, ACK, &link_header(i32::try_from(index).unwrap_or(0), true));
        address(&mut batch, index, interface.address, interface.prefix);
    }
    for interface in interfaces {
        if let Some(gateway) = interface.gateway {
            // A prefix length of 0 stands for every destination.
            let header = [AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0];
            batch.begin(NEWROUTE, ACK | CREATE, &header);
            batch.attribute(RTA_GATEWAY, &gateway.octets());
            batch.number(RTA_OIF, index_of(&interface.name)?);
        }
    }
    socket
        .send(&batch)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot give the container its address: {error}")))
}

/// The subnets that this host has routes for, each with the link it leads to.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn routes() -> Result<Vec<(Subnet, String)>> {
    let socket = Netlink::open(Family::Route).context(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(GETROUTE, DUMP, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let messages = socket.send(&batch).context(|| "cannot read the routes".into())?;
    let mut found = BTreeSet::new();
    for message in messages.iter().filter(|message| message.kind == NEWROUTE && message.body.len() >= 12) {
        let (prefix, table) = (message.body[1], message.body[4]);
        let attributes = message.attributes(12);
        let number = |kind: u16| {
            let value = attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)?;
            Some(u32::from_ne_bytes(value.try_into().ok()?))
        };
        // The local table repeats each address as a route.
        if let (Some(destination), true) =
            (attributes.iter().find(|(kind, _)| *kind == RTA_DST), prefix > 0 && table != RT_TABLE_LOCAL)
            && let Ok(octets) = <[u8; 4]>::try_from(destination.1)
        {
            // If the link has been deleted meanwhile, its routes are gone, too.
            let name = number(RTA_OIF).and_then(|index| nix::net::if_::if_indextoname(index).ok());
            let link = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            found.insert((Subnet::new(octets.into(), prefix), link));
        }
    }
    Ok(found.into_iter().collect())
}

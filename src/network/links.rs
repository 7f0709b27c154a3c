//! Links, addresses and routes, by route netlink (rtnetlink(7)).

use crate::model::{Context, Fault, Outcome, Subnet};
use crate::runtime::Interface;
use crate::sys::netlink::{ACK, Batch, CREATE, DUMP, EXCLUSIVE, Family, Netlink};
use std::collections::BTreeSet;
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
const IFLA_GROUP: u16 = 27;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const BR_MULTICAST_SNOOPING: u16 = 23;
const UP: u32 = 1;

/// A bridge as it should be.
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
    let flags = if up { UP } else { 0 };
    header.extend(flags.to_ne_bytes());
    header.extend(UP.to_ne_bytes());
    header
}

/// Adds a message that gives a link an address.
fn address(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8) {
    let mut header = vec![2, prefix, 0, 0];
    header.extend(index.to_ne_bytes());
    batch.begin(NEWADDR, ACK | CREATE, &header);
    batch.attribute(2, &address.octets());
    batch.attribute(1, &address.octets());
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    batch.attribute(4, &Ipv4Addr::from(u32::from(address) | !mask).octets());
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Names of all links that are in a group.
pub fn bridges(group: u32) -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries
        .filter(|entry| fs::read_to_string(entry.path().join("netdev_group")).is_ok_and(|text| text.trim() == group.to_string()))
        .filter(|entry| entry.path().join("bridge").is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Makes the bridges that are missing, all in one batch, and lets published ports of loopback reach them.
///
/// # Errors
/// What the kernel refuses.
pub fn ensure_bridges(wanted: &[BridgeSpec]) -> Outcome<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let missing: Vec<&BridgeSpec> = wanted.iter().filter(|bridge| index_of(&bridge.name).is_err()).collect();
    let socket = Netlink::open(Family::Route).doing(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    for bridge in &missing {
        batch.begin(NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, true));
        batch.text(IFLA_IFNAME, &bridge.name);
        batch.number(IFLA_MTU, bridge.mtu);
        batch.number(IFLA_GROUP, bridge.group);
        batch.nested(IFLA_LINKINFO, |batch| {
            batch.text(INFO_KIND, "bridge");
            batch.nested(INFO_DATA, |batch| batch.attribute(BR_MULTICAST_SNOOPING, &[0]));
        });
    }
    let made = if batch.is_empty() { Ok((Vec::new(), Vec::new())) } else { socket.exchange(&batch) };
    let (_, failures) = made.doing(|| "cannot make bridges".into())?;
    // Another `up` may have made the same bridge in the meantime.
    if let Some((_, error)) = failures.into_iter().find(|(_, error)| error.raw_os_error() != Some(libc::EEXIST)) {
        return Err(
            Fault::caused("cannot make a bridge", error).hint("networks need CAP_NET_ADMIN and the kernel's bridge module")
        );
    }
    // All of them: a bridge may be there without its address, from an `up` that was killed in between.
    let mut batch = Batch::default();
    for bridge in wanted {
        let index = index_of(&bridge.name).doing(|| format!("the bridge {} is not there", bridge.name))?;
        address(&mut batch, index, bridge.gateway, bridge.prefix);
        let setting = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", bridge.name);
        fs::write(&setting, "1").doing(|| format!("cannot write {setting}"))?;
    }
    let (_, failures) = socket.exchange(&batch).doing(|| "cannot give bridges their addresses".into())?;
    match failures.into_iter().find(|(_, error)| error.raw_os_error() != Some(libc::EEXIST)) {
        Some((_, error)) => Err(Fault::caused("cannot give a bridge its address", error)),
        None => Ok(()),
    }
}

/// Deletes all links of a group at once: one by one each costs the kernel a grace period.
///
/// # Errors
/// What the kernel refuses; an empty group is no error.
pub fn delete_group(group: u32) -> Outcome<()> {
    let socket = Netlink::open(Family::Route).doing(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(DELLINK, ACK, &link_header(0, false));
    batch.number(IFLA_GROUP, group);
    match socket.send(&batch) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        Err(error) => Err(Fault::caused("cannot delete network links", error)),
    }
}

/// Deletes links by name, in one batch; those that are gone are no error.
///
/// # Errors
/// Those of netlink.
pub fn delete_links(names: &[String]) -> Outcome<()> {
    let mut batch = Batch::default();
    for name in names {
        batch.begin(DELLINK, ACK, &link_header(0, false));
        batch.text(IFLA_IFNAME, name);
    }
    if batch.is_empty() {
        return Ok(());
    }
    let socket = Netlink::open(Family::Route).doing(|| "cannot open a netlink socket".into())?;
    socket.exchange(&batch).map(drop).doing(|| "cannot delete network links".into())
}

/// Connects a process's network namespace: a veth pair for each interface, addresses, routes, loopback.
///
/// Called from a single-threaded process, which enters the namespace and comes back.
///
/// # Errors
/// What the kernel refuses.
pub fn connect(pid: i32, process: &OwnedFd, interfaces: &[Interface]) -> io::Result<()> {
    let socket = Netlink::open(Family::Route)?;
    let mut batch = Batch::default();
    for interface in interfaces {
        let master = index_of(&interface.bridge)
            .map_err(|_| io::Error::other(format!("the bridge {} is not there; `stead up` makes it", interface.bridge)))?;
        batch.begin(NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, true));
        batch.text(IFLA_IFNAME, &interface.host);
        batch.number(IFLA_MTU, interface.mtu);
        batch.number(IFLA_MASTER, master);
        batch.number(IFLA_GROUP, interface.group);
        batch.nested(IFLA_LINKINFO, |batch| {
            batch.text(INFO_KIND, "veth");
            batch.nested(INFO_DATA, |batch| {
                batch.nested(VETH_PEER, |batch| {
                    // Not up yet: a peer cannot be opened before the pair is whole (veth_open, ENOTCONN).
                    batch.raw(&link_header(0, false));
                    batch.text(IFLA_IFNAME, &interface.name);
                    // The hardware address follows from the IP: neighbours that remember it find the
                    // container that replaces another at once.
                    let [a, b, c, d] = interface.address.octets();
                    batch.attribute(IFLA_ADDRESS, &[0x02, 0x42, a, b, c, d]);
                    batch.number(IFLA_MTU, interface.mtu);
                    batch.number(IFLA_NET_NS_PID, u32::try_from(pid).unwrap_or(0));
                });
            });
        });
    }
    if !batch.is_empty() {
        let mut outcome = socket.exchange(&batch)?.1;
        // The pair of the container's last life goes a moment after it: take its name back at once.
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
    let own = fs::File::open("/proc/self/ns/net")?;
    let namespace = nix::sched::CloneFlags::CLONE_NEWNET;
    crate::sys::enter_namespace(process, namespace)?;
    let inside = configure(interfaces);
    crate::sys::enter_namespace(&own, namespace)?;
    inside
}

/// Loopback, addresses and the way out, from inside the namespace.
fn configure(interfaces: &[Interface]) -> io::Result<()> {
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
            // Family, no prefix, main table, static, global, unicast.
            batch.begin(NEWROUTE, ACK | CREATE, &[2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
            batch.attribute(5, &gateway.octets());
            batch.number(4, index_of(&interface.name)?);
        }
    }
    socket
        .send(&batch)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot give the container its address: {error}")))
}

/// The subnets that this host routes, each with the link it leads to.
///
/// # Errors
/// Those of netlink.
pub fn routes() -> Outcome<Vec<(Subnet, String)>> {
    let socket = Netlink::open(Family::Route).doing(|| "cannot open a netlink socket".into())?;
    let mut batch = Batch::default();
    batch.begin(GETROUTE, DUMP, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let messages = socket.send(&batch).doing(|| "cannot read the routes".into())?;
    let names = link_names(&socket)?;
    let mut found = BTreeSet::new();
    for message in messages.iter().filter(|message| message.kind == NEWROUTE && message.body.len() >= 12) {
        let (prefix, table) = (message.body[1], message.body[4]);
        let attributes = message.attributes(12);
        let number = |kind: u16| {
            let value = attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)?;
            Some(u32::from_ne_bytes(value.try_into().ok()?))
        };
        // Table 255 repeats each address as a local route.
        if let (Some(destination), true) = (attributes.iter().find(|(kind, _)| *kind == 1), prefix > 0 && table != 255)
            && let Ok(octets) = <[u8; 4]>::try_from(destination.1)
        {
            let link = number(4)
                .and_then(|index| names.iter().find(|(known, _)| *known == index))
                .map_or_else(String::new, |(_, name)| name.clone());
            found.insert((Subnet::new(octets.into(), prefix), link));
        }
    }
    Ok(found.into_iter().collect())
}

fn link_names(socket: &Netlink) -> Outcome<Vec<(u32, String)>> {
    let mut batch = Batch::default();
    batch.begin(GETLINK, DUMP, &link_header(0, false));
    let messages = socket.send(&batch).doing(|| "cannot read the links".into())?;
    let links = messages.iter().filter(|message| message.kind == NEWLINK && message.body.len() >= 16);
    Ok(links
        .filter_map(|message| {
            let index = u32::from_ne_bytes(message.body[4..8].try_into().ok()?);
            let attributes = message.attributes(16);
            let name = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?.1;
            Some((index, String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned()))
        })
        .collect())
}

//! Subnets and addresses. A subnet is derived from the project's identity, kept on record and checked against live routes;
//! an address is the one in the project file, else the one on record, else the lowest free one.

use super::observed::{NetworkRecord, Observed};
use crate::model::{Digest, Error, Name, Result, Subnet};
use crate::project::{Attachment, Locations, Network, NodePath, Project, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The pool of planned subnets: the upper half of 10/8, which few VPNs and no default of Docker uses.
const POOL: Subnet24 = Subnet24 { first: 10 << 24 | 128 << 16, count: 1 << 15 };

/// The pool's own prefix.
const POOL_PREFIX: u8 = 9;

struct Subnet24 {
    first: u32,
    count: u32,
}

/// The loopback address that an instance's published ports move to when 127.0.0.1 is taken.
pub fn instance_loopback(instance: &str) -> Ipv4Addr {
    let number = Digest::of(instance).number();
    let byte = |shift: u32, low: u64, span: u64| u8::try_from(low + (number >> shift) % span).unwrap_or(1);
    Ipv4Addr::new(127, byte(0, 64, 128), byte(8, 0, 256), byte(16, 2, 252))
}

/// The host's address on a network.
pub fn gateway(network: &Network, subnet: Subnet) -> Ipv4Addr {
    network.gateway.unwrap_or_else(|| subnet.host(1))
}

/// The networks that a project needs, including the implied `default`, with their subnets.
///
/// A fixed subnet that overlaps a live route or another instance's network is added to the errors.
pub fn networks(
    project: &Project,
    places: &Locations,
    observed: &Observed,
    errors: &mut Vec<Error>,
) -> BTreeMap<Name, NetworkRecord> {
    let mut wanted: BTreeMap<Name, Network> = project.networks.clone();
    let implied = project.containers.values().flat_map(attachments).map(|attachment| attachment.network);
    for name in implied {
        wanted.entry(name).or_default();
    }
    let used: BTreeSet<Name> = project.containers.values().flat_map(attachments).map(|attachment| attachment.network).collect();
    wanted.retain(|name, _| used.contains(name));
    let mut planned: BTreeMap<Name, NetworkRecord> = BTreeMap::new();
    // Fixed subnets come first, so that the others avoid them.
    let (fixed, free): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, network)| network.subnet.is_some());
    for (name, network) in fixed.into_iter().chain(free) {
        let at = NodePath::network(&name);
        let bridge = network.external.clone().unwrap_or_else(|| bridge_name(observed, &name));
        if let Some(why) = network.external.as_ref().and_then(|bridge| observed.no_bridges.get(bridge)) {
            let advice = "`external=` names a bridge of this host, which stead neither creates nor removes";
            errors.push(Error::new(format!("network \"{name}\": {why}")).hint(advice).at(places.of(&at)));
            continue;
        }
        let of_bridge = || observed.routes.iter().find(|(_, link)| *link == bridge).map(|(subnet, _)| *subnet);
        let subnet = match network.subnet {
            None if network.external.is_some() => match of_bridge() {
                Some(subnet) => subnet,
                None => {
                    let why = format!("network \"{name}\": the bridge {bridge} has no address, so its subnet is not known");
                    errors.push(Error::new(why).hint("write `subnet=`").at(places.of(&at)));
                    continue;
                }
            },
            Some(subnet) => {
                if network.external.is_none() {
                    errors.extend(check_fixed(&name, subnet, &bridge, observed).map(|error| error.at(places.of(&at))));
                }
                subnet
            }
            None => match choose(&name, &bridge, members(project, &name), observed, &planned) {
                Ok(subnet) => subnet,
                Err(error) => {
                    errors.push(error.at(places.of(&at)));
                    continue;
                }
            },
        };
        let gateway = gateway(&network, subnet);
        planned.insert(
            name,
            NetworkRecord {
                bridge,
                subnet,
                gateway,
                internal: network.internal,
                mtu: network.mtu.unwrap_or(1500),
                external: network.external.is_some(),
            },
        );
    }
    planned
}

/// The networks that a container is on, including the implied one.
pub fn attachments(container: &crate::project::Container) -> Vec<Attachment> {
    if container.namespaces.network != crate::project::NetworkMode::Own {
        return Vec::new();
    }
    if container.networks.is_empty() {
        return Name::parse("default")
            .map(|network| vec![Attachment { network, alias: None, address: None }])
            .unwrap_or_default();
    }
    container.networks.clone()
}

/// `br-st`, four characters of the installation and six of the network: fifteen in all, the kernel's limit.
fn bridge_name(observed: &Observed, network: &Name) -> String {
    format!("br-st{}{}", observed.tag, Digest::of(format!("{}/{network}", observed.instance)).short(6))
}

fn check_fixed(name: &Name, subnet: Subnet, bridge: &str, observed: &Observed) -> Option<Error> {
    const ADVICE: &str = "give the network another `subnet=`, or none: then a free one is chosen";
    if let Some((route, link)) = observed.routes.iter().find(|(route, link)| link != bridge && route.overlaps(&subnet)) {
        let through = if link.is_empty() { String::new() } else { format!(" through {link}") };
        let why = format!("the subnet {subnet} of network \"{name}\" overlaps {route}, which this host already routes{through}");
        return Some(Error::new(why).hint(ADVICE));
    }
    let other = observed.taken.subnets.iter().find(|other| other.overlaps(&subnet))?;
    let why = format!("the subnet {subnet} of network \"{name}\" overlaps {other}, which another project has");
    Some(Error::new(why).hint(ADVICE))
}

/// How many addresses the containers of a network need.
fn members(project: &Project, network: &Name) -> u32 {
    let on_it = |container: &&crate::project::Container| attachments(container).iter().any(|one| one.network == *network);
    project.containers.values().filter(on_it).map(|container| container.replicas + container.stand_ins()).sum()
}

/// The subnet on record if it is still free and large enough, else the first free one after the network's own position in the
/// pool.
fn choose(
    name: &Name,
    bridge: &str,
    members: u32,
    observed: &Observed,
    planned: &BTreeMap<Name, NetworkRecord>,
) -> Result<Subnet> {
    // One more for the gateway.
    let fits = |subnet: &Subnet| subnet.hosts() > members;
    let free = |subnet: &Subnet| {
        !observed.routes.iter().any(|(route, link)| link != bridge && route.overlaps(subnet))
            && !observed.taken.subnets.iter().any(|other| other.overlaps(subnet))
            && !planned.values().any(|other| other.subnet.overlaps(subnet))
    };
    if let Some(record) = observed
        .record
        .networks
        .get(name)
        .filter(|record| free(&record.subnet) && fits(&record.subnet) && record.bridge == bridge)
    {
        return Ok(record.subnet);
    }
    let prefix =
        (POOL_PREFIX..=24).rev().find(|prefix| fits(&Subnet::new(Ipv4Addr::UNSPECIFIED, *prefix))).unwrap_or(POOL_PREFIX);
    free_subnet(&format!("{}/{name}", observed.instance), prefix, free)
        .ok_or_else(|| Error::new("no subnet of 10.128.0.0/9 is free on this host").hint("write `subnet=` at the network"))
}

/// The first free subnet of the pool with a prefix of at most 24 bits, starting at a position that is derived from an identity.
pub fn free_subnet(identity: &str, prefix: u8, free: impl Fn(&Subnet) -> bool) -> Option<Subnet> {
    let (shift, count) = (32 - prefix, POOL.count >> (24 - prefix));
    let start = u32::try_from(Digest::of(identity).number() % u64::from(count)).unwrap_or(0);
    (0..count).map(|offset| Subnet::new(Ipv4Addr::from(POOL.first + (((start + offset) % count) << shift)), prefix)).find(free)
}

/// Assigns the addresses of all replicas on a network: fixed ones, then those on record, then the lowest free ones.
///
/// Fixed addresses that are not available and a full network are added to the errors.
pub fn assign(
    network: &Name,
    record: &NetworkRecord,
    wishes: &[(String, Option<Ipv4Addr>)],
    observed: &Observed,
    places: &Locations,
    errors: &mut Vec<Error>,
) -> BTreeMap<String, Ipv4Addr> {
    let mut taken: BTreeSet<Ipv4Addr> = [record.gateway, record.subnet.host(0)].into();
    // Containers of other instances may be on an external bridge.
    taken.extend(observed.taken.outside.iter().filter(|(bridge, _)| *bridge == record.bridge).map(|(_, address)| *address));
    let mut given = BTreeMap::new();
    for (container, address) in wishes {
        let Some(address) = address else { continue };
        if !record.subnet.contains(*address) || !taken.insert(*address) {
            let owner = ReplicaId::container_of(container);
            let why = format!("the address {address} is not free in the network \"{network}\" ({})", record.subnet);
            errors.push(Error::new(why).at(places.of(&NodePath::container(owner).named("network", network))));
            continue;
        }
        given.insert(container.clone(), *address);
    }
    let same_subnet = observed.record.networks.get(network).is_some_and(|old| old.subnet == record.subnet);
    for (container, _) in wishes.iter().filter(|(_, address)| address.is_none()) {
        let known = observed.record.containers.get(container).and_then(|old| old.addresses.get(network)).filter(|_| same_subnet);
        if let Some(address) = known.filter(|address| !taken.contains(*address)) {
            taken.insert(*address);
            given.insert(container.clone(), *address);
        }
    }
    let mut next = 1;
    for (container, _) in wishes {
        if given.contains_key(container) {
            continue;
        }
        let address = loop {
            next += 1;
            if next > record.subnet.hosts() {
                let why = format!("the network \"{network}\" ({}) has no address left", record.subnet);
                let place = places.of(&NodePath::network(network));
                errors.push(Error::new(why).hint("give it a larger `subnet=`").at(place));
                return given;
            }
            let address = record.subnet.host(next);
            if taken.insert(address) {
                break address;
            }
        };
        given.insert(container.clone(), address);
    }
    given
}

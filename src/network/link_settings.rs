//! What the host's ends of our links must not do: use IPv6, accept or send redirects, pass packets for
//! 127/8 to the host.
//!
//! Networks are IPv4 only. A bridge with IPv6 gets a link-local address that nobody asked for, and the host
//! accepts router advertisements that a container sends (CVE-2020-13401). The settings are the first barrier;
//! a filter at the host's end of each veth pair is the second, which survives a flush of nftables.

use crate::sys::netlink::{ACK, Batch, CREATE, EXCLUSIVE};
use std::fs;
use std::io;

const NEWLINK: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const NEWQDISC: u16 = 36;
const NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const ACT_DIRECT: u32 = 1;
/// The parent of classifiers without a queue (TC_H_CLSACT), and its ingress side.
const CLSACT: u32 = 0xffff_fff1;
const ARRIVING: u32 = 0xffff_fff2;

/// Disables IPv6 and redirects on a link. It must be called before the link is up.
///
/// # Errors
/// Fails when a file below /proc/sys cannot be written. On a kernel without IPv6 its settings are skipped.
pub fn quieten(link: &str) -> io::Result<()> {
    for name in ["disable_ipv6", "accept_redirects", "accept_ra"] {
        set_ipv6(link, name, if name == "disable_ipv6" { "1" } else { "0" })?;
    }
    for name in ["accept_redirects", "send_redirects"] {
        let path = format!("/proc/sys/net/ipv4/conf/{link}/{name}");
        fs::write(&path, "0").map_err(|error| io::Error::new(error.kind(), format!("cannot write {path}: {error}")))?;
    }
    Ok(())
}

/// Adds the message that keeps a link from getting an IPv6 address of its own when it is brought up. A kernel without IPv6
/// would not understand it, so it is left out there.
pub fn without_address(batch: &mut Batch, header: &[u8]) {
    if !fs::exists("/proc/sys/net/ipv6").is_ok_and(|there| there) {
        return;
    }
    batch.begin(NEWLINK, ACK, header);
    batch.nested(IFLA_AF_SPEC, |batch| {
        batch.nested(AF_INET6, |batch| batch.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]));
    });
}

/// Adds the message that lets a bridge send what came from a container back to it. Otherwise the container could not reach
/// itself through its own published port where bridged packets pass the packet filter (br_netfilter, which dockerd loads).
pub fn hairpin(batch: &mut Batch, header: &[u8]) {
    batch.begin(NEWLINK, ACK, header);
    batch.nested(IFLA_LINKINFO, |batch| {
        batch.text(INFO_SLAVE_KIND, "bridge");
        batch.nested(INFO_SLAVE_DATA, |batch| batch.attribute(IFLA_BRPORT_MODE, &[1]));
    });
}

/// Switches IPv6 off in the network namespace of this process, except on loopback: programs that listen on ::1 cannot be
/// reached from outside.
///
/// # Errors
/// Fails when a file below /proc/sys cannot be written.
pub fn without_ipv6() -> io::Result<()> {
    // This applies to links that are created later, too.
    set_ipv6("all", "disable_ipv6", "1")?;
    set_ipv6("lo", "disable_ipv6", "0")
}

fn set_ipv6(link: &str, name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/{name}");
    match fs::write(&path, value) {
        // The kernel has no IPv6, or the link's MTU is too small for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write {path}: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// The filter: ARP, and IPv4 that is not for 127/8, pass; IPv6, tagged frames and everything else are dropped.
///
/// It uses classic BPF instructions (linux/filter.h), which are part of the netlink message and do not need `bpf(2)`.
fn program() -> Vec<u8> {
    const LOAD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const IF: u16 = 0x15;
    const END: u16 = 0x06;
    /// The kernel's data about a packet begin at SKF_AD_OFF, its network header begins at SKF_NET_OFF, and the
    /// destination is at offset 16 of an IPv4 header.
    const PROTOCOL: u32 = 0xffff_f000;
    const IS_TAGGED: u32 = 0xffff_f000 + 48;
    const DESTINATION: u32 = 0xfff0_0000 + 16;
    const DROP: u32 = 2;
    const NEXT: u32 = u32::MAX;
    let code: [(u16, u8, u8, u32); 9] = [
        (LOAD, 0, 0, IS_TAGGED),
        (IF, 0, 6, 0),
        (LOAD, 0, 0, PROTOCOL),
        (IF, 3, 0, 0x0806),
        (IF, 0, 3, 0x0800),
        (LOAD_BYTE, 0, 0, DESTINATION),
        (IF, 1, 0, 127),
        (END, 0, 0, NEXT),
        (END, 0, 0, DROP),
    ];
    let bytes =
        code.iter().map(|(code, yes, no, number)| [&code.to_ne_bytes()[..], &[*yes, *no], &number.to_ne_bytes()].concat());
    bytes.collect::<Vec<_>>().concat()
}

/// Adds the messages that attach the filter to the host's end of a veth pair.
///
/// `route_localnet` makes 127/8 reachable for packets that arrive at a bridge (CVE-2020-8558). The filter sees packets as
/// they are on the wire, so answers to translated connections from 127.0.0.1 pass; at the bridge itself they could be
/// translated back already (br_netfilter). The filter disappears with the pair.
pub fn filter(batch: &mut Batch, index: u32) {
    let header = |handle: u32, parent: u32, info: u32| {
        [0u32, index, handle, parent, info].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>()
    };
    batch.begin(NEWQDISC, ACK | CREATE | EXCLUSIVE, &header(0xffff_0000, CLSACT, 0));
    batch.text(TCA_KIND, "clsact");
    // The first priority, for every protocol (ETH_P_ALL).
    let info = 1 << 16 | u32::from(3u16.to_be());
    batch.begin(NEWTFILTER, ACK | CREATE, &header(1, ARRIVING, info));
    batch.text(TCA_KIND, "bpf");
    batch.nested(TCA_OPTIONS, |batch| {
        let program = program();
        batch.attribute(TCA_BPF_OPS_LEN, &u16::try_from(program.len() / 8).unwrap_or(0).to_ne_bytes());
        batch.attribute(TCA_BPF_OPS, &program);
        batch.text(TCA_BPF_NAME, "stead");
        batch.number(TCA_BPF_FLAGS, ACT_DIRECT);
    });
}

/// Whether answers to connections from 127.0.0.1 may arrive over a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loopback {
    /// A port of one of its containers is published on loopback.
    Published,
    Closed,
}

/// Sets whether ports published on loopback may be reached over a bridge.
///
/// # Errors
/// Fails when a file below /proc/sys cannot be written.
pub fn set_loopback(bridge: &str, wanted: Loopback) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    let value = if wanted == Loopback::Published { "1" } else { "0" };
    match fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        // Somebody deleted the bridge: `up` creates it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => fs::write(&path, value),
    }
}

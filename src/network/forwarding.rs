//! `ip_forward` is switched on when it is off, and switched off again with the last bridge.
//!
//! Forwarding could be set for single interfaces, but answers from outside arrive at whichever interface the
//! host's routes name, now or later, so in the end it would be set for all of them. It is set for the whole
//! host, and as long as it is on because of us, the firewall table drops what does not belong to our networks.
//!
//! Our bridges carry a mark in their alias (ip-link(8)) that says that we switched it on. Every installation in
//! this network namespace sees the mark, the one that removes the last bridge restores the old value, and nothing
//! of it survives a reboot.

use super::BRIDGES;
use super::links::{self, Link};
use crate::model::{Context, Result};
use crate::sys::netlink::{Family, Netlink};
use std::fs;
use std::io;

/// The file of the setting that sysctl(8) calls net.ipv4.ip_forward.
const PATH: &str = "/proc/sys/net/ipv4/ip_forward";

/// The alias of a bridge when forwarding was off before.
const MARK: &str = "stead: ip_forward was 0";

/// Who switched forwarding on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarding {
    Off,
    /// Stead switched it on, in this installation or another.
    Ours,
    /// It was on before.
    Others,
}

impl Forwarding {
    /// Reads the state of the host.
    ///
    /// # Errors
    /// Fails when the setting or the bridges cannot be read.
    pub fn look() -> Result<Self> {
        let value = fs::read_to_string(PATH).context(|| format!("cannot read {PATH}"))?;
        if value.trim() == "0" {
            return Ok(Self::Off);
        }
        Ok(if bridges(&open()?)?.iter().any(|link| link.alias == MARK) { Self::Ours } else { Self::Others })
    }

    /// The alias of a bridge that is created now, given the state before any bridge was deleted or created.
    pub fn alias(self) -> Option<&'static str> {
        (self != Self::Others).then_some(MARK)
    }

    /// Switches forwarding on. By then the bridges must carry the mark, and the firewall table must drop foreign packets.
    ///
    /// # Errors
    /// Fails when the setting cannot be written.
    pub fn switch_on() -> Result<()> {
        fs::write(PATH, "1").context(|| "cannot set net.ipv4.ip_forward=1".into())
    }

    /// Switches forwarding off if no bridge of any installation is left. An installation calls it after it has removed its
    /// last bridge.
    ///
    /// # Errors
    /// Fails when the bridges cannot be read or marked, or when the setting cannot be written.
    pub fn restore() -> Result<()> {
        let socket = open()?;
        if !bridges(&socket)?.is_empty() {
            return Ok(());
        }
        fs::write(PATH, "0").context(|| "cannot set net.ipv4.ip_forward=0".into())?;
        // Another installation may have created a bridge since, when forwarding was still on: then it must stay on.
        for link in bridges(&socket)? {
            links::set_alias(&socket, link.index, MARK).context(|| format!("cannot mark the bridge {}", link.name))?;
            Self::switch_on()?;
        }
        Ok(())
    }
}

fn open() -> Result<Netlink> {
    Netlink::open(Family::Route).context(|| "cannot open a netlink socket".into())
}

/// Bridges of all installations.
fn bridges(socket: &Netlink) -> Result<Vec<Link>> {
    let links = links::all_bridges(socket).context(|| "cannot read the links".into())?;
    Ok(links.into_iter().filter(|link| link.name.starts_with(BRIDGES)).collect())
}

/// The bridges that are not ours, if br_netfilter sends frames on bridges through the forward hook; otherwise none.
///
/// # Errors
/// Fails when the setting or the links cannot be read.
pub fn seen_bridges() -> Result<Vec<String>> {
    match fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables") {
        Ok(value) if value.trim() != "0" => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| "cannot read net.bridge.bridge-nf-call-iptables".into()),
    }
    let links = links::all_bridges(&open()?).context(|| "cannot read the links".into())?;
    Ok(links.into_iter().filter(|link| !link.name.starts_with(BRIDGES)).map(|link| link.name).collect())
}

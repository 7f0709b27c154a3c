//! `ip_forward`: switched on when it is off, and switched off again with the last bridge.
//!
//! Forwarding could be set for single interfaces, but answers from outside arrive at whichever interface the
//! host's routes name, now or later, so in the end it would be set for all of them. It is set for the whole
//! host, and the firewall table drops what is not of our networks, as long as we are the ones that set it.
//!
//! That we did is written at our bridges themselves (their alias, ip-link(8)): every installation of this
//! network namespace sees it, the one that takes the last bridge away puts the old value back, and nothing of
//! it outlives a reboot.

use super::BRIDGES;
use super::links::{self, Link};
use crate::model::{Context, Result};
use crate::sys::netlink::{Family, Netlink};
use std::fs;
use std::io;

/// The setting, as sysctl(8) calls it.
const PATH: &str = "/proc/sys/net/ipv4/ip_forward";

/// What a bridge's alias says when forwarding was off before.
const MARK: &str = "stead: ip_forward was 0";

/// Who switched forwarding on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarding {
    Off,
    /// Stead did, this installation or another.
    Ours,
    /// It was on before.
    Others,
}

impl Forwarding {
    /// Looks at the host.
    ///
    /// # Errors
    /// Those of reading the setting.
    pub fn look() -> Result<Self> {
        let value = fs::read_to_string(PATH).context(|| format!("cannot read {PATH}"))?;
        if value.trim() == "0" {
            return Ok(Self::Off);
        }
        Ok(if bridges(&open()?)?.iter().any(|link| link.alias == MARK) { Self::Ours } else { Self::Others })
    }

    /// What a bridge that is made now carries, as things stood before any was taken away or made.
    pub fn alias(self) -> Option<&'static str> {
        (self != Self::Others).then_some(MARK)
    }

    /// Switches forwarding on. The bridges carry the mark by then, and the table its drop.
    ///
    /// # Errors
    /// Those of writing the setting.
    pub fn switch_on() -> Result<()> {
        fs::write(PATH, "1").context(|| "cannot set net.ipv4.ip_forward=1".into())
    }

    /// Switches forwarding off, if no bridge of any installation is left; to be called by who took the last of
    /// its own away.
    ///
    /// # Errors
    /// Those of reading and writing the setting.
    pub fn restore() -> Result<()> {
        let socket = open()?;
        if !bridges(&socket)?.is_empty() {
            return Ok(());
        }
        fs::write(PATH, "0").context(|| "cannot set net.ipv4.ip_forward=0".into())?;
        // Another installation may have made a bridge since, and found forwarding on: it is to stay so.
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

/// Bridges of others that pass their frames through the forward hook, too (br_netfilter).
///
/// # Errors
/// Those of reading the setting and the links.
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

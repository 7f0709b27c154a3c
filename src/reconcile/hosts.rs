//! Names of containers: the `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of each.
//!
//! Addresses are planned, so containers that start together know each other at once; from then on the file lists
//! the containers that run ([`crate::monitor`]). A file that is mounted in a running container is rewritten in place,
//! because the container sees its inode.

use crate::model::{Context, Result};
use crate::monitor::HostLine;
use crate::network::{self, Servers};
use crate::plan::Desired;
use crate::project::NetworkMode;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The lines of a container's /etc/hosts. The lines of neighbours are valid only while these run.
pub fn hosts(one: &Desired, all: &BTreeMap<String, Desired>) -> Vec<HostLine> {
    let always = |text: String| HostLine { while_runs: None, text };
    if one.spec.namespaces.network == NetworkMode::Host {
        // It is on the host's network, so names mean what they mean there. A host may have no such file.
        let text = String::from_utf8_lossy(&fs::read("/etc/hosts").unwrap_or_default()).into_owned();
        let own = text.lines().map(|line| always(line.to_owned()));
        let extra =
            one.spec.extra_hosts.iter().map(|(name, address)| {
                always(format!("{}\t{name}", if address == "host-gateway" { "127.0.0.1" } else { address }))
            });
        return own.chain(extra).collect();
    }
    let mut lines = vec![always("127.0.0.1\tlocalhost".into()), always("::1\tlocalhost ip6-localhost ip6-loopback".into())];
    let hostname = hostname(one);
    for attached in &one.networks {
        let alias = attached.alias.as_ref().map_or_else(String::new, |alias| format!(" {alias}"));
        lines.push(always(format!("{}\t{hostname} {} {}{alias}", attached.address, one.name, one.container)));
    }
    if one.networks.is_empty() {
        // Without an address of its own it finds itself on loopback, as a Debian host does.
        lines.push(always(format!("127.0.1.1\t{hostname}")));
    }
    for attached in &one.networks {
        for other in all.values().filter(|other| other.name != one.name) {
            for there in other.networks.iter().filter(|there| there.network == attached.network) {
                let alias = there.alias.as_ref().map_or_else(String::new, |alias| format!(" {alias}"));
                let text = format!("{}\t{} {}{alias}", there.address, other.container, other.name);
                lines.push(HostLine { while_runs: Some(other.name.clone()), text });
            }
        }
    }
    let gateway = one.networks.first().map(|attached| attached.record.gateway.to_string());
    for (name, address) in &one.spec.extra_hosts {
        let address = if address == "host-gateway" { gateway.as_deref().unwrap_or("127.0.0.1") } else { address };
        lines.push(always(format!("{address}\t{name}")));
    }
    lines
}

/// The text of the lines that are always valid or whose neighbour is running.
pub fn text(lines: &[HostLine], there: impl Fn(&str) -> bool) -> String {
    let kept = lines.iter().filter(|line| line.while_runs.as_ref().is_none_or(|name| there(name)));
    kept.map(|line| format!("{}\n", line.text)).collect()
}

/// A container's host name.
pub fn hostname(one: &Desired) -> String {
    let of_host = || {
        let host = (one.spec.namespaces.network == NetworkMode::Host).then(nix::unistd::gethostname)?;
        host.ok()?.into_string().ok()
    };
    one.spec.hostname.clone().or_else(of_host).unwrap_or_else(|| one.name.clone())
}

/// The container's own name servers, or else the host's, without those that it cannot reach.
///
/// # Errors
/// Fails when the host's files cannot be read.
pub fn resolver(one: &Desired) -> Result<String> {
    if !one.spec.dns.is_empty() {
        return network::resolver(Servers::Given(&one.spec.dns));
    }
    let own = one.spec.namespaces.network == NetworkMode::Own;
    if own && one.networks.iter().all(|attached| attached.record.internal) {
        return Ok("# this container is on internal networks only\n".into());
    }
    let host = one.spec.namespaces.network == NetworkMode::Host;
    network::resolver(if host { Servers::All } else { Servers::Reachable })
}

/// Writes a file in place, unless it already has this content.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context(|| format!("cannot write {}", path.display()))
}

//! Names of containers: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of each.
//!
//! Addresses are planned, so a container knows its neighbours before they have started. A file that
//! is mounted in a running container is rewritten in place: its inode is what the container sees.

use crate::model::{Context, Outcome};
use crate::plan::Desired;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The text of a container's /etc/hosts.
pub fn hosts(one: &Desired, all: &BTreeMap<String, Desired>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let hostname = hostname(one);
    for attached in &one.networks {
        let _ = writeln!(text, "{}\t{hostname} {} {}", attached.address, one.name, one.container);
    }
    for attached in &one.networks {
        for other in all.values().filter(|other| other.name != one.name) {
            for there in other.networks.iter().filter(|there| there.network == attached.network) {
                let alias = there.alias.as_ref().map_or_else(String::new, |alias| format!(" {alias}"));
                let _ = writeln!(text, "{}\t{} {}{alias}", there.address, other.container, other.name);
            }
        }
    }
    let gateway = one.networks.first().map(|attached| attached.record.gateway.to_string());
    for (name, address) in &one.spec.extra_hosts {
        let address = if address == "host-gateway" { gateway.as_deref().unwrap_or("127.0.0.1") } else { address };
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// A container's host name.
pub fn hostname(one: &Desired) -> String {
    one.spec.hostname.as_ref().map_or_else(|| one.name.clone(), ToString::to_string)
}

/// The host's name servers, without those that a container cannot reach.
pub fn resolver(one: &Desired) -> String {
    let reachable = one.networks.iter().any(|attached| !attached.record.internal);
    if !reachable && one.spec.namespaces.network == crate::spec::NetworkMode::Own {
        return "# this container is on internal networks only\n".into();
    }
    // systemd-resolved listens on loopback and keeps the real servers beside it.
    let texts = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let host_network = one.spec.namespaces.network == crate::spec::NetworkMode::Host;
    let local = |line: &&str| {
        !host_network
            && line
                .trim_start()
                .strip_prefix("nameserver")
                .is_some_and(|address| matches!(address.trim(), "::1") || address.trim().starts_with("127."))
    };
    let usable = |text: &&String| text.lines().any(|line| line.trim_start().starts_with("nameserver") && !local(&line));
    let text = texts.iter().find(usable).unwrap_or(&texts[0]);
    text.lines().filter(|line| !local(line)).fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{line}");
        out
    })
}

/// Writes a file in place, if it says something else.
///
/// # Errors
/// Those of writing.
pub fn write(path: &Path, text: &str) -> Outcome<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().doing(|| format!("cannot write {}", path.display()))
}

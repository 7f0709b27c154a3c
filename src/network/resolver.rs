//! `/etc/resolv.conf` for containers with a network namespace of their own, and for those that use the host's.

use crate::model::{Error, Result};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;

/// Which of the host's name servers are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Servers {
    All,
    /// All except those on loopback, which only the host's own programs can reach.
    Reachable,
}

/// The text of a `resolv.conf` with the host's name servers.
///
/// # Errors
/// Fails when one of the host's files exists but cannot be read.
pub fn resolver(servers: Servers) -> Result<String> {
    // systemd-resolved listens on loopback and lists the real servers in a file of its own.
    let read = |path: &str| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::caused(format!("cannot read {path}"), error)),
    };
    let texts = [read("/etc/resolv.conf")?, read("/run/systemd/resolve/resolv.conf")?];
    Ok(choose(&texts, servers))
}

fn choose(texts: &[String; 2], servers: Servers) -> String {
    // The address of a line that names a server. Glibc takes the word behind `nameserver` (resolv.conf(5)).
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default().to_owned())
    };
    let answers = |address: &str| servers == Servers::All || address.parse().is_ok_and(is_reachable);
    let usable = |text: &&String| text.lines().filter_map(server).any(|address| answers(&address));
    let found = texts.iter().find(usable);
    let text = found.unwrap_or(&texts[0]);
    let mut out = String::new();
    if found.is_none() && text.lines().any(|line| server(line).is_some()) {
        out.push_str("# a container reaches none of the host's name servers: they are on loopback or have IPv6 addresses\n");
    }
    for line in text.lines().filter(|line| server(line).is_none_or(|address| answers(&address))) {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Whether a container may reach a name server: it has IPv4 only, and a loopback device of its own.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified(),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_loopback_give_way_to_those_beside_them() {
        let texts = ["nameserver 127.0.0.53\nsearch lan\n".to_owned(), "nameserver 192.0.2.53\n".to_owned()];
        assert_eq!(choose(&texts, Servers::Reachable), "nameserver 192.0.2.53\n");
        assert_eq!(choose(&texts, Servers::All), texts[0]);
        let mixed = ["nameserver ::1\nnameserver 192.0.2.1\n".to_owned(), String::new()];
        assert_eq!(choose(&mixed, Servers::Reachable), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn servers_that_a_container_cannot_reach_are_left_out() {
        let all = "nameserver fe80::1%eth0\nnameserver 2001:db8::1\n\tnameserver\t192.0.2.1 # ours\nnameserver ::ffff:127.0.0.1\nnameserver 0.0.0.0\n# caf\u{fffd}\noptions ndots:2\n";
        assert_eq!(
            choose(&[all.into(), String::new()], Servers::Reachable),
            "\tnameserver\t192.0.2.1 # ours\n# caf\u{fffd}\noptions ndots:2\n"
        );
        let none = choose(&["nameserver ::1\nsearch lan\n".into(), String::new()], Servers::Reachable);
        assert!(
            none.starts_with("# a container reaches none of the host's name servers") && none.ends_with("\nsearch lan\n"),
            "{none}"
        );
    }
}

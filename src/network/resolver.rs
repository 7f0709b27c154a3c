//! `/etc/resolv.conf` for containers with a network namespace of their own, and for those that use the host's.

use crate::model::{Error, Result};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Which name servers are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Servers<'a> {
    /// All of the host's.
    All,
    /// All except those on loopback, which only the host's own programs can reach.
    Reachable,
    /// These in place of the host's.
    Given(&'a [Ipv4Addr]),
}

/// The text of a `resolv.conf` with these name servers, and the host's other settings.
///
/// # Errors
/// Fails when one of the host's files exists but cannot be read.
pub fn resolver(servers: Servers) -> Result<String> {
    Ok(choose(&texts()?, servers))
}

/// Why a container reaches no name server of the host; `None` if it reaches one.
///
/// # Errors
/// Fails when one of the host's files exists but cannot be read.
pub fn out_of_reach() -> Result<Option<String>> {
    Ok(lacking(&texts()?))
}

/// The host's files.
fn texts() -> Result<[String; 2]> {
    // systemd-resolved listens on loopback and lists the real servers in a file of its own.
    let read = |path: &str| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::caused(format!("cannot read {path}"), error)),
    };
    Ok([read("/etc/resolv.conf")?, read("/run/systemd/resolve/resolv.conf")?])
}

/// The address of a line that names a server. Glibc takes the word behind `nameserver` (resolv.conf(5)).
fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default())
}

fn choose(texts: &[String; 2], servers: Servers) -> String {
    let answers = |address: &str| match servers {
        Servers::All => true,
        Servers::Reachable => address.parse().is_ok_and(is_reachable),
        Servers::Given(_) => false,
    };
    let usable = |text: &&String| text.lines().filter_map(server).any(answers);
    let found = texts.iter().find(usable);
    let text = found.unwrap_or(&texts[0]);
    let mut out = String::new();
    match servers {
        Servers::Given(servers) => {
            for address in servers {
                let _ = writeln!(out, "nameserver {address}");
            }
        }
        _ if found.is_none() && text.lines().any(|line| server(line).is_some()) => {
            out.push_str("# a container reaches none of the host's name servers: they are on loopback or have IPv6 addresses\n");
        }
        _ => {}
    }
    for line in text.lines().filter(|line| server(line).is_none_or(answers)) {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn lacking(texts: &[String; 2]) -> Option<String> {
    let all = || texts.iter().flat_map(|text| text.lines()).filter_map(server).filter(|address| !address.is_empty());
    if all().any(|address| address.parse().is_ok_and(is_reachable)) {
        return None;
    }
    let mut shown: Vec<String> = Vec::new();
    for address in all() {
        let why = match address.split('%').next().unwrap_or_default().parse() {
            Ok(IpAddr::V4(_)) => "on the host's loopback",
            Ok(IpAddr::V6(address)) if address.is_loopback() => "on the host's loopback",
            Ok(IpAddr::V6(_)) => "IPv6, which containers do not have",
            Err(_) => "no address",
        };
        let one = format!("{address} is {why}");
        if !shown.contains(&one) {
            shown.push(one);
        }
    }
    Some(if shown.is_empty() { "the host's /etc/resolv.conf names none".into() } else { shown.join(", ") })
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
    fn a_host_whose_servers_no_container_reaches_is_told_why() {
        for (first, second, why) in [
            ("nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n", None),
            ("nameserver ::1\nnameserver 192.0.2.1\n", "", None),
            ("nameserver 127.0.0.1\nnameserver 127.0.0.1\n", "", Some("127.0.0.1 is on the host's loopback")),
            (
                "nameserver ::1\nnameserver fe80::1%eth0\n",
                "",
                Some("::1 is on the host's loopback, fe80::1%eth0 is IPv6, which containers do not have"),
            ),
            ("nameserver 0.0.0.0\nnameserver\n", "", Some("0.0.0.0 is on the host's loopback")),
            ("search lan\n", "", Some("the host's /etc/resolv.conf names none")),
            ("", "", Some("the host's /etc/resolv.conf names none")),
        ] {
            assert_eq!(lacking(&[first.to_owned(), second.to_owned()]).as_deref(), why, "{first}");
        }
    }

    #[test]
    fn servers_that_are_given_take_the_place_of_the_hosts() {
        let texts = ["nameserver 127.0.0.53\nsearch lan\noptions ndots:2\n".to_owned(), "nameserver 192.0.2.53\n".to_owned()];
        let given = [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)];
        let wanted = "nameserver 192.0.2.7\nnameserver 192.0.2.8\nsearch lan\noptions ndots:2\n";
        assert_eq!(choose(&texts, Servers::Given(&given)), wanted);
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

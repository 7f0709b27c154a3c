//! `/etc/resolv.conf` for containers with a network namespace of their own, and for those that use the host's.

use crate::model::{Error, Result};
use std::fmt::Write as _;
use std::fs;
use std::io;

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
    let local = |line: &&str| {
        servers == Servers::Reachable
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
}

//! Finds out which program uses a port, in order to name it in an error.

use crate::sys;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Describes the program that uses a port, or returns `None` if that cannot be found out.
pub fn port_owner(wanted: SocketAddrV4, udp: bool) -> Option<String> {
    let inodes: Vec<String> = tables(udp).iter().flat_map(|text| sockets(text, wanted)).collect();
    let processes = sys::names(Path::new("/proc")).unwrap_or_default();
    for process in processes.iter().filter_map(|name| name.parse::<i32>().ok()) {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let name = name.trim();
        let monitor = name == "stead-monitor";
        if inodes.is_empty() && !monitor {
            continue;
        }
        for (number, link) in descriptors(process) {
            let Some(inode) = link.to_string_lossy().strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned())
            else {
                continue;
            };
            // A socket that only holds a port is not in the kernel's tables, so the socket itself is asked.
            let holds = || {
                let bound = sys::borrow_descriptor(process, number).and_then(|fd| sys::bound_to(&fd));
                bound.is_ok_and(|(address, is_udp)| is_udp == udp && clash(*address.ip(), address.port(), wanted))
            };
            if inodes.contains(&inode) || monitor && holds() {
                return Some(told(process, name));
            }
        }
    }
    None
}

/// The IPv4 sockets of a process. This is how ports are taken over from an older monitor, which does not hand them out.
pub fn borrow_sockets(process: i32) -> Vec<OwnedFd> {
    let sockets = descriptors(process).into_iter().filter(|(_, link)| link.to_string_lossy().starts_with("socket:["));
    sockets
        .filter_map(|(number, _)| sys::borrow_descriptor(process, number).ok())
        .filter(|fd| sys::bound_to(fd).is_ok())
        .collect()
}

fn told(process: i32, name: &str) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    match words.get(2) {
        Some(title) if name == "stead-monitor" => {
            let folder = fs::read_link(format!("/proc/{process}/cwd")).unwrap_or_default();
            format!("the container {title} of stead, in {}", folder.display())
        }
        _ => format!("{name}, process {process}"),
    }
}

fn descriptors(process: i32) -> Vec<(i32, PathBuf)> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    // If the process has ended meanwhile, it holds nothing.
    let names = sys::names(&folder).unwrap_or_default();
    names.iter().filter_map(|name| Some((name.parse().ok()?, fs::read_link(folder.join(name)).ok()?))).collect()
}

fn tables(udp: bool) -> Vec<String> {
    let names = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    names.iter().filter_map(|name| fs::read_to_string(format!("/proc/net/{name}")).ok()).collect()
}

fn clash(address: Ipv4Addr, port: u16, wanted: SocketAddrV4) -> bool {
    port == wanted.port() && (address == *wanted.ip() || address.is_unspecified() || wanted.ip().is_unspecified())
}

/// The inodes of the sockets in a table of /proc/net (proc_net(5)) that conflict with the wanted address.
fn sockets(table: &str, wanted: SocketAddrV4) -> Vec<String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
        let (address, port) = row.get(1)?.split_once(':')?;
        // The last four bytes, in the host's byte order. For IPv6 they are those of a mapped or unspecified address.
        let number = u32::from_str_radix(address.get(address.len().checked_sub(8)?..)?, 16).ok()?;
        let address = Ipv4Addr::from(number.to_ne_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        clash(address, port, wanted).then(|| row.get(9).map(|inode| (*inode).to_owned()))?
    })
    .filter(|inode| inode != "0")
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!("IPv4 was asked for") };
        let owner = port_owner(address, false).unwrap();
        assert!(owner.ends_with(&format!("process {}", std::process::id())), "{owner}");
        let table = "sl local\n 0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n 1: 00000000000000000000000000000000:1F91 0:0 0A 0:0 0:0 0 0 0 78 1\n";
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(sockets(table, at(8080)), ["77"]);
        assert_eq!(sockets(table, at(8081)), ["78"]);
        assert!(sockets(table, SocketAddrV4::new([127, 0, 0, 2].into(), 8080)).is_empty());
    }
}

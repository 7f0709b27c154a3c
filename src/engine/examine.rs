//! Checks whether this host has what stead needs, and tells how to get what is missing.

use crate::debian::{Mirrors, Settings};
use crate::fetch::Origin;
use crate::network;
use crate::runtime;
use crate::store::Home;
use std::path::Path;

/// A finding: what was checked, whether it is in order, and what was found or what to do.
pub struct Finding {
    pub what: &'static str,
    pub well: bool,
    pub says: String,
}

/// Checks whether this host has what stead needs. Mirrors of packages are looked up as for a project in `folder`.
pub fn examine(home: &Home, folder: &Path) -> Vec<Finding> {
    let root = nix::unistd::geteuid().is_root();
    let host = runtime::host();
    let has =
        |name: &str| host.v1.iter().any(|(known, _)| known == name) || host.v2_controllers.iter().any(|known| known == name);
    let missing: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|name| !has(name)).collect();
    let layout = match (host.v1.is_empty(), host.v2.is_some()) {
        (true, true) => "version 2",
        (false, true) => "hybrid: version 1 controllers, version 2 for killing",
        (false, false) => "version 1",
        (true, false) => "none mounted",
    };
    let file_systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay = file_systems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay")
        || Path::new("/sys/module/overlay").exists();
    let nftables = network::generation();
    let servers = network::out_of_reach();
    let mirror = Mirrors::find("bookworm", None, &[], &Settings::for_folder(folder));
    vec![
        Finding {
            what: "user",
            well: root,
            says: if root {
                "root".into()
            } else {
                "an ordinary user: containers need root for now, so type `sudo stead …`".into()
            },
        },
        Finding {
            what: "overlay",
            well: overlay,
            says: if overlay { "the kernel has overlayfs".into() } else { "load the kernel module: modprobe overlay".into() },
        },
        Finding {
            what: "cgroups",
            well: missing.is_empty(),
            says: if missing.is_empty() {
                layout.into()
            } else {
                format!("{layout}; no {} controller: limits of that kind are refused", missing.join(", "))
            },
        },
        Finding {
            what: "nftables",
            well: nftables.is_ok(),
            says: nftables
                .map_or_else(|error| format!("networks need it: {}", error.chain()), |_| "the kernel has nf_tables".into()),
        },
        Finding {
            what: "names",
            well: matches!(servers, Ok(None)),
            says: match servers {
                Ok(None) => "containers reach a name server of the host".into(),
                Ok(Some(why)) => format!(
                    "containers reach no name server: {why}; add `nameserver ADDRESS` to /etc/resolv.conf, or `dns` to each container"
                ),
                Err(error) => error.chain(),
            },
        },
        Finding {
            what: "packages",
            well: mirror.is_ok(),
            says: mirror.map_or_else(
                |error| error.advice().unwrap_or_default().to_owned(),
                |mirrors| format!("from {}", mirrors.places.iter().map(Origin::describe).collect::<Vec<_>>().join(", ")),
            ),
        },
        Finding { what: "store", well: true, says: home.store.display().to_string() },
    ]
}

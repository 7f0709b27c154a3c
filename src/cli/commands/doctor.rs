use super::super::Context;
use super::super::ui::{Style, Text};
use crate::debian::{Mirrors, Settings};
use crate::model::Result;
use crate::runtime;
use std::path::Path;

/// Looks whether this host has what stead needs, and says how to get what is missing.
///
/// Example: stead doctor
#[derive(clap::Args, Debug)]
pub struct Arguments {}

/// A finding: what was looked at, whether it is well, what was found or is to be done.
struct Finding {
    what: &'static str,
    well: bool,
    says: String,
}

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    let findings = findings(context);
    let mut text = Text::default();
    for finding in &findings {
        let mark = if finding.well {
            Style::Good.paint("ok     ", context.ui.color_out)
        } else {
            Style::Bad.paint("missing", context.ui.color_out)
        };
        text += mark + format!("  {:<12} {}\n", finding.what, finding.says);
    }
    context.ui.result(text);
    Ok(u8::from(findings.iter().any(|finding| !finding.well)))
}

fn findings(context: &Context) -> Vec<Finding> {
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
    let nftables = crate::network::generation();
    let mirrors = crate::project::Project {
        name: crate::model::Name::parse("doctor").unwrap_or_else(|_| unreachable!("a constant that follows the rule")),
        mirrors: Vec::new(),
        images: Default::default(),
        containers: Default::default(),
        networks: Default::default(),
        volumes: Default::default(),
        secrets: Default::default(),
        configs: Default::default(),
        variables: Default::default(),
    };
    let mirror = Mirrors::find("bookworm", None, &mirrors, &Settings::for_folder(&context.options.folder));
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
            what: "packages",
            well: mirror.is_ok(),
            says: mirror.map_or_else(
                |error| error.advice().unwrap_or_default().to_owned(),
                |mirrors| {
                    format!("from {}", mirrors.places.iter().map(crate::fetch::Origin::describe).collect::<Vec<_>>().join(", "))
                },
            ),
        },
        Finding { what: "store", well: true, says: context.options.home.store.display().to_string() },
    ]
}

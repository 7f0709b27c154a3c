//! What a container is trusted with beyond the defaults: told in the plan before anything is done.

use super::cause::Cause;
use super::desired::Desired;
use crate::model::{GitRepository, Name};
use crate::spec::{Add, AddSource, GitSource, MountSource, NetworkMode, Places, Project, Propagation, RunSource, Step};

/// What an image's commands reach beyond their sandbox while it is built, each with its place.
pub fn of_image(project: &Project, places: &Places, image: &Name) -> Vec<Cause> {
    let steps = project.images.get(image).map_or(&[][..], |image| image.steps.as_slice());
    let mut found = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let place = places.of(&format!("image.{image}.step{index}")).cloned();
        let mut say = |text: String| found.push(Cause { text, place: place.clone() });
        if let Step::Add(Add { source: AddSource::Git(GitSource { place: from @ GitRepository::Ssh { .. }, .. }), .. }) = step {
            say(format!("is fetched with your ssh keys: {from}"));
        }
        let Step::Run(run) = step else { continue };
        let text = run.words.join(" ");
        let line = text.lines().next().unwrap_or_default();
        let shown: String = line.chars().take(50).collect();
        let more = if shown.len() < text.len() { " …" } else { "" };
        if run.network {
            say(format!("reaches the network while it is built: {shown}{more}"));
        }
        if run.privileged {
            say(format!("is privileged while it is built, nothing masked and no filter: {shown}{more}"));
        }
        for mount in &run.mounts {
            let text = match &mount.source {
                RunSource::Ssh { .. } => "uses your ssh agent while it is built".to_owned(),
                RunSource::Secret { name, .. } => match project.secrets.get(name) {
                    Some(file) if file.starts_with('/') || file.split('/').any(|part| part == "..") => {
                        format!("reads {file} of the host while it is built")
                    }
                    _ => continue,
                },
                _ => continue,
            };
            say(text);
        }
    }
    found
}

/// Every widening of trust that the project file asks for, with its place.
pub fn widenings(places: &Places, wish: &Desired) -> Vec<Cause> {
    let spec = &wish.spec;
    let mut found = Vec::new();
    let mut say = |node: &str, text: String| {
        found.push(Cause { text, place: places.of(&format!("container.{}.{node}", wish.container)).cloned() });
    };
    let security = &spec.security;
    if security.privileged {
        say("security.privileged", "privileged: every capability and device, nothing masked, no system call filter".into());
    }
    for name in &security.add {
        say("security.capability", format!("capability {name}"));
    }
    match security.seccomp.as_deref() {
        Some("unconfined") => say("security.seccomp", "no system call filter".into()),
        Some(file) => say("security.seccomp", format!("its own system call filter, {file}")),
        None => {}
    }
    if spec.namespaces.network == NetworkMode::Host {
        say("namespace", "the host's network: every port and service of this machine".into());
    }
    if spec.namespaces.host_pid {
        say("namespace", "the host's processes".into());
    }
    if spec.namespaces.host_ipc {
        say("namespace", "the host's shared memory".into());
    }
    for mount in &spec.mounts {
        if let MountSource::Bind(path) = &mount.source {
            let how = if mount.read_only { "reads" } else { "writes" };
            let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
            if outside || !mount.read_only {
                say(&format!("mount.{}", mount.to), format!("{how} {path} of the host"));
            }
        }
        if mount.propagation == Propagation::Shared {
            say(&format!("mount.{}", mount.to), format!("its mounts below {} appear on the host", mount.to));
        }
    }
    for (device, _) in &spec.devices {
        say("device", format!("the device {device}"));
    }
    for port in wish.ports.iter().filter(|port| !port.address.is_loopback()) {
        let whom = if port.address.is_unspecified() { "every address".to_owned() } else { port.address.to_string() };
        say(&format!("publish.{}", port.port), format!("port {} on {whom}: other hosts reach it", port.port));
    }
    found
}

//! The desired state of each replica: the project's definition with addresses, ports and image filled in.

use super::address::{assign, attachments, instance_loopback};
use super::image::Image;
use super::image_volume::{self, uncovered, volume_of};
use super::observed::{IMAGE_VOLUME, NetworkRecord, Observed, Port, Seen};
use super::seed::Seed;
use crate::model::{Digest, Error, Name};
use crate::project::{
    Container, Health, Limits, Locations, Mount, MountSource, NodePath, Probe, Project, ReplicaId, is_command_line, is_one_off,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The desired state of a replica.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its full name, such as `web-1`.
    pub name: String,
    pub container: Name,
    pub replica: u32,
    pub image_name: Name,
    /// The image; absent while it is not built.
    pub image: Option<Image>,
    pub spec: Container,
    /// Where the image declares data and nothing is mounted: each path with the volume of this replica that is mounted there.
    pub kept: BTreeMap<String, Name>,
    /// The same of what runs once: what is there goes with the container.
    pub passing: BTreeSet<String>,
    /// What it is to fill, if it is a job for that.
    pub seed: Option<Seed>,
    /// The environment variables of the image, overridden by those of files, overridden by the container's own.
    pub env: BTreeMap<String, String>,
    pub networks: Vec<Attached>,
    pub ports: Vec<Port>,
    pub aspects: BTreeMap<String, String>,
    /// Whether it is a further replica, which serves only while others are replaced.
    pub stands_in: bool,
}

/// The attachment of a replica to a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    pub network: Name,
    pub record: NetworkRecord,
    pub address: Ipv4Addr,
    pub alias: Option<String>,
}

/// The desired state of all replicas of a project, by name, and of those that could stand in for them.
///
/// Addresses that cannot be assigned, ports that are taken and missing `env-file`s are added to the errors.
pub fn desired(
    project: &Project,
    places: &Locations,
    observed: &Observed,
    networks: &BTreeMap<Name, NetworkRecord>,
    images: &BTreeMap<Name, Image>,
    errors: &mut Vec<Error>,
) -> BTreeMap<String, Desired> {
    let addresses = addresses(project, places, observed, networks, errors);
    let mut all = BTreeMap::new();
    for (name, container) in &project.containers {
        let image_name = &container.image;
        let image = images.get(image_name);
        let ports = ports(name, container, project, places, observed, errors);
        let mut env = image.map(|image| image.config.env.clone()).unwrap_or_default();
        let mut file_env = BTreeMap::new();
        for file in &container.env_files {
            match observed.env_files.get(&file.path) {
                Some(variables) => file_env.extend(variables.clone()),
                None if !file.required => {}
                None => {
                    let why = format!("the env-file \"{}\" is not there", file.path);
                    let place = places.of(&NodePath::container(name).named("env-file", &file.path));
                    errors.push(Error::new(why).hint("make the file, or write required=#false").at(place));
                }
            }
        }
        env.extend(file_env.clone());
        env.extend(container.env.clone());
        // Whether an entrypoint takes it as an argument is known only now, if the image is from elsewhere.
        let bare = container.entrypoint.is_none() && image.is_some_and(|image| image.config.entrypoint.is_empty());
        let program = container.cmd.as_ref().and_then(|words| words.first()).filter(|word| bare && is_command_line(word));
        if let Some(program) = program {
            let why = format!("container {name}: `cmd` begins with the name of a program, and \"{program}\" is a whole command");
            let words = program.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
            let place = places.of(&NodePath::container(name).node("cmd"));
            errors.push(Error::new(why).hint(format!("write cmd {words}; or cmd \"sh\" \"-c\" \"…\"")).at(place));
        }
        let data = uncovered(project, images, container);
        // Nobody expects a job, or a command of a moment, to keep anything.
        let keeps = container.job.is_none() && !is_one_off(name.as_str());
        if keeps && container.stand_ins() > 0 && !data.is_empty() {
            errors.push(no_stand_in(name, &data, places));
        }
        for replica in ReplicaId::all(name, container.replicas).chain(stand_ins(project, observed, name)) {
            let full = replica.to_string();
            let attached: Vec<Attached> = attachments(container)
                .into_iter()
                .filter_map(|attachment| {
                    let record = networks.get(&attachment.network)?.clone();
                    let address = *addresses.get(&attachment.network)?.get(&full)?;
                    Some(Attached { network: attachment.network, record, address, alias: attachment.alias })
                })
                .collect();
            let stands_in = replica.index > container.replicas;
            // A network without room for it has been left out.
            if stands_in && attached.len() < attachments(container).len() {
                continue;
            }
            let mut one = Desired {
                name: full.clone(),
                container: name.clone(),
                replica: replica.index,
                image_name: image_name.clone(),
                image: image.cloned(),
                spec: container.clone(),
                kept: BTreeMap::new(),
                seed: None,
                passing: BTreeSet::new(),
                env: env.clone(),
                networks: attached,
                ports: ports.clone(),
                aspects: BTreeMap::new(),
                stands_in,
            };
            if keeps {
                one.keep(&data);
                let taken = one.kept.iter().filter(|(_, volume)| project.volumes.contains_key(*volume));
                errors.extend(taken.map(|(path, volume)| image_volume::taken(volume, &full, path, places)));
            } else {
                one.passing.clone_from(&data);
            }
            one.aspects = aspects(&one, project, observed, images, &file_env);
            all.insert(full, one);
        }
    }
    all
}

fn addresses(
    project: &Project,
    places: &Locations,
    observed: &Observed,
    networks: &BTreeMap<Name, NetworkRecord>,
    errors: &mut Vec<Error>,
) -> BTreeMap<Name, BTreeMap<String, Ipv4Addr>> {
    /// The replicas of a network, each with the address that the project file gives it.
    #[derive(Default)]
    struct Wishes {
        replicas: Vec<(String, Option<Ipv4Addr>)>,
        stand_ins: Vec<(String, Option<Ipv4Addr>)>,
    }
    let mut wishes: BTreeMap<Name, Wishes> = BTreeMap::new();
    for (name, container) in &project.containers {
        for attachment in attachments(container) {
            let found = wishes.entry(attachment.network).or_default();
            found
                .replicas
                .extend(ReplicaId::all(name, container.replicas).map(|replica| (replica.to_string(), attachment.address)));
            found.stand_ins.extend(stand_ins(project, observed, name).into_iter().map(|replica| (replica.to_string(), None)));
        }
    }
    let mut assigned = BTreeMap::new();
    for (network, Wishes { mut replicas, stand_ins }) in wishes {
        let Some(record) = networks.get(&network) else { continue };
        let mut given = assign(&network, record, &replicas, observed, places, errors);
        if !stand_ins.is_empty() {
            // They get what the others leave; that a network has no room for them is no error.
            replicas.extend(stand_ins);
            given.extend(assign(&network, record, &replicas, observed, places, &mut Vec::new()));
        }
        assigned.insert(network, given);
    }
    assigned
}

/// The further replicas that can serve while a container's others are replaced: those on record, which may have served before,
/// and as many new ones as it needs.
fn stand_ins(project: &Project, observed: &Observed, name: &Name) -> Vec<ReplicaId> {
    let Some(container) = project.containers.get(name) else { return Vec::new() };
    let most = container.stand_ins();
    if most == 0 {
        return Vec::new();
    }
    let prefix = format!("{name}-");
    let recorded = observed.record.containers.range(prefix.clone()..).take_while(|(full, _)| full.starts_with(&prefix));
    let recorded: BTreeSet<u32> = recorded.filter(|(_, one)| one.container == *name).map(|(_, one)| one.replica).collect();
    let replica = |index| ReplicaId { container: name.clone(), index };
    // The name of a replica may be that of another container.
    let is_free =
        |index: &u32| !recorded.contains(index) && !project.containers.contains_key(replica(*index).to_string().as_str());
    let new = (container.replicas + 1..).filter(is_free).take(usize::try_from(most).unwrap_or(usize::MAX));
    recorded.range(container.replicas + 1..).copied().chain(new).map(replica).collect()
}

/// The error for a container that is replaced start-first and whose image declares data. A volume of a replica must not be used by
/// two, and what a further one writes into a volume of its own would be lost when that one ends, or be found by nobody.
fn no_stand_in(name: &Name, data: &BTreeSet<String>, places: &Locations) -> Error {
    let paths = data.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let why = format!(
        "container {name}: \"start-first\" needs a further replica, and what that would write to {paths}, which the image declares \
         as data, would be lost when it ends"
    );
    let advice = "mount a volume of the project there, which all replicas share, or a tmpfs, or write order \"stop-first\"";
    Error::new(why).hint(advice).at(places.of(&NodePath::container(name).node("update")))
}

/// The published ports; a port that another instance of the same project has is moved to this instance's
/// own loopback address.
fn ports(
    name: &Name,
    container: &Container,
    project: &Project,
    places: &Locations,
    observed: &Observed,
    errors: &mut Vec<Error>,
) -> Vec<Port> {
    let mut found = Vec::new();
    for publish in &container.publish {
        let span = publish.host.1 - publish.host.0;
        let taken = |address: Ipv4Addr| {
            (0..=span).find_map(|offset| {
                let port = publish.host.0 + offset;
                observed.taken.ports.iter().find(|taken| {
                    taken.port == port
                        && taken.protocol == publish.protocol
                        && (taken.address == address || taken.address.is_unspecified() || address.is_unspecified())
                })
            })
        };
        let mut address = publish.address;
        let own = instance_loopback(&observed.instance);
        // A port that was moved before stays there while the container runs, even if the first choice has become free.
        let moved = |replica: ReplicaId| {
            let full = replica.to_string();
            let runs = observed.containers.get(&full) == Some(&Seen::Running);
            runs && observed.record.containers.get(&full).is_some_and(|known| {
                let mut same = known.ports.iter().filter(|port| port.protocol == publish.protocol);
                same.any(|port| port.port == publish.host.0 && port.address == own)
            })
        };
        if address == Ipv4Addr::LOCALHOST && ReplicaId::all(name, container.replicas).any(moved) && taken(own).is_none() {
            address = own;
        }
        if let Some(other) = taken(address) {
            if other.project == project.name.as_str() && address == Ipv4Addr::LOCALHOST && taken(own).is_none() {
                address = own;
            } else {
                let why =
                    format!("port {} of {address} is taken by the project \"{}\" in {}", other.port, other.project, other.folder);
                let advice = "publish another port, or give it another `address=` of loopback, such as \"127.0.0.2\"";
                let place = places.of(&NodePath::container(name).named("publish", publish.host.0));
                errors.push(Error::new(why).hint(advice).at(place));
            }
        }
        found.extend((0..=span).map(|offset| Port {
            address,
            port: publish.host.0 + offset,
            protocol: publish.protocol,
            to: publish.to.0 + offset,
        }));
    }
    found
}

impl Desired {
    /// Mounts a volume of its own at each path that its image declares as data.
    fn keep(&mut self, data: &BTreeSet<String>) {
        self.kept = data.iter().map(|path| (path.clone(), volume_of(&self.name, path))).collect();
        self.spec.mounts.extend(self.kept.iter().map(|(path, volume)| Mount::of_volume(volume.clone(), path)));
    }

    /// Its health check: its own, or else the image's.
    pub fn health(&self) -> Option<&Health> {
        let image = self.image.as_ref().and_then(|image| image.config.health.as_ref());
        self.spec.healthcheck.as_ref().or(image).filter(|health| health.probe != Probe::None)
    }

    /// Whether it is a job.
    pub fn is_job(&self) -> bool {
        self.spec.job.is_some()
    }

    /// The volumes that it mounts.
    pub fn volumes(&self) -> impl Iterator<Item = &Name> {
        self.spec.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Bind(_) | MountSource::Image(_) => None,
        })
    }

    /// The port that the health check requests a page from.
    pub fn web(&self) -> Option<u16> {
        self.health().and_then(|health| if let Probe::Http { port, .. } = health.probe { Some(port) } else { None })
    }
}

/// How many inputs of a job are kept one by one, so that a cause can name those that changed.
const NAMED: usize = 500;

/// The inputs of a job as an aspect: a table of files, or only its digest if it is long.
fn inputs(files: Option<&BTreeMap<String, String>>) -> serde_json::Value {
    match files {
        Some(files) if files.len() > NAMED => Digest::of_json(files).short(16).into(),
        Some(files) => serde_json::to_value(files).unwrap_or_default(),
        None => serde_json::Value::Null,
    }
}

/// The path of the aspect that tells which volume of this name a job has mounted.
pub fn volume_aspect(volume: &Name) -> String {
    format!("volume.{volume}")
}

/// Everything whose change requires a new or adjusted container, by the path of its node.
fn aspects(
    one: &Desired,
    project: &Project,
    observed: &Observed,
    images: &BTreeMap<Name, Image>,
    file_env: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    // There is no `..` here on purpose: each new field needs a decision what its change means for running containers.
    let Container {
        // The image's digest is used instead.
        image: _,
        cmd,
        entrypoint,
        env,
        // The contents of the files are used instead.
        env_files: _,
        workdir,
        user,
        groups,
        hostname,
        // Each replica is a container of its own.
        replicas: _,
        // It only says how they are replaced.
        update: _,
        // The planned subnets, addresses and ports are used instead.
        networks: _,
        publish: _,
        mounts,
        tmpfs,
        secrets,
        configs,
        // It only affects the order of starts.
        depends_on: _,
        healthcheck,
        restart,
        restart_unhealthy,
        limits,
        shm,
        security,
        devices,
        sysctls,
        stop_signal,
        stop_grace,
        init,
        tty,
        log,
        dns,
        extra_hosts,
        labels,
        namespaces,
        on_start,
        on_stop,
        // It only says what `watch` does.
        watch: _,
        // What its inputs and volumes are is used instead; its timeout changes no result.
        job,
    } = &one.spec;
    let mut all = BTreeMap::new();
    let mut put = |key: String, value: serde_json::Value| {
        let empty = match &value {
            serde_json::Value::Null => true,
            serde_json::Value::Array(list) => list.is_empty(),
            serde_json::Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !empty {
            all.insert(key, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    };
    let json = |value: &dyn erased::Json| value.json();
    if let Some(image) = &one.image {
        put("image".into(), json(&image.digest.to_string()));
    }
    for (key, value) in [
        ("cmd", json(cmd)),
        ("entrypoint", json(entrypoint)),
        ("workdir", json(workdir)),
        ("user", json(user)),
        ("group-add", json(groups)),
        ("hostname", json(hostname)),
        ("healthcheck", json(healthcheck)),
        ("restart", json(restart)),
        ("restart.unhealthy", json(&restart_unhealthy.then_some(true))),
        ("sysctl", json(sysctls)),
        ("stop-signal", json(stop_signal)),
        ("stop-grace", json(stop_grace)),
        ("init", json(init)),
        ("tty", json(tty)),
        ("dns", json(dns)),
        ("extra-host", json(extra_hosts)),
        ("label", json(labels)),
        ("namespace", json(namespaces)),
        ("on", json(&(on_start, on_stop))),
        ("publish", json(&one.ports)),
        ("tmpfs", json(tmpfs)),
    ] {
        put(key.into(), value);
    }
    let led = |paths: Vec<&str>| -> Vec<std::path::PathBuf> {
        paths.into_iter().map(|path| observed.lead(path)).filter(|lead| !lead.plain).map(|lead| lead.path).collect()
    };
    let with_leads = |value: serde_json::Value, paths: Vec<&str>| match led(paths) {
        leads if leads.is_empty() => value,
        leads => json(&(value, leads)),
    };
    put("device".into(), with_leads(json(devices), devices.iter().map(|(device, _)| device.as_str()).collect()));
    put("log".into(), with_leads(json(log), log.driver.iter().filter_map(|driver| driver.path()).collect()));
    let Limits { cpus, cpu_weight, cpuset, memory, memory_reservation, swap, pids, io, hugepages, ulimits, oom_score, log: room } =
        limits;
    let size = |size: Option<crate::model::Size>| json(&size.map(|size| size.to_string()));
    for (key, value) in [
        ("cpus", json(&cpus.map(|cpus| cpus.to_string()))),
        ("cpu-weight", json(cpu_weight)),
        ("cpuset", json(cpuset)),
        ("memory", size(*memory)),
        ("memory-reservation", size(*memory_reservation)),
        ("swap", size(*swap)),
        ("pids", json(pids)),
        ("io", json(io)),
        ("hugepages", json(hugepages)),
        ("ulimit", json(ulimits)),
        ("oom-score", json(oom_score)),
        // This version of the identity leaves out the default size.
        ("shm", size(Some(*shm).filter(|shm| *shm != crate::model::Size::mib(64)))),
        ("log", size(*room)),
    ] {
        put(format!("limits.{key}"), value);
    }
    if *security != crate::project::Security::default() {
        let profile = security.seccomp.as_ref().and_then(|file| observed.profiles.get(file));
        put("security".into(), json(&(security, profile)));
    }
    for (name, value) in env {
        put(format!("env.{name}"), json(value));
    }
    for (name, value) in file_env {
        put(format!("env-file.{name}"), json(value));
    }
    for mount in mounts {
        let image = match &mount.source {
            crate::project::MountSource::Image(name) => images.get(name).map(|image| image.digest),
            _ => None,
        };
        // If a symbolic link leads elsewhere now, it is a different mount.
        let lead = match &mount.source {
            crate::project::MountSource::Bind(path) => Some(observed.lead(path)).filter(|lead| !lead.plain),
            _ => None,
        };
        let value = match lead {
            Some(lead) => json(&(mount, image, lead.path)),
            None => json(&(mount, image)),
        };
        let kind = if one.kept.contains_key(&mount.to) { IMAGE_VOLUME } else { "mount." };
        put(format!("{kind}{}", mount.to), value);
    }
    if job.is_some() {
        put("inputs".into(), inputs(observed.inputs.get(&one.container)));
        for volume in one.volumes() {
            put(volume_aspect(volume), json(&observed.births.get(volume)));
        }
    }
    for attached in &one.networks {
        put(format!("network.{}", attached.network), json(&(&attached.record, attached.address)));
    }
    for (kind, uses) in [("secret", secrets), ("config", configs)] {
        for used in uses {
            let declared = if kind == "secret" {
                project.secrets.contains_key(&used.name)
            } else {
                project.configs.contains_key(&used.name)
            };
            let content =
                observed.contents.get(&used.name).filter(|_| declared).map(|digest| fingerprint(digest, &observed.instance));
            put(format!("{kind}.{}", used.name), json(&(used, content)));
        }
    }
    all
}

/// A value that changes with a content but reveals nothing about it: it is short, and bound to the instance.
fn fingerprint(digest: &Digest, instance: &str) -> String {
    Digest::of(format!("{instance}/{digest}")).short(16)
}

mod erased {
    //! Turns any part into JSON, so that parts of different types fit into one table.
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).unwrap_or_default()
        }
    }
}

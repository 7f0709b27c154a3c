//! Checks that span several nodes: names that must exist, cycles, clashes, unused images.

use super::diagnose::{Diagnostic, Sink};
use crate::model::kdl_text::quoted;
use crate::model::{Location, Name, nearest};
use crate::project::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

pub fn check(project: &Project, places: &Locations, unused_profiles: &bool, sink: &mut Sink) {
    let mut cross = Cross { project, places, sink };
    cross.names();
    cross.cycles("image", "images", &project.images.iter().map(|(name, image)| (name, image.needs().collect())).collect());
    let containers = project.containers.iter().map(|(name, container)| (name, container.depends_on.keys().collect())).collect();
    cross.cycles("container", "`depends-on`", &containers);
    cross.ports();
    cross.replicas();
    cross.updates();
    cross.syncs();
    cross.dependencies();
    cross.subnets();
    cross.sysctls();
    cross.commands();
    cross.tasks();
    cross.seeds();
    if !unused_profiles && !project.containers.is_empty() {
        cross.unused();
    }
}

struct Cross<'a> {
    project: &'a Project,
    places: &'a Locations,
    sink: &'a mut Sink,
}

impl Cross<'_> {
    fn place(&self, path: &NodePath) -> Location {
        self.places.of(path).cloned().unwrap_or(Location { file: String::new(), line: 1, offset: 0, length: 0 })
    }

    fn missing(&mut self, path: &NodePath, kind: &'static str, name: &Name, known: impl Iterator<Item = Name>) {
        // It is declared, but its declaration is wrong, which has been reported.
        if self.places.exactly(&NodePath::declared(kind, name)).is_some() {
            return;
        }
        let known: Vec<Name> = known.collect();
        let near = nearest(name.as_str(), known.iter().map(Name::as_str));
        let needs = match kind {
            "secret" => " file=\"…\"",
            "config" => " { content \"…\" }",
            _ => "",
        };
        let help = near.map_or_else(|| format!("declare it: {kind} \"{name}\"{needs}"), |near| format!("write \"{near}\""));
        let message = format!("there is no {kind} \"{name}\"");
        self.sink.push(Diagnostic::error("unknown-name", self.place(path), message).help(help));
    }

    /// Reports a whole command in the place of a program's name, where no entrypoint can take it as an argument.
    fn commands(&mut self) {
        let project = self.project;
        for (name, container) in &project.containers {
            let own = container.entrypoint.as_deref().filter(|words| !words.is_empty());
            let (node, words) = match (own, &container.cmd) {
                (Some(words), _) => ("entrypoint", words),
                (None, Some(words)) if self.has_no_entrypoint(&container.image, container.entrypoint.is_some()) => {
                    ("cmd", &**words)
                }
                _ => continue,
            };
            self.program(&NodePath::container(name), node, words);
        }
    }

    /// Reports words that should begin with the name of a program, and begin with a whole command.
    fn program(&mut self, of: &NodePath, node: &'static str, words: &[String]) {
        if let Some(program) = words.first().filter(|program| is_command_line(program)) {
            let place = self.place(&of.clone().node(node));
            let message = format!("`{node}` begins with the name of a program, and this is a whole command");
            let parts: Vec<String> = program.split_whitespace().map(quoted).collect();
            let help = format!("write {node} {}; or {node} \"sh\" \"-c\" {}", parts.join(" "), quoted(program));
            self.sink.push(Diagnostic::error("command-line", place, message).help(help));
        }
    }

    /// Checks that each task has a container, a name of its own, and a program to run.
    fn tasks(&mut self) {
        let project = self.project;
        for (name, task) in &project.tasks {
            let path = NodePath::declared("task", name);
            match project.containers.get(&task.container) {
                None => {
                    self.missing(
                        &path.clone().node("container"),
                        "container",
                        &task.container,
                        project.containers.keys().cloned(),
                    );
                }
                Some(container)
                    if container.entrypoint.as_ref().is_none_or(Vec::is_empty)
                        && self.has_no_entrypoint(&container.image, container.entrypoint.is_some()) =>
                {
                    self.program(&path, "cmd", &task.cmd);
                }
                Some(_) => {}
            }
            // What `stead run` would run must be clear.
            let is_job = project.containers.get(name).is_some_and(|container| container.job.is_some());
            for kind in [if is_job { "job" } else { "container" }, "image"] {
                if let Some(first) = self.places.exactly(&NodePath::declared(kind, name)) {
                    let message =
                        format!("the task \"{name}\" has the name of a{} {kind}", if kind == "image" { "n" } else { "" });
                    let diagnostic = Diagnostic::error("duplicate", self.place(&path), message)
                        .other(first.clone(), "that one")
                        .help(format!("give the task another name: `stead run {name}` could mean both"));
                    self.sink.push(diagnostic);
                }
            }
        }
    }

    /// Checks that the job that fills a volume can do that, and does it before anything else uses the volume.
    fn seeds(&mut self) {
        let project = self.project;
        let mut first: BTreeMap<&Name, &Name> = BTreeMap::new();
        for (volume, job) in project.volumes.iter().filter_map(|(volume, declared)| Some((volume, declared.seed.as_ref()?))) {
            let path = NodePath::volume(volume).node("seed");
            let Some(container) = project.containers.get(job) else {
                let jobs = project.containers.iter().filter(|(_, container)| container.job.is_some());
                self.missing(&path, "job", job, jobs.map(|(name, _)| name.clone()));
                continue;
            };
            let mut say = |message: String, help: String| {
                let diagnostic = Diagnostic::error("seed", self.place(&path), message);
                let other = self.place(&NodePath::container(job));
                self.sink.push(diagnostic.other(other, "that one").help(help));
            };
            if container.job.is_none() {
                say(format!("\"{job}\" is a container, and never done"), "a volume is filled by a `job`".to_owned());
                continue;
            }
            let mut mounts = container.mounts.iter().filter(|mount| mount.source == MountSource::Volume(volume.clone()));
            if !mounts.any(|mount| !mount.read_only) {
                let help = format!("mount it there: mount volume=\"{volume}\" to=\"/…\"");
                say(format!("the job \"{job}\" cannot write into the volume \"{volume}\", which it is to fill"), help);
            }
            if let Some(other) = first.insert(job, volume) {
                let help = "let another job fill one of them";
                say(format!("the job \"{job}\" fills the volume \"{other}\" already"), help.to_owned());
            }
            let needed = project.needed_by(job);
            let user = |name: &&Name| project.containers.get(*name).is_some_and(|one| one.mounts_volume(volume));
            if let Some(user) = needed.iter().filter(|name| *name != job).find(user) {
                let message =
                    format!("the job \"{job}\" waits for \"{user}\", which uses the volume \"{volume}\" before it is filled");
                say(message, "let the job itself start what it needs to fill the volume".to_owned());
            }
        }
    }

    /// Whether an image surely has no entrypoint: the project says everything about it.
    fn has_no_entrypoint(&self, name: &Name, cleared: bool) -> bool {
        let mut name = name;
        for _ in 0..self.project.images.len() {
            let Some(image) = self.project.images.get(name) else { return false };
            match (&image.entrypoint, &image.from) {
                _ if cleared => return true,
                (Some(words), _) => return words.is_empty(),
                (None, Base::Image(base)) => name = base,
                (None, base) => return *base == Base::Scratch,
            }
        }
        cleared
    }

    /// Checks that kernel settings belong to a namespace that the container has for itself.
    fn sysctls(&mut self) {
        for (name, container) in &self.project.containers {
            for setting in container.sysctls.keys() {
                let spaces = &container.namespaces;
                if is_namespaced(setting, spaces.network != NetworkMode::Host, !spaces.host_ipc) {
                    continue;
                }
                let place = self.place(&NodePath::container(name).node("sysctl"));
                let message = format!("the setting {setting} is the host's, not the container's");
                let help = "a container has net.*, fs.mqueue.*, kernel.msg*, kernel.sem* and kernel.shm* of its own, unless it \
                            uses the host's namespaces";
                self.sink.push(Diagnostic::error("host-setting", place, message).help(help));
            }
        }
    }

    /// Checks that the images and secrets that a step uses exist in the project.
    fn used_by(&mut self, step: &Step, path: &NodePath) {
        let project = self.project;
        let images: Vec<&Name> = match step {
            Step::Copy(copy) => copy.from.iter().collect(),
            Step::Run(run) => run.mounts.iter().filter_map(RunMount::image).collect(),
            _ => return,
        };
        for image in images.into_iter().filter(|image| !project.images.contains_key(*image)) {
            self.missing(path, "image", image, project.images.keys().cloned());
        }
        let Step::Run(run) = step else { return };
        for mount in &run.mounts {
            if let RunSource::Secret { name, required: true, .. } = &mount.source
                && !project.secrets.contains_key(name)
            {
                self.missing(path, "secret", name, project.secrets.keys().cloned());
            }
        }
    }

    fn names(&mut self) {
        let project = self.project;
        for (name, image) in &project.images {
            if let Base::Image(base) = &image.from
                && !project.images.contains_key(base)
            {
                self.missing(&NodePath::image(name).node("from"), "image", base, project.images.keys().cloned());
            }
            for (index, step) in image.steps.iter().enumerate() {
                self.used_by(step, &NodePath::image(name).step(index));
            }
        }
        for (name, container) in &project.containers {
            let path = NodePath::container(name);
            for attachment in &container.networks {
                let network = &attachment.network;
                if !project.networks.contains_key(network) && network.as_str() != "default" {
                    self.missing(&path.clone().named("network", network), "network", network, project.networks.keys().cloned());
                }
            }
            for mount in &container.mounts {
                let place = path.clone().named("mount", &mount.to);
                match &mount.source {
                    MountSource::Volume(volume) if !project.volumes.contains_key(volume) => {
                        self.missing(&place, "volume", volume, project.volumes.keys().cloned());
                    }
                    MountSource::Image(image) if !project.images.contains_key(image) => {
                        self.missing(&place, "image", image, project.images.keys().cloned());
                    }
                    _ => {}
                }
            }
            for used in container.secrets.iter().filter(|used| !project.secrets.contains_key(&used.name)) {
                self.missing(&path.clone().named("secret", &used.name), "secret", &used.name, project.secrets.keys().cloned());
            }
            for used in container.configs.iter().filter(|used| !project.configs.contains_key(&used.name)) {
                self.missing(&path.clone().named("config", &used.name), "config", &used.name, project.configs.keys().cloned());
            }
            for needed in container.depends_on.keys() {
                if !project.containers.contains_key(needed) {
                    self.missing(
                        &path.clone().named("depends-on", needed),
                        "container",
                        needed,
                        project.containers.keys().filter(|other| *other != name).cloned(),
                    );
                }
            }
            self.targets(&path, container);
        }
    }

    /// Reports two things at the same path of a container.
    fn targets(&mut self, path: &NodePath, container: &Container) {
        let mounts = container.mounts.iter().map(|mount| (mount.to.as_str(), path.clone().named("mount", &mount.to)));
        let tmpfs = container.tmpfs.iter().map(|tmpfs| (tmpfs.path.as_str(), path.clone().named("tmpfs", &tmpfs.path)));
        let secrets = container.secrets.iter().map(|used| (used.to.as_str(), path.clone().named("secret", &used.name)));
        let configs = container.configs.iter().map(|used| (used.to.as_str(), path.clone().named("config", &used.name)));
        let mut seen: BTreeMap<&str, NodePath> = BTreeMap::new();
        for (to, key) in mounts.chain(tmpfs).chain(secrets).chain(configs) {
            let to = if to == "/" { to } else { to.trim_end_matches('/') };
            if let Some(first) = seen.insert(to, key.clone()) {
                let diagnostic = Diagnostic::error("duplicate", self.place(&key), format!("two things at {to}"));
                self.sink.push(diagnostic.other(self.place(&first), "first here"));
            }
        }
    }

    /// Reports each cycle once, at its first member.
    fn cycles(&mut self, kind: &'static str, what: &str, edges: &BTreeMap<&Name, BTreeSet<&Name>>) {
        let mut done: BTreeSet<&Name> = BTreeSet::new();
        for start in edges.keys() {
            let mut trail: Vec<&Name> = Vec::new();
            if let Some(cycle) = walk(start, edges, &mut trail, &mut done) {
                let text = cycle.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" → ");
                let second = cycle.get(1).copied().unwrap_or(start);
                let key = if kind == "container" {
                    NodePath::container(cycle[0]).named("depends-on", second)
                } else {
                    NodePath::declared(kind, cycle[0]).node("from")
                };
                let diagnostic = Diagnostic::error("cycle", self.place(&key), format!("a cycle of {what}: {text}"));
                self.sink.push(diagnostic.help("remove one of these"));
            }
        }
    }

    fn ports(&mut self) {
        struct Taken<'a> {
            container: &'a Name,
            publish: &'a Publish,
        }
        let project = self.project;
        let mut taken: Vec<Taken> = Vec::new();
        for (container, spec) in &project.containers {
            for publish in &spec.publish {
                let clash = taken.iter().find(|other| {
                    let same_address = other.publish.address == publish.address
                        || other.publish.address == Ipv4Addr::UNSPECIFIED
                        || publish.address == Ipv4Addr::UNSPECIFIED;
                    let overlap = other.publish.host.0 <= publish.host.1 && publish.host.0 <= other.publish.host.1;
                    same_address && overlap && other.publish.protocol == publish.protocol
                });
                if let Some(other) = clash {
                    let key = |name: &Name, publish: &Publish| {
                        let range = format!("{}-{}", publish.host.0, publish.host.1);
                        let port = if publish.host.0 == publish.host.1 { publish.host.0.to_string() } else { range };
                        NodePath::container(name).named("publish", port)
                    };
                    let message = format!("port {} is published twice", publish.host.0.max(other.publish.host.0));
                    let diagnostic = Diagnostic::error("port-clash", self.place(&key(container, publish)), message)
                        .other(self.place(&key(other.container, other.publish)), "first here")
                        .help("give one of them another port");
                    self.sink.push(diagnostic);
                }
                taken.push(Taken { container, publish });
            }
            if !spec.publish.is_empty() && spec.namespaces.network != NetworkMode::Own {
                let message = "a container without a network of its own cannot publish ports";
                let diagnostic =
                    Diagnostic::error("publish", self.place(&NodePath::container(container).node("publish")), message);
                self.sink.push(diagnostic.help("with network=\"host\" its ports are the host's already; take `publish` out"));
            }
        }
    }

    fn replicas(&mut self) {
        let project = self.project;
        if let Some((name, other, number)) = project.replica_clash() {
            let message = format!("\"{name}\" is the name of replica {number} of the container \"{other}\"");
            let place = self.place(&NodePath::container(name));
            let diagnostic =
                Diagnostic::error("replicas", place, message).other(self.place(&NodePath::container(other)), "that one");
            self.sink.push(diagnostic.help("give one of the two another name"));
        }
        if let Some(name) = project.containers.keys().find(|name| name.as_str() == "localhost") {
            let place = self.place(&NodePath::container(name));
            let message = "every container is \"localhost\" to itself".to_owned();
            self.sink.push(Diagnostic::error("replicas", place, message).help("give it another name"));
        }
        for name in project.containers.keys().filter(|name| is_one_off(name.as_str())) {
            let place = self.place(&NodePath::container(name));
            let message = format!("names such as \"{name}\" are reserved for `stead run`");
            self.sink.push(Diagnostic::error("replicas", place, message).help("give it another name"));
        }
        for (name, container) in project.containers.iter().filter(|(_, container)| container.replicas > 1) {
            for attachment in container.networks.iter().filter(|attachment| attachment.address.is_some()) {
                let key = NodePath::container(name).named("network", &attachment.network);
                let message = format!("{} replicas cannot share one address", container.replicas);
                self.sink
                    .push(Diagnostic::error("replicas", self.place(&key), message).help("take `address=` or `replicas` out"));
            }
        }
    }

    /// Reports containers that are to be replaced start-first, and of which there cannot be two at once.
    fn updates(&mut self) {
        for (name, container) in self.project.containers.iter().filter(|(_, container)| container.stand_ins() > 0) {
            let path = NodePath::container(name);
            let with_address = container.networks.iter().find(|attachment| attachment.address.is_some());
            if let Some(attachment) = with_address {
                let key = path.clone().named("network", &attachment.network);
                self.cannot_start_first(&path, &key, "two replicas cannot have one address", "take `address=` out");
            } else if let Some(port) = self.port_on_host(container) {
                let why = format!("two replicas cannot listen to port {port} of the host's network");
                self.cannot_start_first(&path, &path.clone().node("namespace"), &why, "take `namespace` out");
            }
        }
    }

    /// Reports targets of syncs that cannot be written. It is no error: the container comes up, and its other rules apply.
    fn syncs(&mut self) {
        for (name, container) in &self.project.with_image_volumes().containers {
            for rule in container.watch.iter().flat_map(|watch| &watch.rules) {
                let Some((why, help)) = rule.to.as_ref().and_then(|to| no_sync(name, container, Path::new(to))) else { continue };
                let place = self.place(&NodePath::container(name).node("watch").named(rule.word(), &rule.path));
                self.sink.push(Diagnostic::warning("no-sync", place, why).help(help));
            }
        }
    }

    fn cannot_start_first(&mut self, path: &NodePath, other: &NodePath, why: &str, help: &str) {
        let message = format!("\"start-first\" needs two replicas at once, and {why}");
        let diagnostic = Diagnostic::error("update", self.place(&path.clone().node("update")), message)
            .other(self.place(other), "because of this")
            .help(format!("{help}, or write order \"stop-first\""));
        self.sink.push(diagnostic);
    }

    /// A port that a container surely has on the host's network.
    fn port_on_host(&self, container: &Container) -> Option<u16> {
        if container.namespaces.network != NetworkMode::Host {
            return None;
        }
        let image = || self.project.images.get(&container.image);
        let health = container.healthcheck.as_ref().or_else(|| image()?.healthcheck.as_ref());
        match health.map(|health| &health.probe) {
            Some(Probe::Http { port, .. } | Probe::Tcp(port)) => Some(*port),
            _ => None,
        }
    }

    /// Reports dependencies that can never be fulfilled.
    fn dependencies(&mut self) {
        let project = self.project;
        for (name, container) in &project.containers {
            for (needed, until) in &container.depends_on {
                let Some(target) = project.containers.get(needed) else { continue };
                if target.job.is_some() {
                    self.of_job(name, needed, *until);
                    continue;
                }
                let image_has = image_health(project, &target.image);
                let has = target.healthcheck.as_ref().map_or(image_has, |health| health.probe != Probe::None);
                if *until == Until::Healthy && !has {
                    let key = NodePath::container(name).named("depends-on", needed);
                    let message = format!("\"{needed}\" has no health check, so it never becomes healthy");
                    let diagnostic = Diagnostic::error("never-healthy", self.place(&key), message)
                        .other(self.place(&NodePath::container(needed)), "this container")
                        .help("give it a `healthcheck`, or write until=\"started\"");
                    self.sink.push(diagnostic);
                }
                let endless = matches!(target.restart, Restart::Always | Restart::UnlessStopped);
                if *until == Until::Completed && endless {
                    let key = NodePath::container(name).named("depends-on", needed);
                    let message = format!("\"{needed}\" is always restarted, so it never completes");
                    self.sink
                        .push(Diagnostic::error("never-completed", self.place(&key), message).help("write until=\"started\""));
                }
            }
        }
    }

    /// Reports a dependency on a job that waits for something else than its end.
    fn of_job(&mut self, name: &Name, needed: &Name, until: Until) {
        if until == Until::Completed {
            return;
        }
        let key = NodePath::container(name).named("depends-on", needed);
        let message = format!("\"{needed}\" is a job: what depends on it waits until it is done");
        let diagnostic = Diagnostic::error("until-of-job", self.place(&key), message)
            .other(self.place(&NodePath::container(needed)), "this job")
            .help("write until=\"done\", or leave `until` out");
        self.sink.push(diagnostic);
    }

    fn subnets(&mut self) {
        let given: Vec<_> = self.project.networks.iter().filter_map(|(name, network)| Some((name, network.subnet?))).collect();
        for (index, (name, subnet)) in given.iter().enumerate() {
            if let Some((other, _)) = given[..index].iter().find(|(_, other)| other.overlaps(subnet)) {
                let diagnostic =
                    Diagnostic::error("subnet-overlap", self.place(&NodePath::network(name)), "these two networks overlap")
                        .other(self.place(&NodePath::network(other)), "with this one");
                self.sink.push(diagnostic.help("give one of them another `subnet=`, or none"));
            }
        }
    }

    fn unused(&mut self) {
        let project = self.project;
        let mut used: BTreeSet<&Name> = BTreeSet::new();
        let mut queue: Vec<&Name> = project
            .containers
            .values()
            .flat_map(|container| {
                let mounted = container
                    .mounts
                    .iter()
                    .filter_map(|mount| if let MountSource::Image(name) = &mount.source { Some(name) } else { None });
                std::iter::once(&container.image).chain(mounted)
            })
            .collect();
        while let Some(name) = queue.pop() {
            if used.insert(name)
                && let Some(image) = project.images.get(name)
            {
                queue.extend(image.needs());
            }
        }
        for name in project.images.keys().filter(|name| !used.contains(name)) {
            let message = format!("nothing uses the image \"{name}\"");
            let diagnostic = Diagnostic::warning("unused-image", self.place(&NodePath::image(name)), message);
            self.sink.push(diagnostic.help("`up` will not build it; `stead build` and `stead run` will"));
        }
    }
}

/// Whether an image, or one that it is based on, has a health check.
fn image_health(project: &Project, name: &Name) -> bool {
    let mut name = name;
    for _ in 0..project.images.len() {
        let Some(image) = project.images.get(name) else { return false };
        match (&image.healthcheck, &image.from) {
            (Some(health), _) => return health.probe != Probe::None,
            (None, Base::Image(base)) => name = base,
            (None, Base::Outside(_)) => return true,
            (None, Base::Scratch) => return false,
        }
    }
    false
}

fn walk<'a>(
    at: &'a Name,
    edges: &BTreeMap<&'a Name, BTreeSet<&'a Name>>,
    trail: &mut Vec<&'a Name>,
    done: &mut BTreeSet<&'a Name>,
) -> Option<Vec<&'a Name>> {
    if let Some(start) = trail.iter().position(|earlier| *earlier == at) {
        let mut cycle = trail[start..].to_vec();
        cycle.push(at);
        return Some(cycle);
    }
    if !done.insert(at) {
        return None;
    }
    trail.push(at);
    for next in edges.get(at).into_iter().flatten() {
        if let Some(cycle) = walk(next, edges, trail, done) {
            return Some(cycle);
        }
    }
    trail.pop();
    None
}

//! What a project is trusted with beyond the defaults: the plan shows it before anything is done.
//!
//! This is decided by where paths really lead on the machine, not by how they are written.

use super::address::attachments;
use super::desired::Desired;
use super::mark::{Grade, Mark, MarkKind};
use super::observed::{Observed, Port};
use crate::model::{Digest, GitRepository, Name};
use crate::project::{
    Add, AddSource, ConfigSource, Container, GitSource, Locations, LogDriver, MountSource, NetworkMode, NodePath, Project,
    Propagation, Run, RunNetwork, RunSource, Step, without_values,
};
use std::path::Path;

/// Collects the marks of one holder.
struct Marks<'a> {
    project: &'a Project,
    places: &'a Locations,
    observed: &'a Observed,
    holder: String,
    found: Vec<Mark>,
}

impl<'a> Marks<'a> {
    fn of(project: &'a Project, places: &'a Locations, observed: &'a Observed, holder: String) -> Self {
        Self { project, places, observed, holder, found: Vec::new() }
    }

    fn add(&mut self, grade: Grade, kind: MarkKind, at: &NodePath, text: impl Into<String>) {
        let place = self.places.of(at).cloned();
        self.found.push(Mark { grade, kind, holder: self.holder.clone(), text: text.into(), exact: String::new(), place });
    }

    /// As [`add`](Self::add), for commands: several may have the same beginning.
    fn add_exact(&mut self, grade: Grade, kind: MarkKind, at: &NodePath, text: String, exact: &[String]) {
        self.add(grade, kind, at, text);
        if let Some(mark) = self.found.last_mut() {
            mark.exact = Digest::of_json(&exact).short(16);
        }
    }

    /// The path as it is written, and where it leads if that differs; `None` if it stays in the project.
    fn outside(&self, path: &str) -> Option<(String, String)> {
        let lead = self.observed.lead(path);
        let real = lead.path.display().to_string();
        let leads = if Path::new(path) == lead.path { String::new() } else { format!(" (it leads to {real})") };
        lead.outside.then(|| (path.to_owned(), leads))
    }

    /// Marks a file that is read, if it is outside the project.
    fn reads(&mut self, grade: Grade, at: &NodePath, path: &str, why: &str) {
        if let Some((path, leads)) = self.outside(path) {
            self.add(grade, MarkKind::Files, at, format!("reads {path} of the host{why}{leads}"));
        }
    }
}

/// All marks of a project, whatever is done already: what `stead allow` shows.
pub fn all_marks(project: &Project, places: &Locations, observed: &Observed) -> Vec<Mark> {
    let images = project.images.keys().flat_map(|name| of_image(project, places, observed, name));
    let containers = project.containers.iter().filter(|(_, container)| container.replicas > 0);
    let containers = containers.flat_map(|(name, container)| of_container(project, places, observed, name, container, &[]));
    of_project(project, places, observed).into_iter().chain(images).chain(containers).collect()
}

/// What the project as a whole reads: environment variables of the caller, and of the file `.env`.
pub fn of_project(project: &Project, places: &Locations, observed: &Observed) -> Vec<Mark> {
    let mut marks = Marks::of(project, places, observed, "project".into());
    for variable in project.variables.keys() {
        let from = if project.settings.contains_key(variable) { "`.env`" } else { "your environment" };
        let text = format!("reads the variable {variable} of {from}");
        marks.add(Grade::Shown, MarkKind::Files, &NodePath::variable(variable), text);
    }
    marks.found
}

/// What an image's steps reach beyond their sandbox while it is built, each with its place.
pub fn of_image(project: &Project, places: &Locations, observed: &Observed, name: &Name) -> Vec<Mark> {
    let mut marks = Marks::of(project, places, observed, format!("image {name}"));
    let Some(image) = project.images.get(name) else { return Vec::new() };
    if let Some(key) = &image.signed_by {
        marks.reads(Grade::Shown, &NodePath::image(name).node("signed-by"), key, " as a key");
    }
    for (index, step) in image.steps.iter().enumerate() {
        let at = NodePath::image(name).step(index);
        match step {
            Step::Add(Add { source: AddSource::Git(git), .. }) => marks.repository(&at, git),
            Step::Debian(debian) => {
                for key in debian.key.iter().chain(debian.repositories.iter().map(|repository| &repository.key)) {
                    marks.reads(Grade::Shown, &at, key, " as a key");
                }
            }
            Step::Run(run) => marks.command(&at, run),
            _ => {}
        }
    }
    marks.found
}

/// The marks for fetching the repository of one step, which is locked before its image is planned.
pub fn of_repository(project: &Project, places: &Locations, observed: &Observed, image: &Name, step: usize) -> Vec<Mark> {
    let mut marks = Marks::of(project, places, observed, format!("image {image}"));
    let steps = project.images.get(image).map_or(&[][..], |image| image.steps.as_slice());
    if let Some(Step::Add(Add { source: AddSource::Git(git), .. })) = steps.get(step) {
        marks.repository(&NodePath::image(image).step(step), git);
    }
    marks.found
}

impl Marks<'_> {
    fn repository(&mut self, at: &NodePath, git: &GitSource) {
        if let GitSource { place: from @ GitRepository::Ssh { .. }, .. } = git {
            self.add(Grade::Asks, MarkKind::Privileges, at, format!("is fetched with your ssh keys: {from}"));
        }
    }

    fn command(&mut self, at: &NodePath, run: &Run) {
        let words = &run.words;
        let private = self.project.private();
        let text = words.iter().map(|word| without_values(&private, word)).collect::<Vec<_>>().join(" ");
        let line = text.lines().next().unwrap_or_default();
        let shown: String = line.chars().take(50).collect();
        let more = if shown.len() < text.len() { " …" } else { "" };
        let (grade, text) = match run.network {
            RunNetwork::None => (Grade::Shown, None),
            RunNetwork::Own => (Grade::Shown, Some("reaches the network while it is built")),
            RunNetwork::Host => (Grade::Asks, Some("is on the host's network while it is built, with every service of it")),
        };
        if let Some(text) = text {
            self.add_exact(grade, MarkKind::Network, at, format!("{text}: {shown}{more}"), words);
        }
        if run.privileged {
            let text = format!("is privileged while it is built, nothing masked and no filter: {shown}{more}");
            self.add_exact(Grade::Asks, MarkKind::Privileges, at, text, words);
        }
        for mount in &run.mounts {
            match &mount.source {
                RunSource::Ssh { .. } => {
                    self.add(Grade::Asks, MarkKind::Privileges, at, "uses your ssh agent while it is built");
                }
                RunSource::Secret { name, .. } => {
                    if let Some(file) = self.project.secrets.get(name) {
                        self.reads(Grade::Asks, at, file, " while it is built");
                    }
                }
                _ => {}
            }
        }
    }

    fn security(&mut self, at: &NodePath, spec: &Container) {
        let asks = |marks: &mut Self, node: &str, text: String| {
            marks.add(Grade::Asks, MarkKind::Privileges, &at.clone().aspect(node), text);
        };
        let security = &spec.security;
        if security.privileged {
            let text = "is privileged: every capability and device, and nothing is masked or filtered";
            asks(self, "security.privileged", text.into());
        }
        for name in &security.add {
            asks(self, "security.capability", format!("has the capability {name}"));
        }
        match security.seccomp.as_deref() {
            Some("unconfined") => asks(self, "security.seccomp", "has no system call filter".into()),
            Some(file) => {
                let leads = self.outside(file).map(|(_, leads)| leads).unwrap_or_default();
                asks(self, "security.seccomp", format!("has its own system call filter, {file}{leads}"));
            }
            None => {}
        }
        if spec.namespaces.network == NetworkMode::Host {
            let text = "is on the host's network, with every port and service of this machine";
            self.add(Grade::Asks, MarkKind::Network, &at.clone().node("namespace"), text);
        }
        if spec.namespaces.host_pid {
            asks(self, "namespace", "sees the host's processes".into());
        }
        if spec.namespaces.host_ipc {
            asks(self, "namespace", "uses the host's shared memory".into());
        }
        if let Some(score) = spec.limits.oom_score.filter(|score| *score < 0) {
            asks(
                self,
                "limits.oom-score",
                format!("when memory runs out, others of the host are killed before it (score {score})"),
            );
        }
    }

    fn mounts(&mut self, at: &NodePath, spec: &Container) {
        for mount in &spec.mounts {
            let node = at.clone().named("mount", &mount.to);
            if let MountSource::Bind(path) = &mount.source {
                let how = if mount.read_only { "reads" } else { "writes" };
                match self.outside(path) {
                    Some((path, leads)) => {
                        self.add(Grade::Asks, MarkKind::Files, &node, format!("{how} {path} of the host{leads}"));
                    }
                    None if !mount.read_only => {
                        self.add(Grade::Shown, MarkKind::Files, &node, format!("{how} {path} of the host"));
                    }
                    None => {}
                }
            }
            if mount.propagation == Propagation::Shared {
                let text = format!("its mounts below {} appear on the host", mount.to);
                self.add(Grade::Asks, MarkKind::Files, &node, text);
            }
        }
        for (device, _) in &spec.devices {
            let lead = self.observed.lead(device).path.display().to_string();
            let leads = if lead == *device { String::new() } else { format!(" (it leads to {lead})") };
            self.add(Grade::Asks, MarkKind::Privileges, &at.clone().node("device"), format!("has the device {device}{leads}"));
        }
        for used in &spec.secrets {
            if let Some(file) = self.project.secrets.get(&used.name) {
                self.reads(Grade::Asks, &at.clone().named("secret", &used.name), file, &format!(", its secret {}", used.name));
            }
        }
        for used in &spec.configs {
            if let Some(ConfigSource::File(file)) = self.project.configs.get(&used.name) {
                self.reads(Grade::Asks, &at.clone().named("config", &used.name), file, &format!(", its config {}", used.name));
            }
        }
        for file in &spec.env_files {
            self.reads(Grade::Asks, &at.clone().named("env-file", &file.path), &file.path, " for its variables");
        }
    }

    /// Marks where its output goes: what the host itself writes to or connects to.
    fn log(&mut self, at: &NodePath, driver: &LogDriver) {
        let node = at.clone().node("log");
        let (grade, kind, text) = match (driver.name.as_str(), driver.address.as_deref()) {
            ("json-file", _) => {
                let path = driver.path().unwrap_or_default();
                match self.outside(path) {
                    Some((path, leads)) => {
                        (Grade::Asks, MarkKind::Files, format!("appends its output to {path} of the host{leads}"))
                    }
                    None => (Grade::Shown, MarkKind::Files, format!("appends its output to {path}")),
                }
            }
            ("syslog", Some(address)) => match driver.path() {
                Some(path) => {
                    let leads = self.outside(path).map(|(_, leads)| leads).unwrap_or_default();
                    (Grade::Asks, MarkKind::Files, format!("sends its output to the socket {path} of the host{leads}"))
                }
                None => (Grade::Asks, MarkKind::Network, format!("sends its output from the host to {address}")),
            },
            ("otlp", Some(address)) => (Grade::Asks, MarkKind::Network, format!("sends its output from the host to {address}")),
            ("none", _) => return,
            (name, Some(address)) => (Grade::Asks, MarkKind::Network, format!("sends its output to {name} at {address}")),
            (name, None) => (Grade::Shown, MarkKind::Network, format!("sends its output to the host's {name}")),
        };
        self.add(grade, kind, &node, text);
    }
}

/// All extensions of trust of a replica, with their places.
pub fn widenings(project: &Project, places: &Locations, observed: &Observed, wish: &Desired) -> Vec<Mark> {
    of_container(project, places, observed, &wish.container, &wish.spec, &wish.ports)
}

/// All extensions of trust that a container asks for.
pub fn of_container(
    project: &Project,
    places: &Locations,
    observed: &Observed,
    name: &Name,
    spec: &Container,
    ports: &[Port],
) -> Vec<Mark> {
    let mut marks = Marks::of(project, places, observed, format!("container {name}"));
    let at = NodePath::container(name);
    marks.security(&at, spec);
    marks.mounts(&at, spec);
    for attachment in attachments(spec) {
        if let Some(bridge) = project.networks.get(&attachment.network).and_then(|network| network.external.as_ref()) {
            let text = format!("is on the host's bridge {bridge}, with all that is on it");
            marks.add(Grade::Asks, MarkKind::Network, &NodePath::network(&attachment.network), text);
        }
    }
    if let Some(driver) = &spec.log.driver {
        marks.log(&at, driver);
    }
    for port in ports.iter().filter(|port| !port.address.is_loopback()) {
        let whom = if port.address.is_unspecified() { "every address".to_owned() } else { port.address.to_string() };
        let text = format!("publishes port {} on {whom}: other hosts reach it", port.port);
        marks.add(Grade::Shown, MarkKind::Network, &at.clone().named("publish", port.port), text);
    }
    marks.found
}

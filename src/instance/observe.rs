//! Observes the machine: gathers what planning must know, and changes nothing.

use super::drift::Drift;
use super::env_file;
use super::identity::Instance;
use super::paths::leads;
use super::project::{LoadedProject, project_files};
use crate::build::{ScanCache, Scanner, Sealed};
use crate::model::{Context, Digest, Error, Name, Result, bounds, text_of};
use crate::monitor::{self, State};
use crate::network;
use crate::plan::{Down, Drifted, Observed, Seen};
use crate::project::{ConfigSource, Locations, NodePath, Project};
use crate::runtime::seccomp::Profile;
use crate::sys::{ProjectFiles, Unread};
use crate::volume;
use std::collections::{BTreeMap, BTreeSet};

/// The observed state, with the contents that containers will get.
#[derive(Debug)]
pub struct Observation {
    pub observed: Observed,
    pub scanner: Scanner,
    /// The contents of secrets and configs.
    pub contents: BTreeMap<Name, Vec<u8>>,
    /// The system call filters, by the path of their file.
    pub profiles: BTreeMap<String, String>,
}

/// Observes everything that a plan for a project depends on.
///
/// # Errors
/// Fails when a secret or config cannot be read, or an `env-file` is not understood.
pub fn observe(loaded: &LoadedProject) -> Result<Observation> {
    let LoadedProject { instance, project, places, .. } = loaded;
    let scanner = Scanner::scan(&instance.folder, project, || ScanCache::read(&instance.scan_cache()))
        .sealed_by(Sealed::of(&instance.home, &instance.folder));
    let files = project_files(&instance.folder)?;
    let restored = loaded.restored.as_ref().map(|restored| restored.configs.clone()).unwrap_or_default();
    let contents = contents(project, places, &files, restored)?;
    let profiles = profiles(project, places, &files)?;
    let mut env_files = env_files(project, &files)?;
    if let Some(restored) = &loaded.restored {
        env_files.clone_from(&restored.env_files);
    }
    look(loaded, Files { scanner, contents, profiles, env_files })
}

/// What was read from the project's files.
struct Files {
    scanner: Scanner,
    contents: BTreeMap<Name, Vec<u8>>,
    profiles: BTreeMap<String, String>,
    env_files: BTreeMap<String, BTreeMap<String, String>>,
}

fn look(loaded: &LoadedProject, files: Files) -> Result<Observation> {
    let LoadedProject { instance, project, .. } = loaded;
    let Files { scanner, contents, profiles, env_files } = files;
    let mut record = instance.record()?;
    record.volumes = volume::existing(&instance.home, &instance.id)?;
    let containers = record.containers.keys().map(|name| (name.clone(), seen(instance, name))).collect();
    let mut drift = BTreeMap::new();
    for (name, container) in &record.containers {
        let found = Drift::read(instance, name, container.generation)?;
        if found.count() > 0 {
            drift.insert(name.clone(), Drifted { files: found.count(), digest: found.digest() });
        }
    }
    let wants_networks =
        project.containers.values().any(|container| container.namespaces.network == crate::project::NetworkMode::Own);
    let observed = Observed {
        instance: instance.id.clone(),
        tag: instance.home.tag(),
        containers,
        drift,
        pinned: loaded.restored.as_ref().map(|restored| restored.images.clone()).unwrap_or_default(),
        bridges: if wants_networks { network::bridges(instance.link_group())?.into_iter().collect() } else { BTreeSet::new() },
        no_bridges: network::no_bridges(project.networks.values().filter_map(|network| network.external.as_deref()))?,
        routes: if wants_networks { network::routes()? } else { Vec::new() },
        taken: network::taken(&instance.home, &instance.id)?,
        settings: network::HOST_SETTINGS
            .iter()
            .filter(|setting| !setting.holds())
            .map(|setting| (setting.name.to_owned(), setting.value.to_owned()))
            .collect(),
        firewall: wants_networks && monitor::is_current(&instance.home) && !instance.opening().exists(),
        contents: contents.iter().map(|(name, content)| (name.clone(), Digest::of(content))).collect(),
        profiles: profiles.iter().map(|(file, text)| (file.clone(), Digest::of(text))).collect(),
        env_files,
        leads: leads(instance, project),
        record,
    };
    Ok(Observation { observed, scanner, contents, profiles })
}

fn seen(instance: &Instance, name: &str) -> Seen {
    match instance.container(name).status() {
        Some(status) => match status.state {
            State::Running | State::Paused | State::Restarting => Seen::Running,
            State::Exited if status.exit_code == Some(0) && !status.stopped => Seen::Finished,
            State::Exited if status.stopped => Seen::Down(Down::Stopped),
            State::Exited => Seen::Down(status.exit_code.map_or(Down::Lost, Down::Ended)),
            _ => Seen::Down(Down::Lost),
        },
        None => Seen::Down(Down::Lost),
    }
}

/// The contents of secrets and configs; those that are known already are not read.
fn contents(
    project: &Project,
    places: &Locations,
    files: &ProjectFiles,
    known: BTreeMap<Name, Vec<u8>>,
) -> Result<BTreeMap<Name, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let used: BTreeSet<&Name> = project
        .containers
        .values()
        .flat_map(|container| container.secrets.iter().chain(&container.configs))
        .map(|used| &used.name)
        .collect();
    let mut errors = Vec::new();
    let mut read = |kind: &'static str, name: &Name, file: &str| match files.named(file, bounds::CONTENT) {
        Ok(content) => drop(found.insert(name.clone(), content)),
        Err(error) => {
            let why = format!("cannot read \"{file}\", the file of the {kind} \"{name}\"");
            let leads_out = matches!(error, Unread::LeadsOut);
            let error = Error::caused(why, error).at(places.of(&NodePath::declared(kind, name)));
            let help =
                "name a file inside the directory, or the absolute path of the one outside, which needs consent (--allow files)";
            errors.push(if leads_out { error.hint(help) } else { error });
        }
    };
    for (name, file) in project.secrets.iter().filter(|(name, _)| used.contains(name)) {
        read("secret", name, file);
    }
    let configs = || project.configs.iter().filter(|(name, _)| used.contains(name) && !known.contains_key(*name));
    for (name, source) in configs() {
        if let ConfigSource::File(file) = source {
            read("config", name, file);
        }
    }
    for (name, source) in configs() {
        if let ConfigSource::Content(text) = source {
            found.insert(name.clone(), text.clone().into_bytes());
        }
    }
    Error::all(errors)?;
    found.extend(known);
    Ok(found)
}

/// Reads and checks the text of a system call filter.
fn profile(file: &str, files: &ProjectFiles) -> Result<String> {
    let bytes = files.named(file, bounds::SMALL_FILE).context(|| format!("cannot read the system call filter \"{file}\""))?;
    let text = text_of(file, bytes).map_err(Error::new)?;
    Profile::parse(&text, 0).map_err(|why| {
        Error::new(format!("\"{file}\" is no system call filter: {why}"))
            .hint("write \"unconfined\", or a file in Docker's format; without `seccomp`, Docker's own profile applies")
    })?;
    Ok(text)
}

/// Reads and checks the system call filters that containers name.
fn profiles(project: &Project, places: &Locations, files: &ProjectFiles) -> Result<BTreeMap<String, String>> {
    let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
    for (name, container) in &project.containers {
        let Some(file) = container.security.seccomp.as_ref().filter(|file| *file != "unconfined") else { continue };
        match profile(file, files) {
            Ok(text) => drop(found.insert(file.clone(), text)),
            Err(error) => errors.push(error.at(places.of(&NodePath::container(name).named("security", "seccomp")))),
        }
    }
    Error::all(errors)?;
    Ok(found)
}

/// Reads the containers' `env-file`s.
fn env_files(project: &Project, files: &ProjectFiles) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut found = BTreeMap::new();
    for file in project.containers.values().flat_map(|container| &container.env_files) {
        let text = match files.named(&file.path, bounds::ENV_FILE) {
            Ok(bytes) => text_of(&file.path, bytes).map_err(Error::new)?,
            Err(Unread::Absent) => continue,
            Err(why) => return Err(Error::caused(format!("cannot read the env-file {}", file.path), why)),
        };
        let variables =
            env_file::parse(&text).map_err(|wrong| Error::new(format!("{}:{}: {}", file.path, wrong.line, wrong.why)))?;
        found.insert(file.path.clone(), variables);
    }
    Ok(found)
}

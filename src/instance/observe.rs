//! Observes the machine: gathers what planning must know, and changes nothing.

use super::drift::Drift;
use super::env_file;
use super::identity::{Instance, all_instances};
use super::paths::leads;
use super::project::LoadedProject;
use super::source::SourceFiles;
use super::written::has_written;
use crate::build::{ScanCache, Scanner, Sealed};
use crate::model::{Context, Digest, Error, Name, Result, bounds, text_of, with_advice};
use crate::monitor::{self, State};
use crate::network;
use crate::plan::{ContainerRecord, Down, Drifted, JobState, KeptSeed, Observed, Seen, TreeKind, is_seed};
use crate::project::{ConfigSource, Copy, Image, Locations, MountSource, NodePath, Project, Step};
use crate::runtime::seccomp::Profile;
use crate::sys::Unread;
use crate::volume;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The observed state, with the contents that containers will get.
#[derive(Debug)]
pub struct Observation {
    pub observed: Observed,
    pub scanner: Arc<Scanner>,
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
    let with_jobs = with_inputs(project);
    let scanned = with_jobs.as_ref().unwrap_or(project);
    let scanner = Scanner::scan(instance.source(), scanned, || ScanCache::read(&instance.scan_cache()))
        .sealed_by(Sealed::of(&instance.home, instance.source()));
    let files = SourceFiles::of(instance)?;
    let restored = loaded.restored.as_ref().map(|restored| restored.configs.clone()).unwrap_or_default();
    let contents = contents(project, places, &files, restored)?;
    let profiles = profiles(project, places, &files)?;
    let mut env_files = env_files(project, &files)?;
    let inputs = match &loaded.restored {
        Some(restored) => {
            env_files.clone_from(&restored.env_files);
            restored.inputs.clone()
        }
        None => inputs(project, places, &scanner)?,
    };
    look(loaded, Files { scanner, contents, profiles, env_files, inputs })
}

/// The name under which the inputs of a job are scanned: no image can have it.
fn scanned_as(job: &Name) -> Name {
    Name::of_reference(&format!("inputs of {job}"))
}

/// A project with the inputs of its jobs as steps of further images, so that they are read as what images copy is: by descriptor,
/// and their digests from the cache. `None` if no job has any.
fn with_inputs(project: &Project) -> Option<Project> {
    let steps = |inputs: &[String]| -> Vec<Step> {
        let copy = |path: &String| Copy { sources: vec![path.clone()], to: "/".into(), as_docker: true, ..Copy::default() };
        inputs.iter().map(|path| Step::Copy(copy(path))).collect()
    };
    let jobs = project.containers.iter().filter_map(|(name, container)| Some((name, container.job.as_ref()?)));
    let images: BTreeMap<Name, Image> = jobs
        .filter(|(_, job)| !job.inputs.is_empty())
        .map(|(name, job)| (scanned_as(name), Image { steps: steps(&job.inputs), ..Image::default() }))
        .collect();
    if images.is_empty() {
        return None;
    }
    let mut all = project.clone();
    all.images.extend(images);
    Some(all)
}

/// The files of the jobs' inputs, each with what tells its content from every other.
fn inputs(project: &Project, places: &Locations, scanner: &Scanner) -> Result<BTreeMap<Name, BTreeMap<String, String>>> {
    let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
    for (name, container) in &project.containers {
        let Some(job) = &container.job else { continue };
        let mut files = BTreeMap::new();
        for step in 0..job.inputs.len() {
            match scanner.tree(&scanned_as(name), step) {
                Ok(tree) => {
                    let entries = tree.entries.iter().filter(|entry| entry.kind != TreeKind::Folder);
                    files.extend(entries.map(|entry| (entry.from.clone(), Digest::of_json(&entry.kind).short(16))));
                }
                Err(why) => {
                    let (why, advice) = with_advice(&why);
                    let error = Error::new(format!("cannot read the inputs of the job {name}: {why}"));
                    let usual = "inputs are relative to the project's directory, and ignore files can hide them";
                    errors.push(error.hint(advice.unwrap_or(usual)).at(places.of(&NodePath::container(name).node("inputs"))));
                }
            }
        }
        found.insert(name.clone(), files);
    }
    Error::all(errors)?;
    Ok(found)
}

/// What tells the volumes that jobs mount from others of the same names, as far as they exist.
fn births(instance: &Instance, project: &Project, existing: &BTreeSet<Name>) -> Result<BTreeMap<Name, String>> {
    let jobs = project.containers.values().filter(|container| container.job.is_some());
    let mounted = jobs.flat_map(|job| &job.mounts).filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => existing.get(name),
        MountSource::Bind(_) | MountSource::Image(_) => None,
    });
    let named = mounted.map(|name| Ok((name.clone(), volume::birth(&instance.home, &instance.id, name)?)));
    named.collect()
}

/// The seeds of volumes that are kept, those of this directory first.
fn seeds(instance: &Instance, project: &Project) -> Result<BTreeMap<Name, Vec<KeptSeed>>> {
    let seeded: Vec<&Name> = project.volumes.iter().filter(|(_, volume)| volume.seed.is_some()).map(|(name, _)| name).collect();
    if seeded.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut others = all_instances(&instance.home)?;
    others.retain(|(other, record)| other.id != instance.id && record.project == project.name.as_str());
    let mut found = BTreeMap::new();
    for name in seeded {
        let of = |id: &str, elsewhere: Option<(String, String)>| -> Result<Vec<KeptSeed>> {
            let all = volume::snapshots(&instance.home, id, name)?.into_iter().map(|snapshot| snapshot.name.to_string());
            let seeds = all.filter(|snapshot| is_seed(snapshot));
            Ok(seeds.map(|name| KeptSeed { name, elsewhere: elsewhere.clone() }).collect())
        };
        let mut kept = of(&instance.id, None)?;
        for (other, _) in &others {
            kept.extend(of(&other.id, Some((other.id.clone(), other.folder.display().to_string())))?);
        }
        found.insert(name.clone(), kept);
    }
    Ok(found)
}

/// What was read from the project's files.
struct Files {
    scanner: Scanner,
    contents: BTreeMap<Name, Vec<u8>>,
    profiles: BTreeMap<String, String>,
    env_files: BTreeMap<String, BTreeMap<String, String>>,
    inputs: BTreeMap<Name, BTreeMap<String, String>>,
}

fn look(loaded: &LoadedProject, files: Files) -> Result<Observation> {
    let LoadedProject { instance, project, .. } = loaded;
    let Files { scanner, contents, profiles, env_files, inputs } = files;
    let mut record = instance.record()?;
    record.volumes = volume::existing(&instance.home, &instance.id)?;
    let containers = record.containers.iter().map(|(name, known)| (name.clone(), seen(instance, name, known))).collect();
    let (mut drift, mut written) = (BTreeMap::new(), BTreeSet::new());
    for (name, container) in &record.containers {
        let found = Drift::read(instance, name, container.generation)?;
        if found.count() > 0 {
            drift.insert(name.clone(), Drifted { files: found.count(), digest: found.digest() });
        }
        if container.job.is_none() && has_written(instance, name, container.generation, found.count())? {
            written.insert(name.clone());
        }
    }
    let wants_networks =
        project.containers.values().any(|container| container.namespaces.network == crate::project::NetworkMode::Own);
    let observed = Observed {
        instance: instance.id.clone(),
        tag: instance.home.tag(),
        containers,
        drift,
        written,
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
        inputs,
        births: births(instance, project, &record.volumes)?,
        seeds: seeds(instance, project)?,
        record,
    };
    Ok(Observation { observed, scanner: Arc::new(scanner), contents, profiles })
}

fn seen(instance: &Instance, name: &str, record: &ContainerRecord) -> Seen {
    // A monitor's report does not outlive a boot, and the result of a job does.
    if record.job == Some(JobState::Done) {
        return Seen::Finished;
    }
    match instance.container(name).status() {
        Some(status) => match status.state {
            State::Running | State::Paused | State::Restarting => Seen::Running,
            State::Exited if status.exit_code == Some(0) && !status.stopped => Seen::Finished,
            State::Exited if status.stopped => Seen::Down(Down::Stopped),
            State::Exited => {
                let ended = || status.exit_code.map_or(Down::Lost, Down::Ended);
                Seen::Down(status.timed_out.map_or_else(ended, Down::TimedOut))
            }
            _ => Seen::Down(Down::Lost),
        },
        None => Seen::Down(Down::Lost),
    }
}

/// The contents of secrets and configs; those that are known already are not read.
fn contents(
    project: &Project,
    places: &Locations,
    files: &SourceFiles,
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
    let mut read = |kind: &'static str, name: &Name, file: &str| match files.of_kind(kind, file, bounds::CONTENT) {
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
fn profile(file: &str, files: &SourceFiles) -> Result<String> {
    let bytes = files.named(file, bounds::SMALL_FILE).context(|| format!("cannot read the system call filter \"{file}\""))?;
    let text = text_of(file, bytes).map_err(Error::new)?;
    Profile::parse(&text, 0).map_err(|why| {
        Error::new(format!("\"{file}\" is no system call filter: {why}"))
            .hint("write \"unconfined\", or a file in Docker's format; without `seccomp`, Docker's own profile applies")
    })?;
    Ok(text)
}

/// Reads and checks the system call filters that containers name.
fn profiles(project: &Project, places: &Locations, files: &SourceFiles) -> Result<BTreeMap<String, String>> {
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
fn env_files(project: &Project, files: &SourceFiles) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut found = BTreeMap::new();
    for file in project.containers.values().flat_map(|container| &container.env_files) {
        let text = match files.of_kind("env-file", &file.path, bounds::ENV_FILE) {
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

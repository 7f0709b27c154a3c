//! Images as chains of steps: which are done, which comes next, under which key.
//!
//! A step's key is the digest of the step itself, the engine's format and the *content* of its
//! inputs: the layers below it and the files it copies. So an earlier step that ran again and gave
//! the same bytes stops the rebuild there. `build` is driven by [`walk`], so plan and build agree.

use super::observed::Facts;
use crate::lock::Lock;
use crate::model::{Digest, EPOCH, LayerInfo, Name};
use crate::spec::{Base, Health, Project, RunMount, RunSource, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of what steps produce: raised whenever the same inputs give other bytes.
const ENGINE: u32 = 9;

/// What a container takes from its image.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub user: String,
    pub cmd: Vec<String>,
    pub entrypoint: Vec<String>,
    pub expose: Vec<(u16, u16)>,
    #[serde(default)]
    pub expose_udp: Vec<(u16, u16)>,
    #[serde(default)]
    pub onbuild: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub volumes: Vec<String>,
    pub stop_signal: Option<String>,
    pub health: Option<Health>,
}

/// An image in the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest: its identity.
    pub digest: Digest,
    pub config: Config,
    /// From the lowest layer up.
    pub layers: Vec<LayerInfo>,
}

/// What a step came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepOutput {
    /// Absent when the step changed nothing.
    pub layer: Option<LayerInfo>,
    /// Packages whose scripts did nothing for us.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// What a step depends on, for telling why it must run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StepInputs {
    Packages(Vec<String>),
    Files(Digest),
    /// Only on what is below it.
    Below,
}

/// A step that has to be run.
#[derive(Clone, Debug)]
pub struct Pending {
    pub index: usize,
    pub key: Digest,
    /// Below it, from the lowest up.
    pub layers: Vec<LayerInfo>,
    /// The configuration so far: environment, user, working directory.
    pub config: Config,
    pub shell: Vec<String>,
    pub args: BTreeMap<String, String>,
    /// For a `copy` from an image: that image's layers.
    pub from: Vec<LayerInfo>,
    /// For a `run`: the layers of the images that it mounts.
    pub mounted: BTreeMap<Name, Vec<LayerInfo>>,
}

/// An image whose steps are all done.
#[derive(Clone, Debug)]
pub struct Assembly {
    pub key: Digest,
    pub config: Config,
    pub layers: Vec<LayerInfo>,
}

/// How far an image is.
#[derive(Clone, Debug)]
pub enum Walk {
    Built(Image),
    Assemble(Assembly),
    Step(Pending),
    /// Another image must come first.
    Blocked(Name),
    /// Its packages are not locked.
    Unlocked,
    /// Something it copies is missing.
    Missing {
        step: usize,
        why: String,
    },
    /// It needs a registry.
    Foreign(String),
}

/// The key under which an image's digest is recorded.
pub fn image_key(config: &Config, layers: &[LayerInfo]) -> Digest {
    Digest::of_json(&("image", ENGINE, config, layers))
}

/// Follows an image's steps as far as their results are known.
pub fn walk(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts) -> Walk {
    follow(project, lock, name, facts, &mut BTreeMap::new())
}

/// Images that many steps use are followed once.
fn follow(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts, known: &mut BTreeMap<Name, Walk>) -> Walk {
    if let Some(found) = known.get(name) {
        return found.clone();
    }
    let found = follow_steps(project, lock, name, facts, known);
    known.insert(name.clone(), found.clone());
    found
}

fn follow_steps(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts, known: &mut BTreeMap<Name, Walk>) -> Walk {
    let Some(image) = project.images.get(name) else { return Walk::Blocked(name.clone()) };
    let (mut layers, mut config) = match &image.from {
        Base::Scratch => (Vec::new(), Config::default()),
        Base::Registry(text) => return Walk::Foreign(text.clone()),
        Base::Image(base) => match follow(project, lock, base, facts, known) {
            Walk::Built(built) => (built.layers, built.config),
            Walk::Missing { .. } | Walk::Assemble(_) | Walk::Step(_) => return Walk::Blocked(base.clone()),
            other => return other,
        },
    };
    let mut shell = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut args = BTreeMap::new();
    let mut debians = 0;
    for (index, step) in image.steps.iter().enumerate() {
        let mut from = Vec::new();
        let mut mounted = BTreeMap::new();
        let key = match step {
            Step::Env(values) => {
                config.env.extend(values.clone());
                continue;
            }
            Step::Arg(values) => {
                args.extend(values.clone());
                continue;
            }
            Step::Workdir(path) => {
                config.workdir.clone_from(path);
                continue;
            }
            Step::User(user) => {
                config.user.clone_from(user);
                continue;
            }
            Step::Shell(words) => {
                shell.clone_from(words);
                continue;
            }
            Step::Debian(debian) => {
                let locked = lock.packages(&(name.clone(), debians), debian);
                debians += 1;
                let Some(packages) = locked else { return Walk::Unlocked };
                let digests: Vec<&Digest> = packages.iter().map(|package| &package.sha256).collect();
                key("debian", &chain(&layers), &digests)
            }
            Step::Copy(copy) => {
                let how = (&copy.exclude, copy.parents, copy.as_docker, copy.unpack, &copy.inline);
                let placed = (&copy.to, &copy.owner, copy.mode, &config.workdir, how);
                match &copy.from {
                    Some(other) => match follow(project, lock, other, facts, known) {
                        Walk::Built(built) => {
                            let key = key("copy-from", &chain(&layers), &(placed, &copy.sources, chain(&built.layers)));
                            from = built.layers;
                            key
                        }
                        Walk::Unlocked => return Walk::Unlocked,
                        Walk::Foreign(text) => return Walk::Foreign(text),
                        _ => return Walk::Blocked(other.clone()),
                    },
                    None => match facts.tree(name, index) {
                        // A single file keeps its name where a folder is.
                        Ok(tree) => key("copy", &chain(&layers), &(placed, tree.digest(), tree.single_name())),
                        Err(why) => return Walk::Missing { step: index, why },
                    },
                }
            }
            Step::Folder(path) => key("folder", &chain(&layers), path),
            Step::Run(run) => {
                for other in run.mounts.iter().filter_map(RunMount::image) {
                    match follow(project, lock, other, facts, known) {
                        Walk::Built(built) => drop(mounted.insert(other.clone(), built.layers)),
                        Walk::Unlocked => return Walk::Unlocked,
                        Walk::Foreign(text) => return Walk::Foreign(text),
                        _ => return Walk::Blocked(other.clone()),
                    }
                }
                let files = if run.mounts.iter().any(|mount| matches!(mount.source, RunSource::Context { .. })) {
                    match facts.tree(name, index) {
                        Ok(tree) => Some(tree.digest()),
                        Err(why) => return Walk::Missing { step: index, why },
                    }
                } else {
                    None
                };
                let words: Vec<&String> =
                    if run.shell { shell.iter().chain(&run.words).collect() } else { run.words.iter().collect() };
                let chains: Vec<_> = mounted.iter().map(|(name, layers)| (name, chain(layers))).collect();
                let around = (&run.mounts, chains, files);
                key("run", &chain(&layers), &(words, run.network, around, &config.env, &args, &config.workdir, &config.user))
            }
        };
        match facts.step(&key) {
            Some(output) => layers.extend(output.layer),
            None => return Walk::Step(Pending { index, key, layers, config, shell, args, from, mounted }),
        }
    }
    let config = finish(image, config);
    let key = image_key(&config, &layers);
    match facts.image(&key) {
        Some(image) => Walk::Built(image),
        None => Walk::Assemble(Assembly { key, config, layers }),
    }
}

fn chain(layers: &[LayerInfo]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

fn key(kind: &str, chain: &[Digest], inputs: &impl Serialize) -> Digest {
    Digest::of_json(&(kind, ENGINE, EPOCH, chain, inputs))
}

/// The configuration of the whole image: what its own nodes say over what its base says.
fn finish(image: &crate::spec::Image, mut config: Config) -> Config {
    if let Some(entrypoint) = &image.entrypoint {
        config.entrypoint.clone_from(entrypoint);
        // As in a Dockerfile: a new entrypoint makes the base's arguments meaningless.
        config.cmd.clear();
    }
    if let Some(cmd) = &image.cmd {
        config.cmd.clone_from(cmd);
    }
    for port in &image.expose {
        if !config.expose.contains(port) {
            config.expose.push(*port);
        }
    }
    config.expose.sort_unstable();
    config
        .expose_udp
        .extend(image.expose_udp.iter().filter(|port| !config.expose_udp.contains(port)).copied().collect::<Vec<_>>());
    config.expose_udp.sort_unstable();
    config.onbuild.clone_from(&image.onbuild);
    config.labels.extend(image.labels.clone());
    for volume in &image.volumes {
        if !config.volumes.contains(volume) {
            config.volumes.push(volume.clone());
        }
    }
    config.volumes.sort();
    if image.stop_signal.is_some() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if image.healthcheck.is_some() {
        config.health.clone_from(&image.healthcheck);
    }
    config
}

/// The file-system steps of an image as they are now: what each is, and what it depends on.
pub fn step_records(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts) -> Vec<(usize, super::observed::StepRecord)> {
    let mut found = Vec::new();
    let mut debians = 0;
    for (index, step) in project.images.get(name).map_or(&[][..], |image| image.steps.as_slice()).iter().enumerate() {
        let inputs = match step {
            Step::Debian(debian) => {
                let packages = lock.packages(&(name.clone(), debians), debian).unwrap_or_default();
                debians += 1;
                StepInputs::Packages(packages.iter().map(|package| package.key()).collect())
            }
            Step::Copy(copy) if copy.from.is_none() => {
                facts.tree(name, index).map_or(StepInputs::Below, |tree| StepInputs::Files(tree.digest()))
            }
            Step::Copy(_) | Step::Run(_) | Step::Folder(_) => StepInputs::Below,
            _ => continue,
        };
        found.push((index, super::observed::StepRecord { definition: Digest::of_json(step), inputs, listing: None }));
    }
    found
}

/// What an image's own nodes say of its configuration, as text by the node's path.
pub fn settings(image: &crate::spec::Image) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut say = |path: String, value: String| drop(found.insert(path, value));
    for step in &image.steps {
        match step {
            Step::Env(values) => values.iter().for_each(|(name, value)| say(format!("env.{name}"), value.clone())),
            Step::Arg(values) => values.iter().for_each(|(name, value)| say(format!("arg.{name}"), value.clone())),
            Step::Workdir(path) => say("workdir".into(), path.clone()),
            Step::User(user) => say("user".into(), user.clone()),
            Step::Shell(words) => say("shell".into(), words.join(" ")),
            Step::Debian(_) | Step::Copy(_) | Step::Run(_) | Step::Folder(_) => {}
        }
    }
    image.labels.iter().for_each(|(name, value)| say(format!("label.{name}"), value.clone()));
    for (name, words) in [("cmd", &image.cmd), ("entrypoint", &image.entrypoint)] {
        if let Some(words) = words {
            say(name.into(), words.join(" "));
        }
    }
    if !image.expose.is_empty() {
        let ports =
            image.expose.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
        say("expose".into(), ports.collect::<Vec<_>>().join(" "));
    }
    if !image.volumes.is_empty() {
        say("volume".into(), image.volumes.join(" "));
    }
    if let Some(signal) = &image.stop_signal {
        say("stop-signal".into(), signal.clone());
    }
    if let Some(health) = &image.healthcheck {
        say("healthcheck".into(), serde_json::to_string(health).unwrap_or_default());
    }
    found
}

//! Images as chains of steps: which steps are done, which one is next, and under which key.
//!
//! A step's key is the digest of the step itself, the engine's format and the *content* of its
//! inputs: the layers below it and the files that it copies. So if an earlier step runs again and
//! gives the same bytes, the rebuild stops there. [`walk`] also drives `build`, so plan and build agree.

use super::image::{Config, Image, StepInputs, merged_ports, shown_ports};
use super::observed::{Facts, StepRecord};
use crate::lock::Lock;
use crate::model::{Digest, LayerInfo, Name};
use crate::project::{Add, AddSource, Base, Copy, Health, Outside, Probe, Project, Run, RunMount, RunSource, Step};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The version of what steps produce: it is raised whenever the same inputs give different bytes.
const ENGINE: u32 = 15;

/// A step that has to be run.
#[derive(Clone, Debug)]
pub struct Pending {
    pub index: usize,
    pub key: Digest,
    /// A second key of only those inputs that its output really depends on: other changes in the layers below do not
    /// matter then.
    pub narrow: Option<Digest>,
    /// The layers below it, from the lowest up.
    pub layers: Vec<LayerInfo>,
    /// The configuration so far: environment, user, working directory.
    pub config: Config,
    pub args: BTreeMap<String, String>,
    /// For a `copy` from an image, that image's layers.
    pub from: Vec<LayerInfo>,
    /// For a `run`, the layers of the images that it mounts.
    pub mounted: BTreeMap<Name, Vec<LayerInfo>>,
}

/// An image whose steps are all done.
#[derive(Clone, Debug)]
pub struct Assembly {
    pub key: Digest,
    pub config: Config,
    pub layers: Vec<LayerInfo>,
}

/// How far the build of an image is.
#[derive(Clone, Debug)]
pub enum Walk {
    Built(Image),
    Assemble(Assembly),
    Step(Pending),
    /// Its own layers must be merged into one.
    Squash(Squash),
    /// An image from elsewhere must be imported into the store.
    Import(Import),
    /// Another image must be built first.
    Blocked(Name),
    /// One of its inputs is not in the lock file.
    Unlocked,
    /// Something that it copies is missing.
    Missing {
        step: usize,
        why: String,
    },
    /// The archive that it starts from is missing or damaged.
    NoArchive(String),
}

/// Layers that must be merged into one.
#[derive(Clone, Debug)]
pub struct Squash {
    pub key: Digest,
    /// The layers of the base; `own` are those of the image's own steps.
    pub below: Vec<LayerInfo>,
    pub own: Vec<LayerInfo>,
}

/// An image to be imported into the store.
#[derive(Clone, Debug)]
pub struct Import {
    /// The key under which its digest is recorded.
    pub key: Digest,
    pub outside: Outside,
    /// The digest that the lock file has for it.
    pub digest: Option<Digest>,
}

/// The key under which an image's digest is recorded.
pub fn image_key(epoch: i64, config: &Config, layers: &[LayerInfo]) -> Digest {
    Digest::of_json(&("image", ENGINE, epoch, config, layers))
}

/// Walks through an image's steps as far as their results are known.
pub fn walk(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts) -> Walk {
    follow(project, lock, name, facts, &mut BTreeMap::new())
}

/// As [`walk`], but visits an image that many steps use only once.
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
    let (layers, config) = match &image.from {
        Base::Scratch => (Vec::new(), Config::default()),
        Base::Outside(outside) => match outside_image(lock, outside, facts) {
            // An image from elsewhere without changes keeps its exact bytes.
            Walk::Built(built) if unchanged(image) => return Walk::Built(built),
            Walk::Built(built) => (built.layers, built.config),
            other => return other,
        },
        Base::Image(base) => match follow(project, lock, base, facts, known) {
            Walk::Built(built) => (built.layers, built.config),
            other => return blocked(base, other),
        },
    };
    let below = layers.len();
    let mut road = Road { project, lock, name, facts, known, layers, config, args: BTreeMap::new(), debians: 0 };
    for (index, step) in image.steps.iter().enumerate() {
        if let Err(stop) = road.step(index, step) {
            return *stop;
        }
    }
    let (mut layers, config) = (road.layers, finish(image, road.config));
    if image.squash && layers.len() > below + 1 {
        let own = layers.split_off(below);
        let key = Digest::of_json(&("squash", ENGINE, lock.epoch, chain(&layers), chain(&own)));
        match facts.step(&key) {
            Some(output) => layers.extend(output.layer),
            None => return Walk::Squash(Squash { key, below: layers, own }),
        }
    }
    let key = image_key(lock.epoch, &config, &layers);
    match facts.image(&key) {
        Some(image) => Walk::Built(image),
        None => Walk::Assemble(Assembly { key, config, layers }),
    }
}

/// Whether an image adds nothing to its base.
fn unchanged(image: &crate::project::Image) -> bool {
    let plain = crate::project::Image { from: image.from.clone(), ..crate::project::Image::default() };
    *image == plain
}

/// How far an image from elsewhere is.
fn outside_image(lock: &Lock, outside: &Outside, facts: &dyn Facts) -> Walk {
    let (key, digest) = match outside {
        Outside::Archive { name, .. } => match facts.archive(outside) {
            Ok(content) => (Digest::of_json(&("archive", name, content)), None),
            Err(why) => return Walk::NoArchive(why),
        },
        Outside::Reference(text) => match lock.image(text) {
            Some(digest) => (Digest::of_json(&("reference", digest)), Some(digest)),
            None => return Walk::Unlocked,
        },
    };
    match facts.image(&key) {
        Some(image) => Walk::Built(image),
        None => Walk::Import(Import { key, outside: outside.clone(), digest }),
    }
}

/// The state of an image that needs another one which is not built.
fn blocked(other: &Name, walk: Walk) -> Walk {
    match walk {
        Walk::Unlocked | Walk::Blocked(_) | Walk::NoArchive(_) => walk,
        _ => Walk::Blocked(other.clone()),
    }
}

/// The state while an image's steps are walked through.
struct Road<'a, 'k> {
    project: &'a Project,
    lock: &'a Lock,
    name: &'a Name,
    facts: &'a dyn Facts,
    known: &'k mut BTreeMap<Name, Walk>,
    layers: Vec<LayerInfo>,
    config: Config,
    args: BTreeMap<String, String>,
    debians: usize,
}

/// The keys under which a step's output is looked up, and what the step needs to run.
struct Keys {
    key: Digest,
    narrow: Option<Digest>,
    from: Vec<LayerInfo>,
    mounted: BTreeMap<Name, Vec<LayerInfo>>,
}

impl Keys {
    fn of(key: Digest) -> Self {
        Self { key, narrow: None, from: Vec::new(), mounted: BTreeMap::new() }
    }
}

type Stop = Box<Walk>;

impl Road<'_, '_> {
    fn step(&mut self, index: usize, step: &Step) -> Result<(), Stop> {
        let keys = match step {
            Step::Env(_) | Step::Workdir(_) | Step::User(_) | Step::Shell(_) => {
                set(&mut self.config, step);
                // Of an argument and a variable with the same name, the later one is seen.
                if let Step::Env(values) = step {
                    self.args.retain(|name, _| !values.contains_key(name));
                }
                return Ok(());
            }
            Step::Arg(values) => {
                self.args.extend(values.clone());
                return Ok(());
            }
            Step::Debian(debian) => {
                let locked = self.lock.packages(&(self.name.clone(), self.debians), debian);
                self.debians += 1;
                let Some(packages) = locked else { return Err(Box::new(Walk::Unlocked)) };
                let digests: Vec<&Digest> = packages.iter().map(|package| &package.sha256).collect();
                // Without scripts, packages are unpacked into an empty directory, whatever the layers below are.
                let key = if debian.configure {
                    self.key("debian-configure", &chain(&self.layers), &digests)
                } else {
                    self.key("debian", &[], &digests)
                };
                Keys::of(key)
            }
            Step::Copy(copy) => self.copy(index, copy)?,
            Step::Add(add) => {
                let Some(known) = fetched(add, self.lock) else { return Err(Box::new(Walk::Unlocked)) };
                let (folder, kept) = match &add.source {
                    AddSource::Git(git) => (git.folder.as_ref(), git.dot_git.then(|| git.place.shown())),
                    AddSource::Url { .. } => (None, None),
                };
                // Of a URL, only the last part matters: it may become the file's name.
                let name = match &add.source {
                    AddSource::Url { url, .. } => url.rsplit('/').next().unwrap_or_default(),
                    AddSource::Git(git) if !git.submodules => "without submodules",
                    AddSource::Git(_) => "",
                };
                let placed = (&add.to, &add.owner, &add.mode, &self.config.workdir, &add.exclude, add.unpack, add.as_docker);
                let what = (known, folder, name, placed);
                let kinds = if add.link { ("add linked", "add linked with .git") } else { ("add", "add with .git") };
                // The `.git` directory contains the URL that it was fetched from.
                Keys::of(match kept {
                    None => self.key(kinds.0, &chain(&self.layers), &what),
                    Some(url) => self.key(kinds.1, &chain(&self.layers), &(what, url)),
                })
            }
            Step::Folder(path) => Keys::of(self.key("folder", &chain(&self.layers), &(path, &self.config.user))),
            Step::Run(run) => self.run(index, run)?,
        };
        let found = self.facts.step(&keys.key).or_else(|| self.facts.step(keys.narrow.as_ref()?));
        match found {
            Some(output) => {
                self.layers.extend(output.layer);
                Ok(())
            }
            None => {
                let Keys { key, narrow, from, mounted } = keys;
                let (layers, config, mut args) = (self.layers.clone(), self.config.clone(), self.args.clone());
                // Tools that support this variable write its time instead of the current one (reproducible-builds.org).
                if !config.env.contains_key("SOURCE_DATE_EPOCH") {
                    args.entry("SOURCE_DATE_EPOCH".into()).or_insert_with(|| self.lock.epoch.to_string());
                }
                Err(Box::new(Walk::Step(Pending { index, key, narrow, layers, config, args, from, mounted })))
            }
        }
    }

    fn key(&self, kind: &str, chain: &[Digest], inputs: &impl Serialize) -> Digest {
        Digest::of_json(&(kind, ENGINE, self.lock.epoch, chain, inputs))
    }

    /// The layers of an image that a step uses.
    fn other(&mut self, name: &Name) -> Result<Vec<LayerInfo>, Stop> {
        match follow(self.project, self.lock, name, self.facts, self.known) {
            Walk::Built(built) => Ok(built.layers),
            other => Err(Box::new(blocked(name, other))),
        }
    }

    fn copy(&mut self, index: usize, copy: &Copy) -> Result<Keys, Stop> {
        // An archive is unpacked if it is a source by itself, but not inside a directory.
        let how = (&copy.exclude, copy.parents, copy.as_docker, copy.unpack.then_some(&copy.sources), &copy.inline);
        let placed = Digest::of_json(&(&copy.to, &copy.owner, &copy.mode, &self.config.workdir, how));
        let placed = if copy.link { Digest::of_json(&("linked", placed)) } else { placed };
        let below = chain(&self.layers);
        let (from, taken, kind) = match &copy.from {
            Some(other) => {
                let from = self.other(other)?;
                let taken = Digest::of_json(&(&copy.sources, chain(&from)));
                (from, taken, "copy-from")
            }
            None => match self.facts.tree(self.name, index) {
                // A single file keeps its name if the target is a directory.
                Ok(tree) => (Vec::new(), Digest::of_json(&(tree.digest(), tree.single_name())), "copy"),
                Err(why) => return Err(Box::new(Walk::Missing { step: index, why })),
            },
        };
        let mut keys = Keys { from, ..Keys::of(self.key(kind, &below, &(placed, taken))) };
        if self.facts.step(&keys.key).is_none() {
            let tree = if copy.from.is_none() { self.facts.tree(self.name, index).ok() } else { None };
            let around = self.facts.surroundings(copy, &self.config.workdir, &self.layers, &keys.from, tree);
            let taken = tree.map(|_| taken);
            keys.narrow = around.map(|around| self.key("copy-on", &[], &(placed, taken, around)));
        }
        Ok(keys)
    }

    fn run(&mut self, index: usize, run: &Run) -> Result<Keys, Stop> {
        let mut mounted = BTreeMap::new();
        for other in run.mounts.iter().filter_map(RunMount::image) {
            mounted.insert(other.clone(), self.other(other)?);
        }
        let files = if run.mounts.iter().any(|mount| matches!(mount.source, RunSource::Context { .. })) {
            match self.facts.tree(self.name, index) {
                Ok(tree) => Some(tree.digest()),
                Err(why) => return Err(Box::new(Walk::Missing { step: index, why })),
            }
        } else {
            None
        };
        let shell = self.config.shell();
        let words: Vec<&String> = if run.shell { shell.iter().chain(&run.words).collect() } else { run.words.iter().collect() };
        let chains: Vec<_> = mounted.iter().map(|(name, layers)| (name, chain(layers))).collect();
        let around = (&run.mounts, chains, files);
        let who = run.user.as_ref().unwrap_or(&self.config.user);
        let env = (&self.config.env, &self.args, &run.env);
        let kind = if run.privileged { "run privileged" } else { "run" };
        let key = self.key(kind, &chain(&self.layers), &(words, run.network, around, env, &self.config.workdir, who));
        Ok(Keys { mounted, ..Keys::of(key) })
    }
}

/// Whether the result of a `copy` onto these layers is known already.
pub fn copy_is_known(
    (project, lock, name): (&Project, &Lock, &Name),
    facts: &dyn Facts,
    (index, copy): (usize, &Copy),
    layers: &[LayerInfo],
    workdir: &str,
) -> bool {
    let config = Config { workdir: workdir.to_owned(), ..Config::default() };
    let (args, known) = (BTreeMap::new(), &mut BTreeMap::new());
    let mut road = Road { project, lock, name, facts, known, layers: layers.to_vec(), config, args, debians: 0 };
    let keys = road.copy(index, copy);
    keys.is_ok_and(|keys| facts.step(&keys.key).or_else(|| facts.step(keys.narrow.as_ref()?)).is_some())
}

fn chain(layers: &[LayerInfo]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

/// Applies a step's change to the configuration.
fn set(config: &mut Config, step: &Step) {
    match step {
        Step::Env(values) => config.env.extend(values.clone()),
        Step::Workdir(path) => config.workdir.clone_from(path),
        Step::User(user) => config.user.clone_from(user),
        Step::Shell(words) => {
            // A check that is a text runs in the shell of the image that is run, also when it was inherited.
            let old = config.shell();
            if let Some(Health { probe: Probe::Exec(command), .. }) = &mut config.health
                && command.len() == old.len() + 1
                && command.starts_with(&old)
            {
                command.splice(..old.len(), words.iter().cloned());
            }
            config.shell.clone_from(words);
        }
        _ => {}
    }
}

/// A configuration with the changes of an image's own nodes applied; files do not matter.
pub fn configure(image: &crate::project::Image, mut config: Config) -> Config {
    image.steps.iter().for_each(|step| set(&mut config, step));
    finish(image, config)
}

/// The configuration of the whole image: its own nodes override those of its base.
fn finish(image: &crate::project::Image, mut config: Config) -> Config {
    if let Some(entrypoint) = &image.entrypoint {
        config.entrypoint.clone_from(entrypoint);
        // As in a Dockerfile, a new entrypoint makes the base's arguments meaningless.
        config.cmd.clear();
    }
    if let Some(cmd) = &image.cmd {
        config.cmd.clone_from(cmd);
    }
    for (known, more) in [
        (&mut config.expose, &image.expose),
        (&mut config.expose_udp, &image.expose_udp),
        (&mut config.expose_sctp, &image.expose_sctp),
    ] {
        known.extend(more);
        *known = merged_ports(std::mem::take(known));
    }
    // The ONBUILD instructions of the base have been executed by now.
    config.onbuild.clone_from(&image.onbuild);
    config.labels.extend(image.labels.clone());
    if image.author.is_some() {
        config.author.clone_from(&image.author);
    }
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

/// The current file-system steps of an image: the definition of each, and what it depends on.
pub fn step_records(project: &Project, lock: &Lock, name: &Name, facts: &dyn Facts) -> Vec<(usize, StepRecord)> {
    let mut found = Vec::new();
    let mut debians = 0;
    for (index, step) in project.images.get(name).map_or(&[][..], |image| image.steps.as_slice()).iter().enumerate() {
        let inputs = match step {
            Step::Debian(debian) => {
                let packages = lock.packages(&(name.clone(), debians), debian).unwrap_or_default();
                debians += 1;
                StepInputs::Packages(
                    packages.iter().map(|package| format!("{}#{}", package.key(), package.sha256.hex())).collect(),
                )
            }
            Step::Copy(copy) if copy.from.is_none() => {
                facts.tree(name, index).map_or(StepInputs::Below, |tree| StepInputs::Files(tree.digest()))
            }
            // The directories of a context that a command mounts.
            Step::Run(_) => match facts.tree(name, index) {
                Ok(tree) if !tree.entries.is_empty() => StepInputs::Files(tree.digest()),
                _ => StepInputs::Below,
            },
            Step::Add(add) => {
                let place = match &add.source {
                    AddSource::Url { url, .. } => url.clone(),
                    AddSource::Git(git) => git.place.shown(),
                };
                StepInputs::Packages(fetched(add, lock).map(|known| format!("{place}={known}")).into_iter().collect())
            }
            Step::Copy(_) | Step::Folder(_) => StepInputs::Below,
            _ => continue,
        };
        found.push((index, StepRecord { definition: Digest::of_json(step), inputs, listing: None, millis: None }));
    }
    found
}

/// The steps of an image that are on record, by their numbers: those that make layers.
pub fn recorded_steps(image: &crate::project::Image) -> Vec<usize> {
    let recorded = |step: &Step| match step {
        Step::Debian(_) | Step::Copy(_) | Step::Add(_) | Step::Run(_) | Step::Folder(_) => true,
        Step::Env(_) | Step::Arg(_) | Step::Workdir(_) | Step::User(_) | Step::Shell(_) => false,
    };
    image.steps.iter().enumerate().filter(|(_, step)| recorded(step)).map(|(index, _)| index).collect()
}

/// What the lock has for the images from elsewhere that an image is made from, directly or through others, by reference.
pub fn locked_images(project: &Project, lock: &Lock, name: &Name) -> BTreeMap<String, Digest> {
    let (mut seen, mut left, mut found) = (BTreeSet::new(), vec![name], BTreeMap::new());
    while let Some(name) = left.pop() {
        let Some(image) = project.images.get(name).filter(|_| seen.insert(name)) else { continue };
        if let Base::Outside(Outside::Reference(text)) = &image.from
            && let Some(digest) = lock.image(text)
        {
            found.insert(text.clone(), digest);
        }
        left.extend(image.needs());
    }
    found
}

/// What identifies what an `add` fetches, if it is known.
fn fetched(add: &Add, lock: &Lock) -> Option<String> {
    match (&add.source, add.unknown()) {
        (AddSource::Url { sha256: Some(digest), .. }, _) => Some(digest.hex()),
        (AddSource::Git(git), None) => Some(git.pinned().unwrap_or_default().to_owned()),
        (_, Some(unknown)) => lock.remotes.get(&unknown).cloned(),
        _ => None,
    }
}

/// The settings of an image's own nodes for its configuration, as text by the node's path, and what it is based on elsewhere.
pub fn settings(image: &crate::project::Image, lock: &Lock) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Base::Outside(Outside::Reference(text)) = &image.from
        && let Some(digest) = lock.image(text)
    {
        found.insert("from".to_owned(), digest.to_string());
    }
    let mut say = |path: String, value: String| drop(found.insert(path, value));
    for step in &image.steps {
        match step {
            Step::Env(values) => values.iter().for_each(|(name, value)| say(format!("env.{name}"), value.clone())),
            Step::Arg(values) => values.iter().for_each(|(name, value)| say(format!("arg.{name}"), value.clone())),
            Step::Workdir(path) => say("workdir".into(), path.clone()),
            Step::User(user) => say("user".into(), user.clone()),
            Step::Shell(words) => say("shell".into(), words.join(" ")),
            Step::Debian(_) | Step::Copy(_) | Step::Add(_) | Step::Run(_) | Step::Folder(_) => {}
        }
    }
    image.labels.iter().for_each(|(name, value)| say(format!("label.{name}"), value.clone()));
    if let Some(author) = &image.author {
        say("author".into(), author.clone());
    }
    for (name, words) in [("cmd", &image.cmd), ("entrypoint", &image.entrypoint)] {
        if let Some(words) = words {
            say(name.into(), words.join(" "));
        }
    }
    for (path, ports) in [("expose", &image.expose), ("expose.udp", &image.expose_udp), ("expose.sctp", &image.expose_sctp)] {
        if !ports.is_empty() {
            say(path.into(), shown_ports(&merged_ports(ports.clone())));
        }
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

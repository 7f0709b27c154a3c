//! Builds images: runs the steps that the plan finds undone, several images at once.
//!
//! What is to be done is asked of [`plan::walk`] again after every step, so the build can only do
//! what a plan would show. A build that is cut off leaves every finished step behind, by its key.

mod ahead;
mod copy;
mod run;
mod scan;
mod view;

pub use run::helper;
pub use scan::{ScanCache, Scanner};
pub use view::View;

use self::ahead::{Ahead, Early, Made};
use self::copy::Folders;
use crate::debian::{self, Mirrors, Progress, Settings};
use crate::image;
use crate::lock::Lock;
use crate::model::{Context, Digest, Fault, LayerInfo, Name, Outcome};
use crate::plan::{Facts, FileTree, Image, ImageRecord, Pending, StepOutput, Walk, settings, step_records, walk};
use crate::runtime::{MountKind, MountSpec};
use crate::spec::{Copy, Debian, Places, Project, Propagation, Run, RunSource, Step};
use crate::store::{Lease, Staging, Store, disk_fault};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What happens during a build, for whoever shows it.
#[derive(Clone, Debug)]
pub enum Event {
    Started { image: Name, step: String },
    Finished { image: Name, step: String, millis: u128, reused: bool },
    Output { image: Name, line: String },
    Skipped { image: Name, packages: Vec<String> },
}

/// Everything a build needs.
pub struct Builder<'a> {
    pub project: &'a Project,
    pub places: &'a Places,
    pub lock: &'a Lock,
    pub store: &'a Store,
    pub lease: &'a Mutex<Lease>,
    pub scanner: &'a Scanner,
    pub settings: &'a Settings,
    pub offline: bool,
    pub progress: Arc<Progress>,
    pub report: &'a (dyn Fn(Event) + Sync),
}

/// The facts that planning asks for, from the store and the project's folder.
pub struct StoreFacts<'a> {
    pub store: &'a Store,
    pub scanner: &'a Scanner,
}

impl Facts for StoreFacts<'_> {
    fn step(&self, key: &Digest) -> Option<StepOutput> {
        let output: StepOutput = self.store.result(key)?;
        // A result whose layer was collected or lost is no result.
        output.layer.as_ref().is_none_or(|layer| self.store.layer(&layer.diff_id).is_some()).then_some(output)
    }

    fn image(&self, key: &Digest) -> Option<Image> {
        let digest: Digest = self.store.result(key)?;
        image::load(self.store, &digest)
    }

    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        self.scanner.tree(image, step)
    }
}

impl Builder<'_> {
    fn facts(&self) -> StoreFacts<'_> {
        StoreFacts { store: self.store, scanner: self.scanner }
    }

    /// Builds images, and what they are made from; independent ones at the same time.
    ///
    /// # Errors
    /// The first step that failed, with its place; what was finished stays usable.
    pub fn build(&self, names: &BTreeSet<Name>) -> Outcome<BTreeMap<Name, Image>> {
        let wanted = self.with_bases(names);
        let state: Mutex<State> = Mutex::new(State { left: wanted, busy: BTreeSet::new(), built: BTreeMap::new(), failed: None });
        let changed = Condvar::new();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work(&state, &changed));
            }
        });
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(fault) => Err(fault),
            None => Ok(state.built),
        }
    }

    /// Takes one image after the other whose bases are built, until none is left.
    fn work(&self, state: &Mutex<State>, changed: &Condvar) {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if guard.failed.is_some() || guard.left.is_empty() {
                changed.notify_all();
                return;
            }
            let ready =
                guard.left.iter().find(|name| self.bases(name).iter().all(|base| guard.built.contains_key(base))).cloned();
            let Some(name) = ready else {
                if guard.busy.is_empty() {
                    guard.failed = Some(Fault::new("images wait for each other"));
                    return;
                }
                guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            guard.left.remove(&name);
            guard.busy.insert(name.clone());
            drop(guard);
            let result = self.one(&name);
            guard = state.lock().unwrap_or_else(PoisonError::into_inner);
            guard.busy.remove(&name);
            match result {
                Ok(image) => drop(guard.built.insert(name, image)),
                Err(fault) => guard.failed = guard.failed.take().or(Some(fault)),
            }
            changed.notify_all();
        }
    }

    fn bases(&self, name: &Name) -> Vec<Name> {
        let Some(image) = self.project.images.get(name) else { return Vec::new() };
        image.needs().cloned().collect()
    }

    fn with_bases(&self, names: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut all = BTreeSet::new();
        let mut queue: Vec<Name> = names.iter().cloned().collect();
        while let Some(name) = queue.pop() {
            if all.insert(name.clone()) {
                queue.extend(self.bases(&name));
            }
        }
        all
    }

    /// Builds one image: its steps in order, and as many of their trees as can be at the same time.
    fn one(&self, name: &Name) -> Outcome<Image> {
        let ahead = Ahead::default();
        std::thread::scope(|scope| {
            let result = self.steps(name, &ahead, |early| {
                let lanes = ahead.offer(early).min(std::thread::available_parallelism().map_or(1, usize::from));
                for _ in 0..lanes {
                    scope.spawn(|| ahead.work(|early| self.make(name, early)));
                }
            });
            ahead.close();
            result
        })
    }

    fn steps(&self, name: &Name, ahead: &Ahead, begin: impl Fn(Vec<Early>)) -> Outcome<Image> {
        loop {
            match walk(self.project, self.lock, name, &self.facts()) {
                Walk::Built(image) => {
                    self.pin(image.layers.iter().map(|layer| &layer.diff_id).chain([&image.digest]))?;
                    // A collection may have come between the look and the pin.
                    if image::load(self.store, &image.digest).is_some() {
                        return Ok(image);
                    }
                }
                Walk::Assemble(assembly) => {
                    self.pin([&assembly.key])?;
                    let image = image::save(self.store, &assembly.config, &assembly.layers)?;
                    self.pin([&image.digest])?;
                    self.store.put_result(&assembly.key, &image.digest)?;
                }
                Walk::Step(pending) => {
                    begin(self.early(name, &pending));
                    self.step(name, &pending, ahead.take(pending.index))?;
                }
                Walk::Blocked(other) => return Err(Fault::new(format!("image {name} needs image {other}, which is not built"))),
                Walk::Unlocked => {
                    return Err(Fault::new(format!("the packages of image {name} are not locked")).hint("type `stead update`"));
                }
                Walk::Missing { step, why } => {
                    let place = self.places.of(&format!("image.{name}.step{step}.source0"));
                    return Err(Fault::new(format!("{}{why}", place.map_or_else(String::new, |place| format!("{place}: ")))));
                }
                Walk::Foreign(text) => {
                    return Err(Fault::new(format!("the image \"{text}\" is a registry's, which is not supported yet")));
                }
            }
        }
    }

    /// The steps after one that can be made beside it: all up to the next command.
    fn early(&self, name: &Name, pending: &Pending) -> Vec<Early> {
        let mut workdir = pending.config.workdir.clone();
        let mut found = Vec::new();
        for (index, step) in self.project.images[name].steps.iter().enumerate().skip(pending.index + 1) {
            let mut from = Vec::new();
            match step {
                Step::Run(_) => break,
                Step::Workdir(path) => workdir.clone_from(path),
                Step::Copy(Copy { from: Some(other), .. }) => match walk(self.project, self.lock, other, &self.facts()) {
                    Walk::Built(image) => from = image.layers,
                    _ => continue,
                },
                _ => {}
            }
            if matches!(step, Step::Debian(_) | Step::Copy(_)) {
                found.push(Early { index, workdir: workdir.clone(), below: pending.layers.clone(), from });
            }
        }
        found
    }

    fn pin<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) -> Outcome<()> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests)
    }

    /// Runs one step and records its output under its key.
    fn step(&self, name: &Name, pending: &Pending, made: Option<Made>) -> Outcome<()> {
        let started = Instant::now();
        let step = &self.project.images[name].steps[pending.index];
        let shown = describe(step);
        (self.report)(Event::Started { image: name.clone(), step: shown.clone() });
        self.pin(pending.layers.iter().map(|layer| &layer.diff_id).chain([&pending.key]))?;
        let output = self.output(name, step, pending, made).map_err(|fault| {
            let place = self.places.of(&format!("image.{name}.step{}", pending.index));
            let code = fault.code();
            Fault::caused(
                format!(
                    "{}the step `{shown}` of image {name} failed",
                    place.map_or_else(String::new, |place| format!("{place}: "))
                ),
                fault,
            )
            .exit(code)
        })?;
        if !output.skipped.is_empty() {
            (self.report)(Event::Skipped { image: name.clone(), packages: output.skipped.clone() });
        }
        self.store.put_result(&pending.key, &output)?;
        (self.report)(Event::Finished { image: name.clone(), step: shown, millis: started.elapsed().as_millis(), reused: false });
        Ok(())
    }

    fn output(&self, name: &Name, step: &Step, pending: &Pending, made: Option<Made>) -> Outcome<StepOutput> {
        if let Step::Run(run) = step {
            let (staging, tree) = self.staging()?;
            let report = |line: String| (self.report)(Event::Output { image: name.clone(), line });
            let around = self.around(name, run, pending, &staging)?;
            run::run(run, pending, around, &self.paths(&pending.layers), &staging, &tree, &report)?;
            return Ok(StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() });
        }
        let below = self.view(&pending.layers);
        let still = |made: &Made| ahead::holds(&self.view(&made.below), &below, made);
        let made = match made.filter(still) {
            Some(made) => made,
            None => self.make(
                name,
                &Early {
                    index: pending.index,
                    workdir: pending.config.workdir.clone(),
                    below: pending.layers.clone(),
                    from: pending.from.clone(),
                },
            )?,
        };
        copy::settle(&made.tree(), &below, &made.folders)?;
        Ok(StepOutput { layer: self.adopt(&made.tree())?, skipped: made.skipped })
    }

    /// What a command finds at its mounts.
    fn around(&self, name: &Name, run: &Run, pending: &Pending, staging: &Staging) -> Outcome<run::Around> {
        let mut around = run::Around::default();
        let context = staging.join("context");
        if scan::context_mounts(run).next().is_some() {
            let files = self.scanner.tree(name, pending.index).map_err(Fault::new)?;
            let copy = Copy { to: "/".into(), as_docker: true, ..Copy::default() };
            fs::create_dir(&context).doing(|| "cannot make a staging folder".into())?;
            let below = View::new(Vec::new());
            let folders = copy::from_folder(&copy, files, self.scanner.folder(), &below, "/", &context)?;
            copy::settle(&context, &below, &folders)?;
        }
        let mut contexts = 0;
        for mount in &run.mounts {
            let bind = |source: PathBuf| MountKind::Bind { source, subpath: None, propagation: Propagation::Private };
            let kind = match &mount.source {
                RunSource::Cache { id, mode, owner, locked } => {
                    let place = self.store.root().join("caches").join(Digest::of(id).short(32));
                    if !place.exists() {
                        fs::create_dir_all(&place)
                            .and_then(|()| sys::set_owner(&place, owner.0, owner.1))
                            .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(*mode)))
                            .doing(|| format!("cannot make the cache {id}"))?;
                    }
                    if *locked {
                        let lock = sys::Lock::wait(&place.with_extension("lock"), sys::Hold::Alone);
                        around.locks.push(lock.doing(|| format!("cannot wait for the cache {id}"))?);
                    }
                    bind(place)
                }
                RunSource::Tmpfs { size } => MountKind::Tmpfs { size: *size, mode: 0o1777 },
                RunSource::Image { name, path } => {
                    let layers = pending.mounted.get(name).map(|layers| self.paths(layers)).unwrap_or_default();
                    let subpath = Some(PathBuf::from(path.trim_matches('/'))).filter(|path| !path.as_os_str().is_empty());
                    MountKind::Image { layers: layers.into_iter().rev().collect(), subpath }
                }
                RunSource::Context { .. } => {
                    contexts += 1;
                    bind(context.join((contexts - 1).to_string()))
                }
                RunSource::Secret { name, mode, owner, required } => {
                    let file = self.project.secrets.get(name).map(|file| self.scanner.folder().join(file));
                    match file.as_ref().map(fs::read) {
                        Some(Ok(content)) => around.file(&mount.to, *mode, *owner, content),
                        None if !required => {}
                        None => {
                            return Err(Fault::new(format!("the project has no secret \"{name}\""))
                                .hint(format!("declare it: secret \"{name}\" file=\"…\"")));
                        }
                        Some(Err(error)) => return Err(Fault::caused(format!("cannot read the secret \"{name}\""), error)),
                    }
                    continue;
                }
                RunSource::Script(text) => {
                    // On disk, because memory that files are shown from executes nothing.
                    let place = staging.join(&format!("script{}", around.mounts.len()));
                    fs::write(&place, text)
                        .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
                        .doing(|| "cannot write a script".into())?;
                    bind(place)
                }
            };
            around.mounts.push(MountSpec { kind, to: mount.to.clone().into(), read_only: mount.read_only });
        }
        Ok(around)
    }

    fn staging(&self) -> Outcome<(Staging, PathBuf)> {
        let staging = self.store.staging()?;
        let tree = staging.join("tree");
        fs::create_dir(&tree).map_err(|error| disk_fault("cannot make a staging folder", error))?;
        Ok((staging, tree))
    }

    /// Makes the tree of a `debian` or `copy` step.
    fn make(&self, name: &Name, early: &Early) -> Outcome<Made> {
        let (staging, tree) = self.staging()?;
        let view = self.view(&early.below);
        let mut made =
            Made { staging, skipped: Vec::new(), folders: Folders::new(), below: early.below.clone(), seen: BTreeSet::new() };
        match &self.project.images[name].steps[early.index] {
            Step::Debian(debian) => made.skipped = self.unpack(name, early.index, debian, &tree)?,
            Step::Copy(copy) if copy.from.is_some() => {
                made.folders = copy::from_image(copy, &self.view(&early.from), &view, &early.workdir, &tree)?;
            }
            Step::Folder(path) => made.folders = copy::folder(path, &view, &tree)?,
            Step::Copy(copy) => {
                let files = self.scanner.tree(name, early.index).map_err(Fault::new)?;
                made.folders = copy::from_folder(copy, files, self.scanner.folder(), &view, &early.workdir, &tree)?;
            }
            _ => {}
        }
        made.seen = view.seen();
        Ok(made)
    }

    /// Fetches and unpacks the packages of a step; tells those whose scripts did nothing for us.
    fn unpack(&self, name: &Name, index: usize, debian: &Debian, tree: &Path) -> Outcome<Vec<String>> {
        let earlier = self.project.images[name].steps[..index].iter();
        let number = earlier.filter(|step| matches!(step, Step::Debian(_))).count();
        let packages =
            self.lock.packages(&(name.clone(), number), debian).ok_or_else(|| Fault::new("its packages are not locked"))?;
        let mirrors = || {
            if self.offline {
                return Err(Fault::new("its packages are not all in the store, and --offline forbids fetching them")
                    .hint("run it once without --offline"));
            }
            Mirrors::find(&debian.suite, debian.mirror.as_deref(), self.project, self.settings)
        };
        self.pin(packages.iter().map(|package| &package.sha256))?;
        let files = debian::fetch_packages(self.store, &packages, mirrors, &self.progress)?;
        Ok(debian::unpack(&packages, &files, tree)?.skipped)
    }

    /// Makes a tree a layer of the store, unless it is empty.
    fn adopt(&self, tree: &Path) -> Outcome<Option<LayerInfo>> {
        if fs::read_dir(tree).doing(|| "cannot read a staging folder".into())?.next().is_none() {
            return Ok(None);
        }
        image::normalise(tree).doing(|| "cannot normalise a layer".into())?;
        let info = image::digest_tree(tree).doing(|| "cannot read a layer".into())?;
        self.pin([&info.diff_id])?;
        self.store.adopt_layer(tree, &info)?;
        Ok(Some(info))
    }

    fn paths(&self, layers: &[LayerInfo]) -> Vec<PathBuf> {
        layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect()
    }

    fn view(&self, layers: &[LayerInfo]) -> View {
        View::new(self.paths(layers))
    }
}

/// What a built image came from, for telling later why it must be built again.
///
/// # Errors
/// Those of writing the listings of copied files.
pub fn record(project: &Project, lock: &Lock, facts: &StoreFacts, name: &Name, image: &Image) -> Outcome<ImageRecord> {
    let mut steps = Vec::new();
    for (index, mut step) in step_records(project, lock, name, facts) {
        if let Ok(tree) = facts.scanner.tree(name, index) {
            let listing = serde_json::to_vec(tree).doing(|| "cannot list copied files".into())?;
            step.listing = Some(facts.store.put_blob(&listing)?);
        }
        steps.push(step);
    }
    let settings = project.images.get(name).map(settings).unwrap_or_default();
    Ok(ImageRecord { digest: image.digest, steps, settings })
}

struct State {
    left: BTreeSet<Name>,
    busy: BTreeSet<Name>,
    built: BTreeMap<Name, Image>,
    failed: Option<Fault>,
}

/// A step in a few words.
/// A step in one line.
pub fn describe(step: &Step) -> String {
    match step {
        Step::Debian(debian) => format!("debian {} ({})", debian.suite, debian.packages.join(" ")),
        Step::Copy(copy) => {
            let names: Vec<&str> =
                copy.sources.iter().chain(copy.inline.iter().map(|(name, _)| name)).map(String::as_str).collect();
            format!("copy {} to {}", names.join(" "), copy.to)
        }
        Step::Folder(path) => format!("folder {path}"),
        Step::Run(run) => {
            let text = run.words.join(" ");
            let line = text.lines().next().unwrap_or_default();
            if line.len() < text.len() { format!("run {line} …") } else { format!("run {line}") }
        }
        _ => "settings".into(),
    }
}

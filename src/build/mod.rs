//! Builds images: runs the steps that the plan finds undone, several images at once.
//!
//! What is to be done is asked of [`plan::walk`] again after every step, so the build can only do
//! what a plan would show. A build that is cut off leaves every finished step behind, by its key.

mod ahead;
mod configure;
mod copy;
mod known;
mod mounts;
mod run;
mod scan;
mod squash;
mod view;

pub use known::ScanCache;
pub use run::helper;
pub use scan::Scanner;
pub use view::View;

use self::ahead::{Ahead, Early, Made};
use self::copy::{Folders, Last, Onto, Source};
use crate::debian::{self, Mirrors, Settings};
use crate::fetch::{self, Progress};
use crate::git;
use crate::image;
use crate::lock::{Lock, LockedPackage};
use crate::model::{Context, Digest, Fault, LayerInfo, Name, Outcome, without_login};
use crate::plan::{
    Facts, FileTree, Image, ImageRecord, Import, Pending, Squash, StepOutput, Walk, copy_is_known, settings, step_records, walk,
};
use crate::registry;
use crate::runtime::Spec;
use crate::spec::{Add, AddSource, Copy, Debian, Outside, Places, Project, Run, Step};
use crate::store::{Cache, Lease, Staging, Store, disk_fault, read_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What happens during a build, for whoever shows it.
#[derive(Clone, Debug)]
pub enum Event {
    /// The step's place among the image's; none for what is no step.
    Started {
        image: Name,
        step: String,
        index: Option<usize>,
    },
    Finished {
        image: Name,
        step: String,
        millis: u128,
        reused: bool,
    },
    Failed {
        image: Name,
    },
    Output {
        image: Name,
        line: String,
    },
    Skipped {
        image: Name,
        packages: Vec<String>,
    },
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
    /// Whether commands may use the user's ssh agent.
    pub ssh: bool,
}

/// Where a bundle's results lie in its project's folder.
pub const SEALED: &str = ".stead/results";

/// The facts that planning asks for, from the store and the project's folder.
pub struct StoreFacts<'a> {
    pub store: &'a Store,
    pub scanner: &'a Scanner,
}

impl StoreFacts<'_> {
    /// What a step came to, by the store or by what came with the project's bundle: that is believed for this
    /// project only.
    fn result<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        let sealed = || read_json(&self.scanner.folder().join(SEALED).join(key.hex()));
        self.store.result(key).or_else(sealed)
    }
}

impl Facts for StoreFacts<'_> {
    fn step(&self, key: &Digest) -> Option<StepOutput> {
        let output: StepOutput = self.result(key)?;
        // A result whose layer was collected or lost is no result.
        output.layer.as_ref().is_none_or(|layer| self.store.layer(&layer.diff_id).is_some()).then_some(output)
    }

    fn image(&self, key: &Digest) -> Option<Image> {
        let digest: Digest = self.result(key)?;
        image::load(self.store, &digest)
    }

    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        self.scanner.tree(image, step)
    }

    fn listing(&self, digest: &Digest) -> Option<FileTree> {
        serde_json::from_slice(&self.store.blob(digest)?).ok()
    }

    fn archive(&self, outside: &Outside) -> Result<Digest, String> {
        self.scanner.archive(outside)
    }

    fn surroundings(
        &self,
        copy: &Copy,
        workdir: &str,
        below: &[LayerInfo],
        from: &[LayerInfo],
        tree: Option<&FileTree>,
    ) -> Option<Digest> {
        let view = |layers: &[LayerInfo]| View::new(layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect());
        let from = copy.from.as_ref().map(|_| view(from));
        copy::surroundings(copy, workdir, &view(below), from.as_ref(), tree)
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
                    self.pin(image.parts())?;
                    // A collection may have come between the look and the pin.
                    if image::load(self.store, &image.digest).is_some() {
                        return Ok(image);
                    }
                }
                Walk::Assemble(assembly) => {
                    self.pin([&assembly.key])?;
                    let image = image::save(self.store, &assembly.config, &assembly.layers, self.lock.epoch)?;
                    self.pin([&image.digest])?;
                    image::keep_provenance(self.store, &image.digest, &self.provenance(name, &image))?;
                    self.store.put_result(&assembly.key, &image.digest)?;
                }
                Walk::Step(pending) => {
                    begin(self.early(name, &pending));
                    self.step(name, &pending, ahead.take(pending.index))?;
                }
                Walk::Squash(squash) => self.squash(name, &squash)?,
                Walk::Import(import) => self.import(name, &import)?,
                Walk::Blocked(other) => return Err(Fault::new(format!("image {name} needs image {other}, which is not built"))),
                Walk::Unlocked => {
                    return Err(Fault::new(format!("what image {name} is made of is not locked")).hint("type `stead update`"));
                }
                Walk::Missing { step, why } => return Err(self.at(name, &format!("step{step}.source0"), &why)),
                Walk::NoArchive(why) => return Err(self.at(name, "from", &why)),
            }
        }
    }

    /// What an image was made of, as an in-toto statement; it is kept beside the image.
    fn provenance(&self, name: &Name, image: &Image) -> serde_json::Value {
        let Some(described) = self.project.images.get(name) else { return serde_json::Value::Null };
        let steps: Vec<String> = described.steps.iter().map(describe).collect();
        let mut materials: Vec<image::Material> = Vec::new();
        let mut debians = 0;
        for (index, step) in described.steps.iter().enumerate() {
            match step {
                Step::Debian(debian) => {
                    let packages = self.lock.packages(&(name.clone(), debians), debian).unwrap_or_default();
                    debians += 1;
                    materials.extend(
                        packages
                            .iter()
                            .map(|one| (image::package_url(&one.name, &one.version, &one.architecture), one.sha256).into()),
                    );
                }
                Step::Copy(Copy { from: None, context, .. }) => {
                    let folder = context.as_ref().map_or("", |context| context.folder.as_str());
                    materials.extend(
                        self.scanner
                            .tree(name, index)
                            .ok()
                            .map(|tree| (format!("file:{folder}#step{index}"), tree.digest()).into()),
                    );
                }
                Step::Add(add) => {
                    let locked = add.unknown().and_then(|unknown| self.lock.remotes.get(&unknown));
                    materials.extend(match &add.source {
                        AddSource::Url { url, sha256 } => {
                            let known = sha256.or_else(|| Digest::parse(locked?));
                            known.map(|digest| (without_login(url), digest).into())
                        }
                        AddSource::Git(git) => {
                            let commit = git.pinned().or(locked.map(String::as_str));
                            commit.map(|commit| image::Material::commit(&git.place.shown(), commit))
                        }
                    });
                }
                _ => {}
            }
        }
        for other in described.needs() {
            if let Walk::Built(built) = walk(self.project, self.lock, other, &self.facts()) {
                materials.push((format!("urn:stead:image:{other}"), built.digest).into());
            }
        }
        image::provenance(name.as_str(), &image.digest, &steps, &materials)
    }

    /// A fault with its place in the project's files.
    fn at(&self, name: &Name, part: &str, why: &str) -> Fault {
        let place = self.places.of(&format!("image.{name}.{part}"));
        Fault::new(format!("{}{why}", place.map_or_else(String::new, |place| format!("{place}: "))))
    }

    /// Makes one layer of an image's own.
    fn squash(&self, name: &Name, squash: &Squash) -> Outcome<()> {
        let started = Instant::now();
        let shown = format!("squash {} layers", squash.own.len());
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: None });
        self.pin(squash.below.iter().chain(&squash.own).map(|layer| &layer.diff_id).chain([&squash.key]))?;
        let (_staging, tree) = self.staging()?;
        squash::squash(&self.paths(&squash.own), &tree)?;
        let output = StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() };
        self.store.put_result(&squash.key, &output)?;
        (self.report)(Event::Finished { image: name.clone(), step: shown, millis: started.elapsed().as_millis(), reused: false });
        Ok(())
    }

    /// Takes an image that is made elsewhere into the store.
    fn import(&self, name: &Name, import: &Import) -> Outcome<()> {
        let started = Instant::now();
        let shown = match &import.outside {
            Outside::Archive { path, .. } => format!("take in {path}"),
            Outside::Reference(text) => format!("pull {text}"),
        };
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: None });
        self.pin([&import.key])?;
        let image = match (&import.outside, import.digest) {
            (Outside::Archive { path, name: wanted }, _) => {
                let layout =
                    image::Archive::open(&self.scanner.folder().join(path)).and_then(|archive| archive.image(wanted.as_deref()));
                layout.and_then(|layout| layout.import(self.store, &|digests| self.pin(digests)))
            }
            (Outside::Reference(text), Some(digest)) => match image::load(self.store, &digest) {
                Some(image) => Ok(image),
                None if self.offline => Err(Fault::new(format!(
                    "the image \"{text}\" that stead.lock names is not in the store, and --offline forbids fetching it"
                ))
                .hint(format!("it is {}; run it once without --offline", digest.short(12)))),
                None => registry::pull(self.store, text, digest, &self.progress, &|digests| self.pin(digests)),
            },
            (Outside::Reference(text), None) => Err(Fault::new(format!("the image \"{text}\" is not locked"))),
        };
        let image = image.map_err(|fault| {
            let code = fault.code();
            Fault::caused(self.at(name, "from", &format!("cannot {shown}")).to_string(), fault).exit(code)
        })?;
        self.pin(image.parts())?;
        self.store.put_result(&import.key, &image.digest)?;
        (self.report)(Event::Finished { image: name.clone(), step: shown, millis: started.elapsed().as_millis(), reused: false });
        Ok(())
    }

    /// The steps after one that can be made beside it: all up to the next command.
    fn early(&self, name: &Name, pending: &Pending) -> Vec<Early> {
        let mut workdir = pending.config.workdir.clone();
        let mut found = Vec::new();
        for (index, step) in self.project.images[name].steps.iter().enumerate().skip(pending.index + 1) {
            let mut from = Vec::new();
            match step {
                Step::Run(_) | Step::Debian(Debian { configure: true, .. }) => break,
                Step::Workdir(path) => workdir.clone_from(path),
                Step::Copy(Copy { from: Some(other), .. }) => match walk(self.project, self.lock, other, &self.facts()) {
                    Walk::Built(image) => from = image.layers,
                    _ => continue,
                },
                _ => {}
            }
            if let Step::Copy(copy) = step {
                let whose = (self.project, self.lock, name);
                if copy_is_known(whose, &self.facts(), (index, copy), &pending.layers, &workdir) {
                    continue;
                }
            }
            if matches!(step, Step::Debian(_) | Step::Copy(_) | Step::Add(_)) {
                found.push(Early { index, workdir: workdir.clone(), user: String::new(), below: pending.layers.clone(), from });
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
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: Some(pending.index) });
        self.pin(pending.layers.iter().map(|layer| &layer.diff_id).chain([&pending.key]))?;
        // A collection may have come between the look and the pin: then there is more to do first.
        let used = pending.layers.iter().chain(&pending.from).chain(pending.mounted.values().flatten());
        self.pin(used.clone().map(|layer| &layer.diff_id))?;
        if used.clone().any(|layer| self.store.layer(&layer.diff_id).is_none()) {
            return Ok(());
        }
        let output = self.output(name, step, pending, made).map_err(|fault| {
            (self.report)(Event::Failed { image: name.clone() });
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
        if let Some(narrow) = &pending.narrow {
            self.pin([narrow])?;
            self.store.put_result(narrow, &output)?;
        }
        (self.report)(Event::Finished { image: name.clone(), step: shown, millis: started.elapsed().as_millis(), reused: false });
        Ok(())
    }

    fn output(&self, name: &Name, step: &Step, pending: &Pending, made: Option<Made>) -> Outcome<StepOutput> {
        if let Step::Run(run) = step {
            let (staging, tree) = self.staging()?;
            let report = |line: String| (self.report)(Event::Output { image: name.clone(), line });
            let around = self.around(name, run, pending, &staging)?;
            run::run(run, pending, around, &self.paths(&pending.layers), (self.store, &staging, &tree), &report)
                .map_err(|fault| advise(fault, name, run))?;
            return Ok(StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() });
        }
        if let Step::Debian(debian) = step
            && debian.configure
        {
            return self.configure(name, debian, pending);
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
                    user: pending.config.user.clone(),
                    below: pending.layers.clone(),
                    from: pending.from.clone(),
                },
            )?,
        };
        copy::settle(&made.tree(), &below, &made.folders, self.lock.epoch)?;
        let layer = self.adopt(&made.tree())?;
        if let (Step::Copy(copy), Some(layer)) = (step, &layer)
            && copy.is_plain()
        {
            let files = self.scanner.tree(name, pending.index).map_err(Fault::new)?;
            let onto = Onto { below: &below, workdir: &pending.config.workdir, tree: &made.tree(), epoch: self.lock.epoch };
            let manner = copy::manner(copy, files, onto)?;
            let last = LastCopy { layer: layer.clone(), manner, listing: listing(self.store, files)? };
            self.store.put_result(&self.last_key(name, pending.index), &last)?;
        }
        Ok(StepOutput { layer, skipped: made.skipped })
    }

    /// A shell in the state before the next command that an image would run; nothing where no command comes next.
    ///
    /// # Errors
    /// Those of preparing it.
    pub fn rescue(&self, name: &Name) -> Outcome<Option<Rescue>> {
        let Walk::Step(pending) = walk(self.project, self.lock, name, &self.facts()) else { return Ok(None) };
        let step = &self.project.images[name].steps[pending.index];
        let Step::Run(run) = step else { return Ok(None) };
        self.pin(pending.layers.iter().map(|layer| &layer.diff_id))?;
        let (staging, tree) = self.staging()?;
        run::folders(&staging)?;
        let mut around = self.around(name, run, &pending, &staging)?;
        let caches = std::mem::take(&mut around.caches);
        let contents = around.contents();
        let mut spec = run::spec(run, &pending, around, &self.paths(&pending.layers), &staging, &tree);
        spec.process.args = vec![pending.config.shell().swap_remove(0)];
        spec.process.tty = true;
        Ok(Some(Rescue { spec, contents, step: describe(step), _staging: staging, _caches: caches }))
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
        let onto = Onto { below: &view, workdir: &early.workdir, tree: &tree, epoch: self.lock.epoch };
        match &self.project.images[name].steps[early.index] {
            Step::Debian(debian) => made.skipped = self.unpack(name, early.index, debian, &tree)?,
            Step::Copy(copy) if copy.from.is_some() => made.folders = copy::from_image(copy, &self.view(&early.from), onto)?,
            Step::Folder(path) => made.folders = copy::folder(path, &early.user, onto)?,
            Step::Copy(copy) => {
                let files = self.scanner.tree(name, early.index).map_err(Fault::new)?;
                let last = self.last(name, early.index)?;
                made.folders = copy::from_folder(copy, files, self.source(last.as_ref()), onto)?;
            }
            Step::Add(add) => made.folders = self.add(add, &made.staging, onto)?,
            _ => {}
        }
        made.seen = view.seen();
        Ok(made)
    }

    fn source<'s>(&'s self, last: Option<&'s Last>) -> Source<'s> {
        Source { folder: self.scanner.folder(), known: &self.scanner.cache, last }
    }

    fn last_key(&self, name: &Name, index: usize) -> Digest {
        Digest::of_json(&("last copy", self.scanner.folder(), name, index))
    }

    /// What a step copied when it was last run.
    fn last(&self, name: &Name, index: usize) -> Outcome<Option<Last>> {
        let Some(LastCopy { layer, manner, listing }) = self.store.result(&self.last_key(name, index)) else { return Ok(None) };
        self.pin([&layer.diff_id])?;
        let there = self.store.layer(&layer.diff_id).and_then(|_| self.store.blob(&listing));
        let files = there.and_then(|listing| serde_json::from_slice(&listing).ok());
        Ok(files.map(|files| Last { tree: self.store.layer_path(&layer.diff_id), files, manner }))
    }

    /// Fetches what an `add` names, and puts it in place.
    fn add(&self, add: &Add, staging: &Staging, onto: Onto) -> Outcome<Folders> {
        let copy = Copy {
            to: add.to.clone(),
            owner: add.owner.clone(),
            mode: add.mode.clone(),
            exclude: add.exclude.clone(),
            unpack: add.unpack,
            as_docker: add.as_docker,
            ..Copy::default()
        };
        let locked = add.unknown().map(|unknown| self.lock.remotes.get(&unknown).cloned().unwrap_or_default());
        let offline = |what: &str| Fault::new(format!("{what} is not in the store, and --offline forbids fetching it"));
        match &add.source {
            AddSource::Url { url, sha256 } => {
                let digest = sha256.or_else(|| Digest::parse(locked.as_deref()?));
                let digest = digest.ok_or_else(|| Fault::new(format!("{url} is not locked")).hint("type `stead update`"))?;
                self.pin([&digest])?;
                if self.offline && !self.store.download_path(&digest).is_file() {
                    return Err(offline(url));
                }
                fetch::file(self.store, url, Some(&digest), &self.progress)?;
                let name = url.split(['?', '#']).next().unwrap_or(url).rsplit('/').next().unwrap_or_default();
                copy::from_file(&copy, &self.store.download_path(&digest), name, onto)
            }
            AddSource::Git(git) => {
                let commit = locked.or_else(|| git.pinned().map(str::to_owned)).unwrap_or_default();
                let tree = staging.join("checkout");
                if self.offline {
                    return Err(offline(&git.place.shown()));
                }
                let scratch = staging.join("git");
                fs::create_dir(&tree).and_then(|()| fs::create_dir(&scratch)).doing(|| "cannot make a staging folder".into())?;
                let folder = git.folder.as_deref();
                let wanted = git::Wanted { commit: &commit, folder, dot_git: git.dot_git, submodules: git.submodules };
                git::checkout(&git.place, wanted, &tree, &scratch)?;
                copy::from_tree(&copy, &tree, onto)
            }
        }
    }

    /// Fetches and unpacks the packages of a step; tells those whose scripts did nothing for us.
    fn unpack(&self, name: &Name, index: usize, debian: &Debian, tree: &Path) -> Outcome<Vec<String>> {
        let (packages, files) = self.packages(name, index, debian)?;
        Ok(debian::unpack(&packages, &files, tree, self.lock.epoch)?.skipped)
    }

    /// The packages of a step, and where the store has them.
    fn packages(&self, name: &Name, index: usize, debian: &Debian) -> Outcome<(Vec<&LockedPackage>, Vec<PathBuf>)> {
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
        let files = debian::fetch_packages(self.store, &packages, mirrors, &self.settings.folder, &self.progress)?;
        Ok((packages, files))
    }

    /// Makes a tree a layer of the store, unless it is empty.
    fn adopt(&self, tree: &Path) -> Outcome<Option<LayerInfo>> {
        if fs::read_dir(tree).doing(|| "cannot read a staging folder".into())?.next().is_none() {
            return Ok(None);
        }
        let info = image::digest_tree(tree, self.lock.epoch).doing(|| "cannot read a layer".into())?;
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

/// A shell in the state before a command.
pub struct Rescue {
    pub spec: Spec,
    pub contents: Vec<Vec<u8>>,
    /// Where the command stands, and what it is.
    pub step: String,
    _staging: Staging,
    _caches: Vec<Cache>,
}

/// What a built image came from, for telling later why it must be built again.
///
/// # Errors
/// Those of writing the listings of copied files.
pub fn record(project: &Project, lock: &Lock, facts: &StoreFacts, name: &Name, image: &Image) -> Outcome<ImageRecord> {
    let mut steps = Vec::new();
    for (index, mut step) in step_records(project, lock, name, facts) {
        if let Ok(tree) = facts.scanner.tree(name, index) {
            step.listing = Some(listing(facts.store, tree)?);
        }
        steps.push(step);
    }
    let settings = project.images.get(name).map(settings).unwrap_or_default();
    Ok(ImageRecord { digest: image.digest, steps, settings })
}

/// Keeps what a copy took.
fn listing(store: &Store, files: &FileTree) -> Outcome<Digest> {
    store.put_blob(&serde_json::to_vec(files).doing(|| "cannot list copied files".into())?)
}

/// What a step copied, and to which layer that came.
#[derive(Serialize, Deserialize)]
struct LastCopy {
    layer: LayerInfo,
    manner: Digest,
    listing: Digest,
}

struct State {
    left: BTreeSet<Name>,
    busy: BTreeSet<Name>,
    built: BTreeMap<Name, Image>,
    failed: Option<Fault>,
}

/// What may help when a command fails.
fn advise(fault: Fault, name: &Name, run: &Run) -> Fault {
    if fault.advice().is_some() {
        return fault;
    }
    let network = if run.network { "" } else { "if it needs the network: run … network=#true; " };
    fault.hint(format!("{network}to look around in the state before it: stead build --shell-on-failure {name}"))
}

/// A step in one line.
pub fn describe(step: &Step) -> String {
    match step {
        Step::Debian(debian) => format!("debian {} ({})", debian.suite, debian.packages.join(" ")),
        Step::Copy(copy) => {
            let names: Vec<&str> =
                copy.sources.iter().chain(copy.inline.iter().map(|(name, _)| name)).map(String::as_str).collect();
            format!("copy {} to {}", names.join(" "), copy.to)
        }
        Step::Add(add) => match &add.source {
            AddSource::Url { url, .. } => format!("add {} to {}", without_login(url), add.to),
            AddSource::Git(git) => format!("add {} to {}", git.place.shown(), add.to),
        },
        Step::Folder(path) => format!("folder {path}"),
        Step::Run(run) => {
            let text = run.words.join(" ");
            let line = text.lines().next().unwrap_or_default();
            if line.len() < text.len() { format!("run {line} …") } else { format!("run {line}") }
        }
        _ => "settings".into(),
    }
}

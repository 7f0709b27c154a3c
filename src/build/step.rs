//! Runs one step: its tree, made now or ahead of its turn, becomes a layer.

use super::copy::{self, Folders, Last, Onto, Source};
use super::prebuild::{self, Early, Made};
use super::records::{describe, listing};
use super::{Builder, Event, View, run};
use crate::debian::{self, Mirrors};
use crate::fetch;
use crate::git;
use crate::image::{self, Checkpoints};
use crate::lock::LockedPackage;
use crate::model::{Context, Digest, Error, LayerInfo, Name, Result};
use crate::plan::{Pending, StepOutput};
use crate::project::{Add, AddSource, Copy, Debian, NodePath, Run, RunNetwork, Step};
use crate::store::{Refers, Staging};
use crate::sys::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the result of a step refers to: its layer, or nothing if the step changed nothing.
pub(super) fn refers(output: &StepOutput) -> Refers {
    output.layer.as_ref().map_or_else(Refers::default, |layer| Refers::to(layer.diff_id))
}

impl Builder<'_> {
    /// Runs one step and records its output under its key.
    pub(super) fn step(&self, name: &Name, pending: &Pending, made: Option<Made>) -> Result<()> {
        let started = Instant::now();
        let step = &self.project.images[name].steps[pending.index];
        let shown = describe(step);
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: Some(pending.index) });
        self.pin(pending.layers.iter().map(|layer| &layer.diff_id).chain([&pending.key]))?;
        // A garbage collection may have removed layers between the check and the pin; then earlier steps must run again first.
        let used = pending.layers.iter().chain(&pending.from).chain(pending.mounted.values().flatten());
        self.pin(used.clone().map(|layer| &layer.diff_id))?;
        if used.clone().any(|layer| self.store.layer(&layer.diff_id).is_none()) {
            return Ok(());
        }
        let output = self.output(name, step, pending, made).map_err(|error| {
            (self.report)(Event::Failed { image: name.clone() });
            let place = self.places.of(&NodePath::image(name).step(pending.index));
            Error::caused(format!("the step `{shown}` of image {name} failed"), error).at(place)
        })?;
        if !output.skipped.is_empty() {
            (self.report)(Event::Skipped { image: name.clone(), packages: output.skipped.clone() });
        }
        self.store.put_result(&pending.key, refers(&output), &output)?;
        if let Some(narrow) = &pending.narrow {
            self.pin([narrow])?;
            self.store.put_result(narrow, refers(&output), &output)?;
        }
        let (index, millis) = (Some(pending.index), super::millis(started));
        (self.report)(Event::Finished { image: name.clone(), step: shown, index, millis });
        Ok(())
    }

    fn output(&self, name: &Name, step: &Step, pending: &Pending, made: Option<Made>) -> Result<StepOutput> {
        if let Step::Run(run) = step {
            let (staging, tree) = self.staging()?;
            let report = |line: String| (self.report)(Event::Output { image: name.clone(), line });
            let around = self.around(name, run, pending, &staging)?;
            let (interface, _network) = self.interface(run.network)?.unzip();
            let layers = self.paths(&pending.layers);
            let devices = run::run(run, pending, around, interface, &layers, (self.store, &staging, &tree), &report)
                .map_err(|error| advise(error, name, run))?;
            self.tell_devices(name, step, devices);
            return Ok(StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() });
        }
        if let Step::Debian(debian) = step
            && debian.configure
        {
            return self.configure(name, debian, pending);
        }
        let below = self.view(&pending.layers);
        let still = |made: &Made| prebuild::holds(&self.view(&made.below), &below, made);
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
        let tree = super::open(&made.tree())?;
        let nothing = View::new(Vec::new());
        let place = if step.is_linked() { &nothing } else { &below };
        copy::settle(&tree, place, &made.folders, self.lock.epoch)?;
        let layer = match step {
            Step::Copy(copy) if copy.is_plain() => self.adopt_copy(name, copy, pending, &made, (place, &below))?,
            _ => self.adopt(&made.tree())?,
        };
        Ok(StepOutput { layer, skipped: made.skipped })
    }

    /// Adds what a plain copy made to the store, and keeps what its next run can use. It was put onto `place`, and its owners are
    /// those of `users`.
    fn adopt_copy(
        &self,
        name: &Name,
        copy: &Copy,
        pending: &Pending,
        made: &Made,
        (place, users): (&View, &View),
    ) -> Result<Option<LayerInfo>> {
        let (path, beside) = (made.tree(), made.staging.join(""));
        let tree = super::open(&path)?;
        if super::is_empty(&tree)? {
            return Ok(None);
        }
        let files = self.scanner.tree(name, pending.index).map_err(Error::new)?;
        let (workdir, epoch) = (&pending.config.workdir, self.lock.epoch);
        let onto = Onto { below: place, users, workdir, tree: &tree, beside: &beside, epoch };
        let (manner, brought) = (copy::manner(copy, files, onto)?, copy::Brought::by(copy, files, onto));
        let key = self.last_key(name, pending.index);
        let last = self.store.result::<LastCopy>(&key).filter(|last| last.manner == manner);
        let earlier = last.map(|last| last.checkpoints).unwrap_or_default();
        let known = |path: &Path| brought.at(path);
        let digested = image::digest_tree_after(&tree, self.lock.epoch, &earlier, &known);
        let (layer, checkpoints) = digested.context(|| "cannot read a layer".into())?;
        self.keep(&path, &layer)?;
        let last = LastCopy { layer: layer.clone(), manner, listing: listing(self.store, files)?, checkpoints };
        self.store.put_result(&key, Refers::to(layer.diff_id).bringing(last.listing), &last)?;
        Ok(Some(layer))
    }

    /// Tells which devices a step's command made: images have none.
    pub(super) fn tell_devices(&self, name: &Name, step: &Step, paths: Vec<PathBuf>) {
        if !paths.is_empty() {
            (self.report)(Event::LeftOut { image: name.clone(), step: describe(step), paths });
        }
    }

    /// Makes the tree of a step that runs no command.
    pub(super) fn make(&self, name: &Name, early: &Early) -> Result<Made> {
        let (staging, tree) = self.staging()?;
        let view = self.view(&early.below);
        let mut made =
            Made { staging, skipped: Vec::new(), folders: Folders::new(), below: early.below.clone(), seen: BTreeSet::new() };
        let (opened, beside) = (super::open(&tree)?, made.staging.join(""));
        let (step, nothing) = (&self.project.images[name].steps[early.index], View::new(Vec::new()));
        let place = if step.is_linked() { &nothing } else { &view };
        let (workdir, epoch) = (&early.workdir, self.lock.epoch);
        let onto = Onto { below: place, users: &view, workdir, tree: &opened, beside: &beside, epoch };
        match step {
            Step::Debian(debian) => made.skipped = self.unpack(name, early.index, debian, &tree)?,
            Step::Copy(copy) if copy.from.is_some() => {
                let from = View::new(self.parts(&early.from, &made.staging)?);
                made.folders = copy::from_image(copy, &from, onto)?;
            }
            Step::Folder(path) => made.folders = copy::folder(path, &early.user, onto)?,
            Step::Copy(copy) => {
                let files = self.scanner.tree(name, early.index).map_err(Error::new)?;
                let last = self.last(name, early.index)?;
                made.folders = copy::from_folder(copy, files, self.source(last.as_ref()), onto)?;
            }
            Step::Add(add) => made.folders = self.add(add, &made.staging, onto)?,
            _ => {}
        }
        made.seen = view.seen();
        Ok(made)
    }

    pub(super) fn source<'s>(&'s self, last: Option<&'s Last>) -> Source<'s> {
        Source { ground: self.scanner.ground(), known: &self.scanner.cache, last }
    }

    fn last_key(&self, name: &Name, index: usize) -> Digest {
        Digest::of_json(&("last copy", self.scanner.folder(), name, index))
    }

    /// Looks up what a step copied when it last ran.
    fn last(&self, name: &Name, index: usize) -> Result<Option<Last>> {
        let Some(LastCopy { layer, manner, listing, .. }) = self.store.result(&self.last_key(name, index)) else {
            return Ok(None);
        };
        self.pin([&layer.diff_id])?;
        let there = self.store.layer(&layer.diff_id).and_then(|_| self.store.blob(&listing));
        let files = there.and_then(|listing| serde_json::from_slice(&listing).ok());
        let Some(files) = files else { return Ok(None) };
        let tree = Tree::open(&self.store.layer_path(&layer.diff_id)).context(|| "cannot open a layer".into())?;
        Ok(Some(Last { tree, files, manner }))
    }

    /// Fetches the source of an `add` step, and puts it in place.
    fn add(&self, add: &Add, staging: &Staging, onto: Onto) -> Result<Folders> {
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
        let offline = |what: &str| Error::new(format!("{what} is not in the store, and --offline forbids fetching it"));
        match &add.source {
            AddSource::Url { url, sha256 } => {
                let digest = sha256.or_else(|| Digest::parse(locked.as_deref()?));
                let digest = digest.ok_or_else(|| Error::new(format!("{url} is not locked")).hint("type `stead update`"))?;
                self.pin([&digest])?;
                if self.offline && !self.store.download_path(&digest).is_file() {
                    return Err(offline(url));
                }
                fetch::file(self.store, url, Some(&digest), &self.progress)?;
                let name = url.split(['?', '#']).next().unwrap_or(url).rsplit('/').next().unwrap_or_default();
                let file = fs::File::open(self.store.download_path(&digest)).context(|| format!("cannot read {url}"))?;
                copy::from_file(&copy, &file, name, onto)
            }
            AddSource::Git(git) => {
                let commit = locked.or_else(|| git.pinned().map(str::to_owned)).unwrap_or_default();
                let tree = staging.join("checkout");
                if self.offline {
                    return Err(offline(&git.place.shown()));
                }
                let scratch = staging.join("git");
                fs::create_dir(&tree)
                    .and_then(|()| fs::create_dir(&scratch))
                    .context(|| "cannot make a staging directory".into())?;
                let folder = git.folder.as_deref();
                let wanted = git::Wanted { commit: &commit, folder, dot_git: git.dot_git, submodules: git.submodules };
                git::checkout(&git.place, wanted, &tree, &scratch)?;
                copy::from_tree(&copy, &tree, onto)
            }
        }
    }

    /// Fetches and unpacks the packages of a step; returns the names of those whose scripts were skipped.
    fn unpack(&self, name: &Name, index: usize, debian: &Debian, tree: &Path) -> Result<Vec<String>> {
        let (packages, files) = self.packages(name, index, debian)?;
        Ok(debian::unpack(&packages, &files, tree, self.lock.epoch)?.skipped)
    }

    /// Makes sure that the packages of a step are in the store; returns them with their paths there.
    pub(super) fn packages(&self, name: &Name, index: usize, debian: &Debian) -> Result<(Vec<&LockedPackage>, Vec<PathBuf>)> {
        let earlier = self.project.images[name].steps[..index].iter();
        let number = earlier.filter(|step| matches!(step, Step::Debian(_))).count();
        let packages =
            self.lock.packages(&(name.clone(), number), debian).ok_or_else(|| Error::new("its packages are not locked"))?;
        let mirrors = || {
            if self.offline {
                return Err(Error::new("its packages are not all in the store, and --offline forbids fetching them")
                    .hint("run it once without --offline"));
            }
            Mirrors::find(&debian.suite, debian.mirror.as_deref(), &self.project.mirrors, self.settings)
        };
        self.pin(packages.iter().map(|package| &package.sha256))?;
        let files = debian::fetch_packages(self.store, &packages, mirrors, &self.settings.folder, &self.progress)?;
        Ok((packages, files))
    }
}

/// What a step copied, and the layer that resulted.
#[derive(Serialize, Deserialize)]
struct LastCopy {
    layer: LayerInfo,
    manner: Digest,
    listing: Digest,
    /// Where the digest of the layer can be taken up again.
    checkpoints: Checkpoints,
}

/// Adds a hint to the error of a failed command.
fn advise(error: Error, name: &Name, run: &Run) -> Error {
    if error.advice().is_some() {
        return error;
    }
    let network = if run.network != RunNetwork::None { "" } else { "if it needs the network: run … network=#true; " };
    error.hint(format!("{network}to look around in the state before it: stead build --shell-on-failure {name}"))
}

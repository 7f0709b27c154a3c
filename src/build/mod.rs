//! Builds images: runs the steps that the plan says are not done yet.
//!
//! After every step the build asks [`plan::walk`] what to do next, so it can only do what a plan
//! would show. An interrupted build keeps every finished step, stored by its key.

mod clean;
mod configure;
mod copy;
mod facts;
mod ground;
mod ignore;
mod mounts;
mod network;
mod prebuild;
mod reader;
mod records;
mod rescue;
mod run;
mod scan;
mod scan_cache;
mod squash;
mod step;
mod target;
mod view;

pub use facts::{Sealed, StoreFacts, sealed_place};
pub use ground::Ground;
pub use ignore::Ignore;
pub use records::{describe, record};
pub use rescue::Rescue;
pub use run::{helper, sweep};
pub use scan::Scanner;
pub use scan_cache::{Identity, ScanCache};
pub use view::View;

pub use self::network::Network;
use self::prebuild::{Ahead, Early};
use crate::debian::Settings;
use crate::fetch::Progress;
use crate::image;
use crate::lock::Lock;
use crate::model::{Context, Digest, Error, LayerInfo, Name, Result, with_advice};
use crate::plan::{Image, Import, Pending, Squash, StepOutput, Walk, copy_is_known, walk};
use crate::project::{Copy, Debian, Locations, NodePath, Outside, Project, Step};
use crate::registry;
use crate::store::{Home, Lease, Refers, Staging, Store, disk_error};
use crate::sys::{ProjectFiles, Tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What happens during a build, reported to the user interface.
#[derive(Clone, Debug)]
pub enum Event {
    /// The step's position among the image's steps; `None` for work that is not a step.
    Started {
        image: Name,
        step: String,
        index: Option<usize>,
    },
    Finished {
        image: Name,
        step: String,
        index: Option<usize>,
        millis: u64,
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
    /// Devices that a command made, and that are not in its layer.
    LeftOut {
        image: Name,
        step: String,
        paths: Vec<PathBuf>,
    },
}

/// Everything a build needs.
pub struct Builder<'a> {
    pub project: &'a Project,
    pub places: &'a Locations,
    pub lock: &'a Lock,
    pub home: &'a Home,
    pub store: &'a Store,
    pub lease: &'a Mutex<Lease>,
    pub scanner: &'a Scanner,
    pub settings: &'a Settings,
    pub offline: bool,
    pub progress: Arc<Progress>,
    pub report: &'a (dyn Fn(Event) + Sync),
    /// Whether commands may use the user's ssh agent.
    pub ssh: bool,
    /// The network for commands; it exists once a command has asked for it.
    pub network: &'a Mutex<Option<Arc<Network>>>,
}

impl Builder<'_> {
    fn facts(&self) -> StoreFacts<'_> {
        StoreFacts { store: self.store, scanner: self.scanner }
    }

    /// Builds one image, whose bases are already built. The steps run in order, but as many of their trees as possible are
    /// made at the same time.
    ///
    /// # Errors
    /// Returns the error of the first step that failed, with its location. Finished steps stay usable.
    pub fn build(&self, name: &Name) -> Result<Image> {
        let ahead = Ahead::default();
        std::thread::scope(|scope| {
            let result = self.steps(name, &ahead, |early| {
                let lanes = ahead.offer(early).min(crate::sys::cores());
                for _ in 0..lanes {
                    scope.spawn(|| ahead.work(|early| self.make(name, early)));
                }
            });
            ahead.close();
            result
        })
    }

    fn steps(&self, name: &Name, ahead: &Ahead, begin: impl Fn(Vec<Early>)) -> Result<Image> {
        loop {
            match walk(self.project, self.lock, name, &self.facts()) {
                Walk::Built(image) => {
                    self.pin(image.parts())?;
                    // A garbage collection may have removed it between the check and the pin.
                    if image::load(self.store, &image.digest).is_some() {
                        return Ok(image);
                    }
                }
                Walk::Assemble(assembly) => {
                    self.pin([&assembly.key])?;
                    let image = image::save(self.store, &assembly.config, &assembly.layers, self.lock.epoch)?;
                    self.pin([&image.digest])?;
                    image::keep_provenance(self.store, &image.digest, &self.provenance(name, &image))?;
                    self.store.put_result(&assembly.key, Refers::to(image.digest), &image.digest)?;
                }
                Walk::Step(pending) => {
                    begin(self.early(name, &pending));
                    self.step(name, &pending, ahead.take(pending.index))?;
                }
                Walk::Squash(squash) => self.squash(name, &squash)?,
                Walk::Import(import) => self.import(name, &import)?,
                Walk::Blocked(other) => return Err(Error::new(format!("image {name} needs image {other}, which is not built"))),
                Walk::Unlocked => {
                    return Err(Error::new(format!("the inputs of image {name} are not locked")).hint("type `stead update`"));
                }
                Walk::Missing { step, why } => {
                    let (why, advice) = with_advice(&why);
                    let error = self.at(&NodePath::image(name).step(step).source(0), why);
                    return Err(match advice {
                        Some(advice) => error.hint(advice),
                        None => error,
                    });
                }
                Walk::NoArchive(why) => return Err(self.at(&NodePath::image(name).node("from"), &why)),
            }
        }
    }

    /// Squashes the image's own layers into one.
    fn squash(&self, name: &Name, squash: &Squash) -> Result<()> {
        let started = Instant::now();
        let shown = format!("squash {} layers", squash.own.len());
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: None });
        self.pin(squash.below.iter().chain(&squash.own).map(|layer| &layer.diff_id).chain([&squash.key]))?;
        let (_staging, tree) = self.staging()?;
        squash::squash(&self.paths(&squash.own), &open(&tree)?)?;
        let output = StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() };
        self.store.put_result(&squash.key, step::refers(&output), &output)?;
        (self.report)(Event::Finished { image: name.clone(), step: shown, index: None, millis: millis(started) });
        Ok(())
    }

    /// Imports an image that was made elsewhere into the store.
    fn import(&self, name: &Name, import: &Import) -> Result<()> {
        let started = Instant::now();
        let shown = match &import.outside {
            Outside::Archive { path, .. } => format!("import {path}"),
            Outside::Reference(text) => format!("pull {text}"),
        };
        (self.report)(Event::Started { image: name.clone(), step: shown.clone(), index: None });
        self.pin([&import.key])?;
        let image = match (&import.outside, import.digest) {
            (Outside::Archive { path, name: wanted }, _) => {
                let layout = ProjectFiles::at(self.scanner.folder())
                    .context(|| "cannot open the project's directory".into())
                    .and_then(|files| image::Archive::within(&files, path))
                    .and_then(|archive| archive.image(wanted.as_deref()));
                layout.and_then(|layout| layout.import(self.store, &|digests| self.pin(digests)))
            }
            (Outside::Reference(text), Some(digest)) => match image::load(self.store, &digest) {
                Some(image) => Ok(image),
                None if self.offline => Err(Error::new(format!(
                    "the image \"{text}\" that stead.lock names is not in the store, and --offline forbids fetching it"
                ))
                .hint(format!("it is {}; run it once without --offline", digest.short(12)))),
                None => registry::pull(self.store, text, digest, &self.progress, &|digests| self.pin(digests)),
            },
            (Outside::Reference(text), None) => Err(Error::new(format!("the image \"{text}\" is not locked"))),
        };
        let image = image.map_err(|error| {
            Error::caused(self.at(&NodePath::image(name).node("from"), &format!("cannot {shown}")).to_string(), error)
        })?;
        self.pin(image.parts())?;
        self.store.put_result(&import.key, Refers::to(image.digest), &image.digest)?;
        (self.report)(Event::Finished { image: name.clone(), step: shown, index: None, millis: millis(started) });
        Ok(())
    }

    /// The steps after `pending` that can be made at the same time as it: all up to the next command.
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

    fn pin<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests)
    }

    fn staging(&self) -> Result<(Staging, PathBuf)> {
        let staging = self.store.staging()?;
        let tree = staging.join("tree");
        fs::create_dir(&tree).map_err(|error| disk_error("cannot make a staging directory", error))?;
        Ok((staging, tree))
    }

    /// Adds a tree to the store as a layer, unless it is empty.
    fn adopt(&self, tree: &Path) -> Result<Option<LayerInfo>> {
        let opened = open(tree)?;
        if is_empty(&opened)? {
            return Ok(None);
        }
        let info = image::digest_tree(&opened, self.lock.epoch).context(|| "cannot read a layer".into())?;
        self.keep(tree, &info)?;
        Ok(Some(info))
    }

    /// Takes a tree with a known digest into the store.
    fn keep(&self, tree: &Path, info: &LayerInfo) -> Result<()> {
        self.pin([&info.diff_id])?;
        self.store.adopt_layer(tree, info)
    }

    fn paths(&self, layers: &[LayerInfo]) -> Vec<PathBuf> {
        layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect()
    }

    /// The directories of an image that something is copied from or that is mounted. One without layers is an empty directory.
    fn parts(&self, layers: &[LayerInfo], staging: &Staging) -> Result<Vec<PathBuf>> {
        if !layers.is_empty() {
            return Ok(self.paths(layers));
        }
        let nothing = staging.join("nothing");
        match std::fs::create_dir(&nothing) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.context(|| "cannot make a staging directory".into())?,
        }
        Ok(vec![nothing])
    }

    fn view(&self, layers: &[LayerInfo]) -> View {
        View::new(self.paths(layers))
    }
}

/// The time since `started`, in milliseconds.
fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Opens a tree that this build is making.
fn open(tree: &Path) -> Result<Tree> {
    Tree::open(tree).context(|| "cannot open a staging directory".into())
}

fn is_empty(tree: &Tree) -> Result<bool> {
    Ok(tree.list().context(|| "cannot read a staging directory".into())?.is_empty())
}

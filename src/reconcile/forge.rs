//! What one command needs for building images. Each image that is built is a task.

use super::schedule::{Came, Lane, Work};
use crate::build::{Builder, Event, Network, StoreFacts};
use crate::debian::Settings;
use crate::fetch;
use crate::instance::{LoadedProject, Observation, Outcome, Progress, Reporter, UpOptions};
use crate::lock::Lock;
use crate::model::{Error, Name, Result};
use crate::plan::{self, Action, Image, ImageRecord, InstanceRecord, Task};
use crate::store::{Lease, Store};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What all builds of a command share.
pub struct Forge<'a> {
    pub loaded: &'a LoadedProject,
    pub store: &'a Store,
    pub lease: &'a Mutex<Lease>,
    pub observation: &'a Observation,
    pub options: &'a UpOptions,
    pub reporter: &'a dyn Reporter,
    pub progress: Arc<fetch::Progress>,
    settings: Settings,
    network: Mutex<Option<Arc<Network>>>,
    /// The steps that have run, by image.
    ran: Mutex<BTreeMap<Name, Vec<usize>>>,
    /// How long steps took, in milliseconds.
    took: Mutex<BTreeMap<(Name, usize), u64>>,
    built: Mutex<BTreeMap<Name, Image>>,
}

impl<'a> Forge<'a> {
    pub fn new(
        (loaded, store, lease): (&'a LoadedProject, &'a Store, &'a Mutex<Lease>),
        observation: &'a Observation,
        options: &'a UpOptions,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self {
            loaded,
            store,
            lease,
            observation,
            options,
            reporter,
            progress: Arc::default(),
            settings: Settings::for_folder(loaded.instance.source()),
            network: Mutex::default(),
            ran: Mutex::default(),
            took: Mutex::default(),
            built: Mutex::default(),
        }
    }

    /// The lane in which images are built: as many at once as there are processors.
    pub fn lane() -> Lane {
        Lane::Threads("build", crate::sys::cores())
    }

    /// Builds an image whose base images are already built.
    ///
    /// # Errors
    /// Returns the error of the first step that failed.
    pub fn build(&self, lock: &Lock, name: &Name) -> Result<()> {
        let facts = StoreFacts { store: self.store, scanner: &self.observation.scanner };
        let report = |event: Event| self.report(lock, &facts, event);
        let builder = Builder {
            home: &self.loaded.instance.home,
            network: &self.network,
            project: &self.loaded.project,
            places: &self.loaded.places,
            lock,
            store: self.store,
            lease: self.lease,
            scanner: &self.observation.scanner,
            settings: &self.settings,
            offline: self.options.offline,
            progress: self.progress.clone(),
            report: &report,
            ssh: self.options.ssh,
        };
        let image = builder.build(name)?;
        self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), image);
        Ok(())
    }

    fn report(&self, lock: &Lock, facts: &StoreFacts, event: Event) {
        if let (true, Event::Started { image, step, index: Some(index) }) = (self.options.why, &event) {
            let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
            let ran = ran.entry(image.clone()).or_default();
            let known = (&self.loaded.project, &self.loaded.places, lock, &self.observation.observed);
            let cause = plan::step_cause(known, facts, image, *index, ran);
            ran.push(*index);
            self.reporter.report(Progress::Why { image: image.clone(), step: step.clone(), cause });
        }
        if let Event::Finished { image, index: Some(index), millis, .. } = &event {
            self.took.lock().unwrap_or_else(PoisonError::into_inner).insert((image.clone(), *index), *millis);
        }
        self.reporter.report(Progress::Build(event));
    }

    /// Reports that a task begins.
    pub fn begins(&self, task: &Task, lane: Lane) {
        let after = task.after.iter().chain(&task.whatever).cloned().collect();
        self.reporter.report(Progress::Begins { task: task.name.clone(), lane: lane.name(), after });
    }

    /// Reports that a task is over.
    pub fn ends(&self, task: &Task, came: &Result<Came, Error>) {
        let outcome = match came {
            Ok(Came::Done) => Outcome::Done,
            Ok(Came::Unneeded) => Outcome::Unneeded,
            Err(error) => Outcome::Failed(error.chain()),
        };
        self.reporter.report(Progress::Ends { task: task.name.clone(), outcome });
    }

    /// Removes the network of builds, and returns the images that were built.
    pub fn finish(&self) -> BTreeMap<Name, Image> {
        drop(self.network.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.built.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records where images came from, including those that another command built.
    ///
    /// # Errors
    /// Fails when the description of an image cannot be written.
    pub fn remember(&self, lock: &Lock, images: &BTreeMap<Name, Image>, record: &mut InstanceRecord) -> Result<()> {
        let facts = StoreFacts { store: self.store, scanner: &self.observation.scanner };
        let project = &self.loaded.project;
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(restored) = &self.loaded.restored {
            record.images.clone_from(&restored.records);
            return Ok(());
        }
        for (name, image) in images {
            let known = record.images.get(name);
            // What is made of other inputs may be the same image: the next cause is what differs from these inputs.
            let ran = took.keys().any(|(built, _)| built == name);
            let differs =
                |known: &ImageRecord| known.digest != image.digest || known.locked != plan::locked_images(project, lock, name);
            let is_new = known.is_none_or(differs);
            if !(ran || is_new) {
                continue;
            }
            let mut made = crate::build::record(project, lock, &facts, name, image)?;
            let indexes = project.images.get(name).map(plan::recorded_steps).unwrap_or_default();
            for (position, (index, step)) in indexes.into_iter().zip(&mut made.steps).enumerate() {
                let before = known.and_then(|known| known.steps.get(position));
                let before = before.filter(|before| before.definition == step.definition);
                step.millis = took.get(&(name.clone(), index)).copied().or_else(|| before?.millis);
            }
            record.images.insert(name.clone(), made);
        }
        Ok(())
    }
}

/// The work of a command that only builds.
pub struct Building<'a> {
    pub forge: &'a Forge<'a>,
    pub lock: &'a Lock,
}

impl Work for Building<'_> {
    fn lane(&self, _: &Task) -> Lane {
        Forge::lane()
    }

    fn run(&self, task: &Task) -> Result<Came, Error> {
        if let Action::Build { image } = &task.action {
            self.forge.build(self.lock, image)?;
        }
        Ok(Came::Done)
    }

    fn stops(&self, _: &Task) -> bool {
        true
    }

    fn begins(&self, task: &Task) {
        self.forge.begins(task, self.lane(task));
    }

    fn ends(&self, task: &Task, came: &Result<Came, Error>) {
        self.forge.ends(task, came);
    }
}

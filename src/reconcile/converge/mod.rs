//! Carries out the tasks of a plan: each method performs one kind of task, and the scheduler decides when.

use super::container::{Maker, launch_one};
use super::crash::boundary;
use super::forge::Forge;
use super::ports::Held;
use super::schedule::{Came, Lane, Look, Work};
use super::{down, firewall};
use crate::build::View;
use crate::instance::{Instance, Progress};
use crate::lock::Lock;
use crate::model::{Context, Error, Name, Result};
use crate::monitor::{self, Folder, Health};
use crate::network::Forwarding;
use crate::plan::{Action, Deed, Desired, Image, InstanceRecord, JobState, Planned, Task};
use crate::project::MountSource;
use crate::sys;
use crate::volume::{self, Below};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

mod condition;
mod failures;
mod prepare;
mod publish;
mod record;
mod seeds;
mod turns;

use condition::{ran, reached, settled};

/// How many containers are started at the same time: most of the work is done by the kernel, not by us.
const STARTS: usize = 8;

/// One run of `up` over an instance.
pub struct Executor<'a> {
    forge: &'a Forge<'a>,
    planned: &'a Planned,
    first_lock: &'a Lock,
    resolved: OnceLock<Lock>,
    record: Mutex<InstanceRecord>,
    certain: OnceLock<Certain>,
    /// The containers that go on until what their replacements wait for is there.
    late: BTreeSet<String>,
    /// Held while something in the directory of the volumes is made or deleted.
    volumes: Mutex<()>,
    /// The volumes that have the state which their jobs gave them before.
    restored: Mutex<BTreeSet<Name>>,
    /// Whether something has started since published ports and names were last updated.
    news: AtomicBool,
}

/// What is known once all images are built and everything has been reserved that could be refused.
struct Certain {
    desired: BTreeMap<String, Desired>,
    deeds: BTreeMap<String, Deed>,
    built: BTreeMap<Name, Image>,
    /// The containers that start.
    starting: BTreeSet<String>,
    held: Held,
    forwarding: Forwarding,
}

impl<'a> Executor<'a> {
    pub fn new(forge: &'a Forge, planned: &'a Planned, lock: &'a Lock) -> Self {
        let (loaded, instance) = (forge.loaded, &forge.loaded.instance);
        let record = InstanceRecord {
            project: loaded.project.name.to_string(),
            folder: instance.folder.display().to_string(),
            file: instance.file.clone(),
            ..forge.observation.observed.record.clone()
        };
        Self {
            forge,
            planned,
            first_lock: lock,
            resolved: OnceLock::new(),
            record: Mutex::new(record),
            certain: OnceLock::new(),
            late: late(&planned.plan.tasks),
            volumes: Mutex::new(()),
            restored: Mutex::default(),
            news: AtomicBool::new(false),
        }
    }

    fn instance(&self) -> &'a Instance {
        &self.forge.loaded.instance
    }

    fn lock(&self) -> &Lock {
        self.resolved.get().unwrap_or(self.first_lock)
    }

    fn record(&self) -> MutexGuard<'_, InstanceRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread makes or deletes a volume.
    fn alone(&self) -> MutexGuard<'_, ()> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn certain(&self) -> Result<&Certain> {
        self.certain.get().ok_or_else(|| Error::new("a task ran before everything was prepared"))
    }

    fn save(&self, record: &mut InstanceRecord) -> Result<()> {
        record.serial += 1;
        self.instance().save(record)?;
        boundary();
        Ok(())
    }

    fn tell(&self, name: &str, what: &'static str) {
        self.forge.reporter.report(Progress::Container { name: name.to_owned(), what });
    }

    /// What there is now: the images that containers use, and the record.
    pub fn reached(&self) -> (BTreeMap<Name, Image>, InstanceRecord) {
        let images = self.certain.get().map_or_else(|| self.planned.built.clone(), |certain| certain.built.clone());
        (images, self.record().clone())
    }

    /// Warns about firewall tables on this host that block the instance's networks.
    pub fn warn_of_blockers(&self) {
        let outer = self.planned.networks.values().find(|network| !network.internal);
        if let Some(blocked) = outer.and_then(|network| firewall::blockers(&self.instance().home, &network.bridge)) {
            self.forge.reporter.report(Progress::Warning(blocked));
        }
    }

    /// Ends a container. One that goes on until its replacement can start is not on record as that one before.
    fn end(&self, name: &str) -> Result<Came> {
        let deed = self.certain()?.deeds.get(name);
        if !matches!(deed, Some(Deed::End | Deed::Start(_))) {
            return Ok(Came::Unneeded);
        }
        if deed == Some(&Deed::End) || self.late.contains(name) {
            self.lead_away(name)?;
        }
        if self.instance().container(name).alive() {
            self.tell(name, "stopping");
        }
        down::end(self.instance(), name)?;
        if self.is_job(name) {
            // If nothing comes of the next run, the end of this one must not be taken for its result.
            down::forget_run(self.instance(), name);
        }
        boundary();
        if self.late.contains(name) {
            let mut record = self.record();
            if self.begin_record(name, &mut record)? {
                self.save(&mut record)?;
            }
        }
        Ok(Came::Done)
    }

    fn fill(&self, name: &Name) -> Result<()> {
        if self.begin_seed(name)? {
            return Ok(());
        }
        let source = MountSource::Volume(name.clone());
        let mut users = Vec::new();
        for one in self.certain()?.desired.values() {
            let mounts = one.spec.mounts.iter().filter(|mount| mount.source == source);
            users.extend(one.image.as_ref().into_iter().flat_map(|image| mounts.clone().map(move |mount| (image, mount))));
        }
        if users.is_empty() {
            return Ok(());
        }
        let path = |layer: &crate::model::LayerInfo| self.forge.store.layer_path(&layer.diff_id);
        let view = |image: &Image| View::new(image.layers.iter().map(path).collect());
        // A mount of a subpath does not fill the volume: the image's files there do not belong at the volume's top.
        let whole = users.into_iter().filter(|(_, mount)| mount.subpath.is_none());
        let images: Vec<Below> = whole.map(|(image, mount)| Below { image: view(image), at: Path::new(&mount.to) }).collect();
        let instance = self.instance();
        let _alone = self.alone();
        volume::create(&instance.home, &instance.id, name, &images, || instance.runs_with_volume(name))?;
        boundary();
        Ok(())
    }

    /// Gives a running container its new limits.
    fn adjust(&self, name: &str) -> Result<Came> {
        let Some(one) = self.certain()?.desired.get(name) else { return Ok(Came::Unneeded) };
        let request = monitor::Request::Limits { limits: Box::new(one.spec.limits.clone()) };
        monitor::call(&self.instance().container(name), &request, Some(Duration::from_secs(20)))?;
        let mut record = self.record();
        if let Some(record) = record.containers.get_mut(name) {
            record.aspects.clone_from(&one.aspects);
            record.private = self.forge.loaded.project.private_of(&one.aspects);
        }
        self.tell(name, "adjusted");
        self.save(&mut record)?;
        Ok(Came::Done)
    }

    fn start(&self, name: &str) -> Result<Came> {
        let certain = self.certain()?;
        let Some(one) = certain.desired.get(name) else { return Ok(Came::Unneeded) };
        match certain.deeds.get(name) {
            Some(Deed::Start(_)) => {}
            // The build resulted in the same image, so only the limits changed.
            Some(Deed::Adjust) => return self.adjust(name),
            Some(Deed::End) | None => return Ok(Came::Unneeded),
        }
        if self.is_restored(one) {
            return self.note_result(name);
        }
        let maker = Maker {
            instance: self.instance(),
            store: self.forge.store,
            all: &certain.desired,
            images: &certain.built,
            observation: self.forge.observation,
            starting: &certain.starting,
        };
        let generation = self.record().containers.get(name).map(|record| record.generation);
        let generation = generation.ok_or_else(|| Error::new(format!("container {name} is not on record")))?;
        self.tell(name, "starting");
        boundary();
        self.keep_data(one)?;
        let started = launch_one(&maker, one, generation, &certain.held.of(one));
        boundary();
        if let Err(error) = &started {
            monitor::note_failure(&self.instance().container(name), &error.chain());
        }
        for why in started? {
            self.forge.reporter.report(Progress::Warning(format!("{name}: {why}")));
        }
        self.news.store(true, Ordering::Relaxed);
        self.tell(name, if one.is_job() { "running" } else { "started" });
        Ok(Came::Done)
    }

    /// Makes the volumes for what a container's image declares as data: what it has there was that of the replica before.
    fn keep_data(&self, one: &Desired) -> Result<()> {
        let (Some(image), instance) = (&one.image, self.instance()) else { return Ok(()) };
        for (path, volume) in &one.kept {
            let layers = image.layers.iter().map(|layer| self.forge.store.layer_path(&layer.diff_id));
            let below = Below { image: View::new(layers.collect()), at: Path::new(path) };
            let _alone = self.alone();
            volume::create(&instance.home, &instance.id, volume, &[below], || instance.runs_with_volume(volume))?;
            boundary();
        }
        Ok(())
    }

    /// Whether a job is done; `it` begins the sentence about why it will not be. Its result is kept.
    fn job(&self, name: &str, it: &str) -> Look {
        let done = || self.record().containers.get(name).is_some_and(|record| record.job == Some(JobState::Done));
        if done() || self.has_filled(name) {
            return Look::Yes;
        }
        match ran(&self.instance().container(name), it) {
            Look::Yes => {}
            Look::Never(error) => {
                self.tell(name, "failed");
                return Look::Never(self.without_seed(name, error));
            }
            look @ Look::NotYet(_) => return look,
        }
        let mut record = self.record();
        let Some(known) = record.containers.get_mut(name) else { return Look::Yes };
        known.job = Some(JobState::Done);
        match self.save(&mut record) {
            Ok(()) => {
                self.tell(name, "done");
                Look::Yes
            }
            Err(error) => Look::Never(error),
        }
    }

    fn is_job(&self, name: &str) -> bool {
        self.planned.desired.get(name).is_some_and(Desired::is_job)
    }
}

/// The containers whose ends wait for what their replacements wait for.
fn late(tasks: &[Task]) -> BTreeSet<String> {
    let admitted = Action::Admit.name();
    let ends = tasks.iter().filter(|task| task.after.contains(&admitted));
    let names = ends.filter_map(|task| if let Action::End { container } = &task.action { Some(container.clone()) } else { None });
    names.collect()
}

impl Work for Executor<'_> {
    fn lane(&self, task: &Task) -> Lane {
        match &task.action {
            // It contacts servers and may take long.
            Action::Resolve => Lane::Threads("resolve", 1),
            Action::Build { .. } => Forge::lane(),
            Action::End { .. } | Action::Retire { .. } => Lane::Threads("end", down::ENDS),
            Action::Start { .. } | Action::Adjust { .. } => Lane::Threads("start", STARTS),
            Action::Seed { .. } => Lane::Threads("seed", 1),
            Action::Await { .. } | Action::Settle { .. } => Lane::Looks,
            Action::Prepare | Action::Connect | Action::Fill { .. } | Action::Record | Action::Admit | Action::Publish => {
                Lane::Here
            }
        }
    }

    fn run(&self, task: &Task) -> Result<Came> {
        match &task.action {
            Action::Resolve => self.resolve()?,
            Action::Build { image } => self.forge.build(self.lock(), image)?,
            Action::Prepare => self.prepare()?,
            Action::End { container } => return self.end(container),
            Action::Retire { container } => return self.retire(container),
            Action::Connect => self.connect()?,
            Action::Fill { volume } => self.fill(volume)?,
            Action::Seed { volume } => self.keep_seed(volume)?,
            Action::Record => self.put_on_record()?,
            Action::Admit => self.admit()?,
            Action::Adjust { container } => return self.adjust(container),
            Action::Start { container, .. } => return self.start(container),
            Action::Publish => self.publish()?,
            Action::Await { .. } | Action::Settle { .. } => {}
        }
        Ok(Came::Done)
    }

    fn look(&self, task: &Task) -> Look {
        match &task.action {
            Action::Await { container, .. } if self.is_job(container) => self.job(container, ""),
            Action::Settle { container } if self.is_job(container) => self.job(container, "it "),
            Action::Await { container, until } => reached(&self.instance().container(container), *until),
            Action::Settle { container } if self.stands_idle(container) => Look::Yes,
            Action::Settle { container } => {
                let folder = self.instance().container(container);
                let look = settled(&folder);
                if matches!(look, Look::Yes) && folder.status().is_some_and(|status| status.health == Health::Healthy) {
                    self.tell(container, "healthy");
                }
                look
            }
            _ => Look::Yes,
        }
    }

    fn looks_at(&self, task: &Task) -> Option<Folder> {
        match &task.action {
            Action::Await { container, .. } | Action::Settle { container } => Some(self.instance().container(container)),
            _ => None,
        }
    }

    /// If one image cannot be built, nothing else is begun.
    fn stops(&self, task: &Task) -> bool {
        matches!(task.action, Action::Build { .. } | Action::Resolve)
    }

    /// Updates ports and names to what has started so far: the containers that are waited for may take long.
    fn rest(&self) {
        if self.news.swap(false, Ordering::Relaxed)
            && let Err(error) = self.open()
        {
            self.forge.reporter.report(Progress::Warning(error.chain()));
        }
    }

    fn begins(&self, task: &Task) {
        self.forge.begins(task, self.lane(task));
    }

    fn ends(&self, task: &Task, came: &Result<Came>) {
        self.forge.ends(task, came);
    }
}

/// The newest generation for which a container has logs, or 0.
fn newest_generation(instance: &Instance, name: &str) -> Result<u64> {
    let found = sys::names(&instance.logs(name)).context(|| "cannot find out its last generation".into())?;
    Ok(found.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0))
}

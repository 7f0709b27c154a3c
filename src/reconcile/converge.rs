//! Carries out the tasks of a plan: each method performs one kind of task, and the scheduler decides when.

use super::container::{Maker, bridges, launch_one};
use super::crash::boundary;
use super::forge::Forge;
use super::hosts;
use super::pins::pin;
use super::ports::Held;
use super::resolve::complete_lock;
use super::schedule::{Came, Lane, Look, State as Far, Work};
use super::{down, firewall, preflight};
use crate::build::View;
use crate::instance::{Failure, Instance, Progress, keep_lock, leads};
use crate::lock::Lock;
use crate::model::{Context, Error, Name, Result};
use crate::monitor::{self, Folder, Health, State, now_ms};
use crate::network::{self, Forwarding, Reservation};
use crate::plan::{
    self, Action, ContainerRecord, Deed, Desired, How, Image, InstanceRecord, JobState, Planned, Task, volume_aspect,
};
use crate::project::{MountSource, Until};
use crate::ship;
use crate::sys;
use crate::volume::{self, Below};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How many containers are started at the same time: most of the work is done by the kernel, not by us.
const STARTS: usize = 8;
/// A container that ends this soon after its start counts as failed to start.
const SETTLE: Duration = Duration::from_millis(60);

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

    /// Protects what the instance has now from garbage collection.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn pin(&self) -> Result<()> {
        pin(self.forge.loaded, self.forge.store, &self.record(), self.lock())
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

    fn resolve(&self) -> Result<()> {
        let lock = complete_lock(self.forge.loaded, self.forge.options, self.forge.reporter)?;
        boundary();
        // The scheduler runs this task only once.
        let _ = self.resolved.set(lock);
        Ok(())
    }

    /// Settles what is to be done, and checks that it can be done. This is the last step that may fail before anything is
    /// ended.
    fn prepare(&self) -> Result<()> {
        let (instance, observed) = (self.instance(), &self.forge.observation.observed);
        let mut built = self.planned.built.clone();
        built.extend(self.forge.finish());
        let (desired, deeds) = if self.planned.builds() {
            let project = (&self.forge.loaded.project, &self.forge.loaded.places);
            plan::settle(project, observed, self.planned, &built)?
        } else {
            (self.planned.desired.clone(), self.planned.deeds.clone())
        };
        if self.planned.builds() {
            self.still_there()?;
        }
        let mut record = self.record();
        self.forge.remember(self.lock(), &built, &mut record)?;
        if self.planned.builds() {
            self.save(&mut record)?;
        }
        drop(record);
        self.forge.observation.scanner.keep(&instance.scan_cache());
        keep_lock(instance, self.lock());
        self.pin()?;
        self.preflight(&desired, &deeds, &built)?;
        let starting: BTreeSet<String> =
            deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Start(_))).map(|(name, _)| name.clone()).collect();
        let wishes: Vec<&Desired> = starting.iter().filter_map(|name| desired.get(name)).collect();
        // Published ports are taken before anything is changed.
        let held = Held::take(instance, &wishes)?;
        let forwarding = Forwarding::look()?;
        // The scheduler runs this task only once.
        let _ = self.certain.set(Certain { desired, deeds, built, starting, held, forwarding });
        boundary();
        Ok(())
    }

    /// Makes sure that paths of the host still lead where they led when they were resolved, and allowed, before the build.
    fn still_there(&self) -> Result<()> {
        let before = &self.forge.observation.observed.leads;
        let now = leads(self.instance(), &self.forge.loaded.project);
        let moved = now.into_iter().find(|(path, lead)| before.get(path) != Some(lead));
        moved.map_or(Ok(()), |(path, lead)| {
            let why = format!("while images were built, \"{path}\" was changed to lead to {}", lead.path.display());
            Err(Error::new(why).hint("nothing was started or ended: check it, then run the command again"))
        })
    }

    /// Checks that this machine has what the containers need.
    fn preflight(
        &self,
        desired: &BTreeMap<String, Desired>,
        deeds: &BTreeMap<String, Deed>,
        built: &BTreeMap<Name, Image>,
    ) -> Result<()> {
        let host = crate::runtime::host();
        let (mut seen, mut errors) = (BTreeSet::new(), Vec::new());
        for name in deeds.iter().filter(|(_, deed)| **deed != Deed::End).map(|(name, _)| name) {
            let Some(one) = desired.get(name) else { continue };
            if !seen.insert(&one.container) {
                continue;
            }
            let (places, folder) = (&self.forge.loaded.places, &self.instance().folder);
            for caveat in preflight::check(one, places, folder, host, &mut errors) {
                self.forge.reporter.report(Progress::Warning(caveat));
            }
            errors.extend(preflight::security(one, self.forge.observation, &self.instance().home).err());
            let mounted = one.spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Image(name) => Some(name),
                _ => None,
            });
            if let Some(name) = mounted.into_iter().find(|name| !built.contains_key(*name)) {
                let why = format!("container {}: the image {name}, which it mounts, is not built", one.container);
                errors.push(Error::new(why).hint("its files may have changed while it was built: run the command again"));
            }
        }
        Error::all(errors)
    }

    /// Ends a container. One that goes on until its replacement can start is not on record as that one before.
    fn end(&self, name: &str) -> Result<Came> {
        if !matches!(self.certain()?.deeds.get(name), Some(Deed::End | Deed::Start(_))) {
            return Ok(Came::Unneeded);
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

    /// Removes ended containers from the record, and brings networks into the planned state.
    fn connect(&self) -> Result<()> {
        let (certain, wanted, instance) = (self.certain()?, &self.planned.networks, self.instance());
        let mut record = self.record();
        let own = record.networks.iter().filter(|(name, old)| !old.external && wanted.get(*name) != Some(old));
        network::delete_links(&own.map(|(_, old)| old.bridge.clone()).collect::<Vec<_>>())?;
        let gone: Vec<&String> = certain.deeds.iter().filter(|(_, deed)| **deed == Deed::End).map(|(name, _)| name).collect();
        for name in &gone {
            record.containers.remove(*name);
        }
        // The record is written first: if we are killed in between, `down` knows about everything that is left.
        record.networks.clone_from(wanted);
        self.save(&mut record)?;
        drop(record);
        for name in gone {
            down::forget(instance, name);
            self.tell(name, "removed");
            boundary();
        }
        network::ensure_bridges(&bridges(instance, wanted), certain.forwarding.alias())?;
        boundary();
        Ok(())
    }

    fn fill(&self, name: &Name) -> Result<()> {
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
        volume::create(&instance.home, &instance.id, name, &images, || instance.runs_with_volume(name))?;
        boundary();
        Ok(())
    }

    /// Records containers before they are created, so that none is lost track of.
    fn put_on_record(&self) -> Result<()> {
        let certain = self.certain()?;
        let mut record = self.record();
        let mut new = false;
        for name in certain.starting.iter().filter(|name| !self.late.contains(*name)) {
            new |= self.begin_record(name, &mut record)?;
        }
        if new {
            self.save(&mut record)?;
        }
        Reservation::end(&self.instance().home, &self.instance().id)?;
        boundary();
        Ok(())
    }

    /// Puts a container that starts into the record; returns whether it does start.
    fn begin_record(&self, name: &str, record: &mut InstanceRecord) -> Result<bool> {
        let certain = self.certain()?;
        let (Some(one), Some(Deed::Start(how))) = (certain.desired.get(name), certain.deeds.get(name)) else { return Ok(false) };
        let Some(image) = &one.image else { return Ok(false) };
        let known = match record.containers.get(name) {
            Some(record) => record.generation,
            None => newest_generation(self.instance(), name)?,
        };
        let generation = if *how == How::Again { known.max(1) } else { known + 1 };
        let mut aspects = one.aspects.clone();
        aspects.extend(self.births(one)?);
        record.containers.insert(
            name.to_owned(),
            ContainerRecord {
                container: one.container.clone(),
                replica: one.replica,
                image_name: one.image_name.to_string(),
                image: image.digest,
                aspects,
                private: self.forge.loaded.project.private_of(&one.aspects),
                addresses: one.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect(),
                ports: one.ports.clone(),
                labels: one.spec.labels.clone(),
                web: one.web(),
                job: one.is_job().then_some(JobState::Begun),
                generation,
            },
        );
        record.stopped.remove(name);
        Ok(true)
    }

    /// Which volumes a job is about to see: they may have been made since the plan was.
    fn births(&self, one: &Desired) -> Result<BTreeMap<String, String>> {
        let instance = self.instance();
        let mounted = one.volumes().filter(|_| one.is_job());
        let named = mounted.map(|name| Ok((volume_aspect(name), volume::birth(&instance.home, &instance.id, name)?)));
        named.collect()
    }

    /// Makes networks ready before a container is attached to them: its very first packets must be translated.
    fn admit(&self) -> Result<()> {
        let (certain, observed, home) = (self.certain()?, &self.forge.observation.observed, &self.instance().home);
        let (before, wanted) = (&observed.record.networks, &self.planned.networks);
        let switch = certain.forwarding == Forwarding::Off && !wanted.is_empty();
        if before != wanted || switch || !wanted.is_empty() && !observed.firewall {
            monitor::refresh(home)?;
            boundary();
        }
        if switch {
            // By now the firewall table drops foreign packets.
            Forwarding::switch_on()?;
            boundary();
        }
        if !certain.starting.is_empty() {
            sys::write_atomic(&self.instance().opening(), b"", 0o600).context(|| "cannot mark that containers start".into())?;
        }
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

    /// Updates published ports and names to the containers that are running now.
    fn open(&self) -> Result<()> {
        let instance = self.instance();
        let publishes = |record: &InstanceRecord| record.containers.values().any(|container| !container.ports.is_empty());
        if publishes(&self.forge.observation.observed.record) || publishes(&self.record()) {
            monitor::refresh(&instance.home)?;
            boundary();
        }
        if self.planned.networks.is_empty() { Ok(()) } else { monitor::refresh_names(&instance.home, &instance.id) }
    }

    fn publish(&self) -> Result<()> {
        self.ship()?;
        self.neighbours()?;
        self.news.store(false, Ordering::Relaxed);
        self.open()?;
        match std::fs::remove_file(self.instance().opening()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| "cannot remove the mark that containers start".into())
            }
            _ => Ok(()),
        }
    }

    /// Starts or updates the shipper of log lines, if a container has a log driver.
    fn ship(&self) -> Result<()> {
        let instance = self.instance();
        let run = instance.home.run.join(&instance.id);
        let before = ship::told(&run)?.map(|told| told.targets).unwrap_or_default();
        let observed = &self.forge.observation.observed;
        let record = self.record();
        let targets: BTreeMap<String, ship::Target> = self
            .certain()?
            .desired
            .values()
            .filter_map(|one| {
                // A container that does not match the project file yet keeps the target that was declared, and allowed, before.
                if record.containers.get(&one.name).is_none_or(|record| record.aspects != one.aspects) {
                    return before.get(&one.name).map(|target| (one.name.clone(), target.clone()));
                }
                let mut driver = one.spec.log.driver.clone().filter(|driver| driver.name != "none")?;
                let path = driver.path().map(|path| observed.lead(path).path.display().to_string());
                driver.address = path.or(driver.address);
                let target = ship::Target {
                    container: one.name.clone(),
                    image: one.image_name.to_string(),
                    logs: instance.logs(&one.name),
                    folder: instance.container(&one.name).path().to_owned(),
                    driver,
                };
                Some((one.name.clone(), target))
            })
            .collect();
        if targets.is_empty() {
            ship::stop(&run);
            return Ok(());
        }
        let manifest = ship::Manifest {
            project: self.forge.loaded.project.name.to_string(),
            places: instance.state().join("ship.json"),
            events: instance.events(),
            folder: instance.folder.clone(),
            targets,
        };
        ship::start(&run, &manifest)
    }

    /// Updates the neighbours of containers that were already running; those just started know them.
    fn neighbours(&self) -> Result<()> {
        let certain = self.certain()?;
        for one in certain.desired.values().filter(|one| !certain.starting.contains(&one.name)) {
            let folder = self.instance().container(&one.name);
            if folder.join("hosts").exists() {
                monitor::keep_names(folder.path(), &hosts::hosts(one, &certain.desired))?;
            }
        }
        Ok(())
    }

    /// Whether a job is done; `it` begins the sentence about why it will not be. Its result is kept.
    fn job(&self, name: &str, it: &str) -> Look {
        let done = || self.record().containers.get(name).is_some_and(|record| record.job == Some(JobState::Done));
        if done() {
            return Look::Yes;
        }
        let look = ran(&self.instance().container(name), it);
        if !matches!(look, Look::Yes) {
            if matches!(look, Look::Never(_)) {
                self.tell(name, "failed");
            }
            return look;
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

    /// The containers that did not come up: first those that failed themselves, then those that depend on them.
    pub fn failures(&self, tasks: &[Task], states: &[Far]) -> Vec<Failure> {
        let mut found = Vec::new();
        for (at, (task, state)) in tasks.iter().zip(states).enumerate() {
            let (Action::Start { container, .. } | Action::Adjust { container } | Action::Settle { container }) = &task.action
            else {
                continue;
            };
            let (why, follows) = match state {
                Far::Failed(error, _) => (error.chain(), false),
                Far::Follows(_) if !matches!(task.action, Action::Settle { .. }) => match why_follows(tasks, states, at) {
                    Some(why) => (why, true),
                    None => continue,
                },
                _ => continue,
            };
            // A container that was never started has no log lines in this generation.
            let last = if follows { Vec::new() } else { last_lines(self.instance(), container) };
            found.push(Failure { container: container.clone(), why, last, follows });
        }
        found.sort_by_key(|failure| failure.follows);
        found
    }
}

/// The containers whose ends wait for what their replacements wait for.
fn late(tasks: &[Task]) -> BTreeSet<String> {
    let admitted = Action::Admit.name();
    let ends = tasks.iter().filter(|task| task.after.contains(&admitted));
    let names = ends.filter_map(|task| if let Action::End { container } = &task.action { Some(container.clone()) } else { None });
    names.collect()
}

/// Why a container was not started because another one failed; `None` if what failed is not a container.
fn why_follows(tasks: &[Task], states: &[Far], at: usize) -> Option<String> {
    let Far::Follows(first) = &states[at] else { return None };
    let container = match &tasks[*first].action {
        Action::Await { container, .. } => container,
        Action::End { .. } => return why_follows(tasks, states, *first),
        _ => return None,
    };
    match &states[*first] {
        Far::Failed(error, _) => Some(format!("it depends on {container}, which {}", error.message())),
        Far::Follows(start) => {
            let why = match &states[*start] {
                Far::Failed(error, _) => error.chain(),
                _ => why_follows(tasks, states, *start)?,
            };
            Some(format!("it depends on {container}, which failed: {}", why.lines().next().unwrap_or_default()))
        }
        _ => None,
    }
}

impl Work for Executor<'_> {
    fn lane(&self, task: &Task) -> Lane {
        match &task.action {
            // It contacts servers and may take long.
            Action::Resolve => Lane::Threads("resolve", 1),
            Action::Build { .. } => Forge::lane(),
            Action::End { .. } => Lane::Threads("end", down::ENDS),
            Action::Start { .. } | Action::Adjust { .. } => Lane::Threads("start", STARTS),
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
            Action::Connect => self.connect()?,
            Action::Fill { volume } => self.fill(volume)?,
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

fn never(why: impl Into<String>) -> Look {
    Look::Never(Error::new(why))
}

/// Whether a dependency has reached the required state.
fn reached(folder: &Folder, until: Until) -> Look {
    let Some(status) = folder.status() else { return never("is not there") };
    let ended = || format!("ended with exit status {}", status.exit_code.unwrap_or(1));
    match (until, status.state) {
        (Until::Completed, State::Exited) if status.exit_code == Some(0) => Look::Yes,
        (_, State::Exited) if status.exit_code == Some(0) && until == Until::Started => Look::Yes,
        (_, State::Exited | State::Dead) => never(status.error.clone().unwrap_or_else(ended)),
        (_, State::Restarting) => never(format!("{} and is being restarted", ended())),
        (_, State::Paused) => never("is paused (`stead unpause` resumes it)"),
        (Until::Started, State::Running) => Look::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Healthy => Look::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Unhealthy => never(unhealthy(&status.health_output)),
        _ => Look::NotYet(None),
    }
}

/// Whether a job has run to its end, or never will; `it` begins the sentence about that.
fn ran(folder: &Folder, it: &str) -> Look {
    let Some(status) = folder.status() else { return never(format!("{it}was not started")) };
    match status.state {
        State::Exited if status.stopped => never(format!("{it}was stopped before it was done")),
        State::Exited if status.exit_code == Some(0) => Look::Yes,
        State::Exited => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            let ended = format!("ended with exit status {}{memory}", status.exit_code.unwrap_or(1));
            never(format!("{it}{}", status.error.unwrap_or(ended)))
        }
        State::Dead => never(status.error.unwrap_or_else(|| format!("{it}lost its monitor"))),
        State::Created | State::Running | State::Paused | State::Restarting => Look::NotYet(None),
    }
}

fn unhealthy(output: &str) -> String {
    if output.is_empty() { "is unhealthy".into() } else { format!("is unhealthy: {output}") }
}

/// Whether a container has come up or has failed.
fn settled(folder: &Folder) -> Look {
    let Some(status) = folder.status() else { return never("it was not started") };
    match (status.state, status.health) {
        (State::Exited, _) if status.exit_code == Some(0) => Look::Yes,
        (State::Exited, _) => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            never(format!("it ended with exit status {}{memory}", status.exit_code.unwrap_or(1)))
        }
        (State::Dead, _) => never(status.error.unwrap_or_else(|| "its monitor is gone".into())),
        (State::Restarting, _) => {
            never(format!("it ended with exit status {} and is being restarted", status.exit_code.unwrap_or(1)))
        }
        (State::Running, Health::Starting) => Look::NotYet(None),
        (State::Running, Health::Unhealthy) => never(format!("it {}", unhealthy(&status.health_output))),
        (State::Running, Health::None)
            if status.started_at.is_some_and(|at| Duration::from_millis(now_ms().saturating_sub(at)) < SETTLE) =>
        {
            let lived = Duration::from_millis(now_ms().saturating_sub(status.started_at.unwrap_or_default()));
            Look::NotYet(Some(SETTLE.saturating_sub(lived)))
        }
        (State::Created, _) => Look::NotYet(None),
        _ => Look::Yes,
    }
}

/// The last log lines of a container.
fn last_lines(instance: &Instance, name: &str) -> Vec<String> {
    // If the logs cannot be read, no lines are shown.
    let Ok(generation) = newest_generation(instance, name) else { return Vec::new() };
    let lines = crate::monitor::last_lines(&instance.logs(name), generation, 10);
    lines.iter().map(|line| line.text().into_owned()).collect()
}

/// The newest generation for which a container has logs, or 0.
fn newest_generation(instance: &Instance, name: &str) -> Result<u64> {
    let found = sys::names(&instance.logs(name)).context(|| "cannot find out its last generation".into())?;
    Ok(found.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0))
}

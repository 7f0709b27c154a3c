//! Brings containers to what a plan says: ends what must go, makes networks and volumes, starts the
//! rest several at once by dependency, and waits until each has come up.

use super::container::{Maker, bridges, launch_one};
use super::crash::boundary;
use super::hosts;
use super::instance::Instance;
use super::observe::Observation;
use super::ports::Held;
use super::project::LoadedProject;
use super::report::{Failure, Progress, Reporter, UpOptions};
use super::{down, firewall, preflight};
use crate::build::View;
use crate::model::{Context, Fault, Outcome as Result};
use crate::monitor::{self, Folder, Health, State, now_ms};
use crate::network::{self, Forwarding, Reservation};
use crate::plan::{ContainerRecord, Desired, Image, InstanceRecord, Kind, Planned};
use crate::project::{MountSource, Until};
use crate::ship;
use crate::store::Store;
use crate::sys;
use crate::volume::{self, Below};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Containers that are started at the same time: starting is the kernel's work, not ours.
const AT_ONCE: usize = 8;
/// A container that ends this soon after its start did not start well.
const SETTLE: Duration = Duration::from_millis(60);

/// One pass over an instance's containers.
pub struct Executor<'a> {
    pub loaded: &'a LoadedProject,
    pub store: &'a Store,
    pub planned: &'a Planned,
    pub observation: &'a Observation,
    pub reporter: &'a dyn Reporter,
    pub options: &'a UpOptions,
    pub record: InstanceRecord,
    pub failures: Vec<Failure>,
}

/// What is to be done with a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Todo {
    Fresh,
    Again,
}

impl<'a> Executor<'a> {
    fn instance(&self) -> &Instance {
        &self.loaded.instance
    }

    fn save(&mut self) -> Result<()> {
        self.record.serial += 1;
        self.instance().save(&self.record)?;
        boundary();
        Ok(())
    }

    /// The record as it is now, and what did not come up: causes first, what only waited for them after.
    pub fn finish(mut self) -> (InstanceRecord, Vec<Failure>) {
        self.failures.sort_by_key(|failure| failure.follows);
        (self.record, self.failures)
    }

    /// Carries the plan out.
    ///
    /// # Errors
    /// What stops everything; containers that do not come up are failures, not errors.
    pub fn run(&mut self) -> Result<()> {
        let todo = self.todo();
        self.preflight(&todo)?;
        let held = self.hold(&todo)?;
        let forwarding = Forwarding::look()?;
        self.remove(&todo)?;
        self.networks(forwarding)?;
        self.volumes()?;
        self.put_on_record(&todo)?;
        Reservation::end(&self.instance().home, &self.instance().id)?;
        boundary();
        self.ready_networks(forwarding)?;
        self.adjust()?;
        if !todo.is_empty() {
            sys::write_atomic(&self.instance().opening(), b"", 0o600).doing(|| "cannot mark that containers begin".into())?;
        }
        self.start(&todo, &held);
        self.ship()?;
        self.neighbours(&todo)?;
        self.open()?;
        self.opened()?;
        self.wait()?;
        let outer = self.planned.networks.values().find(|network| !network.internal);
        if let Some(blocked) = outer.and_then(|network| firewall::blockers(&self.instance().home, &network.bridge)) {
            self.reporter.report(Progress::Warning(blocked));
        }
        Ok(())
    }

    fn todo(&self) -> BTreeMap<String, Todo> {
        let changes = self.planned.plan.changes.iter();
        changes
            .filter_map(|change| match change.kind {
                Kind::Create | Kind::Replace | Kind::ReplaceIfImageChanges => Some((change.name.clone(), Todo::Fresh)),
                Kind::Restart => Some((change.name.clone(), Todo::Again)),
                _ => None,
            })
            .filter(|(name, _)| {
                self.options.only.is_empty()
                    || self.planned.desired.get(name).is_some_and(|one| self.options.only.contains(&one.container))
            })
            .collect()
    }

    /// Looks whether this machine has what the containers need, before anything is touched.
    fn preflight(&self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        let host = crate::runtime::host();
        let adjusted = self.planned.plan.changes.iter().filter(|change| change.kind == Kind::Adjust).map(|change| &change.name);
        let (mut seen, mut faults) = (BTreeSet::new(), Vec::new());
        for name in todo.keys().chain(adjusted) {
            let Some(one) = self.planned.desired.get(name) else { continue };
            if !seen.insert(&one.container) {
                continue;
            }
            for caveat in preflight::check(one, &self.loaded.places, &self.instance().folder, host, &mut faults) {
                self.reporter.report(Progress::Warning(caveat));
            }
            faults.extend(preflight::security(one, self.observation, &self.instance().home).err());
            let mounted = one.spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Image(name) => Some(name),
                _ => None,
            });
            if let Some(name) = mounted.into_iter().find(|name| !self.planned.built.contains_key(*name)) {
                let why = format!("container {}: the image {name}, which it mounts, is not built", one.container);
                faults.push(Fault::new(why).hint("its files may have changed while it was built: run the command again"));
            }
        }
        Fault::all(faults)?;
        Ok(())
    }

    /// Gives running containers their new limits.
    fn adjust(&mut self) -> Result<()> {
        let changes = self.planned.plan.changes.iter().filter(|change| change.kind == Kind::Adjust);
        let names: Vec<&String> = changes.map(|change| &change.name).collect();
        for name in &names {
            let Some(one) = self.planned.desired.get(*name) else { continue };
            let request = monitor::Request::Limits { limits: Box::new(one.spec.limits.clone()) };
            match monitor::call(&self.instance().container(name), &request, Some(Duration::from_secs(20))) {
                Ok(_) => {
                    if let Some(record) = self.record.containers.get_mut(*name) {
                        record.aspects.clone_from(&one.aspects);
                    }
                    self.reporter.report(Progress::Container { name: (*name).clone(), what: "adjusted" });
                }
                Err(fault) => {
                    self.failures.push(Failure {
                        container: (*name).clone(),
                        why: fault.chain(),
                        last: Vec::new(),
                        follows: false,
                    });
                }
            }
            boundary();
        }
        if names.is_empty() { Ok(()) } else { self.save() }
    }

    /// Takes published ports before anything is touched.
    fn hold(&self, todo: &BTreeMap<String, Todo>) -> Result<Held> {
        let wishes: Vec<&Desired> = todo.keys().filter_map(|name| self.planned.desired.get(name)).collect();
        Held::take(self.instance(), &wishes)
    }

    /// Makes networks ready before a container is on them: what it sends at once must be translated.
    fn ready_networks(&self, forwarding: Forwarding) -> Result<()> {
        let home = &self.instance().home;
        let (before, wanted) = (&self.observation.observed.record.networks, &self.planned.networks);
        let switch = forwarding == Forwarding::Off && !wanted.is_empty();
        if before != wanted || switch || !wanted.is_empty() && !self.observation.observed.firewall {
            monitor::refresh(home)?;
            boundary();
        }
        if switch {
            // The table drops what is not ours by now.
            Forwarding::switch_on()?;
            boundary();
        }
        Ok(())
    }

    /// Lets published ports lead to what runs by now, and names name it.
    fn open(&self) -> Result<()> {
        let instance = self.instance();
        let publishes = |ports: &[crate::plan::Port]| !ports.is_empty();
        let before = self.observation.observed.record.containers.values().any(|container| publishes(&container.ports));
        if before || self.record.containers.values().any(|container| publishes(&container.ports)) {
            monitor::refresh(&instance.home)?;
            boundary();
        }
        if self.planned.networks.is_empty() { Ok(()) } else { monitor::refresh_names(&instance.home, &instance.id) }
    }

    fn opened(&self) -> Result<()> {
        match std::fs::remove_file(self.instance().opening()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| "cannot remove the mark that containers begin".into())
            }
            _ => Ok(()),
        }
    }

    /// Ends what is to go, and what is to be replaced or started anew.
    fn remove(&mut self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        let removals = self.planned.plan.changes.iter().filter(|change| change.kind == Kind::Remove);
        let gone: Vec<String> = removals.map(|change| change.name.clone()).collect();
        let old: Vec<String> =
            todo.keys().filter(|name| self.record.containers.contains_key(*name)).chain(&gone).cloned().collect();
        let order = down::order(&self.loaded.project, &old);
        for name in &old {
            if self.instance().container(name).alive() {
                self.reporter.report(Progress::Container { name: name.clone(), what: "stopping" });
            }
        }
        down::end_all(self.instance(), &old, &order)?;
        boundary();
        for name in &gone {
            self.record.containers.remove(name);
        }
        if !gone.is_empty() {
            self.save()?;
            for name in &gone {
                down::forget(self.instance(), name);
                self.reporter.report(Progress::Container { name: name.clone(), what: "removed" });
                boundary();
            }
        }
        Ok(())
    }

    fn networks(&mut self, forwarding: Forwarding) -> Result<()> {
        let wanted = &self.planned.networks;
        let stale: Vec<String> = self
            .record
            .networks
            .iter()
            .filter(|(name, old)| !old.external && wanted.get(*name) != Some(old))
            .map(|(_, old)| old.bridge.clone())
            .collect();
        network::delete_links(&stale)?;
        // On record first: a kill in between leaves nothing that `down` does not know.
        self.record.networks.clone_from(wanted);
        self.save()?;
        network::ensure_bridges(&bridges(self.instance(), wanted), forwarding.alias())?;
        boundary();
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        for name in &self.planned.volumes {
            let source = MountSource::Volume(name.clone());
            let mut users = Vec::new();
            for one in self.planned.desired.values() {
                let mounts = one.spec.mounts.iter().filter(|mount| mount.source == source);
                users.extend(one.image.as_ref().into_iter().flat_map(|image| mounts.clone().map(move |mount| (image, mount))));
            }
            if users.is_empty() {
                continue;
            }
            let view =
                |image: &Image| View::new(image.layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect());
            // A part of a volume is not filled: what the image has there is not what the volume has at its top.
            let whole = users.into_iter().filter(|(_, mount)| mount.subpath.is_none());
            let images: Vec<Below> = whole.map(|(image, mount)| Below { image: view(image), at: Path::new(&mount.to) }).collect();
            let instance = self.instance();
            volume::create(&instance.home, &instance.id, name, &images, || instance.runs_with_volume(name))?;
            boundary();
        }
        Ok(())
    }

    /// Records containers before they are made, so that nobody loses sight of them.
    fn put_on_record(&mut self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        for (name, what) in todo {
            let Some(one) = self.planned.desired.get(name) else { continue };
            let Some(image) = &one.image else { continue };
            let known = match self.record.containers.get(name) {
                Some(record) => record.generation,
                None => newest_generation(self.instance(), name)?,
            };
            let generation = if *what == Todo::Fresh { known + 1 } else { known.max(1) };
            self.record.containers.insert(
                name.clone(),
                ContainerRecord {
                    container: one.container.clone(),
                    replica: one.replica,
                    image_name: one.image_name.to_string(),
                    image: image.digest,
                    aspects: one.aspects.clone(),
                    addresses: one.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect(),
                    ports: one.ports.clone(),
                    generation,
                },
            );
            self.record.stopped.remove(name);
        }
        if todo.is_empty() { Ok(()) } else { self.save() }
    }

    /// Starts containers, several at once, each when what it depends on is as far as it asks.
    fn start(&mut self, todo: &BTreeMap<String, Todo>, held: &Held) {
        let starting: BTreeSet<String> = todo.keys().cloned().collect();
        let maker = Maker {
            instance: &self.loaded.instance,
            store: self.store,
            all: &self.planned.desired,
            images: &self.planned.built,
            observation: self.observation,
            starting: &starting,
        };
        let generations: BTreeMap<&String, u64> =
            todo.keys().filter_map(|name| Some((name, self.record.containers.get(name)?.generation))).collect();
        let queue = Mutex::new(Queue {
            waiting: generations.keys().map(|name| (*name).clone()).collect(),
            busy: BTreeSet::new(),
            failed: BTreeMap::new(),
        });
        let changed = Condvar::new();
        let news = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(generations.len()) {
                scope.spawn(|| {
                    while let Some(name) = self.next(&queue, &changed, &news) {
                        let one = &self.planned.desired[&name];
                        self.reporter.report(Progress::Container { name: name.clone(), what: "starting" });
                        boundary();
                        let started = launch_one(&maker, one, generations[&name], &held.of(one));
                        boundary();
                        if started.is_ok() {
                            news.store(true, Ordering::Relaxed);
                            self.reporter.report(Progress::Container { name: name.clone(), what: "started" });
                        }
                        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                        queue.busy.remove(&name);
                        if let Err(fault) = started {
                            monitor::note_failure(&self.instance().container(&name), &fault.chain());
                            queue.failed.insert(name, Why { text: fault.chain(), follows: false });
                        }
                        changed.notify_all();
                    }
                });
            }
        });
        let failed = queue.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
        for (name, why) in failed {
            // What never began said nothing in this generation.
            let last = if why.follows { Vec::new() } else { last_lines(self.instance(), &name) };
            self.failures.push(Failure { container: name, why: why.text, last, follows: why.follows });
        }
    }

    /// The next container whose dependencies are ready; nothing when all are done.
    ///
    /// Whoever would only wait lets ports and names follow what has started meanwhile: those that are waited
    /// for may take long.
    fn next(&self, queue: &Mutex<Queue>, changed: &Condvar, news: &AtomicBool) -> Option<String> {
        let mut guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if guard.waiting.is_empty() {
                return None;
            }
            let names: Vec<String> = guard.waiting.iter().cloned().collect();
            for name in names {
                match self.readiness(&name, &guard) {
                    Ready::Yes => {
                        guard.waiting.remove(&name);
                        guard.busy.insert(name.clone());
                        return Some(name);
                    }
                    Ready::NotYet => {}
                    Ready::Never(why) => {
                        guard.waiting.remove(&name);
                        guard.failed.insert(name, Why { text: why, follows: true });
                        changed.notify_all();
                    }
                }
            }
            if !guard.waiting.is_empty() && news.swap(false, Ordering::Relaxed) {
                drop(guard);
                if let Err(fault) = self.open() {
                    self.reporter.report(Progress::Warning(fault.chain()));
                }
                guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Health and ends of other containers are in files: look again soon.
            guard = changed.wait_timeout(guard, Duration::from_millis(5)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn readiness(&self, name: &str, queue: &Queue) -> Ready {
        let Some(one) = self.planned.desired.get(name) else { return Ready::Yes };
        for (needed, until) in &one.spec.depends_on {
            for replica in self.planned.desired.values().filter(|other| other.container == *needed) {
                if let Some(why) = queue.failed.get(&replica.name) {
                    return Ready::Never(format!(
                        "it depends on {}, which failed: {}",
                        replica.name,
                        why.text.lines().next().unwrap_or_default()
                    ));
                }
                if queue.waiting.contains(&replica.name) || queue.busy.contains(&replica.name) {
                    return Ready::NotYet;
                }
                match reached(&self.instance().container(&replica.name), *until) {
                    Reached::Yes => {}
                    Reached::NotYet => return Ready::NotYet,
                    Reached::Never(why) => return Ready::Never(format!("it depends on {}, which {why}", replica.name)),
                }
            }
        }
        Ready::Yes
    }

    /// Has lines sent on, if a container names where to.
    fn ship(&self) -> Result<()> {
        let instance = self.instance();
        let run = instance.home.run.join(&instance.id);
        let before = ship::told(&run)?.map(|told| told.targets).unwrap_or_default();
        let observed = &self.observation.observed;
        let targets: BTreeMap<String, ship::Target> = self
            .planned
            .desired
            .values()
            .filter_map(|one| {
                // A container that is not as the file says yet keeps what was said, and allowed, of it before.
                if self.record.containers.get(&one.name).is_none_or(|record| record.aspects != one.aspects) {
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
            project: self.loaded.project.name.to_string(),
            places: instance.state().join("ship.json"),
            events: instance.events(),
            folder: instance.folder.clone(),
            targets,
        };
        ship::start(&run, &manifest)
    }

    /// Keeps for running containers who their neighbours are now; those just started know.
    fn neighbours(&self, todo: &BTreeMap<String, Todo>) -> Result<()> {
        for one in self.planned.desired.values().filter(|one| !todo.contains_key(&one.name)) {
            let folder = self.instance().container(&one.name);
            if folder.join("hosts").exists() {
                monitor::keep_names(folder.path(), &hosts::hosts(one, &self.planned.desired))?;
            }
        }
        Ok(())
    }

    /// Waits until every container is as healthy as it can say.
    fn wait(&mut self) -> Result<()> {
        boundary();
        let failed: BTreeSet<String> = self.failures.iter().map(|failure| failure.container.clone()).collect();
        let watched = self
            .planned
            .desired
            .values()
            .filter(|one| self.options.only.is_empty() || self.options.only.contains(&one.container));
        let mut waiting: Vec<&Desired> = watched.filter(|one| !failed.contains(&one.name)).collect();
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for one in waiting {
                let folder = self.instance().container(&one.name);
                match settled(&folder) {
                    Reached::Yes => {
                        if folder.status().is_some_and(|status| status.health == Health::Healthy) {
                            self.reporter.report(Progress::Container { name: one.name.clone(), what: "healthy" });
                        }
                    }
                    Reached::NotYet => left.push(one),
                    Reached::Never(why) => {
                        let last = last_lines(&self.loaded.instance, &one.name);
                        self.failures.push(Failure { container: one.name.clone(), why, last, follows: false });
                    }
                }
            }
            waiting = left;
            if !waiting.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

struct Queue {
    waiting: BTreeSet<String>,
    busy: BTreeSet<String>,
    failed: BTreeMap<String, Why>,
}

/// Why a container did not come up.
struct Why {
    text: String,
    /// Because another did not.
    follows: bool,
}

enum Ready {
    Yes,
    NotYet,
    Never(String),
}

enum Reached {
    Yes,
    NotYet,
    Never(String),
}

/// Whether a dependency is as far as it must be.
fn reached(folder: &Folder, until: Until) -> Reached {
    let Some(status) = folder.status() else { return Reached::Never("is not there".into()) };
    let ended = || format!("ended with exit status {}", status.exit_code.unwrap_or(1));
    match (until, status.state) {
        (Until::Completed, State::Exited) if status.exit_code == Some(0) => Reached::Yes,
        (_, State::Exited) if status.exit_code == Some(0) && until == Until::Started => Reached::Yes,
        (_, State::Exited | State::Dead) => Reached::Never(status.error.clone().unwrap_or_else(ended)),
        (_, State::Restarting) => Reached::Never(format!("{} and is being restarted", ended())),
        (Until::Started, State::Running) => Reached::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Healthy => Reached::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Unhealthy => {
            Reached::Never(unhealthy(&status.health_output))
        }
        _ => Reached::NotYet,
    }
}

fn unhealthy(output: &str) -> String {
    if output.is_empty() { "is unhealthy".into() } else { format!("is unhealthy: {output}") }
}

/// Whether a container has come up, for good or ill.
fn settled(folder: &Folder) -> Reached {
    let Some(status) = folder.status() else { return Reached::Never("it was not started".into()) };
    match (status.state, status.health) {
        (State::Exited, _) if status.exit_code == Some(0) => Reached::Yes,
        (State::Exited, _) => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            Reached::Never(format!("it ended with exit status {}{memory}", status.exit_code.unwrap_or(1)))
        }
        (State::Dead, _) => Reached::Never(status.error.unwrap_or_else(|| "its monitor is gone".into())),
        (State::Restarting, _) => {
            Reached::Never(format!("it ended with exit status {} and is being restarted", status.exit_code.unwrap_or(1)))
        }
        (State::Running, Health::Starting) => Reached::NotYet,
        (State::Running, Health::Unhealthy) => Reached::Never(format!("it {}", unhealthy(&status.health_output))),
        (State::Running, Health::None)
            if status.started_at.is_some_and(|at| now_ms().saturating_sub(at) < SETTLE.as_millis() as u64) =>
        {
            Reached::NotYet
        }
        (State::Created, _) => Reached::NotYet,
        _ => Reached::Yes,
    }
}

/// The last lines that a container said.
fn last_lines(instance: &Instance, name: &str) -> Vec<String> {
    // What cannot be read is only not told.
    let Ok(generation) = newest_generation(instance, name) else { return Vec::new() };
    let lines = crate::monitor::last_lines(&instance.logs(name).join(generation.to_string()), 10);
    lines.into_iter().map(|line| line.text).collect()
}

/// The newest generation that a container left logs of; 0 if none.
fn newest_generation(instance: &Instance, name: &str) -> Result<u64> {
    let found = sys::names(&instance.logs(name)).doing(|| "cannot tell how often it was made".into())?;
    Ok(found.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0))
}

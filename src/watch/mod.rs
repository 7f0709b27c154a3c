//! Files that change while people work: the smallest thing that makes the environment follow.
//!
//! An event says where to look; the content decides what has changed ([`mirror`]); the flows say which containers it
//! concerns ([`flows`]). Then it is written into them ([`deliver`]), or their process is started again, or the caller is told
//! to bring the environment up anew, because an image or a definition has changed.

mod deliver;
mod events;
mod flows;
mod mirror;

pub use events::Asker;

use crate::build::{ScanCache, View};
use crate::image;
use crate::instance::{Drift, Drifting, Instance, LoadedProject, Options};
use crate::model::{Context, Digest, Error, Name, Result, spelled};
use crate::monitor::{self, Request};
use crate::plan::InstanceRecord;
use crate::project::{ConfigSource, Container, Cover, Then, cover, tidy};
use crate::store::Store;
use crate::sys;
use deliver::Root;
use events::Events;
use flows::{Flow, Flows};
use mirror::{Change, Mirror, Now};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a restart may take beyond the grace period before we stop waiting for it.
const RESTART: Duration = Duration::from_secs(30);
/// From how many files on several threads write.
const MANY: usize = 64;
/// How much of a failed command's output is shown.
const OUTPUT: usize = 2000;

/// Something that a session has done, or that is to be known.
#[derive(Debug)]
pub enum Happened {
    /// Files were made equal in containers.
    Synced {
        paths: Vec<PathBuf>,
        replicas: BTreeSet<String>,
        took: Duration,
    },
    Restarted {
        replica: String,
        took: Duration,
    },
    Ran {
        replica: String,
        words: Vec<String>,
        took: Duration,
    },
    Failed(Error),
    Note(String),
}

/// What is next.
#[derive(Debug)]
pub enum Next {
    /// Load the project, [`aim`](Session::aim) at it, bring up these containers (all if there are none), and
    /// [`settle`](Session::settle).
    Converge {
        changed: Vec<PathBuf>,
        only: BTreeSet<Name>,
        since: Instant,
    },
    Did(Vec<Happened>),
}

/// A session of watching one project.
pub struct Session {
    instance: Instance,
    events: Events,
    mirror: Option<Mirror>,
    flows: Flows,
    containers: BTreeMap<Name, Container>,
    /// The replicas on record with their generation.
    replicas: BTreeMap<String, (Name, u64)>,
    /// The process of each replica that has everything.
    met: BTreeMap<String, i32>,
    /// What was synced into replicas, with the generation of their root.
    drift: BTreeMap<String, (u64, Drift)>,
    /// What replicas have missed.
    behind: BTreeMap<String, BTreeSet<PathBuf>>,
    /// The inputs that changed while the project was loaded.
    doubtful: Vec<PathBuf>,
    /// What has been written into the replicas of a container since they were last brought up.
    sent: BTreeMap<Name, BTreeSet<PathBuf>>,
    /// What was known before the project was loaded again.
    before: Option<Mirror>,
}

/// What changes mean, container by container.
#[derive(Default)]
struct Meaning {
    /// The files of each container: the target, and the change.
    files: BTreeMap<Name, BTreeMap<PathBuf, Delivery>>,
    restart: BTreeSet<Name>,
    run: BTreeSet<(Name, Vec<String>)>,
    /// The containers that need a build or another definition.
    rebuild: BTreeSet<Name>,
    everything: bool,
}

/// A file on its way.
#[derive(Clone)]
struct Delivery {
    path: PathBuf,
    now: Now,
    new: u32,
    /// The mount point of the volume that it goes into, if it does.
    volume: Option<PathBuf>,
}

impl Delivery {
    fn is_in_volume(&self) -> bool {
        self.volume.is_some()
    }

    /// The file to copy. If it cannot be opened, it has changed again, so another event follows.
    fn source(&self, mirror: &Mirror) -> Option<File> {
        if matches!(self.now, Now::File { .. }) { mirror.open(&self.path).ok() } else { None }
    }
}

impl Session {
    /// Begins to watch; nothing is aimed at yet.
    ///
    /// # Errors
    /// Fails when files cannot be watched.
    pub fn begin(instance: &Instance) -> Result<Self> {
        Ok(Self {
            instance: instance.clone(),
            events: Events::new(&instance.folder, &instance.events())?,
            mirror: None,
            flows: Flows::default(),
            containers: BTreeMap::new(),
            replicas: BTreeMap::new(),
            met: BTreeMap::new(),
            drift: BTreeMap::new(),
            behind: BTreeMap::new(),
            doubtful: Vec::new(),
            sent: BTreeMap::new(),
            before: None,
        })
    }

    /// What makes [`next`](Self::next) return at once, with everything to be brought up; only the first caller gets it.
    pub fn asker(&mut self) -> Option<Asker> {
        self.events.asker()
    }

    /// How many files and directories are watched.
    pub fn size(&self) -> (usize, usize) {
        (self.mirror.as_ref().map_or(0, Mirror::files), self.events.directories())
    }

    /// Watches only what could make a project readable that is not.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    pub fn aim_at_files(&mut self, options: &Options) -> Result<Vec<Happened>> {
        let files = [options.file.as_str(), "stead.lock"].map(PathBuf::from);
        if self.mirror.is_some() {
            // Whatever was known before may be what is mended.
            self.flows.inputs.extend(files.map(|file| (file, BTreeSet::new())));
            return Ok(Vec::new());
        }
        let flows = Flows { inputs: files.map(|file| (file, BTreeSet::new())).into(), ..Flows::default() };
        self.take(flows)
    }

    /// Watches everything that a project is made of, from now on.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    /// `since` is when the project was about to be loaded.
    pub fn aim(&mut self, loaded: &LoadedProject, options: &Options, since: SystemTime) -> Result<Vec<Happened>> {
        let folder = self.instance.folder.clone();
        let project = loaded.project.with_image_volumes();
        let mut flows = Flows::of(&project, &loaded.places, &folder);
        flows.inputs = inputs(loaded, options);
        self.containers = project.containers;
        let problems = std::mem::take(&mut flows.problems);
        let mut told = self.take(flows)?;
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or(0));
        if let Some(mirror) = &mut self.mirror {
            // What has changed while the project was loaded may not be in it.
            self.doubtful = mirror.doubt(self.flows.inputs.keys().cloned(), since);
        }
        told.extend(problems.into_iter().map(Happened::Failed));
        for rule in loaded.project.watch_rules() {
            let from = tidy(Path::new(&rule.rule.path));
            if self.mirror.as_ref().is_some_and(|mirror| mirror.now(&from) == Now::Gone) {
                let why = format!(
                    "`{} \"{}\"` of container {}: there is no such path yet",
                    rule.rule.word(),
                    rule.rule.path,
                    rule.container
                );
                told.push(Happened::Note(why));
            }
        }
        Ok(told)
    }

    fn take(&mut self, flows: Flows) -> Result<Vec<Happened>> {
        let (folder, events) = (&self.instance.folder, &mut self.events);
        let mut directories = BTreeSet::from([PathBuf::new()]);
        events.also(PathBuf::new());
        let listed = Mirror::begin(folder, &flows, &mut |directory| {
            events.also(directory.to_owned());
            directories.insert(directory.to_owned());
        });
        let mut mirror = listed.context(|| format!("cannot open {}", folder.display()))?;
        // What the inputs are now is what the project was just loaded from.
        let _ = mirror.look(&flows.inputs.keys().cloned().collect(), &flows);
        events.only(&directories);
        self.before = self.mirror.replace(mirror);
        self.flows = flows;
        Ok(self.events.blind().map(|why| Happened::Note(why.to_owned())).into_iter().collect())
    }

    /// Makes all running containers equal to the disk, after these were brought up (all if there are none), or could not be.
    ///
    /// # Errors
    /// Fails when the record cannot be read.
    pub fn settle(&mut self, is_up: bool, only: &BTreeSet<Name>) -> Result<Vec<Happened>> {
        if is_up {
            self.sent.retain(|name, _| !only.is_empty() && !only.contains(name));
        }
        self.meet(self.instance.record()?);
        if let Some(mirror) = &mut self.mirror {
            let before = self.before.take();
            if let Some(before) = before.filter(|_| !is_up || !only.is_empty()) {
                // What has been delivered since the last scan is known here only.
                mirror.remember(&before);
            }
            if is_up {
                let flows = &self.flows;
                let has_all =
                    |path: &Path| only.is_empty() || flows.of_path(path, false).iter().all(|flow| only.contains(&flow.container));
                mirror.learn(&ScanCache::read(&self.instance.scan_cache()), &has_all);
            }
        }
        let mut told = Vec::new();
        self.met.clear();
        self.equalise(&mut told)?;
        self.events.acted();
        sys::give_memory_back();
        Ok(told)
    }

    fn meet(&mut self, record: InstanceRecord) {
        let of = |(name, record): (String, crate::plan::ContainerRecord)| (name, (record.container, record.generation));
        let now: BTreeMap<String, (Name, u64)> = record.containers.into_iter().map(of).collect();
        for (replica, (name, generation)) in &now {
            // Somebody else has replaced it, perhaps with older files.
            if self.replicas.get(replica).is_some_and(|(_, before)| before != generation)
                && let Some(sent) = self.sent.get(name)
            {
                self.behind.entry(replica.clone()).or_default().extend(sent.iter().cloned());
            }
        }
        self.replicas = now;
    }

    /// Waits for the next change that means something, and does what follows from it.
    ///
    /// # Errors
    /// Fails when the watch has ended, or when a record cannot be read or written.
    pub fn next(&mut self) -> Result<Next> {
        if !self.doubtful.is_empty() {
            let (changed, only, since) = (std::mem::take(&mut self.doubtful), BTreeSet::new(), Instant::now());
            return Ok(Next::Converge { changed, only, since });
        }
        loop {
            let batch = self.events.wait()?;
            let mut told: Vec<Happened> =
                batch.everything.filter(|why| !why.is_empty()).map(|why| Happened::Note(why.to_owned())).into_iter().collect();
            if batch.containers {
                self.meet(self.instance.record()?);
                self.equalise(&mut told)?;
            }
            let Some(mirror) = &mut self.mirror else { continue };
            // A directory that is told of may be another one under the same name, which nobody watches yet.
            for folder in mirror.folders(&batch.paths) {
                self.events.forget(&folder);
                self.events.also(folder);
            }
            let mut changes = match batch.everything {
                Some(_) => mirror.look_at_all(&self.flows),
                None => mirror.look(&batch.paths, &self.flows),
            };
            let mut fresh = changes.clone();
            loop {
                let new = self.follow_directories(&fresh);
                // What came into a new directory before it was watched is found by looking again.
                let Some(mirror) = self.mirror.as_mut().filter(|_| !new.is_empty()) else { break };
                fresh = mirror.look(&new, &self.flows);
                changes.extend(fresh.iter().cloned());
            }
            let (mut meaning, relevant) = self.meaning(&changes);
            self.leave_to_the_build(&mut meaning);
            self.deliver_all(&meaning.files, batch.since, &mut told)?;
            self.carry_out(&meaning, &|_| true, &mut told);
            self.note_restarts(&meaning)?;
            if !relevant.is_empty() || !told.is_empty() {
                self.events.acted();
            }
            meaning.everything |= batch.asked;
            if meaning.everything || !meaning.rebuild.is_empty() {
                let only = if meaning.everything { BTreeSet::new() } else { meaning.rebuild };
                return Ok(Next::Converge { changed: relevant, only, since: batch.since });
            }
            if !told.is_empty() {
                return Ok(Next::Did(told));
            }
        }
    }

    /// Watches directories that are new, and returns them.
    fn follow_directories(&mut self, changes: &[Change]) -> BTreeSet<PathBuf> {
        let mut new = BTreeSet::new();
        for change in changes {
            match change.now {
                Now::Folder { .. } => {
                    self.events.also(change.path.clone());
                    new.insert(change.path.clone());
                }
                Now::Gone => self.events.forget(&change.path),
                _ => {}
            }
        }
        new
    }

    /// What changes mean, and which of them mean anything.
    fn meaning(&self, changes: &[Change]) -> (Meaning, Vec<PathBuf>) {
        let (mut meaning, mut relevant) = (Meaning::default(), Vec::new());
        for change in changes {
            let mut matters = false;
            if let Some(names) = self.flows.inputs.get(&change.path) {
                matters = true;
                meaning.everything |= names.is_empty();
                meaning.rebuild.extend(names.iter().cloned());
            }
            // What is gone was a file or a directory: either is taken by the same flows.
            let is_folder = matches!(change.now, Now::Folder { .. });
            for flow in self.flows.of_path(&change.path, is_folder) {
                matters |= meaning.add(flow, change, self.containers.get(&flow.container));
            }
            if matters {
                relevant.push(change.path.clone());
            }
        }
        (meaning, relevant)
    }

    /// A container that is built anew gets everything by that; if the build fails, it is behind.
    fn leave_to_the_build(&mut self, meaning: &mut Meaning) {
        for name in &meaning.rebuild {
            if let Some(files) = meaning.files.remove(name) {
                for replica in replicas_of(&self.replicas, name) {
                    self.behind.entry(replica).or_default().extend(files.values().map(|file| file.path.clone()));
                }
            }
            meaning.restart.remove(name);
        }
        let rebuild = &meaning.rebuild;
        meaning.run.retain(|(name, _)| !rebuild.contains(name));
    }

    fn deliver_all(
        &mut self,
        files: &BTreeMap<Name, BTreeMap<PathBuf, Delivery>>,
        since: Instant,
        told: &mut Vec<Happened>,
    ) -> Result<()> {
        let (mut paths, mut reached, mut unmet) = (BTreeSet::new(), BTreeSet::new(), false);
        for (name, files) in files {
            for replica in replicas_of(&self.replicas, name) {
                // One that has started meanwhile gets it with everything else, once it is known which one it is.
                let root = Root::of(&self.instance, &replica)?;
                let Some(mut root) = root.filter(|root| self.met.get(&replica) == Some(&root.pid)) else {
                    self.behind.entry(replica).or_default().extend(files.values().map(|file| file.path.clone()));
                    unmet = true;
                    continue;
                };
                let written = self.deliver(&replica, &mut root, files, told)?;
                if !written.is_empty() {
                    reached.insert(replica);
                    paths.extend(written);
                }
            }
        }
        if !paths.is_empty() {
            told.insert(0, Happened::Synced { paths: paths.into_iter().collect(), replicas: reached, took: since.elapsed() });
        }
        if unmet {
            self.meet(self.instance.record()?);
            self.equalise(told)?;
        }
        Ok(())
    }

    /// Writes files into one replica; returns those that it did not have.
    fn deliver(
        &mut self,
        replica: &str,
        root: &mut Root,
        files: &BTreeMap<PathBuf, Delivery>,
        told: &mut Vec<Happened>,
    ) -> Result<BTreeSet<PathBuf>> {
        let Some((name, generation)) = self.replicas.get(replica).cloned() else { return Ok(BTreeSet::new()) };
        let mut drift = match self.drift.remove(replica) {
            Some((of, known)) if of == generation => known,
            _ => Drift::read(&self.instance, replica, generation)?,
        };
        let (mut news, mut back, mut view) = (Vec::new(), Vec::new(), None);
        let mut lacking = BTreeMap::new();
        for (to, file) in files {
            let key = spelled(to.as_os_str()).into_owned();
            let known = !file.is_in_volume() && drift.has(&key);
            // What has drifted before may be as in the image again.
            let is_back = known && has(view.get_or_insert_with(|| self.image_of(replica)), to, &file.now);
            if is_back {
                back.push((to.clone(), key.clone()));
            }
            // What it has already is no drift of ours; if it cannot be read, writing it says why.
            let source = self.mirror.as_ref().and_then(|mirror| file.source(mirror));
            if root.has(to, file.volume.as_deref(), &file.now, source.as_ref()).unwrap_or(false) {
                continue;
            }
            lacking.insert(to, file);
            if let Some(now) = drifting(&file.now).filter(|_| !is_back && !file.is_in_volume()) {
                news.push((key, now));
            }
        }
        let files = lacking;
        let asked: BTreeSet<PathBuf> = files.keys().map(|to| (*to).clone()).collect();
        drift.add(&self.instance, replica, generation, news)?;
        // What is gone goes from the inside out; directories come before what is in them.
        let (gone, there): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, file)| file.now == Now::Gone);
        let (folders, rest): (Vec<_>, Vec<_>) = there.into_iter().partition(|(_, file)| matches!(file.now, Now::Folder { .. }));
        let first: Vec<_> = gone.into_iter().rev().chain(folders).collect();
        let mut done = put(self.mirror.as_ref(), root, &first);
        let threads = if rest.len() < MANY { 1 } else { crate::sys::cores() };
        let roots: Vec<Root> = (1..threads).map_while(|_| root.again().ok()).collect();
        let parts: Vec<_> = rest.chunks(rest.len().div_ceil(roots.len() + 1).max(1)).collect();
        let mirror = self.mirror.as_ref();
        std::thread::scope(|scope| {
            let mut parts = parts.into_iter();
            let own = parts.next();
            let others: Vec<_> =
                roots.into_iter().zip(parts).map(|(mut root, part)| scope.spawn(move || put(mirror, &mut root, part))).collect();
            done.extend(own.map(|part| put(mirror, root, part)).unwrap_or_default());
            done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_default()));
        });
        let mut written = BTreeSet::new();
        let mut failed: BTreeSet<PathBuf> = asked;
        for (to, path, result) in done {
            if result.is_ok() {
                failed.remove(&to);
            }
            match result {
                Ok(true) => drop(written.insert(path)),
                Ok(false) => {}
                Err(error) => told.push(Happened::Failed(deliver::failed(replica, &to, &error))),
            }
        }
        // What was not written is still as it was.
        let back = back.into_iter().filter(|(to, _)| !failed.contains(to)).map(|(_, key)| (key, Drifting::AsImage)).collect();
        drift.add(&self.instance, replica, generation, back)?;
        self.sent.entry(name).or_default().extend(written.iter().cloned());
        self.drift.insert(replica.to_owned(), (generation, drift));
        Ok(written)
    }

    /// The image that a replica has on record: that from which it was started, or the one that `freeze` made of it.
    fn image_of(&self, replica: &str) -> Option<View> {
        let store = Store::at(&self.instance.home.store);
        let image = image::load(&store, &self.instance.record().ok()?.containers.get(replica)?.image)?;
        Some(View::new(image.layers.iter().map(|layer| store.layer_path(&layer.diff_id)).collect()))
    }

    /// Makes replicas that have started since equal to the disk: with what they missed, and with what rules keep equal.
    fn equalise(&mut self, told: &mut Vec<Happened>) -> Result<()> {
        let replicas = self.replicas.clone();
        self.met.retain(|replica, _| replicas.contains_key(replica));
        for (replica, (name, _)) in &replicas {
            let Some(mut root) = Root::of(&self.instance, replica)? else { continue };
            if self.met.insert(replica.clone(), root.pid) == Some(root.pid) {
                continue;
            }
            let Some(mirror) = &self.mirror else { continue };
            let mut paths = self.behind.remove(replica).unwrap_or_default();
            for flow in self.flows.all.iter().filter(|flow| flow.is_rule && flow.container == *name && flow.to.is_some()) {
                // What its image has is equal already.
                let is_copied = |other: &Flow| {
                    !other.is_rule && other.container == *name && (&other.from, &other.to) == (&flow.from, &flow.to)
                };
                if !self.flows.all.iter().any(is_copied) {
                    paths.extend(mirror.below(&flow.from));
                }
            }
            let mut changes: Vec<Change> = paths.into_iter().map(|path| Change { now: mirror.now(&path), path }).collect();
            let (since, (meaning, _)) = (Instant::now(), self.meaning(&changes));
            let Some(files) = meaning.files.get(name) else { continue };
            let written = self.deliver(replica, &mut root, files, told)?;
            if !written.is_empty() {
                changes.retain(|change| written.contains(&change.path));
                let (paths, replicas) = (written.into_iter().collect(), [replica.clone()].into());
                told.push(Happened::Synced { paths, replicas, took: since.elapsed() });
                // Its process may have read what was there before.
                let (mut meaning, _) = self.meaning(&changes);
                meaning.restart.retain(|other| other == name);
                meaning.run.retain(|(other, _)| other == name);
                self.carry_out(&meaning, &|other| other == replica, told);
                if let Some(root) = Root::of(&self.instance, replica)? {
                    self.met.insert(replica.clone(), root.pid);
                }
            }
        }
        Ok(())
    }

    /// Takes the new processes of containers that were restarted here: they have everything.
    fn note_restarts(&mut self, meaning: &Meaning) -> Result<()> {
        for replica in meaning.restart.iter().flat_map(|name| replicas_of(&self.replicas, name)) {
            if let Some(root) = Root::of(&self.instance, &replica)? {
                self.met.insert(replica, root.pid);
            }
        }
        Ok(())
    }

    /// Restarts processes and runs commands, as rules say.
    fn carry_out(&self, meaning: &Meaning, is_meant: &dyn Fn(&str) -> bool, told: &mut Vec<Happened>) {
        let instance = &self.instance;
        let replicas_of = |name: &Name| replicas_of(&self.replicas, name).into_iter().filter(|replica| is_meant(replica));
        let joined = |jobs: Vec<std::thread::ScopedJoinHandle<'_, Happened>>| -> Vec<Happened> {
            let failed = |_| Happened::Failed(Error::new("a rule could not be carried out"));
            jobs.into_iter().map(|job| job.join().unwrap_or_else(failed)).collect()
        };
        let restarts = meaning.restart.iter().flat_map(replicas_of);
        let mut done =
            std::thread::scope(|scope| joined(restarts.map(|one| scope.spawn(move || restart(instance, one))).collect()));
        // A command runs in the new process's container.
        let runs = meaning.run.iter().flat_map(|(name, words)| replicas_of(name).map(move |replica| (replica, words)));
        done.extend(std::thread::scope(|scope| {
            joined(runs.map(|(one, words)| scope.spawn(move || run(instance, one, words))).collect())
        }));
        told.extend(done);
    }
}

impl Meaning {
    /// Adds what a change means by one flow; returns whether it means anything.
    fn add(&mut self, flow: &Flow, change: &Change, container: Option<&Container>) -> bool {
        let Some(container) = container else { return false };
        let name = &flow.container;
        if let Some(to) = flow.target(&change.path) {
            match cover(container, &to) {
                Cover::Hidden(_) => return false,
                // What the image has there came into the volume once, when it was made.
                Cover::Volume(_) if !flow.is_rule => {
                    self.rebuild.insert(name.clone());
                    return true;
                }
                covered => {
                    let new = match change.now {
                        Now::File { mode, .. } => flow.modes.of(mode),
                        _ => 0o755,
                    };
                    let (path, now) = (change.path.clone(), change.now.clone());
                    let volume = if let Cover::Volume(volume) = covered { Some(volume) } else { None };
                    let delivery = Delivery { path, now, new, volume };
                    self.files.entry(name.clone()).or_default().insert(to, delivery);
                }
            }
        }
        match &flow.then {
            Then::Nothing => {}
            Then::Restart => drop(self.restart.insert(name.clone())),
            Then::Run(words) => drop(self.run.insert((name.clone(), words.clone()))),
            Then::Rebuild => drop(self.rebuild.insert(name.clone())),
        }
        true
    }
}

/// What became of a delivery: the target, the source, and whether anything was written.
type Done = (PathBuf, PathBuf, std::io::Result<bool>);

/// Writes some files into a root.
fn put(mirror: Option<&Mirror>, root: &mut Root, files: &[(&PathBuf, &Delivery)]) -> Vec<Done> {
    let one = |(to, file): &(&PathBuf, &Delivery)| {
        let source = mirror.and_then(|mirror| file.source(mirror));
        if source.is_none() && matches!(file.now, Now::File { .. }) {
            return None;
        }
        let place = (to.as_path(), file.volume.as_deref());
        Some(((*to).clone(), file.path.clone(), root.put(place, &file.now, source.as_ref(), file.new)))
    };
    files.iter().filter_map(one).collect()
}

fn replicas_of(replicas: &BTreeMap<String, (Name, u64)>, container: &Name) -> Vec<String> {
    replicas.iter().filter(|(_, (name, _))| name == container).map(|(replica, _)| replica.clone()).collect()
}

/// What the record of drift says; directories alone are none.
fn drifting(now: &Now) -> Option<Drifting> {
    match now {
        Now::File { digest, .. } => Some(Drifting::File(*digest)),
        Now::Link(to) => Some(Drifting::File(Digest::of(spelled(to).as_bytes()))),
        Now::Gone => Some(Drifting::Gone),
        Now::Folder { .. } => None,
    }
}

/// Whether an image has this at a path.
fn has(image: &Option<View>, to: &Path, now: &Now) -> bool {
    let Some(image) = image else { return false };
    let at = image.resolve(to.parent().unwrap_or(Path::new("/"))).join(to.file_name().unwrap_or_default());
    match now {
        Now::Gone => image.entry(&at).is_none(),
        Now::Folder { .. } => image.entry(&at).is_some_and(|(_, found)| found.is_dir()),
        Now::Link(target) => image.link(&at).is_ok_and(|found| found == *target),
        Now::File { digest, mode } => {
            let executable = |mode: u32| mode & 0o100 != 0;
            image.entry(&at).is_some_and(|(_, found)| found.is_file() && executable(found.mode()) == executable(*mode))
                && image.file(&at).and_then(Digest::of_stream).is_ok_and(|found| found == *digest)
        }
    }
}

fn restart(instance: &Instance, replica: String) -> Happened {
    let (folder, since) = (instance.container(&replica), Instant::now());
    let grace = folder.spec().ok().flatten().map_or(Duration::ZERO, |spec| spec.stop_grace.into());
    match monitor::call(&folder, &Request::Restart, Some(grace + RESTART)) {
        Ok(_) => Happened::Restarted { replica, took: since.elapsed() },
        Err(error) => Happened::Failed(Error::caused(format!("cannot restart {replica}"), error)),
    }
}

/// Runs a command in a replica. What it says is shown if it fails.
fn run(instance: &Instance, replica: String, words: &[String]) -> Happened {
    let (folder, since) = (instance.container(&replica), Instant::now());
    let what = format!("{} in {replica}", words.join(" "));
    let ran = || -> Result<(i32, String)> {
        let spec = folder.spec()?.ok_or_else(|| Error::new(format!("{replica} is not running")))?;
        let process = spec.blueprint.like_process(words).context(|| format!("{replica} has no process"))?;
        let none = File::open("/dev/null").context(|| "cannot open /dev/null".into())?;
        let memory = memfd_create(c"said", MFdFlags::MFD_CLOEXEC).map_err(std::io::Error::from);
        let mut said = File::from(memory.context(|| "cannot keep what it says".into())?);
        let session = monitor::session(&folder, &process, &[none.as_raw_fd(), said.as_raw_fd(), said.as_raw_fd()])?;
        let status = session.wait()?;
        let mut text = Vec::new();
        said.rewind().and_then(|()| said.read_to_end(&mut text)).context(|| "cannot read what it said".into())?;
        let from = text.len().saturating_sub(OUTPUT);
        Ok((status, String::from_utf8_lossy(&text[from..]).trim().to_owned()))
    };
    match ran() {
        Ok((0, _)) => Happened::Ran { replica, words: words.to_vec(), took: since.elapsed() },
        Ok((status, said)) => {
            let error = Error::new(format!("{what} ended with exit status {status}"));
            Happened::Failed(if said.is_empty() { error } else { error.hint(said) })
        }
        Err(error) => Happened::Failed(Error::caused(format!("cannot run {what}"), error)),
    }
}

/// Files whose change means another project, or another content for some of its containers.
fn inputs(loaded: &LoadedProject, options: &Options) -> BTreeMap<PathBuf, BTreeSet<Name>> {
    let project = &loaded.project;
    let inside = |path: &str| {
        let path = tidy(Path::new(path));
        path.strip_prefix(&loaded.instance.folder).map_or(path.clone(), Path::to_owned)
    };
    let mut all: BTreeMap<PathBuf, BTreeSet<Name>> = BTreeMap::new();
    let users = |uses: &dyn Fn(&Container) -> bool| -> BTreeSet<Name> {
        project.containers.iter().filter(|(_, container)| uses(container)).map(|(name, _)| name.clone()).collect()
    };
    let mut some = |path: &str, names: BTreeSet<Name>| {
        if !names.is_empty() {
            all.entry(inside(path)).or_default().extend(names);
        }
    };
    for (name, path) in &project.secrets {
        some(path, users(&|container| container.secrets.iter().any(|used| used.name == *name)));
    }
    for (name, source) in &project.configs {
        if let ConfigSource::File(path) = source {
            some(path, users(&|container| container.configs.iter().any(|used| used.name == *name)));
        }
    }
    for (name, container) in &project.containers {
        for file in &container.env_files {
            some(&file.path, [name.clone()].into());
        }
        if let Some(profile) = container.security.seccomp.as_ref().filter(|profile| *profile != "unconfined") {
            some(profile, [name.clone()].into());
        }
    }
    // These may change anything.
    let mut files: BTreeSet<&str> = [options.file.as_str(), "stead.lock", ".steadignore", ".dockerignore"].into();
    files.extend(loaded.files.keys().map(String::as_str));
    files.extend(loaded.places.all().map(|place| place.file.as_str()).filter(|file| !file.is_empty()));
    for file in files {
        all.insert(inside(file), BTreeSet::new());
    }
    all.retain(|path, _| path.is_relative() && !path.as_os_str().is_empty());
    all
}

//! A session: what is known while one project is watched, and the order in which things follow from its changes.

use super::agenda::{Agenda, Up, Wanted};
use super::chores::{self, Chore, Chores};
use super::deliver::Root;
use super::events::{Asker, Batch, Events};
use super::flows::{Flow, Flows};
use super::inputs::inputs;
use super::meaning::{Files, Meaning};
use super::mirror::{Change, Mirror, Now};
use super::read::{LOCK, Reading, Seen};
use super::replicas::Replicas;
use super::{Happened, Next};
use crate::instance::{Instance, LoadedProject, Options};
use crate::model::{Context, Name, Result};
use crate::project::Container;
use crate::project::tidy;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How many files of a rule that only restarts or rebuilds are read at first.
const READ: usize = 256;

/// A session of watching one project.
pub struct Session {
    instance: Instance,
    events: Events,
    mirror: Option<Mirror>,
    flows: Flows,
    containers: BTreeMap<Name, Container>,
    replicas: Replicas,
    chores: Chores,
    agenda: Agenda,
    is_woken: bool,
}

impl Session {
    /// Begins to watch. Nothing is aimed at yet: the first thing to do is to bring everything up.
    ///
    /// # Errors
    /// Fails when files cannot be watched.
    pub fn begin(instance: &Instance) -> Result<Self> {
        let events = Events::new(&instance.folder, &instance.events())?;
        let chores = Chores::new(instance, events.asker());
        Ok(Self {
            instance: instance.clone(),
            events,
            mirror: None,
            flows: Flows::default(),
            containers: BTreeMap::new(),
            replicas: Replicas::of(instance),
            chores,
            agenda: Agenda::new(),
            is_woken: false,
        })
    }

    /// What makes [`next`](Self::next) return at once: to bring everything up, or because what runs beside is over.
    pub fn asker(&self) -> Asker {
        self.events.asker()
    }

    /// How many files and directories are watched.
    pub fn size(&self) -> (usize, usize) {
        (self.mirror.as_ref().map_or(0, Mirror::files), self.events.directories())
    }

    /// Whether everything that was to be brought up was.
    pub fn is_whole(&self) -> bool {
        self.agenda.is_whole()
    }

    /// Watches only what could make a project readable that is not.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    pub fn aim_at_files(&mut self, options: &Options) -> Result<Vec<Happened>> {
        let own = options.choices.files.iter().map(String::as_str).filter(|file| Path::new(file).is_relative());
        let files = own.chain([options.file.as_str(), LOCK]).map(|file| (PathBuf::from(file), BTreeSet::new()));
        if self.mirror.is_some() {
            // Whatever was known before may be what is mended.
            self.flows.inputs.extend(files);
        } else {
            let inputs = files.collect();
            self.take(Flows { inputs, ..Flows::default() })?;
        }
        Ok(self.events.newly_blind().map(Happened::Note).into_iter().collect())
    }

    /// Watches everything that a project is made of, from now on. `since` is when the project was about to be loaded.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    pub fn aim(&mut self, loaded: &LoadedProject, options: &Options, since: SystemTime) -> Result<Vec<Happened>> {
        let project = loaded.project.with_image_volumes();
        let mut flows = Flows::of(&project, &loaded.places, &self.instance.folder);
        flows.inputs = inputs(loaded, options);
        let mut told: Vec<Happened> = std::mem::take(&mut flows.problems).into_iter().map(Happened::Failed).collect();
        if self.containers != project.containers {
            // What rules keep equal may be something else now.
            self.replicas.doubt_all();
            self.containers = project.containers;
        }
        let new: BTreeSet<PathBuf> = flows.inputs.keys().filter(|path| !self.flows.inputs.contains_key(*path)).cloned().collect();
        if self.mirror.is_some() && flows.watch_the_same(&self.flows) {
            self.flows = flows;
        } else {
            self.replicas.doubt_all();
            self.take(flows)?;
        }
        told.extend(self.events.newly_blind().map(Happened::Note));
        let Some(mirror) = &mut self.mirror else { return Ok(told) };
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or(0));
        let doubtful = mirror.newer(new.iter().cloned(), since);
        // What the other inputs are now is what the project was just loaded from.
        let _ = mirror.look(&new, &self.flows);
        for rule in loaded.project.watch_rules() {
            let from = tidy(Path::new(&rule.rule.path));
            if rule.rule.to.is_none() {
                // A touch is no change only of what is known; what is delivered is read on that occasion.
                mirror.below(&from).iter().take(READ).for_each(|path| drop(mirror.now(path)));
            }
            if mirror.now(&from) == Now::Gone {
                told.push(Happened::Note(format!(
                    "`{} \"{}\"` of container {}: there is no such path yet",
                    rule.rule.word(),
                    rule.rule.path,
                    rule.container
                )));
            }
        }
        // What has changed while the project was loaded may not be in it.
        let (everything, since) = (!doubtful.is_empty(), Instant::now());
        self.agenda.want(Wanted { changed: doubtful, only: BTreeSet::new(), everything, since });
        Ok(told)
    }

    /// Watches the files of other flows.
    fn take(&mut self, flows: Flows) -> Result<()> {
        let (folder, events) = (&self.instance.folder, &mut self.events);
        let mut directories = BTreeSet::from([PathBuf::new()]);
        events.also(PathBuf::new());
        let listed = Mirror::begin(folder, &flows, &mut |directory| {
            events.also(directory.to_owned());
            directories.insert(directory.to_owned());
        });
        let mut mirror = listed.context(|| format!("cannot open {}", folder.display()))?;
        if let Some(before) = &self.mirror {
            // What has changed since then is told of by events that are still to be taken.
            mirror.remember(before, &flows);
        }
        events.only(&directories);
        (self.mirror, self.flows) = (Some(mirror), flows);
        Ok(())
    }

    /// Waits for the next change that means something, and does what follows from it.
    ///
    /// # Errors
    /// Fails when the watch has ended, or when the record cannot be read.
    pub fn next(&mut self) -> Result<Next> {
        loop {
            if std::mem::take(&mut self.is_woken) {
                return Ok(Next::Woken);
            }
            if let Some(next) = self.agenda.due() {
                return Ok(next);
            }
            let batch = self.events.wait()?;
            let told = self.follow(batch)?;
            if !told.is_empty() {
                return Ok(Next::Did(told));
            }
        }
    }

    /// Does what follows from a batch of events.
    fn follow(&mut self, batch: Batch) -> Result<Vec<Happened>> {
        let why = batch.everything.filter(|why| !why.is_empty());
        let mut told: Vec<Happened> = why.map(|why| Happened::Note(why.to_owned())).into_iter().collect();
        self.is_woken |= batch.woken;
        let (everything, since) = (batch.asked, batch.since);
        self.agenda.want(Wanted { changed: BTreeSet::new(), only: BTreeSet::new(), everything, since });
        let is_new = self.finish_chores(&mut told);
        if batch.containers || is_new {
            self.replicas.meet(self.instance.record()?);
            self.equalise(&mut told)?;
        }
        let changes = self.changes(&batch);
        told.extend(self.events.newly_blind().map(Happened::Note));
        let (mut meaning, relevant) = Meaning::of(&self.flows, &self.containers, &changes);
        self.leave_to_the_build(&mut meaning);
        self.deliver_all(&meaning.files, batch.since, &mut told)?;
        self.carry_out(&meaning, &|_| true);
        if !relevant.is_empty() || !told.is_empty() {
            self.events.acted();
        }
        match &mut self.agenda.up {
            // What of it the `up` that runs has read is known when it is over.
            Some(up) => up.during.extend(changes.into_iter().map(|change| (change.path.clone(), change))),
            None => {
                let (changed, only, everything) = (relevant.into_iter().collect(), meaning.rebuild, meaning.everything);
                self.agenda.want(Wanted { changed, only, everything, since });
            }
        }
        Ok(told)
    }

    /// What has changed, as a batch says where to look. Directories that are new are watched from then on.
    fn changes(&mut self, batch: &Batch) -> Vec<Change> {
        let Some(mirror) = &mut self.mirror else { return Vec::new() };
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
            let mut new = BTreeSet::new();
            for change in &fresh {
                match change.now {
                    Now::Folder { .. } => {
                        self.events.also(change.path.clone());
                        new.insert(change.path.clone());
                    }
                    Now::Gone => self.events.forget(&change.path),
                    _ => {}
                }
            }
            if new.is_empty() {
                return changes;
            }
            // What came into a new directory before it was watched is found by looking again.
            fresh = mirror.look(&new, &self.flows);
            changes.extend(fresh.iter().cloned());
        }
    }

    /// A container that is built anew gets everything by that; if the build fails, it is behind.
    fn leave_to_the_build(&mut self, meaning: &mut Meaning) {
        for (name, files) in meaning.without_rebuilt() {
            for replica in self.replicas.of_container(&name) {
                self.replicas.owe(&replica, files.values().map(|file| file.path.clone()));
            }
        }
    }

    fn deliver_all(&mut self, files: &BTreeMap<Name, Files>, since: Instant, told: &mut Vec<Happened>) -> Result<()> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let (delivered, replicas, is_unmet) = self.replicas.deliver_all(files, mirror, told);
        if !delivered.is_empty() {
            let (written, removed) = (delivered.written.into_iter().collect(), delivered.removed.into_iter().collect());
            told.insert(0, Happened::Synced { written, removed, replicas, took: since.elapsed() });
        }
        if is_unmet {
            self.replicas.meet(self.instance.record()?);
            self.equalise(told)?;
        }
        Ok(())
    }

    /// Makes replicas that have started since equal to the disk: with what they missed, and with what rules keep equal.
    fn equalise(&mut self, told: &mut Vec<Happened>) -> Result<()> {
        let mut new = Vec::new();
        for (replica, name) in self.replicas.all() {
            // One that is being restarted keeps its root, and so its files.
            if self.chores.is_restarting(&replica) {
                continue;
            }
            match Root::of(&self.instance, &replica) {
                Ok(root) => {
                    new.extend(root.filter(|root| !self.replicas.has_met(&replica, root.pid)).map(|root| (replica, name, root)))
                }
                Err(error) => told.push(Happened::Failed(error)),
            }
        }
        if !new.is_empty() {
            // Of which generation a root is stands on record before it is there.
            self.replicas.meet(self.instance.record()?);
        }
        for (replica, name, mut root) in new {
            let Some(mirror) = &mut self.mirror else { continue };
            let mut paths = self.replicas.take_owed(&replica);
            for flow in self.flows.all.iter().filter(|flow| flow.is_rule && flow.container == name && flow.to.is_some()) {
                // What its image has is equal already.
                let is_copied = |other: &Flow| {
                    !other.is_rule && other.container == name && (&other.from, &other.to) == (&flow.from, &flow.to)
                };
                if !self.flows.all.iter().any(is_copied) {
                    paths.extend(mirror.below(&flow.from));
                }
            }
            let mut changes: Vec<Change> = paths.into_iter().map(|path| Change { now: mirror.now(&path), path }).collect();
            let (since, (meaning, _)) = (Instant::now(), Meaning::of(&self.flows, &self.containers, &changes));
            // What cannot be removed is in nobody's way.
            let _ = root.sweep();
            self.replicas.has_all(&replica, root.pid);
            let Some(files) = meaning.files.get(&name) else { continue };
            let delivered = self.replicas.deliver(&replica, &mut root, files, mirror, told);
            if !delivered.is_empty() {
                // Its process may have read what was there before.
                changes.retain(|change| delivered.has(&change.path));
                let (meaning, _) = Meaning::of(&self.flows, &self.containers, &changes);
                let (written, removed) = (delivered.written.into_iter().collect(), delivered.removed.into_iter().collect());
                told.push(Happened::Synced { written, removed, replicas: [replica.clone()].into(), took: since.elapsed() });
                self.carry_out(&meaning, &|other| other == replica);
            }
        }
        Ok(())
    }

    /// Has processes restarted and commands run, as rules say.
    fn carry_out(&mut self, meaning: &Meaning, is_meant: &dyn Fn(&str) -> bool) {
        let restarts = meaning.restart.iter().map(|name| (name, Chore::Restart));
        let runs = meaning.run.iter().map(|(name, words)| (name, Chore::Run(words.clone())));
        for (name, chore) in restarts.chain(runs) {
            for replica in self.replicas.of_container(name).into_iter().filter(|replica| is_meant(replica)) {
                match &mut self.agenda.up {
                    Some(up) if up.only.contains(name) => {
                        let pid = chores::pid(&self.instance, &replica);
                        up.postponed.insert((replica, chore.clone()), pid);
                    }
                    _ => self.chores.begin(&replica, &chore),
                }
            }
        }
    }

    /// Tells which chores are over. Returns whether there are new processes that do not have everything.
    fn finish_chores(&mut self, told: &mut Vec<Happened>) -> bool {
        let mut is_new = false;
        for done in self.chores.finished(told) {
            let pid = chores::pid(&self.instance, &done.replica);
            match done.happened {
                // What an `up` has replaced meanwhile needs nothing more.
                Happened::Failed(_)
                    if self.agenda.up.is_some() && chores::is_replaced(&self.instance, &done.replica, done.pid) => {}
                Happened::Restarted { .. } if !self.replicas.is_behind(&done.replica) => {
                    self.replicas.has_all(&done.replica, pid);
                    told.push(done.happened);
                }
                happened => {
                    is_new |= done.chore == Chore::Restart;
                    told.push(happened);
                }
            }
        }
        is_new
    }

    /// Takes the end of the `up` that ran beside: whether everything came up that it was to bring up, and what it has read. Only
    /// what differs from that is left to do, and running containers are made equal to the disk.
    ///
    /// # Errors
    /// Fails when the record cannot be read.
    pub fn settle(&mut self, is_up: bool, reading: Option<Reading>) -> Result<Vec<Happened>> {
        let mut told = Vec::new();
        let Some(Up { only, during, postponed }) = self.agenda.over(is_up) else { return Ok(told) };
        if is_up {
            self.replicas.were_brought_up(&only);
        }
        self.replicas.meet(self.instance.record()?);
        let scanner = reading.as_ref().and_then(Reading::scanner);
        let is_ignorant = is_up && only.is_empty() && self.mirror.as_ref().is_some_and(Mirror::is_ignorant);
        let seen = scanner.as_deref().filter(|_| is_ignorant || !during.is_empty()).map(Seen::of);
        if let (true, Some(mirror), Some(seen)) = (is_ignorant, &mut self.mirror, &seen) {
            mirror.learn(&|path| seen.content(path));
        }
        let written = reading.as_ref().and_then(Reading::written);
        let is_own = |change: &Change| {
            change.path == Path::new(LOCK) && matches!(change.now, Now::File { digest, .. } if Some(digest) == written)
        };
        let is_read =
            |change: &Change| !self.flows.inputs.contains_key(&change.path) && seen.as_ref().is_some_and(|seen| seen.has(change));
        let (read, left): (Vec<Change>, Vec<Change>) = during.into_values().filter(|change| !is_own(change)).partition(is_read);
        // What it has read is in what it has brought up, but in nothing else.
        let (of_read, mut relevant) = Meaning::of(&self.flows, &self.containers, &read);
        let elsewhere = of_read.rebuild.into_iter().filter(|name| !only.is_empty() && !only.contains(name));
        let elsewhere: BTreeSet<Name> = elsewhere.collect();
        if elsewhere.is_empty() {
            relevant.clear();
        }
        let (mut meaning, more) = Meaning::of(&self.flows, &self.containers, &left);
        relevant.extend(more);
        let (changed, everything) = (relevant.into_iter().collect(), meaning.everything);
        let only = meaning.rebuild.iter().cloned().chain(elsewhere).collect();
        self.agenda.want(Wanted { changed, only, everything, since: Instant::now() });
        drop(seen);
        drop((scanner, reading));
        self.leave_to_the_build(&mut meaning);
        self.replicas.catch_up(&|name| self.agenda.has(name));
        self.deliver_all(&meaning.files, Instant::now(), &mut told)?;
        self.equalise(&mut told)?;
        for ((replica, chore), pid) in postponed {
            if chores::pid(&self.instance, &replica) == pid {
                self.chores.begin(&replica, &chore);
            }
        }
        self.events.acted();
        sys::give_memory_back();
        Ok(told)
    }
}

//! The one scheduler: runs a plan's tasks, each when what it waits for is over, several at once.
//!
//! It knows nothing of what tasks do. Whoever asked may be waiting for the world (another container's health): such
//! tasks take no thread, they are looked at when something was told. An interruption ends the giving out.

use crate::model::Fault;
use crate::monitor::{Folder, Tidings};
use crate::plan::Task;
use crate::sys;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a task is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// By the scheduler itself, alone: it is short, or all others need it.
    Here,
    /// In a thread of its own, no more than so many of its name at once.
    Threads(&'static str, usize),
    /// By looking until the world is so far.
    Looks,
}

/// What became of a task.
#[derive(Debug)]
pub enum Came {
    Done,
    /// It turned out that there was nothing to do.
    Unneeded,
}

/// What a look at the world says.
pub enum Look {
    Yes,
    /// Not yet; it may be so without anything being told after this long.
    NotYet(Option<Duration>),
    Never(Fault),
}

/// What tasks do.
pub trait Work: Sync {
    fn lane(&self, task: &Task) -> Lane;

    /// Does a task.
    ///
    /// # Errors
    /// Why it failed: what waits for it is not done then.
    fn run(&self, task: &Task) -> Result<Came, Fault>;

    /// Looks whether what a task waits for has come.
    fn look(&self, _: &Task) -> Look {
        Look::Yes
    }

    /// The container that a task looks at.
    fn looks_at(&self, _: &Task) -> Option<Folder> {
        None
    }

    /// Whether nothing more is begun when a task failed.
    fn stops(&self, _: &Task) -> bool {
        false
    }

    /// Called before the scheduler would only wait.
    fn rest(&self) {}
}

/// How far a task is.
#[derive(Debug)]
pub enum State {
    Waiting,
    Running,
    Looking,
    Done,
    Unneeded,
    /// Why, and the how-manieth failure that was.
    Failed(Fault, usize),
    /// One that it waits for failed: which.
    Follows(usize),
}

impl State {
    fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Unneeded | Self::Failed(..) | Self::Follows(_))
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Done | Self::Unneeded)
    }
}

/// Runs tasks; what became of them, in their order. Those that were not begun, because one failed or somebody interrupted, are
/// [`State::Waiting`].
pub fn run(tasks: &[Task], work: &dyn Work) -> Vec<State> {
    let _under_way = sys::UnderWay::begin();
    let places: BTreeMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (task.name.as_str(), at)).collect();
    let found = |names: &BTreeSet<String>| names.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
    // Without it finished tasks are seen when something else is told, or soon.
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok();
    let mut schedule = Schedule {
        tasks,
        work,
        after: tasks.iter().map(|task| found(&task.after)).collect(),
        whatever: tasks.iter().map(|task| found(&task.whatever)).collect(),
        states: tasks.iter().map(|_| State::Waiting).collect(),
        busy: BTreeMap::new(),
        tidings: Tidings::new(),
        due: BTreeMap::new(),
        looked: Instant::now(),
        failures: 0,
        stopped: false,
    };
    let finished: Mutex<Vec<(usize, Result<Came, Fault>)>> = Mutex::default();
    std::thread::scope(|scope| {
        loop {
            let mut moved = false;
            for (at, came) in std::mem::take(&mut *finished.lock().unwrap_or_else(PoisonError::into_inner)) {
                schedule.over(at, came);
                moved = true;
            }
            schedule.stopped |= sys::interrupted().is_some();
            while let Some((at, lane)) = schedule.next() {
                moved = true;
                match lane {
                    Lane::Here => {
                        let came = work.run(&tasks[at]);
                        schedule.over(at, came);
                    }
                    Lane::Looks => schedule.begin_looking(at),
                    Lane::Threads(..) => {
                        schedule.begin(at, lane);
                        let (finished, wake) = (&finished, &wake);
                        scope.spawn(move || {
                            let came = work.run(&tasks[at]);
                            finished.lock().unwrap_or_else(PoisonError::into_inner).push((at, came));
                            wake.as_ref().map(|wake| wake.write(1))
                        });
                    }
                }
            }
            moved |= schedule.look();
            if schedule.is_over() {
                break;
            }
            if !moved {
                work.rest();
                schedule.wait(wake.as_ref());
            }
        }
    });
    schedule.states
}

/// What failed of some tasks, in the order in which it did.
pub fn failed(states: impl IntoIterator<Item = State>) -> Vec<Fault> {
    let failed = |state| if let State::Failed(fault, order) = state { Some((order, fault)) } else { None };
    let all: BTreeMap<usize, Fault> = states.into_iter().filter_map(failed).collect();
    all.into_values().collect()
}

/// Whether the command goes on.
///
/// # Errors
/// If somebody interrupted it.
pub fn interrupted() -> Result<(), Fault> {
    let Some(signal) = sys::interrupted() else { return Ok(()) };
    let fault = Fault::new("interrupted").hint("what was done stays; the same command goes on from there");
    Err(fault.status(u8::try_from(128 + signal).unwrap_or(130)))
}

struct Schedule<'a> {
    tasks: &'a [Task],
    work: &'a dyn Work,
    /// What must be done before each.
    after: Vec<Vec<usize>>,
    /// What must be over before each.
    whatever: Vec<Vec<usize>>,
    states: Vec<State>,
    /// How many run in each lane.
    busy: BTreeMap<Lane, usize>,
    tidings: Tidings,
    /// When those that look do so next, though nothing is told.
    due: BTreeMap<usize, Instant>,
    /// When all of them did last.
    looked: Instant,
    failures: usize,
    /// Nothing more is begun.
    stopped: bool,
}

impl Schedule<'_> {
    /// A task that may begin now, with its lane; those that cannot any more are told so on the way.
    fn next(&mut self) -> Option<(usize, Lane)> {
        let mut told = !self.stopped;
        while std::mem::take(&mut told) {
            for at in 0..self.tasks.len() {
                let mut first = self.after[at].iter().chain(&self.whatever[at]);
                if !matches!(self.states[at], State::Waiting) || !first.all(|first| self.states[*first].is_over()) {
                    continue;
                }
                let failed = self.after[at].iter().copied().find(|first| !self.states[*first].is_good());
                if let Some(failed) = failed {
                    self.states[at] = State::Follows(failed);
                    told = true;
                    continue;
                }
                let lane = self.work.lane(&self.tasks[at]);
                let full = match lane {
                    Lane::Threads(_, most) => self.busy.get(&lane).is_some_and(|busy| *busy >= most),
                    Lane::Here | Lane::Looks => false,
                };
                if !full {
                    return Some((at, lane));
                }
            }
        }
        None
    }

    fn begin(&mut self, at: usize, lane: Lane) {
        self.states[at] = State::Running;
        *self.busy.entry(lane).or_default() += 1;
    }

    fn begin_looking(&mut self, at: usize) {
        self.states[at] = State::Looking;
        self.due.insert(at, Instant::now());
        if let Some(folder) = self.work.looks_at(&self.tasks[at]) {
            self.tidings.of(&folder);
        }
    }

    fn fail(&mut self, fault: Fault) -> State {
        self.failures += 1;
        State::Failed(fault, self.failures)
    }

    fn over(&mut self, at: usize, came: Result<Came, Fault>) {
        if matches!(self.states[at], State::Running) {
            let lane = self.work.lane(&self.tasks[at]);
            self.busy.entry(lane).and_modify(|busy| *busy -= 1);
        }
        self.states[at] = match came {
            Ok(Came::Done) => State::Done,
            Ok(Came::Unneeded) => State::Unneeded,
            Err(fault) => {
                self.stopped |= self.work.stops(&self.tasks[at]);
                self.fail(fault)
            }
        };
    }

    /// Looks at what was told of, and at what is due; whether anything came of it.
    fn look(&mut self) -> bool {
        let (told, now, mut moved) = (self.tidings.take(), Instant::now(), false);
        let all = now.duration_since(self.looked) >= self.tidings.patience();
        if all {
            self.looked = now;
        }
        for at in 0..self.tasks.len() {
            if !matches!(self.states[at], State::Looking) {
                continue;
            }
            let folder = self.work.looks_at(&self.tasks[at]);
            let worth = all || folder.as_ref().is_some_and(|folder| told.of(folder.path()));
            if !worth && self.due.get(&at).is_none_or(|due| *due > now) {
                continue;
            }
            self.due.remove(&at);
            match self.work.look(&self.tasks[at]) {
                Look::Yes => self.states[at] = State::Done,
                Look::Never(fault) => self.states[at] = self.fail(fault),
                Look::NotYet(after) => {
                    self.due.extend(after.map(|after| (at, now + after)));
                    continue;
                }
            }
            moved = true;
        }
        moved
    }

    /// Whether nothing runs and nothing more will.
    fn is_over(&mut self) -> bool {
        let any = |meant: fn(&State) -> bool| self.states.iter().any(meant);
        if any(|state| matches!(state, State::Running)) {
            return false;
        }
        self.stopped || !any(|state| matches!(state, State::Looking)) && self.next().is_none()
    }

    fn wait(&mut self, wake: Option<&EventFd>) {
        let looks = self.states.iter().any(|state| matches!(state, State::Looking));
        let patience = (looks || wake.is_none()).then(|| self.tidings.patience());
        let due = self.due.values().min().map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let interruption = sys::interruption();
        let told = self.tidings.descriptor().filter(|_| looks);
        let mut descriptors: Vec<&dyn AsRawFd> = Vec::new();
        descriptors.extend(wake.map(|wake| wake as &dyn AsRawFd));
        descriptors.extend(told.as_ref().map(|told| told as &dyn AsRawFd));
        // Once it came, only the end of what runs is waited for.
        descriptors.extend(interruption.as_ref().filter(|_| !self.stopped).map(|came| came as &dyn AsRawFd));
        // What cannot be waited for is looked at again.
        let _ = sys::wait_readable(&descriptors, [patience, due].into_iter().flatten().min());
        if let Some(wake) = wake {
            let _ = wake.read();
        }
    }
}

//! The scheduler: runs the tasks of a plan, several at once, each as soon as the tasks that it waits for are over.
//!
//! It does not know what tasks do. Some tasks only wait for an external condition (the health of another container).
//! They do not take a thread, but are checked when an event arrives. After an interruption no more tasks are begun.

use crate::model::Error;
use crate::monitor::{Folder, Tidings};
use crate::plan::Task;
use crate::sys;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a task runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// In the scheduler's own thread: the task is short, or all others need it.
    Here,
    /// In a thread of its own, with at most this many threads of the same name at once.
    Threads(&'static str, usize),
    /// By checking repeatedly until a condition holds.
    Looks,
}

impl Lane {
    /// What it is called where somebody looks at how long tasks took.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "main",
            Self::Threads(name, _) => name,
            Self::Looks => "wait",
        }
    }
}

/// The result of a task that did not fail.
#[derive(Debug)]
pub enum Came {
    Done,
    /// It turned out that there was nothing to do.
    Unneeded,
}

/// The result of checking a condition.
pub enum Look {
    Yes,
    /// Not yet. It may become true after this time even without an event.
    NotYet(Option<Duration>),
    Never(Error),
}

/// Performs tasks.
pub trait Work: Sync {
    fn lane(&self, task: &Task) -> Lane;

    /// Runs a task.
    ///
    /// # Errors
    /// Returns the reason why it failed. Tasks that need it are not run then.
    fn run(&self, task: &Task) -> Result<Came, Error>;

    /// Checks the condition that a task waits for.
    fn look(&self, _: &Task) -> Look {
        Look::Yes
    }

    /// The container whose state a task waits for.
    fn looks_at(&self, _: &Task) -> Option<Folder> {
        None
    }

    /// Whether no more tasks are begun if this task fails.
    fn stops(&self, _: &Task) -> bool {
        false
    }

    /// Called before the scheduler waits, when nothing runs and the remaining tasks wait for conditions.
    fn rest(&self) {}

    /// Called as a task begins.
    fn begins(&self, _: &Task) {}

    /// Called when a task that has begun is over.
    fn ends(&self, _: &Task, _: &Result<Came, Error>) {}
}

/// The state of a task.
#[derive(Debug)]
pub enum State {
    Waiting,
    Running,
    Looking,
    Done,
    Unneeded,
    /// The error, and its position in the order of failures.
    Failed(Error, usize),
    /// A task that it needs failed or was not run: its index.
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

/// Runs tasks and returns their final states, in the same order. Tasks that were not begun because of a failure or an
/// interruption are [`State::Waiting`].
pub fn run(tasks: &[Task], work: &dyn Work) -> Vec<State> {
    let _under_way = sys::UnderWay::begin();
    let places: BTreeMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (task.name.as_str(), at)).collect();
    let found = |names: &BTreeSet<String>| names.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
    // If it cannot be created, the end of a thread is noticed at the next event or timeout.
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok();
    let schedule = Mutex::new(Schedule {
        tasks,
        work,
        after: tasks.iter().map(|task| found(&task.after)).collect(),
        whatever: tasks.iter().map(|task| found(&task.whatever)).collect(),
        states: tasks.iter().map(|_| State::Waiting).collect(),
        busy: BTreeMap::new(),
        failures: 0,
        stopped: false,
    });
    let held = || schedule.lock().unwrap_or_else(PoisonError::into_inner);
    let perform = |at: usize| {
        work.begins(&tasks[at]);
        let came = work.run(&tasks[at]);
        work.ends(&tasks[at], &came);
        came
    };
    // A thread continues with the next task that is ready: on a busy machine the scheduler may be late.
    let thread = |first: usize| {
        let mut next = Some(first);
        while let Some(at) = next {
            let came = perform(at);
            let mut schedule = held();
            schedule.over(at, came);
            next = schedule.next(true).map(|(at, lane)| schedule.begin(at, lane));
            let more = next.is_none() || schedule.next(false).is_some();
            drop(schedule);
            if more {
                let _ = wake.as_ref().map(|wake| wake.write(1));
            }
        }
    };
    std::thread::scope(|scope| {
        let mut eyes = Eyes::new(tasks, work);
        loop {
            held().stopped |= sys::interrupted().is_some();
            let mut moved = false;
            loop {
                let begun = {
                    let mut schedule = held();
                    schedule.next(false).map(|(at, lane)| (schedule.begin(at, lane), lane))
                };
                let Some((at, lane)) = begun else { break };
                moved = true;
                match lane {
                    Lane::Here => {
                        let came = perform(at);
                        held().over(at, came);
                    }
                    Lane::Looks => {
                        work.begins(&tasks[at]);
                        eyes.begin(at);
                    }
                    Lane::Threads(..) => drop(scope.spawn(move || thread(at))),
                }
            }
            for (at, came) in eyes.look() {
                work.ends(&tasks[at], &came);
                held().over(at, came);
                moved = true;
            }
            let (over, only_looks, stopped) = held().outlook();
            if over {
                break;
            }
            if !moved {
                if only_looks {
                    work.rest();
                }
                eyes.wait(wake.as_ref(), stopped);
            }
        }
    });
    schedule.into_inner().unwrap_or_else(PoisonError::into_inner).states
}

/// The errors of failed tasks, in the order in which they failed.
pub fn failed(states: impl IntoIterator<Item = State>) -> Vec<Error> {
    let failed = |state| if let State::Failed(error, order) = state { Some((order, error)) } else { None };
    let all: BTreeMap<usize, Error> = states.into_iter().filter_map(failed).collect();
    all.into_values().collect()
}

/// Checks that the command was not interrupted.
///
/// # Errors
/// Fails when it was.
pub fn interrupted() -> Result<(), Error> {
    let Some(signal) = sys::interrupted() else { return Ok(()) };
    let error = Error::new("interrupted").hint("what was done stays; the same command goes on from there");
    Err(error.status(u8::try_from(128 + signal).unwrap_or(130)))
}

struct Schedule<'a> {
    tasks: &'a [Task],
    work: &'a dyn Work,
    /// For each task, the tasks that must have succeeded before it.
    after: Vec<Vec<usize>>,
    /// For each task, the tasks that must be over before it, whether they succeeded or not.
    whatever: Vec<Vec<usize>>,
    states: Vec<State>,
    /// How many run in each lane.
    busy: BTreeMap<Lane, usize>,
    failures: usize,
    /// No more tasks are begun.
    stopped: bool,
}

impl Schedule<'_> {
    /// A task that may begin now, with its lane. Tasks that cannot begin any more are marked as such on the way.
    fn next(&mut self, in_threads: bool) -> Option<(usize, Lane)> {
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
                let free = match lane {
                    Lane::Threads(_, most) => self.busy.get(&lane).is_none_or(|busy| *busy < most),
                    Lane::Here | Lane::Looks => !in_threads,
                };
                if free {
                    return Some((at, lane));
                }
            }
        }
        None
    }

    fn begin(&mut self, at: usize, lane: Lane) -> usize {
        self.states[at] = if lane == Lane::Looks { State::Looking } else { State::Running };
        *self.busy.entry(lane).or_default() += 1;
        at
    }

    fn over(&mut self, at: usize, came: Result<Came, Error>) {
        let lane = self.work.lane(&self.tasks[at]);
        self.busy.entry(lane).and_modify(|busy| *busy -= 1);
        self.states[at] = match came {
            Ok(Came::Done) => State::Done,
            Ok(Came::Unneeded) => State::Unneeded,
            Err(error) => {
                self.stopped |= self.work.stops(&self.tasks[at]);
                self.failures += 1;
                State::Failed(error, self.failures)
            }
        };
    }

    /// Returns three values: whether everything is over; whether nothing runs and the remaining tasks wait for conditions;
    /// and whether no more tasks are begun.
    fn outlook(&mut self) -> (bool, bool, bool) {
        let ready = self.next(false).is_some();
        let any = |meant: fn(&State) -> bool| self.states.iter().any(meant);
        let runs = any(|state| matches!(state, State::Running));
        let looks = any(|state| matches!(state, State::Looking));
        let over = !runs && (self.stopped || !looks && !ready);
        (over, !runs && any(|state| matches!(state, State::Waiting)), self.stopped)
    }
}

/// The tasks that wait for conditions.
struct Eyes<'a> {
    tasks: &'a [Task],
    work: &'a dyn Work,
    tidings: Tidings,
    /// Each waiting task, with the time of its next check if no event arrives.
    looking: BTreeMap<usize, Option<Instant>>,
    /// When all of them were last checked.
    all: Instant,
}

impl<'a> Eyes<'a> {
    fn new(tasks: &'a [Task], work: &'a dyn Work) -> Self {
        Self { tasks, work, tidings: Tidings::new(), looking: BTreeMap::new(), all: Instant::now() }
    }

    fn begin(&mut self, at: usize) {
        self.looking.insert(at, Some(Instant::now()));
    }

    /// Checks the tasks for which an event arrived and those that are due, and returns those that are over.
    fn look(&mut self) -> Vec<(usize, Result<Came, Error>)> {
        let (told, now, mut come) = (self.tidings.take(), Instant::now(), Vec::new());
        let all = now.duration_since(self.all) >= self.tidings.timeout();
        if all {
            self.all = now;
        }
        for (at, due) in &mut self.looking {
            let folder = self.work.looks_at(&self.tasks[*at]);
            let is_told = folder.as_ref().is_some_and(|folder| told.of(folder.path()));
            if !(all || due.is_some_and(|due| due <= now) || is_told) {
                continue;
            }
            let mut look = self.work.look(&self.tasks[*at]);
            // If it will become true by itself, it needs no watch. A new watch does not report earlier events, so check again.
            if let (Look::NotYet(None), Some(folder)) = (&look, &folder)
                && self.tidings.of(folder)
            {
                look = self.work.look(&self.tasks[*at]);
            }
            match look {
                Look::Yes => come.push((*at, Ok(Came::Done))),
                Look::Never(error) => come.push((*at, Err(error))),
                Look::NotYet(after) => *due = after.map(|after| now + after),
            }
        }
        for (at, _) in &come {
            self.looking.remove(at);
        }
        come
    }

    /// Waits until a condition may have changed, a thread is done, or the command is interrupted.
    fn wait(&mut self, wake: Option<&EventFd>, stopped: bool) {
        let looks = !self.looking.is_empty();
        let timeout = (looks || wake.is_none()).then(|| self.tidings.timeout());
        let due = self.looking.values().flatten().min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let interruption = sys::interruption();
        let told = self.tidings.descriptor().filter(|_| looks);
        let mut descriptors: Vec<&dyn AsFd> = Vec::new();
        descriptors.extend(wake.map(|wake| wake as &dyn AsFd));
        descriptors.extend(told.as_ref().map(|told| told as &dyn AsFd));
        // After an interruption, only the end of the running tasks is waited for.
        descriptors.extend(interruption.as_ref().filter(|_| !stopped).map(|came| came as &dyn AsFd));
        // If waiting fails, the conditions are simply checked again.
        let _ = sys::wait_readable(&descriptors, [timeout, due].into_iter().flatten().min());
        let _ = wake.map(|wake| wake.read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;
    use crate::plan::{Action, How};
    use crate::project::Until;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn start(name: &str, after: &[&str], whatever: &[&str]) -> Task {
        task(Action::Start { container: name.into(), how: How::Fresh }, after, whatever)
    }

    fn task(action: Action, after: &[&str], whatever: &[&str]) -> Task {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Task { name: action.name(), action, after: set(after), whatever: set(whatever), changes: Vec::new() }
    }

    /// Performs tasks as configured, and records their order.
    #[derive(Default)]
    struct Notes {
        order: Mutex<Vec<String>>,
        fails: BTreeSet<&'static str>,
        at_once: AtomicUsize,
        most: AtomicUsize,
        looks: AtomicUsize,
        /// What was told of tasks, each with whether it is the end.
        told: Mutex<Vec<(String, bool)>>,
    }

    impl Work for Notes {
        fn lane(&self, task: &Task) -> Lane {
            match &task.action {
                Action::Await { .. } => Lane::Looks,
                Action::Prepare => Lane::Here,
                _ => Lane::Threads("start", 3),
            }
        }

        fn run(&self, task: &Task) -> Result<Came, Error> {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.order.lock().unwrap().push(task.name.clone());
            if self.fails.contains(task.name.as_str()) {
                Err(Error::new(format!("{} failed", task.name)))
            } else {
                Ok(Came::Done)
            }
        }

        fn look(&self, _: &Task) -> Look {
            match self.looks.fetch_add(1, Ordering::SeqCst) {
                0..3 => Look::NotYet(Some(Duration::from_millis(1))),
                _ => Look::Yes,
            }
        }

        fn stops(&self, task: &Task) -> bool {
            matches!(task.action, Action::Build { .. })
        }

        fn begins(&self, task: &Task) {
            self.told.lock().unwrap().push((task.name.clone(), false));
        }

        fn ends(&self, task: &Task, _: &Result<Came, Error>) {
            self.told.lock().unwrap().push((task.name.clone(), true));
        }
    }

    fn order(notes: &Notes) -> Vec<String> {
        notes.order.lock().unwrap().clone()
    }

    #[test]
    fn each_comes_after_what_it_waits_for_and_no_more_at_once_than_fit() {
        let many: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
        let mut tasks = vec![start("last", &["start c0", "start c19"], &[])];
        tasks.extend(many.iter().map(|name| start(name, &["prepare"], &[])));
        tasks.push(task(Action::Prepare, &[], &[]));
        let notes = Notes::default();
        assert!(run(&tasks, &notes).iter().all(|state| matches!(state, State::Done)));
        let order = order(&notes);
        assert_eq!((order.len(), order[0].as_str()), (22, "prepare"));
        let place = |name: &str| order.iter().position(|one| one == name).unwrap();
        assert!(place("start last") > place("start c0") && place("start last") > place("start c19"));
        assert_eq!(notes.most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn what_needs_a_failure_follows_it_and_what_only_comes_behind_does_not() {
        let tasks = [
            start("a", &[], &[]),
            start("b", &["start a"], &[]),
            start("c", &["start b"], &[]),
            start("behind", &[], &["start c"]),
            start("other", &[], &[]),
        ];
        let notes = Notes { fails: ["start a"].into(), ..Notes::default() };
        let states = run(&tasks, &notes);
        assert!(matches!(&states[0], State::Failed(error, 1) if error.message() == "start a failed"));
        assert!(matches!((&states[1], &states[2]), (State::Follows(0), State::Follows(1))));
        assert!(states[3].is_good() && states[4].is_good());
        assert_eq!(failed(states).len(), 1);
    }

    #[test]
    fn a_build_that_fails_lets_nothing_begin_and_what_cannot_begin_ends_nothing() {
        let build = |name: &str, after: &[&str]| task(Action::Build { image: Name::parse(name).unwrap() }, after, &[]);
        let tasks = [build("a", &[]), build("b", &["build a"]), start("c", &[], &["build a"])];
        let notes = Notes { fails: ["build a"].into(), ..Notes::default() };
        let states = run(&tasks, &notes);
        assert!(matches!((&states[0], &states[1], &states[2]), (State::Failed(..), State::Waiting, State::Waiting)));
        // Tasks that wait for each other must not make it wait for ever.
        let circle = [start("a", &["start b"], &[]), start("b", &["start a"], &[])];
        assert!(run(&circle, &Notes::default()).iter().all(|state| matches!(state, State::Waiting)));
    }

    #[test]
    fn who_waits_for_the_world_takes_no_thread_and_is_looked_at_until_it_has_come() {
        let wait = task(Action::Await { container: "a".into(), until: Until::Healthy }, &["start a"], &[]);
        let after = wait.name.clone();
        let tasks = [start("a", &[], &[]), wait, start("b", &[&after], &[])];
        let notes = Notes::default();
        assert!(run(&tasks, &notes).iter().all(State::is_good));
        assert_eq!((order(&notes), notes.looks.load(Ordering::SeqCst)), (vec!["start a".into(), "start b".into()], 4));
        // Each beginning is told, and each end.
        let names = ["start a", "start a", after.as_str(), after.as_str(), "start b", "start b"]
            .into_iter()
            .zip([false, true].into_iter().cycle());
        let told: Vec<(String, bool)> = names.map(|(name, end)| (name.to_owned(), end)).collect();
        assert_eq!(*notes.told.lock().unwrap(), told);
    }
}

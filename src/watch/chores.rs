//! Restarts and commands that follow from changes. They run beside delivery: a container that takes its time to end keeps nobody
//! else waiting.
//!
//! Of each kind one runs at a time in a replica. What is wanted again meanwhile is done once more afterwards, unless what runs
//! will see it anyway.

use super::Happened;
use super::events::Asker;
use crate::instance::Instance;
use crate::model::{Context, Duration as Span, Error, Result};
use crate::monitor::{self, Request};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a restart may take beyond the grace period before we stop waiting for it.
const RESTART: Duration = Duration::from_secs(30);
/// A container that takes longer than this to end is told of.
const SLOW: Duration = Duration::from_millis(500);
/// How much of a failed command's output is shown, in bytes.
const OUTPUT: u64 = 2000;

/// Something that follows from a change, in one replica.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Chore {
    Restart,
    Run(Vec<String>),
}

/// A chore that is over.
#[derive(Debug)]
pub struct Done {
    pub replica: String,
    pub chore: Chore,
    /// The process that the replica had when it was begun.
    pub pid: i32,
    pub happened: Happened,
}

/// What comes from the threads.
enum Message {
    Note(String),
    Done(Done),
}

/// A restart that is under way.
struct Restarting {
    /// The process that is to end.
    pid: i32,
    is_wanted_again: bool,
    /// The commands that run in the new process's container.
    then: BTreeSet<Vec<String>>,
}

impl Restarting {
    /// What is not done because there is no new process.
    fn dropped(&self, replica: &str) -> Option<String> {
        let again = self.is_wanted_again.then(|| "another restart".to_owned());
        let all: Vec<String> = again.into_iter().chain(self.then.iter().map(|words| words.join(" "))).collect();
        (!all.is_empty()).then(|| {
            let what = all.join(", ");
            format!("{replica} has no new process, so this is not done: {what}; `stead restart {replica}` tries again")
        })
    }
}

/// The chores that are under way.
pub struct Chores {
    instance: Instance,
    asker: Asker,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    restarts: BTreeMap<String, Restarting>,
    /// The commands that run, and whether they are wanted again.
    runs: BTreeMap<(String, Vec<String>), bool>,
}

impl Chores {
    /// None yet; the asker is woken when there is news.
    pub fn new(instance: &Instance, asker: Asker) -> Self {
        let (sender, messages) = channel();
        let (restarts, runs) = (BTreeMap::new(), BTreeMap::new());
        Self { instance: instance.clone(), asker, sender, messages, restarts, runs }
    }

    /// Whether a replica is being restarted.
    pub fn is_restarting(&self, replica: &str) -> bool {
        self.restarts.contains_key(replica)
    }

    /// Begins a chore, or notes that it is wanted once more.
    pub fn begin(&mut self, replica: &str, chore: &Chore) {
        let now = pid(&self.instance, replica);
        match (chore, self.restarts.get_mut(replica)) {
            // As long as the old process has not ended, the new one will see everything.
            (Chore::Restart, Some(restart)) => restart.is_wanted_again |= now != restart.pid,
            (Chore::Restart, None) => {
                let restart = Restarting { pid: now, is_wanted_again: false, then: BTreeSet::new() };
                self.restarts.insert(replica.to_owned(), restart);
                self.spawn(replica, chore, now);
            }
            (Chore::Run(words), Some(restart)) => drop(restart.then.insert(words.clone())),
            (Chore::Run(words), None) => {
                let is_new = self.runs.insert((replica.to_owned(), words.clone()), false).is_none();
                if is_new {
                    self.spawn(replica, chore, now);
                } else {
                    self.runs.insert((replica.to_owned(), words.clone()), true);
                }
            }
        }
    }

    fn spawn(&self, replica: &str, chore: &Chore, pid: i32) {
        let (instance, sender, asker) = (self.instance.clone(), self.sender.clone(), self.asker.clone());
        let (replica, chore) = (replica.to_owned(), chore.clone());
        std::thread::spawn(move || {
            let tell = |message: Message| {
                // If nobody waits any more, it is no news to anybody.
                let _ = sender.send(message);
                asker.wake();
            };
            let happened = match &chore {
                Chore::Restart => restart(&instance, &replica, &|note| tell(Message::Note(note))),
                Chore::Run(words) => run(&instance, &replica, words),
            };
            tell(Message::Done(Done { replica, chore, pid, happened }));
        });
    }

    /// Takes what is over, and begins what was waiting for it. Notes are told.
    pub fn finished(&mut self, told: &mut Vec<Happened>) -> Vec<Done> {
        let mut all = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            let done = match message {
                Message::Note(text) => {
                    told.push(Happened::Note(text));
                    continue;
                }
                Message::Done(done) => done,
            };
            let note = self.go_on(&done);
            all.push(done);
            told.extend(note.map(Happened::Note));
        }
        all
    }

    /// Begins what was waiting for a chore. Returns what there is to say if nothing comes of it.
    fn go_on(&mut self, done: &Done) -> Option<String> {
        match &done.chore {
            Chore::Restart => {
                let restart = self.restarts.remove(&done.replica)?;
                // One that failed, or took too long for us, may have made a new process nevertheless. Otherwise there is nothing
                // that they could run in.
                if !matches!(done.happened, Happened::Restarted { .. }) {
                    let now = pid(&self.instance, &done.replica);
                    if now <= 0 || now == restart.pid {
                        return restart.dropped(&done.replica);
                    }
                }
                if restart.is_wanted_again {
                    self.begin(&done.replica, &Chore::Restart);
                }
                for words in restart.then {
                    self.begin(&done.replica, &Chore::Run(words));
                }
                None
            }
            Chore::Run(words) => {
                if self.runs.remove(&(done.replica.clone(), words.clone())) == Some(true) {
                    self.begin(&done.replica, &done.chore);
                }
                None
            }
        }
    }
}

/// The process of a replica, or 0 if it has none.
pub fn pid(instance: &Instance, replica: &str) -> i32 {
    instance.container(replica).status().map_or(0, |status| status.pid)
}

/// Whether a replica's process was ended by somebody else, to be replaced by another one or by none.
pub fn is_replaced(instance: &Instance, replica: &str, pid: i32) -> bool {
    let status = instance.container(replica).status();
    status.is_none_or(|status| status.stopped || status.pid > 0 && status.pid != pid)
}

/// Starts the process of a replica again.
fn restart(instance: &Instance, replica: &str, note: &(dyn Fn(String) + Sync)) -> Happened {
    let (folder, since) = (instance.container(replica), Instant::now());
    // Without its specification it cannot be restarted, and the monitor says why.
    let grace = folder.spec().ok().flatten().map_or(Span(0), |spec| spec.stop_grace);
    let (sender, over) = channel::<()>();
    let restarted = std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(SLOW) == Err(RecvTimeoutError::Timeout) {
                note(format!("{replica} is being restarted: it has not ended yet, and has {grace} for that"));
            }
        });
        let restarted = monitor::call(&folder, &Request::Restart, Some(Duration::from(grace) + RESTART));
        drop(sender);
        restarted
    });
    match restarted {
        Ok(_) => Happened::Restarted { replica: replica.to_owned(), took: since.elapsed() },
        Err(error) => Happened::Failed(Error::caused(format!("cannot restart {replica}"), error)),
    }
}

/// Runs a command in a replica. What it says is shown if it fails.
fn run(instance: &Instance, replica: &str, words: &[String]) -> Happened {
    let (folder, since) = (instance.container(replica), Instant::now());
    let what = format!("{} in {replica}", words.join(" "));
    let ran = || -> Result<(i32, String)> {
        let spec = folder.spec()?.ok_or_else(|| Error::new(format!("{replica} is not running")))?;
        let process = spec.blueprint.like_process(words).context(|| format!("{replica} has no process"))?;
        let none = File::open("/dev/null").context(|| "cannot open /dev/null".into())?;
        let memory = memfd_create(c"said", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
        let mut said = File::from(memory.context(|| "cannot keep what it says".into())?);
        let session = monitor::session(&folder, &process, &[none.as_raw_fd(), said.as_raw_fd(), said.as_raw_fd()])?;
        let status = session.wait()?;
        Ok((status, end(&mut said).context(|| "cannot read what it said".into())?))
    };
    match ran() {
        Ok((0, _)) => Happened::Ran { replica: replica.to_owned(), words: words.to_vec(), took: since.elapsed() },
        Ok((status, said)) => {
            let what = format!("{what} ended with exit status {status}");
            Happened::Failed(if said.is_empty() { Error::new(what) } else { Error::caused(what, said) })
        }
        Err(error) => Happened::Failed(Error::caused(format!("cannot run {what}"), error)),
    }
}

/// The end of a file's text.
fn end(file: &mut File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_a_failed_restart_leaves_undone_is_told() {
        let restart = |is_wanted_again, then: &[&str]| {
            let then = then.iter().map(|word| vec![(*word).to_owned(), "x".to_owned()]).collect();
            Restarting { pid: 7, is_wanted_again, then }.dropped("web-1")
        };
        assert_eq!(restart(false, &[]), None);
        let told = restart(true, &["make", "load"]).unwrap();
        assert!(told.contains("not done: another restart, load x, make x;") && told.contains("`stead restart web-1`"), "{told}");
    }

    #[test]
    fn of_what_a_command_said_the_end_is_shown() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(end(&mut file).unwrap(), "");
        file.write_all(b"first\n").unwrap();
        assert_eq!(end(&mut file).unwrap(), "first");
        file.write_all(&[b'x'; 3000]).unwrap();
        file.write_all(b"\nlast\n").unwrap();
        let shown = end(&mut file).unwrap();
        assert!(!shown.contains("first") && shown.ends_with("x\nlast"), "{shown}");
    }
}

//! Commands that run in the container when it has started and before it is stopped, one after the other.
//!
//! Waiting for them blocks nothing else: while one runs, output is read and requests are answered.

use crate::runtime::{Session, StartError};
use std::collections::VecDeque;
use std::time::Instant;

/// The hooks of one event that are not done yet.
pub struct Hooks {
    event: &'static str,
    left: VecDeque<Vec<String>>,
    current: Option<Current>,
    /// Since when the container has been held still.
    held: Option<Instant>,
}

struct Current {
    words: Vec<String>,
    session: Session,
    deadline: Instant,
    status: Option<i32>,
}

/// What the caller must do next.
pub enum Step {
    /// Wait: for a child, or until [`Hooks::due`].
    Wait,
    /// Start this command, and report the result with [`Hooks::begun`].
    Start(Vec<String>),
    Done,
}

impl Hooks {
    pub fn of(event: &'static str, commands: &[Vec<String>]) -> Self {
        Self { event, left: commands.iter().cloned().collect(), current: None, held: None }
    }

    /// When the running hook will have taken too long, or when the next must begin.
    pub fn due(&self) -> Instant {
        self.current.as_ref().map_or_else(Instant::now, |current| current.deadline)
    }

    /// Notes that the container is held still. The running hook gets that time added to its deadline afterwards.
    pub fn hold(&mut self, now: Instant) {
        self.held.get_or_insert(now);
    }

    /// Takes a reaped child. Returns whether it was one of these.
    pub fn reaped(&mut self, pid: i32, status: i32) -> bool {
        let found = self.current.as_mut().filter(|current| current.session.pid == pid);
        found.map(|current| current.status = Some(status)).is_some()
    }

    /// Ends the running hook and forgets the others.
    pub fn end(self) {
        if let Some(current) = self.current {
            current.session.end();
        }
    }

    /// Returns what must be done now and, if a hook has failed, why.
    pub fn next(&mut self, now: Instant) -> (Step, Option<String>) {
        let mut failed = None;
        if let (Some(held), Some(current)) = (self.held.take(), &mut self.current) {
            current.deadline += now.saturating_duration_since(held);
        }
        if let Some(current) = &self.current {
            let outcome = match current.status {
                Some(0) => Ok(()),
                Some(status) => Err(match current.session.settled() {
                    Some(Err(error)) => error.message,
                    _ => format!("exit status {status}"),
                }),
                None if now < current.deadline => return (Step::Wait, None),
                None => {
                    current.session.end();
                    Err("it took longer than the grace period".to_owned())
                }
            };
            current.session.end_rest();
            failed = outcome.err().map(|why| self.failure(&current.words, &why));
            self.current = None;
        }
        (self.left.pop_front().map_or(Step::Done, Step::Start), failed)
    }

    /// Takes the result of starting a command. If that failed, it returns why.
    pub fn begun(&mut self, words: Vec<String>, started: Result<Session, StartError>, deadline: Instant) -> Option<String> {
        match started {
            Ok(session) => {
                self.current = Some(Current { words, session, deadline, status: None });
                None
            }
            Err(error) => Some(self.failure(&words, &error.message)),
        }
    }

    fn failure(&self, words: &[String], why: &str) -> String {
        format!("the {} hook {words:?} failed: {why}", self.event)
    }
}

//! Processes that clients asked for, from the moment they are sent into the container until their exit status is reported.
//!
//! This module does all waiting for them. Processes that are already in the container can stop a new one on its way in, so
//! nothing waits for a single process in a place where others would have to wait, too.

use super::control::{self, Reply};
use crate::runtime;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a process may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Sessions(Vec<Session>);

struct Session {
    process: runtime::Session,
    client: UnixStream,
    /// The time by which it must have started; `None` once it has.
    opening: Option<Instant>,
    ended: Option<i32>,
}

impl Sessions {
    pub fn add(&mut self, process: runtime::Session, client: UnixStream) {
        self.0.push(Session { process, client, opening: Some(Instant::now() + PATIENCE), ended: None });
    }

    /// The descriptors to wait for.
    pub fn opening(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().filter(|session| session.opening.is_some()).map(|session| session.process.told())
    }

    /// The earliest time at which a process has taken too long to start.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|session| session.opening).min()
    }

    /// Takes a reaped child. Returns whether it was one of these.
    pub fn reaped(&mut self, pid: i32, status: i32) -> bool {
        let found = self.0.iter_mut().find(|session| session.process.pid == pid && session.ended.is_none());
        found.map(|session| session.ended = Some(status)).is_some()
    }

    /// Tells clients what became of their processes.
    ///
    /// While the container is held still, no process can start, so their time to start does not run.
    pub fn answer(&mut self, still: bool) {
        let now = Instant::now();
        for session in self.0.iter_mut().filter(|_| still) {
            session.opening = session.opening.map(|_| now + PATIENCE);
        }
        self.0.retain_mut(|session| session.answer(now));
    }
}

impl Session {
    /// Tells the client what is known, and returns whether there is more to come. A client that is gone is not an error.
    fn answer(&mut self, now: Instant) -> bool {
        let tell = |reply: Reply, fds: &[RawFd]| drop(control::send(&self.client, &reply, fds));
        let refuse = |error: String, exit: i32| tell(Reply { error: Some(error), exit: Some(exit), ..Reply::default() }, &[]);
        if let Some(deadline) = self.opening {
            match self.process.settled() {
                None if now < deadline => return true,
                None => {
                    self.process.end();
                    refuse(
                        format!("the process did not start within {} s: the container may have stopped it", PATIENCE.as_secs()),
                        126,
                    );
                    return false;
                }
                Some(Err(error)) => {
                    refuse(error.message, error.status);
                    return false;
                }
                Some(Ok(terminal)) => {
                    let terminal: Vec<RawFd> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
                    tell(Reply { started: true, ..Reply::default() }, &terminal);
                    self.opening = None;
                }
            }
        }
        let Some(status) = self.ended else { return true };
        tell(Reply { exit: Some(status), ..Reply::default() }, &[]);
        false
    }
}

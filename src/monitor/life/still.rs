//! Freezing a container: a user pauses it, or a client holds it still while it reads its files.

use super::{FOLLOW, Monitor};
use crate::monitor::files::State;
use std::io;
use std::os::unix::net::UnixStream;

impl Monitor {
    /// Pauses or resumes the container. While it is paused no health check runs, so none can fail.
    pub(super) fn freeze(&mut self, frozen: bool) -> io::Result<()> {
        if self.running.is_none() {
            return Err(io::Error::other("the container is not running"));
        }
        if frozen != (self.status.state == State::Paused) {
            if self.holders.is_empty() {
                self.stop_or_go(frozen)?;
            }
            self.status.state = if frozen { State::Paused } else { State::Running };
            self.tell();
            self.follow(FOLLOW);
            self.event(if frozen { "pause" } else { "unpause" }, &[]);
        }
        Ok(())
    }

    /// Whether its processes are frozen. Nothing can be started in the container then.
    pub(super) fn is_still(&self) -> bool {
        self.status.state == State::Paused || !self.holders.is_empty()
    }

    pub(super) fn stop_or_go(&self, frozen: bool) -> io::Result<()> {
        self.cgroup.freeze(&self.host, frozen).inspect_err(|_| {
            if frozen {
                // It must not stay half frozen. The first error is the one that is reported.
                let _ = self.cgroup.freeze(&self.host, false);
            }
        })
    }

    /// Holds the container still for a client.
    pub(super) fn hold(&mut self, client: UnixStream) -> Result<(), (UnixStream, io::Error)> {
        let ready = match self.running {
            None => Err(io::Error::other("the container is not running")),
            Some(_) if self.is_still() => Ok(()),
            Some(_) => self.stop_or_go(true),
        };
        match ready {
            Ok(()) => {
                self.holders.push(client);
                Ok(())
            }
            Err(error) => Err((client, error)),
        }
    }

    /// Resumes the container when the last client that held it still has hung up.
    pub(super) fn let_go(&mut self, gone: &[bool]) {
        let mut gone = gone.iter();
        let before = self.holders.len();
        self.holders.retain(|_| gone.next() != Some(&true));
        if self.holders.len() < before && !self.is_still() {
            self.go_on();
        }
    }

    /// Resumes the container, whoever paused it or holds it still.
    pub(super) fn thaw(&mut self) {
        let held = !std::mem::take(&mut self.holders).is_empty();
        if self.status.state == State::Paused {
            // If it is not running, there is nothing to resume.
            let _ = self.freeze(false);
        } else if held {
            self.go_on();
        }
    }

    pub(super) fn go_on(&mut self) {
        if let Err(error) = self.stop_or_go(false) {
            self.note(&format!("stead: cannot resume the container after it was held still: {error}"));
        }
    }
}

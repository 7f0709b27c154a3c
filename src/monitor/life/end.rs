//! How a container ends, whether it is stopped or ends by itself, and whether it is restarted.

use super::attached::Attached;
use super::{FIRST_BACKOFF, FOLLOW, LAST_BACKOFF, Monitor, SETTLED, Stopping};
use crate::model::{Context, Result};
use crate::monitor::control::{self, Reply};
use crate::monitor::files::{Health, State, now_ms};
use crate::monitor::heir::Heir;
use crate::monitor::hooks::Hooks;
use crate::project::Restart;
use crate::runtime::Running;
use crate::sys;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

impl Monitor {
    pub(super) fn stop(&mut self, signal: Option<i32>, grace: Option<Duration>) {
        self.status.stopped = true;
        self.event("stop", &[]);
        if self.running.is_none() {
            self.restart_at = None;
            self.status.state = State::Exited;
            return;
        }
        // Frozen processes do not react to signals.
        self.thaw();
        let signal = signal.unwrap_or(self.spec.stop_signal);
        let grace = grace.unwrap_or_else(|| self.spec.stop_grace.into());
        if self.stopping.is_some() {
            return self.signal_to_stop(signal, grace);
        }
        self.begin_to_stop(signal, grace);
    }

    fn begin_to_stop(&mut self, signal: i32, grace: Duration) {
        if self.stop_after_hooks.replace((signal, grace)).is_none() {
            // Start hooks that have not finished are ended: it is too late for them.
            self.hooks.replace(Hooks::of("stop", &self.spec.on_stop)).into_iter().for_each(Hooks::end);
        }
        self.follow_hooks();
    }

    /// Ends the command to start it again, and answers the client when it has started.
    pub(super) fn restart(&mut self, client: UnixStream) {
        self.restarters.push(client);
        if self.running.is_none() && self.restart_at.is_none() {
            // It was stopped, or ended, a moment ago.
            self.answer_restarters(Some("the container is not running".into()));
        } else if self.running.is_none() {
            self.restart_at = Some(Instant::now());
        } else if !self.recycling {
            self.thaw();
            self.recycling = true;
            if self.stopping.is_none() {
                self.begin_to_stop(self.spec.stop_signal, self.spec.stop_grace.into());
            }
        }
    }

    /// Tells those who asked for a restart that it is done, or why it is not.
    pub(super) fn answer_restarters(&mut self, error: Option<String>) {
        for client in std::mem::take(&mut self.restarters) {
            // A client that is gone does not need to know.
            let _ = control::send(&client, &Reply { done: error.is_none(), error: error.clone(), ..Reply::default() }, &[]);
        }
    }

    pub(super) fn signal_to_stop(&mut self, signal: i32, grace: Duration) {
        self.signal(signal);
        self.stopping = Some(Stopping { deadline: Instant::now() + grace, killed: false });
    }

    /// When the command has taken longer than it may. Frozen processes, and those that are being ended anyway, are left alone.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let may_end = self.running.is_some() && self.stopping.is_none() && !self.is_still();
        self.spec.timeout.filter(|_| may_end).map(|timeout| self.started + timeout.into())
    }

    /// Kills a command that takes too long.
    pub(super) fn kill_overdue(&mut self) {
        let Some(timeout) = self.spec.timeout else { return };
        self.note(&format!("stead: the command timed out after {timeout}, and was killed"));
        self.event("timeout", &[]);
        self.status.timed_out = Some(timeout);
        self.status.error = Some(format!("timed out after {timeout}"));
        self.signal(libc::SIGKILL);
        self.stopping = Some(Stopping { deadline: Instant::now(), killed: true });
    }

    /// Checks whether the command has ended.
    pub(super) fn check_end(&mut self, buffer: &mut [u8]) {
        let Some(status) = self.running.as_ref().and_then(Running::ended) else { return };
        // Its pid namespace ended with it, so nothing writes to the pipes any more: read what is left.
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.streams().next().is_some() && Instant::now() < deadline {
            let waiting: Vec<&dyn AsFd> = self.streams().collect();
            let ready = sys::wait_readable(&waiting, Some(Duration::from_millis(200))).unwrap_or_default();
            self.read_streams(&ready, buffer);
        }
        let streams = self.captures.drain(..).chain(self.hook_output.drain(..));
        streams.for_each(|mut capture| capture.end(&mut self.log));
        let _ = self.log.flush();
        self.running = None;
        self.ended(status);
    }

    /// Decides what happens after the command has ended.
    pub(super) fn ended(&mut self, code: i32) {
        if self.is_still() {
            // It was killed from outside while it was frozen. Nothing could be started in a frozen cgroup.
            self.holders.clear();
            self.go_on();
        }
        self.status.pid = 0;
        self.status.exit_code = Some(code);
        self.status.finished_at = Some(now_ms());
        self.status.health = Health::None;
        self.told_health = Health::None;
        self.checker = None;
        self.stopping = None;
        (self.hooks, self.stop_after_hooks) = (None, None);
        self.tell_starter();
        self.terminal = None;
        self.status.out_of_memory = self.cgroup.out_of_memory_kills() > self.oom_before;
        if self.status.out_of_memory {
            self.note("stead: the kernel killed a process of this container because memory ran out");
            self.event("oom", &[]);
        }
        self.event("die", &[("exit", code.to_string())]);
        for client in std::mem::take(&mut self.waiting_for_exit) {
            let _ = control::send(&client, &Reply { done: true, exit: Some(code), ..Reply::default() }, &[]);
        }
        if self.started.elapsed() >= SETTLED {
            self.backoff = FIRST_BACKOFF;
            self.in_a_row = 0;
        }
        self.status.stopped |= std::mem::take(&mut self.ended_by_hand);
        let recycled = std::mem::take(&mut self.recycling);
        let again = !self.status.stopped
            && (recycled
                || match self.spec.restart {
                    Restart::No => false,
                    Restart::Always | Restart::UnlessStopped => true,
                    Restart::OnFailure(max) => code != 0 && max.is_none_or(|max| self.in_a_row < max),
                });
        if again {
            self.status.state = State::Restarting;
            let asked = !self.restarters.is_empty();
            self.status.asked = asked;
            self.restart_at = Some(Instant::now() + if asked { Duration::ZERO } else { self.backoff });
            self.backoff = if asked { FIRST_BACKOFF } else { (self.backoff * 2).min(LAST_BACKOFF) };
        } else {
            self.status.state = State::Exited;
            self.answer_restarters(Some("the container was stopped meanwhile".into()));
        }
        self.tell();
        if again {
            self.follow(Duration::ZERO);
        }
        // When the stream ends, the exit status is already recorded for the attached clients.
        self.attached.drain(..).for_each(Attached::end);
    }

    /// Ends the monitor: removes what is left of the container, and tells every client that waits.
    pub(super) fn finish(&mut self) -> Result<()> {
        let gone = self.cgroup.destroy();
        let _ = std::fs::remove_file(self.folder.join("control"));
        self.tell();
        // The sockets are closed when this process ends, so the rules that lead to them must be removed before.
        self.follow(FOLLOW);
        // If the rules could not be updated in time, that is left to the heir.
        if self.following.is_none() {
            self.heir.take().into_iter().for_each(Heir::dismiss);
        }
        for client in &self.waiting_for_end {
            let _ = control::send(client, &Reply { done: true, exit: self.status.exit_code, ..Reply::default() }, &[]);
        }
        gone.context(|| "cannot clean up after the container".into())
    }
}

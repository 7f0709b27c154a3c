//! Requests of clients to a monitor. Each is answered at once, or noted so that the loop answers it later.

use super::Monitor;
use crate::monitor::control::{self, Reply, Request};
use crate::monitor::files::State;
use crate::project::Limits;
use crate::runtime::Stdio;
use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

impl Monitor {
    /// Reads requests of the clients that have sent something.
    pub(super) fn serve(&mut self, readable: &[bool]) {
        for (index, client) in std::mem::take(&mut self.clients).into_iter().enumerate() {
            if readable.get(index) == Some(&true) {
                self.request(client);
            } else {
                self.clients.push(client);
            }
        }
    }

    pub(super) fn request(&mut self, client: UnixStream) {
        let mut buffer = vec![0; control::LONGEST];
        let mut used = 0;
        let mut fds = Vec::new();
        while used == 0 || buffer[used - 1] != b'\n' {
            match sys::receive_with(&client, &mut buffer[used..]) {
                Ok((0, _)) | Err(_) => return,
                Ok((length, received)) => {
                    used += length;
                    fds.extend(received);
                }
            }
            if used == buffer.len() {
                return;
            }
        }
        let refuse = |error: String, exit: Option<i32>| {
            let _ = control::send(&client, &Reply { error: Some(error), exit, ..Reply::default() }, &[]);
        };
        match control::understood(&buffer[..used]) {
            Err(error) => refuse(error, None),
            Ok(Request::Ports) => {
                let fds: Vec<RawFd> = self.ports.iter().map(AsRawFd::as_raw_fd).collect();
                let sent = fds.chunks(32).try_for_each(|some| sys::send_with(&client, b"P", some).map(drop));
                // If it cannot be sent, the client is gone.
                let _ = sent.and_then(|()| sys::send_with(&client, b".", &[]).map(drop));
            }
            Ok(Request::Wait) if self.running.is_none() => {
                let exit = self.status.exit_code;
                let _ = control::send(&client, &Reply { done: true, exit, ..Reply::default() }, &[]);
            }
            Ok(Request::Wait) => self.waiting_for_exit.push(client),
            Ok(Request::Attach) if self.running.is_none() => refuse("the container is not running".into(), None),
            Ok(Request::Attach) => {
                let terminal: Vec<RawFd> = self.terminal.iter().map(AsRawFd::as_raw_fd).collect();
                let _ = control::send(&client, &Reply { done: true, ..Reply::default() }, &terminal);
                // A client that reads slowly misses output; the container never waits for a reader.
                if client.set_nonblocking(true).is_ok() {
                    self.attached.push(client);
                }
            }
            Ok(Request::Signal { signal }) => {
                self.event("kill", &[("signal", signal.to_string())]);
                // Frozen processes do not react to signals, but KILL must work, as it does in Docker.
                if signal == libc::SIGKILL {
                    self.thaw();
                }
                self.signal(signal);
                let _ = control::send(&client, &Reply { done: true, ..Reply::default() }, &[]);
            }
            Ok(Request::Hold) => {
                let answer = |client: &UnixStream, reply: Reply| drop(control::send(client, &reply, &[]));
                match self.hold(client) {
                    Ok(()) => {
                        if let Some(holder) = self.holders.last() {
                            answer(holder, Reply { done: true, ..Reply::default() });
                        }
                    }
                    Err((client, error)) => answer(&client, Reply { error: Some(error.to_string()), ..Reply::default() }),
                }
            }
            Ok(Request::Freeze { frozen }) => match self.freeze(frozen) {
                Ok(()) => drop(control::send(&client, &Reply { done: true, ..Reply::default() }, &[])),
                Err(error) => refuse(error.to_string(), None),
            },
            Ok(Request::Limits { limits }) => match self.adjust(*limits) {
                Ok(()) => drop(control::send(&client, &Reply { done: true, ..Reply::default() }, &[])),
                Err(error) => refuse(error.to_string(), None),
            },
            Ok(Request::Stop { signal, grace }) => {
                self.stop(signal, grace.map(Duration::from));
                self.waiting_for_end.push(client);
            }
            Ok(Request::Exec { .. }) if self.status.state == State::Paused => {
                refuse("the container is paused; `stead unpause` resumes it".into(), Some(126));
            }
            Ok(Request::Exec { .. }) if self.is_still() => {
                refuse("the container is held still while its files are read; try again in a moment".into(), Some(126));
            }
            Ok(Request::Exec { spec }) => {
                let mut fds = fds.into_iter();
                let stdio = match (spec.process.terminal() == Some(true), fds.next(), fds.next(), fds.next()) {
                    (true, ..) => Stdio::Terminal,
                    (false, Some(stdin), Some(stdout), Some(stderr)) => Stdio::Files { stdin, stdout, stderr },
                    _ => return refuse("the standard streams were not sent with the request".into(), None),
                };
                match self.exec(&spec, stdio) {
                    Err(error) => refuse(error.message, Some(error.status)),
                    Ok(session) => self.sessions.add(session, client),
                }
            }
        }
    }

    pub(super) fn adjust(&mut self, limits: Limits) -> io::Result<()> {
        let path = self.spec.blueprint.cgroup();
        let old = &self.spec.blueprint.beyond.limits;
        let changed = self.cgroup.change(&self.host, &path, &limits, old);
        if changed.is_err() {
            // Restore the previous limits as far as possible.
            let _ = self.cgroup.change(&self.host, &path, old, &limits);
            return changed;
        }
        self.spec.blueprint.beyond.limits = limits;
        self.folder.write_spec(&self.spec).map_err(|error| io::Error::other(error.chain()))
    }
}

//! Requests of clients to a monitor. Each is answered at once, or noted so that the loop answers it later.

use super::Monitor;
use super::attached::Attached;
use crate::model::Size;
use crate::monitor::control::{self, Reply, Request};
use crate::monitor::files::State;
use crate::project::Limits;
use crate::runtime::Stdio;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A client that has not sent its whole request yet.
pub(super) struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// What has come from a client so far.
enum Received {
    Part,
    /// A whole request, or more than any request has.
    Whole,
    /// It is gone.
    Nothing,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), fds: Vec::new() }
    }

    fn receive(&mut self) -> Received {
        let mut buffer = [0; 64 << 10];
        loop {
            match sys::receive_with(&self.stream, &mut buffer) {
                Ok((0, _)) => return Received::Nothing,
                Ok((length, fds)) => {
                    self.bytes.extend_from_slice(&buffer[..length]);
                    self.fds.extend(fds);
                    // A request is one line.
                    if self.bytes.ends_with(b"\n") || self.bytes.len() > control::LONGEST {
                        return Received::Whole;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Received::Nothing,
            }
        }
    }
}

impl Monitor {
    /// Reads from the clients that have sent something, and carries out the requests that are complete.
    pub(super) fn serve(&mut self, readable: &[bool]) {
        for (index, mut client) in std::mem::take(&mut self.clients).into_iter().enumerate() {
            if readable.get(index) != Some(&true) {
                self.clients.push(client);
                continue;
            }
            match client.receive() {
                Received::Part => self.clients.push(client),
                Received::Whole => self.request(client),
                Received::Nothing => {}
            }
        }
    }

    fn request(&mut self, client: Client) {
        let Client { stream: client, bytes, fds } = client;
        let refuse = |error: String, exit: Option<i32>| {
            let _ = control::send(&client, &Reply { error: Some(error), exit, ..Reply::default() }, &[]);
        };
        if bytes.len() > control::LONGEST {
            let most = Size(control::LONGEST as u64);
            return refuse(format!("the request is longer than {most}: too many or too long arguments or variables"), Some(126));
        }
        match control::understood(&bytes) {
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
            Ok(Request::Attach) if self.status.state == State::Paused => {
                refuse("the container is paused; `stead unpause` resumes it".into(), None);
            }
            Ok(Request::Attach) => {
                let terminal: Vec<RawFd> = self.terminal.iter().map(AsRawFd::as_raw_fd).collect();
                let _ = control::send(&client, &Reply { done: true, ..Reply::default() }, &terminal);
                // A client that reads slowly misses output; the container never waits for a reader.
                self.attached.push(Attached::new(client));
            }
            Ok(Request::Signal { signal }) => {
                self.event("kill", &[("signal", signal.to_string())]);
                // Frozen processes do not react to signals, but KILL must work, as it does in Docker.
                if signal == libc::SIGKILL {
                    self.thaw();
                }
                // As in Docker, it is an end by hand, whatever the restart policy says.
                let ends = signal == libc::SIGKILL || signal == self.spec.stop_signal;
                if ends && self.running.is_none() {
                    // It is between two starts: there is nothing to signal, and no next start.
                    self.stop(None, None);
                } else {
                    self.ended_by_hand |= ends;
                    self.signal(signal);
                }
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
            Ok(Request::Restart) => self.restart(client),
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
                match self.exec(&spec, stdio, None) {
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

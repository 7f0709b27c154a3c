//! Health checks: when the next one is due, how it is run, and what its result means.

use super::files::Health;
use crate::project::{Health as HealthSpec, Probe};
use crate::runtime::{Blueprint, Host, Session, Stdio, exec};
use crate::sys::{self, Side};
use nix::sched::CloneFlags;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How much of a check's output is kept.
const KEPT: usize = 2048;

/// A delay that is as good as never.
const FOREVER: Duration = Duration::from_secs(3600);

/// The moment plus some time. If that overflows, an hour is used, which is as good as never.
fn later(moment: Instant, time: Duration) -> Instant {
    moment.checked_add(time).unwrap_or_else(|| moment + FOREVER)
}

/// The health of a running container.
pub struct Checker {
    spec: HealthSpec,
    started: Instant,
    next: Instant,
    failures: u32,
    pub health: Health,
    pub output: String,
    running: Option<Check>,
}

struct Check {
    pid: i32,
    /// The session of a command in the container, which may not have started yet.
    session: Option<Session>,
    output: OwnedFd,
    deadline: Instant,
    timed_out: bool,
    said: Vec<u8>,
    /// Whether it has closed its output but still runs.
    silent: bool,
}

/// What a check needs to know about the container.
pub struct Target<'a> {
    pub command: &'a OwnedFd,
    pub blueprint: &'a Blueprint,
    pub host: &'a Host,
}

impl Checker {
    /// Begins to check a container that has just started.
    pub fn new(spec: &HealthSpec) -> Option<Self> {
        if spec.probe == Probe::None {
            return None;
        }
        let now = Instant::now();
        let first = spec.start_interval.min(spec.interval);
        Some(Self {
            spec: spec.clone(),
            started: now,
            // The first check comes soon: most programs are up within a few milliseconds.
            next: now + Duration::from(first).min(Duration::from_millis(20)),
            failures: 0,
            health: Health::Starting,
            output: String::new(),
            running: None,
        })
    }

    /// When something has to be done next.
    pub fn due(&self) -> Instant {
        self.running
            .as_ref()
            .map_or(self.next, |check| if check.timed_out { later(check.deadline, FOREVER) } else { check.deadline })
    }

    /// Starts a check if one is due, and ends a running check that takes too long.
    pub fn tick(&mut self, target: &Target) {
        let now = Instant::now();
        match &mut self.running {
            Some(check) if now >= check.deadline && !check.timed_out => {
                check.timed_out = true;
                match &check.session {
                    Some(session) => session.end(),
                    None => {
                        // It may have ended already; then it is reaped later.
                        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(check.pid), nix::sys::signal::Signal::SIGKILL);
                    }
                }
            }
            Some(_) => {}
            None if now >= self.next => match start(&self.spec, target) {
                Ok((pid, session, output)) => {
                    self.running = Some(Check {
                        pid,
                        session,
                        output,
                        deadline: later(now, self.spec.timeout.into()),
                        timed_out: false,
                        said: Vec::new(),
                        silent: false,
                    });
                }
                Err(error) => self.conclude(false, error),
            },
            None => {}
        }
    }

    /// Takes a reaped child. Returns whether it was this checker's, so that the health may have changed.
    pub fn reaped(&mut self, pid: i32, status: i32) -> bool {
        if self.running.as_ref().is_none_or(|check| check.pid != pid) {
            return false;
        }
        self.drain();
        if let Some(check) = self.running.take() {
            check.session.iter().for_each(Session::end_rest);
            let mut output = String::from_utf8_lossy(&check.said).trim().to_owned();
            if let Some(Some(Err(error))) = check.session.as_ref().map(Session::settled) {
                output = error.message;
            }
            if check.timed_out {
                output = format!("the check took longer than {}", self.spec.timeout);
            }
            self.conclude(status == 0 && !check.timed_out, output);
        }
        true
    }

    /// The running check's output, to be waited for: a check whose output nobody reads would block.
    pub fn output(&self) -> Option<&OwnedFd> {
        self.running.as_ref().filter(|check| !check.silent).map(|check| &check.output)
    }

    /// Reads the running check's output so far, and keeps its beginning.
    pub fn drain(&mut self) {
        let Some(check) = &mut self.running else { return };
        let mut buffer = [0; 4096];
        loop {
            match nix::unistd::read(&check.output, &mut buffer) {
                Ok(0) => check.silent = true,
                Ok(length) => {
                    let room = KEPT.saturating_sub(check.said.len());
                    check.said.extend_from_slice(&buffer[..length.min(room)]);
                    continue;
                }
                Err(_) => {}
            }
            return;
        }
    }

    fn conclude(&mut self, good: bool, output: String) {
        let now = Instant::now();
        if good {
            self.failures = 0;
            self.health = Health::Healthy;
        } else {
            self.output = output;
            self.failures = self.failures.saturating_add(1);
            let failed = if self.health == Health::Starting {
                // Until the first success checks are frequent, so the time that has passed counts, not their number.
                let timeout = Duration::from(self.spec.interval).saturating_mul(self.spec.retries);
                now - self.started >= timeout.saturating_add(self.spec.start_period.into())
            } else {
                self.failures >= self.spec.retries
            };
            if failed {
                self.health = Health::Unhealthy;
            }
        }
        let wait =
            if self.health == Health::Starting { self.spec.start_interval.min(self.spec.interval) } else { self.spec.interval };
        self.next = later(now, wait.into());
    }
}

/// Starts a check as a child of the monitor. Its output comes through a pipe.
fn start(spec: &HealthSpec, target: &Target) -> Result<(i32, Option<Session>, OwnedFd), String> {
    let (read, write) = sys::pipe().map_err(|error| error.to_string())?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).map_err(|error| error.to_string())?;
    if let Probe::Exec(words) = &spec.probe {
        let null = File::open("/dev/null").map_err(|error| error.to_string())?;
        let twin = write.try_clone().map_err(|error| error.to_string())?;
        let spec = target.blueprint.like_process(words).map_err(|error| error.to_string())?;
        let stdio = Stdio::Files { stdin: null.into(), stdout: twin, stderr: write };
        let session =
            exec(target.command, &spec, target.blueprint, stdio, target.host, Some("check")).map_err(|error| error.message)?;
        return Ok((session.pid, Some(session), read));
    }
    let timeout = Duration::from(spec.timeout);
    match sys::clone_process(0, None).map_err(|error| error.to_string())? {
        Side::Parent { pid, .. } => Ok((pid, None, read)),
        Side::Child => {
            #[expect(unsafe_code, reason = "this child owns the descriptors that it keeps, and ends without running destructors")]
            // SAFETY: every descriptor that it uses from here on is kept, and it ends by `exit_now`.
            let closed = unsafe { sys::close_all_but(&[write.as_raw_fd(), target.command.as_raw_fd()]) };
            let result = closed
                .and_then(|()| sys::die_with_parent())
                .and_then(|()| sys::enter_namespace(target.command, CloneFlags::CLONE_NEWNET))
                .and_then(|()| probe(&spec.probe, timeout));
            let code = match result {
                Ok(()) => 0,
                Err(error) => {
                    let _ = nix::unistd::write(&write, error.to_string().as_bytes());
                    1
                }
            };
            sys::exit_now(code)
        }
    }
}

fn probe(probe: &Probe, timeout: Duration) -> io::Result<()> {
    let connect = |port: u16| {
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), timeout)
            .map_err(|error| io::Error::new(error.kind(), format!("nothing answers on port {port}: {error}")))
    };
    match probe {
        Probe::Tcp(port) => connect(*port).map(drop),
        Probe::Http { port, path } => {
            let mut stream = connect(*port)?;
            stream.set_read_timeout(Some(timeout))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nUser-Agent: stead\r\nConnection: close\r\n\r\n")?;
            let mut head = Vec::new();
            stream.take(512).read_to_end(&mut head)?;
            let head = String::from_utf8_lossy(&head);
            let line = head.lines().next().unwrap_or_default();
            let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            if (200..400).contains(&status) { Ok(()) } else { Err(io::Error::other(format!("GET {path} answered: {line}"))) }
        }
        _ => Ok(()),
    }
}

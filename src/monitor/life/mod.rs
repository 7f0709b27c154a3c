//! A monitor's life: it starts the container, waits for events in one loop, and ends with the container.

use super::control::{self, Reply};
use super::events::{self, Event};
use super::files::{Folder, Health, MonitorSpec, State, Status, boot_id, now_ms};
use super::health::{Checker, Target};
use super::heir::Heir;
use super::hooks::{Hooks, Step};
use super::log::{Capture, LogFiles, LogLimits};
use super::published::Change;
use super::sessions::Sessions;
use crate::model::{Context, Error, Result};
use crate::network;
use crate::runtime::{self, Cgroup, ExecSpec, Host, Running, StartError, Stdio};
use crate::store::{Lease, Store};
use crate::sys;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

mod attached;
mod end;
mod requests;
mod still;

use attached::Attached;
use requests::Client;

/// The delay before the first restart. It doubles each time, up to a minute, as with Docker.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// After a container has lived this long, its back-off starts from the beginning.
const SETTLED: Duration = Duration::from_secs(10);
/// How long a client that waits for an answer also waits until ports and names are updated.
const FOLLOW: Duration = Duration::from_secs(5);
/// How long to wait before trying to get the lock of ports and names again.
const FOLLOW_AGAIN: Duration = Duration::from_millis(20);

/// How long no client is accepted after all descriptors were in use.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A stop that is under way.
struct Stopping {
    deadline: Instant,
    killed: bool,
}

/// A container's monitor: what it was given, and its state.
pub struct Monitor {
    folder: Folder,
    spec: MonitorSpec,
    host: Host,
    cgroup: Cgroup,
    contents: Vec<Vec<u8>>,
    ports: Vec<OwnedFd>,
    listener: UnixListener,
    log: LogFiles,
    status: Status,
    running: Option<Running>,
    captures: Vec<Capture>,
    /// What hooks say.
    hook_output: Vec<Capture>,
    checker: Option<Checker>,
    sessions: Sessions,
    clients: Vec<Client>,
    waiting_for_end: Vec<UnixStream>,
    /// When clients are accepted again, after all descriptors were in use.
    accept_at: Option<Instant>,
    /// The clients that asked to be told when the command ends, whether it is restarted or not.
    waiting_for_exit: Vec<UnixStream>,
    attached: Vec<Attached>,
    /// The clients for which the container is held still until they hang up.
    holders: Vec<UnixStream>,
    terminal: Option<OwnedFd>,
    /// Whether the container is being stopped because it is unhealthy, so that it is restarted.
    recycling: bool,
    /// The clients that asked for a restart, until it has started again.
    restarters: Vec<UnixStream>,
    told_health: Health,
    stopping: Option<Stopping>,
    /// The hooks that run after the start, or those before the stop.
    hooks: Option<Hooks>,
    /// The signal and the grace period with which the container is stopped once its stop hooks are done.
    stop_after_hooks: Option<(i32, Duration)>,
    /// The process that started this monitor, until the container is up.
    starter: Option<UnixStream>,
    /// The start hooks that failed, for the starter.
    failed_hooks: Vec<String>,
    restart_at: Option<Instant>,
    backoff: Duration,
    /// How often in a row it was started again without having lived for long.
    in_a_row: u32,
    /// Whether somebody sent it a signal that ends it, so that it is not started again.
    ended_by_hand: bool,
    started: Instant,
    oom_before: u64,
    /// Keeps what the container needs in the store.
    _lease: Option<Lease>,
    /// A change for which ports and names are not updated yet, and when to try again.
    following: Option<(Change, Instant)>,
    /// The child that updates ports and names if this monitor is killed.
    heir: Option<Heir>,
}

impl Monitor {
    /// Prepares everything and starts the container.
    ///
    /// # Errors
    /// Says why the container cannot be started.
    pub fn begin(folder: Folder, ports: Vec<OwnedFd>, contents: Vec<Vec<u8>>) -> Result<Self> {
        let spec = folder.spec()?.ok_or_else(|| Error::new("the container's description is missing"))?;
        let lease = if spec.needs.digests.is_empty() {
            None
        } else {
            let mut lease = Lease::open(&Store::at(&spec.needs.store))?;
            lease.pin(&spec.needs.digests)?;
            Some(lease)
        };
        let host = runtime::host();
        let cgroup = Cgroup::create(host, &spec.blueprint).context(|| "cannot limit the container".into())?;
        let status = Status { boot: boot_id(), monitor: std::process::id(), ..Status::default() };
        // The status of an earlier monitor must not be mistaken for this one's.
        folder.begin(&status);
        let _ = std::fs::remove_file(folder.join("control"));
        let listener =
            sys::listen_in(folder.path(), "control").context(|| "cannot listen in the container's directory".into())?;
        let keep = spec.log.driver.as_ref().is_none_or(|driver| driver.name != "none");
        let limits = LogLimits { file: spec.log.size, quota: spec.log_quota, keep };
        let log = LogFiles::open(&spec.logs, limits).context(|| "cannot open the container's log".into())?;
        let mut monitor = Self {
            folder,
            spec,
            host: host.clone(),
            cgroup,
            contents,
            ports,
            listener,
            log,
            status,
            running: None,
            captures: Vec::new(),
            hook_output: Vec::new(),
            checker: None,
            sessions: Sessions::default(),
            clients: Vec::new(),
            waiting_for_end: Vec::new(),
            accept_at: None,
            waiting_for_exit: Vec::new(),
            attached: Vec::new(),
            holders: Vec::new(),
            terminal: None,
            recycling: false,
            restarters: Vec::new(),
            told_health: Health::None,
            stopping: None,
            hooks: None,
            stop_after_hooks: None,
            starter: None,
            failed_hooks: Vec::new(),
            restart_at: None,
            backoff: FIRST_BACKOFF,
            in_a_row: 0,
            ended_by_hand: false,
            started: Instant::now(),
            oom_before: 0,
            _lease: lease,
            following: None,
            heir: None,
        };
        if let (false, Some(home)) = (monitor.ports.is_empty(), &monitor.spec.home) {
            let heir = Heir::begin(home, &monitor.instance());
            monitor.heir = Some(heir.context(|| "cannot start the process that cleans up published ports".into())?);
        }
        if let Err(error) = monitor.start() {
            monitor.status.state = State::Dead;
            monitor.status.error = Some(error.message.clone());
            monitor.status.exit_code = Some(error.status);
            monitor.status.finished_at = Some(now_ms());
            monitor.tell();
            let _ = monitor.cgroup.destroy();
            monitor.heir.take().into_iter().for_each(Heir::dismiss);
            return Err(Error::new(error.message));
        }
        Ok(monitor)
    }

    /// The name of the container's instance, which is the name of the parent directory.
    fn instance(&self) -> String {
        let folder = self.folder.path().parent().and_then(|folder| folder.file_name());
        folder.unwrap_or_default().to_string_lossy().into_owned()
    }

    fn tell(&self) {
        self.folder.tell(&self.status);
    }

    fn start(&mut self) -> Result<(), StartError> {
        // Also a start that fails counts from here: it must not look like a long life.
        self.started = Instant::now();
        self.ended_by_hand = false;
        let blueprint = &self.spec.blueprint;
        let mut captures = Vec::new();
        let stdio = if blueprint.has_terminal() {
            Stdio::Terminal
        } else {
            let (out_read, out_write) = sys::pipe()?;
            let (err_read, err_write) = sys::pipe()?;
            captures.push(Capture::of_output(out_read)?);
            captures.push(Capture::of_errors(err_read)?);
            Stdio::Files { stdin: File::open("/dev/null")?.into(), stdout: out_write, stderr: err_write }
        };
        let mut running = runtime::start(blueprint, &self.contents, stdio, &self.host, &self.cgroup, |pid, process| {
            network::connect(pid, process, blueprint)
        })?;
        self.terminal = None;
        if let Some(terminal) = running.terminal.take() {
            self.terminal = terminal.try_clone().ok();
            captures.push(Capture::of_output(terminal)?);
        }
        self.captures = captures;
        self.oom_before = self.cgroup.out_of_memory_kills();
        self.checker = self.spec.health.as_ref().and_then(Checker::new);
        self.status.state = State::Running;
        self.status.pid = running.pid;
        self.status.started_at = Some(now_ms());
        self.status.exit_code = None;
        self.status.finished_at = None;
        self.status.timed_out = None;
        self.status.health = self.checker.as_ref().map_or(Health::None, |checker| checker.health);
        self.running = Some(running);
        self.tell();
        self.event("start", &[]);
        self.hooks = Some(Hooks::of("start", &self.spec.on_start));
        Ok(())
    }

    /// Continues with the hooks as far as possible now. When they are done, it continues with what waits for them.
    fn follow_hooks(&mut self) {
        // In a frozen container no hook can start or end, so its time does not run.
        if let (true, Some(hooks)) = (self.is_still(), &mut self.hooks) {
            return hooks.hold(Instant::now());
        }
        while let Some(mut hooks) = self.hooks.take() {
            let (step, failed) = hooks.next(Instant::now());
            failed.into_iter().for_each(|why| self.hook_failed(why));
            match step {
                Step::Wait => {
                    self.hooks = Some(hooks);
                    return;
                }
                Step::Start(words) => {
                    let started = self.spawn(&words);
                    let deadline = Instant::now() + self.spec.stop_grace.into();
                    let failed = hooks.begun(words, started, deadline);
                    failed.into_iter().for_each(|why| self.hook_failed(why));
                    self.hooks = Some(hooks);
                }
                Step::Done => {}
            }
        }
        self.tell_starter();
        if let Some((signal, grace)) = self.stop_after_hooks.take() {
            self.signal_to_stop(signal, grace);
        }
    }

    /// A hook has failed: the log has it, and whoever waits for the container is told.
    fn hook_failed(&mut self, why: String) {
        self.note(&format!("stead: {why}"));
        if self.starter.is_some() {
            self.failed_hooks.push(why);
        }
    }

    /// Tells whoever started this monitor that the container is up, its hooks included.
    fn tell_starter(&mut self) {
        if let Some(starter) = self.starter.take() {
            let warnings = std::mem::take(&mut self.failed_hooks);
            // A process that is gone does not need to know.
            let _ = control::send(&starter, &Reply { done: true, warnings, ..Reply::default() }, &[]);
        }
    }

    /// Adds a line that the monitor writes itself to the log.
    fn note(&mut self, text: &str) {
        self.log.note(text);
        let _ = self.log.flush();
    }

    /// Adds an event to the instance's events.
    fn event(&self, action: &str, attributes: &[(&str, String)]) {
        let name = self.spec.title.rsplit('/').next().unwrap_or_default();
        events::add(&self.spec.events, &Event::now("container", action, name, attributes));
    }

    /// Updates published ports and names after a change of the status. If that is not possible within `timeout`, it is
    /// tried again later, so that the container's output never has to wait for long.
    fn follow(&mut self, timeout: Duration) {
        let on_network = !self.spec.blueprint.beyond.interfaces.is_empty();
        let (Some(home), true) = (&self.spec.home, on_network) else { return };
        match Change::of_container(home, &self.instance(), !self.ports.is_empty()) {
            Ok(change) => self.following = Some((change, Instant::now())),
            Err(error) => return self.note(&format!("stead: cannot update names and published ports: {}", error.chain())),
        }
        self.follow_on(timeout);
    }

    fn follow_on(&mut self, timeout: Duration) {
        let Some((mut change, _)) = self.following.take() else { return };
        match change.settle(Some(timeout)) {
            Ok(true) => {}
            Ok(false) => self.following = Some((change, Instant::now() + FOLLOW_AGAIN)),
            Err(error) => self.note(&format!("stead: cannot update names and published ports: {}", error.chain())),
        }
    }

    /// Starts a hook. What it says comes into the log.
    fn spawn(&mut self, words: &[String]) -> Result<runtime::Session, StartError> {
        let spec = self.spec.blueprint.like_process(words)?;
        let ((out, stdout), (errors, stderr)) = (sys::pipe()?, sys::pipe()?);
        let said = [Capture::of_output(out)?.apart(), Capture::of_errors(errors)?.apart()];
        let stdio = Stdio::Files { stdin: File::open("/dev/null")?.into(), stdout, stderr };
        let session = self.exec(&spec, stdio, Some("hook"))?;
        self.hook_output.extend(said);
        Ok(session)
    }

    fn exec(&self, spec: &ExecSpec, stdio: Stdio, part: Option<&str>) -> Result<runtime::Session, StartError> {
        let running =
            self.running.as_ref().ok_or_else(|| StartError { message: "the container is not running".into(), status: 126 })?;
        runtime::exec(&running.command, spec, &self.spec.blueprint, stdio, &self.host, part)
    }

    /// Sets the process that waits until the container is up.
    pub fn begun_by(&mut self, starter: UnixStream) {
        self.starter = Some(starter);
    }

    /// The loop: wait for any event, then handle all that have come.
    ///
    /// # Errors
    /// Fails when waiting fails, since the monitor cannot react to anything then.
    pub fn stay(&mut self) -> Result<()> {
        let signals = sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
            .context(|| "cannot wait for signals".into())?;
        self.listener.set_nonblocking(true).context(|| "cannot listen".into())?;
        let mut buffer = vec![0; 64 << 10];
        // A child may have ended before its signal was blocked.
        self.reap();
        self.follow_hooks();
        loop {
            if self.running.is_none() && self.restart_at.is_none() {
                return self.finish();
            }
            let timeout = self.next_due().map(|due| due.saturating_duration_since(Instant::now()));
            self.accept_at = self.accept_at.filter(|at| Instant::now() < *at);
            let accepts = self.accept_at.is_none();
            // Without free descriptors nothing can be accepted, and the listener would stay readable.
            let mut waiting: Vec<&dyn AsFd> = vec![&signals, if accepts { &self.listener } else { &signals }];
            let line = self.running.as_ref().map(|running| &running.line);
            if let Some(line) = line {
                waiting.push(line);
            }
            let check = self.checker.as_ref().and_then(Checker::output);
            let check_at = waiting.len();
            if let Some(output) = check {
                waiting.push(output);
            }
            let checking = check.is_some();
            let before_captures = waiting.len();
            waiting.extend(self.streams());
            let before_clients = waiting.len();
            waiting.extend(self.clients.iter().map(|client| client as &dyn AsFd));
            let before_holders = waiting.len();
            waiting.extend(self.holders.iter().map(|holder| holder as &dyn AsFd));
            waiting.extend(self.sessions.opening().map(|told| told as &dyn AsFd));
            let before_idle = waiting.len();
            let idle = [&self.waiting_for_end, &self.waiting_for_exit];
            waiting.extend(idle.into_iter().flatten().map(|client| client as &dyn AsFd));
            waiting.extend(self.attached.iter().map(|client| client as &dyn AsFd));
            let ready = sys::wait_readable(&waiting, timeout.map(|time| time.saturating_add(Duration::from_millis(1))))
                .context(|| "cannot wait".into())?;
            drop(waiting);
            // These clients have nothing more to say: one that can be read has hung up.
            let mut said = ready.iter().skip(before_idle);
            for idle in [&mut self.waiting_for_end, &mut self.waiting_for_exit] {
                idle.retain(|_| said.next() != Some(&true));
            }
            self.attached.retain(|_| said.next() != Some(&true));
            if let Some(checker) = self.checker.as_mut().filter(|_| checking && ready.get(check_at) == Some(&true)) {
                checker.drain();
            }
            self.read_streams(ready.get(before_captures..).unwrap_or_default(), &mut buffer);
            if ready.first() == Some(&true) {
                while let Ok(Some(signal)) = signals.read_signal() {
                    if signal.ssi_signo != u32::try_from(libc::SIGCHLD).unwrap_or(0) {
                        self.stop(None, None);
                    }
                }
                self.reap();
            }
            let said =
                |from: usize, count: usize| (from..from + count).map(|at| ready.get(at) == Some(&true)).collect::<Vec<_>>();
            let (readable, gone) = (said(before_clients, self.clients.len()), said(before_holders, self.holders.len()));
            self.let_go(&gone);
            self.sessions.answer(self.is_still());
            self.check_end(&mut buffer);
            self.serve(&readable);
            if accepts && ready.get(1) == Some(&true) {
                self.accept();
            }
            self.tick();
        }
    }

    /// The streams whose output comes into the log.
    fn streams(&self) -> impl Iterator<Item = &dyn AsFd> {
        self.captures.iter().chain(&self.hook_output).map(|capture| capture as &dyn AsFd)
    }

    /// Reads those of the [`streams`](Self::streams) that are ready, and forgets those that have ended.
    fn read_streams(&mut self, ready: &[bool], buffer: &mut [u8]) {
        let mut ready = ready.iter();
        let (log, attached) = (&mut self.log, &mut self.attached);
        let own = |capture: &mut Capture| {
            ready.next() != Some(&true) || capture.read(log, buffer, |bytes| attached.retain_mut(|client| client.show(bytes)))
        };
        self.captures.retain_mut(own);
        let log = &mut self.log;
        self.hook_output.retain_mut(|capture| ready.next() != Some(&true) || capture.read(log, buffer, |_| {}));
    }

    fn accept(&mut self) {
        self.accept_at = loop {
            match self.listener.accept() {
                // No client can make the monitor wait, neither by half a request nor by not reading its answer.
                Ok((client, _)) if client.set_nonblocking(true).is_ok() => self.clients.push(Client::new(client)),
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    break Some(Instant::now() + ACCEPT_AGAIN);
                }
                Err(_) => break None,
            }
        };
    }

    fn next_due(&self) -> Option<Instant> {
        let checker = self.checker.as_ref().filter(|_| self.running.is_some() && !self.is_still()).map(Checker::due);
        let stopping = self.stopping.as_ref().filter(|stopping| !stopping.killed).map(|stopping| stopping.deadline);
        let following = self.following.as_ref().map(|(_, at)| *at);
        [
            checker,
            stopping,
            self.overdue_at(),
            self.restart_at,
            self.accept_at,
            following,
            self.sessions.due().filter(|_| !self.is_still()),
            self.hooks.as_ref().filter(|_| !self.is_still()).map(Hooks::due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn tick(&mut self) {
        self.follow_hooks();
        let now = Instant::now();
        let still = self.is_still();
        if self.following.as_ref().is_some_and(|(_, at)| now >= *at) {
            self.follow_on(Duration::ZERO);
        }
        if let (Some(checker), Some(running)) = (&mut self.checker, &self.running)
            && !still
        {
            let target = Target { command: &running.command, blueprint: &self.spec.blueprint, host: &self.host };
            checker.tick(&target);
        }
        self.take_health();
        if self.overdue_at().is_some_and(|at| now >= at) {
            self.kill_overdue();
        }
        if let Some(stopping) = &mut self.stopping
            && !stopping.killed
            && now >= stopping.deadline
        {
            stopping.killed = true;
            self.signal(libc::SIGKILL);
        }
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            // One that somebody asked for is none that the container needed.
            if self.restarters.is_empty() {
                self.status.restarts += 1;
                self.in_a_row += 1;
            }
            self.event("restart", &[("count", self.status.restarts.to_string())]);
            if let Err(error) = self.start() {
                let why = format!("cannot restart the container: {}", error.message);
                self.note(&format!("stead: {why}"));
                self.answer_restarters(Some(why));
                self.status.error = Some(error.message);
                self.ended(error.status);
            } else {
                self.answer_restarters(None);
                self.follow(Duration::ZERO);
            }
        }
    }

    fn take_health(&mut self) {
        let Some(checker) = &self.checker else { return };
        if self.status.health != checker.health || self.status.health_output != checker.output {
            self.status.health = checker.health;
            self.status.health_output = checker.output.clone();
            let (health, changed) = (checker.health, self.told_health != checker.health);
            self.tell();
            if changed {
                self.told_health = health;
                self.event("health_status", &[("health", format!("{health:?}").to_lowercase())]);
                if self.spec.in_turns {
                    self.follow(Duration::ZERO);
                }
                if health == Health::Unhealthy && self.spec.restart_unhealthy && !self.status.stopped && self.stopping.is_none() {
                    self.note("stead: the container is unhealthy and is restarted");
                    self.recycling = true;
                    self.signal(self.spec.stop_signal);
                    self.stopping = Some(Stopping { deadline: Instant::now() + self.spec.stop_grace.into(), killed: false });
                }
            }
        }
    }

    fn signal(&self, signal: i32) {
        if let Some(running) = &self.running {
            // If the command has ended already, it needs no signal.
            let _ = sys::signal_process(&running.command, signal);
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ended)) = sys::reap() {
            if self.sessions.reaped(pid, ended.status())
                || self.hooks.as_mut().is_some_and(|hooks| hooks.reaped(pid, ended.status()))
            {
                continue;
            }
            if self.checker.as_mut().is_some_and(|checker| checker.reaped(pid, ended.status())) {
                self.take_health();
            }
        }
    }
}

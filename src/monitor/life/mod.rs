//! A monitor's life: start the container, stay in one loop of waiting, end with it.

use super::control::{self, Reply, Request};
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
use crate::project::{Limits, Restart};
use crate::runtime::{self, Cgroup, ExecSpec, Host, Running, StartError, Stdio};
use crate::store::{Lease, Store};
use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// The first wait before a restart; it doubles up to a minute, as Docker's does.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// A container that lived this long starts its back-off anew.
const SETTLED: Duration = Duration::from_secs(10);
/// How long somebody who waits for an answer also waits until ports and names have followed.
const FOLLOW: Duration = Duration::from_secs(5);
/// When it is looked again whether the lock of ports and names is free.
const FOLLOW_AGAIN: Duration = Duration::from_millis(20);

/// A stop that is under way.
struct Stopping {
    deadline: Instant,
    killed: bool,
}

/// A container's monitor: what it was told, and what it knows.
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
    checker: Option<Checker>,
    sessions: Sessions,
    clients: Vec<UnixStream>,
    waiting_for_end: Vec<UnixStream>,
    /// Those who asked to be told when the command ends, be it started again or not.
    waiting_for_exit: Vec<UnixStream>,
    attached: Vec<UnixStream>,
    /// Those for whom it is held still, until they hang up.
    holders: Vec<UnixStream>,
    terminal: Option<OwnedFd>,
    /// It is being stopped because it is unhealthy, and starts again.
    recycling: bool,
    told_health: Health,
    stopping: Option<Stopping>,
    /// Those of the start, or those before the stop.
    hooks: Option<Hooks>,
    /// The signal and the grace that follow once the hooks before them are done.
    stop_after_hooks: Option<(i32, Duration)>,
    /// Whoever started this monitor, until the container is up.
    starter: Option<UnixStream>,
    restart_at: Option<Instant>,
    backoff: Duration,
    started: Instant,
    oom_before: u64,
    /// Keeps what the container runs from in the store.
    _lease: Option<Lease>,
    /// A change that ports and names have not followed yet, and when to try again.
    following: Option<(Change, Instant)>,
    /// Follows the end of this monitor, if it is killed.
    heir: Option<Heir>,
}

impl Monitor {
    /// Starts its container, or what has to run before it.
    ///
    /// # Errors
    /// Why that cannot be.
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
        // What an earlier monitor told must not be taken for this one's.
        folder.tell(&status);
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
            checker: None,
            sessions: Sessions::default(),
            clients: Vec::new(),
            waiting_for_end: Vec::new(),
            waiting_for_exit: Vec::new(),
            attached: Vec::new(),
            holders: Vec::new(),
            terminal: None,
            recycling: false,
            told_health: Health::None,
            stopping: None,
            hooks: None,
            stop_after_hooks: None,
            starter: None,
            restart_at: None,
            backoff: FIRST_BACKOFF,
            started: Instant::now(),
            oom_before: 0,
            _lease: lease,
            following: None,
            heir: None,
        };
        if let (false, Some(home)) = (monitor.ports.is_empty(), &monitor.spec.home) {
            let heir = Heir::begin(home, &monitor.instance());
            monitor.heir = Some(heir.context(|| "cannot leave an heir behind, for published ports".into())?);
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

    /// The name of the container's instance, as its directory has it.
    fn instance(&self) -> String {
        let folder = self.folder.path().parent().and_then(|folder| folder.file_name());
        folder.unwrap_or_default().to_string_lossy().into_owned()
    }

    fn tell(&self) {
        self.folder.tell(&self.status);
    }

    fn start(&mut self) -> Result<(), StartError> {
        let blueprint = &self.spec.blueprint;
        let mut captures = Vec::new();
        let stdio = if blueprint.has_terminal() {
            Stdio::Terminal
        } else {
            let (out_read, out_write) = sys::pipe()?;
            let (err_read, err_write) = sys::pipe()?;
            captures.push(Capture::new(out_read, "stdout")?);
            captures.push(Capture::new(err_read, "stderr")?);
            Stdio::Files { stdin: File::open("/dev/null")?.into(), stdout: out_write, stderr: err_write }
        };
        let mut running = runtime::start(blueprint, &self.contents, stdio, &self.host, &self.cgroup, |pid, process| {
            network::connect(pid, process, blueprint)
        })?;
        self.terminal = None;
        if let Some(terminal) = running.terminal.take() {
            self.terminal = terminal.try_clone().ok();
            captures.push(Capture::new(terminal, "stdout")?);
        }
        self.captures = captures;
        self.started = Instant::now();
        self.oom_before = self.cgroup.out_of_memory_kills();
        self.checker = self.spec.health.as_ref().and_then(Checker::new);
        self.status.state = State::Running;
        self.status.pid = running.pid;
        self.status.started_at = Some(now_ms());
        self.status.exit_code = None;
        self.status.finished_at = None;
        self.status.health = self.checker.as_ref().map_or(Health::None, |checker| checker.health);
        self.running = Some(running);
        self.tell();
        self.event("start", &[]);
        self.hooks = Some(Hooks::of("start", &self.spec.on_start));
        Ok(())
    }

    /// Goes on with hooks as far as can be now; what waits for them follows.
    fn follow_hooks(&mut self) {
        // What is still neither begins nor ends anything, and its time does not run.
        if let (true, Some(hooks)) = (self.is_still(), &mut self.hooks) {
            return hooks.hold(Instant::now());
        }
        while let Some(mut hooks) = self.hooks.take() {
            let (step, failed) = hooks.next(Instant::now());
            failed.iter().for_each(|line| self.note(line));
            match step {
                Step::Wait => {
                    self.hooks = Some(hooks);
                    return;
                }
                Step::Start(words) => {
                    let started = self.spawn(&words);
                    let deadline = Instant::now() + self.spec.stop_grace.into();
                    let failed = hooks.begun(words, started, deadline);
                    failed.iter().for_each(|line| self.note(line));
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

    /// Tells whoever started this monitor that the container is up, its hooks included.
    fn tell_starter(&mut self) {
        if let Some(starter) = self.starter.take() {
            // Whoever is gone needs not to know.
            let _ = control::send(&starter, &Reply { done: true, ..Reply::default() }, &[]);
        }
    }

    /// Adds a line of the monitor's own to the log.
    fn note(&mut self, text: &str) {
        self.log.note(text);
        let _ = self.log.flush();
    }

    /// Tells the instance's events.
    fn event(&self, action: &str, attributes: &[(&str, String)]) {
        let name = self.spec.title.rsplit('/').next().unwrap_or_default();
        events::add(&self.spec.events, &Event::now("container", action, name, attributes));
    }

    /// Has published ports and names follow what was just told. What is in the way within `timeout` is
    /// tried again later: the container's output is never kept waiting for long.
    fn follow(&mut self, timeout: Duration) {
        let on_network = !self.spec.blueprint.beyond.interfaces.is_empty();
        let (Some(home), true) = (&self.spec.home, on_network) else { return };
        match Change::of_container(home, &self.instance(), !self.ports.is_empty()) {
            Ok(change) => self.following = Some((change, Instant::now())),
            Err(error) => return self.note(&format!("stead: names and published ports do not follow: {}", error.chain())),
        }
        self.follow_on(timeout);
    }

    fn follow_on(&mut self, timeout: Duration) {
        let Some((mut change, _)) = self.following.take() else { return };
        match change.settle(Some(timeout)) {
            Ok(true) => {}
            Ok(false) => self.following = Some((change, Instant::now() + FOLLOW_AGAIN)),
            Err(error) => self.note(&format!("stead: names and published ports do not follow: {}", error.chain())),
        }
    }

    fn spawn(&self, words: &[String]) -> Result<runtime::Session, StartError> {
        let open = || OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let spec = self.spec.blueprint.like_process(words)?;
        self.exec(&spec, Stdio::Files { stdin: open()?, stdout: open()?, stderr: open()? })
    }

    fn exec(&self, spec: &ExecSpec, stdio: Stdio) -> Result<runtime::Session, StartError> {
        let running =
            self.running.as_ref().ok_or_else(|| StartError { message: "the container is not running".into(), status: 126 })?;
        runtime::exec(&running.command, spec, &self.spec.blueprint, stdio, &self.host)
    }

    /// Notes who waits for its first word.
    pub fn begun_by(&mut self, starter: UnixStream) {
        self.starter = Some(starter);
    }

    /// The loop: wait for anything, then deal with all that is there.
    ///
    /// # Errors
    /// Those of waiting: nobody can be heard any more.
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
            let mut waiting: Vec<&dyn AsFd> = vec![&signals, &self.listener];
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
            waiting.extend(self.captures.iter().map(|capture| capture as &dyn AsFd));
            let before_clients = waiting.len();
            waiting.extend(self.clients.iter().map(|client| client as &dyn AsFd));
            let before_holders = waiting.len();
            waiting.extend(self.holders.iter().map(|holder| holder as &dyn AsFd));
            waiting.extend(self.sessions.opening().map(|told| told as &dyn AsFd));
            let ready = sys::wait_readable(&waiting, timeout.map(|time| time.saturating_add(Duration::from_millis(1))))
                .context(|| "cannot wait".into())?;
            drop(waiting);
            if let Some(checker) = self.checker.as_mut().filter(|_| checking && ready.get(check_at) == Some(&true)) {
                checker.drain();
            }
            let mut index = before_captures;
            let (log, attached) = (&mut self.log, &mut self.attached);
            self.captures.retain_mut(|capture| {
                let readable = ready.get(index) == Some(&true);
                index += 1;
                !readable || capture.read(log, &mut buffer, |bytes| show(attached, bytes))
            });
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
            if ready.get(1) == Some(&true) {
                while let Ok((client, _)) = self.listener.accept() {
                    // Half a request must not keep the container's logs from being read.
                    if client.set_read_timeout(Some(Duration::from_secs(1))).is_ok() {
                        self.clients.push(client);
                    }
                }
            }
            self.tick();
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let checker = self.checker.as_ref().filter(|_| self.running.is_some() && !self.is_still()).map(Checker::due);
        let stopping = self.stopping.as_ref().filter(|stopping| !stopping.killed).map(|stopping| stopping.deadline);
        let following = self.following.as_ref().map(|(_, at)| *at);
        [
            checker,
            stopping,
            self.restart_at,
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
        if let Some(stopping) = &mut self.stopping
            && !stopping.killed
            && now >= stopping.deadline
        {
            stopping.killed = true;
            self.signal(libc::SIGKILL);
        }
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            self.status.restarts += 1;
            self.event("restart", &[("count", self.status.restarts.to_string())]);
            if let Err(error) = self.start() {
                self.note(&format!("stead: cannot start again: {}", error.message));
                self.status.error = Some(error.message);
                self.ended(error.status);
            } else {
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
                if health == Health::Unhealthy && self.spec.restart_unhealthy && !self.status.stopped && self.stopping.is_none() {
                    self.note("stead: it is unhealthy, and is started again");
                    self.recycling = true;
                    self.signal(self.spec.stop_signal);
                    self.stopping = Some(Stopping { deadline: Instant::now() + self.spec.stop_grace.into(), killed: false });
                }
            }
        }
    }

    fn signal(&self, signal: i32) {
        if let Some(running) = &self.running {
            // A command that is gone already needs no signal.
            let _ = sys::signal_process(&running.command, signal);
        }
    }

    /// Pauses or resumes; while it is paused no check runs, so none can fail.
    fn freeze(&mut self, frozen: bool) -> io::Result<()> {
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

    /// Whether its processes are stopped where they are: nothing can be started in it then.
    fn is_still(&self) -> bool {
        self.status.state == State::Paused || !self.holders.is_empty()
    }

    fn stop_or_go(&self, frozen: bool) -> io::Result<()> {
        self.cgroup.freeze(&self.host, frozen).inspect_err(|_| {
            if frozen {
                // Half of it must not stay behind; the first error is the one to tell.
                let _ = self.cgroup.freeze(&self.host, false);
            }
        })
    }

    /// Holds it still for somebody.
    fn hold(&mut self, client: UnixStream) -> Result<(), (UnixStream, io::Error)> {
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

    /// Lets it go on when the last who held it has hung up.
    fn let_go(&mut self, gone: &[bool]) {
        let mut gone = gone.iter();
        let before = self.holders.len();
        self.holders.retain(|_| gone.next() != Some(&true));
        if self.holders.len() < before && !self.is_still() {
            self.go_on();
        }
    }

    /// Lets it go on, whoever wanted it still.
    fn thaw(&mut self) {
        let held = !std::mem::take(&mut self.holders).is_empty();
        if self.status.state == State::Paused {
            // What is not running has nothing to be let go.
            let _ = self.freeze(false);
        } else if held {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        if let Err(error) = self.stop_or_go(false) {
            self.note(&format!("stead: it does not go on after it was held still: {error}"));
        }
    }

    fn adjust(&mut self, limits: Limits) -> io::Result<()> {
        let path = self.spec.blueprint.cgroup();
        let old = &self.spec.blueprint.beyond.limits;
        let changed = self.cgroup.change(&self.host, &path, &limits, old);
        if changed.is_err() {
            // Back to what held before, as far as it can be.
            let _ = self.cgroup.change(&self.host, &path, old, &limits);
            return changed;
        }
        self.spec.blueprint.beyond.limits = limits;
        self.folder.write_spec(&self.spec).map_err(|error| io::Error::other(error.chain()))
    }

    fn stop(&mut self, signal: Option<i32>, grace: Option<Duration>) {
        self.status.stopped = true;
        self.event("stop", &[]);
        if self.running.is_none() {
            self.restart_at = None;
            self.status.state = State::Exited;
            return;
        }
        // What is frozen hears no signal.
        self.thaw();
        let signal = signal.unwrap_or(self.spec.stop_signal);
        let grace = grace.unwrap_or_else(|| self.spec.stop_grace.into());
        if self.stopping.is_some() {
            return self.signal_to_stop(signal, grace);
        }
        if self.stop_after_hooks.replace((signal, grace)).is_none() {
            // One that is to run when it starts is too late.
            self.hooks.replace(Hooks::of("stop", &self.spec.on_stop)).into_iter().for_each(Hooks::end);
        }
        self.follow_hooks();
    }

    fn signal_to_stop(&mut self, signal: i32, grace: Duration) {
        self.signal(signal);
        self.stopping = Some(Stopping { deadline: Instant::now() + grace, killed: false });
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

    /// Looks whether the command has ended.
    fn check_end(&mut self, buffer: &mut [u8]) {
        let Some(status) = self.running.as_ref().and_then(Running::ended) else { return };
        // Its namespace is gone with it, so the pipes end: read what is left.
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.captures.is_empty() && Instant::now() < deadline {
            let waiting: Vec<&dyn AsFd> = self.captures.iter().map(|capture| capture as &dyn AsFd).collect();
            let ready = sys::wait_readable(&waiting, Some(Duration::from_millis(200))).unwrap_or_default();
            let mut index = 0;
            let (log, attached) = (&mut self.log, &mut self.attached);
            self.captures.retain_mut(|capture| {
                index += 1;
                ready.get(index - 1) != Some(&true) || capture.read(log, buffer, |bytes| show(attached, bytes))
            });
        }
        self.captures.clear();
        self.running = None;
        self.ended(status);
    }

    /// Decides what follows an end.
    fn ended(&mut self, code: i32) {
        if self.is_still() {
            // Killed from outside: nothing could be started where everything is stopped.
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
            self.note("stead: the kernel killed a process of this container for want of memory");
            self.event("oom", &[]);
        }
        self.event("die", &[("exit", code.to_string())]);
        for client in std::mem::take(&mut self.waiting_for_exit) {
            let _ = control::send(&client, &Reply { done: true, exit: Some(code), ..Reply::default() }, &[]);
        }
        if self.started.elapsed() >= SETTLED {
            self.backoff = FIRST_BACKOFF;
        }
        let recycled = std::mem::take(&mut self.recycling);
        let again = !self.status.stopped
            && (recycled
                || match self.spec.restart {
                    Restart::No => false,
                    Restart::Always | Restart::UnlessStopped => true,
                    Restart::OnFailure(max) => code != 0 && max.is_none_or(|max| self.status.restarts < max),
                });
        if again {
            self.status.state = State::Restarting;
            self.restart_at = Some(Instant::now() + self.backoff);
            self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        } else {
            self.status.state = State::Exited;
        }
        self.tell();
        if again {
            self.follow(Duration::ZERO);
        }
        // Whoever is attached finds the exit status told when the stream ends.
        self.attached.clear();
    }

    /// Reads requests of clients that have something to say.
    fn serve(&mut self, readable: &[bool]) {
        for (index, client) in std::mem::take(&mut self.clients).into_iter().enumerate() {
            if readable.get(index) == Some(&true) {
                self.request(client);
            } else {
                self.clients.push(client);
            }
        }
    }

    fn request(&mut self, client: UnixStream) {
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
                // Whoever asked is gone, if it cannot be sent.
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
                // Whoever reads slowly misses output; the container never waits for a reader.
                if client.set_nonblocking(true).is_ok() {
                    self.attached.push(client);
                }
            }
            Ok(Request::Signal { signal }) => {
                self.event("kill", &[("signal", signal.to_string())]);
                // What is frozen would hear no signal but this one, which Docker lets through.
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
                refuse("the container is paused; `stead unpause` lets it go on".into(), Some(126));
            }
            Ok(Request::Exec { .. }) if self.is_still() => {
                refuse("the container is held still while its files are read; try again in a moment".into(), Some(126));
            }
            Ok(Request::Exec { spec }) => {
                let mut fds = fds.into_iter();
                let stdio = match (spec.process.terminal() == Some(true), fds.next(), fds.next(), fds.next()) {
                    (true, ..) => Stdio::Terminal,
                    (false, Some(stdin), Some(stdout), Some(stderr)) => Stdio::Files { stdin, stdout, stderr },
                    _ => return refuse("the standard streams did not come along".into(), None),
                };
                match self.exec(&spec, stdio) {
                    Err(error) => refuse(error.message, Some(error.status)),
                    Ok(session) => self.sessions.add(session, client),
                }
            }
        }
    }

    /// The end: nothing of the container is left, everybody who waits is told.
    fn finish(&mut self) -> Result<()> {
        let gone = self.cgroup.destroy();
        let _ = std::fs::remove_file(self.folder.join("control"));
        self.tell();
        // The sockets go with this process: what led here must be gone before.
        self.follow(FOLLOW);
        // What did not follow in time is left to the heir.
        if self.following.is_none() {
            self.heir.take().into_iter().for_each(Heir::dismiss);
        }
        for client in &self.waiting_for_end {
            let _ = control::send(client, &Reply { done: true, exit: self.status.exit_code, ..Reply::default() }, &[]);
        }
        gone.context(|| "cannot clean up after the container".into())
    }
}

/// Gives output to those who are attached, as far as they take it at once.
fn show(attached: &mut Vec<UnixStream>, bytes: &[u8]) {
    attached.retain_mut(|client| match client.write(bytes) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    });
}

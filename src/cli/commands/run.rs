use super::super::Context;
use super::super::relay::{Keys, relay};
use super::super::streams::{self, Relays};
use super::super::ui::{Shown, Style, Table};
use super::allow::Allow;
use crate::engine::{self, LoadedProject, OneOff, UpOptions, Wish};
use crate::model::kdl_text::quoted;
use crate::model::{Context as _, Error, Result};
use crate::runtime::{self, Blueprint, Cgroup, Running, Stdio};
use crate::sys;
use nix::sys::signalfd::SignalFd;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Runs a command in a new container, which is removed afterwards.
///
/// NAME is a task of the project, a container of the project (its environment, networks and mounts are used, its ports are
/// not published) or an image of the project. It may also be an image in a registry or in the store; that needs no project.
/// Words after the name of a task are added to its command. Without a name, the tasks are listed. A job is run here as a container
/// is; with --again the job itself runs again, as `up` would run it.
///
/// Example: stead run web python3 manage.py shell
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Do not give the command a terminal, even if this is one.
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Accepted for compatibility with Docker: the container is always removed, and a terminal is the default.
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Set an environment variable; without a value, pass on this process's own; may be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// Run the command as this user.
    #[arg(short, long)]
    user: Option<String>,
    /// Run the command in this working directory.
    #[arg(short, long)]
    workdir: Option<OsString>,
    /// Use this program instead of the entrypoint and the command that goes with it; "" for none.
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Run a job of the project again, whatever its last result was; what waits for it goes on.
    #[arg(long, requires = "name", conflicts_with_all = ["env", "user", "workdir", "entrypoint", "timings", "command"])]
    again: bool,
    /// Show how long each phase took.
    #[arg(long)]
    timings: bool,
    #[command(flatten)]
    allow: Allow,
    /// A task, a container or an image of the project, or else the name of an image.
    name: Option<String>,
    /// The command and its arguments; by default the container's or image's own. For a task, further arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let Some(name) = arguments.name.as_deref() else { return tasks(context) };
    if arguments.again {
        return again(name, arguments, context);
    }
    // This process stays with the container, as a monitor does.
    sys::protect().context(|| "cannot protect this program's file".into())?;
    let mut timings = Timings::begin();
    let options = UpOptions { command: "run".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let shown = Shown::new(&context.ui, false);
    let own = if context.has_project() { Some(context.settled(&options)?) } else { None };
    let is_own = |loaded: &LoadedProject| {
        loaded.project.containers.contains_key(name)
            || loaded.project.images.contains_key(name)
            || !name.contains([':', '/', '@'])
    };
    let (loaded, name, loose) = match own.filter(is_own) {
        Some(loaded) => (loaded, name.to_owned(), false),
        None => {
            let place = engine::loose(&context.options.home, name, &shown);
            shown.clear();
            let (folder, name) = place?;
            (context.at(folder).settled(&options)?, name, true)
        }
    };
    if loaded.project.containers.get(name.as_str()).is_some_and(|container| container.job.is_some()) {
        context.ui.say(format!("this run leaves the result of the job as it is; `stead run --again {name}` runs the job itself"));
    }
    timings.mark("project");
    let tty = (!arguments.no_tty || arguments.tty || arguments.interactive) && has_terminal();
    let wish = Wish {
        command: arguments.command.clone(),
        entrypoint: arguments.entrypoint.clone(),
        env: super::exec::variables(&arguments.env),
        user: arguments.user.clone(),
        workdir: arguments.workdir.clone(),
        tty,
        ..Wish::default()
    };
    let one_off = engine::one_off(&loaded, &name, wish, &options, &shown);
    shown.clear();
    let one_off = one_off?;
    timings.mark("plan and prepare");
    let status = until_its_end(&one_off, tty, &mut timings);
    // Nobody would type `down` for an image that runs without a project.
    if loose {
        engine::down(&loaded.instance, None, engine::DownOptions { if_unused: true, ..engine::DownOptions::default() })?;
        engine::forget_loose(&loaded.instance)?;
    }
    timings.mark("clean");
    if arguments.timings {
        context.ui.say(timings.text());
    }
    status
}

/// Runs a job again.
fn again(name: &str, arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    let options = UpOptions { command: "run --again".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let loaded = context.settled(&options)?;
    let again = |reporter: &dyn engine::Reporter| engine::run_again(&loaded, name, options, reporter);
    super::converge::converge(&loaded.instance, context, started, again)
}

/// Lists the tasks of the project.
fn tasks(context: &Context) -> Result<u8> {
    let error = Error::new("`stead run` needs the name of a task, a container or an image").usage();
    if !context.has_project() {
        return Err(error.hint("for example: stead run debian:12 cat /etc/os-release"));
    }
    let loaded = context.project()?;
    let mut table = Table::new(&["TASK", "CONTAINER", "COMMAND"], &[]);
    for (name, task) in &loaded.project.tasks {
        let words: Vec<String> = task.cmd.iter().map(|word| shown_word(word)).collect();
        table.row([(name.to_string(), Some(Style::Bold)), (task.container.to_string(), None), (words.join(" "), None)]);
    }
    if table.is_empty() {
        return Err(error.hint("the project has no tasks; a `task` of the project file gives a command a name"));
    }
    context.ui.result(table.text(&context.ui));
    Ok(0)
}

/// A word of a command as it is shown: in quotes if it would not look like one word.
fn shown_word(word: &str) -> String {
    let plain = !word.is_empty() && !word.contains(|letter: char| letter.is_whitespace() || letter == '"' || letter.is_control());
    if plain { word.to_owned() } else { quoted(word) }
}

/// Whether this process has a terminal that a command can use.
pub fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Runs a container for one command here, in this process's terminal, and removes it when the command has ended.
pub fn see_through(one_off: &OneOff, tty: bool) -> Result<u8> {
    until_its_end(one_off, tty, &mut Timings::begin())
}

fn until_its_end(one_off: &OneOff, tty: bool, timings: &mut Timings) -> Result<u8> {
    let mut rest = Rest::default();
    let parts = (&*one_off.spec.blueprint, one_off.contents.as_slice());
    let status = stay(parts, tty, &|running| one_off.running(running), &mut rest, timings);
    one_off.clean(|| rest.end());
    status
}

/// How long the phases of a run took.
struct Timings {
    last: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timings {
    fn begin() -> Self {
        Self { last: Instant::now(), phases: Vec::new() }
    }

    /// Ends a phase.
    fn mark(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now - self.last));
        self.last = now;
    }

    fn text(&self) -> String {
        let shown = |(phase, time): &(&str, Duration)| format!("{phase} {:.2} ms", time.as_secs_f64() * 1000.0);
        let all: Duration = self.phases.iter().map(|(_, time)| *time).sum();
        let phases: Vec<String> = self.phases.iter().map(shown).collect();
        format!("{}; {}", phases.join(", "), shown(&("in all", all)))
    }
}

/// What is left of a container whose command has ended.
#[derive(Default)]
struct Rest {
    guard: Option<i32>,
    cgroup: Option<Cgroup>,
    /// Whether the guard has reported the end of the command, and so is ending itself.
    ended: bool,
}

impl Rest {
    fn end(self) {
        let wait = || self.guard.map(sys::wait_for);
        if self.ended {
            let _ = wait();
        }
        // Whatever is still running is killed here.
        let _ = self.cgroup.map(|cgroup| cgroup.empty());
        if !self.ended {
            let _ = wait();
        }
    }
}

/// Runs a container here, in this process's terminal, and ends whatever is left of it.
pub fn attend(blueprint: &Blueprint, contents: &[Vec<u8>], tty: bool) -> Result<u8> {
    let (mut rest, mut timings) = (Rest::default(), Timings::begin());
    let status = stay((blueprint, contents), tty, &|_| {}, &mut rest, &mut timings);
    rest.end();
    status
}

/// Starts the container, with this process as its monitor, and stays until its command ends.
fn stay(
    (blueprint, contents): (&Blueprint, &[Vec<u8>]),
    tty: bool,
    begun: &dyn Fn(&Running),
    rest: &mut Rest,
    timings: &mut Timings,
) -> Result<u8> {
    let host = runtime::host();
    let cgroup = rest.cgroup.insert(Cgroup::create(host, blueprint).context(|| "cannot limit the container".into())?);
    timings.mark("cgroup");
    let (stdio, relays) = if tty {
        (Stdio::Terminal, None)
    } else {
        let ([stdin, stdout, stderr], relays) = streams::own()?;
        (Stdio::Files { stdin, stdout, stderr }, Some(relays))
    };
    let running = runtime::start(blueprint, contents, stdio, host, cgroup, |pid, process| {
        timings.mark("namespaces");
        let connected = crate::network::connect(pid, process, blueprint);
        timings.mark("network");
        connected
    });
    let running = running.map_err(|error| Error::new(error.message).status(u8::try_from(error.status).unwrap_or(125)))?;
    rest.guard = Some(running.guard);
    timings.mark("root and start");
    begun(&running);
    // The threads that pass bytes on must not be the ones that a signal ends.
    let signals = running.terminal.is_none().then(|| sys::signal_descriptor(&forwarded()));
    let signals = signals.transpose().context(|| "cannot wait for signals".into())?;
    let relaying = relays.map(Relays::begin);
    let status = match (&running.terminal, &signals) {
        (Some(terminal), _) => {
            relay(terminal, terminal, Some(&running), &Keys::parse("")?)?;
            running.ended()
        }
        (None, Some(signals)) => forward(&running, signals)?,
        (None, None) => running.ended(),
    };
    if let Some(relaying) = relaying {
        relaying.finish();
    }
    rest.ended = status.is_some();
    timings.mark("command");
    Ok(u8::try_from(status.unwrap_or(137)).unwrap_or(1))
}

/// How long a command may take to end after a signal that asks it to, as in Docker's `stop`.
const GRACE: Duration = Duration::from_secs(10);

/// The signals that are passed on: all but those that cannot be caught, those of this process's own faults and children, and
/// those by which a shell stops and continues its jobs.
fn forwarded() -> Vec<i32> {
    let own =
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP]
            .into_iter()
            .chain([libc::SIGABRT, libc::SIGSYS, libc::SIGPIPE, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT]);
    let own: Vec<i32> = own.collect();
    (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|signal| !own.contains(signal)).collect()
}

/// Waits for the end, and passes signals to this process on. Process 1 of a PID namespace ignores signals that it does not
/// handle (pid_namespaces(7)), so a command that does not end in time after SIGTERM or SIGHUP is killed.
fn forward(running: &Running, signals: &SignalFd) -> Result<Option<i32>> {
    let mut deadline: Option<Instant> = None;
    loop {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        sys::wait_readable(&[&running.line, signals], timeout).context(|| "cannot wait".into())?;
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            // Those two come from the kernel whenever a window changes its size or a socket has urgent data; to some servers
            // they mean something else. What somebody sends is passed on (sigaction(2), `si_code`).
            if matches!(number, libc::SIGWINCH | libc::SIGURG) && signal.ssi_code > 0 {
                continue;
            }
            // It may have ended just now.
            let _ = sys::signal_process(&running.command, number);
            if matches!(number, libc::SIGTERM | libc::SIGHUP) {
                deadline = deadline.or_else(|| Some(Instant::now() + GRACE));
            }
        }
        if let Some(status) = running.ended() {
            return Ok(Some(status));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let _ = sys::signal_process(&running.command, libc::SIGKILL);
            deadline = None;
        }
    }
}

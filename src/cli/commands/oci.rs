//! `stead oci`: runc's commands and arguments, for other tools. Also the program's own name `stead-oci`.

use super::super::relay::{Keys, relay};
use crate::model::{Context as _, Fault, Outcome};
use crate::oci::{self, Bundle, Container, Creation, Execution, Status};
use crate::sys;
use clap::{Parser, Subcommand};
use oci_spec::runtime::{Capability, LinuxResources, Process, Spec};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An OCI runtime, with runc's commands and arguments.
#[derive(Parser, Debug)]
#[command(name = "stead oci", disable_version_flag = true)]
pub struct Arguments {
    /// Where containers are kept.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write errors to a file, too.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Read `cgroupsPath` as systemd's slice:prefix:name.
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted for runc's sake.
    #[arg(long, hide = true)]
    debug: bool,
    #[arg(long, hide = true)]
    rootless: Option<String>,
    #[arg(long, hide = true)]
    criu: Option<String>,
    #[arg(long, hide = true)]
    cgroup_manager: Option<String>,
    /// Print the version.
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args, Debug)]
struct Make {
    /// The bundle's folder.
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// The configuration, if it is not the bundle's config.json; crun has it, too.
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A socket that the terminal's master is sent to.
    #[arg(long)]
    console_socket: Option<PathBuf>,
    #[arg(long)]
    pid_file: Option<PathBuf>,
    #[arg(long)]
    no_pivot: bool,
    #[arg(long, hide = true)]
    no_new_keyring: bool,
    #[arg(long, hide = true)]
    no_subreaper: bool,
    #[arg(long, default_value_t = 0)]
    preserve_fds: u32,
    id: String,
}

#[derive(Subcommand, Debug)]
#[command(defer = true)]
enum Command {
    /// Makes a container up to where it waits for `start`.
    Create(Make),
    /// Lets a container's program begin.
    Start { id: String },
    /// Makes a container, starts it and waits for it.
    Run {
        #[arg(short, long)]
        detach: bool,
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        make: Make,
    },
    /// Prints a container's state as JSON.
    State { id: String },
    /// Sends a signal to a container's first process.
    Kill {
        #[arg(short, long)]
        all: bool,
        id: String,
        #[arg(default_value = "TERM")]
        signal: String,
    },
    /// Removes what a stopped container left.
    Delete {
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Runs a further process in a container.
    Exec {
        #[arg(long)]
        console_socket: Option<PathBuf>,
        #[arg(long)]
        cwd: Option<PathBuf>,
        #[arg(short, long)]
        env: Vec<String>,
        #[arg(short, long)]
        tty: bool,
        #[arg(short, long)]
        user: Option<String>,
        #[arg(short = 'g', long)]
        additional_gids: Vec<u32>,
        /// A process in the specification's form.
        #[arg(short, long)]
        process: Option<PathBuf>,
        #[arg(short, long)]
        detach: bool,
        #[arg(long)]
        pid_file: Option<PathBuf>,
        #[arg(long, hide = true)]
        process_label: Option<String>,
        #[arg(long, hide = true)]
        apparmor: Option<String>,
        #[arg(long)]
        no_new_privs: bool,
        #[arg(short, long)]
        cap: Vec<String>,
        #[arg(long, default_value_t = 0)]
        preserve_fds: u32,
        /// Also in a paused container: the process waits with the others.
        #[arg(long)]
        ignore_paused: bool,
        /// In a cgroup below the container's: [CONTROLLERS:]PATH.
        #[arg(long)]
        cgroup: Vec<String>,
        id: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Lists the processes of a container.
    Ps {
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        id: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        options: Vec<String>,
    },
    /// Stops every process of a container where it is.
    Pause { id: String },
    /// Lets a paused container go on.
    Resume { id: String },
    /// Lists containers.
    List {
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        #[arg(short, long)]
        quiet: bool,
    },
    /// Prints what a container uses, again and again.
    Events {
        #[arg(long)]
        stats: bool,
        #[arg(long, default_value = "5s")]
        interval: String,
        id: String,
    },
    /// Prints what this runtime can do, as JSON.
    Features,
    /// Writes a configuration to begin with.
    Spec {
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
        /// For a user who is not root.
        #[arg(long)]
        rootless: bool,
    },
    /// Changes a container's limits while it runs.
    Update(Update),
}

#[derive(clap::Args, Debug)]
struct Update {
    /// Resources in the specification's form; - for standard input.
    #[arg(short, long)]
    resources: Option<String>,
    #[arg(long)]
    blkio_weight: Option<u64>,
    #[arg(long)]
    cpu_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    #[arg(long)]
    cpu_burst: Option<u64>,
    #[arg(long, alias = "cpu-shares")]
    cpu_share: Option<u64>,
    #[arg(long)]
    cpu_rt_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    #[arg(long)]
    cpuset_cpus: Option<String>,
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// Bytes, or with a suffix as 50M; -1 for no limit.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    id: String,
}

/// A size as runc takes it: bytes, or with one of the suffixes k, m, g, t (of 1024), a `b` behind them or not.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.trim_end_matches('b').trim_end_matches('i');
    let number = plain.trim_end_matches(['k', 'm', 'g', 't']);
    let power = match &plain[number.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("not a size; for example 50M".into()),
    };
    let number: i64 = number.trim().parse().map_err(|_| "not a size; for example 50M".to_owned())?;
    number.checked_mul(1 << power).ok_or_else(|| "too large".into())
}

/// The version of the specification that is spoken.
const SPECIFICATION: &str = "1.2.0";

/// Runs the command line behind `stead oci`.
pub fn main(words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let name = std::ffi::OsString::from("stead oci");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(words)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 1 } else { 0 });
        }
    };
    let ui = super::super::ui::Ui::new();
    match run(&arguments, &ui) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            let message = fault.chain();
            if let Some(path) = &arguments.log {
                log(path, &arguments.log_format, &message);
            }
            ui.say(&format!("error: {message}"));
            ExitCode::from(fault.code())
        }
    }
}

/// Adds an error to the file that whoever called us reads.
fn log(path: &Path, format: &str, message: &str) {
    let time = crate::image::time_text(i64::try_from(crate::monitor::now_ms() / 1000).unwrap_or(0));
    let line = match format {
        "json" => json!({ "level": "error", "msg": message, "time": time }).to_string(),
        _ => format!("time={time:?} level=error msg={message:?}"),
    };
    let _ = OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{line}"));
}

fn run(arguments: &Arguments, ui: &super::super::ui::Ui) -> Outcome<u8> {
    if arguments.version {
        ui.result(&format!("stead version {}\nspec: {SPECIFICATION}", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    if let Some(path) = &arguments.log {
        OpenOptions::new().create(true).append(true).open(path).doing(|| format!("cannot write the log {}", path.display()))?;
    }
    let root = arguments.root.clone().unwrap_or_else(|| "/run/stead-oci".into());
    let load = |id: &str| Container::load(&root, id);
    let Some(command) = &arguments.command else {
        return Err(Fault::new("a command was expected; `stead oci --help` lists them"));
    };
    if matches!(command, Command::Create(_) | Command::Run { .. } | Command::Exec { .. }) {
        // A container must not reach this program's file (CVE-2019-5736).
        sys::protect().doing(|| "cannot protect this program's file".into())?;
    }
    match command {
        Command::Create(make) => {
            let console = make.console_socket.as_deref().map(connect).transpose()?;
            let bundle = Bundle::read(&make.bundle, make.config.as_deref())?;
            oci::create(creation(arguments, &root, make, bundle, console)).map(|_| 0)
        }
        Command::Start { id } => oci::start(&load(id)?).map(|()| 0),
        Command::Run { detach, keep, make } => whole(arguments, &root, make, *detach, *keep),
        Command::State { id } => {
            let container = load(id)?;
            ui.json(&container.state(container.status()));
            Ok(0)
        }
        Command::Kill { all, id, signal } => {
            // 0 only asks whether it is there (kill(2)).
            let number = if signal == "0" { Some(0) } else { sys::signal_number(signal) };
            let number = number.ok_or_else(|| Fault::new(format!("unknown signal {signal:?}")))?;
            oci::kill(&load(id)?, number, *all).map(|()| 0)
        }
        Command::Delete { force, id } => match load(id) {
            Ok(container) => oci::delete(&container, *force).map(|()| 0),
            Err(_) if *force => Ok(0),
            Err(fault) => {
                // What a create that was killed left behind has no state.
                let _ = std::fs::remove_dir_all(root.join(id));
                Err(fault)
            }
        },
        // runc tells its own failures apart from the command's by this status.
        Command::Exec { .. } => further(command, &root).map_err(|fault| fault.exit(255)),
        Command::Ps { format, id, options } => {
            let pids = load(id)?.processes();
            if format == "json" {
                ui.result(&json!(pids).to_string());
            } else {
                ui.result(&listing(&pids, options)?);
            }
            Ok(0)
        }
        Command::Pause { id } => oci::freeze(&load(id)?, true).map(|()| 0),
        Command::Resume { id } => oci::freeze(&load(id)?, false).map(|()| 0),
        Command::List { format, quiet } => {
            list(&oci::list(&root), format, *quiet, ui);
            Ok(0)
        }
        Command::Events { stats, interval, id } => {
            let interval =
                crate::model::Span::parse(interval).map_err(|why| Fault::new(format!("--interval {interval}: {why}")))?;
            if !*stats {
                return watch(&load(id)?, interval.into(), ui);
            }
            let container = load(id)?;
            if container.status() == Status::Stopped {
                return Err(Fault::new(format!("container {id} is not running")));
            }
            ui.result(&oci::events(&container));
            Ok(0)
        }
        Command::Features => {
            ui.json(&features());
            Ok(0)
        }
        Command::Spec { bundle, rootless } => {
            let path = bundle.join("config.json");
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .doing(|| format!("cannot write {}", path.display()))?;
            let text = serde_json::to_string_pretty(&if *rootless { for_user(example()) } else { example() })
                .doing(|| "cannot write the example".into())?;
            file.write_all(text.as_bytes()).doing(|| format!("cannot write {}", path.display()))?;
            Ok(0)
        }
        Command::Update(update) => {
            let container = load(&update.id)?;
            if container.status() == Status::Stopped {
                return Err(Fault::new("cannot update a stopped container"));
            }
            oci::update(&container, &resources(update)?).map(|()| 0)
        }
    }
}

/// Prints usage at an interval, and each kill for want of memory, until the container stops.
fn watch(container: &Container, interval: Duration, ui: &super::super::ui::Ui) -> Outcome<u8> {
    let kills = || container.cgroup().out_of_memory_kills();
    let (mut known, mut next) = (kills(), Instant::now());
    while container.status() != Status::Stopped {
        let now = kills();
        for _ in known..now {
            ui.result(&format!(r#"{{"type":"oom","id":{}}}"#, json!(container.id)));
        }
        known = now;
        if Instant::now() >= next {
            ui.result(&oci::events(container));
            next += interval;
        }
        std::thread::sleep(interval.min(Duration::from_millis(100)));
    }
    Ok(0)
}

/// What the host's ps(1) says of processes, as runc has it; without that program a list of our own.
fn listing(pids: &[i32], options: &[String]) -> Outcome<String> {
    let options = if options.is_empty() { vec!["-ef".to_owned()] } else { options.to_vec() };
    let Ok(output) = std::process::Command::new("ps").args(&options).output() else {
        let lines: Vec<String> = pids.iter().filter_map(|pid| super::top::line(*pid)).collect();
        return Ok(format!("UID          PID  CMD\n{}", lines.join("\n")));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles = lines.next().unwrap_or_default();
    let column = titles.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Fault::new(format!("ps {} shows no PID", options.join(" "))))?;
    let ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(titles).chain(lines.filter(ours)).collect::<Vec<_>>().join("\n"))
}

fn connect(path: &Path) -> Outcome<UnixStream> {
    UnixStream::connect(path).doing(|| format!("cannot reach the console socket {}", path.display()))
}

fn creation<'a>(
    arguments: &Arguments,
    root: &'a Path,
    make: &'a Make,
    bundle: Bundle,
    console: Option<UnixStream>,
) -> Creation<'a> {
    Creation {
        root,
        id: &make.id,
        bundle,
        pid_file: make.pid_file.clone(),
        console,
        systemd_cgroup: arguments.systemd_cgroup,
        no_pivot: make.no_pivot,
        preserve: make.preserve_fds,
    }
}

/// `run`: create, start, and unless detached wait, pass signals and the terminal, delete.
fn whole(arguments: &Arguments, root: &Path, make: &Make, detach: bool, keep: bool) -> Outcome<u8> {
    let bundle = Bundle::read(&make.bundle, make.config.as_deref())?;
    let terminal = bundle.has_terminal();
    let (near, console) = match &make.console_socket {
        Some(path) => (None, Some(connect(path)?)),
        None if terminal && !detach => {
            let (near, far) = UnixStream::pair().doing(|| "cannot make a socket".into())?;
            (Some(near), Some(far))
        }
        None => (None, None),
    };
    let container = oci::create(creation(arguments, root, make, bundle, console))?;
    let begun = near.as_ref().map(arrived).transpose().and_then(|terminal| oci::start(&container).map(|()| terminal));
    let terminal = begun.inspect_err(|_| {
        container.end();
        let _ = sys::wait_for(container.pid);
        let _ = oci::delete(&container, true);
    })?;
    if detach {
        return Ok(0);
    }
    let status = attend(container.pid, terminal)?;
    if !keep {
        oci::delete(&container, true)?;
    }
    Ok(status)
}

/// The terminal that the container's process sends.
fn arrived(console: &UnixStream) -> Outcome<OwnedFd> {
    let mut name = [0; 256];
    let (_, mut fds) = sys::receive_with(console, &mut name).doing(|| "the terminal did not come".into())?;
    let terminal: OwnedFd = fds.pop().ok_or_else(|| Fault::new("the terminal did not come"))?;
    if !std::io::stdout().is_terminal() {
        // A program that reads wants lines, not a screen: as runc does, no carriage returns.
        sys::plain_newlines(&terminal);
    }
    Ok(terminal)
}

/// Waits for a child of this process, with its terminal or passing signals on.
fn attend(pid: i32, terminal: Option<OwnedFd>) -> Outcome<u8> {
    if let Some(terminal) = terminal {
        relay(&terminal, &terminal, None, &Keys::parse("")?)?;
    } else {
        let process = sys::open_process(pid).doing(|| "the process is gone".into())?;
        let signals =
            sys::signal_descriptor(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2])
                .doing(|| "cannot wait for signals".into())?;
        loop {
            let ready = sys::wait_readable(&[&process, &signals], None).doing(|| "cannot wait".into())?;
            while let Ok(Some(signal)) = signals.read_signal() {
                let _ = sys::signal_process(&process, i32::try_from(signal.ssi_signo).unwrap_or(0));
            }
            if ready.first() == Some(&true) {
                break;
            }
        }
    }
    let status = sys::wait_for(pid).doing(|| "cannot wait".into())?.status();
    Ok(u8::try_from(status).unwrap_or(1))
}

fn further(command: &Command, root: &Path) -> Outcome<u8> {
    let Command::Exec {
        console_socket,
        cwd,
        env,
        tty,
        user,
        additional_gids,
        process,
        detach,
        pid_file,
        no_new_privs,
        cap,
        preserve_fds,
        ignore_paused,
        cgroup,
        id,
        args,
        ..
    } = command
    else {
        return Ok(0);
    };
    let container = Container::load(root, id)?;
    let mut wanted: Process = match process {
        Some(path) => {
            let text = std::fs::read_to_string(path).doing(|| format!("cannot read {}", path.display()))?;
            let mut value: serde_json::Value =
                serde_json::from_str(&text).doing(|| format!("{} is no process", path.display()))?;
            oci::rename_flags(&mut value);
            // Root, as runc has it.
            if value.get("user").is_none() {
                value["user"] = json!({ "uid": 0, "gid": 0 });
            }
            serde_json::from_value(value).doing(|| format!("{} is no process", path.display()))?
        }
        None => {
            let mut base = container.spec()?.process().clone().unwrap_or_default();
            if args.is_empty() {
                return Err(Fault::new("the command to execute was expected"));
            }
            base.set_args(Some(args.clone()));
            base.set_terminal(Some(*tty));
            base
        }
    };
    if let Some(cwd) = cwd {
        wanted.set_cwd(cwd.clone());
    }
    if !env.is_empty() {
        let mut all = wanted.env().clone().unwrap_or_default();
        all.retain(|pair| !env.iter().any(|new| new.split('=').next() == pair.split('=').next()));
        all.extend(env.iter().cloned());
        wanted.set_env(Some(all));
    }
    if let Some(text) = user {
        let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        // Strictly numbers, never looked up as names (CVE-2026-30892).
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| Fault::new(format!("{text:?} is no number of a user or group")));
        let mut user = wanted.user().clone();
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
        wanted.set_user(user);
    }
    if !additional_gids.is_empty() {
        let mut user = wanted.user().clone();
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(additional_gids);
        user.set_additional_gids(Some(all));
        wanted.set_user(user);
    }
    if *no_new_privs {
        wanted.set_no_new_privileges(Some(true));
    }
    if !cap.is_empty() {
        let mut sets = wanted.capabilities().clone().unwrap_or_default();
        for name in cap {
            let one: Capability =
                name.trim_start_matches("CAP_").parse().map_err(|_| Fault::new(format!("{name:?} is not a capability")))?;
            let with = |set: &Option<std::collections::HashSet<Capability>>| {
                let mut set = set.clone().unwrap_or_default();
                set.insert(one);
                Some(set)
            };
            let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            sets.set_bounding(bounding);
            sets.set_effective(effective);
            sets.set_permitted(permitted);
        }
        wanted.set_capabilities(Some(sets));
    }
    let terminal = wanted.terminal() == Some(true);
    let (near, console) = match console_socket {
        Some(path) => (None, Some(connect(path)?)),
        None if terminal && !detach => {
            let (near, far) = UnixStream::pair().doing(|| "cannot make a socket".into())?;
            (Some(near), Some(far))
        }
        None => (None, None),
    };
    let execution = Execution {
        process: wanted,
        console,
        pid_file: pid_file.clone(),
        preserve: *preserve_fds,
        paused_too: *ignore_paused,
        below: cgroup.clone(),
    };
    let pid = oci::exec(&container, execution)?;
    if *detach { Ok(0) } else { attend(pid, near.as_ref().map(arrived).transpose()?) }
}

fn list(all: &[Container], format: &str, quiet: bool, ui: &super::super::ui::Ui) {
    if quiet {
        ui.result(&all.iter().map(|container| container.id.as_str()).collect::<Vec<_>>().join("\n"));
    } else if format == "json" {
        let states: Vec<_> = all.iter().map(|container| container.state(container.status())).collect();
        ui.result(&if states.is_empty() { "null".into() } else { serde_json::to_string(&states).unwrap_or_default() });
    } else {
        let mut table = super::super::ui::Table::new(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        for container in all {
            let status = container.status();
            let pid = if status == Status::Stopped { 0 } else { container.pid };
            let bundle = container.bundle.display().to_string();
            table.row([
                (container.id.clone(), None),
                (pid.to_string(), None),
                (status.to_string(), None),
                (bundle, None),
                (container.created.clone(), None),
                ("root".into(), None),
            ]);
        }
        ui.result(&table.text(false));
    }
}

fn resources(update: &Update) -> Outcome<LinuxResources> {
    let mut value = match update.resources.as_deref() {
        None => json!({}),
        Some(source) => {
            let mut text = String::new();
            if source == "-" {
                std::io::stdin().read_to_string(&mut text).doing(|| "cannot read standard input".into())?;
            } else {
                text = std::fs::read_to_string(source).doing(|| format!("cannot read {source}"))?;
            }
            serde_json::from_str(&text).doing(|| "the resources are not right".into())?
        }
    };
    let mut set = |group: &str, name: &str, wish: Option<serde_json::Value>| {
        if let Some(wish) = wish {
            value[group][name] = wish;
        }
    };
    set("cpu", "period", update.cpu_period.map(|value| json!(value)));
    set("cpu", "quota", update.cpu_quota.map(|value| json!(value)));
    set("cpu", "burst", update.cpu_burst.map(|value| json!(value)));
    set("cpu", "realtimePeriod", update.cpu_rt_period.map(|value| json!(value)));
    set("cpu", "realtimeRuntime", update.cpu_rt_runtime.map(|value| json!(value)));
    set("cpu", "shares", update.cpu_share.map(|value| json!(value)));
    set("cpu", "cpus", update.cpuset_cpus.as_ref().map(|value| json!(value)));
    set("cpu", "mems", update.cpuset_mems.as_ref().map(|value| json!(value)));
    set("memory", "limit", update.memory.map(|value| json!(value)));
    set("memory", "reservation", update.memory_reservation.map(|value| json!(value)));
    set("memory", "swap", update.memory_swap.map(|value| json!(value)));
    set("pids", "limit", update.pids_limit.map(|value| json!(value)));
    set("blockIO", "weight", update.blkio_weight.map(|value| json!(value)));
    serde_json::from_value(value).doing(|| "the resources are not right".into())
}

/// What this runtime can do (OCI runtime specification, "Features").
fn features() -> serde_json::Value {
    let host = crate::runtime::host();
    let capabilities: Vec<String> = crate::model::capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "loud", "mand", "noatime", "nodev",
            "nodiratime", "noexec", "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind",
            "rdev", "rdiratime", "relatime", "remount", "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnosuid",
            "rnosymfollow", "ro", "rprivate", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow",
            "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync", "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": !host.v1.is_empty(), "v2": host.v2.is_some(), "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
        },
        "annotations": { "org.opencontainers.runtime.features.name": "stead" },
    })
}

/// A configuration to begin with: a shell with a terminal on a read-only root.
fn example() -> serde_json::Value {
    let mut value = serde_json::to_value(Spec::default()).unwrap_or_default();
    value["ociVersion"] = json!(SPECIFICATION);
    value["hostname"] = json!("stead");
    value["process"]["terminal"] = json!(true);
    value["process"]["args"] = json!(["sh"]);
    value["process"]["noNewPrivileges"] = json!(true);
    value["root"] = json!({ "path": "rootfs", "readonly": true });
    // As runc has it: in v1 a cgroup namespace is not the habit.
    if let (false, Some(namespaces)) = (crate::runtime::host().v1.is_empty(), value["linux"]["namespaces"].as_array_mut()) {
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    }
    value["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    value
}

/// The same for a user who is not root: in a user namespace where they are, with the host's network, without limits.
fn for_user(mut value: serde_json::Value) -> serde_json::Value {
    let linux = &mut value["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": nix::unistd::geteuid().as_raw(), "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": nix::unistd::getegid().as_raw(), "size": 1 }]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in value["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "sysfs" {
            // A new one takes a network namespace of one's own.
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            *mount = json!({ "destination": mount["destination"], "type": "none", "source": "/sys", "options": options });
        }
        if let Some(options) = mount["options"].as_array_mut() {
            // Groups that the namespace does not have.
            options.retain(|option| !option.as_str().is_some_and(|text| text.starts_with("gid=") || text.starts_with("uid=")));
        }
    }
    value
}

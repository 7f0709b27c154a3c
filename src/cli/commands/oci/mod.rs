//! `stead oci`: runc's commands and arguments, for other tools. The name `stead-oci` for this program means the same.

mod events;
mod exec;
mod features;
mod list;
mod run;
mod spec;
mod update;

use super::super::ui::Ui;
use crate::model::{Context as _, Error, Result, signal_number};
use crate::oci::{self, Bundle, Container};
use crate::runtime::SPECIFICATION;
use crate::sys;
use clap::{Parser, Subcommand};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An OCI runtime, with runc's commands and arguments.
#[derive(Parser, Debug)]
#[command(name = "stead oci", disable_version_flag = true)]
pub struct Arguments {
    /// The directory of the state of containers.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also write errors to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Interpret `cgroupsPath` as systemd's slice:prefix:name.
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted for compatibility with runc.
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
    /// The bundle's directory.
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// The configuration file, if it is not the bundle's config.json; crun has this option, too.
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A socket to which the master of the terminal is sent.
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
    /// Creates a container, which then waits for `start`.
    Create(Make),
    /// Starts the program of a created container.
    Start { id: String },
    /// Creates a container, starts it and waits for it.
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
    /// Removes what a stopped container left behind.
    Delete {
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Runs another process in a container.
    Exec(exec::Arguments),
    /// Lists the processes of a container.
    Ps {
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        id: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        options: Vec<String>,
    },
    /// Suspends all processes of a container.
    Pause { id: String },
    /// Resumes a paused container.
    Resume { id: String },
    /// Lists containers.
    List {
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        #[arg(short, long)]
        quiet: bool,
    },
    /// Prints a container's resource usage at intervals.
    Events {
        #[arg(long)]
        stats: bool,
        #[arg(long, default_value = "5s")]
        interval: String,
        id: String,
    },
    /// Prints what this runtime can do, as JSON.
    Features,
    /// Writes an example configuration to start from.
    Spec {
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
        /// Write a configuration for a user who is not root.
        #[arg(long)]
        rootless: bool,
    },
    /// Changes a container's limits while it runs.
    Update(update::Arguments),
}

/// Runs the command line that follows `stead oci`.
pub fn main(words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let name = std::ffi::OsString::from("stead oci");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(words)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 1 } else { 0 });
        }
    };
    let ui = Ui::new();
    match command(&arguments, &ui) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let message = error.chain();
            if let Some(path) = &arguments.log {
                log(path, &arguments.log_format, &message);
            }
            ui.say(format!("error: {message}"));
            ExitCode::from(error.code())
        }
    }
}

/// Appends an error to the log file, which our caller reads.
fn log(path: &Path, format: &str, message: &str) {
    let time = crate::model::time_text(i64::try_from(crate::monitor::now_ms() / 1000).unwrap_or(0));
    let line = match format {
        "json" => json!({ "level": "error", "msg": message, "time": time }).to_string(),
        _ => format!("time={time:?} level=error msg={message:?}"),
    };
    let _ = OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{line}"));
}

fn command(arguments: &Arguments, ui: &Ui) -> Result<u8> {
    if arguments.version {
        ui.result(format!("stead version {}\nspec: {SPECIFICATION}", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    if let Some(path) = &arguments.log {
        OpenOptions::new().create(true).append(true).open(path).context(|| format!("cannot write the log {}", path.display()))?;
    }
    let root = arguments.root.clone().unwrap_or_else(|| "/run/stead-oci".into());
    let load = |id: &str| Container::load(&root, id);
    let Some(command) = &arguments.command else {
        return Err(Error::new("a command was expected; `stead oci --help` lists them"));
    };
    if matches!(command, Command::Create(_) | Command::Run { .. } | Command::Exec(_)) {
        // A container must not reach this program's file (CVE-2019-5736).
        sys::protect().context(|| "cannot protect this program's file".into())?;
    }
    match command {
        Command::Create(make) => {
            let console = make.console_socket.as_deref().map(run::connect).transpose()?;
            let bundle = Bundle::read(&make.bundle, make.config.as_deref())?;
            oci::create(run::creation(arguments, &root, make, bundle, console)).map(|_| 0)
        }
        Command::Start { id } => oci::start(&load(id)?).map(|()| 0),
        Command::Run { detach, keep, make } => run::whole(arguments, &root, make, *detach, *keep),
        Command::State { id } => {
            let container = load(id)?;
            ui.json(&container.state(container.status()));
            Ok(0)
        }
        Command::Kill { all, id, signal } => {
            // Signal 0 only checks whether the process exists (kill(2)).
            let number = if signal == "0" { Some(0) } else { signal_number(signal) };
            let number = number.ok_or_else(|| Error::new(format!("unknown signal {signal:?}")))?;
            oci::kill(&load(id)?, number, *all).map(|()| 0)
        }
        Command::Delete { force, id } => match Container::find(&root, id)? {
            Some(container) => oci::delete(&container, *force).map(|()| 0),
            None if *force => Ok(0),
            None => {
                // What a killed `create` left behind has no state.
                oci::forget_remains(&root, id)?;
                load(id).map(|_| 0)
            }
        },
        // As in runc, this status distinguishes our own failures from the command's.
        Command::Exec(arguments) => exec::run(arguments, &root).map_err(|error| error.status(255)),
        Command::Ps { format, id, options } => {
            let pids = load(id)?.processes();
            if format == "json" {
                ui.json_line(&json!(pids));
            } else {
                ui.result(list::processes(&pids, options)?);
            }
            Ok(0)
        }
        Command::Pause { id } => oci::freeze(&load(id)?, true).map(|()| 0),
        Command::Resume { id } => oci::freeze(&load(id)?, false).map(|()| 0),
        Command::List { format, quiet } => {
            list::containers(&oci::list(&root)?, format, *quiet, ui);
            Ok(0)
        }
        Command::Events { stats, interval, id } => events::run(&load(id)?, *stats, interval, ui),
        Command::Features => {
            ui.json(&features::features());
            Ok(0)
        }
        Command::Spec { bundle, rootless } => spec::run(bundle, *rootless),
        Command::Update(arguments) => update::run(arguments, &root),
    }
}

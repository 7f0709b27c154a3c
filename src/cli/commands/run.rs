use super::super::Context;
use super::super::ui::Shown;
use crate::apply::{self, OneOff, UpOptions};
use crate::model::{Context as _, Fault, Outcome};
use crate::runtime::{self, Cgroup, NetSpec, Running, Stdio};
use crate::sys::{self, RawTerminal};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Runs a command in a new container that is gone afterwards.
///
/// NAME is a container of the project (its environment, networks and mounts are used, its ports are
/// not published) or an image.
///
/// Example: stead run web python3 manage.py shell
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Without a terminal, even if this one is one.
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// The container is always removed, and a terminal the default; taken for the sake of Docker's habits.
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// A container or an image of the project.
    name: String,
    /// The command; else the container's or image's own.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    // This process stays with the container as its monitor does.
    sys::protect().doing(|| "cannot protect this program's file".into())?;
    let loaded = context.project()?;
    let wanted = !arguments.no_tty || arguments.tty || arguments.interactive;
    let tty = wanted && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let shown = Shown::new(&context.ui, false);
    let options = UpOptions { command: "run".into(), ..UpOptions::default() };
    let one_off = apply::one_off(&loaded, &arguments.name, &arguments.command, tty, &options, &shown);
    shown.clear();
    let one_off = one_off?;
    let status = attend(&one_off, tty);
    one_off.clean();
    status
}

/// Starts the container as its own monitor, and stays until its command ends.
fn attend(one_off: &OneOff, tty: bool) -> Outcome<u8> {
    let host = runtime::host();
    let spec = &one_off.spec.spec;
    let cgroup = Cgroup::create(&host, &spec.cgroup).doing(|| "cannot limit the container".into())?;
    let result = (|| {
        let stdio = if tty {
            Stdio::Terminal
        } else {
            let duplicate = |fd: std::os::fd::BorrowedFd| fd.try_clone_to_owned().doing(|| "a standard stream is closed".into());
            Stdio::Files {
                stdin: duplicate(std::io::stdin().as_fd())?,
                stdout: duplicate(std::io::stdout().as_fd())?,
                stderr: duplicate(std::io::stderr().as_fd())?,
            }
        };
        let running = runtime::start(spec, &one_off.contents, stdio, &host, &cgroup, |pid, process| match &spec.network {
            NetSpec::Own { interfaces } => crate::network::connect(pid, process, interfaces),
            NetSpec::Host => Ok(()),
        });
        let running = running.map_err(|error| Fault::new(error.message).exit(u8::try_from(error.status).unwrap_or(125)))?;
        one_off.running(&running);
        let status = match &running.terminal {
            Some(terminal) => {
                relay(terminal, Some(&running))?;
                running.ended()
            }
            None => forward(&running)?,
        };
        let _ = sys::wait_for(running.guard);
        Ok(u8::try_from(status.unwrap_or(137)).unwrap_or(1))
    })();
    let _ = cgroup.destroy();
    result
}

/// Waits for the end, passing signals of this process on.
fn forward(running: &Running) -> Outcome<Option<i32>> {
    let signals = sys::signal_descriptor(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT])
        .doing(|| "cannot wait for signals".into())?;
    loop {
        sys::wait_readable(&[&running.line, &signals], None).doing(|| "cannot wait".into())?;
        while let Ok(Some(signal)) = signals.read_signal() {
            let _ = sys::signal_process(&running.command, i32::try_from(signal.ssi_signo).unwrap_or(0));
        }
        if let Some(status) = running.ended() {
            return Ok(Some(status));
        }
    }
}

/// Passes bytes between this terminal and a container's until the latter is gone.
pub fn relay(terminal: &OwnedFd, running: Option<&Running>) -> Outcome<()> {
    let stdin = std::io::stdin();
    let _raw = RawTerminal::enter(&stdin).ok();
    let signals = sys::signal_descriptor(&[libc::SIGWINCH]).doing(|| "cannot wait for signals".into())?;
    let resize = || {
        if let Some((rows, columns)) = sys::window_size(std::io::stdout()) {
            sys::set_window_size(terminal, rows, columns);
        }
    };
    resize();
    let mut master = File::from(terminal.try_clone().doing(|| "the terminal is gone".into())?);
    let mut input = File::from(stdin.as_fd().try_clone_to_owned().doing(|| "no standard input".into())?);
    let mut out = std::io::stdout();
    let mut buffer = vec![0; 32 << 10];
    let mut open = true;
    loop {
        let mut waiting: Vec<&dyn AsRawFd> = vec![&master, &signals];
        if open {
            waiting.push(&input);
        }
        let ready = sys::wait_readable(&waiting, None).doing(|| "cannot wait".into())?;
        while let Ok(Some(_)) = signals.read_signal() {
            resize();
        }
        if ready.first() == Some(&true) {
            match master.read(&mut buffer) {
                // The last holder of the other side is gone: EIO.
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let _ = out.write_all(&buffer[..length]).and_then(|()| out.flush());
                }
            }
        }
        if ready.get(2) == Some(&true) {
            match input.read(&mut buffer) {
                Ok(0) | Err(_) => open = false,
                Ok(length) => drop(master.write_all(&buffer[..length])),
            }
        }
    }
    if let Some(running) = running {
        let _ = sys::wait_readable(&[&running.line], None);
    }
    Ok(())
}

//! `stead oci run`: create, start, wait, delete; also relays the terminal and signals while it waits.

use super::{Arguments, Make};
use crate::cli::relay::{Keys, relay};
use crate::model::{Context, Error, Result};
use crate::oci::{self, Bundle, Creation};
use crate::sys;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).context(|| format!("cannot reach the console socket {}", path.display()))
}

pub fn creation<'a>(
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
        keyring: !make.no_new_keyring,
        preserve: make.preserve_fds,
    }
}

/// `run`: creates and starts a container. Unless detached, it also waits, relays the terminal or signals, and deletes.
pub fn whole(arguments: &Arguments, root: &Path, make: &Make, detach: bool, keep: bool) -> Result<u8> {
    let bundle = Bundle::read(&make.bundle, make.config.as_deref())?;
    let terminal = bundle.blueprint.has_terminal();
    let (near, console) = match &make.console_socket {
        Some(path) => (None, Some(connect(path)?)),
        None if terminal && !detach => {
            let (near, far) = UnixStream::pair().context(|| "cannot make a socket".into())?;
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

/// Receives the terminal from the container's process.
pub fn arrived(console: &UnixStream) -> Result<OwnedFd> {
    let mut name = [0; 256];
    let (_, mut fds) = sys::receive_with(console, &mut name).context(|| "the terminal was not received".into())?;
    let terminal: OwnedFd = fds.pop().ok_or_else(|| Error::new("the terminal was not received"))?;
    if !std::io::stdout().is_terminal() {
        // A program that reads the output wants plain lines: as in runc, no carriage returns are added.
        sys::plain_newlines(&terminal);
    }
    Ok(terminal)
}

/// Waits for a child of this process, and relays its terminal or passes signals on.
pub fn attend(pid: i32, terminal: Option<OwnedFd>) -> Result<u8> {
    if let Some(terminal) = terminal {
        relay(&terminal, &terminal, None, &Keys::parse("")?)?;
    } else {
        let process = sys::open_process(pid).context(|| "the process is gone".into())?;
        let signals =
            sys::signal_descriptor(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2])
                .context(|| "cannot wait for signals".into())?;
        loop {
            let ready = sys::wait_readable(&[&process, &signals], None).context(|| "cannot wait".into())?;
            while let Ok(Some(signal)) = signals.read_signal() {
                let _ = sys::signal_process(&process, i32::try_from(signal.ssi_signo).unwrap_or(0));
            }
            if ready.first() == Some(&true) {
                break;
            }
        }
    }
    let status = sys::wait_for(pid).context(|| "cannot wait".into())?.status();
    Ok(u8::try_from(status).unwrap_or(1))
}

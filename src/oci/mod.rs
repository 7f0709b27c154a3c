//! An OCI runtime on top of [`runtime`](crate::runtime), with runc's commands, arguments and files.
//!
//! It is meant for other tools and their conformance tests. A container created here has no monitor and is in no project's
//! record. The process that `create` starts waits for `start`, and its exit status goes to the process that adopts
//! it (OCI runtime specification, "Runtime and Lifecycle"; arguments as in runc(8)).
//!
//! `config` reads bundles. `create` makes the namespaces, and `init` is the process in them, which waits for hooks and for
//! `start` between the steps that `runtime` provides. `exec` joins the namespaces. `listener` is for filters that ask a
//! program outside the container. `container` is what is stored of a container on disk. `resources` sets limits and reads
//! usage.

mod config;
mod container;
mod create;
mod exec;
mod hooks;
mod init;
mod listener;
mod resources;

pub use config::{Bundle, rename_flags};
pub use container::{Container, Status, forget_remains, list};
pub use create::{Creation, create, start};
pub use exec::{Execution, exec};
pub use resources::{events, update};

use crate::model::{Error, Result};
use crate::sys;
use std::io::Write;
use std::time::Duration;

/// Sends a signal to a container's first process, or to all of its processes.
///
/// # Errors
/// Fails when the container is not running.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    let status = container.status();
    if all {
        for pid in container.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::try_from(signal).ok());
        }
        return Ok(());
    }
    if status == Status::Stopped {
        return Err(Error::new("container not running"));
    }
    let process = container.process().ok_or_else(|| Error::new("container not running"))?;
    sys::signal_process(&process, signal).map_err(|error| Error::caused("cannot send the signal", error))
}

/// Deletes a stopped container; with `force` also a running one.
///
/// # Errors
/// Fails when the container is running, and when a process does not die.
pub fn delete(container: &Container, force: bool) -> Result<()> {
    let status = container.status();
    match status {
        Status::Stopped => {}
        Status::Created => container.end(),
        _ if force => container.end(),
        _ => {
            return Err(Error::new(format!("cannot delete container {} that is not stopped: {status}", container.id)));
        }
    }
    // If it had a pid namespace of its own, or shared its cgroup from the beginning, the remaining processes are not its own.
    if container.processes().is_empty() || !container.is_apart() {
        container.cgroup().destroy().map_err(|error| Error::caused("cannot remove the cgroup", error))?;
    }
    let hooks = container.hooks("poststop").unwrap_or_else(|error| {
        // It must be possible to delete a broken container.
        warn(&format!("its poststop hooks are not run: {}", error.chain()));
        Vec::new()
    });
    container.forget();
    hooks::run_last(hooks, &container.state(Status::Stopped));
    Ok(())
}

/// Prints a warning.
fn warn(message: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", crate::model::visible(message));
}

/// Freezes all processes of a container, or lets them continue.
///
/// # Errors
/// Fails when the container is not running (or not paused), and when the freezer fails.
pub fn freeze(container: &Container, frozen: bool) -> Result<()> {
    let status = container.status();
    let right = if frozen { matches!(status, Status::Running | Status::Created) } else { status == Status::Paused };
    if !right {
        let wanted = if frozen { "running or created" } else { "paused" };
        return Err(Error::new(format!("container not {wanted}: it is {status}")));
    }
    container
        .cgroup()
        .freeze(crate::runtime::host(), frozen)
        .map_err(|error| Error::caused("cannot change the freezer's state", error))
}

/// How long a killed process may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

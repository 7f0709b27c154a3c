//! The face of an OCI runtime over [`runtime`](crate::runtime): runc's commands, arguments and files.
//!
//! For other tools, and for their conformance tests: a container made here has no monitor and is on no project's record.
//! The process that `create` starts waits for `start`, and its exit status is told to whoever adopts
//! it (OCI runtime specification, "Runtime and Lifecycle"; arguments as runc(8) has them).
//!
//! `config` reads bundles; `create` makes the namespaces and `init` is the process in them, which waits for hooks and for
//! `start` between the steps that `runtime` has; `exec` joins them; `listener` is for filters that ask a program beside the
//! container; `container` is what is kept of one on disk; `resources` limits and counts.

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

/// Sends a signal to a container's first process, or to all.
///
/// # Errors
/// A container that does not run.
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

/// Removes what a stopped container left; with `force` also one that runs.
///
/// # Errors
/// A container that runs; processes that do not die.
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
    // What is left where it had its own process numbers, or was not alone from the beginning, is another's.
    if container.processes().is_empty() || !container.is_apart() {
        container.cgroup().destroy().map_err(|error| Error::caused("cannot remove the cgroup", error))?;
    }
    let hooks = container.hooks("poststop").unwrap_or_else(|error| {
        // It must be possible to remove what is broken.
        warn(&format!("its poststop hooks are not run: {}", error.chain()));
        Vec::new()
    });
    container.forget();
    hooks::run_last(hooks, &container.state(Status::Stopped));
    Ok(())
}

/// Tells what is no failure.
fn warn(message: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", crate::model::visible(message));
}

/// Stops every process of a container where it is, or lets them go on.
///
/// # Errors
/// A container that does not run; those of the freezer.
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

/// How long a process that was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

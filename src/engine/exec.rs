//! Runs another command in a running container.

use crate::instance::Instance;
use crate::model::{Context, Error, Result};
use crate::monitor::{self, Remote};
use crate::runtime::Variable;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;

/// What to run, and as which user.
#[derive(Debug)]
pub struct Exec<'a> {
    pub command: &'a [OsString],
    pub user: Option<&'a str>,
    pub workdir: Option<&'a OsStr>,
    pub env: &'a [Variable],
    /// Whether it gets a terminal of its own, and with how many rows and columns, if that is known.
    pub terminal: Option<Option<(u16, u16)>>,
}

/// Runs a command in the container that a name refers to; without a terminal, its standard streams are `streams`.
///
/// # Errors
/// Fails when the container is not running or its monitor refuses.
pub fn exec(instance: &Instance, name: &str, wish: &Exec, streams: &[RawFd]) -> Result<Remote> {
    let name = instance.find(name)?;
    let folder = instance.container(&name);
    // Without the container's spec, the process would run as root and without the container's environment.
    let spec = folder.spec()?.ok_or_else(|| {
        Error::new(format!("{name} is not running")).hint("`stead ps --all` shows how it ended; `stead up` starts it")
    })?;
    let mut process = spec.blueprint.like_process(&[]).context(|| format!("{name} has no process"))?;
    process.change(wish.command, wish.workdir, wish.user, wish.env);
    if let Some(size) = wish.terminal {
        process.with_terminal(size);
    }
    monitor::session(&folder, &process, streams)
}

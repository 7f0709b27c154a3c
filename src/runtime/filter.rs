//! Installs system call filters.
//!
//! A filter can leave calls to a program outside the container (seccomp_unotify(2)). Then the process that installs it sends
//! the descriptor for the notifications over its line, and waits until it has been passed on.

use super::seccomp;
use crate::sys;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A compiled filter, which is read while the host's files are still accessible.
#[derive(Debug)]
pub struct Filter {
    program: Vec<u8>,
    /// Whether a program outside the container is notified of calls.
    listen: bool,
}

impl Filter {
    /// Compiles the filter of a profile.
    pub fn of(profile: &seccomp::Profile) -> Self {
        Self { program: seccomp::compile(profile), listen: profile.notifies() }
    }

    /// Reads a filter that was compiled before.
    ///
    /// # Errors
    /// Fails when it cannot be read: a process with a filter must not run without it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let program = std::fs::read(path);
        let program = sys::doing(&format!("cannot read the system call filter {}", path.display()), program)?;
        Ok(Self { program, listen: false })
    }

    /// Whether a program outside the container is notified of calls.
    pub fn notifies(&self) -> bool {
        self.listen
    }

    /// Installs it for this process and everything that it executes. If a program is notified of calls, this returns the
    /// descriptor for the notifications.
    ///
    /// # Errors
    /// Fails when `seccomp(2)` fails.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        sys::doing("cannot install the system call filter", sys::install_filter(&self.program, self.listen))
    }

    /// Like [`install`](Self::install), but sends the descriptor over a line.
    ///
    /// # Errors
    /// Fails when `seccomp(2)` fails or the other end of the line is gone.
    pub fn install_for(&self, mut line: &UnixStream) -> io::Result<()> {
        let Some(listener) = self.install()? else { return Ok(()) };
        sys::send_with(line, b"N", &[listener.as_raw_fd()])?;
        line.read_exact(&mut [0])
    }
}

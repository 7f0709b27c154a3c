//! System call filters on their way into the kernel.
//!
//! Where a filter leaves calls to a program beside the container (seccomp_unotify(2)), the process that installs it sends
//! the descriptor that tells of them over its line, and waits until it was passed on.

use super::seccomp;
use crate::sys;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A compiled filter, read while the host's files are in reach.
#[derive(Debug)]
pub struct Filter {
    program: Vec<u8>,
    /// Whether somebody is told of calls.
    listen: bool,
}

impl Filter {
    /// The filter of a profile.
    pub fn of(profile: &seccomp::Profile) -> Self {
        Self { program: seccomp::compile(profile), listen: profile.notifies() }
    }

    /// A filter that was compiled before.
    ///
    /// # Errors
    /// Those of reading it: what has a filter does not run without.
    pub fn read(path: &Path) -> io::Result<Self> {
        let program = std::fs::read(path);
        let program = sys::doing(&format!("cannot read the system call filter {}", path.display()), program)?;
        Ok(Self { program, listen: false })
    }

    /// Whether somebody beside the container is told of calls.
    pub fn notifies(&self) -> bool {
        self.listen
    }

    /// Installs it for this process and all that it executes; where somebody is told of calls, gives the
    /// descriptor that tells.
    ///
    /// # Errors
    /// Those of `seccomp(2)`.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        sys::doing("cannot install the system call filter", sys::install_filter(&self.program, self.listen))
    }

    /// As [`install`](Self::install); the descriptor is sent over a line.
    ///
    /// # Errors
    /// Those of `seccomp(2)`; a line whose other end is gone.
    pub fn install_for(&self, mut line: &UnixStream) -> io::Result<()> {
        let Some(listener) = self.install()? else { return Ok(()) };
        sys::send_with(line, b"N", &[listener.as_raw_fd()])?;
        line.read_exact(&mut [0])
    }
}

//! What both sides of a start share: the standard streams that are passed on, and the error that comes back.

use std::io;
use std::os::fd::OwnedFd;

/// The standard streams of the command.
pub enum Stdio {
    Files {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A new terminal of the container. Its master is returned in [`Running`].
    Terminal,
}

/// Why a container did not start, with the exit status that Docker gives for it.
#[derive(Debug)]
pub struct StartError {
    pub message: String,
    pub status: i32,
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string(), status: 125 }
    }
}

/// Sends the error of a failed start to the monitor.
pub(super) fn write_error(errors: &OwnedFd, error: &StartError) {
    let mut bytes = vec![u8::try_from(error.status).unwrap_or(125)];
    bytes.extend(error.message.bytes());
    // It stays below the size of atomic writes to a pipe, so that it arrives whole.
    bytes.truncate(4000);
    let _ = nix::unistd::write(errors, &bytes);
}

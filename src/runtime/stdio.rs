//! What both ends of a start share: the standard streams that go along, and the error that comes back.

use std::io;
use std::os::fd::OwnedFd;

/// What the command's standard descriptors are.
pub enum Stdio {
    Files {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A new terminal of the container; its master comes back in [`Running`].
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

/// Sends a failing start's error to the monitor.
pub(super) fn write_error(errors: &OwnedFd, error: &StartError) {
    let mut bytes = vec![u8::try_from(error.status).unwrap_or(125)];
    bytes.extend(error.message.bytes());
    // Below the pipe's atomic size, so that it arrives whole.
    bytes.truncate(4000);
    let _ = nix::unistd::write(errors, &bytes);
}

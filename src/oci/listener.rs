//! Filters of a bundle, and programs outside the container that decide about its calls (seccomp_unotify(2)).
//!
//! The process installs its filter and sends the notification descriptor over its line to the runtime, which
//! passes it on to the program that listens at `linux.seccomp.listenerPath` (OCI runtime specification,
//! "Container Process State").

use super::container::{Container, State, Status};
use crate::model::{Context, Error, Result};
use crate::runtime::Filter;
use crate::runtime::seccomp::Profile;
use crate::sys;
use oci_spec::runtime::Spec;
use serde::Serialize;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The compiled filter of a configuration, if it has one.
///
/// # Errors
/// Fails when the profile is not valid.
pub fn filter(spec: &Spec) -> Result<Option<Filter>> {
    let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let wrong = |why: String| Error::new(format!("linux.seccomp: {why}"));
    let profile = Profile::parse(&serde_json::to_string(seccomp).unwrap_or_default(), u64::MAX).map_err(wrong)?;
    if profile.notifies() && seccomp.listener_path().is_none() {
        return Err(wrong("SCMP_ACT_NOTIFY needs a `listenerPath`".into()));
    }
    Ok(Some(Filter::of(&profile)))
}

/// Where a notification descriptor is sent, and the message that goes with it.
pub struct Listener {
    path: PathBuf,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState {
    oci_version: String,
    fds: [&'static str; 1],
    pid: i32,
    metadata: String,
    state: State,
}

impl Listener {
    /// The listener for a process in a container.
    ///
    /// # Errors
    /// Fails when the configuration is gone or has no `listenerPath`.
    pub fn of(container: &Container, status: Status, pid: i32) -> Result<Self> {
        let spec = container.spec()?;
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()).unwrap_or_default();
        let path = seccomp.listener_path().clone().ok_or_else(|| Error::new("linux.seccomp has no `listenerPath`"))?;
        let state = ProcessState {
            oci_version: container.version.clone(),
            fds: ["seccompFd"],
            pid,
            metadata: seccomp.listener_metadata().clone().unwrap_or_default(),
            state: container.state(status),
        };
        let message = serde_json::to_string(&state).context(|| "cannot describe the process".into())?;
        Ok(Self { path, message })
    }

    /// Sends the notification descriptor to the listening program.
    ///
    /// # Errors
    /// Fails when the program cannot be reached.
    pub fn tell(&self, listener: &OwnedFd) -> Result<()> {
        let to = |path: &Path| -> io::Result<()> {
            let stream = UnixStream::connect(path)?;
            sys::send_with(&stream, self.message.as_bytes(), &[listener.as_raw_fd()]).map(drop)
        };
        to(&self.path).context(|| format!("failed to connect with seccomp agent {}", self.path.display()))
    }
}

/// Reads what a process sends until it closes its line, and returns it: its error message. A notification descriptor is
/// passed on to the listener.
///
/// # Errors
/// Fails when the listener does not accept the descriptor.
pub fn hear(line: &UnixStream, whose: impl Fn() -> Result<Listener>) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok((length @ 1.., fds)) = sys::receive_with(line, &mut buffer) {
        match fds.first() {
            Some(listener) => {
                whose()?.tell(listener)?;
                let _ = sys::send_with(line, b"K", &[]);
            }
            None => said.extend(&buffer[..length]),
        }
    }
    Ok(said)
}

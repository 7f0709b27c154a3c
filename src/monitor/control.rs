//! How a monitor is controlled: a request is a line of JSON on its socket, and the replies are lines of JSON, too.
//!
//! The protocol is versioned so that a newer stead can control an older monitor: unknown fields are
//! ignored, and unknown requests are refused by name.

use super::files::{Folder, State, Status};
use crate::model::{self, Context, Error, Result};
use crate::project::Limits;
use crate::runtime::ExecSpec;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A request to a monitor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Ends the container with its stop signal, or with KILL after the grace period. It is answered when the container is gone.
    Stop {
        signal: Option<i32>,
        grace: Option<model::Duration>,
    },
    Signal {
        signal: i32,
    },
    /// Freezes every process where it is, or resumes them.
    Freeze {
        frozen: bool,
    },
    /// Freezes every process for as long as this connection lives, so that a client that is killed leaves nothing frozen.
    Hold,
    /// Changes the container's limits while it runs, and for its next starts.
    Limits {
        limits: Box<Limits>,
    },
    /// Ends the command and starts it again, with the same files and limits. It is answered when it has started.
    Restart,
    /// Waits until the container's command ends, and reports the exit status.
    Wait,
    /// Asks for the container's output as it comes, and for its terminal if it has one.
    Attach,
    /// Asks for the sockets that hold the container's published ports.
    Ports,
    /// Runs a further process. Unless it has a terminal, the descriptors for its standard streams are sent with the request.
    Exec {
        spec: Box<ExecSpec>,
    },
}

/// A reply of a monitor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A process has started. If it has a terminal, the master's descriptor is sent with this reply.
    #[serde(default)]
    pub started: bool,
    /// An exit status, which is the last reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    #[serde(default)]
    pub done: bool,
    /// What failed although the container has started: its start hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The version of the requests. A monitor refuses requests of a newer version: a field that it does not know could be one
/// that restricts a process. Version 2 has what of a process's command line is not text.
const VERSION: u32 = 2;

impl Request {
    /// The first version that means the same by it: older monitors are still asked for what they know.
    fn version(&self) -> u32 {
        match self {
            Self::Exec { spec } if !spec.raw.is_empty() => 2,
            _ => 1,
        }
    }
}

/// A request as it is sent.
#[derive(Serialize)]
struct Asked<'r> {
    version: u32,
    #[serde(flatten)]
    request: &'r Request,
}

/// The part of a request that tells whether the rest can be understood. The first releases did not send it.
#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: u32,
}

/// Parses a request.
///
/// # Errors
/// Returns the message for the client.
pub fn understood(bytes: &[u8]) -> Result<Request, String> {
    let unknown = |error: serde_json::Error| {
        format!("this container's monitor does not know that request ({error}): `stead restart` gives it a new one")
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(unknown)?;
    if version > VERSION {
        return Err(format!(
            "this container's monitor is older than the stead that asks (it knows message version {VERSION}, not {version}): \
             `stead restart` gives it a new one"
        ));
    }
    serde_json::from_slice(bytes).map_err(unknown)
}

fn ask(stream: &UnixStream, request: &Request, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Asked { version: request.version(), request })?;
    if bytes.len() >= LONGEST {
        // The monitor would hang up before it has read all of it.
        let most = model::Size(LONGEST as u64);
        return Err(io::Error::other(format!("the request is longer than {most}: its arguments or variables are too long")));
    }
    send_line(stream, bytes, fds)
}

/// The longest request, in bytes. The kernel takes at most 6 MiB of arguments and variables (execve(2)), and JSON may double them.
pub const LONGEST: usize = 16 << 20;

fn connect(folder: &Folder) -> Result<UnixStream> {
    sys::connect_in(folder.path(), "control").map_err(|error| {
        let ended = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if ended { not_running(folder) } else { Error::caused("cannot reach the container's monitor", error) }
    })
}

fn not_running(folder: &Folder) -> Error {
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    Error::new(format!("{name} is not running")).hint("`stead ps --all` shows how it ended; `stead up` starts it")
}

/// How often, and after what time, a container that could not be entered is looked at again.
const ENDING: (u32, Duration) = (10, Duration::from_millis(20));

/// The error of a request, unless the container has ended since it was connected to: then that is the reason.
fn or_ended<T>(folder: &Folder, result: Result<T>) -> Result<T> {
    let ended = || {
        // A monitor that has just gone may still hold its lock for a moment.
        let over = |status: Status| matches!(status.state, State::Exited | State::Dead) || status.pid == 0;
        folder.status().is_none_or(over)
    };
    result.map_err(|error| if ended() { not_running(folder).status(error.code()) } else { error })
}

/// Receives one reply, with a descriptor if one was sent with it.
pub fn receive(stream: &UnixStream) -> Result<(Reply, Option<OwnedFd>)> {
    receive_or_end(stream)?.ok_or_else(|| Error::new("the container's monitor is gone"))
}

/// Like [`receive`], but gives `None` if the monitor has ended.
fn receive_or_end(stream: &UnixStream) -> Result<Option<(Reply, Option<OwnedFd>)>> {
    let mut buffer = [0];
    let mut bytes = Vec::new();
    let mut descriptor = None;
    loop {
        let (length, mut fds) = match sys::receive_with(stream, &mut buffer) {
            // Its end was closed before it had read all that was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received.context(|| "the monitor does not answer".into())?,
        };
        descriptor = descriptor.or(fds.pop());
        match buffer[..length] {
            [] => return Ok(None),
            [b'\n'] => break,
            [byte] => bytes.push(byte),
            _ => {}
        }
    }
    let reply = serde_json::from_slice(&bytes).context(|| "cannot understand the monitor's answer".into())?;
    Ok(Some((reply, descriptor)))
}

/// Sends a value as a line of JSON.
pub fn send(stream: &UnixStream, value: &impl Serialize, fds: &[RawFd]) -> std::io::Result<()> {
    send_line(stream, serde_json::to_vec(value)?, fds)
}

fn send_line(stream: &UnixStream, mut bytes: Vec<u8>, fds: &[RawFd]) -> io::Result<()> {
    bytes.push(b'\n');
    let mut sent = sys::send_with(stream, &bytes, fds)?;
    while sent < bytes.len() {
        sent += sys::send_with(stream, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Sends a request and waits for its last reply, up to a timeout.
///
/// # Errors
/// Fails when the container has no monitor or the monitor refuses.
pub fn call(folder: &Folder, request: &Request, timeout: Option<Duration>) -> Result<Reply> {
    let stream = connect(folder)?;
    let answer = || {
        stream.set_read_timeout(timeout).context(|| "cannot reach the container's monitor".into())?;
        ask(&stream, request, &[]).context(|| "cannot reach the container's monitor".into())?;
        let (reply, _) = receive(&stream)?;
        match reply.error {
            Some(error) => Err(Error::new(error)),
            None => Ok(reply),
        }
    };
    or_ended(folder, answer())
}

/// A container that is held still. It is resumed when this is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "the open connection is what holds the container still")] UnixStream);

/// Holds a running container still.
///
/// # Errors
/// Fails when the container has no monitor, the monitor refuses, or the processes cannot be frozen.
pub fn hold(folder: &Folder) -> Result<Held> {
    let stream = connect(folder)?;
    // The kernel may take its time, but a monitor that never answers must not block us.
    stream.set_read_timeout(Some(Duration::from_secs(30))).context(|| "cannot reach the container's monitor".into())?;
    ask(&stream, &Request::Hold, &[]).context(|| "cannot reach the container's monitor".into())?;
    match receive(&stream)?.0.error {
        Some(error) => Err(Error::new(error)),
        None => Ok(Held(stream)),
    }
}

/// The sockets that hold a running container's published ports. A monitor that does not know the request gives none.
///
/// # Errors
/// Fails when the container has no monitor.
pub fn held_ports(folder: &Folder) -> Result<Vec<OwnedFd>> {
    let stream = connect(folder)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).context(|| "cannot reach the container's monitor".into())?;
    ask(&stream, &Request::Ports, &[]).context(|| "cannot reach the container's monitor".into())?;
    let mut held = Vec::new();
    loop {
        let mut kind = [0];
        let (length, fds) = sys::receive_with(&stream, &mut kind).context(|| "the monitor does not answer".into())?;
        held.extend(fds);
        if (length, kind[0]) != (1, b'P') {
            return Ok(held);
        }
    }
}

/// A container's output, and its terminal if it has one.
pub struct Attached {
    pub stream: UnixStream,
    pub terminal: Option<OwnedFd>,
}

/// Attaches to a running container: its output follows on the stream as it comes.
///
/// # Errors
/// Fails when the container has no monitor.
pub fn attach(folder: &Folder) -> Result<Attached> {
    let stream = connect(folder)?;
    let asked = ask(&stream, &Request::Attach, &[]).context(|| "cannot reach the container's monitor".into());
    let (reply, terminal) = or_ended(folder, asked.and_then(|()| receive(&stream)))?;
    match reply.error {
        Some(error) => Err(Error::new(error)),
        None => Ok(Attached { stream, terminal }),
    }
}

/// A process started by [`session`].
pub struct Remote {
    stream: UnixStream,
    pub terminal: Option<OwnedFd>,
}

/// Starts a process in a container. Unless it has a terminal, it gets the given standard streams.
///
/// # Errors
/// Fails when the container has no monitor or the process cannot be started. The error has the exit code for that.
pub fn session(folder: &Folder, spec: &ExecSpec, streams: &[RawFd]) -> Result<Remote> {
    let stream = connect(folder)?;
    let asked = ask(&stream, &Request::Exec { spec: Box::new(spec.clone()) }, streams);
    let asked = asked.context(|| "cannot reach the container's monitor".into());
    let (reply, terminal) = or_ended(folder, asked.and_then(|()| receive(&stream)))?;
    match reply {
        Reply { error: Some(error), exit, .. } => {
            // A container that is ending can be entered no more a moment before its status says so.
            let ending = || exit != Some(127) && folder.status().is_some_and(|status| status.state == State::Running);
            for _ in 0..ENDING.0 {
                if !ending() {
                    break;
                }
                std::thread::sleep(ENDING.1);
            }
            or_ended(folder, Err(Error::new(error).status(u8::try_from(exit.unwrap_or(126)).unwrap_or(126))))
        }
        _ => Ok(Remote { stream, terminal }),
    }
}

impl Remote {
    /// Waits for the process's exit status. If the container has ended before, the process was killed with it.
    ///
    /// # Errors
    /// Fails when what the monitor says cannot be understood.
    pub fn wait(&self) -> Result<i32> {
        loop {
            let Some((reply, _)) = receive_or_end(&self.stream)? else { return Ok(128 + libc::SIGKILL) };
            if let Some(status) = reply.exit {
                return Ok(status);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_does_nothing_for_who_may_say_more_than_it_understands() {
        let asked = serde_json::to_vec(&Asked { version: VERSION, request: &Request::Freeze { frozen: true } }).unwrap();
        assert_eq!(understood(&asked), Ok(Request::Freeze { frozen: true }));
        // The first releases sent no version.
        assert_eq!(understood(br#"{"op":"wait"}"#), Ok(Request::Wait));
        let newer = understood(br#"{"version":3,"op":"wait","only":"as nobody"}"#).unwrap_err();
        assert!(newer.contains("older than the stead that asks") && newer.contains("stead restart"), "{newer}");
        assert!(understood(br#"{"op":"dance"}"#).unwrap_err().contains("does not know that request"));
    }
}

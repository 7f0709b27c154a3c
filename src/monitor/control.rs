//! How a monitor is commanded: a line of JSON on its socket, answered by lines of JSON.
//!
//! The protocol is versioned so that a newer stead commands an older monitor: unknown fields are
//! ignored, unknown requests are refused by name.

use super::files::Folder;
use crate::model::{self, Context, Error, Result};
use crate::project::Limits;
use crate::runtime::ExecSpec;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What can be asked of a monitor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Ends the container: its stop signal, after the grace period KILL. Answered when it is gone.
    Stop {
        signal: Option<i32>,
        grace: Option<model::Duration>,
    },
    Signal {
        signal: i32,
    },
    /// Stops every process where it is, or lets them go on.
    Freeze {
        frozen: bool,
    },
    /// Stops every process where it is for as long as this connection lives: whoever asked may be killed.
    Hold,
    /// Changes its limits while it runs, and for its next starts.
    Limits {
        limits: Box<Limits>,
    },
    /// Waits until its command ends, and tells the exit status.
    Wait,
    /// Asks for its output as it comes, and for its terminal if it has one.
    Attach,
    /// Asks for the sockets that hold its published ports.
    Ports,
    /// Runs a further process; descriptors for its standard streams come along unless it has a terminal.
    Exec {
        spec: Box<ExecSpec>,
    },
}

/// What a monitor answers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A process has started; with a terminal, its master comes along.
    #[serde(default)]
    pub started: bool,
    /// An exit status: the end of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    #[serde(default)]
    pub done: bool,
}

/// The version of what is asked. A monitor does nothing for who may say more than it understands: what it left out could
/// be what holds a process back.
const VERSION: u32 = 1;

/// A request on its way.
#[derive(Serialize)]
struct Asked<'r> {
    version: u32,
    #[serde(flatten)]
    request: &'r Request,
}

/// What of a request tells whether the rest is understood; there was none in the first releases.
#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: u32,
}

/// Reads a request.
///
/// # Errors
/// What whoever asked is told.
pub fn understood(bytes: &[u8]) -> Result<Request, String> {
    let unknown = |error: serde_json::Error| {
        format!("this container's monitor does not know that request ({error}): `stead restart` gives it a new one")
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(unknown)?;
    if version > VERSION {
        return Err(format!(
            "this container's monitor is older than the stead that asks (messages of version {VERSION}, not {version}): \
             `stead restart` gives it a new one"
        ));
    }
    serde_json::from_slice(bytes).map_err(unknown)
}

fn ask(stream: &UnixStream, request: &Request, fds: &[RawFd]) -> io::Result<()> {
    send(stream, &Asked { version: VERSION, request }, fds)
}

/// The longest message.
pub const LONGEST: usize = 256 << 10;

fn connect(folder: &Folder) -> Result<UnixStream> {
    sys::connect_in(folder.path(), "control").map_err(|error| {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
        let ended = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let what = format!("{name} is not running");
        let error = if ended { Error::new(what) } else { Error::caused(what, error) };
        error.hint("`stead ps --all` shows how it ended; `stead up` starts it")
    })
}

/// Receives one reply, with a descriptor if one comes along.
pub fn receive(stream: &UnixStream) -> Result<(Reply, Option<OwnedFd>)> {
    let mut buffer = vec![0; LONGEST];
    let mut bytes = Vec::new();
    let mut descriptor = None;
    loop {
        let (length, mut fds) = sys::receive_with(stream, &mut buffer[..1]).context(|| "the monitor does not answer".into())?;
        descriptor = descriptor.or(fds.pop());
        match buffer[..length] {
            [] => return Err(Error::new("the container's monitor is gone")),
            [b'\n'] => break,
            [byte] => bytes.push(byte),
            _ => {}
        }
    }
    let reply = serde_json::from_slice(&bytes).context(|| "the monitor's answer is not understood".into())?;
    Ok((reply, descriptor))
}

/// Sends a value as a line.
pub fn send(stream: &UnixStream, value: &impl Serialize, fds: &[RawFd]) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    let mut sent = sys::send_with(stream, &bytes, fds)?;
    while sent < bytes.len() {
        sent += sys::send_with(stream, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Sends a request and waits for its last reply, until a timeout.
///
/// # Errors
/// A container without a monitor; the monitor's refusal.
pub fn call(folder: &Folder, request: &Request, timeout: Option<Duration>) -> Result<Reply> {
    let stream = connect(folder)?;
    stream.set_read_timeout(timeout).context(|| "cannot reach the container's monitor".into())?;
    ask(&stream, request, &[]).context(|| "cannot reach the container's monitor".into())?;
    let (reply, _) = receive(&stream)?;
    match reply.error {
        Some(error) => Err(Error::new(error)),
        None => Ok(reply),
    }
}

/// A container that is held still; it goes on when this is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "the connection is what holds")] UnixStream);

/// Holds a running container still.
///
/// # Errors
/// A container without a monitor; the monitor's refusal; processes that do not come to rest.
pub fn hold(folder: &Folder) -> Result<Held> {
    let stream = connect(folder)?;
    // The kernel may take its time; a monitor that never answers must not keep us.
    stream.set_read_timeout(Some(Duration::from_secs(30))).context(|| "cannot reach the container's monitor".into())?;
    ask(&stream, &Request::Hold, &[]).context(|| "cannot reach the container's monitor".into())?;
    match receive(&stream)?.0.error {
        Some(error) => Err(Error::new(error)),
        None => Ok(Held(stream)),
    }
}

/// The sockets that hold a running container's published ports; none of a monitor that does not know the request.
///
/// # Errors
/// A container without a monitor.
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
/// A container without a monitor.
pub fn attach(folder: &Folder) -> Result<Attached> {
    let stream = connect(folder)?;
    ask(&stream, &Request::Attach, &[]).context(|| "cannot reach the container's monitor".into())?;
    let (reply, terminal) = receive(&stream)?;
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

/// Starts a process in a container, with standard streams unless it has a terminal.
///
/// # Errors
/// A container without a monitor; a process that cannot be started, with its exit code.
pub fn session(folder: &Folder, spec: &ExecSpec, streams: &[RawFd]) -> Result<Remote> {
    let stream = connect(folder)?;
    ask(&stream, &Request::Exec { spec: Box::new(spec.clone()) }, streams)
        .context(|| "cannot reach the container's monitor".into())?;
    let (reply, terminal) = receive(&stream)?;
    match reply {
        Reply { error: Some(error), exit, .. } => Err(Error::new(error).status(u8::try_from(exit.unwrap_or(126)).unwrap_or(126))),
        _ => Ok(Remote { stream, terminal }),
    }
}

impl Remote {
    /// Waits for the process's exit status.
    ///
    /// # Errors
    /// A monitor that is gone.
    pub fn wait(&self) -> Result<i32> {
        loop {
            let (reply, _) = receive(&self.stream)?;
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
        // The first releases said no version.
        assert_eq!(understood(br#"{"op":"wait"}"#), Ok(Request::Wait));
        let newer = understood(br#"{"version":2,"op":"wait","only":"as nobody"}"#).unwrap_err();
        assert!(newer.contains("older than the stead that asks") && newer.contains("stead restart"), "{newer}");
        assert!(understood(br#"{"op":"dance"}"#).unwrap_err().contains("does not know that request"));
    }
}

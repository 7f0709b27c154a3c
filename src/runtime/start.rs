//! Starts a container: the part that runs in its monitor.

use super::cgroup::Cgroup;
use super::guard::{self, Given};
use super::host::Host;
use super::namespaces;
use super::spec::Blueprint;
use super::stdio::{StartError, Stdio};
use crate::sys::{self, Side};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// A container that has started.
#[derive(Debug)]
pub struct Running {
    /// The guard: a child of this process, to be reaped.
    pub guard: i32,
    /// A descriptor of the command, which works across pid namespaces.
    pub command: OwnedFd,
    /// The command's process number on the host.
    pub pid: i32,
    pub terminal: Option<OwnedFd>,
    /// The line from the guard, which reports the end of the command.
    pub line: UnixStream,
}

/// Starts a container. While the container waits, `prepare` is called with a process in its network namespace, to
/// connect it to its networks.
///
/// # Errors
/// Says what failed first. Nothing of the container is left then.
pub fn start(
    blueprint: &Blueprint,
    contents: &[Vec<u8>],
    stdio: Stdio,
    host: &Host,
    cgroup: &Cgroup,
    prepare: impl FnOnce(i32, &OwnedFd) -> io::Result<()>,
) -> Result<Running, StartError> {
    let (line, far_line) = sys::message_pair()?;
    let (errors, far_errors) = sys::pipe()?;
    let (far_go, go) = sys::pipe()?;
    let entrance = cgroup.entrance()?;
    // The cgroup namespace is created when the command is cloned, since the guard is in the cgroup by then.
    let namespaces = namespaces::made(blueprint) & !libc::CLONE_NEWCGROUP;
    let (guard_pid, guard_fd) = match sys::clone_process(namespaces, entrance.as_ref())? {
        Side::Child => {
            let placed = entrance.is_some();
            let given = Given { blueprint, contents, host, cgroup, placed, line: far_line, go: far_go, errors: far_errors };
            guard::run(&given, stdio)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((far_line, far_go, far_errors, stdio));
    let give_up = |fallback: io::Error| {
        let _ = sys::signal_process(&guard_fd, libc::SIGKILL);
        let _ = sys::wait_for(guard_pid);
        // The guard's own message is better than the consequences that are seen here.
        read_error(&errors).unwrap_or_else(|| fallback.into())
    };
    if let Err(error) = prepare(guard_pid, &guard_fd) {
        return Err(give_up(error));
    }
    // If the command has failed by now, its error is read below.
    let _ = nix::unistd::write(&go, b"G");
    let (mut command, mut terminal) = (None, None);
    while command.is_none() || blueprint.has_terminal() && terminal.is_none() {
        let mut kind = [0];
        match sys::receive_with(&line, &mut kind) {
            Ok((1, mut fds)) if kind[0] == b'P' => command = fds.pop(),
            Ok((1, mut fds)) if kind[0] == b'T' => terminal = fds.pop(),
            Ok(_) => return Err(give_up(io::Error::other("the container ended before its command started"))),
            Err(error) => return Err(give_up(error)),
        }
    }
    if let Some(error) = read_error(&errors) {
        let _ = sys::signal_process(&guard_fd, libc::SIGKILL);
        let _ = sys::wait_for(guard_pid);
        return Err(error);
    }
    let command = command.ok_or_else(|| io::Error::other("no command"))?;
    let pid = sys::process_number(&command).unwrap_or(0);
    Ok(Running { guard: guard_pid, command, pid, terminal, line })
}

/// Reads the error that a failed start has written. There is none if the command was executed.
fn read_error(errors: &OwnedFd) -> Option<StartError> {
    let mut text = Vec::new();
    File::from(errors.try_clone().ok()?).read_to_end(&mut text).ok()?;
    let (status, message) = text.split_first()?;
    Some(StartError { message: String::from_utf8_lossy(message).into_owned(), status: i32::from(*status) })
}

impl Running {
    /// Reads the command's exit status from the guard, if it has been sent.
    pub fn ended(&self) -> Option<i32> {
        let mut message = [0; 5];
        let _ = self.line.set_nonblocking(true);
        match sys::receive_with(&self.line, &mut message) {
            Ok((5, _)) if message[0] == b'X' => Some(i32::from_ne_bytes([message[1], message[2], message[3], message[4]])),
            // The guard is gone without a message: it was killed, and the command with it.
            Ok((0, _)) => Some(137),
            _ => None,
        }
    }
}

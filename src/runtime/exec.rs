//! Starts a further process in a running container.

use super::cgroup::Cgroup;
use super::clean_start;
use super::filter::Filter;
use super::host::Host;
use super::process::{add_variable, arrive, execute, known_as};
use super::rootfs::Root;
use super::spec::{Blueprint, ExecSpec};
use super::stdio::{StartError, Stdio, write_error};
use crate::sys::{self, Side};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A process that is on its way into a container, or in it.
///
/// Processes in the container can stop it before its program is executed, so never wait for [`told`](Self::told) alone.
#[derive(Debug)]
pub struct Session {
    /// A child of this process that ends with the session's exit status.
    pub pid: i32,
    process: OwnedFd,
    line: UnixStream,
    errors: OwnedFd,
    /// The part of the container's cgroup in which everything is that it started.
    part: Option<Cgroup>,
}

impl Session {
    /// The descriptor that becomes readable when its program has been executed, or could not be.
    pub fn told(&self) -> &OwnedFd {
        &self.errors
    }

    /// The result of the start, which can be taken once: its terminal, if it has one, or an error with a message and the exit
    /// status. It is `None` as long as the result is not known.
    pub fn settled(&self) -> Option<Result<Option<OwnedFd>, StartError>> {
        // An error is shorter than the size of atomic writes to a pipe, so it arrives whole.
        let mut text = [0; 4096];
        let length = match nix::unistd::read(&self.errors, &mut text) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(error) => return Some(Err(io::Error::from(error).into())),
        };
        if let Some((status, message)) = text[..length].split_first() {
            return Some(Err(StartError { message: String::from_utf8_lossy(message).into_owned(), status: i32::from(*status) }));
        }
        Some(Ok(self.sent(b'T')))
    }

    /// Kills what the process has started and left behind, if it has a part of the cgroup for itself.
    pub fn end_rest(&self) {
        self.part.iter().for_each(Cgroup::kill);
    }

    /// Kills the process, even if the container has stopped it, and what it has started.
    pub fn end(&self) {
        self.end_rest();
        let inside = self.sent(b'P');
        // It may have ended already. Descriptors are used because its number may belong to another process by now.
        for process in inside.iter().chain([&self.process]) {
            let _ = sys::signal_process(process, libc::SIGKILL);
        }
    }

    /// Takes a descriptor of the wanted kind from the line: that of the process inside, or its terminal.
    fn sent(&self, wanted: u8) -> Option<OwnedFd> {
        let mut kind = [0];
        // The descriptor of the process comes first, if it comes at all.
        while let Ok((1, mut fds)) = sys::receive_with(&self.line, &mut kind) {
            if kind[0] == wanted {
                return fds.pop();
            }
        }
        None
    }
}

/// Sends a process into the namespaces and the cgroup of a container's command. The session tells what becomes of it. With a
/// kind of `part`, it gets a cgroup of its own below the container's, so that what it starts can be ended with it.
///
/// # Errors
/// Fails when something goes wrong before the process is created.
pub fn exec(
    command: impl AsFd,
    spec: &ExecSpec,
    container: &Blueprint,
    stdio: Stdio,
    host: &Host,
    part: Option<&str>,
) -> Result<Session, StartError> {
    let (line, far_line) = sys::message_pair()?;
    let (errors, far_errors) = sys::pipe()?;
    line.set_nonblocking(true)?;
    fcntl(&errors, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    let whole = Cgroup::open(host, &container.cgroup());
    let part = part.map(|kind| whole.part(kind)).transpose()?;
    let cgroup = part.as_ref().unwrap_or(&whole);
    let entrance = cgroup.entrance()?;
    let (pid, process) = match sys::clone_process(0, entrance.as_ref())? {
        Side::Child => {
            let mut keep = vec![command.as_fd().as_raw_fd(), far_line.as_raw_fd(), far_errors.as_raw_fd()];
            if let Stdio::Files { stdin, stdout, stderr } = &stdio {
                keep.extend([stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]);
            }
            #[expect(unsafe_code, reason = "this child owns the descriptors that it keeps, and ends without running destructors")]
            // SAFETY: every descriptor that it uses from here on is kept, and it ends by `exit_now` or executes the command.
            let closed = unsafe { sys::close_all_but(&keep) };
            let error = match closed
                .and_then(|()| sys::die_with_parent())
                .and_then(|()| sys::hide())
                .and_then(|()| sys::new_session_keyring())
                .and_then(|()| cgroup.enter(entrance.is_some()))
            {
                Ok(()) => enter(&command, spec, container, stdio, &far_line, &far_errors),
                Err(error) => error.into(),
            };
            write_error(&far_errors, &error);
            sys::exit_now(error.status)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    Ok(Session { pid, process, line, errors, part })
}

/// Joins the container, starts the process in its pid namespace, and ends with the status of that process.
fn enter(
    command: impl AsFd,
    spec: &ExecSpec,
    container: &Blueprint,
    stdio: Stdio,
    line: &UnixStream,
    errors: &OwnedFd,
) -> StartError {
    let outside = || -> io::Result<_> {
        clean_start::plain_limits(spec.process.oom_score_adj())?;
        let filter = container.beyond.filter.as_deref().map(Filter::read).transpose()?;
        // This is the host's /proc: the container's own cannot be trusted.
        Ok((filter, sys::open_folder(Path::new("/proc"))?))
    };
    let (filter, proc) = match outside() {
        Ok(outside) => outside,
        Err(error) => return error.into(),
    };
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if let Err(error) = sys::enter_namespace(command, all) {
        return StartError { message: format!("cannot enter the container: {error}"), status: 126 };
    }
    match sys::clone_process(0, None) {
        Err(error) => error.into(),
        Ok(Side::Child) => {
            let error = inside(spec, stdio, line, filter.as_ref(), &proc);
            write_error(errors, &error);
            sys::exit_now(error.status)
        }
        Ok(Side::Parent { pid, pidfd }) => {
            // No process inside can prevent this message.
            let _ = sys::send_with(line, b"P", &[pidfd.as_raw_fd()]);
            drop((stdio, pidfd));
            // This process only waits. Its open descriptors would keep the caller's streams open.
            #[expect(unsafe_code, reason = "this process only waits, and ends without running destructors")]
            // SAFETY: it uses no descriptor from here on, and ends by `exit_now`.
            let closed = unsafe { sys::close_all_but(&[]) };
            if let Err(error) = closed {
                return error.into();
            }
            for number in 0..3 {
                // It may have been closed before.
                let _ = nix::unistd::close(number);
            }
            let status = sys::wait_for(pid).map_or(137, sys::Ended::status);
            sys::exit_now(status)
        }
    }
}

/// Prepares the process and executes its program. It returns only when something fails, with the error.
fn inside(spec: &ExecSpec, stdio: Stdio, line: &UnixStream, filter: Option<&Filter>, proc: &OwnedFd) -> StartError {
    let ready = || -> Result<_, StartError> {
        sys::die_with_parent()?;
        let root = Root::at(Path::new("/"))?;
        let mut process = known_as(&spec.process, &root.identity(&spec.user.user, &spec.user.groups)?);
        if matches!(stdio, Stdio::Terminal) {
            add_variable(&mut process, "TERM", "xterm");
        }
        arrive((&process, &spec.raw), stdio, false, filter, line, proc)
    };
    match ready() {
        Ok(ready) => execute(&ready),
        Err(error) => error,
    }
}

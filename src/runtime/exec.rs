//! A further process in a running container.

use super::anew;
use super::begin::{StartError, Stdio, write_error};
use super::cgroup::Cgroup;
use super::guard::{Filter, execute};
use super::host::Host;
use super::identity::identity;
use super::spec::{ExecSpec, Spec};
use crate::sys::{self, Side};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A process that is on its way into a container, or in it.
///
/// Whoever is in the container can stop it before its program is executed: wait for [`told`](Self::told) with others.
#[derive(Debug)]
pub struct Session {
    /// A child of this process that ends with the session's exit status.
    pub pid: i32,
    process: OwnedFd,
    line: UnixStream,
    errors: OwnedFd,
}

impl Session {
    /// What becomes readable when its program was executed, or could not be.
    pub fn told(&self) -> &OwnedFd {
        &self.errors
    }

    /// What became of it, once: its terminal, if it has one, or what failed, in words, with the exit status for it;
    /// nothing as long as that is not known.
    pub fn settled(&self) -> Option<Result<Option<OwnedFd>, StartError>> {
        // Below the pipe's atomic size, an error comes whole.
        let mut text = [0; 4096];
        let length = match nix::unistd::read(&self.errors, &mut text) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(error) => return Some(Err(io::Error::from(error).into())),
        };
        if let Some((status, message)) = text[..length].split_first() {
            return Some(Err(StartError { message: String::from_utf8_lossy(message).into_owned(), status: i32::from(*status) }));
        }
        let mut kind = [0];
        let received = sys::receive_with(&self.line, &mut kind);
        Some(Ok(received.ok().filter(|(length, _)| *length == 1).and_then(|(_, mut fds)| fds.pop())))
    }

    /// Kills it.
    pub fn end(&self) {
        // One that is gone has ended; its number may be another's by now.
        let _ = sys::signal_process(&self.process, libc::SIGKILL);
    }
}

/// Sends a process into the namespaces and cgroup of a container's command; what becomes of it, the session tells.
///
/// # Errors
/// What failed before it was a process of its own.
pub fn exec(command: impl AsFd, spec: &ExecSpec, container: &Spec, stdio: Stdio, host: &Host) -> Result<Session, StartError> {
    let (line, far_line) = sys::message_pair()?;
    let (errors, far_errors) = sys::pipe()?;
    line.set_nonblocking(true)?;
    fcntl(&errors, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    let cgroup = Cgroup::open(host, &container.cgroup);
    let entrance = cgroup.entrance()?;
    let (pid, process) = match sys::clone_process(0, entrance.as_ref())? {
        Side::Child => {
            let mut keep = vec![command.as_fd().as_raw_fd(), far_line.as_raw_fd(), far_errors.as_raw_fd()];
            if let Stdio::Files { stdin, stdout, stderr } = &stdio {
                keep.extend([stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]);
            }
            let error = match sys::close_all_but(&keep)
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
    Ok(Session { pid, process, line, errors })
}

/// Joins the container, starts the process in its pid namespace, and ends as it ends.
fn enter(command: impl AsFd, spec: &ExecSpec, container: &Spec, stdio: Stdio, line: &UnixStream, errors: &OwnedFd) -> StartError {
    let filter = anew::apply_to_process(&container.security.ulimits, container.security.oom_score)
        .and_then(|()| Filter::read(&container.security));
    let filter = match filter {
        Ok(filter) => filter,
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
            let error = inside(spec, container, stdio, line, &filter);
            write_error(errors, &error);
            sys::exit_now(error.status)
        }
        Ok(Side::Parent { pid, .. }) => {
            drop(stdio);
            // It only waits: what it holds would keep the caller's streams open.
            if let Err(error) = sys::close_all_but(&[]) {
                return error.into();
            }
            for number in 0..3 {
                // One that was closed before is closed.
                let _ = nix::unistd::close(number);
            }
            let status = sys::wait_for(pid).map_or(137, sys::Ended::status);
            sys::exit_now(status)
        }
    }
}

fn inside(spec: &ExecSpec, container: &Spec, stdio: Stdio, line: &UnixStream, filter: &Filter) -> StartError {
    let prepare = || -> io::Result<super::Identity> {
        sys::die_with_parent()?;
        let root = File::open("/")?;
        let identity = identity(&root, &spec.process.user, &spec.process.groups)?;
        match stdio {
            Stdio::Files { stdin, stdout, stderr } => sys::place_standard([stdin, stdout, stderr])?,
            Stdio::Terminal => {
                let (master, slave) = sys::open_terminal(Path::new("/dev/pts"))?;
                if let Some((rows, columns)) = spec.size {
                    sys::set_window_size(&master, rows, columns);
                }
                nix::unistd::fchown(&slave, Some(identity.uid.into()), Some(5.into()))?;
                sys::send_with(line, b"T", &[master.as_raw_fd()])?;
                (0..3).try_for_each(|number| sys::place_descriptor(&slave, number))?;
            }
        }
        sys::new_session(spec.process.tty)?;
        Ok(identity)
    };
    match prepare() {
        Ok(identity) => execute(&spec.process, &identity, &container.hostname, &container.security, filter),
        Err(error) => error.into(),
    }
}

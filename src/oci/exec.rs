//! Starts an additional process in a container of this runtime.

use super::container::{Container, Status};
use super::init::{execute, find, terminal};
use super::listener::{self, Listener};
use crate::model::{Context, Error, Result};
use crate::runtime::{self, StartError};
use crate::sys::{self, Side};
use nix::sched::CloneFlags;
use oci_spec::runtime::Process;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// How to start a process.
#[derive(Debug)]
pub struct Execution {
    pub process: Process,
    /// The socket to which the terminal's master is sent.
    pub console: Option<UnixStream>,
    pub pid_file: Option<PathBuf>,
    pub preserve: u32,
    /// Whether the container may be paused: the process then waits with the others.
    pub paused_too: bool,
    /// Cgroups below the container's, as `[CONTROLLERS:]PATH`.
    pub below: Vec<String>,
}

/// Starts a process in a running container, and returns its process number.
///
/// # Errors
/// Fails when the container is not running, and when the program cannot be executed, with the exit status for that.
pub fn exec(container: &Container, execution: Execution) -> Result<i32> {
    match container.status() {
        Status::Running | Status::Created => {}
        Status::Paused if execution.paused_too => {}
        status => return Err(Error::new(format!("cannot exec in a {status} container")).status(255)),
    }
    let target = container.process().ok_or_else(|| Error::new("cannot exec in a stopped container").status(255))?;
    let spec = container.spec()?;
    let mut process = execution.process.clone();
    if process.capabilities().is_none() {
        // Without capabilities of its own the process gets those of the container's first process.
        process.set_capabilities(spec.process().as_ref().and_then(|first| first.capabilities().clone()));
    }
    let process = &process;
    let console = match (execution.console.as_ref(), process.terminal() == Some(true)) {
        (Some(stream), true) => Some(stream),
        (None, true) => return Err(Error::new("the process has a terminal, and there is no --console-socket to send it to")),
        _ => None,
    };
    let filter = listener::filter(spec)?;
    runtime::check_label(process)?;
    let cgroup = container
        .cgroup()
        .below(runtime::host(), &execution.below)
        .map_err(|error| Error::caused("cannot exec in this cgroup", error))?;
    let entrance = cgroup.entrance().context(|| "cannot enter the container's cgroup".into())?;
    let (line, far_line) = sys::message_pair().context(|| "cannot make a socket".into())?;
    let (errors, far) = sys::pipe().context(|| "cannot make a pipe".into())?;
    // All namespaces in which the container differs from this process.
    let mut flags = CloneFlags::empty();
    for (name, kind) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("time", CloneFlags::from_bits_retain(0x80)),
    ] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        if of("self") != of(&container.pid.to_string()) {
            flags |= kind;
        }
    }
    sys::hide().context(|| "cannot hide this process".into())?;
    // Joining a pid namespace affects only children, so it is joined before the clone.
    if flags.contains(CloneFlags::CLONE_NEWPID) {
        sys::enter_namespace(&target, CloneFlags::CLONE_NEWPID).context(|| "cannot enter the container".into())?;
    }
    // `&` with the complement of a flag would drop flags that the type does not know.
    let rest = flags.difference(CloneFlags::CLONE_NEWPID);
    let pid = match sys::clone_process(0, entrance.as_ref()).context(|| "cannot start a process".into())? {
        Side::Child => {
            let mut proc = None;
            let mut inside = || -> io::Result<()> {
                cgroup.enter(entrance.is_some())?;
                sys::new_session_keyring()?;
                proc = Some(sys::open_folder(std::path::Path::new("/proc"))?);
                // Wait until the OOM score has been set from outside.
                sys::receive_with(&far_line, &mut [0])
                    .and_then(|(length, _)| if length == 1 { Ok(()) } else { Err(io::Error::other("the runtime is gone")) })?;
                runtime::prepare(process)?;
                spec.linux().as_ref().map_or(Ok(()), runtime::personality)?;
                if !rest.is_empty() {
                    sys::enter_namespace(&target, rest)?;
                }
                if rest.contains(CloneFlags::CLONE_NEWUSER) {
                    sys::become_user(0, 0, &[])?;
                }
                nix::unistd::setsid()?;
                if let Some(console) = console {
                    terminal(console, process, false)?;
                }
                Ok(())
            };
            let error: StartError = match inside() {
                Err(error) => error.into(),
                Ok(()) => match find(process) {
                    Err(error) => error,
                    Ok(ready) => {
                        sys::set_umask(process.user().umask().unwrap_or(0o022));
                        let begun = sys::close_on_exec_from(3 + i32::try_from(execution.preserve).unwrap_or(0))
                            .and_then(|()| proc.ok_or_else(|| io::Error::other("the host's /proc is gone")))
                            .and_then(|proc| runtime::become_process(process, filter.as_ref(), &far_line, &proc));
                        match begun {
                            Ok(()) => execute(process, &ready),
                            Err(error) => error.into(),
                        }
                    }
                },
            };
            let mut message = vec![u8::try_from(error.status).unwrap_or(125)];
            message.extend(error.message.bytes());
            message.truncate(4000);
            let _ = nix::unistd::write(&far, &message);
            sys::exit_now(error.status)
        }
        Side::Parent { pid, .. } => pid,
    };
    drop((far, far_line));
    if let Some(score) = process.oom_score_adj() {
        let set = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
        set.context(|| format!("cannot set oom_score_adj {score}")).inspect_err(|_| {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        })?;
    }
    let _ = sys::send_with(&line, b"G", &[]);
    listener::hear(&line, || Listener::of(container, Status::Running, pid)).inspect_err(|_| {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    })?;
    drop(line);
    let mut said = Vec::new();
    File::from(errors).read_to_end(&mut said).context(|| "cannot read what the process reports".into())?;
    if let Some((status, text)) = said.split_first() {
        let _ = sys::wait_for(pid);
        return Err(Error::new(String::from_utf8_lossy(text).into_owned()).status(*status));
    }
    if let Some(path) = &execution.pid_file {
        sys::write_atomic(path, pid.to_string().as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(pid)
}

//! The process in the new namespaces: it assembles the root, waits, and becomes the program.

use super::container::{State, Status, hooks_of};
use super::hooks;
use crate::runtime::{self, Blueprint, Cgroup, Filter, Host, Raw, Ready, Root, Sources, StartError};
use crate::sys;
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Process};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Everything that the process needs, opened before it enters the namespaces.
pub struct Init<'a> {
    pub blueprint: &'a Blueprint,
    pub host: &'a Host,
    /// The namespaces to join.
    pub joined: Vec<(LinuxNamespaceType, OwnedFd)>,
    pub filter: Option<Filter>,
    pub console: Option<UnixStream>,
    pub start: UnixListener,
    pub no_pivot: bool,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    pub preserve: u32,
    pub cgroup: &'a Cgroup,
    /// The sources of bind mounts, which were opened beforehand.
    pub sources: Sources,
}

/// Adds a description of what was being done to an error.
fn at<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| sys::in_words(what, error.into()))
}

/// Enters the cgroup, whose v2 part it may have been started in (`placed`), and runs. It never returns.
pub fn enter_and_run(init: Init, line: UnixStream, cgroup_namespace: bool, user_namespace: bool, placed: bool) -> ! {
    match init.cgroup.enter(placed) {
        Ok(()) => run(init, line, cgroup_namespace, user_namespace),
        Err(error) => give_up(&line, &error.into()),
    }
}

/// Joins a user namespace and starts the process there, in new namespaces that belong to it. It never returns.
pub fn join_user(mut init: Init, line: UnixStream, namespaces: libc::c_int, cgroup_namespace: bool, placed: bool) -> ! {
    let enter = |init: &Init| -> io::Result<sys::Side> {
        sys::hide()?;
        init.cgroup.enter(placed)?;
        for (_, fd) in init.joined.iter().filter(|(kind, _)| *kind == LinuxNamespaceType::User) {
            at("cannot join a namespace", sys::enter_namespace(fd, CloneFlags::CLONE_NEWUSER))?;
        }
        at("cannot become root of the user namespace", sys::become_user(0, 0, &[]))?;
        at("cannot make the namespaces", sys::clone_process(namespaces | libc::CLONE_PARENT, None))
    };
    match enter(&init) {
        Ok(sys::Side::Child) => {
            init.joined.retain(|(kind, _)| *kind != LinuxNamespaceType::User);
            run(init, line, cgroup_namespace, false)
        }
        Ok(sys::Side::Parent { pidfd, .. }) => {
            let _ = sys::send_with(&line, b"C", &[pidfd.as_raw_fd()]);
            sys::exit_now(0)
        }
        Err(error) => give_up(&line, &error.into()),
    }
}

/// Runs the process until it executes its program, and reports an error to the runtime.
fn run(init: Init, line: UnixStream, cgroup_namespace: bool, user_namespace: bool) -> ! {
    match life(init, &line, cgroup_namespace, user_namespace) {
        Ok(never) => match never {},
        Err(error) => give_up(&line, &error),
    }
}

fn give_up(line: &UnixStream, error: &StartError) -> ! {
    let mut message = vec![b'E'];
    message.extend(error.message.bytes());
    message.truncate(4000);
    let _ = sys::send_with(line, &message, &[]);
    sys::exit_now(error.status)
}

pub enum Never {}

/// Waits for the message to continue, and returns the data that come with it.
fn wait_for(line: &UnixStream, wanted: u8) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 64 << 10];
    let (length, _) = sys::receive_with(line, &mut message)?;
    match message[..length].split_first() {
        Some((first, rest)) if *first == wanted => Ok(rest.to_vec()),
        _ => sys::exit_now(1),
    }
}

fn life(init: Init, line: &UnixStream, cgroup_namespace: bool, user_namespace: bool) -> Result<Never, StartError> {
    let blueprint = init.blueprint;
    let spec = &blueprint.oci;
    sys::hide()?;
    if init.keyring {
        sys::new_session_keyring()?;
    }
    // This is the host's /proc: the container's cannot be trusted.
    let proc = sys::open_folder(Path::new("/proc"))?;
    wait_for(line, b'G')?;
    for (kind, fd) in &init.joined {
        at("cannot join a namespace", sys::enter_namespace(fd, CloneFlags::from_bits_retain(runtime::flag(*kind))))?;
    }
    if user_namespace {
        at("cannot become root of the user namespace", sys::become_user(0, 0, &[]))?;
    }
    if cgroup_namespace {
        at("cannot make a cgroup namespace", nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    runtime::name_namespaces(blueprint)?;
    runtime::loopback(blueprint)?;
    sys::set_umask(0);
    let place = Root::place(blueprint)?;
    let own_mounts = blueprint.has(LinuxNamespaceType::Mount);
    let root = if own_mounts { Some(Root::assemble(blueprint, init.sources, &[], init.host)?) } else { None };
    at("the runtime is gone", sys::send_with(line, b"M", &[]))?;
    let mut state: State = at("cannot read the state", serde_json::from_slice(&wait_for(line, b'H')?))?;
    runtime::sysctls(blueprint, &proc)?;
    // runc runs the hooks in this directory.
    at("cannot enter the root", nix::unistd::chdir(place))?;
    hooks::run(hooks_of(spec, "createContainer"), &state).map_err(|error| io::Error::other(error.chain()))?;
    match root {
        Some(root) => {
            root.enter(init.no_pivot.then_some(place))?;
            runtime::protect(blueprint)?;
        }
        None => at("cannot enter the root", nix::unistd::chroot(place).and_then(|()| nix::unistd::chdir("/")))?,
    }
    let mut start_hooks = hooks_of(spec, "startContainer");
    let process = blueprint.process()?;
    // These hooks run in the container. Without an environment of their own they get that of its process.
    for hook in start_hooks.iter_mut().filter(|hook| hook.env().is_none()) {
        hook.set_env(process.env().clone());
    }
    at("cannot begin a session", nix::unistd::setsid())?;
    if let Some(console) = &init.console {
        at("cannot make the terminal", terminal(console, process, own_mounts))?;
    }
    runtime::prepare(process)?;
    if let Some(linux) = spec.linux() {
        runtime::personality(linux)?;
        runtime::memory_policy(linux)?;
    }
    let ready = find(process)?;
    // A program that decides about calls learns of the process before it waits for `start`: the caller may wait for that.
    let asks = init.filter.as_ref().filter(|filter| filter.notifies());
    if let Some(filter) = asks {
        if process.no_new_privileges() == Some(true) {
            sys::forbid_new_privileges()?;
        }
        filter.install_for(line)?;
    }
    at("the runtime is gone", sys::send_with(line, b"R", &[]))?;
    let (start, _) = at("cannot wait for the start", init.start.accept())?;
    state.status = Status::Created;
    sys::set_umask(process.user().umask().unwrap_or(0o022));
    // The hooks run like the process: with its identity and under its filter.
    let begun = at("cannot close descriptors", sys::close_on_exec_from(3 + i32::try_from(init.preserve).unwrap_or(0)))
        .and_then(|()| runtime::become_process(process, init.filter.as_ref().filter(|_| asks.is_none()), &start, &proc))
        .and_then(|()| hooks::run(start_hooks, &state).map_err(|error| io::Error::other(error.chain())));
    let error: StartError = match begun {
        Ok(()) => execute(process, &ready),
        Err(error) => error.into(),
    };
    let _ = (&start).write_all(error.message.as_bytes());
    drop(start);
    sys::exit_now(error.status)
}

/// Creates the process's terminal, sends its master and its name to the console socket, as runc does, and makes it the
/// process's standard streams.
pub fn terminal(console: &UnixStream, process: &Process, is_console: bool) -> io::Result<()> {
    let (master, slave) = runtime::terminal(process, is_console)?;
    let name = runtime::terminal_name(&slave);
    sys::send_with(console, name.as_os_str().as_encoded_bytes(), &[master.as_raw_fd()])?;
    runtime::take_streams(&slave)
}

/// Finds the process's program. Errors contain the words that podman and docker look for.
pub fn find(process: &Process) -> Result<Ready, StartError> {
    runtime::find(process, &Raw::default()).map_err(|error| in_runc_words(process, error))
}

/// Executes the program. It returns only if that fails, with the reason.
pub fn execute(process: &Process, ready: &Ready) -> StartError {
    in_runc_words(process, runtime::execute(ready))
}

fn in_runc_words(process: &Process, error: StartError) -> StartError {
    let name = process.args().iter().flatten().next().cloned().unwrap_or_default();
    let words = match error.status {
        127 if name.contains('/') => "no such file or directory: ",
        127 => "executable file not found in $PATH: ",
        _ => "",
    };
    StartError { message: format!("exec: {name:?}: {words}{}", error.message), ..error }
}

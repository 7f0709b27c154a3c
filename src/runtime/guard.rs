//! The guard and the command of a container that has a monitor: everything that runs after the monitor has cloned them.

use super::cgroup::Cgroup;
use super::clean_start;
use super::filter::Filter;
use super::host::Host;
use super::namespaces;
use super::process::{arrive, execute, known_as, mask};
use super::rootfs::{Root, Sources, protect};
use super::seccomp;
use super::spec::Blueprint;
use super::stdio::{StartError, Stdio, write_error};
use crate::sys::{self, Ended, Side};
use oci_spec::runtime::LinuxNamespaceType;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What the guard and the command are given.
pub struct Given<'a> {
    pub blueprint: &'a Blueprint,
    pub contents: &'a [Vec<u8>],
    pub host: &'a Host,
    pub cgroup: &'a Cgroup,
    /// Whether the guard was started in the cgroup of the v2 tree.
    pub placed: bool,
    /// The line to the monitor, which reports what has been started, and the end.
    pub line: UnixStream,
    /// The pipe from the monitor, which is written to once the network is set up.
    pub go: OwnedFd,
    /// The pipe to the monitor for errors.
    pub errors: OwnedFd,
}

/// The guard's life: it starts the command and stays with it.
pub fn run(given: &Given, stdio: Stdio) -> ! {
    // This comes first, so that everything that the guard creates is charged to the cgroup.
    let entered = given.cgroup.enter(given.placed).map_err(StartError::from);
    let status = match entered.and_then(|()| guard(given, stdio)) {
        Ok(never) => match never {},
        Err(error) => {
            write_error(&given.errors, &error);
            error.status
        }
    };
    sys::exit_now(status)
}

enum Never {}

fn guard(given: &Given, stdio: Stdio) -> Result<Never, StartError> {
    sys::die_with_parent()?;
    sys::hide()?;
    // With `init` the container sees the guard as its process 1. pivot_root(2) changes the working directory of a process only
    // if it is the root; with any other one, `/proc/1/cwd` would lead out of the container (CVE-2024-21626).
    nix::unistd::chdir("/").map_err(io::Error::from)?;
    sys::new_session_keyring()?;
    let (line, errors) = (&given.line, &given.errors);
    let mut keep = vec![line.as_raw_fd(), errors.as_raw_fd(), given.go.as_raw_fd()];
    if let Stdio::Files { stdin, stdout, stderr } = &stdio {
        keep.extend([stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]);
    }
    #[expect(unsafe_code, reason = "this child owns the descriptors that it keeps, and ends without running destructors")]
    // SAFETY: every descriptor that it uses from here on is kept, and it ends by `exit_now`.
    unsafe {
        sys::close_all_but(&keep)?;
    }
    let blueprint = given.blueprint;
    let inner = if blueprint.beyond.init || !blueprint.has(LinuxNamespaceType::Pid) { 0 } else { libc::CLONE_NEWPID };
    match sys::clone_process(inner | libc::CLONE_NEWCGROUP, None)? {
        Side::Child => {
            let error = command(given, stdio);
            write_error(errors, &error);
            sys::exit_now(error.status)
        }
        Side::Parent { pid, pidfd } => {
            drop(stdio);
            sys::send_with(line, b"P", &[pidfd.as_raw_fd()])?;
            drop(pidfd);
            watch(blueprint, line, errors, pid)
        }
    }
}

/// Stays until the command has ended or the monitor is gone.
fn watch(blueprint: &Blueprint, line: &UnixStream, errors: &OwnedFd, command: i32) -> ! {
    sys::set_title("stead init");
    if let Err(error) = retire(blueprint, line) {
        write_error(errors, &error.into());
        sys::exit_now(125);
    }
    let forwarded = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM, libc::SIGWINCH];
    let mut wanted = forwarded.to_vec();
    wanted.push(libc::SIGCHLD);
    let Ok(signals) = sys::signal_descriptor(&wanted) else { sys::exit_now(125) };
    loop {
        while let Some((pid, ended)) = sys::reap() {
            if pid == command {
                leave(line, ended);
            }
        }
        let Ok(ready) = sys::wait_readable(&[&signals, line], None) else { sys::exit_now(125) };
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if blueprint.beyond.init && forwarded.contains(&number) {
                let _ =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(command), nix::sys::signal::Signal::try_from(number).ok());
            }
        }
        if ready.get(1) == Some(&true) {
            // The monitor sends nothing after the start, so it has ended, and the container must end, too.
            sys::exit_now(137);
        }
    }
}

/// Gives up everything that the guard does not need for staying. As process 1 of the container's pid namespace it is visible
/// there, so it must not be more powerful than the command. It also gets a filter that allows only the calls that it still
/// makes. (That filter is also much shorter than the command's, which the kernel would have to translate a second time.)
fn retire(blueprint: &Blueprint, line: &UnixStream) -> io::Result<()> {
    if blueprint.beyond.init {
        sys::forbid_new_privileges()?;
        let bounding = blueprint.process()?.capabilities().as_ref().map_or(0, |sets| mask(sets.bounding()));
        sys::drop_bounding(bounding)?;
        sys::set_capabilities(bounding & sys::permitted_capabilities())?;
        if blueprint.beyond.filter.is_some() {
            Filter::of(&staying()).install()?;
        }
    }
    // Only the line stays open here, so the error pipe is closed when the command is executed.
    #[expect(unsafe_code, reason = "this child owns the descriptors that it keeps, and ends without running destructors")]
    // SAFETY: from here on it uses only the line, and it ends by `exit_now`.
    unsafe {
        sys::close_all_but(&[line.as_raw_fd()])?;
    }
    for number in 0..3 {
        match nix::unistd::close(number) {
            // EBADF means that it was not open.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The calls that [`watch`] makes, and those for allocating memory and for ending after a panic.
fn staying() -> seccomp::Profile {
    const CALLS: [&str; 32] = [
        "brk",
        "clock_gettime",
        "close",
        "close_range",
        "exit",
        "exit_group",
        "fcntl",
        "futex",
        "getpid",
        "gettid",
        "kill",
        "madvise",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "poll",
        "ppoll",
        "read",
        "recvmsg",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sendmsg",
        "sched_yield",
        "sigaltstack",
        "signalfd4",
        "tgkill",
        "wait4",
        "waitid",
        "write",
    ];
    let rule = seccomp::Rule { names: CALLS.map(str::to_owned).to_vec(), action: seccomp::Action::Allow, arguments: Vec::new() };
    let refused = seccomp::Action::Errno(u16::try_from(libc::EPERM).unwrap_or(1));
    seccomp::Profile { default: refused, rules: vec![rule], also: seccomp::Also::default() }
}

fn leave(line: &UnixStream, ended: Ended) -> ! {
    let mut message = vec![b'X'];
    message.extend(ended.status().to_ne_bytes());
    let _ = sys::send_with(line, &message, &[]);
    sys::exit_now(0)
}

/// Sets up the container and executes the command's program. It returns only when something fails, with the error.
fn command(given: &Given, stdio: Stdio) -> StartError {
    let ready = || -> Result<_, StartError> {
        sys::die_with_parent()?;
        let (blueprint, line) = (given.blueprint, &given.line);
        let process = blueprint.process()?;
        // This is the host's /proc: the container's own cannot be trusted.
        let proc = sys::open_folder(Path::new("/proc"))?;
        clean_start::plain_limits(process.oom_score_adj())?;
        let filter = blueprint.beyond.filter.as_deref().map(Filter::read).transpose()?;
        namespaces::names(blueprint)?;
        sys::set_umask(0);
        // They are opened before this mount namespace is detached from the host's, since mounts that must propagate to the host
        // need that connection.
        let sources = Sources::open(blueprint)?;
        let root = Root::assemble(blueprint, sources, given.contents, given.host)?;
        let process = match &blueprint.beyond.user {
            Some(user) => known_as(process, &root.identity(&user.user, &user.groups)?),
            None => process.clone(),
        };
        root.enter(None)?;
        protect(blueprint)?;
        // Everything above was done while the network was set up. Some kernel settings belong to its links, so wait for it.
        if nix::unistd::read(&given.go, &mut [0]).map_err(io::Error::from)? != 1 {
            // The monitor has ended.
            sys::exit_now(137);
        }
        namespaces::sysctls(blueprint, &proc)?;
        arrive((&process, &blueprint.beyond.raw), stdio, true, filter.as_ref(), line, &proc)
    };
    match ready() {
        Ok(ready) => execute(&ready),
        Err(error) => error,
    }
}

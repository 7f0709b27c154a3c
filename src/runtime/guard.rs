//! The guard and the command's own path to `execve`: everything that runs after the clone.

use super::anew;
use super::begin::{StartError, Stdio, write_error};
use super::cgroup::Cgroup;
use super::host::Host;
use super::identity::Identity;
use super::rootfs::Root;
use super::seccomp;
use super::spec::{ProcessSpec, SecuritySpec, Spec};
use crate::sys::{self, Ended, Side};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The guard's life: assemble the root, wait for the network, start the command, stay with it.
pub fn run(
    spec: &Spec,
    contents: &[Vec<u8>],
    stdio: Stdio,
    host: &Host,
    cgroup: (&Cgroup, bool),
    line: UnixStream,
    errors: OwnedFd,
) -> ! {
    // Before it makes anything that counts.
    let entered = cgroup.0.enter(cgroup.1).map_err(StartError::from);
    let status = match entered.and_then(|()| guard(spec, contents, stdio, host, &line, &errors)) {
        Ok(never) => match never {},
        Err(error) => {
            write_error(&errors, &error);
            error.status
        }
    };
    sys::exit_now(status)
}

enum Never {}

fn guard(
    spec: &Spec,
    contents: &[Vec<u8>],
    stdio: Stdio,
    host: &Host,
    line: &UnixStream,
    errors: &OwnedFd,
) -> Result<Never, StartError> {
    sys::die_with_parent()?;
    sys::hide()?;
    // The guard is in sight as process 1 of `init`: pivot_root(2) takes along who stands at the root, and nobody else, so
    // from any other folder it would be a way out by `/proc/1/cwd` (CVE-2024-21626).
    nix::unistd::chdir("/").map_err(io::Error::from)?;
    sys::new_session_keyring()?;
    let filter = Filter::read(&spec.security)?;
    let mut keep = vec![line.as_raw_fd(), errors.as_raw_fd()];
    if let Stdio::Files { stdin, stdout, stderr } = &stdio {
        keep.extend([stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]);
    }
    sys::close_all_but(&keep)?;
    sys::set_umask(0o022);
    nix::unistd::sethostname(&spec.hostname).map_err(io::Error::from)?;
    let root = Root::assemble(spec, contents)?;
    let identity = root.identity(&spec.process.user, &spec.process.groups)?;
    if !spec.process.workdir.is_empty() {
        root.make_workdir(&spec.process.workdir)?;
    }
    let mut go = [0];
    if sys::receive_with(line, &mut go)?.0 != 1 {
        sys::exit_now(137);
    }
    Root::sysctls(spec)?;
    let inner = if spec.init || spec.host_pid { 0 } else { libc::CLONE_NEWPID };
    match sys::clone_process(inner | libc::CLONE_NEWCGROUP, None)? {
        Side::Child => {
            let error = command(spec, stdio, host, line, root, &identity, &filter);
            write_error(errors, &error);
            sys::exit_now(error.status)
        }
        Side::Parent { pid, pidfd } => {
            sys::send_with(line, b"P", &[pidfd.as_raw_fd()])?;
            drop((stdio, pidfd, root));
            watch(spec, line, errors, pid, &filter)
        }
    }
}

/// Stays until the command ends or the monitor is gone.
fn watch(spec: &Spec, line: &UnixStream, errors: &OwnedFd, command: i32, filter: &Filter) -> ! {
    sys::set_title("stead init");
    if let Err(error) = retire(spec, line, filter) {
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
            if spec.init && forwarded.contains(&number) {
                let _ =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(command), nix::sys::signal::Signal::try_from(number).ok());
            }
        }
        if ready.get(1) == Some(&true) {
            // The monitor says nothing after the start: this is its end, and so the container's.
            sys::exit_now(137);
        }
    }
}

/// Gives up all that staying needs not; as process 1 of the container's own namespace it is in sight there, so it becomes
/// no more powerful than the command, behind a filter that lets it do what it still does and nothing else. (That is also
/// much shorter than the command's, which the kernel would translate a second time.)
fn retire(spec: &Spec, line: &UnixStream, filter: &Filter) -> io::Result<()> {
    if spec.init {
        sys::forbid_new_privileges()?;
        sys::drop_bounding(spec.security.capabilities)?;
        sys::set_capabilities(spec.security.capabilities & sys::permitted_capabilities())?;
        if filter.program.is_some() {
            Filter::of(&staying()).install()?;
        }
    }
    // With only the line left open, the error pipe closes when the command is executed.
    sys::close_all_but(&[line.as_raw_fd()])?;
    for number in 0..3 {
        match nix::unistd::close(number) {
            // It was not open.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The calls of [`watch`], and those by which memory is had and a panic ends.
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

/// The command's path to its program; it returns only with what went wrong.
fn command(
    spec: &Spec,
    stdio: Stdio,
    host: &Host,
    line: &UnixStream,
    root: Root,
    identity: &Identity,
    filter: &Filter,
) -> StartError {
    let prepare = || -> io::Result<()> {
        sys::die_with_parent()?;
        // By the host's /proc: that of the container is not ours to trust.
        anew::apply_to_process(&spec.security.ulimits, spec.security.oom_score)?;
        root.complete(spec, host)?;
        root.enter()?;
        match stdio {
            Stdio::Files { stdin, stdout, stderr } => sys::place_standard([stdin, stdout, stderr])?,
            Stdio::Terminal => {
                let (master, slave) = sys::open_terminal(Path::new("/dev/pts"))?;
                nix::unistd::fchown(&slave, Some(identity.uid.into()), Some(5.into()))?;
                sys::send_with(line, b"T", &[master.as_raw_fd()])?;
                (0..3).try_for_each(|number| sys::place_descriptor(&slave, number))?;
            }
        }
        sys::new_session(spec.process.tty)
    };
    if let Err(error) = prepare() {
        return error.into();
    }
    execute(&spec.process, identity, &spec.hostname, &spec.security, filter)
}

/// A compiled system call filter, read while the host's files are in reach.
#[derive(Default)]
pub struct Filter {
    program: Option<Vec<u8>>,
    /// Whether somebody is told of calls.
    listen: bool,
}

impl Filter {
    /// The filter of a profile.
    pub fn of(profile: &seccomp::Profile) -> Self {
        Self { program: Some(seccomp::compile(profile)), listen: profile.notifies() }
    }

    pub(super) fn read(security: &SecuritySpec) -> io::Result<Self> {
        let Some(path) = &security.filter else { return Ok(Self::default()) };
        let bytes = std::fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read the system call filter {}: {error}", path.display()))
        })?;
        Ok(Self { program: Some(bytes), listen: false })
    }

    /// Whether somebody beside the container is told of calls.
    pub fn notifies(&self) -> bool {
        self.listen
    }

    /// Installs it for this process and all that it executes; where somebody is told of calls, gives the
    /// descriptor that tells.
    ///
    /// # Errors
    /// Those of `seccomp(2)`.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        match &self.program {
            Some(program) => sys::install_filter(program, self.listen)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot install the system call filter: {error}"))),
            None => Ok(None),
        }
    }
}

/// Takes on the process's identity and executes its program.
pub(super) fn execute(
    process: &ProcessSpec,
    identity: &Identity,
    hostname: &str,
    security: &SecuritySpec,
    filter: &Filter,
) -> StartError {
    let become_it = || -> io::Result<()> {
        let wanted = security.capabilities;
        let had = sys::permitted_capabilities();
        if security.no_new_privileges {
            sys::forbid_new_privileges()?;
        } else {
            // Without that promise a filter needs CAP_SYS_ADMIN, so it comes before that is dropped.
            filter.install()?;
        }
        sys::drop_bounding(wanted)?;
        sys::become_user(identity.uid, identity.gid, &identity.groups)?;
        let workdir = if process.workdir.is_empty() { "/" } else { &process.workdir };
        nix::unistd::chdir(workdir)
            .map_err(|error| io::Error::other(format!("cannot enter the working directory {workdir}: {error}")))?;
        // A working directory outside the root could be left behind (CVE-2024-21626).
        if !std::env::current_dir()?.starts_with("/") {
            return Err(io::Error::other("the working directory is outside of the container"));
        }
        // What this process itself lacks it cannot give; `up` has said so.
        sys::set_capabilities(if identity.uid == 0 { wanted & had } else { 0 })?;
        // A change of user cleared it (prctl(2)).
        sys::die_with_parent()?;
        if security.no_new_privileges {
            filter.install()?;
        }
        Ok(())
    };
    if let Err(error) = become_it() {
        return error.into();
    }
    let environment = environment(process, identity, hostname);
    let error = invocation(process, &environment);
    sys::reset_signals();
    match error {
        Ok((program, arguments, environment)) => {
            if let Err(error) = sys::close_on_exec_from(3) {
                return error.into();
            }
            let error = sys::execute(&program, &arguments, &environment);
            let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let shown = process.args.first().map_or("", String::as_str);
            let message = match error.raw_os_error() {
                Some(libc::ENOEXEC) => {
                    format!("cannot execute \"{shown}\": it is neither a program nor a script with a `#!` line")
                }
                Some(libc::ENOENT) => {
                    format!("cannot execute \"{shown}\": it, or the interpreter that it names, is not in the image")
                }
                _ => format!("cannot execute \"{shown}\": {error}"),
            };
            StartError { message, status }
        }
        Err(error) => error,
    }
}

/// The environment: what is written, over the defaults that Docker gives.
fn environment(process: &ProcessSpec, identity: &Identity, hostname: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), crate::model::PATH.to_owned()),
        ("HOME".to_owned(), identity.home.clone()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
    ]);
    if process.tty {
        all.insert("TERM".into(), "xterm".into());
    }
    all.extend(process.env.clone());
    all
}

type Invocation = (CString, Vec<CString>, Vec<CString>);

fn invocation(process: &ProcessSpec, environment: &BTreeMap<String, String>) -> Result<Invocation, StartError> {
    let text =
        |text: &str| CString::new(text).map_err(|_| StartError { message: format!("{text:?} holds a NUL byte"), status: 126 });
    let Some(name) = process.args.first() else {
        return Err(StartError { message: "no command is given, by the container or by its image".into(), status: 127 });
    };
    let arguments = process.args.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
    let environment_text =
        environment.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<Vec<_>, _>>()?;
    let found = program(name, environment.get("PATH").map_or("", String::as_str))?;
    Ok((found, arguments, environment_text))
}

/// Finds a program in `PATH`, as execvp(3) does.
///
/// # Errors
/// One that is not there, or may not be executed, with the exit status for it.
pub fn program(name: &str, path: &str) -> Result<CString, StartError> {
    let text =
        |text: &str| CString::new(text).map_err(|_| StartError { message: format!("{text:?} holds a NUL byte"), status: 126 });
    if name.contains('/') {
        return text(name);
    }
    let mut denied = false;
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = format!("{folder}/{name}");
        match nix::unistd::access(candidate.as_str(), nix::unistd::AccessFlags::X_OK) {
            Ok(()) if Path::new(&candidate).is_file() => return text(&candidate),
            Err(nix::errno::Errno::EACCES) => denied = true,
            _ => {}
        }
    }
    let hint = if name.contains(' ') { "; `cmd` takes a word an argument: cmd \"sleep\" \"100\"" } else { "" };
    let (why, status) = if denied { ("may not be executed by this user", 126) } else { ("is not in the image", 127) };
    Err(StartError { message: format!("the command \"{name}\" {why} (looked in {path}){hint}"), status })
}

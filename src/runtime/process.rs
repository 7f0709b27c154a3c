//! Prepares one process of a container and executes its program: limits, terminal, identity, capabilities, filter, execution.
//!
//! This code exists once: for first processes and further ones, of projects and of bundles.

use super::confine;
use super::filter::Filter;
use super::identity::Identity;
use super::limits::resource;
use super::raw::Raw;
use super::rootfs::{Root, through};
use super::stdio::{StartError, Stdio};
use crate::model::capability;
use crate::sys::{self, Depth, Detached, doing};
use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit};
use nix::unistd::AccessFlags;
use oci_spec::runtime::{Capabilities, Linux, LinuxCapabilities, Process};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A set of capabilities as a bit mask.
pub fn mask(set: &Option<Capabilities>) -> u64 {
    // The crate uses the same names as we do, without `CAP_`.
    set.iter().flatten().filter_map(|one| capability::number(&one.to_string())).fold(0, |mask, bit| mask | 1 << bit)
}

/// The same process with the identity that was looked up in the container's own files.
pub fn known_as(process: &Process, identity: &Identity) -> Process {
    let mut process = process.clone();
    process.user_mut().set_uid(identity.uid).set_gid(identity.gid).set_additional_gids(Some(identity.groups.clone()));
    add_variable(&mut process, "HOME", &identity.home);
    process
}

/// Sets a variable of a process, unless it is set already.
pub fn add_variable(process: &mut Process, name: &str, value: &str) {
    let all = process.env_mut().get_or_insert_default();
    if !all.iter().any(|pair| pair.split_once('=').is_some_and(|(known, _)| known == name)) {
        all.push(format!("{name}={value}"));
    }
}

/// Creates a terminal in the container, in the size that the process wants, and returns its master and its slave. For a first
/// process it is the console, too.
///
/// # Errors
/// Fails when the container has no /dev/pts.
pub fn terminal(process: &Process, is_console: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (master, slave) = sys::open_terminal(Path::new("/dev/pts"))?;
    if let Some(size) = process.console_size() {
        let (rows, columns) = (u16::try_from(size.height()).unwrap_or(0), u16::try_from(size.width()).unwrap_or(0));
        sys::set_window_size(&master, rows, columns);
    }
    nix::unistd::fchown(&slave, Some(process.user().uid().into()), None)?;
    if is_console {
        let root = Root::at(Path::new("/"))?;
        if let Ok(target) = root.file(Path::new("dev/console")) {
            Detached::copy_of(&slave, Depth::Top)?.attach(target)?;
        }
    }
    Ok((master, slave))
}

/// The path of a terminal, as runc reports it.
pub fn terminal_name(slave: &OwnedFd) -> std::path::PathBuf {
    std::fs::read_link(through(slave)).unwrap_or_default()
}

/// Makes a terminal the controlling terminal of this session, and the standard streams.
///
/// # Errors
/// Fails when `TIOCSCTTY` (ioctl_tty(2)) or `dup2(2)` fails.
pub fn take_streams(slave: &OwnedFd) -> io::Result<()> {
    sys::take_terminal(slave)?;
    #[expect(unsafe_code, reason = "this process may replace the standard descriptors")]
    // SAFETY: nothing here owns a standard descriptor.
    let place = |number| unsafe { sys::place_descriptor(slave, number) };
    (0..3).try_for_each(place)
}

/// Applies the limits and the scheduling of a container's process to this process, and so to the program that it executes.
///
/// # Errors
/// Names the setting that the kernel refuses.
pub fn prepare(process: &Process) -> io::Result<()> {
    limit(process, |wanted, now| (wanted.0.max(now.0), wanted.1.max(now.1)))?;
    if let Some(priority) = process.io_priority() {
        let class = match format!("{:?}", priority.class()).as_str() {
            name if name.ends_with("Rt") => 1,
            name if name.ends_with("Idle") => 3,
            _ => 2,
        };
        doing("cannot set the I/O priority", sys::set_io_priority(class, i32::try_from(priority.priority()).unwrap_or(4)))?;
    }
    if let Some(scheduler) = process.scheduler() {
        let words = serde_json::to_value(scheduler)?;
        let policy = match words["policy"].as_str().unwrap_or_default() {
            "SCHED_FIFO" => 1,
            "SCHED_RR" => 2,
            "SCHED_BATCH" => 3,
            "SCHED_IDLE" => 5,
            "SCHED_DEADLINE" => 6,
            _ => 0,
        };
        // `SCHED_FLAG_*` (sched_setattr(2)), by the crate's names.
        let flags = words["flags"].as_array().into_iter().flatten().filter_map(|flag| flag.as_str()).fold(0, |all, flag| {
            all | match flag {
                "SCHED_RESET_ON_FORK" => 0x01,
                "SCHED_FLAG_RECLAIM" => 0x02,
                "SCHED_FLAG_D_L_OVERRUN" => 0x04,
                "SCHED_FLAG_KEEP_POLICY" => 0x08,
                "SCHED_FLAG_KEEP_PARAMS" => 0x10,
                "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
                "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
                _ => 0,
            }
        });
        let number = |name: &str| words[name].as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
        let time = |name: &str| words[name].as_u64().unwrap_or(0);
        let scheduler = sys::Scheduler {
            policy,
            flags,
            nice: number("nice"),
            priority: number("priority").unsigned_abs(),
            times: ["runtime", "deadline", "period"].map(time),
        };
        doing("cannot set the scheduler", sys::set_scheduler(&scheduler))?;
    }
    Ok(())
}

/// Applies the limits that this process itself could not bear before, such as one of four descriptors. They were made possible
/// by [`prepare`], so this needs no rights.
fn limit_at_last(process: &Process) -> io::Result<()> {
    limit(process, |wanted, _| wanted)
}

/// Sets each limit of a process to what `choose` makes of the wanted and the present one, both soft and hard.
fn limit(process: &Process, choose: impl Fn((u64, u64), (u64, u64)) -> (u64, u64)) -> io::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string().to_lowercase();
        let name = name.trim_start_matches("rlimit_").to_owned();
        let Some(resource) = resource(&name) else { return Err(io::Error::other(format!("there is no resource limit {name}"))) };
        let set = || -> nix::Result<()> {
            let (soft, hard) = choose((limit.soft(), limit.hard()), getrlimit(resource)?);
            setrlimit(resource, soft, hard)
        };
        doing(&format!("cannot set the ulimit \"{name}\" (RLIMIT_{})", name.to_uppercase()), set().map_err(io::Error::from))?;
    }
    Ok(())
}

/// Sets the execution domain, which decides what kind of kernel the process sees (personality(2)).
///
/// # Errors
/// Fails when `personality(2)` fails.
pub fn personality(linux: &Linux) -> io::Result<()> {
    let Some(personality) = linux.personality() else { return Ok(()) };
    let domain = if serde_json::to_value(personality)?["domain"] == "LINUX32" { 8 } else { 0 };
    doing("cannot set the personality", sys::set_personality(domain))
}

/// Sets the policy by which memory is allocated from NUMA nodes (set_mempolicy(2)).
///
/// # Errors
/// Fails when a value is not one of the specification's, or `set_mempolicy(2)` fails.
pub fn memory_policy(linux: &Linux) -> io::Result<()> {
    let Some(policy) = linux.memory_policy() else { return Ok(()) };
    let words = serde_json::to_value(policy)?;
    let mode = match words["mode"].as_str().unwrap_or_default() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(io::Error::other(format!("there is no memory policy mode {other:?}"))),
    };
    let flags = words["flags"].as_array().into_iter().flatten().filter_map(|flag| flag.as_str()).fold(0, |all, flag| {
        all | match flag {
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_STATIC_NODES" => 1 << 15,
            _ => 0,
        }
    });
    let nodes = match words["nodes"].as_str().filter(|nodes| !nodes.is_empty()) {
        Some(text) => {
            super::host::processors(text).ok_or_else(|| io::Error::other(format!("{text:?} is not a list of nodes")))?
        }
        None => std::collections::BTreeSet::new(),
    };
    doing("cannot set the memory policy", sys::set_memory_policy(mode | flags, &nodes.into_iter().collect::<Vec<_>>()))
}

/// Checks that the kernel would accept a process's capabilities: inheritable ones must be in the bounding set. Permitted ones
/// outside of it are lost when the program is executed; nothing has to be done for that (capabilities(7)).
///
/// # Errors
/// Fails when there are inheritable or ambient capabilities outside of the bounding set.
pub fn check_capabilities(process: &Process) -> io::Result<()> {
    let beyond = |sets: &LinuxCapabilities| (mask(sets.inheritable()) | mask(sets.ambient())) & !mask(sets.bounding()) != 0;
    if process.capabilities().as_ref().is_some_and(beyond) {
        let why = "EPERM: process.capabilities has inheritable capabilities that are not in its bounding set";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// Takes on the process's identity, capabilities and filter. The listener of a filter is sent over the line.
///
/// # Errors
/// Fails when the kernel refuses something, and when the working directory cannot be entered or is outside of the root.
pub fn become_process(process: &Process, filter: Option<&Filter>, line: &UnixStream, proc: &OwnedFd) -> io::Result<()> {
    let promised = process.no_new_privileges() == Some(true);
    check_capabilities(process)?;
    confine::confine(process, proc)?;
    // From here on nothing is opened. A filter may forbid this call, so it comes before that.
    limit_at_last(process)?;
    if promised {
        sys::forbid_new_privileges()?;
    } else if let Some(filter) = filter {
        // Without `no_new_privileges` a filter needs CAP_SYS_ADMIN, so it is installed before that is dropped.
        filter.install_for(line)?;
    }
    // Without `process.capabilities` the process gets none, as with runc.
    let said =
        |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| process.capabilities().as_ref().map_or(0, |all| mask(set(all)));
    let had = sys::permitted_capabilities();
    doing("cannot drop capabilities from the bounding set", sys::drop_bounding(said(LinuxCapabilities::bounding)))?;
    sys::keep_capabilities(true)?;
    // This is tried before and after the change of user: perhaps only one of the two users may enter it (runc#2086).
    let cwd = process.cwd();
    let entered = nix::unistd::chdir(cwd.as_path()).or_else(|error| {
        if error == nix::errno::Errno::ENOENT && std::fs::create_dir_all(cwd).is_ok() {
            nix::unistd::chdir(cwd.as_path())
        } else {
            Err(error)
        }
    });
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    doing("cannot change to the user", sys::become_user(user.uid(), user.gid(), &groups))?;
    sys::keep_capabilities(false)?;
    if entered.is_err() {
        doing(
            &format!("cannot enter the working directory {}", cwd.display()),
            nix::unistd::chdir(cwd.as_path()).map_err(io::Error::from),
        )?;
    }
    // The working directory could still be one outside of the root (CVE-2024-21626).
    if !std::env::current_dir()?.starts_with("/") {
        return Err(io::Error::other("the working directory is outside of the container"));
    }
    let (effective, permitted) = (said(LinuxCapabilities::effective) & had, said(LinuxCapabilities::permitted) & had);
    let (inheritable, ambient) = (said(LinuxCapabilities::inheritable) & had, said(LinuxCapabilities::ambient));
    doing("cannot set the capabilities", sys::set_capability_sets(effective & permitted, permitted, inheritable, ambient))?;
    if let Some(filter) = filter.filter(|_| promised) {
        filter.install_for(line)?;
    }
    Ok(())
}

/// Prepares a process that has a monitor, after the root has been entered: session, streams, limits, identity, program.
/// The master of its terminal is sent over the line.
///
/// # Errors
/// Fails when the kernel refuses something or the program is not found.
pub fn arrive(
    (process, raw): (&Process, &Raw),
    stdio: Stdio,
    is_console: bool,
    filter: Option<&Filter>,
    line: &UnixStream,
    proc: &OwnedFd,
) -> Result<Ready, StartError> {
    nix::unistd::setsid().map_err(io::Error::from)?;
    match stdio {
        Stdio::Files { stdin, stdout, stderr } => sys::place_standard([stdin, stdout, stderr])?,
        Stdio::Terminal => {
            let (master, slave) = terminal(process, is_console)?;
            sys::send_with(line, b"T", &[master.as_raw_fd()])?;
            take_streams(&slave)?;
        }
    }
    prepare(process)?;
    sys::set_umask(process.user().umask().unwrap_or(0o022));
    let process = &standing(process, raw);
    become_process(process, filter, line, proc)?;
    // The change of user has cleared it (prctl(2)).
    sys::die_with_parent()?;
    let ready = find(process, raw)?;
    sys::close_on_exec_from(3)?;
    Ok(ready)
}

/// The process with its working directory in the bytes that it has.
fn standing(process: &Process, raw: &Raw) -> Process {
    let mut process = process.clone();
    process.set_cwd(raw.workdir(&process));
    process
}

/// A program that was found, with its arguments and environment.
pub struct Ready {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Finds the program of a process, in its own `PATH` if it is a plain name.
///
/// # Errors
/// Fails when the program is not found or may not be executed, and when a word has a NUL byte. The error has the exit status.
pub fn find(process: &Process, raw: &Raw) -> Result<Ready, StartError> {
    let mut process = process.clone();
    if !process.env().iter().flatten().any(|pair| pair.starts_with("HOME=")) {
        let home = Root::at(Path::new("/"))
            .and_then(|root| root.identity(&process.user().uid().to_string(), &[]))
            .map_or_else(|_| "/".to_owned(), |identity| identity.home);
        add_variable(&mut process, "HOME", &home);
    }
    let (arguments, environment) = (raw.args(&process), raw.env(&process));
    let Some(name) = arguments.first() else {
        return Err(StartError { message: "neither the container nor its image has a command".into(), status: 127 });
    };
    let path = environment.iter().find_map(|pair| pair.as_bytes().strip_prefix(b"PATH="));
    let path = path.map_or(OsStr::new(crate::model::PATH), OsStr::from_bytes);
    let texts = |words: &[OsString]| words.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>();
    Ok(Ready { program: program(name, path, process.cwd())?, arguments: texts(&arguments)?, environment: texts(&environment)? })
}

fn text(text: &OsStr) -> Result<CString, StartError> {
    CString::new(text.as_bytes()).map_err(|_| StartError { message: format!("{text:?} contains a NUL byte"), status: 126 })
}

/// Finds a program in `PATH`, as execvp(3) does.
fn program(name: &OsStr, path: &OsStr, cwd: &Path) -> Result<CString, StartError> {
    if name.as_bytes().contains(&b'/') {
        // If that cannot be determined, the program may still be executable.
        return match cwd.join(name).try_exists() {
            Ok(false) => Err(not_executed(&name.to_string_lossy(), &io::Error::from_raw_os_error(libc::ENOENT))),
            _ => text(name),
        };
    }
    let mut denied = false;
    for folder in path.as_bytes().split(|byte| *byte == b':').filter(|folder| !folder.is_empty()) {
        let candidate = OsString::from_vec([folder, b"/", name.as_bytes()].concat());
        match nix::unistd::access(candidate.as_os_str(), AccessFlags::X_OK) {
            Ok(()) if Path::new(&candidate).is_file() => return text(&candidate),
            Err(Errno::EACCES) => denied = true,
            _ => {}
        }
    }
    let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
    let hint = if name.contains(' ') { "; `cmd` takes one word per argument: cmd \"sleep\" \"100\"" } else { "" };
    let (why, status) = if denied { ("may not be executed by this user", 126) } else { ("is not in the image", 127) };
    Err(StartError { message: format!("the command \"{name}\" {why} (looked in {path}){hint}"), status })
}

/// Executes the program. It returns only when that fails, with the error.
pub fn execute(ready: &Ready) -> StartError {
    sys::reset_signals();
    let error = sys::execute(&ready.program, &ready.arguments, &ready.environment);
    not_executed(&ready.arguments.first().unwrap_or(&ready.program).to_string_lossy(), &error)
}

fn not_executed(name: &str, error: &io::Error) -> StartError {
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let message = match error.raw_os_error() {
        Some(libc::ENOEXEC) => format!("cannot execute \"{name}\": it is neither a program nor a script with a `#!` line"),
        Some(libc::ENOENT) => format!("cannot execute \"{name}\": it, or the interpreter that it names, is not in the image"),
        _ => format!("cannot execute \"{name}\": {error}"),
    };
    StartError { message, status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_our_names() {
        let set: Capabilities = [oci_spec::runtime::Capability::NetAdmin, oci_spec::runtime::Capability::Chown].into();
        assert_eq!(mask(&Some(set)), 1 << 12 | 1);
    }

    #[test]
    fn programs_are_found_where_the_process_will_stand() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here"), "").unwrap();
        let found = |name: &str| program(name.as_ref(), "/bin".as_ref(), folder.path()).map_err(|error| error.status);
        assert_eq!(found("./here"), Ok(c"./here".to_owned()));
        assert_eq!(found("./there"), Err(127));
        assert_eq!(found("no-such-program"), Err(127));
        assert_eq!(found("/nowhere/at/all"), Err(127));
    }
}

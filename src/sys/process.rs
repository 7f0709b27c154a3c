//! Processes: clone3, identity, capabilities, descriptors, waiting.

use super::check;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// `CLONE_INTO_CGROUP`, which libc does not name on every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
pub enum Side {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Starts a child in new namespaces, if wanted in a cgroup (v2) from its first instruction.
///
/// # Errors
/// Those of `clone3(2)`, and `EBUSY` when this process has more than one thread: the child of a
/// threaded process may not allocate, and ours does.
pub fn clone_process(namespaces: libc::c_int, cgroup: Option<&OwnedFd>) -> io::Result<Side> {
    // Whoever is alone in its memory may ask for memory of its own, which changes nothing; others may not (unshare(2)).
    // Asked of the kernel, since /proc may be a container's by now.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_VM).map_err(|error| match error {
        nix::errno::Errno::EINVAL => io::Error::from_raw_os_error(libc::EBUSY),
        error => error.into(),
    })?;
    let mut pidfd: RawFd = -1;
    // A number that is no set of flags must not become none at all.
    let wanted = u64::try_from(namespaces).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut flags = wanted | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments: [u64; 11] = [
        flags,
        std::ptr::from_mut(&mut pidfd) as u64,
        0,
        0,
        // A sibling tells its end as the caller does (clone(2), CLONE_PARENT).
        if namespaces & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD as u64 },
        0,
        0,
        0,
        0,
        0,
        cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    ];
    // SAFETY: the arguments follow struct clone_args (88 bytes); no stack is given, so the child
    // goes on on a copy of this one; the process has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), std::mem::size_of_val(&arguments)) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor here.
    Ok(Side::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// A descriptor for a running process.
///
/// # Errors
/// Those of `pidfd_open(2)`.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_open returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to exactly the process that the descriptor means.
///
/// # Errors
/// Those of `pidfd_send_signal(2)`.
pub fn signal_process(process: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no signal information is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_fd().as_raw_fd(), signal, std::ptr::null::<u8>(), 0) })
        .map(drop)
}

/// Asks the kernel to kill this process when its parent dies.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Sets the I/O priority of this process: class 1 to 3, priority 0 to 7 (ioprio_set(2)).
///
/// # Errors
/// Those of `ioprio_set(2)`.
pub fn set_io_priority(class: i32, priority: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, class << 13 | priority) }).map(drop)
}

/// Gives this process ordinary scheduling on all processors. What may not be had is no danger: it stays slower, or
/// faster, than others.
pub fn plain_scheduling() {
    let ordinary = Scheduler { policy: 0, flags: 0, nice: 0, priority: 0, times: [0; 3] };
    let _ = set_scheduler(&ordinary);
    // Class 0 is that of the niceness (ioprio_set(2)).
    let _ = set_io_priority(0, 0);
    let mut all = nix::sched::CpuSet::new();
    for processor in 0..nix::sched::CpuSet::count() {
        let _ = all.set(processor);
    }
    // The kernel leaves out what is not there, or not in this process's cpuset.
    let _ = nix::sched::sched_setaffinity(Pid::from_raw(0), &all);
}

/// Sets the execution domain of this process (personality(2)).
///
/// # Errors
/// Those of `personality(2)`.
pub fn set_personality(domain: libc::c_ulong) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::personality(domain) })).map(drop)
}

/// Sets the policy by which memory comes from nodes.
///
/// # Errors
/// Those of `set_mempolicy(2)`.
pub fn set_memory_policy(mode: i32, nodes: &[u32]) -> io::Result<()> {
    let mut mask = [0u64; 64];
    for node in nodes {
        if let Some(word) = mask.get_mut(*node as usize / 64) {
            *word |= 1 << (node % 64);
        }
    }
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), mask.len() * 64) };
    // SAFETY: the mask has as many bits as is passed, or there is none.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
}

/// How a process is scheduled (sched_setattr(2)).
#[derive(Debug)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Of a policy of deadlines: runtime, deadline and period, in nanoseconds.
    pub times: [u64; 3],
}

/// Sets this process's scheduling.
///
/// # Errors
/// Those of `sched_setattr(2)`.
pub fn set_scheduler(scheduler: &Scheduler) -> io::Result<()> {
    #[repr(C)]
    struct Attributes(u32, u32, u64, i32, u32, [u64; 3]);
    let Scheduler { policy, flags, nice, priority, times } = *scheduler;
    let attributes = Attributes(48, policy, flags, nice, priority, times);
    // SAFETY: the attributes are 48 bytes, as their first field says, and alive during the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) }).map(drop)
}

/// Brings up the loopback of this process's network namespace.
///
/// # Errors
/// Those of `socket(2)` and of `SIOCSIFFLAGS` (netdevice(7)).
pub fn raise_loopback() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is alive during the call.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) }))
        .map(drop)
}

/// Lets go of the caller's session keyring: through it a container could read keys of the host's root.
///
/// # Errors
/// Those of `keyctl(2)`; a kernel without keys has none to give.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: no name is given, so the new keyring is anonymous.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, none, none, none, none) }) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Hides this process's memory and `/proc/PID` from others of its user.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn hide() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Sets what `ps` shows as this process's name (at most 15 bytes).
pub fn set_name(name: &CStr) {
    // A wrong name harms nothing.
    let _ = nix::sys::prctl::set_name(name);
}

/// Closes every descriptor from `first` up.
///
/// # Errors
/// Those of `close_range(2)`.
///
/// # Safety
/// Nothing in this process that owns or has borrowed one of them is used, or dropped, afterwards.
pub unsafe fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller promises that nobody misses them.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` up to be closed on exec.
///
/// # Errors
/// Those of `close_range(2)`.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: changes flags only.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Puts a descriptor at a number, open across exec.
///
/// # Errors
/// Those of `dup2(2)` and `fcntl(2)`.
///
/// # Safety
/// Nothing in this process owns what the number means now, unless it is the descriptor itself.
pub unsafe fn place_descriptor(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    if raw == number {
        // SAFETY: changes flags only.
        return check(libc::c_long::from(unsafe { libc::fcntl(raw, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: the caller promises that nobody owns what is closed by it.
    check(libc::c_long::from(unsafe { libc::dup2(raw, number) })).map(drop)
}

/// Makes three descriptors the standard ones of the program that is executed next.
///
/// # Errors
/// Those of `dup2(2)` and `fcntl(2)`.
pub fn place_standard(streams: [OwnedFd; 3]) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    for (number, fd) in (0..).zip(streams) {
        // SAFETY: the standard library owns none of the standard descriptors, and neither does anything here.
        unsafe { place_descriptor(&fd, number)? };
        // One that has its number already must not be closed with its owner; the others close on exec.
        let _ = fd.into_raw_fd();
    }
    Ok(())
}

/// Takes over a descriptor that the parent placed at a number.
///
/// # Errors
/// `EBADF` when it is not open.
///
/// # Safety
/// Nothing else in this process owns it.
pub unsafe fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: reads flags only.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: it is open, and the caller promises that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A duplicate of another process's descriptor.
///
/// # Errors
/// Those of `pidfd_open(2)` and `pidfd_getfd(2)`.
pub fn borrow_descriptor(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    let process = open_process(pid)?;
    // SAFETY: plain numbers, and a descriptor that is open for the whole call.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    // SAFETY: pidfd_getfd returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Promises that no program executed from here gains privileges.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Installs a system call filter for this process and its children: a BPF program, eight bytes an
/// instruction (seccomp(2)).
///
/// # Errors
/// Those of `seccomp(2)`; `EINVAL` for what is no program.
pub fn install_filter(program: &[u8], listen: bool) -> io::Result<Option<OwnedFd>> {
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|one| libc::sock_filter {
            code: u16::from_ne_bytes([one[0], one[1]]),
            jt: one[2],
            jf: one[3],
            k: u32::from_ne_bytes([one[4], one[5], one[6], one[7]]),
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: the program points to as many instructions as it says, alive during the call; the kernel copies them.
    let flags = if listen { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let listener =
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) })?;
    // SAFETY: with that flag the kernel made this descriptor for this process just now.
    Ok(listen.then(|| unsafe { OwnedFd::from_raw_fd(listener as RawFd) }))
}

/// Drops every capability but these from the bounding set.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn drop_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: plain numbers.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if known < 0 {
            break;
        }
        if known == 1 && keep & (1 << capability) == 0 {
            // SAFETY: plain numbers.
            check(libc::c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }))?;
        }
    }
    Ok(())
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// Sets the effective and permitted capabilities; inheritable and ambient become empty.
///
/// # Errors
/// Those of `prctl(2)` and `capset(2)`.
pub fn set_capabilities(mask: u64) -> io::Result<()> {
    // SAFETY: plain numbers. Kernels without ambient capabilities have none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data follow _LINUX_CAPABILITY_VERSION_3.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) }).map(drop)
}

/// Keeps the permitted capabilities across the next changes of user, or not.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0, 0, 0) })).map(drop)
}

/// Sets each of the sets of capabilities; ambient ones must be inheritable and permitted, too.
///
/// # Errors
/// Those of `prctl(2)` and `capset(2)`.
pub fn set_capability_sets(effective: u64, permitted: u64, inheritable: u64, ambient: u64) -> io::Result<()> {
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let data = [
        effective as u32,
        permitted as u32,
        inheritable as u32,
        (effective >> 32) as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    // SAFETY: header and data follow _LINUX_CAPABILITY_VERSION_3.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })?;
    // SAFETY: plain numbers. Kernels without ambient capabilities have none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    for capability in (0..64).filter(|capability| ambient & inheritable & permitted & 1 << capability != 0) {
        // SAFETY: plain numbers.
        check(libc::c_long::from(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }))?;
    }
    Ok(())
}

/// The permitted capabilities of this process.
pub fn permitted_capabilities() -> u64 {
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let mut data = [0u32; 6];
    // SAFETY: header and data follow _LINUX_CAPABILITY_VERSION_3.
    unsafe { libc::syscall(libc::SYS_capget, std::ptr::from_ref(&header), data.as_mut_ptr()) };
    u64::from(data[1]) | u64::from(data[4]) << 32
}

/// Becomes a user: groups, then group, then user; keeps capabilities across the change if asked.
///
/// # Errors
/// Those of `setgroups(2)`, `setresgid(2)`, `setresuid(2)`.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    setgroups(&groups)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}

/// Replaces this process's program.
///
/// # Errors
/// Those of `execve(2)`; it returns only then.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Ends this process at once, without destructors: for children of a clone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; no memory is touched.
    unsafe { libc::_exit(code) }
}

/// Reaps one child that has ended, if there is one.
pub fn reap() -> Option<(i32, Ended)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid.as_raw(), Ended::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Some((pid.as_raw(), Ended::Signal(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return None,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Waits for a certain child.
///
/// # Errors
/// Those of `waitpid(2)`.
pub fn wait_for(pid: i32) -> io::Result<Ended> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    /// The exit status as a shell tells it: 128 and the signal's number for a signal.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Waits until any of some descriptors is readable (or hung up); tells which.
///
/// # Errors
/// Those of `poll(2)`; an interruption by a signal is no error and tells none.
pub fn wait_readable(fds: &[&dyn AsFd], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polls: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    // What no number of milliseconds says is as long as can be said.
    let timeout = timeout.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    match poll(&mut polls, timeout) {
        // What it has no word for has happened, too.
        Ok(_) => Ok(polls.iter().map(|poll| poll.any().unwrap_or(true)).collect()),
        Err(nix::errno::Errno::EINTR) => Ok(vec![false; polls.len()]),
        Err(error) => Err(error.into()),
    }
}

/// Moves this process into a namespace, by its open file.
///
/// # Errors
/// Those of `setns(2)`.
pub fn enter_namespace(namespace: impl AsFd, kind: nix::sched::CloneFlags) -> io::Result<()> {
    Ok(nix::sched::setns(namespace, kind)?)
}

/// The number of a signal by its name without `SIG`, or by its number.
pub fn signal_number(name: &str) -> Option<i32> {
    use std::str::FromStr;
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    nix::sys::signal::Signal::from_str(&full).ok().map(|signal| signal as i32)
}

/// A descriptor that reads signals; the signals are blocked.
///
/// # Errors
/// Those of `sigprocmask(2)` and `signalfd(2)`.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<nix::sys::signalfd::SignalFd> {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    for signal in signals {
        set.add(Signal::try_from(*signal)?);
    }
    set.thread_block()?;
    let flags = nix::sys::signalfd::SfdFlags::SFD_CLOEXEC | nix::sys::signalfd::SfdFlags::SFD_NONBLOCK;
    Ok(nix::sys::signalfd::SignalFd::with_flags(&set, flags)?)
}

/// Undoes what a monitor did to signals, before another program runs: nothing blocked, all default.
pub fn reset_signals() {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in Signal::iterator() {
        // SAFETY: the default action is no handler.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    let _ = SigSet::all().thread_unblock();
}

/// Lets a program inherit nothing of this umask.
pub fn set_umask(mask: u32) -> u32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask)).bits()
}

/// Closes every descriptor from 3 up but these: for a child that goes on in this program.
///
/// # Errors
/// Those of `close_range(2)`.
///
/// # Safety
/// Nothing in this process that owns or has borrowed one of the others is used, or dropped, afterwards: the child ends by
/// [`exit_now`] or executes another program.
pub unsafe fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            // SAFETY: the caller promises that nobody misses them.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) })?;
        }
        from = fd + 1;
    }
    // SAFETY: as above.
    unsafe { close_from(from) }
}

/// Changes what `ps` shows as this process's command line, as far as the old one was long.
pub fn set_title(title: &str) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // Fields 48 and 49 (proc_pid_stat(5)); the name in parentheses may hold spaces.
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let mut fields = rest.split_whitespace().skip(45).map(str::parse::<usize>);
    if let (Some(Ok(start)), Some(Ok(end))) = (fields.next(), fields.next())
        && end > start
    {
        let length = end - start;
        let mut bytes = title.as_bytes()[..title.len().min(length - 1)].to_vec();
        bytes.resize(length, 0);
        // SAFETY: the kernel put this process's arguments there, on its own writable stack; Rust
        // keeps no reference to them (`std::env::args` copies).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, length) };
    }
}

/// Two ends of a socket that keeps messages whole.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn message_pair() -> io::Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((a.into(), b.into()))
}

/// A pipe, closed on exec: read end, write end.
///
/// # Errors
/// Those of `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// The number of the process that a descriptor means, as this pid namespace sees it.
pub fn process_number(process: impl AsFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).filter(|pid| *pid > 0)
}

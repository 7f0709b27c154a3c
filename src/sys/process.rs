//! Processes: clone3, identity, capabilities, file descriptors, waiting.

use super::check;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// `CLONE_INTO_CGROUP`, which libc does not define on every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The side of a clone on which the caller is.
pub enum Side {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Starts a child in new namespaces and, if one is given, in a cgroup (v2) from its first instruction.
///
/// # Errors
/// Fails when `clone3(2)` fails, and with `EBUSY` when this process has more than one thread: the child of a
/// threaded process must not allocate memory, and ours does.
pub fn clone_process(namespaces: libc::c_int, cgroup: Option<&OwnedFd>) -> io::Result<Side> {
    // Unsharing the memory does nothing in a single-threaded process and fails in any other (unshare(2)). The kernel is
    // asked because /proc may already be that of a container.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_VM).map_err(|error| match error {
        nix::errno::Errno::EINVAL => io::Error::from_raw_os_error(libc::EBUSY),
        error => error.into(),
    })?;
    let mut pidfd: RawFd = -1;
    // An invalid set of flags must not silently become an empty one.
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
        // A sibling's exit signal is that of the caller (clone(2), CLONE_PARENT).
        if namespaces & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD as u64 },
        0,
        0,
        0,
        0,
        0,
        cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    ];
    // SAFETY: the arguments follow struct clone_args (88 bytes); no stack is given, so the child
    // continues on a copy of this one; the process has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), std::mem::size_of_val(&arguments)) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor here.
    Ok(Side::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Opens a descriptor (pidfd) of a running process.
///
/// # Errors
/// Fails when `pidfd_open(2)` fails.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_open returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to exactly the process that the descriptor refers to.
///
/// # Errors
/// Fails when `pidfd_send_signal(2)` fails.
pub fn signal_process(process: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no signal information is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_fd().as_raw_fd(), signal, std::ptr::null::<u8>(), 0) })
        .map(drop)
}

/// Asks the kernel to kill this process when its parent dies.
///
/// # Errors
/// Fails when `prctl(2)` fails.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Sets the I/O priority of this process: class 1 to 3, priority 0 to 7 (ioprio_set(2)).
///
/// # Errors
/// Fails when `ioprio_set(2)` fails.
pub fn set_io_priority(class: i32, priority: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, class << 13 | priority) }).map(drop)
}

/// Gives this process ordinary scheduling on all processors. A failure here is harmless: the process only stays slower or
/// faster than others.
pub fn plain_scheduling() {
    let ordinary = Scheduler { policy: 0, flags: 0, nice: 0, priority: 0, times: [0; 3] };
    let _ = set_scheduler(&ordinary);
    // With class 0 the I/O priority follows the nice value (ioprio_set(2)).
    let _ = set_io_priority(0, 0);
    let mut all = nix::sched::CpuSet::new();
    for processor in 0..nix::sched::CpuSet::count() {
        let _ = all.set(processor);
    }
    // The kernel ignores processors that do not exist or are not in this process's cpuset.
    let _ = nix::sched::sched_setaffinity(Pid::from_raw(0), &all);
}

/// Sets the execution domain of this process (personality(2)).
///
/// # Errors
/// Fails when `personality(2)` fails.
pub fn set_personality(domain: libc::c_ulong) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::personality(domain) })).map(drop)
}

/// Sets the policy by which memory is allocated from NUMA nodes.
///
/// # Errors
/// Fails when `set_mempolicy(2)` fails.
pub fn set_memory_policy(mode: i32, nodes: &[u32]) -> io::Result<()> {
    let mut mask = [0u64; 64];
    for node in nodes {
        if let Some(word) = mask.get_mut(*node as usize / 64) {
            *word |= 1 << (node % 64);
        }
    }
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), mask.len() * 64) };
    // SAFETY: the mask has the number of bits that is passed, or the pointer is null.
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
    /// For the deadline policy: runtime, deadline and period, in nanoseconds.
    pub times: [u64; 3],
}

/// Sets this process's scheduling.
///
/// # Errors
/// Fails when `sched_setattr(2)` fails.
pub fn set_scheduler(scheduler: &Scheduler) -> io::Result<()> {
    #[repr(C)]
    struct Attributes(u32, u32, u64, i32, u32, [u64; 3]);
    let Scheduler { policy, flags, nice, priority, times } = *scheduler;
    let attributes = Attributes(48, policy, flags, nice, priority, times);
    // SAFETY: the attributes are 48 bytes long, as their first field says, and live through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) }).map(drop)
}

/// Brings up the loopback interface of this process's network namespace.
///
/// # Errors
/// Fails when `socket(2)` or `SIOCSIFFLAGS` (netdevice(7)) fails.
pub fn raise_loopback() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives through the call.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) }))
        .map(drop)
}

/// Replaces the caller's session keyring by a new one: through the old one a container could read keys of the host's root.
///
/// # Errors
/// Fails when `keyctl(2)` fails. On a kernel without keyrings there is nothing to replace.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: no name is given, so the new keyring is anonymous.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, none, none, none, none) }) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Hides this process's memory and `/proc/PID` from other processes of the same user.
///
/// # Errors
/// Fails when `prctl(2)` fails.
pub fn hide() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Sets what `ps` shows as this process's name (at most 15 bytes).
pub fn set_name(name: &CStr) {
    // A wrong name does no harm.
    let _ = nix::sys::prctl::set_name(name);
}

/// Lets this process open as many descriptors as its hard limit allows.
///
/// # Errors
/// Fails when `setrlimit(2)` fails.
pub fn raise_descriptors() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Closes every descriptor from `first` up.
///
/// # Errors
/// Fails when `close_range(2)` fails.
///
/// # Safety
/// Nothing in this process that owns or borrows one of these descriptors may be used or dropped afterwards.
pub unsafe fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller promises that nothing uses them afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` up to be closed on exec.
///
/// # Errors
/// Fails when `close_range(2)` fails.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: changes flags only.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Duplicates a descriptor to a given number and keeps it open across exec.
///
/// # Errors
/// Fails when `dup2(2)` or `fcntl(2)` fails.
///
/// # Safety
/// Nothing in this process may own the descriptor that has this number now, unless it is `fd` itself.
pub unsafe fn place_descriptor(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    if raw == number {
        // SAFETY: changes flags only.
        return check(libc::c_long::from(unsafe { libc::fcntl(raw, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: the caller promises that nothing owns the descriptor that this closes.
    check(libc::c_long::from(unsafe { libc::dup2(raw, number) })).map(drop)
}

/// Makes three descriptors the standard streams of the program that is executed next.
///
/// # Errors
/// Fails when `dup2(2)` or `fcntl(2)` fails.
pub fn place_standard(streams: [OwnedFd; 3]) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    for (number, fd) in (0..).zip(streams) {
        // SAFETY: the standard library owns none of the standard descriptors, and neither does anything here.
        unsafe { place_descriptor(&fd, number)? };
        // A descriptor that already has the right number must not be closed on drop; the others are closed on exec.
        let _ = fd.into_raw_fd();
    }
    Ok(())
}

/// Takes over a descriptor that the parent placed at a number.
///
/// # Errors
/// Fails with `EBADF` when it is not open.
///
/// # Safety
/// Nothing else in this process may own it.
pub unsafe fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: changes flags only.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: it is open, and the caller promises that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Duplicates a descriptor of another process.
///
/// # Errors
/// Fails when `pidfd_open(2)` or `pidfd_getfd(2)` fails.
pub fn borrow_descriptor(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    let process = open_process(pid)?;
    // SAFETY: plain numbers, and a descriptor that is open for the whole call.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    // SAFETY: pidfd_getfd returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Forbids programs that this process executes to gain privileges.
///
/// # Errors
/// Fails when `prctl(2)` fails.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Installs a system call filter for this process and its children: a BPF program with eight bytes per
/// instruction (seccomp(2)).
///
/// # Errors
/// Fails when `seccomp(2)` fails: with `EINVAL` for an invalid program.
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
    // SAFETY: the program points to as many instructions as it says, which live through the call; the kernel copies them.
    let flags = if listen { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let listener =
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) })?;
    // SAFETY: with that flag the kernel has just created this descriptor for this process.
    Ok(listen.then(|| unsafe { OwnedFd::from_raw_fd(listener as RawFd) }))
}

/// Drops every capability except these from the bounding set.
///
/// # Errors
/// Fails when `prctl(2)` fails.
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
/// Fails when `prctl(2)` or `capset(2)` fails.
pub fn set_capabilities(mask: u64) -> io::Result<()> {
    // SAFETY: plain numbers. On kernels without ambient capabilities there is nothing to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data follow _LINUX_CAPABILITY_VERSION_3.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) }).map(drop)
}

/// Sets whether the permitted capabilities survive the next changes of user.
///
/// # Errors
/// Fails when `prctl(2)` fails.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0, 0, 0) })).map(drop)
}

/// Sets all capability sets. Only ambient capabilities that are also inheritable and permitted are raised.
///
/// # Errors
/// Fails when `prctl(2)` or `capset(2)` fails.
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
    // SAFETY: plain numbers. On kernels without ambient capabilities there is nothing to clear.
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

/// Changes the identity of this process: supplementary groups, then the group, then the user.
///
/// # Errors
/// Fails when `setgroups(2)`, `setresgid(2)` or `setresuid(2)` fails.
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
/// Returns the error of `execve(2)`. The function returns only when that fails.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Exits at once, without running destructors. This is for cloned children.
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

/// Waits for the given child.
///
/// # Errors
/// Fails when `waitpid(2)` fails.
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
    /// The exit status as a shell reports it: for a signal, 128 plus its number.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Waits until at least one of the descriptors is readable (or hung up), and returns which ones are.
///
/// # Errors
/// Fails when `poll(2)` fails. An interruption by a signal is not an error; then none is reported as readable.
pub fn wait_readable(fds: &[&dyn AsFd], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polls: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    // A timeout that is too long for poll(2) becomes the longest possible one.
    let timeout = timeout.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    match poll(&mut polls, timeout) {
        // An event that nix does not know counts, too.
        Ok(_) => Ok(polls.iter().map(|poll| poll.any().unwrap_or(true)).collect()),
        Err(nix::errno::Errno::EINTR) => Ok(vec![false; polls.len()]),
        Err(error) => Err(error.into()),
    }
}

/// Moves this process into a namespace, given its open file.
///
/// # Errors
/// Fails when `setns(2)` fails.
pub fn enter_namespace(namespace: impl AsFd, kind: nix::sched::CloneFlags) -> io::Result<()> {
    Ok(nix::sched::setns(namespace, kind)?)
}

/// Blocks signals and returns a descriptor from which they can be read.
///
/// # Errors
/// Fails when `sigprocmask(2)` or `signalfd(2)` fails.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<nix::sys::signalfd::SignalFd> {
    use nix::sys::signal::SigSet;
    let mut raw = *SigSet::empty().as_ref();
    for signal in signals {
        // SAFETY: the set is initialised. Real-time signals have no names in `nix`.
        check(libc::c_long::from(unsafe { libc::sigaddset(&raw mut raw, *signal) }))?;
    }
    // SAFETY: the set was made by the functions for sets.
    let set = unsafe { SigSet::from_sigset_t_unchecked(raw) };
    set.thread_block()?;
    let flags = nix::sys::signalfd::SfdFlags::SFD_CLOEXEC | nix::sys::signalfd::SfdFlags::SFD_NONBLOCK;
    Ok(nix::sys::signalfd::SignalFd::with_flags(&set, flags)?)
}

/// Undoes what a monitor did to signals, before another program runs: unblocks all and restores the default actions.
pub fn reset_signals() {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in Signal::iterator() {
        // SAFETY: the default action installs no handler.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    let _ = SigSet::all().thread_unblock();
}

/// Sets the umask and returns the previous one.
pub fn set_umask(mask: u32) -> u32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask)).bits()
}

/// Closes every descriptor from 3 up except these. This is for a child that continues in this program.
///
/// # Errors
/// Fails when `close_range(2)` fails.
///
/// # Safety
/// Nothing in this process that owns or borrows one of the other descriptors may be used or dropped afterwards: the child
/// ends by [`exit_now`] or executes another program.
pub unsafe fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            // SAFETY: the caller promises that nothing uses them afterwards.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) })?;
        }
        from = fd + 1;
    }
    // SAFETY: as above.
    unsafe { close_from(from) }
}

/// Changes what `ps` shows as this process's command line, up to the length of the old one.
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

/// A pair of connected sockets that preserve message boundaries.
///
/// # Errors
/// Fails when `socketpair(2)` fails.
pub fn message_pair() -> io::Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((a.into(), b.into()))
}

/// Creates a pipe that is closed on exec, and returns its read end and its write end.
///
/// # Errors
/// Fails when `pipe2(2)` fails.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// The number of the process that a descriptor refers to, as seen in this pid namespace.
pub fn process_number(process: impl AsFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).filter(|pid| *pid > 0)
}

//! Docker's default profile: the same calls, address families and conditions, in our own table.
//!
//! It is that of moby/profiles, `seccomp/default.json` at 02e898b1 (2026). Calls that neither x86-64, i386 nor
//! aarch64 has are left out: they have no number here.

use super::{Action, Also, Compare, Profile, Rule, kernel_is_at_least};
use crate::model::capability;

/// Calls that are always allowed.
const ALLOWED: &str = "
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername
getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr
sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx
symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Calls that are allowed with a capability.
const WITH_CAPABILITY: [(&str, &str); 13] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
];

/// The allowed address families of sockets from 12 up; all families below 12 are allowed. AF_ALG (38) and AF_VSOCK (40)
/// are not: they give access to the host's page cache and to the hypervisor.
const FAMILIES: [u64; 25] = [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// `SYS_SOCKET`, the first argument of socketcall(2) for creating a socket.
const MAKE_SOCKET: u64 = 1;

/// Allowed execution domains: `PER_LINUX` and `PER_LINUX32`, each also with `UNAME26`, and the value that only queries the
/// current one (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEW*`, except `CLONE_NEWTIME`, which clone(2) does not support.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Whether an address family is allowed for sockets.
#[cfg(test)]
pub(super) fn has_family(family: u64) -> bool {
    family < 12 || FAMILIES.contains(&family)
}

/// The profile for a set of capabilities.
pub fn docker(capabilities: u64) -> Profile {
    let has = |name: &str| capability::number(name).is_some_and(|number| capabilities & 1 << number != 0);
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut rules = Vec::new();
    let mut allow = |text: &str, arguments: Vec<(u8, Compare)>| {
        rules.push(Rule { names: names(text), action: Action::Allow, arguments });
    };
    allow(ALLOWED, Vec::new());
    if kernel_is_at_least("4.8") {
        allow("process_vm_readv process_vm_writev ptrace", Vec::new());
    }
    allow("socket", vec![(0, Compare::Less(12))]);
    for family in FAMILIES {
        allow("socket", vec![(0, Compare::Equal(family))]);
    }
    // i386's single call for all socket operations keeps its arguments in memory, where a filter cannot check the family.
    // Creating a socket that way returns ENOSYS, so that C libraries use socket(2), whose family can be checked.
    allow("socketcall", vec![(0, Compare::NotEqual(MAKE_SOCKET))]);
    for domain in PERSONALITIES {
        allow("personality", vec![(0, Compare::Equal(domain))]);
    }
    allow(if cfg!(target_arch = "x86_64") { "arch_prctl modify_ldt" } else { "sync_file_range2" }, Vec::new());
    for (_, calls) in WITH_CAPABILITY.iter().filter(|(name, _)| has(name)) {
        allow(calls, Vec::new());
    }
    if has("PERFMON") {
        allow("perf_event_open", Vec::new());
    }
    rules.push(Rule { names: names("socketcall"), action: Action::Errno(38), arguments: vec![(0, Compare::Equal(MAKE_SOCKET))] });
    let mut allow = |text: &str, arguments: Vec<(u8, Compare)>| {
        rules.push(Rule { names: names(text), action: Action::Allow, arguments });
    };
    if !has("SYS_ADMIN") {
        allow("clone", vec![(0, Compare::Masked { mask: NEW_NAMESPACES, value: 0 })]);
        // ENOSYS makes C libraries fall back to clone(2), whose flags can be checked.
        rules.push(Rule { names: names("clone3"), action: Action::Errno(38), arguments: Vec::new() });
    }
    Profile { default: Action::Errno(1), rules, also: Also::BOTH }
}

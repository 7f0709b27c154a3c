//! One container: namespaces, root file system, cgroup, identity, its first process, exec.
//!
//! A container is started by a single-threaded process (its monitor, or the build's helper):
//!
//! ```text
//! monitor ──clone3──▶ guard (pid 1 of an outer pid namespace; never executes anything)
//!                       └──clone3──▶ the command (pid 1 of an inner one, or pid 2 with `init`)
//! ```
//!
//! The guard is why a container never outlives its monitor: `PR_SET_PDEATHSIG` holds for it, because
//! it never changes its identity nor its program, and when it dies the kernel kills both namespaces.
//! For the command alone that would not hold: setuid programs and changes of user clear the signal
//! (prctl(2)).

mod cgroup;
mod exec;
mod guard;
mod identity;
mod rootfs;
mod spec;
mod start;

pub use cgroup::{Cgroup, Host, host};
pub use exec::{Session, exec};
pub use identity::{Identity, identity, identity_in};
pub use rootfs::TARGETS;
pub use spec::{CgroupSpec, ExecSpec, FileSpec, Interface, MountKind, MountSpec, NetSpec, ProcessSpec, Spec};
pub use start::{Running, StartError, Stdio, start};

/// Docker's default capabilities (`daemon/pkg/oci/caps/defaults.go`), as a bit mask.
pub const CAPABILITIES: u64 = 1 << 0 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 13 // NET_RAW
    | 1 << 18 // SYS_CHROOT
    | 1 << 27 // MKNOD
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP

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

mod anew;
mod begin;
mod cgroup;
mod exec;
mod guard;
mod host;
mod identity;
mod limits;
mod rootfs;
pub mod seccomp;
mod spec;
mod start;
mod stats;

pub use anew::start_anew;
pub use begin::{StartError, Stdio};
pub use cgroup::{Cgroup, default_devices};
pub use exec::{Session, exec};
pub use guard::{Filter, program};
pub use host::{Host, Version, host};
pub use identity::{Identity, bounded as user_database, identity, identity_in};
pub use limits::{Expect, Refusal, Setting, caveats, processors, refusal, resource};
pub use rootfs::{DEVICE_LINKS, Root, TARGETS, through};
pub use spec::{CgroupSpec, ExecSpec, FileSpec, Interface, MountKind, MountSpec, NetSpec, ProcessSpec, SecuritySpec, Spec};
pub use start::{Running, start};
pub use stats::{Network, Usage, usage};

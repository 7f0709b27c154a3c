//! One container: namespaces, root file system, cgroup, identity, its first process, exec.
//!
//! There is one runtime. Its input is a [`Blueprint`]: an OCI runtime specification, and the few settings that such a
//! specification cannot express. [`compile`] makes it from a project's container, a one-off or a build step; the module
//! `oci` reads it from a bundle. The code for the root (`rootfs/`), the namespaces' own settings (`namespaces.rs`) and the
//! preparation of a process up to its program (`process.rs`) exists once. What differs is who starts the process: a monitor
//! here (`start.rs`, `guard.rs`, `exec.rs`), another tool in `oci`.
//!
//! A container with a monitor is started by a single-threaded process (its monitor, or the build's helper):
//!
//! ```text
//! monitor ──clone3──▶ guard (pid 1 of an outer pid namespace; never executes anything)
//!                       └──clone3──▶ the command (pid 1 of an inner one, or pid 2 with `init`)
//! ```
//!
//! Because of the guard a container never outlives its monitor: `PR_SET_PDEATHSIG` stays set for it, because
//! it never changes its identity or its program, and when it dies the kernel kills both namespaces.
//! For the command alone this would not work: setuid programs and changes of user clear the signal
//! (prctl(2)).

mod cgroup;
mod clean_start;
mod compile;
mod confine;
mod controls;
mod exec;
mod filter;
mod guard;
mod host;
mod identity;
mod limits;
mod namespaces;
mod process;
mod raw;
mod rootfs;
pub mod seccomp;
mod spec;
mod start;
mod stats;
mod stdio;

pub use cgroup::Cgroup;
pub use clean_start::start_anew;
pub use compile::{SPECIFICATION, all_devices, compile, device};
pub use confine::{check as check_labels, check_process as check_label};
pub use controls::{Amount, Control, Rate, Setting, Sharing, page_size};
pub use exec::{Session, exec};
pub use filter::Filter;
pub use host::{Host, Version, host, possible_processors};
pub use identity::{Identity, bounded as user_database, identity_in};
pub use limits::{Refusal, caveats, refusal};
pub use namespaces::{flag, loopback, made as made_namespaces, names as name_namespaces, owns, sysctls};
pub use process::{
    Ready, become_process, check_capabilities, execute, find, memory_policy, personality, prepare, take_streams, terminal,
    terminal_name,
};
pub use raw::{Raw, Variable};
pub use rootfs::{Root, Sources, TARGETS, protect};
pub use spec::{
    Beyond, Blueprint, ContainerSpec, ExecSpec, FileSpec, ImageSpec, Interface, Layers, MountKind, MountSpec, NetSpec,
    ProcessSpec, SecuritySpec, UserSpec, joined,
};
pub use start::{Running, start};
pub use stats::{Network, Usage, usage};
pub use stdio::{StartError, Stdio};

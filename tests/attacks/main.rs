//! Attacks: what hostile images, containers, directories, mirrors, networks and users try, one file for each kind.
//!
//! Every test here succeeded as an attack before its defence existed. Containers run an image with one static busybox
//! and small static programs (`tools/`), so everything also runs without a network: `tests/vm` repeats it on pure
//! cgroup v2. `STEAD_BINARY` names another program to attack.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

mod archive;
mod bounds;
mod bytes;
mod confinement;
mod consent;
mod ground;
mod hands;
mod locals;
mod network;
mod packages;
mod paths;
mod root;
mod signatures;
#[path = "../real/world.rs"]
#[allow(dead_code, reason = "the real tests use the rest of it")]
mod world;

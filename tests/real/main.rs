//! Real containers: namespaces, cgroups, networks, packages. Needs root and a package mirror.
//!
//! Each test has a project directory and an installation (`STEAD_ROOT`) of its own, and shares the store with the
//! others, so that the base image is built once. Everything that a test leaves is taken down when its `World` is
//! dropped, also when the test fails.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

mod beside;
mod build;
mod bundles;
mod containers;
mod crash;
mod death;
mod dockerfile;
mod examples;
mod faults;
mod filters;
mod first;
mod fits;
mod generations;
mod git;
mod image_volumes;
mod images;
mod insight;
mod interrupt;
mod jobs;
mod lifecycle;
mod logs;
mod mirror;
mod network;
mod oci;
mod peers;
mod places;
mod registries;
mod registry;
mod reuse;
mod security;
mod seeds;
mod services;
mod shell;
mod signatures;
mod sources;
mod ssh;
mod storage;
mod turns;
mod view;
mod volumes;
mod watch;
mod world;

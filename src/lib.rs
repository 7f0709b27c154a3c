//! `stead`: one KDL file in, running containers out.
//!
//! An environment is a value: hashed, locked, the same bytes on every machine. A reconciler makes a
//! machine equal to it.
//!
//! # The road
//!
//! ```text
//! stead.kdl ──spec──▶ Project ──lock──▶ Locked ──plan──▶ Plan ──apply──▶ Generation
//!   text              typed,            every name        steps, each     what was done,
//!                     spanned           is a digest       with its cause  step by step
//!                                           ▲                 ▲
//!                                       stead.lock       Observed (what runs, what is stored)
//! ```
//!
//! Data goes one way. The first three rooms are pure: text and facts in, values out, no clock, no
//! file, no process, no network (`clippy.toml` bans them there). Everything that touches the machine
//! is in reach of [`apply`] only; that is why `stead plan` cannot write.
//!
//! # The house
//!
//! A room uses the rooms on its own floor and below, never those above; no circles. A test
//! (`tests/house.rs`) reads the imports and holds them against this table.
//!
//! | floor | room | owns |
//! | --- | --- | --- |
//! | 5 | [`cli`] | one file per command; `cli/ui` is the one object through which all output goes |
//! | 4 | [`watch`] | file events → when to look again |
//! | 4 | [`apply`] | observes the machine, carries out plans, keeps records and history |
//! | 3 | [`volume`] | folders that outlive containers |
//! | 3 | [`build`] | runs build steps, makes layers |
//! | 3 | [`debian`] | mirrors, signatures, packages → trees |
//! | 3 | [`monitor`] | the one small process that stays with each container |
//! | 3 | [`oci`] | the face of an OCI runtime, with runc's commands, over `runtime` |
//! | 3 | [`ship`] | sends log lines on to journald, syslog, collectors, files |
//! | 3 | [`network`] | bridges, addresses, ports, the firewall table |
//! | 2 | [`runtime`] | one container: namespaces, root file system, cgroup, identity, exec |
//! | 2 | [`fetch`] | bytes from elsewhere: HTTP, folders; verified, resumed |
//! | 2 | [`git`] | the files of a repository's commit, without git |
//! | 2 | [`image`] | OCI configurations, manifests, canonical layers |
//! | 2 | [`registry`] | images in registries: names, credentials, pull, push |
//! | 2 | [`store`] | the content-addressed store: leases, roots, collection |
//! | 1 | [`plan`] | (project, lock, observed) → plan; causes; addresses |
//! | 1 | [`lock`] | names → digests; `stead.lock`; the solver |
//! | 1 | [`spec`] | the language: grammar table, decoding, diagnostics |
//! | 0 | [`model`] | plain values everyone shares |
//! | 0 | [`sys`] | the only room with `unsafe` and raw system calls |
//!
//! # Promises
//!
//! * The same project and lock give the same image digests everywhere; a layer's identity is the
//!   digest of its canonical tar ([`image`]).
//! * Nothing unchanged is touched: step keys are made of content ([`plan`]), comments and `touch` do
//!   nothing.
//! * The lock is the law: what is locked is used as locked until `stead update`.
//! * A plan is dry, and a saved one is applied exactly or refused.
//! * Kill it anywhere: the next `up` or `down` repairs; nothing half-written has a valid name.
//! * What somebody else can change under us is held by descriptor, never by path: a root, a layer, a volume, a
//!   build's context, a target of `cp` ([`sys::Tree`]).
//! * Nobody is in charge: no daemon; one monitor stays with each container, and its container dies
//!   with it ([`runtime`]).
//! * Two checkouts never collide: an instance is its folder.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        clippy::print_stdout,
        reason = "tests make files, tell why they skip, and fail by panicking"
    )
)]

#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod apply;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod build;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod cli;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod debian;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod fetch;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod git;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod image;
pub mod lock;
pub mod model;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod monitor;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod network;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod oci;
pub mod plan;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod registry;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod runtime;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod ship;
pub mod spec;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod store;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod sys;
pub mod volume;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
pub mod watch;

//! `stead`: one KDL file in, running containers out.
//!
//! An environment is a value: hashed, locked, the same bytes on every machine. A reconciler makes a
//! machine equal to it.
//!
//! # The road
//!
//! ```text
//! stead.kdl ──spec──▶ Project ──lock──▶ Lock ────plan──▶ Plan ──reconcile──▶ record, history
//!   text              typed,            every name        tasks: what,       what was done,
//!                     located           is a digest       after which, why   task by task
//!                                           ▲                 ▲
//!                                       stead.lock       Observed (what runs, what is stored)
//! ```
//!
//! Data goes one way. [`spec`], [`lock`] and [`plan`] are pure, as are the values that they share ([`project`],
//! [`model`]): text and facts in, values out, no clock, no file, no process, no network (`clippy.toml` bans them
//! there). What a plan needs to know of the machine [`instance`] reads for it; `stead plan` calls only what reads.
//! The plan is the program: [`reconcile`] runs its graph of tasks and nothing else.
//!
//! # The house
//!
//! A room uses the rooms on its own floor and below, never those above; no circles. A test
//! (`tests/house.rs`) reads the imports and holds them against this table.
//!
//! | floor | room | owns |
//! | --- | --- | --- |
//! | 6 | [`cli`] | the commands: arguments in, one call, printing; `cli/ui` is the one object through which all output goes |
//! | 5 | [`engine`] | every operation that a person or program can ask for |
//! | 4 | [`watch`] | file events → when to look again |
//! | 4 | [`reconcile`] | runs a plan's tasks, by one scheduler; keeps the record |
//! | 4 | [`library`] | images by their names: tags, pull, push, load, import |
//! | 3 | [`instance`] | one project's directory on this machine: identity, records, the project as read, what is seen, what was allowed |
//! | 3 | [`volume`] | directories that outlive containers |
//! | 3 | [`build`] | runs build steps, makes layers |
//! | 3 | [`debian`] | mirrors, signatures, packages → trees |
//! | 3 | [`monitor`] | the one small process that stays with each container of a project |
//! | 3 | [`oci`] | the face of an OCI runtime, with runc's commands, over `runtime`; its containers have no monitor |
//! | 3 | [`ship`] | sends log lines on to journald, syslog, collectors, files |
//! | 3 | [`network`] | bridges, addresses, ports, the firewall table |
//! | 2 | [`runtime`] | one container, from an OCI runtime specification: namespaces, root file system, cgroup, identity, exec |
//! | 2 | [`fetch`] | bytes from elsewhere: HTTP, directories; verified, resumed |
//! | 2 | [`git`] | the files of a repository's commit, without git |
//! | 2 | [`image`] | OCI configurations, manifests, canonical layers |
//! | 2 | [`registry`] | images in registries: names, credentials, pull, push |
//! | 2 | [`store`] | the content-addressed store: leases, roots, collection |
//! | 1 | [`plan`] | (project, lock, observed) → plan; causes; addresses |
//! | 1 | [`lock`] | names → digests; `stead.lock`; the solver |
//! | 1 | [`spec`] | the language: text → project, places, diagnostics; the grammar table |
//! | 0 | [`project`] | what an environment is, in plain values, whichever language it was written in |
//! | 0 | [`model`] | plain values everyone shares |
//! | 0 | [`sys`] | the only room with raw system calls; others have `unsafe` only where they promise what one of its functions asks |
//!
//! # Where to open it
//!
//! What a stranger looks for first, with the files to open, in this order. (`tests/house.rs` checks that they are there.)
//!
//! | what | files |
//! | --- | --- |
//! | the interval of a health check | `spec/language.rs` the word, `spec/decode/mod.rs` its value, `monitor/health.rs` when the next check is due |
//! | the rule of a published port | `monitor/published.rs` which ports lead where, `network/firewall.rs` the table |
//! | the end for want of memory | `runtime/cgroup.rs` the kernel's count, `monitor/life.rs` what is told of it |
//! | a new node of a container | `spec/language.rs` its row, `spec/decode/container.rs` its value, `project/container.rs` its field; the compiler then names who must decide about it |
//! | a new command | `cli/commands/mod.rs` the list, a file beside it, `engine/mod.rs` what it calls |
//! | a layer's digest | `image/layer.rs` the canonical tar |
//! | an address | `plan/address.rs` which one, `network/ledger.rs` what is taken |
//! | why something is collected, or kept | `store/collect.rs` roots and collection, `store/lease.rs` what runs, `library/tags.rs` what names keep |
//! | what an ordinary user may do | `cli/commands/mod.rs` what is refused, `cli/commands/doctor.rs` what is told of it |
//! | where Compose files would come in | `project/mod.rs` what a project is, `spec/mod.rs` the face of a front end, `instance/project.rs` who calls it |
//! | where a language server would come in | `spec/mod.rs` what is found in a text, `spec/tree.rs` places, `spec/grammar.rs` the words |
//! | where a REST API would come in | `engine/mod.rs` what can be asked for, `monitor/mod.rs` what is asked of a running container, `store/mod.rs` collection |
//!
//! # Words
//!
//! What the field has a word for is called by it. These are our own, or mean something exact here:
//!
//! | word | what it means |
//! | --- | --- |
//! | instance | one project's directory on this machine, with its records, logs and volumes; its name is a digest of the directory's path |
//! | replica | one of a container's copies: `web-2` ([`project::ReplicaId`]) |
//! | generation | a replica's life with one root; a new root begins the next, and logs are kept by it |
//! | task | a plan's unit: an action, what it waits for, and the changes that people see ([`plan::Task`]) |
//! | deed | what a plan decides about one replica: start, adjust, end |
//! | aspect | one part of a replica's identity, by the path of its node; the one that differs is the cause of a change |
//! | cause | the input that changed, with its place |
//! | mark | what widens trust: shown with `!`, and allowed once, by its digest |
//! | lead | where a path of the host really leads, every link followed |
//! | layer | a tree of files, by the digest of its canonical tar (its `diff_id`) |
//! | key | the digest of a step and of the content of all that it depends on; its result is found by it |
//! | lease | what a living process keeps in the store from being collected |
//! | monitor, heir | the process that stays with a container, and the one that tidies up after a monitor that was killed |
//! | place | file, line and column of a source text, with the bytes that are marked ([`model::Location`]) |
//! | error | an error: what sort, where, why, and what to type ([`model::Error`]); an `Result` is a `Result` with one |
//! | damaged | there, and not what it should be: neither absent nor unreadable, and never taken for either |
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
//! * Nobody is in charge: no daemon; one monitor stays with each container of a project, and its container dies
//!   with it ([`runtime`]).
//! * Two checkouts never collide: an instance is its directory.

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
mod build;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod cli;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod debian;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod engine;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod fetch;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod git;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod image;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod instance;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod library;
mod lock;
mod model;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod monitor;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod network;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod oci;
mod plan;
mod project;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod reconcile;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod registry;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod runtime;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod ship;
mod spec;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod store;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod sys;
mod volume;
#[allow(clippy::disallowed_methods, reason = "this room owns a part of the machine")]
mod watch;

pub use cli::main;

/// What the project's own tests reach: the parsers that the fuzzer feeds, and what tests compare with. It is no
/// interface: the rooms are the crate's own, so that the compiler sees what nobody uses any more.
#[doc(hidden)]
pub mod tested {
    pub mod build {
        pub use crate::build::{ScanCache, Scanner};
    }
    pub mod debian {
        pub use crate::debian::{Archive, Keyring, Moment, Need, Release, needs, soname, unpack_for_dpkg};
    }
    pub mod engine {
        pub use crate::engine::{is_bundle, unbundle};
    }
    pub mod fetch {
        pub use crate::fetch::Origin;
    }
    pub mod git {
        pub use crate::git::{Wanted, check_out_pack, checkout, read_lines, resolve};
    }
    pub mod image {
        pub use crate::image::{
            Archive, Entries, Manifest, PublicKey, Rules, Tree, budgeted, bundles_in, check_bundle, check_payload, digest_tree,
            for_platform, may_be_bundles, parse, platforms, signatures,
        };
    }
    pub mod lock {
        pub use crate::lock::{
            IndexLock, Lock, LockedImage, LockedPackage, Request, StepLock, SuiteLock, Universe, compare, packages, parse,
            relations, write,
        };
    }
    pub mod model {
        pub use crate::model::{
            Budget, Digest, Duration, Error, Floor, GitRepository, Mode, Name, Reference, Size, Subnet, capability, parse_time,
            pattern_matches,
        };
    }
    pub mod monitor {
        pub use crate::monitor::{Folder, Request, Tail, last_lines};
    }
    pub mod registry {
        pub use crate::fetch::http::retry_after;
        pub use crate::registry::{challenges, next_page, starts_at};
    }
    pub mod runtime {
        pub use crate::runtime::{identity_in, seccomp};
    }
    pub mod spec {
        pub use crate::spec::{Choices, Loaded, Sources, kdl, load, reference, schema};
    }
    pub mod store {
        pub use crate::store::Home;
    }
    pub mod sys {
        pub use crate::sys::{Tree, get_attribute, open_terminal, signal_number};
    }
}

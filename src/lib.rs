//! `stead`: one KDL file in, running containers out.
//!
//! An environment is a value: it is hashed and locked, and has the same bytes on every machine. A reconciler brings a
//! machine into that state.
//!
//! # The data flow
//!
//! ```text
//! stead.kdl ──spec──▶ Project ──lock──▶ Lock ────plan──▶ Plan ──reconcile──▶ record, history
//!   text              typed,            every name        tasks: what,       what was done,
//!                     located           is a digest       after which, why   task by task
//!                                           ▲                 ▲
//!                                       stead.lock       Observed (what runs, what is stored)
//! ```
//!
//! Data flows in one direction. [`spec`], [`lock`] and [`plan`] are pure, as are the values that they share ([`project`],
//! [`model`]): text and facts go in, values come out, and they use no clock, file, process or network (`clippy.toml` bans
//! them there). [`instance`] reads what a plan needs to know about the machine; `stead plan` calls only code that reads.
//! The plan is the program: [`reconcile`] runs its graph of tasks and nothing else.
//!
//! # Rooms and floors
//!
//! A room is a top-level module. A room uses the rooms on its own floor and below, never those above, and there are no
//! cycles. A test (`tests/house.rs`) reads the imports and checks them against this table.
//!
//! | floor | room | owns |
//! | --- | --- | --- |
//! | 6 | [`cli`] | the commands: parse the arguments, make one call, print; all output goes through one object in `cli/ui` |
//! | 6 | [`lsp`] | the language server: what an editor asks about project files; it writes nothing |
//! | 5 | [`engine`] | every operation that a user or a program can ask for |
//! | 4 | [`watch`] | file events → files written into containers, restarts, or a new plan |
//! | 4 | [`reconcile`] | runs a plan's tasks, by one scheduler; keeps the record |
//! | 4 | [`library`] | images by their names: tags, pull, push, load, import |
//! | 3 | [`instance`] | one project's directory on this machine: identity, records, the loaded project, observations, consent |
//! | 3 | [`volume`] | volumes: directories that outlive containers; their snapshots |
//! | 3 | [`build`] | runs build steps, makes layers |
//! | 3 | [`debian`] | mirrors, signatures, packages → trees |
//! | 3 | [`monitor`] | the small process that stays with each container of a project |
//! | 3 | [`oci`] | an OCI runtime with runc's commands, on top of `runtime`; its containers have no monitor |
//! | 3 | [`ship`] | forwards log lines to journald, syslog, collectors, files |
//! | 3 | [`network`] | bridges, addresses, ports, the firewall table |
//! | 2 | [`runtime`] | one container, from an OCI runtime specification: namespaces, root file system, cgroup, identity, exec |
//! | 2 | [`fetch`] | downloads over HTTP or from directories, verified and resumed |
//! | 2 | [`git`] | the files of a repository's commit, without git |
//! | 2 | [`image`] | OCI configurations, manifests, canonical layers |
//! | 2 | [`registry`] | images in registries: names, credentials, pull, push |
//! | 2 | [`store`] | the content-addressed store: leases, roots, garbage collection |
//! | 1 | [`plan`] | (project, lock, observed) → plan; causes; addresses |
//! | 1 | [`lock`] | names → digests; `stead.lock`; the solver |
//! | 1 | [`spec`] | the language: text → project, places, diagnostics; the grammar table |
//! | 0 | [`project`] | what an environment is, in plain values, independent of the language that it was written in |
//! | 0 | [`model`] | plain values that all rooms share |
//! | 0 | [`sys`] | the only room with raw system calls; others use `unsafe` only to call its unsafe functions |
//!
//! # Where to open it
//!
//! What a newcomer looks for first, with the files to open, in this order. (`tests/house.rs` checks that they exist.)
//!
//! | what | files |
//! | --- | --- |
//! | the interval of a health check | `spec/language.rs` the word, `spec/decode/mod.rs` its value, `monitor/health.rs` when the next check is due |
//! | the firewall rule of a published port | `monitor/published.rs` which ports lead where, `network/firewall.rs` the table |
//! | a container that ran out of memory | `runtime/cgroup.rs` the kernel's counter, `monitor/life/end.rs` how it is reported |
//! | a new node of a container | `spec/language.rs` its row, `spec/decode/container.rs` its value, `project/container.rs` its field; compiler errors then show which code must handle it |
//! | a new command | `cli/commands/mod.rs` the list, a file beside it, `engine/mod.rs` what it calls |
//! | a layer's digest | `image/layer.rs` the canonical tar |
//! | an address | `plan/address.rs` how it is chosen, `network/ledger.rs` what is taken |
//! | why something is collected, or kept | `store/collect.rs` roots and collection, `store/lease.rs` what is in use, `library/tags.rs` what tags keep |
//! | what an ordinary user may do | `cli/commands/mod.rs` what is refused, `cli/commands/doctor.rs` what is reported about it |
//! | where Compose files would come in | `project/mod.rs` what a project is, `spec/mod.rs` the interface of a front end, `instance/project.rs` its caller |
//! | what an editor shows | `lsp/mod.rs` the features, `lsp/scan/mod.rs` what is where in a text, `lsp/work.rs` diagnostics |
//! | where a REST API would come in | `engine/mod.rs` the operations, `monitor/mod.rs` the requests to a running container, `store/mod.rs` collection |
//!
//! # Words
//!
//! We use the standard terms of the field. These words are our own, or have an exact meaning here:
//!
//! | word | what it means |
//! | --- | --- |
//! | instance | one project's directory on this machine, with its records, logs and volumes; its name is a digest of the path that the directory had first, and it keeps it when it is moved |
//! | replica | one of the copies of a container: `web-2` ([`project::ReplicaId`]) |
//! | generation | of a replica: its lifetime with one root; a new root begins the next one, and logs are kept for each. Of an environment: what an `up` that changed something resulted in ([`instance`]) |
//! | drift | what live syncs made different in a container from its image |
//! | flow | a source that is watched, one of its containers, and what a change means for it ([`watch`]) |
//! | task | a unit of a plan: an action, what it waits for, and the changes that users see ([`plan::Task`]) |
//! | named command | a `task` of the project file: what `stead run NAME` runs ([`project::NamedCommand`]) |
//! | stand-in | a further replica that serves while others are replaced in turns ([`project::Update`]) |
//! | deed | what a plan decides about one replica: start, adjust, end |
//! | aspect | one part of a replica's identity, named by the path of its node; the one that differs is the cause of a change |
//! | cause | the input that changed, with its place |
//! | mark | something that widens what a project is trusted with: it is shown with `!`, and allowed once, by its digest |
//! | lead | where a path of the host really leads when every symbolic link is followed |
//! | layer | a tree of files, identified by the digest of its canonical tar (its `diff_id`) |
//! | key | the digest of a step and of the content of everything it depends on; the step's result is found by it |
//! | lease | what protects objects in the store from collection while a process uses them |
//! | monitor, heir | the process that stays with a container, and the one that cleans up after a monitor that was killed |
//! | place | file, line and column of a source text, with the bytes that are marked ([`model::Location`]) |
//! | error | kind, place, cause, and what to type ([`model::Error`]); `Result` is the result type with this error |
//! | damaged | it exists but is not what it should be; that is different from absent and from unreadable |
//!
//! # Promises
//!
//! * The same project and lock give the same image digests everywhere; a layer's identity is the
//!   digest of its canonical tar ([`image`]).
//! * Nothing unchanged is touched: step keys are made of content ([`plan`]), so comments and `touch` have
//!   no effect.
//! * The lock is binding: what is locked is used as locked until `stead update`.
//! * Making a plan changes nothing, and a saved plan is applied exactly or refused.
//! * It may be killed at any point: the next `up` or `down` repairs; nothing half-written has a valid name.
//! * What somebody else can change while we use it is held by descriptor, never by path: a root, a layer, a volume, a
//!   build's context, a target of `cp` ([`sys::Tree`]).
//! * There is no daemon: one monitor stays with each container of a project, and its container dies with it
//!   ([`runtime`]).
//! * Two checkouts never collide: each directory is an instance of its own.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        clippy::print_stdout,
        reason = "tests create files, print why they skip, and fail by panicking"
    )
)]

#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod build;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod cli;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod debian;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod engine;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod fetch;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod git;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod image;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod instance;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod library;
mod lock;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod lsp;
mod model;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod monitor;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod network;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod oci;
mod plan;
mod project;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod reconcile;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod registry;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod runtime;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod ship;
mod spec;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod store;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod sys;
mod volume;
#[allow(clippy::disallowed_methods, reason = "this room works on the machine itself")]
mod watch;

pub use cli::main;

/// What the project's own tests use: the parsers for the fuzzer, and what tests compare with. This is not a public
/// interface: the rooms are private, so that the compiler notices code that is no longer used.
#[doc(hidden)]
pub mod tested {
    pub mod build {
        pub use crate::build::{ScanCache, Scanner};
    }
    pub mod cli {
        pub use crate::cli::schemas;
    }
    pub mod debian {
        pub use crate::debian::{Archive, Keyring, Moment, Need, Release, needs, soname, unpack_for_dpkg};
    }
    pub mod engine {
        pub use crate::engine::{Author, author_in, is_bundle, unbundle};
    }
    pub mod fetch {
        pub use crate::fetch::Origin;
    }
    pub mod git {
        pub use crate::git::{Wanted, check_out_pack, checked_out, checkout, head_commit, read_lines, resolve};
    }
    pub mod image {
        pub use crate::image::{
            Archive, Entries, Manifest, PublicKey, Rules, Tree, budgeted, bundles_in, check_bundle, check_payload, digest_tree,
            for_platform, may_be_bundles, parse, platforms, signatures,
        };
    }
    pub mod instance {
        pub use crate::instance::{Drift, Drifting, Generation, Instance, generation};
    }
    pub mod lock {
        pub use crate::lock::{
            IndexLock, Lock, LockedImage, LockedPackage, Request, StepLock, SuiteLock, Universe, compare, packages, parse,
            relations, write,
        };
    }
    pub mod model {
        pub use crate::model::{
            Budget, Digest, Duration, Error, Floor, GitRepository, Mode, Name, Reference, Size, Subnet, capability, kdl_text,
            parse_time, pattern_matches, signal_number,
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
        pub use crate::spec::{Choices, Loaded, Sources, format, kdl, load, set};
    }
    pub mod store {
        pub use crate::store::Home;
    }
    pub mod sys {
        pub use crate::sys::{Tree, get_attribute, open_terminal};
    }
}

//! The parts of a plan: tasks, what each does and waits for, and the changes that they make.

use super::cause::Cause;
use super::desired::Desired;
use super::image::Image;
use super::mark::Mark;
use super::observed::NetworkRecord;
use crate::model::{Digest, Name};
use crate::project::Until;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a change does to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Symbol {
    #[serde(rename = "+")]
    Create,
    #[serde(rename = "~")]
    Change,
    #[serde(rename = "-")]
    Remove,
}

/// What a change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    Setting,
    Lock,
    Image,
    Network,
    Volume,
    Firewall,
    Job,
    // The aliases occur in histories of the first releases.
    #[serde(
        alias = "create",
        alias = "replace",
        alias = "replace-if-image-changes",
        alias = "restart",
        alias = "adjust",
        alias = "remove"
    )]
    Container,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    pub symbol: Symbol,
    #[serde(alias = "kind")]
    pub object: Object,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
    pub causes: Vec<Cause>,
    /// What it is trusted with beyond the defaults.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub trust: Vec<Mark>,
    /// A digest of everything that determines the result of the change; absent if something is only removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wants: Option<Digest>,
}

/// What a task does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Resolves names to digests in the lock file.
    Resolve,
    Build {
        image: Name,
    },
    /// Makes sure that this machine has what the rest needs, and reserves the ports: this is the last task that may
    /// fail before anything is ended.
    Prepare,
    End {
        container: String,
    },
    /// Ends a replica that is no longer wanted once others have been replaced; it goes on if one of them did not come up.
    Retire {
        container: String,
    },
    /// Creates and removes networks.
    Connect,
    /// Creates a volume, with the files that images have at its mount point.
    Fill {
        volume: Name,
    },
    /// Keeps what a job has filled a volume with, and makes the volume ready for others.
    Seed {
        volume: Name,
    },
    /// Records what is about to start, so that it is never lost track of.
    Record,
    /// Opens the firewall for what the networks need.
    Admit,
    Adjust {
        container: String,
    },
    Start {
        container: String,
        how: How,
    },
    /// Waits until a container has reached the state that those which depend on it need.
    Await {
        container: String,
        until: Until,
    },
    /// Makes published ports and names lead to the running containers, and forwards their output.
    Publish,
    /// Waits until a container has come up or failed.
    Settle {
        container: String,
    },
}

/// How a container starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// With a new root file system.
    Fresh,
    /// With a new root file system, if its image turns out to be a different one once it is built.
    FreshIfImageChanges,
    /// With the files that it wrote before.
    Again,
}

/// What is to be done about a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    Start(How),
    /// Its limits change while it runs.
    Adjust,
    End,
}

impl Action {
    /// Its name, which is unique in a plan.
    pub fn name(&self) -> String {
        match self {
            Self::Resolve => "resolve".into(),
            Self::Build { image } => format!("build {image}"),
            Self::Prepare => "prepare".into(),
            Self::End { container } => format!("end {container}"),
            Self::Retire { container } => format!("retire {container}"),
            Self::Connect => "connect".into(),
            Self::Fill { volume } => format!("fill {volume}"),
            Self::Seed { volume } => format!("seed {volume}"),
            Self::Record => "record".into(),
            Self::Admit => "admit".into(),
            Self::Adjust { container } => format!("adjust {container}"),
            Self::Start { container, .. } => format!("start {container}"),
            Self::Await { container, until } => format!("await {container} {until:?}").to_lowercase(),
            Self::Publish => "publish".into(),
            Self::Settle { container } => format!("settle {container}"),
        }
    }

    /// Whether it concerns only one container and those that need it: the others come up even if it fails.
    pub fn is_of_one(&self) -> bool {
        matches!(self, Self::Adjust { .. } | Self::Start { .. } | Self::Await { .. } | Self::Settle { .. })
    }
}

/// One task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    #[serde(flatten)]
    pub action: Action,
    /// The tasks that must have succeeded before.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub after: BTreeSet<String>,
    /// The tasks that must be over before, whether they succeeded or not.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub whatever: BTreeSet<String>,
    /// Its changes, for display.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<Change>,
}

impl Task {
    pub(super) fn new(action: Action, after: BTreeSet<String>) -> Self {
        Self { name: action.name(), action, after, whatever: BTreeSet::new(), changes: Vec::new() }
    }
}

/// What kind of data is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// What live syncs brought into a container and its image does not have.
    Drift,
    /// What a container wrote into its own root.
    Written,
}

/// Data that a plan would lose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loss {
    pub what: Lost,
    /// Whose it is.
    pub of: String,
    pub text: String,
}

/// What would be done: a program for `reconcile`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    pub project: String,
    pub instance: String,
    /// The serial of the record that this plan is based on.
    pub serial: u64,
    pub tasks: Vec<Task>,
    /// The data that it would lose.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub losses: Vec<Loss>,
    /// The images that it uses and that are built already.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub images: BTreeMap<Name, Digest>,
    /// What the project as a whole is trusted with.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub trust: Vec<Mark>,
}

impl Plan {
    /// The version of the format.
    pub const VERSION: u32 = 4;

    /// The changes of all its tasks, for display.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.tasks.iter().flat_map(|task| &task.changes)
    }
}

/// A plan with everything that its execution needs.
#[derive(Clone, Debug)]
pub struct Planned {
    pub plan: Plan,
    pub desired: BTreeMap<String, Desired>,
    pub networks: BTreeMap<Name, NetworkRecord>,
    /// What is to be done about containers.
    pub deeds: BTreeMap<String, Deed>,
    pub built: BTreeMap<Name, Image>,
}

impl Planned {
    /// Whether images must be built before it is certain what happens to the containers.
    pub fn builds(&self) -> bool {
        self.plan.tasks.iter().any(|task| matches!(task.action, Action::Build { .. }))
    }
}

//! The options of `up` and `build`, and the progress that they report: to the command line, or to a test.

use crate::build::{Event, Scanner};
use crate::model::Name;
use crate::plan::{Cause, Mark, MarkKind, Plan};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A question for consent.
#[derive(Debug)]
pub struct Question<'a> {
    pub folder: &'a Path,
    pub file: &'a str,
    /// The marks that were not allowed yet, each once.
    pub marks: &'a [Mark],
    /// Whether something else was allowed here before.
    pub more: bool,
}

/// The answer to a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Yes,
    No,
    /// Nobody can be asked: there is no terminal.
    Nobody,
}

/// Something that happened while a plan was executed.
#[derive(Clone, Debug)]
pub enum Progress {
    /// What was read of the project's files; whatever is built is made of that.
    Scanned(Arc<Scanner>),
    Planned(Plan),
    /// The trust marks of what is about to be built or run, if no plan is shown.
    Marked(Vec<Mark>),
    Resolving,
    /// How much the lock file pins.
    Resolved {
        packages: usize,
        images: usize,
        remotes: usize,
    },
    Build(Event),
    /// Why a step runs.
    Why {
        image: Name,
        step: String,
        cause: Cause,
    },
    /// The bytes of packages fetched so far, and their total.
    Download {
        done: u64,
        total: u64,
    },
    /// A container, and what is being done with it.
    Container {
        name: String,
        what: &'static str,
    },
    /// A task of the plan begins: in which lane, and what it has waited for.
    Begins {
        task: String,
        lane: &'static str,
        after: Vec<String>,
    },
    /// A task of the plan is over.
    Ends {
        task: String,
        outcome: Outcome,
    },
    Warning(String),
}

/// How a task of the plan ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// It turned out that there was nothing to do.
    Unneeded,
    /// Why it failed.
    Failed(String),
}

/// Where progress goes.
pub trait Reporter: Sync {
    fn report(&self, progress: Progress);

    /// Asks the user for consent; by default there is nobody to ask.
    fn consent(&self, _: &Question) -> Answer {
        Answer::Nobody
    }
}

/// The options of `up`.
#[derive(Clone, Default, Debug)]
pub struct UpOptions {
    /// Refuse to resolve anything that is not locked.
    pub frozen: bool,
    /// Refuse to use the network.
    pub offline: bool,
    /// Only these containers; all if empty.
    pub only: BTreeSet<Name>,
    /// Execute exactly this plan, or nothing.
    pub exactly: Option<Plan>,
    /// The latest timestamp in built files, instead of the lock file's.
    pub epoch: Option<i64>,
    /// Let build commands use the user's ssh agent.
    pub ssh: bool,
    /// Report why each step runs.
    pub why: bool,
    /// Kinds of marks that are allowed this time, whatever was allowed before.
    pub allow: BTreeSet<MarkKind>,
    /// Whether what live syncs have changed is no reason to replace a container: whoever syncs keeps it equal to the disk.
    pub keep_drift: bool,
    /// Whether the data of the generation that is left was kept already.
    pub data_kept: bool,
    /// The command's name in the history.
    pub command: String,
}

/// A container that did not come up.
#[derive(Debug)]
pub struct Failure {
    pub container: String,
    pub why: String,
    /// The last lines of its output.
    pub last: Vec<String>,
    /// Whether it only waited for another container that failed.
    pub follows: bool,
}

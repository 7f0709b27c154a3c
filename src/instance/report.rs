//! What `up` and `build` are asked to do, and the progress that they report: to the command line, or to a test.

use crate::build::Event;
use crate::model::Name;
use crate::plan::{Cause, Mark, MarkKind, Plan};
use std::collections::BTreeSet;
use std::path::Path;

/// What somebody is asked.
#[derive(Debug)]
pub struct Question<'a> {
    pub folder: &'a Path,
    pub file: &'a str,
    /// What nobody said yes to, each once.
    pub marks: &'a [Mark],
    /// Whether something else was allowed here before.
    pub more: bool,
}

/// What came of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Yes,
    No,
    /// There is no terminal.
    Nobody,
}

/// Something that happened while a plan was carried out.
#[derive(Clone, Debug)]
pub enum Progress {
    Planned(Plan),
    /// What is about to be built or run is trusted with, where no plan is shown.
    Marked(Vec<Mark>),
    Resolving,
    /// How much the lock pins.
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
    /// Bytes of packages fetched so far, of how many.
    Download {
        done: u64,
        total: u64,
    },
    /// A container, and what is being done with it.
    Container {
        name: String,
        what: &'static str,
    },
    Warning(String),
}

/// Where progress goes.
pub trait Reporter: Sync {
    fn report(&self, progress: Progress);

    /// Asks whoever is there for consent; by default nobody is.
    fn consent(&self, _: &Question) -> Answer {
        Answer::Nobody
    }
}

/// How `up` is to behave.
#[derive(Clone, Default, Debug)]
pub struct UpOptions {
    /// Refuse to resolve what is not locked.
    pub frozen: bool,
    /// Refuse the network.
    pub offline: bool,
    /// Only these containers; all if empty.
    pub only: BTreeSet<Name>,
    /// Carry out exactly this plan, or nothing.
    pub exactly: Option<Plan>,
    /// The latest time in what is built, instead of the lock's.
    pub epoch: Option<i64>,
    /// Let commands of builds use the user's ssh agent.
    pub ssh: bool,
    /// Tell why each step runs.
    pub why: bool,
    /// Kinds of marks that are allowed this time, whatever was said before.
    pub allow: BTreeSet<MarkKind>,
    /// What history calls it.
    pub command: String,
}

/// A container that did not come up.
#[derive(Debug)]
pub struct Failure {
    pub container: String,
    pub why: String,
    /// Its last lines of output.
    pub last: Vec<String>,
    /// It only waited for another that failed.
    pub follows: bool,
}

//! What `stead watch` does when files change: the rules of a container.

use crate::model::Name;
use serde::{Deserialize, Serialize};

/// The `watch` node of a container.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Whether what the container's image copies is not watched by itself.
    pub only_rules: bool,
    pub rules: Vec<WatchRule>,
    /// Patterns of files whose change means nothing for the container, as in a `.gitignore`.
    pub ignore: Vec<String>,
    /// Patterns of the only files whose change means something; all if empty.
    pub include: Vec<String>,
}

/// What follows from a change of a path. Every rule that matches a changed file applies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatchRule {
    /// A file or directory, relative to the project's directory.
    pub path: String,
    /// The path in the container that is kept equal to it.
    pub to: Option<String>,
    pub then: Then,
}

/// What follows once a change has been delivered, if it is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Then {
    /// Nothing: the container sees the file.
    Nothing,
    /// The container's process is started again, with the same files.
    Restart,
    /// A command runs in the container.
    Run(Vec<String>),
    /// The image is built, and the container is replaced if that gives another one.
    Rebuild,
}

impl WatchRule {
    /// The word that the rule is written with.
    pub fn word(&self) -> &'static str {
        match (&self.then, &self.to) {
            (Then::Nothing, _) => "sync",
            (Then::Restart, Some(_)) => "sync-restart",
            (Then::Restart, None) => "restart",
            (Then::Run(_), _) => "sync-exec",
            (Then::Rebuild, _) => "rebuild",
        }
    }
}

/// A rule with the container that it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleOf<'p> {
    pub container: &'p Name,
    pub watch: &'p Watch,
    pub rule: &'p WatchRule,
}

impl super::Project {
    /// The rules of all containers, in the order of the containers' names.
    pub fn watch_rules(&self) -> impl Iterator<Item = RuleOf<'_>> {
        self.containers
            .iter()
            .filter_map(|(name, container)| Some((name, container.watch.as_ref()?)))
            .flat_map(|(container, watch)| watch.rules.iter().map(move |rule| RuleOf { container, watch, rule }))
    }
}

//! What `stead watch` does when files change: the rules of a container.

use super::container::{Container, Mount, MountSource};
use crate::model::Name;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

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

/// What a mount does to a path of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cover {
    /// The container sees its own root there.
    None,
    /// A volume that can be written, mounted at this path.
    Volume(PathBuf),
    /// Nothing can or may be written there.
    Hidden(&'static str),
}

/// What covers a path: the deepest mount at or above it.
pub fn cover(container: &Container, path: &Path) -> Cover {
    let path = tidy(path);
    let kind = |mount: &Mount| match &mount.source {
        MountSource::Volume(_) if mount.read_only => Cover::Hidden("a volume that is mounted read-only"),
        MountSource::Volume(_) => Cover::Volume(tidy(Path::new(&mount.to))),
        MountSource::Bind(_) => Cover::Hidden("a bind mount"),
        MountSource::Image(_) => Cover::Hidden("a mounted image"),
    };
    let mounts = container.mounts.iter().map(|mount| (mount.to.as_str(), kind(mount)));
    let memory = container.tmpfs.iter().map(|tmpfs| (tmpfs.path.as_str(), Cover::Hidden("a file system in memory")));
    let files =
        container.secrets.iter().chain(&container.configs).map(|used| (used.to.as_str(), Cover::Hidden("a secret or config")));
    let all = mounts.chain(memory).chain(files).map(|(to, kind)| (tidy(Path::new(to)), kind));
    let covering = all.filter(|(to, _)| path.starts_with(to)).max_by_key(|(to, _)| to.components().count());
    covering.map_or(Cover::None, |(_, kind)| kind)
}

/// A path without `.` and a `/` at its end.
pub fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Why nothing can be synced to a path of a container, with what to write instead, as far as the project tells.
pub fn no_sync(name: &Name, container: &Container, to: &Path) -> Option<(String, &'static str)> {
    let (why, help) = match cover(container, to) {
        Cover::Hidden(what) => (
            format!("{} in container {name} is {what}", to.display()),
            "name a path of the container's own root, or in a volume that can be written",
        ),
        Cover::None if container.security.read_only => (
            format!("the root of container {name} is read-only, and so is {}", to.display()),
            "mount a volume there, or write `rebuild` instead",
        ),
        Cover::None | Cover::Volume(_) => return None,
    };
    Some((format!("nothing can be synced: {why}"), help))
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

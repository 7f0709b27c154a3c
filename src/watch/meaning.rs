//! What changes mean, container by container: files to deliver, and what follows.

use super::flows::{Flow, Flows};
use super::mirror::{Change, Mirror, Now};
use crate::model::Name;
use crate::project::{Container, Then};
use crate::project::{Cover, cover};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

/// Files on their way into one container, by their targets.
pub type Files = BTreeMap<PathBuf, Delivery>;

/// What changes mean.
#[derive(Debug, Default)]
pub struct Meaning {
    pub files: BTreeMap<Name, Files>,
    pub restart: BTreeSet<Name>,
    pub run: BTreeSet<(Name, Vec<String>)>,
    /// The containers that need a build or another definition.
    pub rebuild: BTreeSet<Name>,
    /// Whether that may be any of them.
    pub everything: bool,
}

/// A file on its way.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: PathBuf,
    pub now: Now,
    /// The permissions of a new file.
    pub new: u32,
    /// The mount point of the volume that it goes into, if it does.
    pub volume: Option<PathBuf>,
}

impl Delivery {
    /// The file to copy. If it cannot be opened, it has changed again, so another event follows.
    pub fn source(&self, mirror: &Mirror) -> Option<File> {
        if matches!(self.now, Now::File { .. }) { mirror.open(&self.path).ok() } else { None }
    }
}

impl Meaning {
    /// What changes mean, and which of them mean anything.
    pub fn of(flows: &Flows, containers: &BTreeMap<Name, Container>, changes: &[Change]) -> (Self, Vec<PathBuf>) {
        let (mut meaning, mut relevant) = (Self::default(), Vec::new());
        for change in changes {
            let mut matters = false;
            if let Some(names) = flows.inputs.get(&change.path) {
                matters = true;
                meaning.everything |= names.is_empty();
                meaning.rebuild.extend(names.iter().cloned());
            }
            // What is gone was a file or a directory: either is taken by the same flows.
            let is_folder = matches!(change.now, Now::Folder { .. });
            for flow in flows.of_path(&change.path, is_folder) {
                matters |= meaning.add(flow, change, containers.get(&flow.container));
            }
            if matters {
                relevant.push(change.path.clone());
            }
        }
        (meaning, relevant)
    }

    /// Adds what a change means by one flow; returns whether it means anything.
    fn add(&mut self, flow: &Flow, change: &Change, container: Option<&Container>) -> bool {
        let Some(container) = container else { return false };
        let name = &flow.container;
        if let Some(to) = flow.target(&change.path) {
            match cover(container, &to) {
                Cover::Hidden(_) => return false,
                // What the image has there came into the volume once, when it was made.
                Cover::Volume(_) if !flow.is_rule => {
                    self.rebuild.insert(name.clone());
                    return true;
                }
                covered => {
                    let new = match change.now {
                        Now::File { mode, .. } => flow.modes.of(mode),
                        _ => 0o755,
                    };
                    let (path, now) = (change.path.clone(), change.now.clone());
                    let volume = if let Cover::Volume(volume) = covered { Some(volume) } else { None };
                    self.files.entry(name.clone()).or_default().insert(to, Delivery { path, now, new, volume });
                }
            }
        }
        match &flow.then {
            Then::Nothing => {}
            Then::Restart => drop(self.restart.insert(name.clone())),
            Then::Run(words) => drop(self.run.insert((name.clone(), words.clone()))),
            Then::Rebuild => drop(self.rebuild.insert(name.clone())),
        }
        true
    }

    /// Leaves out what follows for containers that are built anew, and returns their files: a container gets everything by its
    /// build, and without them it is behind if the build fails.
    pub fn without_rebuilt(&mut self) -> BTreeMap<Name, Files> {
        let rebuild = &self.rebuild;
        self.restart.retain(|name| !rebuild.contains(name));
        self.run.retain(|(name, _)| !rebuild.contains(name));
        rebuild.iter().filter_map(|name| Some((name.clone(), self.files.remove(name)?))).collect()
    }
}

//! Trees of later steps, made while an earlier step of the same image still runs.
//!
//! The tree of a `debian` step does not depend on the layers below it. The tree of a `copy` step depends
//! on a few paths below it, which are recorded and checked again when the step's turn comes. Commands
//! never run ahead. So the layers, their order and their keys are the same as in a build one step at a time.

use super::copy::Folders;
use super::view::View;
use crate::model::{LayerInfo, Result};
use crate::store::Staging;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A tree that will become a layer, with the paths that were looked up below it to make it.
pub struct Made {
    pub staging: Staging,
    pub skipped: Vec<String>,
    /// Directories of the tree that may already exist below, with their owners in case they do not.
    pub folders: Folders,
    /// The layers that were below it at that time, and the paths that were looked up in them.
    pub below: Vec<LayerInfo>,
    pub seen: BTreeSet<PathBuf>,
}

impl Made {
    pub fn tree(&self) -> PathBuf {
        self.staging.join("tree")
    }
}

/// A step whose tree may be made before its turn.
#[derive(Clone)]
pub struct Early {
    pub index: usize,
    pub workdir: String,
    /// The owner of a `folder`.
    pub user: String,
    pub below: Vec<LayerInfo>,
    /// For a `copy` from an image: that image's layers.
    pub from: Vec<LayerInfo>,
}

enum Slot {
    Waiting(Early),
    Busy,
    Made(Option<Box<Made>>),
}

/// The steps of one image that are made ahead.
#[derive(Default)]
pub struct Ahead {
    slots: Mutex<BTreeMap<usize, Slot>>,
    changed: Condvar,
}

impl Ahead {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers steps; returns how many were not offered before.
    pub fn offer(&self, steps: Vec<Early>) -> usize {
        let mut slots = self.slots();
        let before = slots.len();
        for step in steps {
            slots.entry(step.index).or_insert(Slot::Waiting(step));
        }
        slots.len() - before
    }

    /// Makes offered steps until none is waiting.
    pub fn work(&self, make: impl Fn(&Early) -> Result<Made>) {
        loop {
            let mut slots = self.slots();
            let next = slots.values().find_map(|slot| if let Slot::Waiting(step) = slot { Some(step.clone()) } else { None });
            let Some(step) = next else { return };
            slots.insert(step.index, Slot::Busy);
            drop(slots);
            // A failure is not reported here: the layers below may have caused it, so the step is tried again at its turn.
            let made = make(&step).ok().map(Box::new);
            self.slots().insert(step.index, Slot::Made(made));
            self.changed.notify_all();
        }
    }

    /// Takes the tree of a step whose turn has come; `None` if it still has to be made.
    pub fn take(&self, index: usize) -> Option<Made> {
        let mut slots = self.slots();
        loop {
            match slots.remove(&index) {
                Some(Slot::Busy) => {
                    slots.insert(index, Slot::Busy);
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Made(made)) => return made.map(|made| *made),
                Some(Slot::Waiting(_)) | None => return None,
            }
        }
    }

    /// Withdraws all steps that no thread has begun.
    pub fn close(&self) {
        self.slots().retain(|_, slot| !matches!(slot, Slot::Waiting(_)));
    }
}

/// Whether a tree would come out the same above other layers, except for what its own directories take from below.
pub fn holds(before: &View, now: &View, made: &Made) -> bool {
    let seen = &made.seen;
    seen.iter().all(|path| match (before.entry(path), now.entry(path)) {
        (None, None) => true,
        (None, Some((_, now))) => now.is_dir() && made.folders.contains_key(path),
        (Some((before, old)), Some((now, new))) => before == now || (old.is_dir() && new.is_dir()),
        (Some(_), None) => false,
    })
}

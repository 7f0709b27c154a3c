//! Files that change while people work: the smallest thing that makes the environment follow.
//!
//! An event says where to look ([`events`]); the content decides what has changed ([`mirror`]); the [`flows`] say which
//! containers it concerns, and so what it means ([`meaning`]). Then it is written into the [`replicas`] ([`deliver`]), and their
//! processes are started again beside that ([`chores`]). Or the caller is told to bring the environment up anew, because an image
//! or a definition has changed: one `up` after the other ([`agenda`]) runs beside the [`session`], which goes on to deliver, and
//! in the end knows which changes that came meanwhile were not read any more ([`read`]).

mod agenda;
mod aside;
mod chores;
mod deliver;
mod events;
mod flows;
mod inputs;
mod meaning;
mod mirror;
mod read;
mod replicas;
mod session;
#[cfg(test)]
mod tests;

pub use events::Asker;
pub use read::Reading;
pub use session::Session;

use crate::model::{Error, Name};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Something that a session has done, or that is to be known.
#[derive(Debug)]
pub enum Happened {
    /// Files were made equal in containers.
    Synced {
        written: Vec<PathBuf>,
        removed: Vec<PathBuf>,
        replicas: BTreeSet<String>,
        took: Duration,
    },
    Restarted {
        replica: String,
        took: Duration,
    },
    Ran {
        replica: String,
        words: Vec<String>,
        took: Duration,
    },
    Failed(Error),
    Note(String),
}

/// What is next.
#[derive(Debug)]
pub enum Next {
    /// Load the project, [`aim`](Session::aim) at it, bring up these containers (all if there are none), and
    /// [`settle`](Session::settle). Whatever of it takes time runs beside the session: until it is settled nothing else is to be
    /// brought up, and everything else goes on.
    Converge {
        changed: Vec<PathBuf>,
        only: BTreeSet<Name>,
        since: Instant,
    },
    Did(Vec<Happened>),
    /// Somebody has woken the session: what runs beside it may be over.
    Woken,
}

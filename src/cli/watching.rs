//! What a session of `stead watch` tells whoever shows it: lines, or a view.

use crate::model::{Error, Result};
use crate::watch::{Asker, Happened};
use std::path::PathBuf;
use std::time::Duration;

/// Something that a session tells.
#[derive(Debug)]
pub enum Told {
    /// It begins; this asks it to bring everything up again.
    Begins(Asker),
    /// The environment is being brought up.
    Converging,
    /// The environment is up.
    Converged,
    /// It could not be brought up. What runs goes on.
    Failed(Error),
    Happened(Happened),
    /// It waits for changes.
    Watching {
        files: usize,
        directories: usize,
    },
    /// These have changed, so the environment is brought up again; none if somebody asked for it.
    Changed(Vec<PathBuf>),
}

/// Some of the paths, and how many more there are.
pub fn some(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What happened, and how long it took if it was something that was done.
///
/// # Errors
/// Returns what failed.
pub fn shown(happened: Happened) -> Result<(String, Option<Duration>)> {
    Ok(match happened {
        Happened::Synced { paths, replicas, took } => {
            let replicas: Vec<&str> = replicas.iter().map(String::as_str).collect();
            (format!("{} → {}", some(&paths), replicas.join(", ")), Some(took))
        }
        Happened::Restarted { replica, took } => (format!("{replica} restarted"), Some(took)),
        Happened::Ran { replica, words, took } => (format!("{} ran in {replica}", words.join(" ")), Some(took)),
        Happened::Failed(error) => return Err(error),
        Happened::Note(text) => (text, None),
    })
}

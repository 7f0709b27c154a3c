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
    /// The environment is up, all of it.
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
        Happened::Synced { written, removed, replicas, took } => {
            let replicas: Vec<&str> = replicas.iter().map(String::as_str).collect();
            let removed = (!removed.is_empty()).then(|| format!("{} removed", some(&removed)));
            let what: Vec<String> = (!written.is_empty()).then(|| some(&written)).into_iter().chain(removed).collect();
            (format!("{} → {}", what.join("; "), replicas.join(", ")), Some(took))
        }
        Happened::Restarted { replica, took } => (format!("{replica} restarted"), Some(took)),
        Happened::Ran { replica, words, took } => (format!("{} ran in {replica}", words.join(" ")), Some(took)),
        Happened::Failed(error) => return Err(error),
        Happened::Note(text) => (text, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_no_write() {
        let shown = |written: &[&str], removed: &[&str]| {
            let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
            let (written, removed) = (paths(written), paths(removed));
            let replicas = ["a-1".to_owned(), "b-1".to_owned()].into();
            shown(Happened::Synced { written, removed, replicas, took: Duration::ZERO }).unwrap().0
        };
        assert_eq!(shown(&["x"], &[]), "x → a-1, b-1");
        assert_eq!(shown(&[], &["x"]), "x removed → a-1, b-1");
        assert_eq!(shown(&["a", "b", "c", "d"], &["x", "y"]), "a, b, c and 1 more; x, y removed → a-1, b-1");
    }
}

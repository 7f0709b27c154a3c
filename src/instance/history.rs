//! The history: one line of JSON for each `up` and `down`. It is kept after the environment is removed.

use super::identity::Instance;
use crate::model::{Context, Result};
use crate::plan::Change;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;

/// One entry of the history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at: u64,
    pub command: String,
    pub ok: bool,
    pub changes: Vec<Change>,
}

impl Entry {
    /// Appends it to the history.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn add(&self, instance: &Instance) -> Result<()> {
        let path = instance.state().join("history.jsonl");
        let mut line = serde_json::to_vec(self).context(|| "cannot write the history".into())?;
        line.push(b'\n');
        let write = || OpenOptions::new().create(true).append(true).open(&path)?.write_all(&line);
        write().context(|| format!("cannot write {}", path.display()))
    }
}

/// All entries, oldest first; a line that was cut off by a crash is skipped.
pub fn read(instance: &Instance) -> Vec<Entry> {
    let text = fs::read_to_string(instance.state().join("history.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

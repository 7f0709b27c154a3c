//! Events: what happened to containers. Each is one line of JSON in a file of the instance, whose size is bounded.

use super::files::now_ms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The size from which the file is renamed to be the old file; the previous old file is removed.
const LONGEST: u64 = 4 << 20;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub time: u64,
    /// What it happened to: `container` or `project`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In Docker's terms: create, start, die, oom, kill, stop, pause, unpause, restart, health_status, destroy …
    pub action: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event that happens now.
    pub fn now(kind: &str, action: &str, name: &str, attributes: &[(&str, String)]) -> Self {
        Self {
            time: now_ms(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            name: name.to_owned(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }
}

/// Adds an event. If it cannot be written it is lost, and nothing else fails because of it.
pub fn add(file: &Path, event: &Event) {
    let Ok(mut line) = serde_json::to_vec(event) else { return };
    line.push(b'\n');
    if fs::metadata(file).is_ok_and(|found| found.len() > LONGEST) {
        let _ = fs::rename(file, older(file));
    }
    // A whole line is one write, so the lines of several processes do not mix (write(2), O_APPEND).
    let _ = OpenOptions::new().create(true).append(true).open(file).and_then(|mut out| out.write_all(&line));
}

fn older(file: &Path) -> PathBuf {
    file.with_extension("old.jsonl")
}

/// Reads events as they come.
pub struct Events {
    file: PathBuf,
    offset: u64,
    first: bool,
}

impl Events {
    /// All events that are kept, then new ones as they come.
    pub fn all(file: &Path) -> Self {
        Self { file: file.to_owned(), offset: 0, first: true }
    }

    /// Events that have come since the last call.
    pub fn read(&mut self) -> Vec<Event> {
        let mut found = Vec::new();
        if std::mem::take(&mut self.first) {
            found.extend(read_from(&older(&self.file), 0).0);
        }
        if fs::metadata(&self.file).is_ok_and(|now| now.len() < self.offset) {
            // A new file was started, and the end of the old one has still to be read.
            found.extend(read_from(&older(&self.file), self.offset).0);
            self.offset = 0;
        }
        let (new, offset) = read_from(&self.file, self.offset);
        self.offset = offset;
        found.extend(new);
        found
    }
}

fn read_from(file: &Path, offset: u64) -> (Vec<Event>, u64) {
    let mut found = Vec::new();
    let mut at = offset;
    let Ok(mut file) = fs::File::open(file) else { return (found, at) };
    if file.seek(SeekFrom::Start(offset)).is_err() {
        return (found, at);
    }
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) && line.ends_with('\n') {
        at += line.len() as u64;
        found.extend(serde_json::from_str(&line).ok());
        line.clear();
    }
    (found, at)
}

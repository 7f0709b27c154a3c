//! Logs: writes a container's output as CRI lines to numbered files, and reads them back.
//!
//! A record is `TIME STREAM TAG TEXT`, with the tag `F` for a full line and `P` for a part of one
//! (Kubernetes' CRI log format). The parts of a line are joined with what follows on the same stream, until a record is full.
//! File numbers go up, and the last file is written to. Readers need no monitor.

mod read;
mod write;

pub use read::{Tail, last_lines};
pub use write::{Capture, LogFiles, LogLimits};

use crate::sys;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A line of the log, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub time: String,
    pub stream: String,
    pub full: bool,
    /// What the container wrote; it may be anything.
    pub text: Vec<u8>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let mut word = || parts.next().and_then(|part| std::str::from_utf8(part).ok()).map(str::to_owned);
        let (time, stream, tag) = (word()?, word()?, word()?);
        Some(Self { time, stream, full: tag == "F", text: parts.next().unwrap_or_default().to_vec() })
    }

    /// The text for whoever can take only Unicode.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }
}

/// A directory's log files, oldest first.
///
/// # Errors
/// Fails when it cannot be listed.
fn log_files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let names = sys::names(folder)?.into_iter();
    let mut found: Vec<(u64, PathBuf)> =
        names.filter_map(|name| Some((name.strip_suffix(".log")?.parse().ok()?, folder.join(&name)))).collect();
    found.sort();
    Ok(found)
}

/// One of the two output streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    Out,
    Err,
}

impl Stream {
    const BOTH: [Self; 2] = [Self::Out, Self::Err];

    fn name(self) -> &'static str {
        if self == Self::Out { "stdout" } else { "stderr" }
    }
}

/// The place of a record in its file, and what it is.
struct Record {
    begin: u64,
    end: u64,
    stream: Stream,
    full: bool,
}

/// Visits the complete records of a file in order, until `each` returns false.
fn records(path: &Path, mut each: impl FnMut(Record) -> bool) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let (mut base, mut used) = (0, 0);
    loop {
        let length = file.read(&mut buffer[used..])?;
        if length == 0 {
            return Ok(());
        }
        used += length;
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..used]) {
            let mut words = buffer[from..end].splitn(4, |byte| *byte == b' ').skip(1);
            let stream = if words.next() == Some(b"stderr") { Stream::Err } else { Stream::Out };
            let full = words.next() == Some(b"F");
            if !each(Record { begin: base + from as u64, end: base + end as u64 + 1, stream, full }) {
                return Ok(());
            }
            from = end + 1;
        }
        buffer.copy_within(from..used, 0);
        base += from as u64;
        used -= from;
        if used == buffer.len() {
            buffer.resize(2 * used, 0);
        }
    }
}

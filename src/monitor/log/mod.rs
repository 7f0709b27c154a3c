//! Logs: writes a container's output as CRI lines to numbered files, and reads them back.
//!
//! A line is `TIME STREAM TAG TEXT`, with the tag `F` for a full line and `P` for a part of one
//! (Kubernetes' CRI log format). File numbers go up, and the last file is written to. Readers need
//! no monitor.

use crate::model::Size;
use crate::model::time_text;
use crate::sys;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest part of a line that is written at once.
const LONGEST: usize = 16 << 10;

/// The files that a monitor writes.
pub struct LogFiles {
    folder: PathBuf,
    limits: LogLimits,
    number: u64,
    file: File,
    size: u64,
    lines: u64,
    out: Vec<u8>,
    /// Older files with their sizes and lines, oldest first.
    kept: Vec<(u64, u64, u64)>,
    dropped: u64,
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLimits {
    /// The size from which the next file is started.
    pub file: Size,
    /// The limit on all files together; the oldest lines are dropped first.
    pub quota: Size,
    /// Whether lines are kept at all.
    pub keep: bool,
}

impl LogFiles {
    /// Opens the next file of a directory.
    ///
    /// # Errors
    /// Fails when the file cannot be created; a link in its place is refused (CVE-2026-53489).
    pub fn open(folder: &Path, limits: LogLimits) -> io::Result<Self> {
        crate::sys::make_private(folder)?;
        let mut kept = Vec::new();
        for (number, path) in log_files(folder)? {
            let (size, lines) = measure(&path);
            kept.push((number, size, lines));
        }
        let number = kept.last().map_or(1, |(number, ..)| number + 1);
        let file = create(folder, number)?;
        Ok(Self { folder: folder.to_owned(), limits, number, file, size: 0, lines: 0, out: Vec::new(), kept, dropped: 0 })
    }

    /// Adds a line of output after the given head (time, stream and tag).
    fn line(&mut self, head: &[u8], text: &[u8]) {
        if !self.limits.keep {
            return;
        }
        self.lines += 1;
        self.out.reserve(head.len() + text.len() + 1);
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
    }

    /// Adds a line that the monitor writes itself.
    pub fn note(&mut self, text: &str) {
        self.line(&head("stderr", true), text.as_bytes());
    }

    /// Writes what was added, and starts a new file when this one is full.
    ///
    /// # Errors
    /// Fails when writing fails or the new file cannot be created.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.out);
        self.size += self.out.len() as u64;
        // What does not fit on a full disk is lost: keeping it would fill the memory instead.
        self.out.clear();
        if self.out.capacity() > 256 << 10 {
            self.out = Vec::new();
        }
        written?;
        // A file is never longer than half of the quota, so that both the size of a file and the quota are kept to.
        if self.size >= self.limits.file.0.min(self.limits.quota.0 / 2).max(1) { self.rotate() } else { Ok(()) }
    }

    /// Starts the next file, removes old files over the quota, and notes in the new file how many lines were dropped.
    fn rotate(&mut self) -> io::Result<()> {
        self.kept.push((self.number, self.size, self.lines));
        self.number += 1;
        self.file = create(&self.folder, self.number)?;
        (self.size, self.lines) = (0, 0);
        let room = self.limits.quota.0.saturating_sub(self.limits.file.0.min(self.limits.quota.0 / 2));
        let before = self.dropped;
        while self.kept.iter().map(|(_, size, _)| size).sum::<u64>() > room {
            let (number, _, lines) = self.kept.remove(0);
            let _ = fs::remove_file(self.folder.join(format!("{number}.log")));
            self.dropped += lines;
        }
        if self.dropped > before {
            let quota = self.limits.quota;
            self.note(&format!(
                "stead: {} lines were dropped, the oldest first, to stay within {quota} (`limits {{ log … }}`)",
                self.dropped
            ));
        }
        Ok(())
    }
}

/// The size of a file and its number of lines.
fn measure(path: &Path) -> (u64, u64) {
    let Ok(mut file) = File::open(path) else { return (0, 0) };
    let mut buffer = vec![0; 64 << 10];
    let (mut size, mut lines) = (0, 0);
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        size += length as u64;
        lines += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
    }
    (size, lines)
}

fn create(folder: &Path, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{number}.log"));
    OpenOptions::new().append(true).create_new(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// A directory's log files, oldest first.
///
/// # Errors
/// Fails when it cannot be listed.
pub fn log_files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let names = sys::names(folder)?.into_iter();
    let mut found: Vec<(u64, PathBuf)> =
        names.filter_map(|name| Some((name.strip_suffix(".log")?.parse().ok()?, folder.join(&name)))).collect();
    found.sort();
    Ok(found)
}

/// One of a container's output streams, which is split into lines.
pub struct Capture {
    fd: OwnedFd,
    name: &'static str,
    rest: Vec<u8>,
    grown: bool,
}

impl Capture {
    pub fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { fd, name, rest: Vec::new(), grown: false })
    }

    /// Reads the available output into the log, and passes the same bytes to the attached clients. Returns whether
    /// the stream is still open.
    pub fn read(&mut self, log: &mut LogFiles, buffer: &mut [u8], mut also: impl FnMut(&[u8])) -> bool {
        let goes_on = match nix::unistd::read(&self.fd, buffer) {
            // Reading a terminal fails with EIO once its last user is gone.
            Ok(0) | Err(nix::errno::Errno::EIO) => false,
            Ok(length) => {
                if length == buffer.len() && !std::mem::replace(&mut self.grown, true) {
                    // Only a busy stream gets a larger pipe: large pipes for all would exceed the user's limit (pipe(7)).
                    let _ = nix::fcntl::fcntl(&self.fd, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
                }
                self.take(log, &buffer[..length]);
                also(&buffer[..length]);
                true
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => true,
            Err(_) => false,
        };
        if !goes_on && !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            log.line(&head(self.name, true), &rest);
        }
        // On a full disk lines are lost, but the container goes on.
        let _ = log.flush();
        goes_on
    }

    fn take(&mut self, log: &mut LogFiles, bytes: &[u8]) {
        let full = head(self.name, true);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[from..end];
            from = end + 1;
            if self.rest.is_empty() {
                log.line(&full, line);
            } else {
                self.rest.extend_from_slice(line);
                let rest = std::mem::take(&mut self.rest);
                log.line(&full, &rest);
            }
        }
        self.rest.extend_from_slice(&bytes[from..]);
        if self.rest.len() >= LONGEST {
            let rest = std::mem::take(&mut self.rest);
            log.line(&head(self.name, false), &rest);
        }
    }
}

/// The beginning of a line: time, stream and the tag that tells whether it is complete.
fn head(stream: &str, full: bool) -> Vec<u8> {
    format!("{} {stream} {} ", stamp(), if full { 'F' } else { 'P' }).into_bytes()
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The current time with nanoseconds, in RFC 3339 form.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = time_text(i64::try_from(now.as_secs()).unwrap_or(0));
    text.pop();
    format!("{text}.{:09}Z", now.subsec_nanos())
}

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub time: String,
    pub stream: String,
    pub full: bool,
    pub text: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            time: time.to_owned(),
            stream: stream.to_owned(),
            full: tag == "F",
            text: parts.next().unwrap_or_default().to_owned(),
        })
    }
}

/// The last lines of one generation's files.
pub fn last_lines(folder: &Path, count: usize) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    // What cannot be read is just not shown.
    for (_, path) in log_files(folder).unwrap_or_default().iter().rev() {
        let Ok(file) = File::open(path) else { continue };
        let mut ring: VecDeque<Line> = VecDeque::new();
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        while let Some(line) = next_line(&mut reader, &mut bytes) {
            ring.push_back(line);
            if ring.len() > count - found.len() {
                ring.pop_front();
            }
        }
        found.splice(0..0, ring);
        if found.len() >= count {
            break;
        }
    }
    found
}

/// The next complete line. `None` at the end of the file, or if the next line is not complete yet.
fn next_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> Option<Line> {
    loop {
        bytes.clear();
        reader.read_until(b'\n', bytes).ok().filter(|length| *length > 0)?;
        if bytes.pop() != Some(b'\n') {
            return None;
        }
        if let Some(line) = Line::parse(&String::from_utf8_lossy(bytes)) {
            return Some(line);
        }
    }
}

/// Reads a container's logs as they grow: all generations and files, line by line from the oldest.
pub struct Tail {
    folder: PathBuf,
    /// Generation, file and offset of the next line.
    at: (u64, u64, u64),
    open: Option<BufReader<File>>,
    bytes: Vec<u8>,
}

impl Tail {
    /// The logs of a container, from their beginning.
    pub fn new(folder: &Path) -> Self {
        Self::from(folder, (0, 0, 0))
    }

    /// The logs of a container, from a position that [`place`](Self::place) returned.
    pub fn from(folder: &Path, at: (u64, u64, u64)) -> Self {
        Self { folder: folder.to_owned(), at, open: None, bytes: Vec::new() }
    }

    /// Generation, file and offset of the next line.
    pub fn place(&self) -> (u64, u64, u64) {
        self.at
    }

    /// Skips to the last lines that are there now.
    pub fn skip_to_last(&mut self, count: usize) {
        let mut left = count as u64;
        let mut files = self.files();
        self.open = None;
        while let Some((generation, number)) = files.pop() {
            let path = self.folder.join(generation.to_string()).join(format!("{number}.log"));
            let (_, lines) = measure(&path);
            self.at = (generation, number, 0);
            if lines >= left {
                let mut reader = File::open(&path).map(BufReader::new).ok();
                for _ in 0..lines - left {
                    self.bytes.clear();
                    let length = reader.as_mut().and_then(|reader| reader.read_until(b'\n', &mut self.bytes).ok()).unwrap_or(0);
                    self.at.2 += length as u64;
                }
                return;
            }
            left -= lines;
        }
    }

    /// All files, oldest first.
    fn files(&self) -> Vec<(u64, u64)> {
        // A directory that cannot be listed now is tried again at the next call.
        let generations = sys::names(&self.folder).unwrap_or_default();
        let mut found: Vec<(u64, u64)> = generations
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|generation: &u64| *generation >= self.at.0)
            .flat_map(|generation| {
                let files = log_files(&self.folder.join(generation.to_string())).unwrap_or_default();
                files.into_iter().map(move |(number, _)| (generation, number))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The next line, if it has been written.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.in_file() {
                return Some(line);
            }
            let next = self.files().into_iter().find(|file| *file > (self.at.0, self.at.1))?;
            // The rest of this file may have been written between the two checks, before the next file was started.
            if let Some(line) = self.in_file() {
                return Some(line);
            }
            self.at = (next.0, next.1, 0);
            self.open = None;
        }
    }

    fn in_file(&mut self) -> Option<Line> {
        if self.open.is_none() {
            let path = self.folder.join(self.at.0.to_string()).join(format!("{}.log", self.at.1));
            let mut file = File::open(path).ok()?;
            file.seek(SeekFrom::Start(self.at.2)).ok()?;
            self.open = Some(BufReader::with_capacity(64 << 10, file));
        }
        loop {
            self.bytes.clear();
            let length = self.open.as_mut()?.read_until(b'\n', &mut self.bytes).unwrap_or(0);
            if self.bytes.pop() != Some(b'\n') {
                // It is not complete yet: read it again later, from its beginning.
                self.open = None;
                return None;
            }
            self.at.2 += length as u64;
            if let Some(line) = Line::parse(&String::from_utf8_lossy(&self.bytes)) {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_rotation_and_parts_are_marked() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFiles::open(folder.path(), LogLimits { file: Size(200), quota: Size(700), keep: true }).unwrap();
        let (read, write) = crate::sys::pipe().unwrap();
        let mut capture = Capture::new(read, "stdout").unwrap();
        let mut writer = File::from(write);
        let mut buffer = vec![0; 4096];
        for number in 0..20 {
            writeln!(writer, "line {number}").unwrap();
            assert!(capture.read(&mut log, &mut buffer, |_| {}));
        }
        writer.write_all(b"no end").unwrap();
        drop(writer);
        while capture.read(&mut log, &mut buffer, |_| {}) {}
        let all = last_lines(folder.path(), 100);
        assert_eq!(all.last().unwrap().text, "no end");
        assert!(all.iter().any(|line| line.text == "line 19" && line.stream == "stdout" && line.full));
        assert!(!all.iter().any(|line| line.text == "line 0"), "the oldest file is gone");
        let total: u64 = log_files(folder.path()).unwrap().iter().map(|(_, path)| fs::metadata(path).unwrap().len()).sum();
        assert!(total <= 900, "{total}");
        // Every line is there or counted.
        let last_note = all.iter().rev().find(|line| line.text.contains("lines were dropped")).unwrap();
        assert!(last_note.text.starts_with("stead: "), "{}", last_note.text);
        assert!(all[0].time.ends_with('Z') && all[0].time.len() == 30);
    }

    #[test]
    fn a_link_in_place_of_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("1.log")).unwrap();
        assert!(create(folder.path(), 1).is_err());
    }
}

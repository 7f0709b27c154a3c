//! Logs: a container's output as CRI lines in numbered files, and reading them back.
//!
//! A line is `TIME STREAM TAG TEXT`, with the tag `F` for a full line and `P` for a part of one
//! (Kubernetes' CRI log format). Files are numbered upwards; the last one is written to. Readers need
//! no monitor.

use crate::image::time_text;
use crate::spec::Log;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest part of a line that is written at once.
const LONGEST: usize = 16 << 10;

/// The files that a monitor writes.
pub struct LogFiles {
    folder: PathBuf,
    limits: Log,
    number: u64,
    file: File,
    size: u64,
    out: Vec<u8>,
}

impl LogFiles {
    /// Opens the next file of a folder.
    ///
    /// # Errors
    /// Those of making files; a link in its place is refused (CVE-2026-53489).
    pub fn open(folder: &Path, limits: &Log) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let number = log_files(folder).last().map_or(1, |(number, _)| number + 1);
        let file = create(folder, number)?;
        Ok(Self { folder: folder.to_owned(), limits: limits.clone(), number, file, size: 0, out: Vec::new() })
    }

    /// Adds a line of output.
    pub fn line(&mut self, time: &str, stream: &str, full: bool, text: &[u8]) {
        for part in [time.as_bytes(), b" ", stream.as_bytes(), if full { b" F " } else { b" P " }, text, b"\n"] {
            self.out.extend_from_slice(part);
        }
    }

    /// Writes what was added, and begins a new file when this one is full.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.out);
        self.size += self.out.len() as u64;
        // What a full disk does not take is lost: kept, it would fill the memory instead.
        self.out.clear();
        written?;
        if self.out.capacity() > 256 << 10 {
            self.out = Vec::new();
        }
        if self.size >= self.limits.size.0 {
            self.number += 1;
            self.file = create(&self.folder, self.number)?;
            self.size = 0;
            let keep = u64::from(self.limits.files);
            for (_, path) in log_files(&self.folder).into_iter().filter(|(number, _)| number + keep <= self.number) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

fn create(folder: &Path, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{number}.log"));
    OpenOptions::new().append(true).create_new(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// A folder's log files, oldest first.
pub fn log_files(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()?, entry.path())))
        .collect();
    found.sort();
    found
}

/// One of a container's output streams, being cut into lines.
pub struct Capture {
    fd: OwnedFd,
    name: &'static str,
    rest: Vec<u8>,
}

impl Capture {
    pub fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { fd, name, rest: Vec::new() })
    }

    /// Reads what is there into the log; tells whether the stream goes on.
    pub fn read(&mut self, log: &mut LogFiles, buffer: &mut [u8]) -> bool {
        let goes_on = match nix::unistd::read(&self.fd, buffer) {
            // A terminal whose last holder is gone says EIO.
            Ok(0) | Err(nix::errno::Errno::EIO) => false,
            Ok(length) => {
                self.take(log, &buffer[..length]);
                true
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => true,
            Err(_) => false,
        };
        if !goes_on && !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            log.line(&stamp(), self.name, true, &rest);
        }
        // A full disk loses lines, never the container.
        let _ = log.flush();
        goes_on
    }

    fn take(&mut self, log: &mut LogFiles, bytes: &[u8]) {
        let time = stamp();
        let pieces = bytes.split_inclusive(|c| *c == b'\n');
        for piece in pieces {
            if let Some(line) = piece.strip_suffix(b"\n") {
                if self.rest.is_empty() {
                    log.line(&time, self.name, true, line);
                } else {
                    self.rest.extend_from_slice(line);
                    let rest = std::mem::take(&mut self.rest);
                    log.line(&time, self.name, true, &rest);
                }
            } else {
                self.rest.extend_from_slice(piece);
                if self.rest.len() >= LONGEST {
                    let rest = std::mem::take(&mut self.rest);
                    log.line(&time, self.name, false, &rest);
                }
            }
        }
    }
}

impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The time, with nanoseconds, as RFC 3339.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = time_text(i64::try_from(now.as_secs()).unwrap_or(0));
    text.pop();
    format!("{text}.{:09}Z", now.subsec_nanos())
}

/// A line read back.
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

/// All lines of a folder's files, oldest first.
pub fn lines(folder: &Path) -> Vec<Line> {
    log_files(folder).iter().filter_map(|(_, path)| File::open(path).ok()).flat_map(read_lines).collect()
}

/// The lines in an open file from where it stands; a last line that is not whole yet is left out.
pub fn read_lines(file: impl Read) -> Vec<Line> {
    let mut reader = BufReader::new(file);
    let mut found = Vec::new();
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
        if bytes.pop() == Some(b'\n') {
            found.extend(Line::parse(&String::from_utf8_lossy(&bytes)));
        }
        bytes.clear();
    }
    found
}

/// Reads a container's logs as they grow: all generations, all files, from the oldest line on.
pub struct Tail {
    folder: PathBuf,
    /// Generation, file and offset of the next line.
    at: (u64, u64, u64),
}

impl Tail {
    /// The logs of a container, from their beginning.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), at: (0, 0, 0) }
    }

    /// Lines that have come since the last call.
    pub fn read(&mut self) -> Vec<Line> {
        let mut found = Vec::new();
        let generations = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut generations: Vec<u64> = generations
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|number| *number >= self.at.0)
            .collect();
        generations.sort_unstable();
        for generation in generations {
            for (number, path) in log_files(&self.folder.join(generation.to_string())) {
                if (generation, number) < (self.at.0, self.at.1) {
                    continue;
                }
                let offset = if (generation, number) == (self.at.0, self.at.1) { self.at.2 } else { 0 };
                let Ok(mut file) = File::open(&path) else { continue };
                if io::Seek::seek(&mut file, io::SeekFrom::Start(offset)).is_err() {
                    continue;
                }
                let mut bytes = Vec::new();
                let _ = file.read_to_end(&mut bytes);
                let whole = bytes.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
                self.at = (generation, number, offset + whole as u64);
                found.extend(read_lines(&bytes[..whole]));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    #[test]
    fn lines_survive_rotation_and_parts_are_marked() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFiles::open(folder.path(), &Log { size: Size(200), files: 3, driver: None }).unwrap();
        let (read, write) = crate::sys::pipe().unwrap();
        let mut capture = Capture::new(read, "stdout").unwrap();
        let mut writer = File::from(write);
        let mut buffer = vec![0; 4096];
        for number in 0..20 {
            writeln!(writer, "line {number}").unwrap();
            assert!(capture.read(&mut log, &mut buffer));
        }
        writer.write_all(b"no end").unwrap();
        drop(writer);
        while capture.read(&mut log, &mut buffer) {}
        assert_eq!(log_files(folder.path()).len(), 3);
        let all = lines(folder.path());
        assert_eq!(all.last().unwrap().text, "no end");
        assert!(all.iter().any(|line| line.text == "line 19" && line.stream == "stdout" && line.full));
        assert!(!all.iter().any(|line| line.text == "line 0"), "the oldest file is gone");
        assert!(all[0].time.ends_with('Z') && all[0].time.len() == 30);
    }

    #[test]
    fn a_link_in_place_of_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("1.log")).unwrap();
        assert!(create(folder.path(), 1).is_err());
    }
}

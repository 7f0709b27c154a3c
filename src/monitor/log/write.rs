//! The writing side: a monitor's log files, and the streams whose output it writes to them.

use super::{Stream, log_files, records};
use crate::model::{Size, time_text};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The length from which a part of a line is written although its end has not come.
const LONGEST: usize = 16 << 10;

/// The files that a monitor writes.
pub struct LogFiles {
    folder: PathBuf,
    limits: LogLimits,
    number: u64,
    file: File,
    size: u64,
    lines: u64,
    /// What will be written next.
    out: Vec<u8>,
    /// For each stream, the full lines in `out`.
    full: [u64; 2],
    /// For each stream, whether its last record is a part: of those in the file, and including `out`.
    written_open: [bool; 2],
    open: [bool; 2],
    /// Older files with their sizes and lines, oldest first.
    kept: Vec<(u64, u64, u64)>,
    dropped: u64,
    lost: Lost,
}

/// What could not be written.
#[derive(Default)]
struct Lost {
    why: Option<String>,
    lines: u64,
    /// For each stream, whether its line that has no end yet is counted.
    cut: [bool; 2],
    /// Whether a half-written record is at the end of the file.
    torn: bool,
}

impl Lost {
    /// Counts lines that could not be written. A line that is lost in parts counts once.
    fn add(&mut self, why: &io::Error, full: [u64; 2], open: [bool; 2]) {
        self.why = Some(why.to_string());
        for stream in 0..2 {
            let counted = std::mem::replace(&mut self.cut[stream], open[stream]);
            self.lines += (full[stream] + u64::from(open[stream])).saturating_sub(u64::from(counted));
        }
    }

    /// What the log says in the place of what was lost, and how many lines that are. Lines that it interrupts end there.
    fn preface(&self, open: [bool; 2]) -> (Vec<u8>, u64) {
        let Some(why) = &self.why else { return (Vec::new(), 0) };
        let mut found: Vec<u8> = self.torn.then_some(b'\n').into_iter().collect();
        let ends = Stream::BOTH.into_iter().filter(|stream| open[*stream as usize]);
        let ends: Vec<(Stream, String)> = ends.map(|stream| (stream, String::new())).collect();
        let note = format!("stead: {} lines could not be written here: {why}", self.lines);
        let lines = ends.len() as u64 + 1;
        for (stream, text) in ends.into_iter().chain([(Stream::Err, note)]) {
            found.extend(head(stream, true));
            found.extend(text.bytes());
            found.push(b'\n');
        }
        (found, lines)
    }
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
        let (mut kept, mut open) = (Vec::new(), [false; 2]);
        for (number, path) in log_files(folder)? {
            let (mut size, mut lines) = (0, 0);
            // What cannot be read counts as empty: it must not keep the container from starting.
            let _ = records(&path, |record| {
                size = record.end;
                lines += u64::from(record.full);
                open[record.stream as usize] = !record.full;
                true
            });
            kept.push((number, size, lines));
        }
        let number = kept.last().map_or(1, |(number, ..)| number + 1);
        let file = create(folder, number)?;
        let mut log = Self {
            folder: folder.to_owned(),
            limits,
            number,
            file,
            size: 0,
            lines: 0,
            out: Vec::new(),
            full: [0; 2],
            written_open: [false; 2],
            open: [false; 2],
            kept,
            dropped: 0,
            lost: Lost::default(),
        };
        // The lines of a monitor that was killed end here: nothing that comes now belongs to them.
        for stream in Stream::BOTH.into_iter().filter(|stream| open[*stream as usize]) {
            log.add(stream, true, &head(stream, true), b"");
        }
        Ok(log)
    }

    /// Adds a line, or a part of one, after its head (time, stream and tag).
    fn add(&mut self, stream: Stream, full: bool, head: &[u8], text: &[u8]) {
        if !self.limits.keep {
            return;
        }
        self.full[stream as usize] += u64::from(full);
        self.open[stream as usize] = !full;
        self.out.reserve(head.len() + text.len() + 1);
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
    }

    /// Adds a line that the monitor writes itself.
    pub fn note(&mut self, text: &str) {
        self.line_apart(Stream::Err, text.as_bytes());
    }

    /// Adds a line that is no part of one that the container has not ended.
    fn line_apart(&mut self, stream: Stream, text: &[u8]) {
        let head = head(stream, true);
        if self.open[stream as usize] {
            self.add(stream, true, &head, b"");
        }
        self.add(stream, true, &head, text);
    }

    /// Writes what was added, and starts a new file when this one is full. What a full disk does not take is lost: to keep
    /// it would fill the memory instead. It is counted, and the log says so as soon as there is room.
    ///
    /// # Errors
    /// Fails when writing fails or the new file cannot be created.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (mut preface, told) = self.lost.preface(self.written_open);
        let written = if preface.is_empty() {
            self.file.write_all(&self.out)
        } else {
            preface.extend_from_slice(&self.out);
            self.file.write_all(&preface)
        };
        match &written {
            Ok(()) => {
                self.size += self.out.len().max(preface.len()) as u64;
                self.lines += self.full.iter().sum::<u64>() + told;
                self.written_open = self.open;
                self.lost = Lost::default();
            }
            Err(error) => {
                self.lost.add(error, self.full, self.open);
                // Together with the next record, a half-written one would become a line that nobody wrote.
                self.lost.torn = self.file.set_len(self.size).is_err();
            }
        }
        self.full = [0; 2];
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
        self.file = create(&self.folder, self.number + 1)?;
        self.kept.push((self.number, self.size, self.lines));
        self.number += 1;
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

fn create(folder: &Path, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{number}.log"));
    OpenOptions::new().append(true).create_new(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// One of a container's output streams, which is split into lines.
pub struct Capture {
    fd: OwnedFd,
    stream: Stream,
    rest: Vec<u8>,
    grown: bool,
    /// Whether these are not the container's own streams, with whose lines this one's must not be joined.
    apart: bool,
}

impl Capture {
    /// Reads a container's standard output or its terminal.
    ///
    /// # Errors
    /// Fails when the descriptor cannot be set up.
    pub fn of_output(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Stream::Out)
    }

    /// Reads a container's standard error.
    ///
    /// # Errors
    /// Fails when the descriptor cannot be set up.
    pub fn of_errors(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Stream::Err)
    }

    fn new(fd: OwnedFd, stream: Stream) -> io::Result<Self> {
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { fd, stream, rest: Vec::new(), grown: false, apart: false })
    }

    /// The same, for a process beside the container's command.
    pub fn apart(self) -> Self {
        Self { apart: true, ..self }
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
        if !goes_on {
            self.end(log);
        }
        // On a full disk lines are lost, but the container goes on.
        let _ = log.flush();
        goes_on
    }

    /// Ends the line that has no end yet: nothing will be read any more.
    pub fn end(&mut self, log: &mut LogFiles) {
        let rest = std::mem::take(&mut self.rest);
        if self.apart && !rest.is_empty() {
            log.line_apart(self.stream, &rest);
        } else if !self.apart && (!rest.is_empty() || log.open[self.stream as usize]) {
            log.add(self.stream, true, &head(self.stream, true), &rest);
        }
    }

    fn take(&mut self, log: &mut LogFiles, bytes: &[u8]) {
        let full = head(self.stream, true);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[from..end];
            from = end + 1;
            let mut rest = std::mem::take(&mut self.rest);
            let line = if rest.is_empty() {
                line
            } else {
                rest.extend_from_slice(line);
                &rest
            };
            if self.apart { log.line_apart(self.stream, line) } else { log.add(self.stream, true, &full, line) }
        }
        self.rest.extend_from_slice(&bytes[from..]);
        if self.rest.len() >= LONGEST {
            let next = self.rest.split_off(self.rest.len() - begun_character(&self.rest));
            let part = std::mem::replace(&mut self.rest, next);
            if self.apart {
                log.line_apart(self.stream, &part);
            } else {
                log.add(self.stream, false, &head(self.stream, false), &part);
            }
        }
    }
}

/// How many of the last bytes are the beginning of a character whose rest is still to come (UTF-8: RFC 3629, section 3).
fn begun_character(bytes: &[u8]) -> usize {
    let longest = bytes.len().min(3);
    let wanted = |byte: u8| match byte {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    (1..=longest).find(|back| wanted(bytes[bytes.len() - back]) > *back).unwrap_or(0)
}

/// The beginning of a record: time, stream and the tag that tells whether it is complete.
fn head(stream: Stream, full: bool) -> Vec<u8> {
    format!("{} {} {} ", stamp(), stream.name(), if full { 'F' } else { 'P' }).into_bytes()
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

#[cfg(test)]
mod tests {
    use super::super::{Line, Tail, last_lines};
    use super::*;

    fn limits(file: u64, quota: u64) -> LogLimits {
        LogLimits { file: Size(file), quota: Size(quota), keep: true }
    }

    /// The two streams of a container whose log is in `folder/1`.
    struct Both {
        log: LogFiles,
        captures: [Capture; 2],
        writers: [File; 2],
        buffer: Vec<u8>,
    }

    impl Both {
        fn new(folder: &Path, limits: LogLimits) -> Self {
            let (out, out_end) = crate::sys::pipe().unwrap();
            let (errors, errors_end) = crate::sys::pipe().unwrap();
            Self {
                log: LogFiles::open(&folder.join("1"), limits).unwrap(),
                captures: [Capture::of_output(out).unwrap(), Capture::of_errors(errors).unwrap()],
                writers: [out_end.into(), errors_end.into()],
                buffer: vec![0; 4096],
            }
        }

        fn says(&mut self, stream: usize, bytes: &[u8]) {
            for some in bytes.chunks(4000) {
                self.writers[stream].write_all(some).unwrap();
                assert!(self.captures[stream].read(&mut self.log, &mut self.buffer, |_| {}));
            }
        }
    }

    fn shown(folder: &Path, count: usize) -> Vec<(String, Vec<u8>)> {
        last_lines(folder, 0, count).into_iter().map(|line| (line.stream, line.text)).collect()
    }

    #[test]
    fn lines_survive_rotation_and_are_counted_when_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut both = Both::new(folder.path(), limits(200, 700));
        for number in 0..20 {
            both.says(0, format!("line {number}\n").as_bytes());
        }
        both.says(0, b"no end");
        both.captures[0].end(&mut both.log);
        // The note of the last rotation is written with what comes next.
        (0..2).for_each(|_| both.log.flush().unwrap());
        let all = last_lines(folder.path(), 0, 100);
        assert_eq!(all.iter().rfind(|line| line.stream == "stdout").unwrap().text, b"no end");
        assert!(all.iter().any(|line| line.text == b"line 19" && line.stream == "stdout" && line.full));
        assert!(!all.iter().any(|line| line.text == b"line 0"), "the oldest file is gone");
        let files = log_files(&folder.path().join("1")).unwrap();
        let total: u64 = files.iter().map(|(_, path)| fs::metadata(path).unwrap().len()).sum();
        assert!(total <= 900, "{total}");
        // Every line is there or counted.
        let last_note = all.iter().map(Line::text).rfind(|text| text.contains("lines were dropped")).unwrap();
        let dropped: usize = last_note.split(' ').nth(1).unwrap().parse().unwrap();
        let shown = all.iter().filter(|line| line.stream == "stdout").count();
        assert!((21..=40).contains(&(shown + dropped)), "{shown} are shown; {last_note}");
        assert!(all[0].time.ends_with('Z') && all[0].time.len() == 30);
    }

    #[test]
    fn parts_are_joined_with_their_own_stream_only() {
        let folder = tempfile::tempdir().unwrap();
        // Small files, so that a line begins in one and ends in another.
        let mut both = Both::new(folder.path(), limits(20_000, 1_000_000));
        let long = "€".repeat(30_000).into_bytes();
        both.says(0, b"first\n");
        both.says(0, &long);
        both.says(1, b"error: something bad\n");
        both.says(1, &[b'x'; 40_000]);
        both.log.note("stead: a note");
        both.says(0, b"end\nbytes \xff\xfe stay\n");
        both.says(1, b"y\n");
        let line = |stream: &str, text: &[u8]| (stream.to_owned(), text.to_vec());
        let wanted = [
            line("stdout", b"first"),
            line("stderr", b"error: something bad"),
            line("stderr", &[b'x'; 40_000]),
            line("stderr", b"stead: a note"),
            line("stdout", &[&long[..], b"end"].concat()),
            line("stdout", b"bytes \xff\xfe stay"),
            line("stderr", b"y"),
        ];
        for count in 0..=wanted.len() {
            let brief =
                |lines: &[(String, Vec<u8>)]| lines.iter().map(|(stream, text)| (stream.clone(), text.len())).collect::<Vec<_>>();
            let shown = shown(folder.path(), count);
            let wanted = &wanted[wanted.len() - count..];
            assert!(shown == wanted, "the last {count}: {:?}, not {:?}", brief(&shown), brief(wanted));
        }
        let mut pieces = Tail::new(folder.path());
        while let Some(piece) = pieces.next_line() {
            assert!(piece.text.starts_with(b"bytes") || std::str::from_utf8(&piece.text).is_ok(), "no character is cut");
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut both = Both::new(folder.path(), limits(1 << 20, 1 << 21));
        both.says(0, b"before\n");
        both.says(0, &[b'a'; 20_000]);
        let file = std::mem::replace(&mut both.log.file, File::create("/dev/full").unwrap());
        both.says(0, b"is lost\nand this\nand th");
        both.says(1, b"and that\n");
        both.says(0, b"is\n");
        both.log.file = file;
        both.says(0, b"after\n");
        let lines: Vec<String> = last_lines(folder.path(), 0, 9).iter().map(|line| line.text().into_owned()).collect();
        let wanted = [
            "before",
            &"a".repeat(20_000),
            "stead: 4 lines could not be written here: No space left on device (os error 28)",
            "after",
        ];
        assert!(lines == wanted, "{:?}", &lines[2..]);
    }

    #[test]
    fn a_line_without_an_end_counts_even_if_a_new_file_was_begun() {
        let folder = tempfile::tempdir().unwrap();
        let mut both = Both::new(folder.path(), limits(20_000, 1_000_000));
        both.says(0, b"one\ntwo\n");
        both.says(0, &[b'a'; 24_000]);
        assert!(shown(folder.path(), 2) == [("stdout".to_owned(), b"two".to_vec()), ("stdout".to_owned(), vec![b'a'; 20_000])]);
        both.says(0, b"end\n");
        assert!(shown(folder.path(), 1) == [("stdout".to_owned(), [&[b'a'; 24_000][..], b"end"].concat())]);
    }

    #[test]
    fn a_stream_that_ends_ends_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut both = Both::new(folder.path(), limits(1 << 20, 1 << 21));
        both.says(0, &[b'a'; 16_384]);
        both.captures[0].end(&mut both.log);
        both.says(0, b"of the next process\n");
        assert_eq!(shown(folder.path(), 1), [("stdout".into(), b"of the next process".to_vec())]);
    }

    #[test]
    fn what_a_killed_monitor_left_is_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let mut both = Both::new(folder.path(), limits(1 << 20, 1 << 21));
        both.says(0, &[b'a'; 20_000]);
        drop(both);
        let mut both = Both::new(folder.path(), limits(1 << 20, 1 << 21));
        both.says(0, b"another\n");
        assert!(
            shown(folder.path(), 9) == [("stdout".to_owned(), vec![b'a'; 20_000]), ("stdout".to_owned(), b"another".to_vec())]
        );
    }

    #[test]
    fn a_link_in_place_of_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("1.log")).unwrap();
        assert!(create(folder.path(), 1).is_err());
    }
}

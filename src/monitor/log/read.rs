//! The reading side: follows a container's log from record to record, and puts lines together.

use super::{Line, Stream, log_files, records};
use crate::sys;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most bytes of a line that are kept until its end comes. Of a longer line, this much is given at a time.
const LONGEST: usize = 1 << 20;

/// The last lines of the generations from this one on.
pub fn last_lines(folder: &Path, generation: u64, count: usize) -> Vec<Line> {
    let mut tail = Tail::from(folder, (generation, 0, 0));
    tail.skip_to_last(count);
    let mut found: Vec<Line> = std::iter::from_fn(|| tail.next_whole()).collect();
    found.extend(tail.unfinished());
    found
}

/// Reads a container's logs as they grow: all generations and files, record by record from the oldest.
pub struct Tail {
    folder: PathBuf,
    /// Generation, file and offset of the next record.
    at: (u64, u64, u64),
    open: Option<BufReader<File>>,
    bytes: Vec<u8>,
    /// Parts before that place that belong to lines after it.
    parts: VecDeque<(u64, u64, u64)>,
    /// For each stream, the parts of the line whose end has not come yet.
    begun: BTreeMap<String, Line>,
    whole: VecDeque<Line>,
}

impl Tail {
    /// The logs of a container, from their beginning.
    pub fn new(folder: &Path) -> Self {
        Self::from(folder, (0, 0, 0))
    }

    /// The logs of a container, from a position that [`place`](Self::place) returned.
    pub fn from(folder: &Path, at: (u64, u64, u64)) -> Self {
        Self {
            folder: folder.to_owned(),
            at,
            open: None,
            bytes: Vec::new(),
            parts: VecDeque::new(),
            begun: BTreeMap::new(),
            whole: VecDeque::new(),
        }
    }

    /// Generation, file and offset of the next record.
    pub fn place(&self) -> (u64, u64, u64) {
        self.at
    }

    fn path(&self, (generation, number): (u64, u64)) -> PathBuf {
        self.folder.join(generation.to_string()).join(format!("{number}.log"))
    }

    /// Skips to the last lines that are there now. Lines that have no end yet count as the last ones.
    pub fn skip_to_last(&mut self, count: usize) {
        let mut left = count as u64;
        let mut files = self.files();
        self.open = None;
        // Streams that must be looked for in earlier files: those of lines that have no end yet, and those seen from here on.
        let mut seen = self.open_at_the_end(&files);
        left = left.saturating_sub(seen.into_iter().filter(|open| *open).count() as u64);
        while let Some(file) = files.pop() {
            let mut ends = 0;
            // What cannot be read is not shown.
            let _ = records(&self.path(file), |record| {
                ends += u64::from(record.full);
                seen[record.stream as usize] = true;
                true
            });
            if ends >= left {
                return self.skip_in(file, ends - left, &files, seen);
            }
            self.at = (file.0, file.1, 0);
            left -= ends;
        }
    }

    /// The streams whose last line has no end yet. The newest file may have been begun just now, so the one before it counts, too.
    fn open_at_the_end(&self, files: &[(u64, u64)]) -> [bool; 2] {
        let mut last: [Option<bool>; 2] = [None; 2];
        let newest = files.last().map(|file| file.0);
        for file in files.iter().rev().take(2).take_while(|file| Some(file.0) == newest) {
            let mut found = [None; 2];
            let _ = records(&self.path(*file), |record| {
                found[record.stream as usize] = Some(!record.full);
                true
            });
            last = [0, 1].map(|stream| last[stream].or(found[stream]));
        }
        last.map(|open| open == Some(true))
    }

    /// Skips some lines of a file. `earlier` are the files before it, and `used` are the streams with records from it on.
    fn skip_in(&mut self, file: (u64, u64), lines: u64, earlier: &[(u64, u64)], used: [bool; 2]) {
        self.at = (file.0, file.1, 0);
        let mut skipped = 0;
        let mut parts: [Vec<(u64, u64, u64)>; 2] = Default::default();
        let mut ended = [false; 2];
        let path = self.path(file);
        let _ = records(&path, |record| {
            let stream = record.stream as usize;
            if skipped < lines && record.full {
                skipped += 1;
                ended[stream] = true;
                parts[stream].clear();
                self.at.2 = record.end;
            } else if skipped < lines {
                parts[stream].push((file.0, file.1, record.begin));
            }
            skipped < lines
        });
        for stream in Stream::BOTH.into_iter().filter(|stream| !ended[*stream as usize] && used[*stream as usize]) {
            // The line may have begun in an earlier file of the same generation.
            for before in earlier.iter().rev().take_while(|before| before.0 == file.0) {
                let (mut found, mut ended) = (Vec::new(), false);
                let _ = records(&self.path(*before), |record| {
                    if record.stream == stream && record.full {
                        found.clear();
                        ended = true;
                    } else if record.stream == stream {
                        found.push((before.0, before.1, record.begin));
                    }
                    true
                });
                parts[stream as usize].splice(0..0, found);
                if ended {
                    break;
                }
            }
        }
        self.parts = parts.into_iter().flatten().collect();
    }

    /// All files from the current one on, oldest first.
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

    /// The next record, if it has been written.
    pub fn next_line(&mut self) -> Option<Line> {
        while let Some((generation, number, offset)) = self.parts.pop_front() {
            let reader = File::open(self.path((generation, number))).and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                Ok(BufReader::new(file))
            });
            self.bytes.clear();
            // A file that was dropped meanwhile is not shown.
            let read = reader.and_then(|mut reader| reader.read_until(b'\n', &mut self.bytes));
            if read.is_ok() && self.bytes.pop() == Some(b'\n') {
                return Line::parse(&self.bytes);
            }
        }
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
            let mut file = File::open(self.path((self.at.0, self.at.1))).ok()?;
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
            if let Some(line) = Line::parse(&self.bytes) {
                return Some(line);
            }
        }
    }

    /// The next line, if its end has been written. Of a very long line, the next piece; such a piece is not full.
    pub fn next_whole(&mut self) -> Option<Line> {
        while self.whole.is_empty() {
            let generation = self.at.0;
            let line = self.next_line()?;
            if self.at.0 != generation {
                // The monitor that wrote those was killed: no end will come.
                self.whole.extend(std::mem::take(&mut self.begun).into_values().map(|line| Line { full: true, ..line }));
            }
            let Line { full, stream, text, .. } = &line;
            match self.begun.remove(stream) {
                None if *full || text.len() >= LONGEST => self.whole.push_back(line),
                None => drop(self.begun.insert(stream.clone(), line)),
                Some(mut begun) => {
                    begun.text.extend_from_slice(text);
                    begun.full = *full;
                    if *full || begun.text.len() >= LONGEST {
                        self.whole.push_back(begun);
                    } else {
                        self.begun.insert(stream.clone(), begun);
                    }
                }
            }
        }
        self.whole.pop_front()
    }

    /// What is there of lines whose end has not been written.
    pub fn unfinished(&mut self) -> impl Iterator<Item = Line> + use<> {
        std::mem::take(&mut self.begun).into_values()
    }
}

//! Tar archives, read entry by entry.
//!
//! Owns every size in an archive: there is no second reader that could see an entry where this one sees content
//! (CVE-2025-62518). Names and records are bounded before they are read, records are delimited by their own lengths,
//! and what only some readers understand is refused. The `tar` crate reads the fields of a header.

use crate::model::bounds::image::{LONGEST_PATH, LONGEST_RECORDS, PARTS};
use crate::model::shown;
use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const BLOCK: u64 = 512;

/// The type of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    /// A sparse file: the archive holds only parts of it (GNU tar, "Storing Sparse Files").
    Sparse,
    Folder,
    SymbolicLink,
    HardLink,
    Character,
    Block,
    Fifo,
    /// A type that is not known here.
    Other(u8),
}

/// An entry of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in the archive, counted from one.
    pub number: u64,
    pub kind: Kind,
    pub path: PathBuf,
    /// What a link leads to.
    pub link: Option<PathBuf>,
    /// The length of the file, including its holes.
    pub size: u64,
    pub mode: u32,
    pub owner: (u32, u32),
    /// In seconds since 1970.
    pub time: i64,
    /// `security.capability`.
    pub capability: Option<Vec<u8>>,
    /// Where in the archive its content begins.
    pub position: u64,
    /// Offsets and lengths of a sparse file's parts, in order and without overlap.
    pub parts: Vec<(u64, u64)>,
}

/// The entries of an archive. Reading from it gives the content of the entry that was returned last.
pub struct Entries<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// How many bytes of the archive have been read.
    at: u64,
    /// How many bytes of the last entry's content have not been read, and how many bytes pad its last block.
    left: u64,
    filling: u64,
    number: u64,
    ended: bool,
}

/// What PAX records say about the entry that follows them.
#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u32>,
    group: Option<u32>,
    time: Option<i64>,
    capability: Option<Vec<u8>>,
    sparse: Option<SparseRecords>,
}

/// What PAX records say of a sparse file.
#[derive(Default)]
struct SparseRecords {
    major: u64,
    minor: u64,
    path: Option<Vec<u8>>,
    /// Its length including holes.
    size: Option<u64>,
    /// Where each part begins, and its length.
    map: Vec<u64>,
}

impl<R: Read> Entries<R> {
    /// The entries of a stream.
    pub fn new(inner: R) -> Self {
        let skip = |inner: &mut R, length: u64| match io::copy(&mut inner.take(length), &mut io::sink())? {
            found if found == length => Ok(()),
            _ => Err(cut_off()),
        };
        Self { inner, skip, at: 0, left: 0, filling: 0, number: 0, ended: false }
    }

    /// The entries of a file; content that is not read is skipped by seeking.
    pub fn seeking(inner: R) -> Self
    where
        R: Seek,
    {
        let skip = |inner: &mut R, length: u64| {
            let length = i64::try_from(length).map_err(|_| cut_off())?;
            inner.seek(SeekFrom::Current(length)).map(drop)
        };
        Self { skip, ..Self::new(inner) }
    }

    /// The next entry; the rest of the previous one is skipped.
    ///
    /// # Errors
    /// Fails, with the entry's number, when the archive is damaged or cut off, or when a name or record is too long.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let number = self.number.saturating_add(1);
        let found = self.read_entry().map_err(|error| io::Error::new(error.kind(), format!("entry {number}: {error}")))?;
        self.number = number;
        Ok(found)
    }

    fn read_entry(&mut self) -> io::Result<Option<Entry>> {
        let (mut records, mut path, mut link) = (None, None, None);
        loop {
            let Some(header) = self.header()? else {
                if records.is_some() || path.is_some() || link.is_some() {
                    return Err(damaged("names or records have no entry after them"));
                }
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| damaged("a size is not a number"))?;
            match header.as_bytes()[156] {
                b'x' => once(&mut records, Records::read(&self.content(size, LONGEST_RECORDS)?)?)?,
                b'g' => refuse_for_all(&self.content(size, LONGEST_RECORDS)?)?,
                b'L' => once(&mut path, text(self.content(size, LONGEST_PATH + 1)?))?,
                b'K' => once(&mut link, text(self.content(size, LONGEST_PATH + 1)?))?,
                kind => return self.entry(&header, kind, size, records.unwrap_or_default(), (path, link)).map(Some),
            }
        }
    }

    /// The next header, with its checksum verified; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        let rest = self.left.checked_add(self.filling).ok_or_else(cut_off)?;
        if rest > 0 {
            (self.skip)(&mut self.inner, rest)?;
            self.at = self.at.checked_add(rest).ok_or_else(cut_off)?;
            (self.left, self.filling) = (0, 0);
        }
        let mut header = tar::Header::new_old();
        if self.ended || !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(damaged("its header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads a block; returns whether there was one.
    fn block(&mut self, block: &mut [u8; 512]) -> io::Result<bool> {
        let mut read = 0;
        while read < block.len() {
            match self.inner.read(&mut block[read..]) {
                Ok(0) if read == 0 => return Ok(false),
                Ok(0) => return Err(cut_off()),
                Ok(length) => read += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.at = self.at.checked_add(BLOCK).ok_or_else(cut_off)?;
        Ok(true)
    }

    /// Reads all of an entry's content, if it is not too long.
    fn content(&mut self, size: u64, longest: u64) -> io::Result<Vec<u8>> {
        if size > longest {
            return Err(damaged(format!("a name or record in it has {size} bytes, and {longest} at most are read")));
        }
        self.begin(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Notes that content of this length follows.
    fn begin(&mut self, size: u64) -> io::Result<()> {
        let whole = size.checked_next_multiple_of(BLOCK).ok_or_else(|| damaged("a size is too large"))?;
        (self.left, self.filling) = (size, whole - size);
        Ok(())
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        kind: u8,
        stored: u64,
        records: Records,
        (path, link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> io::Result<Entry> {
        let sparse = records.sparse;
        if sparse.is_some() && !matches!(kind, 0 | b'0') {
            return Err(damaged("it is a sparse file of another kind than a file"));
        }
        let named = sparse.as_ref().and_then(|sparse| sparse.path.clone());
        let path = named.or(path).or(records.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = link.or(records.link).or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let kind = match kind {
            _ if sparse.is_some() => Kind::Sparse,
            // In old archives, which have no type for directories, a file whose name ends in `/` is one.
            0 if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'S' => Kind::Sparse,
            other => Kind::Other(other),
        };
        let stored = match kind {
            Kind::File | Kind::Sparse | Kind::Other(_) => records.size.unwrap_or(stored),
            // Some writers give a link the size of its target, but no content follows. Docker's reader ignores the size, too.
            _ => 0,
        };
        let (parts, size) = match sparse {
            Some(sparse) => self.parts_in_records(&sparse, stored)?,
            None => {
                let found = if kind == Kind::Sparse { self.parts(header, stored)? } else { (Vec::new(), stored) };
                self.begin(stored)?;
                found
            }
        };
        // An empty field counts as 0, as in Docker's reader.
        let fields = header.as_old();
        let is_blank = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
        let owner = |field: &[u8], number: io::Result<u64>| {
            let number = if is_blank(field) { Some(0) } else { number.ok().and_then(|number| u32::try_from(number).ok()) };
            number.ok_or_else(|| damaged("its owner or group is not a number, or too large"))
        };
        let mode = if is_blank(&fields.mode) { Ok(0) } else { header.mode() };
        let mode = mode.map_err(|_| damaged("its permissions are not a number"))?;
        let time = if is_blank(&fields.mtime) { Ok(0) } else { header.mtime() };
        Ok(Entry {
            number: self.number.saturating_add(1),
            kind,
            path: bounded(path)?,
            link: link.map(bounded).transpose()?,
            size,
            mode: mode & 0o7777,
            owner: (
                records.user.map_or_else(|| owner(&fields.uid, header.uid()), Ok)?,
                records.group.map_or_else(|| owner(&fields.gid, header.gid()), Ok)?,
            ),
            time: match records.time {
                Some(time) => time,
                None => i64::try_from(time.map_err(|_| damaged("its time is not a number"))?).unwrap_or(0),
            },
            capability: records.capability,
            position: self.at,
            parts,
        })
    }

    /// The parts of a sparse file, and its length including holes.
    fn parts(&mut self, header: &tar::Header, stored: u64) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let wrong = || damaged("the parts of a sparse file do not fit together");
        let header = header.as_gnu().ok_or_else(wrong)?;
        let size = header.real_size().map_err(|_| wrong())?;
        let (mut parts, mut end, mut sum) = (Vec::new(), 0, 0u64);
        let mut take = |all: &[tar::GnuSparseHeader]| {
            for part in all.iter().filter(|part| !part.is_empty()) {
                let (at, length) = (part.offset().map_err(|_| wrong())?, part.length().map_err(|_| wrong())?);
                if at < end || parts.len() == PARTS {
                    return Err(wrong());
                }
                end = at.checked_add(length).ok_or_else(wrong)?;
                sum = sum.checked_add(length).ok_or_else(wrong)?;
                parts.push((at, length));
            }
            Ok(())
        };
        take(&header.sparse)?;
        let mut more = header.is_extended();
        while more {
            let mut further = tar::GnuExtSparseHeader::new();
            if !self.block(further.as_mut_bytes())? {
                return Err(cut_off());
            }
            take(further.sparse())?;
            more = further.is_extended();
        }
        if end > size || sum != stored { Err(wrong()) } else { Ok((parts, size)) }
    }

    /// The parts of a sparse file that PAX records describe, and its length including holes; its content begins.
    fn parts_in_records(&mut self, records: &SparseRecords, stored: u64) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let wrong = || damaged("the parts of a sparse file do not fit together");
        self.begin(stored)?;
        let map = match (records.major, records.minor) {
            (0, _) => records.map.clone(),
            (1, 0) => self.map_in_content()?,
            _ => return Err(damaged("it is a sparse file in a form that is not known")),
        };
        let size = records.size.ok_or_else(wrong)?;
        if map.len() % 2 != 0 || map.len() / 2 > PARTS {
            return Err(wrong());
        }
        let parts: Vec<(u64, u64)> = map.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let (mut end, mut sum) = (0, 0u64);
        for (at, length) in &parts {
            if *at < end {
                return Err(wrong());
            }
            end = at.checked_add(*length).ok_or_else(wrong)?;
            sum = sum.checked_add(*length).ok_or_else(wrong)?;
        }
        if end > size || sum != self.left { Err(wrong()) } else { Ok((parts, size)) }
    }

    /// The numbers in front of a sparse file's content: how many parts there are, then where each begins and its length, one
    /// number on a line, in whole blocks.
    fn map_in_content(&mut self) -> io::Result<Vec<u64>> {
        let wrong = || damaged("the map of a sparse file's parts is damaged");
        let (mut numbers, mut line) = (Vec::new(), Vec::new());
        loop {
            let mut block = [0; BLOCK as usize];
            self.read_exact(&mut block)?;
            for byte in block {
                match byte {
                    b'\n' => numbers.push(number::<u64>(&std::mem::take(&mut line)).map_err(|_| wrong())?),
                    _ if line.len() < 20 => line.push(byte),
                    _ => return Err(wrong()),
                }
                let count = numbers.first().map_or(Some(u64::MAX), |count| count.checked_mul(2)).ok_or_else(wrong)?;
                if count != u64::MAX && count / 2 > PARTS as u64 {
                    return Err(wrong());
                }
                if numbers.len() as u64 == count.saturating_add(1) {
                    // The rest of the block is filling.
                    numbers.remove(0);
                    return Ok(numbers);
                }
            }
        }
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.inner.read(&mut buffer[..wanted])?;
        if length == 0 && wanted > 0 {
            return Err(cut_off());
        }
        self.left -= length as u64;
        self.at = self.at.checked_add(length as u64).ok_or_else(cut_off)?;
        Ok(length)
    }
}

impl Records {
    fn sparse(&mut self) -> &mut SparseRecords {
        self.sparse.get_or_insert_default()
    }

    /// Reads PAX records. Of several with one key the last counts; one with an empty value removes what came before.
    fn read(bytes: &[u8]) -> io::Result<Self> {
        let mut found = Self::default();
        for (key, value) in records(bytes)? {
            let given = Some(value).filter(|value| !value.is_empty());
            match key {
                b"path" => found.path = given.map(<[u8]>::to_vec),
                b"linkpath" => found.link = given.map(<[u8]>::to_vec),
                b"size" => found.size = given.map(number).transpose()?,
                b"uid" => found.user = given.map(number).transpose()?,
                b"gid" => found.group = given.map(number).transpose()?,
                b"mtime" => found.time = given.map(seconds).transpose()?,
                b"SCHILY.xattr.security.capability" => found.capability = given.map(<[u8]>::to_vec),
                // The three forms in which GNU tar writes sparse files with PAX records ("Storing Sparse Files").
                b"GNU.sparse.major" => found.sparse().major = number(value)?,
                b"GNU.sparse.minor" => found.sparse().minor = number(value)?,
                b"GNU.sparse.name" => found.sparse().path = given.map(<[u8]>::to_vec),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => found.sparse().size = Some(number(value)?),
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => found.sparse().map.push(number(value)?),
                b"GNU.sparse.map" => {
                    let numbers = value.split(|byte| *byte == b',').map(number);
                    found.sparse().map = if value.is_empty() { Vec::new() } else { numbers.collect::<io::Result<_>>()? };
                }
                b"GNU.sparse.numblocks" => {}
                // A reader that does not know a form would take its map of parts for content.
                _ if key.starts_with(b"GNU.sparse.") => return Err(damaged("it is a sparse file in a form that is not known")),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Splits PAX records: length of the whole record, blank, key, `=`, value, newline (POSIX pax, "Extended Header").
fn records(mut rest: &[u8]) -> io::Result<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let record = || {
            let blank = rest.iter().take(8).position(|byte| *byte == b' ')?;
            let length: usize = number(rest.get(..blank)?).ok()?;
            let (record, further) = rest.split_at_checked(length)?;
            let inner = record.get(blank + 1..)?.strip_suffix(b"\n")?;
            let equals = inner.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
            Some(((&inner[..equals], &inner[equals + 1..]), further))
        };
        let (pair, further) = record().ok_or_else(|| damaged("its PAX records are damaged"))?;
        found.push(pair);
        rest = further;
    }
    Ok(found)
}

/// Checks global records, which apply to all later entries: those that readers disagree about are refused, the others
/// (`git archive` writes a commit) are ignored.
fn refuse_for_all(bytes: &[u8]) -> io::Result<()> {
    let given = Records::read(bytes)?;
    if given.size.is_some() || given.path.is_some() || given.link.is_some() || given.sparse.is_some() {
        return Err(damaged("records for all its entries give a name or a size"));
    }
    Ok(())
}

/// A number in plain digits.
fn number<N: std::str::FromStr>(digits: &[u8]) -> io::Result<N> {
    let digits = Some(digits).filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    number.ok_or_else(|| damaged("a number in its PAX records is malformed or too large"))
}

/// Whole seconds of a time that may have a sign and a fraction.
fn seconds(text: &[u8]) -> io::Result<i64> {
    let (negative, rest) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut halves = rest.splitn(2, |byte| *byte == b'.');
    let whole: i64 = number(halves.next().unwrap_or_default())?;
    if halves.next().is_some_and(|fraction| !fraction.iter().all(u8::is_ascii_digit)) {
        return Err(damaged("a time in its PAX records is malformed"));
    }
    Ok(if negative { -whole } else { whole })
}

fn once<T>(place: &mut Option<T>, found: T) -> io::Result<()> {
    match place.replace(found) {
        None => Ok(()),
        Some(_) => Err(damaged("it has two names or two sets of records")),
    }
}

/// Cuts a name off at its first NUL byte.
fn text(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    name
}

/// Refuses a path that is too long for the kernel.
fn bounded(path: Vec<u8>) -> io::Result<PathBuf> {
    if path.len() as u64 > LONGEST_PATH {
        let (length, path) = (path.len(), shown(Path::new(OsStr::from_bytes(&path))));
        return Err(damaged(format!("a path in it has {length} bytes, and {LONGEST_PATH} are the most: {path}")));
    }
    Ok(PathBuf::from(std::ffi::OsString::from(OsStr::from_bytes(&path))))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off")
}

#[cfg(test)]
mod tests;

//! Reads git's objects from a pack, as a server sends it (gitformat-pack).

use super::object::{Id, Kind, Objects, damaged, hex};
use super::pack_index::PackIndex;
use crate::model::Budget;
use crate::model::bounds::git::{CHAIN, CHECKOUT, HELD, HELD_RATIO, KEPT, MADE, MADE_RATIO};
use flate2::bufread::ZlibDecoder;
use sha1_checked::{Digest, Sha1};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Whether an object is stored whole, or as a delta to another one.
enum Base {
    Whole(Kind),
    At(u64),
    Named(Id),
}

/// A pack, with the offset of each object.
pub struct Pack {
    file: File,
    length: u64,
    /// The index that git made, if the objects were not hashed here: then each is hashed when it is read.
    index: Option<PackIndex>,
    /// How many bytes of objects were unpacked in memory.
    made: u64,
    places: HashMap<Id, u64>,
    kept: HashMap<u64, (Kind, Rc<[u8]>)>,
    kept_size: usize,
}

/// Deltas, by the base that they wait for.
#[derive(Default)]
struct Waiting {
    /// Objects that are stored whole, with their ids.
    ready: Vec<(u64, Id)>,
    by_place: HashMap<u64, Vec<u64>>,
    by_name: HashMap<Id, Vec<u64>>,
}

impl Waiting {
    /// The deltas that can be applied once this object is known.
    fn after(&mut self, at: u64, id: &Id) -> Vec<u64> {
        let mut found = self.by_place.remove(&at).unwrap_or_default();
        found.extend(self.by_name.remove(id).unwrap_or_default());
        found
    }
}

/// Reads a file from an offset on, without using its shared cursor.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read_at(buffer, self.1)?;
        self.1 += length as u64;
        Ok(length)
    }
}

impl Pack {
    /// Finds and hashes all objects. The pack's own checksum is ignored, because each object is identified by its hash.
    ///
    /// # Errors
    /// Fails when it is not a pack, is damaged, or unpacks to far more than its length, and when an object was made to collide.
    pub fn index(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut pack = Self { file, length, index: None, made: 0, places: HashMap::new(), kept: HashMap::new(), kept_size: 0 };
        let waiting = pack.read()?;
        pack.resolve(waiting)?;
        pack.made = 0;
        Ok(pack)
    }

    /// Opens a pack of this machine with the index that git keeps beside it.
    ///
    /// # Errors
    /// Fails when the file cannot be looked at.
    pub fn indexed(file: File, index: PackIndex) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length, index: Some(index), made: 0, places: HashMap::new(), kept: HashMap::new(), kept_size: 0 })
    }

    /// The ids that begin with some hexadecimal digits, as far as git's own index tells.
    pub fn beginning(&self, digits: &str) -> Vec<Id> {
        self.index.as_ref().map(|index| index.beginning(digits)).unwrap_or_default()
    }

    /// The kind of an object; `None` if the pack does not have it.
    ///
    /// # Errors
    /// Fails when the object is damaged.
    pub fn kind(&mut self, id: &Id) -> io::Result<Option<Kind>> {
        let Some(at) = self.find(id) else { return Ok(None) };
        Ok(self.unpack(at)?.map(|(kind, _)| kind))
    }

    fn find(&self, id: &Id) -> Option<u64> {
        match &self.index {
            Some(index) => index.find(id),
            None => self.places.get(id).copied(),
        }
    }

    /// The length of the pack in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The budget for what the pack unpacks to.
    pub fn budget(&self) -> Budget {
        let budget = Budget::new(CHECKOUT);
        budget.came(self.length);
        budget
    }

    /// Reads the whole pack once: objects that are stored whole get their ids, the others wait for their bases.
    fn read(&mut self) -> io::Result<Waiting> {
        let (file, budget) = (self.file.try_clone()?, self.budget());
        let mut reader = BufReader::with_capacity(256 << 10, At(&file, 0));
        let mut start = [0; 12];
        reader.read_exact(&mut start)?;
        let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, count @ ..] = start else { return Err(damaged("it is not a pack")) };
        let mut waiting = Waiting::default();
        for _ in 0..u32::from_be_bytes(count) {
            let at = reader.get_ref().1 - reader.buffer().len() as u64;
            let (base, size) = head(&mut reader, at)?;
            budget.spend(size)?;
            let mut content = ZlibDecoder::new(&mut reader).take(size.saturating_add(1));
            let found = if let Base::Whole(kind) = base {
                let mut name = Name::new(kind, size);
                let found = io::copy(&mut content, &mut name)?;
                let id = name.finish()?;
                self.places.entry(id).or_insert(at);
                waiting.ready.push((at, id));
                found
            } else {
                match base {
                    Base::At(base) => waiting.by_place.entry(base).or_default().push(at),
                    Base::Named(id) => waiting.by_name.entry(id).or_default().push(at),
                    Base::Whole(_) => {}
                }
                io::copy(&mut content, &mut io::sink())?
            };
            // The end of the stream must be read, too, so that the next object begins at the right offset.
            if found != size || content.into_inner().read(&mut [0])? != 0 {
                return Err(damaged("an object is not as long as it says"));
            }
        }
        Ok(waiting)
    }

    /// Computes the ids of deltas, each once, after its base. A base that is given by id instead of offset may come later in the
    /// pack than its delta.
    fn resolve(&mut self, mut waiting: Waiting) -> io::Result<()> {
        let wholes = std::mem::take(&mut waiting.ready);
        for (at, id) in wholes {
            let mut next = waiting.after(at, &id);
            while let Some(at) = next.pop() {
                let (kind, content) = self.unpack(at)?.ok_or_else(|| damaged("a base is missing"))?;
                let mut name = Name::new(kind, content.len() as u64);
                name.write_all(&content)?;
                let id = name.finish()?;
                // The first one stays: otherwise a delta that makes a copy of its own base would lead to an endless loop.
                self.places.entry(id).or_insert(at);
                next.extend(waiting.after(at, &id));
            }
        }
        if waiting.by_place.is_empty() && waiting.by_name.is_empty() { Ok(()) } else { Err(damaged("a base is missing")) }
    }

    /// The ids of all objects.
    pub fn ids(&self) -> Vec<Id> {
        self.places.keys().copied().collect()
    }

    /// Whether the pack has an object.
    pub fn has(&self, id: &Id) -> bool {
        self.find(id).is_some()
    }

    /// The longest object that is held in memory.
    fn longest(&self) -> u64 {
        self.length.saturating_mul(HELD_RATIO).clamp(HELD.0, HELD.1)
    }

    /// Counts what is unpacked in memory: a few bytes of deltas can make the same large object again and again.
    fn making(&mut self, bytes: u64) -> io::Result<()> {
        self.made = self.made.saturating_add(bytes);
        if self.made > self.length.saturating_mul(MADE_RATIO).max(MADE) {
            return Err(damaged("its objects unpack to far more than what was sent"));
        }
        Ok(())
    }

    fn place(&self, id: &Id) -> io::Result<u64> {
        self.find(id).ok_or_else(|| damaged(&format!("object {} is missing", hex(id))))
    }

    /// Unpacks the object at an offset; `None` if its base is not known yet.
    fn unpack(&mut self, mut at: u64) -> io::Result<Option<(Kind, Rc<[u8]>)>> {
        let mut deltas: Vec<(u64, Vec<u8>)> = Vec::new();
        let (mut total, longest) = (0u64, self.longest());
        let (kind, mut content) = loop {
            if let Some((kind, content)) = self.kept.get(&at) {
                break (*kind, content.clone());
            }
            let mut reader = BufReader::new(At(&self.file, at));
            let (base, size) = head(&mut reader, at)?;
            total = total.saturating_add(size);
            if total > longest {
                return Err(damaged("an object is too long"));
            }
            if deltas.len() > CHAIN {
                return Err(damaged("the chain of deltas is too long"));
            }
            let mut content = Vec::new();
            ZlibDecoder::new(reader).take(size).read_to_end(&mut content)?;
            self.making(content.len() as u64)?;
            let place = at;
            at = match base {
                Base::Whole(kind) => break (kind, self.keep(at, kind, content.into())),
                Base::At(base) => base,
                Base::Named(id) => match self.find(&id) {
                    Some(base) => base,
                    None => return Ok(None),
                },
            };
            deltas.push((place, content));
        };
        while let Some((at, delta)) = deltas.pop() {
            if made_length(&delta).is_some_and(|length| length > longest) {
                return Err(damaged("an object is too long"));
            }
            let made = apply(&content, &delta).ok_or_else(|| damaged("a delta does not fit its base"))?;
            self.making(made.len() as u64)?;
            content = self.keep(at, kind, made.into());
        }
        Ok(Some((kind, content)))
    }

    fn keep(&mut self, at: u64, kind: Kind, content: Rc<[u8]>) -> Rc<[u8]> {
        self.kept_size += content.len();
        if self.kept_size > KEPT {
            self.kept.clear();
            self.kept_size = content.len();
        }
        if content.len() <= KEPT {
            self.kept.insert(at, (kind, content.clone()));
        }
        content
    }
}

impl Objects for Pack {
    fn get(&mut self, id: &Id, wanted: Kind) -> io::Result<Rc<[u8]>> {
        match self.unpack(self.place(id)?)? {
            Some((kind, content)) if kind == wanted => {
                if self.index.is_some() {
                    proven(id, kind, &content)?;
                }
                Ok(content)
            }
            Some((kind, _)) => Err(damaged(&format!("{} is a {kind:?}, not a {wanted:?}", hex(id)).to_lowercase())),
            None => Err(damaged("a base is missing")),
        }
    }

    /// A blob that is stored whole may be larger than memory.
    fn write_blob(&mut self, id: &Id, to: &mut File, budget: &Budget) -> io::Result<()> {
        let at = self.place(id)?;
        let mut reader = BufReader::with_capacity(64 << 10, At(&self.file, at));
        match head(&mut reader, at)? {
            (Base::Whole(Kind::Blob), size) => {
                budget.spend(size)?;
                let mut content = ZlibDecoder::new(reader).take(size);
                if self.index.is_some() { copy_proven(id, size, &mut content, to) } else { io::copy(&mut content, to).map(drop) }
            }
            _ => {
                let content = self.get(id, Kind::Blob)?;
                budget.spend(content.len() as u64)?;
                to.write_all(&content)
            }
        }
    }
}

/// Makes sure that an object is the one that its id means.
///
/// # Errors
/// Fails when it is another one.
pub fn proven(id: &Id, kind: Kind, content: &[u8]) -> io::Result<()> {
    let mut name = Name::new(kind, content.len() as u64);
    name.write_all(content)?;
    if name.finish()? == *id { Ok(()) } else { Err(damaged(&format!("object {} is damaged", hex(id)))) }
}

/// Copies a blob, and makes sure that it is the one that its id means.
///
/// # Errors
/// Fails when it is another one, and when it cannot be read or written.
pub fn copy_proven(id: &Id, size: u64, content: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut name = Name::new(Kind::Blob, size);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        name.write_all(&buffer[..length])?;
        to.write_all(&buffer[..length])?;
    }
    if name.finish()? == *id { Ok(()) } else { Err(damaged(&format!("object {} is damaged", hex(id)))) }
}

/// Computes an object's id from what is written to it. It detects objects that were made to collide, as git does.
struct Name(Sha1);

impl Name {
    fn new(kind: Kind, size: u64) -> Self {
        Self(Sha1::new().chain_update(format!("{kind:?} {size}\0").to_lowercase()))
    }

    fn finish(self) -> io::Result<Id> {
        let result = self.0.try_finalize();
        if result.has_collision() {
            Err(damaged("an object was made to collide with another"))
        } else {
            Ok((*result.hash()).into())
        }
    }
}

impl Write for Name {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the header of an object: what it is made from, and its size.
fn head(reader: &mut impl BufRead, at: u64) -> io::Result<(Base, u64)> {
    let mut next = || {
        let mut byte = [0];
        reader.read_exact(&mut byte).map(|()| u64::from(byte[0]))
    };
    let mut byte = next()?;
    let (kind, mut size, mut shift) = ((byte >> 4) & 7, byte & 15, 4);
    while byte & 128 != 0 {
        byte = next()?;
        if shift > 56 {
            return Err(damaged("an object is too long"));
        }
        size |= (byte & 127) << shift;
        shift += 7;
    }
    let base = match kind {
        1 => Base::Whole(Kind::Commit),
        2 => Base::Whole(Kind::Tree),
        3 => Base::Whole(Kind::Blob),
        4 => Base::Whole(Kind::Tag),
        6 => {
            let mut byte = next()?;
            let mut back = byte & 127;
            while byte & 128 != 0 {
                byte = next()?;
                // If it saturates, it is larger than any file, and is refused below.
                back = back.saturating_add(1).saturating_mul(128) | (byte & 127);
            }
            // The base is always before the object, so no object can be its own base.
            Base::At(at.checked_sub(back).filter(|_| back > 0).ok_or_else(|| damaged("a base lies outside the pack"))?)
        }
        7 => {
            let mut id = [0; 20];
            reader.read_exact(&mut id)?;
            Base::Named(id)
        }
        _ => return Err(damaged("an object is of an unknown kind")),
    };
    Ok((base, size))
}

/// The length of what a delta makes.
fn made_length(mut delta: &[u8]) -> Option<u64> {
    number(&mut delta)?;
    number(&mut delta)
}

/// Applies a delta to its base; `None` if they do not match.
fn apply(base: &[u8], mut delta: &[u8]) -> Option<Vec<u8>> {
    if number(&mut delta)? != base.len() as u64 {
        return None;
    }
    let size = number(&mut delta)?;
    let mut made = Vec::new();
    while let Some(what) = delta.split_off_first() {
        if what & 128 != 0 {
            // Its low bits say which bytes of the offset (four) and of the length (three) are present.
            let mut part = |bits: Range<u8>| {
                bits.zip([0, 8, 16, 24])
                    .filter(|(bit, _)| what & (1 << bit) != 0)
                    .try_fold(0, |value, (_, shift)| delta.split_off_first().map(|byte| value | usize::from(*byte) << shift))
            };
            let from = part(0..4)?;
            let length = part(4..7).map(|length| if length == 0 { 0x1_0000 } else { length })?;
            made.extend_from_slice(base.get(from..from.checked_add(length)?)?);
        } else {
            made.extend_from_slice(delta.split_off(..usize::from(*what)).filter(|given| !given.is_empty())?);
        }
        if made.len() as u64 > size {
            return None;
        }
    }
    (made.len() as u64 == size).then_some(made)
}

/// Reads a number in a delta: seven bits in each byte, the lowest first.
fn number(delta: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *delta.split_off_first().filter(|_| shift <= 56)?;
        value |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests;

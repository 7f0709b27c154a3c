//! The index that git keeps beside each of its packs: where each object begins (gitformat-pack, "pack-*.idx files").

use super::object::{Id, damaged, hex};
use std::io;
use std::ops::Range;

/// The bytes before the ids: the signature, the version, and how many ids there are up to each first byte.
const HEAD: usize = 8 + 256 * 4;
/// An offset with this bit is the number of one that needs more than 31 bits.
const FAR: u32 = 1 << 31;

/// The index of one pack.
pub struct PackIndex {
    bytes: Vec<u8>,
    count: usize,
}

impl PackIndex {
    /// Takes the content of an index.
    ///
    /// # Errors
    /// Fails when it is damaged, or of the first version, which git has not made by itself since 2008.
    pub fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        if !bytes.starts_with(b"\xfftOc\0\0\0\x02") {
            return Err(damaged("the index of a pack is of an old version; `git repack -ad` makes it anew"));
        }
        let mut index = Self { bytes, count: 0 };
        let count = index.number(HEAD - 4).ok_or_else(|| damaged("the index of a pack is too short"))?;
        index.count = usize::try_from(count).unwrap_or(usize::MAX);
        let least = index.count.checked_mul(28).and_then(|bytes| bytes.checked_add(HEAD + 40));
        if least.is_none_or(|least| least > index.bytes.len()) {
            return Err(damaged("the index of a pack is too short"));
        }
        Ok(index)
    }

    fn number(&self, at: usize) -> Option<u32> {
        self.bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn id(&self, place: usize) -> Option<Id> {
        self.bytes.get(HEAD + 20 * place..HEAD + 20 * place + 20)?.try_into().ok()
    }

    /// The places of the ids with this first byte.
    fn places(&self, first: u8) -> Range<usize> {
        let up_to = |byte: u8| self.number(8 + 4 * usize::from(byte)).and_then(|number| usize::try_from(number).ok());
        let from = first.checked_sub(1).and_then(up_to).unwrap_or(0);
        from..up_to(first).unwrap_or(0).min(self.count)
    }

    /// The first place with an id that is not less than this one.
    fn lower(&self, id: &Id) -> usize {
        let Range { start: mut from, end: mut to } = self.places(id[0]);
        while from < to {
            let middle = from.midpoint(to);
            if self.id(middle).is_some_and(|found| found < *id) { from = middle + 1 } else { to = middle }
        }
        from
    }

    /// Where an object begins; `None` if the pack does not have it.
    pub fn find(&self, id: &Id) -> Option<u64> {
        let place = self.lower(id);
        if place >= self.count || self.id(place)? != *id {
            return None;
        }
        let offsets = HEAD + 24 * self.count;
        let near = self.number(offsets + 4 * place)?;
        if near & FAR == 0 {
            return Some(u64::from(near));
        }
        let at = offsets + 4 * self.count + 8 * usize::try_from(near & !FAR).ok()?;
        self.bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The ids that begin with at least two hexadecimal digits.
    pub fn beginning(&self, digits: &str) -> Vec<Id> {
        let Some(first) = digits.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) else { return Vec::new() };
        let ids = self.places(first).filter_map(|place| self.id(place));
        ids.filter(|id| hex(id).starts_with(digits)).collect()
    }
}

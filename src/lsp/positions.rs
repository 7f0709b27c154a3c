//! Positions in a text: lines and columns as editors count them, and offsets in bytes as we do.
//!
//! An editor counts the columns of a line in units of UTF-16, or in bytes if both sides agreed on that. What an editor
//! says is not trusted: a position beyond the end of a line or of the text, or in the middle of a character, is moved to
//! the nearest place before it that exists.

use std::ops::Range;

/// What a column counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Utf8,
    Utf16,
}

/// A line and a column, both counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    pub line: u32,
    pub character: u32,
}

/// Where the lines of a text begin. A line ends with LF, CR LF or CR: that is the protocol's rule, not the one of KDL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lines {
    starts: Vec<usize>,
    /// How many units of UTF-16 come before each step of the text; nothing for a text in ASCII, where each byte is one. So
    /// no position takes long, however long its line is.
    units: Vec<usize>,
}

/// The bytes of a step.
const STEP: usize = 256;

/// The units of UTF-16 that begin in some bytes.
fn units(bytes: &[u8]) -> usize {
    let of = |byte: &u8| usize::from(!(0x80..0xc0).contains(byte)) + usize::from(*byte >= 0xf0);
    bytes.iter().map(of).sum()
}

impl Lines {
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ends = |at: &usize| bytes[*at] == b'\n' || bytes.get(at + 1) != Some(&b'\n');
        let starts = memchr::memchr2_iter(b'\n', b'\r', bytes).filter(ends).map(|at| at + 1);
        let starts = std::iter::once(0).chain(starts).collect();
        let mut before = 0;
        let steps = bytes.chunks(STEP).map(|chunk| {
            let here = before;
            before += units(chunk);
            here
        });
        Self { starts, units: if text.is_ascii() { Vec::new() } else { steps.collect() } }
    }

    /// How many units of UTF-16 come before an offset.
    fn units_before(&self, text: &str, offset: usize) -> usize {
        let step = (offset / STEP).min(self.units.len().saturating_sub(1));
        self.units.get(step).map_or(offset, |before| before + units(&text.as_bytes()[step * STEP..offset]))
    }

    /// The range of a line without the characters that end it; of the end of the text if there are not as many lines.
    pub fn content(&self, text: &str, line: usize) -> Range<usize> {
        let Some(start) = self.starts.get(line).copied() else { return text.len()..text.len() };
        let end = self.starts.get(line + 1).copied().unwrap_or(text.len());
        let content = text.get(start..end).unwrap_or_default();
        start..start + content.trim_end_matches(['\n', '\r']).len()
    }

    /// The number of the line that an offset is in.
    pub fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The offset of a position.
    pub fn offset(&self, text: &str, position: Position, encoding: Encoding) -> usize {
        let line = usize::try_from(position.line).unwrap_or(usize::MAX);
        let content = self.content(text, line);
        let wanted = usize::try_from(position.character).unwrap_or(usize::MAX);
        let mut column = 0;
        for (at, c) in text[content.clone()].char_indices() {
            column += width(c, encoding);
            if column > wanted {
                return content.start + at;
            }
        }
        content.end
    }

    /// The position of an offset.
    pub fn position(&self, text: &str, offset: usize, encoding: Encoding) -> Position {
        let offset = floor(text, offset);
        let line = self.line_of(offset);
        let start = self.starts[line];
        let character = match encoding {
            Encoding::Utf8 => offset - start,
            Encoding::Utf16 => self.units_before(text, offset) - self.units_before(text, start),
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position { line: number(line), character: number(character) }
    }
}

fn width(c: char, encoding: Encoding) -> usize {
    match encoding {
        Encoding::Utf8 => c.len_utf8(),
        Encoding::Utf16 => c.len_utf16(),
    }
}

/// The nearest offset before this one, or the same, that is between two characters.
pub fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// How long a text is in the units of a column.
pub fn columns(text: &str, encoding: Encoding) -> u32 {
    let count = match encoding {
        Encoding::Utf8 => text.len(),
        Encoding::Utf16 => units(text.as_bytes()),
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\u{feff}a\tb\r\n🦀é\u{301}x\rlast\n";

    #[test]
    fn every_offset_has_one_position_and_back() {
        let lines = Lines::new(TEXT);
        for encoding in [Encoding::Utf8, Encoding::Utf16] {
            for (offset, _) in TEXT.char_indices().chain([(TEXT.len(), ' ')]) {
                let position = lines.position(TEXT, offset, encoding);
                let back = lines.offset(TEXT, position, encoding);
                // Between CR and LF there is no position: it is the end of that line.
                let between = TEXT[..offset].ends_with('\r') && TEXT[offset..].starts_with('\n');
                assert_eq!(back, if between { offset - 1 } else { offset }, "{offset} {position:?}");
            }
        }
        assert_eq!(lines.position(TEXT, TEXT.find('x').unwrap(), Encoding::Utf16), Position { line: 1, character: 4 });
        assert_eq!(lines.position(TEXT, TEXT.find('x').unwrap(), Encoding::Utf8), Position { line: 1, character: 8 });
    }

    #[test]
    fn columns_of_long_lines_are_right() {
        let text = "aé🦀\u{20ac}".repeat(300) + "\n" + &"🦀b".repeat(400);
        let lines = Lines::new(&text);
        for (offset, _) in text.char_indices() {
            let line = text[..offset].rfind('\n').map_or(0, |at| at + 1);
            let want = text[line..offset].encode_utf16().count();
            assert_eq!(lines.position(&text, offset, Encoding::Utf16).character as usize, want, "{offset}");
        }
        assert_eq!(lines.position(&text, text.len(), Encoding::Utf16).character, 1200);
    }

    #[test]
    fn positions_that_do_not_exist_are_moved_to_ones_that_do() {
        let lines = Lines::new(TEXT);
        let at = |line, character| lines.offset(TEXT, Position { line, character }, Encoding::Utf16);
        let crab = TEXT.find('🦀').unwrap();
        assert_eq!(at(1, 1), crab, "in the middle of a surrogate pair");
        assert_eq!(at(1, 99), TEXT.find("\rlast").unwrap(), "beyond the end of a line");
        assert_eq!(at(0, u32::MAX), TEXT.find("\r\n").unwrap());
        assert_eq!((at(3, 0), at(4, 0), at(u32::MAX, u32::MAX)), (TEXT.len(), TEXT.len(), TEXT.len()));
        assert_eq!(lines.offset(TEXT, Position { line: 1, character: 2 }, Encoding::Utf8), crab, "in the middle of a character");
        assert_eq!(lines.position(TEXT, crab + 1, Encoding::Utf16), Position { line: 1, character: 0 });
        assert_eq!(Lines::new("").offset("", Position { line: 0, character: 7 }, Encoding::Utf16), 0);
    }
}

//! Names of files as text, whatever bytes they have.
//!
//! Linux allows any byte in a name but `/` and NUL. Lists of files are text, in plans and records as well, so a byte that is
//! no part of UTF-8 is spelled as one of the last 256 characters of Unicode's last plane, which is for private use. So is
//! each byte of these characters themselves: two names never have the same spelling, and all others stay as they are.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The character for the byte 0.
const FIRST: u32 = 0x10_FF00;
/// The first byte of each of them in UTF-8, and of few other characters.
const LEAD: u8 = 0xF4;

fn is_spelling(letter: char) -> bool {
    u32::from(letter) >= FIRST
}

fn letter(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A name as text.
pub fn spelled(name: &OsStr) -> Cow<'_, str> {
    if let Some(text) = name.to_str().filter(|text| !text.contains(is_spelling)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for one in chunk.valid().chars() {
            if is_spelling(one) {
                out.extend(one.encode_utf8(&mut [0; 4]).bytes().map(letter));
            } else {
                out.push(one);
            }
        }
        out.extend(chunk.invalid().iter().copied().map(letter));
    }
    Cow::Owned(out)
}

/// The name that a text spells.
pub fn unspelled(text: &str) -> Cow<'_, OsStr> {
    if !text.as_bytes().contains(&LEAD) || !text.contains(is_spelling) {
        return Cow::Borrowed(OsStr::new(text));
    }
    let mut out = Vec::with_capacity(text.len());
    for one in text.chars() {
        match u32::from(one).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => out.push(byte),
            None => out.extend(one.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Cow::Owned(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_spelling_of_its_own() {
        let names: [&[u8]; 8] =
            [b"plain", "é€\u{10ffff}".as_bytes(), b"caf\xe9", b"\xff\xfe", b"\xf4\x8f\xbd", b"\xc3", b"", b"a\xf4b"];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let name = OsStr::from_bytes(name);
            let text = spelled(name).into_owned();
            assert_eq!(unspelled(&text), name, "{name:?}");
            assert!(seen.insert(text), "{name:?}");
        }
        assert!(matches!(spelled(OsStr::new("plain é")), Cow::Borrowed(_)));
        // The text that a name of five bytes is spelled with is itself the name of a file that is spelled otherwise.
        let once = spelled(OsStr::from_bytes(b"caf\xe9")).into_owned();
        assert_ne!(spelled(OsStr::new(&once)), once);
    }
}

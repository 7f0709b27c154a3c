//! Formatting: the smallest edit that makes a text what the formatter says.

use crate::spec;
use std::ops::Range;

/// What to change in a text so that it is formatted; `None` if nothing, or if its syntax is wrong.
pub fn edit(text: &str) -> Option<(Range<usize>, String)> {
    between(text, &spec::format(text)?)
}

/// What to change in a text so that it is another one.
fn between(text: &str, formatted: &str) -> Option<(Range<usize>, String)> {
    if formatted == text {
        return None;
    }
    let same = |(a, b): &((usize, char), char)| a.1 == *b;
    let start: usize = text.char_indices().zip(formatted.chars()).take_while(same).map(|((_, c), _)| c.len_utf8()).sum();
    let (old, new) = (&text[start..], &formatted[start..]);
    let end: usize = old.chars().rev().zip(new.chars().rev()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    Some((start..text.len() - end, new[..new.len() - end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        for (text, want) in [("é  b c", Some((3..4, ""))), ("a b", None), ("x  ", Some((2..3, "")))] {
            let squeezed = text.replace("  ", " ");
            assert_eq!(between(text, &squeezed), want.map(|(range, new)| (range, new.to_owned())), "{text}");
        }
        assert_eq!(between("aa", "aaaa"), Some((2..2, "aa".into())));
        assert_eq!(edit("a  1\n"), Some((2..3, String::new())));
        assert_eq!(edit("a \"b"), None, "its syntax is wrong");
    }
}

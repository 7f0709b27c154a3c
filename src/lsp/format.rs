//! Formatting: the smallest edit that makes a text what the formatter says.

use std::ops::Range;

/// Formats a text; `None` if it cannot be formatted as it is.
pub type Formatter = fn(&str) -> Option<String>;

/// The formatter of the language. As long as there is none, the server does not offer to format.
pub const FORMATTER: Option<Formatter> = None;

/// What to change in a text so that it is formatted; `None` if nothing.
pub fn edit(text: &str, format: Formatter) -> Option<(Range<usize>, String)> {
    let formatted = format(text)?;
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
        let squeeze: Formatter = |text| (!text.contains('!')).then(|| text.replace("  ", " "));
        for (text, want) in [("é  b c", Some((3..4, ""))), ("a b", None), ("a  !", None), ("x  ", Some((2..3, "")))] {
            assert_eq!(edit(text, squeeze), want.map(|(range, new)| (range, new.to_owned())), "{text}");
        }
        let double: Formatter = |text| Some(format!("{text}{text}"));
        let (range, new) = edit("aa", double).unwrap();
        assert_eq!((range, new.as_str()), (2..2, "aa"));
    }
}

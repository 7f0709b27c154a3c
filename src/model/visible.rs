//! Shows untrusted text in a way that neither controls the terminal nor misleads the reader.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character is not visible itself but affects the terminal or the order of text: control characters (C0,
/// DEL, C1), those of bidirectional text (CVE-2021-42574), other line ends, and zero-width characters that only
/// serve to deceive. Joiners (U+200C, U+200D) are part of words and stay.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text of one or several lines, with unseen characters as escapes of the language, such as `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    let plain = |c: char| !is_unseen(c) || matches!(c, '\n' | '\t');
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut all = text.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            // CR LF is a normal line end.
            '\r' if all.peek() == Some(&'\n') => {}
            c if plain(c) => out.push(c),
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// Text that must stay on one line: line ends and tabs are escaped, too.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    match visible(text) {
        text if text.contains(['\n', '\t']) => Cow::Owned(text.replace('\n', "\\n").replace('\t', "\\t")),
        text => text,
    }
}

/// JSON text with the unseen characters in its strings as JSON escapes: the value is the same, and a terminal obeys
/// nothing in it.
pub fn visible_json(text: String) -> String {
    if !text.chars().any(|c| is_unseen(c) && c != '\n') {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unseen(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(visible("a\u{1b}[1A\u{9b}2K\u{7f}\rb"), "a\\u{1b}[1A\\u{9b}2K\\u{7f}\\u{d}b");
        assert_eq!(visible("\u{202e}x\u{2066}\u{2028}\u{61c}\u{200f}"), "\\u{202e}x\\u{2066}\\u{2028}\\u{61c}\\u{200f}");
        assert!(matches!(visible("größer\tals\n日本 👩\u{200d}💻"), Cow::Borrowed(_)));
        assert_eq!(visible("one\r\ntwo"), "one\ntwo");
        assert_eq!(visible_line("a\n! b\t"), "a\\n! b\\t");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a": "x\u{202e}\u{7f}\u{9b}\u{e0041}\u{1b}\n" });
        let text = visible_json(serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !is_unseen(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}

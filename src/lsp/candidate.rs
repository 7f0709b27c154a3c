//! Candidates: what completion offers.

use std::ops::Range;

/// What a candidate is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Node,
    Property,
    Word,
    Name,
    File,
    Folder,
    Package,
}

/// Something that may be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub label: String,
    pub shape: Shape,
    pub detail: String,
    pub doc: String,
    /// What is written, as a snippet: `$1` is where the cursor goes.
    pub insert: String,
    pub replace: Range<usize>,
}

/// What may be written, and whether that is everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidates {
    pub list: Vec<Candidate>,
    pub partial: bool,
}

/// Whether the editor understands snippets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snippets {
    Understood,
    /// What is written has to be the text itself.
    Unknown,
}

/// The text of a snippet: `${1:name}` is `name`, `$1` is nothing, and a backslash takes the meaning of what follows it.
pub fn plain(snippet: &str) -> String {
    let mut out = String::with_capacity(snippet.len());
    let mut open = 0usize;
    let mut rest = snippet;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let next = rest.chars().next();
                out.extend(next);
                rest = &rest[next.map_or(0, char::len_utf8)..];
            }
            '$' if rest.starts_with('{') => {
                open += 1;
                rest = rest[1..].trim_start_matches(|c: char| c.is_ascii_digit());
                rest = rest.strip_prefix(':').unwrap_or(rest);
            }
            '$' => rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            '}' if open > 0 => open -= 1,
            '\t' => out.push_str("    "),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_have_a_text() {
        assert_eq!(plain("container \"${1:name}\" {\n\t$0\n}"), "container \"name\" {\n    \n}");
        assert_eq!(plain("\"a\\$b\\}\\\\c\""), "\"a$b}\\c\"");
        assert_eq!(plain("to=\"$1\" é$"), "to=\"\" é");
        assert_eq!(plain("init=${1:#true}"), "init=#true");
    }
}

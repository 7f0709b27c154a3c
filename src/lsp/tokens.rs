//! Semantic tokens: what each word of a file is, for its colour.

use super::document::Document;
use super::names::{Role, parameter_places};
use super::scan::inner;
use std::ops::Range;

/// What a word is. The order is that of the legend in `convert`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    Keyword,
    Property,
    Text,
    Number,
    Comment,
    Constant,
    Name,
    Parameter,
}

/// A word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub range: Range<usize>,
    pub kind: TokenKind,
    pub declares: bool,
}

/// The words in a range of a file, in order; none overlaps another one.
pub fn tokens(document: &Document, within: &Range<usize>) -> Vec<Token> {
    let mut found: Vec<Token> =
        comments(document).filter(|range| touches(range, within)).map(|range| token(range, TokenKind::Comment)).collect();
    for (number, node) in document.scan.nodes.iter().enumerate() {
        if node.off.is_some() || node.header_end < within.start || node.name.start > within.end {
            continue;
        }
        if document.row(number).is_some() {
            found.push(token(node.name.clone(), TokenKind::Keyword));
        }
        for (_, entry) in document.scan.entries(number) {
            if let Some(name) = &entry.name {
                found.push(token(name.clone(), TokenKind::Property));
            }
            value(document, &entry.value, &mut found);
        }
    }
    found.retain(|token| !token.range.is_empty() && touches(&token.range, within));
    found.sort_by_key(|token| (token.range.start, std::cmp::Reverse(token.range.end)));
    let mut end = 0;
    found.retain(|token| {
        let free = token.range.start >= end;
        end = if free { token.range.end } else { end };
        free
    });
    found
}

fn token(range: Range<usize>, kind: TokenKind) -> Token {
    Token { range, kind, declares: false }
}

fn touches(range: &Range<usize>, within: &Range<usize>) -> bool {
    range.start <= within.end && within.start <= range.end
}

/// Comments, and what `/-` comments out.
fn comments(document: &Document) -> impl Iterator<Item = Range<usize>> {
    let scan = &document.scan;
    let nodes = scan.nodes.iter().filter_map(|node| {
        let from = node.off?;
        // A node in such a node is part of it.
        (from < node.name.start && node.parent.is_none_or(|parent| scan.nodes[parent].off.is_none())).then_some(from..node.end)
    });
    let entries = scan.entries.iter().filter_map(|entry| Some(entry.off?..entry.whole().end));
    scan.comments.iter().map(|comment| comment.range.clone()).chain(nodes).chain(entries)
}

/// The words of a value: a text has parameters in it, and may be a name.
fn value(document: &Document, range: &Range<usize>, found: &mut Vec<Token>) {
    let written = document.text.get(range.clone()).unwrap_or_default();
    let first = written.trim_start_matches(['+', '-', '.']).chars().next();
    let inside = inner(&document.text, range);
    let quoted = inside != *range;
    if !quoted && written.starts_with('#') {
        found.push(token(range.clone(), TokenKind::Constant));
        return;
    }
    if !quoted && first.is_some_and(|c| c.is_ascii_digit()) {
        found.push(token(range.clone(), TokenKind::Number));
        return;
    }
    let mention = document.mention_at(range.end.min(inside.end)).filter(|one| one.place == inside);
    let kind = if mention.is_some() { TokenKind::Name } else { TokenKind::Text };
    let declares = mention.is_some_and(|one| one.role == Role::Declared);
    let mut from = range.start;
    for place in parameter_places(&document.text, range) {
        let (start, end) = (place.start - 2, (place.end + 1).min(range.end));
        found.push(Token { range: from..start, kind, declares });
        found.push(token(start..end, TokenKind::Parameter));
        from = end;
    }
    found.push(Token { range: from..range.end, kind, declares });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_kinds() {
        let document = Document::new(
            "image \"app\" { from \"x:${tag}\" } // c\n/-volume \"v\"\ncontainer w { init #true; env A=1; foo \"x\" }\n",
        );
        let shown: Vec<String> = tokens(&document, &(0..document.text.len()))
            .into_iter()
            .map(|one| format!("{:?}{} {}", one.kind, if one.declares { "!" } else { "" }, &document.text[one.range]))
            .collect();
        let want = [
            "Keyword image",
            "Name! \"app\"",
            "Keyword from",
            "Name \"x:",
            "Parameter ${tag}",
            "Name \"",
            "Comment // c",
            "Comment /-volume \"v\"",
            "Keyword container",
            "Name! w",
            "Keyword init",
            "Constant #true",
            "Keyword env",
            "Property A",
            "Number 1",
            "Text \"x\"",
        ];
        assert_eq!(shown, want);
        let line = document.text.find("container").unwrap();
        assert_eq!(tokens(&document, &(line..line + 9))[0].kind, TokenKind::Keyword, "only those in the range");
    }
}

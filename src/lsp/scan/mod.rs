//! What is where in a text that is being written: nodes, values and comments, found in one pass without a parser.
//!
//! Diagnostics and values come from `spec`, which reads what is right. This scan is for everything an editor asks about
//! a text that is wrong at the cursor most of the time: it accepts anything, never recurses, and takes time and memory in
//! proportion to the text. It follows KDL 2 and the recovery of `model::kdl_text`: a string without an end ends with its
//! line, and a block without an end ends before the next node in the first column.

mod read;

use std::borrow::Cow;
use std::ops::Range;

/// The most nodes and values that are looked at; `spec` refuses files with a third of that.
const PARTS: usize = 60_000;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, with quotes if it has any; empty for a block without a name.
    pub name: Range<usize>,
    pub parent: Option<usize>,
    /// The numbers of its arguments and properties.
    pub entries: Range<usize>,
    pub block: Option<Block>,
    /// Where its values end: before its block, a semicolon, or the end of the line.
    pub header_end: usize,
    /// Where it ends, with its block.
    pub end: usize,
    /// The number of the first node after it that is not in it.
    pub next: usize,
    /// Where the `/-` is that comments it out; for a node in such a node, where that one begins.
    pub off: Option<usize>,
}

/// A block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The offset of its opening brace.
    pub open: usize,
    /// The offset of its closing brace, or where it is taken to end.
    pub close: usize,
    pub closed: bool,
}

/// An argument or a property.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name of a property, with quotes if it has any.
    pub name: Option<Range<usize>>,
    /// The value, with its quotes; empty if a property has none yet.
    pub value: Range<usize>,
    /// Where the `/-` is that comments it out.
    pub off: Option<usize>,
}

impl Entry {
    /// The range of the entry with the name of a property.
    pub fn whole(&self) -> Range<usize> {
        self.name.as_ref().map_or(self.value.start, |name| name.start)..self.value.end
    }
}

/// What is at an offset: what somebody who types there means to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Slot {
    /// A comment.
    Nothing,
    /// The name of a node in this one, or of an outermost node.
    Name { parent: Option<usize>, node: Option<usize>, replace: Range<usize> },
    /// An argument of a node, by its number; if it is not written yet, it may become a property.
    Argument { node: usize, index: usize, entry: Option<usize>, replace: Range<usize> },
    /// The name of a property.
    Property { node: usize, entry: usize, replace: Range<usize> },
    /// The value of a property.
    Value { node: usize, entry: usize, replace: Range<usize> },
}

/// The nodes of a text in the order of their beginnings, each before the nodes in it.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    pub nodes: Vec<Node>,
    pub entries: Vec<Entry>,
    pub comments: Vec<Comment>,
}

/// A comment.
#[derive(Clone, Debug)]
pub struct Comment {
    pub range: Range<usize>,
    pub kind: CommentKind,
}

/// How a comment ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommentKind {
    /// With its line.
    Line,
    /// With `*/`.
    Block,
}

impl Scan {
    pub fn new(text: &str) -> Self {
        read::scan(text)
    }

    /// The nodes in a node, or the outermost ones.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> {
        let (mut at, end) = match parent {
            Some(parent) => (parent + 1, self.nodes[parent].next),
            None => (0, self.nodes.len()),
        };
        std::iter::from_fn(move || {
            let found = (at < end).then_some(at)?;
            at = self.nodes[found].next.max(found + 1);
            Some(found)
        })
    }

    /// The entries of a node, with their numbers, without those that are commented out.
    pub fn entries(&self, node: usize) -> impl Iterator<Item = (usize, &Entry)> {
        let range = self.nodes[node].entries.clone();
        range.clone().zip(&self.entries[range]).filter(|(_, entry)| entry.off.is_none())
    }

    /// The arguments of a node.
    pub fn arguments(&self, node: usize) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries(node).filter(|(_, entry)| entry.name.is_none())
    }

    /// A property of a node.
    pub fn property<'a>(&'a self, text: &'a str, node: usize, name: &str) -> Option<(usize, &'a Entry)> {
        self.entries(node).find(|(_, entry)| entry.name.as_ref().is_some_and(|found| decoded(text, found) == name))
    }

    /// The last node that begins at an offset or before it.
    fn before(&self, offset: usize) -> Option<usize> {
        self.nodes.partition_point(|node| node.name.start <= offset).checked_sub(1)
    }

    /// The innermost node that an offset is in or touches.
    pub fn node_at(&self, offset: usize) -> Option<usize> {
        let mut found = self.before(offset);
        while let Some(node) = found.filter(|node| self.nodes[*node].end < offset) {
            found = self.nodes[node].parent;
        }
        found
    }

    /// The innermost node whose block an offset is in.
    fn block_at(&self, offset: usize) -> Option<usize> {
        let mut found = self.before(offset);
        while let Some(node) = found {
            let inside = self.nodes[node].block.is_some_and(|block| {
                block.open < offset
                    && (offset <= block.close && (block.closed || offset < block.close || block.close == self.end()))
            });
            if inside {
                return Some(node);
            }
            found = self.nodes[node].parent;
        }
        None
    }

    fn end(&self) -> usize {
        self.nodes.iter().map(|node| node.end).max().unwrap_or(0)
    }

    /// What is at an offset.
    pub fn slot(&self, offset: usize) -> Slot {
        let comment = self.comments.partition_point(|comment| comment.range.end < offset);
        let inside = |comment: &Comment| {
            let end = comment.range.end + usize::from(comment.kind == CommentKind::Line);
            comment.range.start < offset && offset < end
        };
        if self.comments.get(comment).is_some_and(inside) {
            return Slot::Nothing;
        }
        if let Some(at) = self.before(offset).filter(|at| offset <= self.nodes[*at].header_end) {
            let node = &self.nodes[at];
            if offset <= node.name.end {
                return Slot::Name { parent: node.parent, node: Some(at), replace: node.name.clone() };
            }
            return self.header_slot(at, offset);
        }
        Slot::Name { parent: self.block_at(offset), node: None, replace: offset..offset }
    }

    fn header_slot(&self, node: usize, offset: usize) -> Slot {
        let mut index = 0;
        for (number, entry) in self.entries(node) {
            let whole = entry.whole();
            if offset < whole.start {
                break;
            }
            match &entry.name {
                Some(name) if name.start <= offset && offset <= name.end => {
                    return Slot::Property { node, entry: number, replace: name.clone() };
                }
                Some(_) if offset <= whole.end => {
                    return Slot::Value { node, entry: number, replace: entry.value.clone() };
                }
                None if offset <= whole.end => {
                    return Slot::Argument { node, index, entry: Some(number), replace: entry.value.clone() };
                }
                Some(_) => {}
                None => index += 1,
            }
        }
        Slot::Argument { node, index, entry: None, replace: offset..offset }
    }
}

/// The range of a value without its quotes.
pub fn inner(text: &str, value: &Range<usize>) -> Range<usize> {
    let written = text.get(value.clone()).unwrap_or_default();
    let hashes = written.len() - written.trim_start_matches('#').len();
    let rest = &written[hashes..];
    let quotes = if rest.starts_with("\"\"\"") {
        3
    } else if rest.starts_with('"') {
        1
    } else {
        return value.clone();
    };
    let start = hashes + quotes;
    let tail = format!("{}{}", "\"".repeat(quotes), "#".repeat(hashes));
    let end =
        if written.len() >= start + tail.len() && written.ends_with(&tail) { written.len() - tail.len() } else { written.len() };
    value.start + start..value.start + end.max(start)
}

/// The text that a value stands for.
pub fn decoded<'a>(text: &'a str, value: &Range<usize>) -> Cow<'a, str> {
    let inside = text.get(inner(text, value)).unwrap_or_default();
    let escapes = text.get(value.clone()).is_some_and(|written| written.starts_with('"'));
    if !escapes || !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut out = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('s') => out.push(' '),
            Some('u') => {
                let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                out.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;

//! Reads as much as possible of a text with errors: the text in an editor has errors most of the time.
//!
//! A line with an error loses its rest, from where its node stops making sense, but braces in that rest count. A block
//! without an end is taken to end before the next node that begins in the first column.

use super::token::is_newline;
use super::{Block, ERRORS, Kind, Limits, Node, Open, Scanner, Wrong, document, plain};
use kdl::KdlDocument;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What could be read, and what is wrong with the rest.
#[derive(Debug)]
pub struct Recovered {
    /// The documents, each with the range of bytes that it was read from.
    pub parts: Vec<(Range<usize>, Arc<KdlDocument>)>,
    /// The text with blanks in place of what has no meaning or is wrong; all other bytes are where they were.
    pub plain: String,
    /// The errors, at most sixteen.
    pub wrong: Vec<Wrong>,
    /// The ranges that could not be read, in order; an empty range means that something is missing there.
    pub lost: Vec<Range<usize>>,
}

/// The state of a scanner that continues after errors.
#[derive(Default)]
pub(super) struct Recovery {
    lost: Vec<Range<usize>>,
    /// Whether all open blocks end where a node begins in the first column.
    by_indent: bool,
    /// Where blocks were taken to end, and how many of them.
    cuts: Vec<(usize, usize)>,
}

/// The pieces of a text as they were parsed, by their plain text. Parsing is what takes the time of reading, and from one
/// keystroke to the next all pieces but one are the same.
#[derive(Debug, Default)]
pub struct Known {
    before: HashMap<String, Arc<KdlDocument>>,
    now: HashMap<String, Arc<KdlDocument>>,
}

impl Known {
    fn document(&mut self, plain: &str) -> Result<Arc<KdlDocument>, Vec<Wrong>> {
        if let Some(document) = self.now.get(plain) {
            return Ok(document.clone());
        }
        let document = match self.before.remove(plain) {
            Some(document) => document,
            None => Arc::new(document(plain)?),
        };
        self.now.insert(plain.to_owned(), document.clone());
        Ok(document)
    }

    /// Forgets what the text that was just read no longer has.
    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

/// Reads as much of a text as possible; what was read before is not parsed again.
pub fn recover(text: &str, limits: Limits, known: &mut Known) -> Recovered {
    let recovered = read_pieces(text, limits, known);
    known.turn();
    recovered
}

/// The pieces of a range that end where outermost nodes end.
fn pieces(range: Range<usize>, ends: &[usize]) -> Vec<Range<usize>> {
    let mut from = range.start;
    let first = ends.partition_point(|end| *end <= range.start);
    let within = ends[first..].iter().copied().take_while(|end| *end < range.end);
    let all = within.chain(std::iter::once(range.end)).map(|end| std::mem::replace(&mut from, end)..end);
    all.collect()
}

/// Reads a text without errors.
fn whole(text: &str, limits: Limits, known: &mut Known) -> Result<Recovered, Vec<Wrong>> {
    let (plain, ends) = plain(text, limits)?;
    let (mut parts, mut wrong) = (Vec::new(), Vec::new());
    for piece in pieces(0..plain.len(), &ends) {
        match known.document(&plain[piece.clone()]) {
            Ok(document) => parts.push((piece, document)),
            Err(found) => wrong.extend(found.into_iter().map(|one| Wrong { offset: piece.start + one.offset, ..one })),
        }
    }
    if wrong.is_empty() {
        return Ok(Recovered { parts, plain, wrong, lost: Vec::new() });
    }
    wrong.truncate(ERRORS);
    Err(wrong)
}

fn read_pieces(text: &str, limits: Limits, known: &mut Known) -> Recovered {
    let wrong = match whole(text, limits, known) {
        Ok(recovered) => return recovered,
        Err(wrong) => wrong,
    };
    let all = || std::iter::once(0..text.len()).collect();
    let nothing = |wrong| Recovered { parts: Vec::new(), plain: text.to_owned(), wrong, lost: all() };
    // An error must not raise the limits on how much is read.
    if wrong.iter().any(|wrong| matches!(wrong.kind, Kind::TooDeep | Kind::TooMany)) {
        return nothing(wrong);
    }
    let scan = |by_indent| {
        let mut scanner = Scanner::new(text, limits);
        scanner.recovery = Some(Recovery { by_indent, ..Recovery::default() });
        scanner.document();
        scanner
    };
    let mut scanner = scan(false);
    if !scanner.open.is_empty() {
        scanner = scan(true);
    }
    scanner.at = text.len();
    scanner.end_blocks();
    let stopped = scanner.wrong.iter().any(|wrong| matches!(wrong.kind, Kind::TooDeep | Kind::TooMany));
    let (Ok(plain), Some(recovery), false) = (scanner.plain(), scanner.recovery, stopped) else { return nothing(wrong) };
    let (mut parts, mut from, mut lost) = (Vec::new(), 0, recovery.lost);
    for (end, open) in recovery.cuts {
        for piece in pieces(from..end, &scanner.ends) {
            let closed = if piece.end == end { "}".repeat(open) } else { String::new() };
            match known.document(&format!("{}{closed}", &plain[piece.clone()])) {
                Ok(document) => parts.push((piece, document)),
                Err(_) => lost.push(piece),
            }
        }
        from = end;
    }
    Recovered { parts, plain, wrong, lost: merged(lost) }
}

/// The ranges in order, with touching ones merged.
fn merged(mut all: Vec<Range<usize>>) -> Vec<Range<usize>> {
    all.sort_unstable_by_key(|one| (one.start, one.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for one in all {
        match merged.last_mut() {
            Some(last) if one.start <= last.end => last.end = last.end.max(one.end),
            _ => merged.push(one),
        }
    }
    merged
}

impl Scanner<'_> {
    /// Continues after a line that is wrong from the byte `wrong` on.
    pub(super) fn next_line(&mut self, wrong: usize) {
        let line = self.rest().find(is_newline).map_or(self.text.len(), |end| self.at + end);
        let (from, mut header) = match self.right.take() {
            Some((node, end)) => (node.taken_out.unwrap_or(end), Some(node)),
            None => (self.begun, None),
        };
        // An unterminated string has swallowed the brace at the end of its line.
        let trimmed = self.text[..line].trim_end();
        let swallowed = self.at >= line && trimmed.ends_with('{') && trimmed.len() - 1 > wrong;
        let start = if swallowed { trimmed.len() - 1 } else { self.at };
        let (mut lost, mut beyond) = (from, 0usize);
        for (at, c) in self.text[start..line.max(start)].char_indices() {
            let at = start + at;
            match c {
                // Blocks beyond the nesting limit are lost with the line.
                '{' if self.open.len() >= self.limits.nesting => {
                    header = None;
                    beyond += 1;
                }
                '}' if beyond > 0 => beyond -= 1,
                '{' => match header.take().filter(|node| node.taken_out.is_none() && node.block != Block::Real) {
                    Some(node) => {
                        let node = Node { block: Block::Real, ..node };
                        self.open.push(Open { node, brace: at, taken_out: None });
                        self.lose(lost..at);
                        lost = at + 1;
                    }
                    // A block without a node is lost, too.
                    None => {
                        let node = Node { block: Block::Real, taken_out: None };
                        self.open.push(Open { node, brace: at, taken_out: Some(at) });
                    }
                },
                '}' => {
                    header = None;
                    let Some(open) = self.open.pop() else { continue };
                    match open.node.taken_out.or(open.taken_out) {
                        Some(from) => self.blank.push((from, at + 1)),
                        None => {
                            self.lose(lost..at);
                            lost = at + 1;
                        }
                    }
                }
                _ => {}
            }
        }
        self.lose(lost..line.max(self.at));
        self.at = line.max(self.at);
    }

    fn lose(&mut self, lost: Range<usize>) {
        if lost.is_empty() {
            return;
        }
        self.blank.push((lost.start, lost.end));
        if let Some(recovery) = &mut self.recovery {
            recovery.lost.push(lost);
        }
    }

    /// Ends all open blocks before a node at the beginning of a line, if blocks end by indentation.
    pub(super) fn close_by_indent(&mut self) {
        let begins = self.text[..self.at].chars().next_back().is_none_or(is_newline);
        let name = self.peek().is_some_and(|c| c.is_ascii_alphabetic());
        let by_indent = self.recovery.as_ref().is_some_and(|recovery| recovery.by_indent);
        if by_indent && begins && name && !self.open.is_empty() {
            self.end_blocks();
        }
    }

    /// Ends all open blocks; those behind `/-` are dropped entirely.
    fn end_blocks(&mut self) {
        let taken_out = |open: &Open| open.node.taken_out.or(open.taken_out);
        let first = self.open.iter().position(|open| taken_out(open).is_some());
        let from = first.and_then(|first| taken_out(&self.open[first]));
        self.blank.extend(from.map(|from| (from, self.at)));
        let real = first.unwrap_or(self.open.len());
        let any = !self.open.is_empty();
        if let Some(recovery) = &mut self.recovery {
            recovery.cuts.push((self.at, real));
            // Where the end of a block is missing, more may be missing.
            let last = self.text[..self.at].trim_end().len();
            recovery.lost.extend(any.then_some(last..self.at));
        }
        self.open.clear();
    }
}

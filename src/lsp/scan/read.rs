//! The pass over a text that finds its parts.

use super::{Block, Comment, CommentKind, Entry, Node, PARTS, Scan};
use std::ops::Range;

/// Finds the parts of a text.
pub fn scan(text: &str) -> Scan {
    let (found, unclosed) = Reader::new(text, Blocks::ByBraces).read();
    if unclosed { Reader::new(text, Blocks::ByIndentation).read().0 } else { found }
}

/// What ends a block besides its brace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    ByBraces,
    /// All open blocks end where a node begins in the first column.
    ByIndentation,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    blocks: Blocks,
    found: Scan,
    open: Vec<usize>,
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, blocks: Blocks) -> Self {
        Self { text, at: 0, blocks, found: Scan::default(), open: Vec::new() }
    }

    /// Reads everything. Returns also whether a block had no end.
    fn read(mut self) -> (Scan, bool) {
        let mut off = None;
        let mut unclosed = false;
        loop {
            self.blank(Lines::Over);
            if self.found.nodes.len() + self.found.entries.len() > PARTS {
                break;
            }
            match self.peek() {
                None => break,
                Some(';') => self.at += 1,
                Some('}') => {
                    off = None;
                    let at = self.at;
                    self.at += 1;
                    self.close(at, true);
                }
                _ if self.starts("/-") => {
                    off = Some(self.at);
                    self.at += 2;
                }
                Some(c) => {
                    if self.blocks == Blocks::ByIndentation && c.is_ascii_alphabetic() && self.begins_line() {
                        unclosed |= !self.open.is_empty();
                        self.close_all();
                    }
                    self.node(off.take());
                }
            }
        }
        unclosed |= !self.open.is_empty();
        self.close_all();
        (self.found, unclosed)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn starts(&self, text: &str) -> bool {
        self.rest().starts_with(text)
    }

    fn begins_line(&self) -> bool {
        self.text[..self.at].chars().next_back().is_none_or(|c| is_newline(c) || c == '\u{feff}')
    }

    fn close(&mut self, at: usize, closed: bool) {
        let Some(node) = self.open.pop() else { return };
        let count = self.found.nodes.len();
        let node = &mut self.found.nodes[node];
        node.next = count;
        node.end = at + usize::from(closed);
        if let Some(block) = &mut node.block {
            (block.close, block.closed) = (at, closed);
        }
    }

    fn close_all(&mut self) {
        while !self.open.is_empty() {
            self.close(self.at, false);
        }
    }

    /// Skips what has no meaning.
    fn blank(&mut self, lines: Lines) {
        while let Some(c) = self.peek() {
            let from = self.at;
            if is_space(c) || lines == Lines::Over && is_newline(c) {
                self.at += c.len_utf8();
            } else if lines == Lines::Over && self.starts("//") {
                self.at += self.rest().find(is_newline).unwrap_or(self.rest().len());
                self.found.comments.push(Comment { range: from..self.at, kind: CommentKind::Line });
            } else if self.starts("/*") {
                self.comment();
            } else if c == '\\' {
                if !self.escaped_end() {
                    return;
                }
            } else {
                return;
            }
        }
    }

    /// Skips a comment with all comments nested in it; without an end, it is the rest of the text.
    fn comment(&mut self) {
        let (from, bytes) = (self.at, self.text.as_bytes());
        let mut depth = 0usize;
        while self.at < bytes.len() {
            match &bytes[self.at..] {
                [b'/', b'*', ..] => (depth, self.at) = (depth + 1, self.at + 2),
                [b'*', b'/', ..] => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.found.comments.push(Comment { range: from..self.at, kind: CommentKind::Block });
    }

    /// Skips a backslash at the end of a line, if it is one.
    fn escaped_end(&mut self) -> bool {
        let after = self.text[self.at + 1..].trim_start_matches(is_space);
        let start = self.text.len() - after.len();
        let end = if after.starts_with("//") { after.find(is_newline).unwrap_or(after.len()) } else { 0 };
        let newline = &after[end..];
        let length = if newline.starts_with("\r\n") { 2 } else { newline.chars().next().map_or(0, char::len_utf8) };
        if newline.chars().next().is_some_and(|c| !is_newline(c)) {
            return false;
        }
        if end > 0 {
            self.found.comments.push(Comment { range: start..start + end, kind: CommentKind::Line });
        }
        self.at = start + end + length;
        true
    }

    /// Reads a node up to its end or to the beginning of its block.
    fn node(&mut self, off: Option<usize>) {
        self.annotation();
        let name = self.token_or_nothing();
        let parent = self.open.last().copied();
        let off = off.or_else(|| parent.and_then(|parent| self.found.nodes[parent].off));
        let (number, first) = (self.found.nodes.len(), self.found.entries.len());
        self.found.nodes.push(Node {
            name,
            parent,
            entries: first..first,
            block: None,
            header_end: self.at,
            end: self.at,
            next: number + 1,
            off,
        });
        self.header();
        let (at, last) = (self.at, self.found.entries.len());
        let end = self.found.entries[first..].last().map(|entry| entry.value.end);
        let opens = self.peek() == Some('{');
        let node = &mut self.found.nodes[number];
        node.entries = first..last;
        node.header_end = at;
        node.end = end.unwrap_or(node.name.end).max(node.name.end);
        if opens {
            node.block = Some(Block { open: at, close: at, closed: false });
            self.open.push(number);
            self.at += 1;
        }
    }

    /// Reads the values of a node.
    fn header(&mut self) {
        let mut off = None;
        loop {
            self.blank(Lines::EndIt);
            match self.peek() {
                None | Some(';' | '}' | '{') => return,
                Some(c) if is_newline(c) || self.starts("//") => return,
                _ if self.starts("/-") => {
                    off = Some(self.at);
                    self.at += 2;
                    continue;
                }
                Some('=') => self.at += 1,
                Some(_) => self.entry(off.take()),
            }
            if self.found.entries.len() > PARTS {
                return;
            }
        }
    }

    fn entry(&mut self, off: Option<usize>) {
        self.annotation();
        let first = self.token_or_nothing();
        let behind = self.at;
        let spaced = self.peek().is_some_and(is_space);
        if spaced {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
        if self.peek() != Some('=') {
            self.at = behind;
            self.found.entries.push(Entry { name: None, value: first, off });
            return;
        }
        self.at += 1;
        // `to= from="x"` is a property whose value is being written, but `to = "x"` is one with spaces.
        if spaced {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
        self.annotation();
        let value = self.token_or_nothing();
        self.found.entries.push(Entry { name: Some(first), value, off });
    }

    /// Skips `(type)`.
    fn annotation(&mut self) {
        if self.peek() == Some('(') {
            let end = self.rest().find(|c| matches!(c, ')' | '{' | '}' | ';') || is_newline(c)).unwrap_or(self.rest().len());
            self.at += end;
            self.at += usize::from(self.peek() == Some(')'));
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
    }

    /// Reads a name or a value, or nothing where none can be.
    fn token_or_nothing(&mut self) -> Range<usize> {
        let ends = |c: char| is_space(c) || is_newline(c) || matches!(c, ';' | '{' | '}');
        if self.peek().is_none_or(ends) { self.at..self.at } else { self.token() }
    }

    /// Reads a name or a value: at least one character, if there is one.
    fn token(&mut self) -> Range<usize> {
        let from = self.at;
        let hashes = self.rest().len() - self.rest().trim_start_matches('#').len();
        if self.text[from + hashes..].starts_with('"') {
            if hashes > 0 { self.raw(hashes) } else { self.quoted() }
        } else {
            self.at += hashes;
            while let Some(c) = self.peek() {
                let comment = self.starts("//") || self.starts("/*") || self.starts("/-");
                if comment || is_space(c) || is_newline(c) || matches!(c, ';' | '{' | '}' | '"' | '=' | '\\' | '(') {
                    break;
                }
                self.at += c.len_utf8();
            }
        }
        if self.at == from {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        from..self.at
    }

    fn raw(&mut self, hashes: usize) {
        let quotes = if self.text[self.at + hashes..].starts_with("\"\"\"") { 3 } else { 1 };
        let end = format!("{}{}", "\"".repeat(quotes), "#".repeat(hashes));
        let start = self.at + hashes + quotes;
        let line = self.line_end(start);
        // Of these strings, only those with three quotes have several lines.
        let within = if quotes == 3 { &self.text[start..] } else { &self.text[start..line] };
        self.at = within.find(&end).map_or(self.without_brace(line), |at| start + at + end.len());
    }

    fn quoted(&mut self) {
        let from = self.at;
        if self.starts("\"\"\"") {
            let bytes = self.text.as_bytes();
            let mut at = from + 3;
            while at < bytes.len() {
                match &bytes[at..] {
                    [b'"', b'"', b'"', ..] => {
                        self.at = at + 3;
                        return;
                    }
                    [b'\\', ..] => at += 2,
                    _ => at += 1,
                }
            }
            self.at = self.line_end(from);
            return;
        }
        let bytes = self.text.as_bytes();
        let mut at = from + 1;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return;
                }
                // A backslash at the end of a line continues the string.
                b'\\' => at += 2,
                b'\n' | b'\r' => {
                    self.at = self.without_brace(at);
                    return;
                }
                _ => at += 1,
            }
        }
        self.at = self.without_brace(self.text.len());
    }

    fn line_end(&self, from: usize) -> usize {
        self.text[from..].find(is_newline).map_or(self.text.len(), |end| from + end)
    }

    /// Where a string without an end, in a line that ends here, is taken to end: it has swallowed the brace of its node.
    fn without_brace(&self, line: usize) -> usize {
        let written = self.text[self.at..line].trim_end();
        match written.strip_suffix('{') {
            Some(before) if !before.is_empty() => self.at + before.trim_end().len().max(1),
            _ => line,
        }
    }
}

/// What the end of a line means between two parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// The node ends.
    EndIt,
    /// Nothing.
    Over,
}

//! Checks KDL text before the `kdl` crate sees it.
//!
//! That crate recurses for every block, every part of a comment and every error that it recovers from, and it parses
//! whatever `/-` comments out twice at each level. So it only gets well-formed text of bounded depth, in which
//! comments, parts behind `/-` and escaped line ends are replaced by blanks. All calls of the crate's parser go
//! through here: `clippy.toml` forbids others. The grammar is KDL 2.0.0, section "Full Grammar"; strings and numbers
//! are in `token`.

mod others;
mod pieces;
mod recover;
mod slips;
mod token;

pub use pieces::{Piece, Token, pieces};
pub use recover::{Known, recover};

use kdl::KdlDocument;
use token::{is_newline, is_space};

/// How much a text may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep blocks may be nested.
    pub nesting: usize,
    /// How many nodes and values there may be.
    pub parts: usize,
}

/// What is wrong with a text, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub kind: Kind,
    /// The offset of the first byte.
    pub offset: usize,
    /// The length in bytes.
    pub length: usize,
    pub message: String,
    pub help: Option<String>,
}

/// The kind of an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Syntax,
    /// Only this one value is wrong.
    Value,
    /// Only a part of a string on one line is wrong.
    Escape,
    /// Something has no end, or is within text of several lines: what follows may belong to it.
    Open,
    /// A node follows another one that has not ended.
    Joined,
    TooDeep,
    TooMany,
}

impl Wrong {
    fn new(offset: usize, length: usize, message: impl Into<String>) -> Self {
        Self { kind: Kind::Syntax, offset, length, message: message.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

/// The most errors that are reported for one text.
const ERRORS: usize = 16;

/// Parses a text.
///
/// # Errors
/// Returns the errors in the text, at least one and at most sixteen.
pub fn read(text: &str, limits: Limits) -> Result<KdlDocument, Vec<Wrong>> {
    let (plain, _) = plain(text, limits)?;
    document(&plain)
}

fn document(plain: &str) -> Result<KdlDocument, Vec<Wrong>> {
    #[expect(clippy::disallowed_methods, reason = "all calls of this parser go through here")]
    KdlDocument::parse_v2(plain).map_err(|error| {
        let told = error.diagnostics.iter().take(ERRORS).map(|found| {
            let message = found.message.clone().unwrap_or_else(|| "this is not KDL".into());
            Wrong { help: found.help.clone(), ..Wrong::new(found.span.offset(), found.span.len(), message) }
        });
        let told: Vec<Wrong> = told.collect();
        if told.is_empty() { vec![Wrong::new(0, 0, "this is not KDL")] } else { told }
    })
}

/// A text with blanks in place of comments, of parts behind `/-`, and of escaped line ends; and where its outermost nodes
/// end.
fn plain(text: &str, limits: Limits) -> Result<(String, Vec<usize>), Vec<Wrong>> {
    let mut scanner = Scanner::new(text, limits);
    scanner.document();
    if !scanner.wrong.is_empty() {
        return Err(scanner.wrong);
    }
    let plain = scanner.plain().map_err(|wrong| vec![wrong])?;
    Ok((plain, scanner.ends))
}

/// A node that is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// The position of the `/-` that comments it out, if there is one.
    taken_out: Option<usize>,
    block: Block,
}

/// Which blocks a node has so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Block {
    #[default]
    None,
    /// Only blocks behind `/-`.
    TakenOut,
    Real,
}

/// An open block, and the node that it belongs to.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: Node,
    /// The position of its opening brace.
    brace: usize,
    /// The position of the `/-` that comments it out, if there is one.
    taken_out: Option<usize>,
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    limits: Limits,
    parts: usize,
    open: Vec<Open>,
    /// The ranges to replace by blanks; some may lie within others.
    blank: Vec<(usize, usize)>,
    wrong: Vec<Wrong>,
    /// Where the current node begins, and as much of it as was read without an error, with the end of that.
    begun: usize,
    right: Option<(Node, usize)>,
    recovery: Option<recover::Recovery>,
    /// Where outermost nodes end: the text can be parsed piece by piece.
    ends: Vec<usize>,
}

type Step<T = ()> = Result<T, Wrong>;

impl<'t> Scanner<'t> {
    fn new(text: &'t str, limits: Limits) -> Self {
        let (open, blank, wrong) = (Vec::new(), Vec::new(), Vec::new());
        Self { text, at: 0, limits, parts: 0, open, blank, wrong, begun: 0, right: None, recovery: None, ends: Vec::new() }
    }

    /// The text with its blank ranges filled.
    fn plain(&self) -> Step<String> {
        let mut bytes = self.text.as_bytes().to_vec();
        for (from, to) in &self.blank {
            bytes[*from..*to].fill(b' ');
        }
        String::from_utf8(bytes).map_err(|_| Wrong::new(0, 0, "this is not KDL"))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn starts(&self, text: &str) -> bool {
        self.rest().starts_with(text)
    }

    fn document(&mut self) {
        if self.starts("\u{feff}") {
            self.at += '\u{feff}'.len_utf8();
        }
        loop {
            match self.node() {
                Ok(true) if self.open.is_empty() => self.ends.push(self.at),
                Ok(true) => {}
                Ok(false) => break,
                Err(wrong) => {
                    let goes_on = !matches!(wrong.kind, Kind::TooDeep | Kind::TooMany);
                    let from = wrong.offset;
                    self.at = self.at.max(from);
                    if !goes_on || self.wrong.len() < ERRORS {
                        let others = if goes_on { self.others(&wrong) } else { Vec::new() };
                        let room = ERRORS.saturating_sub(self.wrong.len() + 1);
                        self.wrong.push(wrong);
                        self.wrong.extend(others.into_iter().take(room));
                    }
                    if !goes_on || self.recovery.is_none() && self.wrong.len() >= ERRORS {
                        return;
                    }
                    self.next_line(from);
                }
            }
        }
        // After an earlier error, unclosed blocks may only be its consequence, so they are not reported.
        if self.wrong.is_empty() {
            self.unclosed();
        }
    }

    fn unclosed(&mut self) {
        let end = self.text.trim_end().len();
        for open in self.open.iter().rev().take(ERRORS / 2) {
            let brace = Wrong::new(open.brace, 1, "no closing '}' for child block");
            self.wrong.push(brace);
            if end > open.brace + 1 {
                self.wrong.push(Wrong::new(open.brace + 1, end - open.brace - 1, "closing '}' was not found after nodes"));
            }
        }
    }

    /// Reads a node up to its block or its end, or the end of a block. Returns whether there was one.
    fn node(&mut self) -> Step<bool> {
        (self.begun, self.right) = (self.at, None);
        self.line_space()?;
        self.begun = self.at;
        self.close_by_indent();
        let node = match self.peek() {
            None => return Ok(false),
            Some('}') => {
                let Some(open) = self.open.pop() else { return Err(Wrong::new(self.at, 1, "expected end of document")) };
                self.at += 1;
                self.blank.extend(open.taken_out.map(|from| (from, self.at)));
                open.node
            }
            Some('{') => {
                let wrong = Wrong::new(self.at, 1, "found child block instead of node name");
                return Err(wrong.help("write the name of the node before its block"));
            }
            Some(_) => {
                let taken_out = if self.starts("/-") { Some(self.take_out(None)?) } else { None };
                self.part()?;
                self.annotation()?;
                if !self.value()? {
                    return Err(Wrong::new(self.at, 0, "a node begins with its name, not with a number"));
                }
                Node { taken_out, block: Block::None }
            }
        };
        self.right = Some((node, self.at));
        self.tail(node)?;
        Ok(true)
    }

    /// Reads the values of a node up to its block or its end.
    fn tail(&mut self, node: Node) -> Step {
        loop {
            let spaced = self.space()?;
            match self.peek() {
                Some('{') => return self.block(node, None),
                Some(c) if !ends_node(c) && !self.starts("//") => {
                    if !spaced && c == '=' {
                        return Err(self.equals());
                    }
                    if !spaced {
                        return Err(Wrong::new(self.at, c.len_utf8(), "a space is missing here").help("put one before it"));
                    }
                }
                _ => break,
            }
            if self.starts("/-") {
                let from = self.take_out(node.taken_out)?;
                if self.peek() == Some('{') {
                    return self.block(node, Some(from));
                }
                self.entry(&node)?;
                self.blank.push((from, self.at));
            } else {
                self.entry(&node)?;
            }
            self.right = Some((node, self.at));
        }
        let semicolon = usize::from(self.peek() == Some(';'));
        // The semicolon that ends a node behind `/-` is made blank with it.
        self.blank.extend(node.taken_out.map(|from| (from, self.at + semicolon)));
        self.at += semicolon;
        Ok(())
    }

    fn block(&mut self, mut node: Node, taken_out: Option<usize>) -> Step {
        if taken_out.is_none() && node.block == Block::Real {
            let wrong = Wrong::new(self.at, 1, "a node can have only one block");
            return Err(wrong.help("put both into one, or name the node that this one belongs to"));
        }
        if taken_out.is_none() {
            node.block = Block::Real;
        } else if node.block == Block::None {
            node.block = Block::TakenOut;
        }
        if self.open.len() >= self.limits.nesting {
            let wrong = Wrong::new(self.at, 1, format!("nested deeper than {} levels", self.limits.nesting));
            return Err(wrong.kind(Kind::TooDeep));
        }
        self.open.push(Open { node, brace: self.at, taken_out });
        self.at += 1;
        Ok(())
    }

    /// Reads `/-` and the space after it, and returns its position. `around` is the position of the `/-` before the
    /// node that contains it, if there is one.
    fn take_out(&mut self, around: Option<usize>) -> Step<usize> {
        let from = self.at;
        let open = self.open.iter();
        let depth: usize =
            open.map(|open| usize::from(open.taken_out.is_some()) + usize::from(open.node.taken_out.is_some())).sum();
        if depth + usize::from(around.is_some()) >= super::bounds::TAKEN_OUT {
            let message = format!("`/-` is nested deeper than {} levels in what `/-` comments out", super::bounds::TAKEN_OUT);
            return Err(Wrong::new(from, 2, message).kind(Kind::TooDeep));
        }
        self.at += 2;
        self.line_space()?;
        if self.starts("/-") || matches!(self.peek(), None | Some('}' | ';')) {
            return Err(Wrong::new(from, 2, "`/-` comments out what follows it, but nothing follows"));
        }
        Ok(from)
    }

    /// Reads an argument or a property.
    fn entry(&mut self, node: &Node) -> Step {
        if node.block != Block::None {
            if self.peek() == Some('#') {
                let from = self.at;
                self.value()?;
                self.at = from;
            }
            let length = self.rest().find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(self.rest().len());
            let wrong = Wrong::new(self.at, length, "a node begins here, and the one before it has not ended");
            return Err(wrong.kind(Kind::Joined));
        }
        self.part()?;
        let typed = self.annotation()?;
        let text = self.value()?;
        let behind = self.at;
        self.space()?;
        if self.peek() != Some('=') {
            self.at = behind;
            return Ok(());
        }
        if typed || !text {
            return Err(Wrong::new(self.at, 1, "only a name can be followed by `=` and a value"));
        }
        self.at += 1;
        self.space()?;
        self.annotation()?;
        self.value().map(drop)
    }

    fn part(&mut self) -> Step {
        self.parts += 1;
        if self.parts <= self.limits.parts {
            return Ok(());
        }
        let message = format!("there are more than {} nodes and values", self.limits.parts);
        Err(Wrong::new(self.at, 0, message).kind(Kind::TooMany))
    }

    /// Reads `(type)`. Returns whether there is one.
    fn annotation(&mut self) -> Step<bool> {
        let from = self.at;
        if self.peek() != Some('(') {
            return Ok(false);
        }
        self.at += 1;
        self.space()?;
        let name = self.value()?;
        self.space()?;
        if !name || self.peek() != Some(')') {
            return Err(Wrong::new(from, 1, "a type is a name in parentheses"));
        }
        self.at += 1;
        self.space()?;
        Ok(true)
    }

    /// Skips space within a node: blanks, comments, escaped line ends. Returns whether there is any.
    fn space(&mut self) -> Step<bool> {
        let from = self.at;
        loop {
            match self.peek() {
                Some(c) if is_space(c) => self.at += c.len_utf8(),
                Some('/') if self.starts("/*") => self.comment()?,
                Some('\\') => self.escaped_end()?,
                _ => return Ok(self.at > from),
            }
        }
    }

    /// Skips space within and between nodes: also line ends, and comments up to the end of a line.
    fn line_space(&mut self) -> Step {
        loop {
            self.space()?;
            match self.peek() {
                Some(c) if is_newline(c) => self.at += c.len_utf8(),
                Some('/') if self.starts("//") => self.line_comment(),
                _ => return Ok(()),
            }
        }
    }

    fn line_comment(&mut self) {
        let from = self.at;
        self.at += self.rest().find(is_newline).unwrap_or(self.rest().len());
        self.blank.push((from, self.at));
    }

    /// Skips a comment, with all comments nested in it.
    fn comment(&mut self) -> Step {
        let from = self.at;
        let mut depth = 0usize;
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() {
            match &bytes[self.at..] {
                [b'/', b'*', ..] => depth += 1,
                [b'*', b'/', ..] => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                self.blank.push((from, self.at));
                return Ok(());
            }
        }
        Err(Wrong::new(from, 2, "this comment has no end").help("end it with `*/`").kind(Kind::Open))
    }

    /// Skips a backslash at the end of a line: the node continues on the next line.
    fn escaped_end(&mut self) -> Step {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(c) if is_space(c) => self.at += c.len_utf8(),
                Some('/') if self.starts("/*") => self.comment()?,
                _ => break,
            }
        }
        if self.starts("//") {
            self.line_comment();
        }
        match self.peek() {
            None => {}
            _ if self.starts("\r\n") => self.at += 2,
            Some(c) if is_newline(c) => self.at += c.len_utf8(),
            Some(_) => return Err(Wrong::new(from, 1, "a backslash can only be at the end of a line or in quotes")),
        }
        self.blank.push((from, self.at));
        Ok(())
    }
}

/// Whether a node ends before a character.
fn ends_node(c: char) -> bool {
    matches!(c, ';' | '}') || is_newline(c)
}

/// Quotes a text for KDL 2 on one line (3.11, 3.12 and 3.18). The `kdl` crate's writer omits quotes where it can, so a
/// changed version could gain or lose its quotes, and what is next to it would move.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Characters that KDL text may not contain literally, and those that end a line.
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;

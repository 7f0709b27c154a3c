//! Changes a text between its bytes: values, properties, new nodes, each where the file's own shape puts it.

use super::super::tree::{Tree, Value};
use super::{Edit, find};
use crate::model::kdl_text::{Limits, Piece, Token, pieces};
use crate::model::{Error, Result, bounds};
use std::collections::BTreeMap;
use std::ops::Range;

const INDENT: &str = "    ";

/// The changes of one file.
pub struct Patch<'t> {
    file: &'t str,
    text: &'t str,
    pieces: Vec<Piece>,
    line_end: &'static str,
    changes: Vec<(Range<usize>, String)>,
}

impl<'t> Patch<'t> {
    pub fn new(file: &str, texts: &'t BTreeMap<String, String>) -> Result<Self> {
        let unread = || Error::new(format!("{file} was not read"));
        let (file, text) = texts.get_key_value(file).ok_or_else(unread)?;
        let limits = Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS };
        let pieces = pieces(text, limits).map_err(|_| Error::new(format!("{file} has syntax errors")))?;
        let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Ok(Self { file, text, pieces, line_end, changes: Vec::new() })
    }

    /// The text with all changes.
    pub fn finish(mut self) -> Edit {
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.len() + 64);
        let mut from = 0;
        for (range, new) in &self.changes {
            text.push_str(&self.text[from..range.start]);
            text.push_str(new);
            from = range.end;
        }
        text.push_str(&self.text[from..]);
        Edit { file: self.file.to_owned(), text }
    }

    fn change(&mut self, range: Range<usize>, new: impl Into<String>) {
        self.changes.push((range, new.into()));
    }

    /// Gives a node these arguments; those that stay are left as they are written.
    pub fn arguments(&mut self, tree: &Tree, wanted: &[Value]) {
        for (at, arg) in tree.args.iter().enumerate() {
            let range = arg.place.offset..arg.place.offset + arg.place.length;
            match wanted.get(at) {
                Some(value) if *value == arg.value => {}
                Some(value) => self.change(self.value_in(&range), value.written()),
                None => {
                    let before = self.text[..range.start].trim_end_matches([' ', '\t']).len();
                    self.change(before..range.end, "");
                }
            }
        }
        let new: String = wanted.iter().skip(tree.args.len()).map(|value| format!(" {}", value.written())).collect();
        if !new.is_empty() {
            let end = tree.args.last().map_or_else(|| end_of_name(tree), |arg| arg.place.offset + arg.place.length);
            self.change(end..end, new);
        }
    }

    /// Gives a property of a node this value.
    pub fn property(&mut self, tree: &Tree, name: &str, value: &Value) {
        match tree.props.iter().find(|(known, _)| known == name) {
            Some((_, entry)) if entry.value == *value => {}
            Some((_, entry)) => {
                let range = self.value_in(&(entry.place.offset..entry.place.offset + entry.place.length));
                self.change(range, value.written());
            }
            None => {
                let end = end_of_entries(tree);
                self.change(end..end, format!(" {}={}", find::key(name), value.written()));
            }
        }
    }

    /// The value itself in the range of an argument or property.
    fn value_in(&self, range: &Range<usize>) -> Range<usize> {
        let inside = self
            .pieces
            .iter()
            .rev()
            .find(|piece| piece.token == Token::Value && piece.range.start >= range.start && piece.range.end <= range.end);
        inside.map_or_else(|| range.clone(), |piece| piece.range.clone())
    }

    /// Puts a node at the end of another one's block.
    pub fn child(&mut self, parent: &Tree, node: &str) -> Result<()> {
        let outer = self.indent(parent.place.offset).to_owned();
        let own_lines = outer.is_empty() && self.begins_line(parent.whole.start);
        let (eol, inner) = (self.line_end, format!("{outer}{INDENT}"));
        let Some(block) = parent.block.clone() else {
            let end = end_of_entries(parent);
            let new = if own_lines { format!(" {{{eol}{inner}{node}{eol}{outer}}}") } else { format!(" {{ {node} }}") };
            self.change(end..end, new);
            return Ok(());
        };
        let brace = block.end.checked_sub(1).filter(|brace| self.text[*brace..].starts_with('}'));
        let brace = brace.ok_or_else(|| Error::new("this block has no end").at(Some(&parent.place)))?;
        let inside = &self.text[block.start + 1..brace];
        let end = self.end_before(brace).unwrap_or(block.start + 1);
        if !inside.contains(['\n', '\r']) {
            let new = match self.last_word_before(brace) {
                Some(Token::Open) if own_lines => format!("{eol}{inner}{node}{eol}{outer}"),
                Some(Token::Open) => format!(" {node} "),
                Some(Token::Semicolon) => format!(" {node}; "),
                _ => format!("; {node} "),
            };
            self.change(end..brace, new);
            return Ok(());
        }
        let sibling = parent.children.last().filter(|child| self.begins_line(child.whole.start));
        let inner = sibling.map_or(inner, |child| self.indent(child.whole.start).to_owned());
        // A line that goes on must end before the next node begins.
        let open = self.last_word_before(brace) == Some(Token::Continued);
        let gap = if open { eol } else { "" };
        if self.begins_line(brace) {
            let line = self.line_start(brace);
            self.change(line..line, format!("{gap}{inner}{node}{eol}"));
        } else {
            self.change(end..brace, format!("{gap}{eol}{inner}{node}{eol}{}", self.indent(block.start)));
        }
        Ok(())
    }

    /// Puts nodes at the end of the file, after an empty line.
    pub fn at_end(&mut self, nodes: &str) {
        let end = self.text.trim_end_matches(|c: char| c.is_whitespace()).len();
        let nodes = nodes.replace('\n', self.line_end);
        let gap = if end == 0 || end == '\u{feff}'.len_utf8() && self.text.starts_with('\u{feff}') {
            String::new()
        } else {
            self.line_end.repeat(2)
        };
        self.change(end..self.text.len(), format!("{gap}{nodes}"));
    }

    /// The end of the last piece before a place that is no white space.
    fn end_before(&self, at: usize) -> Option<usize> {
        let mut before = self.pieces.iter().rev().filter(|piece| piece.range.end <= at);
        before.find(|piece| !matches!(piece.token, Token::Space | Token::LineEnd)).map(|piece| piece.range.end)
    }

    /// The last piece before a place that is neither white space nor a comment.
    fn last_word_before(&self, at: usize) -> Option<Token> {
        let mut before = self.pieces.iter().rev().filter(|piece| piece.range.end <= at).map(|piece| piece.token);
        before.find(|token| !matches!(token, Token::Space | Token::LineEnd | Token::Comment | Token::LineComment))
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind(['\n', '\r']).map_or(0, |end| end + 1)
    }

    /// Whether there are only blanks before a place on its line.
    fn begins_line(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at].trim_start_matches('\u{feff}').chars().all(char::is_whitespace)
    }

    /// The indentation of the line of a place.
    fn indent(&self, at: usize) -> &'t str {
        let line = &self.text[self.line_start(at)..];
        &line[..line.find(|c: char| c != ' ' && c != '\t').unwrap_or(line.len())]
    }
}

fn end_of_name(tree: &Tree) -> usize {
    tree.place.offset + tree.place.length
}

/// Where the last argument or property of a node ends, or else its name.
fn end_of_entries(tree: &Tree) -> usize {
    let entries = tree.args.iter().chain(tree.props.iter().map(|(_, entry)| entry));
    entries.map(|entry| entry.place.offset + entry.place.length).fold(end_of_name(tree), usize::max)
}

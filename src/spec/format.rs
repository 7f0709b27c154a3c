//! The format of project files: which white space there is between the words of a text.
//!
//! Four spaces for each block; one space between words, and none around `=` or in `(type)`; at most one empty line, and
//! none at the beginning or end of a block. A block on one line stays on it while the line has at most 100 columns; in any
//! other block each node begins a line, so a `;` is only needed, and only kept, in blocks on one line. All else is as it
//! was written: comments and the blanks before those at the end of a line, which may be aligned; quotes, escapes, the lines
//! of strings, the line endings of the file and its byte order mark. What the words mean has no influence.

use crate::model::bounds;
use crate::model::kdl_text::{Limits, Piece, Token, pieces};

/// How far each block is indented.
const INDENT: usize = 4;
/// The longest line with a block on it.
const COLUMNS: usize = 100;
const MARK: &str = "\u{feff}";

/// The text in the format of project files; `None` if it has syntax errors, which `parse` tells.
pub fn format(text: &str) -> Option<String> {
    if text.len() > super::tree::LONGEST {
        return None;
    }
    let pieces = pieces(text, Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS }).ok()?;
    let mut writer = Writer::new(text, &pieces);
    for at in 0..pieces.len() {
        writer.piece(at);
    }
    Some(writer.finish())
}

/// Whether a block is on one line, or each of its nodes begins one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    OneLine,
    Lines,
}

/// What is put between two pieces.
enum Gap {
    Nothing,
    Spaces(usize),
    /// Line ends, and the indentation of the line after them, in blocks.
    Lines(usize, usize),
}

struct Writer<'t> {
    text: &'t str,
    pieces: &'t [Piece],
    line_end: &'static str,
    out: String,
    /// The length of the last line of `out`, in characters.
    column: usize,
    open: Vec<Block>,
    /// The last piece that was written.
    last: Option<Token>,
    /// Since that piece: how many blanks there were last, how many line ends, and whether a `;` was left out.
    blanks: usize,
    lines: usize,
    ended: bool,
    /// Since that piece: whether one of the line ends was escaped within a node.
    broken: bool,
    /// Whether the next line end is escaped.
    escape: bool,
    /// Whether a node has begun that may go on.
    in_node: bool,
    /// Whether what `/-` takes out is still to come: line ends mean nothing before it.
    taking_out: bool,
}

impl<'t> Writer<'t> {
    fn new(text: &'t str, pieces: &'t [Piece]) -> Self {
        let first_end = pieces.iter().find(|piece| piece.token == Token::LineEnd);
        let line_end = if first_end.is_some_and(|piece| &text[piece.range.clone()] == "\r\n") { "\r\n" } else { "\n" };
        Self {
            text,
            pieces,
            line_end,
            out: if text.starts_with(MARK) { MARK.to_owned() } else { String::new() },
            column: 0,
            open: Vec::new(),
            last: None,
            blanks: 0,
            lines: 0,
            ended: false,
            broken: false,
            escape: false,
            in_node: false,
            taking_out: false,
        }
    }

    fn finish(mut self) -> String {
        if self.last.is_some() {
            self.out.push_str(self.line_end);
        }
        self.out
    }

    /// The text of a piece, without blanks at the end of a line.
    fn text_of(&self, piece: &Piece) -> &'t str {
        let text = &self.text[piece.range.clone()];
        if piece.token == Token::LineComment { text.trim_end_matches(|c: char| c.is_whitespace()) } else { text }
    }

    fn piece(&mut self, at: usize) {
        let piece = &self.pieces[at];
        match piece.token {
            Token::Space => {
                let blanks = self.text_of(piece);
                self.blanks = if blanks.bytes().all(|byte| byte == b' ') { blanks.len() } else { 1 };
                return;
            }
            Token::LineEnd => return self.line_ends(),
            Token::Semicolon if self.open.last() != Some(&Block::OneLine) => {
                (self.in_node, self.ended) = (false, true);
                return;
            }
            Token::Close => drop(self.open.pop().map(|block| self.closes(block))),
            token => {
                let gap = self.gap(token, at);
                self.put(&gap);
            }
        }
        self.word(self.text_of(piece));
        match piece.token {
            Token::Open => {
                let one_line = self.open.last() == Some(&Block::OneLine) || self.fits(at);
                self.open.push(if one_line { Block::OneLine } else { Block::Lines });
                (self.in_node, self.taking_out) = (false, false);
            }
            Token::Close => self.in_node = true,
            Token::Semicolon => self.in_node = false,
            Token::Value | Token::TypeOpen => (self.in_node, self.taking_out) = (true, false),
            Token::TakeOut => (self.in_node, self.taking_out) = (true, true),
            Token::Continued => self.escape = true,
            _ => {}
        }
        self.last = Some(piece.token);
        (self.blanks, self.lines, self.ended, self.broken) = (0, 0, false, false);
    }

    fn line_ends(&mut self) {
        self.blanks = 1;
        self.lines += 1;
        if self.escape {
            self.escape = false;
            self.broken |= self.in_node;
        } else if !self.taking_out {
            self.in_node = false;
        }
    }

    /// Goes to where the brace at the end of a block stands.
    fn closes(&mut self, block: Block) {
        let gap = match (block, self.last) {
            (_, Some(Token::Open)) => Gap::Nothing,
            (Block::OneLine, _) => Gap::Spaces(1),
            (Block::Lines, _) => Gap::Lines(1, self.open.len()),
        };
        self.put(&gap);
    }

    /// What is put before a piece.
    fn gap(&self, token: Token, at: usize) -> Gap {
        let Some(last) = self.last else { return Gap::Nothing };
        if token == Token::LineComment && self.lines == 0 {
            return Gap::Spaces(self.blanks.max(1));
        }
        let depth = self.open.len();
        let tight = if is_spaced(last, token, self.blanks > 0) { Gap::Spaces(1) } else { Gap::Nothing };
        if self.open.last() == Some(&Block::OneLine) {
            return tight;
        }
        if self.in_node {
            let after_comment = last == Token::LineComment || token == Token::LineComment;
            return if self.broken || after_comment && self.lines > 0 { Gap::Lines(1, depth + 1) } else { tight };
        }
        let beside = self.lines == 0
            && match token {
                Token::Comment if self.ends_line(at) => true,
                _ => !self.ended && matches!(last, Token::Comment | Token::Continued),
            };
        if beside {
            return Gap::Spaces(1);
        }
        // After an escaped line end, the line after it is empty, and ends the node.
        let least = 1 + usize::from(self.broken);
        let empty = self.lines > least && last != Token::Open;
        Gap::Lines(least + usize::from(empty), depth)
    }

    /// Whether there are only comments from a piece to the end of its line.
    fn ends_line(&self, at: usize) -> bool {
        let mut rest = self.pieces[at..].iter().map(|piece| piece.token);
        let next = rest.find(|token| !matches!(token, Token::Space | Token::Comment));
        matches!(next, None | Some(Token::LineEnd | Token::LineComment))
    }

    /// Whether a block is on one line, and fits on the line that it begins on, to its closing brace.
    fn fits(&self, open: usize) -> bool {
        let (mut width, mut depth) = (self.column, 1usize);
        let (mut last, mut spaced) = (Token::Open, false);
        for piece in &self.pieces[open + 1..] {
            let text = self.text_of(piece);
            match piece.token {
                Token::Space => {
                    spaced = true;
                    continue;
                }
                Token::LineEnd | Token::LineComment => return false,
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                _ => {}
            }
            width += usize::from(is_spaced(last, piece.token, spaced)) + text.chars().count();
            if width > COLUMNS || text.contains(['\n', '\r']) {
                return false;
            }
            if depth == 0 {
                return true;
            }
            (last, spaced) = (piece.token, false);
        }
        false
    }

    fn put(&mut self, gap: &Gap) {
        match gap {
            Gap::Nothing => {}
            Gap::Spaces(count) => self.word(&" ".repeat(*count)),
            Gap::Lines(count, depth) => {
                self.out.push_str(&self.line_end.repeat(*count));
                self.column = 0;
                self.word(&" ".repeat(INDENT * depth));
            }
        }
    }

    fn word(&mut self, text: &str) {
        self.out.push_str(text);
        match text.rfind(['\n', '\r']) {
            Some(end) => self.column = text[end + 1..].chars().count(),
            None => self.column += text.chars().count(),
        }
    }
}

/// Whether there is a space between two pieces on a line; after `/-` it is as it was written.
fn is_spaced(last: Token, next: Token, was: bool) -> bool {
    let loose = |token| matches!(token, Token::Comment | Token::LineComment | Token::Continued);
    match (last, next) {
        (_, Token::Semicolon) | (Token::Open, Token::Close) => false,
        (Token::TakeOut, next) => was || loose(next),
        (Token::Equals | Token::TypeOpen | Token::TypeClose, next) => loose(next),
        (last, Token::Equals | Token::TypeClose) => loose(last),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_get_their_format() {
        for (text, want) in [
            ("", ""),
            (" \n\t\n", ""),
            ("a", "a\n"),
            ("\u{feff}\n\na  1\t2\n\n\n\nb", "\u{feff}a 1 2\n\nb\n"),
            ("( s ) a k = \"v\"   (t) x y = ( v ) 1", "(s)a k=\"v\" (t)x y=(v)1\n"),
            ("a{b;c 1;}", "a { b; c 1; }\n"),
            ("a{}\nb {\n\n}\nc { // why\n}", "a {}\nb {}\nc { // why\n}\n"),
            ("a {\nb;c ; d { e }; f\n\n}\n", "a {\n    b\n    c\n    d { e }\n    f\n}\n"),
            ("a {\n\n  b\n\n\n  c }", "a {\n    b\n\n    c\n}\n"),
            ("a; b   // x  \n// y\n  /* z */ c", "a\nb   // x\n// y\n/* z */ c\n"),
            ("a;\t// x\nb// y", "a // x\nb // y\n"),
            ("a {// x\n  b  // y\n// z\n}", "a { // x\n    b  // y\n    // z\n}\n"),
            ("a; /* x */\nb", "a /* x */\nb\n"),
            ("a \\\n  1 \\ // why\n 2\nb", "a \\\n    1 \\ // why\n    2\nb\n"),
            ("a \\\n\n  b", "a \\\n\nb\n"),
            ("a \\\n;b {c \\\n}", "a \\\n\nb {\n    c \\\n}\n"),
            ("/-  a\n/-b /-1 /- k=2 { c } /-{\nd }\n/- // x\n\n e", "/- a\n/-b /-1 /- k=2 { c } /-{\n    d\n}\n/- // x\n    e\n"),
            ("a \"\"\"\n   x  \n   \"\"\"   #\" y  \"#\nb", "a \"\"\"\n   x  \n   \"\"\" #\" y  \"#\nb\n"),
            ("a {\n  b /* x\n   y */ 1\n}", "a {\n    b /* x\n   y */ 1\n}\n"),
            ("a  1\r\nb {\r\nc\n}\n", "a 1\r\nb {\r\n    c\r\n}\r\n"),
            ("a\rb\u{85}c", "a\nb\nc\n"),
        ] {
            assert_eq!(format(text).as_deref(), Some(want), "{text:?}");
            assert_eq!(format(want).as_deref(), Some(want), "it stays as it is");
        }
        assert_eq!(format("a {"), None);
        assert_eq!(format(&" ".repeat(crate::spec::tree::LONGEST + 1)), None);
    }

    #[test]
    fn a_block_stays_on_its_line_up_to_a_hundred_columns() {
        let line = |length: usize| format!("a \"{}\" {{ b {{ c; }}; d; }}", "é".repeat(length - 21));
        assert_eq!(line(100).chars().count(), 100);
        assert_eq!(format(&line(100)), Some(format!("{}\n", line(100))));
        let longer = format(&line(101)).unwrap();
        assert!(longer.ends_with("\" {\n    b { c; }\n    d\n}\n"), "{longer}");
        assert_eq!(format(&longer), Some(longer));
        // Each of many blocks is measured, and none to its end if that is far.
        let deep = format!("a{}", " /-{ b }".repeat(1 << 14));
        assert!(format(&deep).is_some_and(|text| text.len() > deep.len()));
    }
}

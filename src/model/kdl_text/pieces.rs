//! The pieces that a text consists of, white space and comments included: what shows or rewrites a text works on them.

use super::token::{is_newline, is_space};
use super::{Limits, Scanner, Wrong};
use std::ops::Range;

/// What a piece is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// Blanks within a line.
    Space,
    /// The end of a line; CR LF is one.
    LineEnd,
    /// A comment up to the end of its line.
    LineComment,
    /// A comment between `/*` and `*/`.
    Comment,
    /// A backslash: the node continues on the next line.
    Continued,
    /// `/-`
    TakeOut,
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `=`
    Equals,
    /// `(`
    TypeOpen,
    /// `)`
    TypeClose,
    /// A name, a string, a number or a keyword.
    Value,
}

/// A piece of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    pub token: Token,
    /// The range of bytes.
    pub range: Range<usize>,
}

/// Takes a text apart; the pieces cover all of it but a byte order mark at its beginning.
///
/// # Errors
/// Returns the errors in the text, at least one and at most sixteen.
pub fn pieces(text: &str, limits: Limits) -> Result<Vec<Piece>, Vec<Wrong>> {
    let mut checker = Scanner::new(text, limits);
    checker.document();
    if !checker.wrong.is_empty() {
        return Err(checker.wrong);
    }
    let mut scanner = Scanner::new(text, limits);
    scanner.at = if scanner.starts("\u{feff}") { '\u{feff}'.len_utf8() } else { 0 };
    let mut found = Vec::new();
    while let Some(first) = scanner.peek() {
        let from = scanner.at;
        let token = scanner.piece(first).map_err(|wrong| vec![wrong])?;
        found.push(Piece { token, range: from..scanner.at });
    }
    Ok(found)
}

impl Scanner<'_> {
    /// Reads the piece that begins with this character.
    fn piece(&mut self, first: char) -> Result<Token, Wrong> {
        let single = match first {
            ';' => Some(Token::Semicolon),
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            '=' => Some(Token::Equals),
            '(' => Some(Token::TypeOpen),
            ')' => Some(Token::TypeClose),
            '\\' => Some(Token::Continued),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return Ok(token);
        }
        if is_space(first) {
            self.at += self.rest().find(|c| !is_space(c)).unwrap_or(self.rest().len());
            return Ok(Token::Space);
        }
        if is_newline(first) {
            self.at += if self.starts("\r\n") { 2 } else { first.len_utf8() };
            return Ok(Token::LineEnd);
        }
        if self.starts("//") {
            self.line_comment();
            return Ok(Token::LineComment);
        }
        if self.starts("/*") {
            self.comment()?;
            return Ok(Token::Comment);
        }
        if self.starts("/-") {
            self.at += 2;
            return Ok(Token::TakeOut);
        }
        self.value()?;
        Ok(Token::Value)
    }
}

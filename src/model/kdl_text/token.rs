//! The values of KDL text: names, strings of all kinds, numbers, keywords. They are checked, not decoded.

use super::{Kind, Scanner, Step, Wrong};

/// Whether a character is whitespace (KDL 2.0.0, section "Whitespace").
pub fn is_space(c: char) -> bool {
    matches!(c, '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Whether a character ends a line (KDL 2.0.0, section "Newline"); CR LF counts as two line ends here.
pub fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is forbidden (KDL 2.0.0, section "Disallowed Literal Code Points").
fn is_disallowed(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn is_word(c: char) -> bool {
    !matches!(c, '\\' | '/' | '(' | ')' | '{' | '}' | '[' | ']' | ';' | '"' | '#' | '=')
        && !is_space(c)
        && !is_newline(c)
        && !is_disallowed(c)
}

/// Words that are not names unless they are quoted.
const RESERVED: [&str; 6] = ["true", "false", "null", "inf", "-inf", "nan"];

impl Scanner<'_> {
    /// Reads a value. Returns whether it is text.
    pub(super) fn value(&mut self) -> Step<bool> {
        let from = self.at;
        if let Some(wrong) = self.foreign_quotes() {
            return Err(wrong);
        }
        let bare = self.peek().is_some_and(is_word);
        let text = match self.peek() {
            Some('"') => self.quoted().map(|()| true)?,
            Some('#') if self.rest().trim_start_matches('#').starts_with('"') => self.raw().map(|()| true)?,
            Some('#') => self.keyword().map(|()| false)?,
            Some(c) if is_word(c) => self.word()?,
            Some(c) => return Err(self.unexpected(c)),
            None => return Err(Wrong::new(from, 0, "something is missing here")),
        };
        match self.peek() {
            // An address would lose what is behind its scheme to a comment.
            Some('/') if bare && self.is_address(from) => Err(self.unquoted(from).kind(Kind::Value)),
            None | Some('=' | ')' | '{' | '}' | ';' | '\\') => Ok(text),
            Some(c) if is_space(c) || is_newline(c) || self.starts("//") || self.starts("/*") => Ok(text),
            // The raw strings of KDL 1.
            Some('#') if bare && &self.text[from..self.at] == "r" && self.rest().trim_start_matches('#').starts_with('"') => {
                self.raw()?;
                let wrong = Wrong::new(from, self.at - from, "raw strings are written without `r` in KDL 2").kind(Kind::Value);
                Err(wrong.help("write `#\"…\"#`"))
            }
            Some(c) if bare && c != '"' && !is_disallowed(c) => Err(self.unquoted(from).kind(Kind::Value)),
            Some(c) => {
                let wrong = Wrong::new(self.at, c.len_utf8(), "a space is missing here");
                let wrong = if c == ',' { wrong.kind(Kind::Value) } else { wrong };
                Err(wrong.help("separate values with spaces, and put text with other characters in quotes"))
            }
        }
    }

    /// Whether the word from this place on is a scheme, with an address behind it.
    fn is_address(&self, from: usize) -> bool {
        let behind = self.rest().strip_prefix("//").and_then(|behind| behind.chars().next());
        self.text[from..self.at].ends_with(':') && behind.is_some_and(|c| !is_space(c) && !is_newline(c))
    }

    fn unexpected(&self, c: char) -> Wrong {
        if is_disallowed(c) {
            return Wrong::new(self.at, c.len_utf8(), format!("the character U+{:04X} is not allowed", u32::from(c)));
        }
        match c {
            '=' => self.equals(),
            '[' => self.list(),
            '/' => self.unquoted(self.at),
            _ => {
                let wrong = Wrong::new(self.at, c.len_utf8(), format!("`{c}` is not allowed here"));
                wrong.help("put text with such characters in quotes")
            }
        }
    }

    /// Reads a name or a number. Returns whether it is a name.
    fn word(&mut self) -> Step<bool> {
        let from = self.at;
        let length = self.rest().find(|c| !is_word(c)).unwrap_or(self.rest().len());
        let word = &self.text[from..from + length];
        self.at += length;
        if RESERVED.contains(&word) {
            let wrong = Wrong::new(from, length, format!("`{word}` needs a `#` in KDL 2")).kind(Kind::Value);
            return Err(wrong.help(format!("write `#{word}`")));
        }
        let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
        let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(true);
        }
        if is_number(unsigned) {
            return Ok(false);
        }
        Err(self.no_number(from).kind(Kind::Value))
    }

    fn keyword(&mut self) -> Step {
        let length = self.rest()[1..].find(|c| !is_word(c)).map_or(self.rest().len(), |length| length + 1);
        let word = &self.rest()[1..length];
        if !RESERVED.contains(&word) {
            return Err(self.no_keyword(word));
        }
        self.at += length;
        Ok(())
    }

    fn quoted(&mut self) -> Step {
        if self.starts("\"\"\"") {
            return self.lines("\"\"\"", true).map_err(|wrong| wrong.kind(Kind::Open));
        }
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some('"') => break,
                Some('\\') => self.escape()?,
                Some(c) if is_disallowed(c) => return Err(self.unexpected(c)),
                Some(c) if !is_newline(c) => self.at += c.len_utf8(),
                _ => {
                    let wrong = Wrong::new(from, self.at - from, "unexpected newline in single-line quoted string");
                    let help = "you can make a string multi-line by wrapping it in '\"\"\"', with a newline immediately after the opening quotes";
                    return Err(wrong.help(help).kind(Kind::Open));
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Step {
        let from = self.at;
        self.at += 1;
        match self.peek() {
            Some('\\' | '"' | 'b' | 'f' | 'n' | 'r' | 't' | 's') => self.at += 1,
            Some(c) if is_space(c) || is_newline(c) => {
                self.at += self.rest().find(|c| !is_space(c) && !is_newline(c)).unwrap_or(self.rest().len());
            }
            Some('u') => {
                let digits = self.rest().strip_prefix("u{").and_then(|rest| {
                    // At most six digits: the rest of the text must not be searched for each escape.
                    let end = rest.bytes().take(7).position(|byte| byte == b'}')?;
                    rest.get(..end)
                });
                let legal = |digits: &&str| (1..=6).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_hexdigit());
                let digits = digits
                    .filter(legal)
                    .filter(|digits| u32::from_str_radix(digits, 16).is_ok_and(|number| char::from_u32(number).is_some()));
                let Some(digits) = digits else {
                    let wrong = Wrong::new(from, 2, "this is not a character").help("write its number: `\\u{e9}`");
                    return Err(wrong.kind(Kind::Escape));
                };
                self.at += digits.len() + 3;
            }
            other => {
                let length = 1 + other.map_or(0, char::len_utf8);
                let wrong = Wrong::new(from, length, "there is no such escape").help("a backslash itself is written `\\\\`");
                return Err(wrong.kind(Kind::Escape));
            }
        }
        Ok(())
    }

    fn raw(&mut self) -> Step {
        let from = self.at;
        let hashes = self.rest().len() - self.rest().trim_start_matches('#').len();
        let hashes = &self.text[from..from + hashes];
        self.at += hashes.len();
        if self.starts("\"\"\"") {
            return self.lines(&format!("\"\"\"{hashes}"), false).map_err(|wrong| wrong.kind(Kind::Open));
        }
        self.at += 1;
        let end = format!("\"{hashes}");
        while !self.starts(&end) {
            match self.peek() {
                Some(c) if is_disallowed(c) => return Err(self.unexpected(c)),
                Some(c) if !is_newline(c) => self.at += c.len_utf8(),
                _ => {
                    let wrong = Wrong::new(from, self.at - from, "this raw string has no end");
                    return Err(wrong.help(format!("end it with `{end}`")).kind(Kind::Open));
                }
            }
        }
        self.at += end.len();
        Ok(())
    }

    /// Reads a string of several lines, from its opening quotes. The closing quotes are on a line of their own, and all
    /// lines that are not blank start with the same indentation as that one.
    fn lines(&mut self, end: &str, escapes: bool) -> Step {
        let from = self.at;
        self.at += 3;
        if self.starts("\r\n") {
            self.at += 1;
        }
        let Some(newline) = self.peek().filter(|c| is_newline(*c)) else {
            return Err(Wrong::new(from, 3, "multi-line string opening quotes must be immediately followed by a newline"));
        };
        self.at += newline.len_utf8();
        let mut begins = Vec::new();
        loop {
            let start = self.at;
            self.at += self.rest().find(|c| !is_space(c)).unwrap_or(self.rest().len());
            if self.starts(end) {
                let indent = &self.text[start..self.at];
                if let Some(wrong) = begins.into_iter().find(|begin| !self.text[*begin..].starts_with(indent)) {
                    let wrong = Wrong::new(wrong, 0, "this line is not indented like the one with the closing quotes");
                    return Err(wrong.help("indent all lines of the string alike"));
                }
                self.at += end.len();
                return Ok(());
            }
            if self.peek().is_some_and(|c| !is_newline(c)) {
                begins.push(start);
            }
            loop {
                match self.peek() {
                    None => return Err(Wrong::new(from, 3, "this string has no end").help(format!("end it with `{end}`"))),
                    Some('\\') if escapes => self.escape()?,
                    Some(c) if is_disallowed(c) => return Err(self.unexpected(c)),
                    Some('"') if self.starts(end) => {
                        let wrong = Wrong::new(
                            self.at,
                            end.len(),
                            "the quotes that end a multi-line string must be on a line of their own",
                        );
                        return Err(wrong.help("escape them if they are part of it"));
                    }
                    Some(c) if is_newline(c) => {
                        self.at += if self.starts("\r\n") { 2 } else { c.len_utf8() };
                        break;
                    }
                    Some(c) => self.at += c.len_utf8(),
                }
            }
        }
    }
}

/// Whether text without a sign is a number of at most the length that the `kdl` crate can read.
fn is_number(text: &str) -> bool {
    let whole = |text: &str, radix: u32, most: usize| {
        let digits = text.chars().filter(|c| *c != '_').count();
        text.starts_with(|c: char| c.is_digit(radix)) && text.chars().all(|c| c.is_digit(radix) || c == '_') && digits <= most
    };
    for (prefixes, radix, most) in [(["0x", "0X"], 16, 31), (["0o", "0O"], 8, 42), (["0b", "0B"], 2, 126)] {
        if let Some(digits) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            return whole(digits, radix, most);
        }
    }
    let (number, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(number, exponent)| (number, Some(exponent)));
    let (number, fraction) = number.split_once('.').map_or((number, None), |(number, fraction)| (number, Some(fraction)));
    let decimal = |text: &str| whole(text, 10, 38);
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    decimal(number) && fraction.is_none_or(decimal) && exponent.is_none_or(decimal)
}

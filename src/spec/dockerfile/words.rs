//! The words of an instruction: quotes, escapes, and `$` substitution as in a shell
//! (Dockerfile reference, "Environment replacement").

use crate::model::{Amount, bounds};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Looks up the values of variables.
pub trait Lookup {
    fn get(&self, name: &str) -> Option<&str>;

    /// Counts the cost of a replacement.
    ///
    /// # Errors
    /// Fails when the total cost is too high.
    fn spend(&self, _: usize) -> Result<(), String> {
        Ok(())
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name).map(String::as_str)
    }
}

/// The cost of all replacements in a project's Dockerfiles so far: an inserted byte counts as sixteen steps of matching.
#[derive(Debug, Default)]
pub struct Effort(Cell<usize>);

const BYTE: usize = 16;

impl Effort {
    /// Adds to the cost.
    ///
    /// # Errors
    /// Fails when the total cost is too high.
    pub fn spend(&self, steps: usize) -> Result<(), String> {
        self.0.set(self.0.get().saturating_add(steps));
        if self.0.get() > bounds::SUBSTITUTED * BYTE {
            let most = Amount::Bytes(bounds::SUBSTITUTED as u64);
            return Err(format!("variables put more than {most} into the Dockerfiles, or take too long to be replaced"));
        }
        Ok(())
    }
}

/// Replaces variables in text, and removes quotes and escapes.
///
/// # Errors
/// Fails for a `${` without its end, an unknown operator, or an unset variable that `?` requires.
pub fn expand(text: &str, values: &dyn Lookup, escape: char) -> Result<String, String> {
    let found =
        Reader { text: text.chars().collect(), at: 0, values, escape, keep: false, depth: 0, length: 0 }.all(None)?.concat();
    if found.len() > LONGEST { Err("a value is longer than 1 MiB".into()) } else { Ok(found) }
}

/// Like [`expand`], but splits the text into words at white space, also that of values outside quotes.
///
/// # Errors
/// Fails as [`expand`] does.
pub fn expand_words(text: &str, values: &dyn Lookup, escape: char) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for raw in super::syntax::plain_words(text) {
        found.extend(
            Reader { text: raw.chars().collect(), at: 0, values, escape, keep: false, depth: 0, length: 0 }.all(Some(()))?,
        );
    }
    Ok(found)
}

/// Like [`expand`], but quotes stay: they mean nothing in here-documents. These have an escape character of their own.
///
/// # Errors
/// Fails as [`expand`] does.
pub fn expand_document(text: &str, values: &dyn Lookup) -> Result<String, String> {
    let reader = Reader { text: text.chars().collect(), at: 0, values, escape: '\\', keep: true, depth: 0, length: 0 };
    Ok({ reader }.all(None)?.concat())
}

/// How deep `${a:-${b:-…}}` may be nested, and how long a value may be: a Dockerfile may be hostile.
const DEPTH: usize = 64;
const LONGEST: usize = 1 << 20;

struct Reader<'a> {
    text: Vec<char>,
    at: usize,
    values: &'a dyn Lookup,
    escape: char,
    /// Whether quotes are ordinary characters.
    keep: bool,
    depth: usize,
    /// How many bytes were inserted.
    length: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek();
        self.at += 1;
        found
    }

    /// The text as one word or, with `split`, as several if a value contains white space.
    fn all(&mut self, split: Option<()>) -> Result<Vec<String>, String> {
        let mut words: Vec<String> = Vec::new();
        let mut word = String::new();
        let mut begun = false;
        while let Some(c) = self.next() {
            match c {
                '\'' if !self.keep => {
                    begun = true;
                    loop {
                        match self.next() {
                            None => return Err("a single quote is not closed".into()),
                            Some('\'') => break,
                            Some(c) => word.push(c),
                        }
                    }
                }
                '"' if !self.keep => {
                    begun = true;
                    loop {
                        match self.next() {
                            None => return Err("a double quote is not closed".into()),
                            Some('"') => break,
                            Some('$') => word.push_str(&self.dollar()?),
                            Some(c) if c == self.escape => match self.next() {
                                Some(c) if c == '"' || c == '$' || c == self.escape => word.push(c),
                                Some(other) => word.extend([c, other]),
                                None => word.push(c),
                            },
                            Some(c) => word.push(c),
                        }
                    }
                }
                '$' => {
                    let value = self.dollar()?;
                    let mut parts = value.split(char::is_whitespace);
                    match split {
                        Some(()) => {
                            word.push_str(parts.next().unwrap_or_default());
                            for part in parts {
                                if !word.is_empty() || begun {
                                    words.push(std::mem::take(&mut word));
                                }
                                begun = false;
                                word.push_str(part);
                            }
                        }
                        None => word.push_str(&value),
                    }
                }
                c if c == self.escape => match self.next() {
                    Some(next) => word.push(next),
                    None if self.keep => word.push(c),
                    None => {}
                },
                c => word.push(c),
            }
        }
        if !word.is_empty() || begun || (split.is_none() && words.is_empty()) {
            words.push(word);
        }
        Ok(words)
    }

    /// Replaces what follows a dollar sign.
    fn dollar(&mut self) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("substitutions are nested too deeply".into());
        }
        let found = self.substitution()?;
        self.depth -= 1;
        self.values.spend(found.len() * BYTE)?;
        self.length += found.len();
        if self.length > LONGEST { Err("a value is longer than 1 MiB".into()) } else { Ok(found) }
    }

    fn substitution(&mut self) -> Result<String, String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { self.values.get(&name).unwrap_or_default().to_owned() });
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            return Err("${ needs a name".into());
        }
        let value = self.values.get(&name).map(str::to_owned);
        let given = value.as_ref().is_some_and(|value| !value.is_empty());
        let unclosed = || format!("${{{name} is not closed with }}");
        match self.next().ok_or_else(unclosed)? {
            '}' => Ok(value.unwrap_or_default()),
            ':' => {
                let operator = self.next().ok_or_else(unclosed)?;
                let word = self.inner()?;
                choose(operator, &name, value, given, word)
            }
            operator @ ('-' | '+' | '?') => {
                let word = self.inner()?;
                let given = value.is_some();
                choose(operator, &name, value, given, word)
            }
            operator @ ('#' | '%') => {
                let longest = self.peek() == Some(operator);
                if longest {
                    self.at += 1;
                }
                let (pattern, _) = self.pattern(&['}'])?;
                self.values.spend(value.as_ref().map_or(0, String::len) * pattern.len())?;
                Ok(trim(&value.unwrap_or_default(), &pattern, operator == '#', longest))
            }
            '/' => {
                let every = self.peek() == Some('/');
                if every {
                    self.at += 1;
                }
                let (pattern, end) = self.pattern(&['/', '}'])?;
                if end == '}' {
                    return Err(format!("${{{name}/…}} needs a replacement: ${{{name}/PATTERN/TEXT}}"));
                }
                let by = self.inner()?;
                let length = value.as_ref().map_or(0, String::len);
                self.values.spend(length.saturating_mul(length).saturating_mul(pattern.len()) / 2)?;
                Ok(replace(&value.unwrap_or_default(), &pattern, &by, every))
            }
            other => Err(format!("${{{name}{other}…}} is not a valid substitution")),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        // The special parameters of a shell have no value here.
        if let Some(c) = self.peek().filter(|c| "@*#?-!$".contains(*c)) {
            self.at += 1;
            return c.to_string();
        }
        // Digits alone are a name, like the positional parameters of a shell.
        let digits = self.peek().is_some_and(|c| c.is_ascii_digit());
        while let Some(c) = self.peek().filter(|c| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || *c == '_' }) {
            name.push(c);
            self.at += 1;
        }
        name
    }

    /// Reads a pattern up to one of the given characters, which is returned too; escapes are kept.
    fn pattern(&mut self, ends: &[char]) -> Result<(Vec<char>, char), String> {
        let mut found = Vec::new();
        loop {
            match self.next() {
                None => return Err("a substitution is not closed with }".into()),
                Some(c) if ends.contains(&c) => return Ok((found, c)),
                Some('$') => found.extend(self.dollar()?.chars()),
                Some(c) if c == self.escape => {
                    let escaped = self.next().ok_or("a substitution is not closed with }")?;
                    if escaped.is_alphanumeric() {
                        return Err(format!("{}{escaped} means nothing in a pattern", self.escape));
                    }
                    // Only these are special in a pattern.
                    if matches!(escaped, '*' | '?' | '\\') {
                        found.push('\\');
                    }
                    found.push(escaped);
                }
                Some(quote @ ('"' | '\'')) => {
                    while let Some(c) = self.next().filter(|c| *c != quote) {
                        if c == '$' && quote == '"' { found.extend(self.dollar()?.chars()) } else { found.push(c) }
                    }
                }
                Some(c) => found.push(c),
            }
        }
    }

    /// Reads the word up to the closing brace, with its own variables replaced.
    fn inner(&mut self) -> Result<String, String> {
        let mut found = String::new();
        loop {
            match self.next() {
                None => return Err("a substitution is not closed with }".into()),
                Some('}') => return Ok(found),
                Some('$') => found.push_str(&self.dollar()?),
                Some(c) if c == self.escape => found.extend(self.next()),
                Some(quote @ ('"' | '\'')) => {
                    while let Some(c) = self.next().filter(|c| *c != quote) {
                        if c == '$' && quote == '"' { found.push_str(&self.dollar()?) } else { found.push(c) }
                    }
                }
                Some(c) => found.push(c),
            }
        }
    }
}

/// The parts of a text between commas; a part in double quotes may have commas (RFC 4180).
pub fn separated(text: &str) -> Vec<String> {
    let (mut found, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => part.extend(letters.next()),
            '"' if quoted || part.is_empty() => quoted = !quoted,
            ',' if !quoted => found.push(std::mem::take(&mut part)),
            letter => part.push(letter),
        }
    }
    found.push(part);
    found
}

fn choose(operator: char, name: &str, value: Option<String>, given: bool, word: String) -> Result<String, String> {
    match operator {
        '-' => Ok(if given { value.unwrap_or_default() } else { word }),
        '+' => Ok(if given { word } else { String::new() }),
        '?' if given => Ok(value.unwrap_or_default()),
        '?' => Err(format!("{name}: {}", if word.is_empty() { "it has no value" } else { &word })),
        other => Err(format!("${{{name}:{other}…}} is not a valid substitution")),
    }
}

/// Removes the shortest or longest match of a pattern from the front or the end.
fn trim(value: &str, pattern: &[char], front: bool, longest: bool) -> String {
    let mut chars: Vec<char> = value.chars().collect();
    let mut parts = parts(pattern);
    if !front {
        chars.reverse();
        parts.reverse();
    }
    let covered = covered(&parts, &chars);
    let length = if longest { covered.iter().rposition(|fits| *fits) } else { covered.iter().position(|fits| *fits) };
    let mut rest = chars.split_off(length.unwrap_or(0));
    if !front {
        rest.reverse();
    }
    rest.into_iter().collect()
}

fn replace(value: &str, pattern: &[char], by: &str, every: bool) -> String {
    let chars: Vec<char> = value.chars().collect();
    let parts = parts(pattern);
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        // Replace the longest match at this position.
        match covered(&parts, &chars[at..]).iter().rposition(|fits| *fits).filter(|length| *length > 0) {
            Some(length) => {
                out.push_str(by);
                at += length;
                if !every {
                    break;
                }
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out.extend(&chars[at..]);
    out
}

/// The parts of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    One(char),
    Any,
    All,
}

fn parts(pattern: &[char]) -> Vec<Part> {
    let mut found = Vec::new();
    let mut chars = pattern.iter();
    while let Some(c) = chars.next() {
        found.push(match c {
            '\\' => Part::One(*chars.next().unwrap_or(c)),
            '*' => Part::All,
            '?' => Part::Any,
            c => Part::One(*c),
        });
    }
    found
}

/// For each length, whether the pattern matches exactly that much of the text's beginning.
fn covered(parts: &[Part], text: &[char]) -> Vec<bool> {
    let mut covered = vec![false; text.len() + 1];
    covered[0] = true;
    for part in parts {
        if *part == Part::All {
            for length in 1..=text.len() {
                covered[length] |= covered[length - 1];
            }
        } else {
            for length in (0..=text.len()).rev() {
                covered[length] =
                    length > 0 && covered[length - 1] && (*part == Part::Any || *part == Part::One(text[length - 1]));
            }
        }
    }
    covered
}

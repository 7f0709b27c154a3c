//! The text of a Dockerfile → its instructions, each with its place: directives, continued lines,
//! comments, flags, here-documents (Dockerfile reference, "Format"; BuildKit's stable syntax).

use crate::model::Location;
use crate::spec::diagnose::{Diagnostic, Sink};

/// One instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// The name in capitals.
    pub name: String,
    pub place: Location,
    /// Its `--name=value` flags, in order; some have no value.
    pub flags: Vec<(String, Option<String>)>,
    /// The rest of the instruction, with continued lines joined.
    pub rest: String,
    pub documents: Vec<Document>,
}

/// A here-document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    pub name: String,
    pub content: String,
    /// Whether variables in it are replaced.
    pub expand: bool,
}

/// A whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Syntax {
    pub escape: char,
    pub instructions: Vec<Instruction>,
}

/// A line and its position.
struct Line<'a> {
    number: usize,
    offset: usize,
    text: &'a str,
    /// How it ends; the last line ends, too.
    end: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut offset = 0;
    text.split_inclusive('\n')
        .enumerate()
        .map(|(index, raw)| {
            let text = raw.trim_end_matches('\n').trim_end_matches('\r');
            let end = Some(&raw[text.len()..]).filter(|end| end.ends_with('\n')).unwrap_or("\n");
            let line = Line { number: index + 1, offset, text, end };
            offset += raw.len();
            line
        })
        .collect()
}

/// Parses a file; errors go to the sink.
pub fn parse(file: &str, text: &str, sink: &mut Sink) -> Syntax {
    let all = lines(text);
    let mut at = 0;
    let mut escape = '\\';
    let mut said: Vec<String> = Vec::new();
    // Directives come before everything else (reference, "Parser directives").
    while let Some((name, value)) = all.get(at).and_then(|line| directive(line.text.trim_start_matches('\u{feff}'))) {
        if said.contains(&name) {
            let message = format!("there may be only one directive {name}");
            sink.push(Diagnostic::error("dockerfile", place(file, &all[at], all[at].text), message).help("keep one of the two"));
        }
        said.push(name.clone());
        if name == "escape" {
            match value {
                "\\" | "`" => escape = value.chars().next().unwrap_or('\\'),
                _ => sink.push(
                    Diagnostic::error("dockerfile", place(file, &all[at], all[at].text), "the escape character is \\ or `")
                        .help("write `# escape=\\`"),
                ),
            }
        }
        at += 1;
    }
    let mut instructions = Vec::new();
    while at < all.len() {
        let first = &all[at];
        let begin = first.text.trim_start_matches('\u{feff}').trim_start();
        at += 1;
        if begin.is_empty() || begin.starts_with('#') {
            continue;
        }
        let mut joined = String::new();
        let mut piece = begin;
        loop {
            match continued(piece, escape) {
                Some(part) => joined.push_str(part),
                None => {
                    joined.push_str(piece);
                    break;
                }
            }
            // Comments and empty lines between continued lines are not part of the instruction.
            while all.get(at).is_some_and(|line| line.text.trim().is_empty() || line.text.trim_start().starts_with('#')) {
                at += 1;
            }
            match all.get(at) {
                Some(next) => piece = next.text,
                None => break,
            }
            at += 1;
        }
        let place = place(file, first, begin);
        if let Some(mut found) = instruction(joined.trim(), &place, escape, sink) {
            documents(&mut found, &all, &mut at, escape, sink);
            instructions.push(found);
        }
    }
    Syntax { escape, instructions }
}

fn place(file: &str, line: &Line<'_>, shown: &str) -> Location {
    let offset = line.offset + line.text.len() - line.text.trim_start_matches('\u{feff}').trim_start().len();
    Location { file: file.to_owned(), line: line.number, offset, length: shown.trim().len() }
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    // A directive without a value is an ordinary comment, which ends the directives.
    let known = ["syntax", "escape", "check"].contains(&name.as_str()) && !value.trim().is_empty();
    known.then_some((name, value.trim()))
}

/// The line without its continuation mark, if it has one.
fn continued(line: &str, escape: char) -> Option<&str> {
    let part = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!part.ends_with(escape)).then_some(part)
}

const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses one joined line.
pub fn instruction(line: &str, place: &Location, escape: char, sink: &mut Sink) -> Option<Instruction> {
    let (word, rest) = line.split_once(blank).unwrap_or((line, ""));
    let name = word.to_ascii_uppercase();
    if !KNOWN.contains(&name.as_str()) {
        let near = crate::model::nearest(&name.to_lowercase(), KNOWN.map(str::to_lowercase).iter().map(String::as_str))
            .map(|near| format!("write {}", near.to_uppercase()));
        let message = format!("there is no instruction {word}");
        sink.push(Diagnostic::error("dockerfile", place.clone(), message).maybe_help(near));
        return None;
    }
    let mut rest = rest.trim_start();
    let mut flags = Vec::new();
    // The flags of an instruction behind ONBUILD stay in its text.
    while rest.starts_with("--") {
        let (word, after) = raw_word(rest, escape);
        if word == "--" {
            rest = after.trim_start();
            break;
        }
        let (flag, value) = word[2..].split_once('=').map_or((&word[2..], None), |(flag, value)| (flag, Some(value)));
        flags.push((flag.to_owned(), value.map(|value| unquote(value, escape, true))));
        rest = after.trim_start();
    }
    // A command may be nothing at all: then the shell runs nothing.
    if rest.is_empty() && !["RUN", "CMD", "ENTRYPOINT"].contains(&name.as_str()) {
        sink.push(Diagnostic::error("dockerfile", place.clone(), format!("{name} needs at least one argument")));
        return None;
    }
    Some(Instruction { name, place: place.clone(), flags, rest: rest.to_owned(), documents: Vec::new() })
}

/// What separates an instruction, its flags and most words; a no-break space does not.
fn blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// The words between white space; quotes and escapes keep nothing together.
pub fn plain_words(text: &str) -> Vec<&str> {
    text.split(blank).filter(|word| !word.is_empty()).collect()
}

/// Text without its quotes, wherever they are, and with escapes resolved.
///
/// In the flags of an instruction, an escape character is always removed; elsewhere it stays in double quotes, unless what it
/// is before has a meaning there.
fn unquote(text: &str, escape: char, of_flag: bool) -> String {
    let mut found = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            match chars.next() {
                Some(next) if of_flag || quote.is_none() || next == '"' || next == escape || next == '$' => found.push(next),
                Some(next) => found.extend([c, next]),
                None => found.push(c),
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        } else {
            found.push(c);
        }
    }
    found
}

/// The first word as it is written, including quotes, and what follows it.
fn raw_word(text: &str, escape: char) -> (&str, &str) {
    word_before(text, escape, blank)
}

/// The text before the first character that separates words, unless it is quoted or escaped, and the rest.
fn word_before(text: &str, escape: char, separates: impl Fn(char) -> bool) -> (&str, &str) {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == escape && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        } else if quote.is_none() && separates(c) {
            return text.split_at(at);
        }
    }
    (text, "")
}

/// All words as they are written, with white space of any kind between them.
pub fn raw_words(mut text: &str, escape: char) -> Vec<&str> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return found;
        }
        let (word, rest) = word_before(text, escape, char::is_whitespace);
        found.push(word);
        text = rest;
    }
}

/// Reads the here-documents that an instruction names from the lines after it.
fn documents(found: &mut Instruction, all: &[Line<'_>], at: &mut usize, escape: char, sink: &mut Sink) {
    let held = found.name == "ONBUILD" && ["RUN", "COPY", "ADD"].iter().any(|name| found.rest.to_uppercase().starts_with(name));
    if !held && !["RUN", "COPY", "ADD"].contains(&found.name.as_str()) {
        return;
    }
    for Heredoc { strip, expand, name } in heredocs(&raw_words(&found.rest, escape), escape) {
        let mut content = String::new();
        loop {
            let Some(line) = all.get(*at) else {
                let message = format!("the here-document {name} has no end");
                sink.push(
                    Diagnostic::error("dockerfile", found.place.clone(), message).help(format!("end it with a line {name}")),
                );
                return;
            };
            *at += 1;
            let text = if strip { line.text.trim_start_matches('\t') } else { line.text };
            if text == name {
                break;
            }
            content.push_str(text);
            content.push_str(line.end);
        }
        found.documents.push(Document { name, content, expand });
    }
}

/// A here-document that a word announces.
struct Heredoc {
    /// Whether leading tabs of its lines are removed.
    strip: bool,
    /// Whether variables in it are replaced.
    expand: bool,
    name: String,
}

/// The here-documents that words announce; a space may separate a name from its `<<`, but not from `<<-`.
fn heredocs(words: &[&str], escape: char) -> Vec<Heredoc> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match mark(word) {
            Some((false, "")) => found.extend(words.next().and_then(|name| named(false, name, escape))),
            Some((strip, name)) => found.extend(named(strip, name, escape)),
            None => {}
        }
    }
    found
}

/// The `<<` at a word's beginning, and what follows it.
fn mark(word: &str) -> Option<(bool, &str)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    Some(rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest)))
}

fn named(strip: bool, raw: &str, escape: char) -> Option<Heredoc> {
    let name = unquote(raw, escape, false);
    // The name becomes a file name.
    let legal = !name.contains(['/', '\0', '<', '\n']) && !name.trim_matches('.').is_empty();
    legal.then(|| Heredoc { strip, expand: !raw.contains(['"', '\'']), name })
}

/// Whether a text is the name of one here-document and nothing else.
pub fn is_one_heredoc(text: &str, escape: char) -> bool {
    match raw_words(text, escape).as_slice() {
        [word] => is_heredoc(word),
        ["<<", name] => named(false, name, escape).is_some(),
        _ => false,
    }
}

/// Whether a word names a here-document.
pub fn is_heredoc(word: &str) -> bool {
    mark(word).is_some_and(|(strip, name)| named(strip, name, '\\').is_some())
}

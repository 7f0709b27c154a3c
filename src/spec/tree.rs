//! KDL text → a tree of nodes that remember where they stand.
//!
//! Owns reading the syntax, with hints for what people bring from KDL 1 and from JSON. What the
//! nodes mean is the grammar's business.

use super::diagnose::{Diagnostic, Sink};
use crate::model::Place;
use kdl::{KdlDocument, KdlNode, KdlValue};

/// Nesting that no project needs; the `kdl` crate's recursion would abort the process not far above.
const DEEPEST: usize = 32;
/// The longest file that is read, in bytes.
pub const LONGEST: usize = 1 << 20;

/// A node: name, arguments, properties, children, and the places of each.
#[derive(Clone, Debug)]
pub struct Tree {
    pub name: String,
    pub place: Place,
    pub args: Vec<Entry>,
    pub props: Vec<(String, Entry)>,
    pub children: Vec<Tree>,
}

/// An argument, or the value of a property.
#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    pub place: Place,
}

/// A value of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i128),
    Number(f64),
    Bool(bool),
    Null,
}

impl Value {
    /// The value as the language writes it, for messages.
    pub fn written(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Bool(truth) => format!("#{truth}"),
            Self::Null => "#null".into(),
        }
    }
}

/// A file's text with the starts of its lines.
pub struct Text<'a> {
    pub file: &'a str,
    pub text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Text<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    pub fn place(&self, offset: usize, length: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        Place { file: self.file.to_owned(), line, offset, length: length.min(self.text.len() - offset) }
    }
}

/// Reads a file's nodes; nothing comes back when its syntax is broken, and the sink says why.
pub fn parse(file: &str, text: &str, sink: &mut Sink) -> Vec<Tree> {
    let source = Text::new(file, text);
    if text.len() > LONGEST {
        sink.push(
            Diagnostic::error(
                "file-too-long",
                source.place(0, 0),
                format!("this file has {} bytes; the longest allowed is 1 MiB", text.len()),
            )
            .help("move parts of it into files of their own and `include` them"),
        );
        return Vec::new();
    }
    if let Some(offset) = too_deep(text) {
        sink.push(
            Diagnostic::error("too-deep", source.place(offset, 1), format!("nested deeper than {DEEPEST} levels"))
                .help("no node of the language nests this deep; look for a missing `}`"),
        );
        return Vec::new();
    }
    match KdlDocument::parse_v2(text) {
        Ok(document) => document.nodes().iter().map(|node| convert(node, &source)).collect(),
        Err(_) if text.trim_start().starts_with('{') => {
            let at = text.find('{').unwrap_or(0);
            let diagnostic = Diagnostic::error("syntax", source.place(at, 1), "this looks like JSON; a project file is KDL");
            sink.push(diagnostic.help("begin it with: project \"NAME\""));
            Vec::new()
        }
        Err(_) if let Some((offset, word)) = joined(text) => {
            let message = "a node begins here, and the one before it has not ended";
            let diagnostic = Diagnostic::error("no-end", source.place(offset, word.len()), message);
            sink.push(diagnostic.help(format!("write `}}; {word}`, or begin a new line")));
            Vec::new()
        }
        Err(error) => {
            let before = sink.all().len();
            for found in &error.diagnostics {
                let place = source.place(found.span.offset(), found.span.len());
                sink.push(explain(&source, place, found.message.as_deref(), found.help.as_deref()));
            }
            if sink.all().len() == before {
                sink.push(Diagnostic::error("syntax", source.place(0, 0), "this is not KDL"));
            }
            Vec::new()
        }
    }
}

/// One syntax error, with a better word for the mistakes that are habits from elsewhere.
fn explain(source: &Text, place: Place, message: Option<&str>, help: Option<&str>) -> Diagnostic {
    if let Some((offset, word)) = bare_word(source.text, &place) {
        let place = source.place(offset, word.len());
        return Diagnostic::error("bare-keyword", place, format!("`{word}` needs a `#` in KDL 2"))
            .help(format!("write `#{word}`"));
    }
    let line_start = source.text[..place.offset].rfind('\n').map_or(0, |at| at + 1);
    let line = source.text[line_start..].lines().next().unwrap_or_default();
    if let Some(at) = line.find("r\"").or_else(|| line.find("r#\"")) {
        let place = source.place(line_start + at, 2);
        return Diagnostic::error("kdl-1", place, "raw strings are written without `r` in KDL 2").help("write `#\"…\"#`");
    }
    if line.trim_end().ends_with(',') || line.contains("\",") {
        let at = line.find(',').unwrap_or(0);
        return Diagnostic::error("comma", source.place(line_start + at, 1), "values are separated by spaces, not commas")
            .help("leave the comma out");
    }
    let message = message.map_or_else(|| "this is not KDL".to_owned(), lower_first);
    let diagnostic = Diagnostic::error("syntax", place, message);
    match help {
        Some(help) => diagnostic.help(lower_first(help)),
        None => diagnostic,
    }
}

/// A bare `true`, `false` or `null` used as a value on the line of the error.
fn bare_word(text: &str, place: &Place) -> Option<(usize, &'static str)> {
    let start = text[..place.offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[place.offset..].find('\n').map_or(text.len(), |at| place.offset + at);
    let end = end.max((place.offset + place.length).min(text.len()));
    let region = text.get(start..end)?;
    ["true", "false", "null"].into_iter().find_map(|word| {
        region.match_indices(word).find_map(|(at, _)| {
            let before = region[..at].chars().next_back();
            let after = region[at + word.len()..].chars().next();
            let opens = matches!(before, Some(' ' | '=' | '\t'));
            let closes = after.is_none_or(|c| matches!(c, ' ' | ';' | '\n' | '\r' | '}' | '\t'));
            (opens && closes).then_some((start + at, word))
        })
    })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect()).trim_end_matches('.').to_owned()
}

/// The first byte at which braces or block comments nest too deep.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    look(text, |at, comments| {
        match text.as_bytes()[at] {
            b'{' if comments == 0 => depth += 1,
            b'}' if comments == 0 => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth > DEEPEST || comments > DEEPEST).then_some(at)
    })
}

/// The first node that begins behind a brace on the same line, without anything between them, and its name.
fn joined(text: &str) -> Option<(usize, &str)> {
    look(text, |at, comments| {
        let rest = text.get(at..)?.strip_prefix('}').filter(|_| comments == 0)?;
        let next = rest.trim_start_matches([' ', '\t']);
        let end = next.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(next.len());
        let begins = next.starts_with(|c: char| c.is_ascii_alphabetic());
        begins.then(|| (text.len() - next.len(), &next[..end]))
    })
}

/// Shows bytes that are in no string and in no comment of a line, with how many other comments they are in.
fn look<T>(text: &str, mut see: impl FnMut(usize, usize) -> Option<T>) -> Option<T> {
    let bytes = text.as_bytes();
    let (mut comments, mut i) = (0usize, 0);
    while i < bytes.len() {
        let rest = &bytes[i..];
        if rest.starts_with(b"/*") {
            comments += 1;
            i += 1;
        } else if rest.starts_with(b"*/") {
            comments = comments.saturating_sub(1);
            i += 1;
        } else if comments == 0 && rest.starts_with(b"//") {
            i += rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len());
            continue;
        } else if comments == 0 && matches!(rest[0], b'"' | b'#') {
            i += string_length(rest);
            continue;
        }
        let found = see(i, comments);
        if found.is_some() {
            return found;
        }
        i += 1;
    }
    None
}

/// The length of the string, raw or multi-line, that starts here; 1 if none does.
fn string_length(rest: &[u8]) -> usize {
    let hashes = rest.iter().take_while(|c| **c == b'#').count();
    let quotes = rest[hashes..].iter().take(3).take_while(|c| **c == b'"').count();
    if quotes == 0 {
        return hashes.max(1);
    }
    let quotes = if quotes == 3 { 3 } else { 1 };
    let mut i = hashes + quotes;
    while i < rest.len() {
        if hashes == 0 && rest[i] == b'\\' {
            i += 2;
            continue;
        }
        let closes = rest[i..].iter().take(quotes).filter(|c| **c == b'"').count() == quotes
            && rest.get(i + quotes..i + quotes + hashes).is_some_and(|end| end.iter().all(|c| *c == b'#'));
        if closes {
            return i + quotes + hashes;
        }
        i += 1;
    }
    1
}

fn convert(node: &KdlNode, source: &Text) -> Tree {
    let span = node.name().span();
    let mut tree = Tree {
        name: node.name().value().to_owned(),
        place: source.place(span.offset(), span.len()),
        args: Vec::new(),
        props: Vec::new(),
        children: Vec::new(),
    };
    for entry in node.entries() {
        let (offset, length) = trimmed(source.text, entry.span().offset(), entry.span().len());
        let place = source.place(offset, length);
        let value = match entry.value() {
            KdlValue::String(text) => Value::Text(text.clone()),
            KdlValue::Integer(number) => Value::Integer(*number),
            KdlValue::Float(number) => Value::Number(*number),
            KdlValue::Bool(truth) => Value::Bool(*truth),
            KdlValue::Null => Value::Null,
        };
        match entry.name() {
            Some(name) => tree.props.push((name.value().to_owned(), Entry { value, place })),
            None => tree.args.push(Entry { value, place }),
        }
    }
    if let Some(children) = node.children() {
        tree.children = children.nodes().iter().map(|child| convert(child, source)).collect();
    }
    tree
}

/// A span without the white space around it.
fn trimmed(text: &str, offset: usize, length: usize) -> (usize, usize) {
    let Some(part) = text.get(offset..offset + length) else { return (offset, length) };
    let start = part.len() - part.trim_start().len();
    (offset + start, part.trim().len())
}

//! KDL text → a tree of nodes that remember where they are.
//!
//! This file parses the syntax, with hints for habits from KDL 1 and from JSON. What the nodes mean is
//! left to the grammar. An error costs only the rest of its line: the nodes around it are still
//! returned, and the sink knows what is lost. Each node knows where it ends, so there is nothing but
//! space and comments between two of them.

use super::diagnose::{Diagnostic, Sink};
use crate::model::kdl_text::{self, Kind, Known, Limits, Wrong};
use crate::model::{Location, bounds};
use kdl::{KdlNode, KdlValue};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// The longest file that is read, in bytes.
pub(super) const LONGEST: usize = bounds::PROJECT_FILE as usize;

/// A node: its name, arguments, properties and children, and the place of each.
#[derive(Clone, Debug)]
pub struct Tree {
    pub name: String,
    /// The place of its name.
    pub place: Location,
    /// The range of bytes from its name, or its type, to the end of its block or of its last value.
    pub whole: Range<usize>,
    /// The range of bytes of its block, with the braces.
    pub block: Option<Range<usize>>,
    pub args: Vec<Entry>,
    pub props: Vec<(String, Entry)>,
    pub children: Vec<Tree>,
}

impl Tree {
    /// Whether it is in the file; otherwise it is a default of the grammar.
    pub fn is_given(&self) -> bool {
        !self.whole.is_empty()
    }

    /// Reports that something is missing, unless it may be in a part that could not be read.
    pub fn lacks(&self, missing: Diagnostic, sink: &mut Sink) {
        if !sink.is_partial_in(&self.place.file, &self.whole) {
            sink.push(missing);
        }
    }

    /// Its first argument, if that is a text.
    pub fn first_text(&self) -> Option<&str> {
        match self.args.first().map(|entry| &entry.value) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Where its first argument is, else its name.
    pub fn first_place(&self) -> Location {
        self.args.first().map_or(&self.place, |entry| &entry.place).clone()
    }

    /// How many nodes and values it consists of.
    pub fn parts(&self) -> usize {
        1 + self.args.len() + self.props.len() + self.children.iter().map(Self::parts).sum::<usize>()
    }
}

/// An argument, or the value of a property.
#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    /// Where it is; the place of a property includes its name.
    pub place: Location,
    /// The length of the property's name in bytes.
    pub name: usize,
    /// A number as it is written in the file: as texts, `1.10` and `007` differ from 1.1 and 7.
    pub written: Option<Box<str>>,
}

impl Entry {
    /// Where the name of a property is.
    pub fn name_place(&self) -> Location {
        Location { length: self.name, ..self.place.clone() }
    }

    /// The value as text.
    pub fn text(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null => String::new(),
            number => self.written.as_deref().map_or_else(|| number.written(), str::to_owned),
        }
    }
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
            Self::Text(text) => crate::model::kdl_text::quoted(text),
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

    pub fn place(&self, offset: usize, length: usize) -> Location {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        Location { file: self.file.to_owned(), line, offset, length: length.min(self.text.len() - offset) }
    }
}

/// What was parsed of each file before, for a caller that reads the same files again and again.
#[derive(Debug, Default)]
pub struct Memory(RefCell<BTreeMap<String, Known>>);

impl Memory {
    /// As [`parse`], but what did not change since the last time is not parsed again.
    pub fn parse(&self, file: &str, text: &str, sink: &mut Sink) -> Vec<Tree> {
        parse_again(file, text, sink, self.0.borrow_mut().entry(file.to_owned()).or_default())
    }
}

/// Parses a file's nodes, as far as its syntax is right; the sink gets the errors and the lost ranges.
pub fn parse(file: &str, text: &str, sink: &mut Sink) -> Vec<Tree> {
    parse_again(file, text, sink, &mut Known::default())
}

fn parse_again(file: &str, text: &str, sink: &mut Sink, known: &mut Known) -> Vec<Tree> {
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
        sink.lose(file, std::iter::once(0..text.len()));
        return Vec::new();
    }
    let limits = Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS };
    let read = kdl_text::recover(text, limits, known);
    if !read.wrong.is_empty() && text.trim_start().starts_with('{') {
        let at = text.find('{').unwrap_or(0);
        let diagnostic = Diagnostic::error("syntax", source.place(at, 1), "this looks like JSON; a project file is KDL");
        sink.push(diagnostic.help("begin it with: project \"NAME\""));
        sink.lose(file, std::iter::once(0..text.len()));
        return Vec::new();
    }
    let lines: Vec<usize> = read.wrong.iter().map(|wrong| source.place(wrong.offset, 0).line).collect();
    for (wrong, line) in read.wrong.into_iter().zip(&lines) {
        let alone = lines.iter().filter(|other| *other == line).count() == 1;
        let explain: Explain = if alone { explain } else { plainly };
        sink.push(told(&source, wrong, explain));
    }
    sink.lose(file, read.lost);
    let nodes = read.parts.iter().flat_map(|(from, part)| part.nodes().iter().map(move |node| (from, node)));
    nodes.map(|(part, node)| convert(node, part, &source, &read.plain)).collect()
}

/// How a syntax error is told.
type Explain = fn(&Text, Location, &str, Option<&str>) -> Diagnostic;

fn told(source: &Text, wrong: Wrong, explain: Explain) -> Diagnostic {
    let Wrong { kind, offset, length, message, help } = wrong;
    let place = source.place(offset, length);
    match kind {
        Kind::Syntax | Kind::Value | Kind::Escape | Kind::Open => explain(source, place, &message, help.as_deref()),
        Kind::Joined => {
            let word = source.text[offset..].get(..length).unwrap_or_default();
            Diagnostic::error("no-end", place, message).help(format!("write `}}; {word}`, or begin a new line"))
        }
        Kind::TooDeep => {
            Diagnostic::error("too-deep", place, message).help("no node of the language nests this deep; look for a missing `}`")
        }
        Kind::TooMany => Diagnostic::error("too-many-nodes", place, message)
            .help("move parts of it into files of their own and `include` them"),
    }
}

/// One of several syntax errors on a line: each is told where it is.
fn plainly(source: &Text, place: Location, message: &str, help: Option<&str>) -> Diagnostic {
    let written = source.text.get(place.offset..place.offset + place.length).unwrap_or_default();
    if written == "," {
        return comma(place);
    }
    let code = if ["true", "false", "null"].contains(&written) { "bare-keyword" } else { "syntax" };
    let diagnostic = Diagnostic::error(code, place, lower_first(message));
    match help {
        Some(help) => diagnostic.help(lower_first(help)),
        None => diagnostic,
    }
}

fn comma(place: Location) -> Diagnostic {
    Diagnostic::error("comma", place, "values are separated by spaces, not commas").help("leave the comma out")
}

/// One syntax error, with a better explanation for mistakes that are habits from other languages.
fn explain(source: &Text, place: Location, message: &str, help: Option<&str>) -> Diagnostic {
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
    let list = source.text[place.offset..].starts_with('[');
    if !list && (line.trim_end().ends_with(',') || line.contains("\",")) {
        let at = line.find(',').unwrap_or(0);
        return comma(source.place(line_start + at, 1));
    }
    let diagnostic = Diagnostic::error("syntax", place, lower_first(message));
    match help {
        Some(help) => diagnostic.help(lower_first(help)),
        None => diagnostic,
    }
}

/// A bare `true`, `false` or `null` used as a value on the line of the error.
fn bare_word(text: &str, place: &Location) -> Option<(usize, &'static str)> {
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

/// Converts a node that the crate parsed from a part of the plain text, which has blanks in place of comments.
fn convert(node: &KdlNode, part: &Range<usize>, source: &Text, plain: &str) -> Tree {
    // The braces that recovery appended to the part are not in the file.
    let (from, plain) = (part.start, plain.get(..part.end).unwrap_or(plain));
    let range = |span: miette::SourceSpan| {
        let (offset, length) = trimmed(plain, from + span.offset(), span.len());
        offset..offset + length
    };
    let name = node.name().span();
    let mut tree = Tree {
        name: node.name().value().to_owned(),
        place: source.place(from + name.offset(), name.len()),
        whole: range(node.span()),
        block: node.children().map(|children| block(plain, from + children.span().offset(), children.span().len())),
        args: Vec::new(),
        props: Vec::new(),
        children: Vec::new(),
    };
    for entry in node.entries() {
        let entry_range = range(entry.span());
        let place = source.place(entry_range.start, entry_range.len());
        let value = match entry.value() {
            KdlValue::String(text) => Value::Text(text.clone()),
            KdlValue::Integer(number) => Value::Integer(*number),
            KdlValue::Float(number) => Value::Number(*number),
            KdlValue::Bool(truth) => Value::Bool(*truth),
            KdlValue::Null => Value::Null,
        };
        let number = matches!(value, Value::Integer(_) | Value::Number(_));
        let written = entry.format().filter(|_| number).map(|format| format.value_repr.trim().into());
        let name = entry.name().map_or(0, |name| name.span().len());
        let decoded = Entry { value, place, name, written };
        match entry.name() {
            Some(name) => tree.props.push((name.value().to_owned(), decoded)),
            None => tree.args.push(decoded),
        }
    }
    if let Some(children) = node.children() {
        tree.children = children.nodes().iter().map(|child| convert(child, part, source, plain)).collect();
    }
    tree
}

/// The range of a block with its braces, from the range of its content; a block without an end extends to the end of
/// the text.
fn block(plain: &str, offset: usize, length: usize) -> Range<usize> {
    let inside = plain.get(..offset).unwrap_or(plain);
    let end = (offset + length).min(plain.len());
    let brace = plain.get(end..).and_then(|rest| rest.find('}')).map_or(plain.len(), |at| end + at + 1);
    inside.rfind('{').unwrap_or(inside.len())..brace
}

/// A span without the white space around it.
fn trimmed(text: &str, offset: usize, length: usize) -> (usize, usize) {
    let length = length.min(text.len().saturating_sub(offset));
    let Some(part) = text.get(offset..offset + length) else { return (offset, length) };
    let start = part.len() - part.trim_start().len();
    (offset + start, part.trim().len())
}

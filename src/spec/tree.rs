//! KDL text → a tree of nodes that remember where they stand.
//!
//! Owns reading the syntax, with hints for what people bring from KDL 1 and from JSON. What the
//! nodes mean is the grammar's business.

use super::diagnose::{Diagnostic, Sink};
use crate::model::kdl_text::{self, Kind, Limits, Wrong};
use crate::model::{Place, bounds};
use kdl::{KdlNode, KdlValue};

/// The longest file that is read, in bytes.
const LONGEST: usize = bounds::PROJECT_FILE as usize;

/// A node: name, arguments, properties, children, and the places of each.
#[derive(Clone, Debug)]
pub struct Tree {
    pub name: String,
    pub place: Place,
    pub args: Vec<Entry>,
    pub props: Vec<(String, Entry)>,
    pub children: Vec<Tree>,
}

impl Tree {
    /// How many nodes and values it is made of.
    pub fn parts(&self) -> usize {
        1 + self.args.len() + self.props.len() + self.children.iter().map(Self::parts).sum::<usize>()
    }
}

/// An argument, or the value of a property.
#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    pub place: Place,
    /// A number as the file writes it: `1.10` and `007` are other texts than 1.1 and 7.
    pub written: Option<Box<str>>,
}

impl Entry {
    /// The value where a text is meant.
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
    match kdl_text::read(text, Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS }) {
        Ok(read) => read.document.nodes().iter().map(|node| convert(node, &source, &read.plain)).collect(),
        Err(_) if text.trim_start().starts_with('{') => {
            let at = text.find('{').unwrap_or(0);
            let diagnostic = Diagnostic::error("syntax", source.place(at, 1), "this looks like JSON; a project file is KDL");
            sink.push(diagnostic.help("begin it with: project \"NAME\""));
            Vec::new()
        }
        Err(wrong) => {
            for wrong in wrong {
                sink.push(told(&source, wrong));
            }
            Vec::new()
        }
    }
}

fn told(source: &Text, wrong: Wrong) -> Diagnostic {
    let Wrong { kind, offset, length, message, help } = wrong;
    let place = source.place(offset, length);
    match kind {
        Kind::Syntax => explain(source, place, &message, help.as_deref()),
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

/// One syntax error, with a better word for the mistakes that are habits from elsewhere.
fn explain(source: &Text, place: Place, message: &str, help: Option<&str>) -> Diagnostic {
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
    let diagnostic = Diagnostic::error("syntax", place, lower_first(message));
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

/// A node as the crate read it from the plain text, which has blanks where the source has comments.
fn convert(node: &KdlNode, source: &Text, plain: &str) -> Tree {
    let span = node.name().span();
    let mut tree = Tree {
        name: node.name().value().to_owned(),
        place: source.place(span.offset(), span.len()),
        args: Vec::new(),
        props: Vec::new(),
        children: Vec::new(),
    };
    for entry in node.entries() {
        let (offset, length) = trimmed(plain, entry.span().offset(), entry.span().len());
        let place = source.place(offset, length);
        let value = match entry.value() {
            KdlValue::String(text) => Value::Text(text.clone()),
            KdlValue::Integer(number) => Value::Integer(*number),
            KdlValue::Float(number) => Value::Number(*number),
            KdlValue::Bool(truth) => Value::Bool(*truth),
            KdlValue::Null => Value::Null,
        };
        let number = matches!(value, Value::Integer(_) | Value::Number(_));
        let written = entry.format().filter(|_| number).map(|format| format.value_repr.trim().into());
        match entry.name() {
            Some(name) => tree.props.push((name.value().to_owned(), Entry { value, place, written })),
            None => tree.args.push(Entry { value, place, written }),
        }
    }
    if let Some(children) = node.children() {
        tree.children = children.nodes().iter().map(|child| convert(child, source, plain)).collect();
    }
    tree
}

/// A span without the white space around it.
fn trimmed(text: &str, offset: usize, length: usize) -> (usize, usize) {
    let Some(part) = text.get(offset..offset + length) else { return (offset, length) };
    let start = part.len() - part.trim_start().len();
    (offset + start, part.trim().len())
}

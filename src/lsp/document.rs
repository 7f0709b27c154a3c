//! One text, analysed: its lines, its parts, which rows of the grammar they belong to, and the names in it.

use super::names::{Kind, Mention, Place, Role, parameter_places, used_at};
use super::positions::{Encoding, Lines, Position};
use super::scan::{Entry, Scan, decoded, inner};
use crate::spec::table::{Node as Row, TOP, row};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A text that was analysed; it never changes.
#[derive(Clone, Debug)]
pub struct Document {
    pub text: Arc<str>,
    pub lines: Lines,
    pub scan: Scan,
    /// The names in it, in the order of the text.
    pub mentions: Vec<Mention>,
    rows: Vec<Option<&'static Row>>,
}

/// The longest text that is analysed; the language allows half of it.
const LONGEST: usize = 2 << 20;

impl Document {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let scan = if text.len() > LONGEST { Scan::default() } else { Scan::new(&text) };
        let mut rows: Vec<Option<&'static Row>> = Vec::with_capacity(scan.nodes.len());
        for node in &scan.nodes {
            let siblings = match node.parent {
                Some(parent) => rows[parent].map_or(&[][..], |row| row.children),
                None => TOP,
            };
            rows.push(row(siblings, &decoded(&text, &node.name)));
        }
        let mut document = Self { lines: Lines::new(&text), text, scan, mentions: Vec::new(), rows };
        document.mentions = mentions(&document);
        document
    }

    /// The row of a node, if the language has such a node there.
    pub fn row(&self, node: usize) -> Option<&'static Row> {
        self.rows.get(node).copied().flatten()
    }

    /// The rows of what may be written in a node, or outside of all nodes.
    pub fn rows_in(&self, parent: Option<usize>) -> &'static [Row] {
        match parent {
            Some(parent) => self.row(parent).map_or(&[], |row| row.children),
            None => TOP,
        }
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> Cow<'_, str> {
        decoded(&self.text, &self.scan.nodes[node].name)
    }

    /// The name of the node that a node is in.
    pub fn parent_name(&self, node: usize) -> Option<Cow<'_, str>> {
        self.scan.nodes[node].parent.map(|parent| self.name(parent))
    }

    /// The text of a value.
    pub fn value(&self, range: &Range<usize>) -> Cow<'_, str> {
        decoded(&self.text, range)
    }

    /// The text of a node's first argument.
    pub fn first(&self, node: usize) -> Option<Cow<'_, str>> {
        self.scan.arguments(node).next().map(|(_, entry)| self.value(&entry.value))
    }

    /// The text of a property.
    pub fn property(&self, node: usize, name: &str) -> Option<Cow<'_, str>> {
        self.scan.property(&self.text, node, name).map(|(_, entry)| self.value(&entry.value))
    }

    /// The mention that an offset is in or touches.
    pub fn mention_at(&self, offset: usize) -> Option<&Mention> {
        let after = self.mentions.partition_point(|mention| mention.place.start <= offset);
        self.mentions[..after].iter().rev().take(8).find(|mention| offset <= mention.place.end)
    }

    /// The offset of a position.
    pub fn offset(&self, position: Position, encoding: Encoding) -> usize {
        self.lines.offset(&self.text, position, encoding)
    }

    /// The white space at the beginning of the line of an offset.
    pub fn indent(&self, offset: usize) -> &str {
        let line = self.lines.content(&self.text, self.lines.line_of(offset));
        let content = &self.text[line];
        &content[..content.len() - content.trim_start_matches([' ', '\t']).len()]
    }
}

/// The names in a text.
fn mentions(document: &Document) -> Vec<Mention> {
    let mut found = Vec::new();
    for (number, node) in document.scan.nodes.iter().enumerate().filter(|(_, node)| node.off.is_none()) {
        let name = document.name(number);
        let parent = document.parent_name(number);
        let outermost = node.parent.is_none();
        let in_profile =
            node.parent.is_some_and(|parent| document.scan.nodes[parent].parent.is_none() && document.name(parent) == "profile");
        let declares = Kind::declared_by(&name).filter(|_| outermost || in_profile);
        let mut index = 0;
        for (_, entry) in document.scan.entries(number) {
            let kind_and_role = match (&entry.name, declares) {
                (None, Some(kind)) if index == 0 => Some((kind, if outermost { Role::Declared } else { Role::Changed })),
                (None, _) => used_at(parent.as_deref(), &name, Place::Argument(index)).map(|kind| (kind, Role::Used)),
                (Some(property), _) => {
                    let property = document.value(property);
                    used_at(parent.as_deref(), &name, Place::Property(&property)).map(|kind| (kind, Role::Used))
                }
            };
            index += usize::from(entry.name.is_none());
            if let Some((kind, role)) = kind_and_role.filter(|_| !entry.value.is_empty()) {
                let place = inner(&document.text, &entry.value);
                found.push(Mention { kind, name: document.value(&entry.value).into_owned(), place, node: number, role });
            }
            parameters(document, number, entry, &mut found);
        }
    }
    found.sort_by_key(|mention| (mention.place.start, std::cmp::Reverse(mention.place.end)));
    found
}

/// The `${name}` in a value.
fn parameters(document: &Document, node: usize, entry: &Entry, found: &mut Vec<Mention>) {
    found.extend(parameter_places(&document.text, &entry.value).map(|place| Mention {
        kind: Kind::Param,
        name: document.text[place.clone()].to_owned(),
        place,
        node,
        role: Role::Used,
    }));
}

/// Applies one change of an editor to a text: a new text, or one for a range.
pub fn change(text: &mut String, range: Option<(Position, Position)>, new: &str, encoding: Encoding) {
    let Some((from, to)) = range else {
        new.clone_into(text);
        return;
    };
    let lines = Lines::new(text);
    let (from, to) = (lines.offset(text, from, encoding), lines.offset(text, to, encoding));
    text.replace_range(from.min(to)..from.max(to), new);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn changes_are_applied_where_the_editor_says() {
        let mut text = String::from("a \"🦀\"\r\nb\n");
        change(&mut text, Some((at(0, 5), at(0, 5))), "é", Encoding::Utf16);
        assert_eq!(text, "a \"🦀é\"\r\nb\n");
        change(&mut text, Some((at(0, 6), at(1, 1))), "\nc", Encoding::Utf16);
        assert_eq!(text, "a \"🦀é\nc\n");
        // Reversed and beyond the end: nothing is lost, and nothing panics.
        change(&mut text, Some((at(99, 0), at(1, 0))), "d", Encoding::Utf16);
        assert_eq!(text, "a \"🦀é\nd");
        change(&mut text, None, "", Encoding::Utf8);
        assert_eq!(text, "");
    }

    #[test]
    fn random_edits_give_the_text_of_a_model() {
        // The model is a list of UTF-16 units, as an editor keeps it.
        let pieces =
            ["container \"web\" {\n", "}", "é", "🦀", "\r\n", "\t", "\"", "image \"a\"", "", "/*", "\n\n", "#true ", "\u{feff}"];
        let mut seed = 7_u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below.max(1)
        };
        let mut text = String::new();
        let mut model: Vec<u16> = Vec::new();
        for round in 0..600 {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let inside = |at: &usize| !(text[..*at].ends_with('\r') && text[*at..].starts_with('\n'));
            let choices: Vec<usize> = boundaries.into_iter().filter(inside).collect();
            let (one, other) = (choices[next(choices.len())], choices[next(choices.len())]);
            let (from, to) = (one.min(other), one.max(other).min(one.min(other) + 40));
            let to =
                if inside(&crate::lsp::positions::floor(&text, to)) { crate::lsp::positions::floor(&text, to) } else { from };
            let new = pieces[next(pieces.len())];
            let encoding = if round % 2 == 0 { Encoding::Utf16 } else { Encoding::Utf8 };
            let lines = Lines::new(&text);
            let range = (lines.position(&text, from, encoding), lines.position(&text, to, encoding));
            let unit = |offset: usize| text[..offset].encode_utf16().count();
            model.splice(unit(from)..unit(to), new.encode_utf16());
            change(&mut text, Some(range), new, encoding);
            assert_eq!(text, String::from_utf16(&model).unwrap(), "round {round}");
            let document = Document::new(text.as_str());
            for offset in [from, text.len() / 2, text.len()] {
                document.scan.slot(offset);
                document.mention_at(offset);
            }
            // A position that no editor should send changes something, but never panics.
            let mut hostile = text.clone();
            let wild =
                |next: &mut dyn FnMut(usize) -> usize| at(u32::try_from(next(50)).unwrap(), u32::try_from(next(90)).unwrap());
            let (start, end) = (wild(&mut next), wild(&mut next));
            change(&mut hostile, Some((start, end)), new, encoding);
        }
    }

    #[test]
    fn names_are_found_where_they_are_declared_and_used() {
        let document = Document::new(
            "param \"tag\"\nimage \"app\" { from \"base:${tag}\"; copy \"x$${no}\" from=\"tool\" to=\"/\"; run \"y\" { mount secret=\"s\" to=\"/\" } }\n\
             container \"web\" { image \"app\"; network \"a\" b; mount volume=\"v\" to=\"/\"; depends-on \"job\" }\n\
             profile \"ci\" { container \"web\" { image \"app\" } }\n/-volume \"gone\"\n",
        );
        let shown: Vec<String> = document
            .mentions
            .iter()
            .map(|one| format!("{} {:?} {} {}", one.kind.word(), one.role, one.name, &document.text[one.place.clone()]))
            .collect();
        let want = [
            "param Declared tag tag",
            "image Declared app app",
            "image Used base:${tag} base:${tag}",
            "param Used tag tag",
            "image Used tool tool",
            "secret Used s s",
            "container Declared web web",
            "image Used app app",
            "network Used a a",
            "network Used b b",
            "volume Used v v",
            "container Used job job",
            "profile Declared ci ci",
            "container Changed web web",
            "image Used app app",
        ];
        assert_eq!(shown, want);
        let param = document.text.find("tag}").unwrap();
        assert_eq!(document.mention_at(param + 1).unwrap().kind, Kind::Param, "the innermost one");
    }
}

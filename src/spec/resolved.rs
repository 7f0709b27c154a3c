//! A project as it is when everything is put together, as text of the language: without includes, templates, profiles and
//! parameters. Defaults of the language are not written.

use super::convert::{key, text};
use super::tree::{Entry, Tree, Value};
use crate::project::{ParamSource, looks_secret};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Whether each line is followed by the place that it comes from, as a comment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origins {
    Shown,
    Hidden,
}

/// What stands in place of a value that is never shown.
const HIDDEN: &str = "\"…\"";

/// The text of nodes that are put together. Values of variables whose names are those of secrets are not in it.
pub fn written<'a>(
    nodes: &[Tree],
    sources: impl Iterator<Item = (&'a String, &'a ParamSource)>,
    profiles: &[String],
    origins: Origins,
) -> String {
    let mut out = String::new();
    if !profiles.is_empty() {
        let _ = writeln!(out, "// profiles: {}", profiles.join(", "));
    }
    for (name, source) in sources {
        let _ = writeln!(out, "// the parameter {name} has its value from {source}");
    }
    for tree in nodes.iter().filter(|tree| tree.name != "param") {
        node(tree, 0, origins, &mut out);
    }
    out
}

fn node(tree: &Tree, depth: usize, origins: Origins, out: &mut String) {
    let _ = write!(out, "{}{}", "    ".repeat(depth), tree.name);
    let mut places = BTreeSet::from([(tree.place.file.as_str(), tree.place.line)]);
    for entry in &tree.args {
        let _ = write!(out, " {}", value(entry));
        places.insert((&entry.place.file, entry.place.line));
    }
    // What a default of the language gives has no name in a file.
    for (name, entry) in tree.props.iter().filter(|(_, entry)| entry.name > 0) {
        let is_secret = tree.name == "env" && looks_secret(name);
        let value = if is_secret { HIDDEN.to_owned() } else { value(entry) };
        let _ = write!(out, " {}={value}", key(name));
        places.insert((&entry.place.file, entry.place.line));
    }
    let inner: Vec<&Tree> = tree.children.iter().filter(|child| child.is_given()).collect();
    if tree.block.is_some() || !inner.is_empty() {
        out.push_str(" {");
    }
    if origins == Origins::Shown {
        let places: Vec<String> =
            places.into_iter().map(|(file, line)| format!("{}:{line}", text(file).trim_matches('"'))).collect();
        let _ = write!(out, " // {}", places.join(", "));
    }
    out.push('\n');
    for child in &inner {
        node(child, depth + 1, origins, out);
    }
    if tree.block.is_some() || !inner.is_empty() {
        let _ = writeln!(out, "{}}}", "    ".repeat(depth));
    }
}

fn value(entry: &Entry) -> String {
    match &entry.value {
        Value::Text(plain) => text(plain),
        value => entry.written.as_deref().map_or_else(|| value.written(), str::to_owned),
    }
}

//! Puts a project together: includes, then profiles, then parameters.
//!
//! The result is one list of checked top-level nodes with every `${name}` replaced.

use super::Choices;
use super::diagnose::{Diagnostic, Sink};
use super::grammar::{self, Node, row};
use super::language::TOP;
use super::tree::{Entry, Tree, Value, parse};
use super::{Severity, Sources};
use crate::model::{Amount, Location, bounds, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::iter::once;

/// A project's nodes, ready to be decoded.
pub struct Assembled {
    pub nodes: Vec<Tree>,
    pub files: BTreeMap<String, String>,
    pub env: BTreeMap<String, Option<String>>,
    /// The values that the command line gives to parameters.
    pub given: BTreeMap<String, String>,
    /// Whether there are inactive profiles: images that only they use need no warning.
    pub unused_profiles: bool,
}

pub fn assemble(file: &str, choices: &Choices, sources: &dyn Sources, sink: &mut Sink) -> Assembled {
    let mut reading = Reading::new(sources, sink);
    let raw = reading.file(file, None);
    let files = reading.files;
    let nodes = grammar::check(raw, TOP, "a project", sink);
    let mut env = BTreeMap::new();
    let values = parameters(&nodes, choices, sources, &mut env, sink);
    let (profiles, mut nodes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.name == "profile");
    let mut unused_profiles = false;
    for wanted in &choices.profiles {
        if !sink.is_partial() && !profiles.iter().any(|profile| text_arg(profile) == Some(wanted)) {
            let near = nearest(wanted, profiles.iter().filter_map(text_arg));
            let start = Location { file: file.to_owned(), line: 1, offset: 0, length: 0 };
            sink.push(
                Diagnostic::error("unknown-profile", start, format!("there is no profile \"{wanted}\""))
                    .maybe_help(near.map(|near| format!("write `--profile {near}`"))),
            );
        }
    }
    for profile in profiles {
        let active = text_arg(&profile).is_some_and(|name| choices.profiles.iter().any(|wanted| wanted == name));
        if active {
            overlay(&mut nodes, profile.children, TOP);
        } else {
            unused_profiles = true;
        }
    }
    let mut parameters = Parameters { values, put_in: 0 };
    for node in &mut nodes {
        substitute(node, TOP, &mut parameters, sink);
        grammar::complete(node, TOP);
    }
    Assembled { nodes, files, env, given: choices.set.clone(), unused_profiles }
}

/// The texts of a project's file and of those that it includes.
pub fn texts(file: &str, sources: &dyn Sources, sink: &mut Sink) -> BTreeMap<String, String> {
    let mut reading = Reading::new(sources, sink);
    reading.file(file, None);
    reading.files
}

/// The state while the files of a project are read.
struct Reading<'a> {
    sources: &'a dyn Sources,
    sink: &'a mut Sink,
    files: BTreeMap<String, String>,
    /// The files being read, each included by the one before it, with their identities.
    trail: Vec<(String, String)>,
    /// The identities of all files that were read: each is read once.
    known: BTreeSet<String>,
    /// The bytes, and below the nodes and values, so far.
    length: usize,
    parts: usize,
    /// Whether a limit was exceeded, which has been reported.
    full: bool,
}

impl<'a> Reading<'a> {
    fn new(sources: &'a dyn Sources, sink: &'a mut Sink) -> Self {
        let (files, trail, known) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { sources, sink, files, trail, known, length: 0, parts: 0, full: false }
    }

    /// Reads a file and, in place of each `include`, the file that it names.
    fn file(&mut self, file: &str, from: Option<&Location>) -> Vec<Tree> {
        let start = from.cloned().unwrap_or(Location { file: file.to_owned(), line: 1, offset: 0, length: 0 });
        let identity = self.sources.identity(file);
        if self.trail.iter().any(|(_, open)| *open == identity) {
            let trail: Vec<&str> = self.trail.iter().map(|(file, _)| file.as_str()).collect();
            let message = format!("`{file}` includes itself: {} → {file}", trail.join(" → "));
            self.sink.push(Diagnostic::error("include-cycle", start, message));
            return Vec::new();
        }
        if self.full || self.known.contains(&identity) {
            return Vec::new();
        }
        if self.known.len() >= bounds::INCLUDES {
            self.too_much(start, format!("a project has at most {} files", bounds::INCLUDES));
            return Vec::new();
        }
        let text = match self.sources.read(file) {
            Ok(text) => text,
            Err(why) => {
                self.sink.push(Diagnostic::error("unreadable", start, format!("cannot read `{file}`: {why}")));
                self.sink.lose(file, once(0..0));
                return Vec::new();
            }
        };
        self.length += text.len();
        if self.length > bounds::PROJECT_TEXT {
            let most = Amount::Bytes(bounds::PROJECT_TEXT as u64);
            self.too_much(start, format!("the files of a project have at most {most} together"));
            return Vec::new();
        }
        let parsed = parse(file, &text, self.sink);
        self.parts += parsed.iter().map(Tree::parts).sum::<usize>();
        if self.parts > bounds::PROJECT_PARTS {
            let message = format!("the files of a project have at most {} nodes and values together", bounds::PROJECT_PARTS);
            self.too_much(start, message);
            return Vec::new();
        }
        self.known.insert(identity.clone());
        self.files.insert(file.to_owned(), text);
        self.trail.push((file.to_owned(), identity));
        let nodes = self.included(file, parsed);
        self.trail.pop();
        nodes
    }

    fn included(&mut self, file: &str, parsed: Vec<Tree>) -> Vec<Tree> {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut nodes = Vec::new();
        for tree in parsed {
            match (tree.name.as_str(), tree.args.first().map(|entry| (&entry.value, &entry.place))) {
                ("include", Some((Value::Text(path), place))) => {
                    let whole = folder.is_empty() || path.starts_with('/');
                    let path = if whole { path.clone() } else { format!("{folder}/{path}") };
                    // Paths grow with each nested include.
                    if path.len() > bounds::PATTERN {
                        let message = format!("a path has at most {} bytes, and this has {}", bounds::PATTERN, path.len());
                        self.sink.push(Diagnostic::error("wrong-value", place.clone(), message));
                        self.sink.lose(&path, once(0..0));
                        continue;
                    }
                    nodes.extend(self.file(&path, Some(place)));
                }
                _ => nodes.push(tree),
            }
        }
        nodes
    }

    fn too_much(&mut self, place: Location, message: String) {
        self.full = true;
        self.sink.lose(&place.file, once(0..0));
        self.sink.push(Diagnostic::error("too-many-includes", place, message).help("remove what the project does not need"));
    }
}

/// A path without `.` and `NAME/..`, judged by its text alone.
pub fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match parts.last() {
            Some(last) if part == ".." && *last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

fn text_arg(tree: &Tree) -> Option<&str> {
    match tree.args.first().map(|entry| &entry.value) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// The value of each parameter: `--set`, then its environment variable, then its default.
fn parameters(
    nodes: &[Tree],
    choices: &Choices,
    sources: &dyn Sources,
    asked: &mut BTreeMap<String, Option<String>>,
    sink: &mut Sink,
) -> BTreeMap<String, Option<String>> {
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut places: BTreeMap<&str, &Location> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.name == "param") {
        let Some(name) = text_arg(node) else { continue };
        if let Some(first) = places.insert(name, &node.place) {
            sink.push(
                Diagnostic::error("duplicate", node.place.clone(), format!("the parameter \"{name}\" is declared twice"))
                    .other(first.clone(), "first here"),
            );
        }
        let prop = |wanted: &str| node.props.iter().find(|(name, _)| name == wanted).map(|(_, entry)| entry.text());
        let from_env = prop("env").and_then(|variable| match sources.env(&variable).map(OsString::into_string).transpose() {
            Ok(value) => {
                asked.insert(variable, value.clone());
                value
            }
            // Falling back to the default would silently replace the value that was given.
            Err(_) => {
                let text = format!("the environment variable {variable} of the parameter \"{name}\" is not text in UTF-8");
                let found = Diagnostic::error("wrong-value", node.place.clone(), text);
                sink.push(found.help("give it a value in UTF-8, or unset it".to_owned()));
                None
            }
        });
        let value = choices.set.get(name).cloned().or(from_env).or_else(|| prop("default"));
        if value.is_none() {
            let missing =
                Diagnostic::error("param-without-value", node.place.clone(), format!("the parameter \"{name}\" has no value"));
            node.lacks(missing.help(format!("give one with `--set {name}=VALUE`, or write `default=` here")), sink);
        }
        values.insert(name.to_owned(), value);
    }
    let partial = sink.is_partial();
    for name in choices.set.keys().filter(|name| !partial && !values.contains_key(*name)) {
        let place = Location {
            file: nodes.first().map_or_else(String::new, |node| node.place.file.clone()),
            line: 1,
            offset: 0,
            length: 0,
        };
        let near = nearest(name, values.keys().map(String::as_str)).map(|near| format!("write `--set {near}=…`"));
        sink.push(
            Diagnostic::error("unknown-param", place, format!("`--set {name}`: the project declares no such parameter"))
                .maybe_help(near),
        );
    }
    values
}

/// Overlays the project's nodes with a profile's: a node with the same name and first argument is merged, variables and labels
/// are replaced one by one, and anything else is added.
fn overlay(base: &mut Vec<Tree>, over: Vec<Tree>, rows: &'static [Node]) {
    let key = |tree: &Tree, row: &Node| (tree.name.clone(), if row.many { identity(tree) } else { None });
    let mut known = BTreeMap::new();
    for (at, tree) in base.iter().enumerate() {
        if let Some(row) = row(rows, &tree.name) {
            known.entry(key(tree, row)).or_insert(at);
        }
    }
    for mut tree in over {
        let Some(row) = row(rows, &tree.name) else { continue };
        if row.free.is_some() {
            replace_values(base, &mut tree);
            if !tree.props.is_empty() {
                base.push(tree);
            }
            continue;
        }
        let at = *known.entry(key(&tree, row)).or_insert(base.len());
        match base.get_mut(at) {
            Some(target) if row.children.is_empty() => *target = tree,
            Some(target) => {
                if row.one_of.iter().any(|name| says(&tree, row, name)) {
                    let others: Vec<&str> = row.one_of.iter().copied().filter(|name| !says(&tree, row, name)).collect();
                    forget(target, row, &others);
                }
                target.props.retain(|(name, _)| !tree.props.iter().any(|(other, _)| other == name));
                target.props.extend(tree.props);
                if !tree.args.is_empty() {
                    target.args = tree.args;
                }
                overlay(&mut target.children, tree.children, row.children);
            }
            None => base.push(tree),
        }
    }
}

/// Puts the values of an `env`, `label` or the like where their names stand already, and leaves the others in the node.
fn replace_values(base: &mut [Tree], over: &mut Tree) {
    over.props.retain(|(name, value)| {
        let mut there = base.iter_mut().filter(|tree| tree.name == over.name).flat_map(|tree| &mut tree.props);
        match there.find(|(known, _)| known == name) {
            Some((_, known)) => {
                *known = value.clone();
                false
            }
            None => true,
        }
    });
}

/// Whether a node has this argument, property or child.
fn says(tree: &Tree, row: &Node, name: &str) -> bool {
    let has_argument = row.args.iter().zip(&tree.args).any(|(arg, _)| arg.name == name);
    has_argument || tree.props.iter().any(|(known, _)| known == name) || tree.children.iter().any(|child| child.name == name)
}

/// Takes the arguments, properties and children of these names out of a node.
fn forget(tree: &mut Tree, row: &Node, names: &[&str]) {
    if let Some(at) = row.args.iter().position(|arg| names.contains(&arg.name)) {
        tree.args.truncate(at);
    }
    tree.props.retain(|(name, _)| !names.contains(&name.as_str()));
    tree.children.retain(|child| !names.contains(&child.name.as_str()));
}

/// What makes two nodes that may be repeated "the same" for a profile.
fn identity(tree: &Tree) -> Option<String> {
    let keyed = tree.props.iter().find(|(name, _)| name == "to").map(|(_, entry)| entry.text());
    let names = || tree.props.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let first = tree.args.first().map(|entry| entry.text());
    if tree.name == "mount" { keyed } else { first.or_else(|| Some(names())) }
}

/// The values of parameters, and how many bytes of them were substituted so far.
struct Parameters {
    values: BTreeMap<String, Option<String>>,
    put_in: usize,
}

/// Replaces `${name}` in every text, and checks the results against the grammar.
fn substitute(tree: &mut Tree, rows: &'static [Node], values: &mut Parameters, sink: &mut Sink) {
    let Some(row) = row(rows, &tree.name) else { return };
    for (index, entry) in tree.args.iter_mut().enumerate() {
        let kind = row.args.get(index).or(row.rest.as_ref()).map(|arg| arg.kind);
        replace(entry, kind, values, sink);
    }
    for (name, entry) in &mut tree.props {
        let kind = row.props.iter().find(|prop| prop.name == name).map(|prop| prop.kind).or(row.free);
        replace(entry, kind, values, sink);
    }
    for child in &mut tree.children {
        substitute(child, row.children, values, sink);
    }
}

fn replace(entry: &mut Entry, kind: Option<grammar::Kind>, parameters: &mut Parameters, sink: &mut Sink) {
    let values = &parameters.values;
    let Value::Text(text) = &entry.value else { return };
    if !text.contains("${") {
        return;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("${") {
        // `$${` is how a literal `${` is written.
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            sink.push(
                Diagnostic::error("parameter", entry.place.clone(), "`${` without its `}`")
                    .help("write `$${` for a literal `${`"),
            );
            return;
        };
        let name = &rest[at + 2..at + end];
        match values.get(name) {
            Some(None) if sink.is_partial() => return,
            Some(value) => {
                let value = value.as_deref().unwrap_or_default();
                if parameters.put_in > bounds::SUBSTITUTED {
                    return;
                }
                parameters.put_in += value.len();
                if parameters.put_in > bounds::SUBSTITUTED {
                    let most = Amount::Bytes(bounds::SUBSTITUTED as u64);
                    let message = format!("parameters put more than {most} into the project");
                    sink.push(Diagnostic::error("too-much-text", entry.place.clone(), message).help("give them shorter values"));
                    return;
                }
                out.push_str(value);
            }
            // The parameter or its value may be in a part that could not be read, so nothing is reported.
            None if sink.is_partial() => return,
            None => {
                let shell = name.contains([':', '?', '+']);
                let help = match nearest(name, values.keys().map(String::as_str)) {
                    _ if shell => "give the parameter a `default=` instead of shell syntax".to_owned(),
                    Some(near) => format!("write `${{{near}}}`"),
                    None => format!("declare it: `param \"{name}\" default=\"…\"`; write `$${{` for a literal `${{`"),
                };
                sink.push(
                    Diagnostic::error("unknown-param", entry.place.clone(), format!("there is no parameter \"{name}\""))
                        .help(help),
                );
            }
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    let number = matches!(kind, Some(grammar::Kind::Integer(..) | grammar::Kind::Number | grammar::Kind::Ports));
    let flag = matches!(kind, Some(grammar::Kind::Flag | grammar::Kind::FlagOr(_)));
    entry.value = match (out.parse::<i128>(), out.parse::<f64>(), out.parse::<bool>()) {
        (Ok(value), _, _) if number => Value::Integer(value),
        (_, Ok(value), _) if number => Value::Number(value),
        (_, _, Ok(value)) if flag => Value::Bool(value),
        _ => Value::Text(out),
    };
    // A `${` in the result comes from `$${` and is not a parameter.
    if let Some(kind) = kind
        && let Err((message, help)) = grammar::fits(entry, kind)
    {
        let message = format!("after substitution ({}): {message}", entry.value.written());
        sink.push(
            Diagnostic { severity: Severity::Error, ..Diagnostic::error("wrong-value", entry.place.clone(), message) }
                .maybe_help(help),
        );
    }
}

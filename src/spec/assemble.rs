//! Puts a project together: includes, then profiles, then parameters.
//!
//! What comes out is one list of checked top-level nodes with every `${name}` replaced.

use super::Choices;
use super::diagnose::{Diagnostic, Sink};
use super::grammar::{self, Node, row};
use super::language::TOP;
use super::tree::{Entry, Tree, Value, parse};
use super::{Severity, Sources};
use crate::model::{Place, nearest};
use std::collections::BTreeMap;

/// A project's nodes, ready to be decoded.
pub struct Assembled {
    pub nodes: Vec<Tree>,
    pub files: BTreeMap<String, String>,
    pub env: BTreeMap<String, Option<String>>,
    /// Images that only inactive profiles use need no warning.
    pub unused_profiles: bool,
}

pub fn assemble(file: &str, choices: &Choices, sources: &dyn Sources, sink: &mut Sink) -> Assembled {
    let mut files = BTreeMap::new();
    let mut trail = Vec::new();
    let raw = read(file, None, sources, &mut files, &mut trail, sink);
    let nodes = grammar::check(raw, TOP, "a project", sink);
    let mut env = BTreeMap::new();
    let values = parameters(&nodes, choices, sources, &mut env, sink);
    let (profiles, mut nodes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.name == "profile");
    let mut unused_profiles = false;
    for wanted in &choices.profiles {
        if !profiles.iter().any(|profile| text_arg(profile) == Some(wanted)) {
            let near = nearest(wanted, profiles.iter().filter_map(text_arg));
            let start = Place { file: file.to_owned(), line: 1, offset: 0, length: 0 };
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
    for node in &mut nodes {
        substitute(node, TOP, &values, sink);
    }
    Assembled { nodes, files, env, unused_profiles }
}

/// Reads a file and, in place of each `include`, the file it names.
fn read(
    file: &str,
    from: Option<&Place>,
    sources: &dyn Sources,
    files: &mut BTreeMap<String, String>,
    trail: &mut Vec<String>,
    sink: &mut Sink,
) -> Vec<Tree> {
    let start = || from.cloned().unwrap_or(Place { file: file.to_owned(), line: 1, offset: 0, length: 0 });
    if trail.iter().any(|open| open == file) {
        sink.push(Diagnostic::error(
            "include-cycle",
            start(),
            format!("`{file}` includes itself: {} → {file}", trail.join(" → ")),
        ));
        return Vec::new();
    }
    let text = match sources.read(file) {
        Ok(text) => text,
        Err(why) => {
            sink.push(Diagnostic::error("unreadable", start(), format!("cannot read `{file}`: {why}")));
            return Vec::new();
        }
    };
    let parsed = parse(file, &text, sink);
    files.insert(file.to_owned(), text);
    trail.push(file.to_owned());
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut nodes = Vec::new();
    for tree in parsed {
        match (tree.name.as_str(), tree.args.first().map(|entry| (&entry.value, &entry.place))) {
            ("include", Some((Value::Text(path), place))) => {
                let path = if folder.is_empty() { path.clone() } else { format!("{folder}/{path}") };
                nodes.extend(read(&path, Some(place), sources, files, trail, sink));
            }
            _ => nodes.push(tree),
        }
    }
    trail.pop();
    nodes
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
    let mut places: BTreeMap<&str, &Place> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.name == "param") {
        let Some(name) = text_arg(node) else { continue };
        if let Some(first) = places.insert(name, &node.place) {
            sink.push(
                Diagnostic::error("duplicate", node.place.clone(), format!("the parameter \"{name}\" is declared twice"))
                    .other(first.clone(), "first here"),
            );
        }
        let prop = |wanted: &str| node.props.iter().find(|(name, _)| name == wanted).map(|(_, entry)| plain(&entry.value));
        let from_env = prop("env").and_then(|variable| {
            let value = sources.env(&variable);
            asked.insert(variable, value.clone());
            value
        });
        let value = choices.set.get(name).cloned().or(from_env).or_else(|| prop("default"));
        if value.is_none() {
            sink.push(
                Diagnostic::error("param-without-value", node.place.clone(), format!("the parameter \"{name}\" has no value"))
                    .help(format!("give one with `--set {name}=VALUE`, or write `default=` here")),
            );
        }
        values.insert(name.to_owned(), value);
    }
    for name in choices.set.keys().filter(|name| !values.contains_key(*name)) {
        let place =
            Place { file: nodes.first().map_or_else(String::new, |node| node.place.file.clone()), line: 1, offset: 0, length: 0 };
        let near = nearest(name, values.keys().map(String::as_str)).map(|near| format!("write `--set {near}=…`"));
        sink.push(
            Diagnostic::error("unknown-param", place, format!("`--set {name}`: the project declares no such parameter"))
                .maybe_help(near),
        );
    }
    values
}

/// A value as plain text.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null => String::new(),
        other => other.written(),
    }
}

/// Lays a profile's nodes over the project's: a node of the same name and first argument is merged,
/// any other is added.
fn overlay(base: &mut Vec<Tree>, over: Vec<Tree>, rows: &'static [Node]) {
    for tree in over {
        let Some(row) = row(rows, &tree.name) else { continue };
        let same = |other: &Tree| other.name == tree.name && (!row.many || identity(other) == identity(&tree));
        match base.iter_mut().find(|other| same(other)) {
            Some(target) if row.children.is_empty() => *target = tree,
            Some(target) => {
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

/// What makes two nodes that may stand often "the same" for a profile.
fn identity(tree: &Tree) -> Option<String> {
    let keyed = tree.props.iter().find(|(name, _)| name == "to").map(|(_, entry)| plain(&entry.value));
    let names = || tree.props.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let first = tree.args.first().map(|entry| plain(&entry.value));
    if tree.name == "mount" { keyed } else { first.or_else(|| Some(names())) }
}

/// Replaces `${name}` in every text, and checks what came out against the grammar.
fn substitute(tree: &mut Tree, rows: &'static [Node], values: &BTreeMap<String, Option<String>>, sink: &mut Sink) {
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

fn replace(entry: &mut Entry, kind: Option<grammar::Kind>, values: &BTreeMap<String, Option<String>>, sink: &mut Sink) {
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
                    .help("write `$${` for the characters themselves"),
            );
            return;
        };
        let name = &rest[at + 2..at + end];
        match values.get(name) {
            Some(value) => out.push_str(value.as_deref().unwrap_or_default()),
            None => {
                let shell = name.contains([':', '?', '+']);
                let help = match nearest(name, values.keys().map(String::as_str)) {
                    _ if shell => "give the parameter a `default=` instead of shell syntax".to_owned(),
                    Some(near) => format!("write `${{{near}}}`"),
                    None => format!("declare it: `param \"{name}\" default=\"…\"`; write `$${{` for the characters themselves"),
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
    let flag = matches!(kind, Some(grammar::Kind::Flag));
    entry.value = match (out.parse::<i128>(), out.parse::<f64>(), out.parse::<bool>()) {
        (Ok(value), _, _) if number => Value::Integer(value),
        (_, Ok(value), _) if number => Value::Number(value),
        (_, _, Ok(value)) if flag => Value::Bool(value),
        _ => Value::Text(out),
    };
    let literal = matches!(&entry.value, Value::Text(text) if text.contains("${"));
    if let (Some(kind), false) = (kind, literal)
        && let Err((message, help)) = grammar::fits(&entry.value, kind)
    {
        let message = format!("after substitution ({}): {message}", entry.value.written());
        sink.push(
            Diagnostic { severity: Severity::Error, ..Diagnostic::error("wrong-value", entry.place.clone(), message) }
                .maybe_help(help),
        );
    }
}

//! The grammar: decoding, diagnostics, the reference and the schema all come from one table.
//!
//! This file defines the types of the table and checks the structure (known nodes, counts, kinds of
//! values). The rows are in `language.rs`; the decoders read the values that pass the checks.

use super::diagnose::{Diagnostic, Sink};
use super::tree::{Entry, Tree, Value};
use crate::model::bounds::PATTERN;
use crate::model::{Duration, Location, Name, Size, Subnet, check_host_name, is_unseen, nearest, visible_line};
use crate::project::is_command_line;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any string.
    Text,
    /// The name or path of a program, without its arguments.
    Program,
    /// A name that follows the rule for names.
    Name,
    /// A host name, with or without a domain.
    Host,
    /// A path that no file of the project gives a meaning to: of a container, of an image, or absolute.
    Path,
    /// A path of the project or the host, relative to the file that it is written in.
    File,
    /// The same, or one of some words.
    FileOr(&'static [&'static str]),
    /// A URL, or a directory or file as above.
    Origin,
    /// A pattern of paths.
    Pattern,
    /// A pattern of the project's files; one with a `/` inside is relative to the file that it is written in.
    FilePattern,
    /// A whole number in a range.
    Integer(i128, i128),
    /// A number greater than zero.
    Number,
    /// `#true` or `#false`.
    Flag,
    /// `#true`, `#false`, or one of some words.
    FlagOr(&'static [&'static str]),
    /// `"256MiB"`.
    Size,
    /// `"30s"`.
    Duration,
    /// A port, or a range as text: `8080` or `"8000-8010"`.
    Ports,
    /// An IPv4 address.
    Address,
    /// An IPv4 subnet.
    Subnet,
    /// Permissions in octal, as text: `"0644"`.
    Mode,
    /// Permissions in octal or as chmod's symbols, as text: `"u=rwX,go=rX"`.
    Permissions,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Text, number or flag, kept as text.
    Plain,
}

/// A default. The defaults of the language are in the table and nowhere else.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    Text(&'static str),
    Integer(i128),
    Flag(bool),
    /// The node exists with nothing in it.
    Bare,
    /// The default follows from something else; a description for the manual.
    Follows(&'static str),
}

impl Default {
    pub fn value(self) -> Option<Value> {
        match self {
            Self::Text(text) => Some(Value::Text(text.to_owned())),
            Self::Integer(number) => Some(Value::Integer(number)),
            Self::Flag(truth) => Some(Value::Bool(truth)),
            Self::Bare | Self::Follows(_) => None,
        }
    }

    /// The default as the manual shows it.
    pub fn written(self) -> String {
        match (self, self.value()) {
            (_, Some(value)) => format!("`{}`", value.written()),
            (Self::Follows(words), None) => words.to_owned(),
            (_, None) => String::new(),
        }
    }
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct Prop {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub default: Option<Default>,
    pub doc: &'static str,
}

impl Prop {
    /// Sets the default.
    pub const fn or(mut self, default: Default) -> Self {
        self.default = Some(default);
        self
    }
}

/// One row: a node at a place in the tree.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub name: &'static str,
    pub doc: &'static str,
    pub example: &'static str,
    /// The leading arguments.
    pub args: &'static [Arg],
    /// Any number of further arguments.
    pub rest: Option<Arg>,
    pub props: &'static [Prop],
    /// Properties with names of the user's choosing.
    pub free: Option<Kind>,
    pub children: &'static [Node],
    /// The properties that make its arguments paths of something else than the project.
    pub elsewhere: &'static [&'static str],
    /// Arguments, properties and children of which it has at most one: a profile's takes the place of the others.
    pub one_of: &'static [&'static str],
    /// Whether it may be repeated among its siblings.
    pub many: bool,
    /// The version of the language that introduced it.
    pub since: &'static str,
    /// Whether it is understood but not implemented yet.
    pub later: bool,
    /// Its argument when the node is absent.
    pub default: Option<Default>,
}

impl Node {
    /// A row for a node that appears at most once and takes nothing.
    pub const fn new(name: &'static str, doc: &'static str, example: &'static str) -> Self {
        Self {
            name,
            doc,
            example,
            args: &[],
            rest: None,
            props: &[],
            free: None,
            children: &[],
            elsewhere: &[],
            one_of: &[],
            many: false,
            since: "0.1",
            later: false,
            default: None,
        }
    }

    pub const fn args(mut self, args: &'static [Arg]) -> Self {
        self.args = args;
        self
    }

    pub const fn rest(mut self, name: &'static str, kind: Kind) -> Self {
        self.rest = Some(Arg { name, kind, required: false });
        self
    }

    pub const fn props(mut self, props: &'static [Prop]) -> Self {
        self.props = props;
        self
    }

    pub const fn free(mut self, kind: Kind) -> Self {
        self.free = Some(kind);
        self
    }

    pub const fn children(mut self, children: &'static [Self]) -> Self {
        self.children = children;
        self
    }

    /// With one of these properties, its arguments are no files of the project.
    pub const fn elsewhere(mut self, names: &'static [&'static str]) -> Self {
        self.elsewhere = names;
        self
    }

    pub const fn one_of(mut self, names: &'static [&'static str]) -> Self {
        self.one_of = names;
        self
    }

    pub const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    pub const fn or(mut self, default: Default) -> Self {
        self.default = Some(default);
        self
    }

    pub const fn later(mut self) -> Self {
        self.later = true;
        self
    }
}

/// A required argument.
pub const fn arg(name: &'static str, kind: Kind) -> Arg {
    Arg { name, kind, required: true }
}

/// An optional argument.
pub const fn optional(name: &'static str, kind: Kind) -> Arg {
    Arg { name, kind, required: false }
}

/// An optional property.
pub const fn prop(name: &'static str, kind: Kind, doc: &'static str) -> Prop {
    Prop { name, kind, required: false, default: None, doc }
}

/// A property that is `#false` unless it is given.
pub const fn switch(name: &'static str, doc: &'static str) -> Prop {
    prop(name, Kind::Flag, doc).or(Default::Flag(false))
}

/// A required property.
pub const fn needed(name: &'static str, kind: Kind, doc: &'static str) -> Prop {
    Prop { name, kind, required: true, default: None, doc }
}

impl Node {
    /// What its argument at this position may be.
    pub fn argument(&self, index: usize) -> Option<Kind> {
        self.args.get(index).or(self.rest.as_ref()).map(|arg| arg.kind)
    }

    /// What the value of its property of this name may be.
    pub fn property(&self, name: &str) -> Option<Kind> {
        self.props.iter().find(|prop| prop.name == name).map(|prop| prop.kind).or(self.free)
    }
}

/// The row for a node among its possible siblings.
pub fn row(rows: &'static [Node], name: &str) -> Option<&'static Node> {
    rows.iter().find(|row| row.name == name)
}

/// Fills in the table's defaults for what is missing, and for values of the wrong kind, which have been reported.
pub fn complete(tree: &mut Tree, rows: &'static [Node]) {
    let Some(row) = row(rows, &tree.name) else { return };
    let place = tree.args.first().map_or(&tree.place, |entry| &entry.place).clone();
    let given = |value: Value| Entry { value, place: place.clone(), name: 0, written: None };
    for prop in row.props {
        let Some(value) = prop.default.and_then(Default::value) else { continue };
        match tree.props.iter_mut().find(|(name, _)| name == prop.name) {
            Some((_, entry)) if fits(entry, prop.kind).is_err() => entry.value = value,
            Some(_) => {}
            None => tree.props.push((prop.name.to_owned(), given(value))),
        }
    }
    for child in row.children {
        let Some(default) = child.default else { continue };
        let (value, end) = (default.value(), tree.whole.end);
        match (tree.children.iter_mut().find(|other| other.name == child.name), child.args.first()) {
            (Some(there), Some(arg)) => match there.args.first_mut() {
                Some(entry) if fits(entry, arg.kind).is_ok() => {}
                Some(entry) => entry.value = value.unwrap_or(Value::Null),
                None => there.args.extend(value.map(given)),
            },
            (Some(_), None) => {}
            (None, _) if matches!(default, Default::Follows(_)) => {}
            (None, _) => tree.children.push(Tree {
                name: child.name.to_owned(),
                place: place.clone(),
                whole: end..end,
                block: None,
                args: value.map(given).into_iter().collect(),
                props: Vec::new(),
                children: Vec::new(),
            }),
        }
    }
    for child in &mut tree.children {
        complete(child, row.children);
    }
}

/// Checks top-level nodes against their rows and drops those that break them.
pub fn check(trees: Vec<Tree>, top: &'static [Node], parent: &str, sink: &mut Sink) -> Vec<Tree> {
    check_siblings(trees, &Around { rows: top, top, owner: None }, parent, sink)
}

/// What is legal around a node.
struct Around {
    /// The rows of its siblings, and those of the top level.
    rows: &'static [Node],
    top: &'static [Node],
    /// The row of the node that it stands in.
    owner: Option<&'static Node>,
}

/// Checks siblings against their rows.
fn check_siblings(trees: Vec<Tree>, around: &Around, parent: &str, sink: &mut Sink) -> Vec<Tree> {
    let mut kept: Vec<Tree> = Vec::new();
    let mut once: BTreeMap<&'static str, Location> = BTreeMap::new();
    for tree in trees {
        let Some(row) = row(around.rows, &tree.name) else {
            sink.push(unknown_node(&tree, around, parent));
            continue;
        };
        if let Some(first) = once.get(row.name) {
            sink.push(
                Diagnostic::error("duplicate", tree.place.clone(), format!("`{}` is given twice in {parent}", tree.name))
                    .other(first.clone(), "first here")
                    .help("keep one of the two"),
            );
            continue;
        }
        if !row.many {
            once.insert(row.name, tree.place.clone());
        }
        kept.push(check_one(tree, row, around.top, sink));
    }
    kept
}

fn unknown_node(tree: &Tree, around: &Around, parent: &str) -> Diagnostic {
    let rows = around.rows;
    let yaml = tree.name.ends_with(':') || tree.name == "-";
    let help = match nearest(&tree.name, rows.iter().map(|row| row.name)) {
        _ if yaml => "this looks like YAML; a project file is KDL, as in: container \"web\" { image \"app\" }".to_owned(),
        _ if let Some(advice) = advice(&tree.name, parent) => advice.to_owned(),
        _ if let Some(place) = deeper(tree, around) => place,
        Some(near) => format!("write `{near}`"),
        None => match (habit(&tree.name).filter(|word| row(rows, word).is_some()), elsewhere(tree, around)) {
            (Some(word), _) => format!("this is called `{word}` here"),
            (None, Some(place)) => place,
            (None, None) => format!("{parent} takes: {}", rows.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")),
        },
    };
    Diagnostic::error("unknown-node", tree.place.clone(), format!("`{}` is not known in {parent}", tree.name)).help(help)
}

/// Where a word belongs that is written one level too high, or as a node in place of a property: with what it says there.
fn deeper(tree: &Tree, around: &Around) -> Option<String> {
    let value = tree.args.first().map(|entry| entry.value.written());
    let has = |row: &Node| row.props.iter().any(|prop| prop.name == tree.name);
    if let (Some(owner), Some(value)) = (around.owner.filter(|owner| has(owner)), &value) {
        return Some(format!("it is a property: {} {}={value}", opening(owner), tree.name));
    }
    let above = around.rows.iter().find_map(|above| row(above.children, &tree.name).map(|row| (above, row)));
    if let Some((above, row)) = above {
        return Some(format!("write it in `{}`: {} {{ {} }}", above.name, opening(above), saying(tree, row)));
    }
    let mut owners = around.rows.iter().filter(|row| has(row));
    match (owners.next(), owners.next(), value) {
        (Some(owner), None, Some(value)) => {
            Some(format!("it is a property of `{}`: {} … {}={value}", owner.name, owner.name, tree.name))
        }
        _ => None,
    }
}

/// A node as it is written; without values, the example of its row.
fn saying(tree: &Tree, row: &Node) -> String {
    let args = tree.args.iter().map(|entry| entry.value.written());
    let props = tree.props.iter().map(|(name, entry)| format!("{name}={}", entry.value.written()));
    let words: Vec<String> = args.chain(props).collect();
    if words.is_empty() || !tree.children.is_empty() {
        return first_line(row.example).to_owned();
    }
    format!("{} {}", tree.name, words.join(" "))
}

/// The beginning of a node's example, up to its block, with no more than it needs.
fn opening(row: &Node) -> String {
    let head = first_line(row.example).split(" {").next().unwrap_or(row.name);
    let needed = |word: &&str| match word.split_once('=') {
        Some((name, _)) => row.props.iter().any(|prop| prop.name == name && prop.required),
        None => true,
    };
    head.split(' ').filter(needed).collect::<Vec<_>>().join(" ")
}

/// Which node takes a node of this name, at the top level or in one of its nodes. Profiles and tasks take what others take,
/// too.
fn elsewhere(tree: &Tree, around: &Around) -> Option<String> {
    let mut own = around.top.iter().filter(|above| !matches!(above.name, "profile" | "task"));
    if let Some(above) = own.clone().find(|above| row(above.children, &tree.name).is_some()) {
        return Some(format!("`{}` belongs in `{}`", tree.name, above.name));
    }
    own.find_map(|above| {
        let (middle, row) = above.children.iter().find_map(|middle| row(middle.children, &tree.name).map(|row| (middle, row)))?;
        let inside = format!("{} {{ {} }}", opening(middle), saying(tree, row));
        Some(format!("`{}` belongs in `{}` of a node such as: {} {{ {inside} }}", tree.name, middle.name, opening(above)))
    })
}

/// What to write for words of Compose that are not one word here.
fn advice(word: &str, parent: &str) -> Option<&'static str> {
    let top = parent == "a project";
    Some(match word.to_lowercase().replace('_', "-").as_str() {
        "version" if top => "a project file has no version: leave it out",
        _ if top => return None,
        "cap-add" | "cap-drop" => "capabilities are in `security`: security { capability add=\"NET_ADMIN\" }",
        "network-mode" => "the host's network is a namespace: namespace network=\"host\"",
        "pids-limit" => "limits are in `limits`: limits { pids 100 }",
        "ulimits" => "limits are in `limits`: limits { ulimit \"nofile\" soft=1024 hard=2048 }",
        "shm-size" => "limits are in `limits`: limits { shm \"64MiB\" }",
        "links" | "external-links" => "containers on one network find each other by name; `depends-on` gives an order",
        "userns-mode" | "user-ns" | "userns" => "there are no user namespaces here: leave it out",
        _ => return None,
    })
}

/// What Compose and Dockerfiles call things.
fn habit(word: &str) -> Option<&'static str> {
    Some(match word.to_lowercase().as_str() {
        "service" | "services" => "container",
        "ports" | "port" => "publish",
        "command" => "cmd",
        "environment" => "env",
        "build" => "image",
        "volumes" | "bind" => "mount",
        "deploy" | "resources" => "limits",
        "scale" => "replicas",
        "update-config" | "update_config" | "rolling-update" => "update",
        "test" => "exec",
        "stop-timeout" | "stop_timeout" => "stop-grace",
        "working-dir" | "working_dir" => "workdir",
        "stop_grace_period" => "stop-grace",
        "apt" | "packages" | "install" => "debian",
        "mem_limit" => "memory",
        _ => return None,
    })
}

fn check_one(mut tree: Tree, row: &'static Node, top: &'static [Node], sink: &mut Sink) -> Tree {
    let what = format!("`{}`", row.name);
    for (index, expected) in row.args.iter().enumerate() {
        match tree.args.get(index) {
            Some(Entry { value: Value::Text(text), place, .. }) if matches!(expected.kind, Kind::Choice([only]) if only != text && !text.contains("${")) =>
            {
                let message = format!("{what} takes a block, or the word \"{}\"", expected.name);
                let help = format!("for example: {}", first_line(row.example));
                sink.push(Diagnostic::error("wrong-value", place.clone(), message).help(help));
            }
            Some(entry) => check_value(entry, expected.kind, &format!("{what}'s {}", expected.name), sink),
            None if expected.required => {
                let message = format!("{what} needs its {}", expected.name);
                let missing = Diagnostic::error("missing-argument", tree.place.clone(), message);
                tree.lacks(missing.help(format!("for example: {}", first_line(row.example))), sink);
            }
            None => {}
        }
    }
    for entry in tree.args.iter().skip(row.args.len()) {
        match row.rest {
            Some(rest) => check_value(entry, rest.kind, &format!("{what}'s {}", rest.name), sink),
            None => sink.push(
                Diagnostic::error("extra-argument", entry.place.clone(), format!("{what} does not take this argument")).help(
                    // Of those that take one argument and no block, several are written one after the other.
                    if row.many && row.children.is_empty() && !row.props.iter().any(|prop| prop.name == "to") {
                        format!("write one {what} for each; for example: {}", first_line(row.example))
                    } else {
                        format!("for example: {}", first_line(row.example))
                    },
                ),
            ),
        }
    }
    check_props(&tree, row, sink);
    if row.children.is_empty() && !tree.children.is_empty() {
        let brace = tree.block.as_ref().map_or(tree.place.offset, |block| block.start);
        let place = Location { offset: brace, length: 1, ..tree.place.clone() };
        sink.push(
            Diagnostic::error("no-children", place, format!("{what} takes no block"))
                .help(format!("for example: {}", first_line(row.example))),
        );
        tree.children.clear();
    } else {
        let around = Around { rows: row.children, top, owner: Some(row) };
        tree.children = check_siblings(std::mem::take(&mut tree.children), &around, &what, sink);
    }
    tree
}

fn first_line(example: &str) -> &str {
    example.lines().next().unwrap_or_default()
}

fn check_props(tree: &Tree, row: &'static Node, sink: &mut Sink) {
    let what = format!("`{}`", row.name);
    let mut given: BTreeMap<&str, Location> = BTreeMap::new();
    for (name, entry) in &tree.props {
        if let Some(first) = given.insert(name, entry.name_place()) {
            sink.push(
                Diagnostic::error("duplicate", entry.name_place(), format!("`{name}` is given twice"))
                    .other(first, "first here")
                    .help("keep one of the two"),
            );
        }
        match (row.props.iter().find(|prop| prop.name == name), row.free) {
            (Some(prop), _) => check_value(entry, prop.kind, &format!("`{name}`"), sink),
            (None, Some(kind)) => check_value(entry, kind, &format!("`{name}`"), sink),
            (None, None) => {
                let help = match nearest(name, row.props.iter().map(|prop| prop.name)) {
                    _ if let Some(place) = in_block(tree, row, name, entry) => place,
                    Some(near) => format!("write `{near}`"),
                    None if row.props.is_empty() => format!("for example: {}", first_line(row.example)),
                    None => {
                        format!("{what} takes: {}", row.props.iter().map(|prop| prop.name).collect::<Vec<_>>().join(", "))
                    }
                };
                sink.push(
                    Diagnostic::error("unknown-property", entry.name_place(), format!("{what} has no property `{name}`"))
                        .help(help),
                );
            }
        }
    }
    for prop in row.props.iter().filter(|prop| prop.required) {
        if !tree.props.iter().any(|(name, _)| name == prop.name) {
            let missing = Diagnostic::error("missing-property", tree.place.clone(), format!("{what} needs `{}=`", prop.name));
            tree.lacks(missing.help(format!("for example: {}", first_line(row.example))), sink);
        }
    }
}

/// Where a word belongs that is written as a property in place of a node.
fn in_block(tree: &Tree, own: &'static Node, name: &str, entry: &Entry) -> Option<String> {
    let said = format!("{name} {}", entry.value.written());
    let head: String = tree.args.iter().map(|entry| format!(" {}", entry.value.written())).collect();
    if row(own.children, name).is_some() {
        return Some(format!("write it in the block: {}{head} {{ {said} }}", own.name));
    }
    let above = own.children.iter().find(|above| row(above.children, name).is_some())?;
    Some(format!("write it in `{}`: {}{head} {{ {} {{ {said} }} }}", above.name, own.name, opening(above)))
}

fn check_value(entry: &Entry, kind: Kind, what: &str, sink: &mut Sink) {
    // Text with parameters is checked after substitution.
    let waits = matches!(&entry.value, Value::Text(text) if text.contains("${"));
    if let (false, Err((message, help))) = (waits, fits(entry, kind)) {
        let diagnostic = Diagnostic::error("wrong-value", entry.place.clone(), format!("{what}: {message}"));
        sink.push(diagnostic.maybe_help(help));
    }
}

type Misfit = (String, Option<String>);

/// Whether an entry's value is of a kind.
pub fn fits(entry: &Entry, kind: Kind) -> Result<(), Misfit> {
    match (kind, &entry.value) {
        (
            Kind::Text
            | Kind::Program
            | Kind::Path
            | Kind::File
            | Kind::FileOr(_)
            | Kind::Origin
            | Kind::Pattern
            | Kind::FilePattern
            | Kind::Name
            | Kind::Host,
            other,
        ) if !matches!(other, Value::Text(_)) => {
            // Suggest it as it was written: 1.10 is not the same text as 1.1.
            Err(("text was expected".into(), Some(format!("put it in quotes: \"{}\"", entry.text()))))
        }
        (kind, value) => value_fits(value, kind),
    }
}

/// Whether a path begins with what a shell would replace.
fn is_shell_variable(path: &str) -> bool {
    path.strip_prefix('$')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_alphabetic() || "_{(".contains(first)))
}

fn value_fits(value: &Value, kind: Kind) -> Result<(), Misfit> {
    let said = |result: Result<(), String>| result.map_err(|message| (message, None));
    let kind = match kind {
        Kind::FileOr(words) if matches!(value, Value::Text(text) if words.contains(&text.as_str())) => Kind::Text,
        Kind::File | Kind::FileOr(_) => Kind::Path,
        Kind::Origin => Kind::Text,
        Kind::FilePattern => Kind::Pattern,
        kind => kind,
    };
    match (kind, value) {
        (Kind::Path, Value::Text(text)) if text.chars().any(is_unseen) => {
            let message = format!("a path cannot have invisible characters: \"{}\"", visible_line(text));
            Err((message, Some("write it without them".into())))
        }
        (Kind::Text | Kind::Program | Kind::Path | Kind::Pattern | Kind::Plain, Value::Text(text)) if text.contains('\0') => {
            Err(("a NUL byte is not allowed".into(), None))
        }
        (Kind::Path | Kind::Pattern, Value::Text(text)) if text.len() > PATTERN => {
            Err((format!("a path has at most {PATTERN} bytes, and this has {}", text.len()), None))
        }
        (Kind::Path, Value::Text(text)) if text.is_empty() => Err(("a path cannot be empty".into(), None)),
        (Kind::Path, Value::Text(text)) if text == "~" || text.starts_with("~/") => {
            let help = format!("write the whole path; for a file of that name: \"./{text}\"");
            Err(("`~` is not replaced here".into(), Some(help)))
        }
        (Kind::Path, Value::Text(text)) if is_shell_variable(text) => {
            let help = format!("write the whole path, or a `param` as ${{name}}; for a file of that name: \"./{text}\"");
            Err(("variables of the shell are not replaced here".into(), Some(help)))
        }
        (Kind::Program, Value::Text(text)) if is_command_line(text) => {
            let words: Vec<String> = text.split_whitespace().map(|word| Value::Text(word.to_owned()).written()).collect();
            let help = format!("write {}; or \"sh\" \"-c\" {}", words.join(" "), value.written());
            Err(("the name of a program was expected, and this is a whole command".into(), Some(help)))
        }
        (Kind::Text | Kind::Program | Kind::Path | Kind::Pattern, Value::Text(_)) => Ok(()),
        (Kind::Plain, Value::Null) => Err(("a value was expected".into(), Some("write \"\" for an empty one".into()))),
        (Kind::Plain, _) => Ok(()),
        (Kind::Name, Value::Text(text)) => said(Name::parse(text).map(drop)),
        (Kind::Host, Value::Text(text)) => said(check_host_name(text)),
        (Kind::Integer(low, high), Value::Integer(number)) if (low..=high).contains(number) => Ok(()),
        (Kind::Integer(low, high), Value::Integer(_)) => Err((format!("a whole number from {low} to {high} was expected"), None)),
        (Kind::Integer(..), Value::Text(text)) if text.parse::<i128>().is_ok() => {
            Err(("a whole number was expected".into(), Some(format!("write {text} without quotes"))))
        }
        (Kind::Integer(..), _) => Err(("a whole number was expected".into(), None)),
        (Kind::Number, Value::Integer(number)) if *number > 0 => Ok(()),
        (Kind::Number, Value::Number(number)) if *number > 0.0 && number.is_finite() => Ok(()),
        (Kind::Number, Value::Text(text)) if text.parse::<f64>().is_ok() => {
            Err(("a number was expected".into(), Some(format!("write {text} without quotes"))))
        }
        (Kind::Number, _) => Err(("a number greater than zero was expected".into(), None)),
        (Kind::Flag, Value::Bool(_)) => Ok(()),
        (Kind::Flag, Value::Text(text)) if matches!(text.as_str(), "true" | "yes" | "on") => {
            Err(("`#true` or `#false` was expected".into(), Some("write `#true`".into())))
        }
        (Kind::Flag, Value::Text(text)) if matches!(text.as_str(), "false" | "no" | "off") => {
            Err(("`#true` or `#false` was expected".into(), Some("write `#false`".into())))
        }
        (Kind::Flag, Value::Integer(number @ (0 | 1))) => {
            Err(("`#true` or `#false` was expected".into(), Some(format!("write `#{}`", *number == 1))))
        }
        (Kind::Flag, _) => Err(("`#true` or `#false` was expected".into(), None)),
        (Kind::FlagOr(_), Value::Bool(_)) => Ok(()),
        (Kind::FlagOr(words), Value::Text(text)) if words.contains(&text.as_str()) => Ok(()),
        (Kind::FlagOr(words), _) => {
            let (message, help) = value_fits(value, Kind::Flag).err().unwrap_or_default();
            Err((format!("{}, or {} was expected", message.trim_end_matches(" was expected"), quoted(words)), help))
        }
        (Kind::Size, Value::Text(text)) => Size::parse(text).map(drop).map_err(|message| match Size::guess(text) {
            Some(meant) => {
                (format!("{} is not how a size is written", value.written()), Some(format!("write \"{}\"", meant.written())))
            }
            None => (message, None),
        }),
        (Kind::Size, other) => Err(("a size needs a unit".into(), Some(format!("for example \"{}MiB\"", other.written())))),
        (Kind::Duration, Value::Text(text)) => Duration::parse(text).map(drop).map_err(|message| match Duration::guess(text) {
            Some(meant) => (format!("{} is not how a duration is written", value.written()), Some(format!("write \"{meant}\""))),
            None => (message, None),
        }),
        (Kind::Duration, other) => Err(("a duration needs a unit".into(), Some(format!("for example \"{}s\"", other.written())))),
        (Kind::Ports, value) => ports(value).map(drop),
        (Kind::Address, Value::Text(text)) if text.parse::<Ipv4Addr>().is_ok() => Ok(()),
        (Kind::Address, _) => Err(("an IPv4 address was expected".into(), Some("for example \"127.0.0.1\"".into()))),
        (Kind::Subnet, Value::Text(text)) => said(Subnet::parse(text).map(drop)),
        (Kind::Subnet, _) => Err(("an IPv4 subnet was expected".into(), Some("for example \"10.20.30.0/24\"".into()))),
        (Kind::Mode, Value::Text(text)) if mode(text).is_some() => Ok(()),
        (Kind::Permissions, Value::Text(text)) => said(crate::model::Mode::parse(text).map(drop)),
        (Kind::Mode | Kind::Permissions, other) => {
            let digits = other.written();
            let digits = digits.trim_matches('"');
            let help = mode(digits).map(|mode| format!("write \"{mode:04o}\""));
            Err(("permissions in octal were expected, as text".into(), help.or_else(|| Some("for example \"0644\"".into()))))
        }
        (Kind::Choice(words), Value::Text(text)) if words.contains(&text.as_str()) => Ok(()),
        (Kind::Choice(words), value) => {
            let text = value.written();
            let near = nearest(text.trim_matches(['"', '#']), words.iter().copied()).map(|near| format!("write \"{near}\""));
            Err((format!("one of {} was expected", quoted(words)), near))
        }
        (
            Kind::Text
            | Kind::Program
            | Kind::Path
            | Kind::File
            | Kind::FileOr(_)
            | Kind::Origin
            | Kind::Pattern
            | Kind::FilePattern
            | Kind::Name
            | Kind::Host,
            _,
        ) => Ok(()),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// Parses octal permissions.
pub fn mode(text: &str) -> Option<u32> {
    let legal = (3..=4).contains(&text.len());
    u32::from_str_radix(text, 8).ok().filter(|mode| legal && *mode <= 0o7777)
}

/// Parses a port or a range of ports.
pub fn ports(value: &Value) -> Result<(u16, u16), Misfit> {
    let port = |number: i128| u16::try_from(number).ok().filter(|port| *port > 0);
    let out_of_range = || ("a port from 1 to 65535 was expected".to_owned(), Some("for example 8080".to_owned()));
    match value {
        Value::Integer(number) => port(*number).map(|port| (port, port)).ok_or_else(out_of_range),
        Value::Text(text) => {
            if text.contains(':') {
                return Err((
                    "host and container port are written separately".into(),
                    Some(text.rsplit_once(':').map_or_else(String::new, |(host, to)| {
                        let (address, host) = host.rsplit_once(':').map_or((None, host), |(address, host)| (Some(address), host));
                        let (to, protocol) = to.split_once('/').map_or((to, None), |(to, protocol)| (to, Some(protocol)));
                        let value = |text: &str| {
                            if text.bytes().all(|byte| byte.is_ascii_digit()) { text.to_owned() } else { format!("\"{text}\"") }
                        };
                        let host = if host.is_empty() { to } else { host };
                        let address = address.map_or_else(String::new, |address| format!(" address=\"{address}\""));
                        let protocol = protocol.map_or_else(String::new, |protocol| format!(" protocol=\"{protocol}\""));
                        format!("write `publish {} to={}{address}{protocol}`", value(host), value(to))
                    })),
                ));
            }
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let first = first.parse().ok().and_then(port).ok_or_else(out_of_range)?;
            let last = last.parse().ok().and_then(port).ok_or_else(out_of_range)?;
            if first > last {
                return Err(("this range ends before it starts".into(), Some(format!("write \"{last}-{first}\""))));
            }
            Ok((first, last))
        }
        _ => Err(("a port was expected".into(), Some("for example 8080".into()))),
    }
}

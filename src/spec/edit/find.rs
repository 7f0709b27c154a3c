//! What a path of names leads to, and how values are written there.

use super::super::grammar::{Kind, Node, Prop, fits, row};
use super::super::language::TOP;
use super::super::tree::{Entry, Tree, Value};
use crate::model::kdl_text::quoted;
use crate::model::{Error, Location, Result, nearest};

/// What is found first, of nodes with the same name: most of what is changed from day to day is in containers.
const FIRST: [&str; 4] = ["container", "job", "task", "image"];

/// A node that the beginning of a path may mean.
pub struct Candidate<'t, 'p> {
    pub tree: &'t Tree,
    pub row: &'static Node,
    pub rest: &'p [&'p str],
    /// Whether the path has the node's own name, and not only its word.
    pub named: bool,
}

/// What is to be changed.
pub enum Target<'t, 'p> {
    Args(&'t Tree, &'static Node),
    Property(&'t Tree, &'static Prop),
    /// A property with a name of the user's choosing, in a child of a node.
    Free(&'t Tree, &'static Node, String),
    /// A child that is not there yet, and what is to be in it.
    New(&'t Tree, &'static Node, &'p [&'p str]),
}

/// The first argument of a node.
pub fn first(tree: &Tree) -> Option<String> {
    tree.args.first().map(Entry::text)
}

/// The nodes that the beginning of a path may mean: by name, or by word and name.
pub fn candidates<'t, 'p>(trees: &'t [Tree], rows: &'static [Node], words: &'p [&'p str]) -> Vec<Candidate<'t, 'p>> {
    let Some((start, rest)) = words.split_first() else { return Vec::new() };
    let known = trees.iter().filter_map(|tree| row(rows, &tree.name).map(|row| (tree, row)));
    let mut found = Vec::new();
    for (tree, row) in known {
        let name = first(tree);
        if !row.many {
            found.extend((tree.name == *start).then_some(Candidate { tree, row, rest, named: false }));
        } else if name.as_deref() == Some(start) {
            found.push(Candidate { tree, row, rest, named: true });
        } else if let Some((second, rest)) = rest.split_first()
            && tree.name == *start
            && name.as_deref() == Some(second)
        {
            found.push(Candidate { tree, row, rest, named: true });
        }
    }
    let rank = |word: &str| FIRST.iter().position(|first| *first == word).unwrap_or(FIRST.len());
    found.sort_by_key(|found| rank(found.row.name));
    found
}

/// Why the beginning of a path means nothing.
pub fn unknown_start(trees: &[Tree], path: &str) -> Error {
    let start = path.split('.').next().unwrap_or(path);
    let names: Vec<String> =
        trees.iter().filter(|tree| row(TOP, &tree.name).is_some_and(|row| row.many)).filter_map(first).collect();
    let error = Error::new(format!("{path}: nothing in the project's files has the name \"{start}\"")).usage();
    match nearest(start, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("write {}", path.replacen(start, near, 1))),
        None => error.hint("a path begins with the name of a container, an image, …: stead set web.replicas 3"),
    }
}

/// What the rest of a path means in a node.
pub fn target<'t, 'p>(tree: &'t Tree, own: &'static Node, rest: &'p [&'p str], named: bool) -> Result<Target<'t, 'p>> {
    let Some((word, more)) = rest.split_first() else {
        if named || own.args.is_empty() && own.rest.is_none() {
            let words = own.children.iter().map(|row| row.name).chain(own.props.iter().map(|prop| prop.name));
            let words: Vec<&str> = words.collect();
            let error = Error::new(format!("the path ends at `{}`, and it is not said what of it is changed", own.name)).usage();
            return Err(error.hint(format!("it has: {}", words.join(", "))));
        }
        return Ok(Target::Args(tree, own));
    };
    if let Some(prop) = own.props.iter().find(|prop| prop.name == *word)
        && more.is_empty()
    {
        return Ok(Target::Property(tree, prop));
    }
    let Some(inner) = row(own.children, word) else {
        if own.name == "profile" {
            let mut inside = candidates(&tree.children, own.children, rest).into_iter();
            if let Some(found) = inside.next() {
                return target(found.tree, found.row, found.rest, found.named);
            }
        }
        return Err(unknown_word(tree, own, word));
    };
    if inner.free.is_some() {
        if more.is_empty() {
            return Err(Error::new(format!("`{word}` has names of your choosing")).usage().hint(format!("write {word}.NAME")));
        }
        return Ok(Target::Free(tree, inner, more.join(".")));
    }
    let there: Vec<&Tree> = tree.children.iter().filter(|child| child.name == *word).collect();
    // Which of several is said by its first argument, which may have dots.
    for length in 1..=more.len() {
        let name = more[..length].join(".");
        if let Some(found) = there.iter().find(|child| inner.many && first(child).as_ref() == Some(&name)) {
            return target(found, inner, &more[length..], false);
        }
    }
    match there.as_slice() {
        [] => Ok(Target::New(tree, inner, more)),
        [only] => target(only, inner, more, false),
        several => {
            let names: Vec<String> = several.iter().filter_map(|child| first(child)).collect();
            let error = Error::new(format!("there are several `{word}`, and it is not said which is meant")).usage();
            Err(error.at(several.first().map(|child| &child.place)).hint(match names.first() {
                Some(name) => format!("name one: {word}.{name}"),
                None => "change it in the file".to_owned(),
            }))
        }
    }
}

fn unknown_word(tree: &Tree, own: &'static Node, word: &str) -> Error {
    let what = first(tree).map_or_else(String::new, |name| format!(" {}", quoted(&name)));
    let error = Error::new(format!("`{}`{what} has no `{word}`", own.name)).at(Some(&tree.place)).usage();
    let words = || own.children.iter().map(|row| row.name).chain(own.props.iter().map(|prop| prop.name));
    let deeper =
        own.children.iter().find(|inner| row(inner.children, word).is_some() || inner.props.iter().any(|prop| prop.name == word));
    match (nearest(word, words()), deeper) {
        (_, Some(inner)) => error.hint(format!("it belongs to `{}`: write {}.{word}", inner.name, inner.name)),
        (Some(near), None) => error.hint(format!("write {near}")),
        (None, None) => error.hint(format!("it has: {}", words().collect::<Vec<_>>().join(", "))),
    }
}

/// The only value.
pub fn single<'v>(path: &str, values: &'v [String]) -> Result<&'v str> {
    match values {
        [only] => Ok(only),
        _ => Err(Error::new(format!("{path}: one value was expected, and there are {}", values.len())).usage()),
    }
}

/// The arguments of a node from values, each checked.
pub fn arguments(row: &'static Node, values: &[String]) -> Result<Vec<Value>> {
    let least = row.args.iter().filter(|arg| arg.required).count();
    if values.len() < least || row.rest.is_none() && values.len() > row.args.len() {
        let message = format!("`{}` does not take {} value{}", row.name, values.len(), if values.len() == 1 { "" } else { "s" });
        return Err(Error::new(message).usage().hint(format!("for example: {}", row.example.lines().next().unwrap_or_default())));
    }
    let kinds = row.args.iter().map(|arg| arg.kind).chain(row.rest.iter().map(|arg| arg.kind).cycle());
    kinds.zip(values).map(|(kind, value)| literal(kind, value, row.name)).collect()
}

/// A value of a kind, checked, from the text of the command line; one with parameters is checked when they are known.
pub fn literal(kind: Kind, text: &str, what: &str) -> Result<Value> {
    let number = text.parse::<i128>().map(Value::Integer).or_else(|_| text.parse::<f64>().map(Value::Number));
    let flag = text.trim_start_matches('#').parse::<bool>().map(Value::Bool);
    let value = match kind {
        Kind::Integer(..) | Kind::Number | Kind::Ports => number.ok(),
        Kind::Flag | Kind::FlagOr(_) => flag.ok(),
        _ => None,
    };
    let value = value.unwrap_or_else(|| Value::Text(text.to_owned()));
    let place = Location { file: String::new(), line: 1, offset: 0, length: 0 };
    let given = Entry { value, place, name: 0, written: None };
    if !text.contains("${")
        && let Err((message, help)) = fits(&given, kind)
    {
        let error = Error::new(format!("{what} {text}: {message}")).usage();
        return Err(match help {
            Some(help) => error.hint(help),
            None => error,
        });
    }
    Ok(given.value)
}

/// A name of the user's choosing as it is written: in quotes unless it needs none.
pub fn key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let reserved = matches!(name, "true" | "false" | "null" | "inf" | "nan");
    if begins && !reserved && name.chars().all(plain) { name.to_owned() } else { quoted(name) }
}

/// A node that is not there yet, on one line: the words lead to what in it gets the values.
pub fn node(own: &'static Node, words: &[&str], values: &[String]) -> Result<String> {
    let Some((word, more)) = words.split_first() else {
        let written = arguments(own, values)?.iter().map(|value| format!(" {}", value.written())).collect::<String>();
        return Ok(format!("{}{written}", own.name));
    };
    let property =
        own.props.iter().find(|prop| prop.name == *word && more.is_empty()).map(|prop| (prop.name.to_owned(), prop.kind));
    if let Some((name, kind)) = own.free.map(|kind| (words.join("."), kind)).or(property) {
        let value = literal(kind, single(&name, values)?, &name)?;
        return Ok(format!("{} {}={}", own.name, key(&name), value.written()));
    }
    let Some(inner) = row(own.children, word) else {
        let error = Error::new(format!("`{}` has no `{word}`", own.name)).usage();
        return Err(error.hint(format!("for example: {}", own.example.lines().next().unwrap_or_default())));
    };
    Ok(format!("{} {{ {} }}", own.name, node(inner, more, values)?))
}

/// `publish` from a port as Docker writes it: HOST, HOST:CONTAINER or ADDRESS:HOST:CONTAINER, and `/udp`.
pub fn published(text: &str) -> Result<String> {
    let wrong = || Error::new(format!("--publish {text}: HOST:CONTAINER was expected, as in 8080:80")).usage();
    let (ports, protocol) = text.split_once('/').map_or((text, None), |(ports, protocol)| (ports, Some(protocol)));
    let parts: Vec<&str> = ports.split(':').collect();
    let (address, host, to) = match parts.as_slice() {
        [host] => (None, *host, None),
        [host, to] => (None, *host, Some(*to)),
        [address, host, to] => (Some(*address), *host, Some(*to)),
        _ => return Err(wrong()),
    };
    let publish = row(TOP, "container").and_then(|container| row(container.children, "publish")).ok_or_else(wrong)?;
    let port = |text: &str| literal(Kind::Ports, text, "--publish").map(|value| value.written());
    let mut written = format!("{} {}", publish.name, port(host)?);
    if let Some(to) = to {
        written += &format!(" to={}", port(to)?);
    }
    for (name, value) in [("address", address), ("protocol", protocol)] {
        let prop = publish.props.iter().find(|prop| prop.name == name).ok_or_else(wrong)?;
        if let Some(value) = value {
            written += &format!(" {name}={}", literal(prop.kind, value, "--publish")?.written());
        }
    }
    Ok(written)
}

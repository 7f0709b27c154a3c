//! Nodes laid over others: what profiles, further project files and the users of templates say counts over what is there.
//!
//! A node with the same name and first argument is merged, variables and labels are replaced one by one, and anything else is
//! added. `unset` takes something out.

use super::diagnose::{Diagnostic, Sink};
use super::grammar::{Node, row};
use super::tree::{Entry, Tree};
use crate::model::Location;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The word for taking something out.
const UNSET: &str = "unset";

/// What was laid over what so far.
#[derive(Default)]
pub struct Overlays {
    /// The places of what `unset` names and took out.
    taken: BTreeSet<Location>,
    /// The profiles that were applied, with where each is written.
    profiles: Vec<(String, String, Range<usize>)>,
    /// The profile that is being applied.
    now: Option<String>,
}

impl Overlays {
    /// Lays a profile over the project.
    pub fn profile(&mut self, base: &mut Vec<Tree>, name: &str, profile: Tree, rows: &'static [Node], sink: &mut Sink) {
        self.now = Some(name.to_owned());
        let within = (name.to_owned(), profile.place.file.clone(), profile.whole.clone());
        self.lay(base, profile.children, rows, sink);
        self.profiles.push(within);
        self.now = None;
    }

    /// Lays nodes over others.
    pub fn lay(&mut self, base: &mut Vec<Tree>, over: Vec<Tree>, rows: &'static [Node], sink: &mut Sink) {
        let (unset, over): (Vec<Tree>, Vec<Tree>) = over.into_iter().partition(|tree| tree.name == UNSET);
        // What is taken out stays out when all this is laid over a template, so the node itself is kept.
        for node in unset {
            for entry in &node.args {
                let before = base.iter().filter(|tree| tree.name == UNSET).flat_map(|tree| &tree.args);
                let is_again = before.clone().any(|known| known.value == entry.value && self.taken.contains(&known.place));
                if take_out(base, &entry.text(), rows) || is_again {
                    self.taken.insert(entry.place.clone());
                }
            }
            base.push(node);
        }
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
                self.replace_values(base, &mut tree, sink);
                if !tree.props.is_empty() {
                    base.push(tree);
                }
                continue;
            }
            let at = *known.entry(key(&tree, row)).or_insert(base.len());
            match base.get_mut(at) {
                Some(target) if row.children.is_empty() => {
                    if !is_same(target, &tree) {
                        self.tell(&target.place, &tree.place, &tree.name, sink);
                    }
                    *target = tree;
                }
                Some(target) => self.merge(target, tree, row, sink),
                None => base.push(tree),
            }
        }
    }

    fn merge(&mut self, target: &mut Tree, tree: Tree, row: &'static Node, sink: &mut Sink) {
        if row.one_of.iter().any(|name| says(&tree, row, name)) {
            let others: Vec<&str> = row.one_of.iter().copied().filter(|name| !says(&tree, row, name)).collect();
            if others.iter().any(|name| says(target, row, name)) {
                self.tell(&target.place, &tree.place, &tree.name, sink);
            }
            forget(target, row, &others);
        }
        for (name, entry) in &tree.props {
            if let Some((_, known)) =
                target.props.iter().find(|(known, _)| known == name).filter(|(_, known)| known.value != entry.value)
            {
                self.tell(&known.place, &entry.place, name, sink);
            }
        }
        target.props.retain(|(name, _)| !tree.props.iter().any(|(other, _)| other == name));
        target.props.extend(tree.props);
        if !tree.args.is_empty() {
            if !same_values(&target.args, &tree.args) {
                self.tell(&target.place, &tree.place, &tree.name, sink);
            }
            target.args = tree.args;
        }
        self.lay(&mut target.children, tree.children, row.children, sink);
    }

    /// Puts the values of an `env`, `label` or the like where their names stand already, and leaves the others in the node.
    fn replace_values(&self, base: &mut [Tree], over: &mut Tree, sink: &mut Sink) {
        over.props.retain(|(name, value)| {
            let mut there = base.iter_mut().filter(|tree| tree.name == over.name).flat_map(|tree| &mut tree.props);
            let Some((_, known)) = there.find(|(known, _)| known == name) else { return true };
            if known.value != value.value {
                self.tell(&known.place, &value.place, name, sink);
            }
            *known = value.clone();
            false
        });
    }

    /// Warns that a profile says something else than one before it.
    fn tell(&self, before: &Location, now: &Location, what: &str, sink: &mut Sink) {
        let Some(name) = &self.now else { return };
        let within = |(_, file, range): &&(String, String, Range<usize>)| *file == before.file && range.contains(&before.offset);
        let Some((other, ..)) = self.profiles.iter().find(within).filter(|(other, ..)| other != name) else { return };
        let message = format!("the profiles \"{other}\" and \"{name}\" give different values to `{what}`");
        let found = Diagnostic::warning("profiles-differ", now.clone(), message).other(before.clone(), "this does not count");
        sink.push(found.help(format!("\"{name}\" counts, because it was named last")));
    }

    /// Removes the `unset` nodes, and reports those that took nothing out.
    pub fn finish(&self, nodes: &mut Vec<Tree>, sink: &mut Sink) {
        for entry in nodes.iter().filter(|node| node.name == UNSET).flat_map(|node| &node.args) {
            if !self.taken.contains(&entry.place) && !sink.is_partial() {
                let message = format!("there is no \"{}\" to take out", entry.text());
                let help =
                    "name a node, with its name or key after a dot if one of several is meant: \"env.NAME\", \"mount./data\"";
                sink.push(Diagnostic::error("nothing-to-unset", entry.place.clone(), message).help(help));
            }
        }
        nodes.retain(|node| node.name != UNSET);
        for node in nodes {
            self.finish(&mut node.children, sink);
        }
    }
}

/// Takes out what a path names, and says whether there was anything: a node, one of several by its key, a variable, or something
/// in the block of one.
fn take_out(base: &mut Vec<Tree>, path: &str, rows: &'static [Node]) -> bool {
    let (word, key) = path.split_once('.').map_or((path, None), |(word, key)| (word, Some(key)));
    let Some(row) = row(rows, word).filter(|row| row.name != UNSET) else { return false };
    let count = |base: &[Tree]| base.iter().map(Tree::parts).sum::<usize>();
    let before = count(base);
    let Some(key) = key else {
        base.retain(|tree| tree.name != word);
        return count(base) != before;
    };
    if row.free.is_some() {
        for tree in base.iter_mut().filter(|tree| tree.name == word) {
            tree.props.retain(|(name, _)| name != key);
        }
        base.retain(|tree| tree.name != word || !tree.props.is_empty());
        return count(base) != before;
    }
    if row.many {
        base.retain(|tree| tree.name != word || identity(tree).as_deref() != Some(key));
        if count(base) != before {
            return true;
        }
    }
    let (name, rest) = if row.many { key.split_once('.').unwrap_or((key, "")) } else { ("", key) };
    for tree in base.iter_mut().filter(|tree| tree.name == word && (!row.many || identity(tree).as_deref() == Some(name))) {
        tree.props.retain(|(known, _)| known != rest);
        take_out(&mut tree.children, rest, row.children);
    }
    count(base) != before
}

/// Whether two nodes without blocks say the same.
fn is_same(one: &Tree, other: &Tree) -> bool {
    let props = |tree: &Tree| tree.props.iter().map(|(name, entry)| (name.clone(), entry.text())).collect::<BTreeMap<_, _>>();
    same_values(&one.args, &other.args) && props(one) == props(other)
}

fn same_values(one: &[Entry], other: &[Entry]) -> bool {
    one.iter().map(|entry| &entry.value).eq(other.iter().map(|entry| &entry.value))
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

/// What makes two nodes that may be repeated "the same".
fn identity(tree: &Tree) -> Option<String> {
    let keyed = tree.props.iter().find(|(name, _)| name == "to").map(|(_, entry)| entry.text());
    let names = || tree.props.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let first = tree.args.first().map(|entry| entry.text());
    if tree.name == "mount" { keyed } else { first.or_else(|| Some(names())) }
}

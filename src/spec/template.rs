//! Templates: what containers and jobs have in common, written once, with parameters of its own.
//!
//! The nodes of a template are the defaults of whoever uses it: what is written there lies over them, by the rules of profiles. A
//! template may use another one.

use super::diagnose::{Diagnostic, Sink};
use super::grammar::row;
use super::language::TOP;
use super::overlay::Overlays;
use super::params::{Declared, Given};
use super::substitute::Substitution;
use super::tree::{Entry, Tree};
use crate::model::{Location, bounds, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many templates may start from each other in a row.
const DEPTH: usize = 16;

/// The use of a template.
#[derive(Clone, Debug)]
pub struct Use {
    pub template: String,
    /// Where it is used.
    pub place: Location,
    file: String,
    range: Range<usize>,
}

impl Use {
    /// Whether a place is in the template.
    pub fn has(&self, place: &Location) -> bool {
        place.file == self.file && self.range.contains(&place.offset)
    }
}

/// The templates of a project.
pub struct Templates {
    all: BTreeMap<String, Tree>,
    /// Those that use themselves, directly or not, and those that use too many others in a row.
    endless: BTreeSet<String>,
    pub uses: Vec<Use>,
    /// How many nodes and values were put into the project so far.
    parts: usize,
}

impl Templates {
    /// Takes the templates out of a project's nodes, and reports names that occur twice and templates that use themselves.
    pub fn of(nodes: &mut Vec<Tree>, sink: &mut Sink) -> Self {
        let mut all: BTreeMap<String, Tree> = BTreeMap::new();
        for tree in nodes.extract_if(.., |tree| tree.name == "template") {
            let Some(name) = tree.first_text().map(str::to_owned) else { continue };
            if let Some(first) = all.get(&name) {
                let message = format!("there are two templates named \"{name}\"");
                let found = Diagnostic::error("duplicate", tree.first_place(), message).other(first.first_place(), "first here");
                sink.push(found.help("give one of them another name"));
                continue;
            }
            all.insert(name, tree);
        }
        let mut templates = Self { all, endless: BTreeSet::new(), uses: Vec::new(), parts: 0 };
        templates.find_endless(sink);
        templates
    }

    /// Reports each circle of templates once, and one chain that is too long.
    fn find_endless(&mut self, sink: &mut Sink) {
        let mut is_told = false;
        for start in self.all.keys() {
            let mut trail = vec![start.as_str()];
            while let Some((next, entry)) = self.all.get(trail[trail.len() - 1]).and_then(used) {
                let Some(at) = trail.iter().position(|name| *name == next) else {
                    trail.push(next);
                    if trail.len() <= DEPTH {
                        continue;
                    }
                    self.endless.insert(start.clone());
                    if !is_told {
                        let message = format!("more than {DEPTH} templates use each other in a row");
                        sink.push(
                            Diagnostic::error("template-depth", entry.place.clone(), message).help("write some of them as one"),
                        );
                    }
                    is_told = true;
                    break;
                };
                let circle = &trail[at..];
                if !circle.iter().any(|name| self.endless.contains(*name)) {
                    let message = format!("the template \"{next}\" uses itself: {} → {next}", circle.join(" → "));
                    let found = Diagnostic::error("template-cycle", entry.place.clone(), message);
                    let first = self.all.get(next).map(Tree::first_place).unwrap_or_else(|| entry.place.clone());
                    sink.push(found.other(first, "this template").help("take one of these `template=` out"));
                    self.endless.extend(circle.iter().map(|name| (*name).to_owned()));
                }
                break;
            }
        }
    }

    /// Puts the nodes of the template that a container or job names into it. Its own values have been put in already.
    pub fn apply(&mut self, node: &mut Tree, values: &mut Substitution, overlays: &mut Overlays, sink: &mut Sink) {
        let Some(row) = row(TOP, &node.name) else { return };
        let (with, own): (Vec<Tree>, Vec<Tree>) = std::mem::take(&mut node.children).into_iter().partition(is_with);
        let Some(at) = node.props.iter().position(|(name, _)| name == "template") else {
            without_template(&with, sink);
            node.children = own;
            return;
        };
        let (_, entry) = node.props.remove(at);
        let mut children = self.instance(&entry, &with, values, overlays, sink);
        for child in children.extract_if(.., |child| super::grammar::row(row.children, &child.name).is_none()) {
            let message = format!("`{}` of the template \"{}\" is not known in `{}`", child.name, entry.text(), node.name);
            let found = Diagnostic::error("unknown-node", child.place, message).other(entry.place.clone(), "used here");
            sink.push(found.help("write it where it belongs, or make two templates, of which one uses the other"));
        }
        overlays.lay(&mut children, own, row.children, sink);
        node.children = children;
    }

    /// The nodes of a template, with its parameters' values in them.
    fn instance(
        &mut self,
        named: &Entry,
        with: &[Tree],
        values: &mut Substitution,
        overlays: &mut Overlays,
        sink: &mut Sink,
    ) -> Vec<Tree> {
        let name = named.text();
        let Some(template) = self.all.get(&name) else {
            if !sink.is_partial() {
                let near = nearest(&name, self.all.keys().map(String::as_str)).map(|near| format!("write \"{near}\""));
                let found = Diagnostic::error("unknown-name", named.place.clone(), format!("there is no template \"{name}\""));
                sink.push(found.help(near.unwrap_or_else(|| format!("declare it: template \"{name}\" {{ image \"…\" }}"))));
            }
            return Vec::new();
        };
        let is_full = self.parts > bounds::PROJECT_PARTS;
        self.parts += template.parts();
        if self.endless.contains(&name) || is_full {
            return Vec::new();
        }
        if self.parts > bounds::PROJECT_PARTS {
            let message = format!("templates put more than {} nodes and values into the project", bounds::PROJECT_PARTS);
            let found = Diagnostic::error("too-many-nodes", named.place.clone(), message);
            sink.push(found.help("use `replicas` for containers that are alike"));
            return Vec::new();
        }
        let template = template.clone();
        let (file, range) = (template.place.file.clone(), template.whole.clone());
        self.uses.push(Use { template: name.clone(), place: named.place.clone(), file, range });
        let Some(row) = row(TOP, "template") else { return Vec::new() };
        let base = used(&template).map(|(_, entry)| entry.clone());
        let (mut params, rest): (Vec<Tree>, Vec<Tree>) = template.children.iter().cloned().partition(|node| node.name == "param");
        let outer = values.enter(BTreeMap::new());
        params.iter_mut().for_each(|param| values.node(param, row.children, sink));
        values.enter(arguments(&template, &params, with, named, sink));
        let mut rest = rest;
        rest.iter_mut().for_each(|node| values.node(node, row.children, sink));
        values.enter(outer);
        let (with, own): (Vec<Tree>, Vec<Tree>) = rest.into_iter().partition(is_with);
        let Some(base) = base else {
            without_template(&with, sink);
            return own;
        };
        let mut nodes = self.instance(&base, &with, values, overlays, sink);
        overlays.lay(&mut nodes, own, row.children, sink);
        nodes
    }
}

fn is_with(node: &Tree) -> bool {
    node.name == "with"
}

/// The template that a template starts from.
fn used(template: &Tree) -> Option<(&str, &Entry)> {
    let (_, entry) = template.props.iter().find(|(name, _)| name == "template")?;
    if let super::tree::Value::Text(name) = &entry.value { Some((name, entry)) } else { None }
}

fn without_template(with: &[Tree], sink: &mut Sink) {
    for node in with {
        let message = "`with` gives values to a template, and none is named here";
        sink.push(Diagnostic::error("with", node.place.clone(), message).help("write template=\"NAME\", or take `with` out"));
    }
}

/// The values of a template's parameters for one use of it.
fn arguments(template: &Tree, params: &[Tree], with: &[Tree], named: &Entry, sink: &mut Sink) -> BTreeMap<String, Given> {
    let name = named.text();
    let declared = Declared::all(params.iter(), sink);
    let given = || with.iter().flat_map(|node| &node.props);
    for (param, entry) in given().filter(|(param, _)| !declared.iter().any(|known| known.name == param)) {
        let message = format!("the template \"{name}\" has no parameter \"{param}\"");
        let near = nearest(param, declared.iter().map(|known| known.name)).map(|near| format!("write `{near}`"));
        let found =
            Diagnostic::error("unknown-param", entry.name_place(), message).other(template.first_place(), "this template");
        sink.push(found.maybe_help(near));
    }
    let mut found = BTreeMap::new();
    for param in &declared {
        let value = match given().find(|(name, _)| name == param.name) {
            Some((_, entry)) => param.checked(entry.text(), &entry.place, "this value", sink),
            None => param.default(sink).unwrap_or_else(|| {
                let message = format!("the template \"{name}\" needs a value of its parameter \"{}\"", param.name);
                let missing = Diagnostic::error("param-without-value", named.place.clone(), message);
                let missing = missing.other(param.node.place.clone(), "declared here");
                sink.push(missing.help(format!("write it in the block: with {}=…", param.name)));
                Given { text: None, reported: true, file: String::new() }
            }),
        };
        found.insert(param.name.to_owned(), value);
    }
    found
}

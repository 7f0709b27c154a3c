//! Puts a project together: its files, then profiles, then parameters and templates.
//!
//! The result is one list of checked top-level nodes with every `${name}` replaced.

use super::diagnose::{Diagnostic, Sink};
use super::grammar;
use super::include::Reading;
use super::language::TOP;
use super::overlay::Overlays;
use super::params::{Values, values};
use super::substitute::Substitution;
use super::template::{Templates, Use};
use super::tree::Tree;
use super::{Choices, Sources};
use crate::model::{Location, nearest};
use std::collections::{BTreeMap, BTreeSet};

/// A project's nodes, ready to be decoded.
pub struct Assembled {
    pub nodes: Vec<Tree>,
    pub files: BTreeMap<String, String>,
    /// The values of parameters, and where they come from.
    pub values: Values,
    /// The values that the command line gives to parameters.
    pub given: BTreeMap<String, String>,
    /// Where templates are used.
    pub uses: Vec<Use>,
    /// The containers, jobs and networks that only profiles have that are not chosen, with the profile's name.
    pub unchosen: Vec<(Tree, String)>,
    /// Whether there are inactive profiles: images that only they use need no warning.
    pub unused_profiles: bool,
}

pub fn assemble(file: &str, choices: &Choices, sources: &dyn Sources, sink: &mut Sink) -> Assembled {
    let (files, mut nodes, mut overlays) = read(file, choices, sources, sink);
    let unchosen = profiles(file, &mut nodes, choices, &mut overlays, sink);
    let unused_profiles = !unchosen.is_empty();
    let values = values(&nodes, choices, sources, sink);
    let mut templates = Templates::of(&mut nodes, sink);
    let mut substitution = Substitution::new(&values);
    for node in &mut nodes {
        substitution.node(node, TOP, sink);
        if matches!(node.name.as_str(), "container" | "job") {
            templates.apply(node, &mut substitution, &mut overlays, sink);
        }
    }
    substitution.report_missing(&values, sink);
    overlays.finish(&mut nodes, sink);
    for node in &mut nodes {
        grammar::complete(node, TOP);
    }
    let unchosen = only_there(&nodes, unchosen);
    let (given, uses) = (choices.set.clone(), templates.uses);
    Assembled { nodes, files, values, given, uses, unchosen, unused_profiles }
}

/// Reads the project's files, of which each lies over those before it.
fn read(
    file: &str,
    choices: &Choices,
    sources: &dyn Sources,
    sink: &mut Sink,
) -> (BTreeMap<String, String>, Vec<Tree>, Overlays) {
    let mut reading = Reading::new(sources, sink);
    let raw: Vec<Vec<Tree>> = all_files(file, choices).map(|file| reading.file(file, None)).collect();
    let files = reading.files;
    let (mut nodes, mut overlays) = (Vec::new(), Overlays::default());
    for (at, raw) in raw.into_iter().enumerate() {
        let checked = grammar::check(raw, TOP, "a project", sink);
        if at == 0 {
            nodes = checked;
        } else {
            overlays.lay(&mut nodes, checked, TOP, sink);
        }
    }
    (files, nodes, overlays)
}

fn all_files<'a>(file: &'a str, choices: &'a Choices) -> impl Iterator<Item = &'a str> {
    std::iter::once(file).chain(choices.files.iter().map(String::as_str))
}

/// The texts of a project's files and of those that they include.
pub fn texts(file: &str, choices: &Choices, sources: &dyn Sources, sink: &mut Sink) -> BTreeMap<String, String> {
    let mut reading = Reading::new(sources, sink);
    for file in all_files(file, choices) {
        reading.file(file, None);
    }
    reading.files
}

/// Lays the profiles that were chosen over the project, in the order in which they were chosen, and returns the others.
fn profiles(
    file: &str,
    nodes: &mut Vec<Tree>,
    choices: &Choices,
    overlays: &mut Overlays,
    sink: &mut Sink,
) -> Vec<(String, Tree)> {
    let all = nodes.extract_if(.., |node| node.name == "profile");
    let mut all: Vec<(String, Tree)> = all.filter_map(|node| Some((node.first_text()?.to_owned(), node))).collect();
    for (at, wanted) in choices.profiles.iter().enumerate() {
        // A profile that is named twice has the place of its last name.
        if choices.profiles[at + 1..].contains(wanted) {
            continue;
        }
        let chosen: Vec<(String, Tree)> = all.extract_if(.., |(name, _)| name == wanted).collect();
        if chosen.is_empty() && !sink.is_partial() {
            let near = nearest(wanted, all.iter().map(|(name, _)| name.as_str()));
            let start = Location { file: file.to_owned(), line: 1, offset: 0, length: 0 };
            let found = Diagnostic::error("unknown-profile", start, format!("there is no profile \"{wanted}\""));
            sink.push(found.maybe_help(near.map(|near| format!("write `--profile {near}`"))));
        }
        for (name, profile) in chosen {
            overlays.profile(nodes, &name, profile, TOP, sink);
        }
    }
    all
}

/// The containers, jobs and networks of profiles that the project does not have without them.
fn only_there(nodes: &[Tree], profiles: Vec<(String, Tree)>) -> Vec<(Tree, String)> {
    let key = |tree: &Tree| Some((tree.name.clone(), tree.first_text()?.to_owned()));
    let there: BTreeSet<(String, String)> = nodes.iter().filter_map(key).collect();
    let is_meant = |tree: &Tree| matches!(tree.name.as_str(), "container" | "job" | "network");
    let mut found = Vec::new();
    for (name, profile) in profiles {
        let more = profile.children.into_iter().filter(is_meant);
        found.extend(more.filter(|tree| key(tree).is_some_and(|key| !there.contains(&key))).map(|tree| (tree, name.clone())));
    }
    found
}

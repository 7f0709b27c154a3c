//! Reads the files of a project: each `include` is replaced by the nodes of the file that it names.

use super::Sources;
use super::diagnose::{Diagnostic, Sink};
use super::language::TOP;
use super::paths::settle;
use super::tree::{Tree, Value, parse};
use crate::model::{Amount, Location, bounds};
use std::collections::{BTreeMap, BTreeSet};
use std::iter::once;

/// A file that is being read.
struct Open {
    file: String,
    identity: String,
    /// The `include` that named it.
    from: Option<Location>,
}

/// The state while the files of a project are read.
pub struct Reading<'a> {
    sources: &'a dyn Sources,
    sink: &'a mut Sink,
    /// The texts of the files that were read.
    pub files: BTreeMap<String, String>,
    /// The files being read, each included by the one before it.
    trail: Vec<Open>,
    /// The identities of all files that were read: each is read once.
    known: BTreeSet<String>,
    /// The bytes, and below the nodes and values, so far.
    length: usize,
    parts: usize,
    /// Whether a limit was exceeded, which has been reported.
    full: bool,
}

impl<'a> Reading<'a> {
    pub fn new(sources: &'a dyn Sources, sink: &'a mut Sink) -> Self {
        let (files, trail, known) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { sources, sink, files, trail, known, length: 0, parts: 0, full: false }
    }

    /// Reads a file and, in place of each `include`, the file that it names. Paths in them become relative to the project's
    /// directory.
    pub fn file(&mut self, file: &str, from: Option<&Location>) -> Vec<Tree> {
        let start = from.cloned().unwrap_or(Location { file: file.to_owned(), line: 1, offset: 0, length: 0 });
        let identity = self.sources.identity(file);
        if let Some(at) = self.trail.iter().position(|open| open.identity == identity) {
            let trail: Vec<&str> = self.trail[at..].iter().map(|open| open.file.as_str()).collect();
            let message = format!("`{file}` includes itself: {} → {file}", trail.join(" → "));
            let mut found = Diagnostic::error("include-cycle", start, message);
            if let Some(first) = self.trail.get(at + 1).and_then(|next| next.from.clone()) {
                found = found.other(first, "the circle begins here").help("take one of the two out");
            }
            self.sink.push(found);
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
                let found = Diagnostic::error("unreadable", start, format!("cannot read `{file}`: {why}"));
                let help = "an `include` is relative to the file that it is written in";
                self.sink.push(if from.is_some() { found.help(help) } else { found });
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
        let parsed = match self.sources.memory() {
            Some(memory) => memory.parse(file, &text, self.sink),
            None => parse(file, &text, self.sink),
        };
        self.parts += parsed.iter().map(Tree::parts).sum::<usize>();
        if self.parts > bounds::PROJECT_PARTS {
            let message = format!("the files of a project have at most {} nodes and values together", bounds::PROJECT_PARTS);
            self.too_much(start, message);
            return Vec::new();
        }
        self.known.insert(identity.clone());
        self.files.insert(file.to_owned(), text);
        self.trail.push(Open { file: file.to_owned(), identity, from: from.cloned() });
        let nodes = self.included(file, parsed);
        self.trail.pop();
        nodes
    }

    fn included(&mut self, file: &str, parsed: Vec<Tree>) -> Vec<Tree> {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut nodes = Vec::new();
        for mut tree in parsed {
            match (tree.name.as_str(), tree.args.first().map(|entry| (&entry.value, &entry.place))) {
                ("include", Some((Value::Text(path), place))) => {
                    if path.contains("${") {
                        let message = "files are included before parameters have values";
                        let found = Diagnostic::error("wrong-value", place.clone(), message);
                        self.sink.push(found.help("write the path; a `profile` chooses between variants"));
                        continue;
                    }
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
                _ => {
                    settle(&mut tree, TOP);
                    nodes.push(tree);
                }
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

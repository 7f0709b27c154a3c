//! What is open in the editor, and which project each file belongs to.

use super::candidate::Snippets;
use super::convert::{Words, our_position};
use super::document::{Document, change};
use super::positions::Encoding;
use super::project::{At, Project};
use super::uri::path_of;
use super::watch::{Look, Seen};
use super::work::{Check, OpenFile, Results, parts};
use crate::engine::Options;
use lsp_types as lsp;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};

/// An open file.
pub struct Opened {
    uri: lsp::Uri,
    version: i32,
    text: String,
    document: OnceCell<Arc<Document>>,
}

impl Opened {
    fn document(&self) -> &Arc<Document> {
        self.document.get_or_init(|| Arc::new(Document::new(self.text.as_str())))
    }
}

/// Everything that requests are answered from.
pub struct State {
    pub options: Options,
    pub encoding: Encoding,
    pub snippets: Snippets,
    pub results: Results,
    pub seen: Arc<Seen>,
    pub looks: Sender<Look>,
    pub open: BTreeMap<PathBuf, Opened>,
}

/// A file as a request sees it: with its project.
pub struct Here {
    pub root: PathBuf,
    pub folder: PathBuf,
    pub file: String,
    pub version: i32,
    pub document: Arc<Document>,
    pub project: Project,
    pub uris: BTreeMap<String, lsp::Uri>,
    pub encoding: Encoding,
}

impl Here {
    pub fn words(&self) -> Words<'_> {
        Words { encoding: self.encoding, project: &self.project, folder: &self.folder, uris: &self.uris }
    }

    /// The place of a position.
    pub fn at(&self, position: lsp::Position) -> At<'_> {
        let offset = self.document.offset(our_position(position), self.encoding);
        At { project: &self.project, file: &self.file, document: &self.document, offset }
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: lsp::Range) -> std::ops::Range<usize> {
        let (start, end) = (self.at(range.start).offset, self.at(range.end).offset);
        start.min(end)..start.max(end)
    }
}

impl State {
    /// A file was opened. Returns the checks that are due.
    pub fn opened(&mut self, item: lsp::TextDocumentItem) -> Option<Check> {
        let path = path_of(&item.uri);
        let opened = Opened { uri: item.uri, version: item.version, text: item.text, document: OnceCell::new() };
        self.open.insert(path.clone(), opened);
        self.check(&path)
    }

    /// A file was changed.
    pub fn changed(&mut self, params: lsp::DidChangeTextDocumentParams) -> Option<Check> {
        let path = path_of(&params.text_document.uri);
        let opened = self.open.get_mut(&path)?;
        for one in params.content_changes {
            let range = one.range.map(|range| (our_position(range.start), our_position(range.end)));
            change(&mut opened.text, range, &one.text, self.encoding);
        }
        opened.version = params.text_document.version;
        opened.document = OnceCell::new();
        self.check(&path)
    }

    /// A file was closed.
    pub fn closed(&mut self, uri: &lsp::Uri) -> Option<Check> {
        let path = path_of(uri);
        let root = self.root(&path);
        self.open.remove(&path)?;
        self.checks_of(root?)
    }

    /// Something on the disk changed: all projects must be checked.
    pub fn all(&self) -> Vec<Check> {
        let mut roots: Vec<PathBuf> = self.open.keys().filter_map(|path| self.root(path)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots.into_iter().filter_map(|root| self.checks_of(root)).collect()
    }

    fn check(&self, path: &Path) -> Option<Check> {
        self.checks_of(self.root(path)?)
    }

    fn checks_of(&self, root: PathBuf) -> Option<Check> {
        let (folder, _) = parts(&root);
        let one = |(path, opened): (&PathBuf, &Opened)| {
            // A file that is a project of its own is checked as one.
            let (own, file) = (self.root(path)? == root, relative(&folder, path)?);
            let text = opened.document.get().map_or_else(|| opened.text.as_str().into(), |document| document.text.clone());
            own.then_some((file, OpenFile { uri: opened.uri.clone(), version: opened.version, text }))
        };
        let open = self.open.iter().filter_map(one).collect();
        Some(Check { root, open })
    }

    /// The file of the project that a file belongs to: the nearest one with the usual name, in its directory or above. A
    /// file that names a project is one itself.
    fn root(&self, path: &Path) -> Option<PathBuf> {
        if !path.is_absolute() {
            return None;
        }
        let named = |path: &Path| path.file_name().is_some_and(|name| name == self.options.file.as_str());
        if named(path) || self.open.get(path).is_some_and(|opened| is_kdl(path) && names_a_project(&opened.text)) {
            return Some(path.to_owned());
        }
        let candidates = path.ancestors().skip(1).map(|folder| folder.join(&self.options.file));
        candidates.into_iter().find(|candidate| self.open.contains_key(candidate) || candidate.is_file())
    }

    /// A file with its project, if it is open or part of a project that is.
    pub fn here(&self, uri: &lsp::Uri) -> Option<Here> {
        let path = path_of(uri);
        let root = self.root(&path).unwrap_or_else(|| path.clone());
        let (folder, _) = parts(&root);
        let file = relative(&folder, &path).unwrap_or_default();
        let checked = self.results.lock().unwrap_or_else(PoisonError::into_inner).get(&root).cloned().unwrap_or_default();
        let observed = self.seen.projects.lock().unwrap_or_else(PoisonError::into_inner).get(&root).cloned();
        let mut documents = checked.documents.clone();
        let mut uris = BTreeMap::new();
        for (other, opened) in &self.open {
            let Some(name) = relative(&folder, other) else { continue };
            if name == file || is_kdl(other) && checked.files.contains(&name) {
                documents.insert(name.clone(), opened.document().clone());
            }
            uris.insert(name, opened.uri.clone());
        }
        let project = Project { documents, locked: checked.locked.clone(), observed: observed.unwrap_or_default() };
        let document = project.documents.get(&file)?.clone();
        let version = self.open.get(&path).map_or(i32::MIN, |opened| opened.version);
        Some(Here { root, folder, file, version, document, project, uris, encoding: self.encoding })
    }
}

/// A path below a directory, tidy, as the project's files are named.
fn relative(folder: &Path, path: &Path) -> Option<String> {
    Some(crate::spec::tidy(path.strip_prefix(folder).ok()?.to_str()?))
}

fn is_kdl(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "kdl")
}

fn names_a_project(text: &str) -> bool {
    text.lines().any(|line| line.trim_start_matches('\u{feff}').starts_with("project "))
}

//! The thread that checks projects, so that no keystroke waits for it: what it finds goes to the editor.
//!
//! Of several versions of a text that wait to be checked, only the newest one is.

use super::convert::{finding, range_in};
use super::document::Document;
use super::facts::Locked;
use super::positions::{Encoding, Lines};
use super::uri::uri_of;
use crate::engine::{self, Chosen, Instance, Options, Unsaved};
use crate::model::Location;
use crate::spec::{Diagnostic, Severity, tidy};
use lsp_server::{Message, Notification};
use lsp_types as lsp;
use lsp_types::notification::{Notification as _, PublishDiagnostics};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

/// How messages are sent to the editor.
pub type ToEditor = Arc<dyn Fn(Message) + Send + Sync>;

/// A file that is open in the editor.
#[derive(Clone, Debug)]
pub struct OpenFile {
    pub uri: lsp::Uri,
    pub version: i32,
    pub text: Arc<str>,
}

/// A project to check, with its open files by their paths relative to its directory; without any, it is closed.
#[derive(Clone, Debug)]
pub struct Check {
    pub root: PathBuf,
    pub open: BTreeMap<String, OpenFile>,
}

/// What was found in a project.
#[derive(Debug, Default)]
pub struct Checked {
    /// The versions of the open files that were checked.
    pub versions: BTreeMap<String, i32>,
    pub findings: Vec<Diagnostic>,
    /// All its files of KDL, and those of them that are not open, analysed.
    pub files: BTreeSet<String>,
    pub documents: BTreeMap<String, Arc<Document>>,
    pub locked: Arc<Locked>,
}

/// What was found in all projects, by their files.
pub type Results = Arc<Mutex<BTreeMap<PathBuf, Arc<Checked>>>>;

/// What is kept of a project from one check to the next.
#[derive(Default)]
struct Kept {
    unsaved: Unsaved,
    stamp: Option<(u64, u64, i64, i64)>,
    locked: Arc<Locked>,
    documents: BTreeMap<String, Arc<Document>>,
    published: BTreeMap<String, (Option<i32>, Vec<lsp::Diagnostic>)>,
}

/// The thread's state.
pub struct Checker {
    pub options: Options,
    pub encoding: Encoding,
    pub results: Results,
    pub to_editor: ToEditor,
}

/// The directory and the name of a project's file.
pub fn parts(root: &Path) -> (PathBuf, String) {
    let folder = root.parent().map_or_else(PathBuf::new, Path::to_owned);
    (folder, root.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The options of the project with this file.
pub fn options_of(options: &Options, root: &Path) -> Options {
    let (folder, file) = parts(root);
    let chosen = if file == options.file { options.chosen } else { Chosen::ByPerson };
    Options { folder, file, chosen, ..options.clone() }
}

impl Checker {
    /// Checks what is asked for until nobody can ask any more.
    pub fn run(self, checks: &Receiver<Check>) {
        let mut projects: BTreeMap<PathBuf, Kept> = BTreeMap::new();
        while let Ok(first) = checks.recv() {
            let mut newest: BTreeMap<PathBuf, Check> = BTreeMap::new();
            for check in std::iter::once(first).chain(checks.try_iter()) {
                newest.insert(check.root.clone(), check);
            }
            for (root, check) in newest {
                if check.open.is_empty() {
                    let kept = projects.remove(&root).unwrap_or_default();
                    self.results.lock().unwrap_or_else(PoisonError::into_inner).remove(&root);
                    let shown = kept.published.into_iter().filter(|(_, (_, found))| !found.is_empty());
                    shown.for_each(|(file, _)| self.publish(&check, &file, Vec::new()));
                } else {
                    self.check(&check, projects.entry(root).or_default());
                }
            }
        }
    }

    fn check(&self, check: &Check, kept: &mut Kept) {
        let options = options_of(&self.options, &check.root);
        kept.unsaved.texts = check.open.iter().map(|(file, open)| (file.clone(), open.text.clone())).collect();
        kept.refresh_lock(&options);
        let (findings, files) = match engine::findings_among(&options, &kept.unsaved) {
            Ok(loaded) => {
                // The file is valid, as `check` says, but `up` will refuse it.
                let later = loaded.unsupported.into_iter().map(|found| Diagnostic { severity: Severity::Warning, ..found });
                (loaded.diagnostics.into_iter().chain(later).collect(), loaded.files)
            }
            Err(error) => {
                let start = Location { file: options.file.clone(), line: 1, offset: 0, length: 0 };
                (vec![Diagnostic::error("unreadable", start, error.to_string())], BTreeMap::new())
            }
        };
        let texts: BTreeMap<String, Arc<str>> = files.into_iter().map(|(file, text)| (tidy(&file), text.into())).collect();
        let own = |file: &&String| file.ends_with(".kdl") || **file == options.file;
        let (files, mut documents): (BTreeSet<String>, BTreeMap<_, _>) =
            (texts.keys().filter(own).cloned().collect(), BTreeMap::new());
        for file in files.iter().filter(|file| !check.open.contains_key(*file)) {
            let known = kept.documents.get(file).filter(|known| known.text == texts[file]).cloned();
            documents.insert(file.clone(), known.unwrap_or_else(|| Arc::new(Document::new(texts[file].clone()))));
        }
        kept.documents.clone_from(&documents);
        let shown = self.converted(check, &options, &findings, &texts);
        let versions = check.open.iter().map(|(file, open)| (file.clone(), open.version)).collect();
        let checked = Checked { versions, findings, files, documents, locked: kept.locked.clone() };
        self.results.lock().unwrap_or_else(PoisonError::into_inner).insert(check.root.clone(), Arc::new(checked));
        for (file, found) in shown {
            let version = check.open.get(&file).map(|open| open.version);
            let unknown = !kept.published.contains_key(&file) && found.is_empty() && version.is_none();
            if unknown || kept.published.get(&file).is_some_and(|(before, same)| *before == version && *same == found) {
                continue;
            }
            kept.published.insert(file.clone(), (version, found.clone()));
            self.publish(check, &file, found);
        }
    }

    /// The findings by their files; also files without any have an entry, so that old findings disappear.
    fn converted(
        &self,
        check: &Check,
        options: &Options,
        findings: &[Diagnostic],
        texts: &BTreeMap<String, Arc<str>>,
    ) -> BTreeMap<String, Vec<lsp::Diagnostic>> {
        let file_of = |place: &Location| if place.file.is_empty() { options.file.clone() } else { tidy(&place.file) };
        let mut shown: BTreeMap<String, Vec<lsp::Diagnostic>> = texts.keys().map(|file| (file.clone(), Vec::new())).collect();
        let mut lines: BTreeMap<String, (Arc<str>, Lines)> = BTreeMap::new();
        let places = findings.iter().flat_map(|found| [Some(&found.place), found.other.as_ref().map(|(place, _)| place)]);
        for file in places.flatten().map(file_of) {
            lines.entry(file).or_insert_with_key(|file| {
                let open = || check.open.get(file).map(|open| open.text.clone());
                let text = texts.get(file).cloned().or_else(open).unwrap_or_else(|| "".into());
                let lines = Lines::new(&text);
                (text, lines)
            });
        }
        for found in findings {
            let other = found.other.as_ref().and_then(|(place, _)| {
                let (text, lines) = lines.get(&file_of(place))?;
                let range = range_in(text, lines, &(place.offset..place.offset + place.length), self.encoding);
                Some(lsp::Location { uri: uri(check, &file_of(place))?, range })
            });
            let file = file_of(&found.place);
            if let Some((text, lines)) = lines.get(&file) {
                shown.entry(file).or_default().push(finding(found, (text, lines), self.encoding, other));
            }
        }
        shown
    }

    fn publish(&self, check: &Check, file: &str, diagnostics: Vec<lsp::Diagnostic>) {
        let Some(uri) = uri(check, file) else { return };
        let version = check.open.get(file).map(|open| open.version);
        let params = lsp::PublishDiagnosticsParams { uri, diagnostics, version };
        (self.to_editor)(Notification::new(PublishDiagnostics::METHOD.into(), params).into());
    }
}

/// The URI of a file as the editor writes it, or from its path.
fn uri(check: &Check, file: &str) -> Option<lsp::Uri> {
    let (folder, _) = parts(&check.root);
    check.open.get(file).map(|open| open.uri.clone()).or_else(|| uri_of(&folder.join(file)))
}

impl Kept {
    /// Reads the lock again if its file is another one.
    fn refresh_lock(&mut self, options: &Options) {
        let stamp = std::fs::metadata(options.folder.join("stead.lock"))
            .map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
            .ok();
        if stamp != self.stamp {
            self.stamp = stamp;
            // A damaged lock is no finding about the project's files: `up` and `plan` refuse it, and nothing is shown from it.
            let instance = Instance::new(&options.home, &options.folder, &options.file);
            self.locked = Arc::new(Locked::read(&instance).unwrap_or_default());
        }
    }
}

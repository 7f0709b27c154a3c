//! A project as the features see it: its analysed files and what is known about it; and a place in it.

use super::document::Document;
use super::facts::{Locked, Observed};
use super::names::{Kind, Mention, Role};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A project.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// Its files of KDL, by their tidy paths relative to its directory.
    pub documents: BTreeMap<String, Arc<Document>>,
    pub locked: Arc<Locked>,
    pub observed: Arc<Observed>,
}

/// What is on the disk around a project; tests have some of their own.
pub trait Around {
    /// The files and directories in a directory of the project.
    fn list(&self, folder: &str) -> Vec<Listed>;
    /// The names and versions of the packages of a suite, as far as its indexes are here.
    fn packages(&self, project: &Project, suite: &str) -> Option<Arc<Vec<(String, String)>>>;
}

/// A file or a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: String,
    pub folder: bool,
}

/// A range in a file of the project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    pub file: String,
    pub range: Range<usize>,
}

/// A place in a project.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub project: &'a Project,
    pub file: &'a str,
    pub document: &'a Document,
    pub offset: usize,
}

impl Project {
    /// All names in all files.
    pub fn mentions(&self) -> impl Iterator<Item = (&str, &Document, &Mention)> {
        let files = self.documents.iter();
        files.flat_map(|(file, document)| document.mentions.iter().map(move |mention| (file.as_str(), &**document, mention)))
    }

    /// Where a name is declared: outside of profiles if it is there, else in one.
    pub fn declared(&self, kind: Kind, name: &str) -> Vec<(&str, &Document, &Mention)> {
        let of = |role: Role| -> Vec<_> {
            self.mentions().filter(|(_, _, one)| one.kind == kind && one.role == role && one.name == name).collect()
        };
        let declared = of(Role::Declared);
        if declared.is_empty() { of(Role::Changed) } else { declared }
    }

    /// The names of a kind.
    pub fn names(&self, kind: Kind) -> BTreeMap<&str, (&str, &Document, &Mention)> {
        let all = self.mentions().filter(|(_, _, one)| one.kind == kind && one.role != Role::Used);
        all.map(|(file, document, one)| (one.name.as_str(), (file, document, one))).collect()
    }
}

/// The path that a path in a file means, tidy: it is relative to the file's directory for `include`, and otherwise to the
/// project's.
pub fn relative_to(file: &str, path: &str) -> String {
    match file.rsplit_once('/') {
        Some((folder, _)) if !path.starts_with('/') => crate::spec::tidy(&format!("{folder}/{path}")),
        _ => crate::spec::tidy(path),
    }
}

#[cfg(test)]
pub mod testing {
    //! Projects for tests: a text with `█` at the cursor.

    use super::*;

    /// A project with some files; the text in `stead.kdl` may have a cursor.
    pub struct Fixture {
        pub project: Project,
        pub offset: usize,
    }

    impl Fixture {
        pub fn new(marked: &str) -> Self {
            Self::with(marked, &[])
        }

        pub fn with(marked: &str, others: &[(&str, &str)]) -> Self {
            let offset = marked.find('█').unwrap_or(0);
            let main = ("stead.kdl", marked.replace('█', ""));
            let all = others.iter().map(|(file, text)| (*file, (*text).to_owned())).chain([main]);
            let documents = all.map(|(file, text)| (file.to_owned(), Arc::new(Document::new(text)))).collect();
            Self { project: Project { documents, ..Project::default() }, offset }
        }

        pub fn at(&self) -> At<'_> {
            At { project: &self.project, file: "stead.kdl", document: &self.project.documents["stead.kdl"], offset: self.offset }
        }

        pub fn text(&self, spot: &Spot) -> String {
            format!("{}:{}", spot.file, &self.project.documents[&spot.file].text[spot.range.clone()])
        }
    }

    /// A disk for tests.
    pub struct Disk;

    impl Around for Disk {
        fn list(&self, folder: &str) -> Vec<Listed> {
            let one = |name: &str, folder| Listed { name: name.to_owned(), folder };
            match folder {
                "" => vec![one("app", true), one("Dockerfile", false)],
                "app" => vec![one("main.py", false)],
                _ => Vec::new(),
            }
        }

        fn packages(&self, _: &Project, suite: &str) -> Option<Arc<Vec<(String, String)>>> {
            let all = [("nginx", "1.22.1-9"), ("nginx-common", "1.22.1-9"), ("python3", "3.11.2-1")];
            let owned = all.into_iter().map(|(name, version)| (name.to_owned(), version.to_owned()));
            (suite == "bookworm").then(|| Arc::new(owned.collect()))
        }
    }
}

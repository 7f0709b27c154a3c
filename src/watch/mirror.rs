//! What the watched files are known to be, and what has changed: a file that was only touched has not.
//!
//! Only what an event names is looked at; the whole is looked at when events were lost.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::flows::Flows;
use crate::build::{Identity, ScanCache, Scanner};
use crate::model::{Digest, spelled, unspelled};
use crate::plan::TreeKind;
use crate::sys::{Kind, Listed, Tree};
use nix::sys::stat::FileStat;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What a path was when it was last looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Known {
    Folder,
    File {
        digest: Option<Digest>,
        mode: u32,
        /// The identity that the content was read with, if it can be trusted.
        identity: Option<Identity>,
    },
    Link(OsString),
}

/// What a path has become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Now {
    Gone,
    Folder { mode: u32 },
    File { digest: Digest, mode: u32 },
    Link(OsString),
}

/// A path that has changed, relative to the project's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub path: PathBuf,
    pub now: Now,
}

/// The known state of a project's watched files.
#[derive(Debug)]
pub struct Mirror {
    tree: Tree,
    known: BTreeMap<PathBuf, Known>,
    /// The digests of the scan that it began with.
    cache: ScanCache,
}

impl Mirror {
    /// Begins with what a scan found, if there was one.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    pub fn new(folder: &Path, scanner: Option<Scanner>) -> io::Result<Self> {
        let tree = Tree::open(folder)?;
        let known = scanner
            .iter()
            .flat_map(Scanner::entries)
            .map(|(from, entry)| {
                let known = match &entry.kind {
                    TreeKind::Folder => Known::Folder,
                    TreeKind::Link(to) => Known::Link(unspelled(to).into_owned()),
                    TreeKind::File { digest, executable } => {
                        let mode = entry.mode.unwrap_or(if *executable { 0o755 } else { 0o644 });
                        Known::File { digest: Some(*digest), mode, identity: None }
                    }
                    // They are read when they change.
                    TreeKind::Twin { .. } | TreeKind::Fifo => Known::File { digest: None, mode: 0, identity: None },
                };
                (PathBuf::from(unspelled(from).into_owned()), known)
            })
            .collect();
        Ok(Self { tree, known, cache: scanner.map(|scanner| scanner.cache).unwrap_or_default() })
    }

    /// The directories that are known.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.known.iter().filter(|(_, known)| **known == Known::Folder).map(|(path, _)| path)
    }

    /// How many files are known.
    pub fn files(&self) -> usize {
        self.known.values().filter(|known| matches!(known, Known::File { .. })).count()
    }

    /// The paths below a source that are known to exist.
    pub fn below(&self, from: &Path) -> Vec<PathBuf> {
        self.range(from).map(|(path, _)| path.clone()).collect()
    }

    fn range<'m>(&'m self, from: &'m Path) -> impl Iterator<Item = (&'m PathBuf, &'m Known)> {
        // Paths are ordered part by part, so what is below one follows it.
        self.known.range(from.to_owned()..).take_while(move |(path, _)| path.starts_with(from))
    }

    /// Opens a file that was found to have changed.
    ///
    /// # Errors
    /// Fails when it is gone or no plain file any more.
    pub fn open(&self, path: &Path) -> io::Result<std::fs::File> {
        self.tree.file(path)
    }

    /// Looks at paths, and returns what has changed there: what is gone first, then directories before what is in them.
    pub fn look(&mut self, paths: &BTreeSet<PathBuf>, flows: &Flows) -> Vec<Change> {
        let mut changes = Vec::new();
        for path in paths {
            let is_below_another = path.ancestors().skip(1).any(|above| paths.contains(above) && !above.as_os_str().is_empty());
            // The directory above is looked at whole.
            if !(is_below_another && self.is_folder_now(path.parent())) {
                self.look_at(path, flows, &mut changes);
            }
        }
        let (mut gone, rest): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.now == Now::Gone);
        gone.sort_by(|one, other| other.path.cmp(&one.path));
        gone.dedup();
        gone.extend(rest);
        gone
    }

    fn is_folder_now(&self, path: Option<&Path>) -> bool {
        path.is_some_and(|path| self.tree.folder(path).is_ok())
    }

    /// Looks at everything that is watched.
    pub fn look_at_all(&mut self, flows: &Flows) -> Vec<Change> {
        let sources: BTreeSet<PathBuf> =
            flows.all.iter().map(|flow| flow.from.clone()).chain(flows.inputs.keys().cloned()).collect();
        self.look(&sources, flows)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let Some(name) = path.file_name() else { return self.tree.facts().map(Some) };
        match self.tree.folder(path.parent().unwrap_or(Path::new(""))) {
            Ok(folder) => folder.look(name),
            // A link or a file has taken the place of a directory above: then the path is gone, too.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn look_at(&mut self, path: &Path, flows: &Flows, changes: &mut Vec<Change>) {
        // What cannot be looked at is not known to have changed; the build will say why.
        let Ok(stat) = self.stat(path) else { return };
        let Some(stat) = stat else { return self.is_gone(path, changes) };
        let kind = Kind::of(&stat);
        let is_input = flows.inputs.contains_key(path);
        if !is_input
            && !flows.all.iter().any(|flow| flow.takes(path, kind == Kind::Folder))
            && !(kind == Kind::Folder && flows.enters(path))
        {
            return;
        }
        let mode = stat.st_mode & 0o7777;
        match kind {
            Kind::Folder => {
                if self.known.get(path) != Some(&Known::Folder) {
                    self.is_gone(path, changes);
                    self.known.insert(path.to_owned(), Known::Folder);
                    changes.push(Change { path: path.to_owned(), now: Now::Folder { mode } });
                }
                let Ok((_, listed)) = self.tree.read(path) else { return };
                let there: BTreeSet<PathBuf> = listed.into_iter().map(|Listed { name, .. }| path.join(name)).collect();
                let known: Vec<PathBuf> =
                    self.range(path).filter(|(known, _)| known.parent() == Some(path)).map(|(known, _)| known.clone()).collect();
                for gone in known.iter().filter(|known| !there.contains(*known)) {
                    self.is_gone(gone, changes);
                }
                for inner in there {
                    self.look_at(&inner, flows, changes);
                }
            }
            Kind::File => self.look_at_file(path, &stat, changes),
            Kind::Link => {
                let target = path
                    .file_name()
                    .and_then(|name| self.tree.folder(path.parent().unwrap_or(Path::new(""))).ok()?.link(name).ok());
                let Some(target) = target else { return };
                if self.known.get(path) != Some(&Known::Link(target.clone())) {
                    self.replaces(path, changes);
                    self.known.insert(path.to_owned(), Known::Link(target.clone()));
                    changes.push(Change { path: path.to_owned(), now: Now::Link(target) });
                }
            }
            _ => {}
        }
    }

    fn look_at_file(&mut self, path: &Path, stat: &FileStat, changes: &mut Vec<Change>) {
        let (identity, mode) = (Identity::of(stat), stat.st_mode & 0o7777);
        let before = self.known.get(path);
        let is_same = |known: &Known| match known {
            Known::File { identity: Some(known), .. } => *known == identity,
            Known::File { digest: Some(digest), identity: None, mode: before } => {
                let executable = |mode: u32| mode & 0o100 != 0;
                executable(*before) == executable(mode) && self.cache.knows(&spelled(path.as_os_str()), stat, digest)
            }
            _ => false,
        };
        if before.is_some_and(is_same) {
            return;
        }
        // It may be gone or unreadable by now; then an event follows, or the build says why.
        let Ok(digest) = self.tree.file(path).and_then(Digest::of_stream) else { return };
        let is_file = matches!(before, Some(Known::File { .. }));
        let executable = |mode: u32| mode & 0o111;
        let is_unchanged = matches!(before, Some(Known::File { digest: Some(known), mode: before, .. })
            if *known == digest && executable(*before) == executable(mode));
        if before.is_some() && !is_file {
            self.is_gone(path, changes);
        }
        if stat.st_nlink > 1 && !is_unchanged {
            changes.extend(self.other_names(path, stat, digest, mode));
        }
        let identity = identity.is_settled().then_some(identity);
        self.known.insert(path.to_owned(), Known::File { digest: Some(digest), mode, identity });
        if !is_unchanged {
            changes.push(Change { path: path.to_owned(), now: Now::File { digest, mode } });
        }
    }

    /// The other names of a file that has changed: nobody tells of them.
    fn other_names(&mut self, path: &Path, stat: &FileStat, digest: Digest, mode: u32) -> Vec<Change> {
        let is_file = |(other, known): &(&PathBuf, &Known)| matches!(known, Known::File { .. }) && other.as_path() != path;
        let files: Vec<PathBuf> = self.known.iter().filter(is_file).map(|(other, _)| other.clone()).collect();
        let mut found = Vec::new();
        for other in files {
            let same =
                self.stat(&other).ok().flatten().is_some_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino));
            let known = Known::File { digest: Some(digest), mode, identity: None };
            if same && self.known.insert(other.clone(), known.clone()) != Some(known) {
                found.push(Change { path: other, now: Now::File { digest, mode } });
            }
        }
        found
    }

    /// Something else takes the place of what was there.
    fn replaces(&mut self, path: &Path, changes: &mut Vec<Change>) {
        if self.known.contains_key(path) {
            self.is_gone(path, changes);
        }
    }

    fn is_gone(&mut self, path: &Path, changes: &mut Vec<Change>) {
        for below in self.below(path) {
            self.known.remove(&below);
            changes.push(Change { path: below, now: Now::Gone });
        }
    }

    /// What a path is now, for a container that missed what became of it.
    pub fn now(&self, path: &Path) -> Now {
        match self.known.get(path) {
            None => Now::Gone,
            Some(Known::Folder) => Now::Folder { mode: 0o755 },
            Some(Known::Link(to)) => Now::Link(to.clone()),
            Some(Known::File { digest, mode, .. }) => Now::File { digest: digest.unwrap_or_else(|| Digest::of("")), mode: *mode },
        }
    }
}

//! What the watched files are known to be, and what has changed: a file that was only touched has not.
//!
//! Only what an event names is looked at; the whole is looked at when events were lost.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::flows::Flows;
use crate::build::Identity;
use crate::model::Digest;
use crate::sys::{Kind, Listed, Tree};
use nix::sys::stat::FileStat;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What a path was when it was last looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Known {
    /// A directory, by device and inode: another one in its place is not watched.
    Folder((u64, u64)),
    /// What is not known of it is read when it changes.
    File {
        digest: Option<Digest>,
        mode: Option<u32>,
        /// The identity that the content was read with, if it can be trusted.
        identity: Option<Identity>,
    },
    Link(Option<OsString>),
}

/// A file of which nothing but its existence is known.
const UNREAD: Known = Known::File { digest: None, mode: None, identity: None };

/// What a path has become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Now {
    Gone,
    Folder { mode: u32 },
    File { digest: Digest, mode: u32 },
    Link(OsString),
}

/// What was read of a file.
#[derive(Debug)]
pub struct Content {
    pub digest: Digest,
    pub mode: u32,
    /// The identity that it was read with, if that can be trusted.
    pub identity: Option<Identity>,
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
}

impl Mirror {
    /// Lists what is watched. Each directory is told before it is listed: whoever watches it from then on misses nothing.
    ///
    /// # Errors
    /// Fails when the project's directory cannot be opened.
    pub fn begin(folder: &Path, flows: &Flows, directory: &mut dyn FnMut(&Path)) -> io::Result<Self> {
        let mut mirror = Self { tree: Tree::open(folder)?, known: BTreeMap::new() };
        let sources: BTreeSet<&PathBuf> = flows.all.iter().map(|flow| &flow.from).chain(flows.inputs.keys()).collect();
        let mut listed = BTreeSet::new();
        for source in sources {
            // The nearest directory tells when what is not there yet appears.
            let above = source.ancestors().skip(1).find(|above| mirror.tree.folder(above).is_ok());
            let above = above.unwrap_or(Path::new(""));
            directory(above);
            if !above.as_os_str().is_empty()
                && !mirror.known.contains_key(above)
                && let Ok(facts) = mirror.tree.folder(above).and_then(|above| above.facts())
            {
                mirror.known.insert(above.to_owned(), Known::Folder((facts.st_dev, facts.st_ino)));
            }
            match mirror.stat(source).ok().flatten().map(|stat| Kind::of(&stat)) {
                Some(Kind::Folder) if !listed.contains(source) => mirror.list(source.clone(), flows, directory, &mut listed),
                Some(Kind::File) => drop(mirror.known.insert(source.clone(), UNREAD)),
                Some(Kind::Link) => drop(mirror.known.insert(source.clone(), Known::Link(None))),
                _ => {}
            }
        }
        Ok(mirror)
    }

    fn list(&mut self, path: PathBuf, flows: &Flows, directory: &mut dyn FnMut(&Path), all: &mut BTreeSet<PathBuf>) {
        directory(&path);
        // One that cannot be read is an error of the build.
        let Ok((folder, listed)) = self.tree.read(&path) else { return };
        let Ok(facts) = folder.facts() else { return };
        for Listed { name, kind, .. } in listed {
            let inner = path.join(name);
            match kind {
                Kind::Folder if flows.enters(&inner) => self.list(inner, flows, directory, all),
                Kind::File => drop(self.known.insert(inner, UNREAD)),
                Kind::Link => drop(self.known.insert(inner, Known::Link(None))),
                _ => {}
            }
        }
        all.insert(path.clone());
        self.known.insert(path, Known::Folder((facts.st_dev, facts.st_ino)));
    }

    /// Takes what an `up` has read of files of which nothing is known.
    pub fn learn(&mut self, read: &dyn Fn(&Path) -> Option<Content>) {
        for (path, known) in &mut self.known {
            if let Known::File { digest: None, .. } = known
                && let Some(Content { digest, mode, identity }) = read(path)
            {
                *known = Known::File { digest: Some(digest), mode: Some(mode), identity };
            }
        }
    }

    /// Whether there are files of which nothing is known.
    pub fn is_ignorant(&self) -> bool {
        self.known.values().any(|known| matches!(known, Known::File { digest: None, .. }))
    }

    /// Which of these files have changed since a moment, in nanoseconds since 1970.
    pub fn newer(&self, paths: impl Iterator<Item = PathBuf>, since: i128) -> BTreeSet<PathBuf> {
        paths.filter(|path| self.stat(path).ok().flatten().is_some_and(|stat| Identity::of(&stat).is_since(since))).collect()
    }

    /// Takes what was known before of what still matters. What is gone since then is found when it is looked at.
    pub fn remember(&mut self, before: &Self, flows: &Flows) {
        for (path, old) in &before.known {
            let is_folder = matches!(old, Known::Folder(_));
            let matters = || flows.inputs.contains_key(path) || flows.all.iter().any(|flow| flow.takes(path, is_folder));
            match self.known.get_mut(path) {
                Some(known) => known.clone_from(old),
                None if matters() => drop(self.known.insert(path.clone(), old.clone())),
                None => {}
            }
        }
    }

    /// The known directories at these paths, and below them.
    pub fn folders(&self, paths: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let is_folder = |known: &Known| matches!(known, Known::Folder(_));
        let named = paths.iter().filter(|path| !path.as_os_str().is_empty() && self.known.get(*path).is_some_and(is_folder));
        let below = named.flat_map(|path| self.range(path).filter(|(_, known)| is_folder(known)));
        below.map(|(path, _)| path.clone()).collect::<BTreeSet<_>>().into_iter().collect()
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
        let is_folder = kind == Kind::Folder;
        let matters = is_input || is_folder && flows.enters(path) || flows.all.iter().any(|flow| flow.takes(path, is_folder));
        if !matters {
            return;
        }
        let mode = stat.st_mode & 0o7777;
        match kind {
            Kind::Folder => {
                let now = Known::Folder((stat.st_dev, stat.st_ino));
                if self.known.get(path) != Some(&now) {
                    self.is_gone(path, changes);
                    self.known.insert(path.to_owned(), now);
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
                let now = Known::Link(Some(target.clone()));
                if self.known.get(path) != Some(&now) {
                    self.replaces(path, changes);
                    self.known.insert(path.to_owned(), now);
                    changes.push(Change { path: path.to_owned(), now: Now::Link(target) });
                }
            }
            _ => {}
        }
    }

    fn look_at_file(&mut self, path: &Path, stat: &FileStat, changes: &mut Vec<Change>) {
        let (identity, mode) = (Identity::of(stat), stat.st_mode & 0o7777);
        let before = self.known.get(path);
        if matches!(before, Some(Known::File { identity: Some(known), .. }) if *known == identity) {
            return;
        }
        // It may be gone or unreadable by now; then an event follows, or the build says why.
        let Ok(digest) = self.tree.file(path).and_then(Digest::of_stream) else { return };
        let is_file = matches!(before, Some(Known::File { .. }));
        let executable = |mode: u32| mode & 0o111;
        // If the permissions are not known, the containers tell whether they have them.
        let is_unchanged = matches!(before, Some(Known::File { digest: Some(known), mode: Some(before), .. })
            if *known == digest && executable(*before) == executable(mode));
        if before.is_some() && !is_file {
            self.is_gone(path, changes);
        }
        if stat.st_nlink > 1 && !is_unchanged {
            changes.extend(self.other_names(path, stat, digest, mode));
        }
        let identity = identity.is_settled().then_some(identity);
        self.known.insert(path.to_owned(), Known::File { digest: Some(digest), mode: Some(mode), identity });
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
            let known = Known::File { digest: Some(digest), mode: Some(mode), identity: None };
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

    /// What a path is now, for a container that may not have it. Then that is known.
    pub fn now(&mut self, path: &Path) -> Now {
        let Ok(Some(stat)) = self.stat(path) else { return Now::Gone };
        let mode = stat.st_mode & 0o7777;
        let found = match Kind::of(&stat) {
            Kind::Folder => return Now::Folder { mode },
            Kind::File => match self.known.get(path) {
                Some(Known::File { digest: Some(digest), identity: Some(known), .. }) if *known == Identity::of(&stat) => {
                    return Now::File { digest: *digest, mode };
                }
                _ => {
                    let digest = self.tree.file(path).and_then(Digest::of_stream).ok();
                    if let (Some(Known::File { digest: known @ None, mode: before, identity }), Some(_)) =
                        (self.known.get_mut(path), digest)
                    {
                        let read = Identity::of(&stat);
                        (*known, *before, *identity) = (digest, Some(mode), read.is_settled().then_some(read));
                    }
                    digest.map(|digest| Now::File { digest, mode })
                }
            },
            Kind::Link => path
                .file_name()
                .and_then(|name| self.tree.folder(path.parent().unwrap_or(Path::new(""))).ok()?.link(name).ok().map(Now::Link)),
            _ => None,
        };
        found.unwrap_or(Now::Gone)
    }
}

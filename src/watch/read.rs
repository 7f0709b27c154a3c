//! What an `up` that runs beside a session has read: only what differs from that is left to be done after it.

use super::mirror::{Change, Content, Now};
use crate::build::Scanner;
use crate::instance::{Answer, Progress, Question, Reporter};
use crate::model::{Digest, spelled};
use crate::plan::{TreeEntry, TreeKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Notes what an `up` reads, and what it writes into the project's directory.
#[derive(Clone, Debug)]
pub struct Reading {
    lock: PathBuf,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    scanner: Option<Arc<Scanner>>,
    /// The lock file as the `up` has written it.
    lock: Option<Digest>,
}

impl Reading {
    /// Of an `up` of the project in a directory.
    pub fn of(folder: &Path) -> Self {
        Self { lock: folder.join(LOCK), noted: Arc::default() }
    }

    /// A reporter that also notes what it passes on.
    pub fn beside<'a>(&'a self, shown: &'a dyn Reporter) -> Noting<'a> {
        Noting { reading: self, shown }
    }

    /// The files that the `up` has read; `None` if it did not come to that.
    pub fn scanner(&self) -> Option<Arc<Scanner>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).scanner.clone()
    }

    /// The lock file as the `up` has written it, if it has.
    pub fn written(&self) -> Option<Digest> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).lock
    }
}

/// The name of the lock file.
pub const LOCK: &str = "stead.lock";

/// Passes on what is reported.
pub struct Noting<'a> {
    reading: &'a Reading,
    shown: &'a dyn Reporter,
}

impl Reporter for Noting<'_> {
    fn report(&self, progress: Progress) {
        let mut noted = self.reading.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match &progress {
            Progress::Scanned(scanner) => noted.scanner = Some(scanner.clone()),
            // If it cannot be read, it counts as changed by somebody else.
            Progress::Resolved { .. } => noted.lock = std::fs::read(&self.reading.lock).ok().map(Digest::of),
            _ => {}
        }
        drop(noted);
        self.shown.report(progress);
    }

    fn consent(&self, question: &Question) -> Answer {
        self.shown.consent(question)
    }
}

/// Files that were read, by their paths in the project's directory.
#[derive(Debug)]
pub struct Seen<'s> {
    scanner: &'s Scanner,
    entries: BTreeMap<&'s str, &'s TreeEntry>,
}

impl<'s> Seen<'s> {
    pub fn of(scanner: &'s Scanner) -> Self {
        Self { scanner, entries: scanner.entries() }
    }

    /// The content of a file.
    pub fn content(&self, path: &Path) -> Option<Content> {
        let path = spelled(path.as_os_str());
        let TreeKind::File { digest, executable } = self.kind(&path)? else { return None };
        let kept = self.entries.get(path.as_ref()).and_then(|entry| entry.mode);
        let known = self.scanner.cache.find(&path).filter(|(_, known)| known == digest);
        let mode = kept.unwrap_or(if *executable { 0o755 } else { 0o644 });
        Some(Content { digest: *digest, mode, identity: known.map(|(identity, _)| identity) })
    }

    /// Whether a path was read as what it has become.
    pub fn has(&self, change: &Change) -> bool {
        let path = spelled(change.path.as_os_str());
        let mode = self.entries.get(path.as_ref()).and_then(|entry| entry.mode);
        is_the_same(self.kind(&path), mode, &change.now)
    }

    fn kind(&self, path: &str) -> Option<&'s TreeKind> {
        let kind = &self.entries.get(path)?.kind;
        match kind {
            TreeKind::Twin { from, .. } => self.entries.get(from.as_str()).map(|entry| &entry.kind),
            _ => Some(kind),
        }
    }
}

/// Whether something that was read, with the permissions that it keeps, is what is there now. What no step reads is not there
/// for it.
fn is_the_same(read: Option<&TreeKind>, kept: Option<u32>, now: &Now) -> bool {
    match (read, now) {
        (None, Now::Gone) | (Some(TreeKind::Folder), Now::Folder { .. }) => true,
        (Some(TreeKind::Link(read)), Now::Link(now)) => spelled(now) == read.as_str(),
        (Some(TreeKind::File { digest, executable }), Now::File { digest: now, mode }) => {
            digest == now && *executable == (mode & 0o100 != 0) && kept.is_none_or(|kept| kept == *mode)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_what_is_there_only_if_nothing_differs() {
        let file = |text: &str, executable| TreeKind::File { digest: Digest::of(text), executable };
        let now = |text: &str, mode| Now::File { digest: Digest::of(text), mode };
        for (read, kept, now, wanted) in [
            (Some(file("a", false)), None, now("a", 0o644), true),
            (Some(file("a", false)), None, now("a", 0o600), true),
            (Some(file("a", false)), Some(0o644), now("a", 0o600), false),
            (Some(file("a", false)), None, now("b", 0o644), false),
            (Some(file("a", false)), None, now("a", 0o755), false),
            (Some(TreeKind::Link("x".into())), None, Now::Link("x".into()), true),
            (Some(TreeKind::Link("x".into())), None, Now::Link("y".into()), false),
            (Some(TreeKind::Folder), None, Now::Folder { mode: 0o700 }, true),
            (Some(file("a", false)), None, Now::Gone, false),
            (None, None, Now::Gone, true),
            (None, None, now("a", 0o644), false),
        ] {
            assert_eq!(is_the_same(read.as_ref(), kept, &now), wanted, "{read:?} {now:?}");
        }
    }
}

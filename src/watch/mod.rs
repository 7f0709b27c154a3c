//! Turns file events into signals to plan again.
//!
//! This room owns which directories are watched and when a burst of events is over. A new plan decides what follows
//! from a change: an event never says more than "look".

mod hidden;

use crate::build::{ScanCache, Scanner};
use crate::instance::{LoadedProject, Options};
use crate::model::{Context, Result};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A burst is over after this much quiet …
const QUIET: Duration = Duration::from_millis(20);
/// … or after this much time, even if events still come.
const CEILING: Duration = Duration::from_millis(500);

/// Watches the directories of a project's sources.
pub struct Watcher {
    folder: PathBuf,
    inner: RecommendedWatcher,
    events: Receiver<notify::Result<Event>>,
    watched: BTreeSet<PathBuf>,
    wanted: BTreeSet<PathBuf>,
}

/// Every path whose change matters: project files, the lock, ignore files, what images copy, and the files
/// of secrets, configs and environment variables.
pub fn sources(loaded: &LoadedProject, options: &Options) -> BTreeSet<PathBuf> {
    let folder = &loaded.instance.folder;
    let project = &loaded.project;
    let mut all: BTreeSet<PathBuf> =
        [options.file.as_str(), "stead.lock", ".steadignore", ".dockerignore"].iter().map(|name| folder.join(name)).collect();
    all.extend(loaded.files.keys().map(|path| folder.join(path)));
    all.extend(loaded.places.all().map(|place| folder.join(&place.file)));
    all.extend(project.secrets.values().map(|path| folder.join(path)));
    all.extend(
        project.configs.values().filter_map(|source| {
            if let crate::project::ConfigSource::File(path) = source { Some(folder.join(path)) } else { None }
        }),
    );
    all.extend(project.containers.values().flat_map(|container| &container.env_files).map(|file| folder.join(&file.path)));
    let scanner = Scanner::scan(folder, project, ScanCache::default);
    all.extend(scanner.sources(|image, step, entry| hidden::is_hidden(project, image, step, entry)));
    all
}

impl Watcher {
    /// A watcher that watches nothing yet.
    ///
    /// # Errors
    /// Fails when inotify cannot be set up.
    pub fn new(folder: &Path) -> Result<Self> {
        let (sender, events) = channel();
        let inner = notify::recommended_watcher(sender).context(|| "cannot watch files".into())?;
        Ok(Self { folder: folder.to_owned(), inner, events, watched: BTreeSet::new(), wanted: BTreeSet::new() })
    }

    /// Watches the directories of some paths: editors replace files, so the files themselves cannot be watched.
    pub fn watch(&mut self, wanted: &BTreeSet<PathBuf>) {
        let folders: BTreeSet<PathBuf> = wanted
            .iter()
            .flat_map(
                |path| if path.is_dir() { vec![path.clone()] } else { path.parent().map(Path::to_owned).into_iter().collect() },
            )
            .filter(|path| path.is_dir())
            .collect();
        for gone in self.watched.difference(&folders) {
            // The directory may be gone already.
            let _ = self.inner.unwatch(gone);
        }
        for new in folders.difference(&self.watched) {
            let _ = self.inner.watch(new, RecursiveMode::NonRecursive);
        }
        self.watched = folders;
        self.wanted.clone_from(wanted);
    }

    /// Waits for a burst of relevant events; returns the changed paths, relative to the project's directory.
    ///
    /// # Errors
    /// Fails when the watch has ended.
    pub fn wait(&self) -> Result<Vec<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut since: Option<Instant> = None;
        loop {
            let event = match since {
                None => self.events.recv().context(|| "the watch has ended".into())?,
                Some(start) => {
                    let left = CEILING.saturating_sub(start.elapsed()).min(QUIET);
                    match self.events.recv_timeout(left) {
                        Ok(event) => event,
                        Err(_) => return Ok(changed.into_iter().collect()),
                    }
                }
            };
            let paths = event.map(|event| self.relevant(&event)).unwrap_or_default();
            if !paths.is_empty() {
                since.get_or_insert_with(Instant::now);
                changed.extend(paths);
            }
        }
    }

    fn relevant(&self, event: &Event) -> Vec<PathBuf> {
        let reading = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        if reading {
            return Vec::new();
        }
        if event.need_rescan() {
            return vec![self.folder.clone()];
        }
        // Relevant paths are wanted themselves, or are new in a directory that is copied.
        let matters =
            |path: &&PathBuf| self.wanted.contains(*path) || path.parent().is_some_and(|parent| self.wanted.contains(parent));
        let noise = |path: &&PathBuf| !is_noise(path.strip_prefix(&self.folder).unwrap_or(path));
        event
            .paths
            .iter()
            .filter(matters)
            .filter(noise)
            .map(|path| path.strip_prefix(&self.folder).unwrap_or(path).to_owned())
            .collect()
    }
}

/// Whether a path, relative to the project's directory, is one that tools write beside what people write: a repository's own
/// files, Python's caches, and the temporary files of editors (vim, emacs). A change of it alone is no reason to look.
fn is_noise(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let tools = parts.clone().any(|part| part == ".git" || part == "__pycache__");
    let last = parts.next_back().unwrap_or_default();
    let swap = last.starts_with('.') && [".swp", ".swo", ".swx"].iter().any(|end| last.ends_with(end));
    tools || swap || last.ends_with('~') || last.starts_with(".#") || last == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_is_no_reason_to_look() {
        for path in [".git/index", "app/__pycache__/a.pyc", "app/.main.py.swp", "a/b~", ".#a", "4913"] {
            assert!(is_noise(Path::new(path)), "{path}");
        }
        for path in [".gitignore", "app/main.py", "swap.swp", "a~b", "app", ""] {
            assert!(!is_noise(Path::new(path)), "{path}");
        }
    }
}

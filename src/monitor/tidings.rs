//! What monitors tell, as events: whoever waits for a container looks when something was told, and not before.

use super::files::Folder;
use crate::sys;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon to look again where the kernel tells nothing: its watches are used up, or a directory is not there yet.
const BLIND: Duration = Duration::from_millis(20);
/// How soon to look again otherwise, whatever is told.
const AT_LEAST: Duration = Duration::from_secs(1);

/// The directories of containers that are waited for.
pub struct Tidings {
    inner: Option<Inotify>,
    watched: HashMap<WatchDescriptor, PathBuf>,
    blind: bool,
}

/// Of which containers something was told.
pub enum Told {
    Of(BTreeSet<PathBuf>),
    /// Nobody knows: look at all.
    Anything,
}

impl Told {
    /// Whether a container is worth a look.
    pub fn of(&self, folder: &Path) -> bool {
        match self {
            Self::Of(folders) => folders.contains(folder),
            Self::Anything => true,
        }
    }
}

impl Tidings {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self { inner: None, watched: HashMap::new(), blind: false }
    }

    /// Watches a container's directory from now on: its status is renamed into place, and the lock is closed when its
    /// monitor is gone. Whether it was not watched before.
    pub fn of(&mut self, folder: &Folder) -> bool {
        let told = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF;
        self.watch(folder.path(), told)
    }

    fn watch(&mut self, directory: &Path, told: AddWatchFlags) -> bool {
        if self.watched.values().any(|known| known == directory) {
            return false;
        }
        // Made when it is needed: to let go of it takes the kernel a grace period.
        let made = || Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        self.inner = self.inner.take().or_else(made);
        match self.inner.as_ref().and_then(|inner| inner.add_watch(directory, told).ok()) {
            Some(watch) => self.watched.insert(watch, directory.to_owned()).is_none(),
            None => {
                self.blind = true;
                false
            }
        }
    }

    /// What is readable when something was told.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_ref().map(AsFd::as_fd)
    }

    /// How long to wait at most before looking again.
    pub fn timeout(&self) -> Duration {
        if self.blind { BLIND } else { AT_LEAST }
    }

    /// Takes what was told.
    pub fn take(&mut self) -> Told {
        // What was told is taken in any case: it would be readable for ever.
        let mut anything = std::mem::take(&mut self.blind);
        let mut folders = BTreeSet::new();
        while let Some(events) =
            self.inner.as_ref().and_then(|inner| inner.read_events().ok()).filter(|events| !events.is_empty())
        {
            for event in events {
                match self.watched.get(&event.wd) {
                    Some(folder) if event.mask.contains(AddWatchFlags::IN_IGNORED) => {
                        // It was made anew, or is gone.
                        folders.insert(folder.clone());
                        self.watched.remove(&event.wd);
                    }
                    Some(folder) => drop(folders.insert(folder.clone())),
                    // The kernel's queue has overflown.
                    None => anything = true,
                }
            }
        }
        if anything { Told::Anything } else { Told::Of(folders) }
    }
}

/// What is written to files in some directories, and in those directly below them: whoever follows it reads when there is
/// more, and not before.
pub struct Writes {
    tidings: Tidings,
    directories: Vec<PathBuf>,
}

impl Writes {
    /// Watches from now on; what is written before is for the reader to read first.
    pub fn to(directories: Vec<PathBuf>) -> Self {
        let mut writes = Self { tidings: Tidings::new(), directories };
        writes.watch(&Told::Anything);
        writes
    }

    fn watch(&mut self, told: &Told) {
        let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        for directory in self.directories.iter().filter(|directory| told.of(directory)) {
            self.tidings.watch(directory, written);
            // One that cannot be listed now is looked at again.
            for name in sys::names(directory).unwrap_or_default() {
                let below = directory.join(name);
                if below.is_dir() {
                    self.tidings.watch(&below, written);
                }
            }
        }
    }

    /// Waits until something may have been written, or for some time.
    pub fn wait(&mut self, limit: Option<Duration>) {
        let timeout = self.tidings.timeout().min(limit.unwrap_or(Duration::MAX));
        // What cannot be waited for is looked at, as after the time.
        let _ = match self.tidings.descriptor() {
            Some(descriptor) => sys::wait_readable(&[&descriptor], Some(timeout)),
            None => sys::wait_readable(&[], Some(timeout)),
        };
        let told = self.tidings.take();
        self.watch(&told);
    }
}

//! What monitors tell, as events: whoever waits for a container looks when something was told, and not before.

use super::files::Folder;
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
        if self.watched.values().any(|known| known == folder.path()) {
            return false;
        }
        // Made when it is needed: to let go of it takes the kernel a grace period.
        let made = || Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let told = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF;
        self.inner = self.inner.take().or_else(made);
        match self.inner.as_ref().and_then(|inner| inner.add_watch(folder.path(), told).ok()) {
            Some(watch) => self.watched.insert(watch, folder.path().to_owned()).is_none(),
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
        if std::mem::take(&mut self.blind) {
            return Told::Anything;
        }
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
                    None => return Told::Anything,
                }
            }
        }
        Told::Of(folders)
    }
}

//! Notifications of status changes: whoever waits for a container looks again when its monitor has written something.

use super::files::Folder;
use crate::sys;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon to look again when the kernel cannot notify us: no watches are left, or a directory does not exist yet.
const BLIND: Duration = Duration::from_millis(20);
/// How soon to look again otherwise, even without a notification.
const AT_LEAST: Duration = Duration::from_secs(1);

/// The same for a follower, who waits for a long time and must not cost much.
const UNSEEN: Duration = Duration::from_millis(200);

/// Watches on the directories of the containers that are waited for.
pub struct Tidings {
    inner: Option<Inotify>,
    watched: HashMap<WatchDescriptor, PathBuf>,
    blind: bool,
}

/// Which containers have changed.
pub enum Told {
    Of(BTreeSet<PathBuf>),
    /// It is unknown which ones: look at all.
    Anything,
}

impl Told {
    /// Whether a container may have changed.
    pub fn of(&self, folder: &Path) -> bool {
        match self {
            Self::Of(folders) => folders.contains(folder),
            Self::Anything => true,
        }
    }
}

impl Tidings {
    /// Creates a value that watches nothing yet.
    pub fn new() -> Self {
        Self { inner: None, watched: HashMap::new(), blind: false }
    }

    /// Watches a container's directory from now on: its status is renamed into place, and the lock file is closed when its
    /// monitor is gone. Returns whether the watch is new.
    pub fn of(&mut self, folder: &Folder) -> bool {
        let told = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF;
        self.watch(folder.path(), told)
    }

    fn watch(&mut self, directory: &Path, told: AddWatchFlags) -> bool {
        if self.watched.values().any(|known| known == directory) {
            return false;
        }
        // It is created only when it is needed: closing it takes the kernel an RCU grace period.
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

    /// The descriptor that becomes readable when there is a notification.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_ref().map(AsFd::as_fd)
    }

    /// The longest time to wait before looking again.
    pub fn timeout(&self) -> Duration {
        if self.blind { BLIND } else { AT_LEAST }
    }

    /// Takes the pending notifications.
    pub fn take(&mut self) -> Told {
        // Pending events are read in any case: otherwise the descriptor would stay readable for ever.
        let mut anything = std::mem::take(&mut self.blind);
        let mut folders = BTreeSet::new();
        while let Some(events) =
            self.inner.as_ref().and_then(|inner| inner.read_events().ok()).filter(|events| !events.is_empty())
        {
            for event in events {
                match self.watched.get(&event.wd) {
                    Some(folder) if event.mask.contains(AddWatchFlags::IN_IGNORED) => {
                        // The directory was recreated, or is gone.
                        folders.insert(folder.clone());
                        self.watched.remove(&event.wd);
                    }
                    Some(folder) => drop(folders.insert(folder.clone())),
                    // The kernel's queue has overflowed.
                    None => anything = true,
                }
            }
        }
        if anything { Told::Anything } else { Told::Of(folders) }
    }
}

/// Watches on writes to files in some directories and in their direct subdirectories, so that a follower reads only when
/// there is more.
pub struct Writes {
    tidings: Tidings,
    directories: Vec<PathBuf>,
}

impl Writes {
    /// Watches from now on. The reader must first read what was written before.
    pub fn to(directories: Vec<PathBuf>) -> Self {
        let mut writes = Self { tidings: Tidings::new(), directories };
        writes.watch(&Told::Anything);
        writes
    }

    fn watch(&mut self, told: &Told) {
        let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        for directory in self.directories.iter().filter(|directory| told.of(directory)) {
            self.tidings.watch(directory, written);
            // A directory that cannot be listed now is tried again later.
            for name in sys::names(directory).unwrap_or_default() {
                let below = directory.join(name);
                if below.is_dir() {
                    self.tidings.watch(&below, written);
                }
            }
        }
    }

    /// Watches a further directory.
    pub fn also(&mut self, directory: PathBuf) {
        let told = Told::Of([directory.clone()].into());
        self.directories.push(directory);
        self.watch(&told);
    }

    /// Waits until something may have been written, or for some time; returns in which of the directories.
    pub fn wait(&mut self, limit: Option<Duration>) -> Told {
        let timeout = if self.tidings.blind { UNSEEN } else { AT_LEAST }.min(limit.unwrap_or(Duration::MAX));
        // If waiting fails, the reader looks again, as after the timeout.
        let _ = match self.tidings.descriptor() {
            Some(descriptor) => sys::wait_readable(&[&descriptor], Some(timeout)),
            None => sys::wait_readable(&[], Some(timeout)),
        };
        let told = self.tidings.take();
        self.watch(&told);
        told
    }
}

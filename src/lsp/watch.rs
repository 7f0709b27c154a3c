//! The thread that looks at what is up and reads indexes of packages, so that no answer waits for either.

use super::facts::Observed;
use super::project::{Around, Listed, Project};
use super::work::{ToEditor, options_of};
use crate::debian;
use crate::engine::{Instance, Options};
use crate::lock::IndexLock;
use crate::store::Store;
use crate::sys;
use lsp_server::{Request, RequestId};
use lsp_types::request::{InlayHintRefreshRequest, Request as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether something is up, once an editor has asked.
const INTERVAL: Duration = Duration::from_secs(3);
/// The most files of a directory that are listed.
const FILES: usize = 1000;

/// Something to look at.
#[derive(Debug)]
pub enum Look {
    /// What is up of the project with this file.
    Project(PathBuf),
    /// The packages of a suite, in these indexes of the lock.
    Packages(String, Vec<IndexLock>),
}

/// Names of packages with their versions.
type Packages = Arc<Vec<(String, String)>>;

/// The packages of a suite, with the indexes that they were read from; none if these offer nothing or are not read yet.
struct Offered {
    indexes: Vec<IndexLock>,
    packages: Option<Packages>,
}

/// What was seen so far.
#[derive(Default)]
pub struct Seen {
    pub projects: Mutex<BTreeMap<PathBuf, Arc<Observed>>>,
    /// The packages by suite.
    offered: Mutex<BTreeMap<String, Offered>>,
}

/// Whether the editor can be told that hints are out of date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    Known,
    Unknown,
}

/// The thread's state.
pub struct Watcher {
    pub options: Options,
    pub seen: Arc<Seen>,
    pub to_editor: ToEditor,
    pub refresh: Refresh,
}

impl Watcher {
    /// Looks at what is asked for until nobody can ask any more.
    pub fn run(self, looks: &Receiver<Look>) {
        let mut projects: BTreeSet<PathBuf> = BTreeSet::new();
        let mut sent = 0;
        loop {
            let look = match self.refresh {
                Refresh::Known if !projects.is_empty() => looks.recv_timeout(INTERVAL),
                _ => looks.recv().map_err(RecvTimeoutError::from),
            };
            match look {
                Ok(Look::Project(root)) => drop(projects.insert(root)),
                Ok(Look::Packages(suite, indexes)) => {
                    self.read(suite, indexes);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let changed = projects.iter().filter(|root| self.look(root)).count();
            if changed > 0 && self.refresh == Refresh::Known {
                sent += 1;
                let id = RequestId::from(format!("hints-{sent}"));
                (self.to_editor)(Request::new(id, InlayHintRefreshRequest::METHOD.into(), ()).into());
            }
        }
    }

    /// Looks at what is up of a project. Returns whether that changed.
    fn look(&self, root: &Path) -> bool {
        let options = options_of(&self.options, root);
        let instance = Instance::new(&options.home, &options.folder, &options.file);
        // What cannot be read is told by `ps` and `up`; a hint shows nothing then.
        let now = Arc::new(Observed::look(&instance).unwrap_or_default());
        let mut projects = self.seen.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let before = projects.insert(root.to_owned(), now.clone());
        before.map_or(*now != Observed::default(), |before| before != now)
    }

    fn read(&self, suite: String, indexes: Vec<IndexLock>) {
        let store = Store::at(&self.options.home.store);
        // An index that is not here, or that cannot be read, offers nothing: completion is no reason to fetch it.
        let read = |index: &IndexLock| debian::listed(&store, index).ok().flatten();
        let mut all: Vec<(String, String)> = indexes.iter().filter_map(read).flatten().collect();
        all.sort_unstable();
        all.dedup_by(|a, b| a.0 == b.0);
        all.shrink_to_fit();
        let found = (!all.is_empty()).then(|| Arc::new(all));
        let offered = Offered { indexes, packages: found };
        self.seen.offered.lock().unwrap_or_else(PoisonError::into_inner).insert(suite, offered);
        sys::give_memory_back();
    }
}

/// What is on the disk around a project.
pub struct Disk<'a> {
    pub folder: &'a Path,
    pub seen: &'a Seen,
    pub looks: &'a Sender<Look>,
}

impl Around for Disk<'_> {
    fn list(&self, folder: &str) -> Vec<Listed> {
        let folder = self.folder.join(folder);
        // What cannot be listed has nothing to offer.
        let mut names = sys::names(&folder).unwrap_or_default();
        names.retain(|name| name != ".git");
        names.sort_unstable();
        names.truncate(FILES);
        let one = |name: String| Listed { folder: folder.join(&name).is_dir(), name };
        names.into_iter().map(one).collect()
    }

    fn packages(&self, project: &Project, suite: &str) -> Option<Packages> {
        let locked = project.locked.lock.suites.get(suite)?;
        let indexes: Vec<IndexLock> = locked.indexes.values().cloned().collect();
        let mut known = self.seen.offered.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(suite) {
            Some(offered) if offered.indexes == indexes => offered.packages.clone(),
            _ => {
                known.insert(suite.to_owned(), Offered { indexes: indexes.clone(), packages: None });
                // If the thread has ended, so does this program.
                let _ = self.looks.send(Look::Packages(suite.to_owned(), indexes));
                None
            }
        }
    }
}

//! File events: which directories are watched, and when a burst of events is over.
//!
//! An event says where to look, never what is there.

use crate::model::{Context, Error, Result};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long it must have been quiet before a first event is acted on at once, and how long a later burst must be.
const QUIET: Duration = Duration::from_millis(10);
/// A burst is acted on after this much time, even if events still come: a writer that never stops is served as well.
const CEILING: Duration = Duration::from_millis(100);
/// A first event is followed within this time by what belongs to it, such as the rename after a write.
const TOGETHER: Duration = Duration::from_micros(700);
/// How long a command of git may hold its lock before what it has done so far is acted on.
const GIT: Duration = Duration::from_secs(20);
/// How often everything is looked at if the kernel cannot tell what changes.
const POLL: Duration = Duration::from_secs(1);

/// What has changed since the last time.
#[derive(Debug)]
pub struct Batch {
    /// Paths relative to the project's directory.
    pub paths: BTreeSet<PathBuf>,
    /// When the first of them was noticed.
    pub since: Instant,
    /// Why everything must be looked at, if so.
    pub everything: Option<&'static str>,
    /// Whether a container may have started or ended.
    pub containers: bool,
    /// Whether somebody asked for everything to be brought up again.
    pub asked: bool,
    /// Whether something that runs beside has news.
    pub woken: bool,
}

impl Batch {
    fn new(since: Instant) -> Self {
        Self { paths: BTreeSet::new(), since, everything: None, containers: false, asked: false, woken: false }
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.everything.is_none() && !self.containers && !self.asked && !self.woken
    }
}

/// One event, as far as it matters.
#[derive(Debug)]
struct Noticed {
    at: Instant,
    paths: Vec<PathBuf>,
    /// Whether it ends a change: the file is closed, or has its final name.
    is_settled: bool,
    is_overflow: bool,
    call: Option<Call>,
}

/// What somebody wants from whoever waits for changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    /// Bring everything up again.
    Ask,
    /// Look what else there is.
    Wake,
}

/// Reaches whoever waits for changes. If nobody waits any more, nothing follows.
#[derive(Clone, Debug)]
pub struct Asker(Sender<Noticed>);

impl Asker {
    /// Asks for everything to be brought up again, as if a file had changed.
    pub fn ask(&self) {
        self.call(Call::Ask);
    }

    /// Says that something that runs beside has news.
    pub fn wake(&self) {
        self.call(Call::Wake);
    }

    fn call(&self, call: Call) {
        let noticed = Noticed { at: Instant::now(), paths: Vec::new(), is_settled: true, is_overflow: false, call: Some(call) };
        let _ = self.0.send(noticed);
    }
}

/// Watches directories of a project.
pub struct Events {
    folder: PathBuf,
    /// The lock that git holds while it changes the working tree.
    git: Option<PathBuf>,
    /// A directory beside the project, and the file in it that tells of containers.
    told: PathBuf,
    inner: Option<RecommendedWatcher>,
    noticed: Receiver<Noticed>,
    asker: Asker,
    watched: BTreeSet<PathBuf>,
    /// Why the kernel cannot tell what changes, if so.
    blind: Option<String>,
    /// Whether that was said.
    is_blindness_told: bool,
    /// When the last batch was over.
    last: Option<Instant>,
}

impl Events {
    /// Watches nothing of the project yet; `told` is the file of its containers' events.
    ///
    /// # Errors
    /// Fails when inotify cannot be set up for another reason than a limit.
    pub fn new(folder: &Path, told: &Path) -> Result<Self> {
        let (sender, noticed) = channel();
        let asker = Asker(sender.clone());
        let send = move |event: notify::Result<Event>| {
            // A receiver that is gone needs no events.
            event.ok().and_then(notice).into_iter().for_each(|noticed| drop(sender.send(noticed)));
        };
        let (inner, blind) = match notify::recommended_watcher(send) {
            Ok(inner) => (Some(inner), None),
            Err(error) if is_limit(&error) => (None, Some(limit("max_user_instances"))),
            Err(error) => return Err(Error::caused("cannot watch files", error)),
        };
        let mut events = Self {
            folder: folder.to_owned(),
            git: git_lock(folder),
            told: told.to_owned(),
            inner,
            noticed,
            asker,
            watched: BTreeSet::new(),
            blind,
            is_blindness_told: false,
            last: None,
        };
        if let (Some(inner), Some(above)) = (&mut events.inner, told.parent()) {
            std::fs::create_dir_all(above).context(|| format!("cannot make {}", above.display()))?;
            match inner.watch(above, RecursiveMode::NonRecursive) {
                Err(error) if is_limit(&error) => events.blind = Some(limit("max_user_watches")),
                watched => watched.context(|| format!("cannot watch {}", above.display()))?,
            }
        }
        Ok(events)
    }

    /// What reaches whoever waits here.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Watches only these directories of the project from now on.
    pub fn only(&mut self, wanted: &BTreeSet<PathBuf>) {
        let Some(inner) = &mut self.inner else { return };
        for gone in self.watched.difference(wanted) {
            // The directory may be gone, and the watch with it.
            let _ = inner.unwatch(&self.folder.join(gone));
        }
        self.watched.retain(|known| wanted.contains(known));
    }

    /// Why the kernel cannot tell what changes, if so and if it was not said yet.
    pub fn newly_blind(&mut self) -> Option<String> {
        let is_new = !std::mem::replace(&mut self.is_blindness_told, self.blind.is_some());
        self.blind.clone().filter(|_| is_new)
    }

    /// Watches one more directory.
    pub fn also(&mut self, directory: PathBuf) {
        let Some(inner) = self.inner.as_mut().filter(|_| self.blind.is_none()) else { return };
        if self.watched.contains(&directory) {
            return;
        }
        match inner.watch(&self.folder.join(&directory), RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.watched.insert(directory)),
            Err(error) if is_limit(&error) => self.blind = Some(limit("max_user_watches")),
            // It was removed meanwhile, or may not be read: then nothing of it is copied either.
            Err(_) => {}
        }
    }

    /// Forgets a directory that is gone, so that one that takes its place is watched.
    pub fn forget(&mut self, gone: &Path) {
        let Some(inner) = &mut self.inner else { return };
        let below: Vec<PathBuf> =
            self.watched.range(gone.to_owned()..).take_while(|known| known.starts_with(gone)).cloned().collect();
        for directory in below {
            // If it was moved away, it is still watched at its new place.
            let _ = inner.unwatch(&self.folder.join(&directory));
            self.watched.remove(&directory);
        }
    }

    /// How many directories are watched.
    pub fn directories(&self) -> usize {
        self.watched.len()
    }

    /// Waits for changes: the first after a quiet time at once, those that follow once they are over.
    ///
    /// # Errors
    /// Fails when the watch has ended.
    pub fn wait(&mut self) -> Result<Batch> {
        if self.blind.is_some() {
            return Ok(self.look_later());
        }
        loop {
            let first = self.noticed.recv().context(|| "the watch of files has ended".into())?;
            let is_first = self.last.is_none_or(|last| first.at.saturating_duration_since(last) >= QUIET);
            let (since, mut settled) = (first.at, first.is_settled);
            let mut batch = Batch::new(since);
            self.add(first, &mut batch);
            loop {
                let held = self.git.as_ref().is_some_and(|git| is_at_work(git)) && since.elapsed() < GIT;
                let at_once = is_first && settled && !held;
                let (quiet, ceiling) = if at_once { (TOGETHER, TOGETHER * 4) } else { (QUIET, CEILING) };
                let left = if held { QUIET } else { ceiling.saturating_sub(since.elapsed()).min(quiet) };
                match self.noticed.recv_timeout(left) {
                    Ok(next) => {
                        settled |= next.is_settled;
                        self.add(next, &mut batch);
                    }
                    Err(RecvTimeoutError::Timeout) if held => {}
                    Err(_) => break,
                }
                if !held && since.elapsed() >= ceiling {
                    break;
                }
            }
            // What is there already came before whatever follows: who is late does not take it piece by piece.
            for next in self.noticed.try_iter() {
                self.add(next, &mut batch);
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Everything, after a while, or as soon as somebody calls.
    fn look_later(&self) -> Batch {
        let deadline = Instant::now() + POLL;
        loop {
            let call = match self.noticed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Noticed { call: None, .. }) => continue,
                Ok(Noticed { call, .. }) => call,
                Err(_) => None,
            };
            let (asked, woken) = (call == Some(Call::Ask), call == Some(Call::Wake));
            return Batch { everything: Some(""), containers: true, asked, woken, ..Batch::new(Instant::now()) };
        }
    }

    /// Notes that something followed from a batch: what comes right after it belongs together.
    pub fn acted(&mut self) {
        self.last = Some(Instant::now());
    }

    fn add(&self, noticed: Noticed, batch: &mut Batch) {
        batch.asked |= noticed.call == Some(Call::Ask);
        batch.woken |= noticed.call == Some(Call::Wake);
        if noticed.is_overflow {
            batch.everything = Some("too many files changed at once for the kernel to tell which: all are looked at");
        }
        for path in noticed.paths {
            match path.strip_prefix(&self.folder) {
                Ok(inside) if is_noise(inside) => {}
                Ok(inside) => drop(batch.paths.insert(inside.to_owned())),
                Err(_) => batch.containers |= path == self.told,
            }
        }
    }
}

/// Whether git holds its lock. One that a killed git left behind is old.
fn is_at_work(lock: &Path) -> bool {
    let made = std::fs::metadata(lock).and_then(|found| found.modified()).ok();
    made.is_some_and(|made| made.elapsed().is_ok_and(|age| age < GIT))
}

/// What an event is about; `None` if nothing has changed by it.
fn notice(event: Event) -> Option<Noticed> {
    let is_overflow = event.need_rescan();
    let is_settled = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::Folder)
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => true,
        EventKind::Access(_) if !is_overflow => return None,
        _ => false,
    };
    Some(Noticed { at: Instant::now(), paths: event.paths, is_settled, is_overflow, call: None })
}

fn is_limit(error: &notify::Error) -> bool {
    let number = match &error.kind {
        ErrorKind::MaxFilesWatch => return true,
        ErrorKind::Io(error) => error.raw_os_error(),
        _ => None,
    };
    matches!(number, Some(libc::ENOSPC | libc::EMFILE | libc::ENFILE))
}

fn limit(name: &str) -> String {
    let now = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
    format!(
        "the kernel has no room for more watches (fs.inotify.{name} is {}), so all files are looked at every second; \
         `sysctl fs.inotify.{name}=1048576` gives it room",
        now.trim()
    )
}

/// The file that exists while git changes the working tree that a directory lies in.
fn git_lock(folder: &Path) -> Option<PathBuf> {
    let found = folder.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
    if found.is_dir() {
        return Some(found.join("index.lock"));
    }
    // In a further worktree it is a file that names the directory.
    let text = std::fs::read_to_string(&found).ok()?;
    let named = text.strip_prefix("gitdir:")?.trim();
    Some(found.parent()?.join(named).join("index.lock"))
}

/// Whether a path, relative to the project's directory, is one that tools write beside what people write: a repository's own
/// files, Python's caches, and the temporary files of editors (vim, emacs, kate, GNOME's, JetBrains', sed). A change of it alone
/// is no reason to look.
pub fn is_noise(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let tools = parts.clone().any(|part| part == ".git" || part == "__pycache__");
    let last = parts.next_back().unwrap_or_default();
    let swap = last.starts_with('.') && [".swp", ".swo", ".swx", ".kate-swp"].iter().any(|end| last.ends_with(end));
    let temporary = [".#", ".goutputstream-", ".stead-"].iter().any(|begin| last.starts_with(begin));
    let jetbrains = ["___jb_tmp___", "___jb_old___"].iter().any(|end| last.ends_with(end));
    let random = |rest: &str| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let sed = last.strip_prefix("sed").is_some_and(|rest| random(rest) && path.extension().is_none_or(|end| end == rest));
    tools || swap || temporary || jetbrains || sed || last.ends_with('~') || last == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_is_no_reason_to_look() {
        for path in [
            ".git/index",
            "app/__pycache__/a.pyc",
            "app/.main.py.swp",
            "a/b~",
            ".#a",
            "4913",
            "app/sedAb3d9f",
            "x/a.py___jb_tmp___",
        ] {
            assert!(is_noise(Path::new(path)), "{path}");
        }
        for path in [".gitignore", "app/main.py", "swap.swp", "a~b", "app", "", "sedation.c", "sed.sh", "sed"] {
            assert!(!is_noise(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_worktree_names_the_lock_of_its_repository() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("a/.git")).unwrap();
        std::fs::create_dir_all(at("a/deep")).unwrap();
        std::fs::create_dir_all(at("b")).unwrap();
        assert_eq!(git_lock(&at("a/deep")), Some(at("a/.git/index.lock")));
        std::fs::write(at("b/.git"), "gitdir: ../a/.git/worktrees/b\n").unwrap();
        assert_eq!(git_lock(&at("b")), Some(at("b/../a/.git/worktrees/b/index.lock")));
    }
}

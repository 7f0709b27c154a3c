//! The process that watches a project's files, if there is one: at most one for each instance.

use super::identity::{Instance, private_folder};
use crate::model::{Context, Error, Result};
use crate::sys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a watcher may take to end before it is killed.
const END: Duration = Duration::from_secs(2);

fn place(instance: &Instance) -> PathBuf {
    instance.home.run.join(&instance.id).join("watch.lock")
}

/// What a detached watcher says.
pub fn watch_log(instance: &Instance) -> PathBuf {
    instance.state().join("watch.log")
}

/// The claim of this process to be the only one that watches.
#[derive(Debug)]
pub struct Watching(#[expect(dead_code, reason = "the lock is held as long as this lives")] sys::Lock);

/// Claims to watch an instance.
///
/// # Errors
/// Fails when another process watches it.
pub fn claim_watch(instance: &Instance) -> Result<Watching> {
    private_folder(&instance.home.run.join(&instance.id))?;
    let path = place(instance);
    let lock = sys::Lock::attempt(&path).context(|| format!("cannot lock {}", path.display()))?;
    let Some(mut lock) = lock else {
        let who = watcher(instance).map_or_else(String::new, |pid| format!(" (process {pid})"));
        return Err(Error::new(format!("these files are watched already{who}"))
            .hint("`stead logs --watch` shows what it does; `stead watch --stop` ends it"));
    };
    let file = lock.file();
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .context(|| format!("cannot write {}", path.display()))?;
    Ok(Watching(lock))
}

/// The process that watches an instance.
pub fn watcher(instance: &Instance) -> Option<i32> {
    let path = place(instance);
    if !sys::Lock::is_held(&path) {
        return None;
    }
    std::fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Ends the process that watches an instance, unless it is this one. Returns whether there was one.
pub fn end_watcher(instance: &Instance) -> bool {
    let Some(pid) = watcher(instance).filter(|pid| u32::try_from(*pid).ok() != Some(std::process::id())) else { return false };
    let deadline = Instant::now() + END;
    // It may end at any moment; the lock tells.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    while watcher(instance) == Some(pid) {
        if Instant::now() > deadline {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

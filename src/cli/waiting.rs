//! Shows whom a command waits for that ends containers, and why one takes long.

use super::Context;
use super::ui::Shown;
use crate::engine::{Instance, Progress, Reporter};
use crate::model::signal_name;
use crate::monitor::Folder;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often containers are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// After this time somebody who waits wants to know the reason.
const LONG: Duration = Duration::from_secs(2);
/// The most containers that are named.
const NAMED: usize = 5;

/// Does the work, and shows meanwhile which of the containers have not ended.
pub fn while_ending<T>(context: &Context, instance: &Instance, names: &[String], work: impl FnOnce() -> T) -> T {
    let mut left: BTreeSet<String> = names.iter().filter(|name| instance.container(name).alive()).cloned().collect();
    let shown = Shown::new(&context.ui, false);
    let (over, told) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let shown = &shown;
        scope.spawn(move || {
            for name in &left {
                shown.report(Progress::Container { name: name.clone(), what: "stopping" });
            }
            let started = Instant::now();
            let mut explained = false;
            // The sender is dropped when the work is done.
            while told.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                left.retain(|name| {
                    let alive = instance.container(name).alive();
                    if !alive {
                        shown.report(Progress::Container { name: name.clone(), what: "stopped" });
                    }
                    alive
                });
                if started.elapsed() >= LONG && !std::mem::replace(&mut explained, true) {
                    let unheard: Vec<(&String, String)> =
                        left.iter().filter_map(|name| Some((name, unheard(&instance.container(name))?))).collect();
                    if let Some((_, signal)) = unheard.first() {
                        let names: Vec<&str> = unheard.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
                        let more = unheard.len() - names.len();
                        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                        shown.report(Progress::Warning(format!(
                            "the first process of {}{more} does not handle {signal}, so it is killed when the grace period is \
                             over; with `init #true` it ends at once",
                            names.join(", ")
                        )));
                    }
                }
            }
            shown.clear();
        });
        let done = work();
        drop(over);
        done
    })
}

/// The stop signal of a container whose first process does not handle it, and so does not get it (pid_namespaces(7)).
fn unheard(folder: &Folder) -> Option<String> {
    // It is only an explanation: where something cannot be read, there is none.
    let spec = folder.spec().ok().flatten()?;
    // With an init of ours, or while a hook runs, something else takes long.
    if spec.blueprint.beyond.init || !spec.on_stop.is_empty() {
        return None;
    }
    let signal = spec.stop_signal;
    let text = std::fs::read_to_string(format!("/proc/{}/status", folder.status()?.pid)).ok()?;
    let caught = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok())?;
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    (caught >> bit & 1 == 0).then(|| signal_name(signal))
}

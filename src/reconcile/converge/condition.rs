//! Whether a container has come to where others wait for it, or never will.

use super::super::schedule::Look;
use crate::model::Error;
use crate::monitor::{Folder, Health, State, now_ms};
use crate::project::Until;
use std::time::Duration;

/// A container that ends this soon after its start counts as failed to start.
const SETTLE: Duration = Duration::from_millis(60);

fn never(why: impl Into<String>) -> Look {
    Look::Never(Error::new(why))
}

/// Whether a dependency has reached the required state.
pub(super) fn reached(folder: &Folder, until: Until) -> Look {
    let Some(status) = folder.status() else { return never("is not there") };
    let ended = || format!("ended with exit status {}", status.exit_code.unwrap_or(1));
    match (until, status.state) {
        (Until::Completed, State::Exited) if status.exit_code == Some(0) => Look::Yes,
        (_, State::Exited) if status.exit_code == Some(0) && until == Until::Started => Look::Yes,
        (_, State::Exited | State::Dead) => never(status.error.clone().unwrap_or_else(ended)),
        (_, State::Restarting) if status.asked => Look::NotYet(None),
        (_, State::Restarting) => never(format!("{} and is being restarted", ended())),
        (_, State::Paused) => never("is paused (`stead unpause` resumes it)"),
        (Until::Started, State::Running) => Look::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Healthy => Look::Yes,
        (Until::Healthy, State::Running) if status.health == Health::Unhealthy => never(unhealthy(&status.health_output)),
        _ => Look::NotYet(None),
    }
}

/// Whether a job has run to its end, or never will; `it` begins the sentence about that.
pub(super) fn ran(folder: &Folder, it: &str) -> Look {
    let Some(status) = folder.status() else { return never(format!("{it}was not started")) };
    match status.state {
        State::Exited if status.stopped => never(format!("{it}was stopped before it was done")),
        State::Exited if status.exit_code == Some(0) => Look::Yes,
        State::Exited => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            let ended = format!("ended with exit status {}{memory}", status.exit_code.unwrap_or(1));
            never(format!("{it}{}", status.error.unwrap_or(ended)))
        }
        State::Dead => never(status.error.unwrap_or_else(|| format!("{it}lost its monitor"))),
        State::Created | State::Running | State::Paused | State::Restarting => Look::NotYet(None),
    }
}

fn unhealthy(output: &str) -> String {
    if output.is_empty() { "is unhealthy".into() } else { format!("is unhealthy: {output}") }
}

/// Whether a container has come up or has failed.
pub(super) fn settled(folder: &Folder) -> Look {
    let Some(status) = folder.status() else { return never("it was not started") };
    match (status.state, status.health) {
        (State::Exited, _) if status.exit_code == Some(0) => Look::Yes,
        (State::Exited, _) => {
            let memory = if status.out_of_memory { " (out of memory)" } else { "" };
            never(format!("it ended with exit status {}{memory}", status.exit_code.unwrap_or(1)))
        }
        (State::Dead, _) => never(status.error.unwrap_or_else(|| "its monitor is gone".into())),
        // `watch` restarts what it has synced into, also while `up` waits.
        (State::Restarting, _) if status.asked => Look::NotYet(None),
        (State::Restarting, _) => {
            never(format!("it ended with exit status {} and is being restarted", status.exit_code.unwrap_or(1)))
        }
        (State::Running, Health::Starting) => Look::NotYet(None),
        (State::Running, Health::Unhealthy) => never(format!("it {}", unhealthy(&status.health_output))),
        (State::Running, Health::None)
            if status.started_at.is_some_and(|at| Duration::from_millis(now_ms().saturating_sub(at)) < SETTLE) =>
        {
            let lived = Duration::from_millis(now_ms().saturating_sub(status.started_at.unwrap_or_default()));
            Look::NotYet(Some(SETTLE.saturating_sub(lived)))
        }
        (State::Created, _) => Look::NotYet(None),
        _ => Look::Yes,
    }
}

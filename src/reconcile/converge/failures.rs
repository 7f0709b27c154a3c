//! The containers that did not come up, each with why.

use super::super::schedule::State as Far;
use super::{Executor, newest_generation};
use crate::instance::{Failure, Instance};
use crate::plan::{Action, Task};

impl Executor<'_> {
    /// The containers that did not come up: first those that failed themselves, then those that depend on them.
    pub fn failures(&self, tasks: &[Task], states: &[Far]) -> Vec<Failure> {
        let mut found = Vec::new();
        for (at, (task, state)) in tasks.iter().zip(states).enumerate() {
            let (Action::Start { container, .. } | Action::Adjust { container } | Action::Settle { container }) = &task.action
            else {
                continue;
            };
            let (why, follows) = match state {
                Far::Failed(error, _) => (error.chain(), false),
                Far::Follows(_) if !matches!(task.action, Action::Settle { .. }) => match why_follows(tasks, states, at) {
                    Some(why) => (why, true),
                    None => continue,
                },
                _ => continue,
            };
            // A container that was never started has no log lines in this generation.
            let last = if follows { Vec::new() } else { last_lines(self.instance(), container) };
            found.push(Failure { container: container.clone(), why, last, follows });
        }
        found.sort_by_key(|failure| failure.follows);
        found
    }
}

/// Why a container was not started because another one failed; `None` if what failed is not a container.
fn why_follows(tasks: &[Task], states: &[Far], at: usize) -> Option<String> {
    let Far::Follows(first) = &states[at] else { return None };
    let container = match &tasks[*first].action {
        Action::Await { container, .. } => container,
        Action::End { .. } => return why_follows(tasks, states, *first),
        Action::Seed { volume } => match &states[*first] {
            Far::Failed(error, _) => return Some(format!("it uses the volume {volume}: {}", error.chain())),
            _ => return why_follows(tasks, states, *first),
        },
        Action::Settle { container } => {
            return Some(format!("it goes on as it was, because {container}, which was to come up before, did not"));
        }
        _ => return None,
    };
    match &states[*first] {
        Far::Failed(error, _) => Some(format!("it depends on {container}, which {}", error.message())),
        Far::Follows(start) => {
            let why = match &states[*start] {
                Far::Failed(error, _) => error.chain(),
                _ => why_follows(tasks, states, *start)?,
            };
            Some(format!("it depends on {container}, which failed: {}", why.lines().next().unwrap_or_default()))
        }
        _ => None,
    }
}

/// The last log lines of a container.
fn last_lines(instance: &Instance, name: &str) -> Vec<String> {
    // If the logs cannot be read, no lines are shown.
    let Ok(generation) = newest_generation(instance, name) else { return Vec::new() };
    let lines = crate::monitor::last_lines(&instance.logs(name), generation, 10);
    lines.iter().map(|line| line.text().into_owned()).collect()
}

//! What `up` and similar commands show while they work, and at the end.

use super::super::Context;
use super::super::ui::{Shown, Style};
use super::ps;
use crate::engine::{self, Converged, Instance, Reporter};
use crate::model::{Error, Result};
use std::time::Instant;

/// Runs an operation that creates containers, and shows its progress and its outcome.
pub fn converge(
    instance: &Instance,
    context: &Context,
    started: Instant,
    operation: impl FnOnce(&dyn Reporter) -> Result<Converged>,
) -> Result<u8> {
    let shown = Shown::new(&context.ui, true);
    let outcome = operation(&shown);
    shown.clear();
    conclude(&outcome?, instance, context, started)
}

/// Shows an outcome: failures with their last lines of output, then the table of running containers.
pub fn conclude(outcome: &Converged, instance: &Instance, context: &Context, started: Instant) -> Result<u8> {
    for failure in &outcome.failures {
        let color = context.ui.color_err;
        let name = Style::Bold.paint(&failure.container, color);
        context.ui.say(Style::Bad.paint("failed:", color) + " " + name + ": " + &failure.why);
        for line in &failure.last {
            context.ui.say(format!("    {line}"));
        }
    }
    let table = ps::table(&engine::listing(instance, engine::Which::Running)?, &context.ui);
    if !table.is_empty() {
        context.ui.result(table);
    }
    if !outcome.failures.is_empty() {
        let names: Vec<&str> = outcome.failures.iter().map(|failure| failure.container.as_str()).collect();
        let error = Error::new(format!("not everything is up: {}", names.join(", ")));
        let spoke = outcome.failures.iter().find(|failure| !failure.last.is_empty());
        return Err(match spoke {
            Some(failure) => error.hint(format!("`stead logs {}` shows all of its output", failure.container)),
            None => error,
        });
    }
    let what = if outcome.changes.is_empty() { "nothing to do" } else { "up" };
    context.ui.say(Style::Dim.paint(format!("{what} ({})", engine::since(started)), context.ui.color_err));
    Ok(0)
}

//! How a plan is shown: a line for each change, followed by its causes.

use super::{Style, Text, Ui};
use crate::plan::{Cause, Change, Mark, Object, Plan, Symbol};

/// The least room for a cause beside its change; with less, it is on a line of its own.
const LEAST: usize = 24;

/// A plan as text, in lines of at most so many columns; empty when there is nothing to do.
pub fn plan_text(plan: &Plan, ui: &Ui, color: bool, columns: Option<usize>) -> Text {
    let changes: Vec<&Change> = plan.changes().collect();
    if changes.is_empty() {
        return Text::default();
    }
    let private = |text: &str| Text::line(&ui.without_private(text));
    let mut out = Style::Bold.paint(private(&plan.project), color) + " ";
    out += Style::Dim.paint(Text::line(&plan.instance), color) + "\n";
    for mark in &plan.trust {
        out += Text::from("  ") + mark_text(mark, color) + "\n";
    }
    let titles: Vec<Text> = changes.iter().map(|change| private(&title(change))).collect();
    let widest = titles.iter().map(Text::width).max().unwrap_or(0);
    // Where the titles leave no room for causes, only the short ones are padded.
    let width = columns.map_or(widest, |columns| widest.min(columns.saturating_sub(LEAST + 8)));
    for (change, title) in changes.iter().zip(titles) {
        let causes: Vec<Text> = change.causes.iter().map(|cause| private(&self::cause(cause))).collect();
        out += line(change, title, causes, (width, columns), color);
    }
    let count = |symbol| changes.iter().filter(|change| change.symbol == symbol).count();
    let (new, other, gone) = (count(Symbol::Create), count(Symbol::Change), count(Symbol::Remove));
    out + format!("{new} to create, {other} to change, {gone} to remove\n")
}

fn title(change: &Change) -> String {
    let kind = match change.object {
        Object::Setting => "setting",
        Object::Lock => "lock",
        Object::Image => "image",
        Object::Network => "network",
        Object::Volume => "volume",
        Object::Firewall => "",
        Object::Container => "container",
        Object::Job => "job",
    };
    let gap = if kind.is_empty() { "" } else { " " };
    let detail = if change.detail.is_empty() { String::new() } else { format!(" ({})", change.detail) };
    format!("{kind}{gap}{}{detail}", change.name)
}

fn line(change: &Change, title: Text, causes: Vec<Text>, (width, columns): (usize, Option<usize>), color: bool) -> Text {
    let (symbol, style) = match change.symbol {
        Symbol::Create => ("+", Style::Good),
        Symbol::Change => ("~", Style::Change),
        Symbol::Remove => ("-", Style::Bad),
    };
    let (shown, all) = (5, causes.len());
    let mut causes: Vec<Text> = causes.into_iter().take(shown).collect();
    if all > shown {
        causes.push(format!("and {} more", all - shown).into());
    }
    let margin = " ".repeat(width + 6);
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(width + 8).max(LEAST));
    // The first cause is beside a title that leaves room for it.
    let mut gap = width.checked_sub(title.width()).map(|padding| " ".repeat(padding + 2));
    let mut out = Text::from("  ") + style.paint(symbol, color) + " " + title;
    for cause in causes {
        let mut arrow = "← ";
        for part in cause.wrapped(room) {
            out += gap.take().unwrap_or_else(|| format!("\n{margin}"));
            out += Style::Dim.paint(Text::from(arrow) + part, color);
            arrow = "  ";
        }
    }
    out += "\n";
    for mark in &change.trust {
        out += Text::from("    ") + mark_text(mark, color) + "\n";
    }
    out
}

/// A mark as it is shown in a plan. It is never shortened: it is what somebody consents to.
pub fn mark_text(mark: &Mark, color: bool) -> Text {
    let place = mark.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
    Style::Trust.paint(Text::from("! ") + Text::line(&format!("{}{place}", mark.text)), color)
}

fn cause(cause: &Cause) -> String {
    match &cause.place {
        Some(place) => format!("{} ({place})", cause.text),
        None => cause.text.clone(),
    }
}

//! How a plan is shown: a line for each change, followed by its causes.

use super::{Style, Text, Ui};
use crate::plan::{Cause, Change, Mark, Object, Plan, Symbol};

/// A plan as text; empty when there is nothing to do.
pub fn plan_text(plan: &Plan, ui: &Ui, color: bool) -> Text {
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
    let width = titles.iter().map(Text::width).max().unwrap_or(0);
    for (change, title) in changes.iter().zip(titles) {
        let causes: Vec<Text> = change.causes.iter().map(|cause| private(&self::cause(cause))).collect();
        out += line(change, title, causes, width, color);
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
    };
    let gap = if kind.is_empty() { "" } else { " " };
    let detail = if change.detail.is_empty() { String::new() } else { format!(" ({})", change.detail) };
    format!("{kind}{gap}{}{detail}", change.name)
}

fn line(change: &Change, title: Text, causes: Vec<Text>, width: usize, color: bool) -> Text {
    let (symbol, style) = match change.symbol {
        Symbol::Create => ("+", Style::Good),
        Symbol::Change => ("~", Style::Change),
        Symbol::Remove => ("-", Style::Bad),
    };
    let padding = " ".repeat(width - title.width());
    let (shown, all) = (5, causes.len());
    let mut causes = causes.into_iter().take(shown);
    let first = causes.next().map_or_else(Text::default, |text| Text::from(padding) + "  ← " + text);
    let mut out = Text::from("  ") + style.paint(symbol, color) + " " + title + Style::Dim.paint(first, color) + "\n";
    let margin = format!("    {}  ", " ".repeat(width));
    for text in causes {
        out += Text::from(&margin) + Style::Dim.paint(Text::from("← ") + text, color) + "\n";
    }
    if all > shown {
        out += Text::from(&margin) + Style::Dim.paint(format!("← and {} more", all - shown), color) + "\n";
    }
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

//! How a plan looks: a line for each change, its causes behind it.

use super::Style;
use crate::plan::{Cause, Change, Kind, Plan, Symbol};

/// A plan as text; empty when there is nothing to do.
pub fn plan_text(plan: &Plan, color: bool) -> String {
    if plan.changes.is_empty() {
        return String::new();
    }
    let mut out = format!("{} {}\n", Style::Bold.paint(&plan.project, color), Style::Dim.paint(&plan.instance, color));
    let width = plan.changes.iter().map(|change| title(change).chars().count()).max().unwrap_or(0);
    for change in &plan.changes {
        out.push_str(&line(change, width, color));
    }
    let count = |symbol| plan.changes.iter().filter(|change| change.symbol == symbol).count();
    out.push_str(&format!(
        "{} to create, {} to change, {} to remove\n",
        count(Symbol::Create),
        count(Symbol::Change),
        count(Symbol::Remove)
    ));
    out
}

fn title(change: &Change) -> String {
    let kind = match change.kind {
        Kind::Setting => "setting",
        Kind::Lock => "lock",
        Kind::Image => "image",
        Kind::Network => "network",
        Kind::Volume => "volume",
        Kind::Firewall => "",
        _ => "container",
    };
    let gap = if kind.is_empty() { "" } else { " " };
    let detail = if change.detail.is_empty() { String::new() } else { format!(" ({})", change.detail) };
    format!("{kind}{gap}{}{detail}", change.name)
}

fn line(change: &Change, width: usize, color: bool) -> String {
    let (symbol, style) = match change.symbol {
        Symbol::Create => ("+", Style::Good),
        Symbol::Change => ("~", Style::Change),
        Symbol::Remove => ("-", Style::Bad),
    };
    let title = title(change);
    let padding = " ".repeat(width - title.chars().count());
    let mut causes = change.causes.iter().map(cause);
    let first = causes.next().map_or_else(String::new, |text| format!("{padding}  ← {text}"));
    let mut out = format!("  {} {title}{}\n", style.paint(symbol, color), Style::Dim.paint(&first, color));
    let shown = 4;
    let rest: Vec<String> = causes.collect();
    for text in rest.iter().take(shown) {
        out.push_str(&format!("    {}  {}\n", " ".repeat(width), Style::Dim.paint(&format!("← {text}"), color)));
    }
    if rest.len() > shown {
        out.push_str(&format!(
            "    {}  {}\n",
            " ".repeat(width),
            Style::Dim.paint(&format!("← and {} more", rest.len() - shown), color)
        ));
    }
    for mark in &change.trust {
        out.push_str(&format!("    {}\n", Style::Trust.paint(&format!("! {}", self::cause(mark)), color)));
    }
    out
}

fn cause(cause: &Cause) -> String {
    match &cause.place {
        Some(place) => format!("{} ({place})", cause.text),
        None => cause.text.clone(),
    }
}

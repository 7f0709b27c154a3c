//! How a plan is shown: a line for each change, followed by its causes.

use super::{Style, Text, Ui};
use crate::engine::took;
use crate::model::Size;
use crate::plan::{Cause, Change, ContainerOutlook, ImageOutlook, Making, Mark, Object, Outlook, Plan, Symbol};

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
    out += format!("{new} to create, {other} to change, {gone} to remove\n");
    if !plan.losses.is_empty() {
        out += Style::Bad.paint("data that would be lost:", color) + "\n";
    }
    for loss in &plan.losses {
        out += Text::from("  ") + private(&format!("{}: {}", loss.of, loss.text)) + "\n";
    }
    out
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

/// What comes of a plan as text, in lines of at most so many columns.
pub fn outlook_text(outlook: &Outlook, ui: &Ui, color: bool, columns: Option<usize>) -> Text {
    let mut rows: Vec<(String, String)> = Vec::new();
    rows.extend(outlook.images.iter().map(|image| (format!("image {}", image.name), image_text(image))));
    let about = outlook.containers.iter().map(|one| (format!("container {}", one.name), container_text(one)));
    rows.extend(about.filter(|(_, text)| !text.is_empty()));
    if !outlook.downtime.is_empty() {
        let groups: Vec<String> = outlook.downtime.iter().map(|group| group.join(", ")).collect();
        rows.push(("ends".into(), groups.join(", then ")));
    }
    if let Some(generation) = outlook.generation {
        rows.push(("makes".into(), format!("generation {generation}")));
    }
    let titles: Vec<Text> = rows.iter().map(|(title, _)| Text::line(&ui.without_private(title))).collect();
    let widest = titles.iter().map(Text::width).max().unwrap_or(0);
    let width = columns.map_or(widest, |columns| widest.min(columns.saturating_sub(LEAST + 6)));
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(width + 4).max(LEAST));
    let mut out = Text::default();
    for (title, (_, text)) in titles.into_iter().zip(&rows) {
        let mut gap = width.checked_sub(title.width()).map(|padding| " ".repeat(padding + 2));
        out += Text::from("  ") + title;
        for part in Text::line(&ui.without_private(text)).wrapped(room) {
            out += gap.take().unwrap_or_else(|| format!("\n{}", " ".repeat(width + 4)));
            out += Style::Dim.paint(part, color);
        }
        out += "\n";
    }
    out
}

fn image_text(image: &ImageOutlook) -> String {
    let stored = |bytes: u64| if bytes == 0 { String::new() } else { format!(" ({})", Size(bytes)) };
    let what = match image.how {
        Making::Cached => format!("is cached{}", stored(image.bytes)),
        Making::Pull => "is pulled".to_owned(),
        Making::Import => "is imported".to_owned(),
        Making::Build if image.cached == image.steps => format!("is put together from cached steps{}", stored(image.bytes)),
        Making::Build => format!("is built: {} of {} steps are cached{}", image.cached, image.steps, stored(image.bytes)),
    };
    let took = image.millis.map(|millis| format!(", the others took {} last time", took(u128::from(millis)))).unwrap_or_default();
    let used = if image.used_by.is_empty() { String::new() } else { format!("; used by {}", some(&image.used_by)) };
    format!("{what}{took}{used}")
}

fn container_text(one: &ContainerOutlook) -> String {
    let mut parts = Vec::new();
    if !one.ports.is_empty() {
        let port =
            |port: &crate::plan::Port| format!("{}:{} → {}/{:?}", port.address, port.port, port.to, port.protocol).to_lowercase();
        parts.push(some(&one.ports.iter().map(port).collect::<Vec<_>>()));
    }
    if !one.used_by.is_empty() {
        let users: Vec<String> = one.used_by.keys().map(ToString::to_string).collect();
        parts.push(format!("needed by {}", some(&users)));
    }
    for (name, files) in &one.drift {
        let files = if *files == 1 { "1 synced file".to_owned() } else { format!("{files} synced files") };
        parts.push(format!("{name} loses {files}"));
    }
    parts.join("; ")
}

/// The first of some names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
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

use super::super::Context;
use crate::engine::{self, Explained};
use crate::model::{Result, visible_line};
use crate::plan::Cause;

/// Explains why `up` would change something, or why it would not: what it depends on, what depends on it, and what changed
/// it last.
///
/// Example: stead why web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A container, job, image, network or volume; or a step of an image: IMAGE/NUMBER or IMAGE:LINE.
    name: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project_dry()?;
    for explained in engine::explain(&loaded, &arguments.name)? {
        context.ui.result(context.ui.without_private(&text(&explained)));
    }
    Ok(0)
}

fn text(explained: &Explained) -> String {
    let Explained { what, place, causes, note, needs, users, last } = explained;
    let place = place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
    let what = visible_line(&format!("{what}{place}")).into_owned();
    if !causes.is_empty() {
        return format!("`up` would change {what}:\n{}", paths(causes.iter().map(|(name, cause)| (name.as_str(), cause))));
    }
    let note = note.as_ref().map_or_else(String::new, |note| format!(": {}", visible_line(note)));
    let mut out = format!("`up` would not change {what}{note}\n");
    for (title, lines) in [("it depends on", needs), ("what depends on it", users)] {
        if !lines.is_empty() {
            out.push_str(&format!("{title}:\n"));
            lines.iter().for_each(|line| out.push_str(&format!("  {}\n", visible_line(line))));
        }
    }
    if let Some(entry) = last {
        let at = crate::model::time_text(i64::try_from(entry.at / 1000).unwrap_or(0));
        let changes =
            entry.changes.iter().flat_map(|change| change.causes.iter().map(move |cause| (change.name.as_str(), cause)));
        out.push_str(&format!("`{}` at {at} changed it last:\n{}", visible_line(&entry.command), paths(changes)));
    }
    out
}

/// A line for each cause: what changes, and the way to the input that changed.
fn paths<'c>(causes: impl Iterator<Item = (&'c str, &'c Cause)>) -> String {
    let line = |(name, cause): (&str, &Cause)| {
        let place = cause.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
        format!("  {}\n", visible_line(&format!("{name} ← {}{place}", cause.text)))
    };
    causes.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Entry;

    fn unchanged() -> Explained {
        Explained {
            what: "container web".into(),
            place: None,
            causes: Vec::new(),
            note: None,
            needs: vec!["image app sha256:0123456789ab".into(), "network back 10.1.2.0/24".into()],
            users: vec!["container front (healthy)".into()],
            last: None,
        }
    }

    #[test]
    fn what_changes_is_told_with_its_way_and_what_does_not_with_its_neighbours() {
        let cause = Cause { text: "the image app is rebuilt ← stead.lock: x 1 → 2".into(), place: None };
        let changed = Explained { causes: vec![("web-1".into(), cause)], ..unchanged() };
        assert_eq!(
            text(&changed),
            "`up` would change container web:\n  web-1 ← the image app is rebuilt ← stead.lock: x 1 → 2\n"
        );
        let last = Entry { at: 0, command: "up".into(), ok: true, changes: Vec::new() };
        assert_eq!(
            text(&Explained { last: Some(last), ..unchanged() }),
            "`up` would not change container web\nit depends on:\n  image app sha256:0123456789ab\n  network back 10.1.2.0/24\n\
             what depends on it:\n  container front (healthy)\n`up` at 1970-01-01T00:00:00Z changed it last:\n"
        );
        let hostile = Explained { note: Some("a\n\u{1b}[2J".into()), ..unchanged() };
        assert!(text(&hostile).starts_with("`up` would not change container web: a\\n\\u{1b}[2J\n"), "{}", text(&hostile));
    }
}

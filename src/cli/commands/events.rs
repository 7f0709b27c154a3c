use super::super::ui::{Style, Text};
use super::super::{Context, moment};
use crate::model::Result;
use crate::monitor::{Event, Events, Writes, now_ms};
use crate::project::ReplicaId;
use std::path::Path;
use std::time::Duration;

/// Shows what happens to containers, as it happens; with --since, also what happened before.
///
/// Example: stead events --since 1h --json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Show events from this time on: how long ago (10m), or a date.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show events up to this time, then end.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Show only events of these containers or replicas.
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let moment = |option: &str, text: &Option<String>| text.as_ref().map(|text| moment::parse(option, text)).transpose();
    let (since, until) = (moment("since", &arguments.since)?, moment("until", &arguments.until)?);
    let since = since.unwrap_or_else(|| if until.is_some() { 0 } else { now_ms() });
    let path = context.instance()?.events();
    let mut events = Events::all(&path);
    let mut writes = Writes::to(path.parent().map(Path::to_owned).into_iter().collect());
    loop {
        // This is checked before reading, so that no event before the end is missed.
        let over = until.is_some_and(|until| now_ms() > until);
        for event in events.read() {
            let meant = arguments.names.is_empty() || arguments.names.iter().any(|name| ReplicaId::is_of(&event.name, name));
            if meant && event.time >= since && until.is_none_or(|until| event.time <= until) {
                if arguments.json {
                    context.ui.json_line(&event);
                } else {
                    context.ui.result(line(&event, context));
                }
            }
        }
        if over {
            return Ok(0);
        }
        writes.wait(until.map(|until| Duration::from_millis((until + 1).saturating_sub(now_ms()))));
    }
}

fn line(event: &Event, context: &Context) -> Text {
    let details: Vec<String> = event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    let style = match event.action.as_str() {
        "start" | "unpause" => Style::Good,
        "die" | "oom" | "kill" | "destroy" => Style::Bad,
        _ => Style::Change,
    };
    let color = context.ui.color_out;
    let time = Style::Dim.paint(moment::stamp(event.time).replace("000000Z", "Z"), color);
    let action = style.paint(Text::line(&event.action), color);
    time + " " + Text::line(&event.kind) + " " + action + " " + Text::line(&format!("{}{details}", event.name))
}

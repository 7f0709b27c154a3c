use super::super::Context;
use super::super::ui::Style;
use crate::apply::Instance;
use crate::model::Outcome;
use crate::monitor::{Line, Tail};
use std::time::Duration;

/// Shows what containers said, oldest first, across restarts.
///
/// Example: stead logs -f web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
    /// Go on as new lines come.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// With the time of each line.
    #[arg(short, long)]
    timestamps: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    let instance = context.instance();
    let names = names(&instance, &arguments.names)?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut tails: Vec<(String, Tail)> = names.into_iter().map(|name| (name.clone(), Tail::new(&instance.logs(&name)))).collect();
    let several = tails.len() > 1;
    let mut first = true;
    loop {
        let mut lines: Vec<(String, Line)> = Vec::new();
        for (name, tail) in &mut tails {
            let mut new = tail.read();
            if let Some(count) = arguments.tail.filter(|_| first) {
                new.drain(..new.len().saturating_sub(count));
            }
            lines.extend(new.into_iter().map(|line| (name.clone(), line)));
        }
        lines.sort_by(|(_, a), (_, b)| a.time.cmp(&b.time));
        let mut text = String::new();
        for (name, line) in &lines {
            if several {
                text.push_str(&Style::Dim.paint(&format!("{name:width$} | "), context.ui.color_out));
            }
            if arguments.timestamps {
                text.push_str(&format!("{} ", line.time));
            }
            text.push_str(&line.text);
            if line.full {
                text.push('\n');
            }
        }
        context.ui.result(&text);
        if !arguments.follow {
            return Ok(0);
        }
        first = false;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The replicas that are meant, running or not.
fn names(instance: &Instance, typed: &[String]) -> Outcome<Vec<String>> {
    let record = instance.record();
    let logged: Vec<String> = std::fs::read_dir(instance.state().join("logs"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut all: Vec<String> = record.containers.keys().cloned().collect();
    if all.is_empty() {
        all.extend(logged.iter().cloned());
    }
    all.sort();
    if typed.is_empty() {
        return Ok(all);
    }
    let mut found = Vec::new();
    for name in typed {
        let replicas: Vec<String> = logged
            .iter()
            .chain(&all)
            .filter(|full| *full == name || full.rsplit_once('-').is_some_and(|(base, _)| base == name))
            .cloned()
            .collect();
        if replicas.is_empty() {
            found.push(instance.find(name)?);
        }
        found.extend(replicas);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

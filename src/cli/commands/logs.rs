use super::super::ui::{Style, Text};
use super::super::{Context, moment};
use crate::engine;
use crate::model::{Digest, Error, Result};
use crate::monitor::{Line, Tail, Writes};

/// Shows the output of containers, oldest first, across restarts.
///
/// Example: stead logs -f --since 10m web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
    /// Keep showing new lines as they come.
    #[arg(short, long)]
    follow: bool,
    /// Show only this many of the last lines of each container, or "all".
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// Show only lines from this time on: how long ago (10m), or a date (2026-08-01T12:00:00Z).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show only lines up to this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show the time of each line.
    #[arg(short, long)]
    timestamps: bool,
    /// Do not show the containers' names.
    #[arg(long)]
    no_log_prefix: bool,
}

/// One container's log, with its next line already read.
struct Source {
    prefix: Text,
    tail: Tail,
    next: Option<Line>,
    /// Whether the last printed piece did not end its line.
    open: bool,
}

/// Parses the value of `--tail`: how many of the last lines to show, `None` for all.
fn count(text: &str) -> Result<Option<usize>> {
    if text == "all" {
        return Ok(None);
    }
    let wrong = || Error::new(format!("--tail {text}: not a number of lines")).hint("write a number, or \"all\"").usage();
    text.parse().map(Some).map_err(|_| wrong())
}

/// How many bytes are gathered before they are printed.
const CHUNK: usize = 64 << 10;

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let moment = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| moment::parse(option, text).map(moment::stamp)).transpose()
    };
    let (since, until) = (moment("since", &arguments.since)?, moment("until", &arguments.until)?);
    let instance = context.instance()?;
    let names = engine::logged(&instance, &arguments.names)?;
    let last = arguments.tail.as_deref().map(count).transpose()?.flatten();
    let width = if names.len() > 1 && !arguments.no_log_prefix { names.iter().map(String::len).max() } else { None };
    let mut sources: Vec<Source> = names
        .iter()
        .map(|name| {
            let mut tail = Tail::new(&instance.logs(name));
            if let Some(count) = last {
                tail.skip_to_last(count);
            }
            let paint = |width| color(name).paint(Text::line(&format!("{name:width$} | ")), context.ui.color_out);
            let prefix = width.map_or_else(Text::default, paint);
            Source { prefix, tail, next: None, open: false }
        })
        .collect();
    let mut writes = arguments.follow.then(|| Writes::to(names.iter().map(|name| instance.logs(name)).collect()));
    let mut text = String::new();
    loop {
        while let Some((source, line)) = next(&mut sources) {
            if since.as_ref().is_some_and(|since| line.time < *since) {
                continue;
            }
            if until.as_ref().is_some_and(|until| line.time > *until) {
                context.ui.logged(&text);
                return Ok(0);
            }
            if !source.open {
                source.prefix.push_to(&mut text);
                if arguments.timestamps {
                    text.push_str(&line.time);
                    text.push(' ');
                }
            }
            text.push_str(&line.text);
            source.open = !line.full;
            if line.full {
                text.push('\n');
            }
            if text.len() > CHUNK {
                context.ui.raw(text.as_bytes());
                text.clear();
            }
        }
        let Some(writes) = &mut writes else {
            context.ui.logged(&text);
            return Ok(0);
        };
        context.ui.raw(text.as_bytes());
        text.clear();
        writes.wait(None);
    }
}

/// The oldest of the lines that are available.
fn next(sources: &mut [Source]) -> Option<(&mut Source, Line)> {
    for source in sources.iter_mut().filter(|source| source.next.is_none()) {
        source.next = source.tail.next_line();
    }
    let source = sources.iter_mut().filter(|source| source.next.is_some()).min_by(|a, b| {
        let time = |source: &Source| source.next.as_ref().map(|line| line.time.clone());
        time(a).cmp(&time(b))
    })?;
    let line = source.next.take()?;
    Some((source, line))
}

/// A container's colour: the same every time.
fn color(name: &str) -> Style {
    let styles = [Style::Cyan, Style::Good, Style::Change, Style::Blue, Style::Magenta];
    styles[usize::try_from(Digest::of(name).number() % styles.len() as u64).unwrap_or(0)]
}

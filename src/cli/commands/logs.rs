use super::super::cells::color;
use super::super::ui::Text;
use super::super::{Context, moment};
use crate::engine;
use crate::instance::Instance;
use crate::model::{Context as _, Error, Result};
use crate::monitor::{Line, Tail, Writes};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

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
    /// Show what the detached `stead watch` has done, instead of containers' output.
    #[arg(long, conflicts_with_all = ["names", "since", "until", "timestamps"])]
    watch: bool,
}

/// One container's log, with its next line already read.
struct Source {
    name: String,
    prefix: Text,
    tail: Tail,
    next: Option<Line>,
}

impl Source {
    fn new(instance: &Instance, name: String) -> Self {
        Self { prefix: Text::default(), tail: Tail::new(&instance.logs(&name)), next: None, name }
    }
}

/// Parses the value of `--tail`: how many of the last lines to show, `None` for all.
fn count(text: &str) -> Result<Option<usize>> {
    if text == "all" {
        return Ok(None);
    }
    let wrong = || Error::new(format!("--tail {text}: not a number of lines")).hint("write a number, or \"all\"").usage();
    text.parse().map(Some).map_err(|_| wrong())
}

/// Shows the output of all containers since a moment, in milliseconds since 1970, and what comes.
pub fn follow(from: u64, context: &Context) -> Result<u8> {
    let since = Some(format!("{}.{:03}", from / 1000, from % 1000));
    let (names, tail, until) = (Vec::new(), None, None);
    let (follow, timestamps, no_log_prefix, watch) = (true, false, false, false);
    show(&Arguments { names, follow, tail, since, until, timestamps, no_log_prefix, watch }, Named::Always, context)
}

/// When lines show whose they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Never,
    /// Of one container alone that is plain.
    OfSeveral,
    Always,
}

/// How many bytes are gathered before they are printed.
const CHUNK: usize = 64 << 10;

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    show(arguments, if arguments.no_log_prefix { Named::Never } else { Named::OfSeveral }, context)
}

fn show(arguments: &Arguments, named: Named, context: &Context) -> Result<u8> {
    let moment = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| moment::parse(option, text).map(moment::stamp)).transpose()
    };
    let (since, until) = (moment("since", &arguments.since)?, moment("until", &arguments.until)?);
    let instance = context.instance()?;
    if arguments.watch {
        return of_watch(&instance, arguments, context);
    }
    let last = arguments.tail.as_deref().map(count).transpose()?.flatten();
    let mut sources: Vec<Source> =
        engine::logged(&instance, &arguments.names)?.into_iter().map(|name| Source::new(&instance, name)).collect();
    if let Some(count) = last {
        sources.iter_mut().for_each(|source| source.tail.skip_to_last(count));
    }
    prefix(&mut sources, named, context.ui.color_out);
    let all = instance.all_logs();
    let mut writes = arguments.follow.then(|| {
        let folders = sources.iter().map(|source| instance.logs(&source.name));
        Writes::to(folders.chain([all.clone()]).collect())
    });
    let mut out = Output { bytes: Vec::new(), open: None, timestamps: arguments.timestamps };
    loop {
        while let Some((at, line)) = next(&mut sources) {
            if since.as_ref().is_some_and(|since| line.time < *since) {
                continue;
            }
            if until.as_ref().is_some_and(|until| line.time > *until) {
                context.ui.logged(&out.bytes);
                return Ok(0);
            }
            out.add(&sources[at], &line);
            if out.bytes.len() > CHUNK {
                // A reader that has seen enough closes the pipe.
                if !context.ui.stream(&out.bytes) {
                    return Ok(0);
                }
                out.bytes.clear();
            }
        }
        let Some(writes) = &mut writes else {
            for source in &mut sources {
                let left: Vec<Line> = source.tail.unfinished().collect();
                left.iter().for_each(|line| out.add(source, line));
            }
            context.ui.logged(&out.bytes);
            return Ok(0);
        };
        if !out.bytes.is_empty() && !context.ui.stream(&out.bytes) {
            return Ok(0);
        }
        out.bytes.clear();
        if writes.wait(None).of(&all) {
            // A container may have got its first log.
            let known: BTreeSet<&String> = sources.iter().map(|source| &source.name).collect();
            let mut names = engine::logged(&instance, &arguments.names)?;
            names.retain(|name| !known.contains(name));
            for name in names {
                writes.also(instance.logs(&name));
                sources.push(Source::new(&instance, name));
            }
            prefix(&mut sources, named, context.ui.color_out);
        }
    }
}

/// Gives each container the same width for its name, if it is shown.
fn prefix(sources: &mut [Source], named: Named, color_out: bool) {
    let is_wanted = named == Named::Always || named == Named::OfSeveral && sources.len() > 1;
    let width = sources.iter().map(|source| source.name.len()).max().filter(|_| is_wanted);
    for source in sources {
        let name = &source.name;
        let paint = |width| color(name).paint(Text::line(&format!("{name:width$} | ")), color_out);
        source.prefix = width.map_or_else(Text::default, paint);
    }
}

/// What is printed next.
struct Output {
    bytes: Vec<u8>,
    /// The container and the stream whose last piece did not end its line.
    open: Option<(String, String)>,
    timestamps: bool,
}

impl Output {
    fn add(&mut self, source: &Source, line: &Line) {
        let from = (source.name.clone(), line.stream.clone());
        if self.open.as_ref() != Some(&from) {
            if self.open.is_some() {
                self.bytes.push(b'\n');
            }
            source.prefix.push_to(&mut self.bytes);
            if self.timestamps {
                self.bytes.extend_from_slice(line.time.as_bytes());
                self.bytes.push(b' ');
            }
        }
        self.bytes.extend_from_slice(&line.text);
        if line.full {
            self.bytes.push(b'\n');
        }
        self.open = (!line.full).then_some(from);
    }
}

/// The oldest of the lines that are available, and whose it is.
fn next(sources: &mut [Source]) -> Option<(usize, Line)> {
    for source in sources.iter_mut().filter(|source| source.next.is_none()) {
        source.next = source.tail.next_whole();
    }
    let times = sources.iter().enumerate().filter_map(|(at, source)| Some((at, &source.next.as_ref()?.time)));
    let (at, _) = times.min_by(|a, b| a.1.cmp(b.1))?;
    Some((at, sources[at].next.take()?))
}

/// Shows the output of a detached `stead watch`.
fn of_watch(instance: &Instance, arguments: &Arguments, context: &Context) -> Result<u8> {
    let path = engine::watch_log(instance);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::new("nothing was watched in the background here").hint("`stead watch --detach` does"));
        }
        Err(error) => return Err(error).context(|| format!("cannot read {}", path.display())),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).context(|| format!("cannot read {}", path.display()))?;
    let last = arguments.tail.as_deref().map(count).transpose()?.flatten();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let from = last.map_or(0, |last| lines.len().saturating_sub(last));
    context.ui.logged(&lines[from..].concat());
    let mut writes = Writes::to(path.parent().map(Path::to_owned).into_iter().collect());
    while arguments.follow && engine::watcher(instance).is_some() {
        writes.wait(None);
        text.clear();
        file.read_to_end(&mut text).context(|| format!("cannot read {}", path.display()))?;
        if !text.is_empty() && !context.ui.stream(&text) {
            break;
        }
    }
    Ok(0)
}

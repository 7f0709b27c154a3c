//! `--trace FILE`: when each task of a plan waited and ran, in Chrome's format for traces, which Perfetto opens.
//!
//! Each lane has as many tracks as it had tasks at once. The steps of an image are inside the task that builds it.

use super::ui::Ui;
use crate::build::Event;
use crate::engine::{Answer, Outcome, Progress, Question, Reporter};
use crate::model::{Context as _, Error, Name, Result};
use crate::plan::Action;
use crate::sys;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A trace of one command.
pub struct Trace {
    path: PathBuf,
    command: &'static str,
    began: Instant,
    /// Knows the values that must not be shown.
    ui: Ui,
    seen: Mutex<Seen>,
}

/// Notes in a trace what another reporter shows.
pub struct Traced<'a> {
    trace: &'a Trace,
    shown: &'a dyn Reporter,
}

impl Trace {
    /// Begins a trace that will be written to a file.
    ///
    /// # Errors
    /// Fails when there is no directory for the file: at the end it would be too late to say so.
    pub fn begin(path: &Path, command: &'static str, ui: &Ui) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let why = format!("--trace {}: there is no directory {}", path.display(), folder.display());
            return Err(Error::new(why).hint("make it, or name a file elsewhere").usage());
        }
        Ok(Self { path: path.to_owned(), command, began: Instant::now(), ui: ui.clone(), seen: Mutex::default() })
    }

    /// A reporter that also notes what it passes on.
    pub fn beside<'a>(&'a self, shown: &'a dyn Reporter) -> Traced<'a> {
        Traced { trace: self, shown }
    }

    /// Writes the trace, also of a command that failed.
    ///
    /// # Errors
    /// Returns the command's own error, and else the reason why the trace cannot be written.
    pub fn end<T>(&self, done: Result<T>) -> Result<T> {
        match (self.write(), done) {
            (Ok(()), done) => done,
            (Err(error), Ok(_)) => Err(error),
            (Err(error), Err(first)) => {
                self.ui.warn(&error.chain());
                Err(first)
            }
        }
    }

    fn write(&self) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.finish(self.began.elapsed());
        let mut trace = seen.trace(self.command);
        each_text(&mut trace, &|text| self.ui.without_private(text));
        sys::write_atomic(&self.path, trace.to_string().as_bytes(), 0o644)
            .context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Reporter for Traced<'_> {
    fn report(&self, progress: Progress) {
        let mut seen = self.trace.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(self.trace.began.elapsed(), &progress);
        drop(seen);
        self.shown.report(progress);
    }

    fn consent(&self, question: &Question) -> Answer {
        self.shown.consent(question)
    }
}

/// What was seen so far. All times are since the beginning.
#[derive(Default)]
struct Seen {
    tracks: Vec<Track>,
    events: Vec<Value>,
    /// The names of the plan's tasks.
    planned: Vec<String>,
    /// The tasks that have begun and are not over.
    tasks: BTreeMap<String, Span>,
    /// When the others were over.
    over: BTreeMap<String, Duration>,
    /// When the first task began.
    first: Option<Duration>,
    /// The steps that run, by image.
    steps: BTreeMap<Name, Span>,
    locking: Option<Span>,
    download: Option<Span>,
    /// How much had been fetched when that was last told.
    fetched: (Duration, u64),
}

/// A line of the picture, on which one thing happens after the other.
struct Track {
    lane: String,
    busy: bool,
}

/// Something that has begun.
struct Span {
    name: String,
    kind: &'static str,
    track: usize,
    /// Whether the track is free again when it is over.
    frees: bool,
    since: Duration,
    more: Map<String, Value>,
}

impl Seen {
    /// A free track of a lane, which is busy from now on.
    fn track(&mut self, lane: &str) -> usize {
        let free = self.tracks.iter().position(|track| track.lane == lane && !track.busy);
        let at = free.unwrap_or_else(|| {
            self.tracks.push(Track { lane: lane.to_owned(), busy: false });
            self.tracks.len() - 1
        });
        self.tracks[at].busy = true;
        at
    }

    fn open(&mut self, name: impl Into<String>, kind: &'static str, lane: &str, since: Duration) -> Span {
        Span { name: name.into(), kind, track: self.track(lane), frees: true, since, more: Map::new() }
    }

    fn close(&mut self, span: Span, at: Duration, outcome: &str) {
        let Span { name, kind, track, frees, since, mut more } = span;
        if frees {
            self.tracks[track].busy = false;
        }
        let ran = micros(at.saturating_sub(since));
        more.insert("ran".to_owned(), ran.into());
        more.insert("outcome".to_owned(), outcome.into());
        let (start, track) = (micros(since), track + 1);
        self.events.push(json!({
            "name": name, "cat": kind, "ph": "X", "ts": start, "dur": ran, "pid": 1, "tid": track, "args": more,
        }));
    }

    fn note(&mut self, at: Duration, progress: &Progress) {
        match progress {
            Progress::Planned(plan) => self.planned = plan.tasks.iter().map(|task| task.name.clone()).collect(),
            Progress::Begins { task, lane, after } => {
                let first = *self.first.get_or_insert(at);
                // It was ready when the last of those was over that it waits for.
                let ready = after.iter().filter_map(|name| self.over.get(name)).max().copied().unwrap_or(first);
                let mut span = self.open(task.clone(), "task", lane, at);
                span.more.insert("waited".to_owned(), micros(at.saturating_sub(ready)).into());
                self.tasks.insert(task.clone(), span);
            }
            Progress::Ends { task, outcome } => {
                let Some(mut span) = self.tasks.remove(task) else { return };
                let inside: Vec<Name> = self
                    .steps
                    .iter()
                    .filter(|(_, step)| step.track == span.track && !step.frees)
                    .map(|(image, _)| image.clone())
                    .collect();
                let word = match outcome {
                    Outcome::Done => "done",
                    Outcome::Unneeded => "not needed",
                    Outcome::Failed(why) => {
                        span.more.insert("error".to_owned(), why.as_str().into());
                        "failed"
                    }
                };
                inside.iter().for_each(|image| self.close_step(image, at, word));
                self.close(span, at, word);
                self.over.insert(task.clone(), at);
            }
            Progress::Build(event) => self.build(at, event),
            Progress::Resolving => {
                if self.locking.is_none() {
                    self.locking = Some(self.open("resolve stead.lock", "lock", "lock", at));
                }
            }
            Progress::Resolved { .. } => {
                if let Some(span) = self.locking.take() {
                    self.close(span, at, "done");
                }
            }
            Progress::Download { done, total } => self.download(at, *done, *total),
            Progress::Scanned(_)
            | Progress::Marked(_)
            | Progress::Why { .. }
            | Progress::Container { .. }
            | Progress::Warning(_) => {}
        }
    }

    fn build(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Started { image, step, .. } => {
                // A step may begin anew without an end, when its layers were collected meanwhile.
                self.close_step(image, at, "begins anew");
                let task = Action::Build { image: image.clone() }.name();
                let span = match self.tasks.get(&task).map(|task| task.track) {
                    Some(track) => Span { name: step.clone(), kind: "step", track, frees: false, since: at, more: Map::new() },
                    None => self.open(step.clone(), "step", "build", at),
                };
                self.steps.insert(image.clone(), span);
            }
            Event::Finished { image, .. } => self.close_step(image, at, "done"),
            Event::Failed { image } => self.close_step(image, at, "failed"),
            Event::Output { .. } | Event::Skipped { .. } | Event::LeftOut { .. } => {}
        }
    }

    fn close_step(&mut self, image: &Name, at: Duration, outcome: &str) {
        if let Some(step) = self.steps.remove(image) {
            self.close(step, at, outcome);
        }
    }

    /// Notes how much has been fetched of what is known to be fetched, in bytes.
    fn download(&mut self, at: Duration, done: u64, total: u64) {
        let (before, known) = self.fetched;
        if done == known && done >= total {
            self.fetched.0 = at;
            return;
        }
        if self.download.is_none() {
            // What came since it was last told began no earlier than that.
            let since = if done > known && known > 0 { before } else { at };
            self.download = Some(self.open("download", "download", "download", since));
        }
        if done != known {
            self.events.push(json!({
                "name": "downloaded", "ph": "C", "ts": micros(at), "pid": 1, "args": { "bytes": done },
            }));
        }
        self.fetched = (at, done);
        if done >= total
            && let Some(span) = self.download.take()
        {
            self.close(span, at, "done");
        }
    }

    /// Ends what has not ended.
    fn finish(&mut self, at: Duration) {
        let images: Vec<Name> = self.steps.keys().cloned().collect();
        images.iter().for_each(|image| self.close_step(image, at, "not over"));
        let open = std::mem::take(&mut self.tasks).into_values();
        let open: Vec<Span> = open.chain(self.locking.take()).chain(self.download.take()).collect();
        for span in open {
            if span.kind == "task" {
                self.over.insert(span.name.clone(), at);
            }
            self.close(span, at, "not over");
        }
    }

    /// The trace, with the names of its tracks.
    fn trace(&self, command: &str) -> Value {
        let mut events = vec![json!({
            "name": "process_name", "ph": "M", "pid": 1, "args": { "name": format!("stead {command}") },
        })];
        for (at, track) in self.tracks.iter().enumerate() {
            let same = |other: &&Track| other.lane == track.lane;
            let name = match self.tracks.iter().filter(same).count() {
                1 => track.lane.clone(),
                _ => format!("{} {}", track.lane, self.tracks[..=at].iter().filter(same).count()),
            };
            let number = at + 1;
            events.push(json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": { "name": name } }));
            events.push(json!({
                "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": number, "args": { "sort_index": number },
            }));
        }
        events.extend(self.events.iter().cloned());
        let begun: BTreeSet<&String> = self.over.keys().collect();
        let left: Vec<&String> = self.planned.iter().filter(|task| !begun.contains(task)).collect();
        json!({ "displayTimeUnit": "ms", "otherData": { "notBegun": left }, "traceEvents": events })
    }
}

/// Changes each text in a value: in a number, a value that must not be shown would be found by chance.
fn each_text(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(all) => all.iter_mut().for_each(|one| each_text(one, change)),
        Value::Object(all) => all.values_mut().for_each(|one| each_text(one, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(task: &str, lane: &'static str, after: &[&str]) -> Progress {
        Progress::Begins { task: task.into(), lane, after: after.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn ends(task: &str, outcome: Outcome) -> Progress {
        Progress::Ends { task: task.into(), outcome }
    }

    /// The events that were noted, each told in milliseconds since the beginning.
    fn noted(told: Vec<(u64, Progress)>) -> Value {
        let mut seen = Seen::default();
        for (at, progress) in &told {
            seen.note(Duration::from_millis(*at), progress);
        }
        seen.finish(Duration::from_millis(100));
        seen.trace("up")
    }

    fn find<'v>(trace: &'v Value, name: &str) -> &'v Value {
        let all = trace["traceEvents"].as_array().unwrap();
        all.iter().find(|event| event["ph"] == "X" && event["name"] == name).unwrap_or_else(|| panic!("{name}: {trace}"))
    }

    #[test]
    fn a_task_has_its_wait_and_its_time_on_a_track_of_its_lane() {
        let app = Name::parse("app").unwrap();
        let step = "run make".to_owned();
        let trace = noted(vec![
            (1, begins("build app", "build", &["resolve"])),
            (2, Progress::Build(Event::Started { image: app.clone(), step: step.clone(), index: Some(0) })),
            (2, begins("build other", "build", &[])),
            (5, Progress::Build(Event::Finished { image: app, step, index: Some(0), millis: 3 })),
            (6, ends("build app", Outcome::Done)),
            (9, begins("start web-1", "start", &["build app", "elsewhere"])),
            (10, ends("build other", Outcome::Failed("it broke".into()))),
        ]);
        let build = find(&trace, "build app");
        assert_eq!((&build["ts"], &build["dur"], &build["args"]["waited"]), (&json!(1000), &json!(5000), &json!(0)));
        let inner = find(&trace, "run make");
        assert_eq!((&inner["tid"], &inner["ts"], &inner["dur"]), (&build["tid"], &json!(2000), &json!(3000)));
        let other = find(&trace, "build other");
        assert!(other["tid"] != build["tid"] && other["args"]["error"] == "it broke", "{other}");
        let start = find(&trace, "start web-1");
        assert_eq!((&start["args"]["waited"], &start["args"]["outcome"]), (&json!(3000), &json!("not over")));
        let names = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "thread_name");
        let names: Vec<&str> = names.map(|event| event["args"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["build 1", "build 2", "start"]);
    }

    #[test]
    fn downloads_and_locking_have_their_times() {
        let got = |done, total| Progress::Download { done, total };
        let trace = noted(vec![
            (0, Progress::Resolving),
            (4, Progress::Resolved { packages: 1, images: 0, remotes: 0 }),
            (5, got(0, 10)),
            (7, got(10, 10)),
            (8, got(10, 10)),
            (20, got(30, 30)),
        ]);
        assert_eq!(find(&trace, "resolve stead.lock")["dur"], 4000);
        let all = trace["traceEvents"].as_array().unwrap();
        let times: Vec<(u64, u64)> = all
            .iter()
            .filter(|event| event["name"] == "download")
            .map(|event| (event["ts"].as_u64().unwrap(), event["dur"].as_u64().unwrap()))
            .collect();
        // The second one began after it was last told that nothing came.
        assert_eq!(times, [(5000, 2000), (8000, 12000)]);
    }
}

//! Progress: on a terminal, a line for each image or container at work (after 250 ms) with its time, and finished steps as
//! lines of their own.

use super::{Style, Text, Ui, mark_text, plan_text};
use crate::build::Event;
use crate::engine::{Answer, Progress, Question, Reporter};
use crate::model::{Name, Size};
use crate::sys;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing is shown before work has taken this long.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often what is shown changes.
const RATE: Duration = Duration::from_millis(100);
/// The most lines that are shown.
const MOST: usize = 8;

/// Shows what is reported.
pub struct Shown {
    ui: Ui,
    plan: bool,
    board: Arc<Board>,
    /// Draws while something is at work. Without a terminal there is none.
    drawing: Mutex<Option<JoinHandle<()>>>,
}

/// What the drawing thread shares with those that report.
struct Board {
    ui: Ui,
    state: Mutex<State>,
    /// Tells the drawing thread that it is over.
    told: Condvar,
}

struct State {
    started: Instant,
    over: bool,
    /// What is at work: its name, what it does, and since when.
    works: Vec<(String, String, Instant)>,
    /// The first image that could not be built.
    failed: Option<Name>,
}

impl Shown {
    /// The first image that could not be built.
    pub fn failed(&self) -> Option<Name> {
        self.board.lock().failed.clone()
    }

    /// A reporter that shows everything, and the plan first if wanted.
    pub fn new(ui: &Ui, plan: bool) -> Self {
        let state = State { started: Instant::now(), over: false, works: Vec::new(), failed: None };
        let board = Arc::new(Board { ui: ui.clone(), state: Mutex::new(state), told: Condvar::new() });
        Self { ui: ui.clone(), plan, board, drawing: Mutex::default() }
    }

    /// Clears what is shown of work. Afterwards this process has no thread for it.
    pub fn clear(&self) {
        let mut state = self.board.lock();
        state.works.clear();
        state.over = true;
        drop(state);
        self.board.told.notify_all();
        let drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that panicked draws nothing more.
        let _ = drawing.map(JoinHandle::join);
        drop(self.ui.without_progress());
    }

    /// One line of text by others, without the values of the caller's environment.
    fn private(&self, text: &str) -> Text {
        Text::line(&self.ui.without_private(text))
    }

    /// Says what something does from now on.
    fn at_work(&self, name: &str, what: &str) {
        if let Some(elsewhere) = &self.ui.elsewhere {
            elsewhere.at_work(name, Some(self.private(what)));
        }
        if !self.ui.terminal_err {
            return;
        }
        let mut state = self.board.lock();
        match state.works.iter_mut().find(|(known, ..)| known == name) {
            Some((_, known, _)) => what.clone_into(known),
            None => state.works.push((name.to_owned(), what.to_owned(), Instant::now())),
        }
        state.over = false;
        drop(state);
        let mut drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner);
        if drawing.is_none() {
            let board = self.board.clone();
            *drawing = Some(std::thread::spawn(move || board.draw()));
        }
    }

    fn done(&self, name: &str) {
        if let Some(elsewhere) = &self.ui.elsewhere {
            elsewhere.at_work(name, None);
        }
        self.board.lock().works.retain(|(known, ..)| known != name);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws until it is over.
    fn draw(&self) {
        let mut state = self.lock();
        while !state.over {
            let early = PATIENCE.saturating_sub(state.started.elapsed());
            state = self.told.wait_timeout(state, RATE.max(early)).unwrap_or_else(PoisonError::into_inner).0;
            if !state.over && state.started.elapsed() >= PATIENCE {
                state.show(&self.ui);
            }
        }
    }
}

impl State {
    /// Puts what is at work on the screen, in place of what was there.
    fn show(&self, ui: &Ui) {
        let (rows, columns) = sys::window_size(std::io::stderr()).unwrap_or((24, 80));
        let most = MOST.min(usize::from(rows).saturating_sub(1)).max(1);
        // A line of the whole width would be continued on the next one.
        let width = usize::from(columns).saturating_sub(1);
        let mut drawn = ui.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut screen = above(*drawn);
        let left = self.works.len().saturating_sub(most);
        let shown = self.works.iter().take(self.works.len() - left);
        let mut lines: Vec<String> = shown.map(|(name, what, since)| line(ui, name, what, since.elapsed(), width)).collect();
        if let (true, Some(last)) = (left > 0, lines.last_mut()) {
            *last = format!("… and {} more", left + 1);
        }
        for (at, text) in lines.iter().enumerate() {
            let end = if at + 1 < lines.len() { "\n" } else { "" };
            let text = Style::Dim.paint(Text::line(text).cut(width), ui.color_err);
            let _ = write!(screen, "{}{end}", text.as_safe());
        }
        *drawn = lines.len();
        // If nobody can see it, that is no reason to stop half-way.
        let _ = std::io::stderr().write_all(screen.as_bytes());
    }
}

/// One line: what is at work, and for how long. The time is always seen, however long the text is.
fn line(ui: &Ui, name: &str, what: &str, since: Duration, width: usize) -> String {
    let text = if name.is_empty() { what.to_owned() } else { format!("{name}: {what}") };
    let time = format!(" {:.1} s", since.as_secs_f64());
    let room = width.saturating_sub(time.chars().count());
    let text: String = ui.without_private(&text).chars().take(room).collect();
    format!("{text}{time}")
}

/// What moves to the first of some lines, the last of which the cursor is in, and clears them.
pub(super) fn above(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "\r\u{1b}[J".to_owned(),
        lines => format!("\r\u{1b}[{}A\u{1b}[J", lines - 1),
    }
}

impl Reporter for Shown {
    fn consent(&self, question: &Question) -> Answer {
        self.clear();
        self.ui.consent(question)
    }

    fn report(&self, progress: Progress) {
        let color = self.ui.color_err;
        match progress {
            Progress::Planned(plan) if self.plan => {
                self.ui.say(plan_text(&plan, &self.ui, color, self.ui.columns_err()).trimmed())
            }
            Progress::Planned(_) | Progress::Scanned(_) => {}
            Progress::Marked(marks) => {
                for mark in &marks {
                    self.ui.say(Text::line(&mark.holder) + " " + mark_text(mark, color));
                }
            }
            Progress::Resolving => self.at_work("", "resolving …"),
            Progress::Resolved { packages, images, remotes } => {
                self.done("");
                let kinds = [(packages, "package"), (images, "image"), (remotes, "download")];
                let counted = |(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
                let parts: Vec<String> = kinds.into_iter().filter(|(count, _)| *count > 0).map(counted).collect();
                if !parts.is_empty() {
                    self.ui.say(format!("locked {} in stead.lock", parts.join(", ")));
                }
            }
            Progress::Download { done, total } if done < total => {
                self.at_work("", &format!("fetching {} of {} …", Size(done), Size(total)))
            }
            Progress::Download { .. } => self.done(""),
            Progress::Build(Event::Started { image, step, .. }) => self.at_work(image.as_str(), &format!("{step} …")),
            Progress::Why { image, step, cause } => {
                let place = cause.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                let cause = Style::Dim.paint(self.private(&format!("← {}{place}", cause.text)), color);
                self.ui.say(self.private(&format!("{image}: {step}")) + "\n    " + cause);
            }
            Progress::Build(Event::Finished { image, step, millis, .. }) => {
                self.done(image.as_str());
                let time = format!(" {millis} ms");
                let mut what = self.private(&format!(" {image}: {step}"));
                if self.ui.terminal_err {
                    // A step may be a long script; one line is enough to know it.
                    let columns = usize::from(sys::window_size(std::io::stderr()).map_or(80, |(_, columns)| columns));
                    what = what.cut(columns.saturating_sub("built".len() + time.len()));
                }
                self.ui.say(Style::Good.paint("built", color) + what + Style::Dim.paint(time, color));
            }
            Progress::Build(Event::Failed { image }) => {
                self.done(image.as_str());
                self.board.lock().failed.get_or_insert(image);
            }
            Progress::Build(Event::Output { image, line }) => self.at_work(image.as_str(), &line),
            Progress::Build(Event::Skipped { image, packages }) => {
                let text = format!(
                    "{image}: scripts that make users or give privileges did not run: {}; if that is missed: configure #true",
                    packages.join(" ")
                );
                self.ui.say(Style::Dim.paint(text, color));
            }
            Progress::Build(Event::LeftOut { image, step, paths }) => {
                let text = self.private(&left_out(image.as_str(), &step, &paths));
                self.ui.say(Style::Change.paint("warning:", color) + " " + text);
            }
            Progress::Container { name, what } => {
                if matches!(what, "starting" | "stopping" | "running") {
                    self.at_work(&name, &format!("{what} …"));
                } else {
                    self.done(&name);
                }
            }
            Progress::Begins { .. } | Progress::Ends { .. } => {}
            Progress::Warning(text) => self.ui.warn(&text),
        }
    }
}

/// How many paths are named in one line.
const NAMED: usize = 3;

/// A sentence about devices that are not in an image.
fn left_out(image: &str, step: &str, paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > NAMED { format!(" and {} more", paths.len() - NAMED) } else { String::new() };
    let (is, are) = if paths.len() == 1 { ("a device, and it is", "it") } else { ("devices, and they are", "them") };
    format!(
        "{image}: `{step}` made {}{more}: {is} not in the image; give {are} to the container with `device`, or make {are} when it starts",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_left_out_are_named_in_one_line() {
        let paths = |count: usize| (1..=count).map(|n| PathBuf::from(format!("/srv/d{n}"))).collect::<Vec<_>>();
        let told = |count: usize| left_out("app", "run mknod …", &paths(count));
        assert!(told(1).starts_with("app: `run mknod …` made /srv/d1: a device, and it is not in the image;"), "{}", told(1));
        assert!(told(3).contains("made /srv/d1, /srv/d2, /srv/d3: devices, and they are"), "{}", told(3));
        assert!(told(5).contains("/srv/d3 and 2 more: devices"), "{}", told(5));
    }

    #[test]
    fn a_line_shows_its_time_however_narrow_the_terminal_is() {
        let ui = Ui::new();
        let shown = line(&ui, "python", &"Installing collected packages, ".repeat(9), Duration::from_millis(1234), 79);
        assert!(shown.chars().count() == 79 && shown.starts_with("python: Installing") && shown.ends_with(" 1.2 s"), "{shown}");
        assert_eq!(line(&ui, "", "resolving …", Duration::from_millis(300), 79), "resolving … 0.3 s");
    }
}

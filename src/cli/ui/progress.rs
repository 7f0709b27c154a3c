//! Progress: one line that changes on a terminal (after 250 ms), and finished steps as lines of their own.

use super::{Style, Text, Ui, mark_text, plan_text};
use crate::build::Event;
use crate::engine::{Answer, Progress, Question, Reporter};
use crate::model::{Name, Size};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing is shown before work has taken this long.
const PATIENCE: Duration = Duration::from_millis(250);
/// The changing line changes at most this often.
const RATE: Duration = Duration::from_millis(50);

/// Shows what is reported.
pub struct Shown {
    ui: Ui,
    plan: bool,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    last: Instant,
    line: bool,
    running: BTreeMap<String, &'static str>,
    /// The first image that could not be built.
    failed: Option<Name>,
}

impl Shown {
    /// The first image that could not be built.
    pub fn failed(&self) -> Option<Name> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// A reporter that shows everything, and the plan first if wanted.
    pub fn new(ui: &Ui, plan: bool) -> Self {
        let now = Instant::now();
        let state = State {
            started: now,
            last: now.checked_sub(RATE).unwrap_or(now),
            line: false,
            running: BTreeMap::new(),
            failed: None,
        };
        Self { ui: ui.clone(), plan, state: Mutex::new(state) }
    }

    /// Clears the progress line.
    pub fn clear(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lasting(&self, text: impl Into<Text>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clear();
        self.ui.say(text);
    }

    /// One line of text by others, without the values of the caller's environment.
    fn private(&self, text: &str) -> Text {
        Text::line(&self.ui.without_private(text))
    }

    fn passing(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !self.ui.terminal_err || now - state.started < PATIENCE || now - state.last < RATE {
            return;
        }
        state.last = now;
        state.line = true;
        let text = Style::Dim.paint(Text::line(&self.ui.without_private(text)).cut(100), self.ui.color_err);
        let _ = write!(std::io::stderr(), "\r\u{1b}[2K{}", text.as_safe());
    }
}

impl State {
    fn clear(&mut self) {
        if std::mem::take(&mut self.line) {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
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
            Progress::Planned(plan) if self.plan => self.lasting(plan_text(&plan, &self.ui, color).trimmed()),
            Progress::Planned(_) => {}
            Progress::Marked(marks) => {
                for mark in &marks {
                    self.lasting(Text::line(&mark.holder) + " " + mark_text(mark, color));
                }
            }
            Progress::Resolving => self.passing("resolving …"),
            Progress::Resolved { packages, images, remotes } => {
                let kinds = [(packages, "package"), (images, "image"), (remotes, "download")];
                let counted = |(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
                let parts: Vec<String> = kinds.into_iter().filter(|(count, _)| *count > 0).map(counted).collect();
                if !parts.is_empty() {
                    self.lasting(format!("locked {} in stead.lock", parts.join(", ")));
                }
            }
            Progress::Download { done, total } if done < total => {
                self.passing(&format!("fetching {} of {}", Size(done), Size(total)))
            }
            Progress::Download { .. } => {}
            Progress::Build(Event::Started { image, step, .. }) => self.passing(&format!("{image}: {step} …")),
            Progress::Why { image, step, cause } => {
                let place = cause.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                let cause = Style::Dim.paint(self.private(&format!("← {}{place}", cause.text)), color);
                self.lasting(self.private(&format!("{image}: {step}")) + "\n    " + cause);
            }
            Progress::Build(Event::Finished { image, step, millis }) => {
                let what = self.private(&format!(" {image}: {step} "));
                self.lasting(Style::Good.paint("built", color) + what + Style::Dim.paint(format!("{millis} ms"), color));
            }
            Progress::Build(Event::Failed { image }) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.failed.get_or_insert(image);
            }
            Progress::Build(Event::Output { image, line }) => self.passing(&format!("{image}: {line}")),
            Progress::Build(Event::Skipped { image, packages }) => {
                let text = format!("{image}: package scripts that were neither run nor replaced: {}", packages.join(" "));
                self.lasting(Style::Dim.paint(text, color));
            }
            Progress::Container { name, what } => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if matches!(what, "starting" | "stopping") {
                    state.running.insert(name, what);
                } else {
                    state.running.remove(&name);
                }
                let text: Vec<String> = state.running.iter().map(|(name, what)| format!("{what} {name}")).collect();
                drop(state);
                if !text.is_empty() {
                    self.passing(&text.join(", "));
                }
            }
            Progress::Warning(text) => {
                self.clear();
                self.ui.warn(&text);
            }
        }
    }
}

//! The one object through which all output goes: results to standard output, the rest to standard error.
//!
//! In text by others (a project file, an image, a server, a container's last words), control characters are made visible
//! when it becomes [`Text`]; only a container's own output is printed as it is, by [`Ui::raw`].

mod diagnostics;
mod graph;
mod plan;
mod progress;
mod question;
mod screen;
mod table;
mod text;

pub use graph::{dot, mermaid, svg};
pub use plan::{mark_text, outlook_text, plan_text};
pub use progress::Shown;
pub use screen::{Screen, leave_screen};
pub use table::Table;
pub use text::{Style, Text};

use crate::engine::Answer;
use crate::model::{Error, in_words, visible_json};
use crate::project::without_values;
use crate::spec::Diagnostic;
use crate::sys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Takes what would be printed while a view has the terminal.
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Takes a message, without styles.
    fn say(&self, text: Text);

    /// Takes what something does from now on; nothing when it is done.
    fn at_work(&self, name: &str, what: Option<Text>);

    /// Asks a question, below what is to be known about it, and waits for the answer.
    fn ask(&self, lines: Vec<Text>, question: &str) -> Answer;
}

/// Where output goes and how it looks there.
#[derive(Clone, Debug)]
pub struct Ui {
    pub color_out: bool,
    pub color_err: bool,
    pub terminal_err: bool,
    /// Variables of the caller's environment whose values a plan must not show.
    private: Arc<RwLock<Vec<(String, String)>>>,
    /// How many lines of progress are on the terminal, the cursor in the last: whoever prints something else removes them.
    drawn: Arc<Mutex<usize>>,
    /// Takes messages in place of the terminal, if a view has it.
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

impl Ui {
    /// The user interface of this process: colours on terminals, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let terminal_err = std::io::stderr().is_terminal();
        Self {
            color_out: wanted && (forced || std::io::stdout().is_terminal()),
            color_err: wanted && (forced || terminal_err),
            terminal_err,
            private: Arc::default(),
            drawn: Arc::default(),
            elsewhere: None,
        }
    }

    /// The same user interface while a view has the terminal: the view gets the messages, and results are not printed.
    pub fn beside(&self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        let (private, drawn, elsewhere) = (self.private.clone(), Arc::default(), Some(elsewhere));
        Self { color_out: false, color_err: false, terminal_err: false, private, drawn, elsewhere }
    }

    /// Whether a view can have the terminal: it is one in both directions, and understands more than lines.
    pub fn can_view(&self) -> bool {
        let plain = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        self.terminal_err && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !plain
    }

    /// Keeps the values of these variables out of plans and out of the names of steps.
    pub fn keep_private(&self, values: Vec<(String, String)>) {
        self.private.write().unwrap_or_else(PoisonError::into_inner).clone_from(&values);
    }

    /// The text, with the names of these variables in place of their values.
    pub fn without_private(&self, text: &str) -> String {
        without_values(&self.private.read().unwrap_or_else(PoisonError::into_inner), text)
    }

    /// The width of the terminal that results go to, if they go to one.
    pub fn columns_out(&self) -> Option<usize> {
        let out = std::io::stdout();
        out.is_terminal().then(|| sys::window_size(out).map_or(80, |(_, columns)| usize::from(columns).max(1)))
    }

    /// The width of the terminal that everything else goes to, if it goes to one.
    pub fn columns_err(&self) -> Option<usize> {
        self.terminal_err.then(|| sys::window_size(std::io::stderr()).map_or(80, |(_, columns)| usize::from(columns).max(1)))
    }

    /// Prints a result.
    pub fn result(&self, text: impl Into<Text>) {
        self.line_out(text.into().bytes());
    }

    fn line_out(&self, bytes: &[u8]) {
        if self.elsewhere.is_some() {
            return;
        }
        let _drawn = self.without_progress();
        let mut out = std::io::stdout().lock();
        // A reader that has seen enough closes the pipe; that is not an error.
        let _ = out.write_all(bytes);
        if !bytes.ends_with(b"\n") && !bytes.is_empty() {
            let _ = out.write_all(b"\n");
        }
        let _ = out.flush();
    }

    /// Prints a result in place of the previous one on a terminal; elsewhere, prints one after the other.
    pub fn screen(&self, text: impl Into<Text>) {
        if self.elsewhere.is_none() && std::io::stdout().is_terminal() {
            self.raw(b"\x1b[H\x1b[J");
            self.raw(text.into().bytes());
        } else {
            self.result(text);
        }
    }

    /// Prints a part of a container's own output, as it is.
    pub fn raw(&self, bytes: &[u8]) {
        if self.elsewhere.is_some() {
            return;
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// As [`raw`](Self::raw), for output that goes on; returns whether somebody still reads it.
    pub fn stream(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        self.elsewhere.is_none() && out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// Prints the end of a container's own output, as it is.
    pub fn logged(&self, bytes: &[u8]) {
        self.line_out(bytes);
    }

    /// Prints a result as JSON.
    pub fn json(&self, value: &impl Serialize) {
        self.json_text(serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// Prints a result as JSON on one line.
    pub fn json_line(&self, value: &impl Serialize) {
        self.json_text(serde_json::to_string(value).unwrap_or_default());
    }

    /// Prints text that is JSON already.
    pub fn json_text(&self, text: String) {
        self.line_out(visible_json(text).as_bytes());
    }

    /// Prints a message that is not a result. If nobody can read it, that is no reason to stop half-way.
    pub fn say(&self, text: impl Into<Text>) {
        let text: Text = text.into();
        self.put(&(text + "\n"));
    }

    /// Prints messages that end their lines themselves.
    pub fn put(&self, text: &Text) {
        match &self.elsewhere {
            Some(elsewhere) => elsewhere.say(text.clone().trimmed()),
            None => {
                let _drawn = self.without_progress();
                let _ = write!(std::io::stderr(), "{}", text.as_safe());
            }
        }
    }

    /// Removes the lines of progress from the terminal. None are drawn as long as what this returns lives.
    fn without_progress(&self) -> MutexGuard<'_, usize> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut *drawn);
        if lines > 0 {
            let _ = write!(std::io::stderr(), "{}", progress::above(lines));
        }
        drawn
    }

    /// Clears the progress line, if there may be one.
    pub fn clear_line(&self) {
        if self.terminal_err {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
    }

    /// Prints a warning.
    pub fn warn(&self, text: &str) {
        self.say(Style::Change.paint("warning:", self.color_err) + " " + text);
    }

    /// Shows why a command failed, and what to do.
    pub fn error(&self, error: &Error) {
        self.put(&self.error_text(error));
    }

    /// Why a command failed, and what to do, in lines that end.
    pub fn error_text(&self, error: &Error) -> Text {
        let color = self.color_err;
        let mut source = std::error::Error::source(error);
        let mut out = Style::Bad.paint("error:", color) + " " + error.to_string() + "\n";
        while let Some(cause) = source {
            let text = cause.to_string();
            let text = in_words(&text);
            let mut lines = text.lines();
            out += Text::from("  ") + Style::Dim.paint("because:", color) + " " + lines.next().unwrap_or_default() + "\n";
            lines.for_each(|line| out += format!("    {line}\n"));
            source = cause.source();
        }
        if let Some(advice) = error.advice() {
            out += Text::from("  ") + Style::Good.paint("help:", color) + " " + advice + "\n";
        }
        out
    }

    /// Shows findings in project files, all in one report.
    pub fn diagnostics(&self, found: &[Diagnostic], files: &BTreeMap<String, String>) {
        if !found.is_empty() {
            self.put(&self.diagnostics_text(found, files));
        }
    }

    /// Findings in project files, in lines that end.
    pub fn diagnostics_text(&self, found: &[Diagnostic], files: &BTreeMap<String, String>) -> Text {
        if found.is_empty() { Text::default() } else { diagnostics::render(found, files, self.color_err, self.terminal_err) }
    }
}

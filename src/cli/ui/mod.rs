//! The one object through which all output goes: results to standard output, the rest to standard error.
//!
//! In text by others (a project file, an image, a server, a container's last words), control characters are made visible
//! when it becomes [`Text`]; only a container's own output is printed as it is, by [`Ui::raw`].

mod diagnostics;
mod graph;
mod plan;
mod progress;
mod question;
mod table;
mod text;

pub use graph::{dot, mermaid, svg};
pub use plan::{mark_text, plan_text};
pub use progress::Shown;
pub use table::Table;
pub use text::{Style, Text};

use crate::model::{Error, in_words, visible_json};
use crate::project::without_values;
use crate::spec::Diagnostic;
use crate::sys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, PoisonError, RwLock};

/// Where output goes and how it looks there.
#[derive(Clone, Debug)]
pub struct Ui {
    pub color_out: bool,
    pub color_err: bool,
    pub terminal_err: bool,
    /// Variables of the caller's environment whose values a plan must not show.
    private: Arc<RwLock<Vec<(String, String)>>>,
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
        }
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
        if std::io::stdout().is_terminal() {
            self.raw(b"\x1b[H\x1b[J");
            self.raw(text.into().bytes());
        } else {
            self.result(text);
        }
    }

    /// Prints a part of a container's own output, as it is.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
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
        let _ = writeln!(std::io::stderr(), "{}", text.into().as_safe());
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
        let mut source = std::error::Error::source(error);
        self.say(Style::Bad.paint("error:", self.color_err) + " " + error.to_string());
        while let Some(cause) = source {
            let text = cause.to_string();
            let text = in_words(&text);
            let mut lines = text.lines();
            self.say(Text::from("  ") + Style::Dim.paint("because:", self.color_err) + " " + lines.next().unwrap_or_default());
            lines.for_each(|line| self.say(format!("    {line}")));
            source = cause.source();
        }
        if let Some(advice) = error.advice() {
            self.say(Text::from("  ") + Style::Good.paint("help:", self.color_err) + " " + advice);
        }
    }

    /// Shows findings in project files, all in one report.
    pub fn diagnostics(&self, found: &[Diagnostic], files: &BTreeMap<String, String>) {
        if !found.is_empty() {
            // If nobody can read them, that is no reason to stop half-way.
            let _ = write!(
                std::io::stderr(),
                "{}",
                diagnostics::render(found, files, self.color_err, std::io::stderr().is_terminal()).as_safe()
            );
        }
    }
}

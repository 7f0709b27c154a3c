//! The one object through which all output goes: results to standard output, the rest to standard error.

mod diagnostics;
mod plan;
mod progress;
mod table;

pub use plan::plan_text;
pub use progress::Shown;
pub use table::Table;

use crate::model::Fault;
use crate::spec::Diagnostic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

/// Where output goes and how it looks there.
#[derive(Clone, Debug)]
pub struct Ui {
    pub color_out: bool,
    pub color_err: bool,
    pub terminal_err: bool,
}

/// A colour; its meaning is always in the words, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Good,
    Change,
    Bad,
    Dim,
    Bold,
    /// What widens trust.
    Trust,
    Cyan,
    Blue,
    Magenta,
}

impl Style {
    /// Text in this style, if styles are wanted.
    pub fn paint(self, text: &str, on: bool) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Change => "33",
            Self::Bad => "31",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Trust => "1;35",
            Self::Cyan => "36",
            Self::Blue => "34",
            Self::Magenta => "35",
        };
        if on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Ui {
    /// The ui of this process: colours on terminals, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let terminal_err = std::io::stderr().is_terminal();
        Self {
            color_out: wanted && (forced || std::io::stdout().is_terminal()),
            color_err: wanted && (forced || terminal_err),
            terminal_err,
        }
    }

    /// Prints a result.
    pub fn result(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has seen enough closes the pipe: that is no error.
        let _ = out.write_all(text.as_bytes());
        if !text.ends_with('\n') && !text.is_empty() {
            let _ = out.write_all(b"\n");
        }
        let _ = out.flush();
    }

    /// Prints a result over the one before, on a terminal; one after the other elsewhere.
    pub fn screen(&self, text: &str) {
        if std::io::stdout().is_terminal() {
            self.raw(format!("\u{1b}[H\u{1b}[J{text}").as_bytes());
        } else {
            self.result(text);
        }
    }

    /// Prints a part of a result, as it is.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints a result for programs.
    pub fn json(&self, value: &impl Serialize) {
        self.result(&serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// Says something that is no result. Nobody there to read it is no reason to stop half-way.
    pub fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Warns.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{} {}", Style::Change.paint("warning:", self.color_err), harmless(text));
    }

    /// Shows why a command failed, and what to do.
    pub fn fault(&self, fault: &Fault) {
        let mut source = std::error::Error::source(fault);
        let first = harmless(&fault.to_string());
        let _ = writeln!(std::io::stderr(), "{} {first}", Style::Bad.paint("error:", self.color_err));
        while let Some(cause) = source {
            let text = harmless(&cause.to_string());
            let mut lines = text.lines();
            let _ = writeln!(
                std::io::stderr(),
                "  {} {}",
                Style::Dim.paint("because:", self.color_err),
                lines.next().unwrap_or_default()
            );
            lines.for_each(|line| drop(writeln!(std::io::stderr(), "    {line}")));
            source = cause.source();
        }
        if let Some(advice) = fault.advice() {
            let _ = writeln!(std::io::stderr(), "  {} {}", Style::Good.paint("help:", self.color_err), harmless(advice));
        }
    }

    /// Shows findings in project files, all in one report.
    pub fn diagnostics(&self, found: &[Diagnostic], files: &BTreeMap<String, String>) {
        if !found.is_empty() {
            let _ = write!(std::io::stderr(), "{}", diagnostics::render(found, files, self.color_err));
        }
    }
}

/// Text of others, without what a terminal would obey.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '?' } else { c }).collect()
}

//! Findings in project files: place, cause and remedy; all of them in one report.
//!
//! This file owns the diagnostic and the sink that collects them. `cli/ui` renders them for a terminal.

use crate::model::bounds::FINDINGS;
use crate::model::{Error, Location};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// How severe a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnostic {
    /// A stable identifier that programs may match.
    pub code: &'static str,
    pub severity: Severity,
    /// What is wrong, in the user's words.
    pub message: String,
    /// Where it is.
    pub place: Location,
    /// A second place that belongs to it, with a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<(Location, String)>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, place: Location, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), place, other: None, help: None }
    }

    /// A warning.
    pub fn warning(code: &'static str, place: Location, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// An error of planning or of the machine about a part of a project; `None` if the error has no location.
    pub fn of_error(error: &Error) -> Option<Self> {
        let place = error.location()?.clone();
        let mut message = error.message().to_owned();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Some(Self::error("impossible", place, message).maybe_help(error.advice().map(str::to_owned)))
    }

    /// Adds a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a remedy, if one is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Adds the second place.
    #[must_use]
    pub fn other(mut self, place: Location, says: impl Into<String>) -> Self {
        self.other = Some((place, says.into()));
        self
    }
}

/// Collects findings; beyond a limit it only counts them.
#[derive(Default)]
pub struct Sink {
    found: Vec<Diagnostic>,
    /// The ranges of bytes that could not be read, in order, for each file.
    lost: BTreeMap<String, Vec<Range<usize>>>,
    /// The first finding beyond the limit, and how many there are beyond it.
    more: Option<(Diagnostic, usize)>,
}

impl Sink {
    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < FINDINGS {
            self.found.push(diagnostic);
            return;
        }
        let (first, count) = self.more.get_or_insert_with(|| (diagnostic.clone(), 0));
        *count += 1;
        // Warnings must not hide an error.
        first.severity = first.severity.min(diagnostic.severity);
    }

    /// Records which ranges of a file could not be read.
    pub fn lose(&mut self, file: &str, stretches: impl IntoIterator<Item = Range<usize>>) {
        let mut stretches = stretches.into_iter().peekable();
        if stretches.peek().is_some() {
            self.lost.entry(file.to_owned()).or_default().extend(stretches);
        }
    }

    /// Whether something could not be read within a range of a file, or right after it.
    pub fn is_partial_in(&self, file: &str, within: &Range<usize>) -> bool {
        let lost = self.lost.get(file).map_or(&[][..], Vec::as_slice);
        let next = lost.partition_point(|lost| lost.end < within.start);
        lost.get(next).is_some_and(|lost| lost.start <= within.end)
    }

    /// Whether something could not be read: unknown names may be declared there.
    pub fn is_partial(&self) -> bool {
        !self.lost.is_empty()
    }

    /// All findings so far.
    pub fn all(&self) -> &[Diagnostic] {
        &self.found
    }

    /// All findings in the order of the text, without duplicates.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| (&a.place, a.code, &a.message).cmp(&(&b.place, b.code, &b.message)));
        self.found.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        self.found.extend(self.more.map(|(first, count)| {
            let more = Diagnostic::error("more", first.place, format!("there are {count} more findings, including this one"));
            Diagnostic { severity: first.severity, ..more }
        }));
        self.found
    }
}

/// Whether any finding is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|found| found.severity == Severity::Error)
}

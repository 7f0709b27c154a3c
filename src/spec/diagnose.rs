//! What is wrong with a project file: place, cause, way out; all of it in one report.
//!
//! Owns the diagnostic and the sink that collects them. How they look on a terminal is `cli/ui`'s.

use crate::model::bounds::FINDINGS;
use crate::model::{Error, Location};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnostic {
    /// A stable word that programs may match.
    pub code: &'static str,
    pub severity: Severity,
    /// What is wrong, in the user's words.
    pub message: String,
    /// Where.
    pub place: Location,
    /// A second place that belongs to it, with what stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<(Location, String)>,
    /// What to type instead.
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

    /// What planning or the machine has against a part of a project; nothing for what has no place in it.
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

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do, if that is known.
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

/// Collects findings; of very many, only that there are more is kept.
#[derive(Default)]
pub struct Sink {
    found: Vec<Diagnostic>,
    /// What could not be read, by files: stretches of bytes, in order.
    lost: BTreeMap<String, Vec<Range<usize>>>,
    /// The first that was too many, and how many there are in all.
    more: Option<(Diagnostic, usize)>,
}

impl Sink {
    /// Takes a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < FINDINGS {
            self.found.push(diagnostic);
            return;
        }
        let (first, count) = self.more.get_or_insert_with(|| (diagnostic.clone(), 0));
        *count += 1;
        // An error is never lost behind warnings.
        first.severity = first.severity.min(diagnostic.severity);
    }

    /// Notes what could not be read of a file.
    pub fn lose(&mut self, file: &str, stretches: impl IntoIterator<Item = Range<usize>>) {
        let mut stretches = stretches.into_iter().peekable();
        if stretches.peek().is_some() {
            self.lost.entry(file.to_owned()).or_default().extend(stretches);
        }
    }

    /// Whether something could not be read in a stretch of a file, or right behind it.
    pub fn is_partial_in(&self, file: &str, within: &Range<usize>) -> bool {
        let lost = self.lost.get(file).map_or(&[][..], Vec::as_slice);
        let next = lost.partition_point(|lost| lost.end < within.start);
        lost.get(next).is_some_and(|lost| lost.start <= within.end)
    }

    /// Whether something could not be read: names that are not known may be in it.
    pub fn is_partial(&self) -> bool {
        !self.lost.is_empty()
    }

    /// All so far.
    pub fn all(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Everything found, in the order of the text, each once.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| (&a.place, a.code, &a.message).cmp(&(&b.place, b.code, &b.message)));
        self.found.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        self.found.extend(self.more.map(|(first, count)| {
            let more = Diagnostic::error("more", first.place, format!("{count} more were found, this among them"));
            Diagnostic { severity: first.severity, ..more }
        }));
        self.found
    }
}

/// Whether any finding is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|found| found.severity == Severity::Error)
}

//! How findings in project files look: miette's frames, one below the other.

use crate::model::Place;
use crate::spec::{Diagnostic, Severity};
use miette::{Diagnostic as Report, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::collections::BTreeMap;
use std::fmt;

struct Shown<'a> {
    found: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found.message)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Report for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.found.severity == Severity::Error { miette::Severity::Error } else { miette::Severity::Warning })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.found.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = |place: &Place, text: Option<String>| LabeledSpan::new(text, place.offset, place.length);
        let here = span(&self.found.place, Some("here".into()));
        // A second place in another file is told in words.
        let other = self
            .found
            .other
            .as_ref()
            .filter(|(place, _)| place.file == self.found.place.file)
            .map(|(place, says)| span(place, Some(says.clone())));
        Some(Box::new(std::iter::once(here).chain(other)))
    }
}

/// All findings as one text.
pub fn render(found: &[Diagnostic], files: &BTreeMap<String, String>, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_context_lines(1).with_links(false);
    let mut out = String::new();
    for one in found {
        let source = files.get(&one.place.file).map(|text| NamedSource::new(&one.place.file, text.clone()));
        let _ = handler.render_report(&mut out, &Shown { found: one, source });
        if let Some((place, says)) = one.other.as_ref().filter(|(place, _)| place.file != one.place.file) {
            out.push_str(&format!("  {says}: {place}\n"));
        }
        out.push('\n');
    }
    out
}

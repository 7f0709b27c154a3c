//! How findings in project files are shown: miette's frames, one below the other.

use super::Text;
use crate::model::{Location, visible, visible_line};
use crate::spec::{Diagnostic, Severity};
use miette::{Diagnostic as Report, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::collections::BTreeMap;
use std::fmt;

struct Shown<'a> {
    found: &'a Diagnostic,
    source: Option<NamedSource<String>>,
    severity: miette::Severity,
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
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.found.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = |place: &Location, text: Option<String>| LabeledSpan::new(text, place.offset, place.length);
        let here = span(&self.found.place, Some("here".into()));
        // A second place in another file has a frame of its own.
        let other = self
            .found
            .other
            .as_ref()
            .filter(|(place, _)| place.file == self.found.place.file)
            .map(|(place, says)| span(place, Some(says.clone())));
        Some(Box::new(std::iter::once(here).chain(other)))
    }
}

/// A finding that is safe to show: a terminal obeys nothing in it, and its places are those in the text as it is shown.
fn shown(found: &Diagnostic, files: &BTreeMap<String, String>) -> Diagnostic {
    let place = |place: &Location| {
        let before = |end: usize| {
            let text = files.get(&place.file).and_then(|text| text.get(..end));
            text.map_or(end, |text| visible(text).len())
        };
        let offset = before(place.offset);
        let length = before(place.offset + place.length).saturating_sub(offset);
        Location { file: visible_line(&place.file).into_owned(), offset, length, ..place.clone() }
    };
    Diagnostic {
        code: found.code,
        severity: found.severity,
        message: visible(&found.message).into_owned(),
        place: place(&found.place),
        other: found.other.as_ref().map(|(other, says)| (place(other), visible(says).into_owned())),
        help: found.help.as_ref().map(|help| visible(help).into_owned()),
    }
}

/// All findings as one text. For a terminal, lines are wrapped; elsewhere they are not, so that they can be searched.
pub fn render(found: &[Diagnostic], files: &BTreeMap<String, String>, color: bool, wrap: bool) -> Text {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_wrap_lines(wrap).with_width(100).with_context_lines(1).with_links(false);
    let mut out = String::new();
    for original in found {
        let one = shown(original, files);
        let source = |file: &str, as_shown: &str| {
            let text = files.get(file).map(|text| visible(text).into_owned());
            text.map(|text| NamedSource::new(as_shown, text))
        };
        let severity = if one.severity == Severity::Error { miette::Severity::Error } else { miette::Severity::Warning };
        let here = source(&original.place.file, &one.place.file);
        let _ = handler.render_report(&mut out, &Shown { found: &one, source: here, severity });
        let elsewhere = one.other.clone().zip(original.other.as_ref()).filter(|((place, _), _)| place.file != one.place.file);
        if let Some(((place, says), (written, _))) = elsewhere {
            match source(&written.file, &place.file) {
                Some(source) => {
                    let there = Diagnostic { message: says, place, other: None, help: None, ..one };
                    let shown = Shown { found: &there, source: Some(source), severity: miette::Severity::Advice };
                    let _ = handler.render_report(&mut out, &shown);
                }
                None => out.push_str(&format!("  {says}: {place}\n")),
            }
        }
        out.push('\n');
    }
    Text::safe(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_place_in_another_file_is_shown_there() {
        let place = |file: &str| Location { file: file.into(), line: 1, offset: 0, length: 3 };
        let found = [Diagnostic::error("x", place("a.kdl"), "wrong").other(place("b.kdl"), "used here").help("mend it")];
        let both = BTreeMap::from([("a.kdl".to_owned(), "one 1".to_owned()), ("b.kdl".to_owned(), "two 2".to_owned())]);
        let out = render(&found, &both, false, true);
        let out = out.as_safe();
        assert!(
            out.contains("one 1") && out.contains("two 2") && out.contains("used here") && out.contains("[b.kdl:1:1]"),
            "{out}"
        );
        assert_eq!(out.matches("mend it").count(), 1, "{out}");
        let one = BTreeMap::from([("a.kdl".to_owned(), "one 1".to_owned())]);
        assert!(render(&found, &one, false, true).as_safe().contains("  used here: b.kdl:1\n"));
    }

    #[test]
    fn a_hostile_line_is_shown_and_still_pointed_at() {
        let text = "a \u{1b}[2K\u{202e}b wrong\r\n";
        let offset = text.find("wrong").unwrap();
        let place = Location { file: "x\u{1b}.kdl".into(), line: 1, offset, length: 5 };
        let found = [Diagnostic::error("x", place, "no\u{1b}[1A").help("h\u{9b}")];
        let out = render(&found, &BTreeMap::from([("x\u{1b}.kdl".to_owned(), text.to_owned())]), false, true);
        let out = out.as_safe();
        assert!(!out.contains(['\u{1b}', '\u{202e}', '\u{9b}', '\r']), "{out}");
        let (above, below) = out.split_once(" wrong\n").unwrap();
        let line = above.rsplit('\n').next().unwrap();
        let pointer = below.lines().next().unwrap();
        assert_eq!(line.chars().count() + 1, pointer.chars().take_while(|c| !matches!(c, '─' | '┬')).count(), "{out}");
    }
}

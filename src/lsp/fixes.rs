//! What to change about a finding: the help of a diagnostic says what to write, and this puts it in its place.

use super::document::Document;
use super::edit::Edit;
use super::names::{Role, parameter_places};
use super::project::At;
use crate::spec::Diagnostic;
use std::ops::Range;

type Fix = (String, Vec<Edit>);

/// What to change about a finding, with a title.
pub fn fix(at: &At, finding: &Diagnostic) -> Option<Fix> {
    let document = at.document;
    let place = finding.place.offset..finding.place.offset + finding.place.length;
    document.text.get(place.clone())?;
    let help = finding.help.as_deref().unwrap_or_default();
    let edit = |title: String, range: Range<usize>, text: &str| Some((title, vec![Edit::new(at.file, range, text)]));
    let node = document.scan.node_at(place.start);
    match finding.code {
        "comma" => edit("Remove the comma".into(), place, ""),
        "bare-keyword" => {
            let word = document.text.get(place.clone())?;
            edit(format!("Write `#{word}`"), place.start..place.start, "#")
        }
        "kdl-1" => {
            let line = document.lines.line_of(place.start);
            let here = literals(document).into_iter().filter(|(place, _)| document.lines.line_of(place.start) == line);
            let edits: Vec<Edit> = here.map(|(place, text)| Edit::new(at.file, place, text)).collect();
            (!edits.is_empty()).then(|| ("Write raw strings as KDL 2 does".into(), edits))
        }
        "no-end" => edit("Begin a new line".into(), place.start..place.start, &format!("\n{}", document.indent(place.start))),
        "missing-property" => {
            let name = finding.message.rsplit('`').nth(1)?;
            let end = header_end(document, node?);
            edit(format!("Write `{name}`"), end..end, &format!(" {name}\"\""))
        }
        "param-without-value" => {
            let end = header_end(document, node?);
            edit("Give it a default".into(), end..end, " default=\"\"")
        }
        "duplicate" if help == "keep one of the two" => {
            let range = whole_lines(document, duplicate(document, node?, &place));
            edit("Remove this one".into(), range, "")
        }
        "no-project" => {
            let start = if document.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
            edit("Begin the file with its project".into(), start..start, "project \"NAME\"\n\n")
        }
        "no-image" | "task" => child(at, node?, help.strip_prefix("for example: ")?),
        _ => declare(at, help).or_else(|| suggested(at, finding, &place, help)),
    }
}

/// Where the values of a node end.
fn header_end(document: &Document, node: usize) -> usize {
    document.scan.entries(node).last().map_or(document.scan.nodes[node].name.end, |(_, entry)| entry.value.end)
}

/// The property or the node that a finding about something twice marks.
fn duplicate(document: &Document, node: usize, place: &Range<usize>) -> Range<usize> {
    let named = |name: &Range<usize>| name.start == place.start;
    let property = document.scan.entries(node).find(|(_, entry)| entry.name.as_ref().is_some_and(named));
    property.map_or_else(|| document.scan.nodes[node].name.start..document.scan.nodes[node].end, |(_, entry)| entry.whole())
}

/// A range with the blanks before it, and with its line if nothing else is on it.
fn whole_lines(document: &Document, range: Range<usize>) -> Range<usize> {
    let text = &document.text;
    let before = text[..range.start].trim_end_matches([' ', '\t']);
    let after = text[range.end..].trim_start_matches([' ', '\t', ';']);
    let alone = before.is_empty() || before.ends_with('\n');
    if alone && after.starts_with(['\n', '\r']) {
        let newline = if after.starts_with("\r\n") { 2 } else { 1 };
        return before.len()..text.len() - after.len() + newline;
    }
    before.len()..range.end
}

/// Adds a node to a node's block.
fn child(at: &At, node: usize, line: &str) -> Option<Fix> {
    let document = at.document;
    let indent = document.indent(document.scan.nodes[node].name.start);
    let (offset, text) = match document.scan.nodes[node].block {
        Some(block) => {
            let one_line = document.lines.line_of(block.open) == document.lines.line_of(block.close);
            let text = if one_line { format!(" {line};") } else { format!("\n{indent}    {line}") };
            (block.open + 1, text)
        }
        None => (header_end(document, node), format!(" {{\n{indent}    {line}\n{indent}}}")),
    };
    Some((format!("Add `{line}`"), vec![Edit::new(at.file, offset..offset, text)]))
}

/// Declares what is not declared, at the end of the file.
fn declare(at: &At, help: &str) -> Option<Fix> {
    let line = help.strip_prefix("declare it: ")?;
    let line = match line.strip_prefix('`') {
        Some(quoted) => quoted.split('`').next()?,
        None => line.split("; ").next()?,
    };
    let text = &at.document.text;
    let before = if text.is_empty() || text.ends_with('\n') { "\n" } else { "\n\n" };
    let edit = Edit::new(at.file, text.len()..text.len(), format!("{before}{}\n", line.replace('…', "")));
    Some((format!("Declare {}", line.split([' ', '"']).next().unwrap_or("it")), vec![edit]))
}

/// What a help says to write: the text, and whether it is a name rather than a value.
fn said(help: &str) -> Option<(String, Said)> {
    if let Some(rest) = help.strip_prefix("put it in quotes: ") {
        return Some((rest.to_owned(), Said::Code));
    }
    if let Some(rest) = help.strip_prefix("this is called `") {
        return Some((rest.split('`').next()?.to_owned(), Said::Code));
    }
    if let Some(rest) = help.strip_prefix("for example ") {
        return Some((rest.to_owned(), Said::Example));
    }
    let rest = help.strip_prefix("write ")?;
    if let Some(number) = rest.strip_suffix(" without quotes") {
        return Some((number.to_owned(), Said::Code));
    }
    if let Some(code) = rest.strip_prefix('`') {
        let (code, behind) = code.split_once('`')?;
        // `$${` and the like are no replacement of the whole.
        return (behind.is_empty() && code != "$${").then(|| (code.to_owned(), Said::Code));
    }
    let end = literals_end(rest)?;
    let behind = &rest[end..];
    (behind.is_empty() || behind.starts_with([';', ','])).then(|| (rest[..end].to_owned(), Said::Code))
}

/// How sure a help is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Code,
    /// It shows the form; it is what was meant if it begins with what is written.
    Example,
}

/// Where a list of values in quotes, perhaps with a word or a property's name before them, ends.
fn literals_end(text: &str) -> Option<usize> {
    let mut end = 0;
    let mut at = text.find('"')?;
    // What is before the first quote is one word of the language, perhaps with `=`.
    let word = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '=' | ' ');
    if !text[..at].chars().all(word) || text[..at].trim().contains(' ') {
        return None;
    }
    while text[at..].starts_with('"') {
        let close = text[at + 1..].find('"')? + at + 2;
        end = close;
        at = close + usize::from(text[close..].starts_with(' '));
        // A property follows.
        if let Some(equals) =
            text[at..].find("=\"").filter(|equals| text[at..at + equals].bytes().all(|byte| byte.is_ascii_lowercase()))
        {
            at += equals + 1;
        }
    }
    Some(end).filter(|end| !text[..*end].contains('…'))
}

/// Writes what the help says.
fn suggested(at: &At, finding: &Diagnostic, place: &Range<usize>, help: &str) -> Option<Fix> {
    let document = at.document;
    let (code, said) = said(help)?;
    let node = document.scan.node_at(place.start)?;
    let one = |range: Range<usize>, text: &str| Some((format!("Write `{text}`"), vec![Edit::new(at.file, range, text)]));
    if matches!(finding.code, "unknown-name" | "unknown-param") {
        return renamed(at, finding, node, place, &code);
    }
    let name = document.scan.nodes[node].name.clone();
    if matches!(finding.code, "unknown-node" | "unknown-property") {
        return one(place.clone(), &code);
    }
    if code.strip_prefix(&*document.name(node)).is_some_and(|rest| rest.starts_with(' ')) {
        return one(name.start..header_end(document, node), &code);
    }
    if let Some((property, _)) = code.split_once("=\"") {
        let (_, entry) = document.scan.property(&document.text, node, property)?;
        return one(entry.whole(), &code);
    }
    let (_, entry) = document.scan.entries(node).find(|(_, entry)| {
        let whole = entry.whole();
        whole.start <= place.start && place.start < whole.end.max(whole.start + 1)
    })?;
    let value = document.value(&entry.value);
    if said == Said::Example && (value.is_empty() || !code.trim_matches('"').starts_with(&*value)) {
        return None;
    }
    one(entry.value.clone(), &code)
}

/// Puts the name that is meant in the place of one that there is not.
fn renamed(at: &At, finding: &Diagnostic, node: usize, place: &Range<usize>, code: &str) -> Option<Fix> {
    let document = at.document;
    let wrong = finding.message.rsplit('"').nth(1)?;
    let near = code.trim_matches(['"', '$', '{', '}']);
    let range = if finding.code == "unknown-param" {
        parameter_places(&document.text, place).find(|found| document.text.get(found.clone()) == Some(wrong))?
    } else {
        let used = |one: &&super::names::Mention| {
            let inside =
                document.scan.nodes[node].name.start <= one.place.start && one.place.end <= document.scan.nodes[node].end;
            one.role == Role::Used && one.name == wrong && inside
        };
        document.mentions.iter().find(used)?.place.clone()
    };
    Some((format!("Write `{near}`"), vec![Edit::new(at.file, range, near)]))
}

/// The literals that KDL 1 wrote otherwise, with what to write: `true`, and `r"…"`.
pub fn literals(document: &Document) -> Vec<(Range<usize>, String)> {
    let text = &document.text;
    let mut found = Vec::new();
    let entries = &document.scan.entries;
    for (number, entry) in entries.iter().enumerate() {
        let written = text.get(entry.value.clone()).unwrap_or_default();
        if matches!(written, "true" | "false" | "null") {
            found.push((entry.value.start..entry.value.start, "#".to_owned()));
        }
        let hashes = written.strip_prefix('r').filter(|rest| rest.bytes().all(|byte| byte == b'#'));
        let string = entries.get(number + 1).filter(|next| next.name.is_none() && next.value.start == entry.value.end);
        let is_string = |value: &Range<usize>| text.get(value.clone()).is_some_and(|next| next.len() > 1 && next.ends_with('"'));
        if let (Some(hashes), Some(string)) = (hashes, string.filter(|string| is_string(&string.value))) {
            found.push((entry.value.start..entry.value.start + 1, if hashes.is_empty() { "#" } else { "" }.to_owned()));
            if hashes.is_empty() {
                found.push((string.value.end..string.value.end, "#".to_owned()));
            }
        }
    }
    found
}

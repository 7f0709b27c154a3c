//! The values that may be written at a place: words of the language, names of the project, files, packages, references.

use super::candidate::{Candidate, Candidates, Shape};
use super::facts::{debian_step, size_text};
use super::links::is_of_the_host;
use super::names::{Kind as Names, Place, used_at};
use super::project::{Around, At};
use super::scan::inner;
use crate::model::kdl_text::quoted;
use crate::spec::table::Kind;
use std::ops::Range;

/// The most packages that are offered at once: an editor asks again when more is typed.
const PACKAGES: usize = 200;

/// The parameters, if the cursor is behind `${`.
pub fn parameters(at: &At) -> Option<Vec<Candidate>> {
    let document = at.document;
    let line = document.lines.content(&document.text, document.lines.line_of(at.offset));
    let before = document.text.get(line.start..at.offset)?;
    let open = before.rfind("${").filter(|open| !before[..*open].ends_with('$'))?;
    let typed = &before[open + 2..];
    let word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    if !typed.chars().all(word) {
        return None;
    }
    let rest = &document.text[at.offset..line.end.max(at.offset)];
    let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
    let close = if rest[length..].starts_with('}') { "" } else { "}" };
    let replace = line.start + open + 2..at.offset + length;
    let names = at.project.names(Names::Param);
    let one = |(name, (_, document, mention)): (&&str, &(&str, &super::document::Document, &super::names::Mention))| Candidate {
        label: (*name).to_owned(),
        shape: Shape::Name,
        detail: document.property(mention.node, "default").map_or_else(String::new, |value| format!("default {value}")),
        doc: String::new(),
        insert: format!("{name}{close}"),
        replace: replace.clone(),
    };
    Some(names.iter().map(one).collect())
}

/// The values that may be written at a place of a node.
pub fn values(at: &At, around: &dyn Around, node: usize, place: Place, kind: Kind, replace: &Range<usize>) -> Candidates {
    let mut found = Candidates { list: words(kind, replace), partial: false };
    let document = at.document;
    let (name, parent) = (document.name(node), document.parent_name(node));
    if let Some(names) = used_at(parent.as_deref(), &name, place) {
        found.list.extend(named(at, node, names, replace));
    }
    if name == "package" && matches!(place, Place::Argument(_)) {
        packages(at, around, node, replace, &mut found);
    }
    if name == "package" && place == Place::Property("version") {
        let locked = document.first(node).and_then(|package| at.project.locked.package(document, node, &package));
        found.list.extend(locked.map(|package| text(&package.version, Shape::Word, "as it is locked", replace)));
    }
    if matches!((&*name, place), ("debian" | "suite", Place::Argument(0))) {
        let suites = at.project.locked.lock.suites.keys();
        found.list.extend(suites.map(|suite| text(suite, Shape::Word, "a suite of the lock", replace)));
    }
    if is_of_the_host(document, node, place) {
        found.list.extend(files(at, around, replace));
    }
    found
}

/// A text as a candidate.
fn text(value: &str, shape: Shape, detail: &str, replace: &Range<usize>) -> Candidate {
    // In a snippet, these have a meaning.
    let insert = quoted(value).replace('\\', "\\\\").replace('$', "\\$").replace('}', "\\}");
    let replace = replace.clone();
    Candidate { label: value.to_owned(), shape, detail: detail.to_owned(), doc: String::new(), insert, replace }
}

/// The words of the language.
fn words(kind: Kind, replace: &Range<usize>) -> Vec<Candidate> {
    let flag = |word: &str| Candidate { insert: word.to_owned(), ..text(word, Shape::Word, "", replace) };
    let choices = |words: &[&str]| words.iter().map(|word| text(word, Shape::Word, "", replace)).collect::<Vec<_>>();
    match kind {
        Kind::Flag => vec![flag("#true"), flag("#false")],
        Kind::FlagOr(words) => [flag("#true"), flag("#false")].into_iter().chain(choices(words)).collect(),
        Kind::Choice(words) => choices(words),
        _ => Vec::new(),
    }
}

/// The names of a kind, and for images those of the lock.
fn named(at: &At, node: usize, kind: Names, replace: &Range<usize>) -> Vec<Candidate> {
    let own = at.document.scan.nodes[node].parent.and_then(|parent| at.document.first(parent));
    let itself = |name: &str| matches!(kind, Names::Container | Names::Image) && own.as_deref() == Some(name);
    let names = at.project.names(kind);
    let declared = names.iter().filter(|(name, (_, document, mention))| {
        !(itself(name) && document.name(mention.node) == at.document.parent_name(node).unwrap_or_default())
    });
    let mut found: Vec<Candidate> =
        declared.map(|(name, (file, _, _))| text(name, Shape::Name, &format!("{} of {file}", kind.word()), replace)).collect();
    if kind == Names::Image {
        let locked = &at.project.locked;
        found.extend(locked.lock.images.keys().map(|reference| {
            let digest = locked.digest(reference).map_or_else(String::new, |digest| digest.short(12));
            let size = locked.sizes.get(reference).map_or_else(String::new, |size| format!(", {}", size_text(*size)));
            text(reference, Shape::Name, &format!("locked {digest}{size}"), replace)
        }));
    }
    found
}

/// The packages of the suite, from its index, else from the lock.
fn packages(at: &At, around: &dyn Around, node: usize, replace: &Range<usize>, found: &mut Candidates) {
    let document = at.document;
    let Some((debian, _)) = debian_step(document, node) else { return };
    let Some(suite) = document.first(debian) else { return };
    let typed = inner(&document.text, replace);
    let typed = document.text.get(typed.start..at.offset.clamp(typed.start, typed.end)).unwrap_or_default();
    let take = |names: &mut dyn Iterator<Item = (&str, &str)>, found: &mut Candidates| {
        for (name, version) in names.filter(|(name, _)| name.starts_with(typed)) {
            if found.list.len() >= PACKAGES {
                found.partial = true;
                return;
            }
            found.list.push(text(name, Shape::Package, version, replace));
        }
    };
    match around.packages(at.project, &suite) {
        Some(all) => take(&mut all.iter().map(|(name, version)| (name.as_str(), version.as_str())), found),
        None => {
            let locked = at.project.locked.lock.suites.get(&*suite).into_iter().flat_map(|suite| suite.packages.values());
            take(&mut locked.map(|package| (package.name.as_str(), package.version.as_str())), found);
            // The index may be read by the time that more is typed.
            found.partial = true;
        }
    }
}

/// The files in the directory that the typed path leads to.
fn files(at: &At, around: &dyn Around, replace: &Range<usize>) -> Vec<Candidate> {
    let typed = inner(&at.document.text, replace);
    let typed = at.document.text.get(typed.start..at.offset.clamp(typed.start, typed.end)).unwrap_or_default();
    let folder = typed.rsplit_once('/').map_or("", |(folder, _)| folder);
    let before = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let one = |listed: super::project::Listed| {
        let (slash, shape) = if listed.folder { ("/", Shape::Folder) } else { ("", Shape::File) };
        let label = format!("{}{slash}", listed.name);
        Candidate { label: label.clone(), ..text(&format!("{before}{label}"), shape, "", replace) }
    };
    around.list(&crate::spec::tidy(folder)).into_iter().map(one).collect()
}

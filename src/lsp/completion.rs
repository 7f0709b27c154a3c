//! Completion: the nodes, properties and values that may be written at the cursor.

use super::candidate::{Candidate, Candidates, Shape};
use super::names::Place;
use super::project::{Around, At};
use super::scan::Slot;
use super::values;
use crate::spec::kind_text;
use crate::spec::table::{Kind, Node as Row, Prop};
use std::ops::Range;

/// What may be written at a place.
pub fn complete(at: &At, around: &dyn Around) -> Candidates {
    if let Some(found) = values::parameters(at) {
        return Candidates { list: found, partial: false };
    }
    let document = at.document;
    match document.scan.slot(at.offset) {
        Slot::Nothing => Candidates::default(),
        Slot::Name { parent, node, replace } => Candidates { list: nodes(at, parent, node, &replace), partial: false },
        Slot::Property { node, entry, replace } => {
            let list = document.row(node).map_or_else(Vec::new, |row| properties(at, node, row, Some(entry), &replace));
            Candidates { list, partial: false }
        }
        Slot::Argument { node, index, entry, replace } => {
            let Some(row) = document.row(node) else { return Candidates::default() };
            let replace = up_to_cursor(at, replace);
            let mut found = row.args.get(index).or(row.rest.as_ref()).map_or_else(Candidates::default, |arg| {
                values::values(at, around, node, Place::Argument(index), arg.kind, &replace)
            });
            // In quotes it is no property.
            if !document.text[replace.clone()].starts_with(['"', '#']) {
                found.list.extend(properties(at, node, row, entry, &replace));
            }
            found
        }
        Slot::Value { node, entry, replace } => {
            let name = document.scan.entries[entry].name.clone().map(|name| document.value(&name)).unwrap_or_default();
            let row = document.row(node);
            let kind = row.and_then(|row| row.props.iter().find(|prop| prop.name == name).map(|prop| prop.kind).or(row.free));
            let replace = up_to_cursor(at, replace);
            kind.map_or_else(Candidates::default, |kind| values::values(at, around, node, Place::Property(&name), kind, &replace))
        }
    }
}

/// A string without an end has the rest of its line in it, which is to stay.
fn up_to_cursor(at: &At, replace: Range<usize>) -> Range<usize> {
    let written = at.document.text.get(replace.clone()).unwrap_or_default();
    let open = written.starts_with(['"', '#']) && super::scan::inner(&at.document.text, &replace).end == replace.end;
    if open && written.contains('"') { replace.start..at.offset.max(replace.start) } else { replace }
}

/// The nodes that may be written in a node, or outside of all nodes.
fn nodes(at: &At, parent: Option<usize>, node: Option<usize>, replace: &Range<usize>) -> Vec<Candidate> {
    let document = at.document;
    let others: Vec<_> =
        document.scan.children(parent).filter(|other| Some(*other) != node).map(|other| document.name(other)).collect();
    let rows = document.rows_in(parent).iter().filter(|row| row.many || !others.iter().any(|name| name == row.name));
    let bare = node.is_some_and(|node| {
        let node = &document.scan.nodes[node];
        !node.entries.is_empty() || node.block.is_some()
    });
    let one = |row: &Row| Candidate {
        label: row.name.to_owned(),
        shape: Shape::Node,
        detail: if row.later { "not supported by `up` yet".into() } else { String::new() },
        doc: format!("{}\n\n```kdl\n{}\n```", row.doc, row.example),
        insert: if bare { row.name.to_owned() } else { snippet(row) },
        replace: replace.clone(),
    };
    rows.map(one).collect()
}

/// A node with places for what it needs.
fn snippet(row: &Row) -> String {
    let mut stops = 0;
    let mut stop = |kind: Kind, name: &str| {
        stops += 1;
        hole(kind, stops, name)
    };
    let mut out = row.name.to_owned();
    for arg in row.args.iter().filter(|arg| arg.required) {
        out.push(' ');
        out.push_str(&stop(arg.kind, arg.name));
    }
    if row.args.is_empty()
        && let Some(rest) = row.rest
    {
        out.push(' ');
        out.push_str(&stop(rest.kind, rest.name));
    }
    for prop in row.props.iter().filter(|prop| prop.required) {
        out.push_str(&format!(" {}={}", prop.name, stop(prop.kind, prop.name)));
    }
    if row.free.is_some() && row.args.is_empty() {
        return format!("{out} ${{1:NAME}}=\"$2\"");
    }
    let essential = row.children.len() > 3 && !row.props.iter().any(|prop| prop.required);
    if essential { format!("{out} {{\n\t$0\n}}") } else { out }
}

/// A place for a value.
fn hole(kind: Kind, number: usize, name: &str) -> String {
    match kind {
        Kind::Integer(..) | Kind::Number | Kind::Ports => format!("${{{number}:{name}}}"),
        Kind::Flag => "#true".into(),
        _ => format!("\"${{{number}:{name}}}\""),
    }
}

/// The properties of a node that it does not have yet.
fn properties(at: &At, node: usize, row: &Row, entry: Option<usize>, replace: &Range<usize>) -> Vec<Candidate> {
    let document = at.document;
    let given: Vec<_> = document
        .scan
        .entries(node)
        .filter(|(number, _)| Some(*number) != entry)
        .filter_map(|(_, other)| other.name.clone())
        .map(|name| document.value(&name))
        .collect();
    let has_value = entry.is_some_and(|entry| document.scan.entries[entry].name.is_some());
    let one = |prop: &Prop| Candidate {
        label: format!("{}=", prop.name),
        shape: Shape::Property,
        detail: kind_text(prop.kind),
        doc: described(prop),
        insert: match prop.kind {
            _ if has_value => prop.name.to_owned(),
            Kind::Integer(..) | Kind::Number | Kind::Ports => format!("{}=$1", prop.name),
            Kind::Flag | Kind::FlagOr(_) => format!("{}=${{1:#true}}", prop.name),
            _ => format!("{}=\"$1\"", prop.name),
        },
        replace: replace.clone(),
    };
    row.props.iter().filter(|prop| !given.iter().any(|name| name == prop.name)).map(one).collect()
}

/// What a property means, with its default.
pub fn described(prop: &Prop) -> String {
    match prop.default.map(|default| default.written()).filter(|default| !default.is_empty()) {
        Some(default) => format!("{}; else {default}", prop.doc),
        None if prop.required => format!("{} (required)", prop.doc),
        None => prop.doc.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::project::testing::{Disk, Fixture};
    use super::*;

    fn labels(marked: &str) -> Vec<String> {
        let fixture = Fixture::new(marked);
        complete(&fixture.at(), &Disk).list.into_iter().map(|one| one.label).collect()
    }

    /// What a text becomes when a candidate is accepted.
    fn accepted(marked: &str, label: &str) -> String {
        let fixture = Fixture::new(marked);
        let found = complete(&fixture.at(), &Disk).list.into_iter().find(|one| one.label == label);
        let one = found.unwrap_or_else(|| panic!("{label} is not offered: {:?}", labels(marked)));
        let mut text = fixture.at().document.text.to_string();
        text.replace_range(one.replace, &one.insert);
        text
    }

    #[test]
    fn nodes_that_are_legal_here_are_offered() {
        let top = labels("█");
        assert!(top.contains(&"container".into()) && top.contains(&"image".into()) && !top.contains(&"limits".into()), "{top:?}");
        let inside = labels("container \"web\" {\n    image \"a\"\n    █\n}\n");
        assert!(inside.contains(&"limits".into()) && inside.contains(&"publish".into()) && !inside.contains(&"debian".into()));
        assert!(!inside.contains(&"image".into()), "it is there once already");
        assert!(labels("container \"web\" {\n    im█\n}").contains(&"image".into()), "the word at the cursor is no other node");
        assert!(
            labels("container \"web\" {\n    limits {\n        █\n\ncontainer \"b\" {}").contains(&"memory".into()),
            "in a broken file"
        );
        assert_eq!(labels("// █"), Vec::<String>::new());
        assert_eq!(accepted("conta█", "container"), "container \"${1:name}\" {\n\t$0\n}");
        assert_eq!(accepted("container \"w\" { publ█ 80 }", "publish"), "container \"w\" { publish 80 }");
    }

    #[test]
    fn properties_and_values_are_offered() {
        let found = labels("container \"w\" { publish 80 to=90 █ }");
        assert!(found.contains(&"address=".into()) && !found.contains(&"to=".into()), "{found:?}");
        assert_eq!(accepted("image \"a\" { copy \"x\" t█ }", "to="), "image \"a\" { copy \"x\" to=\"$1\" }");
        assert_eq!(accepted("image \"a\" { copy \"x\" t█=\"y\" }", "to="), "image \"a\" { copy \"x\" to=\"y\" }");
        assert_eq!(labels("container \"w\" { restart █ }")[..2], ["no", "on-failure"]);
        assert_eq!(labels("container \"w\" { init █ }"), ["#true", "#false"]);
        assert_eq!(accepted("container \"w\" { restart \"al█\" }", "always"), "container \"w\" { restart \"always\" }");
        assert_eq!(
            accepted("container \"w\" { depends-on \"x\" until=█ }", "healthy"),
            "container \"w\" { depends-on \"x\" until=\"healthy\" }"
        );
        assert_eq!(accepted("container \"w\" {\n restart \"al█\n}", "always"), "container \"w\" {\n restart \"always\"\n}");
    }

    #[test]
    fn names_of_the_project_are_offered() {
        let project = "param \"tag\"\nimage \"app\" {}\nnetwork \"back\"\nvolume \"data\"\njob \"migrate\" {}\n";
        let inside = |line: &str| labels(&format!("{project}container \"web\" {{\n    {line}\n}}\n"));
        assert!(inside("image █").contains(&"app".into()));
        assert_eq!(inside("network █")[0], "back");
        assert_eq!(inside("mount volume=█"), ["data"]);
        assert_eq!(inside("depends-on \"█\""), ["migrate"], "not the container itself");
        assert_eq!(inside("env A=\"x${█}\""), ["tag"]);
        assert_eq!(accepted("param \"tag\"\nproject \"${t█\"", "tag"), "param \"tag\"\nproject \"${tag}\"");
    }

    #[test]
    fn files_and_packages_are_offered() {
        assert_eq!(labels("image \"a\" { copy █ }")[..2], ["app/", "Dockerfile"]);
        assert_eq!(accepted("image \"a\" { copy \"app/m█\" }", "main.py"), "image \"a\" { copy \"app/main.py\" }");
        assert_eq!(labels("image \"a\" { copy \"x\" to=\"█\" }"), Vec::<String>::new(), "a path of the container");
        let found = labels("image \"a\" { debian \"bookworm\" { package \"ngi█\" } }");
        assert_eq!(found, ["nginx", "nginx-common"]);
        assert_eq!(labels("image \"a\" { debian \"trixie\" { package \"ngi█\" } }"), Vec::<String>::new());
    }

    #[test]
    fn every_place_of_a_file_can_be_completed() {
        let text = include_str!("../spec/testdata/design.kdl");
        for (offset, _) in text.char_indices() {
            let fixture = Fixture::new(&format!("{}█{}", &text[..offset], &text[offset..]));
            complete(&fixture.at(), &Disk);
            let fixture = Fixture::new(&format!("{}█", &text[..offset]));
            complete(&fixture.at(), &Disk);
        }
    }
}

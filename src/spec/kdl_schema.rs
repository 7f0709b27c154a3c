//! The grammar table in the language of KDL schemas, for editors and other programs that know it.
//!
//! A schema of KDL says less than the table: sizes, durations and the like are strings in it, and what excludes what is not said.

use super::grammar::{Kind, Node};
use super::language::TOP;
use crate::model::kdl_text::quoted;
use std::fmt::Write as _;

/// The version of the schema: it grows when something that was legal is no longer so.
const VERSION: &str = "1";

/// The schema of project files.
pub fn kdl_schema() -> String {
    let mut out =
        String::from("// Generated from the grammar table in `src/spec/language.rs`; do not edit.\ndocument {\n    info {\n");
    // A text in memory takes everything.
    let _ = write!(out, "        title \"stead.kdl\" lang=\"en\"\n        version \"{VERSION}\"\n    }}\n");
    TOP.iter().for_each(|row| node(row, 1, &mut out));
    out.push_str("}\n");
    out
}

fn node(row: &Node, depth: usize, out: &mut String) {
    let space = " ".repeat(4 * depth);
    let _ = writeln!(out, "{space}node {} description={} {{", quoted(row.name), quoted(row.doc));
    if !row.many {
        let _ = writeln!(out, "{space}    max 1");
    }
    values(row, &space, out);
    for prop in row.props {
        let required = if prop.required { "required #true; " } else { "" };
        let (name, doc) = (quoted(prop.name), quoted(prop.doc));
        let _ = writeln!(out, "{space}    prop {name} description={doc} {{ {required}{}}}", legal(prop.kind));
    }
    if let Some(kind) = row.free {
        // Without a name, it is about all of them.
        let _ = writeln!(out, "{space}    prop {{ {}}}", legal(kind));
    }
    if !row.children.is_empty() {
        let _ = writeln!(out, "{space}    children {{");
        row.children.iter().for_each(|child| node(child, depth + 2, out));
        let _ = writeln!(out, "{space}    }}");
    }
    let _ = writeln!(out, "{space}}}");
}

/// The arguments, of which a schema knows how many there are, and what they are if all are alike.
fn values(row: &Node, space: &str, out: &mut String) {
    if row.args.is_empty() && row.rest.is_none() {
        return;
    }
    let least = row.args.iter().filter(|arg| arg.required).count();
    let most = if row.rest.is_some() { String::new() } else { format!("max {}; ", row.args.len()) };
    let mut kinds: Vec<String> = row.args.iter().chain(row.rest.as_ref()).map(|arg| legal(arg.kind)).collect();
    kinds.dedup();
    let kind = if let [only] = kinds.as_slice() { only.as_str() } else { "" };
    let _ = writeln!(out, "{space}    value {{ min {least}; {most}{kind}}}");
}

/// What a value may be; each word ends with `; `.
fn legal(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Program | Kind::Name | Kind::Host | Kind::Path | Kind::Pattern | Kind::Size | Kind::Duration => {
            "type \"string\"; ".into()
        }
        Kind::File | Kind::FileOr(_) | Kind::Origin | Kind::FilePattern => "type \"string\"; ".into(),
        Kind::Address | Kind::Subnet | Kind::Mode | Kind::Permissions => "type \"string\"; ".into(),
        Kind::Integer(low, high) if high >= i128::from(i64::MAX) => format!("type \"number\"; \">=\" {low}; \"%\" 1; "),
        Kind::Integer(low, high) => format!("type \"number\"; \">=\" {low}; \"<=\" {high}; \"%\" 1; "),
        Kind::Number => "type \"number\"; \">\" 0; ".into(),
        Kind::Flag => "type \"boolean\"; ".into(),
        Kind::FlagOr(words) => format!("enum #true #false {}; ", list(words)),
        Kind::Choice(words) => format!("enum {}; ", list(words)),
        // A port is a number, and a range a string; plain values are of any type.
        Kind::Ports | Kind::Plain => String::new(),
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(rows: &[Node]) -> usize {
        rows.iter().map(|row| 1 + count_of(row.children)).sum()
    }

    #[test]
    fn the_schema_is_kdl_and_has_every_row() {
        let text = kdl_schema();
        assert_eq!(crate::spec::syntax("schema", &text).len(), 0, "{:?}", crate::spec::syntax("schema", &text).first());
        let count = text.lines().filter(|line| line.trim_start().starts_with("node \"")).count();
        assert_eq!(count, count_of(TOP));
        for line in [
            "    node \"project\" description=\"The project's name.\" {",
            "        value { min 1; max 1; type \"string\"; }",
            "                prop \"protocol\" description=\"the protocol\" { enum \"tcp\" \"udp\"; }",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

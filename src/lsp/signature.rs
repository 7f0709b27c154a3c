//! Signature help: the arguments and properties of the node that is being written.

use super::completion::described;
use super::project::At;
use super::scan::Slot;
use crate::spec::kind_text;
use crate::spec::table::Node as Row;

/// How a node is written, and which part of that the cursor is at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    pub label: String,
    pub doc: String,
    /// Each part as it stands in the label, with what it means.
    pub parts: Vec<(String, String)>,
    pub active: Option<usize>,
}

/// The signature of the node whose values the cursor is in.
pub fn signature(at: &At) -> Option<Signature> {
    let document = at.document;
    let slot = document.scan.slot(at.offset);
    let (node, active) = match &slot {
        Slot::Argument { node, index, .. } => (*node, Active::Argument(*index)),
        Slot::Property { node, entry, .. } | Slot::Value { node, entry, .. } => {
            let name = document.scan.entries[*entry].name.clone()?;
            (*node, Active::Property(document.value(&name).into_owned()))
        }
        _ => return None,
    };
    let row = document.row(node)?;
    let parts = parts(row);
    if parts.is_empty() {
        return None;
    }
    let active = match active {
        Active::Argument(index) if index < row.args.len() => Some(index),
        Active::Argument(_) => row.rest.map(|_| row.args.len()),
        Active::Property(name) => {
            parts.iter().position(|(part, _)| part.trim_start_matches('[').starts_with(&format!("{name}=")))
        }
    };
    let written: Vec<&str> = parts.iter().map(|(part, _)| part.as_str()).collect();
    Some(Signature { label: format!("{} {}", row.name, written.join(" ")), doc: row.doc.to_owned(), parts, active })
}

/// What the cursor is at.
enum Active {
    Argument(usize),
    Property(String),
}

/// The parts of a node: optional ones are in brackets.
fn parts(row: &Row) -> Vec<(String, String)> {
    let optional = |text: String, required: bool| if required { text } else { format!("[{text}]") };
    let args = row.args.iter().map(|arg| (optional(format!("<{}>", arg.name), arg.required), kind_text(arg.kind)));
    let rest = row.rest.iter().map(|rest| (format!("[<{}>…]", rest.name), kind_text(rest.kind)));
    let props = row.props.iter().map(|prop| {
        (optional(format!("{}=", prop.name), prop.required), format!("{}: {}", kind_text(prop.kind), described(prop)))
    });
    let free = row.free.iter().map(|kind| ("[NAME=…]".to_owned(), kind_text(*kind)));
    args.chain(rest).chain(props).chain(free).collect()
}

#[cfg(test)]
mod tests {
    use super::super::project::testing::Fixture;
    use super::*;

    fn active(marked: &str) -> Option<String> {
        let found = signature(&Fixture::new(marked).at())?;
        Some(found.active.map_or_else(String::new, |active| found.parts[active].0.clone()))
    }

    #[test]
    fn the_part_that_is_written_is_marked() {
        assert_eq!(active("container \"w\" { publish █ }").as_deref(), Some("<port>"));
        assert_eq!(active("container \"w\" { publish 80 to=9█ }").as_deref(), Some("[to=]"));
        assert_eq!(active("container \"w\" { cmd \"a\" \"b█\" }").as_deref(), Some("[<words>…]"));
        assert_eq!(active("container \"w\" { publish 80 █ }").as_deref(), Some(""), "no further argument");
        assert_eq!(active("container \"w\" { publish 80; █ }"), None);
        assert_eq!(active("nonsense █"), None);
    }
}

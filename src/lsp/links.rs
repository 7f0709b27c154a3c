//! Paths of the host in a text: where they are written, and what they lead to.

use super::document::Document;
use super::names::Place;
use super::project::{At, relative_to};
use super::scan::inner;
use std::ops::Range;

/// A path in a text that leads to a file or a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Where it is written, without its quotes.
    pub range: Range<usize>,
    /// The tidy path, relative to the project's directory unless it is absolute.
    pub path: String,
}

/// Whether a value is a path of the host; most paths of the language are paths in containers.
pub fn is_of_the_host(document: &Document, node: usize, place: Place) -> bool {
    let parent = document.parent_name(node);
    match (parent.as_deref(), &*document.name(node), place) {
        (None | Some("profile"), "include", Place::Argument(0)) => true,
        (None | Some("profile"), "secret" | "config", Place::Property("file")) => true,
        (None, "mirror", Place::Argument(_)) => true,
        (Some("image"), "copy", Place::Argument(_)) => document.property(node, "from").is_none(),
        (Some("image"), "copy", Place::Property("context" | "ignore")) => true,
        (Some("image"), "dockerfile", Place::Argument(0) | Place::Property("context")) => true,
        (Some("image"), "from", Place::Property("archive")) => true,
        (Some("from"), "signed-by", Place::Argument(0)) => true,
        (_, "debian" | "repository", Place::Property("key")) => true,
        (Some("run"), "mount", Place::Property("context" | "ignore")) => true,
        (_, "env-file" | "inputs", Place::Argument(_)) => true,
        (_, "mount", Place::Property("bind")) => true,
        (Some("watch"), "sync" | "sync-restart" | "sync-exec" | "restart" | "rebuild", Place::Argument(0)) => true,
        _ => false,
    }
}

/// The path that a value leads to, if it leads to one file or directory.
fn target(document: &Document, file: &str, node: usize, place: Place, path: &str) -> Option<String> {
    let pattern = |c: char| matches!(c, '*' | '?' | '[' | '$' | '~');
    if path.is_empty() || path.contains(pattern) || path.contains("://") || !is_of_the_host(document, node, place) {
        return None;
    }
    let name = document.name(node);
    if name == "include" {
        return Some(relative_to(file, path));
    }
    // The sources of a copy are in its context, which is relative to the project's directory.
    let context = document.property(node, "context").filter(|_| name == "copy" && matches!(place, Place::Argument(_)));
    match context {
        Some(context) => Some(crate::spec::tidy(&format!("{context}/{path}"))),
        None => Some(crate::spec::tidy(path)),
    }
}

/// The links in a node.
fn links_of(document: &Document, file: &str, node: usize) -> Vec<Link> {
    let mut found = Vec::new();
    let mut index = 0;
    for (_, entry) in document.scan.entries(node) {
        let name = entry.name.clone().map(|name| document.value(&name));
        let place = name.as_ref().map_or(Place::Argument(index), |name| Place::Property(name));
        index += usize::from(entry.name.is_none());
        let path = document.value(&entry.value);
        if let Some(path) = target(document, file, node, place, &path) {
            found.push(Link { range: inner(&document.text, &entry.value), path });
        }
    }
    found
}

/// All links in a file.
pub fn links(document: &Document, file: &str) -> Vec<Link> {
    let nodes = (0..document.scan.nodes.len()).filter(|node| document.scan.nodes[*node].off.is_none());
    nodes.flat_map(|node| links_of(document, file, node)).collect()
}

/// The link at a place.
pub fn link_at(at: &At) -> Option<Link> {
    let node = at.document.scan.node_at(at.offset)?;
    let found = links_of(at.document, at.file, node).into_iter();
    found.into_iter().find(|link| link.range.start <= at.offset && at.offset <= link.range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_are_links() {
        let document = Document::new(
            "include \"db.kdl\"\nimage \"a\" {\n  copy \"x/\" \"*.py\" to=\"/x\"\n  copy \"/y\" from=\"b\" to=\"/y\"\n  copy \"z\" context=\"sub/\" to=\"/\"\n\
             \x20 dockerfile \"./Dockerfile\"\n}\ncontainer \"c\" { mount bind=\"data\" to=\"/data\"; env-file \".env\"; workdir \"/srv\" }\n",
        );
        let found: Vec<String> = links(&document, "infra/stead.kdl").into_iter().map(|link| link.path).collect();
        assert_eq!(found, ["infra/db.kdl", "x", "sub/z", "sub", "Dockerfile", "data", ".env"]);
    }
}

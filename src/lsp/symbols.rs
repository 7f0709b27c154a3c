//! The outline of a file, and what can be folded in it.

use super::document::Document;
use super::names::Kind;
use super::scan::CommentKind;
use std::ops::Range;

/// How deep the outline goes; the language is less deep.
const DEEPEST: usize = 8;
/// The most nodes of an outline; a file of the language has fewer.
const MOST: usize = 20_000;

/// A node in the outline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    pub name: String,
    pub detail: String,
    /// What it declares, if it is an outermost node with a name.
    pub kind: Option<Kind>,
    pub range: Range<usize>,
    pub selection: Range<usize>,
    pub children: Vec<Symbol>,
}

/// The outline of a file.
pub fn outline(document: &Document) -> Vec<Symbol> {
    within(document, None, 0, &mut 0)
}

fn within(document: &Document, parent: Option<usize>, depth: usize, count: &mut usize) -> Vec<Symbol> {
    if depth >= DEEPEST {
        return Vec::new();
    }
    let nodes = document.scan.children(parent).filter(|node| document.scan.nodes[*node].off.is_none());
    let named = nodes.filter(|node| !document.scan.nodes[*node].name.is_empty());
    let mut found = Vec::new();
    for node in named {
        *count += 1;
        if *count > MOST {
            break;
        }
        found.push(symbol(document, node, depth, count));
    }
    found
}

fn symbol(document: &Document, number: usize, depth: usize, count: &mut usize) -> Symbol {
    let node = &document.scan.nodes[number];
    let word = document.name(number).into_owned();
    let kind = Kind::declared_by(&word).filter(|_| node.parent.is_none());
    let values = document.text.get(node.name.end..node.header_end).unwrap_or_default();
    let short: String = values.trim().chars().take(60).collect();
    let (name, detail) = match (kind, document.first(number)) {
        (Some(_), Some(name)) if !name.trim().is_empty() => (name.into_owned(), word),
        _ => (word, short),
    };
    Symbol {
        name,
        detail,
        kind,
        range: node.name.start..node.end.max(node.name.end),
        selection: node.name.clone(),
        children: within(document, Some(number), depth + 1, count),
    }
}

/// A range of lines, counted from 0, that can be folded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fold {
    pub from: usize,
    pub to: usize,
    pub comment: bool,
}

/// What can be folded in a file: blocks, and comments of several lines.
pub fn folds(document: &Document) -> Vec<Fold> {
    let line = |offset: usize| document.lines.line_of(offset);
    let blocks = document.scan.nodes.iter().filter_map(|node| {
        let block = node.block?;
        let (from, to) = (line(block.open), line(block.close));
        // The line of the closing brace stays.
        let to = if block.closed { to.saturating_sub(1) } else { to };
        (to > from).then_some(Fold { from, to, comment: false })
    });
    let mut found: Vec<Fold> = blocks.collect();
    let mut open: Option<Fold> = None;
    for comment in &document.scan.comments {
        let (from, to) = (line(comment.range.start), line(comment.range.end));
        let alone = document.text[document.lines.content(&document.text, from)].trim_start().starts_with("//");
        match (&mut open, comment.kind) {
            (Some(fold), CommentKind::Line) if alone && fold.to + 1 == from => fold.to = to,
            _ => {
                found.extend(open.take().filter(|fold| fold.to > fold.from));
                open = Some(Fold { from, to, comment: true }).filter(|_| alone || comment.kind == CommentKind::Block);
            }
        }
    }
    found.extend(open.filter(|fold| fold.to > fold.from));
    found.sort_by_key(|fold| (fold.from, fold.to));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_has_the_nodes_of_a_file() {
        let document =
            Document::new("project \"p\"\ncontainer \"web\" {\n  limits { memory \"1GiB\" }\n}\n/-volume \"x\"\nimage \"");
        let shown: Vec<_> = outline(&document).into_iter().map(|one| (one.name, one.detail, one.children.len())).collect();
        let want = [("project", "\"p\"", 0), ("web", "container", 1), ("image", "\"", 0)];
        assert_eq!(shown, want.map(|(name, detail, count)| (name.to_owned(), detail.to_owned(), count)));
        let web = &outline(&document)[1];
        assert!(document.text[web.range.clone()].ends_with("\n}") && &document.text[web.selection.clone()] == "container");
    }

    #[test]
    fn blocks_and_comments_fold() {
        let document = Document::new("// a\n// b\na {\n  b {\n    c\n  }\n}\n/* x\n y */\nd { e }\nf 1 // g\n");
        let shown: Vec<_> = folds(&document).into_iter().map(|fold| (fold.from, fold.to, fold.comment)).collect();
        assert_eq!(shown, [(0, 1, true), (2, 5, false), (3, 4, false), (7, 8, true)]);
    }
}

//! A graph in the language of Mermaid, which GitHub and others draw inside Markdown.

use super::{INK, LINE, fill};
use crate::engine::{Graph, Part, Vertex};
use crate::model::visible_line;
use std::fmt::Write as _;

/// The graph as a flowchart.
pub fn mermaid(graph: &Graph) -> String {
    let names = identities(graph);
    let mut out = String::from("flowchart LR\n");
    for (vertex, name) in graph.vertices.iter().zip(&names) {
        let (left, right) = shape(vertex.part);
        // A String can always be written to.
        let _ = writeln!(out, "  {name}{left}\"{}\"{right}", label(vertex));
    }
    for edge in &graph.edges {
        let label = edge.label.map(|label| format!("|\"{label}\"|")).unwrap_or_default();
        let _ = writeln!(out, "  {} -->{label} {}", names[edge.from], names[edge.to]);
    }
    for part in Part::ALL {
        let of_part = graph.vertices.iter().zip(&names).filter(|(vertex, _)| vertex.part == part);
        let own: Vec<&str> = of_part.map(|(_, name)| name.as_str()).collect();
        if !own.is_empty() {
            let (word, fill) = (part.word(), fill(part));
            let _ = writeln!(out, "  classDef {word} fill:{fill},stroke:{LINE},color:{INK}");
            let _ = writeln!(out, "  class {} {word}", own.join(","));
        }
    }
    out
}

/// A name for each vertex in the file: `end` and others are words of Mermaid, so a name of the project cannot be one.
fn identities(graph: &Graph) -> Vec<String> {
    let mut counted = [0_usize; Part::ALL.len()];
    let mut next = |part: Part| {
        let place = Part::ALL.iter().position(|other| *other == part).unwrap_or(0);
        counted[place] += 1;
        counted[place]
    };
    graph.vertices.iter().map(|vertex| format!("{}{}", letter(vertex.part), next(vertex.part))).collect()
}

const fn letter(part: Part) -> char {
    match part {
        Part::Container => 'c',
        Part::Image => 'i',
        Part::Network => 'n',
        Part::Volume => 'v',
    }
}

const fn shape(part: Part) -> (&'static str, &'static str) {
    match part {
        Part::Container => ("(", ")"),
        Part::Image => ("[", "]"),
        Part::Network => ("{{", "}}"),
        Part::Volume => ("[(", ")]"),
    }
}

fn label(vertex: &Vertex) -> String {
    let lines: Vec<String> = std::iter::once(&vertex.name).chain(&vertex.notes).map(|line| escaped(line)).collect();
    lines.join("<br/>")
}

/// Text between quotes, with Mermaid's own escapes for what would end it, or be taken for Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in visible_line(text).chars() {
        match letter {
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '&' => out.push_str("#amp;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '`' => out.push_str("#96;"),
            other => out.push(other),
        }
    }
    out
}

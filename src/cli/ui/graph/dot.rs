//! A graph in the language of Graphviz.

use super::{INK, LINE, fill};
use crate::engine::{Graph, Part, Vertex};
use crate::model::visible_line;
use std::fmt::Write as _;

/// The graph for `dot` and other programs of Graphviz.
pub fn dot(graph: &Graph) -> String {
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n", escaped(&graph.project));
    let font = format!("fontcolor=\"{INK}\", fontname=\"sans-serif\"");
    // A String can always be written to.
    let _ = writeln!(out, "  node [style=\"rounded,filled\", color=\"{LINE}\", {font}];");
    let _ = writeln!(out, "  edge [color=\"{LINE}\", {font}, fontsize=10];");
    for vertex in &graph.vertices {
        let lines: Vec<String> = std::iter::once(&vertex.name).chain(&vertex.notes).map(|line| escaped(line)).collect();
        let (shape, fill) = (shape(vertex.part), fill(vertex.part));
        let _ = writeln!(out, "  {} [label=\"{}\", shape={shape}, fillcolor=\"{fill}\"];", identity(vertex), lines.join("\\n"));
    }
    for edge in &graph.edges {
        let (from, to) = (identity(&graph.vertices[edge.from]), identity(&graph.vertices[edge.to]));
        let label = edge.label.map(|label| format!(" [label=\"{label}\"]")).unwrap_or_default();
        let _ = writeln!(out, "  {from} -> {to}{label};");
    }
    out.push_str("}\n");
    out
}

const fn shape(part: Part) -> &'static str {
    match part {
        Part::Container => "box",
        Part::Image => "folder",
        Part::Network => "ellipse",
        Part::Volume => "cylinder",
    }
}

/// A vertex's name in the file: a container and an image may have the same name.
fn identity(vertex: &Vertex) -> String {
    format!("\"{} {}\"", vertex.part.word(), escaped(&vertex.name))
}

/// Text between quotes. A backslash would begin an escape sequence of a label.
fn escaped(text: &str) -> String {
    visible_line(text).replace('\\', "\\\\").replace('"', "\\\"")
}

//! A graph as a picture that every browser shows. The kind of a box is written in it: its colour only helps.

use super::layout::{Place, layout};
use super::{INK, LINE, fill};
use crate::engine::{Graph, Vertex};
use crate::model::visible_line;
use std::fmt::Write as _;

/// The space between a box and its text.
const PADDING: u64 = 12;
/// The heights of a box's lines: its kind, its name, each note.
const KIND: u64 = 14;
const NAME: u64 = 18;
const NOTE: u64 = 15;

/// The graph as SVG.
pub fn svg(graph: &Graph) -> String {
    let sizes: Vec<(u64, u64)> = graph.vertices.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let drawing = layout(&sizes, &edges);
    let (width, height) = (drawing.width, drawing.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" fill=\"{INK}\">\n<title>{}</title>\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"{LINE}\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n<g fill=\"none\" stroke=\"{LINE}\">\n",
        escaped(&graph.project)
    );
    // A String can always be written to.
    for way in &drawing.ways {
        let _ = writeln!(out, "<path d=\"{}\" marker-end=\"url(#end)\"/>", curve(way));
    }
    out.push_str(
        "</g>\n<g font-size=\"10\" text-anchor=\"middle\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">\n",
    );
    for (edge, way) in graph.edges.iter().zip(&drawing.ways) {
        if let (Some(label), [(x, y), (to, below), ..]) = (edge.label, way.as_slice()) {
            let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", (x + to) / 2, (y + below) / 2, escaped(label));
        }
    }
    out.push_str("</g>\n");
    for (vertex, place) in graph.vertices.iter().zip(&drawing.boxes) {
        draw(&mut out, vertex, *place);
    }
    out.push_str("</svg>\n");
    out
}

/// The width and height of a vertex's box, so that its longest line fits.
fn size(vertex: &Vertex) -> (u64, u64) {
    let lines = std::iter::once(&vertex.name).chain(&vertex.notes);
    let widest = lines.map(|line| width(line)).max().unwrap_or(0).max(width(vertex.part.word()));
    (widest + 2 * PADDING, KIND + NAME + NOTE * vertex.notes.len() as u64 + PADDING)
}

/// The room that a line needs in any system font: letters of other scripts may be twice as wide.
fn width(line: &str) -> u64 {
    visible_line(line).chars().map(|letter| if letter.is_ascii() { 8 } else { 15 }).sum()
}

/// A line through these points: it swings between columns, and is straight within one.
fn curve(way: &[(u64, u64)]) -> String {
    let mut out = String::new();
    for (at, (x, y)) in way.iter().enumerate() {
        let _ = match at.checked_sub(1).and_then(|before| way.get(before)) {
            None => write!(out, "M{x} {y}"),
            Some((from, above)) if at % 2 == 1 => {
                let middle = (from + x) / 2;
                write!(out, "C{middle} {above} {middle} {y} {x} {y}")
            }
            Some(_) => write!(out, "L{x} {y}"),
        };
    }
    out
}

fn draw(out: &mut String, vertex: &Vertex, place: Place) {
    let Place { x, y, width, height } = place;
    let (fill, middle) = (fill(vertex.part), x + width / 2);
    let _ = writeln!(
        out,
        "<g text-anchor=\"middle\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{fill}\" \
         stroke=\"{LINE}\"/>"
    );
    let mut line = |size: u64, weight: &str, y: u64, text: &str| {
        let text = escaped(text);
        let _ = writeln!(out, "<text x=\"{middle}\" y=\"{y}\" font-size=\"{size}\"{weight}>{text}</text>");
    };
    let first = y + KIND + 2;
    line(10, "", first, vertex.part.word());
    line(13, " font-weight=\"600\"", first + NAME - 2, &vertex.name);
    for (note, at) in vertex.notes.iter().zip(1..) {
        line(11, "", first + NAME - 2 + NOTE * at, note);
    }
    out.push_str("</g>\n");
}

/// Text of an element or of an attribute in quotes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in visible_line(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            other => out.push(other),
        }
    }
    out
}

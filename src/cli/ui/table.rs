//! Tables: columns as wide as their widest cell, two spaces between them.

use super::{Style, Text};

/// A table under construction.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<(Text, Option<Style>)>>,
}

impl Table {
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| ((*heading).into(), Some(Style::Dim))).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [(String, Option<Style>); N]) {
        self.rows.push(cells.map(|(text, style)| (Text::line(&text.replace(['\n', '\t'], " ")), style)).into());
    }

    /// Whether the table has only headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table as text.
    pub fn text(&self, color: bool) -> Text {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = Text::default();
        for row in &self.rows {
            let mut line = Text::default();
            for (column, (text, style)) in row.iter().enumerate() {
                let padding = if column + 1 < row.len() { widths[column] - text.width() + 2 } else { 0 };
                line += style.map_or_else(|| text.clone(), |style| style.paint(text.clone(), color));
                line += " ".repeat(padding);
            }
            out += line.trimmed() + "\n";
        }
        out
    }
}

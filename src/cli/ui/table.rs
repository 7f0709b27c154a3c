//! Tables: columns as wide as their widest cell, two spaces between them. On a terminal, the less important columns give way.

use super::{Style, Text, Ui};

/// A table under construction.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<(Text, Option<Style>)>>,
    /// Columns that may be left out, the least important first.
    expendable: Vec<usize>,
}

/// The space between two columns.
const GAP: usize = 2;

impl Table {
    /// A table with these headings; those in `expendable` are left out, the first one first, where there is no room.
    pub fn new(headings: &[&str], expendable: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| ((*heading).into(), Some(Style::Dim))).collect()],
            expendable: expendable.iter().filter_map(|name| headings.iter().position(|heading| heading == name)).collect(),
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [(String, Option<Style>); N]) {
        self.rows.push(cells.map(|(text, style)| (Text::line(&text.replace(['\n', '\t'], " ")), style)).into());
    }

    /// Whether the table has only headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table as text for standard output.
    pub fn text(&self, ui: &Ui) -> Text {
        self.fitted(ui.columns_out(), ui.color_out)
    }

    /// The whole table, without styles, for programs that read it.
    pub fn plain(&self) -> Text {
        self.fitted(None, false)
    }

    /// The table in at most so many columns of the screen.
    fn fitted(&self, room: Option<usize>, color: bool) -> Text {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut kept: Vec<usize> = (0..columns).collect();
        let whole = |kept: &[usize]| kept.iter().map(|column| widths[*column] + GAP).sum::<usize>().saturating_sub(GAP);
        for column in &self.expendable {
            if room.is_some_and(|room| whole(&kept) > room) {
                kept.retain(|other| other != column);
            }
        }
        // What is still too long is cut in the last column.
        let last = room.map(|room| room.saturating_sub(whole(&kept[..kept.len().saturating_sub(1)]) + GAP).max(1));
        let mut out = Text::default();
        for row in &self.rows {
            let mut line = Text::default();
            for (at, column) in kept.iter().enumerate() {
                let Some((text, style)) = row.get(*column) else { break };
                let (text, padding) = match last {
                    _ if at + 1 < kept.len() => (text.clone(), widths[*column] - text.width() + GAP),
                    Some(last) => (text.clone().shortened(last), 0),
                    None => (text.clone(), 0),
                };
                line += style.map_or_else(|| text.clone(), |style| style.paint(text.clone(), color));
                line += " ".repeat(padding);
            }
            out += line.trimmed() + "\n";
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_way_by_importance_and_the_last_one_is_cut() {
        let mut table = Table::new(&["NAME", "IMAGE", "STATE", "PORTS"], &["IMAGE", "STATE"]);
        table.row(["web-1", "project/web", "up 2 h", "127.0.0.1:8080"].map(|cell| (cell.to_owned(), None)));
        let shown = |room| table.fitted(room, false).as_safe().to_owned();
        for room in [None, Some(80), Some(45)] {
            assert_eq!(
                shown(room),
                "NAME   IMAGE        STATE   PORTS\nweb-1  project/web  up 2 h  127.0.0.1:8080\n",
                "{room:?}"
            );
        }
        assert_eq!(shown(Some(30)), "NAME   STATE   PORTS\nweb-1  up 2 h  127.0.0.1:8080\n");
        assert_eq!(shown(Some(21)), "NAME   PORTS\nweb-1  127.0.0.1:8080\n");
        assert_eq!(shown(Some(16)), "NAME   PORTS\nweb-1  127.0.0.…\n");
        assert!(!shown(Some(3)).is_empty());
    }
}

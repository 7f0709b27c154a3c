//! A page of Markdown as text for a terminal: what is bold or a link is still readable without.
//!
//! It knows what our own pages use: headings, paragraphs, lists, code, tables, links.

use super::ui::{Style, Text};

/// The space before what is no heading.
const INDENT: usize = 4;
/// The widest a paragraph is.
const WIDEST: usize = 80;

/// A page in lines of at most `columns` characters, if they can be broken.
pub fn page(markdown: &str, columns: usize, color: bool) -> Text {
    let mut page = Page { text: Text::default(), width: columns.min(WIDEST), color };
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            lines.by_ref().take_while(|line| !line.starts_with("```")).for_each(|line| page.put(INDENT * 2, line));
        } else if let Some(heading) = line.strip_prefix('#') {
            page.heading(heading.trim_start_matches('#').trim_start());
        } else if line.starts_with("![") {
            // A terminal shows no pictures.
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            page.table(&rows);
        } else if line.trim().is_empty() {
            page.text += "\n";
        } else {
            let mut words = line.to_owned();
            while let Some(more) = lines.next_if(|line| continues(line)) {
                words.push(' ');
                words.push_str(more.trim());
            }
            page.paragraph(&words);
        }
    }
    page.text.trimmed() + "\n"
}

/// Whether a line belongs to the paragraph above it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && marker(line).is_none() && !line.starts_with(['#', '|']) && !line.starts_with("```")
}

/// The length of what a line of a list begins with.
fn marker(line: &str) -> Option<usize> {
    let inside = line.trim_start();
    let digits = inside.chars().take_while(char::is_ascii_digit).count();
    let is_item = inside.starts_with("- ") || inside.starts_with("* ") || (digits > 0 && inside[digits..].starts_with(". "));
    is_item.then_some(line.len() - inside.len() + digits + 2)
}

/// A page that is being written.
struct Page {
    text: Text,
    width: usize,
    color: bool,
}

impl Page {
    fn put(&mut self, indent: usize, line: &str) {
        let text = std::mem::take(&mut self.text);
        self.text = text + format!("{}{line}", " ".repeat(indent)).trim_end() + "\n";
    }

    fn heading(&mut self, heading: &str) {
        let text = std::mem::take(&mut self.text);
        self.text = text + Style::Bold.paint(plain(heading), self.color) + "\n";
    }

    fn paragraph(&mut self, words: &str) {
        let hanging = marker(words).unwrap_or(0);
        let (start, rest) = words.split_at(hanging);
        let lines = Text::from(plain(rest)).wrapped(self.width.saturating_sub(INDENT + hanging).max(20));
        for (at, line) in lines.into_iter().enumerate() {
            let before = if at == 0 { start.to_owned() } else { " ".repeat(hanging) };
            let text = std::mem::take(&mut self.text);
            self.text = text + " ".repeat(INDENT) + before + line + "\n";
        }
    }

    /// A table, whose columns begin below each other.
    fn table(&mut self, rows: &[&str]) {
        let cells = |row: &&str| -> Vec<String> {
            // A bar in a cell is written with a backslash.
            let row = row.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{1}");
            row.split('|').map(|cell| plain(cell.trim()).replace('\u{1}', "|")).collect()
        };
        let is_rule = |row: &&&str| row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
        let rows: Vec<Vec<String>> = rows.iter().filter(|row| !is_rule(row)).map(cells).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &rows {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
            self.put(INDENT, &padded.collect::<String>());
        }
    }
}

/// A text without the signs that make it bold or a link. A link to another page is its text, and every other has its address.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut in_code = false;
    while let Some(next) = rest.chars().next() {
        if next == '`' {
            in_code = !in_code;
        }
        let link = (next == '[' && !in_code).then(|| link(rest)).flatten();
        if let Some((words, address, after)) = link {
            out.push_str(words);
            if address.contains("://") {
                out.push_str(&format!(" ({address})"));
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**").filter(|_| !in_code) {
            rest = after;
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// The words and the address of a link that a text begins with, and what follows.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (words, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (address, after) = rest.split_once(')')?;
    (!words.contains(['[', ']'])).then_some((words, address, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(markdown: &str, columns: usize) -> String {
        let mut out = Vec::new();
        page(markdown, columns, false).push_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_is_readable_without_styles() {
        let markdown = "# Title\n\nSome **bold** words and a [link](https://example.org) that\ngo on, `[a](b)`, [page](other.md).\n\n\
                        ![picture](a.svg)\n- one item that is too long for a line\n- two\n\n1. first\n   goes on\n\n```sh\nstead up   # [x](y)\n\n  two\n```\n\
                        | a | bbb |\n| --- | --- |\n| cc \\| d | `e` |\n\n\n";
        insta::assert_snapshot!(shown(markdown, 44), @r"
        Title

            Some bold words and a link
            (https://example.org) that go on,
            `[a](b)`, page.

            - one item that is too long for a line
            - two

            1. first goes on

                stead up   # [x](y)

                  two
            a       bbb
            cc | d  `e`
        ");
    }

    #[test]
    fn what_is_odd_is_shown_as_it_is() {
        assert_eq!(shown("[a](b", 80), "    [a](b\n");
        assert_eq!(shown("", 80), "\n");
        assert_eq!(shown("```\nnever closed", 80), "        never closed\n");
        assert_eq!(shown("a\u{1b}[2Jb", 80), "    a\\u{1b}[2Jb\n");
        let long = "x".repeat(300);
        assert!(shown(&long, 10).lines().all(|line| line.len() <= 24));
    }
}

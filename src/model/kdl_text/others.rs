//! The further errors of a line that has one, if they do not follow from it: those in other values, and in other nodes.

use super::token::is_newline;
use super::{ERRORS, Kind, Node, Scanner, Wrong};

impl Scanner<'_> {
    /// The errors behind the first one on its line that are errors whatever becomes of that one.
    pub(super) fn others(&self, first: &Wrong) -> Vec<Wrong> {
        let head = self.text[..first.offset].rsplit(is_newline).next().unwrap_or_default();
        let end = self.text[first.offset..].find(is_newline).map_or(self.text.len(), |length| first.offset + length);
        // A line that is wrong from its beginning may be anything, such as a comment of another language.
        if first.kind == Kind::Syntax && head.trim().is_empty() || first.offset + first.length > end {
            return Vec::new();
        }
        let mut probe = Scanner::new(&self.text[..end], self.limits);
        let mut found: Vec<Wrong> = Vec::new();
        let comma = |wrong: &Wrong| self.text[wrong.offset..].starts_with(',');
        let mut last = first.clone();
        while found.len() < ERRORS && probe.pass(&last).is_some() {
            let Some(next) = probe.next_wrong() else { break };
            // Who separates values by commas does it everywhere.
            if !comma(&next) || !comma(first) && !found.iter().any(comma) {
                found.push(next.clone());
            }
            last = next;
        }
        found
    }

    /// Goes behind what is wrong, to where a value or a node begins; `None` if that is not known.
    fn pass(&mut self, wrong: &Wrong) -> Option<()> {
        self.at = wrong.offset;
        match wrong.kind {
            Kind::Value | Kind::Joined => {
                self.at += wrong.length;
                // The value of a property whose name is wrong is a value like others.
                let spaces = self.rest().len() - self.rest().trim_start().len();
                if self.rest().trim_start().starts_with('=') {
                    self.at += spaces + 1;
                }
                Some(())
            }
            Kind::Escape => {
                self.at += wrong.length;
                self.close_quotes()
            }
            Kind::Syntax => self.pass_node(),
            Kind::Open | Kind::TooDeep | Kind::TooMany => None,
        }
    }

    /// Goes behind the end of the node, or to its block.
    fn pass_node(&mut self) -> Option<()> {
        loop {
            let letter = self.peek()?;
            let is_raw = letter == '#' && self.rest().trim_start_matches('#').starts_with('"');
            if is_raw || ["//", "/*", "/-"].iter().any(|comment| self.starts(comment)) {
                return None;
            }
            self.at += letter.len_utf8();
            match letter {
                ';' | '{' | '}' => return Some(()),
                '"' => self.close_quotes()?,
                _ => {}
            }
        }
    }

    /// Goes behind the quotes that end a string.
    fn close_quotes(&mut self) -> Option<()> {
        loop {
            let letter = self.peek()?;
            self.at += letter.len_utf8();
            match letter {
                '"' => return Some(()),
                '\\' => self.at += self.peek()?.len_utf8(),
                _ => {}
            }
        }
    }

    /// The next error among values and nodes.
    fn next_wrong(&mut self) -> Option<Wrong> {
        loop {
            self.space().ok()?;
            match self.peek()? {
                ';' | '{' | '}' => self.at += 1,
                _ if self.starts("//") || self.starts("/-") => return None,
                _ => {
                    if let Err(wrong) = self.entry(&Node::default()) {
                        return Some(wrong);
                    }
                }
            }
        }
    }
}

//! Questions: for consent with what is new and where it is written, and others; the answer is a plain yes or no.

use super::{Style, Text, Ui, mark_text};
use crate::engine::{Answer, Question};
use crate::sys;
use std::io::{IsTerminal, Write};

impl Ui {
    /// Asks on the terminal; if there is none, nobody is asked.
    pub fn consent(&self, question: &Question) -> Answer {
        if self.elsewhere.is_none() && !self.can_ask() {
            return Answer::Nobody;
        }
        let color = self.color_err;
        let what =
            if question.more { "more than was allowed here before" } else { "what reaches beyond its directory and containers" };
        let mut lines = vec![
            Style::Bold.paint(Text::line(&format!("{} in {}", question.file, question.folder.display())), color)
                + " asks for "
                + what
                + ":",
        ];
        for mark in question.marks {
            lines.push(Text::from("  ") + Text::line(&mark.holder) + " " + mark_text(mark, color));
        }
        self.put_question(lines, "Allow this for this directory from now on?")
    }

    /// Asks a plain question on the terminal; if there is none, nobody is asked.
    pub fn confirm(&self, question: &str) -> Answer {
        if self.elsewhere.is_some() || self.can_ask() { self.put_question(Vec::new(), question) } else { Answer::Nobody }
    }

    fn put_question(&self, lines: Vec<Text>, question: &str) -> Answer {
        if let Some(elsewhere) = &self.elsewhere {
            return elsewhere.ask(lines, question);
        }
        lines.into_iter().for_each(|line| self.say(line));
        self.ask(question)
    }

    fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && self.terminal_err
    }

    fn ask(&self, question: &str) -> Answer {
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        // What was typed before the question is not an answer to it.
        sys::forget_typed(std::io::stdin());
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        // Without an answer, the cursor is still on the line of the question.
        if !matches!(read, Ok(length) if length > 0) {
            self.say("");
        }
        if matches!(line.trim(), "y" | "Y" | "yes") { Answer::Yes } else { Answer::No }
    }
}

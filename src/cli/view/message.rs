//! What comes to the loop of a view, and who brings it.

use super::super::ui::{Elsewhere, Text};
use super::state::News;
use crate::engine::Answer;
use crate::model::Result;
use crate::watch::Asker;
use ratatui::crossterm::event::Event;
use std::sync::mpsc::{SyncSender, sync_channel};

/// How much news may wait. Whoever has more waits, too.
pub const ROOM: usize = 1024;

/// What comes to the loop.
#[derive(Debug)]
pub enum Message {
    News(News),
    Input(Event),
    Ask(Asked),
    Begins(Asker),
    Over(Result<u8>),
}

/// A question, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    pub lines: Vec<Text>,
    pub question: String,
    pub answer: SyncSender<Answer>,
}

/// Brings news to the loop.
#[derive(Clone, Debug)]
pub struct Post(pub SyncSender<Message>);

impl Post {
    /// Returns whether there is still somebody to whom it is news.
    pub fn tell(&self, news: News) -> bool {
        self.0.send(Message::News(news)).is_ok()
    }
}

impl Elsewhere for Post {
    fn say(&self, text: Text) {
        self.tell(News::Said(text));
    }

    fn at_work(&self, name: &str, what: Option<Text>) {
        self.tell(News::AtWork { name: name.to_owned(), what });
    }

    fn ask(&self, lines: Vec<Text>, question: &str) -> Answer {
        let (answer, answered) = sync_channel(1);
        let asked = Asked { lines, question: question.to_owned(), answer };
        if self.0.send(Message::Ask(asked)).is_err() {
            return Answer::Nobody;
        }
        answered.recv().unwrap_or(Answer::Nobody)
    }
}

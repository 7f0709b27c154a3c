//! The view of `stead watch`: the whole terminal, with the containers, what happens, what failed, and the logs.
//!
//! Threads say what is new: the session, a look at the containers, their logs, and the keys ([`message`]). One loop takes it
//! ([`turns`]), and draws when something else is to be seen ([`draw`]); what is known, and what keys mean, is plain data
//! ([`state`]). The messages of the commands that work meanwhile come here, too, because nothing else may write on the terminal.

mod draw;
mod input;
mod keys;
mod logs;
mod message;
mod sample;
mod state;
mod turns;

pub use turns::End;

use super::Context;
use super::ui::{Screen, Text};
use super::watching::{Told, shown, some};
use crate::engine::Instance;
use crate::model::Result;
use crate::sys;
use crate::watch::Happened;
use input::Input;
use message::{Message, Post, ROOM};
use nix::sys::signal::{Signal, raise};
use state::{News, State};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use turns::{Again, View};

/// Watches, and tells what happens.
type Follow = Box<dyn FnOnce(&Context, &dyn Fn(Told, &Context)) -> Result<u8> + Send>;

/// What a view shows, and what it can start.
pub struct Work {
    /// The session, which tells what happens.
    pub session: Follow,
    /// Restarts a container.
    pub restart: Box<Again>,
}

/// Shows the view until it is left.
///
/// # Errors
/// Fails when the terminal is gone, and when the session fails.
pub fn show(instance: &Instance, work: Work, context: &Context) -> Result<End> {
    let Work { session, restart } = work;
    let (sender, receiver) = sync_channel(ROOM);
    let (nudge, nudged) = channel();
    let post = Post(sender.clone());
    let beside = || context.with(context.ui.beside(Arc::new(post.clone())));
    let mut screen = Screen::enter()?;

    let keys = sender.clone();
    let input = Input::begin(move |event| keys.send(Message::Input(event)).is_ok());
    let (of_session, told) = (beside(), post.clone());
    let nudge_too: Sender<()> = nudge.clone();
    // These threads end with this process: most of the time they wait for something.
    std::thread::spawn(move || {
        let face = |news: Told, context: &Context| {
            tell(&told, news, context);
            // It may be that a container has another state now.
            let _ = nudge_too.send(());
        };
        let over = session(&of_session, &face);
        let _ = told.0.send(Message::Over(over));
    });
    let (of_samples, told) = (instance.clone(), post.clone());
    std::thread::spawn(move || sample::sample(&of_samples, &nudged, &|news| told.tell(news)));
    let (of_logs, told) = (instance.clone(), post.clone());
    std::thread::spawn(move || logs::follow(&of_logs, &|news| told.tell(news)));

    let color = context.ui.color_out;
    let mut view = View {
        state: State::new(&instance.project, color),
        instance,
        receiver,
        input,
        post: post.clone(),
        restart: Arc::from(restart),
        beside: &beside,
        nudge,
        asker: None,
        asked: VecDeque::new(),
    };
    let end = view.run(&mut screen);
    drop(screen);
    if end.is_err() {
        // What was said on the way belongs to the error.
        view.state.said.drain(..).for_each(|text| context.ui.say(text));
    }
    if matches!(end, Ok(End::Leave)) && sys::UnderWay::any() {
        interrupt();
    }
    end
}

/// Interrupts what is at work, as the keys of a plain terminal do: it ends by itself, and then this process ends.
fn interrupt() -> ! {
    let _ = raise(Signal::SIGINT);
    loop {
        std::thread::park();
    }
}

/// Turns what a session tells into news.
fn tell(post: &Post, told: Told, context: &Context) {
    let news = match told {
        Told::Begins(asker) => {
            let _ = post.0.send(Message::Begins(asker));
            return;
        }
        Told::Converging => News::Converging,
        Told::Converged => News::Converged,
        Told::Failed(error) => News::Failed(context.told(&error)),
        Told::Watching { files, directories } => News::Watching { files, directories },
        Told::Changed(paths) if paths.is_empty() => return,
        Told::Changed(paths) => News::Changed(Text::line(&format!("{} changed", some(&paths)))),
        Told::Happened(happened) => {
            let sync = matches!(happened, Happened::Synced { .. });
            match shown(happened) {
                Ok((what, Some(took))) => News::Did { what: Text::line(&what), took, sync },
                Ok((what, None)) => News::Said(Text::line(&what)),
                Err(error) => News::Trouble(context.told(&error)),
            }
        }
    };
    post.tell(news);
}

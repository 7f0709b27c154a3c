//! The view of `stead watch`: the whole terminal, with the containers, what happens, what failed, and the logs.
//!
//! Threads say what is new: the session, a look at the containers, their logs, and the keys. One loop takes it, and draws when
//! something else is to be seen ([`draw`]); what is known, and what keys mean, is plain data ([`state`]). The messages of the
//! commands that work meanwhile come here, too, because nothing else may write on the terminal.

mod draw;
mod input;
mod logs;
mod sample;
mod state;

use super::Context;
use super::ui::{Elsewhere, Screen, Text};
use super::watching::{Told, shown, some};
use crate::engine::{Answer, Instance};
use crate::model::{Error, Result};
use crate::sys;
use crate::watch::{Asker, Happened};
use input::Input;
use nix::sys::signal::{Signal, raise};
use ratatui::crossterm::event::{Event, MouseButton, MouseEvent, MouseEventKind};
use state::{News, State, Wish};
use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// How much news may wait. Whoever has more waits, too.
const ROOM: usize = 1024;
/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// How long the loop waits if nothing is to be drawn.
const IDLE: Duration = Duration::from_secs(3600);
/// How often we check whether a shell has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How many lines a turn of the mouse wheel is.
const WHEEL: usize = 3;

/// Watches, and tells what happens.
type Follow = Box<dyn FnOnce(&Context, &dyn Fn(Told, &Context)) -> Result<u8> + Send>;
/// Restarts a container.
type Again = dyn Fn(&Context, &str) -> Result<u8> + Send + Sync;

/// What a view shows, and what it can start.
pub struct Work {
    /// The session, which tells what happens.
    pub session: Follow,
    /// Restarts a container.
    pub restart: Box<Again>,
}

/// How a view was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The containers stay up.
    Leave,
    /// The environment is to be taken down.
    Down,
}

/// What comes to the loop.
#[derive(Debug)]
enum Message {
    News(News),
    Input(Event),
    Ask(Asked),
    Begins(Asker),
    Over(Result<u8>),
}

/// A question, and where the answer goes.
#[derive(Debug)]
struct Asked {
    lines: Vec<Text>,
    question: String,
    answer: SyncSender<Answer>,
}

/// Brings news to the loop.
#[derive(Clone, Debug)]
struct Post(SyncSender<Message>);

impl Post {
    /// Returns whether there is still somebody to whom it is news.
    fn tell(&self, news: News) -> bool {
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

/// The loop, and what it uses.
struct View<'a> {
    state: State,
    instance: &'a Instance,
    receiver: Receiver<Message>,
    input: Input,
    post: Post,
    restart: Arc<Again>,
    /// A context whose messages come here.
    beside: &'a dyn Fn() -> Context,
    nudge: Sender<()>,
    asker: Option<Asker>,
    /// The questions that are open; the first one is shown.
    asked: VecDeque<Asked>,
}

impl View<'_> {
    /// Takes messages and draws, until the view is left.
    fn run(&mut self, screen: &mut Screen) -> Result<End> {
        let (mut is_due, mut drawn) = (true, None::<Instant>);
        loop {
            let early = drawn.map_or(Duration::ZERO, |drawn| FRAME.saturating_sub(drawn.elapsed()));
            if is_due && early.is_zero() {
                screen.draw(|frame| draw::draw(&self.state, frame))?;
                (is_due, drawn) = (false, Some(Instant::now()));
            }
            // The loop has a sender itself, so the only error is that nothing came in time.
            let Ok(message) = self.receiver.recv_timeout(if is_due { early } else { IDLE }) else { continue };
            let wish = match message {
                Message::Input(event) => {
                    is_due = true;
                    self.typed(event, screen)
                }
                message => {
                    is_due |= self.take(message)?;
                    None
                }
            };
            match wish {
                Some(Wish::Leave) => return Ok(End::Leave),
                Some(Wish::Down) => return Ok(End::Down),
                Some(wish) => self.grant(wish, screen)?,
                None => {}
            }
        }
    }

    /// Takes a message that is no key; returns whether something else is to be seen now.
    fn take(&mut self, message: Message) -> Result<bool> {
        match message {
            Message::News(news) => return Ok(self.state.take(news)),
            Message::Begins(asker) => self.asker = Some(asker),
            Message::Ask(asked) => {
                self.asked.push_back(asked);
                self.ask();
                return Ok(true);
            }
            Message::Over(over) => {
                over?;
                return Err(Error::new("the watch has ended"));
            }
            Message::Input(_) => {}
        }
        Ok(false)
    }

    /// Shows the first open question.
    fn ask(&mut self) {
        if let Some(first) = self.asked.front() {
            self.state.ask(first.lines.clone(), &first.question);
        }
    }

    fn typed(&mut self, event: Event, screen: &Screen) -> Option<Wish> {
        let area = screen.area();
        let page = usize::from(draw::places(&self.state, area).logs.height);
        match event {
            Event::Key(key) => return self.state.key(key, page),
            Event::Mouse(MouseEvent { kind, row, .. }) => match kind {
                MouseEventKind::Down(MouseButton::Left) => {
                    if let Some(row) = draw::row_at(&self.state, area, row) {
                        self.state.select(row);
                    }
                }
                MouseEventKind::ScrollUp => self.state.scroll_up(WHEEL, page),
                MouseEventKind::ScrollDown => self.state.scroll_down(WHEEL),
                _ => {}
            },
            // Another size is seen when it is drawn.
            _ => {}
        }
        None
    }

    fn grant(&mut self, wish: Wish, screen: &mut Screen) -> Result<()> {
        match wish {
            Wish::Restart(name) => self.restart(name),
            Wish::Shell(name) => return self.shell(&name, screen),
            Wish::Open(url) => self.open(&url),
            Wish::Rebuild => match &self.asker {
                Some(asker) => asker.ask(),
                None => self.state.status = Some("the session has not begun yet".into()),
            },
            Wish::Answer(answer) => {
                if let Some(asked) = self.asked.pop_front() {
                    // Who asked may be gone.
                    let _ = asked.answer.send(answer);
                }
                self.ask();
            }
            // These end the loop.
            Wish::Leave | Wish::Down => {}
        }
        Ok(())
    }

    fn restart(&mut self, name: String) {
        self.state.status = Some(Text::line(&format!("restarting {name} …")));
        let (context, restart) = ((self.beside)(), self.restart.clone());
        let (post, nudge) = (self.post.clone(), self.nudge.clone());
        std::thread::spawn(move || {
            let begun = Instant::now();
            post.tell(match restart(&context, &name) {
                Ok(_) => {
                    let what = Text::line(&format!("{name} restarted"));
                    News::Did { what, took: begun.elapsed(), sync: false }
                }
                Err(error) => News::Trouble(context.told(&error)),
            });
            let _ = nudge.send(());
        });
    }

    /// Runs a shell in a container on this terminal. News is taken meanwhile, and seen afterwards.
    fn shell(&mut self, name: &str, screen: &mut Screen) -> Result<()> {
        let program = match sys::own_program() {
            Ok(program) => program,
            Err(error) => {
                self.state.status = Some(Text::line(&format!("cannot run a shell: {error}")));
                return Ok(());
            }
        };
        let mut command = Command::new(program);
        command.arg0("stead").arg("-C").arg(&self.instance.folder);
        if self.instance.file != "stead.kdl" {
            command.arg("-f").arg(self.instance.folder.join(&self.instance.file));
        }
        command.args(["exec", name, "sh"]);
        self.input.pause();
        let ended = screen.lend(|| -> Result<Option<i32>> {
            let mut child = command.spawn().map_err(|error| Error::caused("cannot run a shell", error))?;
            loop {
                match child.try_wait() {
                    Ok(Some(status)) => return Ok(status.code()),
                    Ok(None) => {}
                    Err(error) => return Err(Error::caused("cannot wait for the shell", error)),
                }
                if let Ok(message) = self.receiver.recv_timeout(LOOK) {
                    self.take(message)?;
                }
            }
        });
        self.input.resume();
        self.state.status = match ended? {
            // The command's own status is the last one of the shell, which says nothing about the shell.
            Ok(Some(code @ 125..=127)) => Some(format!("no shell could be run in {name} (exit status {code})").into()),
            Ok(_) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Opens a page in a browser, if there is a desktop.
    fn open(&mut self, url: &str) {
        let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
        let mut command = Command::new("xdg-open");
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let opened = has_desktop.then(|| command.spawn().ok()).flatten();
        self.state.status = Some(Text::line(url));
        if let Some(mut child) = opened {
            // Nobody waits for a browser; but what has ended must be waited for.
            std::thread::spawn(move || drop(child.wait()));
        }
    }
}

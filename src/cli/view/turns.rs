//! The loop of a view: it takes what comes, draws if something else is to be seen, and grants what keys wish for.

use super::super::Context;
use super::super::ui::{Screen, Text};
use super::draw;
use super::input::Input;
use super::message::{Asked, Message, Post, ROOM};
use super::state::{News, State, Wish};
use crate::engine::Instance;
use crate::model::{Error, Result};
use crate::sys;
use crate::watch::Asker;
use ratatui::crossterm::event::{Event, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// How long the loop waits if nothing is to be drawn.
const IDLE: Duration = Duration::from_secs(3600);
/// How often we check whether a shell has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How many lines a turn of the mouse wheel is.
const WHEEL: usize = 3;

/// Restarts a container.
pub type Again = dyn Fn(&Context, &str) -> Result<u8> + Send + Sync;

/// How a view was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The containers stay up.
    Leave,
    /// The environment is to be taken down.
    Down,
}

/// The loop, and what it uses.
pub struct View<'a> {
    pub state: State,
    pub instance: &'a Instance,
    pub receiver: Receiver<Message>,
    pub input: Input,
    pub post: Post,
    pub restart: Arc<Again>,
    /// A context whose messages come here.
    pub beside: &'a dyn Fn() -> Context,
    pub nudge: Sender<()>,
    pub asker: Option<Asker>,
    /// The questions that are open; the first one is shown.
    pub asked: VecDeque<Asked>,
}

/// What a view is drawn on.
pub trait Stage {
    /// Draws what has changed.
    fn draw(&mut self, state: &State) -> Result<()>;

    /// What can be drawn in.
    fn area(&self) -> Rect;

    /// Gives the terminal to somebody else for a while.
    fn lend(&mut self, work: &mut dyn FnMut()) -> Result<()>;
}

impl Stage for Screen {
    fn draw(&mut self, state: &State) -> Result<()> {
        Self::draw(self, |frame| draw::draw(state, frame))
    }

    fn area(&self) -> Rect {
        Self::area(self)
    }

    fn lend(&mut self, work: &mut dyn FnMut()) -> Result<()> {
        Self::lend(self, work)
    }
}

impl View<'_> {
    /// Takes messages and draws, until the view is left. Without messages nothing is done.
    pub fn run(&mut self, stage: &mut dyn Stage) -> Result<End> {
        let (mut is_due, mut drawn) = (true, None::<Instant>);
        loop {
            let early = drawn.map_or(Duration::ZERO, |drawn| FRAME.saturating_sub(drawn.elapsed()));
            if is_due && early.is_zero() {
                stage.draw(&self.state)?;
                (is_due, drawn) = (false, Some(Instant::now()));
            }
            // The loop has a sender itself, so the only error is that nothing came in time.
            let Ok(first) = self.receiver.recv_timeout(if is_due { early } else { IDLE }) else { continue };
            // What comes together is seen together; but whoever says much must not keep it from being seen.
            let messages: Vec<Message> = std::iter::once(first).chain(self.receiver.try_iter().take(ROOM)).collect();
            for message in messages {
                match self.follow(message, stage)? {
                    ControlFlow::Break(end) => return Ok(end),
                    ControlFlow::Continue(is_new) => is_due |= is_new,
                }
            }
        }
    }

    /// Follows a message; returns whether something else is to be seen now, or how the view was left.
    fn follow(&mut self, message: Message, stage: &mut dyn Stage) -> Result<ControlFlow<End, bool>> {
        let Message::Input(event) = message else { return self.take(message).map(ControlFlow::Continue) };
        match self.typed(event, stage.area()) {
            Some(Wish::Leave) => return Ok(ControlFlow::Break(End::Leave)),
            Some(Wish::Down) => return Ok(ControlFlow::Break(End::Down)),
            Some(wish) => self.grant(wish, stage)?,
            None => {}
        }
        Ok(ControlFlow::Continue(true))
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

    fn typed(&mut self, event: Event, area: Rect) -> Option<Wish> {
        let page = usize::from(draw::places(&self.state, area).logs.height);
        match event {
            Event::Key(key) => return self.state.key(key, page),
            Event::Mouse(MouseEvent { kind, row, .. }) => match kind {
                MouseEventKind::Down(MouseButton::Left) => self.state.click(draw::row_at(&self.state, area, row)),
                MouseEventKind::ScrollUp => self.state.scroll_up(WHEEL, page),
                MouseEventKind::ScrollDown => self.state.scroll_down(WHEEL),
                _ => {}
            },
            // Another size is seen when it is drawn.
            _ => {}
        }
        None
    }

    fn grant(&mut self, wish: Wish, stage: &mut dyn Stage) -> Result<()> {
        match wish {
            Wish::Restart(name) => self.restart(name),
            Wish::Shell(name) => return self.shell(&name, stage),
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
    fn shell(&mut self, name: &str, stage: &mut dyn Stage) -> Result<()> {
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
        let mut ended = Ok(None);
        stage.lend(&mut || ended = self.until_its_end(&mut command))?;
        self.input.resume();
        self.state.status = match ended {
            // The command's own status is the last one of the shell, which says nothing about the shell.
            Ok(Some(code @ 125..=127)) => Some(format!("no shell could be run in {name} (exit status {code})").into()),
            Ok(_) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Runs a command on this terminal, and takes news meanwhile.
    fn until_its_end(&mut self, command: &mut Command) -> Result<Option<i32>> {
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
    }

    /// Opens a page in a browser, if there is a desktop.
    fn open(&mut self, url: &str) {
        let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
        let mut command = Command::new("xdg-open");
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let opened = has_desktop.then(|| command.spawn().ok()).flatten();
        self.state.status = Some(Text::line(&match (has_desktop, &opened) {
            (_, Some(_)) => format!("opening {url}"),
            (true, None) => format!("there is no xdg-open here; the page is {url}"),
            (false, None) => format!("there is no desktop here; the page is {url}"),
        }));
        if let Some(mut child) = opened {
            // Nobody waits for a browser; but what has ended must be waited for.
            std::thread::spawn(move || drop(child.wait()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ui::Style;
    use super::super::state::{Entry, Row};
    use super::*;
    use crate::store::Home;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{SyncSender, channel, sync_channel};

    /// A stage that counts how often it is drawn on.
    struct Counted(Arc<AtomicUsize>);

    impl Stage for Counted {
        fn draw(&mut self, _: &State) -> Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn area(&self) -> Rect {
            Rect::new(0, 0, 80, 24)
        }

        fn lend(&mut self, work: &mut dyn FnMut()) -> Result<()> {
            work();
            Ok(())
        }
    }

    /// Runs a view while somebody brings it messages, and can see how often it is drawn.
    fn drawn(bring: impl FnOnce(&SyncSender<Message>, &dyn Fn() -> usize) + Send + 'static) -> Result<End> {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::new(&Home::find(Some(folder.path())), folder.path(), "stead.kdl");
        let (sender, receiver) = sync_channel(ROOM);
        let (count, (nudge, _nudged)) = (Arc::new(AtomicUsize::new(0)), channel());
        let (seen, post) = (count.clone(), sender.clone());
        let brought = std::thread::spawn(move || {
            bring(&sender, &|| seen.load(Ordering::SeqCst));
            let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
            sender.send(Message::Input(Event::Key(interrupt))).unwrap();
        });
        let mut view = View {
            state: State::new("p", false),
            instance: &instance,
            receiver,
            input: Input::idle(),
            post: Post(post),
            restart: Arc::new(|_, _| Ok(0)),
            beside: &|| panic!("nothing is started"),
            nudge,
            asker: None,
            asked: VecDeque::new(),
        };
        let end = view.run(&mut Counted(count));
        assert!(brought.join().is_ok(), "the other thread says why");
        end
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn rows(names: &[&str]) -> Message {
        let row = |name: &&str| Row {
            name: (*name).into(),
            state: ("up".into(), None),
            health: ("-".into(), None),
            ports: "".into(),
            url: None,
        };
        Message::News(News::Rows(names.iter().map(row).collect()))
    }

    #[test]
    fn nothing_is_drawn_unless_something_else_is_to_be_seen() {
        let end = drawn(|sender, count| {
            until("the first drawing", || count() == 1);
            std::thread::sleep(FRAME * 6);
            assert_eq!(count(), 1, "nothing has come");
            sender.send(rows(&["a-1"])).unwrap();
            until("the second drawing", || count() == 2);
            for _ in 0..50 {
                sender.send(rows(&["a-1"])).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(FRAME * 3);
            assert_eq!(count(), 2, "what has come was known");
            sender.send(Message::Input(Event::Resize(100, 30))).unwrap();
            until("the third drawing", || count() == 3);
        });
        assert_eq!(end.unwrap(), End::Leave);
    }

    #[test]
    fn what_comes_quickly_is_drawn_in_frames() {
        let end = drawn(|sender, count| {
            until("the first drawing", || count() == 1);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(500) {
                let entry = Entry { name: "a-1".into(), style: Style::Cyan, text: "x".into() };
                sender.send(Message::News(News::Logged(vec![entry]))).unwrap();
            }
            let frames = usize::try_from(begun.elapsed().as_millis() / FRAME.as_millis()).unwrap();
            assert!((2..=frames + 2).contains(&count()), "{} drawings in {frames} frames", count());
        });
        assert_eq!(end.unwrap(), End::Leave);
    }
}

//! The whole terminal, while a view has it. However this process ends, the terminal is given back as it was.

use crate::model::{Context, Result};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};
use std::io::{self, BufWriter, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether a view has the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether a view is writing to the terminal right now.
static DRAWING: AtomicBool = AtomicBool::new(false);
/// How long somebody who gives the terminal back waits for a drawing to end.
const DRAWN: Duration = Duration::from_millis(100);

/// The terminal of this process, taken for a view until it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Fails when standard input or output is not a terminal.
    pub fn enter() -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |why| {
                leave_screen();
                before(why);
            }));
        });
        take().and_then(|()| terminal()).map(|terminal| Self { terminal }).inspect_err(|_| leave_screen()).context(in_vain)
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// Fails when the terminal is gone, or was given back because this process ends.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> Result<()> {
        DRAWING.store(true, Ordering::SeqCst);
        let drawn = if TAKEN.load(Ordering::SeqCst) {
            self.terminal.draw(draw).map(drop)
        } else {
            Err(io::Error::other("it was given back"))
        };
        DRAWING.store(false, Ordering::SeqCst);
        drawn.context(in_vain)
    }

    /// What can be drawn in.
    pub fn area(&self) -> Rect {
        self.terminal.size().map_or(Rect::new(0, 0, 80, 24), |size| Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back for a while, and takes it again.
    ///
    /// # Errors
    /// Fails when the terminal is gone.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> Result<T> {
        leave_screen();
        let done = work();
        // What another program left there is unknown: everything is drawn anew.
        self.terminal = take().and_then(|()| terminal()).context(in_vain)?;
        Ok(done)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave_screen();
    }
}

fn in_vain() -> String {
    "cannot draw on the terminal".into()
}

fn terminal() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(64 << 10, io::stdout())))
}

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, Hide)
}

/// Gives the terminal back, if a view has it: called also by whoever ends this process without further ado.
pub fn leave_screen() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let begun = Instant::now();
    while DRAWING.load(Ordering::SeqCst) && begun.elapsed() < DRAWN {
        std::thread::sleep(Duration::from_millis(1));
    }
    // If the terminal is gone, there is nothing to give back.
    let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

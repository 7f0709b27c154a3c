//! Ctrl-C: work in progress ends by itself within a second, whatever it waits for.

use super::ui::{Ui, leave_screen};
use crate::sys;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long work in progress has to end by itself.
const GRACE: Duration = Duration::from_millis(700);
/// How long the caller then has to report it.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// What is said when nothing was under way, if an interruption is how the command is meant to end.
static LEAVE: Mutex<Option<&'static str>> = Mutex::new(None);

/// From now on, an interruption is how the command is meant to end: if it cuts off nothing, this is said.
pub fn leaves(words: &'static str) {
    *LEAVE.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// From now on, an interruption gives work in progress the time to end. Work that does not end, or that waits for a
/// person, is cut off: that is never worse than being killed, which loses nothing.
pub fn watch_over(ui: &Ui) {
    let (true, Some(interruption)) = (sys::note_interrupts().is_ok(), sys::interruption()) else { return };
    let ui = ui.clone();
    std::thread::spawn(move || {
        while sys::interrupted().is_none() {
            let _ = sys::wait_readable(&[&interruption], None);
        }
        let deadline = Instant::now() + GRACE;
        let was_under_way = sys::UnderWay::any();
        while sys::UnderWay::any() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if was_under_way && !sys::UnderWay::any() {
            // Its caller reports the interruption and ends the process.
            std::thread::sleep(LAST_WORDS);
        }
        leave_screen();
        ui.clear_line();
        let leave = LEAVE.lock().unwrap_or_else(PoisonError::into_inner).filter(|_| !was_under_way);
        ui.say(leave.unwrap_or("interrupted: what was done stays, and the same command goes on from there"));
        sys::exit_now(128 + sys::interrupted().unwrap_or(2));
    });
}

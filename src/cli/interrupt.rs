//! Ctrl-C: what is under way ends by itself, within a second, whatever it waits for.

use super::ui::Ui;
use crate::sys;
use std::time::{Duration, Instant};

/// How long what is under way has to come to an end by itself.
const GRACE: Duration = Duration::from_millis(700);
/// How long telling of it takes, then.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// From now on an interruption lets what is under way end; what does not, or waits for a person, is cut off. That is
/// never worse than being killed, which loses nothing.
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
            // Who called it tells of it, and ends.
            std::thread::sleep(LAST_WORDS);
        }
        ui.clear_line();
        ui.say("interrupted: what was done stays, and the same command goes on from there");
        sys::exit_now(128 + sys::interrupted().unwrap_or(2));
    });
}

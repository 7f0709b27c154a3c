//! Reads keys and the mouse, except while another program has the terminal.

use ratatui::crossterm::event::{self, Event};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How soon a request to pause is heard.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Reading,
    /// Somebody wants the terminal.
    Wanted,
    /// Nothing is read.
    Paused,
}

/// Whether keys are read.
#[derive(Clone)]
pub struct Input(Arc<(Mutex<Phase>, Condvar)>);

impl Input {
    /// Reads in a thread of its own until nobody wants it any more; `tell` returns whether somebody does.
    pub fn begin(tell: impl Fn(Event) -> bool + Send + 'static) -> Self {
        let input = Self(Arc::new((Mutex::new(Phase::Reading), Condvar::new())));
        let own = input.clone();
        std::thread::spawn(move || own.read(&tell));
        input
    }

    /// Reads nothing, for tests of what keys do.
    #[cfg(test)]
    pub fn idle() -> Self {
        Self(Arc::new((Mutex::new(Phase::Paused), Condvar::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, phase: MutexGuard<'a, Phase>) -> MutexGuard<'a, Phase> {
        self.0.1.wait(phase).unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, tell: &dyn Fn(Event) -> bool) {
        loop {
            let mut phase = self.lock();
            while *phase != Phase::Reading {
                *phase = Phase::Paused;
                self.0.1.notify_all();
                phase = self.wait(phase);
            }
            drop(phase);
            let wanted = match event::poll(LOOK) {
                Ok(false) => true,
                Ok(true) => event::read().is_ok_and(tell),
                // The terminal is gone, and a signal tells this process so.
                Err(_) => false,
            };
            if !wanted {
                // Whoever pauses this later must not wait for it.
                let mut phase = self.lock();
                *phase = Phase::Paused;
                self.0.1.notify_all();
                return;
            }
        }
    }

    /// Returns once nothing is read any more.
    pub fn pause(&self) {
        let mut phase = self.lock();
        while *phase != Phase::Paused {
            *phase = Phase::Wanted;
            phase = self.wait(phase);
        }
    }

    /// Reads again.
    pub fn resume(&self) {
        *self.lock() = Phase::Reading;
        self.0.1.notify_all();
    }
}

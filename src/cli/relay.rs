//! Connects this terminal with a container's: bytes in both directions, window sizes, and the keys to detach.

use crate::model::{Context, Error, Result};
use crate::runtime::Running;
use crate::sys::{self, RawTerminal};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Docker's keys for leaving a container running.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys that is looked for in the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    wanted: Vec<u8>,
    seen: usize,
}

impl Keys {
    /// Parses keys as Docker writes them: single characters and `ctrl-X`, separated by commas.
    ///
    /// # Errors
    /// Fails when a word is not a key.
    pub fn parse(text: &str) -> Result<Self> {
        let key = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(letter & 0x1f),
            Some(_) => None,
            None => word.bytes().next().filter(|_| word.len() == 1),
        };
        let wanted = text.split(',').filter(|word| !word.is_empty()).map(|word| {
            key(word).ok_or_else(|| Error::new(format!("\"{word}\" is not a key")).hint("for example: ctrl-p,ctrl-q").usage())
        });
        Ok(Self { wanted: wanted.collect::<Result<_>>()?, seen: 0 })
    }

    /// Takes input, and returns what goes to the container and whether the keys were typed.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        for byte in typed {
            if self.wanted.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return (out, true);
                }
                continue;
            }
            // The beginning of the keys was meant for the container after all.
            out.extend(&self.wanted[..self.seen]);
            self.seen = usize::from(self.wanted.first() == Some(byte));
            if self.seen == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// Passes bytes on until the other side ends or the keys are typed; returns whether it ended.
///
/// Output comes from `output`: the terminal itself, or the stream of a container whose log is kept.
///
/// # Errors
/// Fails when the terminal is gone or waiting for it fails.
pub fn relay(terminal: &OwnedFd, output: impl AsFd, running: Option<&Running>, keys: &Keys) -> Result<bool> {
    let mut keys = keys.clone();
    let stdin = std::io::stdin();
    let _raw = RawTerminal::enter(&stdin).ok();
    let signals = sys::signal_descriptor(&[libc::SIGWINCH]).context(|| "cannot wait for signals".into())?;
    let resize = || {
        if let Some((rows, columns)) = sys::window_size(std::io::stdout()) {
            sys::set_window_size(terminal, rows, columns);
        }
    };
    resize();
    let file = |fd: std::os::fd::BorrowedFd| fd.try_clone_to_owned().map(File::from).context(|| "the terminal is gone".into());
    let (mut master, mut output, mut input) = (file(terminal.as_fd())?, file(output.as_fd())?, file(stdin.as_fd())?);
    let mut out = std::io::stdout();
    let mut buffer = vec![0; 32 << 10];
    let mut open = true;
    loop {
        let mut waiting: Vec<&dyn AsFd> = vec![&output, &signals];
        if open {
            waiting.push(&input);
        }
        let ready = sys::wait_readable(&waiting, None).context(|| "cannot wait".into())?;
        while let Ok(Some(_)) = signals.read_signal() {
            resize();
        }
        if ready.first() == Some(&true) {
            match output.read(&mut buffer) {
                // EIO: no process has the other side open any more.
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let _ = out.write_all(&buffer[..length]).and_then(|()| out.flush());
                }
            }
        }
        if ready.get(2) == Some(&true) {
            match input.read(&mut buffer) {
                Ok(0) | Err(_) => open = false,
                Ok(length) => {
                    let (typed, leave) = keys.take(&buffer[..length]);
                    let _ = master.write_all(&typed);
                    if leave {
                        return Ok(false);
                    }
                }
            }
        }
    }
    if let Some(running) = running {
        let _ = sys::wait_readable(&[&running.line], None);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_also_across_reads() {
        let mut keys = Keys::parse(DETACH_KEYS).unwrap();
        assert_eq!(keys.take(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(b"x\x10\x10\x11rest"), (b"\x10x\x10".to_vec(), true));
        assert_eq!(Keys::parse("a,ctrl-\\").unwrap().wanted, b"a\x1c");
        assert!(Keys::parse("ctrl-").is_err() && Keys::parse("enter").is_err());
    }
}

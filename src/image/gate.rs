//! Parts of a tar that are read at the same time and written one after the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};

/// Where the bytes of a tar go; it is told when a part has been written.
pub trait Sink: Write + Send {
    fn ended(&mut self) {}
}

/// Bytes of which nothing but the bytes is wanted.
pub struct Plain<W>(pub W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Sink for Plain<W> {}

/// How many bytes a thread reads ahead of its turn to write; the rest of a longer file is read once its turn has come.
const AHEAD: usize = 1 << 20;

/// Parts are read at the same time; here they are written one after the other.
pub struct Gate<'w, W> {
    state: Mutex<Passed<'w, W>>,
    changed: Condvar,
}

struct Passed<'w, W> {
    /// How many parts have been written.
    parts: usize,
    out: &'w mut W,
    failed: Option<io::Error>,
}

impl<'w, W> Gate<'w, W> {
    /// A gate where the first `parts` parts are not waited for.
    pub fn new(parts: usize, out: &'w mut W) -> Self {
        Self { state: Mutex::new(Passed { parts, out, failed: None }), changed: Condvar::new() }
    }

    /// The first error, if there was one.
    pub fn failed(self) -> Option<io::Error> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failed
    }

    /// Keeps the first error, and wakes the threads that wait for their turn: it will not come.
    pub fn fail(&self, error: io::Error) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// One part, which waits at the gate for its turn to be written.
pub struct Turn<'g, 'w, W> {
    gate: &'g Gate<'w, W>,
    index: usize,
    pub buffer: Vec<u8>,
}

impl<'g, 'w, W: Sink> Turn<'g, 'w, W> {
    pub fn new(gate: &'g Gate<'w, W>, index: usize) -> Self {
        Self { gate, index, buffer: Vec::new() }
    }

    /// Reads a file's content, which must be exactly as long as its header says.
    pub fn take(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let piece = left.min(AHEAD as u64);
            self.buffer.reserve(AHEAD.min(usize::try_from(piece).unwrap_or(AHEAD)));
            if file.take(piece).read_to_end(&mut self.buffer)? as u64 != piece {
                return Err(io::Error::other("it changed while it was read"));
            }
            left -= piece;
            if self.buffer.len() >= AHEAD {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what was read, and gives the next part its turn.
    pub fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut passed = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        passed.parts += 1;
        passed.out.ended();
        drop(passed);
        self.gate.changed.notify_all();
        Ok(())
    }

    /// Waits for this part's turn, then writes the buffer.
    fn flush(&mut self) -> io::Result<()> {
        let state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let not_yet = |state: &mut Passed<W>| state.parts != self.index && state.failed.is_none();
        let mut state = self.gate.changed.wait_while(state, not_yet).unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_some() {
            return Err(io::Error::other("another part failed"));
        }
        state.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

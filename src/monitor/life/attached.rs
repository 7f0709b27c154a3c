//! Clients that get a container's output as it comes. The container never waits for one that reads slowly: it misses output,
//! and is told how much and where.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

pub(super) struct Attached {
    stream: UnixStream,
    /// How many bytes it has missed since it was last given some.
    missed: u64,
    /// Whether the output so far, missed or not, has ended with the end of a line.
    line_ended: bool,
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Attached {
    /// A client whose stream does not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, missed: 0, line_ended: true }
    }

    /// Passes output on, as much as it can take; returns whether it is still there. After a gap it goes on with a whole line,
    /// so that two halves do not become one.
    pub(super) fn show(&mut self, bytes: &[u8]) -> bool {
        let mut from = 0;
        if self.missed > 0 {
            let next = if self.line_ended { Some(0) } else { memchr::memchr(b'\n', bytes).map(|at| at + 1) };
            let Some(next) = next else { return self.miss(bytes) };
            let note = format!("\nstead: {} bytes are missing here: they were not read in time\n", self.missed + next as u64);
            match self.stream.write(note.as_bytes()) {
                // A note that is cut is better than none: the reader sees that something is missing.
                Ok(_) => self.missed = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.miss(bytes),
                Err(_) => return false,
            }
            from = next;
        }
        match self.stream.write(&bytes[from..]) {
            Ok(length) => from += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        self.miss(&bytes[from..])
    }

    /// Ends the output. A client that has missed something is told so, in room that its stream gets for that.
    pub(super) fn end(mut self) {
        if self.missed == 0 {
            return;
        }
        let note = format!("\nstead: {} bytes are missing here: they were not read in time\n", self.missed);
        let room = nix::sys::socket::getsockopt(&self.stream, nix::sys::socket::sockopt::SndBuf);
        if let Ok(room) = room {
            // If it gets none, the client is as before.
            let _ = nix::sys::socket::setsockopt(&self.stream, nix::sys::socket::sockopt::SndBuf, &room);
        }
        // If it is gone, it does not need to know.
        let _ = self.stream.write(note.as_bytes());
    }

    fn miss(&mut self, bytes: &[u8]) -> bool {
        self.missed += bytes.len() as u64;
        self.line_ended = bytes.last().map_or(self.line_ended, |last| *last == b'\n');
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_slow_reader_is_told_what_it_missed_at_the_end() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut client = Attached::new(writer);
        while client.missed == 0 {
            assert!(client.show(&[b'x'; 50_000]));
        }
        let missed = client.missed;
        client.end();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(&format!("x\nstead: {missed} bytes are missing here: they were not read in time\n")));
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut client = Attached::new(writer);
        let mut lines = (0u32..).map(|number| format!("line {number}\n"));
        while client.missed == 0 {
            assert!(client.show(lines.next().unwrap().as_bytes()));
        }
        assert!(client.show(b"half a "));
        let mut seen = vec![0; 8 << 20];
        let length = reader.read(&mut seen).unwrap();
        seen.truncate(length);
        assert!(client.show(b"line\nEND\n") && client.show(b"more\n"));
        drop(client);
        reader.read_to_end(&mut seen).unwrap();
        let text = String::from_utf8(seen).unwrap();
        let (before, after) = text.split_once("\nstead: ").unwrap();
        assert!(before.rsplit('\n').next().is_some_and(|last| last.is_empty() || last.starts_with("line ")), "{before:.60}");
        let (count, rest) = after.split_once(' ').unwrap();
        assert!(count.parse::<u64>().unwrap() >= 12, "{count}");
        assert_eq!(rest.split_once('\n').unwrap().1, "END\nmore\n");
    }
}

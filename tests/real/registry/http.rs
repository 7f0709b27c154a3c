//! The parts of HTTP that a server for tests needs.

use std::io::{self, BufRead, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Listens on a port of its own until it is dropped, with a thread for each connection.
pub struct Listener {
    pub address: String,
    ended: Arc<AtomicBool>,
}

impl Listener {
    pub fn new(answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ended, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let told = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                // A client that closes the connection early does not matter.
                std::thread::spawn(move || answer(stream).ok());
            }
        });
        Self { address, ended }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

/// The first line of a request or of an answer, and the headers.
pub struct Head {
    pub first: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        // A client that tries TLS first waits for us, so it is turned away at once.
        if reader.fill_buf()?.first() == Some(&0x16) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().ok_or(io::ErrorKind::InvalidData)?;
        let pairs = lines.filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
        Ok(Self { first, headers: pairs.collect() })
    }

    /// A word of the first line.
    pub fn word(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn without(&mut self, names: &[&str]) {
        self.headers.retain(|(other, _)| !names.iter().any(|name| other.eq_ignore_ascii_case(name)));
    }

    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        to.write_all(format!("{}\r\n{lines}\r\n", self.first).as_bytes())
    }

    /// How long the body is that follows; `otherwise` applies when neither header says it.
    pub fn length(&self, otherwise: Length) -> Length {
        if self.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Length::Chunked;
        }
        self.get("content-length").and_then(|value| value.parse().ok()).map_or(otherwise, Length::Known)
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// A body, decoded from the encoding in which it comes.
pub struct Body<R> {
    reader: R,
    pub length: Length,
    /// How much is left of the body, or of its current chunk.
    pub left: u64,
    pub ended: bool,
}

impl<R: BufRead> Body<R> {
    pub fn new(reader: R, length: Length) -> Self {
        let left = match length {
            Length::Known(length) => length,
            Length::Chunked => 0,
            Length::UntilClose => u64::MAX,
        };
        Self { reader, length, left, ended: length == Length::Known(0) }
    }

    /// Reads the next bytes; returns 0 at the end.
    pub fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = String::new();
        if self.length == Length::Chunked && self.left == 0 && !self.ended {
            self.reader.read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            self.ended = self.left == 0;
            while self.ended && !line.trim_end().is_empty() {
                // This skips the trailers and the empty line after them.
                line.clear();
                self.reader.read_line(&mut line)?;
            }
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            // A read would wait for what comes after the body.
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..want])?;
        if got == 0 && self.length != Length::UntilClose {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        if self.length == Length::Chunked && self.left == 0 && !self.ended {
            self.reader.read_line(&mut line)?;
        }
        Ok(got)
    }

    /// Reads and discards what is left.
    pub fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while self.next(&mut buffer)? > 0 {}
        Ok(())
    }
}

/// Answers a request, and announces that the connection ends.
pub fn answer(to: &mut TcpStream, method: &str, status: u16, headers: &[(String, String)], body: &str) -> io::Result<()> {
    let mut head = Head { first: format!("HTTP/1.1 {status} Test"), headers: headers.to_vec() };
    if head.get("content-length").is_none() {
        head.headers.push(("Content-Length".into(), body.len().to_string()));
    }
    head.headers.push(("Connection".into(), "close".into()));
    head.write(to)?;
    if method != "HEAD" {
        to.write_all(body.as_bytes())?;
    }
    to.shutdown(Shutdown::Write)
}

pub fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

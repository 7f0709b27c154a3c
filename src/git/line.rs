//! The lines of git's protocol, and the interface of its transports (gitprotocol-common, "pkt-line Format").

use crate::model::bounds::git::LONGEST_LIST;
use crate::model::{Context, Error, Result, Size};
use std::io::{self, Read};

/// A transport: carries the protocol to a server and back.
pub trait Line {
    /// Reads the server's greeting, which comes before any request.
    ///
    /// # Errors
    /// Fails when the server cannot be reached, or has no such repository.
    fn greeting(&mut self) -> Result<&mut dyn Read>;

    /// Sends a request; the response can be read as it arrives.
    ///
    /// # Errors
    /// Fails when the server cannot be reached, or refuses the request.
    fn ask(&mut self, request: &str, version: Version) -> Result<&mut dyn Read>;
}

/// The version of the protocol that a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// The older protocol (gitprotocol-pack).
    First,
    /// Version 2 (gitprotocol-v2).
    Second,
}

/// Reads the lines up to the next mark.
pub fn lines(from: &mut dyn Read, shown: &str) -> Result<Vec<String>> {
    let (mut lines, mut length) = (Vec::new(), 0);
    loop {
        match Packet::read(from).context(|| format!("cannot read the answer of {shown}"))? {
            Packet::Mark => return Ok(lines),
            Packet::Line(line) if line.len() > LONGEST_LIST - length => return Err(endless(shown)),
            Packet::Line(line) => {
                // An empty line takes memory, too.
                length = (length + line.len() + size_of::<String>()).min(LONGEST_LIST);
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            }
            Packet::Refusal(said) => return Err(Error::new(format!("{shown} says: {said}"))),
        }
    }
}

/// The error for a server that sends more than any real one would.
pub fn endless(shown: &str) -> Error {
    Error::new(format!("{shown} does not stop sending: its answer is longer than {}", Size(LONGEST_LIST as u64)))
}

/// Frames a line for the protocol: its length comes first, in four digits that are included in it.
pub fn packet(line: &str) -> String {
    format!("{:04x}{line}\n", line.len() + 5)
}

/// A part of a response.
pub enum Packet {
    Line(Vec<u8>),
    /// The end of a section or of the response.
    Mark,
    Refusal(String),
}

impl Packet {
    /// Reads one packet.
    ///
    /// # Errors
    /// Fails when the bytes are not a packet, or when reading fails.
    pub fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = str::from_utf8(&length).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak git's protocol"))?;
        let Some(length) = length.checked_sub(4) else { return Ok(Self::Mark) };
        let mut line = vec![0; length];
        from.read_exact(&mut line)?;
        Ok(match line.strip_prefix(b"ERR ") {
            Some(said) => Self::Refusal(String::from_utf8_lossy(said).trim().to_owned()),
            None => Self::Line(line),
        })
    }
}

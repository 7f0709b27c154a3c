//! The lines of git's protocol, and what carries them (gitprotocol-common, "pkt-line Format").

use crate::model::bounds::git::LONGEST_LIST;
use crate::model::{Context, Error, Result, Size};
use std::io::{self, Read};

/// What carries the protocol to a server and back.
pub trait Line {
    /// What the server says of itself before it is asked.
    ///
    /// # Errors
    /// A server that cannot be reached, or has no such repository.
    fn greeting(&mut self) -> Result<&mut dyn Read>;

    /// Asks something; the answer is read as it comes.
    ///
    /// # Errors
    /// A server that cannot be reached, or refuses.
    fn ask(&mut self, request: &str, version: Version) -> Result<&mut dyn Read>;
}

/// Which of its versions a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// gitprotocol-pack.
    First,
    /// gitprotocol-v2.
    Second,
}

/// The lines up to the next mark.
pub fn lines(from: &mut dyn Read, shown: &str) -> Result<Vec<String>> {
    let (mut lines, mut length) = (Vec::new(), 0);
    loop {
        match Packet::read(from).context(|| format!("cannot read what {shown} answers"))? {
            Packet::Mark => return Ok(lines),
            Packet::Line(line) if line.len() > LONGEST_LIST - length => return Err(endless(shown)),
            Packet::Line(line) => {
                // A line of nothing takes its place, too.
                length = (length + line.len() + size_of::<String>()).min(LONGEST_LIST);
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            }
            Packet::Refusal(said) => return Err(Error::new(format!("{shown} says: {said}"))),
        }
    }
}

/// That a server says more than anybody needs.
pub fn endless(shown: &str) -> Error {
    Error::new(format!("{shown} does not come to an end: it says more than {}", Size(LONGEST_LIST as u64)))
}

/// A line as the protocol frames it: after its length, four digits that count themselves.
pub fn packet(line: &str) -> String {
    format!("{:04x}{line}\n", line.len() + 5)
}

/// What the protocol's answers are made of.
pub enum Packet {
    Line(Vec<u8>),
    /// The end of a part or of all.
    Mark,
    Refusal(String),
}

impl Packet {
    /// Reads one.
    ///
    /// # Errors
    /// What is none.
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

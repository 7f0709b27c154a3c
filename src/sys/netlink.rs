//! Netlink: one socket, messages that are built byte by byte, and batches that are sent at once.
//!
//! This module owns the wire format (netlink(7), include/uapi/linux/netlink.h). `network` knows what the
//! messages mean.

use super::check;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Message flags.
pub const REQUEST: u16 = 1;
pub const ACK: u16 = 4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const EXCLUSIVE: u16 = 0x200;
pub const APPEND: u16 = 0x800;

const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The part of the kernel that a socket talks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Route,
    /// nftables, with transactions: one failure ends the whole transaction.
    Netfilter,
    /// Connection tracking: the same protocol, but each message is independent of the others.
    Conntrack,
}

/// A sequence of messages that is sent at once.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    message: usize,
    acknowledged: Vec<u32>,
    sequence: u32,
}

impl Batch {
    /// Begins a message with its family's fixed header.
    pub fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.sequence += 1;
        self.message = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(header);
        self.pad();
        if flags & (ACK | DUMP) != 0 {
            self.acknowledged.push(self.sequence);
        }
        self.measure();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn measure(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.message).unwrap_or(u32::MAX);
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self.measure();
    }

    /// Adds a text attribute, terminated by NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Adds a number in the host's byte order (route netlink).
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a number in network byte order (netfilter).
    pub fn network_number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds attributes inside an attribute.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.measure();
    }

    /// Adds bytes that are not an attribute, such as a fixed header inside a nested message.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.pad();
        self.measure();
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A message that the kernel sent back.
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

impl Message {
    /// The attributes after a fixed header of the given length.
    pub fn attributes(&self, header: usize) -> Vec<(u16, &[u8])> {
        attributes(self.body.get(header..).unwrap_or_default())
    }
}

/// Parses the attributes in a byte slice.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & !NESTED;
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((kind, &bytes[4..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The messages that came back, and the failures, each with the number of the message that failed.
pub type Exchange = (Vec<Message>, Vec<(u32, io::Error)>);

/// A netlink socket.
pub struct Netlink {
    fd: OwnedFd,
    family: Family,
}

impl Netlink {
    /// Opens a socket in this network namespace.
    ///
    /// # Errors
    /// Fails when `socket(2)` fails.
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter | Family::Conntrack => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // All answers to a transaction must fit into the buffer: there is one acknowledgement per message.
        let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::SndBuf, &(4 << 20));
        let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::RcvBuf, &(4 << 20));
        Ok(Self { fd, family })
    }

    /// Sends a batch and collects the answers until each message that asks for an acknowledgement has one.
    ///
    /// # Errors
    /// Returns the kernel's error for the first message that failed.
    pub fn send(&self, batch: &Batch) -> io::Result<Vec<Message>> {
        let (messages, failures) = self.exchange(batch)?;
        match failures.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(messages),
        }
    }

    /// Like [`send`](Self::send), but reports every message that failed with its number, counted from 1.
    ///
    /// # Errors
    /// Fails when `send(2)` or `recv(2)` fails.
    pub fn exchange(&self, batch: &Batch) -> io::Result<Exchange> {
        // SAFETY: the buffer has the length that is passed.
        check(unsafe { libc::send(self.fd.as_raw_fd(), batch.bytes.as_ptr().cast(), batch.bytes.len(), 0) } as libc::c_long)?;
        let mut waiting = batch.acknowledged.clone();
        let (mut messages, mut failures) = (Vec::new(), Vec::new());
        let mut buffer = vec![0u8; 64 << 10];
        while !waiting.is_empty() {
            // SAFETY: the buffer has the length that is passed.
            let length =
                check(unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) } as libc::c_long)?;
            let mut rest = &buffer[..usize::try_from(length).unwrap_or(0)];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let sequence = u32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]]);
                if length < 16 || length > rest.len() {
                    break;
                }
                let body = &rest[16..length];
                match kind {
                    ERROR => {
                        // A message too short to hold an error code counts as an error.
                        let code = body.first_chunk().map_or(-libc::EBADMSG, |code| i32::from_ne_bytes(*code));
                        waiting.retain(|waiting| *waiting != sequence);
                        if code != 0 {
                            failures.push((sequence, io::Error::from_raw_os_error(-code)));
                        }
                    }
                    DONE => waiting.retain(|waiting| *waiting != sequence),
                    _ => messages.push(Message { kind, body: body.to_vec() }),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            // After a failure in an nftables transaction the kernel may not answer the remaining messages.
            if !failures.is_empty() && self.family == Family::Netfilter {
                break;
            }
        }
        Ok((messages, failures))
    }
}

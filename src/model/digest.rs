//! SHA-256 digests: they identify every file, layer, step and plan.

use super::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, BufWriter, Read};

/// A SHA-256 digest, written as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a value's canonical JSON; every type that is used here serialises its maps in a fixed order.
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut out = BufWriter::with_capacity(16 << 10, Hasher::default());
        // Serialisation must not fail silently: two different values would get the same digest.
        let written = serde_json::to_writer(&mut out, value);
        match out.into_inner() {
            Ok(hasher) if written.is_ok() => hasher.finish(),
            _ => unreachable!("a value without a canonical JSON: {written:?}"),
        }
    }

    /// Parses a digest with its algorithm in front, as in descriptors (image-spec, descriptor.md).
    ///
    /// # Errors
    /// Fails for anything but a SHA-256 digest.
    pub fn named(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
        hex.and_then(Self::parse)
            .ok_or_else(|| Error::new(format!("{text:?} is not a SHA-256 digest, and no other kind is supported")))
    }

    /// Parses 64 hexadecimal characters, with or without the `sha256:` prefix.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.chunks(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Self(out))
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All 64 hexadecimal characters.
    pub fn hex(&self) -> String {
        str::from_utf8(&self.digits()).unwrap_or_default().to_owned()
    }

    fn digits(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|at| {
            let byte = self.0[at / 2];
            DIGITS[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
        })
    }

    /// The first `length` hexadecimal characters, for people and for kernel objects whose names must be short.
    pub fn short(&self, length: usize) -> String {
        self.hex()[..length.min(64)].to_owned()
    }

    /// The digest of a whole stream, however long it is.
    ///
    /// # Errors
    /// Fails when the stream cannot be read.
    pub fn of_stream(mut from: impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The first eight bytes as a number, for choices that must be stable (addresses, ports).
    pub fn number(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().unwrap_or_default())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", self.short(12))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        text[7..].copy_from_slice(&self.digits());
        serializer.serialize_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a sha256 digest"))
    }
}

/// A SHA-256 computation in progress.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The state of the computation, from which [`resume`](Self::resume) goes on.
    pub fn state(&self) -> String {
        self.0.serialize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Goes on from a state; `None` if the text is none.
    pub fn resume(state: &str) -> Option<Self> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let pairs = state.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| match pair {
                [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
                _ => None,
            })
            .collect();
        let state = SerializedState::<Sha256>::try_from(bytes?.as_slice()).ok()?;
        Sha256::deserialize(&state).ok().map(Self)
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

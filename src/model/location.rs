//! Positions in the project's files.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A span of text in one of the project's files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Location {
    /// The file, relative to the project's directory.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The offset of the first byte.
    pub offset: usize,
    /// The length in bytes.
    pub length: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

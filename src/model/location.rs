//! Where in the project's files something was written.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stretch of text in one of the project's files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Location {
    /// The file, relative to the project's directory.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// First byte.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

//! Edits: new texts for ranges, as code actions, rename and the like propose them.

use super::project::Spot;
use std::ops::Range;

/// A new text for a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    pub spot: Spot,
    pub text: String,
}

impl Edit {
    pub fn new(file: &str, range: Range<usize>, text: impl Into<String>) -> Self {
        Self { spot: Spot { file: file.to_owned(), range }, text: text.into() }
    }
}

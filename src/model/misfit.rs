//! A value that is not acceptable, explained to the person who wrote it.

/// What is wrong with a value, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    pub message: String,
    pub help: &'static str,
}

impl Misfit {
    pub fn new(message: impl Into<String>, help: &'static str) -> Self {
        Self { message: message.into(), help }
    }
}

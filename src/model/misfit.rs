//! A value that does not fit, for whoever wrote it.

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

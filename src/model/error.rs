//! Errors at runtime: what failed, why, and what to do about it.

use super::Location;
use std::borrow::Cow;
use std::{error, fmt};

/// The kind of an error: callers match on it, and never on the message. An outer layer has the kind of its cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ErrorKind {
    #[default]
    Failed,
    /// What the user typed is not understood.
    Usage,
    /// The requested thing does not exist.
    Absent,
    /// Nothing listens at the address.
    Unreachable,
    /// Bytes do not match their digest.
    Damaged,
    /// The other side has forgotten an operation in progress; it may be started again.
    Forgotten,
    /// The other side refuses it, and a retry would not help.
    Refused,
    /// A program ended with this status.
    Status(u8),
}

impl ErrorKind {
    /// The exit code of a command that ends with it.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Absent => 4,
            Self::Status(code) => code,
            Self::Failed | Self::Unreachable | Self::Damaged | Self::Forgotten | Self::Refused => 1,
        }
    }
}

/// An error. Its text describes only its own layer; causes come through `source`.
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
    hint: Option<String>,
    kind: ErrorKind,
    /// Where in the project's files its cause is.
    location: Option<Box<Location>>,
    /// Other errors that were found along with it.
    beside: Vec<Error>,
}

/// The result type of all rooms.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, kind: ErrorKind::Failed, location: None, beside: Vec::new() }
    }

    /// An error with its cause; it is of the same kind.
    pub fn caused(message: impl Into<String>, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let kind = source.downcast_ref::<Self>().map_or(ErrorKind::Failed, Self::kind);
        Self { source: Some(source), kind, ..Self::new(message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets where in the project's files its cause is, if that is known.
    #[must_use]
    pub fn at(mut self, location: Option<&Location>) -> Self {
        self.location = location.cloned().map(Box::new);
        self
    }

    /// Combines several errors into one: the first, with the others attached.
    ///
    /// # Errors
    /// Fails if the list is not empty.
    pub fn all(errors: Vec<Self>) -> Result<()> {
        // Each may have others attached already.
        let mut errors = errors.into_iter().flat_map(|mut error| {
            let beside = std::mem::take(&mut error.beside);
            std::iter::once(error).chain(beside)
        });
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(Self { beside: errors.collect(), ..first }),
        }
    }

    /// Where in the project's files its cause is.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }

    /// This error, and those that were found along with it.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// The message of its own layer, without the location.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Sets the kind.
    #[must_use]
    pub fn of(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Marks it as an error in what the user typed.
    #[must_use]
    pub fn usage(self) -> Self {
        self.of(ErrorKind::Usage)
    }

    /// Sets the status that a program ended with; the command ends with the same one.
    #[must_use]
    pub fn status(self, code: u8) -> Self {
        self.of(ErrorKind::Status(code))
    }

    /// What to do about it, from the outermost layer that has a hint.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| {
            let source: &(dyn error::Error + 'static) = self.source.as_deref()?;
            source.downcast_ref::<Self>().and_then(Self::advice)
        })
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code of a command that ends with it.
    pub fn code(&self) -> u8 {
        self.kind.code()
    }

    /// All layers in one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&in_words(&error.to_string()));
            source = error.source();
        }
        text
    }
}

/// A message without the numbers that the standard library adds to those of the system: "(os error 2)" helps nobody.
pub fn in_words(message: &str) -> Cow<'_, str> {
    const MARK: &str = " (os error ";
    if !message.contains(MARK) {
        return Cow::Borrowed(message);
    }
    let mut out = String::with_capacity(message.len());
    let mut parts = message.split(MARK);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => out.push_str(rest),
            _ => {
                out.push_str(MARK);
                out.push_str(part);
            }
        }
    }
    Cow::Owned(out)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&in_words(&self.message))
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn error::Error + 'static))
    }
}

/// Adds a layer to an error.
pub trait Context<T> {
    /// Says what was being done when it failed.
    ///
    /// # Errors
    /// The error with that layer around it.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn error::Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::caused(message(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_system_errors_are_left_out() {
        for (text, wanted) in [
            ("No such file (os error 2)", "No such file"),
            ("a (os error 2): b (os error 13) c", "a: b c"),
            ("plain", "plain"),
            ("x (os error two) (os error 1", "x (os error two) (os error 1"),
        ] {
            assert_eq!(in_words(text), wanted);
        }
        assert_eq!(in_words(&" (os error 1)".repeat(1_000_000)), "", "however many there are");
    }
}

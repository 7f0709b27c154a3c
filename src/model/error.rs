//! Errors about the machine: what failed, why, and what to type.

use super::Location;
use std::{error, fmt};

/// What sort of thing failed: callers match on it, and never on words. An outer layer is of the kind of its cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ErrorKind {
    #[default]
    Failed,
    /// What somebody typed is not understood.
    Usage,
    /// What was asked for is not there.
    Absent,
    /// Nobody listens there.
    Unreachable,
    /// Bytes are not those that their digest means.
    Damaged,
    /// The other side has forgotten what was begun; it may be begun again.
    Forgotten,
    /// The other side does not take it, and will not the next time.
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

/// Something that failed. Its text says only its own layer; causes come through `source`.
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
    hint: Option<String>,
    kind: ErrorKind,
    /// Where in the project's files its cause stands.
    location: Option<Box<Location>>,
    /// What else was found on the same way.
    beside: Vec<Error>,
}

/// What the rooms return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A error without a deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, kind: ErrorKind::Failed, location: None, beside: Vec::new() }
    }

    /// A error with its cause; it is of the same kind.
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

    /// Says where in the project's files its cause stands, if that is known.
    #[must_use]
    pub fn at(mut self, location: Option<&Location>) -> Self {
        self.location = location.cloned().map(Box::new);
        self
    }

    /// One error of several that were found: the first, with the others beside it.
    ///
    /// # Errors
    /// If there is any.
    pub fn all(errors: Vec<Self>) -> Result<()> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(Self { beside: errors.collect(), ..first }),
        }
    }

    /// Where in the project's files its cause stands.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }

    /// It, and what else was found on the same way.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// Its own layer's words, without the location.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says what sort of thing failed.
    #[must_use]
    pub fn of(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Says that what somebody typed is not understood.
    #[must_use]
    pub fn usage(self) -> Self {
        self.of(ErrorKind::Usage)
    }

    /// Says with which status a program ended; the command ends with it, too.
    #[must_use]
    pub fn status(self, code: u8) -> Self {
        self.of(ErrorKind::Status(code))
    }

    /// What to do about it, from the outermost layer that knows.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| {
            let source: &(dyn error::Error + 'static) = self.source.as_deref()?;
            source.downcast_ref::<Self>().and_then(Self::advice)
        })
    }

    /// What sort of thing failed.
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
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
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

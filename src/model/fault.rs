//! Errors about the machine: what failed, why, and what to type.

use super::Place;
use std::error::Error;
use std::fmt;

/// What sort of thing failed: callers match on it, and never on words. An outer layer is of the kind of its cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FaultKind {
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

impl FaultKind {
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
pub struct Fault {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    kind: FaultKind,
    /// Where in the project's files its cause stands.
    place: Option<Box<Place>>,
    /// What else was found on the same way.
    beside: Vec<Fault>,
}

/// What machine rooms return.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault without a deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, kind: FaultKind::Failed, place: None, beside: Vec::new() }
    }

    /// A fault with its cause; it is of the same kind.
    pub fn caused(message: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        let kind = source.downcast_ref::<Self>().map_or(FaultKind::Failed, Self::kind);
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
    pub fn at(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned().map(Box::new);
        self
    }

    /// One fault of several that were found: the first, with the others beside it.
    ///
    /// # Errors
    /// If there is any.
    pub fn all(faults: Vec<Self>) -> Outcome<()> {
        let mut faults = faults.into_iter();
        match faults.next() {
            None => Ok(()),
            Some(first) => Err(Self { beside: faults.collect(), ..first }),
        }
    }

    /// Where in the project's files its cause stands.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// It, and what else was found on the same way.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// Its own layer's words, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says what sort of thing failed.
    #[must_use]
    pub fn of(self, kind: FaultKind) -> Self {
        Self { kind, ..self }
    }

    /// Says that what somebody typed is not understood.
    #[must_use]
    pub fn usage(self) -> Self {
        self.of(FaultKind::Usage)
    }

    /// Says with which status a program ended; the command ends with it, too.
    #[must_use]
    pub fn status(self, code: u8) -> Self {
        self.of(FaultKind::Status(code))
    }

    /// What to do about it, from the outermost layer that knows.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| {
            let source: &(dyn Error + 'static) = self.source.as_deref()?;
            source.downcast_ref::<Self>().and_then(Self::advice)
        })
    }

    /// What sort of thing failed.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The exit code of a command that ends with it.
    pub fn code(&self) -> u8 {
        self.kind.code()
    }

    /// All layers in one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Adds a layer to an error.
pub trait Context<T> {
    /// Says what was being done when it failed.
    ///
    /// # Errors
    /// The error with that layer around it.
    fn doing(self, message: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn doing(self, message: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Fault::caused(message(), error))
    }
}

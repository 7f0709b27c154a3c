//! Errors about the machine: what failed, why, and what to type.

use std::error::Error;
use std::fmt;

/// Something that failed. Its text says only its own layer; causes come through `source`.
#[derive(Debug)]
pub struct Fault {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    code: u8,
}

/// What machine rooms return.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault without a deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, code: 1 }
    }

    /// A fault with its cause.
    pub fn caused(message: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code of the command that ends with it.
    #[must_use]
    pub fn exit(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What to do about it, from the outermost layer that knows.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| {
            let source: &(dyn Error + 'static) = self.source.as_deref()?;
            source.downcast_ref::<Self>().and_then(Self::advice)
        })
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// All layers in one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
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
        self.map_err(|error| {
            let source = error.into();
            let code = source.downcast_ref::<Fault>().map_or(1, Fault::code);
            Fault::caused(message(), source).exit(code)
        })
    }
}

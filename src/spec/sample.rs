//! A project from a text in memory, for the tests of all rooms.

use super::{Choices, Sources, load};
use crate::project::Project;

/// A project file that is the only file there is; no variable is set.
struct Text<'a>(&'a str);

impl Sources for Text<'_> {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

/// The project that a text describes; a text with errors ends the test.
pub fn project_of(text: &str) -> Project {
    let loaded = load("stead.kdl", &Choices::default(), &Text(text));
    loaded.project.unwrap_or_else(|_| panic!("the text has errors: {:?}", loaded.diagnostics))
}

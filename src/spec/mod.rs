//! The language: text of project files → a typed [`Project`], and everything wrong with it.
//!
//! The face is [`load`]. It is pure: files come through [`Sources`], which the caller implements.
//! The road inside: `tree` reads the syntax, `assemble` puts includes, parameters and profiles
//! together, `grammar` (with the rows of `language`) checks the structure, `decode` makes values,
//! `cross` checks what spans several nodes; `dockerfile` makes images of Dockerfiles.

mod assemble;
mod convert;
mod cross;
mod decode;
mod diagnose;
mod dockerfile;
mod grammar;
mod language;
mod reference;
mod secret;
mod tree;

pub use assemble::tidy;
pub use convert::{kdl, text};
pub use decode::container_of;
pub use diagnose::{Diagnostic, Severity, has_errors};
pub use reference::{reference, schema};

use crate::project::{Locations, Outside, Project};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the text of project files and outside values come from.
pub trait Sources {
    /// The text of a file, by its path relative to the project's directory.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&self, path: &str) -> Result<String, String>;
    /// What tells a file from all others, however its path is written.
    fn identity(&self, path: &str) -> String {
        assemble::tidy(path)
    }
    /// An environment variable that a `param` names, which may hold any bytes.
    fn env(&self, name: &str) -> Option<std::ffi::OsString>;
    /// What an image that is made elsewhere gives whoever starts from it; nothing where it is not known yet.
    fn outside(&self, _: &Outside) -> Option<Inherited> {
        None
    }
}

/// What an image gives whoever starts from it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inherited {
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub shell: Vec<String>,
    pub onbuild: Vec<String>,
}

/// What the command line chose.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Choices {
    /// Active profiles.
    pub profiles: Vec<String>,
    /// Parameters set by `--set name=value`.
    pub set: BTreeMap<String, String>,
}

/// What reading a project gives.
#[derive(Debug)]
pub struct Loaded {
    /// The project; what could be understood of it, when any error was found.
    pub project: Result<Project, Project>,
    pub places: Locations,
    /// Every finding, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Nodes that are understood and not carried out yet; `up` refuses them.
    pub unsupported: Vec<Diagnostic>,
    /// The files that were read, with their text.
    pub files: BTreeMap<String, String>,
    /// Environment variables that were asked for, with what they were.
    pub env: BTreeMap<String, Option<String>>,
    /// What images that are made elsewhere give to Dockerfiles that start from them, where that is known.
    pub outside: BTreeMap<Outside, Option<Inherited>>,
}

/// Reads a project: its file, what that includes, with parameters and profiles applied.
pub fn load(file: &str, choices: &Choices, sources: &dyn Sources) -> Loaded {
    let mut sink = diagnose::Sink::default();
    let assembled = assemble::assemble(file, choices, sources, &mut sink);
    let mut later = diagnose::Sink::default();
    let (mut project, mut places, requests) = decode::project(file, &assembled, &mut sink, &mut later);
    let mut files = assembled.files;
    let outside = dockerfile::expand(requests, &mut project, &mut places, sources, &mut files, &mut sink).known;
    // What is not known may be declared in what could not be read.
    if !sink.is_partial() {
        cross::check(&project, &places, &assembled.unused_profiles, &mut sink);
    }
    let diagnostics = sink.finish();
    let project = if has_errors(&diagnostics) { Err(project) } else { Ok(project) };
    Loaded { project, places, diagnostics, unsupported: later.finish(), files, env: assembled.env, outside }
}

#[cfg(test)]
mod tests;

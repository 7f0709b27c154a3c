//! The language: text of project files → a typed [`Project`], and everything that is wrong with it.
//!
//! The entry point is [`load`]. It is pure: files come through [`Sources`], which the caller implements.
//! Inside, `tree` parses the syntax, `assemble` puts the files together (`include`, `overlay`, `params`, `substitute`,
//! `template`), `grammar` (with the rows of `language`) checks the structure, `decode` makes typed values, `cross` checks
//! what spans several nodes, and `dockerfile` turns Dockerfiles into images. `format` and `edit` change texts, and `resolved`
//! writes a project as it is when everything is put together.

mod assemble;
mod convert;
mod cross;
mod decode;
mod diagnose;
mod dockerfile;
mod edit;
mod format;
mod grammar;
mod include;
mod kdl_schema;
mod language;
mod overlay;
mod params;
mod paths;
mod reference;
mod resolved;
#[cfg(test)]
mod sample;
mod substitute;
mod template;
mod tree;

pub use convert::{kdl, text};
pub use decode::container_of;
pub use diagnose::{Diagnostic, Severity, has_errors};
pub use edit::{Edit, NewContainer, add_container, add_packages, set};
pub use format::format;
pub use kdl_schema::kdl_schema;
pub use paths::tidy;
pub use reference::{kind_text, reference, schema};
pub use resolved::Origins;
#[cfg(test)]
pub use sample::project_of;
pub use tree::Memory;

/// The grammar, for those who need to know what may be written where.
pub mod table {
    pub use super::grammar::{Kind, Node, Prop, row};
    pub use super::language::TOP;
}

use crate::project::{Locations, Outside, Project};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the text of project files and values from outside come from.
pub trait Sources {
    /// The text of a file, by its path relative to the project's directory.
    ///
    /// # Errors
    /// A sentence saying why the file cannot be read.
    fn read(&self, path: &str) -> Result<String, String>;
    /// Identifies a file, however its path is written.
    fn identity(&self, path: &str) -> String {
        paths::tidy(path)
    }
    /// An environment variable that a `param` names; it may hold any bytes.
    fn env(&self, name: &str) -> Option<std::ffi::OsString>;
    /// The variables of the file `.env` in the project's directory; none if there is no such file.
    ///
    /// # Errors
    /// A sentence saying why it cannot be read or understood.
    fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        Ok(BTreeMap::new())
    }
    /// What was parsed before, if somebody keeps it.
    fn memory(&self) -> Option<&Memory> {
        None
    }
    /// What images inherit that start from an image from elsewhere; `None` while that is not known yet.
    fn outside(&self, _: &Outside) -> Option<Inherited> {
        None
    }
}

/// What an image inherits from its base image.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inherited {
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub shell: Vec<String>,
    pub onbuild: Vec<String>,
}

/// What was chosen on the command line.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Choices {
    /// Further project files, each laid over those before it.
    #[serde(default)]
    pub files: Vec<String>,
    /// The active profiles, each laid over those before it.
    pub profiles: Vec<String>,
    /// The parameters set by `--set name=value`.
    pub set: BTreeMap<String, String>,
}

/// The result of reading a project.
#[derive(Debug)]
pub struct Loaded {
    /// The project, or as much of it as could be understood if there are errors.
    pub project: Result<Project, Project>,
    pub places: Locations,
    /// Every finding, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Nodes that are understood but not implemented yet; `up` refuses them.
    pub unsupported: Vec<Diagnostic>,
    /// The files that were read, with their text.
    pub files: BTreeMap<String, String>,
    /// The environment variables that were read, with their values.
    pub env: BTreeMap<String, Option<String>>,
    /// The variables that were looked for in `.env`, with their values.
    pub settings: BTreeMap<String, Option<String>>,
    /// What Dockerfiles inherit from images from elsewhere, if that is known.
    pub outside: BTreeMap<Outside, Option<Inherited>>,
}

/// The texts of a project's files, as far as they can be read, and what is wrong with their syntax.
#[derive(Debug)]
pub struct Texts {
    pub files: BTreeMap<String, String>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the texts of a project: its files and those that they include.
pub fn texts(file: &str, choices: &Choices, sources: &dyn Sources) -> Texts {
    let mut sink = diagnose::Sink::default();
    let files = assemble::texts(file, choices, sources, &mut sink);
    Texts { files, diagnostics: sink.finish() }
}

/// What is wrong with the syntax of a text.
pub fn syntax(file: &str, text: &str) -> Vec<Diagnostic> {
    let mut sink = diagnose::Sink::default();
    tree::parse(file, text, &mut sink);
    sink.finish()
}

/// A project as it is when its files, profiles, parameters and templates are put together, as text, with what is wrong with it.
pub fn resolved(file: &str, choices: &Choices, sources: &dyn Sources, origins: Origins) -> (String, Loaded) {
    let assembled = assemble::assemble(file, choices, sources, &mut diagnose::Sink::default());
    let text = resolved::written(&assembled.nodes, assembled.values.sources.iter(), &choices.profiles, origins);
    (text, load(file, choices, sources))
}

/// Reads a project: its files and what they include, with profiles, parameters and templates applied.
pub fn load(file: &str, choices: &Choices, sources: &dyn Sources) -> Loaded {
    let mut sink = diagnose::Sink::default();
    let assembled = assemble::assemble(file, choices, sources, &mut sink);
    let mut later = diagnose::Sink::default();
    let (mut project, mut places, requests) = decode::project(file, &assembled, &mut sink, &mut later);
    let mut files = assembled.files;
    let outside = dockerfile::expand(requests, &mut project, &mut places, sources, &mut files, &mut sink).known;
    // After a syntax error, a name that seems unknown may be declared in the part that could not be read.
    if !sink.is_partial() {
        cross::check(&project, &places, &assembled.unused_profiles, &mut sink);
    }
    let mut diagnostics = sink.finish();
    // What is wrong in a template is wrong for whoever uses it.
    for found in diagnostics.iter_mut().filter(|found| found.other.is_none()) {
        let used = assembled.uses.iter().find(|used| used.has(&found.place));
        found.other = used.map(|used| (used.place.clone(), format!("the template \"{}\" is used here", used.template)));
    }
    let project = if has_errors(&diagnostics) { Err(project) } else { Ok(project) };
    let params::Values { env, settings, .. } = assembled.values;
    Loaded { project, places, diagnostics, unsupported: later.finish(), files, env, settings, outside }
}

#[cfg(test)]
mod reuse_tests;
#[cfg(test)]
mod tests;

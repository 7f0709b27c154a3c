//! A project as an editor shows it: with texts that are not saved yet.

use super::project::{Disk, Options, exists, with_facts};
use crate::model::Result;
use crate::project::Outside;
use crate::spec::{self, Inherited, Loaded, Memory, Sources};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

/// What an editor has and the disk does not: texts that are not saved yet, by their tidy paths relative to the project's
/// directory; and what was parsed before.
#[derive(Default)]
pub struct Unsaved {
    pub texts: BTreeMap<String, Arc<str>>,
    pub memory: Memory,
}

/// The files of a project as an editor shows them.
struct Shown<'a> {
    disk: Disk<'a>,
    unsaved: &'a Unsaved,
}

impl Sources for Shown<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        match self.unsaved.texts.get(&spec::tidy(path)) {
            Some(text) => Ok(text.to_string()),
            None => self.disk.read(path),
        }
    }

    fn identity(&self, path: &str) -> String {
        self.disk.identity(path)
    }

    fn env(&self, name: &str) -> Option<OsString> {
        self.disk.env(name)
    }

    fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        self.disk.settings()
    }

    fn memory(&self) -> Option<&Memory> {
        Some(&self.unsaved.memory)
    }

    fn outside(&self, outside: &Outside) -> Option<Inherited> {
        self.disk.outside(outside)
    }
}

/// As [`findings`], with the texts of an editor in place of the files that they will be saved to.
///
/// # Errors
/// Fails when there is no project file.
pub fn findings_among(options: &Options, unsaved: &Unsaved) -> Result<Loaded> {
    if !unsaved.texts.contains_key(&spec::tidy(&options.file)) {
        exists(options)?;
    }
    let instance = options.instance();
    let shown = Shown { disk: Disk::new(options, &instance)?, unsaved };
    Ok(with_facts(spec::load(&options.file, &options.choices, &shown), options))
}

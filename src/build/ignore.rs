//! Ignore files, which list what is not copied.

use crate::model::{Pattern, bounds, text_of};
use crate::project::BuildContext;
use crate::sys::{ProjectFiles, Unread};
use std::path::Path;

/// Patterns of `.steadignore` and `.dockerignore`, in order; the last pattern that matches decides.
#[derive(Debug, Default)]
pub struct Ignore {
    patterns: Vec<(bool, Pattern)>,
    pub has_exceptions: bool,
}

impl Ignore {
    /// Reads a directory's own ignore files.
    ///
    /// # Errors
    /// Fails when an ignore file exists but cannot be read: what it would have left out must not be copied.
    pub fn read(files: &ProjectFiles) -> Result<Self, String> {
        let mut ignore = Self::default();
        for name in [".dockerignore", ".steadignore"] {
            ignore.file(files, name)?;
        }
        Ok(ignore)
    }

    /// Reads the ignore file of a Dockerfile's context: the file beside the Dockerfile, or else the context's own.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn of(folder: &Path, context: Option<&BuildContext>) -> Result<Self, String> {
        let files = ProjectFiles::at(folder).map_err(|error| format!("cannot open the project's directory: {error}"))?;
        let Some(context) = context else { return Self::read(&files) };
        let mut ignore = Self::default();
        if !ignore.file(&files, &context.ignore)? {
            ignore.file(&files, format!("{}/.dockerignore", context.folder).trim_start_matches('/'))?;
        }
        Ok(ignore)
    }

    /// Adds the patterns of a file; returns whether the file exists.
    fn file(&mut self, files: &ProjectFiles, name: &str) -> Result<bool, String> {
        let bytes = match files.own(name, bounds::IGNORE_FILE) {
            Ok(bytes) => bytes,
            Err(Unread::Absent) => return Ok(false),
            Err(why) => return Err(format!("cannot read {name}, and so nothing is copied: {why}")),
        };
        self.add(name, &text_of(name, bytes)?)?;
        Ok(true)
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let before = self.patterns.len();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() > bounds::PATTERN {
                return Err(format!("{name}:{}: a pattern has at most {} bytes", number + 1, bounds::PATTERN));
            }
            if self.patterns.len() - before >= bounds::IGNORE_PATTERNS {
                let most = bounds::IGNORE_PATTERNS;
                return Err(format!("{name}:{}: an ignore file has at most {most} patterns", number + 1));
            }
            let (hides, pattern) = line.strip_prefix('!').map_or((true, line), |pattern| (false, pattern.trim_start()));
            self.has_exceptions |= !hides;
            self.patterns.push((hides, Pattern::new(pattern.trim_matches('/').trim_start_matches("./"))));
        }
        Ok(())
    }

    /// Whether a path is ignored, itself or by one of its parent directories.
    pub fn hides(&self, path: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let prefixes: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let mut hidden = false;
        for (hides, pattern) in &self.patterns {
            if prefixes.iter().any(|prefix| pattern.matches(prefix)) {
                hidden = *hides;
            }
        }
        hidden
    }
}

//! Changes project files: each is replaced whole or not at all, keeps its mode and owner, and stays what somebody else made
//! of it in the meantime.

use crate::instance::{LoadError, Options, findings_if};
use crate::model::{Context, Error, Result, bounds};
use crate::spec::{Edit, has_errors};
use crate::sys::{self, Opened, ProjectFiles, Unread, open_regular, up_to};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

/// A text that was read from a file, which it may be written to again.
#[derive(Debug)]
pub struct Written {
    file: File,
    pub name: String,
    pub text: String,
}

impl Written {
    /// Opens a file that the user named, wherever it is.
    ///
    /// # Errors
    /// Fails when it cannot be read, or is no text.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path.display().to_string(), open_regular(path))
    }

    /// Opens one of the files that a project was read from.
    ///
    /// # Errors
    /// Fails when it cannot be read, is no text, or leads out of the project's directory.
    pub fn of_project(options: &Options, path: &str) -> Result<Self> {
        if options.is_named(path) {
            return Self::read(path.to_owned(), open_regular(&options.folder.join(path)));
        }
        let opened = ProjectFiles::at(&options.folder).map_err(Unread::from).and_then(|files| match files.open(path)? {
            Opened::File(file) => Ok(file),
            Opened::Folder(_) => Err(Unread::Folder),
        });
        Self::read(path.to_owned(), opened)
    }

    fn read(name: String, opened: Result<File, Unread>) -> Result<Self> {
        let read = opened.and_then(|file| up_to(&file, bounds::PROJECT_FILE).map(|bytes| (file, bytes)));
        let (file, bytes) = read.context(|| format!("cannot read {name}"))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::new(format!("{name} is not UTF-8 (byte {})", error.utf8_error().valid_up_to())))?;
        Ok(Self { file, name, text })
    }

    /// Writes another text.
    ///
    /// # Errors
    /// Fails when the file has been changed since it was read, or cannot be replaced; then it stays as it is.
    pub fn replace(&self, text: &str) -> Result<()> {
        let failed = || format!("cannot write {}", self.name);
        (&self.file).seek(SeekFrom::Start(0)).context(failed)?;
        if up_to(&self.file, bounds::PROJECT_FILE).context(failed)? != self.text.as_bytes() {
            return Err(Error::new(format!("{} was changed while this command ran, and is left alone", self.name)));
        }
        sys::rewrite(&self.file, text.as_bytes()).context(failed)
    }
}

/// What a change of a project file came to.
#[derive(Debug)]
pub enum Applied {
    /// It is so already.
    Unchanged,
    /// The file's text before and after it.
    Done { before: String, after: String },
}

/// Writes a change, if the project is valid with it.
///
/// # Errors
/// Reports everything that would be wrong with the project; then nothing is written.
pub fn apply(options: &Options, edit: &Edit) -> Result<Applied, LoadError> {
    let written = Written::of_project(options, &edit.file)?;
    if written.text == edit.text {
        return Ok(Applied::Unchanged);
    }
    let found = findings_if(options, &BTreeMap::from([(edit.file.clone(), edit.text.clone())]))?;
    if has_errors(&found.diagnostics) {
        return Err(LoadError::Wrong(found.diagnostics, found.files));
    }
    written.replace(&edit.text)?;
    Ok(Applied::Done { before: written.text, after: edit.text.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_somebody_else_wrote_in_the_meantime_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.kdl");
        fs::write(&path, "a").unwrap();
        let read = Written::open(&path).unwrap();
        fs::write(&path, "b").unwrap();
        assert!(read.replace("c").unwrap_err().to_string().contains("was changed"));
        // An editor puts another file in its place.
        let read = Written::open(&path).unwrap();
        fs::write(folder.path().join("new"), "b").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(read.replace("c").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        Written::open(&path).unwrap().replace("c").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "c");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Written::open(&path).unwrap_err().chain().contains("a FIFO"));
    }
}

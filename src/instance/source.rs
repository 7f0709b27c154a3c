//! Where the files are read that a project names: in its directory, or in a checkout of another commit.
//!
//! A path that leads out of the directory means the same file of this machine in both cases. Secrets and env-files are rarely in
//! commits: those that the commit does not have are read from the directory.

use super::identity::Instance;
use super::project::project_files;
use crate::model::Result;
use crate::sys::{ProjectFiles, Unread};
use std::path::{Component, Path};

/// The files of a project.
pub struct SourceFiles {
    files: ProjectFiles,
    /// The project's directory, if the files are those of another commit.
    directory: Option<ProjectFiles>,
}

impl SourceFiles {
    /// The files of an instance.
    ///
    /// # Errors
    /// Fails when a directory cannot be opened.
    pub fn of(instance: &Instance) -> Result<Self> {
        let directory = instance.checkout.as_ref().map(|_| project_files(&instance.folder)).transpose()?;
        Ok(Self { files: project_files(instance.source())?, directory })
    }

    /// Reads a file that the project passes on, as [`ProjectFiles::named`] does.
    ///
    /// # Errors
    /// Returns the reason why it cannot be read.
    pub fn named(&self, path: &str, limit: u64) -> Result<Vec<u8>, Unread> {
        match &self.directory {
            Some(directory) if !is_own(path) => directory.named(path, limit),
            _ => self.files.named(path, limit),
        }
    }

    /// The same for a file of this kind, which may be one that is not kept in commits.
    ///
    /// # Errors
    /// Returns the reason why it cannot be read.
    pub fn of_kind(&self, kind: &str, path: &str, limit: u64) -> Result<Vec<u8>, Unread> {
        match (self.named(path, limit), &self.directory) {
            (Err(Unread::Absent), Some(directory)) if kind != "config" => directory.named(path, limit),
            (read, _) => read,
        }
    }
}

/// Whether a path stays in the project's directory, as it is written.
fn is_own(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::super::identity::Checkout;
    use super::*;
    use crate::store::Home;
    use std::fs;

    #[test]
    fn what_commits_do_not_have_is_read_from_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let (folder, commit) = (place.path().join("project"), place.path().join("elsewhere/commit"));
        for (path, text) in [
            (folder.join("both"), "now"),
            (folder.join("new"), "new"),
            (place.path().join("outside"), "machine"),
            (commit.join("both"), "then"),
            (commit.join("../outside"), "no"),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut instance = Instance::new(&Home::find(Some(&place.path().join("root"))), &folder, "stead.kdl");
        let read = |instance: &Instance, kind: &str, path: &str| {
            let files = SourceFiles::of(instance).unwrap();
            files.of_kind(kind, path, 100).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
        };
        assert_eq!(read(&instance, "secret", "both"), "now");
        instance.checkout = Some(Checkout { folder: commit, commit: "c".into() });
        for (kind, path, wanted) in [
            ("secret", "both", "then"),
            ("secret", "new", "new"),
            ("env-file", "./new", "new"),
            ("config", "new", ""),
            ("config", "../outside", "machine"),
            ("secret", "../outside", "machine"),
        ] {
            assert_eq!(read(&instance, kind, path), wanted, "{kind} {path}");
        }
    }
}

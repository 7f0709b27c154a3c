//! Where locked packages may come from: only from repositories that the project declares, and by paths that stay inside them.
//!
//! Reviewers seldom read lock files, so a lock file alone must not decide whose packages are installed.

use super::{Lock, LockedPackage, debian_steps};
use crate::model::Name;
use crate::project::{Debian, Project};

/// A locked package from a repository that its step does not declare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    pub image: Name,
    pub suite: String,
    /// The package, by its key in the suite.
    pub package: String,
    pub repository: String,
}

impl Lock {
    /// The first package that the lock takes from a repository that the project does not declare.
    pub fn foreign(&self, project: &Project) -> Option<Foreign> {
        debian_steps(project).find_map(|(key, step)| {
            let package = self.named(&key, step)?.into_iter().find(|package| !is_declared(package, step))?;
            let repository = package.repository.clone()?;
            Some(Foreign { image: key.0, suite: step.suite.clone(), package: package.key(), repository })
        })
    }
}

/// Whether a step declares the repository of a package; a package without one comes from the suite's own archive.
pub fn is_declared(package: &LockedPackage, step: &Debian) -> bool {
    package.repository.as_ref().is_none_or(|place| step.repositories.iter().any(|declared| declared.place == *place))
}

/// Checks that an archive could list such a package (Debian Policy, 5.6.1, 5.6.8 and 5.6.12, as dpkg reads them).
///
/// # Errors
/// Fails with a text that says which part of it is wrong.
pub fn sound(package: &LockedPackage) -> Result<(), String> {
    let LockedPackage { name, version, architecture, path, .. } = package;
    let made_of = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins(name) || !made_of(name, "+-._") {
        return Err(format!("{name:?} is not the name of a package"));
    }
    if !begins(version) || !made_of(version, ".+-~:") {
        return Err(format!("{version:?} is not the version of a package"));
    }
    if !begins(architecture) || !made_of(architecture, "-") {
        return Err(format!("{architecture:?} is not an architecture"));
    }
    if !is_plain_path(path) {
        return Err(format!("the path {path:?} leads out of its archive"));
    }
    Ok(())
}

/// Whether a path is relative and names a file below its starting directory.
fn is_plain_path(path: &str) -> bool {
    // A `?` or `#` would end the path of a URL.
    let odd = |c: char| c.is_control() || matches!(c, '\\' | '?' | '#');
    !path.contains(odd) && path.split('/').all(|part| !matches!(part, "" | ".."))
}

//! The project's directory, held open: steps reach all their files from here.
//!
//! A container may write to the same directory at the same time. So nothing is looked up by its whole path again, and
//! no links are followed, except those that a step itself names. These are resolved once, inside the directory; from then
//! on their targets are reached without links.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::model::{spelled, unspelled};
use crate::sys::{Kind, Nearby, Tree};
use nix::sys::stat::FileStat;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// An open project directory.
#[derive(Debug)]
pub struct Ground {
    /// The open directory, or why it cannot be opened.
    tree: Result<Tree, (io::ErrorKind, String)>,
    /// Paths in steps that are links or lead through links, with the paths that they resolve to.
    links: BTreeMap<String, String>,
}

impl Ground {
    pub fn open(folder: &Path) -> Self {
        let tree = Tree::open(folder).map_err(|error| (error.kind(), error.to_string()));
        Self { tree, links: BTreeMap::new() }
    }

    /// Returns the open directory.
    ///
    /// # Errors
    /// Fails when the directory could not be opened.
    pub fn tree(&self) -> io::Result<&Tree> {
        self.tree.as_ref().map_err(|(kind, why)| io::Error::new(*kind, why.clone()))
    }

    /// Resolves a path that a step names, and returns its kind; links are followed as long as they stay in the directory.
    ///
    /// # Errors
    /// Fails when the path cannot be looked up, and with `EXDEV` when it leads out of the directory.
    pub fn resolve(&mut self, path: &str) -> io::Result<Kind> {
        let tree = self.tree()?;
        let real = tree.follow(Path::new(&unspelled(path)))?;
        let kind = Kind::of(&look(tree, &real)?);
        let text = spelled(real.as_os_str());
        if text != path {
            self.links.insert(path.to_owned(), text.into_owned());
        }
        Ok(kind)
    }

    /// The real location of a path that was resolved before, or of a path below it.
    pub fn real<'p>(&self, path: &'p str) -> Cow<'p, Path> {
        // Usually there are no links, and the list is empty.
        let below = |named: &str| {
            let rest = path.strip_prefix(named)?;
            (named.is_empty() || rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
        };
        let found = self.links.iter().filter_map(|(named, real)| Some((named, real, below(named)?)));
        match (found.max_by_key(|(named, ..)| named.len()), unspelled(path)) {
            (None, Cow::Borrowed(path)) => Cow::Borrowed(Path::new(path)),
            (None, Cow::Owned(path)) => Cow::Owned(path.into()),
            (Some((_, real, "")), _) => Cow::Owned(unspelled(real).into_owned().into()),
            (Some((_, real, rest)), _) => Cow::Owned(Path::new(&unspelled(real)).join(unspelled(rest))),
        }
    }

    /// Opens a regular file that was examined before.
    ///
    /// # Errors
    /// Fails when it cannot be opened, or when a link or anything else has replaced it.
    pub fn file(&self, path: &str) -> io::Result<(File, FileStat)> {
        Nearby::of(self.tree()?).open(&self.real(path))
    }
}

/// Returns the status of a path that has no links.
fn look(tree: &Tree, path: &Path) -> io::Result<FileStat> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => tree.folder(folder)?.stat(name),
        _ => tree.folder(path)?.facts(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_are_named_are_followed_inside_and_none_below() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("v1/deep")).unwrap();
        fs::write(at("v1/deep/file"), "x").unwrap();
        fs::write(outside.path().join("file"), "out").unwrap();
        symlink("v1", at("current")).unwrap();
        symlink(outside.path(), at("away")).unwrap();
        symlink("file", at("v1/deep/link")).unwrap();
        let mut ground = Ground::open(folder.path());
        assert_eq!(ground.resolve("current").unwrap(), Kind::Folder);
        assert_eq!(ground.resolve("v1/deep").unwrap(), Kind::Folder);
        assert_eq!(ground.links.len(), 1);
        assert_eq!(ground.real("current/deep/file"), Path::new("v1/deep/file"));
        assert_eq!(ground.real("currently"), Path::new("currently"));
        assert!(ground.file("current/deep/file").is_ok());
        assert!(ground.file("current/deep/link").is_err());
        let beside = format!("../{}/file", outside.path().file_name().unwrap().to_str().unwrap());
        for path in ["away", "away/file", "away/missing", &beside, "../not-there", "/etc"] {
            assert_eq!(ground.resolve(path).unwrap_err().raw_os_error(), Some(libc::EXDEV), "{path}");
        }
        assert!(ground.file("away/file").is_err());
    }
}

//! Whether a container has written files outside of its volumes: they go when it gets a new root.

use super::identity::Instance;
use crate::model::{Context, Result};
use crate::sys::{Kind, Tree};
use std::io;

/// How many entries are looked at, and how deep: what has more than that counts as written.
const ENTRIES: usize = 2000;
const DEPTH: usize = 100;

/// Whether there are more files with content in the root of a container's generation than `known` ones. What is empty does not
/// count: mount points are such files.
///
/// # Errors
/// Fails when something cannot be read.
pub fn has_written(instance: &Instance, name: &str, generation: u64, known: usize) -> Result<bool> {
    let place = instance.root(name, generation).join("upper");
    let mut counter = Counter { files: 0, known, left: ENTRIES };
    match Tree::open(&place).and_then(|tree| counter.folder(&tree, DEPTH)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.context(|| format!("cannot read what {name} wrote, in {}", place.display())),
    }
}

struct Counter {
    files: usize,
    known: usize,
    left: usize,
}

impl Counter {
    /// Whether there are enough of them in a directory.
    fn folder(&mut self, tree: &Tree, depth: usize) -> io::Result<bool> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(true) };
        for listed in tree.list()? {
            let Some(left) = self.left.checked_sub(1) else { return Ok(true) };
            self.left = left;
            // It may have been removed since it was listed.
            let Some(stat) = tree.look(&listed.name)? else { continue };
            let enough = match Kind::of(&stat) {
                Kind::Folder => match tree.folder(&listed.name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                    inner => self.folder(&inner?, depth)?,
                },
                Kind::File if stat.st_size > 0 => {
                    self.files += 1;
                    self.files > self.known
                }
                _ => false,
            };
            if enough {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Home;
    use std::fs;

    #[test]
    fn only_files_with_content_count_and_those_that_are_known_do_not() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("project")).unwrap();
        let instance = Instance::new(&Home::find(Some(&place.path().join("root"))), &place.path().join("project"), "stead.kdl");
        let written = |known| has_written(&instance, "web-1", 1, known).unwrap();
        assert!(!written(0), "it has no root");
        let upper = instance.root("web-1", 1).join("upper");
        fs::create_dir_all(upper.join("etc/deep")).unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", upper.join("link")).unwrap();
        assert!(!written(0), "mount points and directories are no data");
        fs::write(upper.join("etc/deep/new"), "x").unwrap();
        assert!(written(0) && !written(1));
        for number in 0..ENTRIES {
            fs::create_dir(upper.join(number.to_string())).unwrap();
        }
        assert!(written(1), "more than is looked at");
    }
}

//! Directories that appear whole or not at all: they are made under a private name beside their place, synced, then renamed.

use crate::sys::{self, Tree};
use std::ffi::{OsStr, OsString};
use std::io;

/// The prefixes of names that are no longer, or not yet, those of anything: no volume and no snapshot begins with them. The
/// second one is that of parts that [`Tree::remove`] moves up, the third that of files that are being written.
const PRIVATE: [&str; 3] = [NEW, ".gone-", ".tmp-"];
/// The prefix of directories in the making.
const NEW: &str = ".new-";

/// A new private name.
pub fn private_name() -> OsString {
    format!("{NEW}{}", sys::unique()).into()
}

/// Removes what killed processes left behind. The caller holds the instance's lock.
///
/// # Errors
/// Fails when something cannot be removed.
pub fn sweep(all: &Tree) -> io::Result<()> {
    let is_left = |name: &OsStr| PRIVATE.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    let left = all.list()?.into_iter().filter(|listed| is_left(&listed.name));
    left.into_iter().try_for_each(|listed| all.remove(&listed.name))
}

/// Makes a directory: `fill` fills it under its private name, and `place` then gives it the name that it is made for.
/// After a failure nothing of it is left. The caller holds the instance's lock.
///
/// # Errors
/// Fails when one of both fails, when the directory cannot be created, and when it cannot be synced.
pub fn make<T>(
    all: &Tree,
    fill: impl FnOnce(&Tree, &OsStr) -> io::Result<T>,
    place: impl FnOnce(&OsStr) -> io::Result<()>,
) -> io::Result<T> {
    sweep(all)?;
    let name = private_name();
    let make = || -> io::Result<T> {
        let tree = all.make_folder(&name, 0o700)?;
        let made = fill(&tree, &name)?;
        tree.sync()?;
        place(&name)?;
        Ok(made)
    };
    // If it cannot be removed now, the next sweep removes it.
    make().inspect_err(|_| drop(all.remove(&name)))
}

/// Removes a directory with everything in it: from the first moment on nothing has its name.
///
/// # Errors
/// Fails when it does not exist, when something is mounted on it, and when something in it cannot be removed.
pub fn remove(all: &Tree, name: &OsStr) -> io::Result<()> {
    let gone = private_name();
    all.rename(&gone, all, name)?;
    all.remove(&gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_killed_processes_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".new-1-2", ".gone-1-2", "data"] {
            fs::create_dir_all(folder.path().join(name).join("inside")).unwrap();
        }
        for name in [".tmp-1-2", ".restoring"] {
            fs::write(folder.path().join(name), "1").unwrap();
        }
        sweep(&Tree::open(folder.path()).unwrap()).unwrap();
        let mut left = sys::names(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, [".restoring", "data"]);
    }
}

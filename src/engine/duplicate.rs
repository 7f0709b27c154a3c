//! Makes a private copy of a project for a second build: everything that a build reads, in such a way that only names
//! and contents are the same.
//!
//! Everything is written by descriptor beneath one private directory, so no other file of the host can be written,
//! whether by an absolute path, by `..` or by a link. What the project names by an absolute path is not copied: the
//! second build finds it where it is. What it names by `..` is copied so that it lies in the same place relative to the
//! copy as it does relative to the project.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::build::Ground;
use crate::image::{Hiding, Twin};
use crate::instance::{LoadedProject, observe};
use crate::model::{Context, Result, unspelled};
use crate::plan::TreeKind;
use crate::project::{ConfigSource, RunSource, Step};
use crate::sys::{self, Facts, Tree};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The owner of everything in the copy, and its modification time.
const OWNER: (u32, u32) = (1234, 4321);
const TIME: (i64, i64) = (1_000_000_000, 0);

/// Copies a project to a new place; returns its directory there.
///
/// # Errors
/// Fails when the project cannot be read or the copy cannot be written.
pub fn duplicate(loaded: &LoadedProject, files: impl Iterator<Item = PathBuf>, place: &Path) -> Result<PathBuf> {
    let paths: BTreeSet<PathBuf> = files.chain(named(loaded)).collect();
    let paths: Vec<Outside> = paths.iter().filter_map(|path| Outside::of(path)).collect();
    let above = above(&loaded.instance.folder, paths.iter().map(|path| path.up).max().unwrap_or(0));
    let root = Tree::private(place).context(|| format!("cannot make {}", place.display()))?;
    let inside: PathBuf = above.iter().collect();
    let project = root.make_folders(&inside, 0o755).context(|| "cannot copy the project".into())?;
    let observation = observe(loaded)?;
    let scanner = &observation.scanner;
    // On many file systems, a directory lists its entries in the order in which they were created: here it is the reverse.
    let entries = scanner.entries();
    for (path, entry) in entries.iter().rev() {
        let place = unspelled(path);
        let place = Path::new(&place);
        let copied = match &entry.kind {
            TreeKind::Folder => folder(scanner.ground(), path, &project),
            TreeKind::Link(link) => link_to(&unspelled(link), place, &project),
            TreeKind::File { .. } => scanner.ground().file(path).and_then(|(from, _)| file(&from, place, &project)),
            TreeKind::Fifo => fifo(entry.mode, place, &project),
            TreeKind::Twin { .. } => Ok(()),
        };
        copied.context(|| format!("cannot copy {path}"))?;
    }
    for (path, entry) in &entries {
        if let TreeKind::Twin { from, .. } = &entry.kind {
            let place = unspelled(path);
            let linked = match twin(Path::new(&place), Path::new(&unspelled(from)), &project) {
                // In the copy of another step, that one is the further name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    scanner.ground().file(path).and_then(|(file, _)| self::file(&file, Path::new(&place), &project))
                }
                linked => linked,
            };
            linked.context(|| format!("cannot copy {path}"))?;
        }
    }
    for path in scanner.archives() {
        archive(scanner.ground(), path, &project).context(|| format!("cannot copy {path}"))?;
    }
    for path in &paths {
        let from = match sys::open_plain(&loaded.instance.folder.join(path.written)) {
            Ok(from) => from,
            // The build step that needs the file gives a better error.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error).context(|| format!("cannot copy {}", path.written.display())),
        };
        let to: PathBuf = above.iter().take(above.len() - path.up).collect();
        match file(&from, &to.join(&path.rest), &root) {
            // A link of the project is in the way: the second build follows it, as the first one did.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {}
            done => done.context(|| format!("cannot copy {}", path.written.display()))?,
        }
    }
    Ok(place.join(inside))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
}

/// The paths of files that a project names, apart from those that it copies into images.
fn named(loaded: &LoadedProject) -> Vec<PathBuf> {
    let project = &loaded.project;
    let mut found: Vec<PathBuf> = ["stead.lock", ".dockerignore", ".steadignore"].map(PathBuf::from).to_vec();
    let mut contexts = Vec::new();
    for image in project.images.values() {
        found.extend(image.signed_by.as_ref().map(PathBuf::from));
        for step in &image.steps {
            match step {
                Step::Copy(copy) => contexts.extend(&copy.context),
                Step::Run(run) => contexts.extend(run.mounts.iter().filter_map(|mount| match &mount.source {
                    RunSource::Context { context, .. } => Some(context),
                    _ => None,
                })),
                Step::Debian(debian) => {
                    let keys = debian.repositories.iter().map(|repository| &repository.key).chain(&debian.key);
                    found.extend(keys.map(PathBuf::from));
                }
                _ => {}
            }
        }
    }
    for context in contexts {
        found.extend([context.ignore.clone().into(), Path::new(&context.folder).join(".dockerignore")]);
    }
    found.extend(project.secrets.values().map(PathBuf::from));
    found.extend(project.configs.values().filter_map(|config| match config {
        ConfigSource::File(file) => Some(PathBuf::from(file)),
        ConfigSource::Content(_) => None,
    }));
    for container in project.containers.values() {
        found.extend(container.env_files.iter().map(|file| PathBuf::from(&file.path)));
        found.extend(container.security.seccomp.as_ref().filter(|file| *file != "unconfined").map(PathBuf::from));
    }
    found
}

/// A path as it is written, and what it means as text: how many directories up from the project's, and the path from there.
struct Outside<'p> {
    written: &'p Path,
    up: usize,
    rest: PathBuf,
}

impl<'p> Outside<'p> {
    /// Returns `None` for an absolute path.
    fn of(written: &'p Path) -> Option<Self> {
        let (mut up, mut rest) = (0, PathBuf::new());
        for part in written.components() {
            match part {
                Component::Normal(name) => rest.push(name),
                Component::ParentDir if !rest.pop() => up += 1,
                Component::ParentDir | Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(Self { written, up, rest })
    }
}

/// The names of the last `up` directories in the project's path: paths that go up meet the same names on the way down.
fn above(folder: &Path, up: usize) -> Vec<OsString> {
    let names: Vec<OsString> = folder.iter().filter(|name| *name != "/").map(OsStr::to_owned).collect();
    // The parent of the root is the root itself.
    let missing = std::iter::repeat_n(OsString::from("above"), up.saturating_sub(names.len()));
    missing.chain(names[names.len().saturating_sub(up)..].iter().cloned()).collect()
}

fn facts(mode: u32) -> Facts {
    Facts { owner: OWNER, mode: mode & 0o7777, time: TIME }
}

/// The parent directory of a path, which is made if it does not exist, and the path's last name.
fn room<'p>(path: &'p Path, tree: &Tree) -> io::Result<(Tree, &'p OsStr)> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    Ok((tree.make_folders(path.parent().unwrap_or(Path::new("")), 0o755)?, name))
}

/// Makes a directory with the original's permissions, because copies in Dockerfiles keep them.
fn folder(ground: &Ground, path: &str, tree: &Tree) -> io::Result<()> {
    let mode = ground.tree()?.folder(ground.real(path))?.facts()?.st_mode;
    tree.make_folders(Path::new(&unspelled(path)), 0o755)?.become_like(facts(mode))
}

fn fifo(mode: Option<u32>, path: &Path, tree: &Tree) -> io::Result<()> {
    let (above, name) = room(path, tree)?;
    if above.look(name)?.is_none() {
        above.make_fifo(name)?;
        above.set(name, facts(mode.unwrap_or(0o644)))?;
    }
    Ok(())
}

/// Gives a file that was copied its further name.
fn twin(path: &Path, of: &Path, tree: &Tree) -> io::Result<()> {
    let ((above, name), (beside, first)) = (room(path, tree)?, room(of, tree)?);
    match above.hard_link(name, &beside, first) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

fn link_to(link: &OsStr, path: &Path, tree: &Tree) -> io::Result<()> {
    let (above, name) = room(path, tree)?;
    if above.look(name)?.is_none() {
        above.make_link(name, link)?;
        above.set(name, facts(0o777))?;
    }
    Ok(())
}

/// Copies a file, unless it was copied before.
fn file(from: &File, path: &Path, tree: &Tree) -> io::Result<()> {
    let (above, name) = room(path, tree)?;
    let copy = match above.make_file(name, 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    };
    sys::copy_file(from, &copy)?;
    sys::become_like(&copy, facts(nix::sys::stat::fstat(from)?.st_mode))
}

/// Copies an archive that an image starts from: a file, or a directory with everything in it.
fn archive(ground: &Ground, path: &str, tree: &Tree) -> io::Result<()> {
    let real = ground.real(path);
    match ground.tree()?.folder(&real) {
        Ok(from) => {
            let into = tree.make_folders(Path::new(path), 0o755)?;
            Twin::new(&into, Hiding::LeftOut).everything(&from, &into, &mut PathBuf::new())
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => file(&ground.file(path)?.0, Path::new(path), tree),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_they_mean_beside_the_project() {
        let meant = |path: &'static str| Outside::of(Path::new(path)).map(|path| (path.up, path.rest));
        assert_eq!(meant("a/./b"), Some((0, "a/b".into())));
        assert_eq!(meant("a/../../b/c"), Some((1, "b/c".into())));
        assert_eq!(meant("../../x"), Some((2, "x".into())));
        assert_eq!(meant("/etc/shadow"), None);
        let names = |folder: &str, up: usize| above(Path::new(folder), up).iter().collect::<PathBuf>();
        assert_eq!(names("/home/me/project", 0), Path::new(""));
        assert_eq!(names("/home/me/project", 2), Path::new("me/project"));
        assert_eq!(names("/p", 3), Path::new("above/above/p"));
    }

    #[test]
    fn nothing_is_written_through_a_link_of_the_copy() {
        let (copy, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = Tree::open(copy.path()).unwrap();
        let from = sys::open_plain(Path::new("/proc/self/exe")).unwrap();
        tree.make_link(OsStr::new("away"), outside.path().as_os_str()).unwrap();
        assert_eq!(file(&from, Path::new("away/x"), &tree).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(sys::Kind::of(&tree.stat(OsStr::new("away")).unwrap()), sys::Kind::Link);
    }
}

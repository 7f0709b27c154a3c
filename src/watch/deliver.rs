//! Writes into a running container, from the host's side: through the root that its process has, so that nothing is needed in
//! the image, mounts are where the container has them, and no link leads out.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::aside::{self, Aside, Old, replace};
use super::mirror::Now;
use crate::instance::Instance;
use crate::model::{Context, Error, Result};
use crate::monitor::State;
use crate::sys::{self, Kind, Tree};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Files up to this size are copied in one piece, in bytes.
const SMALL: u64 = 64 << 10;

/// The root of a running container.
#[derive(Debug)]
pub struct Root {
    /// The process that it was opened by: another one may have another root.
    pub pid: i32,
    root: OwnedFd,
    /// The directory that was written to last.
    near: Option<(PathBuf, Tree)>,
}

impl Root {
    /// Opens the root of a replica; `None` if it does not run.
    ///
    /// # Errors
    /// Fails when it runs and its root cannot be opened.
    pub fn of(instance: &Instance, replica: &str) -> Result<Option<Self>> {
        let folder = instance.container(replica);
        let pid = || {
            let status = folder.status().filter(|status| matches!(status.state, State::Running | State::Paused));
            status.map(|status| status.pid).filter(|pid| *pid > 0 && folder.alive())
        };
        let Some(found) = pid() else { return Ok(None) };
        let root = nix::fcntl::open(
            &PathBuf::from(format!("/proc/{found}/root")),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        // If it has ended meanwhile, the number may be another process's by now.
        match root {
            Ok(root) if pid() == Some(found) => Ok(Some(Self { pid: found, root, near: None })),
            // It has ended, and its monitor has not said so yet.
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH) => Ok(None),
            _ if pid() != Some(found) => Ok(None),
            failed => failed.map_err(io::Error::from).context(|| format!("cannot open the root of {replica}")).map(|_| None),
        }
    }

    /// Whether the replica still has the process that the root was opened by. If not, the replica may have another root by now.
    pub fn is_current(&self, instance: &Instance, replica: &str) -> bool {
        instance.container(replica).status().is_some_and(|status| status.pid == self.pid)
    }

    /// A further handle of the same root, for another thread.
    ///
    /// # Errors
    /// Fails when there are no descriptors left.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { pid: self.pid, root: self.root.try_clone()?, near: None })
    }

    /// Makes a directory at its top in which files are made first.
    ///
    /// # Errors
    /// Fails when it cannot be made, for example in a root that is read-only.
    pub fn aside(&self) -> io::Result<Aside> {
        Aside::make(self.top()?)
    }

    /// Removes what a watcher that was killed has left at its top. A container has one watcher at a time.
    ///
    /// # Errors
    /// Fails when the root cannot be read.
    pub fn sweep(&self) -> io::Result<()> {
        aside::sweep(self.top()?)
    }

    fn top(&self) -> io::Result<Tree> {
        Tree::on_mount(&self.root, Path::new(""))
    }

    /// Where a target lies: the root, or the volume that is mounted there, and the path from it.
    fn base<'p>(&self, to: &'p Path, volume: Option<&Path>) -> io::Result<(OwnedFd, &'p Path)> {
        let top = Path::new("/");
        let base = match volume {
            None => self.root.try_clone()?,
            Some(volume) => sys::open_in_root(&self.root, volume, OFlag::O_PATH | OFlag::O_DIRECTORY)?,
        };
        Ok((base, to.strip_prefix(volume.unwrap_or(top)).unwrap_or(to)))
    }

    /// The directory of a path, made if it is not there. No other mount is entered: what the container has put in the way, or a
    /// mount, may belong to the host.
    fn directory(&mut self, path: &Path, volume: Option<&Path>, make: bool) -> io::Result<&Tree> {
        if self.near.as_ref().is_none_or(|(known, _)| known != path) {
            let (base, inside) = self.base(path, volume)?;
            let opened = match Tree::on_mount(&base, inside) {
                Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
                    make_all(&base, inside)?;
                    Tree::on_mount(&base, inside)?
                }
                opened => opened?,
            };
            self.near = Some((path.to_owned(), opened));
        }
        match &self.near {
            Some((_, tree)) => Ok(tree),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a path in the container is what a source has become already.
    ///
    /// # Errors
    /// Fails when something cannot be read.
    pub fn has(&mut self, to: &Path, volume: Option<&Path>, now: &Now, source: Option<&File>) -> io::Result<bool> {
        let (Some(above), Some(name)) = (to.parent(), to.file_name()) else { return Ok(false) };
        let directory = match self.directory(above, volume, false) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(*now == Now::Gone),
            directory => directory?,
        };
        let there = directory.look(name)?;
        let kind = there.as_ref().map(Kind::of);
        Ok(match (now, kind, &there, source) {
            (Now::Gone, None, ..) | (Now::Folder { .. }, Some(Kind::Folder), ..) => true,
            (Now::Link(target), Some(Kind::Link), ..) => directory.link(name)? == *target,
            (Now::File { mode, .. }, Some(Kind::File), Some(there), Some(source)) => {
                is_equal(directory, name, there, source, *mode)?
            }
            _ => false,
        })
    }

    /// Makes a path in the container what a source has become; whether it is that [already](Self::has) is for the caller to know.
    /// A file that is there keeps its owner, and its permissions but for being executable. Returns whether anything was done.
    ///
    /// # Errors
    /// Fails when something cannot be read or written; what was there is whole then.
    pub fn put(&mut self, to: &Path, piece: &Piece, aside: Option<&Aside>) -> io::Result<bool> {
        let Piece { volume, now, source, new, is_upper } = *piece;
        let (Some(above), Some(name)) = (to.parent(), to.file_name()) else { return Ok(false) };
        let make = *now != Now::Gone;
        let directory = match self.directory(above, volume, make) {
            // Nothing is there that could go.
            Err(error) if !make && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(false),
            directory => directory?,
        };
        let there = directory.look(name)?;
        let kind = there.as_ref().map(Kind::of);
        let done = match (now, source) {
            (Now::Gone, _) => match kind {
                None => false,
                Some(Kind::Folder) => match directory.remove_folder(name) {
                    // The container has put something of its own there.
                    Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => false,
                    removed => removed.map(|()| true)?,
                },
                Some(_) => directory.remove_file(name).map(|()| true)?,
            },
            (Now::Folder { .. }, _) => match kind {
                Some(Kind::Folder) => false,
                _ => {
                    clear(directory, name, kind)?;
                    own(directory, &directory.make_folder(name, 0o755)?)?;
                    true
                }
            },
            (Now::Link(target), _) => {
                if kind == Some(Kind::Link) && directory.link(name)? == *target {
                    return Ok(false);
                }
                clear(directory, name, kind.filter(|kind| *kind == Kind::Folder))?;
                replace((directory, name), directory, Old::Replaced, |temporary| directory.make_link(temporary, target))?;
                true
            }
            (Now::File { .. }, None) => false,
            (Now::File { mode, .. }, Some(source)) => {
                clear(directory, name, kind.filter(|kind| *kind == Kind::Folder))?;
                let there = there.filter(|there| Kind::of(there) == Kind::File);
                let manner = match &there {
                    Some(there) => ((there.st_uid, there.st_gid), executable_like(there.st_mode & 0o777, *mode)),
                    None => {
                        let above = directory.facts()?;
                        ((above.st_uid, above.st_gid), new)
                    }
                };
                // A volume is another mount, into which nothing can be renamed from here.
                let aside = aside.filter(|_| volume.is_none());
                let place = aside.map_or(directory, Aside::folder);
                let old = match aside {
                    _ if there.is_none() || !is_upper => Old::Replaced,
                    Some(_) => Old::Left,
                    None => Old::Removed,
                };
                replace((directory, name), place, old, |temporary| write(place, temporary, source, manner))?;
                true
            }
        };
        if self.near.as_ref().is_some_and(|(near, _)| near.starts_with(to)) {
            self.near = None;
        }
        Ok(done)
    }
}

/// The layer of a container that it writes to, as far as it can be told without it what is there.
#[derive(Debug)]
pub struct Upper {
    tree: Tree,
    /// The directory that was looked into last.
    near: Option<(PathBuf, Option<Tree>)>,
}

impl Upper {
    /// Opens the layer at a path of the host.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { tree: Tree::open(path)?, near: None })
    }

    /// Whether it has a plain file there, by this very path: what a link leads to is not told.
    pub fn has_file(&mut self, to: &Path) -> bool {
        let (Some(above), Some(name)) = (to.parent(), to.file_name()) else { return false };
        if self.near.as_ref().is_none_or(|(known, _)| known != above) {
            let folder = self.tree.folder(above.strip_prefix("/").unwrap_or(above)).ok();
            self.near = Some((above.to_owned(), folder));
        }
        let folder = self.near.as_ref().and_then(|(_, folder)| folder.as_ref());
        folder.is_some_and(|folder| folder.stat(name).is_ok_and(|found| Kind::of(&found) == Kind::File))
    }
}

/// Makes the missing directories of a path; each belongs to whom the one above belongs to.
fn make_all(base: &OwnedFd, inside: &Path) -> io::Result<()> {
    let mut at = PathBuf::new();
    for part in inside {
        let above = Tree::on_mount(base, &at)?;
        at.push(part);
        match Tree::on_mount(base, &at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match above.make_folder(part, 0o755) {
                    // The container, or another thread, was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => own(&above, &made?)?,
                }
            }
            there => drop(there?),
        }
    }
    Ok(())
}

/// Gives a new directory the owner of the one above.
fn own(above: &Tree, made: &Tree) -> io::Result<()> {
    let facts = sys::Facts::of(&above.facts()?);
    let new = sys::Facts::of(&made.facts()?);
    made.become_like(sys::Facts { owner: facts.owner, ..new })
}

/// Makes room for something of another kind. A directory goes only if it is empty.
fn clear(directory: &Tree, name: &OsStr, kind: Option<Kind>) -> io::Result<()> {
    match kind {
        None => Ok(()),
        Some(Kind::Folder) => directory.remove_folder(name),
        Some(_) => directory.remove_file(name),
    }
}

/// What is to be put in a place.
#[derive(Clone, Copy)]
pub struct Piece<'p> {
    /// The mount point of the volume that the place is in, if it is in one.
    pub volume: Option<&'p Path>,
    pub now: &'p Now,
    pub source: Option<&'p File>,
    /// The permissions of a file that is not there yet.
    pub new: u32,
    /// Whether the file that is there is no file of the image: such a one can be moved without being copied first.
    pub is_upper: bool,
}

/// Writes a file with an owner and permissions.
fn write(place: &Tree, name: &OsStr, mut source: &File, (owner, mode): ((u32, u32), u32)) -> io::Result<()> {
    let mut file = place.make_file(name, 0o600)?;
    source.rewind()?;
    let mut small = Vec::new();
    source.take(SMALL).read_to_end(&mut small)?;
    file.write_all(&small)?;
    if u64::try_from(small.len()).is_ok_and(|length| length == SMALL) {
        io::copy(&mut source, &mut file)?;
    }
    fchown(&file, Some(owner.0), Some(owner.1))?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Permissions, but executable for those who can read if the source is, and else for nobody.
fn executable_like(mode: u32, source: u32) -> u32 {
    if source & 0o100 != 0 { mode | (mode & 0o444) >> 2 } else { mode & !0o111 }
}

/// Whether a file has the source's content already.
fn is_equal(directory: &Tree, name: &OsStr, there: &FileStat, mut source: &File, mode: u32) -> io::Result<bool> {
    let size = source.metadata()?.len();
    if there.st_size.unsigned_abs() != size || (there.st_mode & 0o100 != 0) != (mode & 0o100 != 0) {
        return Ok(false);
    }
    let mut other = directory.file(name)?;
    source.rewind()?;
    let piece = usize::try_from(size.min(SMALL)).unwrap_or_default().max(1);
    let (mut one, mut two) = (vec![0; piece], vec![0; piece]);
    loop {
        let length = source.read(&mut one)?;
        if length == 0 {
            return Ok(true);
        }
        if other.read_exact(&mut two[..length]).is_err() || one[..length] != two[..length] {
            return Ok(false);
        }
    }
}

/// The error of a delivery, in the user's terms.
pub fn failed(replica: &str, to: &Path, error: &io::Error) -> Error {
    let what = format!("cannot write {} in {replica}", to.display());
    match error.raw_os_error() {
        Some(libc::EROFS) => Error::new(format!("{what}: it is on a read-only file system"))
            .hint("mount a volume there, or let the change rebuild the image: rebuild \"PATH\""),
        Some(libc::EBUSY) => Error::new(format!("{what}: something is mounted on it")),
        Some(libc::ENOTEMPTY) => Error::new(format!("{what}: there is a directory with files of the container's own")),
        Some(libc::ENOSPC) => Error::new(format!("{what}: the disk is full")),
        Some(libc::EXDEV) => Error::new(format!("{what}: a mount lies in between")),
        _ => Error::caused(what, io::Error::new(error.kind(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_made_aside_is_like_what_is_made_in_place_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join("root").join(path);
        std::fs::create_dir_all(at("srv")).unwrap();
        std::fs::write(folder.path().join("source"), "new").unwrap();
        let source = File::open(folder.path().join("source")).unwrap();
        // Not every file system knows this.
        let _ = sys::spread(&at(""));
        let top = nix::fcntl::open(&at(""), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let mut root = Root { pid: 0, root: top, near: None };
        let names = |path: &str| sys::names(&at(path)).unwrap();
        for (place, is_aside) in [("one", false), ("two", true)] {
            let aside = is_aside.then(|| root.aside().unwrap());
            assert_eq!(names("").iter().any(|name| name.starts_with(".stead-")), is_aside);
            let mut put = |name: &str, mode| {
                let to = Path::new("/srv").join(place).join(name);
                let now = Now::File { digest: Digest::of("new"), mode };
                let is_upper = Upper::open(&at("")).unwrap().has_file(&to);
                let piece = Piece { volume: None, now: &now, source: Some(&source), new: 0o600, is_upper };
                assert!(root.put(&to, &piece, aside.as_ref()).unwrap(), "{name}");
                assert!(root.has(&to, None, &now, Some(&source)).unwrap(), "{name}");
            };
            put("fresh", 0o644);
            std::fs::write(at("srv").join(place).join("old"), "old").unwrap();
            std::fs::set_permissions(at("srv").join(place).join("old"), Permissions::from_mode(0o640)).unwrap();
            put("old", 0o755);
            std::fs::create_dir(at("srv").join(place).join("folder")).unwrap();
            put("folder", 0o644);
            drop(aside);
            // What was exchanged is removed beside.
            while names("").len() > 1 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert_eq!(names(&format!("srv/{place}")), ["folder", "fresh", "old"]);
            let found = |name: &str| std::fs::metadata(at("srv").join(place).join(name)).unwrap().mode() & 0o777;
            assert_eq!((found("fresh"), found("old")), (0o600, 0o750), "{place}");
            assert_eq!(std::fs::read_to_string(at("srv").join(place).join("old")).unwrap(), "new");
        }
        assert_eq!(names(""), ["srv"]);
    }
}

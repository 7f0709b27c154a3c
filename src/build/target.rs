//! The tree that a `copy` step makes: where things go, whose they are, and what the directories above them are like.
//!
//! Everything is written by descriptor, beneath the tree: a link that one source brings is never a way for the next.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::view::View;
use crate::image::{self, CAPABILITY, Rules};
use crate::model::{Budget, Context, Digest, Error, Hasher, Mode, Result, bounds, pattern_matches};
use crate::project::Copy;
use crate::runtime::{Identity, identity_in};
use crate::store::disk_error;
use crate::sys::{self, Facts, Kind, Nearby, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A directory of a step's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Folder {
    pub owner: (u32, u32),
    pub mode: u32,
    /// Set where the step says what the directory is like, whatever is there below: its time.
    exact: Option<i64>,
}

/// Directories of a step's tree; one that is there below stays as it is, unless the step says otherwise.
pub type Folders = BTreeMap<PathBuf, Folder>;

/// Where a step puts things.
#[derive(Clone, Copy)]
pub struct Onto<'a> {
    pub below: &'a View,
    pub workdir: &'a str,
    /// The tree that is being made.
    pub tree: &'a Tree,
    /// A directory of our own beside it, on the same file system.
    pub beside: &'a Path,
    pub epoch: i64,
}

/// Where things go and whose they are.
pub struct Target<'a> {
    pub below: &'a View,
    root: &'a Tree,
    /// The directory of the tree that was written to last.
    near: Nearby<'a>,
    staging: &'a Path,
    pub epoch: i64,
    pub owner: (u32, u32),
    mode: Option<&'a Mode>,
    pub as_docker: bool,
    /// Patterns of what is left out.
    exclude: &'a [String],
    /// A Dockerfile's copies from an image keep owners, unless it names one.
    pub keeps_owners: bool,
    pub folders: Folders,
    /// A directory that is made.
    beside: PathBuf,
}

/// Gives a tree's directories what they have below, or what the step says, once everything is in them.
///
/// # Errors
/// Those of changing owner, permissions and time.
pub fn settle(tree: &Tree, below: &View, folders: &Folders, epoch: i64) -> Result<()> {
    // The deepest first: what is set in a directory must not touch the directory's time again.
    for (path, folder) in folders.iter().rev() {
        let (mode, owner, time) = match (folder.exact, below.entry(path)) {
            (Some(time), _) => (folder.mode, folder.owner, time),
            (None, Some((_, metadata))) if metadata.is_dir() => {
                (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()), metadata.mtime().min(epoch))
            }
            _ => (folder.mode, folder.owner, epoch),
        };
        let done = tree.folder(inside(path)).and_then(|folder| folder.become_like(Facts { owner, mode, time: (time, 0) }));
        done.context(|| format!("cannot set the owner and permissions of {}", path.display()))?;
    }
    Ok(())
}

/// Where a path of an image is in a tree.
pub fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Who owns what is copied, by the image below.
///
/// # Errors
/// Names that the image does not know; users and groups that cannot be read.
pub fn owner_in(below: &View, owner: &str) -> io::Result<Identity> {
    identity_in(&below.user_database("/etc/passwd")?, &below.user_database("/etc/group")?, owner, &[])
}

impl<'a> Target<'a> {
    /// Prepares for a step.
    ///
    /// # Errors
    /// An owner that is not known.
    pub fn new(copy: &'a Copy, onto: Onto<'a>) -> Result<Self> {
        let below = onto.below;
        let owner = match &copy.owner {
            None => (0, 0),
            Some(owner) => {
                let found = owner_in(below, owner).context(|| format!("cannot tell who \"{owner}\" is"))?;
                (found.uid, found.gid)
            }
        };
        Ok(Self {
            below,
            root: onto.tree,
            near: Nearby::of(onto.tree),
            staging: onto.beside,
            epoch: onto.epoch,
            owner,
            mode: copy.mode.as_ref(),
            as_docker: copy.as_docker,
            exclude: &copy.exclude,
            keeps_owners: copy.as_docker && copy.owner.is_none(),
            beside: PathBuf::new(),
            folders: [(PathBuf::from("/"), Folder { owner: (0, 0), mode: 0o755, exact: None })].into(),
        })
    }

    /// The tree that is written.
    pub fn root(&self) -> &'a Tree {
        self.root
    }

    /// The permissions that the step gives to all.
    pub fn given_mode(&self) -> Option<&Mode> {
        self.mode
    }

    /// The permissions of something that comes with others.
    pub fn mode(&self, mode: u32, folder: bool) -> u32 {
        self.mode.map_or(mode, |given| given.apply(mode, folder))
    }

    /// Makes the directories above a path; what each is like is settled at the end.
    ///
    /// # Errors
    /// A path that climbs; those of making directories.
    pub fn parents(&mut self, path: &Path) -> Result<()> {
        // Whatever a name is made of: nothing is written outside the tree.
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::new(format!("{} climbs", path.display())));
        }
        // Most files stand beside the one before them.
        let Some(parent) = path.parent().filter(|parent| self.beside.as_os_str() != parent.as_os_str()) else { return Ok(()) };
        if !self.folders.contains_key(parent) {
            self.parents(parent)?;
            self.make_folder(parent, Folder { owner: (0, 0), mode: 0o755, exact: None })?;
        }
        parent.clone_into(&mut self.beside);
        Ok(())
    }

    /// Makes a directory, if none is there; a link in its place is never followed: it may lead to the host.
    fn make_folder(&mut self, path: &Path, folder: Folder) -> Result<()> {
        // Asked now, so that whoever makes this tree before its turn knows that it matters.
        let _ = self.below.entry(path);
        let made = self.near.at(inside(path)).and_then(|(above, name)| match above.make_folder(name, 0o755) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Kind::of(&above.stat(name)?)),
            made => made.map(|_| Kind::Folder),
        });
        match made {
            Ok(Kind::Folder) => drop(self.folders.insert(path.to_owned(), folder)),
            Ok(_) => {
                return Err(Error::new(format!("one source puts a file or link at {}, and another a directory", path.display())));
            }
            Err(error) => return Err(disk_error(&format!("cannot make {}", path.display()), error)),
        }
        Ok(())
    }

    /// The directory and name of a new file or link; what an earlier source put there goes away.
    fn room<'p>(&mut self, path: &'p Path) -> io::Result<(&Tree, &'p OsStr)> {
        let (folder, name) = self.near.at(inside(path))?;
        match folder.look(name)? {
            Some(stat) if Kind::of(&stat) != Kind::Folder => folder.remove_file(name)?,
            _ => {}
        }
        Ok((folder, name))
    }

    /// Makes a directory of the step's own, unless it is the root.
    ///
    /// # Errors
    /// A path that climbs; those of making directories.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        if path == Path::new("/") {
            return Ok(());
        }
        self.parents(path)?;
        self.make_folder(path, Folder { owner: self.owner, mode, exact: None })
    }

    /// Makes a file of some bytes.
    ///
    /// # Errors
    /// Those of writing.
    pub fn content(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.parents(path)?;
        let made = self.room(path).and_then(|(folder, name)| folder.make_file(name, 0o600));
        let made = made.and_then(|mut file| file.write_all(bytes).map(|()| file));
        let file = made.map_err(|error| disk_error(&format!("cannot make {}", path.display()), error))?;
        sys::finish_file(&file, mode, self.owner, self.epoch)
            .context(|| format!("cannot set the owner and permissions of {}", path.display()))
    }

    /// Makes a link.
    ///
    /// # Errors
    /// Those of writing.
    pub fn link(&mut self, path: &Path, link: &OsStr) -> Result<()> {
        self.parents(path)?;
        let facts = Facts { owner: self.owner, mode: 0o777, time: (self.epoch, 0) };
        let made = self.room(path).and_then(|(folder, name)| folder.make_link(name, link).and_then(|()| folder.set(name, facts)));
        made.map_err(|error| disk_error(&format!("cannot make {}", path.display()), error))
    }

    /// Copies an open file.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn file(&mut self, path: &Path, from: &File, mode: u32) -> Result<File> {
        self.parents(path)?;
        let cannot = |what: &str| format!("cannot {what} {}", path.display());
        let out = self.room(path).and_then(|(folder, name)| folder.make_file(name, 0o600));
        let out = out.map_err(|error| disk_error(&cannot("make"), error))?;
        sys::copy_file(from, &out).map_err(|error| disk_error(&cannot("write"), error))?;
        sys::finish_file(&out, mode, self.owner, self.epoch).context(|| cannot("set the owner and permissions of"))?;
        Ok(out)
    }

    /// Unpacks an archive into a directory, following links of the image below as its own programs would; tells the
    /// digest of the archive's bytes as they were read.
    ///
    /// # Errors
    /// Damaged and hostile archives, failures to write.
    pub fn unpack(&mut self, archive: &File, to: &Path, owned: bool) -> Result<Digest> {
        // Beside the tree, in the step's own staging directory.
        let place = self.staging.join(format!("unpacked-{}", sys::unique()));
        let unpacked = Tree::private(&place).map_err(|error| disk_error("cannot make a staging directory", error))?;
        let failed = |error: io::Error| disk_error("it cannot be unpacked", error);
        let rules =
            Rules { latest: self.epoch, owner: owned.then_some(self.owner), whiteouts: false, rootfs: false, folder_times: true };
        let mut read = Hashed { inner: Whole::of(archive), hasher: Hasher::default() };
        let budget = Arc::new(Budget::new(bounds::image::ARCHIVE));
        let mut writer = image::Tree::new(&place, rules, budget.clone()).map_err(failed)?;
        let named = writer.write_listing(image::budgeted(&mut read, &budget).map_err(failed)?).map_err(failed)?;
        writer.finish().map_err(failed)?;
        // What stands behind the archive's end belongs to the file, too.
        io::copy(&mut read, &mut io::sink()).map_err(failed)?;
        let named: BTreeSet<String> = named.into_iter().collect();
        self.folder_or_there(to)?;
        self.merge(&unpacked, Path::new("/"), to, &named)?;
        if let (Some(name), Ok(above)) = (place.file_name(), Tree::open(self.staging)) {
            // The staging directory goes as a whole, later.
            let _ = above.remove(name);
        }
        Ok(read.hasher.finish())
    }

    fn folder_or_there(&mut self, to: &Path) -> Result<()> {
        if to == Path::new("/") || self.folders.contains_key(to) {
            return Ok(());
        }
        self.parents(to)?;
        self.make_folder(to, Folder { owner: self.owner, mode: 0o755, exact: None })
    }

    /// Moves what was unpacked to its place; directories that the archive names are as it says.
    fn merge(&mut self, from: &Tree, inside: &Path, to: &Path, named: &BTreeSet<String>) -> Result<()> {
        let failed = |inside: &Path| format!("cannot move {}", inside.display());
        for listed in from.list().context(|| failed(inside))? {
            let inside = inside.join(&listed.name);
            let to = to.join(&listed.name);
            if listed.kind == Kind::Folder {
                let below = from.folder(&listed.name).context(|| failed(&inside))?;
                let stat = below.facts().context(|| failed(&inside))?;
                let to = self.below.resolve(&to);
                let is_named = named.contains(&inside.display().to_string());
                let time = is_named.then(|| stat.st_mtime.min(self.epoch));
                let folder = Folder { owner: (stat.st_uid, stat.st_gid), mode: stat.st_mode & 0o7777, exact: time };
                self.parents(&to)?;
                if to != Path::new("/") {
                    self.make_folder(&to, folder)?;
                }
                self.merge(&below, &inside, &to, named)?;
            } else {
                self.parents(&to)?;
                let moved = self.room(&to).and_then(|(folder, name)| folder.rename(name, from, &listed.name));
                moved.map_err(|error| disk_error(&failed(&inside), error))?;
            }
        }
        Ok(())
    }

    /// Copies a path of a view with everything below it.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn tree_of(&mut self, from: &View, path: &Path, to: &Path, inside: &mut PathBuf) -> Result<()> {
        let shown = if inside.as_os_str().is_empty() { path.file_name().unwrap_or_default() } else { inside.as_os_str() };
        let shown = shown.to_string_lossy();
        if self.exclude.iter().any(|pattern| pattern_matches(pattern.trim_matches('/'), &shown)) {
            return Ok(());
        }
        let Some((_, metadata)) = from.entry(path) else { return Ok(()) };
        let failed = || format!("cannot read {}", path.display());
        if self.keeps_owners {
            self.owner = (metadata.uid(), metadata.gid());
        }
        if metadata.is_dir() {
            self.folder(to, if self.as_docker { self.mode(metadata.mode() & 0o7777, true) } else { 0o755 })?;
            for name in from.list(path).context(failed)? {
                inside.push(&name);
                self.tree_of(from, &path.join(&name), &to.join(&name), inside)?;
                inside.pop();
            }
            Ok(())
        } else if metadata.is_symlink() {
            let link = from.link(path).context(failed)?;
            self.link(to, &link)
        } else if metadata.is_file() {
            let mode = self.mode(metadata.mode() & 0o7777, false);
            let file = from.file(path).context(failed)?;
            let made = self.file(to, &file, mode)?;
            // A change of owner takes it away.
            match sys::get_file_attribute(&file, CAPABILITY).context(failed)? {
                Some(value) => sys::set_attribute_of(&made, CAPABILITY, &value)
                    .context(|| format!("cannot set {}'s capabilities", to.display())),
                None => Ok(()),
            }
        } else {
            Ok(())
        }
    }
}

/// An open file from its beginning, whoever else reads from it.
pub struct Whole<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> Whole<'f> {
    pub fn of(file: &'f File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A stream whose bytes are digested as they are read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

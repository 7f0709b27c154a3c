//! The tree that a `copy` step makes: where things go, who owns them, and which attributes their parent directories get.
//!
//! Everything is written by file descriptor, beneath the tree: a link from one source is never followed for the next.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::view::View;
use crate::image::{self, CAPABILITY, Rules};
use crate::model::{Budget, Context, Digest, Error, Hasher, Mode, Result, bounds, pattern_matches};
use crate::project::Copy;
use crate::runtime::{Identity, identity_in};
use crate::store::disk_error;
use crate::sys::{self, Facts, Kind, Nearby, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A directory of a step's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Folder {
    pub owner: (u32, u32),
    pub mode: u32,
    /// The directory's time, if the step itself defines the directory's attributes regardless of the layers below.
    exact: Option<i64>,
}

/// Directories of a step's tree; one that exists below keeps its attributes, unless the step says otherwise.
pub type Folders = BTreeMap<PathBuf, Folder>;

/// Where a step puts things.
#[derive(Clone, Copy)]
pub struct Onto<'a> {
    /// What it looks at to find its places, which is nothing if the step is linked.
    pub below: &'a View,
    /// The layers in which owners are looked up.
    pub users: &'a View,
    pub workdir: &'a str,
    /// The tree to write to.
    pub tree: &'a Tree,
    /// Our own directory beside the tree, on the same file system.
    pub beside: &'a Path,
    pub epoch: i64,
}

/// Where things go and who owns them.
pub struct Target<'a> {
    pub below: &'a View,
    root: &'a Tree,
    /// Remembers the directory of the tree that was written to last.
    near: Nearby<'a>,
    staging: &'a Path,
    pub epoch: i64,
    pub owner: (u32, u32),
    /// The owner that the step gives to everything, else root: directories on the way are theirs, too.
    given_owner: (u32, u32),
    /// Files of another image that have several names there, each with its first path here.
    twins: HashMap<(u64, u64), PathBuf>,
    mode: Option<&'a Mode>,
    pub as_docker: bool,
    /// Patterns of paths that are left out.
    exclude: &'a [String],
    /// Copies from an image keep owners in a Dockerfile, unless the step names an owner.
    pub keeps_owners: bool,
    pub folders: Folders,
    /// The parent directory that was made last.
    beside: PathBuf,
}

/// Sets the attributes of a tree's directories once everything is in them: as they are below, or as the step says.
///
/// # Errors
/// Fails when owner, permissions or time cannot be set.
pub fn settle(tree: &Tree, below: &View, folders: &Folders, epoch: i64) -> Result<()> {
    // The deepest come first, because changes in a directory would change the directory's time.
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

/// Converts a path of an image into a path in a tree.
pub fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Looks up the owner of copied files in the image below.
///
/// # Errors
/// Fails when the image does not know the name, or its users and groups cannot be read.
pub fn owner_in(below: &View, owner: &str) -> io::Result<Identity> {
    // A number alone is the group's, too (Dockerfile reference, "COPY --chown").
    let both = format!("{owner}:{owner}");
    let owner = if owner.bytes().all(|byte| byte.is_ascii_digit()) { &both } else { owner };
    // As for BuildKit, root needs no file that names it.
    let by_number = owner.split(':').map(|part| if part == "root" { "0" } else { part }).collect::<Vec<_>>().join(":");
    let owner = if by_number == "0" { "0:0" } else { &by_number };
    identity_in(&below.user_database("/etc/passwd")?, &below.user_database("/etc/group")?, owner, &[])
}

impl<'a> Target<'a> {
    /// Prepares for a step.
    ///
    /// # Errors
    /// Fails when the owner is not known.
    pub fn new(copy: &'a Copy, onto: Onto<'a>) -> Result<Self> {
        let below = onto.below;
        let owner = match &copy.owner {
            None => (0, 0),
            Some(owner) => {
                let found = owner_in(onto.users, owner).context(|| format!("cannot tell who \"{owner}\" is"))?;
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
            given_owner: owner,
            twins: HashMap::new(),
            mode: copy.mode.as_ref(),
            as_docker: copy.as_docker,
            exclude: &copy.exclude,
            keeps_owners: copy.as_docker && copy.owner.is_none(),
            beside: PathBuf::new(),
            folders: [(PathBuf::from("/"), Folder { owner: (0, 0), mode: 0o755, exact: None })].into(),
        })
    }

    /// The tree that is written to.
    pub fn root(&self) -> &'a Tree {
        self.root
    }

    /// The permissions that the step sets for everything, if any.
    pub fn given_mode(&self) -> Option<&Mode> {
        self.mode
    }

    /// The permissions of a file or directory that has these at its source.
    pub fn mode(&self, mode: u32, folder: bool) -> u32 {
        self.mode.map_or(mode, |given| given.apply(mode, folder))
    }

    /// Makes the directories above a path; their attributes are set at the end, by [`settle`].
    ///
    /// # Errors
    /// Fails when the path contains `..`, or when a directory cannot be made.
    pub fn parents(&mut self, path: &Path) -> Result<()> {
        // Whatever names a source has, nothing may be written outside the tree.
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::new(format!("{} contains `..`", path.display())));
        }
        // Most files are in the same directory as the one before them.
        let Some(parent) = path.parent().filter(|parent| self.beside.as_os_str() != parent.as_os_str()) else { return Ok(()) };
        if !self.folders.contains_key(parent) {
            self.parents(parent)?;
            self.make_folder(parent, Folder { owner: self.given_owner, mode: 0o755, exact: None })?;
        }
        parent.clone_into(&mut self.beside);
        Ok(())
    }

    /// Makes a directory, if it does not exist. A link in its place is never followed, because it may lead to the host.
    fn make_folder(&mut self, path: &Path, folder: Folder) -> Result<()> {
        // This lookup records the path: if the tree is made before its turn, the path is checked again then.
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

    /// Returns the parent directory and name for a new file or link; removes what an earlier source put there.
    fn room<'p>(&mut self, path: &'p Path) -> io::Result<(&Tree, &'p OsStr)> {
        let (folder, name) = self.near.at(inside(path))?;
        match folder.look(name)? {
            Some(stat) if Kind::of(&stat) != Kind::Folder => folder.remove_file(name)?,
            _ => {}
        }
        Ok((folder, name))
    }

    /// Makes a directory that belongs to the step, unless it is the root.
    ///
    /// # Errors
    /// Fails when the path contains `..`, or when a directory cannot be made.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        if path == Path::new("/") {
            return Ok(());
        }
        self.parents(path)?;
        self.make_folder(path, Folder { owner: self.owner, mode, exact: None })
    }

    /// Makes a directory that a source brings: it has the source's permissions even where it exists already.
    ///
    /// # Errors
    /// As for [`Self::folder`].
    pub fn brought(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.parents(path)?;
        self.make_folder(path, Folder { owner: self.owner, mode, exact: Some(self.epoch) })
    }

    /// Makes a file with this content.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn content(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.parents(path)?;
        let made = self.room(path).and_then(|(folder, name)| folder.make_file(name, 0o600));
        let made = made.and_then(|mut file| file.write_all(bytes).map(|()| file));
        let file = made.map_err(|error| disk_error(&format!("cannot make {}", path.display()), error))?;
        sys::finish_file(&file, mode, self.owner, self.epoch)
            .context(|| format!("cannot set the owner and permissions of {}", path.display()))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Fails when the link cannot be made.
    pub fn link(&mut self, path: &Path, link: &OsStr) -> Result<()> {
        self.parents(path)?;
        let facts = Facts { owner: self.owner, mode: 0o777, time: (self.epoch, 0) };
        let made = self.room(path).and_then(|(folder, name)| folder.make_link(name, link).and_then(|()| folder.set(name, facts)));
        made.map_err(|error| disk_error(&format!("cannot make {}", path.display()), error))
    }

    /// Copies an open file.
    ///
    /// # Errors
    /// Fails when the file cannot be read or its copy written.
    pub fn file(&mut self, path: &Path, from: &File, mode: u32) -> Result<File> {
        self.parents(path)?;
        let cannot = |what: &str| format!("cannot {what} {}", path.display());
        let out = self.room(path).and_then(|(folder, name)| folder.make_file(name, 0o600));
        let out = out.map_err(|error| disk_error(&cannot("make"), error))?;
        sys::copy_file(from, &out).map_err(|error| disk_error(&cannot("write"), error))?;
        sys::finish_file(&out, mode, self.owner, self.epoch).context(|| cannot("set the owner and permissions of"))?;
        Ok(out)
    }

    /// Unpacks an archive into a directory, following links of the image below as its own programs would. Returns the
    /// digest of the archive's bytes as they were read.
    ///
    /// # Errors
    /// Fails when the archive is damaged or hostile, or when something cannot be written.
    pub fn unpack(&mut self, archive: &File, to: &Path, owned: bool) -> Result<Digest> {
        // The archive is unpacked beside the tree first, in the step's own staging directory.
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
        // The digest must include the bytes after the end of the archive.
        io::copy(&mut read, &mut io::sink()).map_err(failed)?;
        let named: BTreeSet<String> = named.into_iter().collect();
        self.folder_or_there(to)?;
        self.merge(&unpacked, Path::new("/"), to, &named)?;
        if let (Some(name), Ok(above)) = (place.file_name(), Tree::open(self.staging)) {
            // If this fails, the whole staging directory is removed later.
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

    /// Moves unpacked files to their place; directories that the archive names get its attributes.
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
    /// Fails when something cannot be read or written.
    pub fn tree_of(&mut self, from: &View, path: &Path, to: &Path, inside: &mut PathBuf) -> Result<()> {
        let shown = if inside.as_os_str().is_empty() { path.file_name().unwrap_or_default() } else { inside.as_os_str() };
        let shown = shown.to_string_lossy();
        if self.exclude.iter().any(|pattern| pattern_matches(pattern.trim_matches('/'), &shown)) {
            return Ok(());
        }
        let Some((_, metadata)) = from.entry(path) else { return Ok(()) };
        let failed = || format!("cannot read {}", path.display());
        let is_top = inside.as_os_str().is_empty();
        if self.keeps_owners {
            self.owner = (metadata.uid(), metadata.gid());
        }
        if metadata.is_dir() {
            if !self.as_docker {
                self.folder(to, 0o755)?;
            } else if is_top {
                // The target is a directory of the step; the source's attributes are those of another place.
                self.owner = self.given_owner;
                let mode = if matches!(self.mode, Some(Mode::Symbols(_))) { 0o755 } else { self.mode(0o755, true) };
                self.folder(to, mode)?;
            } else {
                self.brought(to, self.mode(metadata.mode() & 0o7777, true))?;
            }
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
            let twin = (metadata.dev(), metadata.ino());
            if metadata.nlink() > 1
                && let Some(first) = self.twins.get(&twin).cloned()
            {
                return self.hard_link(to, &first);
            }
            let mode = self.mode(metadata.mode() & 0o7777, false);
            let file = from.file(path).context(failed)?;
            let made = self.file(to, &file, mode)?;
            if metadata.nlink() > 1 {
                self.twins.insert(twin, to.to_owned());
            }
            // The change of owner removed the capabilities, so they are set again.
            match sys::get_file_attribute(&file, CAPABILITY).context(failed)? {
                Some(value) => sys::set_attribute_of(&made, CAPABILITY, &value)
                    .context(|| format!("cannot set {}'s capabilities", to.display())),
                None => Ok(()),
            }
        } else if metadata.file_type().is_fifo() {
            self.fifo(to, self.mode(metadata.mode() & 0o7777, false))
        } else {
            Ok(())
        }
    }

    /// Makes a FIFO.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn fifo(&mut self, path: &Path, mode: u32) -> Result<()> {
        let facts = Facts { owner: self.owner, mode, time: (self.epoch, 0) };
        self.parents(path)?;
        let made = self.room(path).and_then(|(folder, name)| folder.make_fifo(name).and_then(|()| folder.set(name, facts)));
        made.map_err(|error| disk_error(&format!("cannot make {}", path.display()), error))
    }

    /// Gives a file of this step a second name.
    ///
    /// # Errors
    /// Fails when the link cannot be made.
    pub fn hard_link(&mut self, path: &Path, first: &Path) -> Result<()> {
        self.parents(path)?;
        let cannot = |error| disk_error(&format!("cannot make {}", path.display()), error);
        let (above, old) = (first.parent().unwrap_or(Path::new("/")), first.file_name().unwrap_or_default());
        let from = self.root.folder(inside(above)).map_err(cannot)?;
        self.room(path).and_then(|(folder, name)| folder.hard_link(name, &from, old)).map_err(cannot)
    }
}

/// Reads an open file from its beginning, independent of its shared cursor.
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

/// A stream that computes the digest of its bytes as they are read.
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

//! `copy` steps: the tree that becomes their layer.

use super::view::View;
use crate::image::CAPABILITY;
use crate::model::{Context, EPOCH, Fault, Outcome, pattern_matches};
use crate::plan::{FileTree, TreeKind};
use crate::runtime::identity_in;
use crate::spec::Copy;
use crate::store::disk_fault;
use crate::sys;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Folders of a step's tree, and whose they are unless they are there below.
pub type Folders = BTreeMap<PathBuf, ((u32, u32), u32)>;

/// Where things go and whose they are.
struct Target<'a> {
    below: &'a View,
    tree: &'a Path,
    owner: (u32, u32),
    mode: Option<u32>,
    as_docker: bool,
    /// Patterns of what is left out.
    exclude: &'a [String],
    /// A Dockerfile's copies from an image keep owners, unless it names one.
    keeps_owners: bool,
    folders: Folders,
}

/// Copies files of the project's folder.
///
/// # Errors
/// Unknown owners, files that changed since they were scanned, failures to write.
pub fn from_folder(copy: &Copy, files: &FileTree, folder: &Path, below: &View, workdir: &str, tree: &Path) -> Outcome<Folders> {
    let mut target = Target::new(copy, below, tree)?;
    let mut base = base(copy, below, workdir);
    if let ([only], true) = (files.entries.as_slice(), copy.as_docker)
        && only.to.is_empty()
        && (base == Path::new("/") || below.entry(&base).is_some_and(|(_, metadata)| metadata.is_dir()))
    {
        base.push(Path::new(&only.from).file_name().unwrap_or_default());
    }
    for (name, content) in &copy.inline {
        let into = copy.to.ends_with('/') || copy.sources.len() + copy.inline.len() > 1;
        let to = if into { base.join(name) } else { base.clone() };
        target.content(&to, content.as_bytes(), copy.mode.unwrap_or(0o644))?;
    }
    for entry in &files.entries {
        let to = if entry.to.is_empty() { base.clone() } else { base.join(&entry.to) };
        match &entry.kind {
            TreeKind::Folder => target.folder(&to, entry.mode.unwrap_or(0o755))?,
            TreeKind::Link(link) => target.link(&to, Path::new(link))?,
            TreeKind::File { digest, executable } => {
                if copy.unpack && is_archive(&folder.join(&entry.from)) {
                    return Err(Fault::new(format!("\"{}\" is an archive, and ADD does not unpack yet", entry.from))
                        .hint("write COPY, and unpack it in a RUN"));
                }
                let usual = if *executable { 0o755 } else { 0o644 };
                let mode = copy.mode.or(entry.mode).unwrap_or(usual);
                let place = target.file(&to, &folder.join(&entry.from), mode)?;
                let written = fs::read(&place).doing(|| format!("cannot read {}", place.display()))?;
                if crate::model::Digest::of(&written) != *digest {
                    return Err(
                        Fault::new(format!("\"{}\" changed while it was copied", entry.from)).hint("run the command again")
                    );
                }
            }
        }
    }
    Ok(target.folders)
}

/// Makes a folder, unless something is there.
///
/// # Errors
/// Failures to write.
pub fn folder(path: &str, below: &View, tree: &Path) -> Outcome<Folders> {
    let copy = Copy::default();
    let mut target = Target::new(&copy, below, tree)?;
    let path = below.resolve(Path::new(path));
    if below.entry(&path).is_none() {
        target.folder(&path, 0o755)?;
    }
    Ok(target.folders)
}

/// Whether a file begins as the archives do that Docker's ADD unpacks.
fn is_archive(path: &Path) -> bool {
    let mut start = [0; 262];
    let length = File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut start)).unwrap_or(0);
    let start = &start[..length];
    let marks: [&[u8]; 4] = [&[0x1f, 0x8b], &[0xfd, b'7', b'z', b'X', b'Z', 0], b"BZh", &[0x28, 0xb5, 0x2f, 0xfd]];
    marks.iter().any(|mark| start.starts_with(mark)) || start.get(257..262) == Some(b"ustar")
}

/// Copies files of another image; their permissions are kept.
///
/// # Errors
/// Sources that the image does not have, failures to write.
pub fn from_image(copy: &Copy, from: &View, below: &View, workdir: &str, tree: &Path) -> Outcome<Folders> {
    let mut target = Target::new(copy, below, tree)?;
    let base = base(copy, below, workdir);
    let mut sources = Vec::new();
    for source in &copy.sources {
        let found = if source.contains(['*', '?', '[']) { from.glob(source) } else { vec![PathBuf::from(source)] };
        if found.is_empty() {
            return Err(Fault::new(format!("in the image it copies from nothing matches \"{source}\"")));
        }
        sources.extend(found);
    }
    for source in &sources {
        let path = from.resolve(source);
        let Some((_, metadata)) = from.entry(&path) else {
            return Err(Fault::new(format!("the image it copies from has no \"{}\"", source.display())));
        };
        let there = copy.as_docker && below.entry(&base).is_some_and(|(_, metadata)| metadata.is_dir());
        let into_folder = copy.to.ends_with('/') || sources.len() > 1 || there || base == Path::new("/");
        let name = source.file_name().or(path.file_name()).unwrap_or_default();
        let to = if !metadata.is_dir() && into_folder { base.join(name) } else { base.clone() };
        target.tree_of(from, &path, &to, &mut PathBuf::new())?;
    }
    Ok(target.folders)
}

/// Gives a tree's folders what they have below, or what the step says, once everything is in them.
///
/// # Errors
/// Those of changing owner, permissions and time.
pub fn settle(tree: &Path, below: &View, folders: &Folders) -> Outcome<()> {
    // The deepest first: what is set in a folder must not touch the folder's time again.
    for (folder, (owner, mode)) in folders.iter().rev() {
        let (mode, owner, time) = match below.entry(folder) {
            Some((_, metadata)) if metadata.is_dir() => {
                (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()), metadata.mtime().min(EPOCH))
            }
            _ => (*mode, *owner, EPOCH),
        };
        finish(&place(tree, folder), mode, owner, time)?;
    }
    Ok(())
}

fn place(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

fn finish(place: &Path, mode: u32, owner: (u32, u32), time: i64) -> Outcome<()> {
    sys::set_owner(place, owner.0, owner.1)
        .and_then(|()| fs::set_permissions(place, Permissions::from_mode(mode)))
        .and_then(|()| sys::set_time(place, time))
        .doing(|| format!("cannot set the owner and permissions of {}", place.display()))
}

/// The absolute path that a step's `to` means, links of the image followed.
fn base(copy: &Copy, below: &View, workdir: &str) -> PathBuf {
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    below.resolve(&Path::new(workdir).join(&copy.to))
}

impl<'a> Target<'a> {
    fn new(copy: &'a Copy, below: &'a View, tree: &'a Path) -> Outcome<Self> {
        let owner = match &copy.owner {
            None => (0, 0),
            Some(owner) => {
                let found = identity_in(&below.read("/etc/passwd"), &below.read("/etc/group"), owner, &[]);
                let found = found.doing(|| format!("cannot tell who \"{owner}\" is"))?;
                (found.uid, found.gid)
            }
        };
        let folders = [(PathBuf::from("/"), ((0, 0), 0o755))].into();
        Ok(Self {
            below,
            tree,
            owner,
            mode: copy.mode,
            as_docker: copy.as_docker,
            exclude: &copy.exclude,
            keeps_owners: copy.as_docker && copy.owner.is_none(),
            folders,
        })
    }

    fn place(&self, path: &Path) -> PathBuf {
        place(self.tree, path)
    }

    /// Makes the folders above a path; what each is like is settled at the end.
    fn parents(&mut self, path: &Path) -> Outcome<()> {
        // Whatever a name is made of: nothing is written outside the tree.
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(Fault::new(format!("{} climbs", path.display())));
        }
        let Some(parent) = path.parent().filter(|parent| !self.folders.contains_key(*parent)) else { return Ok(()) };
        self.parents(parent)?;
        self.make_folder(parent, (0, 0), 0o755)
    }

    /// Makes a folder, if none is there; a link in its place is never followed: it may lead to the host.
    fn make_folder(&mut self, path: &Path, owner: (u32, u32), mode: u32) -> Outcome<()> {
        // Asked now, so that whoever makes this tree before its turn knows that it matters.
        let _ = self.below.entry(path);
        let place = self.place(path);
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Fault::new(format!("one source puts a file or link at {}, and another a folder", path.display())));
            }
            Err(_) => fs::create_dir(&place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?,
        }
        self.folders.insert(path.to_owned(), (owner, mode));
        Ok(())
    }

    /// Takes a file or link away that an earlier source put there.
    fn make_room(place: &Path) {
        if fs::symlink_metadata(place).is_ok_and(|metadata| !metadata.is_dir()) {
            let _ = fs::remove_file(place);
        }
    }

    fn folder(&mut self, path: &Path, mode: u32) -> Outcome<()> {
        if path == Path::new("/") {
            return Ok(());
        }
        self.parents(path)?;
        self.make_folder(path, self.owner, if self.as_docker { self.mode.unwrap_or(mode) } else { mode })
    }

    fn content(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
        self.parents(path)?;
        let place = self.place(path);
        Self::make_room(&place);
        fs::write(&place, bytes).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        finish(&place, mode, self.owner, EPOCH)
    }

    fn link(&mut self, path: &Path, link: &Path) -> Outcome<()> {
        self.parents(path)?;
        let place = self.place(path);
        Self::make_room(&place);
        symlink(link, &place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::set_owner(&place, self.owner.0, self.owner.1)
            .and_then(|()| sys::set_time(&place, EPOCH))
            .doing(|| format!("cannot set the owner of {}", path.display()))
    }

    fn file(&mut self, path: &Path, from: &Path, mode: u32) -> Outcome<PathBuf> {
        self.parents(path)?;
        let place = self.place(path);
        let source = File::open(from).doing(|| format!("cannot read {}", from.display()))?;
        Self::make_room(&place);
        let out = File::create_new(&place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::copy_file(&source, &out).map_err(|error| disk_fault(&format!("cannot write {}", path.display()), error))?;
        finish(&place, mode, self.owner, EPOCH)?;
        Ok(place)
    }

    /// Copies a path of a view with everything below it.
    fn tree_of(&mut self, from: &View, path: &Path, to: &Path, inside: &mut PathBuf) -> Outcome<()> {
        let shown = if inside.as_os_str().is_empty() { path.file_name().unwrap_or_default() } else { inside.as_os_str() };
        let shown = shown.to_string_lossy();
        if self.exclude.iter().any(|pattern| pattern_matches(pattern.trim_matches('/'), &shown)) {
            return Ok(());
        }
        let Some((place, metadata)) = from.entry(path) else { return Ok(()) };
        if self.keeps_owners {
            self.owner = (metadata.uid(), metadata.gid());
        }
        if metadata.is_dir() {
            self.folder(to, if self.as_docker { metadata.mode() & 0o7777 } else { 0o755 })?;
            for name in from.list(path) {
                inside.push(&name);
                self.tree_of(from, &path.join(&name), &to.join(&name), inside)?;
                inside.pop();
            }
            Ok(())
        } else if metadata.is_symlink() {
            let link = fs::read_link(&place).doing(|| format!("cannot read {}", place.display()))?;
            self.link(to, &link)
        } else if metadata.is_file() {
            let made = self.file(to, &place, self.mode.unwrap_or(metadata.mode() & 0o7777))?;
            // A change of owner takes it away.
            match sys::get_attribute(&place, CAPABILITY).ok().flatten() {
                Some(value) => {
                    sys::set_attribute(&made, CAPABILITY, &value).doing(|| format!("cannot set {}'s capabilities", to.display()))
                }
                None => Ok(()),
            }
        } else {
            Ok(())
        }
    }
}

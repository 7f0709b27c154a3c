//! `copy` steps: the tree that becomes their layer.

use super::view::View;
use crate::model::{Context, EPOCH, Fault, Outcome};
use crate::plan::{FileTree, TreeKind};
use crate::runtime::identity_in;
use crate::spec::Copy;
use crate::store::disk_fault;
use crate::sys;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where things go and whose they are.
struct Target<'a> {
    below: &'a View,
    tree: &'a Path,
    owner: (u32, u32),
    mode: Option<u32>,
}

/// Copies files of the project's folder.
///
/// # Errors
/// Unknown owners, files that changed since they were scanned, failures to write.
pub fn from_folder(copy: &Copy, files: &FileTree, folder: &Path, below: &View, workdir: &str, tree: &Path) -> Outcome<()> {
    let target = Target::new(copy, below, tree)?;
    let base = base(copy, below, workdir);
    for entry in &files.entries {
        let to = if entry.to.is_empty() { base.clone() } else { base.join(&entry.to) };
        match &entry.kind {
            TreeKind::Folder => target.folder(&to)?,
            TreeKind::Link(link) => target.link(&to, Path::new(link))?,
            TreeKind::File { digest, executable } => {
                let mode = copy.mode.unwrap_or(if *executable { 0o755 } else { 0o644 });
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
    Ok(())
}

/// Copies files of another image; their permissions are kept.
///
/// # Errors
/// Sources that the image does not have, failures to write.
pub fn from_image(copy: &Copy, from: &View, below: &View, workdir: &str, tree: &Path) -> Outcome<()> {
    let target = Target::new(copy, below, tree)?;
    let base = base(copy, below, workdir);
    for source in &copy.sources {
        let path = from.resolve(Path::new(source));
        let Some((_, metadata)) = from.entry(&path) else {
            return Err(Fault::new(format!("the image it copies from has no \"{source}\"")));
        };
        let into_folder = copy.to.ends_with('/') || copy.sources.len() > 1;
        let to = if !metadata.is_dir() && into_folder { base.join(path.file_name().unwrap_or_default()) } else { base.clone() };
        target.tree_of(from, &path, &to)?;
    }
    Ok(())
}

/// The absolute path that a step's `to` means, links of the image followed.
fn base(copy: &Copy, below: &View, workdir: &str) -> PathBuf {
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    below.resolve(&Path::new(workdir).join(&copy.to))
}

impl<'a> Target<'a> {
    fn new(copy: &Copy, below: &'a View, tree: &'a Path) -> Outcome<Self> {
        let owner = match &copy.owner {
            None => (0, 0),
            Some(owner) => {
                let found = identity_in(&below.read("/etc/passwd"), &below.read("/etc/group"), owner, &[]);
                let found = found.doing(|| format!("cannot tell who \"{owner}\" is"))?;
                (found.uid, found.gid)
            }
        };
        let target = Self { below, tree, owner, mode: copy.mode };
        fs::set_permissions(tree, Permissions::from_mode(0o755)).doing(|| "cannot set permissions".into())?;
        Ok(target)
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.tree.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes the folders above a path: those that exist below keep what they are.
    fn parents(&self, path: &Path) -> Outcome<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            let place = self.place(folder);
            let existing = self.below.entry(folder);
            if folder != Path::new("/") && !self.make_folder(folder, &place)? {
                continue;
            }
            let (mode, owner, time) = match &existing {
                Some((_, metadata)) if metadata.is_dir() => {
                    (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()), metadata.mtime().min(EPOCH))
                }
                _ => (0o755, (0, 0), EPOCH),
            };
            self.finish(&place, mode, owner, time)?;
        }
        Ok(())
    }

    /// Makes a folder, if none is there; a link in its place is never followed: it may lead to the host.
    fn make_folder(&self, path: &Path, place: &Path) -> Outcome<bool> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => Ok(false),
            Ok(_) => Err(Fault::new(format!("one source puts a file or link at {}, and another a folder", path.display()))),
            Err(_) => {
                fs::create_dir(place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
                Ok(true)
            }
        }
    }

    /// Takes a file or link away that an earlier source put there.
    fn make_room(place: &Path) {
        if fs::symlink_metadata(place).is_ok_and(|metadata| !metadata.is_dir()) {
            let _ = fs::remove_file(place);
        }
    }

    fn finish(&self, place: &Path, mode: u32, owner: (u32, u32), time: i64) -> Outcome<()> {
        sys::set_owner(place, owner.0, owner.1)
            .and_then(|()| fs::set_permissions(place, Permissions::from_mode(mode)))
            .and_then(|()| sys::set_time(place, time))
            .doing(|| format!("cannot set the owner and permissions of {}", place.display()))
    }

    fn folder(&self, path: &Path) -> Outcome<()> {
        if path == Path::new("/") {
            return Ok(());
        }
        self.parents(path)?;
        let place = self.place(path);
        self.make_folder(path, &place)?;
        // A folder that the image has already keeps its owner and permissions.
        match self.below.entry(path) {
            Some((_, metadata)) if metadata.is_dir() => {
                self.finish(&place, metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()), metadata.mtime().min(EPOCH))
            }
            _ => self.finish(&place, 0o755, self.owner, EPOCH),
        }
    }

    fn link(&self, path: &Path, link: &Path) -> Outcome<()> {
        self.parents(path)?;
        let place = self.place(path);
        Self::make_room(&place);
        symlink(link, &place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::set_owner(&place, self.owner.0, self.owner.1)
            .and_then(|()| sys::set_time(&place, EPOCH))
            .doing(|| format!("cannot set the owner of {}", path.display()))
    }

    fn file(&self, path: &Path, from: &Path, mode: u32) -> Outcome<PathBuf> {
        self.parents(path)?;
        let place = self.place(path);
        let source = File::open(from).doing(|| format!("cannot read {}", from.display()))?;
        Self::make_room(&place);
        let out = File::create_new(&place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::copy_file(&source, &out).map_err(|error| disk_fault(&format!("cannot write {}", path.display()), error))?;
        self.finish(&place, mode, self.owner, EPOCH)?;
        Ok(place)
    }

    /// Copies a path of a view with everything below it.
    fn tree_of(&self, from: &View, path: &Path, to: &Path) -> Outcome<()> {
        let Some((place, metadata)) = from.entry(path) else { return Ok(()) };
        if metadata.is_dir() {
            self.folder(to)?;
            for name in from.list(path) {
                self.tree_of(from, &path.join(&name), &to.join(&name))?;
            }
            Ok(())
        } else if metadata.is_symlink() {
            let link = fs::read_link(&place).doing(|| format!("cannot read {}", place.display()))?;
            self.link(to, &link)
        } else if metadata.is_file() {
            self.file(to, &place, self.mode.unwrap_or(metadata.mode() & 0o7777)).map(drop)
        } else {
            Ok(())
        }
    }
}

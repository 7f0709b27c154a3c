//! `copy` steps: what they take, and where it goes.
//!
//! Files of the project's directory are read by file descriptor, and only links that a step names are followed there,
//! because a container may write to the same directory at the same time.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::ground::Ground;
use super::scan_cache::ScanCache;
pub use super::target::{Folders, Onto, settle};
use super::target::{Target, Whole, inside, owner_in};
use super::view::View;
use crate::image::{CAPABILITY, Entries, decompressed, is_archive};
use crate::model::{Context, Digest, Error, Mode, Result, spelled, unspelled};
use crate::plan::{FileTree, TreeEntry, TreeKind};
use crate::project::Copy;
use crate::store::disk_error;
use crate::sys::{self, Nearby, Tree};
use nix::sys::stat::{FileStat, fstat};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a step takes the project's files from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub ground: &'a Ground,
    pub known: &'a ScanCache,
    pub last: Option<&'a Last>,
}

/// Copies files of the project's directory.
///
/// # Errors
/// Fails when the owner is unknown, a file changed since the scan, or something cannot be written.
pub fn from_folder(copy: &Copy, files: &FileTree, source: Source, onto: Onto) -> Result<Folders> {
    let Source { ground, known, last } = source;
    let mut target = Target::new(copy, onto)?;
    let base = destination(copy, Some(files), onto.below, onto.workdir);
    let there: HashMap<&str, &TreeEntry> = match last {
        Some(last) if last.manner == manner(copy, files, onto)? => {
            last.files.entries.iter().map(|entry| (entry.to.as_str(), entry)).collect()
        }
        _ => HashMap::new(),
    };
    for (name, content) in &copy.inline {
        let into = copy.to.ends_with('/') || copy.sources.len() + copy.inline.len() > 1;
        let to = if into { base.join(name) } else { base.clone() };
        let mode = target.mode(0o644, false);
        target.content(&to, content.as_bytes(), mode)?;
    }
    let (mut later, mut twins) = (Vec::new(), Vec::new());
    for entry in &files.entries {
        let to = entry.place(&base);
        match &entry.kind {
            TreeKind::Folder => {
                // Directories that a copy only makes on the way have default permissions.
                let mode = match (entry.mode, &copy.mode) {
                    // Symbols change what a source has, and the target is none.
                    (Some(mode), Some(Mode::Symbols(_))) if entry.to.is_empty() => mode,
                    (mode, _) => mode.map_or(0o755, |mode| target.mode(mode, copy.as_docker)),
                };
                if !copy.as_docker {
                    target.folder(&to, 0o755)?;
                } else if entry.to.is_empty() {
                    target.folder(&to, mode)?;
                } else {
                    target.brought(&to, mode)?;
                }
            }
            TreeKind::Link(link) => target.link(&to, &unspelled(link))?,
            TreeKind::Fifo => target.fifo(&to, target.mode(entry.mode.unwrap_or(0o644), false))?,
            TreeKind::Twin { .. } => twins.push((to, entry)),
            TreeKind::File { digest, executable } => {
                let usual = if *executable { 0o755 } else { 0o644 };
                if !copy.unpack && copy.inline.is_empty() {
                    // Its directory is made now; its content is copied later, together with all other files.
                    target.parents(&to)?;
                    let mode = target.mode(entry.mode.unwrap_or(usual), false);
                    later.push(Later { to, mode, entry, digest: *digest });
                    continue;
                }
                let cannot = || format!("cannot read \"{}\"", entry.from);
                let (file, _) = ground.file(&entry.from).context(cannot)?;
                if copy.unpack && entry.whole && begins_as_archive(&file).context(cannot)? {
                    // The archive is unpacked into the directory that it would have been copied to.
                    let into = if entry.to.is_empty() { base.clone() } else { to.parent().unwrap_or(&to).to_owned() };
                    let read = target.unpack(&file, &into, copy.owner.is_some());
                    if read.context(|| format!("cannot unpack \"{}\"", entry.from))? != *digest {
                        return Err(changed(&entry.from));
                    }
                    continue;
                }
                let mode = target.mode(entry.mode.unwrap_or(usual), false);
                target.file(&to, &file, mode)?;
                check(fstat(&file), (target.root(), inside(&to)), *digest, known, &entry.from)?;
            }
        }
    }
    let (tree, owner, epoch) = (target.root(), target.owner, target.epoch);
    let project = ground.tree().context(|| "cannot read the project's directory".into())?;
    // One thread makes the files of one directory, because the kernel locks the directory while a file is made in it.
    sys::on_all_cores(&later, 64, |_, part| {
        let (mut from, mut new) = (Nearby::of(project), Nearby::of(tree));
        let mut old = last.map(|last| Nearby::of(&last.tree));
        part.iter().try_for_each(|Later { to, mode, entry, digest }| {
            let place = inside(to);
            let was = there.get(entry.to.as_str()).filter(|was| (&was.kind, was.mode) == (&entry.kind, entry.mode));
            if was.is_some() && old.as_mut().is_some_and(|old| again(old, &mut new, place).is_ok()) {
                return Ok(());
            }
            let cannot = || format!("cannot write {}", to.display());
            let (file, _) = from.open(&ground.real(&entry.from)).context(|| format!("cannot read \"{}\"", entry.from))?;
            let out = new.at(place).and_then(|(folder, name)| folder.make_file(name, *mode));
            let out = out.map_err(|error| disk_error(&cannot(), error))?;
            sys::copy_file(&file, &out).map_err(|error| disk_error(&cannot(), error))?;
            sys::finish_file(&out, *mode, owner, epoch).context(cannot)?;
            check(fstat(&file), (tree, place), *digest, known, &entry.from)
        })
    })?;
    for (to, entry) in twins {
        let TreeKind::Twin { of, from } = &entry.kind else { continue };
        // The two names must still be of one file.
        let file_of = |path: &str| ground.file(path).context(|| format!("cannot read \"{path}\""));
        let ((_, one), (_, other)) = (file_of(&entry.from)?, file_of(from)?);
        if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
            return Err(changed(&entry.from));
        }
        target.hard_link(&to, &if of.is_empty() { base.clone() } else { base.join(unspelled(of)) })?;
    }
    Ok(target.folders)
}

/// Hard-links a file of the step's previous layer into the new one.
fn again(old: &mut Nearby, new: &mut Nearby, place: &Path) -> io::Result<()> {
    let (from, was) = old.at(place)?;
    let (folder, name) = new.at(place)?;
    folder.hard_link(name, from, was)
}

/// A file that is still to be copied; its directory exists already.
struct Later<'a> {
    to: PathBuf,
    mode: u32,
    entry: &'a TreeEntry,
    digest: Digest,
}

/// The layer that a step made last time: unchanged files are hard-linked from it instead of copied.
pub struct Last {
    pub tree: Tree,
    pub files: FileTree,
    /// The digest of everything in which files of equal content could differ.
    pub manner: Digest,
}

/// A digest of where a copy puts its files and which attributes they get, apart from those of the files themselves.
///
/// # Errors
/// Fails when the owner is not known.
pub fn manner(copy: &Copy, files: &FileTree, onto: Onto) -> Result<Digest> {
    let target = Target::new(copy, onto)?;
    let base = destination(copy, Some(files), onto.below, onto.workdir);
    Ok(Digest::of_json(&(spelled(base.as_os_str()), target.owner, target.given_mode(), target.as_docker, target.epoch)))
}

/// What a plain copy puts where: the content of each file, and what its permissions are made of, by the path in the layer.
pub struct Brought<'a> {
    base: PathBuf,
    files: HashMap<Cow<'a, OsStr>, (Digest, u32)>,
}

impl<'a> Brought<'a> {
    pub fn by(copy: &Copy, files: &'a FileTree, onto: Onto) -> Self {
        let file = |entry: &'a TreeEntry| match &entry.kind {
            // No file has as many bits of permissions as are set beside those that the step makes of `executable`.
            TreeKind::File { digest, executable } => {
                let mode = entry.mode.unwrap_or(if *executable { u32::MAX } else { u32::MAX - 1 });
                Some((unspelled(&entry.to), (*digest, mode)))
            }
            _ => None,
        };
        Self {
            base: inside(&destination(copy, Some(files), onto.below, onto.workdir)).to_owned(),
            files: files.entries.iter().filter_map(file).collect(),
        }
    }

    /// What is in the file at a path of the layer, if the copy brought it.
    pub fn at(&self, path: &Path) -> Option<(Digest, u32)> {
        self.files.get(path.strip_prefix(&self.base).ok()?.as_os_str()).copied()
    }
}

/// Checks that what was copied is what was scanned: either the source is unchanged, or the copy has the right content.
fn check(
    source: nix::Result<FileStat>,
    (tree, copy): (&Tree, &Path),
    digest: Digest,
    known: &ScanCache,
    shown: &str,
) -> Result<()> {
    let failed = || format!("cannot read \"{shown}\"");
    if known.knows(shown, &source.context(failed)?, &digest) {
        return Ok(());
    }
    if tree.file(copy).and_then(Digest::of_stream).context(failed)? == digest { Ok(()) } else { Err(changed(shown)) }
}

fn changed(shown: &str) -> Error {
    Error::new(format!("\"{shown}\" changed while it was copied")).hint("run the command again")
}

fn begins_as_archive(file: &File) -> io::Result<bool> {
    let mut start = Vec::with_capacity(262);
    Whole::of(file).take(262).read_to_end(&mut start)?;
    if !is_archive(&start) {
        return Ok(false);
    }
    // A compressed file need not be a tar: Docker's ADD copies files that it cannot read as a tar.
    let readable = decompressed(Whole::of(file)).and_then(|inner| Entries::new(inner).next_entry().map(|entry| entry.is_some()));
    Ok(readable.unwrap_or(false))
}

/// Puts a fetched file in place, or unpacks it.
///
/// # Errors
/// Fails when the owner is unknown, the archive is damaged or hostile, or something cannot be written.
pub fn from_file(copy: &Copy, file: &File, name: &str, onto: Onto) -> Result<Folders> {
    let mut target = Target::new(copy, onto)?;
    let mut to = base(copy, onto.below, onto.workdir);
    if copy.unpack {
        if !begins_as_archive(file).context(|| format!("cannot read \"{name}\""))? {
            return Err(Error::new(format!(
                "\"{name}\" is not an archive: neither a tar nor one compressed by gzip, bzip2, xz or zstd"
            ))
            .hint("remove `unpack`, or check what the URL returns"));
        }
        target.unpack(file, &to, copy.owner.is_some())?;
        return Ok(target.folders);
    }
    let there = copy.as_docker && onto.below.entry(&to).is_some_and(|(_, metadata)| metadata.is_dir());
    if copy.to.ends_with('/') || there || to == Path::new("/") {
        to.push(name);
    }
    // As in Docker, only the owner may read a file that was downloaded.
    let mode = target.mode(if copy.as_docker { 0o600 } else { 0o644 }, false);
    target.file(&to, file, mode)?;
    Ok(target.folders)
}

/// Puts a fetched tree in place.
///
/// # Errors
/// Fails when the owner is unknown, or when something cannot be written.
pub fn from_tree(copy: &Copy, from: &Path, onto: Onto) -> Result<Folders> {
    let mut target = Target::new(copy, onto)?;
    target.keeps_owners = false;
    let to = base(copy, onto.below, onto.workdir);
    target.tree_of(&View::new(vec![from.to_owned()]), Path::new("/"), &to, &mut PathBuf::new())?;
    Ok(target.folders)
}

/// Makes a directory that a user owns, with its missing parents, unless something is there.
///
/// # Errors
/// Fails when the user is unknown, or when something cannot be written.
pub fn folder(path: &str, user: &str, onto: Onto) -> Result<Folders> {
    let copy = Copy { owner: Some(user.to_owned()).filter(|user| !user.is_empty()), ..Copy::default() };
    let mut target = Target::new(&copy, onto)?;
    let path = onto.below.resolve(Path::new(path));
    let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| onto.below.entry(folder).is_none()).collect();
    while let Some(folder) = missing.pop() {
        target.folder(folder, 0o755)?;
    }
    Ok(target.folders)
}

/// Copies files of another image, keeping their permissions.
///
/// # Errors
/// Fails when the image does not have a source, or when something cannot be written.
pub fn from_image(copy: &Copy, from: &View, onto: Onto) -> Result<Folders> {
    let mut target = Target::new(copy, onto)?;
    for (path, to) in taken(copy, from, onto.below, onto.workdir)? {
        target.tree_of(from, &path, &to, &mut PathBuf::new())?;
    }
    Ok(target.folders)
}

/// Lists what a copy takes from another image, and where each path goes.
///
/// # Errors
/// Fails when the image does not have a source.
fn taken(copy: &Copy, from: &View, below: &View, workdir: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let base = base(copy, below, workdir);
    let mut sources: Vec<(String, PathBuf)> = Vec::new();
    for source in &copy.sources {
        // With `parents`, the part before `/./` is dropped.
        let (pivot, _) = source.split_once("/./").unwrap_or_default();
        let plain = source.replacen("/./", "/", 1);
        let found = if plain.contains(['*', '?', '[']) {
            from.glob(&plain).context(|| "cannot read the image it copies from".into())?
        } else {
            vec![PathBuf::from(&plain)]
        };
        if found.is_empty() && !copy.as_docker {
            return Err(Error::new(format!("nothing in the image it copies from matches \"{source}\"")));
        }
        sources.extend(found.into_iter().map(|path| (pivot.to_owned(), path)));
    }
    let several = sources.len() > 1;
    let mut all = Vec::new();
    for (pivot, source) in sources {
        let path = from.resolve(&source);
        let Some((_, metadata)) = from.entry(&path) else {
            return Err(Error::new(format!("the image it copies from has no \"{}\"", source.display())));
        };
        let name = source.file_name().or(path.file_name()).unwrap_or_default();
        let there = copy.as_docker && below.entry(&base).is_some_and(|(_, metadata)| metadata.is_dir());
        let into_folder = copy.to.ends_with('/') || several || there || base == Path::new("/");
        let to = if copy.parents {
            let whole = source.strip_prefix("/").unwrap_or(&source);
            let kept = whole.strip_prefix(pivot.trim_matches('/')).unwrap_or(whole);
            base.join(kept)
        } else if !metadata.is_dir() && into_folder {
            base.join(name)
        } else {
            base.clone()
        };
        all.push((path, to));
    }
    Ok(all)
}

/// A digest of everything that a copy's tree depends on besides its own files: where it goes, who owns it, the attributes of
/// the directories on the way, and what it takes from another image. `None` if that is not known beforehand.
pub fn surroundings(copy: &Copy, workdir: &str, below: &View, from: Option<&View>, tree: Option<&FileTree>) -> Option<Digest> {
    if copy.unpack {
        return None;
    }
    let nothing = View::new(Vec::new());
    let (users, below) = (below, if copy.link { &nothing } else { below });
    let base = destination(copy, tree, below, workdir);
    let mut folders: BTreeMap<PathBuf, Option<(u32, u32, u32, i64)>> = BTreeMap::new();
    let mut visit = |path: &Path, itself: bool| {
        for folder in path.ancestors().skip(usize::from(!itself)) {
            if folders.contains_key(folder) {
                break;
            }
            let state = below.entry(folder).filter(|(_, metadata)| metadata.is_dir());
            let state = state.map(|(_, metadata)| (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime()));
            folders.insert(folder.to_owned(), state);
        }
    };
    visit(&base, false);
    for (name, _) in &copy.inline {
        visit(&base.join(name), false);
    }
    let mut beside = None;
    for entry in tree.iter().flat_map(|tree| &tree.entries) {
        // Most files are in the same directory as the one before them.
        let parent = entry.to.rsplit_once('/').map(|(parent, _)| parent);
        let is_folder = entry.kind == TreeKind::Folder;
        if is_folder || parent.is_none() || parent != beside {
            visit(&entry.place(&base), is_folder);
        }
        beside = parent;
    }
    let mut contents = Vec::new();
    if let Some(from) = from {
        for (path, to) in taken(copy, from, below, workdir).ok()? {
            listing(from, &path, &to, &mut contents, &mut visit).ok()?;
        }
    }
    let owner = match &copy.owner {
        None => (0, 0),
        Some(owner) => {
            let found = owner_in(users, owner).ok()?;
            (found.uid, found.gid)
        }
    };
    let folders: Vec<_> = folders.iter().map(|(path, state)| (spelled(path.as_os_str()), state)).collect();
    Some(Digest::of_json(&(spelled(base.as_os_str()), owner, folders, contents)))
}

/// Describes as text what is at a path of a view, and below it.
fn listing(from: &View, path: &Path, to: &Path, found: &mut Vec<String>, visit: &mut dyn FnMut(&Path, bool)) -> io::Result<()> {
    let Some((_, metadata)) = from.entry(path) else { return Ok(()) };
    visit(to, metadata.is_dir());
    let content = if metadata.is_symlink() {
        format!("{:?}", from.link(path)?)
    } else if metadata.is_file() {
        let file = from.file(path)?;
        let capability = sys::get_file_attribute(&file, CAPABILITY)?;
        format!("{} {capability:?}", Digest::of_stream(file)?)
    } else {
        String::new()
    };
    found.push(format!("{to:?} {:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()));
    if metadata.is_dir() {
        for name in from.list(path)? {
            listing(from, &path.join(&name), &to.join(&name), found, visit)?;
        }
    }
    Ok(())
}

/// The absolute path of a step's `to`, with links of the image resolved.
fn base(copy: &Copy, below: &View, workdir: &str) -> PathBuf {
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    below.resolve(&Path::new(workdir).join(&copy.to))
}

/// Where the files of a copy go. In a Dockerfile, a single file goes into the destination if that is an existing directory.
pub fn destination(copy: &Copy, files: Option<&FileTree>, below: &View, workdir: &str) -> PathBuf {
    let mut base = base(copy, below, workdir);
    if let (Some([only]), true) = (files.map(|files| files.entries.as_slice()), copy.as_docker && !copy.unpack)
        && only.to.is_empty()
        && only.is_file()
        && (base == Path::new("/") || below.entry(&base).is_some_and(|(_, metadata)| metadata.is_dir()))
    {
        base.push(Path::new(&only.from).file_name().unwrap_or_default());
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    #[test]
    fn what_a_linked_copy_makes_depends_on_nothing_below_but_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["from", "plain/srv", "other/srv/conf", "other/etc", "users/etc"] {
            create_dir_all(at(path)).unwrap();
        }
        write(at("from/f"), "f").unwrap();
        std::os::unix::fs::symlink("/elsewhere", at("other/srv/link")).unwrap();
        for (path, uid) in [("other/etc/passwd", 7), ("users/etc/passwd", 8)] {
            write(at(path), format!("me:x:{uid}:{uid}::/:/bin/sh\n")).unwrap();
        }
        let view = |name: &str| View::new(vec![at(name)]);
        let made = |copy: &Copy, below: &str| surroundings(copy, "", &view(below), Some(&view("from")), None);
        for to in ["/srv/conf", "/srv/link/f", "/srv/conf/"] {
            let copy = Copy { sources: vec!["/f".into()], to: to.into(), as_docker: true, ..Copy::default() };
            let linked = Copy { link: true, ..copy.clone() };
            assert_ne!(made(&copy, "plain"), made(&copy, "other"), "{to}");
            assert_eq!(made(&linked, "plain"), made(&linked, "other"), "{to}");
            // The names of users are those of the image, as people expect.
            let owned = Copy { owner: Some("me".into()), ..linked };
            assert_ne!(made(&owned, "users"), made(&owned, "other"), "{to}");
        }
    }
}

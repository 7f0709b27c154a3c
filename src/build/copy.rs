//! `copy` steps: the tree that becomes their layer.

use super::known::ScanCache;
use super::view::View;
use crate::image::{self, CAPABILITY, Rules, decompressed, is_archive};
use crate::model::{Context, Digest, Fault, Mode, Outcome, pattern_matches};
use crate::plan::{FileTree, TreeEntry, TreeKind};
use crate::runtime::{Identity, identity_in};
use crate::spec::Copy;
use crate::store::disk_fault;
use crate::sys::{self, Nearby};
use nix::sys::stat::{FileStat, fstat, stat};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// A folder of a step's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Folder {
    pub owner: (u32, u32),
    pub mode: u32,
    /// Set where the step says what the folder is like, whatever is there below: its time.
    exact: Option<i64>,
}

/// Folders of a step's tree; one that is there below stays as it is, unless the step says otherwise.
pub type Folders = BTreeMap<PathBuf, Folder>;

/// Where a step puts things.
#[derive(Clone, Copy)]
pub struct Onto<'a> {
    pub below: &'a View,
    pub workdir: &'a str,
    /// The tree that is being made.
    pub tree: &'a Path,
    pub epoch: i64,
}

/// Where a step takes files of the project's from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub folder: &'a Path,
    pub known: &'a ScanCache,
    pub last: Option<&'a Last>,
}

/// Where things go and whose they are.
struct Target<'a> {
    below: &'a View,
    tree: &'a Path,
    epoch: i64,
    owner: (u32, u32),
    mode: Option<&'a Mode>,
    as_docker: bool,
    /// Patterns of what is left out.
    exclude: &'a [String],
    /// A Dockerfile's copies from an image keep owners, unless it names one.
    keeps_owners: bool,
    folders: Folders,
    /// A folder that is made.
    beside: PathBuf,
}

/// Copies files of the project's folder.
///
/// # Errors
/// Unknown owners, files that changed since they were scanned, failures to write.
pub fn from_folder(copy: &Copy, files: &FileTree, source: Source, onto: Onto) -> Outcome<Folders> {
    let Source { folder, known, last } = source;
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
    let mut later = Vec::new();
    for entry in &files.entries {
        let to = entry.place(&base);
        match &entry.kind {
            TreeKind::Folder => {
                // What a copy makes on its way is not what it copies.
                let mode = entry.mode.map_or(0o755, |mode| target.mode(mode, copy.as_docker));
                target.folder(&to, if copy.as_docker { mode } else { 0o755 })?;
            }
            TreeKind::Link(link) => target.link(&to, Path::new(link))?,
            TreeKind::File { digest, executable } => {
                let usual = if *executable { 0o755 } else { 0o644 };
                if !copy.unpack && copy.inline.is_empty() {
                    // Where it goes is made now; what it holds comes with all others.
                    target.parents(&to)?;
                    let mode = target.mode(entry.mode.unwrap_or(usual), false);
                    later.push(Later { to, mode, entry, digest: *digest });
                    continue;
                }
                let source = folder.join(&entry.from);
                if copy.unpack && entry.whole && begins_as_archive(&source)? {
                    // It is unpacked into the folder that its file would have gone to.
                    let into = if entry.to.is_empty() { base.clone() } else { to.parent().unwrap_or(&to).to_owned() };
                    target.unpack(&source, &into, copy.owner.is_some()).doing(|| format!("cannot unpack \"{}\"", entry.from))?;
                    check(stat(&source), &source, *digest, known, &entry.from)?;
                    continue;
                }
                let mode = target.mode(entry.mode.unwrap_or(usual), false);
                let made = target.file(&to, &source, mode)?;
                check(stat(&source), &made, *digest, known, &entry.from)?;
            }
        }
    }
    let (tree, owner, epoch) = (target.tree, target.owner, target.epoch);
    // Files of one folder are made by one thread: the folder is locked meanwhile.
    sys::on_all_cores(&later, 64, |_, part| {
        let (mut from, mut new, mut old) = <(Nearby, Nearby, Nearby)>::default();
        part.iter().try_for_each(|Later { to, mode, entry, digest }| {
            let place = place(tree, to);
            let was = there.get(entry.to.as_str()).filter(|was| (&was.kind, was.mode) == (&entry.kind, entry.mode));
            if was.and(last).is_some_and(|last| new.link(&mut old, &self::place(&last.tree, to), &place).is_ok()) {
                return Ok(());
            }
            let cannot = || format!("cannot write {}", place.display());
            let source = folder.join(&entry.from);
            let file = from.open(&source).doing(|| format!("cannot read {}", entry.from))?;
            let out = new.create(&place, *mode).map_err(|error| disk_fault(&cannot(), error))?;
            sys::copy_file(&file, &out).map_err(|error| disk_fault(&cannot(), error))?;
            sys::finish_file(&out, *mode, owner, epoch).doing(cannot)?;
            check(fstat(&file), &place, *digest, known, &entry.from)
        })
    })?;
    Ok(target.folders)
}

/// A file whose folder is made, and that is yet to be copied.
struct Later<'a> {
    to: PathBuf,
    mode: u32,
    entry: &'a TreeEntry,
    digest: Digest,
}

/// The layer that a step came to before: files that are as they were are named again, not copied.
pub struct Last {
    pub tree: PathBuf,
    pub files: FileTree,
    /// Of all that files of equal content could differ in.
    pub manner: Digest,
}

/// Where a copy puts its files and what they are like, as far as its own files do not tell.
///
/// # Errors
/// An owner that is not known.
pub fn manner(copy: &Copy, files: &FileTree, onto: Onto) -> Outcome<Digest> {
    let target = Target::new(copy, onto)?;
    let base = destination(copy, Some(files), onto.below, onto.workdir);
    Ok(Digest::of_json(&(base, target.owner, target.mode, target.as_docker, target.epoch)))
}

/// What was copied must be what was scanned: that the source is still as it was tells, or else the copy's content.
fn check(source: nix::Result<FileStat>, copy: &Path, digest: Digest, known: &ScanCache, shown: &str) -> Outcome<()> {
    let failed = || format!("cannot read \"{shown}\"");
    if known.knows(shown, &source.doing(failed)?, &digest) || digest_of(copy).doing(failed)? == digest {
        return Ok(());
    }
    Err(Fault::new(format!("\"{shown}\" changed while it was copied")).hint("run the command again"))
}

/// The digest of a file, however long.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    Digest::of_stream(File::open(path)?)
}

/// Gives something the times of another thing.
///
/// # Errors
/// Those of `utimensat(2)`.
pub fn copy_times(metadata: &fs::Metadata, to: &Path) -> io::Result<()> {
    sys::set_time(to, metadata.mtime())
}

fn begins_as_archive(path: &Path) -> Outcome<bool> {
    let mut start = [0; 262];
    let mut length = 0;
    let mut file = File::open(path).doing(|| format!("cannot read {}", path.display()))?;
    while length < start.len() {
        match file.read(&mut start[length..]).doing(|| format!("cannot read {}", path.display()))? {
            0 => break,
            more => length += more,
        }
    }
    if !is_archive(&start[..length]) {
        return Ok(false);
    }
    // Something compressed need not be a tar: Docker's ADD copies what it cannot read as one.
    let file = File::open(path).doing(|| format!("cannot read {}", path.display()))?;
    let readable = decompressed(file).and_then(|inner| image::Entries::new(inner).next_entry().map(|entry| entry.is_some()));
    Ok(readable.unwrap_or(false))
}

/// Puts a file that was fetched, or unpacks it.
///
/// # Errors
/// Unknown owners, damaged or hostile archives, failures to write.
pub fn from_file(copy: &Copy, file: &Path, name: &str, onto: Onto) -> Outcome<Folders> {
    let mut target = Target::new(copy, onto)?;
    let mut to = base(copy, onto.below, onto.workdir);
    if copy.unpack {
        if !begins_as_archive(file)? {
            return Err(Fault::new(format!(
                "\"{name}\" is no archive: neither a tar nor one compressed by gzip, bzip2, xz or zstd"
            ))
            .hint("take `unpack` out, or look at what the URL gives"));
        }
        target.unpack(file, &to, copy.owner.is_some())?;
        return Ok(target.folders);
    }
    let there = copy.as_docker && onto.below.entry(&to).is_some_and(|(_, metadata)| metadata.is_dir());
    if copy.to.ends_with('/') || there || to == Path::new("/") {
        to.push(name);
    }
    // As Docker has it: what comes from the web is its owner's alone.
    let mode = target.mode(if copy.as_docker { 0o600 } else { 0o644 }, false);
    target.file(&to, file, mode)?;
    Ok(target.folders)
}

/// Puts a tree that was fetched.
///
/// # Errors
/// Unknown owners, failures to write.
pub fn from_tree(copy: &Copy, from: &Path, onto: Onto) -> Outcome<Folders> {
    let mut target = Target::new(copy, onto)?;
    target.keeps_owners = false;
    let to = base(copy, onto.below, onto.workdir);
    target.tree_of(&View::new(vec![from.to_owned()]), Path::new("/"), &to, &mut PathBuf::new())?;
    Ok(target.folders)
}

/// Makes a folder of a user's, with those above it that are missing, unless something is there.
///
/// # Errors
/// Unknown users, failures to write.
pub fn folder(path: &str, user: &str, onto: Onto) -> Outcome<Folders> {
    let copy = Copy { owner: Some(user.to_owned()).filter(|user| !user.is_empty()), ..Copy::default() };
    let mut target = Target::new(&copy, onto)?;
    let path = onto.below.resolve(Path::new(path));
    let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| onto.below.entry(folder).is_none()).collect();
    while let Some(folder) = missing.pop() {
        target.folder(folder, 0o755)?;
    }
    Ok(target.folders)
}

/// Copies files of another image; their permissions are kept.
///
/// # Errors
/// Sources that the image does not have, failures to write.
pub fn from_image(copy: &Copy, from: &View, onto: Onto) -> Outcome<Folders> {
    let mut target = Target::new(copy, onto)?;
    for (path, to) in taken(copy, from, onto.below, onto.workdir)? {
        target.tree_of(from, &path, &to, &mut PathBuf::new())?;
    }
    Ok(target.folders)
}

/// What a copy takes of another image, and where each goes.
///
/// # Errors
/// Sources that the image does not have.
fn taken(copy: &Copy, from: &View, below: &View, workdir: &str) -> Outcome<Vec<(PathBuf, PathBuf)>> {
    let base = base(copy, below, workdir);
    let mut sources: Vec<(String, PathBuf)> = Vec::new();
    for source in &copy.sources {
        // What stands before `/./` is not kept with `parents`.
        let (pivot, _) = source.split_once("/./").unwrap_or_default();
        let plain = source.replacen("/./", "/", 1);
        let found = if plain.contains(['*', '?', '[']) { from.glob(&plain) } else { vec![PathBuf::from(&plain)] };
        if found.is_empty() {
            return Err(Fault::new(format!("in the image it copies from nothing matches \"{source}\"")));
        }
        sources.extend(found.into_iter().map(|path| (pivot.to_owned(), path)));
    }
    let several = sources.len() > 1;
    let mut all = Vec::new();
    for (pivot, source) in sources {
        let path = from.resolve(&source);
        let Some((_, metadata)) = from.entry(&path) else {
            return Err(Fault::new(format!("the image it copies from has no \"{}\"", source.display())));
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

/// All that a copy's tree depends on beside its own files: where it goes, whose it is, what the folders on
/// its way are like, and what it takes of another image. Nothing where that is not known beforehand.
pub fn surroundings(copy: &Copy, workdir: &str, below: &View, from: Option<&View>, tree: Option<&FileTree>) -> Option<Digest> {
    if copy.unpack {
        return None;
    }
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
        // Most files stand beside the one before them.
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
            let found = owner_in(below, owner).ok()?;
            (found.uid, found.gid)
        }
    };
    Some(Digest::of_json(&(base, owner, folders.into_iter().collect::<Vec<_>>(), contents)))
}

/// What stands at a path of a view, and below it, as text.
fn listing(from: &View, path: &Path, to: &Path, found: &mut Vec<String>, visit: &mut dyn FnMut(&Path, bool)) -> io::Result<()> {
    let Some((place, metadata)) = from.entry(path) else { return Ok(()) };
    visit(to, metadata.is_dir());
    let content = if metadata.is_symlink() {
        format!("{:?}", fs::read_link(&place)?)
    } else if metadata.is_file() {
        let capability = sys::get_attribute(&place, CAPABILITY)?;
        format!("{} {capability:?}", digest_of(&place)?)
    } else {
        String::new()
    };
    found.push(format!("{to:?} {:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()));
    if metadata.is_dir() {
        for name in from.list(path) {
            listing(from, &path.join(&name), &to.join(&name), found, visit)?;
        }
    }
    Ok(())
}

/// Gives a tree's folders what they have below, or what the step says, once everything is in them.
///
/// # Errors
/// Those of changing owner, permissions and time.
pub fn settle(tree: &Path, below: &View, folders: &Folders, epoch: i64) -> Outcome<()> {
    // The deepest first: what is set in a folder must not touch the folder's time again.
    for (path, folder) in folders.iter().rev() {
        let (mode, owner, time) = match (folder.exact, below.entry(path)) {
            (Some(time), _) => (folder.mode, folder.owner, time),
            (None, Some((_, metadata))) if metadata.is_dir() => {
                (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()), metadata.mtime().min(epoch))
            }
            _ => (folder.mode, folder.owner, epoch),
        };
        finish(&place(tree, path), mode, owner, time)?;
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

/// Who owns what is copied, by the image below.
fn owner_in(below: &View, owner: &str) -> io::Result<Identity> {
    identity_in(&below.user_database("/etc/passwd")?, &below.user_database("/etc/group")?, owner, &[])
}

/// The absolute path that a step's `to` means, links of the image followed.
fn base(copy: &Copy, below: &View, workdir: &str) -> PathBuf {
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    below.resolve(&Path::new(workdir).join(&copy.to))
}

/// Where the files of a copy go. As a Dockerfile has it, a lone one goes into a folder that is there.
pub fn destination(copy: &Copy, files: Option<&FileTree>, below: &View, workdir: &str) -> PathBuf {
    let mut base = base(copy, below, workdir);
    if let (Some([only]), true) = (files.map(|files| files.entries.as_slice()), copy.as_docker && !copy.unpack)
        && only.to.is_empty()
        && (base == Path::new("/") || below.entry(&base).is_some_and(|(_, metadata)| metadata.is_dir()))
    {
        base.push(Path::new(&only.from).file_name().unwrap_or_default());
    }
    base
}

impl<'a> Target<'a> {
    fn new(copy: &'a Copy, onto: Onto<'a>) -> Outcome<Self> {
        let below = onto.below;
        let owner = match &copy.owner {
            None => (0, 0),
            Some(owner) => {
                let found = owner_in(below, owner).doing(|| format!("cannot tell who \"{owner}\" is"))?;
                (found.uid, found.gid)
            }
        };
        Ok(Self {
            below,
            tree: onto.tree,
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

    fn place(&self, path: &Path) -> PathBuf {
        place(self.tree, path)
    }

    /// The permissions of something that comes with others.
    fn mode(&self, mode: u32, folder: bool) -> u32 {
        self.mode.map_or(mode, |given| given.apply(mode, folder))
    }

    /// Makes the folders above a path; what each is like is settled at the end.
    fn parents(&mut self, path: &Path) -> Outcome<()> {
        // Whatever a name is made of: nothing is written outside the tree.
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Fault::new(format!("{} climbs", path.display())));
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

    /// Makes a folder, if none is there; a link in its place is never followed: it may lead to the host.
    fn make_folder(&mut self, path: &Path, folder: Folder) -> Outcome<()> {
        // Asked now, so that whoever makes this tree before its turn knows that it matters.
        let _ = self.below.entry(path);
        let place = self.place(path);
        match fs::create_dir(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_dir()) {
                    return Err(Fault::new(format!(
                        "one source puts a file or link at {}, and another a folder",
                        path.display()
                    )));
                }
            }
            Err(error) => return Err(disk_fault(&format!("cannot make {}", path.display()), error)),
        }
        self.folders.insert(path.to_owned(), folder);
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
        self.make_folder(path, Folder { owner: self.owner, mode, exact: None })
    }

    fn content(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
        self.parents(path)?;
        let place = self.place(path);
        Self::make_room(&place);
        fs::write(&place, bytes).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        finish(&place, mode, self.owner, self.epoch)
    }

    fn link(&mut self, path: &Path, link: &Path) -> Outcome<()> {
        self.parents(path)?;
        let place = self.place(path);
        Self::make_room(&place);
        symlink(link, &place).map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::set_owner(&place, self.owner.0, self.owner.1)
            .and_then(|()| sys::set_time(&place, self.epoch))
            .doing(|| format!("cannot set the owner of {}", path.display()))
    }

    fn file(&mut self, path: &Path, from: &Path, mode: u32) -> Outcome<PathBuf> {
        self.parents(path)?;
        let place = self.place(path);
        let source = File::open(from).doing(|| format!("cannot read {}", from.display()))?;
        let out = match File::create_new(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::make_room(&place);
                File::create_new(&place)
            }
            other => other,
        };
        let out = out.map_err(|error| disk_fault(&format!("cannot make {}", path.display()), error))?;
        sys::copy_file(&source, &out).map_err(|error| disk_fault(&format!("cannot write {}", path.display()), error))?;
        sys::finish_file(&out, mode, self.owner, self.epoch)
            .doing(|| format!("cannot set the owner and permissions of {}", path.display()))?;
        Ok(place)
    }

    /// Unpacks an archive into a folder, following links of the image below as its own programs would.
    fn unpack(&mut self, archive: &Path, to: &Path, owned: bool) -> Outcome<()> {
        // Beside the tree, in the step's own staging folder.
        let place = self.tree.with_file_name(format!("unpacked-{}", sys::unique()));
        fs::create_dir(&place).map_err(|error| disk_fault("cannot make a staging folder", error))?;
        let failed = |error: io::Error| disk_fault("it cannot be unpacked", error);
        let rules = Rules {
            latest: self.epoch,
            owner: owned.then_some(self.owner),
            whiteouts: false,
            devices: false,
            folder_times: true,
        };
        let file = File::open(archive).map_err(failed)?;
        let budget = std::sync::Arc::new(crate::model::Budget::new(image::ARCHIVE));
        let mut writer = image::Tree::new(&place, rules, budget.clone()).map_err(failed)?;
        let named = writer.write_listing(image::budgeted(file, &budget).map_err(failed)?).map_err(failed)?;
        writer.finish().map_err(failed)?;
        let named: std::collections::BTreeSet<String> = named.into_iter().collect();
        self.folder_or_there(to)?;
        self.merge(&place, Path::new("/"), to, &named)?;
        let _ = fs::remove_dir_all(&place);
        Ok(())
    }

    fn folder_or_there(&mut self, to: &Path) -> Outcome<()> {
        if to == Path::new("/") || self.folders.contains_key(to) {
            return Ok(());
        }
        self.parents(to)?;
        self.make_folder(to, Folder { owner: self.owner, mode: 0o755, exact: None })
    }

    /// Moves what was unpacked to its place; folders that the archive names are as it says.
    fn merge(&mut self, from: &Path, inside: &Path, to: &Path, named: &std::collections::BTreeSet<String>) -> Outcome<()> {
        let failed = || format!("cannot move {}", inside.display());
        let mut entries: Vec<_> = fs::read_dir(from).doing(failed)?.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inside = inside.join(entry.file_name());
            let metadata = entry.metadata().doing(failed)?;
            let to = to.join(entry.file_name());
            if metadata.is_dir() {
                let to = self.below.resolve(&to);
                let is_named = named.contains(&inside.display().to_string());
                let time = is_named.then(|| metadata.mtime().min(self.epoch));
                let folder = Folder { owner: (metadata.uid(), metadata.gid()), mode: metadata.mode() & 0o7777, exact: time };
                self.parents(&to)?;
                if to != Path::new("/") {
                    self.make_folder(&to, folder)?;
                }
                self.merge(&entry.path(), &inside, &to, named)?;
            } else {
                self.parents(&to)?;
                let place = self.place(&to);
                Self::make_room(&place);
                fs::rename(entry.path(), &place).map_err(|error| disk_fault(&failed(), error))?;
            }
        }
        Ok(())
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
            self.folder(to, if self.as_docker { self.mode(metadata.mode() & 0o7777, true) } else { 0o755 })?;
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
            let mode = self.mode(metadata.mode() & 0o7777, false);
            let made = self.file(to, &place, mode)?;
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

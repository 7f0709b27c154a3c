//! Reads the sources that `copy` steps name: lists directories, examines files, computes their digests.
//!
//! All access is by file descriptor, without following links: see `ground`.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::ground::Ground;
use super::ignore::Ignore;
use super::scan_cache::{Identity, ScanCache};
use crate::model::{Digest, Name, pattern_matches, spelled};
use crate::plan::{FileTree, TreeEntry, TreeKind};
use crate::project::{BuildContext, Copy};
use crate::sys::{self, Kind, Nearby, Opened, ProjectFiles, Tree, Unread};
use nix::sys::stat::FileStat;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Reads the sources of one step.
pub struct Reader<'a> {
    ground: &'a mut Ground,
    /// The path of the step's context in the project's directory.
    prefix: &'a str,
    ignore: &'a Ignore,
    /// The exclude patterns of the step that is being read, and whether the step keeps permissions.
    exclude: Vec<String>,
    modes: bool,
}

impl<'a> Reader<'a> {
    pub fn new(ground: &'a mut Ground, context: Option<&'a BuildContext>, ignore: &'a Ignore) -> Self {
        let prefix = context.map_or("", |context| context.folder.as_str());
        Self { ground, prefix, ignore, exclude: Vec::new(), modes: false }
    }

    /// Turns a path in the context into a path in the project's directory.
    fn whole(&self, path: &str) -> String {
        let prefix = self.prefix.trim_end_matches('/');
        match (prefix.is_empty(), path.is_empty()) {
            (true, _) => path.to_owned(),
            (false, true) => prefix.to_owned(),
            (false, false) => format!("{prefix}/{path}"),
        }
    }

    /// Opens a directory that was resolved or listed before, and lists its entries.
    fn folder(&self, path: &str) -> io::Result<(Tree, Vec<sys::Listed>)> {
        self.ground.tree()?.read(self.ground.real(&self.whole(path)))
    }

    /// The attributes of something that was resolved before.
    fn stat(&self, path: &str) -> Result<FileStat, String> {
        let real = self.ground.real(&self.whole(path)).into_owned();
        let stat = self.ground.tree().and_then(|tree| {
            let (folder, name) = (real.parent().unwrap_or(Path::new("")), real.file_name().unwrap_or_default());
            tree.folder(folder)?.stat(name)
        });
        stat.map_err(|error| format!("cannot read \"{path}\": {error}"))
    }

    /// Resolves a path that the step names, and returns its kind.
    fn resolve(&mut self, path: &str) -> Result<Kind, String> {
        let (top, whole) = (self.whole(""), self.whole(path));
        let found = self.ground.resolve(&top).and_then(|_| self.ground.resolve(&whole));
        let kind = found.map_err(|error| match error.raw_os_error() {
            Some(libc::EXDEV) => format!("\"{path}\" leads out of the project's directory"),
            _ => self.missing(path, "to copy", &error),
        })?;
        // Links in a context must stay inside that context.
        if self.ground.real(&whole).starts_with(self.ground.real(&top)) {
            Ok(kind)
        } else {
            Err(format!("\"{path}\" leads out of the directory that is built from, \"{top}\""))
        }
    }

    /// Lists the files of a step; [`look`] reads their content later.
    ///
    /// # Errors
    /// Says in the user's terms why they cannot be read.
    pub fn copy(&mut self, copy: &Copy) -> Result<FileTree, String> {
        let mut tree = FileTree::default();
        self.exclude.clone_from(&copy.exclude);
        self.modes = copy.as_docker;
        let mut named = Vec::new();
        let mut some_pattern = false;
        for source in &copy.sources {
            // With `parents`, the part before `/./` is dropped.
            let (pivot, _) = source.split_once("/./").unwrap_or_default();
            let source = spelled(OsStr::new(source)).replacen("/./", "/", 1);
            let is_pattern = source.contains(['*', '?', '[']);
            some_pattern |= is_pattern;
            let matches = if is_pattern { self.glob(&source)? } else { vec![source.trim_end_matches('/').to_owned()] };
            // In a Dockerfile, patterns are how optional files are written.
            if matches.is_empty() && !copy.as_docker {
                return Err(format!("nothing matches \"{}\"", source.trim_start_matches("./").trim_end_matches('/')));
            }
            named.push((pivot, matches));
        }
        let several = copy.sources.len() > 1 || named.iter().map(|(_, matches)| matches.len()).sum::<usize>() > 1;
        // In a Dockerfile, a pattern that matches one file means that file, and the target can be its new name.
        let into_folder = copy.to.ends_with('/') || several || copy.parents || some_pattern && !copy.as_docker;
        for (pivot, matches) in named {
            for path in matches {
                let mut one = FileTree::default();
                let kind = self.source(&path, into_folder, &mut one)?;
                if copy.parents {
                    let whole = path.trim_start_matches("./").trim_start_matches(pivot).trim_matches('/');
                    one.below(if kind == Kind::Folder { whole } else { whole.rsplit_once('/').map_or("", |(above, _)| above) });
                }
                join(&mut tree.entries, one.entries);
            }
        }
        for entry in &mut tree.entries {
            if !self.prefix.is_empty() {
                entry.from = self.whole(&entry.from);
            }
        }
        tree.entries.sort_by(|a, b| a.to.cmp(&b.to));
        // If two sources put a file at the same place, the later one wins, as in a Dockerfile.
        tree.entries.reverse();
        tree.entries.dedup_by(|later, earlier| later.to == earlier.to);
        tree.entries.reverse();
        Ok(tree)
    }

    /// Computes the digest that identifies an archive: of a file, the digest of its content; of an OCI layout, the digest of its
    /// index, which names everything in it by digest.
    ///
    /// # Errors
    /// Says in the user's terms why it cannot be read.
    pub fn archive(&self, folder: &Path, path: &str, old: &ScanCache, new: &mut ScanCache) -> Result<Digest, String> {
        let cannot = |why: &dyn std::fmt::Display| format!("cannot read \"{path}\": {why}");
        let files = ProjectFiles::at(folder).map_err(|error| cannot(&error))?;
        let file = match files.open(path) {
            Ok(Opened::File(file)) => file,
            Ok(Opened::Folder(folder)) => return layout(&folder, path),
            Err(Unread::Absent) => return Err(self.missing(path, "to start from", &io::ErrorKind::NotFound.into())),
            Err(Unread::LeadsOut) => return Err(format!("\"{path}\" leads out of the project's directory")),
            Err(why) => return Err(cannot(&why)),
        };
        let stat = nix::sys::stat::fstat(&file).map_err(|error| cannot(&io::Error::from(error)))?;
        let identity = Identity::of(&stat);
        let known = old.get(path, &identity);
        let digest = match known {
            Some(digest) => digest,
            None => Digest::of_stream(file).map_err(|error| cannot(&error))?,
        };
        if known.is_some() || identity.is_settled() {
            new.put(path, identity, digest, known.is_some());
        }
        Ok(digest)
    }

    fn source(&mut self, path: &str, into_folder: bool, tree: &mut FileTree) -> Result<Kind, String> {
        let path = path.trim_start_matches("./");
        let path = if path == "." { "" } else { path };
        let kind = self.resolve(path)?;
        if self.modes && !path.is_empty() && !self.ignore.has_exceptions && self.ignore.hides(path) {
            return Err(format!("\"{path}\" is left out by an ignore file"));
        }
        match kind {
            Kind::Folder => {
                let mut all = self.folder_contents(path)?;
                let (to, from) = (String::new(), path.to_owned());
                // The target is a directory of the step: with the usual permissions, or those that the step gives.
                let mode = self.modes.then_some(0o755);
                all.push(TreeEntry { to, from, kind: TreeKind::Folder, mode, whole: false });
                join(&mut tree.entries, all);
            }
            Kind::File => {
                let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let to = if into_folder { name.clone() } else { String::new() };
                if into_folder {
                    tree.entries.push(TreeEntry {
                        to: String::new(),
                        from: parent(path),
                        kind: TreeKind::Folder,
                        mode: None,
                        whole: false,
                    });
                }
                if !self.leaves_out(&name) {
                    let entry = self.file(to, path.to_owned(), true);
                    tree.entries.push(entry);
                }
            }
            Kind::Fifo => {
                let mode = if self.modes { Some(self.stat(path)?.st_mode & 0o7777) } else { None };
                let name = path.rsplit('/').next().unwrap_or(path);
                let to = if into_folder { name.to_owned() } else { String::new() };
                if into_folder {
                    let from = parent(path);
                    tree.entries.push(TreeEntry { to: String::new(), from, kind: TreeKind::Folder, mode: None, whole: false });
                }
                if !self.leaves_out(name) {
                    tree.entries.push(TreeEntry { to, from: path.to_owned(), kind: TreeKind::Fifo, mode, whole: true });
                }
            }
            _ => return Err(format!("\"{path}\" is neither a file nor a directory")),
        }
        Ok(kind)
    }

    /// Whether the step's own exclude patterns match a path or one of its parent directories.
    fn leaves_out(&self, path: &str) -> bool {
        if self.exclude.is_empty() {
            return false;
        }
        let mut prefixes = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).map(|end| &path[..end]);
        prefixes.any(|prefix| self.exclude.iter().any(|pattern| pattern_matches(pattern.trim_matches('/'), prefix)))
    }

    /// What a path leads to, if it is a link.
    fn link(&self, path: &str) -> Option<String> {
        let whole = self.whole(path);
        let real = self.ground.real(&whole);
        let folder = self.ground.tree().ok()?.folder(real.parent()?).ok()?;
        folder.link(real.file_name()?).ok().map(|target| spelled(&target).into_owned())
    }

    fn missing(&self, path: &str, doing: &str, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::NotFound {
            return format!("cannot read \"{path}\": {error}");
        }
        if let Some(target) = self.link(path) {
            return format!("\"{path}\" is a link to \"{target}\", which is not there");
        }
        // This is only advice: if the directory cannot be read, there is none.
        let listed = self.folder(&parent(path)).map(|(_, listed)| listed).unwrap_or_default();
        let names: Vec<String> = listed.into_iter().filter_map(|listed| listed.name.into_string().ok()).collect();
        let name = path.rsplit('/').next().unwrap_or(path);
        match crate::model::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => {
                format!("there is no \"{path}\" {doing}; \"{}\" is there", Path::new(&parent(path)).join(near).display())
            }
            None => format!("there is no \"{path}\" {doing}"),
        }
    }

    /// Everything below a directory that the step takes.
    fn folder_contents(&self, path: &str) -> Result<Vec<TreeEntry>, String> {
        let top = (path.to_owned(), String::new());
        let mut all = sys::by_levels(top, |(path, to), inside, below| self.list(path, to, inside, below))?;
        if self.ignore.has_exceptions {
            // An ignored directory is kept only if it holds something that is not ignored.
            let is_hidden = |entry: &TreeEntry| entry.kind == TreeKind::Folder && self.ignore.hides(&entry.from);
            let mut needed = BTreeSet::new();
            for entry in all.iter().filter(|entry| !is_hidden(entry)) {
                needed.extend(entry.to.match_indices('/').map(|(at, _)| entry.to[..at].to_owned()));
            }
            all.retain(|entry| !is_hidden(entry) || needed.contains(&entry.to));
        }
        Ok(all)
    }

    /// Adds a directory's entries to `inside`, and those of its subdirectories that must be listed, too, to `below`.
    fn list(&self, path: &str, to: &str, inside: &mut Vec<TreeEntry>, below: &mut Vec<(String, String)>) -> Result<(), String> {
        let (folder, mut listed) = self.folder(path).map_err(|error| format!("cannot read \"{path}\": {error}"))?;
        listed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for sys::Listed { name: own, kind, .. } in listed {
            let name = spelled(&own);
            let joined = |above: &str| if above.is_empty() { name.clone().into_owned() } else { format!("{above}/{name}") };
            let (from, to) = (joined(path), joined(to));
            if self.leaves_out(&to) {
                continue;
            }
            let cannot = |error: io::Error| format!("cannot read \"{from}\": {error}");
            let ignored = self.ignore.hides(&from);
            if kind == Kind::Folder {
                // If some patterns begin with `!`, an ignored directory may hold something that is not ignored.
                if ignored && !self.ignore.has_exceptions {
                    continue;
                }
                let mode = if self.modes { Some(folder.stat(&own).map_err(cannot)?.st_mode & 0o7777) } else { None };
                below.push((from.clone(), to.clone()));
                inside.push(TreeEntry { to, from, kind: TreeKind::Folder, mode, whole: false });
            } else if ignored {
            } else if kind == Kind::Link {
                let link = folder.link(&own).map_err(cannot)?;
                let kind = TreeKind::Link(spelled(&link).into_owned());
                inside.push(TreeEntry { kind, to, from, mode: None, whole: false });
            } else if kind == Kind::Fifo {
                let mode = if self.modes { Some(folder.stat(&own).map_err(cannot)?.st_mode & 0o7777) } else { None };
                inside.push(TreeEntry { kind: TreeKind::Fifo, to, from, mode, whole: false });
            } else if matches!(kind, Kind::Character | Kind::Block) && self.modes {
                return Err(format!("\"{from}\" is a device, and images have none: leave it out by an ignore file"));
            } else if kind == Kind::File {
                inside.push(self.file(to, from, false));
            }
        }
        Ok(())
    }

    /// Makes a file's entry; its content is read once all files are known.
    fn file(&self, to: String, from: String, whole: bool) -> TreeEntry {
        let kind = TreeKind::File { digest: UNSEEN, executable: false };
        TreeEntry { to, from, kind, mode: self.modes.then_some(0), whole }
    }

    /// Paths that match a pattern, sorted; there may be none.
    fn glob(&mut self, pattern: &str) -> Result<Vec<String>, String> {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        let fixed: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
        let mut found = Vec::new();
        let mut queue = vec![fixed.join("/")];
        match self.ground.resolve(&self.whole(&queue[0])) {
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                return Err(format!("\"{pattern}\" leads out of the project's directory"));
            }
            // A missing path is reported below.
            _ => {}
        }
        while let Some(folder) = queue.pop() {
            let listed = match self.folder(&folder) {
                Ok((_, listed)) => listed,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(format!("cannot read \"{folder}\": {error}")),
            };
            for entry in listed {
                let name = spelled(&entry.name);
                let path = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
                let hidden = self.ignore.hides(&path);
                if hidden && !self.ignore.has_exceptions {
                    continue;
                }
                if !hidden && pattern_matches(pattern, &path) {
                    found.push(path);
                } else if entry.kind == Kind::Folder {
                    queue.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Identifies a directory that holds an OCI layout or the unpacked output of `docker save`.
fn layout(folder: &File, path: &str) -> Result<Digest, String> {
    let text = |name: &str| crate::image::small_file(folder, name).ok();
    if let Some(index) = text("index.json") {
        return Ok(Digest::of(index));
    }
    let manifest = text("manifest.json");
    let manifest = manifest.ok_or_else(|| format!("\"{path}\" is a directory without an index.json: not an OCI layout"))?;
    // The manifest may name its parts anything, so their content must be included.
    let parts = crate::image::named_parts(folder, &manifest).map_err(|error| format!("cannot read \"{path}\": {error}"))?;
    Ok(Digest::of_json(&(Digest::of(manifest), parts)))
}

/// Appends a possibly long list to one that is mostly empty; an empty one is simply replaced.
fn join<T>(all: &mut Vec<T>, more: Vec<T>) {
    if all.is_empty() { *all = more } else { all.extend(more) }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

/// A placeholder for the digest of a file that has not been read yet.
const UNSEEN: Digest = Digest::from_bytes([0; 32]);

/// What is known of a file after it was examined.
struct Seen {
    identity: Identity,
    /// What the file is known by if it has several names.
    twin: Option<(u64, u64)>,
    digest: Digest,
    mode: u32,
    /// Whether the digest came from the cache.
    known: bool,
    /// Whether the digest may be put into the cache.
    trusted: bool,
}

/// Identifies a file that has several names.
fn twin_of(stat: &FileStat) -> Option<(u64, u64)> {
    (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino))
}

/// How many files a thread takes at a time. It is a small number because files that must be read tend to be neighbours.
const PART: usize = 64;

/// Examines the files of all trees on all cores, and fills in their digests and permissions. Only files that the cache does
/// not know are read. Returns whether the result is exactly what the cache holds.
pub fn look(
    ground: &Ground,
    old: &ScanCache,
    new: &mut ScanCache,
    trees: &mut BTreeMap<(Name, usize), Result<FileTree, String>>,
) -> bool {
    let files = trees.values().flatten().flat_map(|tree| &tree.entries).filter(|entry| entry.is_file());
    let mut unseen: Vec<&str> = files.clone().map(|entry| entry.from.as_str()).collect();
    // Several steps may take the same file.
    unseen.sort_unstable();
    unseen.dedup();
    let see = |near: &mut (Nearby, usize), key: &str| -> io::Result<Seen> {
        let (folders, next) = near;
        let path = ground.real(key);
        let (folder, name) = folders.at(&path)?;
        let mode = |stat: &FileStat| stat.st_mode & 0o7777;
        let stat = folder.stat(name)?;
        if let Some(digest) = old.get_after(next, key, &Identity::of(&stat)) {
            let (identity, twin, mode) = (Identity::of(&stat), twin_of(&stat), mode(&stat));
            return Ok(Seen { identity, twin, digest, mode, known: true, trusted: true });
        }
        // Identity and digest must be of the same open file: another one may have been there a moment ago.
        let (file, stat) = folders.open(&path)?;
        let (identity, twin, mode) = (Identity::of(&stat), twin_of(&stat), mode(&stat));
        let digest = Digest::of_stream(file)?;
        // This checks the clock after reading, because reading takes time.
        Ok(Seen { identity, twin, digest, mode, known: false, trusted: identity.is_settled() })
    };
    let seen = Mutex::new(Vec::new());
    let Ok(()) = sys::on_all_cores(&unseen, PART, |index, part| {
        let part: Vec<io::Result<Seen>> = match ground.tree() {
            Ok(tree) => {
                let mut near = (Nearby::of(tree), usize::MAX);
                part.iter().map(|key| see(&mut near, key)).collect()
            }
            Err(_) => part.iter().map(|_| ground.tree().and(Err(io::Error::from(io::ErrorKind::NotFound)))).collect(),
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((index, part));
        Ok::<(), Infallible>(())
    });
    let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.sort_unstable_by_key(|(index, _)| *index);
    let all = || seen.iter().flat_map(|(_, part)| part);
    let same = unseen.len() == old.count() && all().all(|seen| seen.as_ref().is_ok_and(|seen| seen.known));
    if !same {
        for (key, seen) in unseen.iter().zip(all()) {
            if let Ok(Seen { identity, digest, known, trusted: true, .. }) = seen {
                new.put(key, *identity, *digest, *known);
            }
        }
    }
    // The index of each file in `unseen`; mostly both are in the same order.
    let mut next = 0;
    let places: Vec<usize> = files
        .map(|entry| {
            if unseen.get(next) != Some(&entry.from.as_str()) {
                next = unseen.binary_search(&entry.from.as_str()).unwrap_or_default();
            }
            next += 1;
            next - 1
        })
        .collect();
    let mut places = places.into_iter();
    for tree in trees.values_mut() {
        let Ok(files) = tree else { continue };
        let mut failed = None;
        let mut first: HashMap<(u64, u64), (String, String)> = HashMap::new();
        for entry in files.entries.iter_mut().filter(|entry| entry.is_file()) {
            let place = places.next().unwrap_or_default();
            match &seen[place / PART].1[place % PART] {
                // In a Dockerfile, names of one file stay that.
                Ok(Seen { twin: Some(twin), .. }) if entry.mode.is_some() && !entry.whole && first.contains_key(twin) => {
                    let (of, from) = first[twin].clone();
                    entry.kind = TreeKind::Twin { of, from };
                    entry.mode = None;
                }
                Ok(seen) => {
                    if let (Some(twin), false) = (seen.twin, entry.whole) {
                        first.insert(twin, (entry.to.clone(), entry.from.clone()));
                    }
                    entry.kind = TreeKind::File { digest: seen.digest, executable: seen.mode & 0o100 != 0 };
                    entry.mode = entry.mode.map(|_| seen.mode);
                }
                Err(error) => failed = Some(format!("cannot read \"{}\": {error}", entry.from)),
            }
        }
        if let Some(why) = failed {
            *tree = Err(why);
        }
    }
    same
}

//! Reads the project's folder for `copy` steps: which files, what is in them.
//!
//! Owns ignore files; what files held when they were read last is `known`'s.

use super::copy::digest_of;
use super::facts::Sealed;
use super::known::{Identity, ScanCache};
use crate::model::{Digest, Name, Pattern, bounds, pattern_matches, text_of};
use crate::plan::{FileTree, TreeEntry, TreeKind};
use crate::spec::{Base, BuildContext, Copy, Outside, Project, Run, RunSource, Step};
use crate::sys::{self, Nearby, Opened, ProjectFiles, Unread};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The files of all `copy` steps of a project, and the archives that images start from.
#[derive(Debug)]
pub struct Scanner {
    folder: PathBuf,
    trees: BTreeMap<(Name, usize), Result<FileTree, String>>,
    archives: BTreeMap<Outside, Result<Digest, String>>,
    /// What to keep for the next time.
    pub cache: ScanCache,
    /// Whether the cache holds what its file does not, or less.
    stale: bool,
    sealed: Option<Sealed>,
}

impl Scanner {
    /// Reads everything that the images' `copy` steps take; the cache is read while folders are listed.
    pub fn scan(folder: &Path, project: &Project, cache: impl FnOnce() -> ScanCache + Send) -> Self {
        std::thread::scope(|scope| {
            let cache = scope.spawn(cache);
            Self::with(folder, project, || cache.join().unwrap_or_default())
        })
    }

    fn with(folder: &Path, project: &Project, cache: impl FnOnce() -> ScanCache) -> Self {
        let mut new = ScanCache::default();
        let mut trees = BTreeMap::new();
        let mut ignores: BTreeMap<Option<BuildContext>, Result<Ignore, String>> = BTreeMap::new();
        let mut read = |context: &Option<BuildContext>, copy: &Copy| {
            let ignore = ignores.entry(context.clone()).or_insert_with(|| Ignore::of(folder, context.as_ref()));
            let ignore = ignore.as_ref().map_err(Clone::clone)?;
            Reader::new(folder, context.as_ref(), ignore).copy(copy)
        };
        for (name, image) in &project.images {
            for (index, step) in image.steps.iter().enumerate() {
                let tree = match step {
                    Step::Copy(copy) if copy.from.is_none() => read(&copy.context, copy),
                    Step::Run(run) => match context_mounts(run).map(|(context, copy)| read(&Some(context), &copy)).collect() {
                        Ok(trees) => Ok(FileTree::side_by_side(trees)),
                        Err(why) => Err(why),
                    },
                    _ => continue,
                };
                trees.insert((name.clone(), index), tree);
            }
        }
        let cache = cache();
        let same = look(folder, &cache, &mut new, &mut trees);
        let mut archives = BTreeMap::new();
        for image in project.images.values() {
            if let Base::Outside(outside @ Outside::Archive { path, .. }) = &image.from {
                let ignore = Ignore::default();
                let reader = Reader::new(folder, None, &ignore);
                archives.entry(outside.clone()).or_insert_with(|| reader.archive(path, &cache, &mut new));
            }
        }
        // Mostly nothing changed, and what was known is known.
        let same = same && archives.is_empty();
        let stale = !same && new.differs(&cache);
        Self { folder: folder.to_owned(), trees, archives, cache: if same { cache } else { new }, stale, sealed: None }
    }

    /// The same for a folder that came out of a bundle, with the results that came beside it.
    #[must_use]
    pub fn sealed_by(self, sealed: Option<Sealed>) -> Self {
        Self { sealed, ..self }
    }

    /// The results that came with the folder's bundle, if it came out of one.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// Keeps what was read for the next time.
    pub fn keep(&self, path: &Path) {
        if self.stale {
            self.cache.keep(path);
        }
    }

    /// What identifies the content of an archive.
    ///
    /// # Errors
    /// Why it cannot be read, in the user's words.
    pub fn archive(&self, outside: &Outside) -> Result<Digest, String> {
        self.archives.get(outside).cloned().unwrap_or_else(|| Err("no such archive".into()))
    }

    /// The archives that images start from.
    pub fn archives(&self) -> impl Iterator<Item = &str> {
        self.archives.keys().filter_map(|outside| match outside {
            Outside::Archive { path, .. } => Some(path.as_str()),
            Outside::Reference(_) => None,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files of one step.
    ///
    /// # Errors
    /// Why they cannot be read, in the user's words.
    pub fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        match self.trees.get(&(image.clone(), step)) {
            Some(Ok(tree)) => Ok(tree),
            Some(Err(why)) => Err(why.clone()),
            None => Err("no such step".into()),
        }
    }

    /// The files and folders that were read, also where a link stands for them.
    pub fn read(&self) -> BTreeSet<PathBuf> {
        let trees = self.trees.values().filter_map(|tree| tree.as_ref().ok());
        let entries = trees.flat_map(|tree| &tree.entries).filter(|entry| !matches!(entry.kind, TreeKind::Link(_)));
        entries.map(|entry| self.folder.join(&entry.from)).collect()
    }

    /// Folders and files to watch: what every `copy` names.
    pub fn sources(&self) -> Vec<PathBuf> {
        let trees = self.trees.values().filter_map(|tree| tree.as_ref().ok());
        let mut all: Vec<PathBuf> = trees.flat_map(|tree| &tree.entries).map(|entry| self.folder.join(&entry.from)).collect();
        all.extend(self.archives.keys().filter_map(|outside| match outside {
            Outside::Archive { path, .. } => Some(self.folder.join(path)),
            Outside::Reference(_) => None,
        }));
        all.sort();
        all.dedup();
        all
    }
}

/// The folders of a context that a command mounts, each as a copy of it.
pub fn context_mounts(run: &Run) -> impl Iterator<Item = (BuildContext, Copy)> {
    run.mounts.iter().filter_map(|mount| match &mount.source {
        RunSource::Context { context, path } => {
            let source = if path.is_empty() { ".".to_owned() } else { path.clone() };
            Some((context.clone(), Copy { sources: vec![source], to: String::new(), as_docker: true, ..Copy::default() }))
        }
        _ => None,
    })
}

struct Reader<'a> {
    folder: PathBuf,
    /// The project's folder, links resolved: no context leads out of it.
    top: PathBuf,
    /// Where that is in the project's folder.
    prefix: &'a str,
    ignore: &'a Ignore,
    /// The patterns of the step that is being read, and whether it keeps permissions.
    exclude: Vec<String>,
    modes: bool,
}

impl<'a> Reader<'a> {
    fn new(folder: &Path, context: Option<&'a BuildContext>, ignore: &'a Ignore) -> Self {
        let prefix = context.map_or("", |context| context.folder.as_str());
        let top = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder: folder.join(prefix), top, prefix, ignore, exclude: Vec::new(), modes: false }
    }

    fn copy(&mut self, copy: &Copy) -> Result<FileTree, String> {
        let mut tree = FileTree::default();
        self.exclude.clone_from(&copy.exclude);
        self.modes = copy.as_docker;
        for source in &copy.sources {
            // What stands before `/./` is not kept with `parents`.
            let (pivot, _) = source.split_once("/./").unwrap_or_default();
            let source = source.replacen("/./", "/", 1);
            let is_pattern = source.contains(['*', '?', '[']);
            let matches = if is_pattern { self.glob(&source)? } else { vec![source.trim_end_matches('/').to_owned()] };
            let into_folder = copy.to.ends_with('/') || is_pattern || copy.sources.len() > 1 || copy.parents;
            for path in matches {
                let mut one = FileTree::default();
                self.source(&path, into_folder, &mut one)?;
                if copy.parents {
                    let whole = path.trim_start_matches("./").trim_start_matches(pivot).trim_matches('/');
                    let is_folder = fs::metadata(self.folder.join(&path)).is_ok_and(|metadata| metadata.is_dir());
                    one.below(if is_folder { whole } else { whole.rsplit_once('/').map_or("", |(above, _)| above) });
                }
                join(&mut tree.entries, one.entries);
            }
        }
        for entry in &mut tree.entries {
            if !self.prefix.is_empty() {
                entry.from =
                    if entry.from.is_empty() { self.prefix.to_owned() } else { format!("{}/{}", self.prefix, entry.from) };
            }
        }
        tree.entries.sort_by(|a, b| a.to.cmp(&b.to));
        // Of two sources that put a file at the same place the later wins, as in a Dockerfile.
        tree.entries.reverse();
        tree.entries.dedup_by(|later, earlier| later.to == earlier.to);
        tree.entries.reverse();
        Ok(tree)
    }

    /// A file by its content; an OCI layout by its index, which names everything in it by digest.
    fn archive(&self, path: &str, old: &ScanCache, new: &mut ScanCache) -> Result<Digest, String> {
        let cannot = |why: &dyn std::fmt::Display| format!("cannot read \"{path}\": {why}");
        let files = ProjectFiles::at(&self.folder).map_err(|error| cannot(&error))?;
        let file = match files.open(path) {
            Ok(Opened::File(file)) => file,
            Ok(Opened::Folder(folder)) => return Self::layout(&folder, path),
            Err(Unread::Absent) => {
                return Err(self.missing(path, &io::ErrorKind::NotFound.into()).replace("to copy", "to start from"));
            }
            Err(Unread::LeadsOut) => return Err(format!("\"{path}\" leads out of the project's folder")),
            Err(why) => return Err(cannot(&why)),
        };
        let stat = nix::sys::stat::fstat(&file).map_err(|error| cannot(&io::Error::from(error)))?;
        let identity = Identity::of(&stat);
        let known = old.get(path, &identity);
        let digest = match known {
            Some(digest) => digest,
            None => Digest::of_stream(file).map_err(|error| cannot(&error))?,
        };
        if known.is_some() || identity.is_old(now()) {
            new.put(path, identity, digest, known.is_some());
        }
        Ok(digest)
    }

    /// An OCI layout, or what `docker save` wrote, in a folder.
    fn layout(folder: &fs::File, path: &str) -> Result<Digest, String> {
        let text = |name: &str| crate::image::small_file(folder, name).ok();
        if let Some(index) = text("index.json") {
            return Ok(Digest::of(index));
        }
        let manifest = text("manifest.json");
        let manifest = manifest.ok_or_else(|| format!("\"{path}\" is a folder without an index.json: no OCI layout"))?;
        // It names its parts by any name: what is in them counts.
        let parts = crate::image::named_parts(folder, &manifest).map_err(|error| format!("cannot read \"{path}\": {error}"))?;
        Ok(Digest::of_json(&(Digest::of(manifest), parts)))
    }

    fn source(&self, path: &str, into_folder: bool, tree: &mut FileTree) -> Result<(), String> {
        let path = path.trim_start_matches("./");
        let path = if path == "." { "" } else { path };
        let full = self.folder.join(path);
        let real = fs::canonicalize(&full).map_err(|error| self.missing(path, &error))?;
        let root = fs::canonicalize(&self.folder).map_err(|error| error.to_string())?;
        if !real.starts_with(&root) || !root.starts_with(&self.top) {
            return Err(format!("\"{path}\" leads out of the project's folder, to {}", real.display()));
        }
        if self.modes && !path.is_empty() && !self.ignore.has_exceptions && self.ignore.hides(path) {
            return Err(format!("\"{path}\" is left out by an ignore file"));
        }
        let metadata = fs::metadata(&real).map_err(|error| format!("cannot read \"{path}\": {error}"))?;
        if metadata.is_dir() {
            let mut all = self.folder_contents(path)?;
            let (to, from) = (String::new(), path.to_owned());
            all.push(TreeEntry { to, from, kind: TreeKind::Folder, mode: None, whole: false });
            join(&mut tree.entries, all);
            Ok(())
        } else if metadata.is_file() {
            let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let to = if into_folder { name } else { String::new() };
            if into_folder {
                tree.entries.push(TreeEntry {
                    to: String::new(),
                    from: parent(path),
                    kind: TreeKind::Folder,
                    mode: None,
                    whole: false,
                });
            }
            let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !self.leaves_out(&name) {
                let entry = self.file(to, path.to_owned(), true);
                tree.entries.push(entry);
            }
            Ok(())
        } else {
            Err(format!("\"{path}\" is neither a file nor a folder"))
        }
    }

    /// Whether a path, or a folder that it is in, is among the step's own exceptions.
    fn leaves_out(&self, path: &str) -> bool {
        if self.exclude.is_empty() {
            return false;
        }
        let mut prefixes = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).map(|end| &path[..end]);
        prefixes.any(|prefix| self.exclude.iter().any(|pattern| pattern_matches(pattern.trim_matches('/'), prefix)))
    }

    fn mode(&self, metadata: &Metadata) -> Option<u32> {
        self.modes.then(|| metadata.mode() & 0o7777)
    }

    fn missing(&self, path: &str, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::NotFound {
            return format!("cannot read \"{path}\": {error}");
        }
        let folder = self.folder.join(parent(path));
        let names: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let name = path.rsplit('/').next().unwrap_or(path);
        match crate::model::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => {
                format!("there is no \"{path}\" to copy; \"{}\" is there", Path::new(&parent(path)).join(near).display())
            }
            None => format!("there is no \"{path}\" to copy"),
        }
    }

    /// All that is below a folder, as far as it is taken.
    fn folder_contents(&self, path: &str) -> Result<Vec<TreeEntry>, String> {
        let top = (path.to_owned(), String::new());
        let mut all = sys::by_levels(top, |(path, to), inside, below| self.list(path, to, inside, below))?;
        if self.ignore.has_exceptions {
            // A folder that is ignored is there for what is not.
            let is_hidden = |entry: &TreeEntry| entry.kind == TreeKind::Folder && self.ignore.hides(&entry.from);
            let mut needed = BTreeSet::new();
            for entry in all.iter().filter(|entry| !is_hidden(entry)) {
                needed.extend(entry.to.match_indices('/').map(|(at, _)| entry.to[..at].to_owned()));
            }
            all.retain(|entry| !is_hidden(entry) || needed.contains(&entry.to));
        }
        Ok(all)
    }

    /// What a folder holds, and the folders of it that may hold more.
    fn list(&self, path: &str, to: &str, inside: &mut Vec<TreeEntry>, below: &mut Vec<(String, String)>) -> Result<(), String> {
        let entries = fs::read_dir(self.folder.join(path)).map_err(|error| format!("cannot read \"{path}\": {error}"))?;
        let mut entries: Vec<_> = entries.flatten().map(|entry| (entry.file_name(), entry)).collect();
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, entry) in entries {
            let Some(name) = name.to_str() else { return Err(format!("a name in \"{path}\" is not UTF-8")) };
            let joined = |above: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
            let (from, to) = (joined(path), joined(to));
            if self.leaves_out(&to) {
                continue;
            }
            let cannot = |error: io::Error| format!("cannot read \"{from}\": {error}");
            let kind = entry.file_type().map_err(cannot)?;
            let ignored = self.ignore.hides(&from);
            if kind.is_dir() {
                // A folder that is ignored may hold something that is not, when patterns begin with `!`.
                if ignored && !self.ignore.has_exceptions {
                    continue;
                }
                let mode = if self.modes { self.mode(&entry.metadata().map_err(cannot)?) } else { None };
                below.push((from.clone(), to.clone()));
                inside.push(TreeEntry { to, from, kind: TreeKind::Folder, mode, whole: false });
            } else if ignored {
            } else if kind.is_symlink() {
                let link = fs::read_link(self.folder.join(&from)).map_err(cannot)?;
                let Some(link) = link.to_str() else { return Err(format!("the link \"{from}\" leads to what is not UTF-8")) };
                inside.push(TreeEntry { kind: TreeKind::Link(link.to_owned()), to, from, mode: None, whole: false });
            } else if kind.is_file() {
                inside.push(self.file(to, from, false));
            }
        }
        Ok(())
    }

    /// A file's entry; what it holds is looked at when all are known.
    fn file(&self, to: String, from: String, whole: bool) -> TreeEntry {
        let kind = TreeKind::File { digest: UNSEEN, executable: false };
        TreeEntry { to, from, kind, mode: self.modes.then_some(0), whole }
    }

    /// Paths that match a pattern, sorted.
    fn glob(&self, pattern: &str) -> Result<Vec<String>, String> {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        let fixed: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
        let mut found = Vec::new();
        let mut queue = vec![fixed.join("/")];
        while let Some(folder) = queue.pop() {
            let entries = fs::read_dir(self.folder.join(&folder)).into_iter().flatten().flatten();
            for entry in entries {
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                let hidden = self.ignore.hides(&path);
                if hidden && !self.ignore.has_exceptions {
                    continue;
                }
                if !hidden && pattern_matches(pattern, &path) {
                    found.push(path);
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    queue.push(path);
                }
            }
        }
        found.sort();
        if found.is_empty() { Err(format!("nothing matches \"{pattern}\"")) } else { Ok(found) }
    }
}

/// Adds what may be much to what mostly is nothing.
fn join<T>(all: &mut Vec<T>, more: Vec<T>) {
    if all.is_empty() { *all = more } else { all.extend(more) }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

/// Stands for the digest of a file that nobody looked at yet.
const UNSEEN: Digest = Digest::from_bytes([0; 32]);

/// What was seen of a file.
struct Seen {
    identity: Identity,
    digest: Digest,
    mode: u32,
    /// Whether the cache had it.
    known: bool,
    /// Whether the cache may have it.
    trusted: bool,
}

/// How many files a thread looks at before it takes others; few, since files that must be read stand together.
const PART: usize = 64;

/// Looks at files on all cores, and puts what they hold where it belongs; only those that the cache does
/// not know are read. Whether that is exactly what the cache knows comes back.
fn look(
    folder: &Path,
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
        let path = folder.join(key);
        let stat = folders.look(&path)?;
        let (identity, mode) = (Identity::of(&stat), stat.st_mode & 0o7777);
        if let Some(digest) = old.get_after(next, key, &identity) {
            return Ok(Seen { identity, digest, mode, known: true, trusted: true });
        }
        let digest = digest_of(&path)?;
        // By the clock as it is now: reading took its time.
        Ok(Seen { identity, digest, mode, known: false, trusted: identity.is_old(now()) })
    };
    let seen = Mutex::new(Vec::new());
    let Ok(()) = sys::on_all_cores(&unseen, PART, |index, part| {
        let mut near = (Nearby::default(), usize::MAX);
        let part: Vec<io::Result<Seen>> = part.iter().map(|key| see(&mut near, key)).collect();
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
    // Where each file is among those that were looked at; mostly they come in the same order.
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
        for entry in files.entries.iter_mut().filter(|entry| entry.is_file()) {
            let place = places.next().unwrap_or_default();
            match &seen[place / PART].1[place % PART] {
                Ok(seen) => {
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

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or(0))
}

/// Patterns of `.steadignore` and `.dockerignore`, in order; the last that matches decides.
#[derive(Debug, Default)]
struct Ignore {
    patterns: Vec<(bool, Pattern)>,
    has_exceptions: bool,
}

impl Ignore {
    /// Of a folder: its own files.
    ///
    /// # Errors
    /// A file that is there and cannot be read as what it is: whatever it would have left out must not be copied.
    fn read(files: &ProjectFiles) -> Result<Self, String> {
        let mut ignore = Self::default();
        for name in [".dockerignore", ".steadignore"] {
            ignore.file(files, name)?;
        }
        Ok(ignore)
    }

    /// Of a Dockerfile's context: the file beside the Dockerfile, else the context's own.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    fn of(folder: &Path, context: Option<&BuildContext>) -> Result<Self, String> {
        let files = ProjectFiles::at(folder).map_err(|error| format!("cannot open the project's folder: {error}"))?;
        let Some(context) = context else { return Self::read(&files) };
        let mut ignore = Self::default();
        if !ignore.file(&files, &context.ignore)? {
            ignore.file(&files, format!("{}/.dockerignore", context.folder).trim_start_matches('/'))?;
        }
        Ok(ignore)
    }

    /// Takes the patterns of a file; whether it is there.
    fn file(&mut self, files: &ProjectFiles, name: &str) -> Result<bool, String> {
        let bytes = match files.own(name, bounds::IGNORE_FILE) {
            Ok(bytes) => bytes,
            Err(Unread::Absent) => return Ok(false),
            Err(why) => return Err(format!("cannot read {name}, and so nothing is copied: {why}")),
        };
        self.add(name, &text_of(name, bytes)?)?;
        Ok(true)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let before = self.patterns.len();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() > bounds::PATTERN {
                return Err(format!("{name}:{}: a pattern has at most {} bytes", number + 1, bounds::PATTERN));
            }
            if self.patterns.len() - before >= bounds::IGNORE_PATTERNS {
                let most = bounds::IGNORE_PATTERNS;
                return Err(format!("{name}:{}: an ignore file has at most {most} patterns", number + 1));
            }
            let (hides, pattern) = line.strip_prefix('!').map_or((true, line), |pattern| (false, pattern.trim_start()));
            self.has_exceptions |= !hides;
            self.patterns.push((hides, Pattern::new(pattern.trim_matches('/').trim_start_matches("./"))));
        }
        Ok(())
    }

    /// Whether a path, or a folder that it is in, is named.
    fn hides(&self, path: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let prefixes: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let mut hidden = false;
        for (hides, pattern) in &self.patterns {
            if prefixes.iter().any(|prefix| pattern.matches(prefix)) {
                hidden = *hides;
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(folder: &Path, copy: &Copy) -> Result<FileTree, String> {
        let ignore = Ignore::of(folder, None)?;
        let tree = Reader::new(folder, None, &ignore).copy(copy);
        let mut trees = BTreeMap::from([((Name::of_reference("test"), 0), tree)]);
        look(folder, &ScanCache::default(), &mut ScanCache::default(), &mut trees);
        trees.into_values().next().unwrap()
    }

    fn copy(sources: &[&str], to: &str) -> Copy {
        Copy { sources: sources.iter().map(|source| (*source).to_owned()).collect(), to: to.into(), ..Copy::default() }
    }

    fn names(tree: &FileTree) -> Vec<&str> {
        tree.entries.iter().map(|entry| entry.to.as_str()).collect()
    }

    #[test]
    fn folders_files_patterns_and_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("app/deep")).unwrap();
        for path in ["app/a.py", "app/deep/b.py", "app/x.pyc", "c.txt", "app/deep/keep.pyc"] {
            fs::write(at(path), path).unwrap();
        }
        fs::write(at(".steadignore"), "**/*.pyc\n!app/deep/keep.pyc\n").unwrap();
        assert_eq!(
            names(&scan(folder.path(), &copy(&["app/"], "/srv")).unwrap()),
            ["", "a.py", "deep", "deep/b.py", "deep/keep.pyc"]
        );
        assert_eq!(names(&scan(folder.path(), &copy(&["c.txt"], "/c")).unwrap()), [""]);
        assert_eq!(names(&scan(folder.path(), &copy(&["c.txt"], "/d/")).unwrap()), ["", "c.txt"]);
        assert_eq!(names(&scan(folder.path(), &copy(&["**/*.py"], "/d/")).unwrap()), ["", "a.py", "b.py"]);
        assert!(scan(folder.path(), &copy(&["ap/"], "/d")).unwrap_err().contains("\"app\" is there"));
        std::os::unix::fs::symlink("/etc", at("out")).unwrap();
        assert!(scan(folder.path(), &copy(&["out"], "/d")).unwrap_err().contains("leads out"));
        assert!(scan(folder.path(), &copy(&["../x"], "/d")).is_err());
    }

    #[test]
    fn ignored_folders_are_there_for_what_is_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["keep/this/a", "keep/other/x", "gone/y"] {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), path).unwrap();
        }
        fs::create_dir(folder.path().join("keep/this/empty")).unwrap();
        fs::write(folder.path().join(".dockerignore"), "*\n!keep/this\n").unwrap();
        let tree = scan(folder.path(), &copy(&["."], "/d")).unwrap();
        assert_eq!(names(&tree), ["", "keep", "keep/this", "keep/this/a", "keep/this/empty"]);
    }

    #[test]
    fn touching_changes_nothing_and_editing_does() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let before = scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest();
        crate::sys::set_time(&folder.path().join("a"), 5).unwrap();
        assert_eq!(scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest(), before);
        fs::write(folder.path().join("a"), "2").unwrap();
        assert_ne!(scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest(), before);
    }
}

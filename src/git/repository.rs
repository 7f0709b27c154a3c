//! A repository on this machine: what a revision means in it (gitrevisions(7)), and the files of its commits.
//!
//! It only reads, and needs no git. Its objects are loose files and packs, of its own or borrowed from others
//! (gitrepository-layout(5)). Whoever made the repository may have been anybody: nothing in it is executed, names that are read
//! stay inside it, and every object is hashed.

use super::head::place_of;
use super::pack::{Id, Kind, Objects, Pack, copy_proven, damaged, hex, id, proven};
use super::pack_index::PackIndex;
use super::{subtree, tree_of, write_tree};
use crate::model::bounds::git::{CHECKOUT, HELD, LONGEST_INDEX};
use crate::model::{Budget, Context, Error, Result, nearest, shown};
use crate::sys::{self, Unread};
use flate2::bufread::ZlibDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// The most that is read of a reference, and of the list of packed ones.
const REFERENCE: u64 = 4096;
const PACKED: u64 = 64 << 20;
/// How often a symbolic reference may name another one, as in git.
const SYMBOLIC: usize = 5;
/// How many repositories may borrow from each other in a row, as in git.
const BORROWED: usize = 5;
/// How deep names of branches may be nested.
const NESTED: usize = 20;
/// The fewest digits of an abbreviated id, as in git.
const FEWEST: usize = 4;
/// How many candidates an error names.
const NAMED: usize = 5;
/// What the pointer to a file begins with that is kept elsewhere by git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A repository.
pub struct Repository {
    /// The directory that is the top of its working tree.
    top: PathBuf,
    /// Its own directory, and the one that it shares with its other worktrees.
    own: PathBuf,
    common: PathBuf,
    objects: Stock,
}

impl Repository {
    /// The repository that a directory belongs to; `None` if there is none.
    ///
    /// # Errors
    /// Fails when the repository is damaged, or of a form that is not understood.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let Some(git) = folder.ancestors().map(|above| above.join(".git")).find(|git| git.symlink_metadata().is_ok()) else {
            return Ok(None);
        };
        let top = git.parent().unwrap_or(folder).to_owned();
        let own = place_of(git.clone()).ok_or_else(|| Error::new(format!("{} names no repository", git.display())))?;
        let common = match read(&own.join("commondir"), REFERENCE)? {
            Some(line) => own.join(line.trim()),
            None => own.clone(),
        };
        let config = read(&common.join("config"), PACKED)?;
        refuse_forms(&config.unwrap_or_default()).map_err(|why| {
            let error = Error::new(format!("the repository {} cannot be read: {why}", top.display()));
            error.hint("check the commit out with `git worktree add`, and run `stead up` there")
        })?;
        let objects = Stock::open(&common.join("objects"))?;
        Ok(Some(Self { top, own, common, objects }))
    }

    /// The top of its working tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The full id of the commit that a revision means: a branch, a tag, `HEAD`, or the id of a commit or its beginning, and then
    /// perhaps `~2` or `^`.
    ///
    /// # Errors
    /// Fails when there is no such commit, when several ids begin so, and when something cannot be read.
    pub fn commit(&mut self, revision: &str) -> Result<String> {
        let whole = |error: Error| Error::caused(format!("the revision \"{revision}\" cannot be found"), error);
        if ["@{", "..", ":"].iter().any(|part| revision.contains(part)) {
            let error = Error::new(format!("the revision \"{revision}\" is not understood")).usage();
            return Err(error.hint(format!("`git rev-parse '{revision}'` may print the id of a commit, which is")));
        }
        let end = revision.find(['~', '^']).unwrap_or(revision.len());
        let (base, mut rest) = revision.split_at(end);
        let mut at = self.base(base)?;
        while !rest.is_empty() {
            let kind = rest.as_bytes()[0];
            rest = &rest[1..];
            if let Some(further) = rest.strip_prefix("{commit}").or_else(|| rest.strip_prefix("{}")).filter(|_| kind == b'^') {
                rest = further;
                continue;
            }
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let wrong = || Error::new(format!("the revision \"{revision}\" is not understood")).usage();
            let count: usize = if digits == 0 { 1 } else { rest[..digits].parse().map_err(|_| wrong())? };
            rest = &rest[digits..];
            if !rest.is_empty() && !rest.starts_with(['~', '^']) {
                return Err(wrong().hint("for example: main, v1.2, HEAD~2, main^, 1f2e3d4"));
            }
            if kind == b'~' {
                for _ in 0..count {
                    at = self.parent(&at, 1).map_err(whole)?;
                }
            } else if count > 0 {
                at = self.parent(&at, count).map_err(whole)?;
            }
        }
        Ok(hex(&at))
    }

    /// The parent of a commit, counted from 1.
    fn parent(&mut self, commit: &Id, number: usize) -> Result<Id> {
        let name = hex(commit);
        let text = self.objects.get(commit, Kind::Commit).context(|| format!("cannot read commit {name}"))?;
        let lines = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
        let mut parents = lines.filter_map(|line| id(str::from_utf8(line.strip_prefix(b"parent ")?).ok()?));
        let found = parents.nth(number - 1).ok_or_else(|| {
            let which = if number == 1 { "no parent".to_owned() } else { format!("no parent {number}") };
            Error::new(format!("commit {} has {which}: the history begins there", &name[..12]))
        })?;
        if !self.objects.has(&found) {
            let error = Error::new(format!("commit {}, before {}, is not in the repository", &hex(&found)[..12], &name[..12]));
            return Err(error.hint("the clone is shallow; `git fetch --unshallow` brings the rest"));
        }
        Ok(found)
    }

    /// The commit that a name or an id means.
    fn base(&mut self, text: &str) -> Result<Id> {
        let text = if text == "@" { "HEAD" } else { text };
        if let Some(whole) = id(&text.to_ascii_lowercase()) {
            return self.peeled(whole, text);
        }
        if is_reference(text) {
            let places = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"].map(|above| format!("{above}{text}"));
            let last = format!("refs/remotes/{text}/HEAD");
            for place in places.iter().chain([&last]).filter(|place| place.starts_with("refs/") || is_special(place)) {
                if let Some(found) = self.reference(place)? {
                    return self.peeled(found, text);
                }
            }
        }
        let digits = text.to_ascii_lowercase();
        if digits.len() >= FEWEST && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let mut found = Vec::new();
            for one in self.objects.beginning(&digits)? {
                if matches!(self.objects.kind(&one).context(|| format!("cannot read {}", hex(&one)))?, Kind::Commit | Kind::Tag) {
                    found.push(one);
                }
            }
            match found.as_slice() {
                [one] => return self.peeled(*one, text),
                [] => {}
                several => {
                    let some: Vec<String> = several.iter().take(NAMED).map(|id| hex(id)[..12].to_owned()).collect();
                    let error = Error::new(format!("\"{text}\" is not clear: {} commits begin so", several.len())).usage();
                    return Err(error.hint(format!("give more of it; there are: {}", some.join(", "))));
                }
            }
        }
        Err(self.unknown(text))
    }

    /// Follows a tag to its commit.
    fn peeled(&mut self, start: Id, typed: &str) -> Result<Id> {
        let mut at = start;
        if !self.objects.has(&at) {
            return Err(Error::new(format!("the repository has no object {}", hex(&at))).hint("perhaps `git fetch` brings it"));
        }
        for _ in 0..SYMBOLIC {
            let failed = || format!("cannot read {}", hex(&at));
            match self.objects.kind(&at).context(failed)? {
                Kind::Commit => return Ok(at),
                Kind::Tag => {
                    let text = self.objects.get(&at, Kind::Tag).context(failed)?;
                    let target = text.strip_prefix(b"object ").and_then(|rest| rest.get(..40));
                    let target = target.and_then(|target| id(str::from_utf8(target).ok()?));
                    at = target.ok_or_else(|| Error::new(format!("the tag {} names nothing", hex(&at))))?;
                }
                Kind::Tree | Kind::Blob => break,
            }
        }
        Err(Error::new(format!("\"{typed}\" is no commit")).usage())
    }

    /// What a reference names; `None` if there is none of that name.
    fn reference(&self, name: &str) -> Result<Option<Id>> {
        let mut name = name.to_owned();
        for _ in 0..SYMBOLIC {
            let mut text = read(&self.own.join(&name), REFERENCE)?;
            if text.is_none() && self.common != self.own {
                text = read(&self.common.join(&name), REFERENCE)?;
            }
            let Some(text) = text else { return self.packed(&name) };
            let line = text.lines().next().unwrap_or_default();
            let Some(other) = line.strip_prefix("ref:").map(str::trim) else {
                let broken = || Error::new(format!("the reference {name} is damaged: it is no id"));
                return id(line.trim()).ok_or_else(broken).map(Some);
            };
            if !is_reference(other) {
                return Err(Error::new(format!("the reference {name} is damaged: it names \"{other}\"")));
            }
            name = other.to_owned();
        }
        Err(Error::new(format!("the reference {name} leads in a circle")))
    }

    fn packed(&self, name: &str) -> Result<Option<Id>> {
        let text = read(&self.common.join("packed-refs"), PACKED)?.unwrap_or_default();
        Ok(text.lines().find_map(|line| id(line.strip_suffix(name)?.strip_suffix(' ')?)))
    }

    fn unknown(&self, text: &str) -> Error {
        let mut names: Vec<String> = Vec::new();
        for kind in ["heads", "tags"] {
            collect(&self.common.join("refs").join(kind), "", NESTED, &mut names);
        }
        // If they cannot be read, none is suggested.
        let packed = read(&self.common.join("packed-refs"), PACKED).ok().flatten().unwrap_or_default();
        let known = packed.lines().filter_map(|line| line.split_once(' '));
        let named = known.filter_map(|(_, name)| name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")));
        names.extend(named.map(str::to_owned));
        names.push("HEAD".into());
        let error = Error::new(format!("there is no branch, tag or commit \"{text}\" in {}", self.top.display())).usage();
        match nearest(text, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("perhaps \"{near}\"")),
            None => error.hint("`git log --oneline --all` lists what there is"),
        }
    }

    /// Writes the files that a directory of the working tree has in a commit into an empty directory.
    ///
    /// # Errors
    /// Fails when the commit has no such directory, when some of its files are not in the repository (those of submodules and
    /// of git LFS), and when something cannot be read or written. Whatever was written until then stays.
    pub fn check_out(&mut self, commit: &str, folder: &Path, into: &Path) -> Result<()> {
        let cannot = || format!("cannot check out {commit}");
        let id = id(commit).ok_or_else(|| Error::new(format!("\"{commit}\" is no commit id")))?;
        let inside = folder.strip_prefix(&self.top).unwrap_or(Path::new(""));
        let parts = inside.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.as_bytes()),
            _ => None,
        });
        let top = tree_of(&mut self.objects, &id).context(cannot)?;
        let tree = subtree(&mut self.objects, top, parts).context(cannot)?;
        let tree = tree.ok_or_else(|| Error::new(format!("commit {} has no directory {}", &commit[..12], shown(inside))))?;
        let budget = Budget::new(CHECKOUT);
        budget.came(self.objects.length());
        let mut modules = Vec::new();
        write_tree(&mut self.objects, tree, into, &mut modules, &budget).context(cannot)?;
        if let Some((path, _)) = modules.first() {
            let error = Error::new(format!("commit {} has the submodule {}", &commit[..12], shown(&inside.join(path))));
            return Err(error.hint(
                "what a submodule has is in another repository; `git worktree add` and `git submodule update` check it out, and \
                 `stead up` works there",
            ));
        }
        Ok(())
    }
}

/// Refuses forms of repositories that would be misread.
fn refuse_forms(config: &str) -> Result<(), String> {
    let mut section = String::new();
    for line in config.lines().map(|line| line.trim().to_ascii_lowercase()) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim().trim_matches('"'))) else {
            continue;
        };
        match (section.as_str(), key, value) {
            ("[extensions]", "objectformat", format) if format != "sha1" => {
                return Err(format!("its ids are {format}, not sha1"));
            }
            ("[extensions]", "refstorage", form) if form != "files" => {
                return Err(format!("its branches are kept as {form}, not in files"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The text of a file; `None` if there is none.
fn read(path: &Path, most: u64) -> Result<Option<String>> {
    match sys::read_regular(path, most) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(Unread::Absent | Unread::Folder) => Ok(None),
        Err(why) => Err(Error::caused(format!("cannot read {}", path.display()), why)),
    }
}

/// Adds the names of loose references; what cannot be listed is left out, since they are only suggested.
fn collect(folder: &Path, above: &str, left: usize, names: &mut Vec<String>) {
    let Some(left) = left.checked_sub(1) else { return };
    for name in sys::names(folder).unwrap_or_default() {
        let path = folder.join(&name);
        if path.is_dir() {
            collect(&path, &format!("{above}{name}/"), left, names);
        } else {
            names.push(format!("{above}{name}"));
        }
    }
}

/// Whether a text can be the name of a reference, so that it leads to nothing outside (git-check-ref-format).
fn is_reference(text: &str) -> bool {
    let legal = |c: char| !c.is_ascii_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c);
    let parts = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    text.chars().all(legal) && text.split('/').all(parts) && !text.contains("..") && !text.contains("@{")
}

/// Whether it is one of the references outside of `refs`, such as `HEAD`.
fn is_special(text: &str) -> bool {
    text.ends_with("HEAD") && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The objects of a repository, its own and those that it borrows.
struct Stock {
    folders: Vec<PathBuf>,
    packs: Vec<Pack>,
}

impl Stock {
    fn open(folder: &Path) -> Result<Self> {
        let mut stock = Self { folders: Vec::new(), packs: Vec::new() };
        stock.add(folder, BORROWED)?;
        Ok(stock)
    }

    fn add(&mut self, folder: &Path, left: usize) -> Result<()> {
        let Some(left) = left.checked_sub(1).filter(|_| !self.folders.iter().any(|known| known == folder)) else { return Ok(()) };
        self.folders.push(folder.to_owned());
        let packs = folder.join("pack");
        for name in sys::names(&packs).context(|| format!("cannot list {}", packs.display()))? {
            let Some(stem) = name.strip_suffix(".idx") else { continue };
            let path = packs.join(format!("{stem}.pack"));
            let failed = || format!("cannot read {}", path.display());
            let file = match sys::open_regular(&path) {
                // It is being replaced by a larger one.
                Err(Unread::Absent) => continue,
                file => file.context(failed)?,
            };
            let index = sys::read_regular(&packs.join(&name), LONGEST_INDEX).context(failed)?;
            self.packs.push(PackIndex::parse(index).and_then(|index| Pack::indexed(file, index)).context(failed)?);
        }
        let borrowed = read(&folder.join("info/alternates"), PACKED)?.unwrap_or_default();
        for line in borrowed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.add(&folder.join(line), left)?;
        }
        Ok(())
    }

    /// How many bytes all packs have.
    fn length(&self) -> u64 {
        self.packs.iter().map(Pack::length).sum()
    }

    fn loose(&self, id: &Id) -> Option<PathBuf> {
        let name = hex(id);
        self.folders.iter().map(|folder| folder.join(&name[..2]).join(&name[2..])).find(|path| path.symlink_metadata().is_ok())
    }

    fn has(&self, id: &Id) -> bool {
        self.packs.iter().any(|pack| pack.has(id)) || self.loose(id).is_some()
    }

    /// The ids of all objects that begin with these digits.
    fn beginning(&self, digits: &str) -> Result<Vec<Id>> {
        let mut found: Vec<Id> = self.packs.iter().flat_map(|pack| pack.beginning(digits)).collect();
        for folder in &self.folders {
            let place = folder.join(&digits[..2]);
            let names = sys::names(&place).context(|| format!("cannot list {}", place.display()))?;
            found.extend(names.iter().filter(|name| name.starts_with(&digits[2..])).filter_map(|name| {
                let whole = format!("{}{name}", &digits[..2]);
                id(&whole)
            }));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn kind(&mut self, id: &Id) -> io::Result<Kind> {
        for pack in &mut self.packs {
            if let Some(kind) = pack.kind(id)? {
                return Ok(kind);
            }
        }
        match self.loose(id) {
            Some(path) => Loose::open(&path).map(|loose| loose.kind),
            None => Err(damaged(&format!("object {} is missing", hex(id)))),
        }
    }
}

/// A loose object: `kind size`, NUL and its content, compressed.
struct Loose {
    kind: Kind,
    size: u64,
    content: ZlibDecoder<BufReader<File>>,
}

impl Loose {
    fn open(path: &Path) -> io::Result<Self> {
        let file = sys::open_regular(path).map_err(|why| io::Error::other(why.to_string()))?;
        let mut content = ZlibDecoder::new(BufReader::new(file));
        let mut head = Vec::new();
        let mut byte = [0];
        while head.len() < 32 {
            content.read_exact(&mut byte)?;
            if byte == [0] {
                break;
            }
            head.push(byte[0]);
        }
        let parse = || {
            let (kind, size) = str::from_utf8(&head).ok()?.split_once(' ')?;
            let kind = match kind {
                "commit" => Kind::Commit,
                "tree" => Kind::Tree,
                "blob" => Kind::Blob,
                "tag" => Kind::Tag,
                _ => return None,
            };
            Some((kind, size.parse().ok()?))
        };
        let (kind, size) = parse().ok_or_else(|| damaged("a loose object is damaged"))?;
        Ok(Self { kind, size, content })
    }
}

impl Objects for Stock {
    fn get(&mut self, id: &Id, wanted: Kind) -> io::Result<Rc<[u8]>> {
        if let Some(pack) = self.packs.iter_mut().find(|pack| pack.has(id)) {
            return pack.get(id, wanted);
        }
        let path = self.loose(id).ok_or_else(|| damaged(&format!("object {} is missing", hex(id))))?;
        let Loose { kind, size, content } = Loose::open(&path)?;
        if kind != wanted {
            return Err(damaged(&format!("{} is a {kind:?}, not a {wanted:?}", hex(id)).to_lowercase()));
        }
        if size > HELD.1 {
            return Err(damaged("an object is too long"));
        }
        let mut bytes = Vec::new();
        content.take(size).read_to_end(&mut bytes)?;
        proven(id, kind, &bytes)?;
        Ok(bytes.into())
    }

    fn write_blob(&mut self, id: &Id, to: &mut File, budget: &Budget) -> io::Result<()> {
        let written = if let Some(pack) = self.packs.iter_mut().find(|pack| pack.has(id)) {
            pack.write_blob(id, to, budget)
        } else {
            let path = self.loose(id).ok_or_else(|| damaged(&format!("object {} is missing", hex(id))))?;
            let Loose { kind, size, content } = Loose::open(&path)?;
            if kind != Kind::Blob {
                return Err(damaged(&format!("{} is no file", hex(id))));
            }
            budget.came(path.symlink_metadata()?.len());
            budget.spend(size)?;
            copy_proven(id, size, &mut content.take(size), to)
        };
        written.and_then(|()| refuse_pointer(to))
    }
}

/// Refuses the pointer to a file that git LFS keeps elsewhere: an image would get the pointer instead of the file.
fn refuse_pointer(file: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    if file.metadata()?.len() > 1024 {
        return Ok(());
    }
    let mut begin = [0; POINTER.len()];
    match file.read_exact_at(&mut begin, 0) {
        Ok(()) if begin == *POINTER => Err(io::Error::other("git LFS keeps this file outside of the repository")),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

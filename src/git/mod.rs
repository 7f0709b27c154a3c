//! Reads git repositories without git: which commit a name means, and the files of a commit.
//!
//! It implements the parts of the protocol that a shallow fetch needs (gitprotocol-v2; gitprotocol-pack for
//! older servers). Every object is hashed here, from the commit down, so the files that are checked out
//! match the commit's id, whoever serves them. So it is with the objects of a repository on this machine.

mod dot_git;
mod head;
mod line;
mod modules;
mod object;
mod objects;
mod pack;
mod pack_index;
mod remote;
mod repository;
mod ssh;
mod web;

pub use head::{checked_out, head_commit};
pub use repository::Repository;

use crate::model::bounds::git::{CHECKOUT, LONGEST_LINK, LONGEST_PATH, MODULES, MODULES_DEEP};
use crate::model::{Budget, Context, Error, GitRepository, Result, shown};
use line::Version;
use object::{Id, Kind, Objects, hex, id as parse_id};
use pack::Pack;
use remote::{History, Remote};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Finds the id of the commit that a branch or tag names now; without a name, that of the repository's HEAD.
///
/// # Errors
/// Fails when the server cannot be reached or is not a git server, or when the name does not exist.
pub fn resolve(place: &GitRepository, reference: Option<&str>) -> Result<String> {
    if let Some(id) = reference.and_then(parse_id) {
        return Ok(hex(&id));
    }
    let mut remote = Remote::open(place)?;
    let names = match reference {
        None => vec!["HEAD".to_owned()],
        Some(name) if name == "HEAD" || name.starts_with("refs/") => vec![name.to_owned()],
        // A branch takes precedence over a tag of the same name, as in `git clone --branch`.
        Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}"), format!("refs/{name}")],
    };
    let tips = remote.tips(&names)?;
    let find = |name: &str| tips.iter().find(|(tip, _)| tip == name).map(|(_, id)| id.clone());
    let found = names.iter().find_map(|name| find(&format!("{name}^{{}}")).or_else(|| find(name)));
    found.ok_or_else(|| match reference {
        None => Error::new(format!("{} has no commit: its HEAD names nothing", remote.shown)),
        Some(name) => Error::new(format!("{} has no branch and no tag \"{name}\"", remote.shown)),
    })
}

/// Which part of a repository is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The full commit id.
    pub commit: &'a str,
    /// Only this directory, if set.
    pub folder: Option<&'a str>,
    /// Whether to make a `.git` directory, too.
    pub dot_git: bool,
    /// Whether to check out submodules, too, at the commits that the repository names.
    pub submodules: bool,
}

/// Writes the files of a commit, or those in one directory of it, into an empty directory.
///
/// # Errors
/// Fails when the server cannot be reached or does not have the commit, when a name would lead out of the directory, or when
/// something cannot be written. Whatever was written until then stays.
pub fn checkout(place: &GitRepository, wanted: Wanted, into: &Path, scratch: &Path) -> Result<()> {
    one(place, wanted, into, scratch, &mut Left { modules: MODULES, deep: MODULES_DEEP, budget: Budget::new(CHECKOUT) })
}

/// What is left of the limits for a repository and its submodules together.
struct Left {
    modules: usize,
    deep: usize,
    budget: Budget,
}

/// Checks out one repository with its submodules.
fn one(place: &GitRepository, wanted: Wanted, into: &Path, scratch: &Path, left: &mut Left) -> Result<()> {
    let id = parse_id(wanted.commit);
    let id = id.ok_or_else(|| Error::new(format!("\"{}\" is not a commit id: 40 hexadecimal digits", wanted.commit)))?;
    let commit = hex(&id);
    let mut remote = Remote::open(place)?;
    let mut objects = fetch(&mut remote, &commit, scratch)?;
    if !objects.has(&id) {
        return Err(remote.lacks(&commit));
    }
    let damaged = || format!("cannot read commit {commit} of {}", remote.shown);
    let top = tree_of(&mut objects, &id).context(damaged)?;
    let folder = wanted.folder.unwrap_or_default();
    let parts = folder.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::as_bytes);
    let tree = subtree(&mut objects, top, parts).context(damaged)?;
    let tree = tree.ok_or_else(|| Error::new(format!("{} has no directory \"{folder}\" in {commit}", remote.shown)))?;
    let cannot = || format!("cannot check out {commit} of {}", remote.shown);
    let mut links = Vec::new();
    left.budget.came(objects.length());
    write_tree(&mut objects, tree, into, &mut links, &left.budget).context(cannot)?;
    if wanted.dot_git {
        // The address must not contain a password, since it becomes part of an image.
        dot_git::write(&mut objects, &id, top, &remote.shown, into).context(cannot)?;
    }
    if links.is_empty() || !wanted.submodules {
        return Ok(());
    }
    let known = modules::read(&mut objects, top).context(cannot)?;
    // The pack is not needed any more, and would only fill memory and disk.
    drop(objects);
    left.deep =
        left.deep.checked_sub(1).ok_or_else(|| Error::new(format!("its submodules are nested more than {MODULES_DEEP} deep")))?;
    for (path, id) in links {
        let whole = Path::new(folder).components().collect::<PathBuf>().join(&path);
        let module = shown(&whole);
        let there = known.get(whole.strip_prefix(".").unwrap_or(&whole));
        let there = there.ok_or_else(|| Error::new(format!("{}: .gitmodules does not say where {module} is", remote.shown)))?;
        left.modules = left.modules.checked_sub(1).ok_or_else(|| Error::new(format!("it has more than {MODULES} submodules")))?;
        let cannot = || format!("cannot fetch the submodule {module} of {}", remote.shown);
        let there = place.submodule(there).map_err(|why| Error::caused(cannot(), Error::new(why)))?;
        let inner = Wanted { commit: &hex(&id), folder: None, dot_git: false, submodules: true };
        one(&there, inner, &into.join(&path), scratch, left).context(cannot)?;
    }
    left.deep += 1;
    Ok(())
}

/// The tree of a commit.
fn tree_of(objects: &mut impl Objects, commit: &Id) -> io::Result<Id> {
    let text = objects.get(commit, Kind::Commit)?;
    let tree = text.strip_prefix(b"tree ").and_then(|rest| rest.get(..40)).and_then(|id| parse_id(str::from_utf8(id).ok()?));
    tree.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it names no tree"))
}

/// A directory in a tree; `None` if there is none.
fn subtree<'p>(objects: &mut impl Objects, mut tree: Id, parts: impl Iterator<Item = &'p [u8]>) -> io::Result<Option<Id>> {
    for part in parts {
        let content = objects.get(&tree, Kind::Tree)?;
        let found = entries(&content)?.into_iter().find(|entry| entry.name == part && entry.mode == FOLDER);
        let Some(found) = found else { return Ok(None) };
        tree = found.id;
    }
    Ok(Some(tree))
}

/// Reads a pack, and writes the files of its commits, as a checkout does. It is for `tests/fuzz`, which has no server.
///
/// # Errors
/// As for [`checkout`].
#[doc(hidden)]
pub fn check_out_pack(pack: fs::File, into: &Path) -> Result<usize> {
    let mut objects = Pack::index(pack).context(|| "the pack is damaged".into())?;
    let budget = objects.budget();
    let mut count = 0;
    for id in objects.ids() {
        let Ok(tree) = tree_of(&mut objects, &id) else { continue };
        let place = into.join(hex(&id));
        fs::create_dir(&place).context(|| "cannot make a directory".into())?;
        write_tree(&mut objects, tree, &place, &mut Vec::new(), &budget)?;
        dot_git::write(&mut objects, &id, tree, "https://example.org/a", &place)?;
        modules::read(&mut objects, tree).context(|| "cannot read .gitmodules".into())?;
        count += 1;
    }
    Ok(count)
}

/// Reads the lines of a response, for `tests/fuzz`.
///
/// # Errors
/// Fails when the response is not in git's protocol.
#[doc(hidden)]
pub fn read_lines(mut answer: &[u8]) -> Result<Vec<String>> {
    line::lines(&mut answer, "the server")
}

/// Fetches the objects of a commit, and possibly more.
fn fetch(remote: &mut Remote, commit: &str, scratch: &Path) -> Result<Pack> {
    match remote.fetch(&[commit.to_owned()], History::None, scratch)? {
        Ok(pack) => return Ok(pack),
        // Git's own server serves any commit that it has, in version 2 of the protocol.
        Err(said) if remote.version == Version::Second && said.contains("not our ref") => return Err(remote.lacks(commit)),
        // Other servers serve only commits that have a name: then all named commits are fetched, with their history.
        Err(_) => {}
    }
    let tips = remote.tips(&["refs/heads/".to_owned(), "refs/tags/".to_owned()])?;
    let named = tips.into_iter().filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"));
    let mut ids: Vec<String> = named.filter(|(name, _)| !name.ends_with("^{}")).map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(remote.lacks(commit));
    }
    remote.fetch(&ids, History::All, scratch)?.map_err(|said| Error::new(format!("{} says: {said}", remote.shown)))
}

/// Writes a tree. All directories and files are newly made here, so no earlier entry can redirect a name. Submodules become
/// empty directories, and are added to `links`.
fn write_tree(objects: &mut impl Objects, tree: Id, into: &Path, links: &mut Vec<(PathBuf, Id)>, budget: &Budget) -> Result<()> {
    let mut folders = vec![(tree, PathBuf::new())];
    while let Some((tree, folder)) = folders.pop() {
        let unread = || format!("cannot read {}", shown(&folder));
        let content = objects.get(&tree, Kind::Tree).context(unread)?;
        for Entry { mode, name, id } in entries(&content).context(unread)? {
            let path = folder.join(OsStr::from_bytes(name));
            let target = into.join(&path);
            let failed = || format!("cannot write {}", shown(&path));
            admit(&path, name, budget)?;
            match mode & 0o170_000 {
                kind @ (FOLDER | MODULE) => {
                    fs::create_dir(&target).context(failed)?;
                    fs::set_permissions(&target, Permissions::from_mode(0o755)).context(failed)?;
                    if kind == FOLDER { folders.push((id, path)) } else { links.push((path, id)) }
                }
                0o120_000 => {
                    let leads = objects.get(&id, Kind::Blob).context(failed)?;
                    if leads.len() > LONGEST_LINK {
                        return Err(Error::new(format!("{} is a link with too long a target", shown(&path))));
                    }
                    symlink(OsStr::from_bytes(&leads), &target).context(failed)?;
                }
                0o100_000 => {
                    let mut file =
                        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&target).context(failed)?;
                    objects.write_blob(&id, &mut file, budget).context(failed)?;
                    let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                    file.set_permissions(Permissions::from_mode(mode)).context(failed)?;
                }
                _ => return Err(Error::new(format!("{} is of an unknown kind, {mode:o}", shown(&path)))),
            }
        }
    }
    Ok(())
}

/// Checks the name of an entry, and takes the entry from the budget.
fn admit(path: &Path, name: &[u8], budget: &Budget) -> Result<()> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        return Err(Error::new(format!("a path in it has {length} bytes, over the limit of {LONGEST_PATH}: {}", shown(path))));
    }
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.eq_ignore_ascii_case(b".git") {
        return Err(Error::new(format!("\"{}\" is not a valid file name", shown(path))));
    }
    budget.entry(length).context(|| format!("at {}", shown(path)))
}

const FOLDER: u32 = 0o040_000;
/// The mode of a submodule: a commit of another repository.
const MODULE: u32 = 0o160_000;

/// An entry of a tree.
struct Entry<'a> {
    mode: u32,
    name: &'a [u8],
    id: Id,
}

/// Reads the entries of a tree: mode, space, name, NUL, id.
fn entries(mut tree: &[u8]) -> io::Result<Vec<Entry<'_>>> {
    let mut found = Vec::new();
    let mut next = || {
        let (mode, rest) = tree.split_at_checked(tree.iter().position(|byte| *byte == b' ')?)?;
        let (name, rest) = rest[1..].split_at_checked(rest[1..].iter().position(|byte| *byte == 0)?)?;
        let (id, rest) = rest[1..].split_first_chunk()?;
        tree = rest;
        Some(Entry { mode: u32::from_str_radix(str::from_utf8(mode).ok()?, 8).ok()?, name, id: *id })
    };
    while let Some(entry) = next() {
        found.push(entry);
    }
    if tree.is_empty() { Ok(found) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "a tree is damaged")) }
}

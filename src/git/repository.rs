//! A repository on this machine: what a revision means in it (gitrevisions(7)), and the files of its commits.
//!
//! It only reads, and needs no git. Whoever made the repository may have been anybody: nothing in it is executed, names that are read
//! stay inside it, and every object is hashed.

use super::head::place_of;
use super::object::{Id, Kind, Objects, hex, id};
use super::objects::{Stock, read};
use super::{subtree, tree_of, write_tree};
use crate::model::bounds::git::CHECKOUT;
use crate::model::{Budget, Context, Error, Result, nearest, shown};
use crate::sys;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The most that is read of a reference, and of the list of packed ones.
const REFERENCE: u64 = 4096;
const PACKED: u64 = 64 << 20;
/// How often a symbolic reference may name another one, as in git.
const SYMBOLIC: usize = 5;
/// How deep names of branches may be nested.
const NESTED: usize = 20;
/// The fewest digits of an abbreviated id, as in git.
const FEWEST: usize = 4;
/// How many candidates an error names.
const NAMED: usize = 5;

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

#[cfg(test)]
mod tests;

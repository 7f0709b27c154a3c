//! Git repositories, read without git: which commit a name means, and the files of a commit.
//!
//! Of the protocol it speaks what a shallow fetch needs (gitprotocol-v2; gitprotocol-pack for servers that
//! have nothing newer). Every object is hashed here, from the commit down: whoever serves it, what is
//! checked out is what the commit's id says.

mod dot_git;
mod modules;
mod pack;

use crate::model::{Context, Fault, Outcome};
use pack::{Id, Kind, Pack};
use reqwest::{RequestBuilder, Response, Url};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

const REFS: &str = "/info/refs?service=git-upload-pack";
/// Trees may name the same trees many times over: a small commit can have files without end.
const MOST_FILES: usize = 4_000_000;
const LONGEST_LINK: usize = 4095;
/// The same for submodules.
const MOST_MODULES: usize = 1000;

/// The id of the commit that a branch, a tag or nothing (the repository's own choice) names now.
///
/// # Errors
/// A server that cannot be reached or is none of git's; a name that is not there.
pub fn resolve(url: &str, reference: Option<&str>) -> Outcome<String> {
    if let Some(id) = reference.and_then(pack::id) {
        return Ok(pack::hex(&id));
    }
    let remote = Remote::open(url)?;
    let names = match reference {
        None => vec!["HEAD".to_owned()],
        Some(name) if name == "HEAD" || name.starts_with("refs/") => vec![name.to_owned()],
        // A branch goes before a tag of the same name, as in `git clone --branch`.
        Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    };
    let tips = remote.tips(&names)?;
    let find = |name: &str| tips.iter().find(|(tip, _)| tip == name).map(|(_, id)| id.clone());
    let found = names.iter().find_map(|name| find(&format!("{name}^{{}}")).or_else(|| find(name)));
    found.ok_or_else(|| match reference {
        None => Fault::new(format!("{} has no commit: its HEAD names nothing", remote.shown)),
        Some(name) => Fault::new(format!("{} has no branch and no tag \"{name}\"", remote.shown)),
    })
}

/// Writes the files of a commit, or those in one folder of it, into an empty folder; if wanted with a `.git` of
/// that commit. Submodules are fetched, too, at the commits that are named for them.
///
/// # Errors
/// A server that cannot be reached or does not have the commit; names that lead elsewhere; those of writing. What was
/// written until then stays.
pub fn checkout(url: &str, commit: &str, what: Part, into: &Path, scratch: &Path) -> Outcome<()> {
    one(url, commit, what, into, scratch, &mut MOST_MODULES.clone())
}

/// One repository, and with it its submodules, of which there may be so many yet.
fn one(url: &str, commit: &str, what: Part, into: &Path, scratch: &Path, left: &mut usize) -> Outcome<()> {
    let id = pack::id(commit).ok_or_else(|| Fault::new(format!("\"{commit}\" is no commit's id: 40 hexadecimal digits")))?;
    let commit = pack::hex(&id);
    let remote = Remote::open(url)?;
    let mut objects = match remote.fetch(std::slice::from_ref(&commit), true, scratch)? {
        Ok(pack) => pack,
        // Git's own server, in the new protocol, serves any commit that it has.
        Err(said) if remote.modern && said.contains("not our ref") => return Err(remote.lacks(&commit)),
        // Others serve only what has a name: then all that has one is fetched, with its history.
        Err(_) => {
            let tips = remote.tips(&["refs/heads/".to_owned(), "refs/tags/".to_owned()])?;
            let named = tips.into_iter().filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"));
            let mut ids: Vec<String> = named.filter(|(name, _)| !name.ends_with("^{}")).map(|(_, id)| id).collect();
            ids.sort_unstable();
            ids.dedup();
            if ids.is_empty() {
                return Err(remote.lacks(&commit));
            }
            remote.fetch(&ids, false, scratch)?.map_err(|said| Fault::new(format!("{} says: {said}", remote.shown)))?
        }
    };
    if !objects.has(&id) {
        return Err(remote.lacks(&commit));
    }
    let damaged = || format!("cannot read commit {commit} of {}", remote.shown);
    let text = objects.get(&id, Kind::Commit).doing(damaged)?;
    let tree = text.strip_prefix(b"tree ").and_then(|rest| rest.get(..40)).and_then(|id| pack::id(str::from_utf8(id).ok()?));
    let mut tree = tree.ok_or_else(|| Fault::new(damaged()))?;
    let top = tree;
    let wanted = if let Part::Folder(wanted) = what { wanted } else { "" };
    for part in wanted.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let content = objects.get(&tree, Kind::Tree).doing(damaged)?;
        let found = entries(&content).doing(damaged)?.into_iter().find(|entry| entry.name == part.as_bytes());
        let found = found.filter(|entry| entry.mode == FOLDER);
        tree = found.ok_or_else(|| Fault::new(format!("{} has no folder \"{wanted}\" in {commit}", remote.shown)))?.id;
    }
    let cannot = || format!("cannot check out {commit} of {}", remote.shown);
    let mut links = Vec::new();
    write_tree(&mut objects, tree, into, &mut links).doing(cannot)?;
    if let Part::WithGit = what {
        // The address without a password: it is in an image from here on.
        dot_git::write(&mut objects, &id, top, &remote.shown, into).doing(cannot)?;
    }
    if links.is_empty() {
        return Ok(());
    }
    let known = modules::read(&mut objects, top).doing(cannot)?;
    for (path, id) in links {
        let whole = Path::new(wanted).components().collect::<PathBuf>().join(&path);
        let shown = whole.display();
        let place = known.get(whole.strip_prefix(".").unwrap_or(&whole));
        let place = place.ok_or_else(|| Fault::new(format!("{}: .gitmodules does not say where {shown} is", remote.shown)))?;
        *left = left.checked_sub(1).ok_or_else(|| Fault::new(format!("it has more than {MOST_MODULES} submodules")))?;
        let place = modules::resolve(url, place).ok_or_else(|| {
            Fault::new(format!("{}: the submodule {shown} is at \"{place}\", which is neither http nor https", remote.shown))
        })?;
        one(&place, &pack::hex(&id), Part::All, &into.join(&path), scratch, left)
            .doing(|| format!("cannot fetch the submodule {shown} of {}", remote.shown))?;
    }
    Ok(())
}

/// What of a commit is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    All,
    Folder(&'a str),
    /// All, and what git keeps beside it.
    WithGit,
}

/// Each folder is made here, and each file anew, so nothing that came before can lead a name elsewhere. Submodules are
/// folders that stay empty, and are told.
fn write_tree(objects: &mut Pack, tree: Id, into: &Path, links: &mut Vec<(PathBuf, Id)>) -> Outcome<()> {
    let mut folders = vec![(tree, PathBuf::new())];
    let mut count = 0;
    while let Some((tree, folder)) = folders.pop() {
        let content = objects.get(&tree, Kind::Tree).doing(|| format!("cannot read {}", folder.display()))?;
        for Entry { mode, name, id } in entries(&content).doing(|| format!("cannot read {}", folder.display()))? {
            let path = folder.join(OsStr::from_bytes(name));
            let target = into.join(&path);
            let failed = || format!("cannot write {}", path.display());
            count += 1;
            if count > MOST_FILES {
                return Err(Fault::new(format!("it has more than {MOST_FILES} files")));
            }
            if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.eq_ignore_ascii_case(b".git") {
                return Err(Fault::new(format!("\"{}\" is no name for a file", path.display())));
            }
            match mode & 0o170_000 {
                kind @ (FOLDER | MODULE) => {
                    fs::create_dir(&target).doing(failed)?;
                    fs::set_permissions(&target, Permissions::from_mode(0o755)).doing(failed)?;
                    if kind == FOLDER { folders.push((id, path)) } else { links.push((path, id)) }
                }
                0o120_000 => {
                    let leads = objects.get(&id, Kind::Blob).doing(failed)?;
                    if leads.len() > LONGEST_LINK {
                        return Err(Fault::new(format!("{} is too long for a link", path.display())));
                    }
                    symlink(OsStr::from_bytes(&leads), &target).doing(failed)?;
                }
                0o100_000 => {
                    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).doing(failed)?;
                    objects.write_blob(&id, &mut file).doing(failed)?;
                    let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                    file.set_permissions(Permissions::from_mode(mode)).doing(failed)?;
                }
                _ => return Err(Fault::new(format!("{} is of an unknown kind, {mode:o}", path.display()))),
            }
        }
    }
    Ok(())
}

const FOLDER: u32 = 0o040_000;
/// A commit of another repository.
const MODULE: u32 = 0o160_000;

/// What a tree holds.
struct Entry<'a> {
    mode: u32,
    name: &'a [u8],
    id: Id,
}

/// The entries of a tree: mode, blank, name, NUL, id.
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

/// A repository on a server.
struct Remote {
    runtime: Runtime,
    client: reqwest::Client,
    base: String,
    /// The address without a password.
    shown: String,
    /// Whether it speaks version 2 of the protocol.
    modern: bool,
    /// Branches, tags and what annotated tags name (`^{}`), where a server tells all at once.
    tips: Vec<(String, String)>,
}

impl Remote {
    fn open(url: &str) -> Outcome<Self> {
        let spoken = Url::parse(url).ok().filter(|address| matches!(address.scheme(), "http" | "https"));
        let mut address = spoken.ok_or_else(|| Fault::new(format!("\"{url}\" begins with neither https:// nor http://")))?;
        let asked = address.clone();
        // Neither fails for an address with a host.
        let _ = address.set_username("");
        let _ = address.set_password(None);
        let shown = address.to_string();
        // A second installation of the same provider fails, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            // Servers know programs that speak git's protocol by this beginning.
            .user_agent(concat!("git/2.0 (stead ", env!("CARGO_PKG_VERSION"), ")"))
            .https_only(address.scheme() == "https")
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .build()
            .doing(|| "cannot set up HTTPS".into())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing(|| "cannot start the network runtime".into())?;
        let base = asked.as_str().trim_end_matches('/').to_owned();
        let mut remote = Self { runtime, client, base, shown, modern: true, tips: Vec::new() };

        let answer = remote.send(remote.client.get(format!("{}{REFS}", remote.base)))?;
        // Where it was led to, it goes on; to another host, not with a password.
        let mut found = answer.url().clone();
        if found.origin() == asked.origin() {
            let _ = found.set_username(asked.username());
            let _ = found.set_password(asked.password());
        }
        if let Some(base) = found.as_str().strip_suffix(REFS) {
            base.clone_into(&mut remote.base);
        }
        let kind = answer.headers().get("content-type").map(|kind| kind.as_bytes().to_vec()).unwrap_or_default();
        if kind != b"application/x-git-upload-pack-advertisement" {
            return Err(Fault::new(format!("{} is no git repository, or its server has no smart HTTP", remote.shown)));
        }
        let mut body = remote.body(answer);
        let mut lines = remote.lines(&mut body)?;
        if lines.first().is_some_and(|line| line.starts_with("# service")) {
            lines = remote.lines(&mut body)?;
        }
        remote.modern = lines.first().is_some_and(|line| line == "version 2");
        if lines.iter().any(|line| line.split([' ', '\0']).any(|word| word == "object-format=sha256")) {
            return Err(Fault::new(format!("{} names its objects by SHA-256, and only SHA-1 is known here", remote.shown)));
        }
        if !remote.modern {
            // After the first name comes what the server can do.
            let told = lines.iter().filter_map(|line| line.split('\0').next()?.split_once(' '));
            remote.tips = told.filter(|(id, _)| pack::id(id).is_some()).map(|(id, name)| (name.into(), id.into())).collect();
        }
        Ok(remote)
    }

    /// What the names that begin so stand for, and perhaps others.
    fn tips(&self, beginnings: &[String]) -> Outcome<Vec<(String, String)>> {
        if !self.modern {
            return Ok(self.tips.clone());
        }
        let wanted: String = beginnings.iter().map(|name| packet(&format!("ref-prefix {name}"))).collect();
        let mut body = self.post(format!("{}0001{}{wanted}0000", packet("command=ls-refs"), packet("peel")))?;
        let mut tips = Vec::new();
        for line in self.lines(&mut body)? {
            let mut words = line.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else { continue };
            tips.push((name.to_owned(), id.to_owned()));
            tips.extend(words.filter_map(|word| Some((format!("{name}^{{}}"), word.strip_prefix("peeled:")?.to_owned()))));
        }
        Ok(tips.into_iter().filter(|(_, id)| pack::id(id).is_some()).collect())
    }

    /// Fetches commits, alone or with their history; or tells why the server does not want to.
    fn fetch(&self, ids: &[String], alone: bool, scratch: &Path) -> Outcome<Result<Pack, String>> {
        let depth = if alone { packet("deepen 1") } else { String::new() };
        let mut wants: Vec<String> = ids.iter().map(|id| format!("want {id}")).collect();
        let request = if self.modern {
            let options = packet("ofs-delta") + &packet("no-progress");
            let wants: String = wants.iter().map(|want| packet(want)).collect();
            format!("{}0001{options}{wants}{depth}{}0000", packet("command=fetch"), packet("done"))
        } else {
            wants[0].push_str(" ofs-delta no-progress side-band-64k");
            let wants: String = wants.iter().map(|want| packet(want)).collect();
            format!("{wants}{depth}0000{}", packet("done"))
        };
        let broken = || format!("cannot read what {} answers", self.shown);
        let mut body = self.post(request)?;
        loop {
            match Packet::read(&mut body).doing(broken)? {
                Packet::Refusal(said) => return Ok(Err(said)),
                Packet::Line(line) if line.starts_with(b"packfile") || line.starts_with(b"NAK") => break,
                _ => {}
            }
        }
        let path = scratch.join("git.pack");
        let failed = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).doing(failed)?;
        // Without a name it is gone, whatever happens, when it is closed.
        fs::remove_file(&path).doing(failed)?;
        loop {
            match Packet::read(&mut body).doing(broken)? {
                Packet::Mark => break,
                Packet::Refusal(said) => return Ok(Err(said)),
                Packet::Line(line) => match line.split_first() {
                    Some((1, data)) => file.write_all(data).doing(failed)?,
                    Some((3, said)) => {
                        let said = String::from_utf8_lossy(said).trim().to_owned();
                        return Err(Fault::new(format!("{} says: {said}", self.shown)));
                    }
                    _ => {}
                },
            }
        }
        Pack::index(file).map(Ok).doing(|| format!("{} sent a damaged pack", self.shown))
    }

    fn lacks(&self, commit: &str) -> Fault {
        Fault::new(format!("{} has no commit {commit}", self.shown))
            .hint("it may be gone after a forced push; `stead update` moves to what the branch or tag names now")
    }

    fn post(&self, body: String) -> Outcome<Body<'_>> {
        let request = self.client.post(format!("{}/git-upload-pack", self.base));
        let request = request.header("content-type", "application/x-git-upload-pack-request");
        let answer = self.send(request.header("accept", "application/x-git-upload-pack-result").body(body))?;
        Ok(self.body(answer))
    }

    fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let request = if self.modern { request.header("git-protocol", "version=2") } else { request };
        // Made inside: its time-outs need the runtime's clock.
        let answer = self.runtime.block_on(async { request.send().await });
        let answer = answer.map_err(|error| Fault::caused(format!("cannot reach {}", self.shown), error.without_url()))?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            401 | 403 | 404 => Err(Fault::new(format!("{} answers {}", self.shown, answer.status()))
                .hint("no such repository, or one for which a name and a password are needed: https://NAME:TOKEN@HOST/…")),
            _ => Err(Fault::new(format!("{} answers {}", self.shown, answer.status()))),
        }
    }

    fn body(&self, answer: Response) -> Body<'_> {
        Body { runtime: &self.runtime, answer, rest: VecDeque::new() }
    }

    /// The lines up to the next mark.
    fn lines(&self, body: &mut Body<'_>) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            match Packet::read(body).doing(|| format!("cannot read what {} answers", self.shown))? {
                Packet::Mark => return Ok(lines),
                Packet::Line(line) => lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()),
                Packet::Refusal(said) => return Err(Fault::new(format!("{} says: {said}", self.shown))),
            }
        }
    }
}

/// An answer's body, read as it comes.
struct Body<'a> {
    runtime: &'a Runtime,
    answer: Response,
    rest: VecDeque<u8>,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.answer.chunk()).map_err(|error| io::Error::other(error.without_url()))? {
                Some(chunk) => self.rest.extend(&chunk[..]),
                None => return Ok(0),
            }
        }
        self.rest.read(buffer)
    }
}

/// A line as the protocol frames it: after its length, four digits that count themselves.
fn packet(line: &str) -> String {
    format!("{:04x}{line}\n", line.len() + 5)
}

/// What the protocol's answers are made of.
enum Packet {
    Line(Vec<u8>),
    /// The end of a part or of all.
    Mark,
    Refusal(String),
}

impl Packet {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = str::from_utf8(&length).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak git's protocol"))?;
        let Some(length) = length.checked_sub(4) else { return Ok(Self::Mark) };
        let mut line = vec![0; length];
        from.read_exact(&mut line)?;
        Ok(match line.strip_prefix(b"ERR ") {
            Some(said) => Self::Refusal(String::from_utf8_lossy(said).trim().to_owned()),
            None => Self::Line(line),
        })
    }
}

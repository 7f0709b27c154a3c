//! A repository on a server, in git's protocol over any transport.

use super::line::{self, Line, Packet, Version, packet};
use super::object;
use super::pack::Pack;
use super::{ssh, web};
use crate::model::bounds::git::{LONGEST_LIST, LONGEST_PACK};
use crate::model::{Context, Error, GitRepository, Result, Size};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A repository on a server.
pub struct Remote {
    line: Box<dyn Line>,
    /// The repository's address without a password.
    pub shown: String,
    pub version: Version,
    /// Branches, tags and what annotated tags point to (`^{}`), if the server lists all at once.
    tips: Vec<(String, String)>,
}

impl Remote {
    /// Connects to a server.
    ///
    /// # Errors
    /// Fails when the server cannot be reached or is not a git server.
    pub fn open(place: &GitRepository) -> Result<Self> {
        let shown = place.shown();
        let mut line: Box<dyn Line> = match place {
            GitRepository::Web(address) => Box::new(web::Line::open(address, &shown)?),
            GitRepository::Ssh { login, port, path } => Box::new(ssh::Line::open(login, *port, path, &shown)?),
        };
        let greeting = line.greeting()?;
        let mut lines = line::lines(greeting, &shown)?;
        if lines.first().is_some_and(|line| line.starts_with("# service")) {
            lines = line::lines(greeting, &shown)?;
        }
        if lines.iter().any(|line| line.split([' ', '\0']).any(|word| word == "object-format=sha256")) {
            return Err(Error::new(format!("{shown} names its objects by SHA-256, but only SHA-1 is supported")));
        }
        let second = lines.first().is_some_and(|line| line == "version 2");
        let mut remote = Self { line, shown, version: if second { Version::Second } else { Version::First }, tips: Vec::new() };
        if remote.version == Version::First {
            // The server's capabilities follow the first name, after a NUL.
            let told = lines.iter().filter_map(|line| line.split('\0').next()?.split_once(' '));
            remote.tips = told.filter(|(id, _)| object::id(id).is_some()).map(|(id, name)| (name.into(), id.into())).collect();
        }
        Ok(remote)
    }

    /// Lists the names that begin with one of these prefixes, and possibly others, with their ids.
    ///
    /// # Errors
    /// Fails when the connection breaks.
    pub fn tips(&mut self, beginnings: &[String]) -> Result<Vec<(String, String)>> {
        if self.version == Version::First {
            return Ok(self.tips.clone());
        }
        let wanted: String = beginnings.iter().map(|name| packet(&format!("ref-prefix {name}"))).collect();
        let request = format!("{}0001{}{wanted}0000", packet("command=ls-refs"), packet("peel"));
        let mut tips = Vec::new();
        for line in line::lines(self.line.ask(&request, self.version)?, &self.shown)? {
            let mut words = line.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else { continue };
            tips.push((name.to_owned(), id.to_owned()));
            tips.extend(words.filter_map(|word| Some((format!("{name}^{{}}"), word.strip_prefix("peeled:")?.to_owned()))));
        }
        Ok(tips.into_iter().filter(|(_, id)| object::id(id).is_some()).collect())
    }

    /// Fetches commits, alone or with their history. The inner error is the server's reason for refusing.
    ///
    /// # Errors
    /// Fails when the connection breaks, when the server sends a damaged pack, or when the pack cannot be written.
    pub fn fetch(&mut self, ids: &[String], how: History, scratch: &Path) -> Result<Result<Pack, String>> {
        let depth = if how == History::None { packet("deepen 1") } else { String::new() };
        let mut wants: Vec<String> = ids.iter().map(|id| format!("want {id}")).collect();
        let request = if self.version == Version::Second {
            let options = packet("ofs-delta") + &packet("no-progress");
            let wants: String = wants.iter().map(|want| packet(want)).collect();
            format!("{}0001{options}{wants}{depth}{}0000", packet("command=fetch"), packet("done"))
        } else {
            wants[0].push_str(" ofs-delta no-progress side-band-64k");
            let wants: String = wants.iter().map(|want| packet(want)).collect();
            format!("{wants}{depth}0000{}", packet("done"))
        };
        let broken = || format!("cannot read the answer of {}", self.shown);
        let body = self.line.ask(&request, self.version)?;
        let mut said_before = 0;
        loop {
            match Packet::read(body).context(broken)? {
                Packet::Refusal(said) => return Ok(Err(said)),
                Packet::Line(line) if line.starts_with(b"packfile") || line.starts_with(b"NAK") => break,
                Packet::Line(line) => said_before += line.len() + 4,
                Packet::Mark => said_before += 4,
            }
            if said_before > LONGEST_LIST {
                return Err(line::endless(&self.shown));
            }
        }
        let path = scratch.join("git.pack");
        let failed = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).context(failed)?;
        // Its name is removed now, so that the kernel deletes the file when it is closed, whatever happens.
        fs::remove_file(&path).context(failed)?;
        let mut left = LONGEST_PACK;
        loop {
            let packet = Packet::read(body).context(broken)?;
            if let Packet::Line(line) = &packet {
                // Progress messages count, too, so that they cannot go on forever.
                left = left.checked_sub(line.len() as u64 + 4).ok_or_else(|| {
                    Error::new(format!("{} sends more than {}, which is the limit for a pack", self.shown, Size(LONGEST_PACK)))
                })?;
            }
            match packet {
                Packet::Mark => break,
                Packet::Refusal(said) => return Ok(Err(said)),
                Packet::Line(line) => match line.split_first() {
                    Some((1, data)) => file.write_all(data).context(failed)?,
                    Some((3, said)) => {
                        let said = String::from_utf8_lossy(said).trim().to_owned();
                        return Err(Error::new(format!("{} says: {said}", self.shown)));
                    }
                    _ => {}
                },
            }
        }
        Pack::index(file).map(Ok).context(|| format!("{} sent a damaged pack", self.shown))
    }

    /// The error for a commit that the repository does not have.
    pub fn lacks(&self, commit: &str) -> Error {
        Error::new(format!("{} has no commit {commit}", self.shown))
            .hint("it may be gone after a forced push; `stead update` moves to the commit that the branch or tag names now")
    }
}

/// How much of a commit's history is fetched with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum History {
    None,
    All,
}

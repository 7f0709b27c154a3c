//! The objects of a repository on this machine: loose files and packs, of its own or borrowed from others
//! (gitrepository-layout(5)). Every object is hashed when it is read.

use super::object::{Id, Kind, Objects, damaged, hex, id};
use super::pack::{Pack, copy_proven, proven};
use super::pack_index::PackIndex;
use crate::model::bounds::git::{HELD, LONGEST_INDEX};
use crate::model::{Budget, Context, Error, Result};
use crate::sys::{self, Unread};
use flate2::bufread::ZlibDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How many repositories may borrow from each other in a row, as in git.
const BORROWED: usize = 5;
/// The longest list of repositories that are borrowed from.
const LIST: u64 = 1 << 20;
/// What the pointer to a file begins with that is kept elsewhere by git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The objects of a repository, its own and those that it borrows.
pub struct Stock {
    folders: Vec<PathBuf>,
    packs: Vec<Pack>,
}

impl Stock {
    /// Opens the objects of a repository.
    ///
    /// # Errors
    /// Fails when a pack or its index cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
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
        let borrowed = read(&folder.join("info/alternates"), LIST)?.unwrap_or_default();
        for line in borrowed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.add(&folder.join(line), left)?;
        }
        Ok(())
    }

    /// How many bytes all packs have.
    pub fn length(&self) -> u64 {
        self.packs.iter().map(Pack::length).sum()
    }

    fn loose(&self, id: &Id) -> Option<PathBuf> {
        let name = hex(id);
        self.folders.iter().map(|folder| folder.join(&name[..2]).join(&name[2..])).find(|path| path.symlink_metadata().is_ok())
    }

    /// Whether there is an object.
    pub fn has(&self, id: &Id) -> bool {
        self.packs.iter().any(|pack| pack.has(id)) || self.loose(id).is_some()
    }

    /// The ids of all objects that begin with these digits.
    ///
    /// # Errors
    /// Fails when the loose objects cannot be listed.
    pub fn beginning(&self, digits: &str) -> Result<Vec<Id>> {
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

    /// The kind of an object.
    ///
    /// # Errors
    /// Fails when it is missing or damaged.
    pub fn kind(&mut self, id: &Id) -> io::Result<Kind> {
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

/// The text of a file of a repository; `None` if there is none.
///
/// # Errors
/// Fails when it cannot be read, or is longer than `most`.
pub fn read(path: &Path, most: u64) -> Result<Option<String>> {
    match sys::read_regular(path, most) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(Unread::Absent | Unread::Folder) => Ok(None),
        Err(why) => Err(Error::caused(format!("cannot read {}", path.display()), why)),
    }
}

//! A tree → a second one with the same content, by descriptor on both sides: a volume, a snapshot.
//!
//! A copy keeps owners, permissions, times, extended attributes, symbolic and hard links, FIFOs, holes, and whiteouts, which
//! a container engine inside a container keeps in its volumes. Devices are left out, because the runtime gives a container its
//! devices, and sockets, which are useless without the process that made them. Where the file system can do that, files share
//! their blocks with the original.

use crate::image::is_mark;
use crate::sys::{self, Facts, Kind, Tree};
use nix::sys::stat::FileStat;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How deep directories may be nested: each level holds two of them open.
const DEPTH: usize = 500;

/// How the content of files came into a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// All files share their blocks with the original.
    Cloned,
    Copied,
}

/// What a copy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    pub how: How,
    /// The bytes of all files, without the holes of those that were copied.
    pub bytes: u64,
    /// How many devices were left out.
    pub devices: u64,
}

/// Copies everything in a directory, and its own owner, permissions, times and attributes, into an empty one. The source may
/// change meanwhile: then the copy has what was there, but never anything from outside the tree.
///
/// # Errors
/// Fails, with the path, when something cannot be read or written, and when directories are nested too deep.
pub fn copy(from: &Tree, into: &Tree) -> io::Result<Copied> {
    Copier::into(into, None).everything(from)
}

/// As [`copy`], of what nobody changes: a snapshot.
///
/// # Errors
/// As [`copy`], and when something is removed meanwhile: then the copy is not whole.
pub fn copy_whole(from: &Tree, into: &Tree) -> io::Result<Copied> {
    Copier { is_still: true, ..Copier::into(into, None) }.everything(from)
}

/// As [`copy`], if that is cheap: all files can share their blocks, and there are at most so many entries.
///
/// # Errors
/// As [`copy`]; with [`io::ErrorKind::Unsupported`] if it is not cheap. What was copied until then stays.
pub fn copy_cheaply(from: &Tree, into: &Tree, most: u64) -> io::Result<()> {
    Copier::into(into, Some(most)).folder(from, into, &mut PathBuf::new(), DEPTH)
}

/// One copy in progress.
struct Copier<'t> {
    root: &'t Tree,
    /// For files with several names: the path of the first name in the copy.
    links: HashMap<(u64, u64), PathBuf>,
    /// How many files share their blocks, and how many were copied.
    shared: u64,
    copied: u64,
    bytes: u64,
    devices: u64,
    /// How many more entries a cheap copy may have; `None` if it may cost anything.
    cheap: Option<u64>,
    /// Whether nothing may be removed meanwhile.
    is_still: bool,
}

impl<'t> Copier<'t> {
    fn into(root: &'t Tree, cheap: Option<u64>) -> Self {
        Self { root, links: HashMap::new(), shared: 0, copied: 0, bytes: 0, devices: 0, cheap, is_still: false }
    }

    fn everything(mut self, from: &Tree) -> io::Result<Copied> {
        self.folder(from, self.root, &mut PathBuf::new(), DEPTH)?;
        let how = if self.shared > 0 && self.copied == 0 { How::Cloned } else { How::Copied };
        Ok(Copied { how, bytes: self.bytes, devices: self.devices })
    }

    fn folder(&mut self, from: &Tree, into: &Tree, at: &mut PathBuf, left: usize) -> io::Result<()> {
        let left = left.checked_sub(1).ok_or_else(too_deep)?;
        for listed in from.list()? {
            if let Some(left) = &mut self.cheap {
                *left = left.checked_sub(1).ok_or(io::ErrorKind::Unsupported)?;
            }
            at.push(&listed.name);
            // It may have been removed since it was listed.
            let Some(stat) = self.look(from, &listed.name, at)? else {
                at.pop();
                continue;
            };
            if Kind::of(&stat) == Kind::Folder {
                self.folder(&from.folder(&listed.name)?, &into.make_folder(&listed.name, 0o700)?, at, left)?;
            } else {
                self.entry((from, &listed.name), &stat, into, at)
                    .map_err(|error| sys::in_words(&format!("/{}", at.display()), error))?;
            }
            at.pop();
        }
        into.become_like(Facts::of(&from.facts()?))?;
        // Until now a default access list of the directory would have changed what was made in it.
        into.take_attributes(from)
    }

    /// What is there under a name that was listed, if it is still there.
    fn look(&self, from: &Tree, name: &OsStr, at: &Path) -> io::Result<Option<FileStat>> {
        let found = from.look(name)?;
        if found.is_none() && self.is_still {
            return Err(io::Error::other(format!("/{} was removed while it was copied", at.display())));
        }
        Ok(found)
    }

    /// Copies an entry that is not a directory; `at` is its path in the copy.
    fn entry(&mut self, (from, name): (&Tree, &OsStr), stat: &FileStat, into: &Tree, at: &Path) -> io::Result<()> {
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&inode) {
            let folder = self.root.folder(first.parent().unwrap_or(Path::new("")))?;
            return into.hard_link(name, &folder, first.file_name().unwrap_or(name));
        }
        match Kind::of(stat) {
            Kind::File => {
                let file = from.file(name)?;
                let copy = into.make_file(name, 0o600)?;
                self.content(&file, &copy)?;
                sys::become_like(&copy, Facts::of(&nix::sys::stat::fstat(&file)?))?;
                // Changing the owner clears capabilities, and changing the permissions an access list, so these come last.
                sys::copy_attributes(&file, &copy)?;
            }
            Kind::Link => {
                into.make_link(name, &from.link(name)?)?;
                into.set(name, Facts::of(stat))?;
            }
            Kind::Fifo => {
                into.make_fifo(name)?;
                into.set(name, Facts::of(stat))?;
            }
            Kind::Character if is_mark(stat) => {
                into.make_whiteout(name)?;
                into.set(name, Facts::of(stat))?;
            }
            Kind::Character | Kind::Block => {
                self.devices += 1;
                return Ok(());
            }
            Kind::Socket => return Ok(()),
            Kind::Folder => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
        }
        if stat.st_nlink > 1 {
            self.links.insert(inode, at.to_owned());
        }
        Ok(())
    }

    fn content(&mut self, file: &File, copy: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if length == 0 {
            return Ok(());
        }
        if sys::share_blocks(file, copy) {
            self.shared += 1;
            self.bytes = self.bytes.saturating_add(length);
        } else if self.cheap.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        } else {
            self.copied += 1;
            self.bytes = self.bytes.saturating_add(sys::copy_data(file, copy)?);
        }
        Ok(())
    }
}

fn too_deep() -> io::Error {
    io::Error::other(format!("its directories are nested more than {DEPTH} deep"))
}

/// How many bytes a tree takes on its disk. A file with several names counts once; what is removed meanwhile does not count.
///
/// # Errors
/// Fails when a directory cannot be read, and when directories are nested too deep.
pub fn size(tree: &Tree) -> io::Result<u64> {
    sum(tree, &mut HashSet::new(), DEPTH)
}

fn sum(folder: &Tree, seen: &mut HashSet<(u64, u64)>, left: usize) -> io::Result<u64> {
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    let mut bytes = on_disk(&folder.facts()?);
    let (_, inside) = folder.read(".")?;
    for listed in inside {
        let Some(stat) = folder.look(&listed.name)? else { continue };
        let inner = if Kind::of(&stat) == Kind::Folder {
            match folder.folder(&listed.name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                inner => sum(&inner?, seen, left)?,
            }
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            on_disk(&stat)
        } else {
            0
        };
        bytes = bytes.saturating_add(inner);
    }
    Ok(bytes)
}

/// The kernel counts in blocks of 512 bytes (stat(2)).
fn on_disk(stat: &FileStat) -> u64 {
    stat.st_blocks.unsigned_abs().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};

    #[test]
    fn a_copy_has_links_holes_times_and_attributes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (|path: &str| one.path().join(path), |path: &str| other.path().join(path));
        fs::create_dir(from("d")).unwrap();
        fs::write(from("d/a"), "text").unwrap();
        fs::hard_link(from("d/a"), from("z")).unwrap();
        std::os::unix::fs::symlink("/nowhere", from("link")).unwrap();
        nix::unistd::mkfifo(&from("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from("socket")).unwrap();
        let sparse = File::create(from("sparse")).unwrap();
        sparse.write_all_at(b"middle", 8 << 20).unwrap();
        sparse.set_len(16 << 20).unwrap();
        sparse.sync_all().unwrap();
        fs::set_permissions(from("d"), fs::Permissions::from_mode(0o2751)).unwrap();
        let file = File::open(from("z")).unwrap();
        let set = |name, value: &[u8]| sys::set_attribute_of(&file, name, value).is_ok();
        let has_attributes = set(c"user.short", b"value") && set(c"user.long", &[b'v'; 1000]);
        let copied = copy(&Tree::open(one.path()).unwrap(), &Tree::open(other.path()).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(to("z")).unwrap(), "text");
        assert_eq!(fs::metadata(to("z")).unwrap().ino(), fs::metadata(to("d/a")).unwrap().ino());
        assert_eq!(fs::metadata(to("d")).unwrap().mode() & 0o7777, 0o2751);
        assert!(fs::symlink_metadata(to("fifo")).unwrap().file_type().is_fifo() && !to("socket").exists());
        assert_eq!(fs::read_link(to("link")).unwrap(), Path::new("/nowhere"));
        let times = |path: &Path| fs::metadata(path).map(|metadata| (metadata.mtime(), metadata.mtime_nsec())).unwrap();
        for path in ["", "d", "d/a", "sparse"] {
            assert_eq!(times(&from(path)), times(&to(path)), "{path}");
        }
        assert!(fs::read(from("sparse")).unwrap() == fs::read(to("sparse")).unwrap());
        assert_eq!(copied.devices, 0);
        if copied.how == How::Copied {
            assert!(copied.bytes < 16 << 20, "holes were copied: {copied:?}");
        }
        if has_attributes {
            let file = File::open(to("z")).unwrap();
            assert_eq!(sys::get_file_attribute(&file, c"user.short").unwrap().as_deref(), Some(&b"value"[..]));
            // This one is there, but longer than that function's buffer.
            assert_eq!(sys::get_file_attribute(&file, c"user.long").unwrap_err().raw_os_error(), Some(libc::ERANGE));
        }
    }

    #[test]
    fn what_vanishes_is_left_out_of_a_copy_and_ends_one_that_is_to_be_whole() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, into) = (Tree::open(one.path()).unwrap(), Tree::open(other.path()).unwrap());
        let at = Path::new("d/gone");
        let copier = Copier::into(&into, None);
        assert!(copier.look(&from, OsStr::new("gone"), at).unwrap().is_none());
        let error = Copier { is_still: true, ..copier }.look(&from, OsStr::new("gone"), at).unwrap_err();
        assert!(error.to_string().contains("/d/gone was removed"), "{error}");
    }

    #[test]
    fn a_file_with_two_names_counts_once_and_depth_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![b'x'; 1 << 20]).unwrap();
        File::open(folder.path().join("a")).unwrap().sync_all().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let before = size(&tree).unwrap();
        assert!(before >= 1 << 20, "{before}");
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert!(size(&tree).unwrap() < before + (1 << 20));
        let mut at = tree.make_folder(OsStr::new("d"), 0o755).unwrap();
        for _ in 0..DEPTH {
            at = at.make_folder(OsStr::new("d"), 0o755).unwrap();
        }
        assert!(size(&tree).unwrap_err().to_string().contains("nested"));
        tree.remove(OsStr::new("d")).unwrap();
    }
}

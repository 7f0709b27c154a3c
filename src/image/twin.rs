//! Trees → trees: copies of everything that layers can hold, by descriptor on both sides.
//!
//! A copy keeps owners, permissions, times, symbolic and hard links, FIFOs and capabilities. The source may change
//! meanwhile: then the copy fails or has what was there, but never anything from outside the tree.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::layer::{CAPABILITY, OPAQUE, is_mark};
use crate::sys::{self, Facts, Kind, Tree};
use nix::sys::stat::FileStat;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Whether whiteouts and opaque marks are copied. Device nodes never are: with `Kept`, one is an error, because what it hides
/// would come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hiding {
    Kept,
    LeftOut,
}

/// One copy in progress.
#[derive(Debug)]
pub struct Twin<'t> {
    root: &'t Tree,
    hiding: Hiding,
    /// For files with several names: the path of the first name in the copy.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'t> Twin<'t> {
    /// A copy into a tree of our own.
    pub fn new(root: &'t Tree, hiding: Hiding) -> Self {
        Self { root, hiding, links: HashMap::new() }
    }

    /// Copies everything in a directory, and the directory's own owner, permissions and times.
    ///
    /// # Errors
    /// Fails when reading or writing fails, or when a name exists already.
    pub fn everything(&mut self, from: &Tree, into: &Tree, at: &mut PathBuf) -> io::Result<()> {
        for listed in from.list()? {
            // It may have been removed since it was listed.
            let Some(stat) = from.look(&listed.name)? else { continue };
            at.push(&listed.name);
            if Kind::of(&stat) == Kind::Folder {
                self.everything(&from.folder(&listed.name)?, &into.make_folder(&listed.name, 0o700)?, at)?;
            } else {
                self.entry((from, &listed.name), &stat, (into, at))?;
            }
            at.pop();
        }
        if self.hiding == Hiding::Kept {
            hide(from, into)?;
        }
        into.become_like(Facts::of(&from.facts()?))
    }

    /// Copies an entry that is not a directory; `to` is its path in the copy, and `into` the directory of that path.
    /// Sockets are left out, because a copy of one is useless.
    ///
    /// # Errors
    /// Fails when reading or writing fails, when the name exists already, or when something else has taken its place.
    pub fn entry(&mut self, (from, name): (&Tree, &OsStr), stat: &FileStat, (into, to): (&Tree, &Path)) -> io::Result<()> {
        let as_name = to.file_name().unwrap_or(name);
        if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
            let folder = self.root.folder(first.parent().unwrap_or(Path::new("")))?;
            return into.hard_link(as_name, &folder, first.file_name().unwrap_or(name));
        }
        match Kind::of(stat) {
            Kind::File => {
                let file = from.file(name)?;
                let copy = into.make_file(as_name, 0o600)?;
                sys::copy_file(&file, &copy)?;
                sys::become_like(&copy, Facts::of(&nix::sys::stat::fstat(&file)?))?;
                // Changing the owner clears the capability, so it is set after that.
                if let Some(value) = sys::get_file_attribute(&file, CAPABILITY)? {
                    sys::set_attribute_of(&copy, CAPABILITY, &value)?;
                }
            }
            Kind::Link => {
                into.make_link(as_name, &from.link(name)?)?;
                into.set(as_name, Facts::of(stat))?;
            }
            Kind::Fifo => {
                into.make_fifo(as_name)?;
                into.set(as_name, Facts::of(stat))?;
            }
            Kind::Character if self.hiding == Hiding::Kept && is_mark(stat) => return into.make_whiteout(as_name),
            Kind::Character | Kind::Block if self.hiding == Hiding::Kept => {
                let why = format!("/{} is a device, and images have none: remove it, or put it on a tmpfs", to.display());
                return Err(io::Error::other(why));
            }
            Kind::Folder => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Kind::Character | Kind::Block | Kind::Socket => return Ok(()),
        }
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), to.to_owned());
        }
        Ok(())
    }
}

/// Makes a directory opaque if the one that it is copied from is.
fn hide(from: &Tree, into: &Tree) -> io::Result<()> {
    if is_opaque(from)? { into.set_attribute(OPAQUE, b"y") } else { Ok(()) }
}

/// Whether a directory is opaque: it hides what the layers below have there.
///
/// # Errors
/// Fails when its attributes cannot be read.
pub fn is_opaque(folder: &Tree) -> io::Result<bool> {
    Ok(folder.attribute(OsStr::new("."), OPAQUE)?.as_deref() == Some(b"y"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    #[test]
    fn a_twin_has_links_fifos_and_permissions() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (|path: &str| one.path().join(path), |path: &str| other.path().join(path));
        fs::create_dir(from("d")).unwrap();
        fs::write(from("d/a"), "text").unwrap();
        fs::hard_link(from("d/a"), from("z")).unwrap();
        std::os::unix::fs::symlink("/nowhere", from("link")).unwrap();
        nix::unistd::mkfifo(&from("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::set_permissions(from("d"), fs::Permissions::from_mode(0o2751)).unwrap();
        let seven = nix::sys::time::TimeSpec::new(7, 0);
        let own = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &from("link"), &seven, &seven, own).unwrap();
        let target = Tree::open(other.path()).unwrap();
        let mut twin = Twin::new(&target, Hiding::LeftOut);
        twin.everything(&Tree::open(one.path()).unwrap(), &target, &mut PathBuf::new()).unwrap();
        assert_eq!(fs::read_to_string(to("z")).unwrap(), "text");
        assert_eq!(fs::metadata(to("z")).unwrap().ino(), fs::metadata(to("d/a")).unwrap().ino());
        assert_eq!(fs::metadata(to("d")).unwrap().mode() & 0o7777, 0o2751);
        assert!(fs::symlink_metadata(to("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(fs::symlink_metadata(to("link")).unwrap().mtime(), 7);
        assert_eq!(fs::read_link(to("link")).unwrap(), Path::new("/nowhere"));
    }
}

//! Volumes: directories that outlive containers, filled from an image at their first use.
//!
//! A volume appears complete: it is filled by file descriptor in a private directory beside its final place, and then
//! renamed. The content of a volume belongs to the containers that use it. Nothing is ever written into an existing
//! volume, because a container could put a link in the way (the class of CVE-2018-15664).

use crate::build::View;
use crate::image::{Hiding, Twin};
use crate::model::{Context, Name, Result};
use crate::store::{Home, disk_error};
use crate::sys::{self, Facts, Kind, Listed, Tree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The prefix of directories that will become volumes; no volume's name begins with it.
const NEW: &str = ".new-";

/// The directory of an instance's volumes.
pub fn folder(home: &Home, instance: &str) -> PathBuf {
    all(home).join(instance)
}

fn all(home: &Home) -> PathBuf {
    home.state.join("volumes")
}

/// The volumes that an instance has.
///
/// # Errors
/// Fails when the directory exists but cannot be read.
pub fn existing(home: &Home, instance: &str) -> Result<BTreeSet<Name>> {
    let place = folder(home, instance);
    let listed = match Tree::open(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        all => all.and_then(|all| all.list()).context(|| format!("cannot read {}", place.display()))?,
    };
    // Other names belong to directories that are not volumes yet.
    Ok(listed.into_iter().filter_map(|Listed { name, .. }| Name::parse(name.to_str()?).ok()).collect())
}

/// The image of a container, and the path where the container mounts a volume.
pub struct Below<'a> {
    pub image: View,
    pub at: &'a Path,
}

impl Below<'_> {
    /// The directory of the image that a volume would cover.
    fn source(&self) -> Option<PathBuf> {
        let path = self.image.resolve(self.at);
        self.image.entry(&path).filter(|(_, metadata)| metadata.is_dir()).map(|_| path)
    }
}

/// Makes a volume with the content that an image has at the path where the volume is mounted. The first image that has
/// something there is used. The caller holds the instance's lock.
///
/// An existing but empty volume is filled from the image, too, as in Docker, unless it is in use.
///
/// # Errors
/// Fails when the image cannot be read, or when something cannot be written.
pub fn create(home: &Home, instance: &str, name: &Name, images: &[Below], in_use: impl FnOnce() -> bool) -> Result<()> {
    let failed = |error| disk_error(&format!("cannot make the volume {name}"), error);
    let all = Tree::private(&folder(home, instance)).map_err(failed)?;
    let own = OsStr::new(name.as_str());
    let folders: Vec<(&View, PathBuf)> = images.iter().filter_map(|below| Some((&below.image, below.source()?))).collect();
    let mut full = None;
    for folder in &folders {
        if !folder.0.list(&folder.1).map_err(failed)?.is_empty() {
            full = Some(folder);
            break;
        }
    }
    let source = match all.look(own).map_err(failed)? {
        // Even an empty directory of an image gives its owner and permissions.
        None => full.or(folders.first()),
        Some(there) => {
            // A link to another disk, or a directory with content, stays as it is.
            let is_empty = Kind::of(&there) == Kind::Folder && all.read(own).map_err(failed)?.1.is_empty();
            match full.filter(|_| is_empty) {
                Some(full) if !in_use() => Some(full),
                _ => return Ok(()),
            }
        }
    };
    sweep(&all).map_err(failed)?;
    let staging = format!("{NEW}{}", sys::unique());
    let staging = OsStr::new(&staging);
    let done = fill(&all, staging, source).and_then(|()| place(&all, staging, own));
    done.map_err(|error| {
        // If this cannot be removed now, the creation of the next volume removes it.
        let _ = all.remove(staging);
        disk_error(&format!("cannot fill the volume {name}"), error)
    })
}

/// Removes what killed processes left behind.
fn sweep(all: &Tree) -> io::Result<()> {
    let left = all.list()?.into_iter().filter(|listed| listed.name.as_encoded_bytes().starts_with(NEW.as_bytes()));
    left.into_iter().try_for_each(|listed| all.remove(&listed.name))
}

/// Makes the directory that will become a volume.
fn fill(all: &Tree, staging: &OsStr, source: Option<&(&View, PathBuf)>) -> io::Result<()> {
    let tree = all.make_folder(staging, 0o700)?;
    match source {
        Some((image, path)) => {
            // Devices of the image are left out.
            copy(image, path, &tree, &mut PathBuf::new(), &mut Twin::new(&tree, Hiding::LeftOut))?;
        }
        None => tree.set_mode(0o755)?,
    }
    tree.sync()
}

/// Copies the content of a directory of a view, and then the attributes of the directory itself.
fn copy(image: &View, from: &Path, into: &Tree, at: &mut PathBuf, twin: &mut Twin) -> io::Result<()> {
    for name in image.list(from)? {
        let path = from.join(&name);
        let above = image.above(&path)?;
        let stat = above.stat(&name)?;
        at.push(&name);
        if Kind::of(&stat) == Kind::Folder {
            copy(image, &path, &into.make_folder(&name, 0o700)?, at, twin)?;
        } else {
            twin.entry((&above, &name), &stat, (into, at))?;
        }
        at.pop();
    }
    let itself = match from.file_name() {
        Some(name) => image.above(from)?.stat(name)?,
        None => image.top()?,
    };
    into.become_like(Facts::of(&itself))
}

/// Gives a filled directory its name, replacing the empty directory that may be there. The caller checked that it is not in
/// use.
fn place(all: &Tree, staging: &OsStr, own: &OsStr) -> io::Result<()> {
    match all.rename(own, all, staging) {
        // By now the directory has content, or a disk is mounted there.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {
            all.remove(staging)
        }
        done => done,
    }
}

/// Deletes all volumes of an instance.
///
/// # Errors
/// Fails when something cannot be deleted, for example because a file system is mounted in a volume: that is not ours to
/// delete.
pub fn delete_all(home: &Home, instance: &str) -> Result<()> {
    let removed = match Tree::open(&all(home)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.and_then(|all| all.remove(OsStr::new(instance))),
    };
    removed.context(|| format!("cannot delete {}", folder(home, instance).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    struct Place(tempfile::TempDir);

    impl Place {
        fn home(&self) -> Home {
            Home::find(Some(self.0.path()))
        }

        fn image(&self, files: &[(&str, &str)]) -> View {
            let layer = self.0.path().join(sys::unique());
            fs::create_dir(&layer).unwrap();
            for (path, text) in files {
                fs::create_dir_all(layer.join(path).parent().unwrap()).unwrap();
                fs::write(layer.join(path), text).unwrap();
            }
            View::new(vec![layer])
        }

        fn make(&self, images: Vec<(View, &str)>, in_use: bool) {
            let below: Vec<Below> = images.into_iter().map(|(image, at)| Below { image, at: Path::new(at) }).collect();
            create(&self.home(), "i", &Name::parse("data").unwrap(), &below, || in_use).unwrap();
        }

        fn at(&self, path: &str) -> PathBuf {
            folder(&self.home(), "i").join(path)
        }
    }

    #[test]
    fn the_first_image_with_content_fills_a_volume_once() {
        let place = Place(tempfile::tempdir().unwrap());
        let (empty, full) = (place.image(&[]), place.image(&[("srv/x/a", "1")]));
        fs::hard_link(full.entry(Path::new("/srv/x/a")).unwrap().0, full.entry(Path::new("/srv/x")).unwrap().0.join("b"))
            .unwrap();
        fs::create_dir_all(place.at(".new-left")).unwrap();
        place.make(vec![(empty, "/backup"), (full, "/srv/x")], false);
        assert_eq!(fs::read_to_string(place.at("data/a")).unwrap(), "1");
        assert_eq!(fs::metadata(place.at("data/a")).unwrap().ino(), fs::metadata(place.at("data/b")).unwrap().ino());
        assert!(!place.at(".new-left").exists());
        fs::remove_file(place.at("data/b")).unwrap();
        place.make(vec![(place.image(&[("srv/x/c", "2")]), "/srv/x")], false);
        assert!(!place.at("data/c").exists() && !place.at("data/b").exists(), "a volume with something in it was changed");
        delete_all(&place.home(), "i").unwrap();
        delete_all(&place.home(), "i").unwrap();
        assert!(!folder(&place.home(), "i").exists());
    }

    #[test]
    fn an_empty_volume_is_replaced_only_while_nobody_has_it() {
        let place = Place(tempfile::tempdir().unwrap());
        place.make(Vec::new(), false);
        let before = fs::metadata(place.at("data")).unwrap().ino();
        place.make(vec![(place.image(&[("d/a", "1")]), "/d")], true);
        assert_eq!(fs::metadata(place.at("data")).unwrap().ino(), before);
        place.make(vec![(place.image(&[("d/a", "1")]), "/d")], false);
        assert!(place.at("data/a").exists());
        // A link that an administrator put there is neither followed nor replaced.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::remove_dir_all(place.at("data")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), place.at("data")).unwrap();
        place.make(vec![(place.image(&[("d/a", "1")]), "/d")], false);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

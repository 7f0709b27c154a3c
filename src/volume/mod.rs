//! Volumes: directories that outlive containers, filled from an image at their first use.
//!
//! A volume appears complete: it is filled by file descriptor in a private directory beside its final place, and then
//! renamed. The content of a volume belongs to the containers that use it. Nothing is ever written into an existing
//! volume, because a container could put a link in the way (the class of CVE-2018-15664).

mod copy;
mod disk;
mod replace;
mod snapshot;
mod staging;

pub use copy::{Copied, How};
pub use replace::{Content, duplicate, end_restoring, export, half_restored, import, remove, restore, restore_all, seed};
pub use snapshot::{
    Cost, Snapshot, SnapshotName, can_share, delete as delete_snapshot, forget_generation, keep, open as open_snapshot,
    snapshots, take, with_snapshots,
};

use crate::build::View;
use crate::image::{Hiding, Twin};
use crate::model::{Context, Name, Result};
use crate::store::{Home, disk_error};
use crate::sys::{Facts, Kind, Listed, Tree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

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

/// Opens a volume for reading. An administrator may have put a link to another disk in its place, which is followed; a container
/// cannot change that name.
///
/// # Errors
/// Fails when it does not exist or cannot be opened.
pub fn open(home: &Home, instance: &str, name: &Name) -> Result<Tree> {
    Tree::open(&folder(home, instance).join(name.as_str())).context(|| format!("cannot open the volume {name}"))
}

/// What tells a volume from others that had its name before or will have it.
///
/// # Errors
/// Fails when it does not exist or cannot be opened.
pub fn birth(home: &Home, instance: &str, name: &Name) -> Result<String> {
    open(home, instance, name)?.birth().context(|| format!("cannot read the volume {name}"))
}

/// How many bytes a volume takes on its disk.
///
/// # Errors
/// Fails when it cannot be read.
pub fn size(home: &Home, instance: &str, name: &Name) -> Result<u64> {
    size_of(&open(home, instance, name)?).context(|| format!("cannot read the volume {name}"))
}

/// How many bytes a volume or a snapshot takes on its disk.
///
/// # Errors
/// Fails when it cannot be read.
pub fn size_of(tree: &Tree) -> io::Result<u64> {
    copy::size(tree)
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
    let failed = |error| disk::failed(home, &format!("cannot make the volume {name}"), error);
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
    let done = staging::make(&all, |tree, _| fill(tree, source), |made| place(&all, made, own));
    done.map_err(|error| disk::failed(home, &format!("cannot fill the volume {name}"), error))
}

/// Makes a directory with what an image has at a path, for a container whose data goes with it; returns its path. One that is there
/// already stays as it is.
///
/// # Errors
/// Fails when the image cannot be read, or when something cannot be written.
pub fn passing(all: &Path, name: &str, below: &Below) -> Result<PathBuf> {
    let place = all.join(name);
    let make = || -> io::Result<()> {
        let (tree, own) = (Tree::private(all)?, OsStr::new(name));
        if tree.look(own)?.is_some() {
            return Ok(());
        }
        let source = below.source().map(|path| (&below.image, path));
        staging::make(&tree, |made, _| fill(made, source.as_ref()), |made| tree.rename(own, &tree, made))
    };
    make().map_err(|error| disk_error(&format!("cannot make a volume for {}", below.at.display()), error))?;
    Ok(place)
}

/// Fills the directory that will become a volume.
fn fill(tree: &Tree, source: Option<&(&View, PathBuf)>) -> io::Result<()> {
    match source {
        // Devices of the image are left out.
        Some((image, path)) => from_view(image, path, tree, &mut PathBuf::new(), &mut Twin::new(tree, Hiding::LeftOut)),
        None => tree.set_mode(0o755),
    }
}

/// Copies the content of a directory of a view, and then the attributes of the directory itself.
fn from_view(image: &View, from: &Path, into: &Tree, at: &mut PathBuf, twin: &mut Twin) -> io::Result<()> {
    for name in image.list(from)? {
        let path = from.join(&name);
        let above = image.above(&path)?;
        let stat = above.stat(&name)?;
        at.push(&name);
        if Kind::of(&stat) == Kind::Folder {
            from_view(image, &path, &into.make_folder(&name, 0o700)?, at, twin)?;
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

/// Deletes all volumes of an instance, and their snapshots.
///
/// # Errors
/// Fails when something cannot be deleted, for example because a file system is mounted in a volume: that is not ours to
/// delete.
pub fn delete_all(home: &Home, instance: &str) -> Result<()> {
    let removed = match Tree::open(&all(home)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.and_then(|all| all.remove(OsStr::new(instance))),
    };
    removed.context(|| format!("cannot delete {}", folder(home, instance).display()))?;
    snapshot::delete_all(home, instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
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

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_snapshot_is_whole_and_gives_back_what_was_there() {
        let place = Place(tempfile::tempdir().unwrap());
        let (home, data) = (place.home(), name("data"));
        place.make(vec![(place.image(&[("d/a", "1"), ("d/sub/b", "2")]), "/d")], false);
        let first = SnapshotName::parse("first").unwrap();
        take(&home, "i", &data, &first, ()).unwrap();
        assert!(take(&home, "i", &data, &first, ()).unwrap_err().to_string().contains("already"));
        fs::write(place.at("data/a"), "changed").unwrap();
        fs::remove_dir_all(place.at("data/sub")).unwrap();
        fs::create_dir_all(place.at(".new-left")).unwrap();
        restore(&home, "i", &data, &first).unwrap();
        assert_eq!(fs::read_to_string(place.at("data/a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(place.at("data/sub/b")).unwrap(), "2");
        assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 1, "something is left");
        let other = name("other");
        duplicate(&home, "i", &data, &other, ()).unwrap();
        assert!(duplicate(&home, "i", &data, &other, ()).is_err());
        assert_eq!(fs::read_to_string(place.at("other/sub/b")).unwrap(), "2");
        remove(&home, "i", &data).unwrap();
        assert_eq!(existing(&home, "i").unwrap(), BTreeSet::from([other]));
        assert_eq!(with_snapshots(&home, "i").unwrap(), BTreeSet::from([data.clone()]));
        restore(&home, "i", &data, &first).unwrap();
        assert_eq!(fs::read_to_string(place.at("data/a")).unwrap(), "1", "a volume that was gone");
        delete_snapshot(&home, "i", &data, &first).unwrap();
        assert!(snapshots(&home, "i", &data).unwrap().is_empty() && !home.state.join("snapshots/i").exists());
        take(&home, "i", &data, &first, ()).unwrap();
        delete_all(&home, "i").unwrap();
        assert!(!home.state.join("snapshots/i").exists());
    }

    #[test]
    fn all_volumes_go_back_or_none() {
        let place = Place(tempfile::tempdir().unwrap());
        let (home, data, other) = (place.home(), name("data"), name("other"));
        place.make(vec![(place.image(&[("d/a", "1")]), "/d")], false);
        duplicate(&home, "i", &data, &other, ()).unwrap();
        assert!(keep(&home, "i", &data, 3, Cost::Any, ()).unwrap());
        let of = SnapshotName::of_generation(3);
        assert!(of.is_of_generation() && !SnapshotName::parse("generation-x").unwrap().is_of_generation());
        fs::write(place.at("data/a"), "2").unwrap();
        fs::write(place.at("other/a"), "2").unwrap();
        let both = [(data.clone(), of.clone()), (other.clone(), of.clone())];
        let error = restore_all(&home, "i", (3, Some(4)), &both).unwrap_err();
        assert!(error.message().contains("other"), "{}", error.chain());
        assert_eq!(fs::read_to_string(place.at("data/a")).unwrap(), "2", "one of two went back");
        assert_eq!((fs::read_dir(place.at("")).unwrap().count(), half_restored(&home, "i", Some(4)).unwrap()), (2, None));
        assert!(keep(&home, "i", &other, 3, Cost::Any, ()).unwrap());
        fs::write(place.at("other/a"), "3").unwrap();
        remove(&home, "i", &data).unwrap();
        restore_all(&home, "i", (3, Some(4)), &both).unwrap();
        let read = |path: &str| fs::read_to_string(place.at(path)).unwrap();
        assert_eq!((read("data/a"), read("other/a")), ("1".into(), "2".into()));
        // Until the environment has come up with it, the data is of another generation than what is up.
        let half = |newest| half_restored(&home, "i", newest).unwrap();
        assert_eq!((half(Some(4)), half(Some(5))), (Some(3), None), "a generation that came after finishes it");
        end_restoring(&home, "i").unwrap();
        end_restoring(&home, "i").unwrap();
        assert_eq!((fs::read_dir(place.at("")).unwrap().count(), half(Some(4))), (2, None));
        // Killed in between.
        fs::write(place.at(".restoring"), "3").unwrap();
        assert_eq!((half(Some(4)), half(None)), (Some(3), Some(3)));
        fs::write(place.at(".restoring"), "2 4").unwrap();
        let missing = [both[0].clone(), (other.clone(), SnapshotName::of_generation(9))];
        restore_all(&home, "i", (9, Some(4)), &missing).unwrap_err();
        assert_eq!(half(Some(4)), Some(2), "what fails leaves it as it was");
        restore_all(&home, "i", (3, Some(4)), &both).unwrap();
        assert_eq!(half(Some(4)), Some(3));
        for damaged in ["x", "", "3 x", "3 4 5"] {
            fs::write(place.at(".restoring"), damaged).unwrap();
            assert!(half_restored(&home, "i", Some(4)).is_err(), "{damaged}");
        }
        end_restoring(&home, "i").unwrap();
        // What is kept anew replaces what was, and goes with its generation.
        fs::write(place.at("data/a"), "4").unwrap();
        assert!(keep(&home, "i", &data, 3, Cost::Any, ()).unwrap());
        assert_eq!(fs::read_to_string(home.state.join("snapshots/i/data/generation-3/a")).unwrap(), "4");
        let is_cheap = keep(&home, "i", &data, 3, Cost::Cheap, ()).unwrap();
        assert_eq!(is_cheap, can_share(&home));
        assert_eq!(home.state.join("snapshots/i/data/generation-3").exists(), is_cheap, "an old one would be taken for it");
        forget_generation(&home, "i", 3).unwrap();
        forget_generation(&home, "i", 3).unwrap();
        assert!(!home.state.join("snapshots/i").exists());
    }

    #[test]
    fn an_import_replaces_all_or_nothing() {
        let place = Place(tempfile::tempdir().unwrap());
        let (home, data) = (place.home(), name("data"));
        place.make(vec![(place.image(&[("d/a", "1"), ("d/sub/b", "2")]), "/d")], false);
        let mut archive = Vec::new();
        export(&open(&home, "i", &data).unwrap(), &data, &mut archive).unwrap();
        assert!(import(&home, "i", &data, &archive[..], Content::Refused).unwrap_err().to_string().contains("not empty"));
        import(&home, "i", &name("new"), &archive[..], Content::Refused).unwrap();
        assert_eq!(fs::read_to_string(place.at("new/sub/b")).unwrap(), "2");
        fs::write(place.at("data/c"), "3").unwrap();
        let wrong: [&[u8]; 3] = [&archive[..archive.len() / 2 + 7], b"", &[b'x'; 2048]];
        for wrong in wrong {
            assert!(import(&home, "i", &data, wrong, Content::Replaced).is_err());
            assert_eq!(fs::read_to_string(place.at("data/c")).unwrap(), "3");
        }
        for wrong in [&b"SELECT 1;\n"[..], &[b'x'; 2048], &[0x1f, 0x8b, 0][..]] {
            let error = import(&home, "i", &data, wrong, Content::Replaced).unwrap_err();
            let text = error.chain();
            assert!(text.contains("no tar archive") || wrong[0] == 0x1f, "{text}");
            assert!(error.advice().is_some_and(|advice| advice.contains("volume export")) || wrong[0] == 0x1f, "{text}");
            assert_eq!(fs::read_to_string(place.at("data/c")).unwrap(), "3");
        }
        import(&home, "i", &data, &archive[..], Content::Replaced).unwrap();
        assert!(place.at("data/a").exists() && !place.at("data/c").exists());
        assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 2, "something is left");
        // A link that an administrator put there is read through, and neither replaced nor emptied.
        std::os::unix::fs::symlink(place.at("data"), place.at("link")).unwrap();
        assert!(import(&home, "i", &name("link"), &archive[..], Content::Replaced).is_err());
        assert!(size(&home, "i", &name("link")).unwrap() > 0);
        remove(&home, "i", &name("link")).unwrap();
        assert!(place.at("data/a").exists());
    }
}

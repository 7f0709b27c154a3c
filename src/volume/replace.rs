//! Whole volumes: restored from a snapshot, duplicated, imported, exported, removed.
//!
//! New content is made ready beside a volume and takes its place in one step, so a volume is always the old one or the new
//! one. The callers hold the instance's lock, and see to it that no running container has the volume: it would keep the old
//! content.

use super::copy::{Copied, copy, copy_whole};
use super::disk;
use super::snapshot::{self, SnapshotName};
use super::staging;
use crate::image::{self, Rules};
use crate::model::bounds::image::ARCHIVE;
use crate::model::{Budget, Error, Name, Result};
use crate::store::{Home, disk_error};
use crate::sys::{self, Facts, Kind, Tree};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// What an import does with the content that a volume has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A volume that has any is refused.
    Refused,
    Replaced,
}

fn on_disk(volume: &Name) -> &OsStr {
    OsStr::new(volume.as_str())
}

fn elsewhere(volume: &Name) -> Error {
    Error::new(format!("the volume {volume} is no directory: somebody put a link or a file in its place"))
        .hint("what a link leads to is not touched; change it there, or remove the link")
}

/// Refuses a volume on which, or in which, something is mounted: that is not ours to replace or delete.
fn refuse_mounts(all: &Tree, volume: &Name) -> Result<()> {
    match all.has_mounts(on_disk(volume)) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(format!("a file system is mounted in the volume {volume}"))
            .hint("unmount it first: what is mounted there is not deleted with the volume")),
        Err(error) => Err(Error::caused(format!("cannot look for mounts in the volume {volume}"), error)),
    }
}

/// Gives a volume new content, or makes the volume.
fn replace<T>(
    (home, instance, volume): (&Home, &str, &Name),
    doing: &str,
    fill: impl FnOnce(&Tree, &OsStr) -> io::Result<T>,
) -> Result<T> {
    let failed = |error| disk::failed(home, doing, error);
    let all = Tree::private(&super::folder(home, instance)).map_err(failed)?;
    let own = on_disk(volume);
    match all.look(own).map_err(failed)?.map(|there| Kind::of(&there)) {
        None => staging::make(&all, fill, |made| all.rename(own, &all, made)).map_err(failed),
        Some(Kind::Folder) => {
            refuse_mounts(&all, volume)?;
            let place = |made: &OsStr| {
                all.exchange(own, made).map_err(|error| match error.raw_os_error() {
                    Some(libc::EINVAL) => sys::in_words("the file system cannot exchange two directories", error),
                    _ => error,
                })?;
                // From here on it is the old content that has the private name. If it cannot be removed now, the next sweep
                // removes it.
                let _ = all.remove(made);
                Ok(())
            };
            staging::make(&all, fill, place).map_err(failed)
        }
        Some(_) => Err(elsewhere(volume)),
    }
}

/// Gives a volume the content of a snapshot; a volume that is gone is made again.
///
/// # Errors
/// Fails when there is no such snapshot, when something is mounted in the volume, and when something cannot be read or
/// written. The volume then has its old content.
pub fn restore(home: &Home, instance: &str, volume: &Name, name: &SnapshotName) -> Result<Copied> {
    let source = snapshot::open(home, instance, volume, name)?;
    let doing = format!("cannot restore the volume {volume} from the snapshot {name}");
    replace((home, instance, volume), &doing, |tree, _| copy_whole(&source, tree))
}

/// The name of the file that says to which generation volumes are going back, and which one is left. Nothing else has such a name.
const RESTORING: &str = ".restoring";

/// Volumes on their way to the data of a generation.
struct Restoring {
    to: u64,
    /// The newest generation when they began to go back.
    left: Option<u64>,
}

impl Restoring {
    /// Whether it is not finished: that it is, says a generation which came after.
    fn is_pending(&self, newest: Option<u64>) -> bool {
        self.left.is_none() || self.left == newest
    }

    fn text(&self) -> String {
        self.left.map_or_else(|| self.to.to_string(), |left| format!("{} {left}", self.to))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (to, left) = (numbers.next()?.ok()?, numbers.next().transpose().ok()?);
        numbers.next().is_none().then_some(Self { to, left })
    }

    fn read(home: &Home, instance: &str) -> Result<Option<Self>> {
        let failed = |why: String| Error::new(format!("cannot tell whether a rollback of data was cut off: {why}"));
        let read = || -> io::Result<String> {
            let mut text = String::new();
            Tree::open(&super::folder(home, instance))?.file(RESTORING)?.take(64).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| failed(format!("{RESTORING} is damaged"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// The generation to which volumes are going back, if that is not finished: some of them may have its data, and some not, or the
/// containers are not those of that generation. The `newest` generation of the environment tells whether one came after.
///
/// # Errors
/// Fails when that cannot be told.
pub fn half_restored(home: &Home, instance: &str, newest: Option<u64>) -> Result<Option<u64>> {
    Ok(Restoring::read(home, instance)?.filter(|one| one.is_pending(newest)).map(|one| one.to))
}

/// Notes that the environment is what its volumes have gone back to. The caller holds the instance's lock.
///
/// # Errors
/// Fails when the note of [`restore_all`] cannot be removed.
pub fn end_restoring(home: &Home, instance: &str) -> Result<()> {
    let ended = Tree::open(&super::folder(home, instance)).and_then(|all| all.remove_file(OsStr::new(RESTORING)));
    match ended {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_error("cannot note that data was brought back", error)),
        _ => Ok(()),
    }
}

/// Gives volumes the contents that they had in a generation, all or none; those that are gone are made again. The newest
/// generation is the one that is `left`. From here on [`half_restored`] tells, until a generation comes after or
/// [`end_restoring`] is called: the only copy of what the volumes had may be what was kept for the one that is left.
///
/// # Errors
/// Fails when a snapshot is missing, when something is mounted in a volume, and when something cannot be read or written. The
/// volumes then have their old contents.
pub fn restore_all(
    home: &Home,
    instance: &str,
    (number, left): (u64, Option<u64>),
    wanted: &[(Name, SnapshotName)],
) -> Result<()> {
    let failed = |volume: &Name| {
        let doing = format!("cannot bring back the data of the volume {volume} in generation {number}");
        move |error: io::Error| disk_error(&doing, error)
    };
    let mark = |error| disk_error("cannot note that data is brought back", error);
    let was_half = half_restored(home, instance, left)?.is_some();
    let restoring = Restoring { to: number, left };
    let place = super::folder(home, instance);
    let all = Tree::private(&place).map_err(mark)?;
    staging::sweep(&all).map_err(mark)?;
    let mut made: Vec<(&Name, OsString, bool)> = Vec::new();
    let mut ready = || -> Result<()> {
        for (volume, name) in wanted {
            let there = match all.look(on_disk(volume)).map_err(failed(volume))?.map(|there| Kind::of(&there)) {
                None => false,
                Some(Kind::Folder) => true,
                Some(_) => return Err(elsewhere(volume)),
            };
            if there {
                refuse_mounts(&all, volume)?;
            }
            let source = snapshot::open(home, instance, volume, name)?;
            let new = staging::private_name();
            let tree = all.make_folder(&new, 0o700).map_err(failed(volume))?;
            made.push((volume, new, there));
            copy_whole(&source, &tree).map_err(failed(volume))?;
        }
        all.sync().map_err(mark)?;
        sys::write_lasting(&place.join(RESTORING), restoring.text().as_bytes(), 0o600).map_err(mark)
    };
    let sweep = |made: &[(&Name, OsString, bool)]| {
        // What cannot be removed now, the next sweep removes.
        made.iter().for_each(|(_, new, _)| drop(all.remove(new)));
    };
    if let Err(error) = ready() {
        sweep(&made);
        return Err(error);
    }
    let exchange = |(volume, new, there): &(&Name, OsString, bool)| {
        if *there { all.exchange(on_disk(volume), new) } else { all.rename(on_disk(volume), &all, new) }
    };
    for (at, one) in made.iter().enumerate() {
        let Err(error) = exchange(one) else { continue };
        for (volume, new, there) in made[..at].iter().rev() {
            let back = if *there { all.exchange(on_disk(volume), new) } else { all.rename(new, &all, on_disk(volume)) };
            // The note stays then: it says that volumes are of two generations.
            back.map_err(failed(volume))?;
        }
        // What was of two generations before still is.
        if !was_half {
            all.remove_file(OsStr::new(RESTORING)).map_err(mark)?;
        }
        sweep(&made);
        return Err(failed(one.0)(error));
    }
    all.sync().map_err(mark)?;
    sweep(&made);
    Ok(())
}

/// Makes a volume from a snapshot that an instance has of its volume of that name.
///
/// # Errors
/// Fails when there is no such snapshot, when something of it is removed meanwhile, and when something cannot be read or written;
/// nothing is left then.
pub fn seed(home: &Home, instance: &str, volume: &Name, (from, name): (&str, &SnapshotName)) -> Result<Copied> {
    let source = snapshot::open(home, from, volume, name)?;
    replace((home, instance, volume), &format!("cannot fill the volume {volume} from its seed"), |tree, _| {
        copy_whole(&source, tree)
    })
}

/// Copies a volume to a new one. What is `held` is dropped as soon as everything is copied.
///
/// # Errors
/// Fails when the new one exists already, and when something cannot be read or written; nothing is left then.
pub fn duplicate<H>(home: &Home, instance: &str, volume: &Name, new: &Name, held: H) -> Result<Copied> {
    let failed = |error| disk::failed(home, &format!("cannot copy the volume {volume} to {new}"), error);
    let source = super::open(home, instance, volume)?;
    let all = Tree::private(&super::folder(home, instance)).map_err(failed)?;
    if all.look(on_disk(new)).map_err(failed)?.is_some() {
        return Err(Error::new(format!("there is a volume \"{new}\" already"))
            .hint(format!("choose another name; `stead volume rm {new}` deletes that one")));
    }
    let fill = |tree: &Tree, _: &OsStr| {
        let copied = copy(&source, tree);
        drop(held);
        copied
    };
    staging::make(&all, fill, |made| all.rename(on_disk(new), &all, made)).map_err(failed)
}

/// Writes a volume or a snapshot as a canonical tar archive, and returns the number of entries.
///
/// # Errors
/// Fails when something cannot be read, and when writing fails.
pub fn export(tree: &Tree, volume: &Name, out: &mut (impl Write + Send)) -> Result<u64> {
    image::write_tar(tree, out).map_err(|error| disk_error(&format!("cannot export the volume {volume}"), error))
}

/// Gives a volume the content of a tar archive, plain or compressed, and makes the volume if it does not exist; returns the
/// number of entries.
///
/// # Errors
/// Fails when the volume has content that may not be replaced, when the archive is damaged or empty, and when something cannot
/// be written. The volume is then as it was.
pub fn import(home: &Home, instance: &str, volume: &Name, from: impl Read + Send, content: Content) -> Result<u64> {
    let doing = format!("cannot import the volume {volume}");
    let failed = |error| disk::failed(home, &doing, error);
    let place = super::folder(home, instance);
    let all = Tree::private(&place).map_err(failed)?;
    let before = match all.look(on_disk(volume)).map_err(failed)? {
        Some(there) if Kind::of(&there) != Kind::Folder => return Err(elsewhere(volume)),
        there => there,
    };
    if before.is_some() && content == Content::Refused && !all.read(on_disk(volume)).map_err(failed)?.1.is_empty() {
        return Err(Error::new(format!("the volume {volume} is not empty"))
            .hint("`--replace` deletes what is in it; `stead volume snapshot` keeps that"));
    }
    replace((home, instance, volume), &doing, |tree, made| {
        // An archive need not have an entry for its top.
        match &before {
            Some(before) => tree.become_like(Facts::of(before))?,
            None => tree.set_mode(0o755)?,
        }
        unpack(from, &place.join(made))
    })
}

/// The length of a header in an archive (pax(1), ustar Interchange Format).
const BLOCK: usize = 512;

/// Whether an archive may begin with this: a header has the right sum. What is empty or only zeros is an empty archive.
fn may_begin_a_tar(first: &[u8]) -> bool {
    if first.iter().all(|byte| *byte == 0) {
        return true;
    }
    let Some(header) = first.first_chunk::<BLOCK>() else { return false };
    // The sum is that of the header with spaces in the place of the sum.
    let (sum, place) = (&header[148..156], 148..156);
    let digits = String::from_utf8_lossy(sum);
    let told = u32::from_str_radix(digits.trim_matches(|c: char| c == ' ' || c == '\0'), 8);
    let each = |(at, byte): (usize, &u8)| u32::from(if place.contains(&at) { b' ' } else { *byte });
    told == Ok(header.iter().enumerate().map(each).sum())
}

fn unpack(from: impl Read + Send, root: &Path) -> io::Result<u64> {
    // `export` writes whiteouts, which a container engine in a container keeps in its volumes, as layers have them.
    let rules = Rules { latest: i64::MAX, owner: None, whiteouts: true, rootfs: true, folder_times: true };
    let budget = Arc::new(Budget::new(ARCHIVE));
    let mut content = image::budgeted(from, &budget)?;
    let mut first = Vec::with_capacity(BLOCK);
    content.by_ref().take(BLOCK as u64).read_to_end(&mut first)?;
    if !may_begin_a_tar(&first) {
        let error = Error::new("what is given is no tar archive");
        return Err(io::Error::other(error.hint("`stead volume export` and `tar` make one; it may be compressed")));
    }
    let mut content = first.as_slice().chain(content);
    let mut tree = image::Tree::new(root, rules, budget)?;
    let entries = tree.write(&mut content)?;
    tree.finish()?;
    if entries == 0 {
        return Err(io::Error::other("there is nothing in the archive"));
    }
    // Whoever writes the archive may not have come to its end yet.
    io::copy(&mut content, &mut io::sink())?;
    Ok(entries)
}

/// Deletes a volume; its snapshots stay.
///
/// # Errors
/// Fails when it does not exist, when something is mounted in it, and when something cannot be deleted.
pub fn remove(home: &Home, instance: &str, volume: &Name) -> Result<()> {
    let failed = |error: io::Error| Error::caused(format!("cannot delete the volume {volume}"), error);
    let all = Tree::open(&super::folder(home, instance)).map_err(failed)?;
    refuse_mounts(&all, volume)?;
    staging::sweep(&all).and_then(|()| staging::remove(&all, on_disk(volume))).map_err(failed)
}

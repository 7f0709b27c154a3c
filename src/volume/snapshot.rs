//! Snapshots: copies of volumes as they were. They are kept beside the volumes, where no container sees them.

use super::copy::{Copied, copy, copy_cheaply};
use super::disk;
use super::staging;
use crate::model::{Context, Error, Name, Result};
use crate::store::Home;
use crate::sys::{self, Listed, Tree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What the names of those begin with that are kept of generations.
const OF_GENERATION: &str = "generation-";
/// The most entries of a volume that is kept with each generation: each is made again, and containers are held still meanwhile.
const ENTRIES: u64 = 20_000;
/// The longest name of a snapshot.
const LONGEST: usize = 64;

/// The name of a snapshot: letters, digits, `-`, `_` and `.`, and a letter or digit at its beginning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence saying which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.len() > LONGEST {
            return Err(format!("a snapshot's name has at most {LONGEST} characters"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(legal) {
            return Err("a snapshot's name has letters, digits, `-`, `_` and `.`, and begins with a letter or digit".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The name of what is kept of a generation of the environment.
    pub fn of_generation(number: u64) -> Self {
        Self(format!("{OF_GENERATION}{number}"))
    }

    /// Whether it is a name for what is kept of a generation.
    pub fn is_of_generation(&self) -> bool {
        self.0.strip_prefix(OF_GENERATION).is_some_and(|number| number.parse::<u64>().is_ok())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn on_disk(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A snapshot of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub name: SnapshotName,
    /// When it was made, in seconds since 1970.
    pub made: i64,
}

fn all(home: &Home) -> PathBuf {
    home.state.join("snapshots")
}

/// The directory of a volume's snapshots.
pub fn folder(home: &Home, instance: &str, volume: &Name) -> PathBuf {
    all(home).join(instance).join(volume.as_str())
}

/// Lists a directory; one that does not exist is empty.
fn listed(place: &Path) -> Result<Option<(Tree, Vec<Listed>)>> {
    let open = || Tree::open(place).and_then(|tree| tree.list().map(|listed| (tree, listed)));
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).context(|| format!("cannot read {}", place.display())),
    }
}

/// The snapshots of a volume, the oldest first. The volume itself may be gone.
///
/// # Errors
/// Fails when they cannot be listed.
pub fn snapshots(home: &Home, instance: &str, volume: &Name) -> Result<Vec<Snapshot>> {
    let place = folder(home, instance, volume);
    let mut found = Vec::new();
    if let Some((tree, listed)) = listed(&place)? {
        for name in listed.iter().filter_map(|listed| SnapshotName::parse(listed.name.to_str()?).ok()) {
            // Nobody writes into a snapshot, so its directory last changed when it got its name.
            let stat = tree.stat(name.on_disk()).context(|| format!("cannot read {}", place.join(name.as_str()).display()))?;
            found.push((stat.st_ctime_nsec, Snapshot { name, made: stat.st_ctime }));
        }
    }
    found.sort_by_key(|(nanoseconds, one)| (one.made, *nanoseconds));
    Ok(found.into_iter().map(|(_, one)| one).collect())
}

/// The volumes that have snapshots, also those that are gone themselves.
///
/// # Errors
/// Fails when they cannot be listed.
pub fn with_snapshots(home: &Home, instance: &str) -> Result<BTreeSet<Name>> {
    let mut found = BTreeSet::new();
    if let Some((_, listed)) = listed(&all(home).join(instance))? {
        for name in listed.iter().filter_map(|listed| Name::parse(listed.name.to_str()?).ok()) {
            if !snapshots(home, instance, &name)?.is_empty() {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// Opens a snapshot for reading.
///
/// # Errors
/// Fails when it does not exist or cannot be opened.
pub fn open(home: &Home, instance: &str, volume: &Name, name: &SnapshotName) -> Result<Tree> {
    let place = folder(home, instance, volume);
    let opened = Tree::open(&place).and_then(|all| all.folder(name.as_str()));
    opened.context(|| format!("cannot open the snapshot {name} of the volume {volume}"))
}

/// Makes a snapshot of a volume. What is `held` is dropped as soon as everything is copied: the containers that are held still
/// meanwhile need not wait for the disk. The caller holds the instance's lock.
///
/// # Errors
/// Fails when there is a snapshot of that name, and when something cannot be read or written; nothing is left then.
pub fn take<H>(home: &Home, instance: &str, volume: &Name, name: &SnapshotName, held: H) -> Result<Copied> {
    let failed = |error| disk::failed(home, &format!("cannot make the snapshot {name} of the volume {volume}"), error);
    let source = super::open(home, instance, volume)?;
    let make = || -> Result<Copied> {
        let all = Tree::private(&folder(home, instance, volume)).map_err(failed)?;
        if all.look(name.on_disk()).map_err(failed)?.is_some() {
            return Err(Error::new(format!("the volume {volume} has a snapshot \"{name}\" already"))
                .hint(format!("choose another name; `stead volume snapshot {volume} {name} --delete` deletes that one")));
        }
        let fill = |tree: &Tree, _: &OsStr| {
            let copied = copy(&source, tree);
            drop(held);
            copied
        };
        staging::make(&all, fill, |made| all.rename(name.on_disk(), &all, made)).map_err(failed)
    };
    make().inspect_err(|_| tidy(home, instance, volume))
}

/// What a copy for a generation may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cost {
    /// All files must share their blocks with those of the volume, and be not too many.
    Cheap,
    Any,
}

/// Makes the snapshot of a volume that belongs to a generation, or makes it anew. Returns whether there is one now; the old one
/// is gone in any case. The caller holds the instance's lock.
///
/// # Errors
/// Fails when something cannot be read or written.
pub fn keep<H>(home: &Home, instance: &str, volume: &Name, number: u64, cost: Cost, held: H) -> Result<bool> {
    let name = SnapshotName::of_generation(number);
    let failed = |error| disk::failed(home, &format!("cannot keep the volume {volume} of generation {number}"), error);
    let source = super::open(home, instance, volume)?;
    let all = Tree::private(&folder(home, instance, volume)).map_err(failed)?;
    let there = all.look(name.on_disk()).map_err(failed)?.is_some();
    let fill = |tree: &Tree, _: &OsStr| {
        let copied = match cost {
            Cost::Cheap => copy_cheaply(&source, tree, ENTRIES),
            Cost::Any => copy(&source, tree).map(drop),
        };
        drop(held);
        copied
    };
    let place = |made: &OsStr| {
        if !there {
            return all.rename(name.on_disk(), &all, made);
        }
        all.exchange(name.on_disk(), made)?;
        // If it cannot be removed now, the next sweep removes it.
        let _ = all.remove(made);
        Ok(())
    };
    match staging::make(&all, fill, place) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            // What is older than the generation would be taken for it.
            if there {
                staging::remove(&all, name.on_disk()).map_err(failed)?;
            }
            tidy(home, instance, volume);
            Ok(false)
        }
        Err(error) => {
            // The same is true here. The error that comes first is the cause of both, if it cannot be removed either.
            let left = if there { staging::remove(&all, name.on_disk()).err() } else { None };
            tidy(home, instance, volume);
            let errors = vec![failed(error)].into_iter().chain(left.map(failed)).collect();
            Error::all(errors).map(|()| false)
        }
    }
}

/// Whether files of volumes can share their blocks with those of snapshots.
pub fn can_share(home: &Home) -> bool {
    let probe = || -> io::Result<bool> {
        let place = Tree::private(&home.state.join("snapshots"))?;
        let names = [staging::private_name(), staging::private_name()];
        let made = || -> io::Result<bool> {
            let mut from = place.make_file(&names[0], 0o600)?;
            io::Write::write_all(&mut from, &[b'x'; 4096])?;
            // What is shared must be open for reading (ioctl_ficlonerange(2), EBADF).
            Ok(sys::share_blocks(&place.file(&names[0])?, &place.make_file(&names[1], 0o600)?))
        };
        let made = made();
        for name in &names {
            match place.remove_file(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        made
    };
    probe().unwrap_or(false)
}

/// Forgets what is kept of the volumes of a generation. The caller holds the instance's lock.
///
/// # Errors
/// Fails when something cannot be deleted.
pub fn forget_generation(home: &Home, instance: &str, number: u64) -> Result<()> {
    let name = SnapshotName::of_generation(number);
    for volume in with_snapshots(home, instance)? {
        if snapshots(home, instance, &volume)?.iter().any(|snapshot| snapshot.name == name) {
            delete(home, instance, &volume, &name)?;
        }
    }
    Ok(())
}

/// Deletes a snapshot. The caller holds the instance's lock.
///
/// # Errors
/// Fails when it does not exist, and when something cannot be deleted.
pub fn delete(home: &Home, instance: &str, volume: &Name, name: &SnapshotName) -> Result<()> {
    let gone = Tree::open(&folder(home, instance, volume)).and_then(|all| {
        staging::sweep(&all)?;
        staging::remove(&all, name.on_disk())
    });
    gone.context(|| format!("cannot delete the snapshot {name} of the volume {volume}"))?;
    tidy(home, instance, volume);
    Ok(())
}

/// Removes the directories of a volume's snapshots if they are empty.
fn tidy(home: &Home, instance: &str, volume: &Name) {
    let Ok(all) = Tree::open(&all(home)) else { return };
    // What has something in it stays.
    let _ = all.folder(instance).and_then(|own| own.remove_folder(OsStr::new(volume.as_str())));
    let _ = all.remove_folder(OsStr::new(instance));
}

/// Deletes the snapshots of all volumes of an instance.
///
/// # Errors
/// Fails when something cannot be deleted.
pub fn delete_all(home: &Home, instance: &str) -> Result<()> {
    let removed = match Tree::open(&all(home)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.and_then(|all| all.remove(OsStr::new(instance))),
    };
    removed.context(|| format!("cannot delete {}", all(home).join(instance).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_are_file_names_that_nothing_else_has() {
        for name in ["2026-12-01T04-10-00", "before_upgrade", "v1.2", "0"] {
            assert_eq!(SnapshotName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", ".new-1", ".gone-1", "a/b", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(SnapshotName::parse(name).is_err(), "{name}");
        }
    }
}

//! Which directory an instance belongs to. The directory is known by its path, and, once it was moved, by what it is on its disk:
//! its device, its inode number and the time of its creation. So a moved directory keeps its containers and volumes, and a copy
//! of a directory is an instance of its own.
//!
//! Nothing of this lies in the directory itself: a cloned repository cannot claim what belongs to another one.

use crate::model::{Digest, Error, Result};
use crate::plan::InstanceRecord;
use crate::store::{Home, Kept, Store, read_state, state_bytes};
use crate::sys::{self, Tree};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is on record of the directory of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub folder: PathBuf,
    pub file: String,
    /// What the directory is on its disk; `None` if the file system cannot tell it from a later one.
    pub born: Option<String>,
}

impl Claim {
    /// Whether the directory is no longer at its path: nothing is there, or another one. What cannot be told is no reason to
    /// think so.
    fn has_left(&self) -> bool {
        let other = |now: String| self.born.as_ref().is_some_and(|born| *born != now);
        is_gone(&self.folder) || born(&self.folder).is_some_and(other)
    }
}

impl Kept for Claim {
    const KIND: &'static str = "claim";
    const VERSION: u32 = 1;
}

fn all(home: &Home) -> PathBuf {
    home.state.join("instances")
}

fn place(home: &Home, id: &str) -> PathBuf {
    all(home).join(id).join("directory.json")
}

/// Reads the claim on an instance.
///
/// # Errors
/// Fails when it is damaged or cannot be read.
pub fn claim_of(home: &Home, id: &str) -> Result<Option<Claim>> {
    read_state(&place(home, id))
}

/// What tells a directory from every other one, also from a later one with the same inode number.
fn born(folder: &Path) -> Option<String> {
    let tree = Tree::open(folder).ok()?;
    // Without the time of its creation, an inode number that is used again would be taken for the same directory.
    let birth = tree.birth().ok().filter(|birth| birth.contains(' '))?;
    Some(format!("{} {birth}", tree.facts().ok()?.st_dev))
}

/// Whether there is nothing at a path. What cannot be looked at may be there.
fn is_gone(folder: &Path) -> bool {
    let absent = |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    folder.symlink_metadata().is_err_and(absent)
}

/// The name of an instance that a path leads to: eight characters. The first candidate may belong to a directory that was here
/// before and was moved.
fn candidate(folder: &Path, file: &str, number: u32) -> String {
    let mut identity = folder.as_os_str().as_bytes().to_vec();
    if file != "stead.kdl" {
        identity.push(0);
        identity.extend(file.bytes());
    }
    if number > 0 {
        identity.extend(format!("\0\0{number}").bytes());
    }
    Digest::of(identity).short(8)
}

/// The directory that an instance has, as far as that is known; `None` if there is no such instance.
fn holder(home: &Home, id: &str) -> Option<PathBuf> {
    match claim_of(home, id) {
        Ok(Some(claim)) => return Some(claim.folder),
        Ok(None) => {}
        // It is told once something is to be changed.
        Err(_) => return Some(PathBuf::new()),
    }
    let state = all(home).join(id);
    // One of an older stead has only its record, and one that was never up not even that.
    let record = read_state::<InstanceRecord>(&state.join("record.json")).ok().flatten();
    state.exists().then(|| record.map(|record| record.folder.into()).unwrap_or_default())
}

/// The name of the instance of a project file: the one that this directory has, at this path or at the one that it was moved
/// from; else the one that a directory at this path had, which was deleted and made again; else a new one.
pub fn id_of(home: &Home, folder: &Path, file: &str) -> String {
    let born = born(folder);
    let mut number = 0;
    let (id, is_known) = loop {
        let id = candidate(folder, file, number);
        match holder(home, &id) {
            None => break (id, false),
            Some(holder) if holder == folder || holder.as_os_str().is_empty() => {
                let known = claim_of(home, &id).ok().flatten().and_then(|claim| claim.born);
                if known.is_none() || born.is_none() || known == born {
                    return id;
                }
                break (id, true);
            }
            Some(_) => number += 1,
        }
    };
    // An instance whose claim cannot be read is not taken over.
    let names = sys::names(&all(home)).unwrap_or_default().into_iter();
    let claims: Vec<(String, Claim)> = names
        .filter_map(|id| claim_of(home, &id).ok().flatten().map(|claim| (id, claim)))
        .filter(|(_, claim)| claim.file == file)
        .collect();
    let moved = claims.iter().find(|(_, claim)| claim.born.is_some() && claim.born == born && claim.has_left());
    let here = || claims.iter().find(|(_, claim)| claim.folder == folder).filter(|_| !is_known);
    moved.or_else(here).map_or(id, |(id, _)| id.clone())
}

/// Claims an instance for its directory. The caller holds the instance's lock, so that of two directories one is refused.
///
/// # Errors
/// Fails when another directory has claimed it meanwhile, and when the claim cannot be read or written.
pub fn take(home: &Home, id: &str, folder: &Path, file: &str) -> Result<()> {
    let is_there = !is_gone(folder);
    let now = Claim { folder: folder.to_owned(), file: file.to_owned(), born: born(folder) };
    let before = claim_of(home, id)?;
    match &before {
        Some(before) if *before == now => return Ok(()),
        Some(before) if before.folder == folder => {}
        Some(before) if before.born.is_some() && before.born == now.born && before.has_left() => {}
        Some(before) => {
            return Err(Error::new(format!(
                "what this directory had belongs to {} now, where it was moved to or from meanwhile",
                before.folder.display()
            ))
            .hint("run the command again: it is an instance of its own then"));
        }
        None => {}
    }
    if !is_there || folder.as_os_str().is_empty() {
        // What is left of a directory that is gone can be taken down.
        return Ok(());
    }
    let path = place(home, id);
    let write = |path: &Path, bytes: &[u8]| {
        sys::write_lasting(path, bytes, 0o600)
            .map_err(|error| crate::store::disk_error(&format!("cannot write {}", path.display()), error))
    };
    if before.as_ref().is_some_and(|before| before.folder != folder) {
        // All of this can be done again, so the claim, which ends it, comes last.
        Store::at(&home.store).roots_moved(id, folder)?;
        let record = all(home).join(id).join("record.json");
        if let Some(known) = read_state::<InstanceRecord>(&record)? {
            let known = InstanceRecord { folder: folder.display().to_string(), ..known };
            write(&record, &state_bytes(&known)?)?;
        }
    }
    write(&path, &state_bytes(&now)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place(tempfile::TempDir);

    impl Place {
        fn home(&self) -> Home {
            Home::find(Some(&self.0.path().join("root")))
        }

        fn folder(&self, name: &str) -> PathBuf {
            let folder = fs::canonicalize(self.0.path()).unwrap().join(name);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        fn id(&self, folder: &Path) -> String {
            id_of(&self.home(), folder, "stead.kdl")
        }

        /// What each command that changes something does.
        fn up(&self, folder: &Path) -> String {
            let id = self.id(folder);
            fs::create_dir_all(all(&self.home()).join(&id)).unwrap();
            take(&self.home(), &id, folder, "stead.kdl").unwrap();
            id
        }
    }

    #[test]
    fn a_moved_directory_keeps_its_instance_and_a_copy_has_its_own() {
        let place = Place(tempfile::tempdir().unwrap());
        let (a, b) = (place.folder("a"), place.0.path().canonicalize().unwrap().join("b"));
        if born(&a).is_none() {
            println!("skipped: this file system does not keep when directories were made");
            return;
        }
        let first = place.up(&a);
        assert_eq!(place.id(&a), first);
        // The old one is there, so this is a copy, whatever it contains.
        let copy = place.up(&place.folder("copy"));
        assert_ne!(copy, first);
        fs::rename(&a, &b).unwrap();
        assert_eq!(place.id(&b), first, "it is found before anything is written");
        assert_ne!(id_of(&place.home(), &b, "other.kdl"), first);
        // A directory that is made at the old path before anything was done in the new one: who comes first has it.
        let again = place.folder("a");
        assert_eq!(place.up(&b), first);
        let error = take(&place.home(), &first, &again, "stead.kdl").unwrap_err();
        assert!(error.advice().unwrap().contains("again"), "{}", error.chain());
        let second = place.up(&again);
        assert_ne!(second, first);
        assert_eq!((place.id(&again), place.id(&b)), (second.clone(), first.clone()));
        // Both change their places.
        let aside = b.with_file_name("aside");
        fs::rename(&again, &aside).unwrap();
        fs::rename(&b, &again).unwrap();
        assert_eq!(place.up(&again), first);
        assert_eq!(place.up(&aside), second);
        // One that was deleted and made again at its path goes on, as a new clone does.
        fs::remove_dir(&aside).unwrap();
        fs::create_dir(&aside).unwrap();
        assert_eq!(place.up(&aside), second);
        // Another one with what looks like its inode number is another one.
        let mut claim = claim_of(&place.home(), &first).unwrap().unwrap();
        claim.folder = "/nowhere/at/all".into();
        claim.born = claim.born.map(|born| format!("{born}1"));
        fs::write(super::place(&place.home(), &first), state_bytes(&claim).unwrap()).unwrap();
        assert_ne!(place.id(&again), first);
    }

    #[test]
    fn of_two_directories_one_is_refused() {
        let place = Place(tempfile::tempdir().unwrap());
        let (a, b) = (place.folder("a"), place.folder("b"));
        let id = place.up(&a);
        let error = take(&place.home(), &id, &b, "stead.kdl").unwrap_err();
        assert!(error.advice().unwrap().contains("again"), "{}", error.chain());
        take(&place.home(), &id, &a, "stead.kdl").unwrap();
        fs::write(super::place(&place.home(), &id), "{}").unwrap();
        assert_eq!(place.id(&a), id, "a damaged claim gives nobody a new instance");
        assert!(take(&place.home(), &id, &a, "stead.kdl").is_err());
    }

    #[test]
    fn one_of_an_older_stead_is_known_by_its_record() {
        let place = Place(tempfile::tempdir().unwrap());
        let a = place.folder("a");
        let id = place.id(&a);
        let state = all(&place.home()).join(&id);
        fs::create_dir_all(&state).unwrap();
        assert_eq!(place.id(&a), id);
        let record = InstanceRecord { folder: a.display().to_string(), ..InstanceRecord::default() };
        fs::write(state.join("record.json"), state_bytes(&record).unwrap()).unwrap();
        assert_eq!(place.up(&a), id);
        assert_eq!(claim_of(&place.home(), &id).unwrap().unwrap().folder, a);
    }
}

//! Which directory an instance belongs to. The directory is known by its path, and, once it was moved, by what it is on its disk:
//! its inode number and the time of its creation. The number of the device is no part of that: that of a btrfs may be another one
//! after each boot. A snapshot of a directory has the same, so what still is at its path was not moved. So a moved directory keeps its containers and volumes, and a copy
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

/// What tells a directory from every other one but its snapshots, also from a later one with the same inode number.
fn born(folder: &Path) -> Option<String> {
    let tree = Tree::open(folder).ok()?;
    // Without the time of its creation, an inode number that is used again would be taken for the same directory.
    tree.birth().ok().filter(|birth| birth.contains(' '))
}

/// Whether there is no directory at a path. What cannot be looked at may be there.
fn is_gone(folder: &Path) -> bool {
    match folder.symlink_metadata() {
        Ok(there) => !there.is_dir(),
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
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

/// The name of an instance.
pub struct Known {
    pub id: String,
    /// Why it is not certain: the directory may have been moved here, and what tells that cannot be read. Nothing may be changed
    /// then.
    pub doubt: Option<Doubt>,
}

/// Why it cannot be told whether a directory is one that was moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doubt {
    /// What cannot be read.
    path: PathBuf,
    why: String,
}

impl Doubt {
    /// The error for what would change something.
    pub fn error(&self, folder: &Path) -> Error {
        let path = self.path.display();
        let what = format!("cannot tell whether {} was moved here, and has containers and volumes already", folder.display());
        let advice = if self.path.extension().is_some() {
            format!(
                "if it is new here, type `rm {path}`: the directory that this file is about is known by its path then; otherwise \
                 bring the file back from a backup"
            )
        } else {
            format!("see to it that {path} can be read: `ls -l {path}`")
        };
        Error::caused(what, format!("{path}: {}", self.why)).hint(advice)
    }
}

/// The claims for files of this name, and what could not be read of all claims.
fn claims(home: &Home, file: &str) -> (Vec<(String, Claim)>, Option<Doubt>) {
    let doubt = |path: PathBuf, why: String| Some(Doubt { path, why });
    let names = match sys::names(&all(home)) {
        Ok(names) => names,
        Err(error) => return (Vec::new(), doubt(all(home), error.to_string())),
    };
    let (mut found, mut unread) = (Vec::new(), None);
    for id in names {
        match claim_of(home, &id) {
            Ok(Some(claim)) if claim.file == file => found.push((id, claim)),
            Ok(_) => {}
            Err(error) => unread = unread.or_else(|| doubt(place(home, &id), error.chain())),
        }
    }
    (found, unread)
}

/// The name of the instance of a project file: the one that this directory has, at this path or at the one that it was moved
/// from; else the one that a directory at this path had, which was deleted and made again; else a new one.
pub fn id_of(home: &Home, folder: &Path, file: &str) -> Known {
    let born = born(folder);
    let mut number = 0;
    let (id, is_known) = loop {
        let id = candidate(folder, file, number);
        match holder(home, &id) {
            None => break (id, false),
            Some(holder) if holder == folder || holder.as_os_str().is_empty() => {
                // If it cannot be read, taking it tells.
                let known = claim_of(home, &id).ok().flatten().and_then(|claim| claim.born);
                if known.is_none() || born.is_none() || known == born {
                    return Known { id, doubt: None };
                }
                break (id, true);
            }
            Some(_) => number += 1,
        }
    };
    let (claims, unread) = claims(home, file);
    let is_same = |claim: &Claim| claim.born.is_some() && claim.born == born;
    // A snapshot of the directory may have been at a path that is gone: what is said of this path counts more.
    let same = claims.iter().find(|(_, claim)| claim.folder == folder && is_same(claim));
    let moved = || claims.iter().find(|(_, claim)| is_same(claim) && claim.has_left());
    let here = || claims.iter().find(|(_, claim)| claim.folder == folder).filter(|_| !is_known);
    match same.or_else(moved).or_else(here) {
        Some((id, _)) => Known { id: id.clone(), doubt: None },
        // An instance whose claim cannot be read is not taken over, and none is begun beside it.
        None => Known { id, doubt: unread.filter(|_| !is_known) },
    }
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
            id_of(&self.home(), folder, "stead.kdl").id
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
        assert_ne!(id_of(&place.home(), &b, "other.kdl").id, first);
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

    /// Writes a claim as the one of a snapshot of a directory, which is the same on its disk.
    fn claim_as(place: &Place, id: &str, folder: &Path, of: &Path) {
        let claim = Claim { folder: folder.to_owned(), file: "stead.kdl".into(), born: born(of) };
        fs::create_dir_all(all(&place.home()).join(id)).unwrap();
        fs::write(super::place(&place.home(), id), state_bytes(&claim).unwrap()).unwrap();
    }

    #[test]
    fn a_directory_and_its_snapshot_never_get_what_is_the_others() {
        let place = Place(tempfile::tempdir().unwrap());
        let (a, c) = (place.folder("a"), place.folder("c"));
        if born(&a).is_none() {
            return;
        }
        let first = place.up(&a);
        let b = a.with_file_name("b");
        fs::rename(&a, &b).unwrap();
        assert_eq!(place.up(&b), first);
        // The snapshot's disk is not mounted just now. By its name, its claim comes before that of the directory itself.
        claim_as(&place, "00000000", &a.with_file_name("unmounted"), &b);
        assert_eq!(place.id(&b), first);
        // It is at a path where it has an instance, while that of the original, which is of the same birth, is gone.
        let own = place.up(&c);
        claim_as(&place, "00000000", &a.with_file_name("unmounted"), &c);
        assert_eq!(place.id(&c), own);
        // What is still there was not moved; a link in its place is none.
        let d = place.folder("d");
        claim_as(&place, "00000000", &d, &d);
        std::os::unix::fs::symlink(&d, a.with_file_name("link")).unwrap();
        assert_eq!(place.id(&d), "00000000");
        claim_as(&place, "00000000", &a.with_file_name("link"), &d);
        assert_eq!(place.id(&d), "00000000", "it was moved");
    }

    #[test]
    fn while_a_claim_is_damaged_nothing_new_is_begun() {
        let place = Place(tempfile::tempdir().unwrap());
        let (a, b) = (place.folder("a"), place.folder("b"));
        let id = place.up(&a);
        let other = place.up(&b);
        let damaged = super::place(&place.home(), &id);
        fs::write(&damaged, "{}").unwrap();
        let moved = a.with_file_name("moved");
        fs::rename(&a, &moved).unwrap();
        let known = id_of(&place.home(), &moved, "stead.kdl");
        let error = known.doubt.unwrap().error(&moved);
        let told = format!("{} {}", error.chain(), error.advice().unwrap());
        assert!(told.contains(&format!("rm {}", damaged.display())) && told.contains("was moved here"), "{told}");
        let instance = crate::instance::Instance::new(&place.home(), &moved, "stead.kdl");
        assert!(instance.lock().unwrap_err().chain().contains("was moved here"));
        assert!(!instance.state().exists(), "nothing was begun");
        // Whoever has a claim that fits goes on.
        let known = id_of(&place.home(), &b, "stead.kdl");
        assert_eq!((known.id, known.doubt), (other, None));
        fs::remove_file(&damaged).unwrap();
        assert_eq!(id_of(&place.home(), &moved, "stead.kdl").doubt, None);
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

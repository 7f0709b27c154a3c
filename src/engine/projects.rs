//! The projects of an installation: what each has, what is checked out in its directory, and what is left of it when that
//! directory is gone.

use super::listing::{Row, Which, listing};
use crate::git;
use crate::instance::{Instance, all_instances};
use crate::model::{Error, Name, Result, visible_line};
use crate::store::Home;
use crate::volume;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// The most projects that an error names.
const NAMED: usize = 8;

/// A project that has something on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Resident {
    /// The short name of its instance.
    pub id: String,
    pub project: String,
    pub folder: String,
    /// The branch that is checked out in its directory, or `detached at` a commit, if there is a repository.
    pub branch: Option<String>,
    /// Whether its directory no longer exists.
    pub gone: bool,
    /// Its containers, running or not.
    pub containers: Vec<String>,
    pub volumes: BTreeSet<Name>,
    /// The containers that are listed.
    #[serde(skip)]
    pub rows: Vec<Row>,
    #[serde(skip)]
    pub instance: Instance,
}

/// All projects that have containers or volumes.
///
/// # Errors
/// Fails when a record, or the directory of containers or volumes, cannot be read.
pub fn projects(home: &Home, which: Which) -> Result<Vec<Resident>> {
    let mut found = Vec::new();
    for (instance, record) in all_instances(home)? {
        let mut rows = listing(&instance, Which::All)?;
        let containers: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        let volumes = volume::existing(home, &instance.id)?;
        if containers.is_empty() && volumes.is_empty() {
            continue;
        }
        rows.retain(|row| which.takes(row));
        let gone = is_gone(&instance);
        found.push(Resident {
            id: instance.id.clone(),
            project: record.project,
            folder: instance.folder.display().to_string(),
            branch: if gone { None } else { git::checked_out(&instance.folder) },
            gone,
            containers,
            volumes,
            rows,
            instance,
        });
    }
    Ok(found)
}

/// Whether the directory of an instance does not exist. One that cannot be looked at may exist.
fn is_gone(instance: &Instance) -> bool {
    let folder = &instance.folder;
    // What was never up has no directory on record.
    !folder.as_os_str().is_empty() && folder.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The instance with this ID, or with an ID that begins so, if there is only one.
///
/// # Errors
/// Fails when there is none or more than one, and as [`projects`] does.
pub fn find_project(home: &Home, typed: &str) -> Result<Instance> {
    let all = projects(home, Which::All)?;
    let found: Vec<&Resident> = all.iter().filter(|one| one.id.starts_with(typed)).collect();
    if let Some(one) = found.iter().find(|one| one.id == typed) {
        return Ok(one.instance.clone());
    }
    match found.as_slice() {
        [one] if !typed.is_empty() => Ok(one.instance.clone()),
        [] => {
            // One that has nothing any more is still known: to end it again is no mistake.
            let known = all_instances(home)?.into_iter().find(|(instance, _)| instance.id == typed);
            known.map(|(instance, _)| instance).ok_or_else(|| {
                let error = Error::new(format!("no project has the ID \"{typed}\"")).usage();
                if all.is_empty() {
                    error.hint("no project has containers or volumes")
                } else {
                    error.hint(format!("there are: {}", candidates(all.iter())))
                }
            })
        }
        several => {
            let error = Error::new(format!("the ID \"{typed}\" is not clear: {} projects have it", several.len())).usage();
            Err(error.hint(format!("give more of it; there are: {}", candidates(several.iter().copied()))))
        }
    }
}

/// Projects in one line, each with its ID and directory.
fn candidates<'r>(all: impl Iterator<Item = &'r Resident>) -> String {
    let mut shown: Vec<String> = all.map(|one| format!("{} ({} in {})", one.id, one.project, one.folder)).collect();
    if shown.len() > NAMED {
        let more = shown.len() - NAMED;
        shown.truncate(NAMED);
        shown.push(format!("and {more} more"));
    }
    visible_line(&shown.join(", ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// An installation with a volume for each of some projects.
    fn home(place: &std::path::Path, folders: &[&str]) -> (Home, Vec<String>) {
        let home = Home::find(Some(&place.join("root")));
        let ids = folders.iter().map(|folder| {
            let folder = place.join(folder);
            let instance = Instance::new(&home, &folder, "stead.kdl");
            let mut record = instance.record().unwrap();
            (record.project, record.folder) = ("shop".to_owned(), folder.display().to_string());
            fs::create_dir_all(instance.state()).unwrap();
            instance.save(&record).unwrap();
            fs::create_dir_all(volume::folder(&home, &instance.id).join("data")).unwrap();
            instance.id
        });
        let ids = ids.collect();
        (home, ids)
    }

    #[test]
    fn what_is_left_of_a_project_is_found_by_the_beginning_of_its_id() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("here")).unwrap();
        let names: Vec<String> = (0..40).map(|number| format!("gone-{number}")).collect();
        let folders: Vec<&str> = names.iter().map(String::as_str).chain(["here"]).collect();
        let (home, ids) = home(place.path(), &folders);
        let all = projects(&home, Which::Running).unwrap();
        assert_eq!((all.len(), all.iter().filter(|one| one.gone).count()), (41, 40));
        let first = all.iter().find(|one| one.id == ids[0]).unwrap();
        assert_eq!((first.volumes.len(), first.containers.len(), first.branch.clone()), (1, 0, None));
        assert_eq!(find_project(&home, &ids[0]).unwrap().id, ids[0]);
        assert_eq!(find_project(&home, &ids[40][..7]).unwrap().id, ids[40]);
        // Of 41 IDs, some begin with the same hexadecimal digit.
        let digit = "0123456789abcdef"
            .chars()
            .map(String::from)
            .find(|digit| ids.iter().filter(|id| id.starts_with(digit.as_str())).count() > 1);
        for typed in [digit.unwrap().as_str(), ""] {
            let error = find_project(&home, typed).unwrap_err();
            assert!(error.code() == 2 && error.message().contains("is not clear"), "{}", error.chain());
            assert!(error.advice().unwrap().contains("shop in "), "{:?}", error.advice());
        }
        let error = find_project(&home, "nothing").unwrap_err();
        assert!(error.advice().unwrap().contains("and 33 more"), "{:?}", error.advice());
    }
}

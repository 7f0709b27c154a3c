//! Consent: whatever reaches beyond the project's directory, or adds privileges, is done only after somebody agreed.
//!
//! Consent is remembered for the directory, mark by mark: another path, another capability or another command of a
//! privileged step is a different mark and is asked again; fewer marks are not. A record that cannot be read is not
//! consent.

use super::identity::{Instance, private_folder};
use super::paths::leads;
use super::project::LoadedProject;
use super::report::{Answer, Question, Reporter, UpOptions};
use crate::model::{Context, Digest, Error, Name, Result};
use crate::plan::{Mark, MarkKind, Observed, all_marks, of_container, of_image};
use crate::store::Home;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The marks that were allowed for one directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    pub folder: PathBuf,
    pub file: String,
    pub marks: Vec<AllowedMark>,
}

/// One mark that was allowed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AllowedMark {
    pub id: Digest,
    pub kind: MarkKind,
    pub holder: String,
    pub text: String,
}

/// The format on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    folder: PathBuf,
    file: String,
    marks: Vec<AllowedMark>,
}

const VERSION: u32 = 1;

fn record(state: &Path) -> PathBuf {
    state.join("consent.json")
}

/// Reads a record of what was allowed; `None` if there is none.
fn read(state: &Path) -> Result<Option<Allowed>> {
    let path = record(state);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("cannot read what was allowed, {}", path.display())),
    };
    let damaged = |why: String| {
        Error::new(format!("the record of what was allowed is damaged: {} ({why})", path.display()))
            .hint("nothing counts as allowed then; `stead allow --revoke` in the project's directory removes it")
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if kept.version != VERSION {
        return Err(damaged(format!("version {}", kept.version)));
    }
    let Kept { version: _, folder, file, marks } = kept;
    Ok(Some(Allowed { folder, file, marks }))
}

/// What was allowed for an instance's directory. The instance's short name is not enough: the directory must match.
fn remembered(instance: &Instance) -> Result<Vec<AllowedMark>> {
    let known = read(&instance.state())?;
    let same = known.filter(|known| known.folder == instance.folder && known.file == instance.file);
    // Without a record, nothing was allowed yet, and everything is asked for.
    Ok(same.map(|known| known.marks).unwrap_or_default())
}

fn remember(instance: &Instance, marks: Vec<AllowedMark>) -> Result<()> {
    let state = instance.state();
    private_folder(&state)?;
    let kept = Kept { version: VERSION, folder: instance.folder.clone(), file: instance.file.clone(), marks };
    let bytes = serde_json::to_vec(&kept).context(|| "cannot write what was allowed".into())?;
    let path = record(&state);
    sys::write_lasting(&path, &bytes, 0o600)
        .map_err(|error| crate::store::disk_error(&format!("cannot write {}", path.display()), error))
}

fn kept(mark: &Mark) -> AllowedMark {
    AllowedMark { id: mark.id(), kind: mark.kind, holder: mark.holder.clone(), text: mark.text.clone() }
}

/// The marks of a set that were not allowed yet, each once.
///
/// # Errors
/// Fails when the record cannot be read.
pub fn missing<'m>(
    instance: &Instance,
    marks: impl IntoIterator<Item = &'m Mark>,
    allow: &BTreeSet<MarkKind>,
) -> Result<Vec<Mark>> {
    let asking = marks.into_iter().filter(|mark| mark.asks() && !allow.contains(&mark.kind));
    let mut wanted: BTreeMap<Digest, &Mark> = BTreeMap::new();
    let mut order = Vec::new();
    for mark in asking {
        let id = mark.id();
        if wanted.insert(id, mark).is_none() {
            order.push(id);
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known: BTreeSet<Digest> = remembered(instance)?.into_iter().map(|mark| mark.id).collect();
    Ok(order.into_iter().filter(|id| !known.contains(id)).map(|id| wanted[&id].clone()).collect())
}

/// Asks for consent to [`missing`] marks, and remembers it.
///
/// # Errors
/// Without consent, fails with what was not allowed and what to type.
pub fn ask(instance: &Instance, marks: &[Mark], command: &str, reporter: &dyn Reporter) -> Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let mut known = remembered(instance)?;
    let question = Question { folder: &instance.folder, file: &instance.file, marks, more: !known.is_empty() };
    match reporter.consent(&question) {
        Answer::Yes => {
            known.extend(marks.iter().map(kept));
            remember(instance, known)
        }
        Answer::No => Err(Error::new("that was not allowed, so nothing was done")),
        Answer::Nobody => Err(refused(instance, marks, command)),
    }
}

/// The refusal, with everything that was asked for.
fn refused(instance: &Instance, marks: &[Mark], command: &str) -> Error {
    let lines: Vec<String> = marks
        .iter()
        .map(|mark| {
            let place = mark.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
            format!("{}: {}{place}", mark.holder, crate::model::visible_line(&mark.text))
        })
        .collect();
    let kinds: BTreeSet<MarkKind> = marks.iter().map(|mark| mark.kind).collect();
    let kinds: Vec<&str> = kinds.into_iter().map(MarkKind::word).collect();
    let line = format!("the project asks for what was not allowed here:\n  ! {}", lines.join("\n  ! "));
    let folder = instance.folder.display();
    // Nobody can type anything during a boot.
    let once = if command.starts_with("boot") {
        String::new()
    } else {
        format!(", or for this time `stead {command} --allow {}`", kinds.join(","))
    };
    Error::new(line).hint(format!("if this is intended, type `stead allow` in {folder} once{once}"))
}

/// Asks for those marks that are missing, and succeeds when all are allowed.
///
/// # Errors
/// Fails as [`missing`] and [`ask`] do.
pub fn require<'m>(
    instance: &Instance,
    marks: impl IntoIterator<Item = &'m Mark>,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<()> {
    ask(instance, &missing(instance, marks, &options.allow)?, &options.command, reporter)
}

/// As much of the machine's state as is needed to find a project's marks, and nothing more.
fn glance(loaded: &LoadedProject) -> Observed {
    Observed { leads: leads(&loaded.instance, &loaded.project), ..Observed::default() }
}

/// Makes sure that there is consent to the containers of the project file, before anything is ended for them.
///
/// # Errors
/// Fails as [`require`] does.
pub fn agree(loaded: &LoadedProject, only: &BTreeSet<Name>, options: &UpOptions, reporter: &dyn Reporter) -> Result<()> {
    let LoadedProject { instance, project, places, .. } = loaded;
    let observed = glance(loaded);
    let meant = project.containers.iter().filter(|(name, _)| only.is_empty() || only.contains(*name));
    let marks: Vec<Mark> =
        meant.flat_map(|(name, container)| of_container(project, places, &observed, name, container, &[])).collect();
    require(instance, &marks, options, reporter)
}

/// As [`agree`], for images and those that they need, built or not.
///
/// # Errors
/// Fails as [`require`] does.
pub fn agree_images(loaded: &LoadedProject, names: &BTreeSet<Name>, options: &UpOptions, reporter: &dyn Reporter) -> Result<()> {
    let observed = glance(loaded);
    let marks: Vec<Mark> =
        with_needs(loaded, names).iter().flat_map(|name| of_image(&loaded.project, &loaded.places, &observed, name)).collect();
    require(&loaded.instance, &marks, options, reporter)
}

/// Images, and all those that they need.
pub fn with_needs(loaded: &LoadedProject, names: &BTreeSet<Name>) -> BTreeSet<Name> {
    let mut all = BTreeSet::new();
    let mut queue: Vec<Name> = names.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        if all.insert(name.clone()) {
            queue.extend(loaded.project.images.get(&name).into_iter().flat_map(|image| image.needs().cloned()));
        }
    }
    all
}

/// Allows everything that the project file asks for now, and nothing else. Returns these marks.
///
/// # Errors
/// Fails when the record cannot be written.
pub fn allow(loaded: &LoadedProject) -> Result<Vec<Mark>> {
    let mut marks = all_marks(&loaded.project, &loaded.places, &glance(loaded));
    let mut seen = BTreeSet::new();
    marks.retain(|mark| mark.asks() && seen.insert(mark.id()));
    remember(&loaded.instance, marks.iter().map(kept).collect())?;
    Ok(marks)
}

/// Forgets what was allowed for a directory. Returns whether there was anything.
///
/// # Errors
/// Fails when the record cannot be removed.
pub fn revoke(instance: &Instance) -> Result<bool> {
    let path = record(&instance.state());
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(|| format!("cannot remove {}", path.display())),
    }
}

/// What was allowed in this installation, directory by directory; a damaged record is an error in the list.
///
/// # Errors
/// Fails when the instances cannot be listed.
pub fn allowed(home: &Home) -> Result<Vec<Result<Allowed>>> {
    let all = home.state.join("instances");
    let states = sys::names(&all).context(|| "cannot list the projects".into())?;
    Ok(states.iter().filter_map(|state| read(&all.join(state)).transpose()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Progress;
    use crate::plan::Grade;
    use std::sync::Mutex;

    struct Person {
        answer: Answer,
        asked: Mutex<Vec<String>>,
    }

    impl Reporter for Person {
        fn report(&self, _: Progress) {}

        fn consent(&self, question: &Question) -> Answer {
            self.asked.lock().unwrap().extend(question.marks.iter().map(|mark| mark.text.clone()));
            self.answer
        }
    }

    fn mark(text: &str) -> Mark {
        let (grade, kind) = (Grade::Asks, MarkKind::Files);
        Mark { grade, kind, holder: "container web".into(), text: text.into(), exact: String::new(), place: None }
    }

    fn instance(place: &Path) -> Instance {
        fs::create_dir_all(place.join("project")).unwrap();
        Instance::new(&Home::find(Some(&place.join("root"))), &place.join("project"), "stead.kdl")
    }

    #[test]
    fn consent_is_remembered_and_only_what_is_new_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let instance = instance(place.path());
        let person = |answer| Person { answer, asked: Mutex::default() };
        let options = UpOptions { command: "up".into(), ..UpOptions::default() };
        let two = [mark("reads /a of the host"), mark("reads /b of the host"), mark("reads /a of the host")];
        let error = require(&instance, &two, &options, &person(Answer::Nobody)).unwrap_err();
        assert!(error.advice().unwrap().contains("`stead up --allow files`"), "{error}");
        assert!(require(&instance, &two, &options, &person(Answer::No)).is_err());
        let yes = person(Answer::Yes);
        require(&instance, &two, &options, &yes).unwrap();
        assert_eq!(yes.asked.lock().unwrap().len(), 2);
        let nobody = person(Answer::Nobody);
        require(&instance, &two, &options, &nobody).unwrap();
        require(&instance, &two[..1], &options, &nobody).unwrap();
        let more = [mark("reads /a of the host"), mark("reads /c of the host")];
        assert!(require(&instance, &more, &options, &nobody).is_err());
        assert_eq!(*nobody.asked.lock().unwrap(), ["reads /c of the host"]);
        let once = UpOptions { allow: [MarkKind::Files].into(), ..UpOptions::default() };
        require(&instance, &more, &once, &nobody).unwrap();
        assert!(require(&instance, &more, &options, &nobody).is_err(), "--allow is for one time");
        assert!(revoke(&instance).unwrap() && !revoke(&instance).unwrap());
        assert!(require(&instance, &two, &options, &nobody).is_err());
    }

    #[test]
    fn a_damaged_record_and_one_of_another_folder_are_no_consent() {
        let place = tempfile::tempdir().unwrap();
        let instance = instance(place.path());
        let (marks, none) = ([mark("reads / of the host")], BTreeSet::new());
        remember(&instance, marks.iter().map(kept).collect()).unwrap();
        assert!(missing(&instance, &marks, &none).unwrap().is_empty());
        let path = record(&instance.state());
        let text = fs::read_to_string(&path).unwrap();
        for damaged in ["", "{", "{}", &text.replace("\"version\":1", "\"version\":2"), &text[..text.len() - 2]] {
            fs::write(&path, damaged).unwrap();
            assert!(missing(&instance, &marks, &none).is_err(), "{damaged}");
        }
        fs::write(&path, text.replace("/project\"", "/other\"")).unwrap();
        assert_eq!(missing(&instance, &marks, &none).unwrap().len(), 1);
    }
}

//! The environment of another commit: its files are checked out where nobody else sees them, and count instead of those in the
//! project's directory, whose instance stays the same.

use super::verify::Scratch;
use crate::git::Repository;
use crate::instance::{Checkout, LoadedProject, Options, leads};
use crate::model::{Context, Error, Result};
use crate::plan::{Lead, Observed};
use crate::project::{MountSource, NodePath};
use crate::store::{Staging, Store};
use std::path::PathBuf;

/// Where the files are meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// In the store, whose collection removes what a killed process leaves.
    InStore,
    /// In the directory for temporary files: nothing is written anywhere else.
    Apart,
}

/// The files of a commit. They are removed when this is dropped.
#[expect(dead_code, reason = "they are held as long as this lives")]
pub enum CheckedOut {
    InStore(Staging),
    Apart(Scratch),
}

/// Checks out the project's directory as it is in a commit.
///
/// # Errors
/// Fails when the directory is in no repository, when the revision means no commit, when the commit has no such project file, and
/// when something of it is not in the repository.
pub fn at_revision(options: &Options, revision: &str, held: Held) -> Result<(Options, CheckedOut)> {
    let folder = std::fs::canonicalize(&options.folder).context(|| format!("cannot open {}", options.folder.display()))?;
    let none = || {
        Error::new(format!("{} is in no git repository, so it has no revision \"{revision}\"", folder.display()))
            .usage()
            .hint("`stead history` lists the generations; `stead up --at NUMBER` goes to one")
    };
    let mut repository = Repository::of(&folder)?.ok_or_else(none)?;
    let commit = repository.commit(revision)?;
    let (into, checked_out): (PathBuf, CheckedOut) = match held {
        Held::InStore => {
            let store = Store::at(&options.home.store);
            store.prepare()?;
            let staging = store.staging()?;
            (staging.join("commit"), CheckedOut::InStore(staging))
        }
        Held::Apart => {
            let scratch = Scratch::new(&std::env::temp_dir())?;
            (scratch.path().join("commit"), CheckedOut::Apart(scratch))
        }
    };
    std::fs::create_dir(&into).context(|| format!("cannot make {}", into.display()))?;
    repository.check_out(&commit, &folder, &into)?;
    let short = &commit[..12];
    if into.join(&options.file).symlink_metadata().is_err() {
        let inside = folder.strip_prefix(repository.top()).unwrap_or(&folder).join(&options.file);
        let error = Error::new(format!("commit {short} has no {}", inside.display()));
        return Err(error.hint(format!("`git log --oneline -- {}` lists the commits that changed it", inside.display())));
    }
    Ok((Options { checkout: Some(Checkout { folder: into, commit }), ..options.clone() }, checked_out))
}

/// Refuses what another commit cannot say: a bind of the project's own files would show those of the directory.
///
/// # Errors
/// Names each bind that leads into the project's directory.
pub fn only_of_commit(loaded: &LoadedProject) -> Result<()> {
    let Some(checkout) = &loaded.instance.checkout else { return Ok(()) };
    let observed = Observed { leads: leads(&loaded.instance, &loaded.project), ..Observed::default() };
    let mut errors = Vec::new();
    for (name, container) in &loaded.project.containers {
        for mount in &container.mounts {
            let MountSource::Bind(path) = &mount.source else { continue };
            let Lead { path: leads_to, .. } = observed.lead(path);
            if !leads_to.starts_with(&loaded.instance.folder) {
                continue;
            }
            let error = Error::new(format!(
                "container {name} binds \"{path}\" of the project at {}, where it would show the directory's files, not those of \
                 commit {}",
                mount.to,
                &checkout.commit[..12]
            ));
            let place = loaded.places.of(&NodePath::container(name).named("mount", &mount.to));
            errors.push(error.hint("check the commit out with `git worktree add`, and run `stead up` there").at(place));
        }
    }
    Error::all(errors)
}

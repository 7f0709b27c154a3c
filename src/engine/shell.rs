//! A shell for working on a project: a container for one command, with the project's directory at its own path.
//!
//! It runs as the caller, so that files keep their owner, and its home directory is kept for the project.

use super::accounts::Person;
use super::caller::Caller;
use super::one_off::{OneOff, Wish, one_off};
use crate::instance::{Instance, LoadedProject, Reporter, UpOptions, private_folder};
use crate::model::{Context, Error, Name, Result};
use crate::project::{Base, Mount, MountSource, Outside, Project, Propagation};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// Where the home directory is in the container; the second place is for projects whose directory contains the first.
const HOMES: [&str; 2] = ["/run/stead-home", "/tmp/stead-home"];

/// Prepares a shell, or a command in its place, in a container like the one of this name, or in one of an image.
///
/// # Errors
/// Fails as [`one_off`] does, and when the project's directory cannot be mounted at its own path.
pub fn shell(
    loaded: &LoadedProject,
    name: &str,
    command: &[OsString],
    tty: bool,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<OneOff> {
    let instance = &loaded.instance;
    // A task is a command, and here is another one: what is left of it is its container.
    let name = loaded.project.tasks.get(name).map_or(name, |task| task.container.as_str());
    let caller = Caller::of(&instance.folder);
    let project = text(&instance.folder)?;
    let home = HOMES.into_iter().find(|home| !Path::new(home).starts_with(&instance.folder));
    let home = home.ok_or_else(|| {
        let error = Error::new(format!("the project's directory is {project}, which would hide the container's own files"));
        error.hint("move the project into a directory of its own")
    })?;
    if caller.uid == 0 {
        apart(instance)?;
    }
    let kept = text(&private_home(instance, &caller)?)?.to_owned();
    let here = std::env::current_dir().ok().filter(|here| here.starts_with(&instance.folder));
    let here = here.as_deref().and_then(Path::to_str).unwrap_or(project);
    let mut env = caller.variables(&instance.folder);
    env.push(("HOME".to_owned(), home.to_owned()));
    env.push(("HISTFILE".to_owned(), format!("{home}/.history")));
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let wish = Wish {
        command: command.to_vec(),
        // The entrypoint is there for the container's own command.
        entrypoint: Some(String::new()),
        env,
        user: Some(format!("{}:{}", caller.uid, caller.gid)),
        person: Some(Person::of(&caller)),
        workdir: Some(here.into()),
        tty,
        shells: if command.is_empty() { shells(&caller) } else { Vec::new() },
        groups: Some(Vec::new()),
        mounts: vec![bind(project.to_owned(), project), bind(kept, home)],
        init: true,
    };
    one_off(loaded, name, wish, options, reporter)
}

/// The container that a shell is for if no name is given, or else the image: the only one.
///
/// # Errors
/// Fails when there is none, and when there are several, with their names.
pub fn only_one(project: &Project) -> Result<&Name> {
    let containers: Vec<&Name> = project.containers.keys().collect();
    // Those of a Dockerfile's stages and those from elsewhere have names that nobody gave them.
    let own = |base: &Base| !matches!(base, Base::Outside(Outside::Reference(_)));
    let images = project.images.iter().filter(|(name, image)| Name::parse(name.as_str()).is_ok() && own(&image.from));
    let images: Vec<&Name> = images.map(|(name, _)| name).collect();
    let (what, all) = if containers.is_empty() { ("images", images) } else { ("containers", containers) };
    match all.as_slice() {
        [only] => Ok(only),
        [] => Err(Error::new("the project has neither a container nor an image").hint("write an `image` into the project file")),
        [first, ..] => {
            let names = all.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let error = Error::new(format!("the project has several {what}: {names}"));
            Err(error.hint(format!("name one of them, for example: stead shell {first}")).usage())
        }
    }
}

/// The shells that are looked for, the caller's own first.
fn shells(caller: &Caller) -> Vec<String> {
    let mut all: Vec<String> = caller.shell.iter().cloned().chain(["bash", "sh"].map(str::to_owned)).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|shell| seen.insert(shell.clone()));
    all
}

fn bind(source: String, to: &str) -> Mount {
    Mount {
        source: MountSource::Bind(source),
        to: to.to_owned(),
        read_only: false,
        subpath: None,
        create: false,
        propagation: Propagation::Private,
    }
}

/// A path as text, as mounts need it.
fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let error =
            Error::new(format!("the path {} is not text in UTF-8, so it cannot be the same in a container", path.display()));
        error.hint("give its directories names in UTF-8")
    })
}

/// Refuses a project's directory in which this installation is: in a shell as root, its records could be changed, and with
/// them what was allowed.
fn apart(instance: &Instance) -> Result<()> {
    let home = &instance.home;
    let real = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    match [&home.state, &home.store, &home.run].into_iter().map(real).find(|part| part.starts_with(&instance.folder)) {
        Some(part) => {
            let error = Error::new(format!("stead's own files are in the project's directory: {}", part.display()));
            Err(error.hint("a shell as root could change them: move them out (STEAD_ROOT), or give the directory another owner"))
        }
        None => Ok(()),
    }
}

/// The home directory that is kept for this project and this user. Nobody else can enter the directory above it.
fn private_home(instance: &Instance, caller: &Caller) -> Result<PathBuf> {
    let homes = instance.state().join("home");
    private_folder(&homes)?;
    let home = homes.join(caller.uid.to_string());
    private_folder(&home)?;
    chown(&home, Some(caller.uid), Some(caller.gid)).context(|| format!("cannot give {} to its user", home.display()))?;
    fs::canonicalize(&home).context(|| format!("cannot find {}", home.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::project_of;

    #[test]
    fn the_only_container_or_image_needs_no_name() {
        let only = |text: &str| {
            let project = project_of(text);
            only_one(&project).map(ToString::to_string).map_err(|error| error.to_string())
        };
        assert_eq!(only("project \"p\"\nimage \"i\" { }\nimage \"j\" { }\ncontainer \"c\" { image \"i\"; }"), Ok("c".into()));
        assert_eq!(only("project \"p\"\nimage \"i\" { from \"redis:7\"; }"), Ok("i".into()));
        assert!(only("project \"p\"\nimage \"i\" { }\nimage \"j\" { }").is_err_and(|error| error.ends_with("images: i, j")));
        let two = "project \"p\"\nimage \"i\" { }\ncontainer \"c\" { image \"i\"; }\ncontainer \"d\" { image \"i\"; }";
        assert!(only(two).is_err_and(|error| error.ends_with("containers: c, d")));
        assert!(only("project \"p\"").is_err());
    }
}

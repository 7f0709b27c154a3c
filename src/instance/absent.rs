//! Files that a project names and that are not there: no fault of the project file, but `up` will need them.

use crate::model::{Location, nearest};
use crate::project::{ConfigSource, Locations, MountSource, NodePath, Project};
use crate::spec::Diagnostic;
use crate::sys;
use std::fs;
use std::path::Path;

/// A warning for each file or directory that is named and in none of these directories.
pub fn absent(project: &Project, places: &Locations, folders: &[&Path]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut look = |code: &'static str, path: &str, what: &str, at: NodePath, help: &str| {
        let place = places.of(&at).cloned().unwrap_or(Location { file: String::new(), line: 1, offset: 0, length: 0 });
        let is_absent = |folder: &&Path| {
            folder.join(path).symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let is_absent = folders.iter().all(is_absent);
        if is_absent {
            let near = folders.iter().find_map(|folder| similar(folder, path));
            let help = near.map_or_else(|| help.to_owned(), |near| format!("perhaps \"{near}\"; else {help}"));
            found.push(Diagnostic::warning(code, place, format!("{what} \"{path}\" is not there")).help(help));
        }
    };
    for (name, path) in &project.secrets {
        look(
            "absent-file",
            path,
            "the secret's file",
            NodePath::declared("secret", name),
            "make it before `up`; it need not be in git",
        );
    }
    for (name, config) in &project.configs {
        if let ConfigSource::File(path) = config {
            look(
                "absent-file",
                path,
                "the config's file",
                NodePath::declared("config", name),
                "make it, or write the text here: content \"…\"",
            );
        }
    }
    for (name, container) in &project.containers {
        let path = NodePath::container(name);
        for file in container.env_files.iter().filter(|file| file.required) {
            let at = path.clone().named("env-file", &file.path);
            look("absent-file", &file.path, "the env-file", at, "make the file, or write required=#false");
        }
        for input in container.job.iter().flat_map(|job| &job.inputs).filter(|input| !input.contains(['*', '?', '['])) {
            look("absent-file", input, "the job's input", path.clone().node("inputs"), "make it, or leave it out");
        }
        for rule in container.watch.iter().filter(|_| container.job.is_none()).flat_map(|watch| &watch.rules) {
            let at = path.clone().node("watch").named(rule.word(), &rule.path);
            look("absent-watch", &rule.path, "the watched path", at, "make it: it is watched from then on");
        }
        for mount in &container.mounts {
            if let (MountSource::Bind(from), false) = (&mount.source, mount.create) {
                let at = path.clone().named("mount", &mount.to);
                look("absent-file", from, "the bound path", at, "make it, or write create=#true for a directory");
            }
        }
    }
    found
}

/// What is there under a similar name, in the same directory.
fn similar(folder: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    let (above, name) = (path.parent()?, path.file_name()?.to_str()?);
    let (real, top) = (fs::canonicalize(folder.join(above)).ok()?, fs::canonicalize(folder).ok()?);
    // No name of a directory outside is printed. One that cannot be listed has nothing to suggest.
    let there = if real.starts_with(top) { sys::names(&real).ok()? } else { Vec::new() };
    let near = nearest(name, there.iter().map(String::as_str))?;
    Some(above.join(near).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_name_is_suggested_and_none_of_a_directory_outside() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("project");
        fs::create_dir_all(folder.join("app")).unwrap();
        fs::create_dir_all(place.path().join("other")).unwrap();
        for path in ["project/app/views.py", "other/id_key"] {
            fs::write(place.path().join(path), "").unwrap();
        }
        std::os::unix::fs::symlink("../other", folder.join("out")).unwrap();
        assert_eq!(similar(&folder, "app/view.py").as_deref(), Some("app/views.py"));
        assert_eq!(similar(&folder, "ap").as_deref(), Some("app"));
        assert_eq!(similar(&folder, "nothing/like/it"), None);
        for outside in ["out/id_kay", "../other/id_kay", "/etc/passwt"] {
            assert_eq!(similar(&folder, outside), None, "{outside}");
        }
    }
}

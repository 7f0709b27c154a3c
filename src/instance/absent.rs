//! Files that a project names and that are not there: no fault of the project file, but `up` will need them.

use crate::model::Location;
use crate::project::{ConfigSource, Locations, MountSource, NodePath, Project};
use crate::spec::Diagnostic;
use std::path::Path;

/// A warning for each file or directory that is named and not there.
pub fn absent(project: &Project, places: &Locations, folder: &Path) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut look = |path: &str, what: &str, at: NodePath, help: &str| {
        let place = places.of(&at).cloned().unwrap_or(Location { file: String::new(), line: 1, offset: 0, length: 0 });
        let is_absent = folder.join(path).symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if is_absent {
            found
                .push(Diagnostic::warning("absent-file", place, format!("{what} \"{path}\" is not there")).help(help.to_owned()));
        }
    };
    for (name, path) in &project.secrets {
        look(path, "the secret's file", NodePath::declared("secret", name), "make it before `up`; it need not be in git");
    }
    for (name, config) in &project.configs {
        if let ConfigSource::File(path) = config {
            look(path, "the config's file", NodePath::declared("config", name), "make it, or write the text here: content \"…\"");
        }
    }
    for (name, container) in &project.containers {
        let path = NodePath::container(name);
        for file in container.env_files.iter().filter(|file| file.required) {
            let at = path.clone().named("env-file", &file.path);
            look(&file.path, "the env-file", at, "make the file, or write required=#false");
        }
        for input in container.job.iter().flat_map(|job| &job.inputs).filter(|input| !input.contains(['*', '?', '['])) {
            look(input, "the job's input", path.clone().node("inputs"), "make it, or leave it out");
        }
        for mount in &container.mounts {
            if let (MountSource::Bind(from), false) = (&mount.source, mount.create) {
                let at = path.clone().named("mount", &mount.to);
                look(from, "the bound path", at, "make it, or write create=#true for a directory");
            }
        }
    }
    found
}

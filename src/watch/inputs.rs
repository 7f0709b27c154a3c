//! The files whose change means another project, or another content for some of its containers.

use super::read::LOCK;
use crate::instance::{LoadedProject, Options};
use crate::model::Name;
use crate::project::tidy;
use crate::project::{ConfigSource, Container, Project, RunSource, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Files whose change means another project, or another content for some of its containers.
pub fn inputs(loaded: &LoadedProject, options: &Options) -> BTreeMap<PathBuf, BTreeSet<Name>> {
    let project = &loaded.project;
    let inside = |path: &str| {
        let path = tidy(Path::new(path));
        path.strip_prefix(&loaded.instance.folder).map_or(path.clone(), Path::to_owned)
    };
    let mut all: BTreeMap<PathBuf, BTreeSet<Name>> = BTreeMap::new();
    let users = |uses: &dyn Fn(&Container) -> bool| -> BTreeSet<Name> {
        project.containers.iter().filter(|(_, container)| uses(container)).map(|(name, _)| name.clone()).collect()
    };
    let mut some = |path: &str, names: BTreeSet<Name>| {
        if !names.is_empty() {
            all.entry(inside(path)).or_default().extend(names);
        }
    };
    for (name, path) in &project.secrets {
        some(path, users(&|container| container.secrets.iter().any(|used| used.name == *name)));
    }
    for (name, source) in &project.configs {
        if let ConfigSource::File(path) = source {
            some(path, users(&|container| container.configs.iter().any(|used| used.name == *name)));
        }
    }
    for (name, container) in &project.containers {
        for file in &container.env_files {
            some(&file.path, [name.clone()].into());
        }
        if let Some(profile) = container.security.seccomp.as_ref().filter(|profile| *profile != "unconfined") {
            some(profile, [name.clone()].into());
        }
    }
    // These may change anything.
    let mut files: BTreeSet<&str> = [options.file.as_str(), LOCK, ".steadignore", ".dockerignore"].into();
    // A parameter with a variable looks for it there.
    files.extend((!loaded.project.variables.is_empty()).then_some(".env"));
    files.extend(loaded.files.keys().map(String::as_str));
    files.extend(loaded.places.all().map(|place| place.file.as_str()).filter(|file| !file.is_empty()));
    let ignores = ignore_files(project);
    files.extend(ignores.iter().map(String::as_str));
    for file in files {
        all.insert(inside(file), BTreeSet::new());
    }
    all.retain(|path, _| path.is_relative() && !path.as_os_str().is_empty());
    all
}

/// The ignore files of the directories that images are built from.
fn ignore_files(project: &Project) -> BTreeSet<String> {
    let steps = project.images.values().flat_map(|image| &image.steps);
    let contexts = steps.flat_map(|step| match step {
        Step::Copy(copy) => copy.context.iter().collect(),
        Step::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| if let RunSource::Context { context, .. } = &mount.source { Some(context) } else { None })
            .collect(),
        _ => Vec::new(),
    });
    contexts.flat_map(|context| [context.ignore.clone(), format!("{}/.dockerignore", context.folder)]).collect()
}

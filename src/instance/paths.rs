//! Where the paths in a project really lead on this machine: trust is decided by that, and that is what is used.

use super::identity::Instance;
use crate::plan::Lead;
use crate::project::{ConfigSource, MountSource, Project, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links that are followed, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Where all host paths in a project lead, by how they are written.
///
/// A path that contains a part of this installation, or lies within one, counts as outside the project wherever it is:
/// a container that can write there could change what was allowed.
pub fn leads(instance: &Instance, project: &Project) -> BTreeMap<String, Lead> {
    let Instance { home, folder, .. } = instance;
    let paths = named(project);
    let own = if paths.is_empty() { Vec::new() } else { vec![real(&home.state), real(&home.store), real(&home.run)] };
    let taken = |path: &Path| own.iter().any(|own| own.starts_with(path) || path.starts_with(own) && !folder.starts_with(own));
    let lead = |path: &str| {
        let found = lead(folder, path);
        Lead { outside: found.outside || taken(&found.path), ..found }
    };
    paths.into_iter().map(|path| (path.to_owned(), lead(path))).collect()
}

fn real(path: &Path) -> PathBuf {
    walk(Path::new("/"), path, &|link| fs::read_link(link).ok())
}

/// The host paths in a project; what images copy is confined elsewhere.
fn named(project: &Project) -> BTreeSet<&str> {
    let mut all: BTreeSet<&str> = project.secrets.values().map(String::as_str).collect();
    all.extend(project.configs.values().filter_map(|config| match config {
        ConfigSource::File(path) => Some(path.as_str()),
        ConfigSource::Content(_) => None,
    }));
    for image in project.images.values() {
        all.extend(image.signed_by.as_deref());
        for step in &image.steps {
            if let Step::Debian(debian) = step {
                all.extend(debian.key.as_deref());
                all.extend(debian.repositories.iter().map(|repository| repository.key.as_str()));
            }
        }
    }
    for container in project.containers.values() {
        all.extend(container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind(path) => Some(path.as_str()),
            MountSource::Volume(_) | MountSource::Image(_) => None,
        }));
        all.extend(container.env_files.iter().map(|file| file.path.as_str()));
        all.extend(container.security.seccomp.as_deref().filter(|file| *file != "unconfined"));
        all.extend(container.devices.iter().map(|(device, _)| device.as_str()));
        all.extend(container.log.driver.iter().filter_map(|driver| driver.path()));
    }
    all
}

/// Where one path leads, from a directory whose own path has no symbolic links.
fn lead(folder: &Path, path: &str) -> Lead {
    let real = walk(folder, Path::new(path), &|link| fs::read_link(link).ok());
    let written = walk(folder, Path::new(path), &|_| None);
    Lead { outside: !real.starts_with(folder), plain: real == written, path: real }
}

/// Follows a path part by part as the kernel does. Parts that do not exist stay as they are, and so does the rest
/// after too many symbolic links: nobody can open such a path.
///
/// Links in `/proc` that lead to something without a path are followed by their text: the result is always a
/// path, and that path is what is opened later.
fn walk(folder: &Path, path: &Path, link: &dyn Fn(&Path) -> Option<PathBuf>) -> PathBuf {
    let mut here = folder.to_owned();
    let mut rest: VecDeque<OsString> = parts(path, &mut here);
    let mut followed = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        match link(&next).filter(|_| followed < LINKS) {
            Some(target) => {
                followed += 1;
                let mut front = parts(&target, &mut here);
                front.append(&mut rest);
                rest = front;
            }
            None => here = next,
        }
    }
    here
}

/// The parts of a path; an absolute path starts over at the root.
fn parts(path: &Path, here: &mut PathBuf) -> VecDeque<OsString> {
    if path.is_absolute() {
        *here = PathBuf::from("/");
    }
    let told = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    told.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::project_of;
    use crate::store::Home;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_judged_by_where_they_lead() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        let folder = top.join("project");
        fs::create_dir_all(folder.join("in")).unwrap();
        fs::create_dir_all(top.join("out")).unwrap();
        for (to, name) in [
            ("/", "root"),
            ("in", "inner"),
            ("../out", "up"),
            ("root/absent", "twice"),
            ("round", "round"),
            ("/nosuch/x", "none"),
        ] {
            symlink(to, folder.join(name)).unwrap();
        }
        let says = |path: &str| {
            let lead = lead(&folder, path);
            (lead.path, lead.outside, lead.plain)
        };
        assert_eq!(says("in/./absent"), (folder.join("in/absent"), false, true));
        assert_eq!(says("inner/x"), (folder.join("in/x"), false, false));
        assert_eq!(says("root"), ("/".into(), true, false));
        assert_eq!(says("twice/deeper"), ("/absent/deeper".into(), true, false));
        assert_eq!(says("up/x"), (top.join("out/x"), true, false));
        assert_eq!(says("../out"), (top.join("out"), true, true));
        assert_eq!(says("in/../../out"), (top.join("out"), true, true));
        assert_eq!(says("none"), ("/nosuch/x".into(), true, false));
        assert_eq!(says("/etc/../etc"), ("/etc".into(), true, true));
        // Nobody can open a cycle of links, so its path stays as it is.
        assert!(!says("round").1);
    }

    #[test]
    fn the_installation_is_not_the_projects_own() {
        let place = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(place.path()).unwrap();
        let home = Home::find(Some(&folder.join("root")));
        let instance = Instance::new(&home, &folder, "stead.kdl");
        let text = "project \"p\"\nimage \"i\" { }\ncontainer \"c\" { image \"i\"; mount bind=\".\" to=\"/a\"; \
                    mount bind=\"app\" to=\"/b\"; mount bind=\"root/state/instances\" to=\"/c\"; }";
        let project = project_of(text);
        let found = leads(&instance, &project);
        assert_eq!([".", "app", "root/state/instances"].map(|path| found[path].outside), [true, false, true]);
        // The directory of a bundle lies within the installation, but belongs to its project.
        let unpacked = Instance { folder: home.state.join("bundles/x"), ..instance };
        let found = leads(&unpacked, &project);
        assert_eq!([".", "app"].map(|path| found[path].outside), [false, false]);
    }
}

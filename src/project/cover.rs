//! What covers a path of a container: whether files can be synced there.

use super::container::{Container, Mount, MountSource};
use crate::model::Name;
use std::path::{Component, Path, PathBuf};

/// What a mount does to a path of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cover {
    /// The container sees its own root there.
    None,
    /// A volume that can be written, mounted at this path.
    Volume(PathBuf),
    /// Nothing can or may be written there.
    Hidden(&'static str),
}

/// What covers a path: the deepest mount at or above it.
pub fn cover(container: &Container, path: &Path) -> Cover {
    let path = tidy(path);
    let kind = |mount: &Mount| match &mount.source {
        MountSource::Volume(_) if mount.read_only => Cover::Hidden("a volume that is mounted read-only"),
        MountSource::Volume(_) => Cover::Volume(tidy(Path::new(&mount.to))),
        MountSource::Bind(_) => Cover::Hidden("a bind mount"),
        MountSource::Image(_) => Cover::Hidden("a mounted image"),
    };
    let mounts = container.mounts.iter().map(|mount| (mount.to.as_str(), kind(mount)));
    let memory = container.tmpfs.iter().map(|tmpfs| (tmpfs.path.as_str(), Cover::Hidden("a file system in memory")));
    let files =
        container.secrets.iter().chain(&container.configs).map(|used| (used.to.as_str(), Cover::Hidden("a secret or config")));
    let all = mounts.chain(memory).chain(files).map(|(to, kind)| (tidy(Path::new(to)), kind));
    let covering = all.filter(|(to, _)| path.starts_with(to)).max_by_key(|(to, _)| to.components().count());
    covering.map_or(Cover::None, |(_, kind)| kind)
}

/// A path without `.` and a `/` at its end.
pub fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Why nothing can be synced to a path of a container, with what to write instead, as far as the project tells.
pub fn no_sync(name: &Name, container: &Container, to: &Path) -> Option<(String, &'static str)> {
    let (why, help) = match cover(container, to) {
        Cover::Hidden(what) => (
            format!("{} in container {name} is {what}", to.display()),
            "name a path of the container's own root, or in a volume that can be written",
        ),
        Cover::None if container.security.read_only => (
            format!("the root of container {name} is read-only, and so is {}", to.display()),
            "mount a volume there, or write `rebuild` instead",
        ),
        Cover::None | Cover::Volume(_) => return None,
    };
    Some((format!("nothing can be synced: {why}"), help))
}

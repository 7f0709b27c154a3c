//! What images declare as data: where a container needs a volume for that, and how the volume of each replica is called.

use super::image::Image;
use crate::model::{Digest, Error, Name};
use crate::project::{Base, Container, Locations, NodePath, Project};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The longest name.
const NAME: usize = 40;

/// The paths that a container's image declares as data and where nothing is mounted.
pub fn uncovered(project: &Project, images: &BTreeMap<Name, Image>, container: &Container) -> BTreeSet<String> {
    declared(project, images, &container.image).into_iter().filter(|path| !container.covers(Path::new(path))).collect()
}

/// The paths that an image declares as data; while it is not built, as far as the project and built images say it.
fn declared(project: &Project, images: &BTreeMap<Name, Image>, name: &Name) -> BTreeSet<String> {
    let (mut found, mut at) = (BTreeSet::new(), name);
    for _ in 0..=project.images.len() {
        if let Some(image) = images.get(at) {
            found.extend(image.config.volumes.iter().cloned());
            break;
        }
        let Some(image) = project.images.get(at) else { break };
        found.extend(image.volumes.iter().cloned());
        let Base::Image(base) = &image.from else { break };
        at = base;
    }
    found.iter().filter_map(|path| data_path(path)).collect()
}

/// A path of an image as one where something can be mounted; `None` if that is impossible, whatever the image says.
fn data_path(path: &str) -> Option<String> {
    let mut tidy = PathBuf::from("/");
    for part in Path::new(path.strip_prefix('/')?).components() {
        match part {
            Component::Normal(part) => tidy.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let is_kernels = ["/proc", "/sys", "/dev", "/etc"].iter().any(|top| tidy == Path::new(top));
    let is_inside = ["/proc", "/sys"].iter().any(|top| tidy.starts_with(top));
    if tidy == Path::new("/") || is_kernels || is_inside {
        return None;
    }
    tidy.into_os_string().into_string().ok()
}

/// The name of the volume for what a replica's image declares at a path. It tells both, as far as a name has room and letters for
/// it. The digest at its end makes it unique: `/a/b` and `/a-b` must not have one name, nor `/2/x` of `web` and `/x` of `web-2`.
pub fn volume_of(replica: &str, path: &str) -> Name {
    let plain = path.trim_start_matches('/').replace('/', "-");
    let digest = Digest::of(format!("{replica}:{path}")).short(8);
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let whole = format!("{replica}-{plain}");
    let short: String = whole.to_lowercase().chars().map(legal).take(NAME - digest.len() - 1).collect();
    // It has only letters that a name may have, begins as the container's name does, and is short enough.
    Name::of_reference(&format!("{}-{digest}", short.trim_end_matches('-')))
}

/// The error for a volume of the project that has the name of one for what an image declares as data.
pub fn taken(volume: &Name, replica: &str, path: &str, places: &Locations) -> Error {
    let why = format!("the volume \"{volume}\" is the one for {path} of {replica}, which its image declares as data");
    let advice = format!("choose another name; or mount it there: mount volume=\"{volume}\" to=\"{path}\"");
    Error::new(why).hint(advice).at(places.of(&NodePath::volume(volume)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_they_are_for_and_are_unique() {
        assert!(volume_of("web-1", "/data").as_str().starts_with("web-1-data-"));
        assert_ne!(volume_of("a-1", "/2/x"), volume_of("a-1-2", "/x"));
        assert_ne!(volume_of("a-1", "/x/y"), volume_of("a-1", "/x-y"));
        let long = "/Var/Lib/Something_very/long/indeed/and/longer";
        for path in ["/data", "/Ä", long] {
            let name = volume_of("web-1", path);
            assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
            assert_ne!(volume_of("web-2", path), name);
        }
    }
}

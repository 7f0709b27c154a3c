//! Files of an image that a container does not see, because something is mounted over them.
//!
//! A change of such a file still gives another image, and so another container, as with `docker compose up --build`: a container
//! is what its image and its nodes say, and other uses of the image see the file. `watch` leaves such files alone, and a
//! plan names the mount, so that whoever wonders about the replacement finds an ignore file as the way out.

use super::desired::Desired;
use super::observed::{Facts, ImageRecord, StepRecord, TreeEntry};
use crate::project::{Copy, Image, Step};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A changed file of the project, and the mount that covers its copy.
#[derive(Debug, PartialEq, Eq)]
pub struct Covered<'w> {
    pub file: String,
    pub mount: &'w str,
}

/// The first file that changed since the image was built and whose copy is covered by a mount of this container.
pub fn covered<'w>(
    image: &Image,
    facts: &dyn Facts,
    before: &ImageRecord,
    now: &[(usize, StepRecord)],
    wish: &'w Desired,
) -> Option<Covered<'w>> {
    let mounts = wish.spec.mounts.iter().map(|mount| mount.to.as_str());
    let mounts: Vec<&str> = mounts.chain(wish.spec.tmpfs.iter().map(|tmpfs| tmpfs.path.as_str())).collect();
    let changed = now.iter().zip(&before.steps).filter(|((_, now), before)| now.inputs != before.inputs);
    changed
        .filter_map(|((index, _), before)| {
            let Step::Copy(copy) = image.steps.get(*index).filter(|_| !mounts.is_empty())? else { return None };
            let base = base(image, *index, copy)?;
            let old = facts.listing(&before.listing?)?;
            let new = facts.tree(&wish.image_name, *index).ok()?;
            let (old, new) = (by_source(&old.entries), by_source(&new.entries));
            let all = old.iter().chain(new.iter().filter(|(from, _)| !old.contains_key(*from)));
            let changed = all.filter(|(from, _)| old.get(*from) != new.get(*from));
            changed
                .filter_map(|(from, entry)| {
                    let place = entry.place(&base);
                    let mount = *mounts.iter().find(|mount| place.starts_with(mount))?;
                    Some(Covered { file: (*from).to_owned(), mount })
                })
                .next()
        })
        .next()
}

fn by_source(entries: &[TreeEntry]) -> BTreeMap<&str, &TreeEntry> {
    entries.iter().map(|entry| (entry.from.as_str(), entry)).collect()
}

/// The absolute path that a step copies to; `None` if it depends on the working directory of another image.
fn base(image: &Image, index: usize, copy: &Copy) -> Option<PathBuf> {
    let workdirs = image.steps[..index].iter().filter_map(|step| if let Step::Workdir(path) = step { Some(path) } else { None });
    let base = workdirs.fold(PathBuf::new(), |base, path| base.join(path)).join(&copy.to);
    // A path without `.` and `..`, which other paths are compared with.
    let mut plain = PathBuf::from("/");
    for part in base.strip_prefix("/").ok()? {
        match part.to_str() {
            Some("..") => drop(plain.pop()),
            Some(".") => {}
            _ => plain.push(part),
        }
    }
    Some(plain)
}

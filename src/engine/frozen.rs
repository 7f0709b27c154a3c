//! `freeze`: the image that equals a container which live syncs have moved away from its own.
//!
//! The image is built from the files as they are now, as `up` would do. The container goes on, and its record says that it has
//! this image, if that is true: what was synced is in the image, and the image has nothing else that the container lacks.

use crate::build::View;
use crate::image;
use crate::instance::{Drift, Drifting, Instance, LoadedProject, Reporter, UpOptions, read_lock, watcher};
use crate::library::{compare_in, name_image};
use crate::model::{Context, Digest, Error, Name, Result, spelled, unspelled};
use crate::plan::{Config, Image};
use crate::reconcile;
use crate::store::{Lease, Store};
use crate::sys::{Kind, Tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files an error names.
const NAMED: usize = 10;

/// A container that has another image on record now.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub replica: String,
    pub image: Name,
    pub digest: Digest,
    /// How many files had drifted.
    pub files: usize,
}

/// A container that has drifted.
struct Moved {
    replica: String,
    container: Name,
    /// The digest of the image that it has on record, and the generation of its root.
    image: Digest,
    generation: u64,
    drift: Drift,
}

/// Builds the images of containers that have drifted, and puts them on record as theirs, without touching the containers. All that
/// have drifted are meant if none is named. Returns those that have other images now.
///
/// # Errors
/// Fails when files are being watched, when an image cannot be built, and, with the files, when an image is not what the container
/// has. Nothing is on record then.
pub fn freeze_as_image(
    loaded: &LoadedProject,
    names: &[String],
    tag: Option<&str>,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<Vec<Frozen>> {
    let instance = &loaded.instance;
    if let Some(pid) = watcher(instance) {
        return Err(Error::new(format!("the files are watched (process {pid}), and may be synced while the image is built"))
            .hint("`stead watch --stop` ends that"));
    }
    let tag = tag.map(crate::library::full_name).transpose()?;
    let moved = drifted(instance, names)?;
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = BTreeMap::new();
    for one in &moved {
        let container = loaded.project.containers.get(&one.container).ok_or_else(|| {
            let error = Error::new(format!("the project file has no container \"{}\" any more", one.container));
            error.hint(format!("`stead commit {}` makes an image of what it is", one.replica))
        })?;
        wanted.insert(one.replica.clone(), container.image.clone());
    }
    let images: BTreeSet<Name> = wanted.values().cloned().collect();
    if tag.is_some() && images.len() > 1 {
        return Err(Error::new("one name cannot be that of several images")
            .usage()
            .hint("name the container whose image is meant"));
    }
    let store = Store::at(&instance.home.store);
    let built = reconcile::build_only(loaded, &images, options, reporter)?;
    let mut lease = Lease::open(&store)?;
    let mut frozen = Vec::new();
    let mut errors = Vec::new();
    for one in &moved {
        let name = &wanted[&one.replica];
        let image = built.get(name).ok_or_else(|| Error::new(format!("the image {name} was not built")))?;
        lease.pin(image.parts().chain([&image.digest]))?;
        errors.extend(refuse_others(instance, &store, one, (name, image)).err());
        frozen.push(Frozen { replica: one.replica.clone(), image: name.clone(), digest: image.digest, files: one.drift.count() });
    }
    Error::all(errors)?;
    put_on_record(instance, &store, &moved, &frozen)?;
    if let (Some(tag), Some(one)) = (tag, frozen.first()) {
        name_image(&instance.home, tag.to_string(), one.digest)?;
    }
    Ok(frozen)
}

/// The containers that are meant and have drifted.
fn drifted(instance: &Instance, names: &[String]) -> Result<Vec<Moved>> {
    let record = instance.record()?;
    let mut meant = BTreeSet::new();
    for name in names {
        let replicas = Name::parse(name).ok().map(|name| instance.replicas(&name)).transpose()?.unwrap_or_default();
        meant.extend(if replicas.is_empty() { vec![instance.find(name)?] } else { replicas });
    }
    let mut found = Vec::new();
    for (replica, known) in record.containers.iter().filter(|(replica, _)| names.is_empty() || meant.contains(*replica)) {
        let drift = Drift::read(instance, replica, known.generation)?;
        if drift.count() > 0 {
            let (container, image, generation) = (known.container.clone(), known.image, known.generation);
            found.push(Moved { replica: replica.clone(), container, image, generation, drift });
        }
    }
    Ok(found)
}

/// Makes sure that a container has what an image has.
fn refuse_others(instance: &Instance, store: &Store, one: &Moved, (name, image): (&Name, &Image)) -> Result<()> {
    let before = image::load(store, &one.image)
        .ok_or_else(|| Error::new(format!("the image that {} was started from is no longer in the store", one.replica)))?;
    let (differs, (old, new)) = compare_in((store, &before), (store, image))?;
    let place = instance.root(&one.replica, one.generation).join("upper");
    let upper = Tree::open(&place).context(|| format!("cannot open what {} has written", one.replica))?;
    // What it was started with came from the image: only the image's digest tells of that.
    let settings = settings_that_differ(&before.config, &image.config)?;
    let mut others: Vec<String> =
        settings.into_iter().map(|key| format!("{key} (a setting that changed in the image)")).collect();
    let mut synced = BTreeSet::new();
    for (path, now) in one.drift.paths() {
        let path = PathBuf::from(unspelled(path).into_owned());
        let at = new.resolve(path.parent().unwrap_or(Path::new("/"))).join(path.file_name().unwrap_or_default());
        if !has(&new, &at, now).context(|| format!("cannot read {} of the image {name}", at.display()))? {
            others.push(format!("{} (synced, and not so in the image)", path.display()));
        } else if matches!(now, Drifting::File(_)) {
            let has = facts_differ(&new, &at, &upper).context(|| format!("cannot read {} of {}", at.display(), one.replica))?;
            others.extend(has.map(|what| format!("{} (synced, and {what})", path.display())));
        }
        synced.insert(at);
    }
    // Directories come with what is in them.
    let is_folder = |path: &Path| {
        let entry = new.entry(path).or_else(|| old.entry(path));
        entry.is_some_and(|(_, found)| found.is_dir())
    };
    let lacking = differs.paths.iter().filter(|change| !synced.contains(&change.path) && !is_folder(&change.path));
    others.extend(lacking.map(|change| format!("{} (changed in the image, and not synced)", change.path.display())));
    if others.is_empty() {
        return Ok(());
    }
    if others.len() > NAMED {
        let more = others.len() - NAMED;
        others.truncate(NAMED);
        others.push(format!("and {more} more"));
    }
    let lines: Vec<String> = others.iter().map(|line| crate::model::visible_line(line).into_owned()).collect();
    let error = Error::new(format!("{} is not what the image {name} is now:\n  {}", one.replica, lines.join("\n  ")));
    Err(error.hint(format!(
        "`stead up` replaces the container by one of that image; `stead commit {}` makes an image of what it is",
        one.replica
    )))
}

/// The settings in which the configurations of two images differ, as they are called in them; of the environment, its variables.
fn settings_that_differ(before: &Config, after: &Config) -> Result<BTreeSet<String>> {
    let settings = |config: &Config| -> Result<BTreeMap<String, Value>> {
        let value = serde_json::to_value(config).context(|| "cannot compare the images".into())?;
        let all = value.as_object().into_iter().flatten().filter(|(key, _)| *key != "env" && *key != "author");
        let environment = config.env.iter().map(|(name, value)| (format!("env {name}"), Value::from(value.as_str())));
        Ok(all.map(|(key, value)| (key.replace('_', "-"), value.clone())).chain(environment).collect())
    };
    let (before, after) = (settings(before)?, settings(after)?);
    let keys = before.keys().chain(after.keys());
    Ok(keys.filter(|key| before.get(*key) != after.get(*key)).cloned().collect())
}

/// How a file that was synced differs in the container from that of the image, but for its content.
fn facts_differ(image: &View, at: &Path, upper: &Tree) -> std::io::Result<Option<String>> {
    let (Some((_, wanted)), Some(name)) = (image.entry(at), at.file_name()) else { return Ok(None) };
    let above = at.parent().and_then(|above| above.strip_prefix("/").ok()).unwrap_or(Path::new(""));
    // All that is synced is written there. The container may have removed it again, with its directory.
    let there = match upper.folder(above) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => None,
        folder => folder?.look(name)?,
    };
    let kind = if wanted.is_symlink() { Kind::Link } else { Kind::File };
    let Some(there) = there.filter(|there| Kind::of(there) == kind) else {
        return Ok(Some("not there in the container any more".into()));
    };
    let (own, theirs) = ((there.st_uid, there.st_gid), (wanted.uid(), wanted.gid()));
    if own != theirs {
        let owner = |(user, group): (u32, u32)| format!("{user}:{group}");
        return Ok(Some(format!("of owner {}, in the image {}", owner(own), owner(theirs))));
    }
    let (own, theirs) = (there.st_mode & 0o7777, wanted.mode() & 0o7777);
    let differs = kind == Kind::File && own != theirs;
    Ok(differs.then(|| format!("of mode {own:o}, in the image {theirs:o}")))
}

fn has(image: &View, at: &Path, now: &Drifting) -> std::io::Result<bool> {
    let Some((_, found)) = image.entry(at) else { return Ok(matches!(now, Drifting::Gone)) };
    match now {
        Drifting::File(digest) if found.is_symlink() => Ok(Digest::of(spelled(&image.link(at)?).as_bytes()) == *digest),
        Drifting::File(digest) if found.is_file() => Ok(Digest::of_stream(image.file(at)?)? == *digest),
        Drifting::File(_) | Drifting::Gone => Ok(false),
        Drifting::AsImage => Ok(true),
    }
}

/// Puts the images on record as those of the containers, all or none.
fn put_on_record(instance: &Instance, store: &Store, moved: &[Moved], frozen: &[Frozen]) -> Result<()> {
    let _queue = instance.lock()?;
    let mut record = instance.record()?;
    for (one, made) in moved.iter().zip(frozen) {
        let same = Drift::read(instance, &one.replica, one.generation)? == one.drift;
        let known = record.containers.get_mut(&one.replica).filter(|known| {
            same && watcher(instance).is_none() && (known.image, known.generation) == (one.image, one.generation)
        });
        let known = known.ok_or_else(|| {
            Error::new(format!("while the image was built, {} was changed", one.replica)).hint("run the command again")
        })?;
        known.image = made.digest;
        known.aspects.insert("image".into(), made.digest.to_string());
    }
    record.serial += 1;
    // If we are killed after this, a container is only thought to be further from its image than it is.
    instance.save(&record)?;
    reconcile::pin_record(instance, store, &record, &read_lock(instance)?)?;
    moved.iter().try_for_each(|one| Drift::forget(instance, &one.replica, one.generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn settings_of_images_that_differ_are_named_and_values_are_not() {
        let before = Config { cmd: vec!["a".into()], env: [("A".to_owned(), "1".to_owned())].into(), ..Config::default() };
        let mut after = before.clone();
        assert!(settings_that_differ(&before, &after).unwrap().is_empty());
        after.cmd.push("b".into());
        after.user = "app".into();
        after.stop_signal = Some("INT".into());
        after.env.insert("A".into(), "secret".into());
        after.author = Some("who makes it does not matter".into());
        let named: Vec<String> = settings_that_differ(&before, &after).unwrap().into_iter().collect();
        assert_eq!(named, ["cmd", "env A", "stop-signal", "user"]);
    }

    #[test]
    fn what_was_synced_has_the_mode_that_the_image_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| folder.path().join(path);
        for side in ["image", "upper"] {
            std::fs::create_dir_all(place(side).join("srv")).unwrap();
            std::fs::write(place(side).join("srv/a"), "1").unwrap();
            std::os::unix::fs::symlink("a", place(side).join("srv/l")).unwrap();
        }
        let image = View::new(vec![place("image")]);
        let differs = |path: &str| facts_differ(&image, Path::new(path), &Tree::open(&place("upper")).unwrap()).unwrap();
        assert_eq!((differs("/srv/a"), differs("/srv/l")), (None, None));
        std::fs::set_permissions(place("image/srv/a"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(place("upper/srv/a"), PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(differs("/srv/a").unwrap(), "of mode 640, in the image 755");
        std::fs::remove_dir_all(place("upper/srv")).unwrap();
        assert!(differs("/srv/a").unwrap().contains("not there"));
    }
}

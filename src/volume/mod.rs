//! Volumes: folders that outlive containers, filled from the image at their first use.

use crate::build::View;
use crate::model::{Context, Name, Outcome};
use crate::store::{Home, disk_fault};
use crate::sys;
use std::collections::BTreeSet;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The folder of an instance's volumes.
pub fn folder(home: &Home, instance: &str) -> PathBuf {
    home.state.join("volumes").join(instance)
}

/// The volumes that an instance has.
pub fn existing(home: &Home, instance: &str) -> BTreeSet<Name> {
    let entries = fs::read_dir(folder(home, instance)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok()).collect()
}

/// Makes a volume with what the image has at the path where it is mounted.
///
/// It appears whole: it is made beside its place and renamed.
///
/// # Errors
/// Failures to write.
pub fn create(home: &Home, instance: &str, name: &Name, image: &View, at: &Path) -> Outcome<()> {
    let all = folder(home, instance);
    let place = all.join(name.as_str());
    let source = image.resolve(at);
    if place.exists() {
        // An empty volume takes after the image that uses it, as Docker's does; nothing is lost by it.
        let empty = fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none());
        return match image.entry(&source).filter(|(_, metadata)| empty && metadata.is_dir()) {
            Some((_, metadata)) => copy_folder(image, &source, &place, &metadata)
                .map_err(|error| disk_fault(&format!("cannot fill the volume {name}"), error)),
            None => Ok(()),
        };
    }
    fs::create_dir_all(&all).doing(|| format!("cannot make {}", all.display()))?;
    let staging = all.join(format!(".new-{}", sys::unique()));
    fs::create_dir(&staging).map_err(|error| disk_fault("cannot make a volume", error))?;
    let filled = match image.entry(&source) {
        Some((_, metadata)) if metadata.is_dir() => copy_folder(image, &source, &staging, &metadata),
        _ => Ok(()),
    };
    let done = filled.and_then(|()| sys::sync_file_system(&staging)).and_then(|()| fs::rename(&staging, &place));
    done.map_err(|error| {
        let _ = fs::remove_dir_all(&staging);
        disk_fault(&format!("cannot fill the volume {name}"), error)
    })
}

fn copy_folder(image: &View, from: &Path, to: &Path, metadata: &Metadata) -> std::io::Result<()> {
    for name in image.list(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        let Some((place, metadata)) = image.entry(&source) else { continue };
        if metadata.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(image, &source, &target, &metadata)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&place)?, &target)?;
            sys::set_owner(&target, metadata.uid(), metadata.gid())?;
        } else if metadata.is_file() {
            fs::copy(&place, &target)?;
            keep(&target, &metadata)?;
        }
    }
    keep(to, metadata)
}

fn keep(target: &Path, metadata: &Metadata) -> std::io::Result<()> {
    sys::set_owner(target, metadata.uid(), metadata.gid())?;
    fs::set_permissions(target, Permissions::from_mode(metadata.mode() & 0o7777))?;
    sys::set_time(target, metadata.mtime())
}

/// Deletes all volumes of an instance.
///
/// # Errors
/// Those of deleting.
pub fn delete_all(home: &Home, instance: &str) -> Outcome<()> {
    let path = folder(home, instance);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

//! A bundle: a sealed environment, with the project, its lock and all bytes that it needs in one file.
//!
//! It is an OCI layout of the project's images, which other tools can read, with the project's files and the
//! results of its build steps beside them. The results in a bundle are trusted for its own project only.

use super::verify::Scratch;
use crate::build::{Ground, sealed_place};
use crate::image;
use crate::instance::{LoadedProject, Observation, Options, Reporter, UpOptions, findings, observe, private_folder};
use crate::library::parts;
use crate::model::{Budget, Context, Digest, Error, Name, Result, bounds, spelled};
use crate::plan::Image;
use crate::project::{ConfigSource, MountSource};
use crate::reconcile::build_only;
use crate::store::{Home, Lease, Pin, RESULTS, Refers, Store, disk_error, read_json};
use crate::sys::{self, Kind, ProjectFiles, Unread};
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The entry in which a bundle describes itself.
const LABEL: &str = "stead/bundle.json";

/// A bundle's description of itself.
#[derive(Clone, Serialize, Deserialize)]
struct Label {
    version: u32,
    project: String,
    /// The project file.
    file: String,
    /// The images, by their names in the bundle.
    images: BTreeMap<String, Digest>,
    /// Files that must exist where the bundle is used.
    secrets: Vec<String>,
}

/// What was put into a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundled {
    pub images: usize,
    pub files: usize,
    /// Files of secrets, which are left out.
    pub secrets: Vec<String>,
}

/// Writes a project, built and locked, into one file.
///
/// # Errors
/// Fails when something cannot be locked or built, when a file cannot be read, and when the disk is full.
pub fn bundle(
    loaded: &LoadedProject,
    whole: &Options,
    path: &Path,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<Bundled> {
    let store = Store::at(&loaded.instance.home.store);
    let names: BTreeSet<Name> = loaded.project.images.keys().cloned().collect();
    let built = build_only(loaded, &names, options, reporter)?;
    let mut lease = Lease::open(&store)?;
    built.values().try_for_each(|image| lease.pin(&parts(&store, &image.digest)))?;
    let results = results(&store, built.values())?;
    let observation = observe(loaded)?;
    let ground = observation.scanner.ground();
    let files = files(loaded, &observation, findings(whole)?.files.into_keys())?;
    let images: Vec<(String, &Image)> = built.iter().map(|(name, image)| (name.to_string(), image)).collect();
    let secrets: Vec<String> = loaded.project.secrets.values().cloned().collect();
    let label = Label {
        version: 1,
        project: loaded.project.name.to_string(),
        file: loaded.instance.file.clone(),
        images: built.iter().map(|(name, image)| (name.to_string(), image.digest)).collect(),
        secrets: secrets.clone(),
    };
    let label = serde_json::to_vec(&label).context(|| "cannot describe the bundle".into())?;
    let extra = |builder: &mut tar::Builder<&mut dyn io::Write>| {
        for (key, bytes) in &results {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, format!("stead/{RESULTS}/{}", key.hex()), &bytes[..])?;
        }
        let mut twins = HashMap::new();
        files.iter().try_for_each(|file| {
            add(builder, ground, file, &mut twins)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
        })
    };
    // The bundle appears under its name only when it is complete.
    let partial = path.with_file_name(format!(".{}", crate::sys::unique()));
    let write = || {
        let out = File::create(&partial).map_err(|error| disk_error(&format!("cannot write {}", path.display()), error))?;
        image::write_several(&store, &images, (LABEL, &label), extra, &mut BufWriter::new(out))?;
        fs::rename(&partial, path).context(|| format!("cannot write {}", path.display()))
    };
    write().inspect_err(|_| drop(fs::remove_file(&partial)))?;
    Ok(Bundled { images: images.len(), files: files.len(), secrets })
}

/// The stored results of build steps, as far as the images contain what they refer to.
fn results<'i>(store: &Store, images: impl Iterator<Item = &'i Image>) -> Result<BTreeMap<Digest, Vec<u8>>> {
    let held: BTreeSet<Digest> = images.flat_map(|image| image.parts().copied()).collect();
    let fits = |refers: &Refers| refers.to.is_none_or(|to| held.contains(&to));
    let kept = store.results()?.filter(|(_, refers, _)| refers.as_ref().is_some_and(fits));
    Ok(kept.map(|(key, _, bytes)| (key, bytes)).collect())
}

/// The paths in the project's directory that make up the project, without its secrets.
fn files(loaded: &LoadedProject, observation: &Observation, read: impl Iterator<Item = String>) -> Result<BTreeSet<PathBuf>> {
    let folder = &loaded.instance.folder;
    let mut found: BTreeSet<PathBuf> = read.map(PathBuf::from).collect();
    found.extend([loaded.instance.file.as_str(), "stead.lock", ".steadignore", ".dockerignore"].map(PathBuf::from));
    let sources = observation.scanner.sources(|_, _, _| false);
    found.extend(sources.iter().filter_map(|path| path.strip_prefix(folder).ok().map(Path::to_owned)));
    let project = &loaded.project;
    found.extend(project.configs.values().filter_map(|config| match config {
        ConfigSource::File(path) => Some(PathBuf::from(path)),
        ConfigSource::Content(_) => None,
    }));
    found.extend(project.images.values().filter_map(|image| image.signed_by.as_ref().map(PathBuf::from)));
    found.extend(observation.profiles.keys().map(PathBuf::from));
    for container in project.containers.values() {
        found.extend(container.env_files.iter().map(|file| PathBuf::from(&file.path)));
        found.extend(container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind(path) => Some(PathBuf::from(path)),
            _ => None,
        }));
    }
    // A directory that is named itself stands for everything in it: for example, an image's layout or a mounted directory.
    let whole: Vec<PathBuf> =
        found.iter().filter(|path| is_inside(path) && !sources.contains(&folder.join(path))).cloned().collect();
    let archives = observation.scanner.archives().map(PathBuf::from);
    for path in whole.into_iter().chain(archives) {
        below(folder, &path, &mut found).context(|| "cannot list the project's files".into())?;
    }
    let secret = |path: &PathBuf| project.secrets.values().any(|secret| Path::new(secret) == path);
    found.retain(|path| !secret(path) && is_inside(path) && folder.join(path).symlink_metadata().is_ok());
    Ok(found)
}

/// Adds a file, directory or link of the project. It is reached by descriptor, because a container may replace it meanwhile.
///
/// Names of one file stay that: what a Dockerfile copies depends on it.
fn add(
    builder: &mut tar::Builder<&mut dyn io::Write>,
    ground: &Ground,
    path: &Path,
    twins: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    let path_text = spelled(path.as_os_str());
    let real = ground.real(&path_text);
    let (Some(name), Some(above)) = (real.file_name(), real.parent()) else { return Ok(()) };
    let above = ground.tree()?.folder(above)?;
    let stat = above.stat(name)?;
    let to = Path::new("stead/project").join(path);
    let header = |stat: &FileStat, kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(size);
        header
    };
    match Kind::of(&stat) {
        Kind::Folder => builder.append_data(&mut header(&stat, tar::EntryType::Directory, 0), to, io::empty()),
        Kind::Link => builder.append_link(&mut header(&stat, tar::EntryType::Symlink, 0), to, above.link(name)?),
        Kind::File => {
            let file = above.file(name)?;
            let stat = nix::sys::stat::fstat(&file)?;
            let twin = (stat.st_dev, stat.st_ino);
            if stat.st_nlink > 1 {
                if let Some(first) = twins.get(&twin) {
                    return builder.append_link(&mut header(&stat, tar::EntryType::Link, 0), to, first);
                }
                twins.insert(twin, to.clone());
            }
            let size = stat.st_size.unsigned_abs();
            builder.append_data(&mut header(&stat, tar::EntryType::Regular, size), to, file.chain(Short).take(size))
        }
        Kind::Fifo => builder.append_data(&mut header(&stat, tar::EntryType::Fifo, 0), to, io::empty()),
        // Devices and sockets are of no use on another machine.
        _ => Ok(()),
    }
}

/// Follows the end of a file. Reading it fails, because the file has become shorter than its header says.
struct Short;

impl Read for Short {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("it changed while it was read"))
    }
}

/// Whether a path is relative and stays inside the directory that it starts from.
fn is_inside(path: &Path) -> bool {
    path.file_name().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Adds a path and, if it is a directory, everything in it.
fn below(folder: &Path, path: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    found.insert(path.to_owned());
    let whole = folder.join(path);
    // A path that does not exist is reported where it is used.
    if whole.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        for name in sys::entries(&whole)? {
            below(folder, &path.join(name), found)?;
        }
    }
    Ok(())
}

/// Whether a file is a bundle. A file that cannot be read is not; whoever then reads it as something else reports why.
pub fn is_bundle(path: &Path) -> bool {
    let label = || {
        let first = image::Entries::new(crate::sys::open_regular(path).ok()?).next_entry().ok()??;
        Some(first.path == Path::new(LABEL))
    };
    label().unwrap_or(false)
}

/// A bundle, and where it is unpacked on this machine.
struct Bundle<'b> {
    path: &'b Path,
    whole: PathBuf,
    label: Label,
    /// Distinguishes it from other bundles at the same path.
    identity: Digest,
    /// The name of its directory.
    key: String,
    folder: PathBuf,
}

impl<'b> Bundle<'b> {
    fn read(home: &Home, path: &'b Path) -> Result<Self> {
        let failed = || format!("cannot unpack {}", path.display());
        let label: Label = serde_json::from_slice(&first(path).context(failed)?).context(failed)?;
        if label.version != 1 {
            return Err(Error::new(format!("{} was written by a newer stead", path.display())).hint("update stead"));
        }
        if !is_inside(Path::new(&label.file)) {
            return Err(Error::new(format!("{} names a project file outside of it", path.display())));
        }
        let whole = fs::canonicalize(path).context(failed)?;
        let metadata = fs::metadata(path).context(failed)?;
        let identity = Digest::of_json(&(metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()));
        let key = Digest::of_json(&(&whole, &label.project)).short(16);
        let folder = home.state.join("bundles").join(&key);
        Ok(Self { path, whole, label, identity, key, folder })
    }

    /// Whether all of it was unpacked.
    fn is_here(&self, store: &Store) -> bool {
        read_json(&sealed_place(&self.folder).join("identity")) == Some(self.identity)
            && self.label.images.values().all(|digest| image::load(store, digest).is_some())
    }
}

/// The directory and the project file of a bundle that was unpacked before; it is not unpacked here.
///
/// # Errors
/// Fails when the file is not a bundle or was not unpacked before.
pub fn taken_in(home: &Home, path: &Path) -> Result<(PathBuf, String)> {
    let bundle = Bundle::read(home, path)?;
    if bundle.is_here(&Store::at(&home.store)) {
        return Ok((bundle.folder, bundle.label.file));
    }
    Err(Error::new(format!("{} is not unpacked yet, and this command writes nothing", path.display()))
        .hint(format!("`stead -f {} build` unpacks it and starts nothing", path.display())))
}

/// Unpacks only the project's files of a bundle, into a directory that is removed when it is dropped.
///
/// # Errors
/// Fails when the file is not a bundle, when a part is damaged, and when the disk is full.
pub fn look_into(home: &Home, path: &Path) -> Result<(Scratch, String)> {
    let bundle = Bundle::read(home, path)?;
    let scratch = Scratch::new(&std::env::temp_dir())?;
    let aside = scratch.path().join(".sealed");
    private_folder(&aside.join(RESULTS))?;
    take(path, scratch.path(), &aside).context(|| format!("cannot unpack {}", path.display()))?;
    Ok((scratch, bundle.label.file))
}

/// Unpacks a bundle, unless that was done already; returns the directory of its project and the project file.
///
/// The directory depends on the bundle's path and project: a newer bundle at the same path is the same environment.
///
/// # Errors
/// Fails when the file is not a bundle, when a part is damaged, and when the disk is full.
pub fn unbundle(home: &Home, path: &Path) -> Result<(PathBuf, String)> {
    let failed = || format!("cannot unpack {}", path.display());
    let bundle = Bundle::read(home, path)?;
    let store = Store::at(&home.store);
    store.prepare()?;
    let lock = home.state.join("bundles").join(format!("{}.lock", bundle.key));
    private_folder(&home.state.join("bundles"))?;
    let _lock = crate::sys::Lock::wait(&lock, crate::sys::Hold::Alone).context(failed)?;
    let there = bundle.is_here(&store);
    let Bundle { whole, label, identity, key, folder, path } = bundle;
    let sealed = sealed_place(&folder);
    if !there {
        let lease = Mutex::new(Lease::open(&store)?);
        let pin = |digests: &[Digest]| lease.lock().unwrap_or_else(PoisonError::into_inner).pin(digests);
        let archive = image::Archive::open(path)?;
        for (name, digest) in &label.images {
            let taken = archive.image(Some(name))?.import(&store, &pin).context(failed)?;
            if taken.digest != *digest {
                return Err(Error::new(format!("{} is damaged: it has another image \"{name}\" than it says", path.display())));
            }
        }
        let making = folder.with_extension(crate::sys::unique());
        let (project, beside) = (making.join("project"), making.join("sealed"));
        // Containers may mount it, so its own permissions are ordinary; the directories above it are private.
        fs::create_dir_all(&project).context(failed)?;
        private_folder(&beside.join(RESULTS))?;
        let write =
            |name: &str, bytes: serde_json::Result<Vec<u8>>| fs::write(beside.join(name), bytes.context(failed)?).context(failed);
        let made = || {
            take(path, &project, &beside).context(failed)?;
            write("bundle.json", serde_json::to_vec(&label))?;
            write("identity", serde_json::to_vec(&identity))?;
            // The directory that says that the bundle is complete is removed first and created last.
            let _ = fs::remove_dir_all(&sealed);
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&project, &folder).and_then(|()| fs::rename(&beside, &sealed)).context(failed)
        };
        let made = made();
        let _ = fs::remove_dir_all(&making);
        made?;
        let digests = label.images.values().flat_map(|digest| parts(&store, digest)).collect();
        store.set_root(&format!("bundle-{key}"), &Pin { folder: folder.clone(), project: label.project.clone(), digests })?;
    }
    secrets(&label, &whole, &folder)?;
    Ok((folder, label.file))
}

/// Copies the secrets from the directory of the bundle.
fn secrets(label: &Label, bundle: &Path, folder: &Path) -> Result<()> {
    let beside = bundle.parent().unwrap_or(Path::new("/"));
    let files = ProjectFiles::at(beside).context(|| format!("cannot open the directory {}", beside.display()))?;
    for secret in label.secrets.iter().filter(|secret| is_inside(Path::new(secret))) {
        let (from, to) = (beside.join(secret), folder.join(secret));
        let failed = || format!("cannot copy the secret {}", from.display());
        let bytes = match files.own(secret, bounds::CONTENT) {
            Ok(bytes) => bytes,
            Err(Unread::Absent) => continue,
            Err(why) => return Err(Error::caused(failed(), why)),
        };
        // Links of the project are resolved inside its directory.
        let root = File::open(folder).context(failed)?;
        let parent = to.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
        let parent = crate::sys::make_folders_in_root(&root, parent, 0o755).context(failed)?;
        let name = to.file_name().unwrap_or_default();
        let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        crate::sys::write_whole(&place, &bytes, 0o600).context(failed)?;
    }
    Ok(())
}

/// The content of the first file in a tar archive.
fn first(path: &Path) -> Result<Vec<u8>> {
    let mut entries = image::Entries::new(File::open(path).context(|| "cannot open it".into())?);
    let first = entries.next_entry().context(|| "it is not a tar archive".into())?.ok_or_else(|| Error::new("it is empty"))?;
    if first.size > bounds::image::LONGEST {
        return Err(Error::new(format!("its label has {} bytes, and {} are allowed", first.size, bounds::image::LONGEST)));
    }
    let mut bytes = Vec::new();
    entries.read_to_end(&mut bytes).context(|| "it cannot be read".into())?;
    Ok(bytes)
}

/// Unpacks the project's files and the results of its steps. Links are created last, and never behind another link,
/// so nothing is written through them.
fn take(path: &Path, folder: &Path, sealed: &Path) -> Result<()> {
    let damaged = || "it is damaged".to_owned();
    let file = File::open(path).context(damaged)?;
    let budget = Budget::new(bounds::image::ARCHIVE);
    budget.came(file.metadata().context(damaged)?.len());
    let mut entries = image::Entries::seeking(file);
    let (mut links, results) = (Vec::new(), Path::new("stead").join(RESULTS));
    while let Some(entry) = entries.next_entry().context(damaged)? {
        budget.entry(entry.path.as_os_str().len()).context(damaged)?;
        let name = &entry.path;
        let target = if let Ok(key) = name.strip_prefix(&results) {
            match key.to_str().and_then(Digest::parse) {
                Some(key) => sealed.join(RESULTS).join(key.hex()),
                None => return Err(Error::new(damaged())),
            }
        } else if let Ok(inner) = name.strip_prefix("stead/project") {
            if !is_inside(inner) {
                return Err(Error::new(format!("the file {} in it leads out of its directory", inner.display())));
            }
            folder.join(inner)
        } else {
            continue;
        };
        let failed = || format!("cannot write {}", target.display());
        match entry.kind {
            kind if kind != image::Kind::File && name.starts_with(&results) => return Err(Error::new(damaged())),
            image::Kind::Folder => fs::create_dir_all(&target).context(failed)?,
            // Nothing in the directory is a symbolic link yet.
            image::Kind::HardLink => {
                let first = entry.link.as_deref().and_then(|link| link.strip_prefix("stead/project").ok());
                let first = first.filter(|first| is_inside(first)).ok_or_else(|| Error::new(damaged()))?;
                fs::create_dir_all(target.parent().unwrap_or(folder)).context(failed)?;
                fs::hard_link(folder.join(first), &target).context(failed)?;
            }
            image::Kind::Fifo => {
                fs::create_dir_all(target.parent().unwrap_or(folder)).context(failed)?;
                let mode = nix::sys::stat::Mode::from_bits_truncate(entry.mode & 0o777);
                nix::unistd::mkfifo(&target, mode).map_err(io::Error::from).context(failed)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(entry.mode & 0o777)).context(failed)?;
            }
            image::Kind::SymbolicLink => links.push((target, entry.link.clone().ok_or_else(|| Error::new(damaged()))?)),
            image::Kind::File => {
                fs::create_dir_all(target.parent().unwrap_or(folder)).context(failed)?;
                let mut out = File::create_new(&target).context(failed)?;
                io::copy(&mut entries, &mut out).map_err(|error| disk_error("cannot write a file", error))?;
                fs::set_permissions(&target, fs::Permissions::from_mode(entry.mode & 0o777)).context(failed)?;
            }
            _ => return Err(Error::new(damaged())),
        }
    }
    for (target, link) in links {
        let failed = || format!("cannot write {}", target.display());
        let is_link = |path: &&Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if let Some(other) = target.ancestors().skip(1).take_while(|path| *path != folder).find(is_link) {
            return Err(Error::new(format!("{} leads through the link {}", target.display(), other.display())));
        }
        fs::create_dir_all(target.parent().unwrap_or(folder)).context(failed)?;
        symlink(link, &target).context(failed)?;
    }
    Ok(())
}

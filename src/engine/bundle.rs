//! A sealed environment: project, lock and all bytes that it needs, in one file.
//!
//! It is an OCI layout of the project's images, which any tool of the field can read, with the project's
//! files and the results of its steps beside them. Results of a bundle are believed for its own project only.

use super::verify::Scratch;
use crate::build::{Ground, sealed_place};
use crate::image;
use crate::instance::{LoadedProject, Observation, Options, Reporter, UpOptions, findings, observe, private_folder};
use crate::library::parts;
use crate::model::{Budget, Context, Digest, Error, Name, Result, bounds};
use crate::plan::Image;
use crate::project::{ConfigSource, MountSource};
use crate::reconcile::build_only;
use crate::store::{Home, Lease, Pin, RESULTS, Refers, Store, disk_error, read_json};
use crate::sys::{self, Kind, ProjectFiles, Unread};
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where a bundle says what it is.
const LABEL: &str = "stead/bundle.json";

/// What a bundle holds beside images.
#[derive(Clone, Serialize, Deserialize)]
struct Label {
    version: u32,
    project: String,
    /// The project file.
    file: String,
    /// The images, by their names in the bundle.
    images: BTreeMap<String, Digest>,
    /// Files that must be there where it is used.
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
/// What cannot be locked or built; files that cannot be read; a full disk.
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
        files.iter().try_for_each(|file| {
            add(builder, ground, file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
        })
    };
    // Whole or not at all.
    let partial = path.with_file_name(format!(".{}", crate::sys::unique()));
    let write = || {
        let out = File::create(&partial).map_err(|error| disk_error(&format!("cannot write {}", path.display()), error))?;
        image::write_several(&store, &images, (LABEL, &label), extra, &mut BufWriter::new(out))?;
        fs::rename(&partial, path).context(|| format!("cannot write {}", path.display()))
    };
    write().inspect_err(|_| drop(fs::remove_file(&partial)))?;
    Ok(Bundled { images: images.len(), files: files.len(), secrets })
}

/// The results of steps that came to what images are made of, as they are kept.
fn results<'i>(store: &Store, images: impl Iterator<Item = &'i Image>) -> Result<BTreeMap<Digest, Vec<u8>>> {
    let held: BTreeSet<Digest> = images.flat_map(|image| image.parts().copied()).collect();
    let fits = |refers: &Refers| refers.to.is_none_or(|to| held.contains(&to));
    let kept = store.results()?.filter(|(_, refers, _)| refers.as_ref().is_some_and(fits));
    Ok(kept.map(|(key, _, bytes)| (key, bytes)).collect())
}

/// Paths of the project's directory that it is made of; secrets are not among them.
fn files(loaded: &LoadedProject, observation: &Observation, read: impl Iterator<Item = String>) -> Result<BTreeSet<PathBuf>> {
    let folder = &loaded.instance.folder;
    let mut found: BTreeSet<PathBuf> = read.map(PathBuf::from).collect();
    found.extend([loaded.instance.file.as_str(), "stead.lock", ".steadignore", ".dockerignore"].map(PathBuf::from));
    let sources = observation.scanner.sources();
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
    // A directory that is named for itself stands for all in it: an image's layout, what is mounted.
    let whole: Vec<PathBuf> =
        found.iter().filter(|path| is_inside(path) && !sources.contains(&folder.join(path))).cloned().collect();
    let archives = observation.scanner.archives().map(PathBuf::from);
    for path in whole.into_iter().chain(archives) {
        below(folder, &path, &mut found).context(|| "cannot tell what the project is made of".into())?;
    }
    let secret = |path: &PathBuf| project.secrets.values().any(|secret| Path::new(secret) == path);
    found.retain(|path| !secret(path) && is_inside(path) && folder.join(path).symlink_metadata().is_ok());
    Ok(found)
}

/// Adds a file, directory or link of the project; by descriptor, since a container may exchange them meanwhile.
fn add(builder: &mut tar::Builder<&mut dyn io::Write>, ground: &Ground, path: &Path) -> io::Result<()> {
    let real = path.to_str().map_or(Cow::Borrowed(path), |path| ground.real(path));
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
            let size = stat.st_size.unsigned_abs();
            builder.append_data(&mut header(&stat, tar::EntryType::Regular, size), to, file.chain(Short).take(size))
        }
        // What is no file is nothing for another machine.
        _ => Ok(()),
    }
}

/// What stands behind a file's end: whoever needs more bytes than there are was promised more.
struct Short;

impl Read for Short {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("it changed while it was read"))
    }
}

/// Whether a path stays in the directory that it starts from.
fn is_inside(path: &Path) -> bool {
    path.file_name().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// All that is in a directory.
fn below(folder: &Path, path: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    found.insert(path.to_owned());
    let whole = folder.join(path);
    // What is named and not there is told where it is used.
    if whole.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        for name in sys::entries(&whole)? {
            below(folder, &path.join(name), found)?;
        }
    }
    Ok(())
}

/// Whether a file is a bundle; what cannot be read as one is none, and whoever reads it as something else says why.
pub fn is_bundle(path: &Path) -> bool {
    let label = || {
        let first = image::Entries::new(crate::sys::open_regular(path).ok()?).next_entry().ok()??;
        Some(first.path == Path::new(LABEL))
    };
    label().unwrap_or(false)
}

/// A bundle, and where what is in it belongs on this machine.
struct Bundle<'b> {
    path: &'b Path,
    whole: PathBuf,
    label: Label,
    /// Tells it from others in its place.
    identity: Digest,
    /// Names its directory.
    key: String,
    folder: PathBuf,
}

impl<'b> Bundle<'b> {
    fn read(home: &Home, path: &'b Path) -> Result<Self> {
        let failed = || format!("cannot take in {}", path.display());
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

    /// Whether all of it was taken in.
    fn is_here(&self, store: &Store) -> bool {
        read_json(&sealed_place(&self.folder).join("identity")) == Some(self.identity)
            && self.label.images.values().all(|digest| image::load(store, digest).is_some())
    }
}

/// The directory and the project file of a bundle that was taken in, without taking it in.
///
/// # Errors
/// What is no bundle; one that was not taken in.
pub fn taken_in(home: &Home, path: &Path) -> Result<(PathBuf, String)> {
    let bundle = Bundle::read(home, path)?;
    if bundle.is_here(&Store::at(&home.store)) {
        return Ok((bundle.folder, bundle.label.file));
    }
    Err(Error::new(format!("{} is not taken in yet, and this command writes nothing", path.display()))
        .hint(format!("`stead -f {} build` takes it in and starts nothing", path.display())))
}

/// The project's files of a bundle, for as long as somebody looks at them; nothing else of it is taken in.
///
/// # Errors
/// What is no bundle, damaged parts, a full disk.
pub fn look_into(home: &Home, path: &Path) -> Result<(Scratch, String)> {
    let bundle = Bundle::read(home, path)?;
    let scratch = Scratch::new(&std::env::temp_dir())?;
    let aside = scratch.path().join(".sealed");
    private_folder(&aside.join(RESULTS))?;
    take(path, scratch.path(), &aside).context(|| format!("cannot take in {}", path.display()))?;
    Ok((scratch, bundle.label.file))
}

/// Takes a bundle in, unless it is; the directory of its project and the project file come back.
///
/// The directory belongs to the bundle's path and project: a newer bundle in the same place is the same environment.
///
/// # Errors
/// What is no bundle, damaged parts, a full disk.
pub fn unbundle(home: &Home, path: &Path) -> Result<(PathBuf, String)> {
    let failed = || format!("cannot take in {}", path.display());
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
                return Err(Error::new(format!("{} holds another image \"{name}\" than it says", path.display())));
            }
        }
        let making = folder.with_extension(crate::sys::unique());
        let (project, beside) = (making.join("project"), making.join("sealed"));
        // Containers may have it mounted: its own permissions are ordinary, those above it are not.
        fs::create_dir_all(&project).context(failed)?;
        private_folder(&beside.join(RESULTS))?;
        let write =
            |name: &str, bytes: serde_json::Result<Vec<u8>>| fs::write(beside.join(name), bytes.context(failed)?).context(failed);
        let made = || {
            take(path, &project, &beside).context(failed)?;
            write("bundle.json", serde_json::to_vec(&label))?;
            write("identity", serde_json::to_vec(&identity))?;
            // What says that it is whole goes first and comes last.
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

/// Secrets are read from where the bundle lies.
fn secrets(label: &Label, bundle: &Path, folder: &Path) -> Result<()> {
    let beside = bundle.parent().unwrap_or(Path::new("/"));
    let files = ProjectFiles::at(beside).context(|| format!("cannot open the directory {}", beside.display()))?;
    for secret in label.secrets.iter().filter(|secret| is_inside(Path::new(secret))) {
        let (from, to) = (beside.join(secret), folder.join(secret));
        let failed = || format!("cannot take the secret {}", from.display());
        let bytes = match files.own(secret, bounds::CONTENT) {
            Ok(bytes) => bytes,
            Err(Unread::Absent) => continue,
            Err(why) => return Err(Error::caused(failed(), why)),
        };
        // The project's own links lead nowhere but into it.
        let root = File::open(folder).context(failed)?;
        let parent = to.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
        let parent = crate::sys::make_folders_in_root(&root, parent, 0o755).context(failed)?;
        let name = to.file_name().unwrap_or_default();
        let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        crate::sys::write_whole(&place, &bytes, 0o600).context(failed)?;
    }
    Ok(())
}

/// The first file of a tar.
fn first(path: &Path) -> Result<Vec<u8>> {
    let mut entries = image::Entries::new(File::open(path).context(|| "cannot open it".into())?);
    let first = entries.next_entry().context(|| "it is no tar".into())?.ok_or_else(|| Error::new("it is empty"))?;
    if first.size > bounds::image::LONGEST {
        return Err(Error::new(format!("its label has {} bytes, and {} are the most", first.size, bounds::image::LONGEST)));
    }
    let mut bytes = Vec::new();
    entries.read_to_end(&mut bytes).context(|| "it cannot be read".into())?;
    Ok(bytes)
}

/// Takes the project's files and the results of its steps. Links come last, and none stands behind another:
/// nothing is written through them.
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

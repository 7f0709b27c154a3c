//! `build --verify`: builds twice from scratch, under different conditions that must not matter, and compares.
//!
//! The first build uses the project as it is. The second uses a copy of it elsewhere, on a file system in
//! memory if there is one, which was made in another order, with other owners, times and permissions of
//! directories. The second build runs on one core, with another locale, time zone and umask.

use super::duplicate::duplicate;
use crate::image;
use crate::instance::{LoadedProject, Options, Reporter, UpOptions, consent, findings, read_lock};
use crate::library::{PathChange, compare_in};
use crate::model::{Context, Digest, Error, Name, Result};
use crate::store::Store;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The result for one image.
#[derive(Debug)]
pub struct Verdict {
    pub image: Name,
    pub digest: Digest,
    /// Empty when both builds gave the same bytes.
    pub differences: Vec<String>,
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("stead-verify-{}", sys::unique()));
        // Nobody else can read what is copied here, and nobody can have put anything here before.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

/// Makes an installation that shares the downloaded packages with ours.
fn installation(root: PathBuf, store: &Store) -> Result<PathBuf> {
    fs::create_dir_all(root.join("store")).context(|| format!("cannot make {}", root.display()))?;
    symlink(store.root().join("downloads"), root.join("store/downloads")).context(|| "cannot share the packages".into())?;
    Ok(root)
}

/// Gives an installation the images from elsewhere that a project starts from and that are in our store: what they are is
/// locked, and some cannot be pulled, because they are of another project of this machine.
fn share(loaded: &LoadedProject, store: &Store, root: &Path) -> Result<()> {
    let lock = read_lock(&loaded.instance)?;
    let other = Store::at(root.join("store"));
    other.prepare()?;
    let locked = loaded.project.references().filter_map(|(_, reference)| lock.image(reference));
    for image in locked.filter_map(|digest| image::load(store, &digest)) {
        for blob in image.parts().filter_map(|part| store.blob(part)) {
            other.put_blob(&blob)?;
        }
        for layer in image.layers.iter().filter(|layer| other.layer(&layer.diff_id).is_none()) {
            let link = root.join(sys::unique());
            symlink(store.layer_path(&layer.diff_id), &link).context(|| "cannot share the images".into())?;
            other.name_layer(&link, layer)?;
        }
        let record = Path::new("images").join(image.digest.hex());
        fs::copy(store.root().join(&record), other.root().join(&record)).context(|| "cannot share the images".into())?;
    }
    Ok(())
}

/// Builds images twice from scratch and compares them.
///
/// # Errors
/// Fails when a build fails or the project cannot be copied.
pub fn verify(
    loaded: &LoadedProject,
    options: &Options,
    names: &BTreeSet<Name>,
    how: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<Vec<Verdict>> {
    consent::agree_images(loaded, names, how, reporter)?;
    let store = Store::at(&loaded.instance.home.store);
    store.prepare()?;
    // This directory is locked, so a garbage collection leaves it alone.
    let first = store.staging()?;
    let memory = Path::new("/dev/shm");
    let elsewhere = if memory.is_dir() { memory } else { Path::new("/tmp") };
    let second = Scratch::new(elsewhere)?;
    let (one, two) = (installation(first.join("root"), &store)?, installation(second.0.join("root"), &store)?);
    share(loaded, &store, &one)?;
    share(loaded, &store, &two)?;
    // The cached project, which short commands use, does not tell which files it was read from.
    let files = findings(options)?.files;
    let copied = duplicate(loaded, files.keys().map(PathBuf::from), &second.0.join("another place"))?;
    let words: Vec<&str> = names.iter().map(Name::as_str).collect();
    let before = build(&one, &loaded.instance.folder, &loaded.instance.file, &words, &[])?;
    let odd = [("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati"), ("HOME", "/nonexistent")];
    let after = on_one_core(|| build(&two, &copied, &loaded.instance.file, &words, &odd))?;
    let stores = (Store::at(one.join("store")), Store::at(two.join("store")));
    let mut verdicts = Vec::new();
    for (name, digest) in before {
        let differences = match after.get(&name) {
            Some(other) if *other == digest => Vec::new(),
            Some(other) => differences(&stores, &digest, other),
            None => vec!["the second build did not produce it".into()],
        };
        verdicts.push(Verdict { image: name, digest, differences });
    }
    Ok(verdicts)
}

/// Runs a build as a separate process, and parses its output.
fn build(root: &Path, folder: &Path, file: &str, names: &[&str], env: &[(&str, &str)]) -> Result<BTreeMap<Name, Digest>> {
    let program = sys::own_program().context(|| "cannot find this program".into())?;
    let output = Command::new(program)
        .arg("-C")
        .arg(folder)
        .args(["-f", file, "build", "--frozen"])
        .args(names)
        .env("STEAD_ROOT", root)
        // We asked for consent before the first of the two builds.
        .env("STEAD_ALLOW", "all")
        .envs(env.iter().copied())
        .output()
        .context(|| "cannot start a build".into())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("a build failed:\n{}", said.trim_end())));
    }
    let line = |line: &str| {
        let (name, digest) = line.split_once(' ')?;
        let inner = name.split_once('.').map(|(image, part)| Some(Name::parse(image).ok()?.inner(part)));
        Some((inner.unwrap_or_else(|| Name::parse(name).ok())?, Digest::parse(digest.trim_start_matches("sha256:"))?))
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect())
}

/// Does work in a thread whose child processes see only one core.
fn on_one_core<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut cores = nix::sched::CpuSet::new();
            let _ = cores.set(0).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores));
            work()
        });
        worker.join().unwrap_or_else(|_| Err(Error::new("the second build panicked")))
    })
}

/// What differs: the paths, each with its first differing byte.
fn differences(stores: &(Store, Store), before: &Digest, after: &Digest) -> Vec<String> {
    let (Some(old), Some(new)) = (image::load(&stores.0, before), image::load(&stores.1, after)) else {
        return vec!["one of the two images is not whole".into()];
    };
    let (changes, views) = match compare_in((&stores.0, &old), (&stores.1, &new)) {
        Ok(found) => found,
        Err(error) => return vec![error.chain()],
    };
    let told = |change: &PathChange| {
        let path = change.path.display();
        let read = |view: &crate::build::View| view.entry(&change.path).and_then(|(place, _)| fs::read(place).ok());
        match (change.before, change.after, read(&views.0), read(&views.1)) {
            (None, ..) => format!("{path}: only in the second build"),
            (_, None, ..) => format!("{path}: only in the first build"),
            (_, _, Some(a), Some(b)) if a != b => {
                let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
                let shown = |bytes: &[u8]| bytes.get(at).map_or("the end".to_owned(), |byte| format!("{byte:#04x}"));
                format!("{path}: byte {at} is {} and {}", shown(&a), shown(&b))
            }
            _ => format!("{path}: its owner, permissions or kind differ"),
        }
    };
    if changes.paths.is_empty() {
        return vec!["the configuration or the times of files differ".into()];
    }
    changes.paths.iter().map(told).collect()
}

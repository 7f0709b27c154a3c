//! Unpacks packages into a tree, without running anything.
//!
//! Decompression runs on all cores; writing happens in the order of the packages' names, so that the
//! tree is the same whatever was done first. Links are followed as if the tree's root were `/`: this is
//! how `/bin/sh` lands in `/usr/bin`.

use super::order::Needs;
use super::synthesise;
use crate::image::{ARCHIVE, Entries, Kind, Rules, Tree};
use crate::lock::LockedPackage;
use crate::model::{Budget, Context, Outcome};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// How many packages may wait, decompressed, for their turn to be written.
const AHEAD: usize = 6;

/// What a package's control archive holds.
#[derive(Clone, Debug, Default)]
pub struct Control {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Paths of the package, as dpkg lists them.
    pub paths: Vec<String>,
}

/// A package's control files, and its data as one uncompressed tar.
type Opened = (Control, Vec<u8>);

/// What unpacking came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unpacked {
    /// Packages whose scripts would have done something that nothing here stands in for.
    pub skipped: Vec<String>,
}

/// Unpacks packages into an empty folder and makes what their scripts would have made.
///
/// # Errors
/// Damaged packages by name; failures to write.
pub fn unpack(packages: &[&LockedPackage], files: &[PathBuf], root: &Path, epoch: i64) -> Outcome<Unpacked> {
    synthesise::merge_usr(root)?;
    let controls = unpack_files(packages, files, root, epoch)?;
    synthesise::finish(root, packages, &controls, epoch)
}

/// Unpacks what dpkg itself needs to run; the rest is for dpkg to do.
///
/// # Errors
/// Damaged packages by name; failures to write.
pub fn unpack_for_dpkg(packages: &[&LockedPackage], files: &[PathBuf], root: &Path, epoch: i64) -> Outcome<()> {
    synthesise::merge_usr(root)?;
    unpack_files(packages, files, root, epoch).map(drop)
}

/// What a package needs of others, by its control file.
///
/// # Errors
/// A damaged package.
pub fn needs(file: &Path) -> Outcome<Needs> {
    let read = || -> io::Result<Control> {
        let bytes = fs::read(file)?;
        let (kind, member) = members(&bytes)?
            .into_iter()
            .find_map(|(name, member)| Some((name.strip_prefix("control.tar")?.to_owned(), member)))
            .ok_or_else(|| damaged("no control data"))?;
        control(&inflate(&kind, member)?)
    };
    let found = read().doing(|| format!("cannot read {}", file.display()))?;
    Ok(Needs::read(&String::from_utf8_lossy(found.files.get("control").map_or(&[][..], Vec::as_slice))))
}

/// What packages may bring.
fn rules(epoch: i64) -> Rules {
    Rules { latest: epoch, owner: None, whiteouts: false, devices: true, folder_times: false }
}

/// Unpacks the files of packages, and nothing else; tells what their control archives hold.
///
/// # Errors
/// Damaged packages by name; failures to write.
pub fn unpack_files(
    packages: &[&LockedPackage],
    files: &[PathBuf],
    root: &Path,
    epoch: i64,
) -> Outcome<BTreeMap<String, Control>> {
    let budget = Arc::new(Budget::new(ARCHIVE));
    let tree = Tree::new(root, rules(epoch), budget.clone()).doing(|| format!("cannot open {}", root.display()))?;
    let mut controls: BTreeMap<String, Control> = BTreeMap::new();
    let next = AtomicUsize::new(0);
    let slots: Mutex<HashMap<usize, Outcome<Opened>>> = Mutex::default();
    let (arrived, written) = (Condvar::new(), Condvar::new());
    let turn = AtomicUsize::new(0);
    let stopped = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(index) else { return };
                    let mut guard = slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    while index > turn.load(Ordering::Acquire) + AHEAD && stopped.load(Ordering::Acquire) == 0 {
                        guard = written.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                    }
                    drop(guard);
                    let opened = open_package(file).doing(|| format!("cannot unpack {}", packages[index].key()));
                    slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(index, opened);
                    arrived.notify_all();
                }
            });
        }
        let mut tree = tree;
        let mut write_all = || {
            for (index, package) in packages.iter().enumerate() {
                let mut guard = slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let opened = loop {
                    if let Some(opened) = guard.remove(&index) {
                        break opened;
                    }
                    guard = arrived.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                };
                drop(guard);
                let (mut control, data) = opened?;
                budget.came(fs::metadata(&files[index]).doing(|| format!("cannot read {}", files[index].display()))?.len());
                control.paths = tree
                    .write_listing(&data[..])
                    .map_err(|error| crate::store::disk_fault(&format!("cannot unpack {}", package.key()), error))?;
                controls.insert(package.name.clone(), control);
                turn.store(index + 1, Ordering::Release);
                drop(slots.lock());
                written.notify_all();
            }
            Ok(())
        };
        let result = write_all();
        stopped.store(1, Ordering::Release);
        next.store(files.len(), Ordering::Relaxed);
        drop(slots.lock());
        written.notify_all();
        result
    })?;
    Ok(controls)
}

/// A package's control files and its data as one uncompressed tar.
fn open_package(path: &Path) -> io::Result<Opened> {
    let bytes = fs::read(path)?;
    let (mut controls, mut data) = (None, None);
    for (name, member) in members(&bytes)? {
        if let Some(kind) = name.strip_prefix("control.tar") {
            controls = Some(control(&inflate(kind, member)?)?);
        } else if let Some(kind) = name.strip_prefix("data.tar") {
            data = Some(inflate(kind, member)?);
        }
    }
    Ok((controls.ok_or_else(|| damaged("no control data"))?, data.ok_or_else(|| damaged("no files"))?))
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("it is damaged: {what}"))
}

/// The members of an ar archive (deb(5)).
fn members(bytes: &[u8]) -> io::Result<Vec<(String, &[u8])>> {
    let mut rest = bytes.strip_prefix(b"!<arch>\n").ok_or_else(|| damaged("not an ar archive"))?;
    let mut found = Vec::new();
    while rest.len() >= 60 {
        let (header, body) = rest.split_at(60);
        let name = String::from_utf8_lossy(&header[..16]).trim_end().trim_end_matches('/').to_owned();
        let size: usize = String::from_utf8_lossy(&header[48..58]).trim().parse().map_err(|_| damaged("a bad length"))?;
        found.push((name, body.get(..size).ok_or_else(|| damaged("cut off"))?));
        rest = body.get(size.next_multiple_of(2)..).unwrap_or_default();
    }
    Ok(found)
}

/// The files of a control archive.
fn control(data: &[u8]) -> io::Result<Control> {
    let mut files = BTreeMap::new();
    let mut entries = Entries::new(data);
    while let Some(entry) = entries.next_entry()? {
        let name = entry.path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (Some(name), Kind::File) = (name, entry.kind) {
            let mut content = Vec::new();
            entries.read_to_end(&mut content)?;
            files.insert(name, content);
        }
    }
    Ok(Control { files, paths: Vec::new() })
}

fn inflate(kind: &str, member: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(member.len() * 4);
    match kind {
        ".xz" => liblzma::read::XzDecoder::new(member).read_to_end(&mut out)?,
        ".zst" => zstd::stream::read::Decoder::new(member)?.read_to_end(&mut out)?,
        ".gz" => flate2::read::GzDecoder::new(member).read_to_end(&mut out)?,
        "" => {
            out.extend(member);
            member.len()
        }
        other => return Err(io::Error::other(format!("it is compressed as `{other}`, which is not known here"))),
    };
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_folders_are_kept() {
        let root = tempfile::tempdir().unwrap();
        synthesise::merge_usr(root.path()).unwrap();
        let mut data = tar::Builder::new(Vec::new());
        for (path, kind, content) in [("./bin/", tar::EntryType::Directory, ""), ("./bin/sh", tar::EntryType::Regular, "x")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            header.set_uid(uid.into());
            header.set_gid(gid.into());
            header.set_mtime(1);
            data.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let paths = Tree::new(root.path(), rules(1), Arc::new(Budget::new(ARCHIVE)))
            .unwrap()
            .write_listing(&data.into_inner().unwrap()[..])
            .unwrap();
        assert_eq!(paths, ["/bin", "/bin/sh"]);
        assert!(root.path().join("usr/bin/sh").exists());
        assert!(root.path().join("bin").is_symlink());
    }
}

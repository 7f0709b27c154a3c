//! Unpacks packages into a tree, without running anything.
//!
//! Decompression runs on several cores; writing happens in the order of the packages' names, so that the
//! tree is always the same. No package is ever whole in memory: decompression waits when writing falls
//! behind. Links are followed as if the tree's root were `/`, so `/bin/sh` ends up in `/usr/bin`.

use super::deb::{self, Control};
use super::order::Needs;
use super::synthesise::{self, Unpacked};
use crate::image::{Rules, Tree};
use crate::lock::LockedPackage;
use crate::model::bounds::debian as limits;
use crate::model::bounds::image::ARCHIVE;
use crate::model::{Budget, Context, Error, Floor, Result};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How many decompressed packages may wait for their turn to be written.
const AHEAD: usize = 6;
/// The size of a piece of decompressed data, and how many pieces of each package may wait: 8 MiB together.
const PIECE: usize = 128 << 10;
const PIECES: usize = 64;

/// Unpacks packages into an empty directory and makes what their scripts would have made.
///
/// # Errors
/// Fails when a package is damaged (the error names it), or when something cannot be written.
pub fn unpack(packages: &[&LockedPackage], files: &[PathBuf], root: &Path, epoch: i64) -> Result<Unpacked> {
    synthesise::merge_usr(root)?;
    let controls = unpack_files(packages, files, root, epoch)?;
    synthesise::finish(root, packages, &controls, epoch)
}

/// Unpacks the packages that dpkg itself needs to run; dpkg does the rest.
///
/// # Errors
/// Fails when a package is damaged (the error names it), or when something cannot be written.
pub fn unpack_for_dpkg(packages: &[&LockedPackage], files: &[PathBuf], root: &Path, epoch: i64) -> Result<()> {
    synthesise::merge_usr(root)?;
    unpack_files(packages, files, root, epoch).map(drop)
}

/// Reads from a package's control file which other packages it needs.
///
/// # Errors
/// Fails when the package is damaged.
pub fn needs(file: &Path) -> Result<Needs> {
    let found = deb::control(file).context(|| format!("cannot read {}", file.display()))?;
    Ok(Needs::read(&String::from_utf8_lossy(found.files.get("control").map_or(&[][..], Vec::as_slice))))
}

/// What packages may contain: files, directories and links. Debian's packages contain nothing else.
fn rules(epoch: i64) -> Rules {
    Rules { latest: epoch, owner: None, whiteouts: false, rootfs: false, folder_times: false }
}

/// A part of a package's content.
enum Part {
    Control(Control),
    Data(Vec<u8>),
    Failed(io::Error),
    End,
}

/// The state that decompression and writing share.
struct Queue {
    /// The next package to decompress.
    next: AtomicUsize,
    /// Where the parts of each package go; the thread that decompresses the package takes the sender.
    senders: Vec<Mutex<Option<SyncSender<Part>>>>,
    /// The package that is being written.
    turn: Mutex<usize>,
    moved: Condvar,
    stopped: AtomicBool,
}

/// Unpacks only the files of packages; returns the content of their control archives.
///
/// # Errors
/// Fails when a package is damaged, unpacks to more than it may, or contains what no package should (the error names the
/// package), or when something cannot be written.
pub fn unpack_files(
    packages: &[&LockedPackage],
    files: &[PathBuf],
    root: &Path,
    epoch: i64,
) -> Result<BTreeMap<String, Control>> {
    let always = limits::UNPACKED_ALWAYS.saturating_mul(packages.len() as u64);
    let budget = Arc::new(Budget::new(Floor { bytes: always, ..ARCHIVE }));
    let mut tree = Tree::new(root, rules(epoch), budget.clone()).context(|| format!("cannot open {}", root.display()))?;
    let (senders, receivers): (Vec<_>, Vec<_>) = packages.iter().map(|_| sync_channel(PIECES)).unzip();
    let queue = Queue {
        next: AtomicUsize::new(0),
        senders: senders.into_iter().map(|sender| Mutex::new(Some(sender))).collect(),
        turn: Mutex::new(0),
        moved: Condvar::new(),
        stopped: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let workers = crate::sys::cores().min(AHEAD).min(files.len().max(1));
        for _ in 0..workers {
            scope.spawn(|| queue.decompress(packages, files));
        }
        let written = write_all((&mut tree, &budget), packages, receivers, &queue);
        queue.stopped.store(true, Ordering::Release);
        queue.advance();
        written
    })
}

impl Queue {
    /// Decompresses packages until none is left, but never too far ahead of the package that is being written.
    fn decompress(&self, packages: &[&LockedPackage], files: &[PathBuf]) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let (Some(package), Some(file)) = (packages.get(index), files.get(index)) else { return };
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            while index > *turn + AHEAD && !self.stopped.load(Ordering::Acquire) {
                turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
            }
            drop(turn);
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            let sender = self.senders.get(index).and_then(|sender| sender.lock().unwrap_or_else(PoisonError::into_inner).take());
            let Some(sender) = sender else { return };
            let last = match send(package, file, &sender) {
                Ok(()) => Part::End,
                Err(error) => Part::Failed(error),
            };
            // The receiver is gone if writing failed; that error is reported there.
            let _ = sender.send(last);
        }
    }

    /// Moves on to the next package to write.
    fn advance(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }
}

/// Decompresses a package.
fn send(package: &LockedPackage, file: &Path, to: &SyncSender<Part>) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut control = |control| to.send(Part::Control(control)).map_err(gone);
    let mut data = |data: &mut dyn Read| loop {
        let mut piece = Vec::with_capacity(PIECE);
        if data.take(PIECE as u64).read_to_end(&mut piece)? == 0 {
            return Ok(());
        }
        to.send(Part::Data(piece)).map_err(gone)?;
    };
    deb::read(file, package.size, &mut control, &mut data)
}

fn write_all(
    (tree, budget): (&mut Tree, &Budget),
    packages: &[&LockedPackage],
    receivers: Vec<Receiver<Part>>,
    queue: &Queue,
) -> Result<BTreeMap<String, Control>> {
    let mut controls: BTreeMap<String, Control> = BTreeMap::new();
    let mut left = limits::CONTROLS;
    for (package, receiver) in packages.iter().zip(receivers) {
        let failed = |error| crate::store::disk_error(&format!("cannot unpack {}", package.key()), error);
        let mut incoming = Incoming { receiver, piece: Vec::new(), at: 0, ended: false };
        let mut control = incoming.control().map_err(failed)?;
        let size = control.files.values().map(|content| content.len() as u64).sum();
        left = left.checked_sub(size).ok_or_else(|| {
            Error::new(format!("the control files of these packages come to more than {} bytes", limits::CONTROLS))
        })?;
        budget.came(package.size);
        control.paths = tree.write_listing(&mut incoming).map_err(failed)?;
        controls.insert(package.name.clone(), control);
        queue.advance();
    }
    Ok(controls)
}

/// A package's data as it arrives.
struct Incoming {
    receiver: Receiver<Part>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Incoming {
    fn part(&self) -> io::Result<Part> {
        self.receiver.recv().map_err(|_| io::Error::other("its decompression was cut off"))
    }

    fn control(&mut self) -> io::Result<Control> {
        match self.part()? {
            Part::Control(control) => Ok(control),
            Part::Failed(error) => Err(error),
            Part::Data(_) | Part::End => Err(io::Error::other("it has no control data")),
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            match self.part()? {
                Part::Data(piece) => (self.piece, self.at) = (piece, 0),
                Part::Failed(error) => return Err(error),
                Part::End | Part::Control(_) => self.ended = true,
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
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
        let mut tree = Tree::new(root.path(), rules(1), Arc::new(Budget::new(ARCHIVE))).unwrap();
        let paths = tree.write_listing(&data.into_inner().unwrap()[..]).unwrap();
        assert_eq!(paths, ["/bin", "/bin/sh"]);
        assert!(root.path().join("usr/bin/sh").exists());
        assert!(root.path().join("bin").is_symlink());
    }

    /// Makes a package with this name and these entries, as it would be in a store.
    fn package(folder: &Path, name: &str, entries: &[(&str, tar::EntryType, &str)]) -> (LockedPackage, PathBuf) {
        let bytes = deb::tests::deb(
            &deb::tests::tar(&[("./control", tar::EntryType::Regular, &format!("Package: {name}\n"))]),
            &deb::tests::tar(entries),
        );
        let file = folder.join(format!("{name}.deb"));
        std::fs::write(&file, &bytes).unwrap();
        let package = LockedPackage {
            name: name.into(),
            version: "1".into(),
            architecture: "all".into(),
            sha256: crate::model::Digest::of(&bytes),
            size: bytes.len() as u64,
            path: format!("pool/{name}.deb"),
            repository: None,
        };
        (package, file)
    }

    #[test]
    fn packages_bring_files_folders_and_links_only() {
        use tar::EntryType::{Block, Char, Directory, Fifo, Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let unpack = |entries: &[(&str, tar::EntryType, &str)]| {
            let root = tempfile::tempdir().unwrap();
            let (package, file) = package(folder.path(), "app", entries);
            unpack_files(&[&package], &[file], root.path(), 1).map_err(|error| error.chain())
        };
        let good = [("./usr/", Directory, ""), ("./usr/x", Regular, "text"), ("./usr/y", Symlink, "x")];
        assert_eq!(unpack(&good).unwrap()["app"].paths, ["/usr", "/usr/x", "/usr/y"]);
        for (kind, told) in [(Fifo, "FIFO"), (Char, "device"), (Block, "device")] {
            let why = unpack(&[("./usr/lib/libx.so.1", kind, "")]).unwrap_err();
            assert!(why.contains("cannot unpack app=1") && why.contains("usr/lib/libx.so.1") && why.contains(told), "{why}");
        }
    }

    #[test]
    fn many_packages_come_in_their_order_and_a_damaged_one_stops_all() {
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let large = "x".repeat(3 << 20);
        let mut all: Vec<_> = (0..40)
            .map(|index| {
                package(
                    folder.path(),
                    &format!("p{index:02}"),
                    &[("./same", tar::EntryType::Regular, &format!("{index}{large}"))],
                )
            })
            .collect();
        let run = |all: &[(LockedPackage, PathBuf)], root: &Path| {
            let packages: Vec<&LockedPackage> = all.iter().map(|(package, _)| package).collect();
            let files: Vec<PathBuf> = all.iter().map(|(_, file)| file.clone()).collect();
            unpack_files(&packages, &files, root, 1).map_err(|error| error.chain())
        };
        assert_eq!(run(&all, root.path()).unwrap().len(), 40);
        assert!(std::fs::read_to_string(root.path().join("same")).unwrap().starts_with("39x"), "the last one stands");
        all[7].0.size += 1;
        let why = run(&all, tempfile::tempdir().unwrap().path()).unwrap_err();
        assert!(why.contains("cannot unpack p07=1") && why.contains("bytes"), "{why}");
    }

    #[test]
    fn what_comes_to_far_more_than_its_size_is_cut_off() {
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let zeros = "\0".repeat(usize::try_from(limits::UNPACKED_ALWAYS).unwrap() + 1);
        let (package, file) = package(folder.path(), "bomb", &[("./zeros", tar::EntryType::Regular, &zeros)]);
        assert!(package.size < 1 << 20);
        let why = unpack_files(&[&package], &[file], root.path(), 1).unwrap_err().chain();
        assert!(why.contains("cannot unpack bomb=1"), "{why}");
        let written = std::fs::metadata(root.path().join("zeros")).map_or(0, |metadata| metadata.len());
        assert!(written <= limits::UNPACKED_ALWAYS, "{written}");
    }
}

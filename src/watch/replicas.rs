//! What each replica has of the files, and what makes it equal to the disk.

use super::Happened;
use super::aside::Aside;
use super::deliver::{self, Piece, Root, Upper};
use super::meaning::{Delivery, Files};
use super::mirror::{Mirror, Now};
use crate::build::View;
use crate::image;
use crate::instance::{Drift, Drifting, Instance};
use crate::model::{Digest, Name, Result, spelled};
use crate::plan::{ContainerRecord, InstanceRecord};
use crate::store::Store;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From how many files on several threads work.
const MANY: usize = 64;

/// The replicas on record.
pub struct Replicas {
    instance: Instance,
    /// Each with its container and its generation.
    known: BTreeMap<String, (Name, u64)>,
    /// The process of each replica that has everything.
    met: BTreeMap<String, i32>,
    /// The root of each replica into which something was synced.
    own: BTreeMap<String, Own>,
    /// What replicas have missed.
    behind: BTreeMap<String, BTreeSet<PathBuf>>,
    /// What has been written into the replicas of a container since they were last brought up.
    sent: BTreeMap<Name, BTreeSet<PathBuf>>,
}

/// What is known of the root of a replica.
struct Own {
    generation: u64,
    /// What was synced into it.
    drift: Drift,
    /// The layers of the image that the replica has on record, from which it was started or which `freeze` made of it, lowest first, and what it writes to.
    layers: Option<(Vec<PathBuf>, PathBuf)>,
}

/// What was made equal: the paths of the project's files.
#[derive(Debug, Default)]
pub struct Delivered {
    pub written: BTreeSet<PathBuf>,
    pub removed: BTreeSet<PathBuf>,
}

impl Delivered {
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }

    pub fn has(&self, path: &Path) -> bool {
        self.written.contains(path) || self.removed.contains(path)
    }

    pub fn add(&mut self, other: Self) {
        self.written.extend(other.written);
        self.removed.extend(other.removed);
    }
}

/// What is to be done about a file in a replica.
struct Looked {
    lacks: bool,
    /// Whether what has drifted before is as in the image again.
    is_back: bool,
    /// Whether there is a file which is none of the image.
    is_upper: bool,
}

impl Replicas {
    /// None yet.
    pub fn of(instance: &Instance) -> Self {
        let (known, met, own) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { instance: instance.clone(), known, met, own, behind: BTreeMap::new(), sent: BTreeMap::new() }
    }

    /// All of them, with their containers.
    pub fn all(&self) -> Vec<(String, Name)> {
        self.known.iter().map(|(replica, (name, _))| (replica.clone(), name.clone())).collect()
    }

    /// The replicas of a container.
    pub fn of_container(&self, container: &Name) -> Vec<String> {
        self.known.iter().filter(|(_, (name, _))| name == container).map(|(replica, _)| replica.clone()).collect()
    }

    /// Takes those on record.
    pub fn meet(&mut self, record: InstanceRecord) {
        let of = |(name, record): (String, ContainerRecord)| (name, (record.container, record.generation));
        let now: BTreeMap<String, (Name, u64)> = record.containers.into_iter().map(of).collect();
        for (replica, (name, generation)) in &now {
            // It was replaced, perhaps with older files.
            if self.known.get(replica).is_some_and(|(_, before)| before != generation)
                && let Some(sent) = self.sent.get(name)
            {
                self.behind.entry(replica.clone()).or_default().extend(sent.iter().cloned());
            }
        }
        self.known = now;
        self.met.retain(|replica, _| self.known.contains_key(replica));
        self.behind.retain(|replica, _| self.known.contains_key(replica));
        self.own.retain(|replica, _| self.known.contains_key(replica));
    }

    /// Notes that an `up` has brought up these containers, or all if there are none: what was sent before is in their images.
    pub fn were_brought_up(&mut self, only: &BTreeSet<Name>) {
        self.sent.retain(|name, _| !only.is_empty() && !only.contains(name));
    }

    /// Whether the process of a replica has everything.
    pub fn has_met(&self, replica: &str, pid: i32) -> bool {
        self.met.get(replica) == Some(&pid)
    }

    /// Notes that the process of a replica has everything.
    pub fn has_all(&mut self, replica: &str, pid: i32) {
        self.met.insert(replica.to_owned(), pid);
    }

    /// Counts no replica as having everything.
    pub fn doubt_all(&mut self) {
        self.met.clear();
    }

    /// Notes what a replica has missed.
    pub fn owe(&mut self, replica: &str, paths: impl IntoIterator<Item = PathBuf>) {
        self.behind.entry(replica.to_owned()).or_default().extend(paths);
    }

    /// Whether a replica has missed something.
    pub fn is_behind(&self, replica: &str) -> bool {
        self.behind.contains_key(replica)
    }

    /// Takes what a replica has missed.
    pub fn take_owed(&mut self, replica: &str) -> BTreeSet<PathBuf> {
        self.behind.remove(replica).unwrap_or_default()
    }

    /// Lets replicas that are behind be looked at again, unless their container is to be built anew.
    pub fn catch_up(&mut self, is_left: &dyn Fn(&Name) -> bool) {
        for replica in self.behind.keys() {
            if self.known.get(replica).is_some_and(|(name, _)| !is_left(name)) {
                self.met.remove(replica);
            }
        }
    }

    /// Delivers files into all replicas that are met and run. Returns what they did not have, who has got it, and whether
    /// replicas are left that must be met first.
    pub fn deliver_all(
        &mut self,
        files: &BTreeMap<Name, Files>,
        mirror: &Mirror,
        told: &mut Vec<Happened>,
    ) -> (Delivered, BTreeSet<String>, bool) {
        let (mut all, mut reached, mut is_unmet) = (Delivered::default(), BTreeSet::new(), false);
        for (name, files) in files {
            for replica in self.of_container(name) {
                // One that has started meanwhile gets it with everything else, once it is known which one it is.
                let root = Root::of(&self.instance, &replica).unwrap_or_else(|error| {
                    told.push(Happened::Failed(error));
                    None
                });
                let Some(mut root) = root.filter(|root| self.has_met(&replica, root.pid)) else {
                    self.owe(&replica, files.values().map(|file| file.path.clone()));
                    is_unmet = true;
                    continue;
                };
                let delivered = self.deliver(&replica, &mut root, files, mirror, told);
                if !delivered.is_empty() {
                    reached.insert(replica);
                    all.add(delivered);
                }
            }
        }
        (all, reached, is_unmet)
    }

    /// Delivers files into one replica; returns those that it did not have. If it is replaced meanwhile, it has missed them.
    pub fn deliver(
        &mut self,
        replica: &str,
        root: &mut Root,
        files: &Files,
        mirror: &Mirror,
        told: &mut Vec<Happened>,
    ) -> Delivered {
        let delivered = self.write(replica, root, files, mirror, told);
        let is_current = root.is_current(&self.instance, replica);
        if !is_current || delivered.is_err() {
            self.owe(replica, files.values().map(|file| file.path.clone()));
        }
        delivered.unwrap_or_else(|error| {
            // Of a root that is being removed nothing can be recorded, and nothing needs to be.
            if is_current {
                told.push(Happened::Failed(error));
            }
            Delivered::default()
        })
    }

    fn write(
        &mut self,
        replica: &str,
        root: &mut Root,
        files: &Files,
        mirror: &Mirror,
        told: &mut Vec<Happened>,
    ) -> Result<Delivered> {
        let Some((name, generation)) = self.known.get(replica).cloned() else { return Ok(Delivered::default()) };
        let mut own = match self.own.remove(replica) {
            Some(own) if own.generation == generation => own,
            _ => Own { generation, drift: Drift::read(&self.instance, replica, generation)?, layers: self.layers_of(replica) },
        };
        let all: Vec<(&PathBuf, &Delivery)> = files.iter().collect();
        let looked = in_parts(&all, root, &|root, part| look_all(root, mirror, part, &own));
        let (mut news, mut back, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for ((to, file), Looked { lacks, is_back, is_upper }) in all.into_iter().zip(looked) {
            let key = spelled(to.as_os_str()).into_owned();
            if is_back {
                back.push((to, key.clone()));
            }
            if lacks {
                lacking.push(Lacking { to, file, is_upper });
                // What it has already is no drift of ours.
                news.extend(drifting(&file.now).filter(|_| !is_back && file.volume.is_none()).map(|now| (key, now)));
            }
        }
        own.drift.add(&self.instance, replica, generation, news)?;
        // What was not written is still as it was.
        let mut failed: BTreeSet<PathBuf> = lacking.iter().map(|one| one.to.clone()).collect();
        let mut delivered = Delivered::default();
        for Done { to, path, is_removal, result } in put_all(lacking, root, mirror) {
            match result {
                Ok(is_new) => {
                    failed.remove(to);
                    let paths = if is_removal { &mut delivered.removed } else { &mut delivered.written };
                    paths.extend(is_new.then(|| path.clone()));
                }
                Err(error) => told.push(Happened::Failed(deliver::failed(replica, to, &error))),
            }
        }
        let back = back.into_iter().filter(|(to, _)| !failed.contains(*to)).map(|(_, key)| (key, Drifting::AsImage)).collect();
        own.drift.add(&self.instance, replica, generation, back)?;
        self.sent.entry(name).or_default().extend(delivered.written.iter().chain(&delivered.removed).cloned());
        self.own.insert(replica.to_owned(), own);
        Ok(delivered)
    }

    fn layers_of(&self, replica: &str) -> Option<(Vec<PathBuf>, PathBuf)> {
        let upper = self.instance.container(replica).spec().ok().flatten()?.blueprint.beyond.layers?.upper;
        let store = Store::at(&self.instance.home.store);
        let image = image::load(&store, &self.instance.record().ok()?.containers.get(replica)?.image)?;
        Some((image.layers.iter().map(|layer| store.layer_path(&layer.diff_id)).collect(), upper))
    }
}

/// Looks what is to be done about files.
fn look_all(root: &mut Root, mirror: &Mirror, files: &[(&PathBuf, &Delivery)], own: &Own) -> Vec<Looked> {
    let image = own.layers.as_ref().map(|(image, _)| View::new(image.clone()));
    // Without it, no file is moved.
    let mut upper = own.layers.as_ref().and_then(|(_, upper)| Upper::open(upper).ok());
    let one = |(to, file): &(&PathBuf, &Delivery)| {
        let drifts = file.volume.is_none() && own.drift.has(&spelled(to.as_os_str()));
        let is_back = drifts && image.as_ref().is_some_and(|image| has(image, to, &file.now));
        // If it cannot be read, writing it says why.
        let has = root.has(to, file.volume.as_deref(), &file.now, file.source(mirror).as_ref()).unwrap_or(false);
        // A volume has no layers.
        let is_upper = !has && (file.volume.is_some() || upper.as_mut().is_some_and(|upper| upper.has_file(to)));
        Looked { lacks: !has, is_back, is_upper }
    };
    files.iter().map(one).collect()
}

/// A file that a replica lacks.
struct Lacking<'f> {
    to: &'f PathBuf,
    file: &'f Delivery,
    is_upper: bool,
}

/// What became of a delivery.
struct Done<'f> {
    to: &'f PathBuf,
    path: &'f PathBuf,
    is_removal: bool,
    result: std::io::Result<bool>,
}

/// Writes files into a root: what is gone goes from the inside out, and directories come before what is in them.
fn put_all<'f>(files: Vec<Lacking<'f>>, root: &mut Root, mirror: &Mirror) -> Vec<Done<'f>> {
    let (gone, there): (Vec<_>, Vec<_>) = files.into_iter().partition(|one| one.file.now == Now::Gone);
    let (folders, rest): (Vec<_>, Vec<_>) = there.into_iter().partition(|one| matches!(one.file.now, Now::Folder { .. }));
    let first: Vec<_> = gone.into_iter().rev().chain(folders).collect();
    let mut done = put(mirror, root, &first, None);
    // Where none can be made, each file is made beside where it belongs.
    let is_of_root = rest.iter().any(|one| one.file.volume.is_none());
    let aside = if rest.len() < MANY || !is_of_root { None } else { root.aside().ok() };
    done.extend(in_parts(&rest, root, &|root, part| put(mirror, root, part, aside.as_ref())));
    done
}

fn put<'f>(mirror: &Mirror, root: &mut Root, files: &[Lacking<'f>], aside: Option<&Aside>) -> Vec<Done<'f>> {
    let one = |Lacking { to, file, is_upper }: &Lacking<'f>| {
        let source = file.source(mirror);
        if source.is_none() && matches!(file.now, Now::File { .. }) {
            return None;
        }
        let (volume, new, is_upper) = (file.volume.as_deref(), file.new, *is_upper);
        let piece = Piece { volume, now: &file.now, source: source.as_ref(), new, is_upper };
        let result = root.put(to, &piece, aside);
        Some(Done { to, path: &file.path, is_removal: file.now == Now::Gone, result })
    };
    files.iter().filter_map(one).collect()
}

/// Works on the parts of a list, on several threads if it is long, each of which has its own handle of the root.
fn in_parts<T: Sync, R: Send>(all: &[T], root: &mut Root, work: &(dyn Fn(&mut Root, &[T]) -> Vec<R> + Sync)) -> Vec<R> {
    let threads = if all.len() < MANY { 1 } else { sys::cores() };
    // Without descriptors for more there are fewer threads.
    let others: Vec<Root> = (1..threads).map_while(|_| root.again().ok()).collect();
    let mut parts = all.chunks(all.len().div_ceil(others.len() + 1).max(1));
    std::thread::scope(|scope| {
        let own = parts.next().unwrap_or_default();
        let begin = |(mut root, part): (Root, _)| scope.spawn(move || work(&mut root, part));
        let others: Vec<_> = others.into_iter().zip(parts).map(begin).collect();
        let mut done = work(root, own);
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

/// What the record of drift says; directories alone are none.
fn drifting(now: &Now) -> Option<Drifting> {
    match now {
        Now::File { digest, .. } => Some(Drifting::File(*digest)),
        Now::Link(to) => Some(Drifting::File(Digest::of(spelled(to).as_bytes()))),
        Now::Gone => Some(Drifting::Gone),
        Now::Folder { .. } => None,
    }
}

/// Whether an image has this at a path.
fn has(image: &View, to: &Path, now: &Now) -> bool {
    let at = image.resolve(to.parent().unwrap_or(Path::new("/"))).join(to.file_name().unwrap_or_default());
    match now {
        Now::Gone => image.entry(&at).is_none(),
        Now::Folder { .. } => image.entry(&at).is_some_and(|(_, found)| found.is_dir()),
        Now::Link(target) => image.link(&at).is_ok_and(|found| found == *target),
        Now::File { digest, mode } => {
            let executable = |mode: u32| mode & 0o100 != 0;
            image.entry(&at).is_some_and(|(_, found)| {
                found.is_file() && executable(std::os::unix::fs::MetadataExt::mode(&found)) == executable(*mode)
            }) && image.file(&at).and_then(Digest::of_stream).is_ok_and(|found| found == *digest)
        }
    }
}

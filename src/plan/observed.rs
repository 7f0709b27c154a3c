//! What planning knows of the machine: plain data, gathered by `instance` or made up by a test.

use super::image::{Image, StepInputs, StepOutput};
use crate::model::{Digest, Duration, LayerInfo, Name, Subnet, unspelled};
use crate::project::{Copy, MountSource, Outside, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One published port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: Protocol,
    pub to: u16,
}

/// Facts that are looked up on demand, because gathering all of them beforehand would be too much.
pub trait Facts {
    /// The recorded output of a step.
    fn step(&self, key: &Digest) -> Option<StepOutput>;
    /// The image that an assembly resulted in.
    fn image(&self, key: &Digest) -> Option<Image>;
    /// The files that a `copy` step takes, by image and step.
    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String>;
    /// The recorded listing of a `copy`, if it is still in the store.
    fn listing(&self, digest: &Digest) -> Option<FileTree>;
    /// A digest of the content of an archive that holds an image.
    ///
    /// # Errors
    /// A sentence saying why it cannot be read.
    fn archive(&self, outside: &Outside) -> Result<Digest, String>;
    /// A digest of everything in the layers below, and in the image that it copies from, that affects a `copy`;
    /// `None` if that is not known.
    fn surroundings(
        &self,
        copy: &Copy,
        workdir: &str,
        below: &[LayerInfo],
        from: &[LayerInfo],
        tree: Option<&FileTree>,
    ) -> Option<Digest>;
}

/// Files about to be copied, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileTree {
    pub entries: Vec<TreeEntry>,
    /// Its digest, computed on first use: planning needs it often, and trees are long.
    #[serde(skip)]
    known: OnceLock<Digest>,
}

impl PartialEq for FileTree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl From<Vec<TreeEntry>> for FileTree {
    fn from(entries: Vec<TreeEntry>) -> Self {
        Self { entries, known: OnceLock::new() }
    }
}

/// A file, directory or link about to be copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Its target, below the step's `to`, as it is spelled; empty for `to` itself.
    pub to: String,
    /// Its source, relative to the project's directory, as it is spelled.
    pub from: String,
    pub kind: TreeKind,
    /// The permissions, if a Dockerfile keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether it is a source by itself, not inside one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl TreeEntry {
    pub fn is_file(&self) -> bool {
        matches!(self.kind, TreeKind::File { .. })
    }

    /// Its target in a copy to this path.
    pub fn place(&self, base: &Path) -> PathBuf {
        if self.to.is_empty() { base.to_owned() } else { base.join(unspelled(&self.to)) }
    }
}

/// What is copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TreeKind {
    Folder,
    File {
        digest: Digest,
        executable: bool,
    },
    /// A symbolic link, and how its target is spelled.
    Link(String),
    Fifo,
    /// A further name of another file of the same copy: of the one that goes to `of` and comes from `from`.
    Twin {
        of: String,
        from: String,
    },
}

impl FileTree {
    /// Moves everything below a path, and adds the directories of that path.
    pub fn below(&mut self, above: &str) {
        for entry in self.entries.iter_mut().filter(|_| !above.is_empty()) {
            entry.to = if entry.to.is_empty() { above.to_owned() } else { format!("{above}/{}", entry.to) };
        }
        for (at, _) in above.match_indices('/') {
            let (to, from) = (above[..at].to_owned(), above[..at].to_owned());
            self.entries.push(TreeEntry { to, from, kind: TreeKind::Folder, mode: None, whole: false });
        }
    }

    /// The name of its file, if the tree is a single file.
    pub fn single_name(&self) -> Option<&str> {
        match self.entries.as_slice() {
            [only] if only.to.is_empty() => only.from.rsplit('/').next(),
            _ => None,
        }
    }

    /// Combines several trees into one, each in a directory named by its number.
    pub fn side_by_side(trees: Vec<Self>) -> Self {
        let mut all = Self::default();
        for (number, tree) in trees.into_iter().enumerate() {
            all.entries.extend(tree.entries.into_iter().map(|entry| {
                let to = if entry.to.is_empty() { number.to_string() } else { format!("{number}/{}", entry.to) };
                TreeEntry { to, ..entry }
            }));
        }
        all
    }

    /// A digest of the content: names, kinds and digests, but not the sources.
    pub fn digest(&self) -> Digest {
        *self.known.get_or_init(|| Digest::of(self.canonical()))
    }

    /// An unambiguous binary encoding of the content: everything of variable length is preceded by its length. It is not
    /// made for people because trees are long.
    fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 80);
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend(b"tree 2\n");
        for TreeEntry { to, from: _, kind, mode, whole: _ } in &self.entries {
            text(&mut out, to);
            match kind {
                TreeKind::Folder => out.push(0),
                TreeKind::File { digest, executable } => {
                    out.extend([1, u8::from(*executable)]);
                    out.extend(digest.bytes());
                }
                TreeKind::Link(to) => {
                    out.push(2);
                    text(&mut out, to);
                }
                TreeKind::Fifo => out.push(3),
                TreeKind::Twin { of, from: _ } => {
                    out.push(4);
                    text(&mut out, of);
                }
            }
            // No mode has all bits set, so this value means "none".
            out.extend(mode.unwrap_or(u32::MAX).to_le_bytes());
        }
        out
    }
}

/// The record of an instance's last `up`. Fields are only ever added, with a default, so that a newer
/// stead can read the record of an older one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub project: String,
    pub folder: String,
    pub file: String,
    pub networks: BTreeMap<Name, NetworkRecord>,
    pub containers: BTreeMap<String, ContainerRecord>,
    pub images: BTreeMap<Name, ImageRecord>,
    /// The generation of the firewall's ruleset after our last change.
    pub generation: u32,
    /// The volumes whose directories exist.
    pub volumes: BTreeSet<Name>,
    /// The images that were committed from containers, by name.
    #[serde(default)]
    pub commits: BTreeMap<Name, Digest>,
    /// The containers that somebody stopped: they stay down across a boot.
    #[serde(default)]
    pub stopped: BTreeSet<String>,
    /// The volumes that a job fills, until their seeds are kept: what is in them is not whole.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub seeding: BTreeSet<Name>,
    /// A counter that grows with every change of this record.
    pub serial: u64,
}

/// A network that was created.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub bridge: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    pub internal: bool,
    pub mtu: u32,
    pub external: bool,
}

/// A container that was created.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub container: Name,
    pub replica: u32,
    pub image_name: String,
    pub image: Digest,
    /// Every aspect that matters, as text; a difference from the desired state causes a change.
    pub aspects: BTreeMap<String, String>,
    /// The keys of the aspects whose values are never shown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub private: BTreeSet<String>,
    pub addresses: BTreeMap<Name, Ipv4Addr>,
    pub ports: Vec<Port>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The container's port that its health check requests a page from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<u16>,
    /// How far it is, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobState>,
    /// Whether it is replaced in turns: ports lead to it only when it is healthy, if another one is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_turns: bool,
    pub generation: u64,
}

/// How far a job is. Its result is on record because it must outlive a boot, which its monitor's report does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It is to run, or runs, or has failed.
    Begun,
    /// Its command has ended with exit status 0.
    Done,
}

/// The beginning of the paths of aspects that tell where the data of a container's image is kept.
pub const IMAGE_VOLUME: &str = "image.volume.";

impl ContainerRecord {
    /// The volumes that it mounts.
    pub fn volumes(&self) -> BTreeSet<Name> {
        /// The part of a mount that tells what is mounted.
        #[derive(Deserialize)]
        struct Mounted {
            source: MountSource,
        }
        let mounts = self.aspects.iter().filter(|(path, _)| path.starts_with("mount.") || path.starts_with(IMAGE_VOLUME));
        let sources = mounts.filter_map(|(_, text)| {
            // The mount itself comes first; what follows depends on its kind.
            let parts: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
            serde_json::from_value::<Mounted>(parts.into_iter().next()?).ok()
        });
        let names = sources.filter_map(|mount| match mount.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Bind(_) | MountSource::Image(_) => None,
        });
        names.collect()
    }
}

/// An image that was built, and its inputs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageRecord {
    pub digest: Digest,
    pub steps: Vec<StepRecord>,
    /// The settings of its own nodes, so that a plan can name the one that changed.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The keys of the settings whose values are never shown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub private: BTreeSet<String>,
    /// What the lock had for the images from elsewhere that it is made from, directly or through others, by reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locked: BTreeMap<String, Digest>,
}

/// A step that was run: its definition and what it depended on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// A digest of the step itself.
    pub definition: Digest,
    pub inputs: StepInputs,
    /// For a `copy`, the blob that lists its files.
    pub listing: Option<Digest>,
    /// How long it took when it last ran here, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
}

/// The current state of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Running,
    /// It ended by itself, as its restart policy allows.
    Finished,
    /// It should run but does not.
    Down(Down),
}

/// Why a container is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// It was stopped by `stop` or `kill`.
    Stopped,
    /// Its command ended with this exit status.
    Ended(i32),
    /// It took longer than it may, and was killed.
    TimedOut(Duration),
    /// Its monitor died, or the host was restarted.
    Lost,
}

/// How far a container is from its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drifted {
    pub files: usize,
    pub digest: Digest,
}

/// A snapshot that is the seed of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSeed {
    pub name: String,
    /// The instance that has it and its directory, if it is another one.
    pub elsewhere: Option<(String, String)>,
}

/// What other instances of this installation have taken, or are about to take.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    pub ports: Vec<TakenPort>,
    pub subnets: Vec<Subnet>,
    /// The addresses on external bridges, by bridge.
    pub outside: Vec<(String, Ipv4Addr)>,
}

/// A port of the host that another instance has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TakenPort {
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: Protocol,
    pub project: String,
    pub folder: String,
}

/// Everything that planning knows of the machine.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The short name of this instance, derived from its project's directory.
    pub instance: String,
    /// The short name of the installation.
    pub tag: String,
    pub record: InstanceRecord,
    /// The current state of the containers on record.
    pub containers: BTreeMap<String, Seen>,
    /// The containers that live syncs have made different from their image.
    pub drift: BTreeMap<String, Drifted>,
    /// The containers that have written files outside of their volumes.
    pub written: BTreeSet<String>,
    /// Images that are taken as they are, whatever the project says: a generation is brought back.
    pub pinned: BTreeMap<Name, Image>,
    /// The bridges that exist.
    pub bridges: BTreeSet<String>,
    /// The names of external bridges that are none, each with why.
    pub no_bridges: BTreeMap<String, String>,
    /// The subnets that the host routes, each with its link.
    pub routes: Vec<(Subnet, String)>,
    /// What other instances have taken, or are about to take.
    pub taken: Taken,
    /// The settings of the host that networks need and that are not set yet.
    pub settings: Vec<(String, String)>,
    /// Whether the firewall table is unchanged since the last `up`.
    pub firewall: bool,
    /// The digests of the current contents of secrets and configs.
    pub contents: BTreeMap<Name, Digest>,
    /// The digests of the containers' system call filters, by the path of their file.
    pub profiles: BTreeMap<String, Digest>,
    /// The variables of the containers' `env-file`s, by path.
    pub env_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Where the host paths in the project lead, by how they are written.
    pub leads: BTreeMap<String, Lead>,
    /// The files of the jobs' inputs: each path with what tells its content from every other.
    pub inputs: BTreeMap<Name, BTreeMap<String, String>>,
    /// The seeds of volumes that are kept, in this directory and in others of the project.
    pub seeds: BTreeMap<Name, Vec<KeptSeed>>,
    /// What tells the volumes that jobs have mounted from others of the same names: one that was deleted and made again is
    /// another one.
    pub births: BTreeMap<Name, String>,
}

/// Where a path leads when every symbolic link is followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lead {
    pub path: PathBuf,
    /// Whether that is outside the project's directory.
    pub outside: bool,
    /// Whether it is the written path itself, without a symbolic link on the way.
    pub plain: bool,
}

impl Observed {
    /// Where a path leads; a path that was not looked up is judged by how it is written.
    pub fn lead(&self, path: &str) -> Lead {
        self.leads.get(path).cloned().unwrap_or_else(|| {
            let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
            Lead { path: path.into(), outside, plain: true }
        })
    }
}

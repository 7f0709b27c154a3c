//! What planning knows of the machine: plain data, gathered by `apply` or made up by a test.

use super::image::{Image, StepInputs, StepOutput};
use crate::model::{Digest, LayerInfo, Name, Subnet};
use crate::project::{Copy, Outside, Protocol};
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

/// Look-ups that would be too many to gather beforehand.
pub trait Facts {
    /// The recorded output of a step.
    fn step(&self, key: &Digest) -> Option<StepOutput>;
    /// The image that an assembly came to.
    fn image(&self, key: &Digest) -> Option<Image>;
    /// The files that a `copy` step takes, by image and step.
    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String>;
    /// The recorded listing of a `copy`, where it is still in the store.
    fn listing(&self, digest: &Digest) -> Option<FileTree>;
    /// What identifies the content of an archive that holds an image.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn archive(&self, outside: &Outside) -> Result<Digest, String>;
    /// All that a `copy` finds below it and takes from another image, as a digest; nothing where that is
    /// not known.
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
    /// Its digest, once somebody asked: planning asks often, and trees are long.
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
    /// Where it goes, below the step's `to`; empty for `to` itself.
    pub to: String,
    /// Where it comes from, relative to the project's directory.
    pub from: String,
    pub kind: TreeKind,
    /// Permissions, where a Dockerfile keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether it is a source by itself, not part of one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl TreeEntry {
    pub fn is_file(&self) -> bool {
        matches!(self.kind, TreeKind::File { .. })
    }

    /// Where it goes, of a copy to a path.
    pub fn place(&self, base: &Path) -> PathBuf {
        if self.to.is_empty() { base.to_owned() } else { base.join(&self.to) }
    }
}

/// What is copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TreeKind {
    Folder,
    File { digest: Digest, executable: bool },
    Link(String),
}

impl FileTree {
    /// Moves everything below a path, whose directories it then holds.
    pub fn below(&mut self, above: &str) {
        for entry in self.entries.iter_mut().filter(|_| !above.is_empty()) {
            entry.to = if entry.to.is_empty() { above.to_owned() } else { format!("{above}/{}", entry.to) };
        }
        for (at, _) in above.match_indices('/') {
            let (to, from) = (above[..at].to_owned(), above[..at].to_owned());
            self.entries.push(TreeEntry { to, from, kind: TreeKind::Folder, mode: None, whole: false });
        }
    }

    /// The name of the one file that it is, if it is that.
    pub fn single_name(&self) -> Option<&str> {
        match self.entries.as_slice() {
            [only] if only.to.is_empty() => only.from.rsplit('/').next(),
            _ => None,
        }
    }

    /// Several trees as one, each in a directory by its number.
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

    /// What identifies the content: names, kinds and digests, not where they came from.
    pub fn digest(&self) -> Digest {
        *self.known.get_or_init(|| Digest::of(self.canonical()))
    }

    /// All that identifies the content, as bytes that only the same content has: whatever has no fixed length stands behind
    /// its length. Trees are long, so these are not for people.
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
            }
            // No mode has all bits.
            out.extend(mode.unwrap_or(u32::MAX).to_le_bytes());
        }
        out
    }
}

/// What an instance's last `up` left on record. Fields are only ever added, with a default: a newer
/// stead takes over what an older one made.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub project: String,
    pub folder: String,
    pub file: String,
    pub networks: BTreeMap<Name, NetworkRecord>,
    pub containers: BTreeMap<String, ContainerRecord>,
    pub images: BTreeMap<Name, ImageRecord>,
    /// The ruleset's generation after our last change.
    pub generation: u32,
    /// Volumes that were made, with their directories.
    pub volumes: BTreeSet<Name>,
    /// Images made of containers, by the names they were given.
    #[serde(default)]
    pub commits: BTreeMap<Name, Digest>,
    /// Containers that somebody stopped: they stay down across a boot.
    #[serde(default)]
    pub stopped: BTreeSet<String>,
    /// Grows with every change of this record.
    pub serial: u64,
}

/// A network that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub bridge: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    pub internal: bool,
    pub mtu: u32,
    pub external: bool,
}

/// A container that was made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub container: Name,
    pub replica: u32,
    pub image_name: String,
    pub image: Digest,
    /// Every aspect that matters, as text; what differs from the wish is the cause of a change.
    pub aspects: BTreeMap<String, String>,
    pub addresses: BTreeMap<Name, Ipv4Addr>,
    pub ports: Vec<Port>,
    pub generation: u64,
}

/// An image that was built, and from what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageRecord {
    pub digest: Digest,
    pub steps: Vec<StepRecord>,
    /// What its own nodes said of its configuration, for naming the one that changed.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A step that was run: what it was and what it depended on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's own text, as a digest.
    pub definition: Digest,
    pub inputs: StepInputs,
    /// For a `copy`: the blob that lists its files.
    pub listing: Option<Digest>,
}

/// How a container is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Running,
    /// It ended by itself, as its restart policy allows.
    Finished,
    /// It should run and does not.
    Down(Down),
}

/// Why a container is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// By `stop` or `kill`.
    Stopped,
    /// Its command ended, with this exit status.
    Ended(i32),
    /// Its monitor died, or the host was started anew.
    Lost,
}

/// What others of this installation have taken, or are about to take.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    pub ports: Vec<TakenPort>,
    pub subnets: Vec<Subnet>,
    /// Addresses on bridges that are not ours, by bridge.
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
    /// Short name of this instance, from its project's directory.
    pub instance: String,
    /// Short name of the installation.
    pub tag: String,
    pub record: InstanceRecord,
    /// Containers on record, as they are now.
    pub containers: BTreeMap<String, Seen>,
    /// Bridges that are there.
    pub bridges: BTreeSet<String>,
    /// Subnets that the host routes, and through which link.
    pub routes: Vec<(Subnet, String)>,
    /// What other instances have, or are about to have.
    pub taken: Taken,
    /// Settings of the host that networks need and that it has not.
    pub settings: Vec<(String, String)>,
    /// Whether the firewall table is as it was left.
    pub firewall: bool,
    /// What secrets and configs hold now.
    pub contents: BTreeMap<Name, Digest>,
    /// System call filters of the containers, by the path of their file.
    pub profiles: BTreeMap<String, Digest>,
    /// Variables of the containers' files, by path.
    pub env_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Where the paths of the host lead that the project names, by how they are written.
    pub leads: BTreeMap<String, Lead>,
}

/// Where a path leads, every link followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lead {
    pub path: PathBuf,
    /// Whether that is outside of the project's directory.
    pub outside: bool,
    /// Whether it is what is written, as text: no link on the way.
    pub plain: bool,
}

impl Observed {
    /// Where a path leads; one that nobody looked at is judged by how it is written.
    pub fn lead(&self, path: &str) -> Lead {
        self.leads.get(path).cloned().unwrap_or_else(|| {
            let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
            Lead { path: path.into(), outside, plain: true }
        })
    }
}

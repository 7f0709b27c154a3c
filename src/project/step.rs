//! The steps by which an image is made.

use crate::model::{Digest, GitRepository, Mode, Name, Size, without_login};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A step of an image, in order. Steps that only change the configuration never make layers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Step {
    Debian(Debian),
    Copy(Copy),
    Add(Add),
    Run(Run),
    Env(BTreeMap<String, String>),
    Arg(BTreeMap<String, String>),
    Workdir(String),
    User(String),
    Shell(Vec<String>),
    /// A directory, made if it is not there.
    Folder(String),
}

/// Packages of a suite.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Debian {
    pub suite: String,
    pub packages: Vec<String>,
    pub essential: bool,
    pub recommends: bool,
    pub components: Vec<String>,
    pub mirror: Option<String>,
    pub key: Option<String>,
    /// Patterns of the versions that may be taken, by package.
    pub pins: BTreeMap<String, String>,
    /// Further suites of the same archive.
    pub suites: Vec<String>,
    pub repositories: Vec<Repository>,
    /// Whether the packages' scripts run, in a sandbox.
    pub configure: bool,
}

/// A signed repository of packages beside a suite's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Repository {
    pub place: String,
    pub suite: String,
    pub components: Vec<String>,
    /// The file of the keys that may sign it.
    pub key: String,
}

/// Files copied in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Copy {
    pub sources: Vec<String>,
    pub to: String,
    pub from: Option<Name>,
    pub owner: Option<String>,
    pub mode: Option<Mode>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// The sources' directories are kept below `to`.
    pub parents: bool,
    /// The directory that it takes files from; the project's if there is none.
    pub context: Option<BuildContext>,
    /// Files whose content stands in the step: name and content.
    pub inline: Vec<(String, String)>,
    /// As a Dockerfile has it: permissions stay, and a file goes into a directory that is there.
    pub as_docker: bool,
    /// Archives are unpacked.
    pub unpack: bool,
}

impl Copy {
    /// Whether its layer holds the files it takes, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.from.is_none() && self.inline.is_empty() && !self.unpack
    }
}

/// Something fetched, and copied or unpacked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Add {
    pub source: AddSource,
    pub to: String,
    pub owner: Option<String>,
    pub mode: Option<Mode>,
    pub exclude: Vec<String>,
    pub unpack: bool,
    pub as_docker: bool,
}

/// Where an `add` fetches from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AddSource {
    /// A file; where no digest is written the lock has it.
    Url { url: String, sha256: Option<Digest> },
    /// The files of a git repository; where the project says no whole commit the lock has it.
    Git(GitSource),
}

/// What of a git repository is added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GitSource {
    pub place: GitRepository,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// The commit, or how its id begins, whatever the reference says.
    pub commit: Option<String>,
    /// One directory, and nothing else.
    pub folder: Option<String>,
    /// Also what git keeps beside the files.
    pub dot_git: bool,
    pub submodules: bool,
}

impl GitSource {
    /// The commit, where the project says it in full.
    pub fn pinned(&self) -> Option<&str> {
        [&self.commit, &self.reference].into_iter().flatten().map(String::as_str).find(|text| is_commit(text))
    }
}

impl Add {
    /// What the lock must know before this can be fetched: a URL, or a repository and its reference; without passwords.
    pub fn unknown(&self) -> Option<String> {
        match &self.source {
            AddSource::Url { url, sha256: None } => Some(without_login(url)),
            AddSource::Git(git) if git.pinned().is_none() => {
                let commit = git.commit.as_ref().map(|commit| format!("?checksum={commit}")).unwrap_or_default();
                Some(format!("{}{commit}#{}", git.place.shown(), git.reference.as_deref().unwrap_or("HEAD")))
            }
            _ => None,
        }
    }
}

/// Whether text is the name of a git object.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// A directory that a Dockerfile takes files from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct BuildContext {
    /// Relative to the project's.
    pub folder: String,
    /// The file of patterns that is looked for before the context's own `.dockerignore`.
    pub ignore: String,
}

/// What a command reaches while it runs. It is kept as it is written: a flag, or "host".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "WrittenNetwork", into = "WrittenNetwork")]
pub enum RunNetwork {
    #[default]
    None,
    /// A network of the build's own, translated to the host's addresses.
    Own,
    Host,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenNetwork {
    Flag(bool),
    Word(NetworkWord),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NetworkWord {
    Host,
}

impl From<RunNetwork> for WrittenNetwork {
    fn from(network: RunNetwork) -> Self {
        match network {
            RunNetwork::None => Self::Flag(false),
            RunNetwork::Own => Self::Flag(true),
            RunNetwork::Host => Self::Word(NetworkWord::Host),
        }
    }
}

impl From<WrittenNetwork> for RunNetwork {
    fn from(written: WrittenNetwork) -> Self {
        match written {
            WrittenNetwork::Flag(false) => Self::None,
            WrittenNetwork::Flag(true) => Self::Own,
            WrittenNetwork::Word(NetworkWord::Host) => Self::Host,
        }
    }
}

/// A command run in the image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    pub words: Vec<String>,
    /// One string for the image's shell, not words of their own.
    pub shell: bool,
    pub network: RunNetwork,
    /// With every capability and device, nothing masked, no system call filter.
    pub privileged: bool,
    pub mounts: Vec<RunMount>,
    /// For this command only.
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// Something that is there while a command runs, and not in the image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunMount {
    pub to: String,
    pub read_only: bool,
    pub source: RunSource,
}

/// What a command finds at a mount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunSource {
    /// A directory that the next build finds again.
    Cache {
        id: String,
        mode: u32,
        owner: (u32, u32),
        sharing: Sharing,
        /// Whether other projects find it, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        shared: bool,
        /// An image, and a path in it, whose files it begins with.
        from: Option<(Name, String)>,
    },
    Tmpfs {
        size: Option<Size>,
    },
    /// A secret of the project.
    Secret {
        name: Name,
        mode: u32,
        owner: (u32, u32),
        required: bool,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether it is a file, too.
        file: bool,
    },
    /// The socket of the user's ssh agent.
    Ssh {
        required: bool,
    },
    Image {
        name: Name,
        path: String,
    },
    Context {
        context: BuildContext,
        path: String,
    },
    /// A program that stands in the step.
    Script(String),
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    #[default]
    Shared,
    /// One command after the other.
    Locked,
    /// Each command another copy.
    Private,
}

impl RunMount {
    /// The image whose files it shows.
    pub fn image(&self) -> Option<&Name> {
        match &self.source {
            RunSource::Image { name, .. } | RunSource::Cache { from: Some((name, _)), .. } => Some(name),
            _ => None,
        }
    }
}

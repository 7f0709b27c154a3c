//! The steps of an image.

use crate::model::{Digest, GitRepository, Mode, Name, Size, without_login};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A step of an image. Steps that only change the configuration never make layers.
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
    /// A directory, created if it does not exist.
    Folder(String),
}

impl Step {
    /// Whether its layer is made without a look at the layers below.
    pub fn is_linked(&self) -> bool {
        match self {
            Self::Copy(copy) => copy.link,
            Self::Add(add) => add.link,
            _ => false,
        }
    }
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

/// A signed package repository in addition to the suite's own.
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
    /// Patterns of files to leave out.
    pub exclude: Vec<String>,
    /// Whether the sources' directories are kept below `to`.
    pub parents: bool,
    /// The directory that it takes files from; the project's if absent.
    pub context: Option<BuildContext>,
    /// Files that are written in the step: name and content.
    pub inline: Vec<(String, String)>,
    /// Whether it behaves like COPY in a Dockerfile: permissions are kept, and a file goes into an existing directory.
    pub as_docker: bool,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Whether it does not look at the layers below: no link of theirs is followed, and a file takes the place of a directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
}

impl Copy {
    /// Whether its layer holds exactly the files that it takes from the project.
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
    /// As for [`Copy`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
}

/// Where an `add` fetches from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AddSource {
    /// A file; if the project gives no digest, the lock file has it.
    Url { url: String, sha256: Option<Digest> },
    /// The files of a git repository; if the project gives no full commit ID, the lock file has it.
    Git(GitSource),
}

/// Which files of a git repository are added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GitSource {
    pub place: GitRepository,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// The commit, or the beginning of its ID. A full ID is fetched whatever the reference says; otherwise the
    /// reference must lead to a matching commit.
    pub commit: Option<String>,
    /// The only directory that is added; all if absent.
    pub folder: Option<String>,
    /// Whether `.git` is added, too.
    pub dot_git: bool,
    pub submodules: bool,
}

impl GitSource {
    /// The commit, if the project gives its full ID.
    pub fn pinned(&self) -> Option<&str> {
        [&self.commit, &self.reference].into_iter().flatten().map(String::as_str).find(|text| is_commit(text))
    }
}

impl Add {
    /// What must be in the lock file before this can be fetched: a URL, or a repository and its reference; without
    /// passwords.
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

/// Whether text is a full commit ID.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The directory that a Dockerfile takes files from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct BuildContext {
    /// The directory, relative to the project's.
    pub folder: String,
    /// The ignore file, which takes precedence over the context's own `.dockerignore`.
    pub ignore: String,
}

/// The network of a command while it runs. It is serialised as it is written: a flag, or "host".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "WrittenNetwork", into = "WrittenNetwork")]
pub enum RunNetwork {
    #[default]
    None,
    /// The build's own network, with address translation to the host's.
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
    /// Whether it is one string for the image's shell, not separate words.
    pub shell: bool,
    pub network: RunNetwork,
    /// Whether it has every capability and device, nothing masked and no system call filter.
    pub privileged: bool,
    pub mounts: Vec<RunMount>,
    /// The user of this command only.
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// A mount that exists only while a command runs, and is not part of the image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunMount {
    pub to: String,
    pub read_only: bool,
    pub source: RunSource,
}

/// The source of a command's mount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunSource {
    /// A directory that is kept for the next build.
    Cache {
        id: String,
        mode: u32,
        owner: (u32, u32),
        sharing: Sharing,
        /// Whether other projects share it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        shared: bool,
        /// An image, and a path in it, whose files are the initial content.
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
        /// The environment variable that holds it.
        env: Option<String>,
        /// Whether it is also a file.
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
    /// A program that is written in the step.
    Script(String),
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    #[default]
    Shared,
    /// One command at a time.
    Locked,
    /// Each command has its own copy.
    Private,
}

impl RunMount {
    /// The image whose files it contains.
    pub fn image(&self) -> Option<&Name> {
        match &self.source {
            RunSource::Image { name, .. } | RunSource::Cache { from: Some((name, _)), .. } => Some(name),
            _ => None,
        }
    }
}

//! An instance: one project's directory on this machine, and where its records, logs and volumes are.

use super::claim;
use crate::model::{Context, Digest, Name, Result};
use crate::monitor::{Folder, MonitorSpec};
use crate::plan::InstanceRecord;
use crate::project::{ReplicaId, is_one_off};
use crate::store::{Home, read_state, state_bytes};
use crate::sys;
use std::fs;
use std::path::{Path, PathBuf};

/// A project's directory with its identity.
#[derive(Clone, Debug)]
pub struct Instance {
    pub home: Home,
    /// Eight characters, derived from the path that the directory had when it was first up, and the file's name.
    pub id: String,
    pub folder: PathBuf,
    pub file: String,
    /// The project's name, if it is known.
    pub project: String,
    /// The files of another commit, if those count instead of the directory's.
    pub checkout: Option<Checkout>,
    /// Why it may be another instance, so that this one must not be changed.
    pub(super) doubt: Option<claim::Doubt>,
}

/// The files of a commit, checked out where nobody else sees them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkout {
    /// The project's directory in it.
    pub folder: PathBuf,
    pub commit: String,
}

impl Instance {
    /// The instance of a project file.
    pub fn new(home: &Home, folder: &Path, file: &str) -> Self {
        let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let claim::Known { id, doubt } = claim::id_of(home, &real, file);
        Self { home: home.clone(), id, doubt, folder: real, file: file.to_owned(), project: String::new(), checkout: None }
    }

    /// Where the project's files are read: its directory, or a checkout of another commit.
    pub fn source(&self) -> &Path {
        self.checkout.as_ref().map_or(&self.folder, |checkout| &checkout.folder)
    }

    /// Whether it belongs to an image that runs without a project.
    pub fn is_loose(&self) -> bool {
        self.folder.starts_with(self.home.state.join("loose"))
    }

    /// The directory of its records.
    pub fn state(&self) -> PathBuf {
        self.home.state.join("instances").join(&self.id)
    }

    /// The cache of what was read of the project's files.
    pub fn scan_cache(&self) -> PathBuf {
        // The files of another commit are others, and those of the directory will be read again.
        self.state().join(if self.checkout.is_some() { "scan-of-commit" } else { "scan" })
    }

    /// A marker file that exists while containers are started and their published ports and names do not lead to them
    /// yet. If the command is killed in between, the next `up` finds it.
    pub fn opening(&self) -> PathBuf {
        self.home.run.join(&self.id).join("opening")
    }

    /// The directory of one of its containers.
    pub fn container(&self, name: &str) -> Folder {
        Folder::of(&self.home.run, &self.id, name)
    }

    /// Where a generation of a container keeps the files that it writes.
    pub fn root(&self, name: &str, generation: u64) -> PathBuf {
        self.state().join("roots").join(name).join(generation.to_string())
    }

    /// The directory with the logs of all containers.
    pub fn all_logs(&self) -> PathBuf {
        self.state().join("logs")
    }

    /// The logs of a container, with a directory for each generation.
    pub fn logs(&self, name: &str) -> PathBuf {
        self.all_logs().join(name)
    }

    /// The file of its events.
    pub fn events(&self) -> PathBuf {
        self.state().join("events.jsonl")
    }

    /// The group of all its network links.
    pub fn link_group(&self) -> u32 {
        let number = Digest::of(format!("{}/{}", self.home.tag(), self.id)).number();
        u32::try_from(number % 0x7fff_0000).unwrap_or(1) + 1000
    }

    /// The path of its cgroups, below each hierarchy's root.
    pub fn cgroup(&self, container: &str) -> String {
        format!("stead-{}/{}/{container}", self.home.tag(), self.id)
    }

    /// The record of the last `up`.
    ///
    /// # Errors
    /// Fails when the record is damaged or cannot be read: without it, all running containers would seem to belong to
    /// nobody and be ended.
    pub fn record(&self) -> Result<InstanceRecord> {
        Ok(read_state(&self.state().join("record.json"))?.unwrap_or_default())
    }

    /// Writes the record atomically.
    ///
    /// # Errors
    /// Fails when the record cannot be written. Room for one that is no longer is kept, so that what is up can be stopped
    /// and taken down on a full disk.
    pub fn save(&self, record: &InstanceRecord) -> Result<()> {
        let path = self.state().join("record.json");
        let bytes = state_bytes(record)?;
        sys::write_reserved(&path, &bytes, 0o600, true)
            .map_err(|error| crate::store::disk_error(&format!("cannot write {}", path.display()), error))?;
        // There may be none now, but the record is written.
        let _ = sys::reserve(&path, bytes.len());
        Ok(())
    }

    /// Waits until no other process changes this instance, and locks it.
    ///
    /// # Errors
    /// Fails when its directories cannot be created or the lock cannot be taken, and when another directory has claimed the
    /// instance meanwhile, or cannot be told from this one.
    pub fn lock(&self) -> Result<sys::Lock> {
        if let Some(doubt) = &self.doubt {
            return Err(doubt.error(&self.folder));
        }
        for folder in [self.state(), self.home.run.join(&self.id)] {
            private_folder(&folder)?;
        }
        let path = self.state().join("lock");
        let lock = sys::Lock::wait(&path, sys::Hold::Alone).context(|| format!("cannot lock {}", path.display()))?;
        claim::take(&self.home, &self.id, &self.folder, &self.file)?;
        Ok(lock)
    }

    /// Locks another instance, which stays as it is, if nobody changes it just now. `None` if somebody does, or if it is gone.
    ///
    /// # Errors
    /// Fails when the lock cannot be opened.
    pub fn attempt(home: &Home, id: &str) -> Result<Option<sys::Lock>> {
        let path = home.state.join("instances").join(id).join("lock");
        match sys::Lock::attempt(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            lock => lock.context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The names of the containers' directories, on record or not.
    ///
    /// # Errors
    /// Fails when they cannot be listed.
    pub fn container_folders(&self) -> Result<Vec<String>> {
        let folder = self.home.run.join(&self.id);
        let mut names = sys::names(&folder).context(|| "cannot list the containers".into())?;
        names.retain(|name| folder.join(name).is_dir());
        Ok(names)
    }

    /// Whether any running container has a volume mounted; if that cannot be determined, the answer is yes. It
    /// stays true while the instance is locked.
    pub fn runs_with_volume(&self, name: &Name) -> bool {
        let folders = match sys::Tree::open(&self.home.run.join(&self.id)).and_then(|run| run.list()) {
            Ok(folders) => folders,
            Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
        };
        folders
            .into_iter()
            .filter(|listed| listed.kind == sys::Kind::Folder)
            .any(|listed| self.has_volume(&Folder::at(self.home.run.join(&self.id).join(listed.name)), name))
    }

    /// Whether a container is running and has a volume mounted; if that cannot be determined, the answer is yes.
    pub fn has_volume(&self, container: &Folder, name: &Name) -> bool {
        let place = crate::volume::folder(&self.home, &self.id).join(name.as_str());
        let mounts = |spec: &MonitorSpec| {
            let sources = spec.blueprint.oci.mounts().iter().flatten().filter_map(|mount| mount.source().as_ref());
            sources.into_iter().any(|source| source.starts_with(&place))
        };
        container.alive() && container.spec().ok().flatten().is_none_or(|spec| mounts(&spec))
    }

    /// The full name of the replica that a user means by `web` or `web-2`.
    pub fn find(&self, typed: &str) -> Result<String> {
        let record = self.record()?;
        let mut all: Vec<String> = record.containers.keys().cloned().collect();
        all.extend(self.container_folders()?.into_iter().filter(|name| !record.containers.contains_key(name)));
        if all.iter().any(|name| name == typed) {
            return Ok(typed.to_owned());
        }
        let first = record
            .containers
            .iter()
            .filter(|(_, container)| container.container.as_str() == typed)
            .map(|(name, _)| name.clone())
            .min();
        first.ok_or_else(|| {
            let near = crate::model::nearest(
                typed,
                all.iter().map(String::as_str).chain(record.containers.values().map(|container| container.container.as_str())),
            );
            let error = crate::model::Error::new(format!("there is no container \"{typed}\""));
            match near {
                Some(near) => error.hint(format!("perhaps \"{near}\"")),
                None if all.is_empty() => error.hint("nothing is up; type `stead up`"),
                None => error.hint(format!("there are: {}", all.join(", "))),
            }
        })
    }

    /// The names of all replicas of a container on record.
    ///
    /// # Errors
    /// Fails as [`record`](Self::record) does.
    pub fn replicas(&self, container: &Name) -> Result<Vec<String>> {
        let record = self.record()?;
        let replicas = record.containers.into_iter().filter(|(_, record)| record.container == *container);
        Ok(replicas.map(|(name, _)| name).collect())
    }
}

/// Whether a replica is a one-off container of `stead run`.
pub fn is_one_off_replica(name: &str) -> bool {
    ReplicaId::parse(name).is_some_and(|replica| replica.index == 1 && is_one_off(replica.container.as_str()))
}

/// Creates a directory that only its owner may enter.
pub fn private_folder(path: &Path) -> Result<()> {
    sys::make_private(path).map_err(|error| crate::store::disk_error(&format!("cannot make {}", path.display()), error))
}

/// All instances of an installation, with their records.
///
/// # Errors
/// Fails when a record is damaged or cannot be read.
pub fn all_instances(home: &Home) -> Result<Vec<(Instance, InstanceRecord)>> {
    let all = home.state.join("instances");
    let mut found = Vec::new();
    for id in sys::names(&all).context(|| "cannot list the projects".into())? {
        let Some(record) = read_state::<InstanceRecord>(&all.join(&id).join("record.json"))? else { continue };
        let claimed = claim::claim_of(home, &id)?;
        let instance = Instance {
            home: home.clone(),
            id,
            folder: claimed.map_or_else(|| record.folder.clone().into(), |claim| claim.folder),
            file: record.file.clone(),
            project: record.project.clone(),
            checkout: None,
            doubt: None,
        };
        found.push((instance, record));
    }
    Ok(found)
}

//! What is stored of a container: a directory of its own below the root, which is removed when it is deleted.

use super::PATIENCE;
use crate::model::{Context, Error, Result};
use crate::runtime::{self, Cgroup};
use crate::store::{Kept, read_foreign, read_state, state_bytes};
use crate::sys;
use oci_spec::runtime::{Hook, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

/// A container on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub pid: i32,
    /// When the process started, in clock ticks since boot: process numbers are reused.
    pub began: u64,
    /// Seconds since 1970, as RFC 3339.
    pub created: String,
    pub cgroup: String,
    /// Whether its cgroup already contained other processes.
    #[serde(default)]
    pub shared: bool,
    pub version: String,
    pub annotations: BTreeMap<String, String>,
    #[serde(skip)]
    pub folder: PathBuf,
    /// The configuration, once it has been read.
    #[serde(skip)]
    pub kept: OnceLock<Spec>,
}

impl Kept for Container {
    const KIND: &'static str = "oci-container";
    const VERSION: u32 = 1;
}

/// The status of a container (OCI runtime specification, "State").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A container's state as other tools read it, with runc's fields in runc's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    oci_version: String,
    id: String,
    pid: i32,
    pub status: Status,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// The hooks of a kind, which is given by its name in the specification.
pub fn hooks_of(spec: &Spec, kind: &str) -> Vec<Hook> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    let list = match kind {
        "prestart" => hooks.prestart(),
        "createRuntime" => hooks.create_runtime(),
        "createContainer" => hooks.create_container(),
        "startContainer" => hooks.start_container(),
        "poststart" => hooks.poststart(),
        _ => hooks.poststop(),
    };
    list.clone().unwrap_or_default()
}

/// Checks that an ID is valid: it becomes the name of a directory and of a cgroup.
pub fn check_id(id: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(legal) {
        return Err(Error::new(format!("invalid container ID {id:?}: letters, digits, `_`, `+`, `-` and `.` were expected")));
    }
    Ok(())
}

impl Container {
    /// Reads a container.
    ///
    /// # Errors
    /// Fails when it does not exist or cannot be read.
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        // These are the words that podman looks for. A container with a damaged state does exist.
        Self::find(root, id)?.ok_or_else(|| Error::new(format!("container {id} does not exist")))
    }

    /// Reads a container that may not exist.
    ///
    /// # Errors
    /// Fails when the ID is not valid, and when the state is damaged or cannot be read.
    pub fn find(root: &Path, id: &str) -> Result<Option<Self>> {
        check_id(id)?;
        let folder = root.join(id);
        Ok(read_state::<Self>(&folder.join("state.json"))?.map(|found| Self { folder, ..found }))
    }

    /// Writes the state completely or not at all.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn save(&self) -> Result<()> {
        let bytes = state_bytes(self)?;
        sys::write_atomic(&self.folder.join("state.json"), &bytes, 0o600).context(|| "cannot write the container's state".into())
    }

    pub fn forget(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The bundle's configuration as it was when the container was created.
    ///
    /// # Errors
    /// Fails when the stored copy is gone or cannot be read.
    pub fn spec(&self) -> Result<&Spec> {
        if self.kept.get().is_none() {
            let read = read_foreign(&self.folder.join("config.json"))?;
            let _ = self.kept.set(read.ok_or_else(|| Error::new("the container's configuration is gone"))?);
        }
        self.kept.get().ok_or_else(|| Error::new("the container's configuration is gone"))
    }

    /// The hooks of a kind.
    ///
    /// # Errors
    /// Fails like [`spec`](Self::spec): if the hooks cannot be read, they must not be skipped.
    pub fn hooks(&self, kind: &str) -> Result<Vec<Hook>> {
        self.spec().map(|spec| hooks_of(spec, kind))
    }

    /// Its first process, if it is still alive.
    pub fn process(&self) -> Option<OwnedFd> {
        let process = sys::open_process(self.pid).ok()?;
        // It is opened first and checked afterwards, so the number cannot be reused in between.
        (began(self.pid) == Some(self.began)).then_some(process)
    }

    pub fn status(&self) -> Status {
        let dead = fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])));
        if self.process().is_none() || dead {
            return Status::Stopped;
        }
        if self.folder.join("start").exists() {
            return Status::Created;
        }
        if self.cgroup().is_frozen() { Status::Paused } else { Status::Running }
    }

    pub fn cgroup(&self) -> Cgroup {
        Cgroup::open(runtime::host(), &self.cgroup)
    }

    pub fn processes(&self) -> Vec<i32> {
        self.cgroup().processes()
    }

    /// Whether processes left in its cgroup after its first process has ended are not its own.
    pub fn is_apart(&self) -> bool {
        let own_numbers = |spec: &Spec| {
            let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
            list.into_iter().flatten().any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none())
        };
        self.shared || self.spec().is_ok_and(own_numbers)
    }

    /// Kills its first process, and with it all others if it has a pid namespace.
    pub fn end(&self) {
        let Some(process) = self.process() else { return };
        // A frozen process dies only after it has been thawed.
        let _ = self.cgroup().freeze(runtime::host(), false);
        let _ = sys::signal_process(&process, libc::SIGKILL);
        let start = Instant::now();
        while self.status() != Status::Stopped && start.elapsed() < PATIENCE {
            let _ = sys::wait_readable(&[&process], Some(std::time::Duration::from_millis(10)));
        }
    }

    /// The state that the `state` command prints and hooks receive.
    pub fn state(&self, status: Status) -> State {
        State {
            oci_version: self.version.clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: String::new(),
        }
    }
}

/// When a process started (proc_pid_stat(5), field 22).
pub fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// All containers below a root. It warns about those whose state cannot be read.
///
/// # Errors
/// Fails when the root cannot be read.
pub fn list(root: &Path) -> Result<Vec<Container>> {
    let names = sys::names(root).context(|| "cannot list the containers".into())?;
    let names = names.iter().filter(|name| check_id(name).is_ok() && root.join(name).is_dir());
    let mut found = Vec::new();
    for name in names {
        match Container::find(root, name) {
            Ok(container) => found.extend(container),
            Err(error) => super::warn(&error.chain()),
        }
    }
    Ok(found)
}

/// Removes what a killed `create` left of a container that has no state.
///
/// # Errors
/// Fails when the ID is not valid or the directory cannot be removed.
pub fn forget_remains(root: &Path, id: &str) -> Result<()> {
    check_id(id)?;
    match fs::remove_dir_all(root.join(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::caused(format!("cannot remove what is left of container {id}"), error))
        }
        _ => Ok(()),
    }
}

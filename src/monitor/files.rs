//! A container's directory: what its monitor is told, and what it tells.

use crate::model::{Context, Digest, Duration, Result, Size};
use crate::project::{Health as HealthSpec, Log, Restart};
use crate::runtime::Blueprint;
use crate::store::{Home, Kept, read_state, state_bytes};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything a monitor needs to know.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MonitorSpec {
    /// `PROJECT/CONTAINER`, as process lists show it.
    pub title: String,
    /// A specification is large, and a monitor small.
    pub blueprint: Box<Blueprint>,
    pub stop_signal: i32,
    pub stop_grace: Duration,
    pub restart: Restart,
    /// Whether it is started anew when it turns unhealthy.
    #[serde(default)]
    pub restart_unhealthy: bool,
    pub health: Option<HealthSpec>,
    pub log: Log,
    /// All its log files together, in bytes.
    pub log_quota: Size,
    /// Where events are told.
    pub events: PathBuf,
    /// The directory of this generation's log files.
    pub logs: PathBuf,
    pub on_start: Vec<Vec<String>>,
    pub on_stop: Vec<Vec<String>>,
    /// What it runs from.
    #[serde(default)]
    pub needs: Needs,
    /// The installation, whose other parts are told when it begins, ends or pauses.
    #[serde(default)]
    pub home: Option<Home>,
}

impl Kept for Status {
    const KIND: &'static str = "status";
    const VERSION: u32 = 1;
}

impl Kept for MonitorSpec {
    const KIND: &'static str = "monitor";
    const VERSION: u32 = 1;
}

/// What a container needs of the store while its monitor lives, whatever becomes of its project.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Needs {
    pub store: PathBuf,
    pub digests: Vec<Digest>,
}

/// Where in its life a container is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    /// Its monitor is gone without saying how it ended, or it could not be started.
    Dead,
}

/// What health checks say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check is declared.
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// What a monitor tells.
///
/// A newer stead reads what an older monitor wrote, and the reverse, as long as fields are only added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub state: State,
    pub health: Health,
    /// What the last failing check said.
    pub health_output: String,
    /// The command's number on the host; 0 when it does not run.
    pub pid: i32,
    pub monitor: u32,
    pub restarts: u32,
    /// Milliseconds since 1970.
    pub started_at: Option<u64>,
    pub finished_at: Option<u64>,
    pub exit_code: Option<i32>,
    /// Why it could not be started.
    pub error: Option<String>,
    pub out_of_memory: bool,
    /// Somebody stopped it: it stays down until it is started.
    pub stopped: bool,
    /// The boot that all this is true of.
    pub boot: String,
}

/// A container's directory on the run file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The directory of a container of an instance.
    pub fn of(run: &Path, instance: &str, container: &str) -> Self {
        Self(run.join(instance).join(container))
    }

    /// A directory by its path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether a monitor lives here.
    pub fn alive(&self) -> bool {
        sys::Lock::is_held(&self.join("lock"))
    }

    /// What the monitor was told.
    ///
    /// # Errors
    /// A description that is damaged or cannot be read: who would go on without it would run as root.
    pub fn spec(&self) -> Result<Option<MonitorSpec>> {
        read_state(&self.join("spec.json"))
    }

    /// What the monitor wrote. What cannot be read is taken for running as long as the monitor lives: nothing is ended
    /// or replaced because of it.
    fn told(&self) -> Option<Status> {
        read_state(&self.join("status.json")).unwrap_or_else(|error| {
            let status = Status { state: State::Running, error: Some(error.to_string()), ..Status::default() };
            self.alive().then_some(status)
        })
    }

    /// What the monitor tells; a running state without a monitor is told as dead.
    pub fn status(&self) -> Option<Status> {
        let status = self.told()?;
        let claims_life = matches!(status.state, State::Running | State::Restarting | State::Created | State::Paused);
        if claims_life && !self.alive() {
            // It may have ended between the two looks.
            let again = self.told()?;
            let still = matches!(again.state, State::Running | State::Restarting | State::Created | State::Paused);
            return Some(if still { Status { state: State::Dead, pid: 0, health: Health::None, ..again } } else { again });
        }
        Some(status)
    }

    /// Writes how the container is, whole or not at all. A full disk must not end it.
    pub fn tell(&self, status: &Status) {
        if let Ok(bytes) = state_bytes(status) {
            let _ = sys::write_atomic(&self.join("status.json"), &bytes, 0o600);
        }
    }

    /// Writes what the monitor is to know.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_spec(&self, spec: &MonitorSpec) -> Result<()> {
        sys::write_atomic(&self.join("spec.json"), &state_bytes(spec)?, 0o600)
            .context(|| format!("cannot write {}", self.join("spec.json").display()))
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What tells one boot from another.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Notes why a container could not be started, where its monitor did not come to say so.
pub fn note_failure(folder: &Folder, why: &str) {
    let said = read_state::<Status>(&folder.join("status.json")).ok().flatten();
    if said.is_none_or(|status| status.state != State::Dead || status.error.is_none()) && !folder.alive() {
        let status = Status {
            state: State::Dead,
            error: Some(why.to_owned()),
            finished_at: Some(now_ms()),
            boot: boot_id(),
            ..Status::default()
        };
        folder.tell(&status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_releases_status_is_read_and_a_later_ones_too() {
        let first = r#"{"state":"running","health":"none","health_output":"","pid":7,"monitor":6,"restarts":0,
            "started_at":1,"finished_at":null,"exit_code":null,"error":null,"out_of_memory":false,"stopped":false,"boot":"b"}"#;
        let status: Status = serde_json::from_str(first).unwrap();
        assert_eq!((status.state, status.pid), (State::Running, 7));
        let later = r#"{"state":"exited","pid":0,"colour":"green"}"#;
        assert_eq!(serde_json::from_str::<Status>(later).unwrap().state, State::Exited);
    }
}

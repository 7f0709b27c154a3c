//! A container's directory: the specification that its monitor reads, and the status that it writes.

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
    /// It is boxed because a specification is large and a monitor should stay small.
    pub blueprint: Box<Blueprint>,
    pub stop_signal: i32,
    pub stop_grace: Duration,
    pub restart: Restart,
    /// Whether the container is restarted when it becomes unhealthy.
    #[serde(default)]
    pub restart_unhealthy: bool,
    /// Whether published ports lead to it only when it is healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_turns: bool,
    pub health: Option<HealthSpec>,
    /// How long its command may take before it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    pub log: Log,
    /// The limit on all its log files together, in bytes.
    pub log_quota: Size,
    /// The file that events are written to.
    pub events: PathBuf,
    /// The directory of this generation's log files.
    pub logs: PathBuf,
    pub on_start: Vec<Vec<String>>,
    pub on_stop: Vec<Vec<String>>,
    /// What it needs of the store.
    #[serde(default)]
    pub needs: Needs,
    /// The installation, whose ports and names are updated when the container starts, ends or is paused.
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

/// What a container needs of the store while its monitor lives, whatever happens to its project.
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
    /// Its monitor is gone and did not record how the container ended, or the container could not be started.
    Dead,
}

/// The result of the health checks.
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

/// What a monitor reports about its container.
///
/// A newer stead reads what an older monitor wrote, and vice versa, as long as fields are only added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub state: State,
    pub health: Health,
    /// The output of the last check that failed.
    pub health_output: String,
    /// The command's process number on the host, or 0 when it does not run.
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
    /// It was killed because it took longer than this.
    pub timed_out: Option<Duration>,
    /// It was stopped on request, and stays down until it is started.
    pub stopped: bool,
    /// Somebody asked for the restart that is under way, so that the end was no failure.
    pub asked: bool,
    /// The boot during which this was written.
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

    /// The specification that was written for the monitor.
    ///
    /// # Errors
    /// Fails when it is damaged or cannot be read: whoever continued without it would run processes as root.
    pub fn spec(&self) -> Result<Option<MonitorSpec>> {
        read_state(&self.join("spec.json"))
    }

    /// The status that the monitor wrote; `None` if it wrote none. If it cannot be read, the container counts as running as
    /// long as the monitor lives, so that nothing is ended or replaced because of that, and else as dead; the reason is its
    /// error.
    fn told(&self) -> Option<Status> {
        read_state(&self.join("status.json")).unwrap_or_else(|error| {
            let state = if self.alive() { State::Running } else { State::Dead };
            Some(Status { state, error: Some(error.chain()), ..Status::default() })
        })
    }

    /// The container's status; `None` if nothing was reported during this boot. If it says that the container runs but there is
    /// no monitor, the state is dead.
    pub fn status(&self) -> Option<Status> {
        let status = self.told()?;
        let claims_life = matches!(status.state, State::Running | State::Restarting | State::Created | State::Paused);
        if claims_life && !self.alive() {
            // It may have ended between the two checks.
            let again = self.told()?;
            let still = matches!(again.state, State::Running | State::Restarting | State::Created | State::Paused);
            return Some(if still { Status { state: State::Dead, pid: 0, health: Health::None, ..again } } else { again });
        }
        Some(status)
    }

    /// Writes the first status of a monitor. It is as long as one can be: what the second one replaces is room on the disk,
    /// so that a full one hides neither how the container ended nor its health.
    pub fn begin(&self, status: &Status) {
        if let Ok(mut bytes) = state_bytes(status) {
            bytes.resize(bytes.len().max(STATUS), b'\n');
            // On a disk that is full already there is no room.
            let _ = sys::write_reserved(&self.join("status.json"), &bytes, 0o600, false);
        }
    }

    /// Writes the container's status atomically. Errors are ignored: a full disk must not end the container.
    pub fn tell(&self, status: &Status) {
        if let Ok(bytes) = state_bytes(status) {
            let _ = sys::write_reserved(&self.join("status.json"), &bytes, 0o600, false);
        }
    }

    /// Writes the specification for the monitor.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn write_spec(&self, spec: &MonitorSpec) -> Result<()> {
        sys::write_atomic(&self.join("spec.json"), &state_bytes(spec)?, 0o600)
            .context(|| format!("cannot write {}", self.join("spec.json").display()))
    }
}

/// How long a status may be with the output of a health check and an error.
const STATUS: usize = 8 << 10;

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The identifier of the current boot.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Records why a container could not be started, if its monitor has not recorded that itself.
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
    fn a_status_that_is_absent_damaged_or_unreadable_is_three_answers() {
        let place = tempfile::tempdir().unwrap();
        let (folder, file) = (Folder::at(place.path()), place.path().join("status.json"));
        assert_eq!(folder.status(), None);
        let told = |state: State, why: &str| {
            let status = folder.status().unwrap();
            assert!(status.state == state && status.error.as_ref().is_some_and(|said| said.contains(why)), "{status:?}");
        };
        let written = |text: &str| std::fs::write(&file, text).unwrap();
        for (text, why) in [("", "is damaged"), ("{\"kind\":\"sta", "is damaged"), (r#"{"kind":"status","version":9}"#, "newer")]
        {
            written(text);
            told(State::Dead, why);
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        told(State::Dead, "cannot read");
        // Nothing is ended or replaced while there is a monitor.
        let _monitor = sys::Lock::attempt(&folder.join("lock")).unwrap().unwrap();
        told(State::Running, "cannot read");
        std::fs::remove_dir(&file).unwrap();
        folder.tell(&Status { state: State::Running, pid: 7, ..Status::default() });
        assert_eq!(folder.status().map(|status| (status.state, status.pid, status.error)), Some((State::Running, 7, None)));
    }

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

//! The one small process that stays with each container and takes care of logs, exit, restarts, health and exec sessions.
//!
//! A monitor is this same binary, with one thread, started in its container's directory. It reads
//! `spec.json` there, keeps `status.json` up to date, listens on the socket `control`, and holds the lock on `lock`.
//! That lock tells whether a container is alive; a process number never does. If the container publishes ports, a
//! child process sleeps beside the monitor in case the monitor is killed ([`heir`]).

mod control;
mod events;
mod files;
mod health;
mod heir;
mod hooks;
mod launch;
mod life;
mod log;
mod published;
mod sessions;
mod tidings;

pub use control::{Attached, Held, Remote, Request, attach, call, held_ports, hold, session};
pub use events::{Event, Events, add as add_event};
pub use files::{Folder, Health, MonitorSpec, Needs, State, Status, boot_id as boot, note_failure, now_ms};
pub use launch::{launch, main};
pub use log::{Line, Tail, last_lines};
pub use published::{
    HostLine, is_current, is_there, keep_names, readmit, refresh, refresh_names, sweep_builds, table_name, withdraw,
};
pub use tidings::{Tidings, Writes};

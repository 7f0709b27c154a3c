//! The one small process that stays with each container: logs, exit, restarts, health, exec sessions.
//!
//! A monitor is this same binary, with one thread, started in its container's directory. It reads
//! `spec.json` there, keeps `status.json` true, listens at `control`, and holds the lock on `lock`:
//! whether a container is alive is asked of that lock, never of a process number. Where ports are published a child
//! sleeps beside it, for the case that it is killed ([`heir`]).

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
pub use published::{HostLine, is_current, is_there, keep_names, refresh, refresh_names, sweep_builds, table_name};
pub use tidings::{Tidings, Writes};

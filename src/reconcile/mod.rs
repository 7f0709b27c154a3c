//! Brings a machine into the state that a plan describes: runs its tasks, keeps the record, and ends what must end.
//!
//! Everything here may be killed at any moment: records are written before what they describe is created, and the next
//! `up` or `down` starts by cleaning up what was left.

mod container;
mod converge;
mod crash;
mod data;
pub mod down;
mod execute;
mod firewall;
mod forge;
mod generations;
mod hosts;
mod pins;
mod ports;
pub mod preflight;
mod resolve;
mod schedule;

pub use container::{Maker, bridges, prepare};
pub use data::{forget_data, hold_users, running_users};
pub use down::{DownOptions, down, end, forget, stop};
pub use execute::{Converged, apply_saved, build_only, foresee, plan_only, prepare_folders, since, took, up, vanished};
pub use generations::unpin;
pub use pins::pin_record;
pub use resolve::{CheckedLock, check_lock, set_epoch, settle, trusted, update_lock};

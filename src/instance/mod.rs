//! One project's directory on this machine: its identity and records, the project as it is read, what is seen of it, what
//! was allowed in it.
//!
//! Whoever reads decides here, once, what absent, damaged and unreadable mean. Nothing here starts, builds or ends.

pub mod consent;
mod history;
mod identity;
mod observe;
mod paths;
mod project;
mod report;

pub use consent::{agree, allow, allowed, revoke};
pub use history::{Entry, read as read_history};
pub use identity::{Instance, all_instances, is_one_off_replica, private_folder};
pub use observe::{Observation, observe};
pub use paths::leads;
pub use project::{
    Chosen, LoadError, LoadedProject, Options, findings, keep_lock, load, project_files, read_and_keep_lock, read_lock,
};
pub use report::{Answer, Failure, Progress, Question, Reporter, UpOptions};

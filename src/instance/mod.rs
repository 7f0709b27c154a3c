//! One project's directory on this machine: its identity and records, loading the project, observing its state, and what
//! was allowed for it.
//!
//! Reading is done here, so that it is decided once what absent, damaged and unreadable files mean. Nothing here starts,
//! builds or ends anything.

mod absent;
mod claim;
pub mod consent;
mod drift;
mod env_file;
mod generations;
mod history;
mod identity;
mod nameless;
mod observe;
mod paths;
mod project;
mod report;
mod source;
mod unsaved;
mod watcher;
mod written;

pub use consent::{agree, allow, allowed, revoke};
pub use drift::{Drift, Now as Drifting};
pub use generations::{Generation, forget_generation, generation, generation_numbers, generations, newest_generation};
pub use history::{Entry, read as read_history};
pub use identity::{Checkout, Instance, all_instances, is_one_off_replica, private_folder};
pub use observe::{Observation, observe};
pub use paths::leads;
pub use project::{
    Chosen, LoadError, LoadedProject, Options, findings, findings_if, keep_lock, load, read_and_keep_lock, read_lock, resolved,
    texts,
};
pub use report::{Answer, Failure, Outcome, Progress, Question, Reporter, UpOptions};
pub use source::SourceFiles;
pub use unsaved::{Unsaved, findings_among};
pub use watcher::{claim_watch, end_watcher, watch_log, watcher};

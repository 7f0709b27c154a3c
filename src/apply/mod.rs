//! Carries out plans: observes the machine, executes changes, keeps records and history.
//!
//! `up` reads observe → plan → execute, twice when images must be built in between. Everything here
//! may be killed at any moment: records are written before what they describe is made, and the next
//! `up` or `down` starts by putting right what was left.

mod ad_hoc;
mod bundle;
mod change;
mod consent;
mod container;
mod converge;
mod crash;
mod down;
mod duplicate;
mod execute;
mod files;
mod firewall;
mod forge;
mod history;
mod hosts;
mod images;
mod instance;
mod observe;
mod one_off;
mod paths;
mod pins;
mod ports;
mod preflight;
mod project;
mod registries;
mod report;
mod rescue;
mod resolve;
mod schedule;
mod specification;
mod tags;
mod verify;

pub use ad_hoc::{forget_loose, loose};
pub use bundle::{bundle, is_bundle, look_into, taken_in, unbundle};
pub use change::change;
pub use consent::{agree, allow, allowed, revoke};
pub use down::{DownOptions, down, stop};
pub use down::{end, forget};
pub use execute::{Outcome as UpOutcome, apply_saved, build_only, plan_only, since, up};
pub use files::{Difference, changes, commit, copy_in, copy_out, export};
pub use history::read as read_history;
pub use images::{compare, components, find_image, history, known_images};
pub use instance::{Instance, all_instances};
pub use one_off::{Wish, one_off};
pub use project::{Chosen, LoadError, LoadedProject, Options, findings, load, read_lock};
pub use registries::{import, load_archive, login, logout, pull, push, scratch_file, search, tag, untag};
pub use report::{Answer, Progress, Question, Reporter, UpOptions};
pub use rescue::rescue;
pub use resolve::{CheckedLock, check_lock, set_epoch, settle, update_lock};
pub use specification::specification;
pub use tags::{full_name, names};
pub use verify::{Scratch, verify};

//! Carries out plans: observes the machine, executes changes, keeps records and history.
//!
//! `up` reads observe → plan → execute, twice when images must be built in between. Everything here
//! may be killed at any moment: records are written before what they describe is made, and the next
//! `up` or `down` starts by putting right what was left.

mod bundle;
mod change;
mod consent;
mod container;
mod converge;
mod crash;
mod down;
mod duplicate;
mod elsewhere;
mod execute;
mod files;
mod firewall;
mod history;
mod hosts;
mod instance;
mod leads;
mod look;
mod loose;
mod names;
mod observe;
mod one_off;
mod ports;
mod preflight;
mod project;
mod report;
mod rescue;
mod resolve;
mod specification;
mod verify;

pub use bundle::{bundle, is_bundle, look_into, taken_in, unbundle};
pub use change::change;
pub use consent::{agree, allow, allowed, revoke};
pub use down::{DownOptions, down, stop};
pub use down::{end, forget};
pub use elsewhere::{import, load_archive, login, logout, pull, push, scratch_file, search, tag, untag};
pub use execute::{Outcome as UpOutcome, apply_saved, build_only, plan_only, since, up};
pub use files::{Difference, changes, commit, copy_in, copy_out, export};
pub use history::read as read_history;
pub use instance::{Instance, all_instances};
pub use look::{compare, components, find_image, history, known_images};
pub use loose::{forget_loose, loose};
pub use names::{full_name, names};
pub use one_off::{Wish, one_off};
pub use project::{Chosen, LoadError, LoadedProject, Options, findings, load, read_lock};
pub use report::{Answer, Progress, Question, Reporter, UpOptions};
pub use rescue::rescue;
pub use resolve::{CheckedLock, check_lock, set_epoch, settle, update_lock};
pub use specification::specification;
pub use verify::{Scratch, verify};

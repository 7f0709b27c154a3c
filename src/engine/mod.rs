//! Every operation that a person or a program can ask for: the face of all rooms below.
//!
//! What changes a project's containers is [`reconcile`](crate::reconcile)'s, what names images is
//! [`library`](crate::library)'s; what is made of both stands here.

mod ad_hoc;
mod bundle;
mod collect;
mod containers;
mod duplicate;
mod exec;
mod files;
mod one_off;
mod rescue;
mod specification;
mod usage;
mod verify;

pub use crate::instance::{
    Answer, Chosen, Instance, LoadError, LoadedProject, Options, Progress, Question, Reporter, UpOptions, agree, all_instances,
    allow, allowed, findings, load, read_history, read_lock, revoke,
};
pub use crate::library::{
    change, compare, components, find_image, full_name, history, import, known_images, load_archive, login, logout, names, pull,
    push, scratch_file, search, tag, untag,
};
pub use crate::reconcile::{
    CheckedLock, Converged, DownOptions, apply_saved, build_only, check_lock, down, plan_only, set_epoch, settle, since, up,
    update_lock,
};
pub use ad_hoc::{forget_loose, loose};
pub use bundle::{bundle, is_bundle, look_into, taken_in, unbundle};
pub use collect::collect;
pub use containers::{Published, Stop, freeze, kill, logged, published, remove, replicas, restart, scale, start, stop, wait};
pub use exec::{Exec, exec};
pub use files::{Difference, changes, commit, copy_in, copy_out, export};
pub use one_off::{Wish, one_off};
pub use rescue::rescue;
pub use specification::specification;
pub use usage::{Meter, Reading, host_memory, process, processes};
pub use verify::{Scratch, verify};

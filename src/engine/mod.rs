//! Every operation that a user or a program can ask for: the interface of all rooms below.
//!
//! Operations that change a project's containers are in [`reconcile`](crate::reconcile), operations on images by
//! their names in [`library`](crate::library); operations that combine both are here.

mod accounts;
mod ad_hoc;
mod at_revision;
mod boot;
mod bundle;
mod caller;
mod collect;
mod containers;
mod duplicate;
mod edit;
mod examine;
mod exec;
mod files;
mod frozen;
mod generations;
mod graph;
mod init;
mod listing;
mod one_off;
mod projects;
mod rescue;
mod reset;
mod shell;
mod specification;
mod usage;
mod verify;
mod volumes;
mod why;

pub use crate::instance::{
    Answer, Chosen, Generation, Instance, LoadError, LoadedProject, Options, Outcome, Progress, Question, Reporter, Unsaved,
    UpOptions, agree, all_instances, allow, allowed, claim_watch, end_watcher, findings, findings_among, generations, load,
    read_lock, resolved, revoke, texts, watch_log, watcher,
};
pub use crate::library::{
    change, compare, components, find_image, full_name, history, import, known_images, load_archive, login, logout, names, pull,
    push, scratch_file, search, tag, untag,
};
pub use crate::reconcile::{
    CheckedLock, Converged, DownOptions, apply_saved, build_only, check_lock, down, foresee, plan_only, set_epoch, settle, since,
    took, up, update_lock, vanished,
};
pub use ad_hoc::{forget_loose, loose};
pub use at_revision::{CheckedOut, Held, at_revision, only_of_commit};
pub use boot::{BootUnit, boot, comes_up_at_boot};
pub use bundle::{bundle, is_bundle, look_into, taken_in, unbundle};
pub use caller::{Author, author_in};
pub use collect::collect;
pub use containers::{
    Published, Stop, freeze, kill, logged, published, remove, replicas, restart, run_again, scale, start, stop, wait,
};
pub use edit::{Applied, Written, apply};
pub use examine::examine;
pub use exec::{Exec, exec};
pub use files::{Difference, changes, commit, copy_in, copy_out, export};
pub use frozen::freeze_as_image;
pub use generations::{
    generation_before, generation_meant, generation_or_commit, generations_differ, go_back, go_back_with_data, keep_generations,
    plan_back,
};
pub use graph::{Graph, Part, Vertex, graph};
pub use init::init;
pub use listing::{Row, Which, inspection, listing};
pub use one_off::{OneOff, Wish, environment, one_off};
pub use projects::{Resident, find_project, projects};
pub use rescue::rescue;
pub use reset::{Reset, reset_volume};
pub use shell::{only_one, shell};
pub use specification::specification;
pub use usage::{Meter, Reading, host_memory, process, processes};
pub use verify::{Scratch, verify};
pub use volumes::{
    InUse, SnapshotRow, Snapshots, VolumeCopy, VolumeRow, clone_volume, delete_snapshot, export_volume, import_volume,
    inspect_volume, remove_volumes, restore_volume, snapshot_volume, unused_volumes, volume_snapshots, volumes,
};
pub use why::{Explained, explain};

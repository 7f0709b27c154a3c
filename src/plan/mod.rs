//! (project, lock, observed state) → a plan: a graph of tasks, every change in it with its cause.
//!
//! This room is pure: it reads nothing and writes nothing. Everything that it must know of the machine
//! is in [`Observed`]. That is why `stead plan` cannot change anything.

mod address;
mod cause;
mod change;
mod compare;
mod container_cause;
mod deed;
mod desired;
mod difference;
mod graph;
mod hidden;
mod image;
mod image_cause;
mod image_volume;
mod images;
mod loss;
mod mark;
mod observed;
mod outlook;
mod seed;
mod seeding;
mod task;
mod trust;
mod turns;
mod volume_change;
mod wants;

pub use address::{attachments, free_subnet};
pub use cause::Cause;
pub use change::{plan, settle};
pub use compare::{Version, compare};
pub use desired::{Desired, volume_aspect};
pub use graph::{building, ending};
pub use image::{Config, Image, StepOutput, merged_ports};
pub use image_cause::{Known, step_cause};
pub use images::{
    Import, Pending, Squash, Walk, configure, copy_is_known, image_key, locked_images, recorded_steps, settings, step_records,
    walk,
};
#[cfg(test)]
pub use mark::Grade;
pub use mark::{Mark, MarkKind};
pub use observed::{
    ContainerRecord, Down, Drifted, Facts, FileTree, ImageRecord, InstanceRecord, JobState, KeptSeed, Lead, NetworkRecord,
    Observed, Port, Seen, Taken, TakenPort, TreeEntry, TreeKind,
};
pub use outlook::{ContainerOutlook, ImageOutlook, Making, Outlook, outlook};
pub use seed::{Seed, is_seed};
pub use task::{Action, Change, Deed, How, Object, Plan, Planned, Symbol, Task};
pub use trust::{all_marks, of_container, of_image, of_repository};

#[cfg(test)]
mod tests;

//! Images by their names: those of the store and of projects, tags, and what registries say of them.

mod change;
mod images;
mod registries;
mod tags;

pub use change::change;
pub use images::{PathChange, compare, compare_in, components, find_image, history, known_images};
pub use registries::{
    Ask, import, load_archive, login, logout, pull, push, resolve, scratch_file, search, signer, tag, untag, watched,
};
pub use tags::{full_name, names, parts};

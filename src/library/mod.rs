//! Images by their names: names in the store, images of projects, tags, and images in registries.

mod change;
mod images;
mod registries;
mod tags;

pub use change::change;
pub use images::{PathChange, compare, compare_in, components, find_image, history, known_images};
pub use registries::{
    Ask, import, load_archive, login, logout, pull, push, resolve, scratch_file, search, signer, tag, untag, watched,
};
pub use tags::{full_name, name_image, names, parts};

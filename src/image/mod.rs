//! OCI images: canonical layers, configurations, manifests.
//!
//! Owns the bytes of an image. Making the trees that become layers is `build`'s and `debian`'s.

mod archive;
mod bill;
mod config;
mod layer;

pub use archive::write_layout;
pub use bill::{Component, cyclonedx, material, provenance, spdx};
pub use config::{load, parse_time, save, time_text};
pub use layer::{CAPABILITY, OPAQUE, digest_tree, normalise, write_tar};

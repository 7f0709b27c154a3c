//! OCI images: canonical layers, configurations, manifests.
//!
//! Owns the bytes of an image. `build` and `debian` make the trees that become layers.

mod archive;
mod bill;
mod checkpoint;
mod compression;
mod config;
mod gate;
mod import;
mod layer;
mod layout;
mod signature;
mod tarball;
mod twin;
mod unpack;

pub use archive::{write_docker, write_folder, write_layout, write_several};
pub use bill::{Component, Material, cyclonedx, keep_provenance, kept_provenance, package_url, provenance, spdx};
pub use checkpoint::Checkpoints;
pub use compression::{Bounded, budgeted, decompressed, is_archive};
pub use config::{load, parse, save};
pub use import::{Blobs, Descriptor, Manifest, import, refuse_schema_1, small};
pub use layer::{CAPABILITY, OPAQUE, digest_tree, digest_tree_after, is_mark, write_tar};
pub use layout::{Archive, for_platform, is_list, named_parts, platforms, small_file};
pub use signature::{Claim, PublicKey, bundles_in, check_bundle, check_payload, may_be_bundles, signature_tag, signatures};
pub use tarball::{Entries, Kind};
pub use twin::{Hiding, Twin, is_opaque};
pub use unpack::{Rules, Tree};

//! Debian packages: mirrors, signatures, indexes, unpacking, and the files that maintainer scripts
//! would have made.
//!
//! This room owns everything between a suite's name and a tree on disk. `lock` decides which packages satisfy a request;
//! `build` turns the tree into a layer.

mod alternatives;
mod archive;
mod check;
mod deb;
mod fetch;
mod inflate;
mod inside;
mod keys;
mod ldcache;
mod mirror;
mod names;
mod order;
mod release;
mod resolve;
mod scripts;
mod scrub;
mod synthesise;
mod universe;
mod unpack;

pub use archive::Downgrade;
pub use check::{Checked, check};
pub use fetch::fetch_packages;
// These are public only for `tests/fuzz`.
#[doc(hidden)]
pub use keys::{Keyring, Moment};
#[doc(hidden)]
pub use ldcache::soname;
#[doc(hidden)]
pub use mirror::{Archive, Need};
pub use mirror::{Mirrors, Settings};
pub use names::listed;
pub use order::{Needs, Order, order};
#[doc(hidden)]
pub use release::Release;
pub use resolve::{Resolved, Update, Wanted, resolve};
pub use scrub::scrub;
pub use unpack::{needs, unpack, unpack_for_dpkg};

//! Debian packages: mirrors, signatures, indexes, unpacking, and what maintainer scripts
//! would have made.
//!
//! Owns everything between a suite's name and a tree on disk. Which packages satisfy a request is
//! `lock`'s question; turning the tree into a layer is `build`'s.

mod alternatives;
mod deb;
mod fetch;
mod inflate;
mod inside;
mod ldcache;
pub mod limits;
mod mirror;
mod order;
mod release;
mod resolve;
mod scripts;
mod scrub;
mod synthesise;
mod unpack;

pub use fetch::fetch_packages;
pub use mirror::{Mirrors, Settings};
pub use order::{Needs, Order, order};
pub use resolve::{Update, resolve};
pub use scrub::scrub;
pub use unpack::{Unpacked, needs, unpack, unpack_for_dpkg};

//! What a repository's server may send, and what may be made of it.

use crate::model::Floor;

/// What the files of a commit and of its submodules may come to in any case; trees may name the same trees many
/// times over.
pub const CHECKOUT: Floor = Floor { bytes: 512 << 20, entries: 100_000, names: 16 << 20 };
/// The most submodules, and how deep they may stand in one another.
pub const MODULES: usize = 1000;
pub const MODULES_DEEP: usize = 32;
/// The longest path and link, as the kernel has it (PATH_MAX).
pub const LONGEST_PATH: usize = 4096;
pub const LONGEST_LINK: usize = 4095;
/// The longest pack.
pub const LONGEST_PACK: u64 = 16 << 30;
/// The longest list of names, and what else is said before a pack.
pub const LONGEST_LIST: usize = 64 << 20;
/// The longest object that is held in memory: so many times the pack, between these. Git itself makes no deltas of
/// objects above the larger one (core.bigFileThreshold).
pub const HELD: (u64, u64) = (32 << 20, 512 << 20);
pub const HELD_RATIO: u64 = 200;
/// How many deltas may stand on one another, as git has it (pack.depth).
pub const CHAIN: usize = 4095;
/// How many bytes are made in memory of a pack's objects: so many times its own, and this in any case.
pub const MADE: u64 = 4 << 30;
pub const MADE_RATIO: u64 = 1000;
/// How much of what was unpacked last is kept: neighbours are made from the same bases.
pub const KEPT: usize = 64 << 20;

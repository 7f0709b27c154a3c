//! Limits on what a repository's server may send, and on how much it may unpack to.

use crate::model::Floor;

/// How much the files of a commit and of its submodules may always come to. Without a limit, a few trees that refer
/// to the same trees many times over would fill the disk.
pub const CHECKOUT: Floor = Floor { bytes: 512 << 20, entries: 100_000, names: 16 << 20 };
/// The most submodules, and how deep they may be nested.
pub const MODULES: usize = 1000;
pub const MODULES_DEEP: usize = 32;
/// The longest path and the longest target of a symbolic link, as in the kernel (PATH_MAX).
pub const LONGEST_PATH: usize = 4096;
pub const LONGEST_LINK: usize = 4095;
/// The longest pack.
pub const LONGEST_PACK: u64 = 16 << 30;
/// The longest index of a pack on this machine, which has 28 bytes for each object.
pub const LONGEST_INDEX: u64 = 1 << 30;
/// The longest list of refs, and how much else a server may send before a pack.
pub const LONGEST_LIST: usize = 64 << 20;
/// The longest object that is held in memory: `HELD_RATIO` times the pack, but within these bounds. Git itself makes
/// no deltas of objects above the larger one (core.bigFileThreshold).
pub const HELD: (u64, u64) = (32 << 20, 512 << 20);
pub const HELD_RATIO: u64 = 200;
/// The longest chain of deltas, as in git (pack.depth).
pub const CHAIN: usize = 4095;
/// How many bytes a pack's objects may unpack to in memory: `MADE_RATIO` times the pack, but always at least this.
pub const MADE: u64 = 4 << 30;
pub const MADE_RATIO: u64 = 1000;
/// How many bytes of recently unpacked objects are kept: neighbouring objects often share their bases.
pub const KEPT: usize = 64 << 20;

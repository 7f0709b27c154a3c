//! How much mirrors and packages may send. A transfer that exceeds a limit is cut off while it runs.

/// The longest signed release file. Debian's own are about 0.2 MiB.
pub const RELEASE: u64 = 4 << 20;
/// The longest package index, compressed or not. That of sid is about 60 MiB.
pub const INDEX: u64 = 256 << 20;
/// How many bytes the files of a package may unpack to: always the first value, for larger packages the second for
/// each of their bytes, and never more than the third.
pub const UNPACKED_ALWAYS: u64 = 64 << 20;
pub const UNPACKED_RATIO: u64 = 200;
pub const UNPACKED_MOST: u64 = 64 << 30;
/// How many bytes a package's control archive may unpack to, and all control archives of a step together.
pub const CONTROL: u64 = 16 << 20;
pub const CONTROLS: u64 = 256 << 20;
/// The most members of a package: packages have three, and some have a signature as well.
pub const MEMBERS: usize = 16;
/// Memory for decoding xz: `xz -9` needs 65 MiB.
pub const XZ_MEMORY: u64 = 96 << 20;
/// The largest window of zstd, as a power of two: the default limit of its own tools.
pub const ZSTD_WINDOW: u32 = 27;
/// The longest text file of an unpacked tree that is read whole: user lists, configuration files.
pub const TEXT: u64 = 4 << 20;

/// How many bytes the files of a package of this size may unpack to.
pub fn unpacked(size: u64) -> u64 {
    size.saturating_mul(UNPACKED_RATIO).clamp(UNPACKED_ALWAYS, UNPACKED_MOST)
}

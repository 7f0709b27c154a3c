//! How much mirrors and packages may give. Whoever gives more is refused while it comes.

/// The longest signed release file. Debian's have about 0.2 MiB.
pub const RELEASE: u64 = 4 << 20;
/// The longest index of packages, compressed or not. That of sid has about 60 MiB.
pub const INDEX: u64 = 256 << 20;
/// What a package's files may come to in any case, beyond that for each of its own bytes, and at most.
pub const UNPACKED_ALWAYS: u64 = 64 << 20;
pub const UNPACKED_RATIO: u64 = 200;
pub const UNPACKED_MOST: u64 = 64 << 30;
/// What a package's control archive may come to, and all those of a step.
pub const CONTROL: u64 = 16 << 20;
pub const CONTROLS: u64 = 256 << 20;
/// Members of a package: there are three, and some have a signature.
pub const MEMBERS: usize = 16;
/// Memory for decoding xz: `xz -9` wants 65 MiB.
pub const XZ_MEMORY: u64 = 96 << 20;
/// The window of zstd, as a power of two: its own tools go no further unasked.
pub const ZSTD_WINDOW: u32 = 27;
/// The longest text of an unpacked tree that is read whole: lists of users, configurations.
pub const TEXT: u64 = 4 << 20;

/// What the files of a package of some size may come to.
pub fn unpacked(size: u64) -> u64 {
    size.saturating_mul(UNPACKED_RATIO).clamp(UNPACKED_ALWAYS, UNPACKED_MOST)
}

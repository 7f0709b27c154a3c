//! Limits on images and archives. Those in proportion to the received bytes are in [`Budget`](crate::model::Budget).

use crate::model::Floor;

/// The longest manifest, index and configuration that are read (distribution-spec, "Pushing Manifests").
pub const LONGEST: u64 = 4 << 20;
/// The most layers of an image: overlayfs allows no more (OVL_MAX_STACK).
pub const LAYERS: usize = 500;
/// How deep indexes may be nested.
pub const INDEXES: usize = 4;

/// How much one archive or layer may always unpack to.
pub const ARCHIVE: Floor = Floor { bytes: 1 << 30, entries: 100_000, names: 16 << 20 };
/// How much all layers of an image together may always unpack to.
pub const IMAGE: Floor = Floor { bytes: 4 << 30, entries: 400_000, names: 64 << 20 };

/// How much memory an xz decoder may use, in bytes: `xz -9` needs half of it.
pub const XZ_MEMORY: u64 = 128 << 20;
/// How far back a zstd stream may refer, as a power of two: `zstd -d` has the same limit.
pub const ZSTD_WINDOW: u32 = 27;

/// The longest path and the longest target of a link, as in the kernel (PATH_MAX).
pub const LONGEST_PATH: u64 = 4096;
/// The longest set of PAX records before an entry, as in Go's archive/tar, which Docker uses.
pub const LONGEST_RECORDS: u64 = 1 << 20;
/// The most data segments of a sparse file.
pub const PARTS: usize = 65_536;

/// The shortest and longest time that an image's health check may ask for, in milliseconds, and the most retries;
/// Docker accepts nothing below one millisecond.
pub const HEALTH_SPAN: (u64, u64) = (1, 24 * 3_600_000);
pub const HEALTH_RETRIES: u32 = 1000;

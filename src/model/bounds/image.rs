//! What images and archives may come to. Bounds in proportion to what came are [`Budget`](crate::model::Budget)'s.

use crate::model::Floor;

/// The longest manifest, index and configuration that are read (distribution-spec, "Pushing Manifests").
pub const LONGEST: u64 = 4 << 20;
/// The most layers of an image: overlayfs has no more (OVL_MAX_STACK).
pub const LAYERS: usize = 500;
/// How deep indexes may stand in indexes.
pub const INDEXES: usize = 4;

/// What one archive, or one layer, may come to in any case.
pub const ARCHIVE: Floor = Floor { bytes: 1 << 30, entries: 100_000, names: 16 << 20 };
/// What all layers of an image together may come to in any case.
pub const IMAGE: Floor = Floor { bytes: 4 << 30, entries: 400_000, names: 64 << 20 };

/// What a decoder of xz may hold, in bytes: `xz -9` needs half of it.
pub const XZ_MEMORY: u64 = 128 << 20;
/// How far back a zstd stream may refer, as a power of two: what `zstd -d` takes, too.
pub const ZSTD_WINDOW: u32 = 27;

/// The longest path and the longest target of a link, as the kernel has it (PATH_MAX).
pub const LONGEST_PATH: u64 = 4096;
/// The longest set of PAX records before an entry, as in Go's archive/tar, which Docker reads with.
pub const LONGEST_RECORDS: u64 = 1 << 20;
/// The most parts of a sparse file.
pub const PARTS: usize = 65_536;

/// The longest time and the most retries that an image's health check may ask for, in milliseconds; Docker takes
/// nothing below one millisecond.
pub const HEALTH_SPAN: (u64, u64) = (1, 24 * 3_600_000);
pub const HEALTH_RETRIES: u32 = 1000;

//! What identifies a layer, and the fixed timestamp of everything that is built.

use super::Digest;
use serde::{Deserialize, Serialize};

/// The default `PATH`, as Docker sets it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The latest timestamp in a layer if the lock file has none, in seconds since 1970: 2025-01-01T00:00:00Z.
pub const EPOCH: i64 = 1_735_689_600;

/// A layer in the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The digest of its canonical uncompressed tar.
    pub diff_id: Digest,
    /// The length of that tar in bytes.
    pub size: u64,
    pub files: u64,
    /// The received bytes of a layer that was made elsewhere: they cannot be computed from its tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<StoredBlob>,
}

/// The bytes of a layer as somebody else made them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredBlob {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
}

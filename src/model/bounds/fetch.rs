//! What servers may answer.

/// The largest file that is fetched without its size being known, in bytes.
pub const LARGEST: u64 = 8 << 30;
/// How many redirects are followed for one file.
pub const REDIRECTS: usize = 10;

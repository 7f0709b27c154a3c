//! Limits on what servers may answer.

/// The largest file that is fetched if its size is not known in advance, in bytes.
pub const LARGEST: u64 = 8 << 30;
/// How many redirects are followed for one file.
pub const REDIRECTS: usize = 10;

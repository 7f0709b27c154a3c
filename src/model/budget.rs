//! Limits how much may be unpacked from received bytes: in proportion to the bytes that really arrived.
//!
//! The receiving side reports what arrived, and the writing side asks before it writes. Only reported bytes
//! count: a receiver that does not report is held to the floor, whatever size a sender announces.

use super::Size;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes may be written for each received byte, beyond the floor.
const RATIO: u64 = 200;
/// How many received bytes allow one more entry, beyond the floor: an empty file takes some twenty.
const BYTES_OF_AN_ENTRY: u64 = 8;
/// How many bytes of paths there may be for each received byte, beyond the floor.
const NAMES_OF_A_BYTE: u64 = 8;
/// The most entries and the most bytes of paths in any case: nobody needs more.
const MOST_ENTRIES: u64 = 4_000_000;
const MOST_NAMES: u64 = 256 << 20;

/// How much is always allowed, however little arrived.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub bytes: u64,
    pub entries: u64,
    /// The bytes of all paths together.
    pub names: u64,
}

/// Counts what arrived and what was written so far. The receiver and the writer share it.
#[derive(Debug)]
pub struct Budget {
    floor: Floor,
    came: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
    names: AtomicU64,
    /// The larger budget that this one is part of, and also spends from.
    whole: Option<Arc<Budget>>,
}

/// The error when a budget is exceeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excess(String);

impl Budget {
    pub fn new(floor: Floor) -> Self {
        let zero = AtomicU64::default;
        Self { floor, came: zero(), bytes: zero(), entries: zero(), names: zero(), whole: None }
    }

    /// Makes this budget one of several that share a larger one.
    #[must_use]
    pub fn within(self, whole: Arc<Self>) -> Self {
        Self { whole: Some(whole), ..self }
    }

    /// Reports received bytes.
    pub fn came(&self, bytes: u64) {
        let more = |now: u64| Some(now.saturating_add(bytes));
        // It cannot fail: the closure always returns a sum.
        let _ = self.came.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if let Some(whole) = &self.whole {
            whole.came(bytes);
        }
    }

    /// How many bytes may be written for what has arrived until now.
    pub fn allowance(&self) -> u64 {
        self.came.load(Ordering::Relaxed).saturating_mul(RATIO).max(self.floor.bytes)
    }

    /// Spends bytes; holes in sparse files count like data.
    ///
    /// # Errors
    /// Fails when that is more than allowed; a budget does not count bytes that it refused.
    pub fn spend(&self, bytes: u64) -> Result<(), Excess> {
        add(&self.bytes, bytes, self.allowance()).ok_or_else(|| self.too_long())?;
        self.whole.as_ref().map_or(Ok(()), |whole| whole.spend(bytes))
    }

    /// Spends an entry whose path has `path` bytes.
    ///
    /// # Errors
    /// Fails when that is more than allowed.
    pub fn entry(&self, path: usize) -> Result<(), Excess> {
        let came = self.came.load(Ordering::Relaxed);
        let most = (self.floor.entries.saturating_add(came / BYTES_OF_AN_ENTRY)).min(MOST_ENTRIES);
        add(&self.entries, 1, most)
            .ok_or_else(|| Excess(format!("it has more than {most} entries, which is too many for its size")))?;
        let most = self.floor.names.saturating_add(came.saturating_mul(NAMES_OF_A_BYTE)).min(MOST_NAMES);
        add(&self.names, path as u64, most)
            .ok_or_else(|| Excess(format!("its paths come to more than {}, which is too much for its size", Size(most))))?;
        self.whole.as_ref().map_or(Ok(()), |whole| whole.entry(path))
    }

    /// The error that more bytes were written than allowed.
    pub fn too_long(&self) -> Excess {
        let floor = Size(self.floor.bytes);
        Excess(format!("it comes to more than {floor} and {RATIO} times its size, like archives made to fill disks"))
    }
}

/// Adds, unless the sum would exceed `most`.
fn add(to: &AtomicU64, more: u64, most: u64) -> Option<u64> {
    let sum = |now: u64| now.checked_add(more).filter(|sum| *sum <= most);
    to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).ok()
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Excess {}

impl From<Excess> for std::io::Error {
    fn from(excess: Excess) -> Self {
        Self::other(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Floor = Floor { bytes: 1000, entries: 10, names: 100 };

    #[test]
    fn what_came_decides() {
        let budget = Budget::new(FLOOR);
        budget.spend(1000).unwrap();
        assert!(budget.spend(1).unwrap_err().to_string().contains("times its size"));
        budget.came(10);
        budget.spend(1000).unwrap();
        assert!(budget.spend(1).is_err());
        assert!(budget.spend(u64::MAX).is_err(), "no sum wraps");
        budget.came(u64::MAX);
        budget.came(u64::MAX);
        assert_eq!(budget.allowance(), u64::MAX);
    }

    #[test]
    fn entries_and_their_paths_are_counted() {
        let budget = Budget::new(FLOOR);
        (0..10).for_each(|_| budget.entry(1).unwrap());
        assert!(budget.entry(1).unwrap_err().to_string().contains("more than 10 entries"));
        let budget = Budget::new(FLOOR);
        assert!(budget.entry(101).unwrap_err().to_string().contains("paths come to more than 100 B"));
        budget.came(u64::MAX);
        assert!(budget.entry(257 << 20).is_err());
    }

    #[test]
    fn parts_share_the_whole() {
        let whole = Arc::new(Budget::new(Floor { bytes: 1500, ..FLOOR }));
        let parts = [(); 2].map(|()| Budget::new(FLOOR).within(whole.clone()));
        parts[0].spend(900).unwrap();
        assert!(parts[1].spend(900).is_err());
        parts[1].came(10);
        parts[1].spend(900).unwrap();
    }
}

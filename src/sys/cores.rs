//! Work shared out among all cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Gives parts of a slice, with their numbers, to threads on all cores; what is one part stays in this one.
///
/// # Errors
/// The first failure; parts that were not begun then are left.
pub fn on_all_cores<T: Sync, E: Send>(
    all: &[T],
    part: usize,
    work: impl Fn(usize, &[T]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let parts: Vec<&[T]> = all.chunks(part).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let lane = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else { return };
            if let Err(error) = work(index, part) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                next.store(parts.len(), Ordering::Relaxed);
            }
        }
    };
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    std::thread::scope(|scope| {
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_and_a_failure_ends_it() {
        let all: Vec<usize> = (0..1000).collect();
        let sums = Mutex::new(Vec::new());
        on_all_cores(&all, 64, |index, part| {
            sums.lock().unwrap().push((index, part.iter().sum::<usize>()));
            Ok::<(), ()>(())
        })
        .unwrap();
        let mut sums = sums.into_inner().unwrap();
        sums.sort_unstable();
        assert_eq!(sums.len(), 16);
        assert_eq!(sums.iter().map(|(_, sum)| sum).sum::<usize>(), 499_500);
        assert_eq!(on_all_cores(&all, 1, |index, _| if index == 7 { Err(index) } else { Ok(()) }), Err(7));
        assert_eq!(on_all_cores(&[0; 0], 1, |_, _| Err(())), Ok(()));
    }
}

//! Work that is distributed over all cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How many threads can run at the same time. The answer is kept: to find it, many files of cgroups are read.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Splits a slice into parts and gives them, with their indexes, to threads on all cores. A single part is processed in
/// the calling thread.
///
/// # Errors
/// Returns the first failure. Parts that were not started by then are skipped.
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
    let lanes = if parts.len() < 2 { 1 } else { cores().min(parts.len()) };
    std::thread::scope(|scope| {
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Walks a tree level by level, with the directories of each level spread over all cores. For each directory, `list` adds
/// its entries and the subdirectories to visit next. The result is ordered by level, then by directory.
///
/// # Errors
/// Returns the first failure.
pub fn by_levels<F: Send + Sync, T: Send, E: Send>(
    top: F,
    list: impl Fn(&F, &mut Vec<T>, &mut Vec<F>) -> Result<(), E> + Sync,
) -> Result<Vec<T>, E> {
    let (mut all, mut level) = (Vec::new(), vec![top]);
    while !level.is_empty() {
        let found = Mutex::new(Vec::new());
        on_all_cores(&level, 8, |index, part| {
            let (mut inside, mut below) = (Vec::new(), Vec::new());
            part.iter().try_for_each(|folder| list(folder, &mut inside, &mut below))?;
            found.lock().unwrap_or_else(PoisonError::into_inner).push((index, inside, below));
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|(index, ..)| *index);
        level.clear();
        for (_, mut inside, mut below) in found {
            all.append(&mut inside);
            level.append(&mut below);
        }
    }
    Ok(all)
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

    #[test]
    fn every_folder_of_a_tree_is_listed_once() {
        // Each number below a hundred has nine children.
        let list = |number: &usize, inside: &mut Vec<usize>, below: &mut Vec<usize>| {
            let children = (1..10).map(|digit| number * 10 + digit);
            inside.extend(children.clone());
            below.extend(children.filter(|child| *child < 100));
            if *number == 77 { Err(()) } else { Ok(()) }
        };
        let mut found = by_levels(0, |number, inside, below| list(number, inside, below).or(Ok::<(), ()>(()))).unwrap();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 9 + 81 + 729);
        assert_eq!(by_levels(0, list), Err(()));
    }
}

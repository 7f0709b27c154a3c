//! A fuzzer for every parser of untrusted bytes, on the stable toolchain.
//!
//! Seeds (files of `tests/` and generated ones) are mutated with dictionaries and with pieces of each other. There is
//! no coverage, so the words of the answer tell what is new: an input that is refused in a new way is kept and mutated
//! further. `fastrand` gives the random numbers: it is small, seedable, and already a dependency. bolero and cargo-fuzz
//! need plugins or a nightly compiler; arbitrary generates inputs but does not mutate them.
//!
//! `STEAD_FUZZ_SECONDS` sets the total time, `STEAD_FUZZ_SEED` the random seed, and `STEAD_FUZZ_TARGET` selects one
//! parser. Without a time it runs for 60 s with a fixed seed, so that the result depends on the change and not on luck;
//! with a time the seed is random. A panic, a hang (20 s) and 256 MiB for one input are findings. The input is in the
//! target directory's `tmp/fuzz`, and `STEAD_FUZZ_INPUT` runs one again.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests create files, print what they did, and fail by panicking"
)]

mod memory;
mod mutate;
mod records;
mod seeds;
mod targets;

use memory::Meter;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use targets::Target;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// How much time and memory one input may take.
const PATIENCE: Duration = Duration::from_secs(20);
const MEMORY: usize = 256 << 20;
/// How many of the inputs that were refused in a new way are kept, and how long they may be.
const KEPT: usize = 1000;
const LONG: usize = 64 << 10;

/// When the current input began: milliseconds since the start, plus one. Zero means that no input is running.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn variable<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}

/// The result of fuzzing one parser.
#[derive(Default)]
struct Tally {
    executions: u64,
    slowest: Duration,
    memory: usize,
    answers: HashSet<String>,
    findings: Vec<String>,
}

impl Tally {
    /// Runs the parser on one input; returns whether it answered in a new way.
    fn run(&mut self, target: &Target, bytes: &[u8], start: Instant) -> bool {
        let (meter, begun) = (Meter::start(), Instant::now());
        BEGAN.store(u64::try_from(start.elapsed().as_millis()).unwrap() + 1, Ordering::Relaxed);
        let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        BEGAN.store(0, Ordering::Relaxed);
        let (took, memory) = (begun.elapsed(), meter.peak());
        self.executions += 1;
        self.slowest = self.slowest.max(took);
        self.memory = self.memory.max(memory);
        let mut error = None;
        if answer.is_err() {
            error = Some(format!("panic: {}", LAST_PANIC.lock().unwrap()));
        } else if memory > MEMORY {
            error = Some(format!("{} MiB of memory", memory >> 20));
        }
        if let Some(error) = error {
            // Panics at the same place are one finding.
            if self.answers.insert(error.clone()) {
                let place = folder().join(format!("{}-{}", target.name.replace(' ', "-"), self.findings.len()));
                fs::write(&place, bytes).unwrap();
                self.findings.push(format!("{}: {error}\n  input: {}", target.name, place.display()));
            }
            return false;
        }
        let words = answer.unwrap_or_default();
        let words: String = words.chars().filter(|c| c.is_ascii_lowercase() || *c == ' ').take(90).collect();
        self.answers.len() < KEPT && self.answers.insert(words)
    }
}

fn fuzz(target: &Target, time: Duration, random: &mut fastrand::Rng, start: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut corpus = target.seeds.clone();
    // This file holds the current input, in case the process dies.
    let running = File::create(folder().join(format!("{}.running", target.name.replace(' ', "-")))).unwrap();
    let give = |bytes: &[u8], tally: &mut Tally| {
        running.write_all_at(bytes, 0).unwrap();
        running.set_len(bytes.len() as u64).unwrap();
        tally.run(target, bytes, start)
    };
    for seed in &target.seeds {
        give(seed, &mut tally);
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        let mut bytes = mutate::mutate(random, &corpus, target.words);
        (target.repair)(&mut bytes);
        if give(&bytes, &mut tally) && bytes.len() < LONG {
            corpus.push(bytes);
        }
    }
    tally
}

/// Ends the process when an input takes too long, because there is no other way out of an endless loop.
fn watch(start: Instant) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let began = BEGAN.load(Ordering::Relaxed);
            if began > 0 && start.elapsed() > Duration::from_millis(began) + PATIENCE {
                eprintln!(
                    "an input takes longer than {} s; it is the newest .running in {}",
                    PATIENCE.as_secs(),
                    folder().display()
                );
                std::process::abort();
            }
        }
    });
}

fn all() {
    let start = Instant::now();
    watch(start);
    std::panic::set_hook(Box::new(|info| *LAST_PANIC.lock().unwrap() = info.to_string()));
    let only: Option<String> = variable("STEAD_FUZZ_TARGET");
    // Files that exist for one input only are fastest in memory.
    let memory = PathBuf::from("/dev/shm");
    let scratch = tempfile::tempdir_in(if memory.is_dir() { memory } else { folder() }).unwrap();
    let mut targets = targets::all(scratch.path());
    targets.retain(|target| only.as_ref().is_none_or(|only| target.name == only));
    assert!(!targets.is_empty(), "there is no such parser");
    if let Some(input) = variable::<PathBuf>("STEAD_FUZZ_INPUT") {
        let mut tally = Tally::default();
        tally.run(&targets[0], &fs::read(input).unwrap(), start);
        println!("{:?} {} KiB {:?}", tally.slowest, tally.memory >> 10, tally.answers);
        assert!(tally.findings.is_empty(), "{}", tally.findings.join("\n"));
        return;
    }
    let seconds = variable::<f64>("STEAD_FUZZ_SECONDS");
    let seed = variable("STEAD_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(1, |_| fastrand::u64(..)));
    let seconds = seconds.unwrap_or(60.0);
    let time = Duration::from_secs_f64(seconds / f64::from(u32::try_from(targets.len()).unwrap()));
    println!("seed {seed}, {time:.1?} for each of {} parsers", targets.len());
    let (mut findings, mut executions, mut memory) = (Vec::new(), 0, 0);
    for target in &targets {
        let mut random = fastrand::Rng::with_seed(seed);
        let tally = fuzz(target, time, &mut random, start);
        println!(
            "{:32} {:9} inputs, {:4} answers, slowest {:8.1?}, {:6} KiB",
            target.name,
            tally.executions,
            tally.answers.len(),
            tally.slowest,
            tally.memory >> 10
        );
        executions += tally.executions;
        memory = memory.max(tally.memory);
        findings.extend(tally.findings);
    }
    println!("{executions} inputs in {:.0?}, {} KiB at most", start.elapsed(), memory >> 10);
    assert!(findings.is_empty(), "seed {seed}\n{}", findings.join("\n"));
}

#[test]
fn every_parser_of_foreign_bytes_stands() {
    // This thread has as much stack as a program's main thread, in which projects are read.
    let worker = std::thread::Builder::new().stack_size(8 << 20).spawn(all).unwrap();
    let ended = worker.join();
    drop(std::panic::take_hook());
    if let Err(what) = ended {
        let text = what.downcast_ref::<String>().cloned().or_else(|| what.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{}", text.unwrap_or_default());
    }
}

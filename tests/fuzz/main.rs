//! A fuzzer over every parser of foreign bytes, on the stable toolchain.
//!
//! Seeds (files of `tests/`, and made ones) are mutated with dictionaries and pieces of one another. Without
//! coverage, what is new is told by the words of the answer: an input that is refused in a new way is kept and
//! mutated further. `fastrand` gives the chances: small, seedable, and in the tree already; bolero and cargo-fuzz
//! want plugins or a nightly compiler, and arbitrary makes inputs but does not change them.
//!
//! `STEAD_FUZZ_SECONDS` says how long in all, `STEAD_FUZZ_SEED` which chances, `STEAD_FUZZ_TARGET` which parser only.
//! Without a time it is 60 s of always the same chances, so that a change is judged and not luck; with one the chances
//! are new. A panic, a hang (20 s) and 256 MiB for one input are findings; the input lies in the target directory's
//! `tmp/fuzz`, and `STEAD_FUZZ_INPUT` runs one again.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests make files, tell what they did, and fail by panicking"
)]

mod memory;
mod mutate;
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

/// What one input may take.
const PATIENCE: Duration = Duration::from_secs(20);
const MEMORY: usize = 256 << 20;
/// How many inputs are kept of those that were refused in a new way, and how long they may be.
const KEPT: usize = 1000;
const LONG: usize = 64 << 10;

/// When the running input began, in milliseconds from the start, and one; zero is nothing.
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

/// What fuzzing one parser came to.
#[derive(Default)]
struct Tally {
    executions: u64,
    slowest: Duration,
    memory: usize,
    answers: HashSet<String>,
    findings: Vec<String>,
}

impl Tally {
    /// Gives the parser one input; whether it answered in a new way.
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
            // One place that panics is one finding.
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
    // What runs lies here, for whoever finds the process dead.
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

/// Ends the process when an input takes too long: a loop cannot be left otherwise.
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
    // Files that live for one input are quickest in memory.
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
    // As much stack as a program's first thread has, in which projects are read.
    let worker = std::thread::Builder::new().stack_size(8 << 20).spawn(all).unwrap();
    let ended = worker.join();
    drop(std::panic::take_hook());
    if let Err(what) = ended {
        let text = what.downcast_ref::<String>().cloned().or_else(|| what.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{}", text.unwrap_or_default());
    }
}

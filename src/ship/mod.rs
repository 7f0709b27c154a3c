//! Sends log lines on: one small process for each project whose containers have a `driver`.
//!
//! It follows the log files, which stay the source of truth, and saves its position after every batch that
//! the receiver took. So it may be killed at any moment: its successor continues at that position. If it was killed
//! between sending and saving, lines are sent twice. No line is left out, except by the quota of the log itself.
//! It ends when its manifest is gone (`down` removes it), or when nothing of the project runs.

mod drivers;

use crate::model::{Context, Error, Result};
use crate::monitor::{Event, Folder, Line, Tail, add_event};
use crate::project::LogDriver;
use crate::store::{Kept, read_state, state_bytes};
use crate::sys;
use drivers::Driver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The instructions for a shipper, a file in the instance's directory on the run file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub project: String,
    /// The file in which it keeps its positions.
    pub places: PathBuf,
    pub events: PathBuf,
    /// The project's directory: paths of files are relative to it.
    pub folder: PathBuf,
    pub targets: BTreeMap<String, Target>,
}

impl Kept for Manifest {
    const KIND: &'static str = "log-targets";
    const VERSION: u32 = 1;
}

/// One container whose lines are sent on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    pub container: String,
    pub image: String,
    /// Its logs, a directory for each generation.
    pub logs: PathBuf,
    /// The directory of its monitor.
    pub folder: PathBuf,
    pub driver: LogDriver,
}

/// The most lines that are sent at once.
const BATCH: usize = 512;
/// The time between two looks for new lines.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

fn manifest(run: &Path) -> PathBuf {
    run.join("ship.json")
}

/// Writes the manifest and starts a shipper for an instance's directory, unless one is running.
///
/// # Errors
/// Fails when the manifest cannot be written or the process cannot start.
pub fn start(run: &Path, wanted: &Manifest) -> Result<()> {
    sys::write_atomic(&manifest(run), &state_bytes(wanted)?, 0o600).context(|| "cannot write the targets of logs".into())?;
    if sys::Lock::is_held(&run.join("ship.lock")) { Ok(()) } else { spawn(run, &wanted.project) }
}

fn spawn(run: &Path, project: &str) -> Result<()> {
    Command::new("/proc/self/exe")
        .arg0("stead")
        .args(["ship", project])
        .current_dir(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .context(|| "cannot start the process that sends logs on".into())
}

/// The last manifest of an instance's shipper; `None` if it has none.
///
/// # Errors
/// Fails when it cannot be read: that must not count as having no targets for logs.
pub fn told(run: &Path) -> Result<Option<Manifest>> {
    read_state(&manifest(run))
}

/// Restarts the shipper of an instance's directory, if there should be one and it was killed.
///
/// # Errors
/// Fails when the manifest cannot be read or the process cannot start.
pub fn revive(run: &Path) -> Result<()> {
    match told(run)? {
        Some(wanted) if !sys::Lock::is_held(&run.join("ship.lock")) => spawn(run, &wanted.project),
        _ => Ok(()),
    }
}

/// Stops an instance's shipper: lets it send what is left, waits for that, and kills it if it takes too long.
pub fn stop(run: &Path) {
    let _ = std::fs::remove_file(manifest(run));
    let lock = run.join("ship.lock");
    let start = Instant::now();
    while sys::Lock::is_held(&lock) && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = std::fs::read_to_string(run.join("ship.pid")).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid.filter(|_| sys::Lock::is_held(&lock)) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The shipper's own `main`: its directory is the working directory.
///
/// # Errors
/// Fails when the directory is gone, when another shipper runs in it, or when the manifest or the positions cannot be read.
pub fn main() -> Result<()> {
    sys::set_name(c"stead-ship");
    let run = std::env::current_dir().context(|| "the instance's directory is gone".into())?;
    let lock = sys::Lock::attempt(&run.join("ship.lock")).context(|| "cannot lock the instance's directory".into())?;
    let Some(_lock) = lock else { return Err(Error::new("this project's logs are already being sent on")) };
    let _ = sys::write_atomic(&run.join("ship.pid"), std::process::id().to_string().as_bytes(), 0o600);
    let Some(mut known) = self::told(&run)? else { return Ok(()) };
    // Without the saved positions everything would be sent again.
    let Places(mut places) = read_state(&known.places)?.unwrap_or_default();
    let (tell, told) = mpsc::channel();
    let mut streams: BTreeMap<String, Running> = BTreeMap::new();
    begin(&mut streams, &known, &places, &tell)?;
    loop {
        while let Ok((name, place)) = told.recv_timeout(PAUSE) {
            places.insert(name, place);
            places.extend(told.try_iter());
            save(&known, &places);
        }
        let now = self::told(&run)?;
        let nobody = streams.values().all(|stream| !Folder::at(&stream.target.folder).alive());
        match now {
            Some(now) if now != known => {
                streams.retain(|name, stream| now.targets.get(name) == Some(&stream.target));
                begin(&mut streams, &now, &places, &tell)?;
                known = now;
            }
            Some(_) if !nobody => {}
            // Dropping the streams lets each send what is left.
            _ => {
                streams.clear();
                places.extend(told.try_iter());
                save(&known, &places);
                return Ok(());
            }
        }
    }
}

/// Generation, file and offset up to which each container's lines were taken.
type Reached = BTreeMap<String, (u64, u64, u64)>;

#[derive(Default, Serialize, Deserialize)]
struct Places(Reached);

impl Kept for Places {
    const KIND: &'static str = "log-places";
    const VERSION: u32 = 1;
}

fn save(manifest: &Manifest, places: &Reached) {
    // If a position is not saved, its lines are only sent again.
    let _ = state_bytes(&Places(places.clone())).map(|bytes| sys::write_lasting(&manifest.places, &bytes, 0o600));
}

/// Starts a thread for each target that has none, so that a receiver that hangs does not delay the others.
fn begin(
    streams: &mut BTreeMap<String, Running>,
    manifest: &Manifest,
    places: &Reached,
    tell: &mpsc::Sender<(String, (u64, u64, u64))>,
) -> Result<()> {
    for (name, target) in manifest.targets.iter().filter(|(name, _)| !streams.contains_key(*name)).collect::<Vec<_>>() {
        let end = Arc::new(AtomicBool::new(false));
        let mut stream = Stream {
            target: target.clone(),
            tail: Tail::from(&target.logs, places.get(name).copied().unwrap_or_default()),
            driver: Driver::new(target, manifest)?,
            events: manifest.events.clone(),
            waiting: Vec::new(),
            not_before: Instant::now(),
            wait: PAUSE,
            failing: false,
        };
        let (key, flag, tell) = (name.clone(), Arc::clone(&end), tell.clone());
        let thread = std::thread::spawn(move || {
            loop {
                // The flag is read before sending, so that lines from before the end are still sent.
                let last = flag.load(Ordering::Acquire);
                match stream.send(&key, last) {
                    Some(place) => drop(tell.send((key.clone(), place))),
                    None if last => return,
                    None => std::thread::sleep(PAUSE),
                }
            }
        });
        streams.insert(name.clone(), Running { target: target.clone(), end, thread: Some(thread) });
    }
    Ok(())
}

/// A thread that sends one container's lines; dropping it lets it finish.
struct Running {
    target: Target,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The stream of one container's lines to its driver.
struct Stream {
    target: Target,
    tail: Tail,
    driver: Driver,
    events: PathBuf,
    /// Lines that were read, but not taken by the driver yet.
    waiting: Vec<Line>,
    not_before: Instant,
    wait: Duration,
    failing: bool,
}

impl Stream {
    /// Sends the next lines; returns the position behind them once they were taken.
    fn send(&mut self, name: &str, last: bool) -> Option<(u64, u64, u64)> {
        if Instant::now() < self.not_before && !last {
            return None;
        }
        while self.waiting.len() < BATCH {
            let Some(line) = self.tail.next_line() else { break };
            self.waiting.push(line);
        }
        if self.waiting.is_empty() {
            return None;
        }
        match self.driver.send(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.wait = PAUSE;
                self.failing = false;
                Some(self.tail.place())
            }
            Err(error) => {
                // The failure is reported once, not with every attempt.
                if !std::mem::replace(&mut self.failing, true) {
                    let attributes = [("driver", self.target.driver.name.clone()), ("error", error)];
                    add_event(&self.events, &Event::now("container", "log_error", name, &attributes));
                }
                self.not_before = Instant::now() + self.wait;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                None
            }
        }
    }
}

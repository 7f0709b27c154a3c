//! The standard streams that a command in a container gets: this process's own, but never a file of the host.
//!
//! Through `/proc/self/fd`, a container can open its streams again with the rights of its own root: it could read and
//! truncate a log that it may only append to. So a stream that is redirected to a file or a disk goes through a pipe.

use crate::model::{Context, Result};
use crate::sys;
use nix::sys::stat::{SFlag, fstat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often we check whether the command has ended, because processes that it left behind may keep a stream open.
const LOOK: Duration = Duration::from_millis(20);

/// A file of the host, and the pipe that is used in its place.
struct Relay {
    from: OwnedFd,
    to: OwnedFd,
    /// Whether it carries output of the command.
    is_output: bool,
}

/// The streams that must be passed on for a command.
pub struct Relays(Vec<Relay>);

/// The streams that are passed on while the command runs.
pub struct Relaying {
    ended: Arc<AtomicBool>,
    outputs: Vec<JoinHandle<()>>,
}

fn is_file(fd: impl AsFd) -> Result<bool> {
    let stat = fstat(fd).map_err(std::io::Error::from).context(|| "a standard stream is closed".into())?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    Ok(matches!(kind, SFlag::S_IFREG | SFlag::S_IFBLK | SFlag::S_IFDIR))
}

fn same_file(a: &OwnedFd, b: &OwnedFd) -> bool {
    matches!((fstat(a), fstat(b)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// This process's standard streams for a command: its input, output and errors, and the streams that must be passed on.
///
/// # Errors
/// Fails when a stream is closed or a pipe cannot be made.
pub fn own() -> Result<([OwnedFd; 3], Relays)> {
    let duplicate = |fd: std::os::fd::BorrowedFd| fd.try_clone_to_owned().context(|| "a standard stream is closed".into());
    let pipe = || sys::pipe().context(|| "cannot make a pipe".into());
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut relays = Vec::new();
    let mut input = duplicate(stdin.as_fd())?;
    if is_file(&input)? {
        let (read, write) = pipe()?;
        relays.push(Relay { from: std::mem::replace(&mut input, read), to: write, is_output: false });
    }
    let (out, errors) = (duplicate(stdout.as_fd())?, duplicate(stderr.as_fd())?);
    let both = same_file(&out, &errors);
    let mut output = |own: OwnedFd| -> Result<OwnedFd> {
        if !is_file(&own)? {
            return Ok(own);
        }
        let (read, write) = pipe()?;
        relays.push(Relay { from: read, to: own, is_output: true });
        Ok(write)
    };
    let out = output(out)?;
    // Both go to one file, so they share one pipe: that keeps the order of the output.
    let errors = if both { out.try_clone().context(|| "cannot share a stream".into())? } else { output(errors)? };
    Ok(([input, out, errors], Relays(relays)))
}

impl Relays {
    /// Starts to pass bytes on. By now, the command must have its ends of the pipes, and this process must have closed them.
    pub fn begin(self) -> Relaying {
        let ended = Arc::new(AtomicBool::new(false));
        let mut outputs = Vec::new();
        for Relay { from, to, is_output } in self.0 {
            let flag = is_output.then(|| ended.clone());
            let thread = std::thread::spawn(move || pass(from.into(), to.into(), flag.as_deref()));
            if is_output {
                outputs.push(thread);
            }
        }
        Relaying { ended, outputs }
    }
}

impl Relaying {
    /// Writes the rest of the output after the command has ended. Processes that it left behind are not waited for.
    pub fn finish(self) {
        self.ended.store(true, Ordering::Release);
        for output in self.outputs {
            // A thread that panicked has nothing more to write.
            let _ = output.join();
        }
    }
}

/// Passes bytes on until their source ends or nobody reads them; output only until the command has ended and no more comes.
fn pass(mut from: File, mut to: File, ended: Option<&AtomicBool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(ended) = ended {
            let over = ended.load(Ordering::Acquire);
            let timeout = if over { Duration::ZERO } else { LOOK };
            match sys::wait_readable(&[&from], Some(timeout)) {
                Ok(ready) if ready.first() == Some(&true) => {}
                Ok(_) if over => return,
                Ok(_) => continue,
                Err(_) => return,
            }
        }
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if to.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        }
    }
}

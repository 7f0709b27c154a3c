//! Requests by the user that this program ends: the signal is recorded, and a descriptor wakes up whatever is waiting.

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// The signal that arrived, or 0 if none has.
static CAME: AtomicI32 = AtomicI32::new(0);
/// Becomes readable once a signal has arrived.
static WAKE: OnceLock<EventFd> = OnceLock::new();
/// The number of the same descriptor, for the signal handler, which must not take locks.
static NUMBER: AtomicI32 = AtomicI32::new(-1);

/// The number of operations in progress that end by themselves on an interruption.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAME.store(signal, Ordering::SeqCst);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) may be called in signal handlers, and the buffer has the length that is passed.
    let _ = unsafe { libc::write(NUMBER.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}

/// Makes the first signal by which a user ends a program be recorded, instead of ending this process at once. A second one
/// of the same kind ends it. A signal that the parent process ignores stays ignored.
///
/// # Errors
/// Fails when `eventfd(2)` or `sigaction(2)` fails.
pub fn note_interrupts() -> io::Result<()> {
    if WAKE.get().is_some() {
        return Ok(());
    }
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    NUMBER.store(wake.as_fd().as_raw_fd(), Ordering::SeqCst);
    let _ = WAKE.set(wake);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let flags = SaFlags::SA_RESETHAND | SaFlags::SA_RESTART;
        let noted = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
        // SAFETY: the handler only stores a number and writes to a descriptor that is never closed.
        let before = unsafe { sigaction(signal, &noted)? };
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: this restores the previous action, which is to ignore the signal.
            unsafe { sigaction(signal, &before)? };
        }
    }
    Ok(())
}

/// The signal that asked this program to end, if one has arrived.
pub fn interrupted() -> Option<i32> {
    Some(CAME.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// The descriptor that becomes readable when a signal arrives, if [`note_interrupts`] was called.
pub fn interruption() -> Option<BorrowedFd<'static>> {
    WAKE.get().map(AsFd::as_fd)
}

/// An operation that ends by itself on an interruption and is given a moment to do so.
pub struct UnderWay(());

impl UnderWay {
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Whether any such operation is in progress.
    pub fn any() -> bool {
        UNDER_WAY.load(Ordering::SeqCst) > 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

//! The wish of whoever runs this program that it ends: a signal that is noted, and a descriptor that wakes who waits.

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// The signal that came; 0 while none has.
static CAME: AtomicI32 = AtomicI32::new(0);
/// Readable from then on.
static WAKE: OnceLock<EventFd> = OnceLock::new();
/// The same for the handler, which may lock nothing.
static NUMBER: AtomicI32 = AtomicI32::new(-1);

/// How much is under way that ends by itself when somebody interrupts.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAME.store(signal, Ordering::SeqCst);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) may be called in handlers, and the buffer has the length that is passed.
    let _ = unsafe { libc::write(NUMBER.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}

/// Notes the first of the signals by which people end programs, instead of dying at once. The second ends this process.
/// One that the caller ignores stays ignored.
///
/// # Errors
/// Those of `eventfd(2)` and `sigaction(2)`.
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
            // SAFETY: as before.
            unsafe { sigaction(signal, &before)? };
        }
    }
    Ok(())
}

/// The signal by which somebody asked this program to end, once one has come.
pub fn interrupted() -> Option<i32> {
    Some(CAME.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// What becomes readable when it comes, if signals are noted.
pub fn interruption() -> Option<BorrowedFd<'static>> {
    WAKE.get().map(AsFd::as_fd)
}

/// Something that ends by itself when somebody interrupts, and is given a moment for it.
pub struct UnderWay(());

impl UnderWay {
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Whether there is any.
    pub fn any() -> bool {
        UNDER_WAY.load(Ordering::SeqCst) > 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

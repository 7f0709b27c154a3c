//! The only room with `unsafe` and raw system calls.
//!
//! Each file wraps one part of the kernel's interface in functions that cannot be misused: they take typed
//! arguments, return `io::Result`, and never leave a descriptor open across `exec`. The callers decide
//! what to do with them.
#![expect(unsafe_code, reason = "raw system calls belong in this module")]

mod bpf;
mod confined;
mod cores;
mod detached;
mod file;
mod interrupt;
mod mount;
mod nearby;
pub mod netlink;
mod process;
mod program;
mod socket;
mod terminal;
mod tree;

pub use bpf::{DeviceRule, allow_devices};
pub use confined::{Opened, ProjectFiles, Unread, open_regular, read_regular, up_to};
pub use cores::{by_levels, cores, on_all_cores};
pub use detached::{Attributes, Depth, Detached, attach_mount, change_mount};
pub use file::*;
pub use interrupt::{UnderWay, interrupted, interruption, note_interrupts};
pub use mount::*;
pub use nearby::Nearby;
pub use process::*;
pub use program::{own_program, protect};
pub use socket::*;
pub use terminal::*;
pub use tree::{Facts, Kind, Listed, Tree, open_plain, read_plain};

use std::ffi::CString;
use std::io;
use std::path::Path;

/// Converts a path to the NUL-terminated form that the kernel expects.
///
/// # Errors
/// Fails when the path contains a NUL byte.
pub fn c_path(path: impl AsRef<Path>) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_ref().as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path contains a NUL byte"))
}

/// A kernel error with a description of what was being done. Its number is kept for callers that decide by it.
#[derive(Debug)]
struct InWords {
    what: String,
    source: io::Error,
}

impl std::fmt::Display for InWords {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for InWords {}

/// Adds a description of what was being done to an error.
pub fn in_words(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), InWords { what: what.to_owned(), source: error })
}

/// Adds a description of what was being done to the error of a result.
///
/// # Errors
/// Returns the error of the given result.
pub fn doing<T>(what: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| in_words(what, error))
}

/// The kernel's error number, also for an error to which [`in_words`] added a description.
pub fn errno(error: &io::Error) -> Option<i32> {
    let inner = || error.get_ref()?.downcast_ref::<InWords>();
    error.raw_os_error().or_else(|| errno(&inner()?.source))
}

/// Turns the kernel's −1 into an error.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Gives freed memory back to the kernel, after work that needed much more than what follows.
pub fn give_memory_back() {
    // SAFETY: it only looks at the allocator's own lists, under its locks (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

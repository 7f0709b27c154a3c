//! A hook for tests, which makes the executor die at a step boundary that they choose.

use std::sync::atomic::{AtomicU64, Ordering};

static PASSED: AtomicU64 = AtomicU64::new(0);

/// Marks a step boundary. With `STEAD_TEST_KILL_AT=N` the process kills itself at the Nth one.
pub fn boundary() {
    let Some(at) = std::env::var("STEAD_TEST_KILL_AT").ok().and_then(|text| text.parse::<u64>().ok()) else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

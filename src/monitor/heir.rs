//! A monitor's heir: a child that sleeps until the monitor is killed, and then does the one thing that cannot wait.
//!
//! A container ends when its monitor is killed, but the killed monitor cannot update the rules of published ports. They
//! would still lead to the container, and clients would connect and never get an answer. So the heir updates them. A
//! container that publishes nothing has no heir.

use super::published::Change;
use crate::store::Home;
use crate::sys::{self, Side};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long it waits for the lock of ports and names at a time, and how many times it tries.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 12;

/// The child, as the monitor sees it.
pub struct Heir {
    pid: i32,
    process: OwnedFd,
}

impl Heir {
    /// Starts the heir of this monitor, whose container belongs to the instance.
    ///
    /// # Errors
    /// Fails when `pidfd_open(2)` or `clone3(2)` fails.
    pub fn begin(home: &Home, instance: &str) -> io::Result<Self> {
        let monitor = sys::open_process(i32::try_from(std::process::id()).map_err(io::Error::other)?)?;
        match sys::clone_process(0, None)? {
            Side::Parent { pid, pidfd } => Ok(Self { pid, process: pidfd }),
            Side::Child => {
                // A failure here is harmless: the next command rewrites the rules, too.
                let _ = inherit(home, instance, &monitor);
                sys::exit_now(0)
            }
        }
    }

    /// Ends it. The monitor has done the heir's work itself.
    pub fn dismiss(self) {
        // It may have ended already.
        let _ = sys::signal_process(&self.process, libc::SIGKILL);
        let _ = sys::wait_for(self.pid);
    }
}

fn inherit(home: &Home, instance: &str, monitor: &OwnedFd) -> io::Result<()> {
    // Signals to the monitor's process group are not meant for the heir, and it must not hold the monitor's lock and sockets.
    let _signals = sys::signal_descriptor(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD])?;
    #[expect(unsafe_code, reason = "this child owns the descriptors that it keeps, and ends without running destructors")]
    // SAFETY: of the open descriptors it uses only that of the monitor, and it ends by `exit_now`.
    unsafe {
        sys::close_all_but(&[monitor.as_raw_fd()])?;
    }
    sys::set_name(c"stead-heir");
    sys::set_title("stead heir");
    while sys::wait_readable(&[monitor], None)? != [true] {}
    for _ in 0..ATTEMPTS {
        let change = Change::of_container(home, instance, true);
        if change.and_then(|mut change| change.settle(Some(PATIENCE))).is_ok_and(|settled| settled) {
            break;
        }
    }
    Ok(())
}

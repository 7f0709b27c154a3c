//! A monitor's heir: a child that sleeps until the monitor is killed, and then does the one thing that cannot wait.
//!
//! A killed monitor takes its container along, but could not say so: the rules of published ports would still lead
//! to it, and whoever connects would wait for an answer from nobody. A container that publishes nothing has no heir.

use super::published::Change;
use crate::store::Home;
use crate::sys::{self, Side};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long it waits for the lock of ports and names at a time, and how often.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 12;

/// The child, from the monitor's side.
pub struct Heir {
    pid: i32,
    process: OwnedFd,
}

impl Heir {
    /// Leaves a child behind this monitor of a container of an instance.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)` and `clone3(2)`.
    pub fn begin(home: &Home, instance: &str) -> io::Result<Self> {
        let monitor = sys::open_process(i32::try_from(std::process::id()).map_err(io::Error::other)?)?;
        match sys::clone_process(0, None)? {
            Side::Parent { pid, pidfd } => Ok(Self { pid, process: pidfd }),
            Side::Child => {
                // It is nobody's business how that went but the rules': the next command rewrites them, too.
                let _ = inherit(home, instance, &monitor);
                sys::exit_now(0)
            }
        }
    }

    /// Ends it: the monitor has done by itself what it was there for.
    pub fn dismiss(self) {
        // One that is gone already is dismissed.
        let _ = sys::signal_process(&self.process, libc::SIGKILL);
        let _ = sys::wait_for(self.pid);
    }
}

fn inherit(home: &Home, instance: &str, monitor: &OwnedFd) -> io::Result<()> {
    // What is said to the monitor's group is not meant for it, and its lock and sockets are not its own.
    let _signals = sys::signal_descriptor(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD])?;
    #[expect(unsafe_code, reason = "this child owns what it keeps, and ends without a destructor")]
    // SAFETY: of what was open it uses the monitor's descriptor alone, and it ends by `exit_now`.
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

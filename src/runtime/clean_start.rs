//! A fresh start: what a process that stays, and a container, must not have of whoever typed the command.
//!
//! A monitor is started from a login shell, an editor, a CI job; each has its own descriptors, niceness, processors,
//! limits and keys. None of them is the container's business, and a container started from another shell must not be
//! another container (docker has its daemon for that, which systemd starts).

use crate::sys;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;

/// What processes of containers may use, soft and hard, where the project says nothing: what systemd gives services,
/// and so Docker's containers.
const LIMITS: [(Resource, u64, u64); 12] = [
    (Resource::RLIMIT_NOFILE, 1024, 524_288),
    (Resource::RLIMIT_STACK, 8 << 20, RLIM_INFINITY),
    (Resource::RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
    (Resource::RLIMIT_MSGQUEUE, 819_200, 819_200),
    (Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_NICE, 0, 0),
    (Resource::RLIMIT_RTPRIO, 0, 0),
];

/// Lets go of all that this process has of its caller but its standard streams, working directory and environment, which
/// were given on purpose. To be called before anything is opened.
///
/// # Errors
/// What the kernel refuses although it matters: descriptors, keys, personality.
pub fn start_anew() -> io::Result<()> {
    #[expect(unsafe_code, reason = "nothing was opened yet")]
    // SAFETY: this is called before anything is opened, so nothing owns what the caller left open.
    unsafe {
        sys::close_from(3)?;
    }
    sys::set_umask(0o077);
    sys::new_session_keyring()?;
    sys::set_personality(0)?;
    sys::plain_scheduling();
    // The descriptors of a busy container's monitor are more than a shell may open.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// Gives this process what every container's processes have where the project says nothing: limits, and a score; the
/// project's own are the process's (`process.rs`).
///
/// # Errors
/// A limit that the kernel refuses although it is no more than this process has; a score that the project wants.
pub fn plain_limits(wanted_score: Option<i32>) -> io::Result<()> {
    let score = wanted_score.unwrap_or(0);
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        // Only the project's own wish must come true: the caller's may be out of reach (CAP_SYS_RESOURCE).
        Err(error) if wanted_score.is_some() => return Err(sys::in_words(&format!("cannot set the oom-score {score}"), error)),
        _ => {}
    }
    for (resource, soft, hard) in LIMITS {
        match setrlimit(resource, soft, hard) {
            Ok(()) => {}
            // Without CAP_SYS_RESOURCE (a container in a container) a hard limit only goes down.
            Err(Errno::EPERM) => {
                let (_, most) = getrlimit(resource)?;
                setrlimit(resource, soft.min(most), hard.min(most))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

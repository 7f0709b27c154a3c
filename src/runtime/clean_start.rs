//! A clean start: monitors and containers must not inherit settings from whoever typed the command.
//!
//! A monitor is started from a login shell, an editor or a CI job, each of which has its own descriptors, nice value,
//! processors, limits and keys. None of them may reach the container: it must be the same container when it is started
//! from another shell. (Docker's containers are started by its daemon, which systemd starts.)

use crate::sys;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;

/// The soft and hard limits of a container's processes, unless the project sets others. They are those that systemd gives
/// to services, and therefore to Docker's containers.
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

/// Drops everything that this process inherited from its caller, except the standard streams, the working directory and the
/// environment, which were given on purpose. It must be called before anything is opened.
///
/// # Errors
/// Fails when the kernel refuses a change that matters: descriptors, keys, personality.
pub fn start_anew() -> io::Result<()> {
    #[expect(unsafe_code, reason = "nothing has been opened yet")]
    // SAFETY: this is called before anything is opened, so nothing owns what the caller left open.
    unsafe {
        sys::close_from(3)?;
    }
    sys::set_umask(0o077);
    sys::new_session_keyring()?;
    sys::set_personality(0)?;
    sys::plain_scheduling();
    // The monitor of a busy container needs more descriptors than a shell may usually open.
    sys::raise_descriptors()
}

/// Sets the default limits and the OOM score adjustment for the processes of a container. The limits that the project itself
/// wants are set later (`process.rs`).
///
/// # Errors
/// Fails when the kernel refuses a limit that is not above the present one, or refuses the score that the project wants.
pub fn plain_limits(wanted_score: Option<i32>) -> io::Result<()> {
    let score = wanted_score.unwrap_or(0);
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        // Only a score that the project asks for is required: without CAP_SYS_RESOURCE it may be impossible to set 0.
        Err(error) if wanted_score.is_some() => return Err(sys::in_words(&format!("cannot set the oom-score {score}"), error)),
        _ => {}
    }
    for (resource, soft, hard) in LIMITS {
        match setrlimit(resource, soft, hard) {
            Ok(()) => {}
            // Without CAP_SYS_RESOURCE (a container in a container) a hard limit can only be lowered.
            Err(Errno::EPERM) => {
                let (_, most) = getrlimit(resource)?;
                setrlimit(resource, soft.min(most), hard.min(most))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

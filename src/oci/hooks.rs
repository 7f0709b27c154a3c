//! Hooks: programs of the bundle that run at certain points of a container's life and receive its state.

use super::container::State;
use crate::model::{Context, Error, Result};
use oci_spec::runtime::Hook;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs hooks one after the other, and stops at the first that fails.
///
/// # Errors
/// Says which hook failed, with its output.
pub fn run(hooks: Vec<Hook>, state: &State) -> Result<()> {
    hooks.iter().try_for_each(|hook| one(hook, state))
}

/// Runs all `poststop` hooks. Failures cause a warning and have no other effect (OCI runtime specification, "Lifecycle").
pub fn run_last(hooks: Vec<Hook>, state: &State) {
    for error in hooks.iter().filter_map(|hook| one(hook, state).err()) {
        super::warn(&error.chain());
    }
}

fn one(hook: &Hook, state: &State) -> Result<()> {
    let shown = hook.path().display().to_string();
    let args = hook.args().clone().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = args.split_first() {
        command.arg0(name).args(rest);
    }
    // A hook without an environment of its own gets ours, as in runc and crun.
    if let Some(environment) = hook.env() {
        command.env_clear().envs(environment.iter().filter_map(|pair| pair.split_once('=')));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("cannot run the hook {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook does not have to read its state.
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    if let Some(seconds) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while child.try_wait().context(|| "cannot wait for a hook".into())?.is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::new(format!("the hook {shown} took longer than {seconds} s")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let output = child.wait_with_output().context(|| "cannot wait for a hook".into())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let how = match output.status.signal() {
        Some(libc::SIGSYS) => "bad system call".to_owned(),
        _ => output.status.to_string(),
    };
    Err(Error::new(format!("error running hook {shown} ({how}): {said}")))
}

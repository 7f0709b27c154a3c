//! AppArmor profiles and SELinux labels: they are applied to the process and its mounts, or refused if this kernel does not
//! support them.
//!
//! Whoever asks for a label relies on it. If it were ignored, a container would run unconfined and nobody would know.

use crate::model::{Error, Result};
use crate::sys;
use nix::fcntl::OFlag;
use oci_spec::runtime::{Process, Spec};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// AppArmor's name for no profile.
const UNCONFINED: &str = "unconfined";

fn has_apparmor() -> bool {
    // A kernel without it has no such file.
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn profile(process: &Process) -> Option<&str> {
    process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty())
}

fn label(process: &Process) -> Option<&str> {
    process.selinux_label().as_deref().filter(|label| !label.is_empty())
}

/// The SELinux label for the container's own file systems, if the configuration has one.
///
/// # Errors
/// Fails when the label contains a character that would end it.
pub fn mount_label(spec: &Spec) -> io::Result<Option<&str>> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    match label {
        Some(label) if label.contains(['"', '\\']) => Err(io::Error::other("linux.mountLabel has a quote in it")),
        other => Ok(other),
    }
}

/// Refuses labels of a configuration that this kernel does not support.
///
/// # Errors
/// Names the label and the reason.
pub fn check(spec: &Spec) -> Result<()> {
    if let Some(label) = mount_label(spec).map_err(|error| Error::new(error.to_string()))?.filter(|_| !has_selinux()) {
        return Err(no_selinux("linux.mountLabel", label));
    }
    spec.process().as_ref().map_or(Ok(()), check_process)
}

/// Like [`check`], for a further process.
///
/// # Errors
/// Names the label and the reason.
pub fn check_process(process: &Process) -> Result<()> {
    if let Some(profile) = profile(process).filter(|profile| *profile != UNCONFINED && !has_apparmor()) {
        return Err(Error::new(format!("process.apparmorProfile is {profile:?}, and AppArmor is not active in this kernel"))
            .hint("take it out of the configuration; with podman or docker: --security-opt apparmor=unconfined"));
    }
    match label(process).filter(|_| !has_selinux()) {
        Some(label) => Err(no_selinux("process.selinuxLabel", label)),
        None => Ok(()),
    }
}

fn no_selinux(what: &str, label: &str) -> Error {
    Error::new(format!("{what} is {label:?}, and SELinux is not active on this machine"))
        .hint("take it out of the configuration; with podman or docker: --security-opt label=disable")
}

/// Confines the program that is executed next. It uses the host's own /proc (CVE-2025-52881).
///
/// # Errors
/// Fails when the kernel does not know the profile or label.
pub fn confine(process: &Process, proc: &OwnedFd) -> io::Result<()> {
    if let Some(profile) = profile(process).filter(|_| has_apparmor()) {
        let own = write(proc, "self/attr/apparmor/exec", &format!("exec {profile}"));
        // Before Linux 5.8 all security modules shared one file.
        let written = own.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => write(proc, "self/attr/exec", &format!("exec {profile}")),
            _ => Err(error),
        });
        sys::doing(&format!("cannot apply the AppArmor profile {profile:?}"), written)?;
    }
    match label(process) {
        Some(label) => sys::doing(&format!("cannot apply the SELinux label {label:?}"), write(proc, "self/attr/exec", label)),
        None => Ok(()),
    }
}

fn write(proc: &OwnedFd, path: &str, text: &str) -> io::Result<()> {
    // `self` is a link that the kernel provides.
    let file = nix::fcntl::openat(proc, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    File::from(file).write_all(text.as_bytes())
}

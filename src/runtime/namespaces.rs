//! Steps of a container's first process that are the same whoever started it: joining, names, kernel settings.

use super::spec::{Blueprint, joined};
use crate::sys::{self, doing};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxNamespaceType;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// `CLONE_*` of a kind of namespace.
pub fn flag(kind: LinuxNamespaceType) -> libc::c_int {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => 0x80,
    }
}

/// The namespaces that are made for a blueprint's container, as `clone(2)` has them.
pub fn made(blueprint: &Blueprint) -> libc::c_int {
    let own = blueprint.namespaces().filter(|namespace| joined(namespace).is_none());
    own.fold(0, |flags, namespace| flags | flag(namespace.typ()))
}

/// Gives the new namespaces their names.
///
/// # Errors
/// What the kernel refuses.
pub fn names(blueprint: &Blueprint) -> io::Result<()> {
    if blueprint.makes(LinuxNamespaceType::Uts) {
        if let Some(name) = blueprint.oci.hostname() {
            doing("cannot set the host name", nix::unistd::sethostname(name).map_err(io::Error::from))?;
        }
        if let Some(name) = blueprint.oci.domainname() {
            doing("cannot set the domain name", std::fs::write("/proc/sys/kernel/domainname", name))?;
        }
    }
    Ok(())
}

/// Brings up the loopback of a new network namespace that nobody else connects.
///
/// # Errors
/// Those of the kernel.
pub fn loopback(blueprint: &Blueprint) -> io::Result<()> {
    if blueprint.makes(LinuxNamespaceType::Network) {
        doing("cannot bring up the loopback", sys::raise_loopback())?;
    }
    Ok(())
}

/// Writes kernel settings of the container's own namespaces, by the host's /proc, wherever the root is by now.
///
/// # Errors
/// A setting that is the host's, or that the kernel refuses.
pub fn sysctls(blueprint: &Blueprint, proc: &OwnedFd) -> io::Result<()> {
    for (name, value) in blueprint.oci.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten() {
        if !owns(blueprint, name) {
            return Err(io::Error::other(format!("the setting {name} is the host's, not the container's")));
        }
        let path = format!("sys/{}", name.replace('.', "/"));
        let opened = nix::fcntl::openat(proc, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        let written = opened.map_err(io::Error::from).and_then(|file| File::from(file).write_all(value.as_bytes()));
        doing(&format!("cannot set {name}"), written)?;
    }
    Ok(())
}

/// Whether a kernel setting belongs to a namespace that the container has for itself.
pub fn owns(blueprint: &Blueprint, name: &str) -> bool {
    let name = name.replace('/', ".");
    let own = |kind| blueprint.has(kind);
    crate::project::is_namespaced(&name, own(LinuxNamespaceType::Network), own(LinuxNamespaceType::Ipc))
        || own(LinuxNamespaceType::Uts) && matches!(name.as_str(), "kernel.domainname" | "kernel.hostname")
        || own(LinuxNamespaceType::User) && name.starts_with("user.")
}

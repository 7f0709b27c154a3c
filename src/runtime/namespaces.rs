//! Steps of a container's first process that do not depend on who started it: namespace flags, names, kernel settings.

use super::spec::{Blueprint, joined};
use crate::sys::{self, doing};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxNamespaceType;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// The `CLONE_*` flag of a kind of namespace.
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

/// The namespaces that are created for a blueprint's container, as flags of `clone(2)`.
pub fn made(blueprint: &Blueprint) -> libc::c_int {
    let own = blueprint.namespaces().filter(|namespace| joined(namespace).is_none());
    own.fold(0, |flags, namespace| flags | flag(namespace.typ()))
}

/// Sets the host name and the domain name in a new UTS namespace.
///
/// # Errors
/// Fails when the kernel refuses a name.
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

/// Brings up the loopback interface of a new network namespace, if nothing else sets up its network.
///
/// # Errors
/// Fails when the kernel refuses it.
pub fn loopback(blueprint: &Blueprint) -> io::Result<()> {
    if blueprint.makes(LinuxNamespaceType::Network) {
        doing("cannot bring up the loopback", sys::raise_loopback())?;
    }
    Ok(())
}

/// Writes kernel settings of the container's own namespaces. It uses the host's /proc, which works after the root has changed.
///
/// # Errors
/// Fails when a setting belongs to the host, and when the kernel refuses a value.
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

/// Whether a kernel setting belongs to one of the container's own namespaces.
pub fn owns(blueprint: &Blueprint, name: &str) -> bool {
    let name = name.replace('/', ".");
    let own = |kind| blueprint.has(kind);
    crate::project::is_namespaced(&name, own(LinuxNamespaceType::Network), own(LinuxNamespaceType::Ipc))
        || own(LinuxNamespaceType::Uts) && matches!(name.as_str(), "kernel.domainname" | "kernel.hostname")
        || own(LinuxNamespaceType::User) && name.starts_with("user.")
}

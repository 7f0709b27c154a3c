//! Bundles: a folder with `config.json`, read and checked.

use crate::model::{Context, Fault, Outcome};
use nix::mount::MsFlags;
use oci_spec::runtime::{Capabilities, LinuxNamespaceType, Mount, Spec};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A bundle that was read.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub folder: PathBuf,
    pub rootfs: PathBuf,
    pub spec: Spec,
    /// The text, which is kept beside the container's state.
    pub text: String,
}

impl Bundle {
    /// Reads a bundle; its configuration may be another file than `config.json`, as crun has it.
    ///
    /// # Errors
    /// A folder without `config.json`; a configuration that is not right, with its place.
    pub fn read(folder: &Path, config: Option<&Path>) -> Outcome<Self> {
        let folder = std::fs::canonicalize(folder).doing(|| format!("there is no bundle {}", folder.display()))?;
        let path = folder.join(config.unwrap_or(Path::new("config.json")));
        let text = std::fs::read_to_string(&path).doing(|| format!("cannot read {}", path.display()))?;
        let wrong = || format!("{} is not right", path.display());
        let mut value: Value = serde_json::from_str(&text).doing(wrong)?;
        let renamed = value.get_mut("process").is_some_and(rename_flags);
        let text = if renamed { value.to_string() } else { text };
        // Of what was written, so that what is wrong is told with its place.
        let spec: Spec = serde_json::from_str(&text).doing(wrong)?;
        let version = spec.version();
        if !version.starts_with("1.") {
            return Err(Fault::new(format!("{}: version {version:?} of the specification is not 1.x", path.display())));
        }
        let root = spec.root().as_ref().ok_or_else(|| Fault::new(format!("{}: it has no `root`", path.display())))?;
        let rootfs = folder.join(root.path());
        let rootfs = std::fs::canonicalize(&rootfs).doing(|| format!("there is no root file system {}", rootfs.display()))?;
        if !rootfs.is_dir() {
            return Err(Fault::new(format!("the root file system {} is no folder", rootfs.display())));
        }
        let bundle = Self { folder, rootfs, spec, text };
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Outcome<()> {
        let wrong = |text: &str| Err(Fault::new(format!("{}: {text}", self.folder.join("config.json").display())));
        if let Some(process) = self.spec.process() {
            if !process.cwd().is_absolute() {
                return wrong("`process.cwd` is not an absolute path");
            }
            if process.args().as_ref().is_none_or(Vec::is_empty) {
                return wrong("`process.args` is empty");
            }
        }
        for mount in self.spec.mounts().iter().flatten() {
            if mount.destination().components().any(|part| part == std::path::Component::ParentDir) {
                return wrong(&format!("the mount at {} climbs", mount.destination().display()));
            }
        }
        let mut seen = Vec::new();
        for namespace in self.namespaces() {
            if seen.contains(&namespace.0) {
                return wrong("a namespace is named twice");
            }
            seen.push(namespace.0);
        }
        if self.spec.linux().as_ref().is_some_and(|linux| linux.sysctl().iter().flatten().any(|(name, _)| !self.owns(name))) {
            return wrong("`linux.sysctl` has a setting of the host");
        }
        Ok(())
    }

    /// Whether a kernel setting belongs to a namespace that the container has for itself.
    fn owns(&self, name: &str) -> bool {
        let name = name.replace('/', ".");
        let own = |kind| self.namespaces().iter().any(|(found, _)| *found == kind);
        crate::spec::is_namespaced(&name, own(LinuxNamespaceType::Network), own(LinuxNamespaceType::Ipc))
            || own(LinuxNamespaceType::Uts) && matches!(name.as_str(), "kernel.domainname" | "kernel.hostname")
            || own(LinuxNamespaceType::User) && name.starts_with("user.")
    }

    /// Whether its process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }

    /// Namespaces by kind, and the path of each that is to be joined.
    pub fn namespaces(&self) -> Vec<(LinuxNamespaceType, Option<PathBuf>)> {
        let list = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
        // An empty path is none.
        let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        list.iter().map(|namespace| (namespace.typ(), path(namespace.path()))).collect()
    }
}

/// Gives a process's scheduler flags the names that the crate knows, which are not the specification's.
pub fn rename_flags(process: &mut Value) -> bool {
    let mut renamed = false;
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags")).and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = name.into();
        renamed = true;
    }
    renamed
}

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

/// A set of capabilities as a bit mask.
pub fn mask(set: &Option<Capabilities>) -> u64 {
    // The crate's names are ours, without `CAP_`.
    set.iter().flatten().filter_map(|one| crate::model::capability::number(&one.to_string())).fold(0, |mask, bit| mask | 1 << bit)
}

/// A mount's options, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub flags: MsFlags,
    /// Flags that were asked to be off, over those of a bind mount's source.
    pub clear: MsFlags,
    pub propagation: MsFlags,
    /// For the whole tree of a recursive bind: set and cleared, as `mount_setattr(2)` has them.
    pub recursive: (u64, u64),
    pub bind: bool,
    pub data: String,
}

/// `MOUNT_ATTR_*` (mount_setattr(2)).
const RECURSIVE: [(&str, u64, bool); 14] = [
    ("rro", 0x1, true),
    ("rrw", 0x1, false),
    ("rnosuid", 0x2, true),
    ("rsuid", 0x2, false),
    ("rnodev", 0x4, true),
    ("rdev", 0x4, false),
    ("rnoexec", 0x8, true),
    ("rexec", 0x8, false),
    ("rnoatime", 0x10, true),
    ("rnodiratime", 0x80, true),
    ("rdiratime", 0x80, false),
    ("rstrictatime", 0x20, true),
    ("rnosymfollow", 0x20_0000, true),
    ("rsymfollow", 0x20_0000, false),
];

/// Reads a mount's options (OCI runtime specification, "Linux mount options").
pub fn options(mount: &Mount) -> Options {
    let mut found = Options {
        flags: MsFlags::empty(),
        clear: MsFlags::empty(),
        propagation: MsFlags::empty(),
        recursive: (0, 0),
        bind: mount.typ().as_deref() == Some("bind"),
        data: String::new(),
    };
    let mut data = Vec::new();
    for option in mount.options().iter().flatten() {
        let (flag, on) = match option.as_str() {
            "ro" => (MsFlags::MS_RDONLY, true),
            "rw" => (MsFlags::MS_RDONLY, false),
            "nosuid" => (MsFlags::MS_NOSUID, true),
            "suid" => (MsFlags::MS_NOSUID, false),
            "nodev" => (MsFlags::MS_NODEV, true),
            "dev" => (MsFlags::MS_NODEV, false),
            "noexec" => (MsFlags::MS_NOEXEC, true),
            "exec" => (MsFlags::MS_NOEXEC, false),
            "sync" => (MsFlags::MS_SYNCHRONOUS, true),
            "async" => (MsFlags::MS_SYNCHRONOUS, false),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            "remount" => (MsFlags::MS_REMOUNT, true),
            "mand" => (MsFlags::MS_MANDLOCK, true),
            "nomand" => (MsFlags::MS_MANDLOCK, false),
            "noatime" => (MsFlags::MS_NOATIME, true),
            "atime" => (MsFlags::MS_NOATIME, false),
            "nodiratime" => (MsFlags::MS_NODIRATIME, true),
            "diratime" => (MsFlags::MS_NODIRATIME, false),
            "relatime" => (MsFlags::MS_RELATIME, true),
            "norelatime" => (MsFlags::MS_RELATIME, false),
            "strictatime" => (MsFlags::MS_STRICTATIME, true),
            "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
            "nosymfollow" => (MsFlags::from_bits_retain(256), true),
            "symfollow" => (MsFlags::from_bits_retain(256), false),
            "silent" => (MsFlags::MS_SILENT, true),
            "loud" => (MsFlags::MS_SILENT, false),
            "defaults" | "tmpcopyup" => continue,
            "bind" => {
                found.bind = true;
                continue;
            }
            "rbind" => {
                found.bind = true;
                (MsFlags::MS_REC, true)
            }
            word => {
                let spread = match word.trim_start_matches('r') {
                    "private" => MsFlags::MS_PRIVATE,
                    "shared" => MsFlags::MS_SHARED,
                    "slave" => MsFlags::MS_SLAVE,
                    "unbindable" => MsFlags::MS_UNBINDABLE,
                    _ => MsFlags::empty(),
                };
                if !spread.is_empty() {
                    let all = if word.starts_with('r') { MsFlags::MS_REC } else { MsFlags::empty() };
                    found.propagation |= spread | all;
                } else if let Some((_, bit, on)) = RECURSIVE.iter().find(|(name, ..)| *name == word) {
                    if *on { found.recursive.0 |= bit } else { found.recursive.1 |= bit }
                } else {
                    data.push(word.to_owned());
                }
                continue;
            }
        };
        if on {
            found.flags |= flag;
        } else {
            found.flags &= !flag;
            found.clear |= flag;
        }
    }
    found.data = data.join(",");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart() {
        let mut mount = Mount::default();
        mount.set_options(Some(
            ["rbind", "ro", "rslave", "rro", "nosuid", "suid", "size=5m", "mode=755"].map(String::from).to_vec(),
        ));
        let found = options(&mount);
        assert!(found.bind && found.flags == MsFlags::MS_RDONLY | MsFlags::MS_REC, "{found:?}");
        assert_eq!(found.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!((found.recursive, found.data.as_str()), ((1, 0), "size=5m,mode=755"));
        assert_eq!(found.clear, MsFlags::MS_NOSUID);
    }

    #[test]
    fn capabilities_have_our_names() {
        let set: Capabilities = [oci_spec::runtime::Capability::NetAdmin, oci_spec::runtime::Capability::Chown].into();
        assert_eq!(mask(&Some(set)), 1 << 12 | 1);
    }
}

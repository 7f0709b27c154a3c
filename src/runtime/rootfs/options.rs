//! Parses the options of a mount (OCI runtime specification, "Linux mount options").

use super::travel;
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

/// The parsed options of a mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub flags: MsFlags,
    /// Flags that are explicitly turned off, even if the source of a bind mount has them.
    pub clear: MsFlags,
    pub propagation: MsFlags,
    /// Attributes for the whole tree of a recursive bind mount: those to set and those to clear, as in `mount_setattr(2)`.
    pub recursive: (u64, u64),
    pub bind: bool,
    pub data: String,
}

/// Recursive options: the name, the `MOUNT_ATTR_*` bit (mount_setattr(2)), and whether it is set.
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
                let spread = travel(word.strip_prefix('r').unwrap_or(word));
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
}

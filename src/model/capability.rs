//! The names of Linux capabilities (capabilities(7)), by number, and sets of them.

/// Every capability, without `CAP_`; its index is its number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default capabilities (moby `daemon/pkg/oci/caps/defaults.go`).
const DOCKER: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All capabilities, as a bit mask.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The number of a capability by its name, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name).and_then(|number| u32::try_from(number).ok())
}

/// A set of names as a bit mask; unknown names are ignored.
pub fn mask<'a>(names: impl IntoIterator<Item = &'a str>) -> u64 {
    names.into_iter().filter_map(number).fold(0, |mask, number| mask | 1 << number)
}

/// Docker's defaults as a bit mask.
pub fn docker() -> u64 {
    mask(DOCKER)
}

/// Docker's defaults, with some added and some dropped; "ALL" in either list means all capabilities.
pub fn with(add: &[String], drop: &[String]) -> u64 {
    let has_all = |names: &[String]| names.iter().any(|name| name == "ALL");
    let base = if has_all(drop) { 0 } else { docker() };
    let more = if has_all(add) { ALL } else { mask(add.iter().map(String::as_str)) };
    let less = mask(drop.iter().map(String::as_str));
    (base | more) & !less
}

/// The names in a bit mask.
pub fn names(mask: u64) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(number, _)| mask & 1 << number != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_made_as_docker_makes_them() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(docker(), 0xa804_25fb);
        assert_eq!(with(&[], &list(&["ALL"])), 0);
        assert_eq!(names(with(&list(&["NET_ADMIN"]), &list(&["ALL"]))), ["NET_ADMIN"]);
        assert_eq!(with(&list(&["ALL"]), &list(&["SYS_ADMIN"])), ALL & !(1 << 21));
        assert_eq!(names(with(&[], &list(&["MKNOD"]))).len(), 13);
    }
}

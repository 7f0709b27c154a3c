//! The BPF program that decides which devices a cgroup (v2) may open.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A device that may be used: its kind, its major number, and its minor number (`None` for all of them).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceRule {
    pub character: bool,
    pub major: u32,
    pub minor: Option<u32>,
}

/// Encodes an instruction: operation, registers, jump offset, immediate number (struct bpf_insn).
fn instruction(operation: u8, destination: u8, source: u8, jump: i16, number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = operation;
    bytes[1] = source << 4 | destination;
    bytes[2..4].copy_from_slice(&jump.to_ne_bytes());
    bytes[4..8].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Builds the program. It reads the device's kind and the access, the major and the minor number; it allows all device
/// nodes to be created, and only the listed devices to be opened.
fn program(rules: &[DeviceRule]) -> Vec<u8> {
    const LOAD: u8 = 0x61;
    const COPY: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const AND: u8 = 0x57;
    const SHIFT: u8 = 0x77;
    const UNLESS: u8 = 0x55;
    const END: u8 = 0x95;
    let allow = [instruction(SET, 0, 0, 0, 1), instruction(END, 0, 0, 0, 0)];
    let mut all = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(COPY, 3, 2, 0, 0),
        instruction(AND, 3, 0, 0, 0xffff),
        instruction(SHIFT, 2, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
        // An access that is neither read nor write is mknod, which Docker allows for every device.
        instruction(COPY, 6, 2, 0, 0),
        instruction(AND, 6, 0, 0, 6),
        instruction(UNLESS, 6, 0, 2, 0),
    ];
    all.extend(allow);
    for rule in rules {
        let minor = i16::from(rule.minor.is_some());
        all.push(instruction(UNLESS, 3, 0, 3 + minor, if rule.character { 2 } else { 1 }));
        all.push(instruction(UNLESS, 4, 0, 2 + minor, rule.major));
        all.extend(rule.minor.map(|minor| instruction(UNLESS, 5, 0, 2, minor)));
        all.extend(allow);
    }
    all.push(instruction(SET, 0, 0, 0, 0));
    all.push(instruction(END, 0, 0, 0, 0));
    all.concat()
}

/// Loads a device program into the kernel, which verifies it.
fn load(code: &[u8]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_long = 5;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    let licence = c"MIT";
    let mut load = [0u64; 16];
    let count = u32::try_from(code.len() / 8).unwrap_or(u32::MAX);
    load[0] = u64::from(CGROUP_DEVICE_PROGRAM) | u64::from(count) << 32;
    load[1] = code.as_ptr() as u64;
    load[2] = licence.as_ptr() as u64;
    // SAFETY: the attributes follow union bpf_attr; code and licence live through the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, load.as_ptr(), std::mem::size_of_val(&load)) })?;
    // SAFETY: bpf returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Allows the processes of a cgroup to open only these devices. The rule disappears with the cgroup.
///
/// # Errors
/// Fails when `bpf(2)` fails, as it does on kernels without `CONFIG_CGROUP_BPF`.
pub fn allow_devices(cgroup: &OwnedFd, rules: &[DeviceRule]) -> io::Result<()> {
    const PROG_ATTACH: libc::c_long = 8;
    const CGROUP_DEVICE: u32 = 6;
    let program = load(&program(rules))?;
    let descriptor = |fd: &OwnedFd| u64::from(fd.as_raw_fd().unsigned_abs());
    let attach = [descriptor(cgroup) | descriptor(&program) << 32, u64::from(CGROUP_DEVICE), 0, 0];
    // SAFETY: the attributes follow union bpf_attr; both descriptors are open.
    check(unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, attach.as_ptr(), std::mem::size_of_val(&attach)) }).map(drop)
}

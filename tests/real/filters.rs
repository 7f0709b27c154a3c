//! Compares our system call filters with those that libseccomp, which runc uses, makes of the same profiles.

use super::world::{scratch, skip};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stead::tested::runtime::seccomp::{Profile, compile};

include!("../docker/bpf.rs");

/// Values of `AUDIT_ARCH_*`, and the bit that marks x32 calls.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;

const CALLS: [&str; 22] = [
    "read",
    "write",
    "openat",
    "socket",
    "connect",
    "sendmsg",
    "semget",
    "shmat",
    "msgsnd",
    "clone",
    "personality",
    "ioctl",
    "execve",
    "mount",
    "ptrace",
    "readv",
    "futex",
    "waitid",
    "keyctl",
    "socketcall",
    "ipc",
    "stat64",
];
/// How many of these calls every interface has. The others exist only on i386; together with x32, libseccomp drops
/// other rules because of them.
const COMMON: usize = 19;
const ACTIONS: [(&str, u32); 5] = [
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0001),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_TRAP", 0x0003_0000),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
];
/// In the order of libseccomp's numbers, which begin at 1.
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
const VALUES: [u64; 9] = [0, 1, 2, 7, 0xffff, 0x7fff_ffff, 0xffff_ffff, 7 << 32 | 9, u64::MAX];

/// One profile, in the form for us and in the form for libseccomp.
struct Both {
    json: String,
    lines: String,
    interfaces: Vec<(u32, u32)>,
}

fn profile(random: &mut fastrand::Rng) -> Both {
    let (default, code) = ACTIONS[random.usize(..3)];
    let mut lines = format!("default {code:x}\n");
    let mut interfaces = vec![(X86_64, 0)];
    let mut named = vec!["SCMP_ARCH_X86_64"];
    if random.bool() {
        lines += "arch x86\n";
        named.push("SCMP_ARCH_X86");
        interfaces.push((I386, 0));
    }
    if random.bool() {
        lines += "arch x32\n";
        named.push("SCMP_ARCH_X32");
        interfaces.push((X86_64, X32));
    }
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for _ in 0..random.usize(1..6) {
        // Each call gets one action, because libseccomp does not define which of several comes first. The default does not count.
        let known = if interfaces.len() == 2 && interfaces[1].0 == I386 { CALLS.len() } else { COMMON };
        let (name, (action, answer)) = (CALLS[random.usize(..known)], ACTIONS[random.usize(..ACTIONS.len())]);
        if answer != code && !names.insert(name) {
            continue;
        }
        let mut indices: Vec<u8> = (0..6).collect();
        random.shuffle(&mut indices);
        let conditions: Vec<_> = indices[..random.usize(..4)]
            .iter()
            .map(|index| {
                let (first, operator) = (VALUES[random.usize(..VALUES.len())], random.usize(..7));
                let mask = operator == 6;
                (*index, operator, first, if mask { first & VALUES[random.usize(..VALUES.len())] } else { 0 })
            })
            .collect();
        write!(lines, "rule {answer:x} {name} {}", conditions.len()).unwrap();
        let mut arguments = Vec::new();
        for (index, operator, value, second) in conditions {
            write!(lines, " {index} {} {value:x} {second:x}", operator + 1).unwrap();
            let operator = OPERATORS[operator];
            arguments.push(format!(r#"{{"index":{index},"value":{value},"valueTwo":{second},"op":"{operator}"}}"#));
        }
        lines.push('\n');
        rules.push(format!(r#"{{"names":["{name}"],"action":"{action}","args":[{}]}}"#, arguments.join(",")));
    }
    let named = named.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    let json = format!(r#"{{"defaultAction":"{default}","architectures":[{named}],"syscalls":[{}]}}"#, rules.join(","));
    Both { json, lines, interfaces }
}

/// The place of an action in the kernel's order of precedence.
fn strictness(code: u32) -> usize {
    [0x7fff_0000, 0x7ffc_0000, 0x0005_0001, 0x0003_0000, 0x8000_0000].iter().position(|known| *known == code).unwrap()
}

fn tool() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/libseccomp.c");
    std::fs::create_dir_all(scratch()).unwrap();
    let made = scratch().join(format!("libseccomp-{}", std::process::id()));
    let done = Command::new("gcc").args(["-O1", "-Wall", "-o"]).args([&made, &source]).arg("-lseccomp").output().ok()?;
    done.status.success().then_some(made)
}

fn theirs(tool: &Path, lines: &str) -> Vec<u8> {
    let mut child = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "libseccomp refuses {lines}");
    done.stdout
}

#[test]
fn filters_decide_as_libseccomps_do() {
    let Some(tool) = tool() else {
        skip("no libseccomp to compare with: install libseccomp-dev and gcc");
        return;
    };
    let mut random = fastrand::Rng::with_seed(1);
    let mut compared = 0;
    let mut wrong = BTreeSet::new();
    for _ in 0..400 {
        let both = profile(&mut random);
        let (ours, theirs) = (compile(&Profile::parse(&both.json, 0).unwrap()), theirs(&tool, &both.lines));
        for (interface, bit) in &both.interfaces {
            for number in 0..470u32 {
                for _ in 0..4 {
                    let arguments = [0; 6].map(|_: u64| VALUES[random.usize(..VALUES.len())]);
                    let number = number | bit;
                    compared += 1;
                    let (our, their) = (run(&ours, *interface, number, arguments), run(&theirs, *interface, number, arguments));
                    // Calls newer than all that the profile names get ENOSYS here, as in runc; libseccomp does not do that.
                    if our == their || our == 0x0005_0026 {
                        continue;
                    }
                    // For calls through `socketcall` and `ipc`, libseccomp compares values that are not their arguments.
                    let through = *interface == I386 && matches!(number, 102 | 117);
                    if !(through && strictness(our) > strictness(their)) {
                        wrong.insert(format!("{interface:x} {number}: {our:x}, theirs {their:x}"));
                        if wrong.len() < 4 {
                            println!("{}\n{number} {arguments:x?} {our:x} theirs {their:x}", both.lines);
                        }
                    }
                }
            }
        }
    }
    std::fs::remove_file(tool).unwrap();
    assert!(wrong.is_empty(), "{} of {compared}: {wrong:#?}", wrong.len());
}

//! Compiles a profile to the BPF program that the kernel runs before each system call.
//!
//! The program distinguishes the interfaces by `seccomp_data.arch`, finds the call's number by binary search, and
//! compares each argument as two 32-bit words. Numbers come from the tables of the `syscalls` crate, those of x32
//! from the kernel's arch/x86/entry/syscalls/syscall_64.tbl.

use super::{Action, Compare, Profile, Rule};
use std::collections::BTreeMap;

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h).
const NUMBER: u32 = 0;
const INTERFACE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_*` of the interfaces.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

const X32: u32 = 0x4000_0000;

/// Calls that have their own number in x32, from 512 up, instead of that of x86-64.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The calls behind `socketcall`, numbered from 1 (include/uapi/linux/net.h).
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The calls behind `ipc`, with their numbers (include/uapi/linux/ipc.h).
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// One instruction, as the kernel reads it: `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

fn test(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, value }
}

/// The alternatives for one call number. The first whose conditions all hold decides.
type Leaf = Vec<(Vec<(u8, Compare)>, Action)>;

/// Compiles a profile to a program with eight bytes per instruction, in native byte order.
pub fn compile(profile: &Profile) -> Vec<u8> {
    let mut program = vec![plain(LOAD, INTERFACE)];
    for (interface, numbers) in interfaces() {
        if interface == I386 && !profile.also.i386 {
            continue;
        }
        let body = body(profile, interface, numbers);
        // The body is too long for the 8-bit offset of a conditional jump.
        program.push(test(IF_EQUAL, interface, 1, 0));
        program.push(plain(JUMP, u32::try_from(body.len()).unwrap_or(0)));
        program.extend(body);
    }
    // The call came through an interface that the profile does not name.
    program.push(plain(RETURN, Action::KillProcess.code()));
    program
        .iter()
        .flat_map(|one| {
            let [a, b] = one.code.to_ne_bytes();
            let [c, d, e, f] = one.value.to_ne_bytes();
            [a, b, one.yes, one.no, c, d, e, f]
        })
        .collect()
}

type Numbers = fn(&str) -> Vec<u32>;

fn interfaces() -> Vec<(u32, Numbers)> {
    if cfg!(target_arch = "aarch64") {
        return vec![(AARCH64, |name| {
            name.parse::<syscalls::aarch64::Sysno>().map(|number| number as u32).into_iter().collect()
        })];
    }
    vec![
        (X86_64, |name| {
            let own = X32_OWN.iter().position(|known| *known == name).map(|place| X32 | (512 + place as u32));
            let number = name.parse::<syscalls::x86_64::Sysno>().map(|number| number as u32).ok();
            number.into_iter().chain(own.or(number.map(|number| number | X32))).collect()
        }),
        (I386, |name| name.parse::<syscalls::x86::Sysno>().map(|number| number as u32).into_iter().collect()),
    ]
}

fn body(profile: &Profile, interface: u32, numbers: Numbers) -> Vec<Instruction> {
    // Calls of x32 use the interface of x86-64, and set an extra bit in the number.
    let closes_x32 = interface == X86_64 && !profile.also.x32;
    let mut leaves: BTreeMap<u32, Leaf> = BTreeMap::new();
    for rule in &profile.rules {
        let direct = rule.names.iter().flat_map(|name| numbers(name)).filter(|number| !closes_x32 || *number < X32);
        let direct = direct.map(|number| (number, rule.arguments.clone()));
        let through = rule.names.iter().filter(|_| interface == I386).filter_map(|name| multiplexed(name, rule, profile.default));
        for (number, conditions) in direct.chain(through) {
            let leaf = leaves.entry(number).or_default();
            // A rule with the default action has no effect (runc leaves it out), except that the call counts as listed.
            if rule.action == profile.default {
                continue;
            }
            // A rule without conditions wins over all rules with conditions (as in libseccomp).
            if conditions.is_empty() {
                *leaf = vec![(conditions, rule.action)];
            } else if !leaf.iter().any(|(conditions, _)| conditions.is_empty()) {
                leaf.push((conditions, rule.action));
            }
        }
    }
    let otherwise: Leaf = vec![(Vec::new(), profile.default)];
    let mut ranges: Vec<(u32, Leaf)> = Vec::new();
    let mut push = |start: u32, leaf: &Leaf| {
        if ranges.last().is_none_or(|(_, last)| last != leaf) {
            ranges.push((start, leaf.clone()));
        }
    };
    // Calls that are newer than the profile get ENOSYS: programs that try them then fall back to an older call, while
    // on EPERM they would give up (runc's patchbpf).
    let unlisted: Leaf = vec![(Vec::new(), Action::Errno(38))];
    let forbids = matches!(profile.default, Action::Errno(_) | Action::KillThread | Action::KillProcess | Action::Trap);
    let unknown = if forbids && !leaves.is_empty() { &unlisted } else { &otherwise };
    push(0, &otherwise);
    let mut next = 0;
    for (number, leaf) in &leaves {
        if *number > next && *number >= X32 && next < X32 {
            push(next, unknown);
            push(X32, &otherwise);
        } else if *number > next {
            push(next, &otherwise);
        }
        push(*number, if leaf.is_empty() { &otherwise } else { leaf });
        next = number + 1;
    }
    push(next, unknown);
    if closes_x32 {
        push(X32, &vec![(Vec::new(), Action::KillProcess)]);
    }
    let mut body = vec![plain(LOAD, NUMBER)];
    body.extend(tree(&ranges, profile.default, interface));
    body
}

/// What a rule means for `socketcall` and `ipc`, through which i386 can make other calls: their first argument says which.
/// A filter cannot see the arguments of that call at their usual positions (they are in memory, or shifted), so a rule with
/// conditions applies regardless of them if it is at least as strict as the default, and otherwise not at all.
fn multiplexed(name: &str, rule: &Rule, default: Action) -> Option<(u32, Vec<(u8, Compare)>)> {
    if !rule.arguments.is_empty() && rule.action.strictness() < default.strictness() {
        return None;
    }
    let (call, which) = match SOCKET_CALLS.iter().position(|known| *known == name) {
        Some(place) => (syscalls::x86::Sysno::socketcall, place as u64 + 1),
        None => (syscalls::x86::Sysno::ipc, IPC_CALLS.iter().find(|(known, _)| *known == name)?.1),
    };
    Some((call as u32, vec![(0, Compare::Equal(which))]))
}

/// The width of an argument: in calls of 32-bit interfaces it has 32 bits, and the upper half is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    Half,
    Whole,
}

/// Finds the range of a call number by binary search. Every path through the code ends in a return.
fn tree(ranges: &[(u32, Leaf)], default: Action, interface: u32) -> Vec<Instruction> {
    if let [(start, leaf)] = ranges {
        let width = if interface == I386 || *start >= X32 { Width::Half } else { Width::Whole };
        return self::leaf(leaf, default, width);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low = tree(low, default, interface);
    let mut code = vec![test(IF_AT_LEAST, high[0].0, 0, 1), plain(JUMP, u32::try_from(low.len()).unwrap_or(0))];
    code.extend(low);
    code.extend(tree(high, default, interface));
    code
}

fn leaf(leaf: &Leaf, default: Action, width: Width) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in leaf {
        // The code is built backwards, so that each test knows how far it must jump to the next alternative.
        let mut alternative = vec![plain(RETURN, action.code())];
        for (index, compare) in conditions.iter().rev() {
            let left = alternative.len();
            let mut block = condition(*index, *compare, left, width);
            block.extend(alternative);
            alternative = block;
        }
        code.extend(alternative);
        if conditions.is_empty() {
            return code;
        }
    }
    code.push(plain(RETURN, default.code()));
    code
}

/// A test of one argument that falls through when the condition holds, and otherwise jumps over `left` instructions.
fn condition(index: u8, compare: Compare, left: usize, width: Width) -> Vec<Instruction> {
    let low = ARGUMENTS + u32::from(index) * 8;
    let high = low + 4;
    let (mask, value) = match compare {
        Compare::Masked { mask, value } => (mask, value & mask),
        Compare::Equal(value)
        | Compare::NotEqual(value)
        | Compare::Less(value)
        | Compare::LessOrEqual(value)
        | Compare::Greater(value)
        | Compare::GreaterOrEqual(value) => (u64::MAX, value),
    };
    let (h, l) = ((value >> 32) as u32, value as u32);
    let (mask_high, mask_low) = ((mask >> 32) as u32, mask as u32);
    let far = |more: usize| u8::try_from(left + more).unwrap_or(u8::MAX);
    let mut code = match (width, compare) {
        (Width::Half, _) => Vec::new(),
        (Width::Whole, Compare::Equal(_)) => vec![plain(LOAD, high), test(IF_EQUAL, h, 0, far(2))],
        (Width::Whole, Compare::NotEqual(_)) => vec![plain(LOAD, high), test(IF_EQUAL, h, 0, 2)],
        (Width::Whole, Compare::Masked { .. }) => {
            vec![plain(LOAD, high), plain(AND, mask_high), test(IF_EQUAL, h, 0, far(3))]
        }
        (Width::Whole, Compare::Greater(_) | Compare::GreaterOrEqual(_)) => {
            vec![plain(LOAD, high), test(IF_GREATER, h, 3, 0), test(IF_EQUAL, h, 0, far(2))]
        }
        (Width::Whole, Compare::Less(_) | Compare::LessOrEqual(_)) => {
            vec![plain(LOAD, high), test(IF_GREATER, h, far(3), 0), test(IF_EQUAL, h, 0, 2)]
        }
    };
    code.push(plain(LOAD, low));
    if matches!(compare, Compare::Masked { .. }) {
        code.push(plain(AND, mask_low));
    }
    code.push(match compare {
        Compare::Equal(_) | Compare::Masked { .. } => test(IF_EQUAL, l, 0, far(0)),
        Compare::NotEqual(_) => test(IF_EQUAL, l, far(0), 0),
        Compare::Greater(_) => test(IF_GREATER, l, 0, far(0)),
        Compare::GreaterOrEqual(_) => test(IF_AT_LEAST, l, 0, far(0)),
        Compare::Less(_) => test(IF_AT_LEAST, l, far(0), 0),
        Compare::LessOrEqual(_) => test(IF_GREATER, l, far(0), 0),
    });
    code
}

#[cfg(test)]
mod tests {
    use super::super::Also;
    use super::*;

    include!("../../../tests/docker/bpf.rs");

    #[test]
    fn comparisons_are_those_of_whole_arguments() {
        let big = 7 << 32 | 9;
        for (compare, cases) in [
            (Compare::Equal(big), [(big, true), (9, false), (7 << 32, false)]),
            (Compare::NotEqual(big), [(big, false), (9, true), (7 << 32, true)]),
            (Compare::Less(big), [(big - 1, true), (big, false), (8 << 32, false)]),
            (Compare::LessOrEqual(big), [(big, true), (big + 1, false), (6 << 32 | 99, true)]),
            (Compare::Greater(big), [(big, false), (big + 1, true), (8 << 32, true)]),
            (Compare::GreaterOrEqual(big), [(big, true), (big - 1, false), (6 << 32 | 99, false)]),
            (Compare::Masked { mask: 0xff << 32, value: 7 << 32 }, [(big, true), (8 << 32, false), (7 << 32, true)]),
        ] {
            let rule =
                Rule { names: vec!["read".into()], action: Action::Allow, arguments: vec![(5, compare), (0, Compare::Equal(1))] };
            let program = compile(&Profile { default: Action::Errno(1), rules: vec![rule], also: Also::BOTH });
            for (value, allowed) in cases {
                let code = run(&program, X86_64, 0, [1, 0, 0, 0, 0, value]);
                assert_eq!(code == Action::Allow.code(), allowed, "{compare:?} {value}");
                assert_ne!(run(&program, X86_64, 0, [2, 0, 0, 0, 0, value]), Action::Allow.code());
            }
            // Calls after the last one that the profile names are unknown to it.
            for number in [1, 0x3fff_ffff, X32 + 1] {
                assert_eq!(run(&program, X86_64, number, [1; 6]), Action::Errno(38).code(), "{number:#x}");
            }
        }
        let rule = Rule { names: vec!["write".into()], action: Action::Allow, arguments: Vec::new() };
        let program = compile(&Profile { default: Action::Errno(1), rules: vec![rule], also: Also::BOTH });
        for number in [0, X32] {
            assert_eq!(run(&program, X86_64, number, [0; 6]), Action::Errno(1).code(), "{number:#x}");
        }
    }

    #[test]
    fn dockers_profile_decides_as_documented() {
        let none = compile(&super::super::docker(crate::model::capability::docker()));
        let admin = compile(&super::super::docker(crate::model::capability::docker() | 1 << 21));
        let allow = Action::Allow.code();
        let number = |name: &str| name.parse::<syscalls::x86_64::Sysno>().unwrap() as u32;
        let is = |program: &[u8], name: &str, first: u64| run(program, X86_64, number(name), [first, 0, 0, 0, 0, 0]);
        for name in ["read", "openat2", "ptrace", "chroot", "mseal", "arch_prctl"] {
            assert_eq!(is(&none, name, 0), allow, "{name}");
            assert_eq!(run(&none, X86_64, 200, [0; 6]), allow, "tkill");
        }
        for name in ["mount", "bpf", "io_uring_setup", "keyctl", "unshare", "setns", "kexec_load", "userfaultfd", "reboot"] {
            assert_eq!(is(&none, name, 0), Action::Errno(1).code(), "{name}");
        }
        assert_eq!(is(&admin, "mount", 0), allow);
        assert_eq!(is(&none, "clone3", 0), Action::Errno(38).code());
        assert_eq!(is(&admin, "clone3", 0), allow);
        assert_eq!(is(&none, "clone", 0x11), allow);
        assert_eq!(is(&none, "clone", 0x1000_0000), Action::Errno(1).code(), "a new user namespace");
        for (family, allowed) in
            [(1, true), (2, true), (16, true), (38, false), (40, false), (45, true), (46, false), (12, false)]
        {
            assert_eq!(is(&none, "socket", family) == allow, allowed, "socket family {family}");
        }
        assert_eq!(is(&none, "personality", 0xffff_ffff), allow);
        assert_eq!(is(&none, "personality", 0x4_0000), Action::Errno(1).code());
        // 32-bit: mount is 21, write is 4; x32 has its own numbers; another interface is killed.
        assert_eq!(run(&none, I386, 4, [0; 6]), allow);
        assert_eq!(run(&none, I386, 21, [0; 6]), Action::Errno(1).code());
        assert_eq!(run(&none, X86_64, X32 | 520, [0; 6]), allow, "execve of x32");
        assert_eq!(run(&none, X86_64, X32 | 165, [0; 6]), Action::Errno(1).code(), "mount of x32");
        assert_eq!(run(&none, AARCH64, 0, [0; 6]), Action::KillProcess.code());
        assert!(none.len() / 8 < 4096, "the kernel's longest program");
    }

    /// A fact about Docker's default profile (tests/docker/defaults.txt).
    struct Fact {
        holds: Box<dyn Fn(u64) -> bool>,
        code: u32,
        name: &'static str,
        argument: Option<(usize, char, u64, u64)>,
    }

    fn facts() -> Vec<Fact> {
        let lines = include_str!("../../../tests/docker/defaults.txt").lines().filter_map(|line| line.strip_prefix("call "));
        lines
            .map(|line| {
                let words: Vec<&'static str> = line.split(' ').collect();
                let bit = |name: &str| 1u64 << crate::model::capability::number(name).unwrap();
                let holds: Box<dyn Fn(u64) -> bool> = match (words[0], words[0].strip_prefix('!')) {
                    ("*", _) => Box::new(|_| true),
                    (_, Some(name)) => Box::new({
                        let bit = bit(name);
                        move |set| set & bit == 0
                    }),
                    (name, None) => Box::new({
                        let bit = bit(name);
                        move |set| set & bit != 0
                    }),
                };
                let code = match words[1].strip_prefix("errno=") {
                    Some(number) => Action::Errno(number.parse().unwrap()).code(),
                    None => Action::Allow.code(),
                };
                let argument = words.get(3).map(|text| {
                    let at = text.find(['<', '=', '>', '&']).unwrap();
                    let (value, masked) = text[at + 1..].split_once(':').unwrap_or((&text[at + 1..], "0"));
                    let operator = text[at..].chars().next().unwrap();
                    (text[..at].parse().unwrap(), operator, value.parse().unwrap(), masked.parse().unwrap())
                });
                Fact { holds, code, name: words[2], argument }
            })
            .collect()
    }

    /// What Docker's profile answers.
    fn docker_says(facts: &[Fact], capabilities: u64, name: &str, arguments: [u64; 6]) -> u32 {
        let fits = |fact: &&Fact| {
            fact.name == name
                && (fact.holds)(capabilities)
                && fact.argument.is_none_or(|(index, operator, value, masked)| match operator {
                    '<' => arguments[index] < value,
                    '=' => arguments[index] == value,
                    '>' => arguments[index] > value,
                    _ => arguments[index] & value == masked,
                })
        };
        facts.iter().find(fits).map_or(Action::Errno(1).code(), |fact| fact.code)
    }

    #[test]
    fn our_profile_decides_as_dockers_does_for_every_call() {
        let facts = facts();
        let default = crate::model::capability::docker();
        let singles = (0..41).map(|number| default | 1 << number);
        // Values of the first argument that filters check: address families, flags of clone, execution domains.
        let mut probes: Vec<u64> = (0..64).chain((0..48).map(|bit| 1 << bit)).collect();
        probes.extend([8, 0x2_0000, 0x2_0008, 0xffff_ffff, 0x7e02_0000, u64::MAX]);
        // Families that nothing in a container needs. Docker itself refuses only two of them.
        let closed = |name: &str, first: u64| name == "socket" && !super::super::default::has_family(first);
        let mut compared = 0;
        for capabilities in std::iter::once(default).chain(singles).chain([u64::MAX >> 23]) {
            let program = compile(&super::super::docker(capabilities));
            for call in syscalls::x86_64::Sysno::iter() {
                let name = call.name();
                let asked = facts.iter().any(|fact| fact.name == name && fact.argument.is_some());
                for first in probes.iter().take(if asked { probes.len() } else { 1 }) {
                    let arguments = [*first, 0, 0, 0, 0, 0];
                    let theirs = docker_says(&facts, capabilities, name, arguments);
                    let ours = run(&program, X86_64, call as u32, arguments);
                    let both_refuse = theirs != Action::Allow.code() && ours != Action::Allow.code();
                    assert!(
                        ours == theirs || both_refuse || closed(name, *first),
                        "{name}({first:#x}) with {capabilities:#x}: {ours:#x}, Docker {theirs:#x}"
                    );
                    compared += 1;
                }
            }
        }
        assert!(compared > 20_000, "{compared}");
    }

    #[test]
    fn i386_makes_no_call_through_another_that_a_profile_refuses() {
        let (socketcall, ipc, direct) = (102, 117, 359);
        let filter = |default, name: &str, action, arguments: Vec<(u8, Compare)>| {
            let rule = Rule { names: vec![name.into()], action, arguments };
            compile(&Profile { default, rules: vec![rule], also: Also::BOTH })
        };
        let says = |program: &[u8], number, first| run(program, I386, number, [first, 0, 0, 0, 0, 0]);
        let (allow, refuse) = (Action::Allow.code(), Action::Errno(13).code());
        let closed = filter(Action::Allow, "socket", Action::Errno(13), Vec::new());
        assert_eq!(
            (says(&closed, direct, 2), says(&closed, socketcall, 1), says(&closed, socketcall, 2)),
            (refuse, refuse, allow)
        );
        let queues = filter(Action::Allow, "msgget", Action::Errno(13), Vec::new());
        assert_eq!((says(&queues, ipc, 13), says(&queues, ipc, 12)), (refuse, allow));
        // The family is in memory and cannot be checked, so socketcall is refused in both cases.
        let vsock = vec![(0, Compare::Equal(40))];
        let one_closed = filter(Action::Allow, "socket", Action::Errno(13), vsock.clone());
        assert_eq!((says(&one_closed, direct, 2), says(&one_closed, socketcall, 1)), (allow, refuse));
        let one_open = filter(Action::Errno(13), "socket", Action::Allow, vsock);
        assert_eq!((says(&one_open, direct, 40), says(&one_open, socketcall, 1)), (allow, refuse));
    }

    #[test]
    fn interfaces_that_are_not_named_end_the_process() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let only = compile(&Profile::parse(text, 0).unwrap());
        let kill = Action::KillProcess.code();
        assert_eq!(run(&only, X86_64, 0, [0; 6]), Action::Allow.code());
        assert_eq!(
            (run(&only, I386, 3, [0; 6]), run(&only, X86_64, X32, [0; 6]), run(&only, X86_64, X32 | 999, [0; 6])),
            (kill, kill, kill)
        );
        let both =
            compile(&Profile::parse(&text.replace("\"SCMP_ARCH_X86_64\"", "\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\""), 0).unwrap());
        assert_eq!((run(&both, I386, 3, [0; 6]), run(&both, X86_64, X32, [0; 6])), (Action::Allow.code(), Action::Allow.code()));
        let mapped = text.replace(
            "\"architectures\":[\"SCMP_ARCH_X86_64\"]",
            "\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\"]}]",
        );
        let mapped = compile(&Profile::parse(&mapped, 0).unwrap());
        assert_eq!((run(&mapped, I386, 3, [0; 6]), run(&mapped, X86_64, X32, [0; 6])), (Action::Allow.code(), kill));
    }
}

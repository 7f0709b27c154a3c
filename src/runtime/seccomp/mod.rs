//! System call filters: Docker's profile format in, a BPF program for the kernel out.
//!
//! A profile names system calls; [`compile`] turns it into the program of seccomp(2), for x86-64 with
//! the 32-bit and x32 interfaces, or for aarch64. Programs are kept by the digest of what they were
//! made from, so a container's start only reads a file.

mod compile;
mod default;

pub use compile::compile;
pub use default::docker;

use crate::model::{Digest, capability};
use crate::sys;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The version of what is compiled: raised whenever the table or the compiler changes.
const VERSION: u32 = 4;

/// The compiled program of a profile (Docker's, if none is given), from a folder that keeps them.
///
/// # Errors
/// A profile that is not understood; those of writing.
pub fn keep(folder: &Path, profile: Option<&str>, capabilities: u64) -> io::Result<PathBuf> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let key = Digest::of_json(&(VERSION, profile, capabilities, release, ARCHITECTURE));
    let path = folder.join(format!("seccomp-{}.bpf", key.short(32)));
    if !path.exists() {
        let profile = match profile {
            Some(text) => match Profile::parse(text, capabilities).map_err(io::Error::other)? {
                profile if profile.notifies() => {
                    return Err(io::Error::other("SCMP_ACT_NOTIFY asks for a program beside the container; there is none here"));
                }
                profile => profile,
            },
            None => docker(capabilities),
        };
        sys::make_private(folder)?;
        sys::write_atomic(&path, &compile(&profile), 0o600)?;
    }
    Ok(path)
}

/// What the kernel does with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
    /// A program beside the container decides (seccomp_unotify(2)).
    Notify,
}

impl Action {
    /// How little it lets through: the kernel's own order of answers, the mildest first (seccomp(2)).
    fn strictness(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Log => 1,
            Self::Trace(_) => 2,
            Self::Notify => 3,
            Self::Errno(_) => 4,
            Self::Trap => 5,
            Self::KillThread => 6,
            Self::KillProcess => 7,
        }
    }

    /// The filter's return value (seccomp(2)).
    fn code(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
            Self::Trap => 0x0003_0000,
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Notify => 0x7fc0_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The argument's bits in the mask are these.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// Calls of these names, with these arguments, are dealt with so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    pub arguments: Vec<(u8, Compare)>,
}

/// A profile for one set of capabilities on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    pub default: Action,
    pub rules: Vec<Rule>,
    /// Which interfaces of the kernel may be used beside the machine's own; a call by another ends the process.
    pub also: Also,
}

/// Older interfaces of a 64-bit kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Also {
    pub i386: bool,
    pub x32: bool,
}

impl Also {
    pub const BOTH: Self = Self { i386: true, x32: true };

    fn of(names: &[String]) -> Self {
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        Self { i386: has("SCMP_ARCH_X86"), x32: has("SCMP_ARCH_X32") }
    }
}

/// Docker's profile format (moby `profiles/seccomp`), which holds that of the OCI runtime
/// specification ("Linux container configuration", section Seccomp).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<FileArchitecture>>,
    #[serde(default)]
    syscalls: Vec<FileRule>,
}

/// A machine, and the older interfaces that go with it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArchitecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<FileArgument>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArgument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Docker's name of this architecture.
const NATIVE: &str = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

impl Profile {
    /// Whether some call is left to a program beside the container.
    pub fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Notify)
    }

    /// Reads a profile as it is for a set of capabilities.
    ///
    /// # Errors
    /// Text that is no profile, with line and column; words that the format does not know.
    pub fn parse(text: &str, capabilities: u64) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut rules = Vec::new();
        for rule in file.syscalls {
            let action = action(&rule.action, rule.errno_ret)?;
            let arguments = rule.args.unwrap_or_default().into_iter().map(compare).collect::<Result<Vec<_>, _>>()?;
            let holds = rule.includes.is_none_or(|condition| condition.all(capabilities))
                && rule.excludes.is_none_or(|condition| !condition.any(capabilities));
            if !holds {
                continue;
            }
            let names: Vec<String> = rule.name.into_iter().chain(rule.names).collect();
            if action == Action::Notify && names.iter().any(|name| name == "write") {
                // The runtime itself writes behind the filter, and nobody would answer yet.
                return Err("SCMP_ACT_NOTIFY cannot be used for the write syscall".into());
            }
            // Two conditions on one argument are alternatives, as runc reads them.
            let twice = (0..6).any(|index| arguments.iter().filter(|(found, _)| *found == index).count() > 1);
            if twice {
                rules.extend(arguments.into_iter().map(|one| Rule { names: names.clone(), action, arguments: vec![one] }));
            } else {
                rules.push(Rule { names, action, arguments });
            }
        }
        let default = action(&file.default_action, file.default_errno_ret)?;
        if default == Action::Notify {
            return Err("SCMP_ACT_NOTIFY cannot be used as default action".into());
        }
        // Named by none, only the machine's own interface is let through, as libseccomp has it.
        let mapped = file.arch_map.into_iter().flatten().filter(|one| one.architecture == NATIVE);
        let named =
            file.architectures.into_iter().flatten().chain(mapped.flat_map(|one| one.sub_architectures.unwrap_or_default()));
        Ok(Self { default, rules, also: Also::of(&named.collect::<Vec<_>>()) })
    }
}

impl Condition {
    fn all(&self, capabilities: u64) -> bool {
        self.caps.as_ref().is_none_or(|names| names.iter().all(|name| holds(name, capabilities)))
            && self.arches.as_ref().is_none_or(|names| names.iter().any(|name| name == ARCHITECTURE))
            && self.min_kernel.as_ref().is_none_or(|wanted| kernel_is_at_least(wanted))
    }

    fn any(&self, capabilities: u64) -> bool {
        self.caps.as_ref().is_some_and(|names| names.iter().any(|name| holds(name, capabilities)))
            || self.arches.as_ref().is_some_and(|names| names.iter().any(|name| name == ARCHITECTURE))
            || self.min_kernel.as_ref().is_some_and(|wanted| kernel_is_at_least(wanted))
    }
}

fn holds(name: &str, capabilities: u64) -> bool {
    capability::number(name).is_some_and(|number| capabilities & 1 << number != 0)
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let number = |text: &str| -> Vec<u32> { text.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect() };
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| number(&release) >= number(wanted))
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    // EPERM, as libseccomp's users take it.
    let errno = errno.unwrap_or(1);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_NOTIFY" => Action::Notify,
        other => return Err(format!("\"{other}\" is not an action; for example SCMP_ACT_ALLOW or SCMP_ACT_ERRNO")),
    })
}

fn compare(argument: FileArgument) -> Result<(u8, Compare), String> {
    if argument.index > 5 {
        return Err(format!("a system call has no argument {}; they are 0 to 5", argument.index));
    }
    let value = argument.value;
    let compare = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Compare::Equal(value),
        "SCMP_CMP_NE" => Compare::NotEqual(value),
        "SCMP_CMP_LT" => Compare::Less(value),
        "SCMP_CMP_LE" => Compare::LessOrEqual(value),
        "SCMP_CMP_GT" => Compare::Greater(value),
        "SCMP_CMP_GE" => Compare::GreaterOrEqual(value),
        "SCMP_CMP_MASKED_EQ" => Compare::Masked { mask: value, value: argument.value_two },
        other => return Err(format!("\"{other}\" is not a comparison; for example SCMP_CMP_EQ")),
    };
    Ok((argument.index, compare))
}

//! System call filters: reads Docker's profile format and produces a BPF program for the kernel.
//!
//! A profile names system calls; [`compile`] turns it into a program for seccomp(2), for x86-64 with
//! the 32-bit and x32 interfaces, or for aarch64. Programs are stored under the digest of their inputs,
//! so starting a container only reads a file.

mod compile;
mod default;

pub use compile::compile;
pub use default::docker;

use crate::model::{ARCHITECTURE, Digest, capability};
use crate::sys;
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};

/// The version of the compiled programs. It must be raised whenever the table or the compiler changes.
const VERSION: u32 = 5;

/// The path of the compiled program of a profile (Docker's, if none is given) in a directory of such programs. It is compiled
/// if it is not there yet. The profile itself is stored next to it in the specification's format, for anyone who needs it.
///
/// # Errors
/// Fails when the profile is not valid or a file cannot be written.
pub fn keep(folder: &Path, profile: Option<&str>, capabilities: u64) -> io::Result<PathBuf> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let key = Digest::of_json(&(VERSION, profile, capabilities, release, ARCHITECTURE));
    let path = folder.join(format!("seccomp-{}.bpf", key.short(32)));
    if !path.exists() {
        let profile = match profile {
            Some(text) => match Profile::parse(text, capabilities).map_err(io::Error::other)? {
                profile if profile.notifies() => {
                    return Err(io::Error::other("SCMP_ACT_NOTIFY needs a program outside the container; there is none here"));
                }
                profile => profile,
            },
            None => docker(capabilities),
        };
        sys::make_private(folder)?;
        sys::write_whole(&path.with_extension("json"), profile.written().to_string().as_bytes(), 0o600)?;
        sys::write_whole(&path, &compile(&profile), 0o600)?;
    }
    Ok(path)
}

/// What the kernel does with a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
    /// A program outside the container decides (seccomp_unotify(2)).
    Notify,
}

impl Action {
    /// How strict the action is, in the kernel's own order of precedence, the least strict first (seccomp(2)).
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

    /// Its name in the specification, and its `errnoRet` if it has one.
    fn written(self) -> (&'static str, Option<u16>) {
        match self {
            Self::Allow => ("SCMP_ACT_ALLOW", None),
            Self::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
            Self::KillThread => ("SCMP_ACT_KILL_THREAD", None),
            Self::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
            Self::Trap => ("SCMP_ACT_TRAP", None),
            Self::Trace(number) => ("SCMP_ACT_TRACE", Some(number)),
            Self::Log => ("SCMP_ACT_LOG", None),
            Self::Notify => ("SCMP_ACT_NOTIFY", None),
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

impl Compare {
    /// The comparison as the specification writes it: operator, value, and second value.
    fn written(self) -> (&'static str, u64, Option<u64>) {
        match self {
            Self::Equal(value) => ("SCMP_CMP_EQ", value, None),
            Self::NotEqual(value) => ("SCMP_CMP_NE", value, None),
            Self::Less(value) => ("SCMP_CMP_LT", value, None),
            Self::LessOrEqual(value) => ("SCMP_CMP_LE", value, None),
            Self::Greater(value) => ("SCMP_CMP_GT", value, None),
            Self::GreaterOrEqual(value) => ("SCMP_CMP_GE", value, None),
            Self::Masked { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, Some(value)),
        }
    }
}

/// The action for calls with these names and arguments.
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
    /// Which interfaces of the kernel may be used besides the native one. A call through any other ends the process.
    pub also: Also,
}

/// Additional system call interfaces of a 64-bit kernel.
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

/// Docker's profile format (moby `profiles/seccomp`), which includes that of the OCI runtime
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

/// An architecture, and the additional interfaces that belong to it.
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

/// Docker's name for this architecture.
const NATIVE: &str = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };

impl Profile {
    /// Whether a program outside the container decides about any call.
    pub fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Notify)
    }

    /// The profile in the specification's format (`linux.seccomp`). Rules that refuse i386's `socketcall` are left out:
    /// libseccomp derives such rules itself from those for `socket`, and accepts none that differ.
    pub fn written(&self) -> serde_json::Value {
        let with_number = |mut value: serde_json::Value, key: &str, number: Option<u16>| {
            if let Some(number) = number {
                value[key] = number.into();
            }
            value
        };
        let argument = |(index, compare): &(u8, Compare)| {
            let (operator, value, second) = compare.written();
            json!({ "index": index, "op": operator, "value": value, "valueTwo": second.unwrap_or(0) })
        };
        let derived = |rule: &Rule| rule.action != Action::Allow && rule.names == ["socketcall"];
        let rules = self.rules.iter().filter(|rule| !derived(rule)).map(|rule| {
            let (action, number) = rule.action.written();
            let arguments: Vec<_> = rule.arguments.iter().map(argument).collect();
            with_number(json!({ "names": rule.names, "action": action, "args": arguments }), "errnoRet", number)
        });
        let older = [("SCMP_ARCH_X86", self.also.i386), ("SCMP_ARCH_X32", self.also.x32)];
        let older = older.iter().filter(|(_, used)| *used && cfg!(target_arch = "x86_64")).map(|(name, _)| *name);
        let (action, number) = self.default.written();
        let value = json!({
            "defaultAction": action,
            "architectures": std::iter::once(NATIVE).chain(older).collect::<Vec<_>>(),
            "syscalls": rules.collect::<Vec<_>>(),
        });
        with_number(value, "defaultErrnoRet", number)
    }

    /// Parses a profile and evaluates its conditions for a set of capabilities.
    ///
    /// # Errors
    /// Fails when the text is not a profile, with line and column, and when it contains words that the format does not have.
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
                // The runtime itself calls write under the filter, when nobody answers notifications yet.
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
        // If no architecture is named, only the native interface is allowed, as in libseccomp.
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
    // EPERM, which is the usual default of tools that use libseccomp.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_the_same() {
        for capabilities in [capability::with(&[], &[]), capability::ALL] {
            let mut profile = docker(capabilities);
            profile.rules.retain(|rule| rule.action == Action::Allow || rule.names != ["socketcall"]);
            let read = Profile::parse(&profile.written().to_string(), 0).unwrap();
            assert_eq!(read, profile);
        }
        let odd = r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[
            {"names":["read"],"action":"SCMP_ACT_TRACE","errnoRet":7,"args":[{"index":1,"value":2,"op":"SCMP_CMP_GE"}]},
            {"names":["open"],"action":"SCMP_ACT_NOTIFY"},{"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
        let odd = Profile::parse(odd, 0).unwrap();
        assert_eq!(Profile::parse(&odd.written().to_string(), 0).unwrap(), odd);
        // The crate that other tools read it with must accept it, too.
        serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(docker(0).written()).unwrap();
    }
}

//! The controls of a cgroup: the one table that maps each control to the kernel's files of cgroup v1 and v2.
//!
//! The files are documented in Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. A project's limits (`limits`) and a
//! bundle's `linux.resources` (`oci`) are both translated to these controls.

use super::host::{Host, Version, processors};
use std::fs;

/// The scheduler's default period in microseconds, as in Docker and the kernel.
pub const PERIOD: u64 = 100_000;

/// A number, or "no limit".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    Max,
    Of(u64),
}

impl Amount {
    /// Converts a number of the OCI specification, where a negative one means no limit.
    pub fn of(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Max, Self::Of)
    }

    /// The text for the files of v1, except the limit on processes.
    fn one(self) -> String {
        match self {
            Self::Max => "-1".into(),
            Self::Of(value) => value.to_string(),
        }
    }

    /// The text for the files of v2.
    fn two(self) -> String {
        match self {
            Self::Max => "max".into(),
            Self::Of(value) => value.to_string(),
        }
    }
}

/// What a rate limits when a device is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

/// Which of the kernel's two mechanisms divides a device by weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    Bfq,
    /// iocost, which exists in v2 only.
    CostModel,
}

/// A control and its value. Devices are written `MAJOR:MINOR`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// Processor time in microseconds within each period.
    Quota {
        quota: Option<Amount>,
        period: Option<u64>,
    },
    /// The share of processor time, on the scales of v1 (2 to 262144) and v2 (1 to 10000).
    Weight {
        one: u64,
        two: u64,
    },
    RealtimePeriod(u64),
    RealtimeRuntime(i64),
    Idle(i64),
    Burst(u64),
    /// A list of processors, or `None` for all of them.
    Processors(Option<String>),
    MemoryNodes(String),
    Memory(Amount),
    /// The amount of memory that reclaim spares, or `None` if it spares none.
    Reservation(Option<Amount>),
    /// v1 limits memory and swap together, v2 limits swap alone.
    Swap {
        together: Amount,
        alone: Amount,
    },
    Swappiness(u64),
    KeepWhenOutOfMemory,
    Processes(Amount),
    /// The limit for each second.
    Rate {
        device: String,
        rate: Rate,
        limit: Amount,
    },
    /// The weight for one device, or for all of them. Without a weight it is the default one.
    Share {
        device: Option<String>,
        sharing: Sharing,
        weight: Option<u64>,
    },
    /// The bytes that may be in huge pages of a size, which is in bytes, too.
    Pages {
        page: u64,
        limit: Amount,
    },
    /// A file of v2, by its name.
    Unified {
        controller: &'static str,
        file: String,
        value: String,
    },
}

impl Control {
    /// The name of its controller in v2.
    pub fn controller(&self) -> &'static str {
        match self {
            Self::Quota { .. }
            | Self::Weight { .. }
            | Self::RealtimePeriod(_)
            | Self::RealtimeRuntime(_)
            | Self::Idle(_)
            | Self::Burst(_) => "cpu",
            Self::Processors(_) | Self::MemoryNodes(_) => "cpuset",
            Self::Memory(_) | Self::Reservation(_) | Self::Swap { .. } | Self::Swappiness(_) | Self::KeepWhenOutOfMemory => {
                "memory"
            }
            Self::Processes(_) => "pids",
            Self::Rate { .. } | Self::Share { .. } => "io",
            Self::Pages { .. } => "hugetlb",
            Self::Unified { controller, .. } => controller,
        }
    }

    /// The files to write and their text, in order. There are none if the version has no such control.
    pub fn files(&self, version: Version) -> Vec<(String, String)> {
        let file = |one: &str, two: &str, value: String| match version {
            Version::One if !one.is_empty() => vec![(one.to_owned(), value)],
            Version::Two if !two.is_empty() => vec![(two.to_owned(), value)],
            _ => Vec::new(),
        };
        let amount =
            |one: &str, two: &str, value: Amount| file(one, two, if version == Version::One { value.one() } else { value.two() });
        match self {
            Self::Quota { quota, period } if version == Version::One => {
                let period = period.map(|period| ("cpu.cfs_period_us".to_owned(), period.to_string()));
                period.into_iter().chain(quota.map(|quota| ("cpu.cfs_quota_us".to_owned(), quota.one()))).collect()
            }
            Self::Quota { quota, period } => {
                let quota = quota.unwrap_or(Amount::Max).two();
                file("", "cpu.max", format!("{quota} {}", period.unwrap_or(PERIOD)))
            }
            Self::Weight { one, two } => {
                let value = if version == Version::One { one } else { two };
                file("cpu.shares", "cpu.weight", value.to_string())
            }
            Self::RealtimePeriod(period) => file("cpu.rt_period_us", "", period.to_string()),
            Self::RealtimeRuntime(runtime) => file("cpu.rt_runtime_us", "", runtime.to_string()),
            Self::Idle(idle) => file("cpu.idle", "cpu.idle", idle.to_string()),
            Self::Burst(burst) => file("cpu.cfs_burst_us", "cpu.max.burst", burst.to_string()),
            Self::Processors(Some(list)) => file("cpuset.cpus", "cpuset.cpus", list.clone()),
            // v1 does not accept an empty list.
            Self::Processors(None) if version == Version::One => file("cpuset.cpus", "", online()),
            Self::Processors(None) => file("", "cpuset.cpus", "\n".into()),
            Self::MemoryNodes(list) => file("cpuset.mems", "cpuset.mems", list.clone()),
            Self::Memory(limit) => amount("memory.limit_in_bytes", "memory.max", *limit),
            Self::Reservation(Some(bytes)) => amount("memory.soft_limit_in_bytes", "memory.low", *bytes),
            // Both mean the same: v1 reclaims what is above the soft limit, v2 spares what is below `memory.low`.
            Self::Reservation(None) if version == Version::One => amount("memory.soft_limit_in_bytes", "", Amount::Max),
            Self::Reservation(None) => file("", "memory.low", "0".into()),
            Self::Swap { together, .. } if version == Version::One => amount("memory.memsw.limit_in_bytes", "", *together),
            Self::Swap { alone, .. } => amount("", "memory.swap.max", *alone),
            Self::Swappiness(value) => file("memory.swappiness", "", value.to_string()),
            Self::KeepWhenOutOfMemory => file("memory.oom_control", "", "1".into()),
            Self::Processes(limit) => file("pids.max", "pids.max", limit.two()),
            Self::Rate { device, rate, limit } => {
                let (one, two) = match rate {
                    Rate::ReadBytes => ("blkio.throttle.read_bps_device", "rbps"),
                    Rate::WriteBytes => ("blkio.throttle.write_bps_device", "wbps"),
                    Rate::ReadOperations => ("blkio.throttle.read_iops_device", "riops"),
                    Rate::WriteOperations => ("blkio.throttle.write_iops_device", "wiops"),
                };
                match (version, limit) {
                    (Version::One, Amount::Max) => file(one, "", format!("{device} 0")),
                    (Version::One, Amount::Of(limit)) => file(one, "", format!("{device} {limit}")),
                    (Version::Two, limit) => file("", "io.max", format!("{device} {two}={}", limit.two())),
                }
            }
            Self::Share { device, sharing, weight } => {
                let weight = weight.map_or_else(|| "default".to_owned(), |weight| weight.to_string());
                let (one, two) = match (sharing, device) {
                    (Sharing::Bfq, Some(_)) => ("blkio.bfq.weight_device", "io.bfq.weight"),
                    (Sharing::Bfq, None) => ("blkio.bfq.weight", "io.bfq.weight"),
                    (Sharing::CostModel, _) => ("", "io.weight"),
                };
                file(one, two, device.as_ref().map_or_else(|| weight.clone(), |device| format!("{device} {weight}")))
            }
            Self::Pages { page, limit } => {
                let name = page_name(*page);
                amount(&format!("hugetlb.{name}.limit_in_bytes"), &format!("hugetlb.{name}.max"), *limit)
            }
            Self::Unified { file: name, value, .. } => file("", name, value.clone()),
        }
    }

    /// The same control without a limit, or `None` for one that a project cannot set.
    fn lifted(&self) -> Option<Self> {
        Some(match self {
            Self::Quota { period, .. } => Self::Quota { quota: Some(Amount::Max), period: *period },
            Self::Weight { .. } => Self::Weight { one: 1024, two: 100 },
            Self::Processors(_) => Self::Processors(None),
            Self::Memory(_) => Self::Memory(Amount::Max),
            Self::Reservation(_) => Self::Reservation(None),
            Self::Swap { .. } => Self::Swap { together: Amount::Max, alone: Amount::Max },
            Self::Processes(_) => Self::Processes(Amount::Max),
            Self::Rate { device, rate, .. } => Self::Rate { device: device.clone(), rate: *rate, limit: Amount::Max },
            Self::Share { device, sharing, .. } => Self::Share { device: device.clone(), sharing: *sharing, weight: None },
            Self::Pages { page, .. } => Self::Pages { page: *page, limit: Amount::Max },
            Self::RealtimePeriod(_)
            | Self::RealtimeRuntime(_)
            | Self::Idle(_)
            | Self::Burst(_)
            | Self::MemoryNodes(_)
            | Self::Swappiness(_)
            | Self::KeepWhenOutOfMemory
            | Self::Unified { .. } => return None,
        })
    }

    /// How to tell from its files that the kernel accepted the value.
    fn expect(&self) -> Expect {
        match self {
            Self::Processors(_) => Expect::Processors,
            Self::Memory(_) | Self::Reservation(_) | Self::Swap { .. } => Expect::Bytes(65536),
            Self::Pages { page, .. } => Expect::Bytes(*page),
            Self::Rate { .. } | Self::Share { .. } => Expect::Line,
            _ => Expect::Exactly,
        }
    }

    /// The settings to write on a host and to check afterwards. `what` is how the project file says it, for messages.
    pub fn checked(&self, host: &Host, what: &str) -> Vec<Setting> {
        self.settings(host, what, self.expect())
    }

    /// The settings to write on a host without a check of what the kernel makes of the value.
    pub fn unchecked(&self, host: &Host) -> Vec<Setting> {
        self.settings(host, "", Expect::Anything)
    }

    fn settings(&self, host: &Host, what: &str, expect: Expect) -> Vec<Setting> {
        let controller = self.controller();
        let files = host.version(controller).map_or(Vec::new(), |version| self.files(version));
        let setting = |(file, value): (String, String)| {
            let what = if what.is_empty() { format!("{file}={value}") } else { what.to_owned() };
            Setting { controller, what, file, value, expect: expect.clone() }
        };
        files.into_iter().map(setting).collect()
    }
}

/// The controls that lift the limits which `old` has and `new` does not have. Memory with swap comes before memory
/// alone: in v1 the limit on both together cannot be below the limit on memory.
pub fn lifted(old: &[Control], new: &[Control]) -> Vec<Control> {
    let mut all: Vec<Control> = old
        .iter()
        .filter_map(|control| {
            let lifted = control.lifted()?;
            let again = new.iter().any(|other| other.lifted().is_some_and(|other| other == lifted));
            (!again).then_some(lifted)
        })
        .collect();
    all.sort_by_key(|control| !matches!(control, Control::Swap { .. }));
    all
}

/// How to tell from the text of a file that the kernel accepted a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    Exactly,
    /// The file has the number of bytes, rounded down to whole pages of this size.
    Bytes(u64),
    /// One of the file's lines has these words.
    Line,
    /// The file has the same list of processors, perhaps written differently.
    Processors,
    Anything,
}

/// A value to write to a file of a controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub controller: &'static str,
    /// The text for messages.
    pub what: String,
    pub file: String,
    pub value: String,
    pub expect: Expect,
}

impl Setting {
    /// Whether the text of the file shows that the kernel accepted the value.
    pub fn taken(&self, text: &str) -> bool {
        let text = text.trim();
        match self.expect {
            Expect::Exactly => text == self.value.trim(),
            Expect::Bytes(page) => match (text.parse::<u64>(), self.value.parse::<u64>()) {
                (Ok(found), Ok(wanted)) => found <= wanted && wanted - found < page,
                _ => text == self.value,
            },
            Expect::Line => {
                let mut words = self.value.split(' ');
                let number = words.next();
                let line = text.lines().find(|line| line.split(' ').next() == number);
                line.is_some_and(|line| words.all(|word| line.split(' ').any(|found| found == word)))
            }
            Expect::Anything => true,
            Expect::Processors => processors(text) == processors(&self.value),
        }
    }
}

/// The list of processors that are online on this host.
pub fn online() -> String {
    fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default().trim().to_owned()
}

/// A page size as it is written in the names of the kernel's files, for example 2MB.
pub fn page_name(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 30) => format!("{}GB", bytes >> 30),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MB", bytes >> 20),
        bytes => format!("{}KB", bytes >> 10),
    }
}

/// The page size for such a name.
pub fn page_size(name: &str) -> Option<u64> {
    let shift = match name.get(name.len().checked_sub(2)?..)? {
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    let number: u64 = name[..name.len() - 2].parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_read_back() {
        let one = |value: &str, expect| Setting {
            controller: "x",
            what: String::new(),
            file: String::new(),
            value: value.into(),
            expect,
        };
        assert!(one("8:0 rbps=5", Expect::Line).taken("7:0 rbps=1\n8:0 rbps=5 wbps=max\n"));
        assert!(!one("8:0 rbps=5", Expect::Line).taken("8:0 rbps=6\n"));
        assert!(one("100000", Expect::Bytes(65536)).taken("98304\n") && !one("100000", Expect::Bytes(65536)).taken("4096"));
        assert!(one("0,1", Expect::Processors).taken("0-1\n"));
    }

    #[test]
    fn each_limit_that_is_gone_is_lifted_and_no_other() {
        let rate = |device: &str, rate, limit| Control::Rate { device: device.into(), rate, limit };
        let share = |weight| Control::Share { device: Some("8:0".into()), sharing: Sharing::Bfq, weight };
        let old = [
            Control::Memory(Amount::Of(8)),
            Control::Swap { together: Amount::Of(9), alone: Amount::Of(1) },
            rate("8:0", Rate::ReadBytes, Amount::Of(1)),
            rate("8:0", Rate::WriteBytes, Amount::Of(2)),
            rate("8:16", Rate::ReadBytes, Amount::Of(3)),
            share(Some(50)),
        ];
        let new = [Control::Memory(Amount::Of(7)), rate("8:0", Rate::ReadBytes, Amount::Of(5))];
        let files = |version| -> Vec<String> {
            let written = lifted(&old, &new).iter().flat_map(|control| control.files(version)).collect::<Vec<_>>();
            written.into_iter().map(|(file, value)| format!("{file}={value}")).collect()
        };
        assert_eq!(
            files(Version::Two),
            ["memory.swap.max=max", "io.max=8:0 wbps=max", "io.max=8:16 rbps=max", "io.bfq.weight=8:0 default"]
        );
        assert_eq!(
            files(Version::One),
            [
                "memory.memsw.limit_in_bytes=-1",
                "blkio.throttle.write_bps_device=8:0 0",
                "blkio.throttle.read_bps_device=8:16 0",
                "blkio.bfq.weight_device=8:0 default"
            ]
        );
        assert_eq!(lifted(&old, &old), []);
    }

    #[test]
    fn pages_are_named_as_the_kernel_names_them() {
        for name in ["64KB", "2MB", "512MB", "1GB"] {
            assert_eq!(page_name(page_size(name).unwrap()), name);
        }
        for name in ["", "MB", "2", "2mb", "-2MB", "../2MB", "0KB", "99999999999999999999GB", "é"] {
            assert_eq!(page_size(name), None, "{name}");
        }
    }
}

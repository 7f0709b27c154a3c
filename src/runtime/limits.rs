//! Limits as the kernel's files: one table for cgroup v1 and v2, written, and read back.
//!
//! Files are those of Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. What a host cannot apply
//! is refused with the reason before anything starts; what it took otherwise than written is an error.

use super::host::{Host, Version, processors};
use crate::project::{IoLimit, Limits};
use crate::sys;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The scheduler's period in microseconds, as Docker takes it.
const PERIOD: u64 = 100_000;

/// How a file tells that the kernel took a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    Exactly,
    /// A number of bytes, rounded down to whole pages of a size.
    Bytes(u64),
    /// One of several lines, with these words.
    Line,
    /// A list of processors.
    Processors,
    /// What the kernel makes of it is the caller's business.
    Anything,
}

/// A value for a file of a controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub controller: &'static str,
    /// What the project file says.
    pub what: String,
    pub file: String,
    pub value: String,
    pub expect: Expect,
}

/// Controllers that a set of limits needs, by their names in v2.
pub fn controllers(limits: &Limits) -> Vec<(&'static str, &'static str)> {
    [
        ("cpu", limits.cpus.is_some() || limits.cpu_weight.is_some(), "cpus and cpu-weight"),
        ("cpuset", limits.cpuset.is_some(), "cpuset"),
        ("memory", limits.memory.or(limits.memory_reservation).is_some(), "memory"),
        ("pids", limits.pids.is_some(), "pids"),
        ("io", !limits.io.is_empty(), "io"),
        ("hugetlb", !limits.hugepages.is_empty(), "hugepages"),
    ]
    .into_iter()
    .filter(|(_, wanted, _)| *wanted)
    .map(|(name, _, what)| (name, what))
    .collect()
}

/// Why a host cannot apply a limit, and which node says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub node: &'static str,
    pub why: String,
}

fn refuse<T>(node: &'static str, why: String) -> Result<T, Refusal> {
    Err(Refusal { node, why })
}

/// What must be written for a set of limits.
///
/// # Errors
/// Why this host cannot apply one of them.
pub fn settings(host: &Host, limits: &Limits) -> Result<Vec<Setting>, Refusal> {
    let mut all = Table { host, list: Vec::new() };
    for (name, what) in controllers(limits) {
        if host.version(name).is_none() {
            return refuse(what, format!("`{what}` needs the `{name}` cgroup controller, which this host does not have"));
        }
    }
    if let Some(cpus) = limits.cpus {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole microseconds are meant")]
        let quota = ((cpus * PERIOD as f64).round() as u64).max(1000);
        let what = format!("cpus {cpus}");
        all.add(
            "cpu",
            &what,
            ("cpu.cfs_period_us", PERIOD.to_string()),
            ("cpu.max", format!("{quota} {PERIOD}")),
            Expect::Exactly,
        );
        all.v1("cpu", &what, "cpu.cfs_quota_us", quota.to_string());
    }
    if let Some(weight) = limits.cpu_weight {
        // The kernel's own scale: a weight of 100 is 1024 shares.
        let shares = (u64::from(weight) * 1024 / 100).clamp(2, 262_144);
        let what = format!("cpu-weight {weight}");
        all.add("cpu", &what, ("cpu.shares", shares.to_string()), ("cpu.weight", weight.to_string()), Expect::Exactly);
    }
    if let Some(list) = &limits.cpuset {
        let wanted = processors(list).ok_or_else(|| Refusal {
            node: "cpuset",
            why: format!("\"{list}\" is no list of processors; for example \"0-1,3\""),
        })?;
        let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        if let Some(absent) = processors(online.trim()).and_then(|online| wanted.difference(&online).next().copied()) {
            return refuse(
                "cpuset",
                format!("cpuset \"{list}\": there is no processor {absent}; this host has {}", online.trim()),
            );
        }
        all.add(
            "cpuset",
            &format!("cpuset \"{list}\""),
            ("cpuset.cpus", list.clone()),
            ("cpuset.cpus", list.clone()),
            Expect::Processors,
        );
    }
    all.memory(limits)?;
    if let Some(pids) = limits.pids {
        let value = pids.to_string();
        all.add("pids", &format!("pids {pids}"), ("pids.max", value.clone()), ("pids.max", value), Expect::Exactly);
    }
    for io in &limits.io {
        all.io(io)?;
    }
    for (page, room) in &limits.hugepages {
        let name = page_name(page.0);
        if !Path::new(&format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page.0 >> 10)).exists() {
            return refuse(
                "hugepages",
                format!("hugepages \"{page}\": this host has no pages of that size; it has {}", page_sizes()),
            );
        }
        let (v1, v2) = (format!("hugetlb.{name}.limit_in_bytes"), format!("hugetlb.{name}.max"));
        let what = format!("hugepages \"{page}\" limit=\"{room}\"");
        all.add("hugetlb", &what, (&v1, room.0.to_string()), (&v2, room.0.to_string()), Expect::Bytes(page.0));
    }
    Ok(all.list)
}

/// What must be written so that limits that are gone hold no more.
pub fn resets(host: &Host, old: &Limits, new: &Limits) -> Vec<Setting> {
    let mut gone = old.clone();
    for (keep, limit) in [(new.cpus.is_some(), "cpus"), (new.memory.is_some(), "memory"), (new.pids.is_some(), "pids")] {
        if keep {
            match limit {
                "cpus" => gone.cpus = None,
                "memory" => gone.memory = None,
                _ => gone.pids = None,
            }
        }
    }
    gone.swap = gone.swap.filter(|_| new.swap.is_none());
    gone.cpu_weight = gone.cpu_weight.filter(|_| new.cpu_weight.is_none());
    gone.cpuset = gone.cpuset.filter(|_| new.cpuset.is_none());
    gone.memory_reservation = gone.memory_reservation.filter(|_| new.memory_reservation.is_none());
    gone.io.retain(|io| new.io.iter().all(|other| other.device != io.device));
    gone.hugepages.retain(|(page, _)| new.hugepages.iter().all(|(other, _)| other != page));
    let mut list = settings(host, &gone).unwrap_or_default();
    // Swap counts with memory in v1: a smaller sum cannot stand above a larger memory.
    list.sort_by_key(|setting| !setting.file.contains("memsw"));
    for setting in &mut list {
        let v2 = host.version(setting.controller) == Some(Version::Two);
        setting.value = match setting.file.as_str() {
            "cpu.cfs_quota_us" => "-1".into(),
            "cpu.max" => format!("max {PERIOD}"),
            "cpu.weight" => "100".into(),
            "cpu.shares" => "1024".into(),
            "cpuset.cpus" if v2 => "\n".into(),
            "cpuset.cpus" => fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default().trim().to_owned(),
            "memory.low" => "0".into(),
            file if file.starts_with("blkio.") => {
                format!("{} 0", setting.value.split(' ').next().unwrap_or_default())
            }
            "io.max" => format!("{} rbps=max wbps=max riops=max wiops=max", setting.value.split(' ').next().unwrap_or_default()),
            "cpu.cfs_period_us" => continue,
            file if v2 || file == "pids.max" => "max".into(),
            _ => "-1".into(),
        };
    }
    list
}

struct Table<'a> {
    host: &'a Host,
    list: Vec<Setting>,
}

impl Table<'_> {
    fn add(&mut self, controller: &'static str, what: &str, v1: (&str, String), v2: (&str, String), expect: Expect) {
        let (file, value) = if self.host.version(controller) == Some(Version::Two) { v2 } else { v1 };
        self.list.push(Setting { controller, what: what.to_owned(), file: file.to_owned(), value, expect });
    }

    fn v1(&mut self, controller: &'static str, what: &str, file: &str, value: String) {
        if self.host.version(controller) == Some(Version::One) {
            let (what, file) = (what.to_owned(), file.to_owned());
            self.list.push(Setting { controller, what, file, value, expect: Expect::Exactly });
        }
    }

    fn memory(&mut self, limits: &Limits) -> Result<(), Refusal> {
        if let Some(memory) = limits.memory {
            let value = memory.0.to_string();
            let what = format!("memory \"{memory}\"");
            self.add("memory", &what, ("memory.limit_in_bytes", value.clone()), ("memory.max", value), Expect::Bytes(65536));
        }
        if let Some(reservation) = limits.memory_reservation {
            let value = reservation.0.to_string();
            let what = format!("memory-reservation \"{reservation}\"");
            self.add("memory", &what, ("memory.soft_limit_in_bytes", value.clone()), ("memory.low", value), Expect::Bytes(65536));
        }
        if let (Some(swap), Some(memory)) = (limits.swap, limits.memory) {
            if !self.host.accounts_swap() {
                return refuse("swap", format!("swap \"{swap}\": this kernel does not account swap; boot it with swapaccount=1"));
            }
            let what = format!("swap \"{swap}\"");
            let (v1, v2) = ((memory.0 + swap.0).to_string(), swap.0.to_string());
            self.add("memory", &what, ("memory.memsw.limit_in_bytes", v1), ("memory.swap.max", v2), Expect::Bytes(65536));
        }
        Ok(())
    }

    fn io(&mut self, io: &IoLimit) -> Result<(), Refusal> {
        let disk = Disk::of(&io.device).map_err(|why| Refusal { node: "io", why })?;
        let number = &disk.number;
        let rates = [
            ("read", io.read.map(|size| size.0), "blkio.throttle.read_bps_device", "rbps"),
            ("write", io.write.map(|size| size.0), "blkio.throttle.write_bps_device", "wbps"),
            ("read-operations", io.read_operations.map(u64::from), "blkio.throttle.read_iops_device", "riops"),
            ("write-operations", io.write_operations.map(u64::from), "blkio.throttle.write_iops_device", "wiops"),
        ];
        for (name, rate, v1, v2) in rates {
            let Some(rate) = rate else { continue };
            let what = format!("io \"{}\" {name}={rate}", io.device);
            self.add("io", &what, (v1, format!("{number} {rate}")), ("io.max", format!("{number} {v2}={rate}")), Expect::Line);
        }
        let Some(weight) = io.weight else { return Ok(()) };
        let what = format!("io \"{}\" weight={weight}", io.device);
        let bfq = disk.scheduler().contains("[bfq]");
        if bfq {
            let value = format!("{number} {weight}");
            self.add("io", &what, ("blkio.bfq.weight_device", value.clone()), ("io.bfq.weight", value), Expect::Line);
        } else if self.host.has_cost_model(number) {
            self.add("io", &what, ("", String::new()), ("io.weight", format!("{number} {weight}")), Expect::Line);
        } else {
            return refuse(
                "io",
                format!(
                    "{what}: neither BFQ nor iocost is active on it, so a weight would do nothing; type `echo bfq > {}`, or set rates",
                    disk.scheduler_file()
                ),
            );
        }
        Ok(())
    }
}

/// A whole disk: rates and weights are the disk's, not a partition's.
struct Disk {
    number: String,
}

impl Disk {
    fn of(device: &str) -> Result<Self, String> {
        let metadata = fs::metadata(device).map_err(|error| format!("io \"{device}\": {error}"))?;
        if !metadata.file_type().is_block_device() {
            return Err(format!("io \"{device}\": it is no block device; `lsblk` lists those of this host"));
        }
        let number = format!("{}:{}", nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
        let folder = format!("/sys/dev/block/{number}");
        if Path::new(&folder).join("partition").exists() {
            let whole = fs::read_to_string(format!("{folder}/../dev")).map_err(|error| format!("io \"{device}\": {error}"))?;
            return Ok(Self { number: whole.trim().to_owned() });
        }
        Ok(Self { number })
    }

    fn scheduler_file(&self) -> String {
        format!("/sys/dev/block/{}/queue/scheduler", self.number)
    }

    fn scheduler(&self) -> String {
        fs::read_to_string(self.scheduler_file()).unwrap_or_default()
    }
}

pub(super) fn page_name(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 30) => format!("{}GB", bytes >> 30),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}MB", bytes >> 20),
        bytes => format!("{}KB", bytes >> 10),
    }
}

fn page_sizes() -> String {
    // For a message only.
    let names = sys::names(Path::new("/sys/kernel/mm/hugepages")).unwrap_or_default();
    let sizes = names.iter().filter_map(|name| {
        let size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(format!("\"{}\"", crate::model::Size(size << 10)))
    });
    let list = sizes.collect::<Vec<_>>().join(", ");
    if list.is_empty() { "none".into() } else { list }
}

impl Setting {
    /// Whether a file's text says that the kernel took the value.
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

/// Resource limits by their names in setrlimit(2).
pub fn resource(name: &str) -> Option<nix::sys::resource::Resource> {
    use nix::sys::resource::Resource::*;
    Some(match name {
        "as" => RLIMIT_AS,
        "core" => RLIMIT_CORE,
        "cpu" => RLIMIT_CPU,
        "data" => RLIMIT_DATA,
        "fsize" => RLIMIT_FSIZE,
        "locks" => RLIMIT_LOCKS,
        "memlock" => RLIMIT_MEMLOCK,
        "msgqueue" => RLIMIT_MSGQUEUE,
        "nice" => RLIMIT_NICE,
        "nofile" => RLIMIT_NOFILE,
        "nproc" => RLIMIT_NPROC,
        "rss" => RLIMIT_RSS,
        "rtprio" => RLIMIT_RTPRIO,
        "rttime" => RLIMIT_RTTIME,
        "sigpending" => RLIMIT_SIGPENDING,
        "stack" => RLIMIT_STACK,
        _ => return None,
    })
}

/// `CAP_SYS_RESOURCE`: whoever has it raises hard limits and lowers scores.
const SYS_RESOURCE: u64 = 1 << 24;

/// Why this host cannot apply a container's limits, if it cannot.
pub fn refusal(host: &Host, limits: &Limits) -> Option<Refusal> {
    if let Err(why) = settings(host, limits) {
        return Some(why);
    }
    let may_raise = sys::permitted_capabilities() & SYS_RESOURCE != 0;
    for limit in &limits.ulimits {
        let Some(resource) = resource(&limit.name) else {
            return Some(Refusal { node: "ulimit", why: format!("there is no ulimit \"{}\"", limit.name) });
        };
        let (_, hard) = nix::sys::resource::getrlimit(resource).unwrap_or((0, u64::MAX));
        if limit.hard > hard && !may_raise {
            let why = format!(
                "ulimit \"{}\" hard={}: {hard} is the most here, and raising it needs CAP_SYS_RESOURCE, which this process lacks",
                limit.name, limit.hard
            );
            return Some(Refusal { node: "ulimit", why });
        }
    }
    if let Some(score) = limits.oom_score {
        let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if score < own && !may_raise {
            let why = format!("oom-score {score}: less than {own}, this process's own, needs CAP_SYS_RESOURCE, which it lacks");
            return Some(Refusal { node: "oom-score", why });
        }
    }
    None
}

/// What holds less than it seems to on this host.
pub fn caveats(host: &Host, limits: &Limits) -> Vec<String> {
    let writes = limits.io.iter().filter(|io| io.write.is_some() || io.write_operations.is_some());
    let on_v1 = host.version("io") == Some(Version::One);
    writes
        .filter(|_| on_v1)
        .map(|io| {
            format!(
                "io \"{}\": on cgroup v1 the write rates hold for direct I/O only, not for what goes through the page cache",
                io.device
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    fn host(two: bool) -> Host {
        let names = ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"];
        if two {
            let v2_controllers = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"].map(str::to_owned).to_vec();
            return Host { v1: Vec::new(), v2: Some("/nowhere".into()), v2_controllers };
        }
        let v1 = names.iter().map(|name| ((*name).to_owned(), format!("/nowhere/{name}").into())).collect();
        Host { v1, v2: None, v2_controllers: Vec::new() }
    }

    #[test]
    fn one_table_serves_both_versions() {
        let limits = Limits {
            cpus: Some(1.5),
            cpu_weight: Some(200),
            memory: Some(Size::mib(64)),
            memory_reservation: Some(Size::mib(32)),
            pids: Some(9),
            ..Limits::default()
        };
        let lines = |two: bool| -> Vec<String> {
            let list = settings(&host(two), &limits).unwrap();
            list.iter().map(|one| format!("{}={}", one.file, one.value)).collect()
        };
        assert_eq!(
            lines(true),
            ["cpu.max=150000 100000", "cpu.weight=200", "memory.max=67108864", "memory.low=33554432", "pids.max=9"]
        );
        assert_eq!(
            lines(false),
            [
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpu.shares=2048",
                "memory.limit_in_bytes=67108864",
                "memory.soft_limit_in_bytes=33554432",
                "pids.max=9"
            ]
        );
        let values = |two: bool| -> Vec<String> {
            resets(&host(two), &limits, &Limits { memory: Some(Size::mib(1)), ..Limits::default() })
                .iter()
                .map(|one| format!("{}={}", one.file, one.value))
                .collect()
        };
        assert_eq!(values(true), ["cpu.max=max 100000", "cpu.weight=100", "memory.low=0", "pids.max=max"]);
        assert_eq!(
            values(false)[1..],
            ["cpu.cfs_quota_us=-1", "cpu.shares=1024", "memory.soft_limit_in_bytes=-1", "pids.max=max"]
        );
    }

    #[test]
    fn what_cannot_hold_is_refused_with_the_reason() {
        let refused = |limits: Limits| refusal(&host(true), &limits).unwrap().why;
        let absent = Limits { cpuset: Some("0,4000".into()), ..Limits::default() };
        assert!(refused(absent).contains("there is no processor 4000"));
        let pages = Limits { hugepages: vec![(Size::mib(3), Size::mib(3))], ..Limits::default() };
        assert!(refused(pages).contains("no pages of that size"));
        let io = |device: &str| Limits {
            io: vec![IoLimit { device: device.into(), read: Some(Size(1)), ..IoLimit::default() }],
            ..Limits::default()
        };
        assert!(refused(io("/dev/null")).contains("no block device"));
        assert!(refused(io("/dev/nothing")).contains("No such file"));
        let bare = Host { v1: Vec::new(), v2: None, v2_controllers: Vec::new() };
        assert!(refusal(&bare, &Limits { pids: Some(1), ..Limits::default() }).unwrap().why.contains("`pids` cgroup controller"));
    }

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
}

//! Translates a project's limits to controls of a cgroup, and checks whether this host can apply them.
//!
//! A limit that the host cannot apply is refused with the reason before anything starts. If a value reads back differently
//! than it was written, that is an error. The table of files is in `controls`.

use super::controls::{self, Amount, Control, PERIOD, Rate, Setting, Sharing};
use super::host::{Host, Version, processors};
use crate::project::{IoLimit, Limits};
use crate::sys;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The controllers that a set of limits needs, by their names in v2, with the nodes that need them.
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

/// Why a host cannot apply a limit, and which node sets the limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub node: &'static str,
    pub why: String,
}

fn refuse<T>(node: &'static str, why: String) -> Result<T, Refusal> {
    Err(Refusal { node, why })
}

/// The microseconds of processor time in each period.
pub(super) fn quota(cpus: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole microseconds are intended")]
    ((cpus * PERIOD as f64).round() as u64).max(1000)
}

/// Converts a weight of v2 to shares of v1, with the kernel's scale: a weight of 100 is 1024 shares.
pub(super) fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).clamp(2, 262_144)
}

/// A control, with the wording of the project file.
type Worded = (String, Control);

/// The settings to write for a set of limits.
///
/// # Errors
/// Says why this host cannot apply one of them.
pub fn settings(host: &Host, limits: &Limits) -> Result<Vec<Setting>, Refusal> {
    for (name, what) in controllers(limits) {
        if host.version(name).is_none() {
            return refuse(what, format!("`{what}` needs the `{name}` cgroup controller, which this host does not have"));
        }
    }
    let all = worded(host, limits).collect::<Result<Vec<_>, _>>()?;
    Ok(all.iter().flat_map(|(what, control)| control.checked(host, what)).collect())
}

/// The settings to write so that limits that were removed no longer apply.
pub fn resets(host: &Host, old: &Limits, new: &Limits) -> Vec<Setting> {
    // The limits on a disk that is gone are gone, too. Whether the new limits can be applied is checked elsewhere.
    let controls = |limits: &Limits| -> Vec<Control> { worded(host, limits).flatten().map(|(_, control)| control).collect() };
    let lifted = controls::lifted(&controls(old), &controls(new));
    lifted.iter().flat_map(|control| control.unchecked(host)).collect()
}

/// The controls of a set of limits. Instead of a control that this host cannot apply, there is the reason.
fn worded<'a>(host: &'a Host, limits: &'a Limits) -> impl Iterator<Item = Result<Worded, Refusal>> + 'a {
    let cpus = limits.cpus.map(|cpus| {
        let quota = Some(Amount::Of(quota(cpus)));
        Ok((format!("cpus {cpus}"), Control::Quota { quota, period: Some(PERIOD) }))
    });
    let weight = limits
        .cpu_weight
        .map(|weight| Ok((format!("cpu-weight {weight}"), Control::Weight { one: shares(weight), two: u64::from(weight) })));
    let pids = limits.pids.map(|pids| Ok((format!("pids {pids}"), Control::Processes(Amount::Of(u64::from(pids))))));
    cpus.into_iter()
        .chain(weight)
        .chain(limits.cpuset.as_deref().map(cpuset))
        .chain(memory(host, limits))
        .chain(pids)
        .chain(limits.io.iter().flat_map(|io| disk(host, io)))
        .chain(limits.hugepages.iter().map(|(page, room)| {
            if !Path::new(&format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page.0 >> 10)).exists() {
                let why = format!("hugepages \"{page}\": this host has no pages of that size; it has {}", page_sizes());
                return refuse("hugepages", why);
            }
            let control = Control::Pages { page: page.0, limit: Amount::Of(room.0) };
            Ok((format!("hugepages \"{page}\" limit=\"{room}\""), control))
        }))
}

fn cpuset(list: &str) -> Result<Worded, Refusal> {
    let Some(wanted) = processors(list) else {
        return refuse("cpuset", format!("\"{list}\" is not a list of processors; for example \"0-1,3\""));
    };
    let online = controls::online();
    if let Some(absent) = processors(&online).and_then(|online| wanted.difference(&online).next().copied()) {
        return refuse("cpuset", format!("cpuset \"{list}\": there is no processor {absent}; this host has {online}"));
    }
    Ok((format!("cpuset \"{list}\""), Control::Processors(Some(list.to_owned()))))
}

fn memory(host: &Host, limits: &Limits) -> Vec<Result<Worded, Refusal>> {
    let mut all = Vec::new();
    if let Some(memory) = limits.memory {
        all.push(Ok((format!("memory \"{memory}\""), Control::Memory(Amount::Of(memory.0)))));
    }
    if let Some(reservation) = limits.memory_reservation {
        let control = Control::Reservation(Some(Amount::Of(reservation.0)));
        all.push(Ok((format!("memory-reservation \"{reservation}\""), control)));
    }
    if let (Some(swap), Some(memory)) = (limits.swap, limits.memory) {
        let (together, alone) = (Amount::Of(memory.0 + swap.0), Amount::Of(swap.0));
        all.push(match host.accounts_swap() {
            true => Ok((format!("swap \"{swap}\""), Control::Swap { together, alone })),
            false => {
                refuse("swap", format!("swap \"{swap}\": this kernel does not account for swap; boot it with swapaccount=1"))
            }
        });
    }
    all
}

fn disk(host: &Host, io: &IoLimit) -> Vec<Result<Worded, Refusal>> {
    let disk = match Disk::of(&io.device) {
        Ok(disk) => disk,
        Err(why) => return vec![refuse("io", why)],
    };
    let rates = [
        ("read", io.read.map(|size| size.0), Rate::ReadBytes),
        ("write", io.write.map(|size| size.0), Rate::WriteBytes),
        ("read-operations", io.read_operations.map(u64::from), Rate::ReadOperations),
        ("write-operations", io.write_operations.map(u64::from), Rate::WriteOperations),
    ];
    let mut all: Vec<Result<Worded, Refusal>> = Vec::new();
    for (name, value, rate) in rates {
        let Some(value) = value else { continue };
        let control = Control::Rate { device: disk.number.clone(), rate, limit: Amount::Of(value) };
        all.push(Ok((format!("io \"{}\" {name}={value}", io.device), control)));
    }
    let Some(weight) = io.weight else { return all };
    let what = format!("io \"{}\" weight={weight}", io.device);
    let share = |sharing| Control::Share { device: Some(disk.number.clone()), sharing, weight: Some(u64::from(weight)) };
    all.push(if disk.scheduler().contains("[bfq]") {
        Ok((what, share(Sharing::Bfq)))
    } else if host.version("io") == Some(Version::Two) && host.has_cost_model(&disk.number) {
        Ok((what, share(Sharing::CostModel)))
    } else {
        let file = disk.scheduler_file();
        let why = "neither BFQ nor iocost is active on this disk, so a weight would have no effect";
        refuse("io", format!("{what}: {why}; type `echo bfq > {file}`, or set rates"))
    });
    all
}

/// A whole disk: rates and weights apply to the disk, not to a partition.
struct Disk {
    number: String,
}

impl Disk {
    fn of(device: &str) -> Result<Self, String> {
        let metadata = fs::metadata(device).map_err(|error| format!("io \"{device}\": {error}"))?;
        if !metadata.file_type().is_block_device() {
            return Err(format!("io \"{device}\": it is not a block device; `lsblk` lists those of this host"));
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

fn page_sizes() -> String {
    // This is only for a message.
    let names = sys::names(Path::new("/sys/kernel/mm/hugepages")).unwrap_or_default();
    let sizes = names.iter().filter_map(|name| {
        let size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(format!("\"{}\"", crate::model::Size(size << 10)))
    });
    let list = sizes.collect::<Vec<_>>().join(", ");
    if list.is_empty() { "none".into() } else { list }
}

/// The resource limit with a name, as in setrlimit(2).
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

/// `CAP_SYS_RESOURCE`, which allows raising hard limits and lowering OOM scores.
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
                "ulimit \"{}\" hard={}: the maximum is {hard}, and raising it needs CAP_SYS_RESOURCE, which this process lacks",
                limit.name, limit.hard
            );
            return Some(Refusal { node: "ulimit", why });
        }
    }
    if let Some(score) = limits.oom_score {
        let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if score < own && !may_raise {
            let why = format!("oom-score {score}: less than this process's own, {own}, needs CAP_SYS_RESOURCE, which it lacks");
            return Some(Refusal { node: "oom-score", why });
        }
    }
    None
}

/// Notes about limits that restrict less on this host than they seem to.
pub fn caveats(host: &Host, limits: &Limits) -> Vec<String> {
    let writes = limits.io.iter().filter(|io| io.write.is_some() || io.write_operations.is_some());
    let on_v1 = host.version("io") == Some(Version::One);
    writes
        .filter(|_| on_v1)
        .map(|io| {
            format!(
                "io \"{}\": on cgroup v1 the write rates apply to direct I/O only, not to writes through the page cache",
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
            values(false),
            [
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=-1",
                "cpu.shares=1024",
                "memory.soft_limit_in_bytes=-1",
                "pids.max=max"
            ]
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
        assert!(refused(io("/dev/null")).contains("not a block device"));
        assert!(refused(io("/dev/nothing")).contains("No such file"));
        let bare = Host { v1: Vec::new(), v2: None, v2_controllers: Vec::new() };
        assert!(refusal(&bare, &Limits { pids: Some(1), ..Limits::default() }).unwrap().why.contains("`pids` cgroup controller"));
    }
}

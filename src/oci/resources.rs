//! `linux.resources` as cgroup files; usage as runc's `events` tells it.

use super::container::Container;
use crate::model::{Context, Error, Result};
use crate::runtime::{self, Cgroup, Expect, Host, Setting, Version};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

/// What must be written for a bundle's resources.
///
/// # Errors
/// A limit that nothing on this host holds.
fn settings(host: &Host, resources: &LinuxResources) -> Result<Vec<Setting>> {
    let network = resources.network().as_ref();
    if network.is_some_and(|one| {
        one.class_id().is_some_and(|id| id != 0) || one.priorities().as_ref().is_some_and(|all| !all.is_empty())
    }) {
        return Err(Error::new("linux.resources.network: traffic has neither classes nor priorities here"));
    }
    if resources.rdma().as_ref().is_some_and(|all| !all.is_empty()) {
        return Err(Error::new("linux.resources.rdma: there are no limits on RDMA here"));
    }
    let mut list = Vec::new();
    let mut missing = None;
    let mut add = |controller: &'static str, v1: (&str, String), v2: (&str, String)| {
        let (file, value) = if host.version(controller) == Some(Version::Two) { v2 } else { v1 };
        if host.version(controller).is_none() && !matches!(value.as_str(), "" | "0" | "-1" | "max") {
            missing.get_or_insert(controller);
        } else if host.version(controller).is_some() && !file.is_empty() {
            let what = format!("{file}={value}");
            list.push(Setting { controller, what, file: file.to_owned(), value, expect: Expect::Anything });
        }
    };
    let amount = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            // runc's formula from shares to weight.
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
            add("cpu", ("cpu.shares", shares.to_string()), ("cpu.weight", weight.to_string()));
        }
        let quota = cpu.quota();
        let period = cpu.period().filter(|period| *period > 0);
        if let Some(period) = period {
            add("cpu", ("cpu.cfs_period_us", period.to_string()), ("", String::new()));
        }
        if let Some(quota) = quota.filter(|quota| *quota != 0) {
            let v2 = format!("{} {}", amount(quota), period.unwrap_or(100_000));
            add("cpu", ("cpu.cfs_quota_us", quota.to_string()), ("cpu.max", v2));
        } else if let Some(period) = period {
            add("cpu", ("", String::new()), ("cpu.max", format!("max {period}")));
        }
        for (value, file) in [
            (cpu.realtime_period().map(|period| period.to_string()), "cpu.rt_period_us"),
            (cpu.realtime_runtime().map(|runtime| runtime.to_string()), "cpu.rt_runtime_us"),
        ] {
            if let Some(value) = value {
                add("cpu", (file, value), ("", String::new()));
            }
        }
        if let Some(idle) = cpu.idle() {
            add("cpu", ("cpu.idle", idle.to_string()), ("cpu.idle", idle.to_string()));
        }
        if let Some(burst) = cpu.burst() {
            add("cpu", ("cpu.cfs_burst_us", burst.to_string()), ("cpu.max.burst", burst.to_string()));
        }
        for (value, file) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                add("cpuset", (file, value.clone()), (file, value.clone()));
            }
        }
    }
    if let Some(memory) = resources.memory() {
        if let Some(limit) = memory.limit().filter(|limit| *limit != 0) {
            add("memory", ("memory.limit_in_bytes", limit.to_string()), ("memory.max", amount(limit)));
        }
        if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
            add("memory", ("memory.soft_limit_in_bytes", reservation.to_string()), ("memory.low", amount(reservation)));
        }
        // No limit on memory is none on both: v1 refuses a sum below a part.
        let swap = memory.swap().or(memory.limit().filter(|limit| *limit < 0));
        if let Some(swap) = swap.filter(|swap| *swap != 0) {
            // In v1 and in the specification memory and swap together, in v2 swap alone.
            let alone = if swap < 0 { "max".to_owned() } else { (swap - memory.limit().unwrap_or(0)).max(0).to_string() };
            add("memory", ("memory.memsw.limit_in_bytes", swap.to_string()), ("memory.swap.max", alone));
        }
        if let Some(swappiness) = memory.swappiness() {
            add("memory", ("memory.swappiness", swappiness.to_string()), ("", String::new()));
        }
        if memory.disable_oom_killer() == Some(true) {
            add("memory", ("memory.oom_control", "1".into()), ("", String::new()));
        }
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() <= 0 { "max".to_owned() } else { pids.limit().to_string() };
        add("pids", ("pids.max", limit.clone()), ("pids.max", limit));
    }
    if let Some(io) = resources.block_io() {
        if let Some(weight) = io.weight().filter(|weight| *weight > 0) {
            add("io", ("blkio.bfq.weight", weight.to_string()), ("io.bfq.weight", weight.to_string()));
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = device.weight() {
                let line = format!("{}:{} {weight}", device.major(), device.minor());
                add("io", ("blkio.bfq.weight_device", line.clone()), ("io.bfq.weight", line));
            }
        }
        for (devices, v1, v2) in [
            (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
            (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
        ] {
            for device in devices.iter().flatten() {
                let (number, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
                add("io", (v1, format!("{number} {rate}")), ("io.max", format!("{number} {v2}={rate}")));
            }
        }
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let (size, limit) = (page.page_size(), page.limit().to_string());
        if size.is_empty() || size.contains('/') {
            return Err(Error::new(format!("linux.resources.hugepageLimits: {size:?} is no size of pages; for example 2MB")));
        }
        let (v1, v2) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
        add("hugetlb", (&v1, limit.clone()), (&v2, limit));
    }
    for (file, value) in resources.unified().iter().flatten() {
        let controllers = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
        let controller = controllers.into_iter().find(|name| file.split('.').next() == Some(name));
        if let Some(controller) = controller.filter(|_| !file.contains('/')) {
            add(controller, ("", String::new()), (file, value.clone()));
        }
    }
    match missing {
        Some(controller) => Err(Error::new(format!("linux.resources: this host has no cgroup controller `{controller}`"))),
        None => Ok(list),
    }
}

/// Changes a container's resources while it runs.
///
/// # Errors
/// A container that is stopped; what the kernel refuses.
pub fn update(container: &Container, resources: &LinuxResources) -> Result<()> {
    let host = runtime::host();
    container
        .cgroup()
        .apply(host, &container.cgroup, &settings(host, resources)?)
        .map_err(|error| Error::caused("cannot change the limits", error))
}

/// Makes a container's cgroup with its limits; one that is shared with another is left when that fails.
///
/// # Errors
/// What the kernel refuses.
pub fn cgroup(host: &Host, path: &str, resources: Option<&LinuxResources>, shared: bool) -> Result<Cgroup> {
    if !host.v1.is_empty() && resources.is_some_and(|resources| resources.unified().as_ref().is_some_and(|all| !all.is_empty())) {
        return Err(Error::new("invalid configuration: `linux.resources.unified` is for cgroup v2, and this host has v1"));
    }
    let list = resources.map(|resources| settings(host, resources)).transpose()?.unwrap_or_default();
    // In every hierarchy that `update` may want later; huge pages only where they are limited.
    let mut wanted = vec!["cpu", "cpuset", "memory", "pids", "io"];
    wanted.extend(list.iter().map(|setting| setting.controller).filter(|name| *name == "hugetlb"));
    if Cgroup::open(host, path).is_frozen() {
        // What begins there would wait for ever.
        return Err(Error::new("container's cgroup unexpectedly frozen"));
    }
    let group = Cgroup::make(host, path, &wanted).context(|| "cannot make the cgroup".into())?;
    let limited = group
        .apply(host, path, &list)
        .and_then(|()| group.devices(host, path, resources.and_then(|all| all.devices().as_deref()).unwrap_or_default()));
    if let Err(error) = limited {
        if !shared {
            let _ = group.destroy();
        }
        return Err(Error::caused("cannot limit the container", error));
    }
    Ok(group)
}

/// Usage in the form of runc's `events --stats`.
pub fn events(container: &Container) -> String {
    let usage = runtime::usage(runtime::host(), &container.cgroup, container.pid);
    let entry = |usage: u64, limit: Option<u64>| json!({ "usage": usage, "limit": limit.unwrap_or(0), "max": 0, "failcnt": 0 });
    let interfaces: Vec<Value> = usage
        .networks
        .iter()
        .map(|(name, one)| {
            json!({
                "Name": name, "RxBytes": one.received_bytes, "RxPackets": one.received_packets, "RxErrors": one.received_errors,
                "RxDropped": one.received_dropped, "TxBytes": one.sent_bytes, "TxPackets": one.sent_packets,
                "TxErrors": one.sent_errors, "TxDropped": one.sent_dropped,
            })
        })
        .collect();
    let data = json!({
            "cpu": {
                "usage": { "total": usage.cpu * 1000, "kernel": usage.cpu_system * 1000, "user": usage.cpu_user * 1000, "percpu": [] },
                "throttling": {
                    "periods": usage.periods, "throttledPeriods": usage.throttled_periods, "throttledTime": usage.throttled * 1000,
                },
            },
            "memory": {
                "usage": entry(usage.memory, usage.memory_limit),
                "cache": usage.cache,
                "swap": entry(usage.swap, None),
                "raw": { "rss": usage.rss, "inactive_file": usage.inactive_file },
            },
            "pids": { "current": usage.pids, "limit": usage.pids_limit.unwrap_or(0) },
            "blkio": {
                "ioServiceBytesRecursive": [
                    { "major": 0, "minor": 0, "op": "Read", "value": usage.read_bytes },
                    { "major": 0, "minor": 0, "op": "Write", "value": usage.write_bytes },
                ],
            },
            "hugetlb": {},
            "intel_rdt": {},
            "network_interfaces": interfaces,
    });
    // In runc's order, which its readers expect.
    format!(r#"{{"type":"stats","id":{},"data":{data}}}"#, json!(container.id))
}

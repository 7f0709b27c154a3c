//! Translates `linux.resources` to cgroup files, and reports usage in the form of runc's `events`.

use super::container::Container;
use crate::model::{Context, Error, Result};
use crate::runtime::{self, Amount, Cgroup, Control, Host, Rate, Setting, Sharing, Version};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use serde_json::{Value, json};

/// The settings to write for a bundle's resources.
///
/// # Errors
/// Fails when no controller of this host can apply a limit.
fn settings(host: &Host, resources: &LinuxResources) -> Result<Vec<Setting>> {
    let controls = controls(resources)?;
    for control in controls.iter().filter(|control| host.version(control.controller()).is_none()) {
        // A value that limits nothing needs no controller.
        let limits = |(_, value): &(String, String)| !matches!(value.as_str(), "0" | "-1" | "max");
        if control.files(Version::One).iter().any(limits) {
            let name = control.controller();
            return Err(Error::new(format!("linux.resources: this host has no cgroup controller `{name}`")));
        }
    }
    Ok(controls.iter().flat_map(|control| control.unchecked(host)).collect())
}

/// Translates a bundle's resources to controls (config-linux.md, "Control groups").
fn controls(resources: &LinuxResources) -> Result<Vec<Control>> {
    let network = resources.network().as_ref();
    if network.is_some_and(|one| {
        one.class_id().is_some_and(|id| id != 0) || one.priorities().as_ref().is_some_and(|all| !all.is_empty())
    }) {
        return Err(Error::new("linux.resources.network: traffic classes and priorities are not supported"));
    }
    if resources.rdma().as_ref().is_some_and(|all| !all.is_empty()) {
        return Err(Error::new("linux.resources.rdma: limits on RDMA are not supported"));
    }
    let mut all = Vec::new();
    all.extend(resources.cpu().iter().flat_map(cpu));
    all.extend(resources.memory().iter().flat_map(memory));
    if let Some(pids) = resources.pids() {
        let limit = u64::try_from(pids.limit()).ok().filter(|limit| *limit > 0);
        all.push(Control::Processes(limit.map_or(Amount::Max, Amount::Of)));
    }
    all.extend(resources.block_io().iter().flat_map(disks));
    for limit in resources.hugepage_limits().iter().flatten() {
        let name = limit.page_size();
        let page = runtime::page_size(name)
            .ok_or_else(|| Error::new(format!("linux.resources.hugepageLimits: {name:?} is not a page size; for example 2MB")))?;
        all.push(Control::Pages { page, limit: Amount::of(limit.limit()) });
    }
    for (file, value) in resources.unified().iter().flatten() {
        let controllers = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
        let controller = controllers.into_iter().find(|name| file.split('.').next() == Some(name));
        if let Some(controller) = controller.filter(|_| !file.contains('/')) {
            all.push(Control::Unified { controller, file: file.clone(), value: value.clone() });
        }
    }
    Ok(all)
}

fn cpu(cpu: &LinuxCpu) -> Vec<Control> {
    let mut all = Vec::new();
    if let Some(one) = cpu.shares().filter(|shares| *shares > 0) {
        // This is runc's formula for converting shares to a weight.
        all.push(Control::Weight { one, two: 1 + (one.clamp(2, 262_144) - 2) * 9999 / 262_142 });
    }
    let quota = cpu.quota().filter(|quota| *quota != 0).map(Amount::of);
    let period = cpu.period().filter(|period| *period > 0);
    if quota.is_some() || period.is_some() {
        all.push(Control::Quota { quota, period });
    }
    all.extend(cpu.realtime_period().map(Control::RealtimePeriod));
    all.extend(cpu.realtime_runtime().map(Control::RealtimeRuntime));
    all.extend(cpu.idle().map(Control::Idle));
    all.extend(cpu.burst().map(Control::Burst));
    let given = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    all.extend(given(cpu.cpus()).map(|list| Control::Processors(Some(list))));
    all.extend(given(cpu.mems()).map(Control::MemoryNodes));
    all
}

fn memory(memory: &LinuxMemory) -> Vec<Control> {
    let mut all = Vec::new();
    let limit = memory.limit().filter(|limit| *limit != 0);
    all.extend(limit.map(|limit| Control::Memory(Amount::of(limit))));
    let reservation = memory.reservation().filter(|reservation| *reservation != 0);
    all.extend(reservation.map(|bytes| Control::Reservation(Some(Amount::of(bytes)))));
    // If memory is unlimited, memory with swap is, too: v1 refuses a limit on both together below that on memory.
    let swap = memory.swap().or(limit.filter(|limit| *limit < 0)).filter(|swap| *swap != 0);
    all.extend(swap.map(|swap| {
        // v1 and the specification count memory and swap together, v2 counts swap alone.
        let alone = if swap < 0 { swap } else { (swap - limit.unwrap_or(0)).max(0) };
        Control::Swap { together: Amount::of(swap), alone: Amount::of(alone) }
    }));
    all.extend(memory.swappiness().map(Control::Swappiness));
    if memory.disable_oom_killer() == Some(true) {
        all.push(Control::KeepWhenOutOfMemory);
    }
    all
}

fn disks(io: &LinuxBlockIo) -> Vec<Control> {
    let mut all = Vec::new();
    let share = |device, weight: u16| Control::Share { device, sharing: Sharing::Bfq, weight: Some(u64::from(weight)) };
    all.extend(io.weight().filter(|weight| *weight > 0).map(|weight| share(None, weight)));
    for device in io.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        all.extend(device.weight().map(|weight| share(Some(number), weight)));
    }
    for (devices, rate) in [
        (io.throttle_read_bps_device(), Rate::ReadBytes),
        (io.throttle_write_bps_device(), Rate::WriteBytes),
        (io.throttle_read_iops_device(), Rate::ReadOperations),
        (io.throttle_write_iops_device(), Rate::WriteOperations),
    ] {
        for one in devices.iter().flatten() {
            let device = format!("{}:{}", one.major(), one.minor());
            all.push(Control::Rate { device, rate, limit: Amount::Of(one.rate()) });
        }
    }
    all
}

/// Changes a container's resources while it runs.
///
/// # Errors
/// Fails when the container is stopped or the kernel refuses a limit.
pub fn update(container: &Container, resources: &LinuxResources) -> Result<()> {
    let host = runtime::host();
    container
        .cgroup()
        .apply(host, &container.cgroup, &settings(host, resources)?)
        .map_err(|error| Error::caused("cannot change the limits", error))
}

/// Creates a container's cgroup with its limits. If that fails, the cgroup is removed, unless it is shared with another
/// container.
///
/// # Errors
/// Fails when the kernel refuses something.
pub fn cgroup(host: &Host, path: &str, resources: Option<&LinuxResources>, shared: bool) -> Result<Cgroup> {
    if !host.v1.is_empty() && resources.is_some_and(|resources| resources.unified().as_ref().is_some_and(|all| !all.is_empty())) {
        return Err(Error::new("invalid configuration: `linux.resources.unified` is for cgroup v2, and this host has v1"));
    }
    let list = resources.map(|resources| settings(host, resources)).transpose()?.unwrap_or_default();
    // These are all controllers that `update` may need later; `hugetlb` is added only if huge pages are limited.
    let mut wanted = vec!["cpu", "cpuset", "memory", "pids", "io"];
    wanted.extend(list.iter().map(|setting| setting.controller).filter(|name| *name == "hugetlb"));
    if Cgroup::open(host, path).is_frozen() {
        // A process that is started there would wait for ever.
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
    // The fields are in runc's order, which its readers expect.
    format!(r#"{{"type":"stats","id":{},"data":{data}}}"#, json!(container.id))
}

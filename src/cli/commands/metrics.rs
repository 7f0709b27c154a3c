use super::super::Context;
use crate::engine::all_instances;
use crate::model::Result;
use crate::runtime::{self, Usage};
use std::fmt::Write;

/// Prints the resource usage of all projects' containers in Prometheus' text format, with cAdvisor's names.
///
/// Example: stead metrics > /var/lib/node_exporter/stead.prom
#[derive(clap::Args, Debug)]
pub struct Arguments {}

/// One container's labels and readings.
struct Sample {
    labels: String,
    started: f64,
    usage: Usage,
}

type Value = fn(&Usage) -> f64;

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are doubles")]
const fn number(value: u64) -> f64 {
    value as f64
}

/// Name, kind, help and value; times are in seconds.
const METRICS: [(&str, &str, &str, Value); 24] = [
    ("container_cpu_usage_seconds_total", "counter", "Processor time.", |usage| number(usage.cpu) / 1e6),
    ("container_cpu_user_seconds_total", "counter", "Processor time in user mode.", |usage| number(usage.cpu_user) / 1e6),
    ("container_cpu_system_seconds_total", "counter", "Processor time in kernel mode.", |usage| number(usage.cpu_system) / 1e6),
    ("container_cpu_cfs_periods_total", "counter", "Scheduling periods.", |usage| number(usage.periods)),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Periods in which it was throttled.", |usage| {
        number(usage.throttled_periods)
    }),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Time in which it was throttled.", |usage| {
        number(usage.throttled) / 1e6
    }),
    ("container_memory_usage_bytes", "gauge", "Memory, page cache included.", |usage| number(usage.memory)),
    ("container_memory_working_set_bytes", "gauge", "Memory without page cache that was not used recently.", |usage| {
        number(usage.working_set())
    }),
    ("container_memory_cache", "gauge", "Page cache.", |usage| number(usage.cache)),
    ("container_memory_rss", "gauge", "Memory of processes.", |usage| number(usage.rss)),
    ("container_memory_swap", "gauge", "Swap space.", |usage| number(usage.swap)),
    ("container_memory_failcnt", "counter", "How often the limit was hit.", |usage| number(usage.memory_failures)),
    ("container_oom_events_total", "counter", "Processes killed for lack of memory.", |usage| number(usage.oom_kills)),
    ("container_spec_memory_limit_bytes", "gauge", "The limit; 0 for none.", |usage| number(usage.memory_limit.unwrap_or(0))),
    ("container_processes", "gauge", "Processes and threads.", |usage| number(usage.pids)),
    ("container_threads_max", "gauge", "The limit of processes and threads; 0 for none.", |usage| {
        number(usage.pids_limit.unwrap_or(0))
    }),
    ("container_fs_reads_bytes_total", "counter", "Bytes read from disks.", |usage| number(usage.read_bytes)),
    ("container_fs_writes_bytes_total", "counter", "Bytes written to disks.", |usage| number(usage.write_bytes)),
    ("container_fs_reads_total", "counter", "Reads from disks.", |usage| number(usage.reads)),
    ("container_fs_writes_total", "counter", "Writes to disks.", |usage| number(usage.writes)),
    ("container_pressure_cpu_waiting_seconds_total", "counter", "Time some process waited for processors.", |usage| {
        stalled(usage, "cpu", false)
    }),
    ("container_pressure_memory_waiting_seconds_total", "counter", "Time some process waited for memory.", |usage| {
        stalled(usage, "memory", false)
    }),
    ("container_pressure_io_waiting_seconds_total", "counter", "Time some process waited for disks.", |usage| {
        stalled(usage, "io", false)
    }),
    ("container_pressure_io_stalled_seconds_total", "counter", "Time all processes waited for disks.", |usage| {
        stalled(usage, "io", true)
    }),
];

fn stalled(usage: &Usage, resource: &str, all: bool) -> f64 {
    usage.pressure.get(resource).map_or(0.0, |found| number(if all { found.full_total } else { found.some_total }) / 1e6)
}

type PerInterface = fn(&runtime::Network) -> u64;

const NETWORK: [(&str, PerInterface); 8] = [
    ("container_network_receive_bytes_total", |one| one.received_bytes),
    ("container_network_receive_packets_total", |one| one.received_packets),
    ("container_network_receive_errors_total", |one| one.received_errors),
    ("container_network_receive_packets_dropped_total", |one| one.received_dropped),
    ("container_network_transmit_bytes_total", |one| one.sent_bytes),
    ("container_network_transmit_packets_total", |one| one.sent_packets),
    ("container_network_transmit_errors_total", |one| one.sent_errors),
    ("container_network_transmit_packets_dropped_total", |one| one.sent_dropped),
];

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    let host = runtime::host();
    let mut samples = Vec::new();
    for (instance, record) in all_instances(&context.options.home)? {
        for (name, container) in &record.containers {
            let Some(status) = instance.container(name).status().filter(|status| status.pid > 0) else { continue };
            let path = instance.cgroup(name);
            let labels = [
                ("id", format!("/{path}")),
                ("name", name.clone()),
                ("image", container.image_name.clone()),
                ("project", record.project.clone()),
                ("instance", instance.id.clone()),
                ("container", container.container.to_string()),
            ];
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            samples.push(Sample {
                labels: labels.join(","),
                started: number(status.started_at.unwrap_or(0)) / 1e3,
                usage: runtime::usage(host, &path, status.pid),
            });
        }
    }
    context.ui.result(text(&samples));
    Ok(0)
}

/// A label's value in the text format: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(samples: &[Sample]) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in METRICS {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in samples {
            let _ = writeln!(out, "{name}{{{}}} {}", sample.labels, value(&sample.usage));
        }
    }
    for (name, value) in NETWORK {
        let _ = writeln!(out, "# TYPE {name} counter");
        for sample in samples {
            for (interface, network) in &sample.usage.networks {
                let _ = writeln!(out, "{name}{{{},interface=\"{}\"}} {}", sample.labels, escaped(interface), value(network));
            }
        }
    }
    let _ = writeln!(out, "# TYPE container_start_time_seconds gauge");
    for sample in samples {
        let _ = writeln!(out, "container_start_time_seconds{{{}}} {}", sample.labels, sample.started);
    }
    out
}

use super::super::Context;
use super::super::cells::short;
use super::super::ui::{Style, Table, Text, Ui};
use crate::engine::{Meter, Reading, host_memory};
use crate::model::Result;
use crate::runtime;
use std::time::Duration;

/// Shows the resource usage of containers: processors, memory, network, disks, and how long they wait.
///
/// CPU is in percent of one processor, as in Docker; memory does not include page cache that was not used
/// recently. PRESSURE is the share of the last ten seconds in which some process waited for processors,
/// memory or disks; THROTTLED is the share of scheduling periods in which the limit `cpus` throttled the container.
///
/// Example: stead stats --no-stream
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all running ones if none is given.
    names: Vec<String>,
    /// Print once and exit.
    #[arg(long)]
    no_stream: bool,
    /// Print each reading as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let mut meter = Meter::of(context.instance()?, &arguments.names)?;
    loop {
        // Percentages need two readings; for a single result, a short wait between them is enough.
        std::thread::sleep(if arguments.no_stream { INTERVAL / 4 } else { INTERVAL });
        let readings = meter.read()?;
        if arguments.json {
            let line = serde_json::json!({ "version": 1, "time": crate::monitor::now_ms(), "containers": readings });
            context.ui.json_line(&line);
        } else {
            let text = table(&readings, &context.ui);
            if arguments.no_stream {
                context.ui.result(text);
            } else {
                context.ui.screen(text);
            }
        }
        if arguments.no_stream || readings.is_empty() {
            return Ok(0);
        }
    }
}

fn table(readings: &[Reading], ui: &Ui) -> Text {
    let headings =
        ["NAME", "CPU", "MEMORY", "LIMIT", "MEM", "NET IN / OUT", "DISK READ / WRITE", "PIDS", "THROTTLED", "PRESSURE"];
    let mut table = Table::new(&headings, &["PRESSURE", "THROTTLED", "MEM", "DISK READ / WRITE", "NET IN / OUT", "LIMIT"]);
    for reading in readings {
        let usage = &reading.usage;
        let net = |pick: fn(&runtime::Network) -> u64| usage.networks.values().map(pick).sum::<u64>();
        let limit = usage.memory_limit.or_else(host_memory).unwrap_or(0);
        let pressure = |name: &str| usage.pressure.get(name).map_or(0.0, |pressure| pressure.some);
        let hot = reading.memory_percent > 90.0 || reading.throttled_percent > 50.0;
        table.row([
            (reading.name.clone(), Some(Style::Bold)),
            (format!("{:.2}%", reading.cpu_percent), None),
            (short(reading.memory), hot.then_some(Style::Bad)),
            (short(limit), Some(Style::Dim)),
            (format!("{:.2}%", reading.memory_percent), None),
            (format!("{} / {}", short(net(|one| one.received_bytes)), short(net(|one| one.sent_bytes))), None),
            (format!("{} / {}", short(usage.read_bytes), short(usage.write_bytes)), None),
            (usage.pids.to_string(), None),
            (format!("{:.0}%", reading.throttled_percent), None),
            (format!("{:.0} {:.0} {:.0}", pressure("cpu"), pressure("memory"), pressure("io")), None),
        ]);
    }
    table.text(ui)
}

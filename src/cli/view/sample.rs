//! Looks at the containers: what they do, and what they use.

use super::super::cells::{health, state};
use super::super::ui::{Style, Text};
use super::state::{News, Reading, Row};
use crate::engine::{self, Instance, Meter, Which};
use crate::project::Protocol;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks once a second, and sooner when it is `nudged`, until nobody wants to know any more.
pub fn sample(instance: &Instance, nudged: &Receiver<()>, tell: &dyn Fn(News) -> bool) {
    let mut meter = Meter::of(instance.clone(), &[]).ok();
    let mut read = Instant::now();
    loop {
        // What cannot be read now, as while the environment is brought up, is read again soon.
        if let Ok(rows) = engine::listing(instance, Which::All)
            && !tell(News::Rows(rows.iter().map(row).collect()))
        {
            return;
        }
        if read.elapsed() >= INTERVAL {
            read = Instant::now();
            meter = meter.or_else(|| Meter::of(instance.clone(), &[]).ok());
            let readings = meter.as_mut().and_then(|meter| meter.read().ok()).unwrap_or_default();
            let used = readings.into_iter().map(|one| Reading { name: one.name, cpu: one.cpu_percent, memory: one.memory });
            if !tell(News::Readings(used.collect())) {
                return;
            }
        }
        match nudged.recv_timeout(INTERVAL.saturating_sub(read.elapsed()).max(Duration::from_millis(1))) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => while nudged.try_recv().is_ok() {},
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn row(row: &engine::Row) -> Row {
    let text = |(text, style): (String, Option<Style>)| (Text::line(&text), style);
    let ports: Vec<String> = row
        .ports
        .iter()
        .map(|port| {
            let address = if port.address == "127.0.0.1" { "" } else { port.address.as_str() };
            format!("{address}:{}{}", port.port, if port.protocol == Protocol::Udp { "/udp" } else { "" })
        })
        .collect();
    let url = row.ports.iter().find(|port| port.web).map(|port| format!("http://{}:{}/", port.address, port.port));
    Row { name: row.name.clone(), state: text(state(row)), health: text(health(row)), ports: Text::line(&ports.join(" ")), url }
}

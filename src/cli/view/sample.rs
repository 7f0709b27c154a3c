//! Looks at the containers: what they do, and what they use.

use super::super::cells::{health, state};
use super::super::ui::{Style, Text};
use super::state::{News, Reading, Row};
use crate::engine::{self, Instance, Meter, Which};
use crate::project::Protocol;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The least time between two readings, and the most between two looks at few containers.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks take at most one part in so many of a processor's time: of many containers there are fewer.
const SHARE: u32 = 200;
/// Nudges within this time are one.
const TOGETHER: Duration = Duration::from_millis(30);

/// The time between two looks, of which the last took some time.
fn interval(took: Duration) -> Duration {
    INTERVAL.max(took * SHARE)
}

/// Looks once a second, and sooner when it is `nudged`, until nobody wants to know any more.
pub fn sample(instance: &Instance, nudged: &Receiver<()>, tell: &dyn Fn(News) -> bool) {
    let mut meter = Meter::of(instance.clone(), &[]).ok();
    let mut read = Instant::now();
    let mut every = INTERVAL;
    loop {
        let begun = Instant::now();
        // What cannot be read now, as while the environment is brought up, is read again soon.
        let rows = engine::listing(instance, Which::All).ok();
        let mut readings = None;
        if read.elapsed() >= every {
            read = begun;
            meter = meter.or_else(|| Meter::of(instance.clone(), &[]).ok());
            let found = meter.as_mut().and_then(|meter| meter.read().ok()).unwrap_or_default();
            let used = found.into_iter().map(|one| Reading { name: one.name, cpu: one.cpu_percent, memory: one.memory });
            readings = Some(used.collect());
            every = interval(begun.elapsed());
        }
        let rows = rows.map(|rows| News::Rows(rows.iter().map(row).collect()));
        // They are told one right after the other, so that they are drawn together.
        if !rows.into_iter().chain(readings.map(News::Readings)).all(tell) {
            return;
        }
        match nudged.recv_timeout(every.saturating_sub(read.elapsed()).max(Duration::from_millis(1))) {
            Ok(()) => {
                std::thread::sleep(TOGETHER);
                while nudged.try_recv().is_ok() {}
            }
            Err(RecvTimeoutError::Timeout) => {}
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
    let url = row.ports.iter().find(|port| port.web).map(|port| url(&port.address, port.port));
    Row { name: row.name.clone(), state: text(state(row)), health: text(health(row)), ports: Text::line(&ports.join(" ")), url }
}

/// The address of a web page here. A port of all addresses is one of this machine's own.
fn url(address: &str, port: u16) -> String {
    let host = match address.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => "localhost".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => address.to_owned(),
    };
    format!("http://{host}:{port}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_many_containers_are_rarer() {
        assert_eq!(interval(Duration::from_millis(2)), INTERVAL);
        assert_eq!(interval(Duration::from_millis(20)), Duration::from_secs(4));
    }

    #[test]
    fn pages_have_addresses_that_a_browser_understands() {
        assert_eq!(url("127.0.0.1", 8080), "http://127.0.0.1:8080/");
        assert_eq!(url("0.0.0.0", 80), "http://localhost:80/");
        assert_eq!(url("::", 80), "http://localhost:80/");
        assert_eq!(url("::1", 80), "http://[::1]:80/");
    }
}

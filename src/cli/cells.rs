//! How the facts about a container are written: the same in tables and in views.

use super::ui::Style;
use crate::engine::Row;
use crate::model::{Digest, Size};
use crate::monitor::{Health, State, now_ms};
use crate::project::Protocol;

/// What a container does, and since when.
pub fn state(row: &Row) -> (String, Option<Style>) {
    let since = |at: Option<u64>| at.map(|at| age(now_ms().saturating_sub(at))).unwrap_or_default();
    let code = row.exit_code.unwrap_or(0);
    match row.state {
        // Its monitor lives, and nothing more is known.
        State::Running if row.status.monitor == 0 && row.error.is_some() => {
            let why = row.error.as_deref().and_then(|error| error.lines().next()).unwrap_or_default();
            (format!("running; {why}"), Some(Style::Bad))
        }
        State::Running => (format!("running {}", since(row.status.started_at)), Some(Style::Good)),
        State::Restarting => (format!("restarting (exit {code})"), Some(Style::Change)),
        State::Exited if row.job && code == 0 => {
            let ago = row.status.finished_at.map(|at| format!(" {} ago", since(Some(at)))).unwrap_or_default();
            (format!("done{ago}"), Some(Style::Dim))
        }
        State::Exited if row.status.timed_out.is_some() => {
            let after = row.status.timed_out.map(|after| format!(" after {after}")).unwrap_or_default();
            (format!("timed out{after}"), Some(Style::Bad))
        }
        State::Exited if row.job && !row.out_of_memory => (format!("failed ({code})"), Some(Style::Bad)),
        State::Exited if row.out_of_memory => {
            (format!("exited {code}, out of memory, {} ago", since(row.status.finished_at)), Some(Style::Bad))
        }
        State::Exited => (
            format!("exited {code}, {} ago", since(row.status.finished_at)),
            Some(if code == 0 { Style::Dim } else { Style::Bad }),
        ),
        State::Dead => (
            row.error
                .as_ref()
                .map_or_else(|| "dead".into(), |error| format!("dead: {}", error.lines().next().unwrap_or_default())),
            Some(Style::Bad),
        ),
        State::Created => ("created".into(), Some(Style::Dim)),
        State::Paused => ("paused".into(), Some(Style::Change)),
    }
}

/// What its health checks say.
pub fn health(row: &Row) -> (String, Option<Style>) {
    match row.health {
        Health::None => ("-".into(), Some(Style::Dim)),
        Health::Starting => ("starting".into(), Some(Style::Change)),
        Health::Healthy => ("healthy".into(), Some(Style::Good)),
        Health::Unhealthy => ("unhealthy".into(), Some(Style::Bad)),
    }
}

/// Where its published ports are.
pub fn ports(row: &Row) -> String {
    let shown: Vec<String> = row
        .ports
        .iter()
        .map(|port| {
            let (address, number) = (&port.address, port.port);
            match port.protocol {
                _ if port.web => format!("http://{address}:{number}/"),
                Protocol::Tcp => format!("{address}:{number}"),
                Protocol::Udp => format!("{address}:{number}/udp"),
            }
        })
        .collect();
    match shown.len() {
        0..=3 => shown.join(" "),
        count => format!("{} … {} ({count} ports)", shown[0], shown[count - 1]),
    }
}

/// A span of time in its largest unit.
pub fn age(millis: u64) -> String {
    match millis / 1000 {
        0 => format!("{millis} ms"),
        seconds @ 1..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds / 60),
        seconds @ 6000..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A size with about three digits.
pub fn short(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "it is only shown, with three digits")]
    let mut value = bytes as f64;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { Size(bytes).to_string() } else { format!("{value:.*} {}", if value < 10.0 { 2 } else { 1 }, UNITS[unit]) }
}

/// A container's colour: the same every time.
pub fn color(name: &str) -> Style {
    let styles = [Style::Cyan, Style::Good, Style::Change, Style::Blue, Style::Magenta];
    styles[usize::try_from(Digest::of(name).number() % styles.len() as u64).unwrap_or(0)]
}

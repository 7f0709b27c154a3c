//! `stead oci events`: the resource usage of a container.

use crate::cli::ui::Ui;
use crate::model::{self, Error, Result};
use crate::oci::{self, Container, Status};
use serde_json::json;
use std::time::{Duration, Instant};

/// Prints the usage once, or repeatedly until the container stops.
pub fn run(container: &Container, once: bool, interval: &str, ui: &Ui) -> Result<u8> {
    let interval = model::Duration::parse(interval).map_err(|why| Error::new(format!("--interval {interval}: {why}")))?;
    if !once {
        return watch(container, interval.into(), ui);
    }
    if container.status() == Status::Stopped {
        return Err(Error::new(format!("container {} is not running", container.id)));
    }
    ui.json_text(oci::events(container));
    Ok(0)
}

/// Prints the usage at an interval, and an event for each out-of-memory kill, until the container stops.
fn watch(container: &Container, interval: Duration, ui: &Ui) -> Result<u8> {
    let kills = || container.cgroup().out_of_memory_kills();
    let (mut known, mut next) = (kills(), Instant::now());
    while container.status() != Status::Stopped {
        let now = kills();
        for _ in known..now {
            ui.json_text(format!(r#"{{"type":"oom","id":{}}}"#, json!(container.id)));
        }
        known = now;
        if Instant::now() >= next {
            ui.json_text(oci::events(container));
            next += interval;
        }
        std::thread::sleep(interval.min(Duration::from_millis(100)));
    }
    Ok(0)
}

//! `stead oci update`: changes the limits of a running container.

use crate::model::{Context, Error, Result};
use crate::oci::{self, Container, Status};
use oci_spec::runtime::LinuxResources;
use serde_json::json;
use std::io::Read;
use std::path::Path;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A JSON file with resources, as in the OCI runtime specification; - is standard input.
    #[arg(short, long)]
    resources: Option<String>,
    #[arg(long)]
    blkio_weight: Option<u64>,
    #[arg(long)]
    cpu_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    #[arg(long)]
    cpu_burst: Option<u64>,
    #[arg(long, alias = "cpu-shares")]
    cpu_share: Option<u64>,
    #[arg(long)]
    cpu_rt_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    #[arg(long)]
    cpuset_cpus: Option<String>,
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// In bytes, or with a suffix as in 50M; -1 means no limit.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    id: String,
}

/// Parses a size as runc does: bytes, or with one of the suffixes k, m, g, t (powers of 1024), optionally followed by `b`.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.trim_end_matches('b').trim_end_matches('i');
    let number = plain.trim_end_matches(['k', 'm', 'g', 't']);
    let power = match &plain[number.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("not a size; for example 50M".into()),
    };
    let number: i64 = number.trim().parse().map_err(|_| "not a size; for example 50M".to_owned())?;
    number.checked_mul(1 << power).ok_or_else(|| "too large".into())
}

pub fn run(arguments: &Arguments, root: &Path) -> Result<u8> {
    let container = Container::load(root, &arguments.id)?;
    if container.status() == Status::Stopped {
        return Err(Error::new("cannot update a stopped container"));
    }
    oci::update(&container, &resources(arguments)?).map(|()| 0)
}

fn resources(update: &Arguments) -> Result<LinuxResources> {
    let mut value = match update.resources.as_deref() {
        None => json!({}),
        Some(source) => {
            let mut text = String::new();
            if source == "-" {
                std::io::stdin().read_to_string(&mut text).context(|| "cannot read standard input".into())?;
            } else {
                text = std::fs::read_to_string(source).context(|| format!("cannot read {source}"))?;
            }
            serde_json::from_str(&text).context(|| "the resources are not valid".into())?
        }
    };
    let mut set = |group: &str, name: &str, wish: Option<serde_json::Value>| {
        if let Some(wish) = wish {
            value[group][name] = wish;
        }
    };
    set("cpu", "period", update.cpu_period.map(|value| json!(value)));
    set("cpu", "quota", update.cpu_quota.map(|value| json!(value)));
    set("cpu", "burst", update.cpu_burst.map(|value| json!(value)));
    set("cpu", "realtimePeriod", update.cpu_rt_period.map(|value| json!(value)));
    set("cpu", "realtimeRuntime", update.cpu_rt_runtime.map(|value| json!(value)));
    set("cpu", "shares", update.cpu_share.map(|value| json!(value)));
    set("cpu", "cpus", update.cpuset_cpus.as_ref().map(|value| json!(value)));
    set("cpu", "mems", update.cpuset_mems.as_ref().map(|value| json!(value)));
    set("memory", "limit", update.memory.map(|value| json!(value)));
    set("memory", "reservation", update.memory_reservation.map(|value| json!(value)));
    set("memory", "swap", update.memory_swap.map(|value| json!(value)));
    set("pids", "limit", update.pids_limit.map(|value| json!(value)));
    set("blockIO", "weight", update.blkio_weight.map(|value| json!(value)));
    serde_json::from_value(value).context(|| "the resources are not valid".into())
}

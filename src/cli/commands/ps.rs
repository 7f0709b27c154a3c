use super::super::Context;
use super::super::ui::{Style, Table, Text};
use crate::engine::{Instance, all_instances};
use crate::model::Result;
use crate::monitor::{Health, State, Status, now_ms};
use crate::plan::ContainerRecord;
use serde::Serialize;
use std::collections::BTreeMap;

/// Lists containers.
///
/// Example: stead ps --all
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Stopped ones, too.
    #[arg(short, long)]
    all: bool,
    /// Those of all projects of this installation.
    #[arg(long)]
    projects: bool,
    /// Print an object with `containers`, for programs.
    #[arg(long)]
    json: bool,
}

/// Which containers are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Running,
    All,
}

/// A container as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub project: String,
    pub instance: String,
    pub folder: String,
    pub name: String,
    pub container: String,
    pub replica: u32,
    pub state: State,
    pub health: Health,
    pub image: String,
    pub image_digest: String,
    pub pid: i32,
    pub ports: Vec<PortRow>,
    pub addresses: BTreeMap<String, String>,
    pub restarts: u32,
    pub started_at: Option<String>,
    pub exit_code: Option<i32>,
    pub out_of_memory: bool,
    pub error: Option<String>,
    #[serde(skip)]
    status: Status,
}

/// A published port as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct PortRow {
    pub address: String,
    pub port: u16,
    pub to: u16,
    pub protocol: crate::project::Protocol,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let which = if arguments.all { Which::All } else { Which::Running };
    let listed: Vec<Row> = if arguments.projects {
        let all = all_instances(&context.options.home)?;
        all.iter().map(|(instance, _)| rows(instance, which)).collect::<Result<Vec<_>>>()?.concat()
    } else {
        rows(&context.instance()?, which)?
    };
    if arguments.json {
        context.ui.json(&serde_json::json!({ "version": 1, "containers": listed }));
    } else {
        let text =
            if arguments.projects { projects(&listed, context.ui.color_out) } else { table(&listed, context.ui.color_out) };
        context.ui.result(text);
    }
    Ok(0)
}

/// An instance's containers.
///
/// # Errors
/// A record that cannot be read.
pub fn rows(instance: &Instance, which: Which) -> Result<Vec<Row>> {
    let record = instance.record()?;
    let mut found: Vec<Row> =
        record.containers.iter().map(|(name, container)| row(instance, &record.project, name, Some(container))).collect();
    for name in instance.container_folders()?.iter().filter(|name| !record.containers.contains_key(*name)) {
        found.push(row(instance, &record.project, name, None));
    }
    found.retain(|row| which == Which::All || matches!(row.state, State::Running | State::Restarting | State::Paused));
    Ok(found)
}

fn row(instance: &Instance, project: &str, name: &str, record: Option<&ContainerRecord>) -> Row {
    let status = instance.container(name).status().unwrap_or_default();
    Row {
        project: project.to_owned(),
        instance: instance.id.clone(),
        folder: instance.folder.display().to_string(),
        name: name.to_owned(),
        container: record.map_or_else(|| name.to_owned(), |record| record.container.to_string()),
        replica: record.map_or(1, |record| record.replica),
        state: status.state,
        health: status.health,
        image: record.map_or_else(String::new, |record| record.image_name.clone()),
        image_digest: record.map_or_else(String::new, |record| record.image.to_string()),
        pid: status.pid,
        ports: record
            .map(|record| {
                record
                    .ports
                    .iter()
                    .map(|port| PortRow {
                        address: port.address.to_string(),
                        port: port.port,
                        to: port.to,
                        protocol: port.protocol,
                    })
                    .collect()
            })
            .unwrap_or_default(),
        addresses: record
            .map(|record| record.addresses.iter().map(|(network, address)| (network.to_string(), address.to_string())).collect())
            .unwrap_or_default(),
        restarts: status.restarts,
        started_at: status.started_at.map(|at| crate::model::time_text(i64::try_from(at / 1000).unwrap_or(0))),
        exit_code: status.exit_code,
        out_of_memory: status.out_of_memory,
        error: status.error.clone(),
        status,
    }
}

/// The table of one project's containers.
pub fn table(rows: &[Row], color: bool) -> Text {
    let mut table = Table::new(&["NAME", "IMAGE", "STATE", "HEALTH", "PORTS"]);
    for row in rows {
        table.row([
            (row.name.clone(), Some(Style::Bold)),
            (row.image.clone(), None),
            state(row),
            health(row),
            (ports(row), None),
        ]);
    }
    if table.is_empty() { Text::default() } else { table.text(color) }
}

fn projects(rows: &[Row], color: bool) -> Text {
    let mut table = Table::new(&["PROJECT", "NAME", "STATE", "HEALTH", "PORTS", "FOLDER"]);
    for row in rows {
        table.row([
            (row.project.clone(), Some(Style::Bold)),
            (row.name.clone(), None),
            state(row),
            health(row),
            (ports(row), None),
            (row.folder.clone(), Some(Style::Dim)),
        ]);
    }
    if table.is_empty() { Text::default() } else { table.text(color) }
}

fn state(row: &Row) -> (String, Option<Style>) {
    let since = |at: Option<u64>| at.map(|at| age(now_ms().saturating_sub(at))).unwrap_or_default();
    let code = row.exit_code.unwrap_or(0);
    match row.state {
        State::Running => (format!("running {}", since(row.status.started_at)), Some(Style::Good)),
        State::Restarting => (format!("restarting (exit {code})"), Some(Style::Change)),
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

fn health(row: &Row) -> (String, Option<Style>) {
    match row.health {
        Health::None => ("-".into(), Some(Style::Dim)),
        Health::Starting => ("starting".into(), Some(Style::Change)),
        Health::Healthy => ("healthy".into(), Some(Style::Good)),
        Health::Unhealthy => ("unhealthy".into(), Some(Style::Bad)),
    }
}

fn ports(row: &Row) -> String {
    let shown: Vec<String> = row
        .ports
        .iter()
        .map(|port| {
            let suffix = if port.protocol == crate::project::Protocol::Udp { "/udp" } else { "" };
            let scheme = if suffix.is_empty() { "http://" } else { "" };
            let address = if port.address == "0.0.0.0" { "127.0.0.1" } else { &port.address };
            // A web page is what most ports are; the address is what to type in any case.
            if matches!(port.to, 80 | 8080 | 5000 | 8000 | 3000) && !scheme.is_empty() {
                format!("{scheme}{address}:{}/", port.port)
            } else {
                format!("{}:{}{suffix}", port.address, port.port)
            }
        })
        .collect();
    match shown.len() {
        0..=3 => shown.join(" "),
        count => format!("{} … {} ({count} ports)", shown[0], shown[count - 1]),
    }
}

fn age(millis: u64) -> String {
    match millis / 1000 {
        0 => format!("{millis} ms"),
        seconds @ 1..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds / 60),
        seconds @ 6000..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

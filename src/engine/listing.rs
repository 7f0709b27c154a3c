//! Lists containers, and tells everything that is known about one.

use crate::instance::Instance;
use crate::model::{Error, Result, time_text};
use crate::monitor::{Health, State, Status};
use crate::plan::{ContainerRecord, JobState};
use crate::project::Protocol;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Which containers are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Running,
    All,
}

impl Which {
    /// Whether a container is one of them.
    pub fn takes(self, row: &Row) -> bool {
        self == Self::All || matches!(row.state, State::Running | State::Restarting | State::Paused)
    }
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
    pub labels: BTreeMap<String, String>,
    pub restarts: u32,
    pub started_at: Option<String>,
    pub exit_code: Option<i32>,
    pub out_of_memory: bool,
    pub error: Option<String>,
    /// Whether it is a job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub job: bool,
    /// Everything that its monitor reports.
    #[serde(skip)]
    pub status: Status,
}

/// A published port as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct PortRow {
    pub address: String,
    pub port: u16,
    pub to: u16,
    pub protocol: Protocol,
    /// Whether it serves web pages, as far as is known.
    pub web: bool,
}

/// The container's ports that mostly serve web pages.
const WEB: [u16; 5] = [80, 8080, 5000, 8000, 3000];

/// Lists the containers of an instance.
///
/// # Errors
/// Fails when the record or the containers' directories cannot be read.
pub fn listing(instance: &Instance, which: Which) -> Result<Vec<Row>> {
    let record = instance.record()?;
    let mut found: Vec<Row> =
        record.containers.iter().map(|(name, container)| row(instance, &record.project, name, Some(container))).collect();
    for name in instance.container_folders()?.iter().filter(|name| !record.containers.contains_key(*name)) {
        found.push(row(instance, &record.project, name, None));
    }
    found.retain(|row| which.takes(row));
    Ok(found)
}

fn row(instance: &Instance, project: &str, name: &str, record: Option<&ContainerRecord>) -> Row {
    let job = record.and_then(|record| record.job);
    // What its monitor reported does not outlive a boot, and the result of a job does.
    let done = || (job == Some(JobState::Done)).then(|| Status { state: State::Exited, exit_code: Some(0), ..Status::default() });
    // A container of which nothing was reported during this boot has only been created. A report that is damaged or cannot be
    // read is another answer: it has an error.
    let status = instance.container(name).status().or_else(done).unwrap_or_default();
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
                        web: port.protocol == Protocol::Tcp && (record.web == Some(port.to) || WEB.contains(&port.to)),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        addresses: record
            .map(|record| record.addresses.iter().map(|(network, address)| (network.to_string(), address.to_string())).collect())
            .unwrap_or_default(),
        labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
        restarts: status.restarts,
        started_at: status.started_at.map(|at| time_text(i64::try_from(at / 1000).unwrap_or(0))),
        exit_code: status.exit_code,
        out_of_memory: status.out_of_memory,
        error: status.error.clone(),
        job: job.is_some(),
        status,
    }
}

/// Everything that is known about containers: how they are listed, what was recorded, what their monitors were told and
/// what they report. Secrets are not included.
///
/// # Errors
/// Fails when a container no longer exists or something cannot be read.
pub fn inspection(instance: &Instance, names: &[String]) -> Result<Vec<Value>> {
    let record = instance.record()?;
    let rows = listing(instance, Which::All)?;
    let one = |name: String| {
        let row = rows.iter().find(|row| row.name == name).ok_or_else(|| Error::new(format!("container {name} is gone")))?;
        let spec = instance.container(&name).spec()?;
        let mut value = serde_json::to_value(row).unwrap_or_default();
        value["record"] = serde_json::to_value(record.containers.get(&name)).unwrap_or_default();
        value["status"] = serde_json::to_value(&row.status).unwrap_or_default();
        value["logs"] = instance.logs(&name).display().to_string().into();
        value["monitor"] = serde_json::to_value(&spec).unwrap_or_default();
        let blueprint = value["monitor"].as_object_mut().and_then(|monitor| monitor.remove("blueprint"));
        value["beyond"] = blueprint.map(|mut blueprint| blueprint["beyond"].take()).unwrap_or_default();
        value["spec"] = spec.map(|spec| spec.blueprint.specification()).unwrap_or_default();
        Ok(value)
    };
    super::replicas(instance, names)?.into_iter().map(one).collect()
}

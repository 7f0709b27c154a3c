//! Operations on a project's volumes: list, snapshot, restore, duplicate, export, import, delete.
//!
//! What changes a volume holds the instance's lock, under which no container is started. A container that only keeps running
//! while its volume is read is held still, so that the copy has one moment of all files.

use super::containers::{Stop, stop};
use crate::instance::{Instance, LoadedProject};
use crate::model::{Error, Name, Result, nearest, time_text};
use crate::monitor::now_ms;
use crate::plan::{InstanceRecord, is_seed};
use crate::project::{MountSource, ReplicaId};
use crate::reconcile::{hold_users, running_users};
use crate::volume::{self, Content, Copied, SnapshotName};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};

/// A volume as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeRow {
    pub project: String,
    pub folder: String,
    pub name: Name,
    /// The bytes that it takes on its disk; `None` if it could not be read.
    pub size: Option<u64>,
    /// The containers that mount it, running or not.
    pub used_by: BTreeSet<String>,
    /// How many snapshots it has, without those that belong to generations.
    pub snapshots: usize,
}

/// A snapshot as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotRow {
    pub project: String,
    pub folder: String,
    pub volume: Name,
    pub snapshot: String,
    /// The bytes that it takes on its disk, also those that it shares; `None` if it could not be read.
    pub size: Option<u64>,
    pub made_at: String,
    /// When it was made, in milliseconds since 1970.
    #[serde(skip)]
    pub made: u64,
}

/// What came of copying a volume.
#[derive(Clone, Debug)]
pub struct VolumeCopy {
    /// The name of what was made.
    pub name: String,
    pub copied: Copied,
    /// The running containers that could not be held still meanwhile.
    pub moving: Vec<String>,
}

/// What happens to running containers that use a volume which is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InUse {
    Refused,
    Stopped,
}

/// What happens to the snapshots of a volume that is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snapshots {
    Kept,
    Deleted,
}

fn project_of(instance: &Instance, record: &InstanceRecord) -> String {
    if record.project.is_empty() { instance.project.clone() } else { record.project.clone() }
}

/// How many snapshots somebody made: the others come and go with their generations.
fn by_hand(snapshots: &[volume::Snapshot]) -> usize {
    snapshots.iter().filter(|snapshot| !snapshot.name.is_of_generation()).count()
}

/// Lists the volumes of an instance.
///
/// # Errors
/// Fails when the record, the volumes or the snapshots cannot be listed.
pub fn volumes(instance: &Instance) -> Result<Vec<VolumeRow>> {
    let record = instance.record()?;
    let row = |name: Name| {
        Ok(VolumeRow {
            project: project_of(instance, &record),
            folder: instance.folder.display().to_string(),
            size: volume::size(&instance.home, &instance.id, &name).ok(),
            used_by: users(instance, &record, &name)?,
            snapshots: by_hand(&volume::snapshots(&instance.home, &instance.id, &name)?),
            name,
        })
    };
    volume::existing(&instance.home, &instance.id)?.into_iter().map(row).collect()
}

/// Lists the snapshots of all volumes of an instance, also of those that are gone.
///
/// # Errors
/// Fails when the record or the snapshots cannot be read.
pub fn volume_snapshots(instance: &Instance) -> Result<Vec<SnapshotRow>> {
    let record = instance.record()?;
    let mut found = Vec::new();
    for name in volume::with_snapshots(&instance.home, &instance.id)? {
        found.extend(snapshot_rows(instance, &record, &name)?);
    }
    Ok(found)
}

fn snapshot_rows(instance: &Instance, record: &InstanceRecord, name: &Name) -> Result<Vec<SnapshotRow>> {
    let (home, id) = (&instance.home, &instance.id);
    let row = |snapshot: volume::Snapshot| SnapshotRow {
        project: project_of(instance, record),
        folder: instance.folder.display().to_string(),
        volume: name.clone(),
        size: volume::open_snapshot(home, id, name, &snapshot.name).ok().and_then(|tree| volume::size_of(&tree).ok()),
        made_at: time_text(snapshot.made),
        made: u64::try_from(snapshot.made).unwrap_or(0).saturating_mul(1000),
        snapshot: snapshot.name.to_string(),
    };
    Ok(volume::snapshots(home, id, name)?.into_iter().map(row).collect())
}

/// Everything that is known about a volume.
///
/// # Errors
/// Fails when there is no such volume, and when something cannot be read.
pub fn inspect_volume(instance: &Instance, typed: &str) -> Result<Value> {
    let name = find(instance, typed)?;
    let record = instance.record()?;
    let users = users(instance, &record, &name)?;
    let used_by = users.iter().map(|user| json!({ "name": user, "running": instance.container(user).alive() }));
    Ok(json!({
        "version": 1,
        "project": project_of(instance, &record),
        "folder": instance.folder.display().to_string(),
        "name": name,
        "path": volume::folder(&instance.home, &instance.id).join(name.as_str()).display().to_string(),
        "size": volume::size(&instance.home, &instance.id, &name)?,
        "used_by": used_by.collect::<Vec<_>>(),
        "snapshots": snapshot_rows(instance, &record, &name)?
            .into_iter()
            .map(|row| json!({ "name": row.snapshot, "size": row.size, "made_at": row.made_at }))
            .collect::<Vec<_>>(),
    }))
}

/// The containers that mount a volume: those on record, running or not, and running ones of `stead run`.
fn users(instance: &Instance, record: &InstanceRecord, name: &Name) -> Result<BTreeSet<String>> {
    let on_record = record.containers.iter().filter(|(_, container)| container.volumes().contains(name));
    let mut found: BTreeSet<String> = on_record.map(|(full, _)| full.clone()).collect();
    found.extend(running_users(instance, name)?);
    Ok(found)
}

fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The volume that a name means.
fn find(instance: &Instance, typed: &str) -> Result<Name> {
    let all = volume::existing(&instance.home, &instance.id)?;
    let unknown = || {
        let none = "`stead up` makes the volumes of stead.kdl";
        unknown(format!("there is no volume \"{typed}\""), typed, all.iter().map(Name::to_string).collect(), none)
    };
    all.get(typed).cloned().ok_or_else(unknown)
}

/// The same, if the volume itself may be gone and only its snapshots are there.
fn find_kept(instance: &Instance, typed: &str) -> Result<Name> {
    match volume::with_snapshots(&instance.home, &instance.id)?.get(typed) {
        Some(name) => Ok(name.clone()),
        None => find(instance, typed),
    }
}

/// The snapshot of a volume that a name means.
fn find_snapshot(instance: &Instance, volume: &Name, typed: &str) -> Result<SnapshotName> {
    let all = volume::snapshots(&instance.home, &instance.id, volume)?;
    let unknown = || {
        let none = format!("it has none; `stead volume snapshot {volume}` makes one");
        let known = all.iter().map(|snapshot| snapshot.name.to_string()).collect();
        unknown(format!("the volume {volume} has no snapshot \"{typed}\""), typed, known, &none)
    };
    all.iter().map(|snapshot| &snapshot.name).find(|name| name.as_str() == typed).cloned().ok_or_else(unknown)
}

/// The error for a name that nothing has.
pub(super) fn unknown(what: String, typed: &str, known: Vec<String>, none: &str) -> Error {
    let error = Error::new(what);
    match nearest(typed, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("perhaps \"{near}\"")),
        None if known.is_empty() => error.hint(none),
        None => error.hint(format!("there are: {}", known.join(", "))),
    }
}

/// Refuses to replace a volume that a running container has: the container would keep the old content.
pub(super) fn refuse_running(instance: &Instance, name: &Name, way: &str) -> Result<()> {
    let running = running_users(instance, name)?;
    if running.is_empty() {
        return Ok(());
    }
    let verb = if running.len() == 1 { "runs" } else { "run" };
    Err(Error::new(format!("the volume {name} is in use: {} {verb} with it", listed(&running))).hint(way))
}

/// Makes a snapshot of a volume. If no name is given, it is the time.
///
/// # Errors
/// Fails when there is no such volume, when the name is taken, and when something cannot be read or written.
pub fn snapshot_volume(instance: &Instance, typed: &str, wanted: Option<&str>) -> Result<VolumeCopy> {
    let parse = |text: &str| SnapshotName::parse(text).map_err(|why| Error::new(format!("\"{text}\": {why}")).usage());
    let wanted = wanted.map(parse).transpose()?;
    if let Some(taken) = wanted.as_ref().filter(|wanted| wanted.is_of_generation()) {
        let error = Error::new(format!("\"{taken}\" is a name for what `up` keeps of a generation")).usage();
        return Err(error.hint("choose another name"));
    }
    if let Some(taken) = wanted.as_ref().filter(|wanted| is_seed(wanted.as_str())) {
        let error = Error::new(format!("\"{taken}\" is a name for what a job has filled a volume with")).usage();
        return Err(error.hint("choose another name: the oldest of those are deleted"));
    }
    let _queue = instance.lock()?;
    let name = find(instance, typed)?;
    let snapshot = match wanted {
        Some(wanted) => wanted,
        None => {
            let taken = volume::snapshots(&instance.home, &instance.id, &name)?;
            let is_free = |text: &String| !taken.iter().any(|snapshot| snapshot.name.as_str() == text);
            let now = time_text(i64::try_from(now_ms() / 1000).unwrap_or(0)).trim_end_matches('Z').replace(':', "-");
            let further = (2..).map(|number: u32| format!("{now}-{number}"));
            let free = std::iter::once(now.clone()).chain(further).find(is_free);
            parse(&free.unwrap_or(now))?
        }
    };
    let (held, moving) = hold_users(instance, &name)?;
    let copied = volume::take(&instance.home, &instance.id, &name, &snapshot, held)?;
    Ok(VolumeCopy { name: snapshot.to_string(), copied, moving })
}

/// Deletes a snapshot of a volume, which may be gone itself.
///
/// # Errors
/// Fails when there is no such snapshot, and when it cannot be deleted.
pub fn delete_snapshot(instance: &Instance, typed: &str, snapshot: &str) -> Result<()> {
    let _queue = instance.lock()?;
    let name = find_kept(instance, typed)?;
    let snapshot = find_snapshot(instance, &name, snapshot)?;
    volume::delete_snapshot(&instance.home, &instance.id, &name, &snapshot)
}

/// Gives a volume the content of one of its snapshots. A volume that is gone is made again. The `project`, if it can be read,
/// tells which containers are stopped first.
///
/// # Errors
/// Fails when there is no such snapshot, when a running container uses the volume and may not be stopped, or cannot be, and
/// when something cannot be read or written. The volume is then as it was, but for what a job has left in it half-way.
pub fn restore_volume(
    instance: &Instance,
    project: Option<&LoadedProject>,
    (typed, snapshot): (&str, &str),
    in_use: InUse,
    stopped: &dyn Fn(&str),
) -> Result<VolumeCopy> {
    let name = find_kept(instance, typed)?;
    let snapshot = find_snapshot(instance, &name, snapshot)?;
    let running: Vec<String> = running_users(instance, &name)?.into_iter().collect();
    // Without names all containers would be stopped.
    if in_use == InUse::Stopped && !running.is_empty() {
        stop(instance, project, &running, Stop::default(), stopped)?;
    }
    let _queue = instance.lock()?;
    refuse_running(instance, &name, "`--stop` stops what uses it; `stead up` starts it again")?;
    discard_half(instance, &name)?;
    let copied = volume::restore(&instance.home, &instance.id, &name, &snapshot)?;
    Ok(VolumeCopy { name: name.to_string(), copied, moving: Vec::new() })
}

/// Deletes what a job has left in a volume that it did not fill to its end, before somebody gives the volume other content: with
/// the mark of the job, the next `up` would delete that. What it deletes first is nobody's. The caller holds the instance's lock.
pub(super) fn discard_half(instance: &Instance, name: &Name) -> Result<()> {
    let mut record = instance.record()?;
    if !record.seeding.contains(name) {
        return Ok(());
    }
    if volume::existing(&instance.home, &instance.id)?.contains(name) {
        volume::remove(&instance.home, &instance.id, name)?;
    }
    record.seeding.remove(name);
    record.serial += 1;
    instance.save(&record)
}

/// Copies a volume to a new one of the same project.
///
/// # Errors
/// Fails when there is no such volume, when the new name is taken, and when something cannot be read or written.
pub fn clone_volume(instance: &Instance, typed: &str, new: &str) -> Result<VolumeCopy> {
    let new = new_name(new)?;
    let _queue = instance.lock()?;
    let name = find(instance, typed)?;
    let (held, moving) = hold_users(instance, &name)?;
    let copied = volume::duplicate(&instance.home, &instance.id, &name, &new, held)?;
    Ok(VolumeCopy { name: new.to_string(), copied, moving })
}

fn new_name(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|why| Error::new(format!("\"{text}\" cannot be the name of a volume: {why}")).usage())
}

/// Writes a volume, or one of its snapshots, as a tar archive. Returns the names of the running containers that could not be
/// held still meanwhile.
///
/// # Errors
/// Fails when there is no such volume or snapshot, and when something cannot be read or written.
pub fn export_volume(
    instance: &Instance,
    typed: &str,
    snapshot: Option<&str>,
    out: &mut (impl Write + Send),
) -> Result<Vec<String>> {
    let (home, id) = (&instance.home, &instance.id);
    if let Some(snapshot) = snapshot {
        let name = find_kept(instance, typed)?;
        let snapshot = find_snapshot(instance, &name, snapshot)?;
        volume::export(&volume::open_snapshot(home, id, &name, &snapshot)?, &name, out)?;
        return Ok(Vec::new());
    }
    let name = find(instance, typed)?;
    let tree = volume::open(home, id, &name)?;
    let (_held, moving) = hold_users(instance, &name)?;
    volume::export(&tree, &name, out)?;
    Ok(moving)
}

/// Gives a volume the content of a tar archive, and makes the volume if it does not exist; returns the number of entries.
///
/// # Errors
/// Fails when the volume has content that may not be replaced, when a running container uses it, when the archive is damaged,
/// and when something cannot be written. The volume is then as it was, but for what a job has left in it half-way.
pub fn import_volume(instance: &Instance, typed: &str, from: impl Read + Send, content: Content) -> Result<u64> {
    let name = new_name(typed)?;
    let _queue = instance.lock()?;
    refuse_running(instance, &name, "`stead stop` stops a container, and `stead up` starts it again")?;
    discard_half(instance, &name)?;
    volume::import(&instance.home, &instance.id, &name, from, content)
}

/// Deletes volumes, or none of them if one is not there or a container mounts it. Reports each with the number of its snapshots
/// that are left.
///
/// # Errors
/// Fails when a volume does not exist, when a container on record mounts it, and when something cannot be deleted.
pub fn remove_volumes(instance: &Instance, typed: &[String], snapshots: Snapshots, removed: &dyn Fn(&Name, usize)) -> Result<()> {
    let (home, id) = (&instance.home, &instance.id);
    let _queue = instance.lock()?;
    let record = instance.record()?;
    let mut names = BTreeSet::new();
    for typed in typed {
        let name = if snapshots == Snapshots::Deleted { find_kept(instance, typed)? } else { find(instance, typed)? };
        let users = users(instance, &record, &name)?;
        if let Some(first) = users.first() {
            let verb = if users.len() == 1 { "mounts" } else { "mount" };
            return Err(Error::new(format!("the volume {name} is in use: {} {verb} it", listed(&users)))
                .hint(format!("`stead rm --force {first}` removes a container, `stead down` all of them; their volumes stay")));
        }
        names.insert(name);
    }
    let existing = volume::existing(home, id)?;
    for name in names {
        discard_half(instance, &name)?;
        if existing.contains(&name) && volume::existing(home, id)?.contains(&name) {
            volume::remove(home, id, &name)?;
        }
        let mut left = volume::snapshots(home, id, &name)?;
        if snapshots == Snapshots::Deleted {
            for snapshot in std::mem::take(&mut left) {
                volume::delete_snapshot(home, id, &name, &snapshot.name)?;
            }
        }
        removed(&name, by_hand(&left));
    }
    Ok(())
}

/// The volumes that the project file does not have and that no container uses. Those of a replica of the project, for what its
/// image declares as data, are not among them, whether it is up or not.
///
/// # Errors
/// Fails as [`volumes`] does.
pub fn unused_volumes(loaded: &LoadedProject) -> Result<Vec<VolumeRow>> {
    let mounts = loaded.project.containers.values().flat_map(|container| &container.mounts);
    let mounted = mounts.filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name),
        MountSource::Bind(_) | MountSource::Image(_) => None,
    });
    let wanted: BTreeSet<&Name> = loaded.project.volumes.keys().chain(mounted).collect();
    let mut all = volumes(&loaded.instance)?;
    let replicas: Vec<String> = loaded
        .project
        .containers
        .iter()
        .flat_map(|(name, container)| ReplicaId::all(name, container.replicas))
        .map(|replica| format!("{replica}-"))
        .collect();
    let is_of_replica = |name: &Name| replicas.iter().any(|replica| name.as_str().starts_with(replica));
    all.retain(|row| !wanted.contains(&row.name) && row.used_by.is_empty() && !is_of_replica(&row.name));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Home;

    #[test]
    fn what_a_job_left_half_way_goes_with_its_mark_and_what_is_whole_stays() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::new(&Home::find(Some(&folder.path().join("root"))), folder.path(), "stead.kdl");
        let volumes = volume::folder(&instance.home, &instance.id);
        let (half, whole, gone) = ("half", "whole", "gone");
        for path in [instance.state(), volumes.join(half), volumes.join(whole)] {
            std::fs::create_dir_all(path).unwrap();
        }
        let name = |text: &str| Name::parse(text).unwrap();
        let mut record = instance.record().unwrap();
        record.seeding = BTreeSet::from([name(half), name(gone)]);
        instance.save(&record).unwrap();
        for one in [half, whole, gone] {
            discard_half(&instance, &name(one)).unwrap();
        }
        assert_eq!(volume::existing(&instance.home, &instance.id).unwrap(), BTreeSet::from([name(whole)]));
        assert!(instance.record().unwrap().seeding.is_empty());
    }
}

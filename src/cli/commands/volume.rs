use super::super::Context;
use super::super::cells::age;
use super::super::ui::{Style, Table, Text};
use super::files::write_archive;
use crate::engine::{self, Answer, InUse, Instance, Reset, SnapshotRow, Snapshots, VolumeCopy, VolumeRow};
use crate::model::{Context as _, Error, Result, Size};
use crate::monitor::now_ms;
use crate::volume::{Content, How};
use clap::Subcommand;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Lists, copies, restores and deletes volumes.
///
/// `up` makes the volumes that stead.kdl declares. Containers that use a volume are held still while it is copied.
///
/// Example: stead volume snapshot data before-upgrade
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists the volumes of this project.
    Ls(List),
    /// Prints everything that is known about a volume as JSON, with its snapshots.
    Inspect {
        /// The volume.
        name: String,
    },
    /// Deletes volumes that no container mounts.
    Rm {
        /// Delete their snapshots, too.
        #[arg(long)]
        snapshots: bool,
        /// The volumes.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Deletes the volumes that are neither in the project file nor used by a container.
    ///
    /// A volume that only a profile declares counts as not in the file, unless the profile is given with --profile.
    Prune {
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Makes a snapshot of a volume: a copy as it is now, which shares its bytes where the file system can do that.
    ///
    /// Example: stead volume snapshot data before-upgrade
    Snapshot {
        /// Delete this snapshot instead.
        #[arg(long, requires = "snapshot")]
        delete: bool,
        /// The volume.
        name: String,
        /// The name of the snapshot; the time if not given.
        snapshot: Option<String>,
    },
    /// Gives a volume the content of a snapshot. What is in the volume now is deleted.
    ///
    /// Example: stead volume restore data before-upgrade --stop && stead up
    Restore {
        /// Stop the containers that use the volume; `stead up` starts them again.
        #[arg(long)]
        stop: bool,
        /// The volume.
        name: String,
        /// The snapshot; `stead volume ls --snapshots` lists them.
        snapshot: String,
    },
    /// Gives a volume the state again that its job gave it (`seed` in the project file). What is in the volume now is deleted.
    ///
    /// If that state is not kept, because the job or its inputs are others now, the volume is deleted, and `up` fills a new one.
    ///
    /// Example: stead volume reset db --stop && stead up
    Reset {
        /// Stop the containers that use the volume; `stead up` starts them again.
        #[arg(long)]
        stop: bool,
        /// The volume.
        name: String,
    },
    /// Copies a volume to a new one of this project.
    Clone {
        /// The volume.
        name: String,
        /// The name of the new one.
        new: String,
    },
    /// Writes a volume as a tar archive, with owners, permissions, links and capabilities.
    ///
    /// Of other extended attributes and of holes in files, an archive keeps nothing; snapshots do.
    ///
    /// Example: stead volume export data -o data.tar
    Export {
        /// The file to write; standard output if not given.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write this snapshot instead of what is in the volume now.
        #[arg(long, value_name = "SNAPSHOT")]
        snapshot: Option<String>,
        /// The volume.
        name: String,
    },
    /// Fills a new or empty volume from a tar archive, plain or compressed.
    ///
    /// Example: stead volume import data data.tar
    Import {
        /// Delete what is in the volume.
        #[arg(long)]
        replace: bool,
        /// The volume.
        name: String,
        /// The archive; standard input if not given.
        archive: Option<PathBuf>,
    },
}

/// What is listed.
#[derive(clap::Args, Debug)]
struct List {
    /// List the volumes of all projects of this installation.
    #[arg(short, long)]
    all: bool,
    /// List snapshots, one on a line.
    #[arg(long)]
    snapshots: bool,
    /// Print a JSON object with the list `volumes`, or `snapshots`.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    match &arguments.what {
        What::Ls(list) if list.snapshots => list_snapshots(list, context)?,
        What::Ls(list) => list_volumes(list, context)?,
        What::Inspect { name } => context.ui.json(&engine::inspect_volume(&context.instance()?, name)?),
        What::Rm { snapshots, names } => {
            remove(names, if *snapshots { Snapshots::Deleted } else { Snapshots::Kept }, &context.instance()?, context)?;
        }
        What::Prune { yes } => return prune(*yes, context),
        What::Snapshot { delete: true, name, snapshot: Some(snapshot) } => {
            engine::delete_snapshot(&context.instance()?, name, snapshot)?;
            context.ui.say(format!("deleted the snapshot {snapshot} of the volume {name}"));
        }
        What::Snapshot { name, snapshot, .. } => {
            let made = engine::snapshot_volume(&context.instance()?, name, snapshot.as_deref())?;
            context.ui.result(&made.name);
            tell(&made, started, context);
        }
        What::Restore { stop, name, snapshot } => {
            let in_use = if *stop { InUse::Stopped } else { InUse::Refused };
            restore((name.as_str(), snapshot.as_str()), in_use, started, context)?;
        }
        What::Reset { stop, name } => {
            let in_use = if *stop { InUse::Stopped } else { InUse::Refused };
            reset(name, in_use, started, context)?;
        }
        What::Clone { name, new } => {
            let made = engine::clone_volume(&context.instance()?, name, new)?;
            context.ui.result(&made.name);
            tell(&made, started, context);
        }
        What::Export { output, snapshot, name } => {
            let (instance, with_file) = (context.instance()?, "stead volume export NAME -o FILE");
            let moving = write_archive(output.as_deref(), with_file, |mut out| {
                engine::export_volume(&instance, name, snapshot.as_deref(), &mut out)
            })?;
            warn_of_moving(&moving, context);
        }
        What::Import { replace, name, archive } => {
            let content = if *replace { Content::Replaced } else { Content::Refused };
            let entries = engine::import_volume(&context.instance()?, name, opened(archive.as_deref())?, content)?;
            context.ui.say(format!("imported {entries} entries into the volume {name} ({})", engine::since(started)));
        }
    }
    Ok(0)
}

/// The archive that is imported.
fn opened(path: Option<&Path>) -> Result<Box<dyn Read + Send>> {
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => Ok(Box::new(File::open(path).context(|| format!("cannot open {}", path.display()))?)),
        None if std::io::stdin().is_terminal() => {
            Err(Error::new("no archive is given").hint("type `stead volume import NAME FILE`").usage())
        }
        None => Ok(Box::new(std::io::stdin())),
    }
}

/// The projects whose volumes are listed.
fn chosen(list: &List, context: &Context) -> Result<Vec<Instance>> {
    if !list.all {
        return Ok(vec![context.instance()?]);
    }
    Ok(engine::all_instances(&context.options.home)?.into_iter().map(|(instance, _)| instance).collect())
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".into(), |bytes| Size(bytes).to_string())
}

fn list_volumes(list: &List, context: &Context) -> Result<()> {
    let rows = chosen(list, context)?.iter().map(engine::volumes).collect::<Result<Vec<_>>>()?.concat();
    if list.json {
        context.ui.json(&serde_json::json!({ "version": 1, "volumes": rows }));
        return Ok(());
    }
    let table = if list.all { all_volumes(&rows) } else { volumes(&rows) };
    if !table.is_empty() {
        context.ui.result(table.text(&context.ui));
    }
    Ok(())
}

/// The containers that use a volume, in one cell.
fn users(row: &VolumeRow) -> String {
    if row.used_by.is_empty() { "-".into() } else { row.used_by.iter().map(String::as_str).collect::<Vec<_>>().join(" ") }
}

fn volumes(rows: &[VolumeRow]) -> Table {
    let mut table = Table::new(&["NAME", "SIZE", "USED BY", "SNAPSHOTS"], &["SNAPSHOTS"]);
    for row in rows {
        table.row([
            (row.name.to_string(), Some(Style::Bold)),
            (size(row.size), None),
            (users(row), None),
            (row.snapshots.to_string(), None),
        ]);
    }
    table
}

fn all_volumes(rows: &[VolumeRow]) -> Table {
    let mut table = Table::new(&["PROJECT", "NAME", "SIZE", "USED BY", "SNAPSHOTS", "DIRECTORY"], &["SNAPSHOTS", "USED BY"]);
    for row in rows {
        table.row([
            (row.project.clone(), Some(Style::Bold)),
            (row.name.to_string(), None),
            (size(row.size), None),
            (users(row), None),
            (row.snapshots.to_string(), None),
            (row.folder.clone(), Some(Style::Dim)),
        ]);
    }
    table
}

fn list_snapshots(list: &List, context: &Context) -> Result<()> {
    let rows = chosen(list, context)?.iter().map(engine::volume_snapshots).collect::<Result<Vec<_>>>()?.concat();
    if list.json {
        context.ui.json(&serde_json::json!({ "version": 1, "snapshots": rows }));
        return Ok(());
    }
    let table = if list.all { all_snapshots(&rows) } else { snapshots(&rows) };
    if !table.is_empty() {
        context.ui.result(table.text(&context.ui));
    }
    Ok(())
}

/// How long ago a snapshot was made.
fn since(row: &SnapshotRow) -> String {
    age(now_ms().saturating_sub(row.made))
}

fn snapshots(rows: &[SnapshotRow]) -> Table {
    let mut table = Table::new(&["VOLUME", "SNAPSHOT", "SIZE", "AGE"], &["SIZE"]);
    for row in rows {
        table.row([
            (row.volume.to_string(), Some(Style::Bold)),
            (row.snapshot.clone(), None),
            (size(row.size), None),
            (since(row), None),
        ]);
    }
    table
}

fn all_snapshots(rows: &[SnapshotRow]) -> Table {
    let mut table = Table::new(&["PROJECT", "VOLUME", "SNAPSHOT", "SIZE", "AGE", "DIRECTORY"], &["SIZE", "AGE"]);
    for row in rows {
        table.row([
            (row.project.clone(), Some(Style::Bold)),
            (row.volume.to_string(), None),
            (row.snapshot.clone(), None),
            (size(row.size), None),
            (since(row), None),
            (row.folder.clone(), Some(Style::Dim)),
        ]);
    }
    table
}

/// Tells how a copy was made.
fn tell(made: &VolumeCopy, started: Instant, context: &Context) {
    let how = match made.copied.how {
        How::Cloned => "cloned",
        How::Copied => "copied",
    };
    let text = format!("{how} {} in {}", Size(made.copied.bytes), engine::since(started));
    context.ui.say(Style::Dim.paint(text, context.ui.color_err));
    match made.copied.devices {
        0 => {}
        1 => context.ui.warn("a device was left out: a container gets its devices from `device` in stead.kdl"),
        count => {
            context.ui.warn(&format!("{count} devices were left out: a container gets its devices from `device` in stead.kdl"))
        }
    }
    warn_of_moving(&made.moving, context);
}

fn warn_of_moving(moving: &[String], context: &Context) {
    if !moving.is_empty() {
        let names = moving.join(", ");
        context.ui.warn(&format!("{names} could not be held still: what it wrote meanwhile may be there in part"));
    }
}

fn restore((name, snapshot): (&str, &str), in_use: InUse, started: Instant, context: &Context) -> Result<()> {
    let instance = context.instance()?;
    // Containers can be stopped even if the project file is broken or missing.
    let loaded = engine::load(&context.options, false).ok();
    let stopped = |name: &str| context.ui.say(format!("stopped {name}; `stead up` starts it again"));
    let made = engine::restore_volume(&instance, loaded.as_ref(), (name, snapshot), in_use, &stopped)?;
    context.ui.say(format!("the volume {name} has the content of {snapshot} again"));
    tell(&made, started, context);
    Ok(())
}

fn reset(name: &str, in_use: InUse, started: Instant, context: &Context) -> Result<()> {
    let loaded = context.project_dry()?;
    let stopped = |name: &str| context.ui.say(format!("stopped {name}; `stead up` starts it again"));
    match engine::reset_volume(&loaded, name, in_use, &stopped)? {
        Reset::Seeded(made) => {
            context.ui.say(format!("the volume {name} is as its job left it again"));
            tell(&made, started, context);
            if made.copied.how == How::Copied && made.copied.bytes > 0 {
                context.ui.say("its file system cannot share the bytes of files, so that was a copy; btrfs and xfs can");
            }
        }
        Reset::Emptied { job } => {
            let why = format!("what the job {job} makes now is not kept");
            context.ui.say(format!("deleted the volume {name}: {why}; `stead up` fills it"));
        }
    }
    Ok(())
}

fn remove(names: &[String], snapshots: Snapshots, instance: &Instance, context: &Context) -> Result<()> {
    engine::remove_volumes(instance, names, snapshots, &|name, left| {
        let kept = match left {
            0 => String::new(),
            1 => format!("; its snapshot is kept (`stead volume rm --snapshots {name}` deletes it)"),
            left => format!("; its {left} snapshots are kept (`stead volume rm --snapshots {name}` deletes them)"),
        };
        context.ui.say(format!("deleted the volume {name}{kept}"));
    })
}

fn prune(yes: bool, context: &Context) -> Result<u8> {
    let loaded = context.project_dry()?;
    let unused = engine::unused_volumes(&loaded)?;
    if unused.is_empty() {
        context.ui.say("there is no volume that is neither in the project file nor used by a container");
        return Ok(0);
    }
    for row in &unused {
        context.ui.result(Text::line(&format!("{} {}", row.name, size(row.size))));
    }
    let question = match unused.len() {
        1 => "Delete this volume, with all the data in it?",
        _ => "Delete these volumes, with all the data in them?",
    };
    let answer = if yes { Answer::Yes } else { context.ui.confirm(question) };
    match answer {
        Answer::Yes => {}
        Answer::No => {
            context.ui.say("nothing was deleted");
            return Ok(1);
        }
        Answer::Nobody => {
            return Err(Error::new("there is no terminal to ask on, so nothing was deleted")
                .hint("`stead volume prune --yes` deletes what is listed"));
        }
    }
    let names: Vec<String> = unused.iter().map(|row| row.name.to_string()).collect();
    remove(&names, Snapshots::Kept, &loaded.instance, context)?;
    Ok(0)
}

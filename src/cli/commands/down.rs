use super::super::Context;
use super::super::ui::Style;
use super::super::waiting::while_ending;
use crate::engine::{self, DownOptions, Instance, LoadedProject, Options};
use crate::model::{Name, Result};
use std::time::Instant;

/// Removes the environment: containers, networks and their records. Logs, history, images and volumes stay.
///
/// Example: stead down
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Delete the volumes, too, with all the data in them and their snapshots.
    #[arg(short, long)]
    volumes: bool,
    /// Take down the project with this ID instead, also when its directory is gone; `stead ps --projects` lists the IDs.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

/// Takes the environment here down; its volumes stay.
pub fn all(context: &Context) -> Result<u8> {
    run(&Arguments { volumes: false, project: None }, context)
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    let (instance, loaded) = match &arguments.project {
        Some(typed) => by_id(typed, context)?,
        None => here(context)?,
    };
    let options = DownOptions { volumes: arguments.volumes, ..DownOptions::default() };
    let names = instance.container_folders()?;
    let changes = while_ending(context, &instance, &names, || {
        engine::down(&instance, loaded.as_ref().map(|loaded| &loaded.project), options)
    })?;
    let text = match changes.len() {
        0 => "nothing is up".to_owned(),
        count => format!("down: {count} removed ({})", engine::since(started)),
    };
    context.ui.say(Style::Dim.paint(text, context.ui.color_err));
    if arguments.project.is_some() && !arguments.volumes {
        let volumes = crate::volume::existing(&instance.home, &instance.id)?;
        let names: Vec<&str> = volumes.iter().map(Name::as_str).collect();
        if !names.is_empty() {
            let how = format!("`stead down --project {} --volumes` deletes them", instance.id);
            context.ui.say(format!("volumes stay, with their data: {}; {how}", names.join(", ")));
        }
    }
    Ok(0)
}

/// The project here. Containers must be removable even if the project file is broken or missing.
fn here(context: &Context) -> Result<(Instance, Option<LoadedProject>)> {
    match engine::load(&context.options, false) {
        Ok(loaded) => Ok((loaded.instance.clone(), Some(loaded))),
        Err(_) => Ok((context.instance()?, None)),
    }
}

/// The project with an ID. If its file can be read, that gives the order.
fn by_id(typed: &str, context: &Context) -> Result<(Instance, Option<LoadedProject>)> {
    let instance = engine::find_project(&context.options.home, typed)?;
    let options = Options { file: instance.file.clone(), ..context.at(instance.folder.clone()).options };
    let loaded = engine::load(&options, false).ok().filter(|loaded| loaded.instance.id == instance.id);
    Ok((instance, loaded))
}

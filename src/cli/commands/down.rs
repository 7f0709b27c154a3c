use super::super::Context;
use super::super::ui::Style;
use super::super::waiting::while_ending;
use crate::engine::{self, DownOptions};
use crate::model::Result;
use std::time::Instant;

/// Removes the environment: containers, networks and their records. Logs, history, images and volumes stay.
///
/// Example: stead down
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Delete the volumes, too, with all the data in them and their snapshots.
    #[arg(short, long)]
    volumes: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    // Containers must be removable even if the project file is broken or missing.
    let loaded = engine::load(&context.options, false).ok();
    let instance = match &loaded {
        Some(loaded) => loaded.instance.clone(),
        None => context.instance()?,
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
    Ok(0)
}

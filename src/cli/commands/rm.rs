use super::super::Context;
use crate::engine;
use crate::model::Result;

/// Removes containers and what they wrote; `up` creates those of the project file again.
///
/// Example: stead rm --force web-2
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Also remove running containers; they are stopped first.
    #[arg(short, long)]
    force: bool,
    /// Stop running containers first; the same as --force.
    #[arg(short, long)]
    stop: bool,
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let force = arguments.force || arguments.stop;
    engine::remove(&context.instance()?, &arguments.names, force, &|name| context.ui.say(format!("removed {name}")))?;
    Ok(0)
}

use super::super::Context;
use crate::engine;
use crate::model::Result;

/// Waits until the commands of containers end, and prints their exit statuses.
///
/// Example: stead wait migrate
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let last = engine::wait(&context.instance()?, &arguments.names, &|status| context.ui.result(status.to_string()))?;
    Ok(if arguments.names.len() == 1 { u8::try_from(last).unwrap_or(1) } else { 0 })
}

use super::super::Context;
use crate::engine;
use crate::model::Result;

/// Sends a signal to the first process of containers.
///
/// Example: stead kill -s HUP web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The signal, by name or number.
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    engine::kill(&context.instance()?, &arguments.names, &arguments.signal)?;
    Ok(0)
}

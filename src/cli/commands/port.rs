use super::super::Context;
use crate::engine::{self, Published};
use crate::model::Result;

/// Lists the published ports of a container, or where one of its ports is published.
///
/// Example: stead port web 5000
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The container or replica.
    name: String,
    /// A port of the container; a UDP port is written as in 53/udp.
    port: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let found = engine::published(&context.instance()?, &arguments.name, arguments.port.as_deref())?;
    let line = |one: Published| match arguments.port {
        Some(_) => one.outer,
        None => format!("{} -> {}", one.inner, one.outer),
    };
    let lines: Vec<String> = found.into_iter().map(line).collect();
    context.ui.result(lines.join("\n"));
    Ok(0)
}

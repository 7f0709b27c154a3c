use super::super::Context;
use super::super::ui::{Style, Table};
use crate::engine;
use crate::model::Result;

/// Lists the processes in containers.
///
/// PID is the process ID on the host, INSIDE is the process ID in the container.
///
/// Example: stead top web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let mut table = Table::new(
        &["CONTAINER", "PID", "INSIDE", "USER", "STATE", "TIME", "RSS", "COMMAND"],
        &["INSIDE", "TIME", "STATE", "RSS"],
    );
    for (name, processes) in engine::processes(&instance, &arguments.names)? {
        for process in processes {
            table.row([
                (name.clone(), Some(Style::Bold)),
                (process.pid.to_string(), None),
                (process.inside, None),
                (process.user, None),
                (process.state, None),
                (process.time, None),
                (process.memory, None),
                (process.command, None),
            ]);
        }
    }
    context.ui.result(table.text(&context.ui));
    Ok(0)
}

/// A process in one line, as runc's `ps` shows it.
pub fn line(pid: i32) -> Option<String> {
    let process = engine::process(pid)?;
    Some(format!("{:<8} {pid:>7}  {}", process.user, process.command))
}

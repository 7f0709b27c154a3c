use super::super::Context;
use super::super::ui::{Style, Table};
use super::containers::replicas;
use crate::model::Result;
use crate::runtime::{self, Cgroup};
use std::fs;

/// Lists the processes in containers.
///
/// PID is the number on the host, INSIDE that in the container.
///
/// Example: stead top web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let host = runtime::host();
    let mut table = Table::new(&["CONTAINER", "PID", "INSIDE", "USER", "STATE", "TIME", "RSS", "COMMAND"]);
    for name in replicas(&instance, &arguments.names)? {
        let mut pids = Cgroup::open(host, &instance.cgroup(&name)).processes();
        pids.sort_unstable();
        for pid in pids {
            let Some(process) = process(pid) else { continue };
            table.row([
                (name.clone(), Some(Style::Bold)),
                (pid.to_string(), None),
                (process.inside, None),
                (process.user, None),
                (process.state, None),
                (process.time, None),
                (process.memory, None),
                (process.command, None),
            ]);
        }
    }
    context.ui.result(table.text(context.ui.color_out));
    Ok(0)
}

/// A process in one line, as runc's `ps` shows it.
pub fn line(pid: i32) -> Option<String> {
    let process = process(pid)?;
    Some(format!("{:<8} {pid:>7}  {}", process.user, process.command))
}

struct Process {
    inside: String,
    user: String,
    state: String,
    time: String,
    memory: String,
    command: String,
}

/// What /proc says of a process; nothing of one that is gone, or of our own guard.
fn process(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    let inside: Vec<String> = value("NSpid:").split_whitespace().map(str::to_owned).collect();
    // The guard has no number in the container's own namespace, or is its init.
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    if command == "stead init" && inside.len() < 3 && inside.len() > 1 {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let seconds = ticks / 100;
    Some(Process {
        inside: inside.last().cloned().unwrap_or_default(),
        user: value("Uid:").split_whitespace().nth(1).unwrap_or_default().to_owned(),
        state: value("State:").split(' ').next().unwrap_or_default().to_owned(),
        time: format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        memory: value("VmRSS:"),
        command: if command.is_empty() { format!("[{}]", value("Name:")) } else { command },
    })
}

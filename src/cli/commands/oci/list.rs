//! `stead oci list` and `stead oci ps`: containers, and the processes of a container.

use crate::cli::ui::{Table, Ui};
use crate::model::{Error, Result};
use crate::oci::{Container, Status};

/// Prints the containers.
pub fn containers(all: &[Container], format: &str, quiet: bool, ui: &Ui) {
    if quiet {
        ui.result(all.iter().map(|container| container.id.as_str()).collect::<Vec<_>>().join("\n"));
    } else if format == "json" {
        let states: Vec<_> = all.iter().map(|container| container.state(container.status())).collect();
        ui.json_text(if states.is_empty() { "null".into() } else { serde_json::to_string(&states).unwrap_or_default() });
    } else {
        let mut table = Table::new(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &[]);
        for container in all {
            let status = container.status();
            let pid = if status == Status::Stopped { 0 } else { container.pid };
            let bundle = container.bundle.display().to_string();
            table.row([
                (container.id.clone(), None),
                (pid.to_string(), None),
                (status.to_string(), None),
                (bundle, None),
                (container.created.clone(), None),
                ("root".into(), None),
            ]);
        }
        ui.result(table.plain());
    }
}

/// The lines of the host's ps(1) about these processes, as in runc; if there is no ps, a list of our own.
pub fn processes(pids: &[i32], options: &[String]) -> Result<String> {
    let options = if options.is_empty() { vec!["-ef".to_owned()] } else { options.to_vec() };
    let Ok(output) = std::process::Command::new("ps").args(&options).output() else {
        let lines: Vec<String> = pids.iter().filter_map(|pid| crate::cli::commands::top::line(*pid)).collect();
        return Ok(format!("UID          PID  CMD\n{}", lines.join("\n")));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles = lines.next().unwrap_or_default();
    let column = titles.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::new(format!("ps {} shows no PID", options.join(" "))))?;
    let ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(titles).chain(lines.filter(ours)).collect::<Vec<_>>().join("\n"))
}

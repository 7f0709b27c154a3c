use super::super::Context;
use crate::engine::{self, read_history};
use crate::model::{Error, Name, Result, visible_line};
use crate::plan::Change;
use crate::project::ReplicaId;

/// Explains why something would be changed, or why it was last changed.
///
/// Example: stead why web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A container, image, network or volume.
    name: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project_dry()?;
    let meant = |change: &&Change| ReplicaId::is_of(&change.name, &arguments.name);
    let planned = engine::plan_only(&loaded)?;
    let pending: Vec<&Change> = planned.plan.changes().filter(meant).collect();
    if !pending.is_empty() {
        context.ui.result(format!("`up` would change {}:\n{}", arguments.name, causes(&pending)));
        return Ok(0);
    }
    for entry in read_history(&loaded.instance).iter().rev() {
        let changes: Vec<&Change> = entry.changes.iter().filter(meant).collect();
        if !changes.is_empty() {
            let at = crate::model::time_text(i64::try_from(entry.at / 1000).unwrap_or(0));
            context.ui.result(format!("`{}` at {at} changed {}:\n{}", entry.command, arguments.name, causes(&changes)));
            return Ok(0);
        }
    }
    let unused = |name: &&Name| !loaded.project.containers.values().any(|container| container.image == **name);
    if let Some(name) = loaded.project.images.keys().find(|name| name.as_str() == arguments.name).filter(unused) {
        context.ui.result(format!("`up` would not change {name}: no container uses it; `stead build {name}` makes it\n"));
        return Ok(0);
    }
    Err(Error::new(format!("nothing is known about \"{}\"", arguments.name)).hint("`stead status` lists what there is"))
}

fn causes(changes: &[&Change]) -> String {
    let lines = changes.iter().flat_map(|change| change.causes.iter().map(move |cause| (change, cause)));
    lines
        .map(|(change, cause)| {
            let place = cause.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
            format!("  {}\n", visible_line(&format!("{} ← {}{place}", change.name, cause.text)))
        })
        .collect()
}

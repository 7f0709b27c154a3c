use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, BootUnit, UpOptions};
use crate::model::Result;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Starts the project's containers when the machine boots, with a systemd unit.
///
/// It starts the containers with `restart "always"`, those with "unless-stopped" that were not stopped by hand,
/// and what these depend on; it works offline, and as the lock says.
///
/// Example: stead boot enable
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The directory of the units.
    #[arg(long, hide = true, global = true, default_value = "/etc/systemd/system")]
    units: PathBuf,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Writes the unit and enables it, so that it is started at every boot.
    Enable,
    /// Removes the unit.
    Disable,
    /// Prints the unit.
    Show,
    /// Does what the unit does at boot.
    Start,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let unit = BootUnit::of(&loaded, &context.options, &arguments.units);
    match arguments.action {
        Action::Show => context.ui.result(unit.text()?),
        Action::Enable => {
            let written = unit.enable(&Shown::new(&context.ui, false))?;
            context.ui.say(format!("wrote {}", written.display()));
            if !engine::comes_up_at_boot(&loaded.project) {
                context.ui.warn("no container has `restart \"always\"` or \"unless-stopped\", so none will be started");
            }
            reload(context);
        }
        Action::Disable => {
            let removed = unit.disable()?;
            context.ui.say(removed.map_or("it was not enabled".into(), |unit| format!("removed {}", unit.display())));
            reload(context);
        }
        Action::Start => {
            let options = UpOptions { allow: Allow::default().kinds()?, ..UpOptions::default() };
            return super::converge::converge(&loaded.instance, context, Instant::now(), |reporter| {
                engine::boot(&loaded, options, reporter)
            });
        }
    }
    Ok(0)
}

fn reload(context: &Context) {
    if Path::new("/run/systemd/system").exists() {
        context.ui.say("type `systemctl daemon-reload`, so that systemd notices the change");
    }
}

use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::{Context as _, Error, Name, Result};
use crate::project::{ReplicaId, Restart};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

/// Lets the project's containers come up when the machine boots, by a systemd unit.
///
/// Started are those with `restart "always"`, and those with "unless-stopped" that nobody stopped,
/// with what they depend on; offline, and as the lock says.
///
/// Example: stead boot enable
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Where units are.
    #[arg(long, hide = true, global = true, default_value = "/etc/systemd/system")]
    units: PathBuf,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Writes the unit, and has it started at every boot.
    Enable,
    /// Removes the unit.
    Disable,
    /// Prints the unit.
    Show,
    /// What the unit does at a boot.
    Start,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let name = format!("stead-{}-{}.service", loaded.project.name, loaded.instance.id);
    let (unit, link) = (arguments.units.join(&name), arguments.units.join("multi-user.target.wants").join(&name));
    match arguments.action {
        Action::Show => context.ui.result(text(&loaded.project.name, &loaded.instance.folder, context)?),
        Action::Enable => {
            // At a boot there is nobody to ask.
            let options = UpOptions { command: "boot enable".into(), ..UpOptions::default() };
            engine::agree(&loaded, &BTreeSet::new(), &options, &Shown::new(&context.ui, false))?;
            let text = text(&loaded.project.name, &loaded.instance.folder, context)?;
            let wants = arguments.units.join("multi-user.target.wants");
            fs::create_dir_all(&wants).context(|| format!("cannot make {}", wants.display()))?;
            crate::sys::write_lasting(&unit, text.as_bytes(), 0o644).context(|| format!("cannot write {}", unit.display()))?;
            remove(&link)?;
            symlink(Path::new("..").join(&name), &link).context(|| format!("cannot make {}", link.display()))?;
            context.ui.say(format!("wrote {}", unit.display()));
            if loaded.project.containers.values().all(|container| !at_boot(container.restart)) {
                context.ui.warn("no container has `restart \"always\"` or \"unless-stopped\", so none will be started");
            }
            reload(context);
        }
        Action::Disable => {
            // The link first: what is left if the unit cannot be removed is one that no boot starts.
            remove(&link)?;
            let had = remove(&unit)?;
            context.ui.say(if had { format!("removed {}", unit.display()) } else { "it was not enabled".into() });
            reload(context);
        }
        Action::Start => {
            let stopped = loaded.instance.record()?.stopped;
            let mut only: BTreeSet<Name> = BTreeSet::new();
            for (name, container) in loaded.project.containers.iter().filter(|(_, container)| at_boot(container.restart)) {
                let by_hand = |replica: ReplicaId| stopped.contains(&replica.to_string());
                if container.restart != Restart::UnlessStopped || !ReplicaId::all(name, container.replicas).all(by_hand) {
                    only.insert(name.clone());
                }
            }
            // What they depend on comes along.
            let mut queue: Vec<Name> = only.iter().cloned().collect();
            while let Some(name) = queue.pop() {
                for needed in loaded.project.containers.get(&name).into_iter().flat_map(|container| container.depends_on.keys()) {
                    if only.insert(needed.clone()) {
                        queue.push(needed.clone());
                    }
                }
            }
            if only.is_empty() {
                return Ok(0);
            }
            let allow = Allow::default().kinds()?;
            let command = "boot start".into();
            let options = UpOptions { only, frozen: true, offline: true, allow, command, ..UpOptions::default() };
            return super::converge::converge(&loaded.instance, context, Instant::now(), |reporter| {
                engine::up(&loaded, &options, reporter)
            });
        }
    }
    Ok(0)
}

/// Removes a file, and tells whether there was one.
fn remove(file: &Path) -> Result<bool> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true).context(|| format!("cannot remove {}", file.display())),
    }
}

fn at_boot(restart: Restart) -> bool {
    matches!(restart, Restart::Always | Restart::UnlessStopped)
}

fn reload(context: &Context) {
    if Path::new("/run/systemd/system").exists() {
        context.ui.say("type `systemctl daemon-reload`, so that systemd knows it");
    }
}

/// The unit. The command ends while monitors stay, which is what `RemainAfterExit` is for; at a stop
/// containers end in order first, and what is left then is killed (systemd.kill(5), KillMode).
fn text(project: &Name, folder: &Path, context: &Context) -> Result<String> {
    let program = std::env::current_exe().context(|| "cannot tell where this program is".into())?;
    let quoted = |path: &Path| -> Result<String> {
        let text = path.to_str().filter(|text| !text.contains(['"', '\\', '\n']));
        let text = text.ok_or_else(|| Error::new(format!("{} cannot be written in a unit", path.display())))?;
        // A percent sign begins a specifier (systemd.unit(5)).
        Ok(format!("\"{}\"", text.replace('%', "%%")))
    };
    let root = std::env::var_os("STEAD_ROOT").map(PathBuf::from);
    let root = root.map(|root| quoted(&root).map(|root| format!("Environment=STEAD_ROOT={root}\n"))).transpose()?;
    let base = format!("{} -C {} -f {}", quoted(&program)?, quoted(folder)?, quoted(Path::new(&context.options.file))?);
    Ok(format!(
        "# Written by `stead boot enable`; `stead boot disable` removes it.\n\
         [Unit]\nDescription=stead: {project}\nAfter=network.target local-fs.target\nRequiresMountsFor={}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nKillMode=mixed\nDelegate=yes\n{}\
         ExecStart={base} boot start\nExecStop={base} stop --keep\nTimeoutStopSec=120\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        quoted(folder)?,
        root.unwrap_or_default(),
    ))
}

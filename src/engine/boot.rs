//! Starts projects when the machine boots: there is a systemd unit for each project.

use super::{Converged, LoadedProject, Options, Reporter, UpOptions, agree, up};
use crate::model::{Context, Error, Name, Result};
use crate::project::{Project, ReplicaId, Restart};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A project's unit.
pub struct BootUnit<'a> {
    loaded: &'a LoadedProject,
    options: &'a Options,
    name: String,
    units: &'a Path,
}

impl<'a> BootUnit<'a> {
    /// The unit of a project, in a directory of units.
    pub fn of(loaded: &'a LoadedProject, options: &'a Options, units: &'a Path) -> Self {
        let name = format!("stead-{}-{}.service", loaded.project.name, loaded.instance.id);
        Self { loaded, options, name, units }
    }

    fn link(&self) -> PathBuf {
        self.units.join("multi-user.target.wants").join(&self.name)
    }

    /// Writes the unit and enables it, so that it is started at every boot; returns its path. Consent to what the
    /// project asks for beyond its directory is needed now, because at boot there is nobody to ask.
    ///
    /// # Errors
    /// Fails without that consent, and when a file cannot be written.
    pub fn enable(&self, reporter: &dyn Reporter) -> Result<PathBuf> {
        let options = UpOptions { command: "boot enable".into(), ..UpOptions::default() };
        agree(self.loaded, &BTreeSet::new(), &options, reporter)?;
        let (unit, link) = (self.units.join(&self.name), self.link());
        let wants = self.units.join("multi-user.target.wants");
        fs::create_dir_all(&wants).context(|| format!("cannot make {}", wants.display()))?;
        sys::write_lasting(&unit, self.text()?.as_bytes(), 0o644).context(|| format!("cannot write {}", unit.display()))?;
        remove(&link)?;
        symlink(Path::new("..").join(&self.name), &link).context(|| format!("cannot make {}", link.display()))?;
        Ok(unit)
    }

    /// Removes the unit; returns its path if there was one.
    ///
    /// # Errors
    /// Fails when a file cannot be removed.
    pub fn disable(&self) -> Result<Option<PathBuf>> {
        // The link is removed first: if the unit then cannot be removed, at least it is not started at boot.
        remove(&self.link())?;
        let unit = self.units.join(&self.name);
        Ok(remove(&unit)?.then_some(unit))
    }

    /// The text of the unit. The command ends while the monitors stay, which is what `RemainAfterExit` is for. When the
    /// unit is stopped, containers first end in order, and then what is left is killed (systemd.kill(5), KillMode).
    ///
    /// # Errors
    /// Fails when a path cannot be written in a unit, and when parameters have values of this command line only.
    pub fn text(&self) -> Result<String> {
        let program = std::env::current_exe().context(|| "cannot tell where this program is".into())?;
        let quoted = |path: &Path| -> Result<String> {
            let text = path.to_str().filter(|text| !text.contains(['"', '\\', '\n']));
            let text = text.ok_or_else(|| Error::new(format!("{} cannot be written in a unit", path.display())))?;
            // A percent sign begins a specifier (systemd.unit(5)).
            Ok(format!("\"{}\"", text.replace('%', "%%")))
        };
        let root = std::env::var_os("STEAD_ROOT").map(PathBuf::from);
        let root = root.map(|root| quoted(&root).map(|root| format!("Environment=STEAD_ROOT={root}\n"))).transpose()?;
        let folder = quoted(&self.loaded.instance.folder)?;
        let choices = &self.options.choices;
        if let Some(name) = choices.set.keys().next() {
            let error = Error::new(format!("a unit would show everybody what `--set {name}=…` gives"));
            return Err(error
                .hint("give the parameter an `env=` and write its value into `.env` beside the project file")
                .usage());
        }
        let mut base = format!("{} -C {folder}", quoted(&program)?);
        for file in std::iter::once(&self.options.file).chain(&choices.files) {
            base += &format!(" -f {}", quoted(Path::new(file))?);
        }
        for profile in &choices.profiles {
            base += &format!(" --profile {}", quoted(Path::new(profile))?);
        }
        Ok(format!(
            "# Written by `stead boot enable`; `stead boot disable` removes it.\n\
             [Unit]\nDescription=stead: {}\nAfter=network.target local-fs.target\nRequiresMountsFor={folder}\n\n\
             [Service]\nType=oneshot\nRemainAfterExit=yes\nKillMode=mixed\nDelegate=yes\n{}\
             ExecStart={base} boot start\nExecStop={base} stop --keep\nTimeoutStopSec=120\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            self.loaded.project.name,
            root.unwrap_or_default(),
        ))
    }
}

/// Whether any container is started at boot.
pub fn comes_up_at_boot(project: &Project) -> bool {
    project.containers.values().any(|container| at_boot(container.restart))
}

/// What the unit does at boot: it starts the containers with `restart "always"`, those with "unless-stopped" that were
/// not stopped by hand, and what these depend on; it works offline, and as the lock says. If there are none, it does
/// nothing.
///
/// # Errors
/// Fails as [`up`] does.
pub fn boot(loaded: &LoadedProject, options: UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    let stopped = loaded.instance.record()?.stopped;
    let wanted = loaded.project.containers.iter().filter(|(name, container)| {
        let by_hand = |replica: ReplicaId| stopped.contains(&replica.to_string());
        let everywhere = || ReplicaId::all(name, container.replicas).all(by_hand);
        at_boot(container.restart) && (container.restart != Restart::UnlessStopped || !everywhere())
    });
    let mut only: BTreeSet<Name> = wanted.map(|(name, _)| name.clone()).collect();
    let mut queue: Vec<Name> = only.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        let needed = loaded.project.containers.get(&name).map(|container| &container.depends_on);
        for needed in needed.into_iter().flat_map(BTreeMap::keys) {
            if only.insert(needed.clone()) {
                queue.push(needed.clone());
            }
        }
    }
    if only.is_empty() {
        return Ok(Converged::default());
    }
    up(loaded, &UpOptions { only, frozen: true, offline: true, command: "boot start".into(), ..options }, reporter)
}

fn at_boot(restart: Restart) -> bool {
    matches!(restart, Restart::Always | Restart::UnlessStopped)
}

/// Removes a file, and returns whether there was one.
fn remove(file: &Path) -> Result<bool> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true).context(|| format!("cannot remove {}", file.display())),
    }
}

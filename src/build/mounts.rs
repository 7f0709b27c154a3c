//! What a build command finds in addition to its image: caches, secrets, files of the context, other images.

use super::run::Around;
use super::{Builder, copy, scan};
use crate::model::{Context, Error, Name, Result, bounds};
use crate::plan::Pending;
use crate::project::{Copy, Propagation, Run, RunMount, RunSource, Sharing};
use crate::runtime::{ImageSpec, MountKind, MountSpec};
use crate::store::{Staging, Use};
use crate::sys::ProjectFiles;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a command finds the socket of the user's ssh agent.
const AGENT: &str = "SSH_AUTH_SOCK";

impl Builder<'_> {
    /// Prepares everything that a command mounts.
    ///
    /// # Errors
    /// Fails when a secret is missing, a file changed, or something cannot be written.
    pub(super) fn around(&self, name: &Name, run: &Run, pending: &Pending, staging: &Staging) -> Result<Around> {
        let mut around = Around::default();
        let context = staging.join("context");
        if scan::context_mounts(run).next().is_some() {
            let files = self.scanner.tree(name, pending.index).map_err(Error::new)?;
            let copy = Copy { to: "/".into(), as_docker: true, ..Copy::default() };
            fs::create_dir(&context).context(|| "cannot make a staging directory".into())?;
            let below = super::View::new(Vec::new());
            let (tree, beside) = (super::open(&context)?, staging.join(""));
            let onto =
                copy::Onto { below: &below, users: &below, workdir: "/", tree: &tree, beside: &beside, epoch: self.lock.epoch };
            let folders = copy::from_folder(&copy, files, self.source(None), onto)?;
            copy::settle(&tree, &below, &folders, self.lock.epoch)?;
        }
        let mut contexts = 0;
        for (number, mount) in run.mounts.iter().enumerate() {
            let kind = match &mount.source {
                RunSource::Cache { id, mode, owner, sharing, shared, from } => {
                    let how = match sharing {
                        Sharing::Shared => Use::WithOthers,
                        Sharing::Locked => Use::Alone,
                        Sharing::Private => Use::OwnCopy,
                    };
                    // A project that somebody else wrote must neither read nor fill this project's caches.
                    let whose = if *shared { String::new() } else { format!("{}\0", self.scanner.folder().display()) };
                    let cache = self.store.cache(&format!("{whose}{id}"), *mode, *owner, how, |place| match from {
                        Some((image, path)) => self.fill(pending, image, path, place),
                        None => Ok(()),
                    })?;
                    let kind = bind(&cache.place)?;
                    around.caches.push(cache);
                    kind
                }
                RunSource::Tmpfs { size } => MountKind::Tmpfs { size: *size, mode: 0o1777 },
                RunSource::Image { name, path } => {
                    let layers = pending.mounted.get(name).ok_or_else(|| Error::new(format!("the image {name} is not built")))?;
                    let layers = self.parts(layers, staging)?;
                    let subpath = Some(PathBuf::from(path.trim_matches('/'))).filter(|path| !path.as_os_str().is_empty());
                    let writes = if mount.read_only { None } else { Some(forgotten(staging, number)?) };
                    MountKind::Image(ImageSpec { layers: layers.into_iter().rev().collect(), subpath, writes })
                }
                RunSource::Context { .. } => {
                    contexts += 1;
                    // The command gets its own copy; whatever it writes there is discarded.
                    bind(&context.join((contexts - 1).to_string()))?
                }
                RunSource::Secret { .. } => {
                    self.secret(mount, &mut around)?;
                    continue;
                }
                RunSource::Ssh { .. } if !self.ssh => {
                    return Err(Error::new("this command wants your ssh agent, but this build does not allow it")
                        .hint(format!("type `stead build --ssh {name}`")));
                }
                RunSource::Ssh { required } => match std::env::var_os(AGENT).map(PathBuf::from).filter(|path| path.exists()) {
                    Some(socket) => {
                        around.env.insert(AGENT.into(), mount.to.clone());
                        bind(&socket)?
                    }
                    None if !required => continue,
                    None => {
                        return Err(Error::new("there is no ssh agent: SSH_AUTH_SOCK is not set, or its socket does not exist")
                            .hint("type `eval $(ssh-agent); ssh-add`, then build again; under sudo: `sudo -E`"));
                    }
                },
                RunSource::Script(text) => {
                    // It is on disk, because the memory file system that shows files to commands is mounted noexec.
                    let place = staging.join(&format!("script{number}"));
                    fs::write(&place, text)
                        .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
                        .context(|| "cannot write a script".into())?;
                    bind(&place)?
                }
            };
            around.mounts.push(MountSpec { kind, to: mount.to.clone().into(), read_only: mount.read_only });
        }
        Ok(around)
    }

    /// Fills a new cache with its initial content.
    fn fill(&self, pending: &Pending, image: &Name, path: &str, place: &Path) -> Result<()> {
        let layers = pending.mounted.get(image).map(Vec::as_slice).unwrap_or_default();
        let copy = Copy { sources: vec![path.to_owned()], to: "/".into(), as_docker: true, ..Copy::default() };
        let below = super::View::new(Vec::new());
        let (tree, beside) = (super::open(place)?, place.parent().unwrap_or(place));
        let onto = copy::Onto { below: &below, users: &below, workdir: "/", tree: &tree, beside, epoch: self.lock.epoch };
        let folders = copy::from_image(&copy, &self.view(layers), onto)?;
        copy::settle(&tree, &below, &folders, self.lock.epoch)
    }

    fn secret(&self, mount: &RunMount, around: &mut Around) -> Result<()> {
        let RunSource::Secret { name, mode, owner, required, env, file } = &mount.source else { return Ok(()) };
        let files = ProjectFiles::at(self.scanner.folder()).context(|| "cannot open the project's directory".into())?;
        let content = match self.project.secrets.get(name).map(|file| files.named(file, bounds::CONTENT)) {
            Some(Ok(content)) => content,
            None if !required => {
                // As in BuildKit, the variable is there, and empty.
                around.env.extend(env.iter().map(|variable| (variable.clone(), String::new())));
                return Ok(());
            }
            None => {
                return Err(Error::new(format!("the project has no secret \"{name}\""))
                    .hint(format!("declare it: secret \"{name}\" file=\"…\"")));
            }
            Some(Err(error)) => return Err(Error::caused(format!("cannot read the secret \"{name}\""), error)),
        };
        if let Some(variable) = env {
            let text =
                String::from_utf8(content.clone()).context(|| format!("the secret \"{name}\" cannot be put in a variable"))?;
            around.env.insert(variable.clone(), text);
        }
        if *file {
            around.file(&mount.to, *mode, *owner, content);
        }
        Ok(())
    }
}

fn bind(source: &Path) -> Result<MountKind> {
    MountKind::bind(source, None, Propagation::Private).context(|| format!("cannot mount {}", source.display()))
}

/// Makes directories for writes that are discarded.
fn forgotten(staging: &Staging, number: usize) -> Result<(PathBuf, PathBuf)> {
    let (upper, work) = (staging.join(&format!("writes{number}")), staging.join(&format!("writes{number}-work")));
    fs::create_dir(&upper).and_then(|()| fs::create_dir(&work)).context(|| "cannot make a staging directory".into())?;
    Ok((upper, work))
}

//! One container: from its desired state to a prepared directory and a running monitor.

use super::{hosts, preflight};
use crate::build::View;
use crate::instance::{Instance, Observation, private_folder};
use crate::model::{Context, Digest, Error, Name, Result, Size, signal_number};
use crate::monitor::{self, Folder, MonitorSpec, Needs};
use crate::network;
use crate::plan::{Desired, Image};
use crate::project::{Mount, MountSource, NetworkMode, Propagation};
use crate::runtime::{
    self, ContainerSpec, FileSpec, ImageSpec, Interface, Layers, MountKind, MountSpec, NetSpec, ProcessSpec, UserSpec,
};
use crate::store::Store;
use crate::sys;
use crate::volume::{self, Below};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// What is needed to prepare a container, besides its desired state.
pub struct Maker<'a> {
    pub instance: &'a Instance,
    pub store: &'a Store,
    pub all: &'a BTreeMap<String, Desired>,
    pub images: &'a BTreeMap<Name, Image>,
    pub observation: &'a Observation,
    /// The containers that are started together with it: they count as running.
    pub starting: &'a BTreeSet<String>,
}

/// Prepares a container's directory and starts it. Returns what failed although it runs: start hooks.
///
/// # Errors
/// Returns the reason why it could not be started.
pub fn launch_one(maker: &Maker, one: &Desired, generation: u64, ports: &[RawFd]) -> Result<Vec<String>> {
    let folder = maker.instance.container(&one.name);
    let spec = prepare(maker, one, generation, &folder)?;
    folder.write_spec(&spec)?;
    let launched = monitor::launch(&folder, &spec.title, &maker.file_contents(one), ports);
    launched.context(|| format!("container {} does not start", one.name))
}

impl Maker<'_> {
    /// The contents of the container's files in their order: secrets, then configs.
    pub fn file_contents(&self, one: &Desired) -> Vec<Vec<u8>> {
        one.spec
            .secrets
            .iter()
            .chain(&one.spec.configs)
            .map(|used| self.observation.contents.get(&used.name).cloned().unwrap_or_default())
            .collect()
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|layer| self.store.layer_path(&layer.diff_id)).collect()
    }

    /// Creates the source directory of a bind mount. Symbolic links that a container may have put into the project's directory
    /// cannot lead out of it.
    fn make_source(&self, source: &Path) -> std::io::Result<()> {
        match source.strip_prefix(&self.instance.folder) {
            Ok(inside) => {
                let project = sys::open_folder(&self.instance.folder)?;
                sys::make_folders_in_root(&project, inside, 0o755).map(drop)
            }
            Err(_) => std::fs::create_dir_all(source),
        }
    }

    fn mount(&self, mount: &Mount) -> Result<MountSpec> {
        let subpath = mount.subpath.as_ref().map(PathBuf::from);
        let bind = |source: &Path, propagation| {
            let bound = MountKind::bind(source, subpath.clone(), propagation);
            bound.context(|| format!("cannot mount {} at {}", source.display(), mount.to))
        };
        let kind = match &mount.source {
            MountSource::Volume(name) => {
                let source = crate::volume::folder(&self.instance.home, &self.instance.id).join(name.as_str());
                bind(&source, Propagation::Private)?
            }
            MountSource::Bind(path) => {
                // At every start exactly the path is mounted that was resolved, and allowed, before.
                let source = self.observation.observed.lead(path).path;
                if mount.create && !source.exists() {
                    self.make_source(&source).context(|| format!("cannot make {}", source.display()))?;
                }
                if !source.exists() {
                    return Err(Error::new(format!("there is no {} to mount at {}", source.display(), mount.to))
                        .hint("make it, or write create=#true"));
                }
                MountKind::Bind { source, subpath, propagation: mount.propagation }
            }
            MountSource::Image(name) => {
                let image = self.images.get(name).ok_or_else(|| Error::new(format!("the image {name} is not built")))?;
                MountKind::Image(ImageSpec { layers: self.layers(image), subpath, writes: None })
            }
        };
        Ok(MountSpec { kind, to: mount.to.clone().into(), read_only: mount.read_only })
    }
}

/// Creates a container's directories and describes the container for its monitor.
///
/// # Errors
/// Fails when a directory cannot be created or the source of a mount is missing.
pub fn prepare(maker: &Maker, one: &Desired, generation: u64, folder: &Folder) -> Result<MonitorSpec> {
    let image = one.image.as_ref().ok_or_else(|| Error::new(format!("the image {} is not built", one.image_name)))?;
    let instance = maker.instance;
    private_folder(folder.path())?;
    monitor::readmit(folder)?;
    let writes = instance.root(&one.name, generation);
    let empty = writes.join("empty");
    // What earlier generations had is removed about now; the new one has its own part of the disk. A file system that has no
    // such thing does as it likes.
    if let Some(generations) = writes.parent() {
        private_folder(generations)?;
        let _ = sys::spread(generations);
    }
    for path in [writes.join("upper"), writes.join("work"), folder.join("root"), folder.join("scratch"), empty.clone()] {
        private_folder(&path)?;
    }
    // It becomes `/`, in which directories have little to do with each other.
    let _ = sys::spread(&writes.join("upper"));
    // The permissions of the upper directory become those of `/`.
    let root = View::new(image.layers.iter().map(|layer| maker.store.layer_path(&layer.diff_id)).collect()).entry(Path::new("/"));
    let mode = root.map_or(0o755, |(_, metadata)| std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(writes.join("upper"), permissions).context(|| "cannot set permissions".into())?;
    let mut mounts = own_files(maker, one, folder)?;
    mounts.extend(passing(maker, one, image, &writes)?);
    for mount in &one.spec.mounts {
        mounts.push(maker.mount(mount)?);
    }
    mounts.extend(one.spec.tmpfs.iter().map(|tmpfs| MountSpec {
        kind: MountKind::Tmpfs { size: tmpfs.size, mode: tmpfs.mode },
        to: tmpfs.path.clone().into(),
        read_only: false,
    }));
    let mut layers = maker.layers(image);
    if layers.is_empty() {
        layers.push(empty);
    }
    let limits = &one.spec.limits;
    let observed = &maker.observation.observed;
    let named = one.spec.devices.iter().map(|(source, to)| runtime::device(&observed.lead(source).path, to.into()));
    let named = named.collect::<std::io::Result<Vec<_>>>().context(|| "cannot give a device".into())?;
    let devices = match one.spec.security.privileged {
        true => {
            let all = runtime::all_devices(Path::new("/dev")).context(|| "cannot list the devices".into())?;
            named.into_iter().chain(all).collect()
        }
        false => named,
    };
    let described = ContainerSpec {
        hostname: hosts::hostname(one),
        layers: Layers { trees: layers, upper: writes.join("upper"), work: writes.join("work") },
        root: folder.join("root"),
        scratch: folder.join("scratch"),
        process: process(one, image),
        mounts,
        files: files(one),
        devices,
        sysctls: one.spec.sysctls.clone(),
        shm: one.spec.shm,
        network: net(instance, one),
        host_pid: one.spec.namespaces.host_pid,
        host_ipc: one.spec.namespaces.host_ipc,
        init: one.spec.init,
        security: preflight::security(one, maker.observation, &instance.home)?,
        cgroup: instance.cgroup(&one.name),
        limits: limits.clone(),
        processors: runtime::possible_processors().context(|| "cannot count the processors".into())?,
    };
    let blueprint = runtime::compile(described).context(|| format!("container {}", one.name))?;
    let signal = match one.spec.stop_signal.as_ref().or(image.config.stop_signal.as_ref()) {
        None => libc::SIGTERM,
        Some(name) => signal_number(name).ok_or_else(|| {
            Error::new(format!("container {}: the image's stop signal {name:?} is not a signal", one.name))
                .hint("write `stop-signal` in the container, for example \"TERM\"")
        })?,
    };
    let health = one.health();
    Ok(MonitorSpec {
        title: format!("{}/{}", instance.project, one.name),
        blueprint: Box::new(blueprint),
        stop_signal: signal,
        stop_grace: one.spec.stop_grace,
        restart: one.spec.restart,
        restart_unhealthy: one.spec.restart_unhealthy,
        in_turns: one.spec.update.is_some(),
        health: health.cloned(),
        timeout: one.spec.job.as_ref().and_then(|job| job.timeout),
        log_quota: limits.log.unwrap_or(Size(one.spec.log.size.0 * u64::from(one.spec.log.files))),
        log: one.spec.log.clone(),
        events: instance.events(),
        logs: instance.logs(&one.name).join(generation.to_string()),
        on_start: one.spec.on_start.clone(),
        on_stop: one.spec.on_stop.clone(),
        needs: Needs { store: instance.home.store.clone(), digests: digests(maker, one, image) },
        home: Some(instance.home.clone()),
    })
}

/// Makes the directories for what the image of a command that runs once declares as data, and returns their mounts. They are
/// beside what it writes into its root, and go with that.
fn passing(maker: &Maker, one: &Desired, image: &Image, writes: &Path) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    for (number, path) in one.passing.iter().enumerate() {
        let layers = image.layers.iter().map(|layer| maker.store.layer_path(&layer.diff_id));
        let below = Below { image: View::new(layers.collect()), at: Path::new(path) };
        let source = volume::passing(&writes.join("volumes"), &number.to_string(), &below)?;
        let kind = MountKind::bind(&source, None, Propagation::Private).context(|| format!("cannot mount a volume at {path}"))?;
        mounts.push(MountSpec { kind, to: path.into(), read_only: false });
    }
    Ok(mounts)
}

/// The digests of everything that a container runs from: its image, and the images that are mounted in it.
fn digests(maker: &Maker, one: &Desired, image: &Image) -> Vec<Digest> {
    let mounted = one.spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Image(name) => maker.images.get(name),
        _ => None,
    });
    std::iter::once(image).chain(mounted).flat_map(Image::parts).copied().collect()
}

/// Writes the container's own three files of /etc into its directory, and returns their mounts.
fn own_files(maker: &Maker, one: &Desired, folder: &Folder) -> Result<Vec<MountSpec>> {
    let lines = hosts::hosts(one, maker.all);
    monitor::keep_names(folder.path(), &lines)?;
    let there = |name: &str| {
        let status = || maker.instance.container(name).status();
        maker.starting.contains(name) || status().is_some_and(|status| status.state == monitor::State::Running)
    };
    let texts = [
        ("hosts", hosts::text(&lines, there)),
        ("hostname", hosts::hostname(one) + "\n"),
        ("resolv.conf", hosts::resolver(one)?),
    ];
    let place = std::fs::canonicalize(folder.path()).context(|| format!("cannot mount {}", folder.path().display()))?;
    let mut mounts = Vec::new();
    for (name, text) in texts {
        let path = place.join(name);
        hosts::write(&path, &text)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, permissions).context(|| "cannot set permissions".into())?;
        let kind = MountKind::Bind { source: path, subpath: None, propagation: Propagation::Private };
        mounts.push(MountSpec { kind, to: Path::new("/etc").join(name), read_only: false });
    }
    Ok(mounts)
}

fn process(one: &Desired, image: &Image) -> ProcessSpec {
    let entrypoint = one.spec.entrypoint.as_ref().unwrap_or(&image.config.entrypoint);
    // With an entrypoint of its own the container does not use the image's arguments, as in Docker.
    let image_cmd = if one.spec.entrypoint.is_some() { &[][..] } else { image.config.cmd.as_slice() };
    let cmd = one.spec.cmd.as_deref().unwrap_or(image_cmd);
    ProcessSpec {
        args: entrypoint.iter().chain(cmd).cloned().collect(),
        env: one.env.clone(),
        workdir: one.spec.workdir.clone().unwrap_or_else(|| image.config.workdir.clone()),
        user: UserSpec {
            user: one.spec.user.clone().unwrap_or_else(|| image.config.user.clone()),
            groups: one.spec.groups.clone(),
        },
        tty: one.spec.tty,
    }
}

fn files(one: &Desired) -> Vec<FileSpec> {
    let secrets = one.spec.secrets.iter().map(|used| (used, used.owner.clone()));
    let configs = one.spec.configs.iter().map(|used| (used, Some(used.owner.clone().unwrap_or_else(|| "0".into()))));
    secrets
        .chain(configs)
        .enumerate()
        .map(|(content, (used, owner))| FileSpec { to: used.to.clone().into(), mode: used.mode, owner, content })
        .collect()
}

fn net(instance: &Instance, one: &Desired) -> NetSpec {
    match one.spec.namespaces.network {
        NetworkMode::Host => NetSpec::Host,
        NetworkMode::None => NetSpec::Own { interfaces: Vec::new() },
        NetworkMode::Own => {
            let outer = one.networks.iter().position(|attached| !attached.record.internal);
            let interfaces = one.networks.iter().enumerate().map(|(index, attached)| Interface {
                name: format!("eth{index}"),
                host: format!(
                    "vst{}",
                    crate::model::Digest::of(format!("{}/{}/{}", instance.cgroup(&one.name), attached.network, instance.id))
                        .short(12)
                ),
                bridge: attached.record.bridge.clone(),
                address: attached.address,
                prefix: attached.record.subnet.prefix(),
                gateway: (outer == Some(index)).then_some(attached.record.gateway),
                mtu: attached.record.mtu,
                group: instance.link_group(),
            });
            NetSpec::Own { interfaces: interfaces.collect() }
        }
    }
}

/// The bridges that the planned networks need.
pub fn bridges(instance: &Instance, networks: &BTreeMap<Name, crate::plan::NetworkRecord>) -> Vec<network::BridgeSpec> {
    let own = networks.values().filter(|record| !record.external);
    own.map(|record| network::BridgeSpec {
        name: record.bridge.clone(),
        gateway: record.gateway,
        prefix: record.subnet.prefix(),
        mtu: record.mtu,
        group: instance.link_group(),
    })
    .collect()
}

//! A container for one command (`stead run`, `stead shell`). It is not recorded and leaves nothing behind.

use super::accounts::{self, Person};
use crate::build::{StoreFacts, View};
use crate::instance::{Instance, LoadedProject, Observation, Reporter, UpOptions, consent, observe, read_and_keep_lock};
use crate::model::{Context as _, Error, Name, PATH, Result, nearest};
use crate::monitor::{self, Folder, MonitorSpec, State, Status, boot, now_ms};
use crate::network::{self, Forwarding};
use crate::plan::{self, Desired, InstanceRecord, Mark, Planned};
use crate::project::{Container, Mount, NamedCommand, Project};
use crate::reconcile::{Maker, bridges, build_only, down, preflight, prepare, prepare_folders, trusted};
use crate::runtime::{self, Raw, Running, Variable};
use crate::spec;
use crate::store::{Lease, Store};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A container that is prepared but not started, with the lock and the lease that protect it.
pub struct OneOff {
    pub spec: MonitorSpec,
    pub contents: Vec<Vec<u8>>,
    folder: Folder,
    name: String,
    instance: Instance,
    _lock: sys::Lock,
    _lease: Lease,
}

impl OneOff {
    /// Tells other processes that it is running.
    pub fn running(&self, running: &Running) {
        let status = Status {
            state: State::Running,
            pid: running.pid,
            monitor: std::process::id(),
            started_at: Some(now_ms()),
            boot: boot(),
            ..Status::default()
        };
        self.folder.tell(&status);
    }

    /// Removes the container's files. Its root is removed after `ended` returns, when its processes have ended.
    pub fn clean(&self, ended: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let ended = scope.spawn(ended);
            down::forget_run(&self.instance, &self.name);
            let _ = ended.join();
            down::forget(&self.instance, &self.name);
        });
    }
}

/// How a command's container should differ from the container or image of that name.
#[derive(Clone, Default, Debug)]
pub struct Wish {
    /// The command, if it is not the container's or the image's own.
    pub command: Vec<OsString>,
    /// A program in place of the entrypoint and its command; an empty string removes both.
    pub entrypoint: Option<String>,
    pub env: Vec<Variable>,
    pub user: Option<String>,
    pub workdir: Option<OsString>,
    pub tty: bool,
    /// Instead of a command: the first of these programs that the image has.
    pub shells: Vec<String>,
    /// Whose names programs find for the numbers of `user`.
    pub person: Option<Person>,
    /// Supplementary groups in place of the container's.
    pub groups: Option<Vec<String>>,
    /// Further mounts. They are the wish of whoever typed the command, so they need no consent.
    pub mounts: Vec<Mount>,
    /// Whether process 1 is one of ours: signals then have their usual effect on the command, and orphans are reaped.
    pub init: bool,
}

impl Wish {
    /// What a task asks for: further words follow its own; what is said here comes before what the task says.
    fn of_task(self, task: &NamedCommand) -> Self {
        Self {
            command: task.cmd.iter().map(OsString::from).chain(self.command).collect(),
            env: task.env.iter().map(|(name, value)| (name.into(), value.into())).chain(self.env).collect(),
            user: self.user.or_else(|| task.user.clone()),
            workdir: self.workdir.or_else(|| task.workdir.as_ref().map(OsString::from)),
            ..self
        }
    }
}

/// Prepares a container for one command, and builds its image first if necessary.
///
/// # Errors
/// Fails when the name is unknown, when the plan is impossible, and when a build fails.
pub fn one_off(loaded: &LoadedProject, name: &str, wish: Wish, options: &UpOptions, reporter: &dyn Reporter) -> Result<OneOff> {
    let instance = &loaded.instance;
    let store = Store::at(&instance.home.store);
    let (shells, person) = (wish.shells.clone(), wish.person.clone());
    let Ready { project, full, mut raw, mut planned, mut observation } = ready(loaded, &store, name, wish, options, reporter)?;
    let mut one = planned.desired.get(&full).cloned().ok_or_else(unplanned)?;
    let mut lease = Lease::open(&store)?;
    if let Some(image) = &one.image {
        lease.pin(image.parts())?;
    }
    let mut errors = Vec::new();
    preflight::check(&one, &loaded.places, &instance.folder, runtime::host(), &mut errors);
    Error::all(errors)?;
    let _queue = instance.lock()?;
    // The lock keeps others from taking a subnet between this check and our record; recorded subnets count as taken.
    let ledger = network::lock_ledger(&instance.home)?;
    let record = instance.record()?;
    let new = one.networks.iter().any(|attached| record.networks.get(&attached.network) != Some(&attached.record));
    if new && network::taken(&instance.home, &instance.id)? != observation.observed.taken {
        (planned, observation) = plan_with(loaded, &project, &store)?;
        one = planned.desired.get(&full).cloned().ok_or_else(unplanned)?;
    }
    if !shells.is_empty() {
        let shell = find_shell(&store, &one, &shells)?;
        one.env.insert("SHELL".into(), shell.clone());
        one.spec.cmd = Some(vec![shell]);
    }
    let folder = instance.container(&full);
    if let Some(person) = person {
        let view = files_of(&store, &one);
        accounts::introduce(&mut one, &person, &view, folder.path())?;
    }
    connect(instance, record, &planned, &mut one)?;
    let starting = BTreeSet::new();
    let (all, images) = (&planned.desired, &planned.built);
    drop(ledger);
    let maker = Maker { instance, store: &store, all, images, observation: &observation, starting: &starting };
    let mut spec = prepare(&maker, &one, 1, &folder)?;
    raw.complete(spec.blueprint.process().context(|| "cannot describe the command".into())?);
    spec.blueprint.beyond.raw = raw;
    folder.write_spec(&spec)?;
    let lock = sys::Lock::attempt(&folder.join("lock"))
        .ok()
        .flatten()
        .ok_or_else(|| Error::new("another command is using this container"))?;
    Ok(OneOff {
        spec,
        contents: maker.file_contents(&one),
        folder,
        name: full,
        instance: instance.clone(),
        _lock: lock,
        _lease: lease,
    })
}

/// The environment that a container, or a container of an image, has; its image is built first if necessary.
///
/// # Errors
/// Fails as [`one_off`] does.
pub fn environment(
    loaded: &LoadedProject,
    name: &str,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<BTreeMap<String, String>> {
    let store = Store::at(&loaded.instance.home.store);
    let mut ready = ready(loaded, &store, name, Wish::default(), options, reporter)?;
    Ok(ready.planned.desired.remove(&ready.full).ok_or_else(unplanned)?.env)
}

/// A container for one command that is planned, and whose image is built.
struct Ready {
    /// The project with this container.
    project: Project,
    /// The container's full name.
    full: String,
    /// What of its command line is not text.
    raw: Raw,
    planned: Planned,
    observation: Observation,
}

fn ready(
    loaded: &LoadedProject,
    store: &Store,
    name: &str,
    wish: Wish,
    options: &UpOptions,
    reporter: &dyn Reporter,
) -> Result<Ready> {
    let instance = &loaded.instance;
    store.prepare()?;
    prepare_folders(instance)?;
    let (name, wish) = match loaded.project.tasks.get(name) {
        Some(task) => (task.container.as_str(), wish.of_task(task)),
        None => (name, wish),
    };
    let own = Name::parse(&format!("run-{}", std::process::id())).map_err(Error::new)?;
    let asked = wish.mounts.clone();
    let mut raw = Raw::default();
    let (project, image) = with_one_off(&loaded.project, name, wish, &own, &mut raw)?;
    let full = format!("{own}-1");
    let mut planned = plan_with(loaded, &project, store)?;
    consent::require(instance, &marks(loaded, name, &planned, &full, &asked)?, options, reporter)?;
    if !planned.0.built.contains_key(&image) {
        build_only(loaded, &BTreeSet::from([image]), options, reporter)?;
        planned = plan_with(loaded, &project, store)?;
        // During the build, a link may have been changed to lead elsewhere.
        consent::require(instance, &marks(loaded, name, &planned, &full, &asked)?, options, reporter)?;
    }
    let (planned, observation) = planned;
    Ok(Ready { project, full, raw, planned, observation })
}

fn unplanned() -> Error {
    Error::new("the container was not planned")
}

/// The files of a container's image.
fn files_of(store: &Store, one: &Desired) -> View {
    let layers = one.image.iter().flat_map(|image| &image.layers);
    View::new(layers.map(|layer| store.layer_path(&layer.diff_id)).collect())
}

/// The path of the first of these shells that the container's image has, in the directories of its `PATH`.
fn find_shell(store: &Store, one: &Desired, shells: &[String]) -> Result<String> {
    let view = files_of(store, one);
    let path = one.env.get("PATH").map_or(PATH, String::as_str);
    let folders = || path.split(':').filter(|folder| folder.starts_with('/'));
    let is_program = |path: &String| {
        let found = view.entry(&view.resolve(Path::new(path)));
        found.is_some_and(|(_, metadata)| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let mut all =
        shells.iter().flat_map(|shell| folders().map(move |folder| format!("{}/{shell}", folder.trim_end_matches('/'))));
    all.find(is_program).ok_or_else(|| {
        let error = Error::new(format!("the image {} has no shell: it has none of {}", one.image_name, shells.join(", ")));
        error.hint("`stead shell NAME -- COMMAND` runs a program of the image without one")
    })
}

/// The container's marks, under the name of the one that it is modelled on: consent to those is consent to these. The mounts
/// that whoever typed the command asked for have none.
fn marks(
    loaded: &LoadedProject,
    name: &str,
    (planned, observation): &WithObservation,
    full: &str,
    asked: &[Mount],
) -> Result<Vec<Mark>> {
    let name = Name::parse(name).map_err(Error::new)?;
    let one = planned.desired.get(full).ok_or_else(unplanned)?;
    let mounts = one.spec.mounts.iter().filter(|mount| !asked.contains(mount)).cloned().collect();
    let spec = Container { mounts, ..one.spec.clone() };
    Ok(plan::of_container(&loaded.project, &loaded.places, &observation.observed, &name, &spec, &one.ports))
}

/// The project with one more container, and the image of that container. What is not text goes into `raw`.
fn with_one_off(project: &Project, name: &str, wish: Wish, own: &Name, raw: &mut Raw) -> Result<(Project, Name)> {
    let mut container = match (project.containers.get(name), project.images.get_key_value(name)) {
        (Some(container), _) => container.clone(),
        (None, Some((image, _))) => {
            let container = spec::container_of(image.clone());
            container.ok_or_else(|| Error::new("the language lacks a default that a container needs"))?
        }
        (None, None) => return Err(unknown(project, name)),
    };
    if let Some(word) = wish.entrypoint {
        container.entrypoint = Some(if word.is_empty() { Vec::new() } else { vec![word] });
        container.cmd = Some(Vec::new());
    }
    if !wish.command.is_empty() {
        container.cmd = Some(raw.take_args(&wish.command));
    }
    container.env.extend(raw.take_env(&wish.env));
    container.user = wish.user.or(container.user);
    container.workdir = wish.workdir.map(|workdir| raw.take_workdir(&workdir)).or(container.workdir);
    container.groups = wish.groups.unwrap_or(container.groups);
    container.mounts.extend(wish.mounts);
    container.init |= wish.init;
    container.tty = wish.tty;
    container.replicas = 1;
    container.publish.clear();
    container.depends_on.clear();
    container.healthcheck = None;
    // A one-off container has no result, so it needs no inputs.
    container.job = None;
    for attachment in &mut container.networks {
        attachment.address = None;
    }
    let image = container.image.clone();
    let mut project = project.clone();
    project.containers.insert(own.clone(), container);
    Ok((project, image))
}

/// The error for a name that nothing in the project has that could be run.
fn unknown(project: &Project, name: &str) -> Error {
    let is_job = |container: &&Container| container.job.is_some();
    let containers = project.containers.iter().filter(|(_, container)| !is_job(container)).map(|(name, _)| name);
    let jobs = project.containers.iter().filter(|(_, container)| is_job(container)).map(|(name, _)| name);
    // Those of a Dockerfile's stages and those from elsewhere have names that nobody gave them.
    let images = project.images.keys().filter(|name| Name::parse(name.as_str()).is_ok());
    let kinds: [(&str, Vec<&Name>); 4] = [
        ("tasks", project.tasks.keys().collect()),
        ("jobs", jobs.collect()),
        ("containers", containers.collect()),
        ("images", images.collect()),
    ];
    let near = nearest(name, kinds.iter().flat_map(|(_, names)| names).map(|name| name.as_str()));
    let there = kinds.iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        format!("{kind}: {}", names.join(", "))
    });
    let there = there.collect::<Vec<_>>().join("; ");
    let hint = match near {
        Some(near) => format!("perhaps \"{near}\"; the project has {there}"),
        None if there.is_empty() => "the project has nothing that could be run: write a `container` into its file".to_owned(),
        None => format!("the project has {there}"),
    };
    Error::new(format!("the project has no task, job, container or image \"{name}\"")).hint(hint)
}

type WithObservation = (Planned, Observation);

fn plan_with(loaded: &LoadedProject, project: &Project, store: &Store) -> Result<WithObservation> {
    let lock = trusted(loaded, read_and_keep_lock(&loaded.instance)?)?;
    let observation = observe(loaded)?;
    let facts = StoreFacts { store, scanner: &observation.scanner };
    let planned = plan::plan((project, &loaded.places, &lock), &observation.observed, &facts, &BTreeSet::new())?;
    Ok((planned, observation))
}

/// Creates its networks, if they do not exist, and gives it addresses from the upper ends of their subnets.
fn connect(instance: &Instance, mut record: InstanceRecord, planned: &Planned, one: &mut Desired) -> Result<()> {
    let others = instance.container_folders()?.into_iter().filter(|name| crate::instance::is_one_off_replica(name));
    let specs = others.map(|name| instance.container(&name).spec()).collect::<Result<Vec<_>>>()?;
    let taken: BTreeSet<Ipv4Addr> = specs
        .into_iter()
        .flatten()
        .flat_map(|spec| spec.blueprint.beyond.interfaces)
        .map(|interface| interface.address)
        .collect();
    let mut new = false;
    for attached in &mut one.networks {
        let subnet = attached.record.subnet;
        let used = |address: &Ipv4Addr| {
            taken.contains(address)
                || planned.desired.values().any(|other| other.networks.iter().any(|there| there.address == *address))
        };
        attached.address = (2..subnet.hosts())
            .rev()
            .map(|host| subnet.host(host))
            .find(|address| !used(address))
            .ok_or_else(|| Error::new(format!("the network {} has no address left", attached.network)))?;
        if record.networks.get(&attached.network) != Some(&attached.record) {
            record.networks.insert(attached.network.clone(), attached.record.clone());
            new = true;
        }
    }
    if new {
        record.project.clone_from(&planned.plan.project);
        record.folder = instance.folder.display().to_string();
        record.file.clone_from(&instance.file);
        record.serial += 1;
        instance.save(&record)?;
    }
    let wanted = one.networks.iter().map(|attached| (attached.network.clone(), attached.record.clone())).collect();
    if one.networks.is_empty() {
        return Ok(());
    }
    let forwarding = Forwarding::look()?;
    network::ensure_bridges(&bridges(instance, &wanted), forwarding.alias())?;
    if new || forwarding == Forwarding::Off || !monitor::is_current(&instance.home) {
        monitor::refresh(&instance.home)?;
    }
    if forwarding == Forwarding::Off { Forwarding::switch_on() } else { Ok(()) }
}

//! `create` and `start`, outside the container: cgroup, namespaces, ID mappings, hooks, and waiting for the process inside.

use super::config::Bundle;
use super::container::{Container, Status, began, check_id};
use super::init::{self, Init};
use super::{hooks, listener, resources};
use crate::model::{Context, Error, Result};
use crate::monitor::now_ms;
use crate::runtime::{self, Cgroup, Sources, flag, joined as path_of};
use crate::sys::{self, Side};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How to create a container.
#[derive(Debug)]
pub struct Creation<'a> {
    pub root: &'a Path,
    pub id: &'a str,
    pub bundle: Bundle,
    pub pid_file: Option<PathBuf>,
    /// The socket to which the terminal's master is sent.
    pub console: Option<UnixStream>,
    pub systemd_cgroup: bool,
    pub no_pivot: bool,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    /// How many file descriptors from 3 on the program keeps.
    pub preserve: u32,
}

/// `CLONE_NEWTIME`.
const NEW_TIME: libc::c_int = 0x80;

/// Creates a container up to the point where it waits for `start`.
///
/// # Errors
/// Fails when something is wrong with the bundle or the kernel refuses. Nothing of the container is left then.
pub fn create(mut creation: Creation) -> Result<Container> {
    check_id(creation.id)?;
    let bundle = &creation.bundle;
    let console = match (creation.console.take(), bundle.blueprint.has_terminal()) {
        (Some(stream), true) => Some(stream),
        (None, true) => return Err(Error::new("the process has a terminal, and there is no --console-socket to send it to")),
        (Some(_), false) => return Err(Error::new("there is a --console-socket, and the process has no terminal")),
        (None, false) => None,
    };
    runtime::check_labels(&bundle.blueprint.oci)?;
    if let Some(process) = bundle.blueprint.oci.process() {
        runtime::check_capabilities(process).map_err(|error| Error::new(error.to_string()))?;
    }
    let cgroup = cgroup_path(bundle, &creation)?;
    // Configurations contain the environment, which may be secret, so nobody else may read them.
    let private = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(creation.root);
    made.context(|| format!("cannot make {}", creation.root.display()))?;
    let folder = creation.root.join(creation.id);
    match private(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::new(format!("container with id exists: {}", creation.id)));
        }
        other => other.context(|| format!("cannot make {}", folder.display()))?,
    }
    let mut container = Container {
        id: creation.id.to_owned(),
        bundle: bundle.folder.clone(),
        rootfs: bundle.rootfs.clone(),
        pid: 0,
        began: 0,
        created: crate::model::time_text(i64::try_from(now_ms() / 1000).unwrap_or(0)),
        cgroup,
        shared: false,
        version: bundle.blueprint.oci.version().clone(),
        annotations: bundle.blueprint.oci.annotations().clone().unwrap_or_default().into_iter().collect(),
        folder,
        kept: OnceLock::from(bundle.blueprint.oci.clone()),
    };
    let made = make(&creation, bundle, &mut container, console);
    if made.is_err() {
        container.end();
        container.forget();
    }
    made.map(|()| container)
}

fn make(creation: &Creation, bundle: &Bundle, container: &mut Container, console: Option<UnixStream>) -> Result<()> {
    sys::write_atomic(&container.folder.join("config.json"), bundle.text.as_bytes(), 0o600)
        .context(|| "cannot keep the configuration".into())?;
    let host = runtime::host();
    let linux = bundle.blueprint.oci.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    // A cgroup that was already in use belongs to others, whether or not this container is created.
    let others = container.processes().len();
    let shared = others > 0;
    let chosen = linux.and_then(|linux| linux.cgroups_path().as_ref()).is_some_and(|path| !path.as_os_str().is_empty());
    if shared && !chosen {
        let why = format!("the cgroup {} already contains {others} process(es) of others", container.cgroup);
        return Err(Error::new(why).hint("choose another ID, or set `linux.cgroupsPath`"));
    }
    if shared {
        super::warn(&format!("container's cgroup is not empty: {others} process(es) of others in {}", container.cgroup));
    }
    container.shared = shared;
    let cgroup = resources::cgroup(host, &container.cgroup, resources, shared)?;
    begin(creation, bundle, container, console, &cgroup).inspect_err(|_| {
        container.end();
        if !shared {
            let _ = cgroup.destroy();
        }
    })
}

/// Creates the namespaces and the process in them.
fn begin(
    creation: &Creation,
    bundle: &Bundle,
    container: &mut Container,
    console: Option<UnixStream>,
    cgroup: &Cgroup,
) -> Result<()> {
    let host = runtime::host();
    let linux = bundle.blueprint.oci.linux().as_ref();
    let start = sys::listen_in(&container.folder, "start").context(|| "cannot listen for the start".into())?;
    let filter = listener::filter(&bundle.blueprint.oci)?;
    let mut flags = runtime::made_namespaces(&bundle.blueprint);
    let mut joined: Vec<(LinuxNamespaceType, OwnedFd)> = Vec::new();
    for (kind, path) in bundle.blueprint.namespaces().filter_map(|one| Some((one.typ(), path_of(one)?))) {
        let fd = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(std::io::Error::from)
            .context(|| format!("cannot open the namespace {}", path.display()))?;
        joined.push((kind, fd));
    }
    // Joining these affects only children, so they are joined before the child is created.
    for (kind, fd) in joined.iter().filter(|(kind, _)| *kind == LinuxNamespaceType::Pid) {
        sys::enter_namespace(fd, nix::sched::CloneFlags::from_bits_retain(flag(*kind)))
            .context(|| "cannot join the namespace".into())?;
    }
    joined.retain(|(kind, _)| *kind != LinuxNamespaceType::Pid);
    let user_namespace = flags & libc::CLONE_NEWUSER != 0;
    if flags & NEW_TIME != 0 {
        // Its clocks must be set before any process is in it, so it is created for this process's children
        // (time_namespaces(7)).
        nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(NEW_TIME))
            .map_err(std::io::Error::from)
            .context(|| "cannot make a time namespace".into())?;
        let offsets = linux.and_then(|linux| linux.time_offsets().clone()).unwrap_or_default();
        let text: String = offsets
            .iter()
            .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)))
            .collect();
        if !text.is_empty() {
            fs::write("/proc/self/timens_offsets", text).context(|| "cannot set the time namespace's clocks".into())?;
        }
        flags &= !NEW_TIME;
    }
    let joins_user = joined.iter().any(|(kind, _)| *kind == LinuxNamespaceType::User);
    let sources = if flags & libc::CLONE_NEWNS != 0 {
        Sources::open(&bundle.blueprint).map_err(|error| Error::new(error.to_string()))?
    } else {
        Sources::default()
    };
    let (line, far) = sys::message_pair().context(|| "cannot make a socket".into())?;
    let entrance = cgroup.entrance().context(|| "cannot enter the container's cgroup".into())?;
    let init = Init {
        blueprint: &bundle.blueprint,
        host,
        joined,
        filter,
        console,
        start,
        no_pivot: creation.no_pivot,
        keyring: creation.keyring,
        preserve: creation.preserve,
        cgroup,
        sources,
    };
    // The child creates the cgroup namespace itself, once it is in its cgroup.
    let cgroup_namespace = flags & libc::CLONE_NEWCGROUP != 0;
    let new = flags & !libc::CLONE_NEWCGROUP;
    let own = if joins_user { 0 } else { new };
    let pid = match sys::clone_process(own, entrance.as_ref()).context(|| "cannot make the namespaces".into())? {
        Side::Child if joins_user => init::join_user(init, far, new, cgroup_namespace, entrance.is_some()),
        Side::Child => init::enter_and_run(init, far, cgroup_namespace, user_namespace, entrance.is_some()),
        Side::Parent { pid, .. } => pid,
    };
    drop((far, init));
    let pid = if joins_user { successor(&line, pid)? } else { pid };
    container.pid = pid;
    container.began = began(pid).unwrap_or(0);
    if let (true, Some(linux)) = (user_namespace, linux) {
        map(pid, "uid_map", linux.uid_mappings())?;
        map(pid, "gid_map", linux.gid_mappings())?;
    }
    if let Some(score) = bundle.blueprint.oci.process().as_ref().and_then(|process| process.oom_score_adj()) {
        fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
            .context(|| format!("cannot set oom_score_adj {score}"))?;
    }
    step(&line, b"G", b'M', container)?;
    let state = container.state(Status::Creating);
    hooks::run(container.hooks("prestart")?, &state)?;
    hooks::run(container.hooks("createRuntime")?, &state)?;
    step(&line, format!("H{state}").as_bytes(), b'R', container)?;
    container.save()?;
    if let Some(path) = &creation.pid_file {
        sys::write_atomic(path, pid.to_string().as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The process that the first one started inside a user namespace, as another child of this process.
fn successor(line: &UnixStream, first: i32) -> Result<i32> {
    let mut message = vec![0; 4096];
    let (length, fds) = sys::receive_with(line, &mut message).context(|| "the container's process does not answer".into())?;
    let _ = sys::wait_for(first);
    match (message[..length].split_first(), fds.first().and_then(sys::process_number)) {
        (Some((b'C', _)), Some(pid)) => Ok(pid),
        (Some((b'E', text)), _) => Err(Error::new(String::from_utf8_lossy(text).into_owned())),
        _ => Err(Error::new("the container's process ended before it began")),
    }
}

/// Tells the child to continue, and waits until it has reached the wanted point. If it sends the notification descriptor of
/// a filter meanwhile, that is passed on.
fn step(line: &UnixStream, go: &[u8], wanted: u8, container: &Container) -> Result<()> {
    // A child that has failed already has sent its error and does not read this.
    let _ = sys::send_with(line, go, &[]);
    let mut message = vec![0; 4096];
    loop {
        let (length, fds) = sys::receive_with(line, &mut message).context(|| "the container's process does not answer".into())?;
        return match (message[..length].split_first(), fds.first()) {
            (Some((b'N', [])), Some(fd)) => {
                listener::Listener::of(container, Status::Creating, container.pid)?.tell(fd)?;
                let _ = sys::send_with(line, b"K", &[]);
                continue;
            }
            (Some((first, [])), _) if *first == wanted => Ok(()),
            (Some((b'E', text)), _) => Err(Error::new(String::from_utf8_lossy(text).into_owned())),
            _ => Err(Error::new("the container's process ended before it began")),
        };
    }
}

fn map(pid: i32, file: &str, mappings: &Option<Vec<LinuxIdMapping>>) -> Result<()> {
    let text: String =
        mappings.iter().flatten().map(|one| format!("{} {} {}\n", one.container_id(), one.host_id(), one.size())).collect();
    if text.is_empty() {
        return Ok(());
    }
    fs::write(format!("/proc/{pid}/{file}"), text).context(|| format!("cannot write {file}"))
}

/// The cgroup of a container: as the bundle says, otherwise named after its ID.
fn cgroup_path(bundle: &Bundle, creation: &Creation) -> Result<String> {
    let wanted = bundle.blueprint.oci.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let Some(wanted) = wanted.filter(|path| !path.as_os_str().is_empty()) else {
        // runc does the same. Directly below the root cgroup there is real-time bandwidth to assign.
        return Ok(creation.id.to_owned());
    };
    let text = wanted.to_string_lossy().into_owned();
    if wanted.components().any(|part| part == std::path::Component::ParentDir) {
        // A path with `..` could lead to the cgroup of another container (crun 1.28, 1.29).
        return Err(Error::new(format!("linux.cgroupsPath {text:?} contains `..`")));
    }
    if let ([slice, prefix, name], true) = (text.split(':').collect::<Vec<_>>().as_slice(), creation.systemd_cgroup) {
        // This is where systemd would put a scope: each dash in a slice's name is a level (systemd.slice(5)).
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let stem = slice.strip_suffix(".slice").unwrap_or(slice);
        let mut path = String::new();
        let mut so_far = String::new();
        for part in stem.split('-').filter(|part| !part.is_empty()) {
            so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}-{part}") };
            path.push_str(&format!("{so_far}.slice/"));
        }
        return Ok(format!("{path}{prefix}-{name}.scope"));
    }
    Ok(text.trim_matches('/').to_owned())
}

/// Starts a container that waits for it.
///
/// # Errors
/// Fails when the container is not waiting for its start, and when its program cannot be executed.
pub fn start(container: &Container) -> Result<()> {
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        status => return Err(Error::new(format!("cannot start an already {status} container"))),
    }
    let line = sys::connect_in(&container.folder, "start").context(|| "the container is not waiting for its start".into())?;
    // From here on its status is no longer `created`, whatever happens.
    let _ = fs::remove_file(container.folder.join("start"));
    // Executing the program closes the line.
    let said = listener::hear(&line, || listener::Listener::of(container, Status::Running, container.pid))
        .inspect_err(|_| container.end())?;
    if !said.is_empty() {
        return Err(Error::new(String::from_utf8_lossy(&said).into_owned()));
    }
    hooks::run(container.hooks("poststart")?, &container.state(Status::Running)).inspect_err(|_| {
        let _ = super::delete(container, true);
    })
}

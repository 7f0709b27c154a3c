//! The process in the new namespaces: assembles the root, waits, becomes the program.

use super::config::{Bundle, flag, mask, options};
use super::confine;
use super::hooks;
use super::listener;
use super::state::{State, Status, hooks_of};
use crate::runtime::{Cgroup, DEVICE_LINKS, Filter, Host, Root, StartError, program, resource, through};
use crate::sys::{self, Attributes, Depth, Detached};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, makedev};
use oci_spec::runtime::{Linux, LinuxCapabilities, LinuxDeviceType, LinuxNamespaceType, Mount, Process};
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Everything that the process needs, opened before it enters.
pub struct Init<'a> {
    pub bundle: &'a Bundle,
    pub host: &'a Host,
    /// Namespaces to join.
    pub joined: Vec<(LinuxNamespaceType, OwnedFd)>,
    pub filter: Option<Filter>,
    pub console: Option<UnixStream>,
    pub start: UnixListener,
    pub no_pivot: bool,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    pub preserve: u32,
    pub cgroup: &'a Cgroup,
    pub cgroup_path: &'a str,
    /// Sources of bind mounts that were opened beforehand, by the mount's place in the list.
    pub sources: Vec<Option<Detached>>,
}

/// What went wrong, with what was being done.
fn at<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| sys::in_words(what, error.into()))
}

/// Enters its cgroup, in the v2 half of which it may have been started, and lives; it never returns.
pub fn enter_and_run(init: Init, line: UnixStream, cgroup_namespace: bool, user_namespace: bool, placed: bool) -> ! {
    match init.cgroup.enter(placed) {
        Ok(()) => run(init, line, cgroup_namespace, user_namespace),
        Err(error) => give_up(&line, &error.into()),
    }
}

/// Enters a user namespace and makes the process there, with namespaces that belong to it; never returns.
pub fn join_user(mut init: Init, line: UnixStream, namespaces: libc::c_int, cgroup_namespace: bool, placed: bool) -> ! {
    let enter = |init: &Init| -> io::Result<sys::Side> {
        sys::hide()?;
        init.cgroup.enter(placed)?;
        for (_, fd) in init.joined.iter().filter(|(kind, _)| *kind == LinuxNamespaceType::User) {
            at("cannot join a namespace", sys::enter_namespace(fd, CloneFlags::CLONE_NEWUSER))?;
        }
        at("cannot become root of the user namespace", sys::become_user(0, 0, &[]))?;
        at("cannot make the namespaces", sys::clone_process(namespaces | libc::CLONE_PARENT, None))
    };
    match enter(&init) {
        Ok(sys::Side::Child) => {
            init.joined.retain(|(kind, _)| *kind != LinuxNamespaceType::User);
            run(init, line, cgroup_namespace, false)
        }
        Ok(sys::Side::Parent { pidfd, .. }) => {
            let _ = sys::send_with(&line, b"C", &[pidfd.as_raw_fd()]);
            sys::exit_now(0)
        }
        Err(error) => give_up(&line, &error.into()),
    }
}

/// The process's life up to its program.
fn run(init: Init, line: UnixStream, cgroup_namespace: bool, user_namespace: bool) -> ! {
    match life(init, &line, cgroup_namespace, user_namespace) {
        Ok(never) => match never {},
        Err(error) => give_up(&line, &error),
    }
}

fn give_up(line: &UnixStream, error: &StartError) -> ! {
    let mut message = vec![b'E'];
    message.extend(error.message.bytes());
    message.truncate(4000);
    let _ = sys::send_with(line, &message, &[]);
    sys::exit_now(error.status)
}

pub enum Never {}

/// Waits for the word to go on, and what comes with it.
fn wait_for(line: &UnixStream, wanted: u8) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 64 << 10];
    let (length, _) = sys::receive_with(line, &mut message)?;
    match message[..length].split_first() {
        Some((first, rest)) if *first == wanted => Ok(rest.to_vec()),
        _ => sys::exit_now(1),
    }
}

fn life(mut init: Init, line: &UnixStream, cgroup_namespace: bool, user_namespace: bool) -> Result<Never, StartError> {
    let bundle = init.bundle;
    let spec = &bundle.spec;
    sys::hide()?;
    if init.keyring {
        sys::new_session_keyring()?;
    }
    // The host's own: that of the container is not ours to trust.
    let proc = sys::open_folder(Path::new("/proc"))?;
    wait_for(line, b'G')?;
    for (kind, fd) in &init.joined {
        at("cannot join a namespace", sys::enter_namespace(fd, CloneFlags::from_bits_retain(flag(*kind))))?;
    }
    if user_namespace {
        at("cannot become root of the user namespace", sys::become_user(0, 0, &[]))?;
    }
    if cgroup_namespace {
        at("cannot make a cgroup namespace", nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    let has = |kind| init.bundle.namespaces().iter().any(|(found, _)| *found == kind);
    let own_mounts = has(LinuxNamespaceType::Mount);
    if has(LinuxNamespaceType::Uts) && !init.joined.iter().any(|(kind, _)| *kind == LinuxNamespaceType::Uts) {
        if let Some(name) = spec.hostname() {
            at("cannot set the host name", nix::unistd::sethostname(name))?;
        }
        if let Some(name) = spec.domainname() {
            at("cannot set the domain name", std::fs::write("/proc/sys/kernel/domainname", name))?;
        }
    }
    if has(LinuxNamespaceType::Network) && !init.joined.iter().any(|(kind, _)| *kind == LinuxNamespaceType::Network) {
        at("cannot bring up the loopback", sys::raise_loopback())?;
    }
    for (name, value) in spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten() {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        at(&format!("cannot set {name}"), std::fs::write(path, value))?;
    }
    sys::set_umask(0);
    let rootfs = init.bundle.rootfs.clone();
    if own_mounts {
        assemble(&mut init, &rootfs)?;
    }
    at("the runtime is gone", sys::send_with(line, b"M", &[]))?;
    let mut state: State = at("cannot read the state", serde_json::from_slice(&wait_for(line, b'H')?))?;
    // Where runc runs them.
    at("cannot enter the root", nix::unistd::chdir(&rootfs))?;
    hooks::run(hooks_of(spec, "createContainer"), &state).map_err(|fault| io::Error::other(fault.chain()))?;
    if own_mounts {
        let entered = if init.no_pivot { sys::move_root(&rootfs) } else { Root::at(&rootfs).and_then(Root::enter) };
        at("cannot enter the root", entered)?;
    } else {
        at("cannot enter the root", nix::unistd::chroot(&rootfs).and_then(|()| nix::unistd::chdir("/")))?;
    }
    if own_mounts {
        protect(&init)?;
    }
    let mut start_hooks = hooks_of(spec, "startContainer");
    let Some(process) = spec.process() else { return Err(io::Error::other("the configuration has no process").into()) };
    // These run in the container: without an environment of their own they have its process's.
    for hook in start_hooks.iter_mut().filter(|hook| hook.env().is_none()) {
        hook.set_env(process.env().clone());
    }
    at("cannot begin a session", nix::unistd::setsid())?;
    if let Some(console) = &init.console {
        at("cannot make the terminal", terminal(console, process, own_mounts))?;
    }
    prepare(process)?;
    if let Some(linux) = spec.linux() {
        personality(linux)?;
        if let Some(policy) = linux.memory_policy() {
            at("cannot set the memory policy", memory_policy(policy))?;
        }
    }
    let ready = find(process)?;
    // A program that is asked about calls hears of the process before it waits: whoever starts it may wait for that.
    let asks = init.filter.as_ref().filter(|filter| filter.notifies());
    if let Some(filter) = asks {
        if process.no_new_privileges() == Some(true) {
            sys::forbid_new_privileges()?;
        }
        listener::hand_over(line, filter.install()?)?;
    }
    at("the runtime is gone", sys::send_with(line, b"R", &[]))?;
    let (start, _) = at("cannot wait for the start", init.start.accept())?;
    state.status = Status::Created;
    sys::set_umask(process.user().umask().unwrap_or(0o022));
    // The hooks run as the process does, behind its filter.
    let begun = at("cannot close descriptors", sys::close_on_exec_from(3 + i32::try_from(init.preserve).unwrap_or(0)))
        .and_then(|()| become_process(process, init.filter.as_ref().filter(|_| asks.is_none()), &start, &proc))
        .and_then(|()| hooks::run(start_hooks, &state).map_err(|fault| io::Error::other(fault.chain())));
    let error: StartError = match begun {
        Ok(()) => execute(process, &ready),
        Err(error) => error.into(),
    };
    let _ = (&start).write_all(error.message.as_bytes());
    drop(start);
    sys::exit_now(error.status)
}

/// Mounts everything beneath the root, devices and links included.
fn assemble(init: &mut Init, rootfs: &Path) -> io::Result<()> {
    let bundle = init.bundle;
    let linux = bundle.spec.linux().as_ref();
    let spread = linux.and_then(|linux| linux.rootfs_propagation().clone()).unwrap_or_default();
    // What the root is to be is set once it is `/`: pivot_root(2) takes no shared parent.
    let first = if spread.trim_start_matches('r') == "private" { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
    at("cannot detach from the host's mounts", sys::remount(Path::new("/"), first | MsFlags::MS_REC))?;
    at("cannot bind the root", sys::bind(rootfs, rootfs, true))?;
    let root = at("cannot open the root", Root::at(rootfs))?;
    let mut own_dev = false;
    let mut sources = std::mem::take(&mut init.sources).into_iter();
    let mut late = Vec::new();
    for one in bundle.spec.mounts().iter().flatten() {
        let shown = one.destination().display().to_string();
        let tree = sources.next().flatten();
        let top = at(&format!("cannot mount {shown}"), mount(&root, one, tree, init, first))?;
        // What is made beneath a read-only file system is made before it is that.
        late.extend(top.filter(|_| is_late(one)).map(|top| (shown.clone(), top)));
        own_dev |= shown == "/dev" && !options(one).bind;
    }
    let bound_dev = bundle.spec.mounts().iter().flatten().any(|one| one.destination() == Path::new("/dev") && options(one).bind);
    if !bound_dev {
        devices(&root, init)?;
        links(&root, own_dev)?;
    }
    if let Some(process) = bundle.spec.process() {
        // What cannot be made now is told when it is entered.
        let _ = root.folder(&process.cwd().to_string_lossy());
    }
    for (shown, top) in late {
        let made = sys::change_mount(&top, Attributes::set(Attributes::READ_ONLY), Depth::Top);
        at(&format!("cannot make {shown} read-only"), made)?;
    }
    Ok(())
}

/// A tmpfs that becomes read-only once all is made beneath it.
fn is_late(one: &Mount) -> bool {
    one.typ().as_deref() == Some("tmpfs") && options(one).flags.contains(MsFlags::MS_RDONLY)
}

/// Where one of the kernel's file systems goes: at its usual place an ordinary folder of the root's own, elsewhere no
/// link either (CVE-2019-19921).
fn kernel_place(root: &Root, to: &str) -> io::Result<OwnedFd> {
    if matches!(to, "proc" | "sys" | "dev") {
        return root.own_folder(to);
    }
    let path = Path::new(to);
    let parent = root.folder(&path.parent().unwrap_or(Path::new("")).to_string_lossy())?;
    let name = path.file_name().unwrap_or_default();
    match nix::sys::stat::mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(&parent, name, flags, Mode::empty()).map_err(|error| match error {
        nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR => {
            io::Error::other(format!("/{to} must be mounted on an ordinary directory, and the image has a link or a file there"))
        }
        error => error.into(),
    })
}

/// Mounts a tmpfs: with the mode of the folder that it covers, unless it has one, and if wanted with its content.
fn mount_tmpfs(root: &Root, one: &Mount, to: &str, label: Option<&str>) -> io::Result<OwnedFd> {
    let found = options(one);
    let covered = match sys::open_in_root(&root.fd, to, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(covered) => Some(covered),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut data = found.data.clone();
    let mut add = |word: String| data = if data.is_empty() { word } else { format!("{data},{word}") };
    if let (Some(covered), false) = (&covered, found.data.split(',').any(|word| word.starts_with("mode="))) {
        add(format!("mode={:o}", nix::sys::stat::fstat(covered)?.st_mode & 0o7777));
    }
    for (flag, word) in [(MsFlags::MS_SYNCHRONOUS, "sync"), (MsFlags::MS_DIRSYNC, "dirsync")] {
        if found.flags.contains(flag) {
            add(word.to_owned());
        }
    }
    let attributes = Attributes::of_flags(found.flags & !MsFlags::MS_RDONLY);
    let place = if to == "dev" { root.own_folder(to)? } else { root.folder(to)? };
    let top = Detached::labelled("tmpfs", &data, attributes, label)?.attach(place)?;
    let copies = one.options().iter().flatten().any(|option| option == "tmpcopyup");
    if let (Some(covered), true) = (covered, copies) {
        at("cannot copy what it covers", copy_up(&through(&covered), &through(&top)))?;
    }
    Ok(top)
}

/// Copies a folder's content with modes and owners; links are copied, never followed.
fn copy_up(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, there) = (entry.file_type()?, to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if kind.is_symlink() {
            symlink(std::fs::read_link(entry.path())?, &there)?;
        } else if kind.is_dir() {
            std::fs::create_dir(&there)?;
            copy_up(&entry.path(), &there)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &there)?;
        } else {
            continue;
        }
        // An owner that a user namespace does not have is left out.
        let _ = std::os::unix::fs::lchown(&there, Some(metadata.uid()), Some(metadata.gid()));
        if !kind.is_symlink() {
            std::fs::set_permissions(&there, metadata.permissions())?;
        }
    }
    Ok(())
}

/// A bind mount, whole before it has a place; where nothing else is said, mounts travel to it as to the root.
fn bind(tree: Detached, one: &Mount, spread: MsFlags) -> io::Result<Detached> {
    let found = options(one);
    let set = Attributes::of_flags(found.flags);
    let wanted = Attributes { set, clear: Attributes::of_flags(found.clear), propagation: 0 };
    let changed = tree.change(wanted, Depth::Top).or_else(|error| match sys::errno(&error) {
        // In a user namespace what the source forbids is locked: it stays (mount_namespaces(7)).
        Some(libc::EPERM) => tree.change(Attributes::set(set), Depth::Top),
        _ => Err(error),
    });
    changed?;
    tree.change(Attributes { set: found.recursive.0, clear: found.recursive.1, propagation: 0 }, Depth::Whole)?;
    tree.change(Attributes { propagation: spread.bits(), ..Attributes::default() }, Depth::Whole)?;
    spread_as_said(&tree, found.propagation)?;
    Ok(tree)
}

/// Sets how mounts travel to and from a tree of mounts, if anything is said.
fn spread_as_said(top: impl AsFd, propagation: MsFlags) -> io::Result<()> {
    let depth = if propagation.contains(MsFlags::MS_REC) { Depth::Whole } else { Depth::Top };
    sys::change_mount(top, Attributes { propagation: (propagation & !MsFlags::MS_REC).bits(), ..Attributes::default() }, depth)
}

/// Mounts one of a bundle's mounts; the descriptor of its top comes back where there is one.
fn mount(root: &Root, one: &Mount, tree: Option<Detached>, init: &Init, spread: MsFlags) -> io::Result<Option<OwnedFd>> {
    let found = options(one);
    let to = one.destination().strip_prefix("/").unwrap_or(one.destination()).to_string_lossy().into_owned();
    let kind = one.typ().clone().unwrap_or_default();
    let attributes = Attributes::of_flags(found.flags);
    if found.bind {
        let tree = bind(tree.ok_or_else(|| io::Error::other("its source was not opened"))?, one, spread)?;
        let is_folder = SFlag::from_bits_truncate(nix::sys::stat::fstat(&tree)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
        let place = if is_folder { root.folder(&to)? } else { root.file(Path::new(&to))? };
        return tree.attach(place).map(Some);
    }
    let top = match kind.as_str() {
        "cgroup" | "cgroup2" => {
            let private = init.bundle.namespaces().iter().any(|(kind, _)| *kind == LinuxNamespaceType::Cgroup);
            root.cgroups(&root.folder(&to)?, init.host, attributes, (!private).then_some(init.cgroup_path))?;
            return Ok(None);
        }
        "tmpfs" => mount_tmpfs(root, one, &to, confine::mount_label(&init.bundle.spec)?)?,
        "proc" | "sysfs" | "mqueue" => {
            let place = kernel_place(root, &to)?;
            match (Detached::new(&kind, &found.data, attributes), kind.as_str()) {
                // A new sysfs needs a network namespace of its own (user_namespaces(7)): the host's, as asked for all
                // that is mounted below it.
                (Err(error), "sysfs") if sys::errno(&error) == Some(libc::EPERM) => {
                    let tree = Detached::copy_of(sys::open_real(Path::new("/sys"))?, Depth::Whole)?;
                    tree.change(Attributes { set: attributes, clear: 0, propagation: spread.bits() }, Depth::Whole)?;
                    tree.attach(place)?
                }
                (made, _) => made?.attach(place)?,
            }
        }
        _ => {
            let source = one.source().clone().unwrap_or_else(|| PathBuf::from("none"));
            let data = match confine::mount_label(&init.bundle.spec)? {
                Some(label) if found.data.is_empty() => format!("context=\"{label}\""),
                Some(label) => format!("{},context=\"{label}\"", found.data),
                None => found.data.clone(),
            };
            root.mount(&source.to_string_lossy(), &to, &kind, found.flags, &data)?;
            sys::open_in_root(&root.fd, &to, OFlag::O_PATH)?
        }
    };
    sys::change_mount(&top, Attributes { set: found.recursive.0, clear: found.recursive.1, propagation: 0 }, Depth::Whole)?;
    spread_as_said(&top, found.propagation)?;
    Ok(Some(top))
}

/// The devices that every container has, and those of the bundle.
fn devices(root: &Root, init: &Init) -> io::Result<()> {
    let always = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in always {
        device(root, &PathBuf::from("dev").join(name), SFlag::S_IFCHR, (major, minor), 0o666, (0, 0))?;
    }
    for one in init.bundle.spec.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten() {
        let path = one.path().strip_prefix("/").unwrap_or(one.path());
        let kind = match one.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            _ => SFlag::S_IFCHR,
        };
        let number = (u64::try_from(one.major()).unwrap_or(0), u64::try_from(one.minor()).unwrap_or(0));
        let owner = (one.uid().unwrap_or(0), one.gid().unwrap_or(0));
        at(
            &format!("cannot make {}", one.path().display()),
            device(root, path, kind, number, one.file_mode().unwrap_or(0o666), owner),
        )?;
    }
    Ok(())
}

fn device(root: &Root, path: &Path, kind: SFlag, number: (u64, u64), mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let parent = sys::make_folders_in_root(&root.fd, path.parent().unwrap_or(Path::new("")), 0o755)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("not a device's path"))?;
    let permissions = Mode::from_bits_truncate(mode & 0o777);
    match nix::sys::stat::mknodat(&parent, name, kind, permissions, makedev(number.0, number.1)) {
        Ok(()) => {
            nix::unistd::fchownat(
                &parent,
                name,
                Some(owner.0.into()),
                Some(owner.1.into()),
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
        }
        // What the image has there is only taken if it is that very device (CVE-2025-31133).
        Err(nix::errno::Errno::EEXIST) => {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let found = nix::sys::stat::fstat(nix::fcntl::openat(&parent, name, flags, Mode::empty())?)?;
            let same = found.st_rdev == makedev(number.0, number.1) && found.st_mode & SFlag::S_IFMT.bits() == kind.bits();
            if !same {
                return Err(io::Error::other(format!("/{} is there and is another file", path.display())));
            }
        }
        // A user namespace makes no devices: the host's own is bound.
        Err(nix::errno::Errno::EPERM) => {
            let own = sys::open_real(&Path::new("/").join(path))?;
            Detached::copy_of(own, Depth::Top)?.attach(root.file(path)?)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn links(root: &Root, own_dev: bool) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
    let dev = sys::open_in_root(&root.fd, "dev", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    for (name, target) in DEVICE_LINKS {
        // What the image has there stays, unless /dev is ours.
        let made = match symlinkat(target, &dev, name) {
            Err(nix::errno::Errno::EEXIST) if own_dev || name == "ptmx" => {
                unlinkat(&dev, name, UnlinkatFlags::NoRemoveDir).and_then(|()| symlinkat(target, &dev, name))
            }
            Err(nix::errno::Errno::EEXIST) => Ok(()),
            other => other,
        };
        at(&format!("cannot make /dev/{name}"), made)?;
    }
    Ok(())
}

/// What is done once the root is `/`: propagation, read-only and masked paths.
fn protect(init: &Init) -> io::Result<()> {
    let spec = &init.bundle.spec;
    let linux = spec.linux().as_ref();
    let root = Root::at(Path::new("/"))?;
    if let Some(spread) = linux.and_then(|linux| linux.rootfs_propagation().clone()) {
        let flags = match spread.trim_start_matches('r') {
            "shared" => MsFlags::MS_SHARED,
            "private" => MsFlags::MS_PRIVATE,
            "unbindable" => MsFlags::MS_UNBINDABLE,
            _ => MsFlags::MS_SLAVE,
        };
        let all = if spread.starts_with('r') { MsFlags::MS_REC } else { MsFlags::empty() };
        at("cannot set the root's propagation", sys::remount(Path::new("/"), flags | all))?;
    }
    if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        let made = sys::change_mount(&root.fd, Attributes::set(Attributes::READ_ONLY), Depth::Top);
        at("cannot make the root read-only", made)?;
    }
    let Some(linux) = linux else { return Ok(()) };
    for path in linux.readonly_paths().iter().flatten() {
        at(&format!("cannot make {path} read-only"), root.protect(path.trim_start_matches('/')))?;
    }
    for path in linux.masked_paths().iter().flatten() {
        at(&format!("cannot mask {path}"), root.mask(path.trim_start_matches('/')))?;
    }
    Ok(())
}

/// Makes the container's terminal, sends its master away, and takes it as the standard streams.
pub fn terminal(console: &UnixStream, process: &Process, bind_console: bool) -> io::Result<()> {
    let (master, slave) = sys::open_terminal(Path::new("/dev/pts"))?;
    if let Some(size) = process.console_size() {
        let (rows, columns) = (u16::try_from(size.height()).unwrap_or(0), u16::try_from(size.width()).unwrap_or(0));
        sys::set_window_size(&master, rows, columns);
    }
    nix::unistd::fchown(&slave, Some(process.user().uid().into()), None)?;
    if bind_console {
        let root = Root::at(Path::new("/"))?;
        if let Ok(target) = root.file(Path::new("dev/console")) {
            Detached::copy_of(&slave, Depth::Top)?.attach(target)?;
        }
    }
    // runc sends the terminal's name as the message.
    let name = std::fs::read_link(through(&slave)).unwrap_or_default();
    sys::send_with(console, name.as_os_str().as_encoded_bytes(), &[master.as_raw_fd()])?;
    sys::take_terminal(&slave)?;
    (0..3).try_for_each(|number| sys::place_descriptor(&slave, number))
}

/// What does not depend on the start: resource limits.
pub fn prepare(process: &Process) -> io::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string().to_lowercase();
        let name = name.trim_start_matches("rlimit_").to_owned();
        let Some(resource) = resource(&name) else { return Err(io::Error::other(format!("there is no resource limit {name}"))) };
        at(
            &format!("cannot set RLIMIT_{}", name.to_uppercase()),
            nix::sys::resource::setrlimit(resource, limit.soft(), limit.hard()),
        )?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match format!("{:?}", priority.class()).as_str() {
            name if name.ends_with("Rt") => 1,
            name if name.ends_with("Idle") => 3,
            _ => 2,
        };
        at("cannot set the I/O priority", sys::set_io_priority(class, i32::try_from(priority.priority()).unwrap_or(4)))?;
    }
    if let Some(scheduler) = process.scheduler() {
        let words = serde_json::to_value(scheduler)?;
        let policy = match words["policy"].as_str().unwrap_or_default() {
            "SCHED_FIFO" => 1,
            "SCHED_RR" => 2,
            "SCHED_BATCH" => 3,
            "SCHED_IDLE" => 5,
            "SCHED_DEADLINE" => 6,
            _ => 0,
        };
        // `SCHED_FLAG_*` (sched_setattr(2)), by the crate's names.
        let flags = words["flags"].as_array().into_iter().flatten().filter_map(|flag| flag.as_str()).fold(0, |all, flag| {
            all | match flag {
                "SCHED_RESET_ON_FORK" => 0x01,
                "SCHED_FLAG_RECLAIM" => 0x02,
                "SCHED_FLAG_D_L_OVERRUN" => 0x04,
                "SCHED_FLAG_KEEP_POLICY" => 0x08,
                "SCHED_FLAG_KEEP_PARAMS" => 0x10,
                "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
                "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
                _ => 0,
            }
        });
        let number = |name: &str| words[name].as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
        let time = |name: &str| words[name].as_u64().unwrap_or(0);
        let scheduler = sys::Scheduler {
            policy,
            flags,
            nice: number("nice"),
            priority: number("priority").unsigned_abs(),
            times: ["runtime", "deadline", "period"].map(time),
        };
        at("cannot set the scheduler", sys::set_scheduler(&scheduler))?;
    }
    Ok(())
}

/// The kernel that the process sees itself on (personality(2)).
pub fn personality(linux: &Linux) -> io::Result<()> {
    let Some(personality) = linux.personality() else { return Ok(()) };
    let domain = if serde_json::to_value(personality)?["domain"] == "LINUX32" { 8 } else { 0 };
    at("cannot set the personality", sys::set_personality(domain))
}

/// The policy by which memory comes from nodes (set_mempolicy(2)).
fn memory_policy(policy: &oci_spec::runtime::LinuxMemoryPolicy) -> io::Result<()> {
    let words = serde_json::to_value(policy)?;
    let mode = match words["mode"].as_str().unwrap_or_default() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(io::Error::other(format!("there is no mode {other:?}"))),
    };
    let flags = words["flags"].as_array().into_iter().flatten().filter_map(|flag| flag.as_str()).fold(0, |all, flag| {
        all | match flag {
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_STATIC_NODES" => 1 << 15,
            _ => 0,
        }
    });
    let nodes = match words["nodes"].as_str().filter(|nodes| !nodes.is_empty()) {
        Some(text) => {
            crate::runtime::processors(text).ok_or_else(|| io::Error::other(format!("{text:?} is no list of nodes")))?
        }
        None => std::collections::BTreeSet::new(),
    };
    sys::set_memory_policy(mode | flags, &nodes.into_iter().collect::<Vec<_>>())
}

/// Whether the kernel would take a process's capabilities: none is inheritable beyond the bounding set. What is permitted
/// beyond it goes by itself when the program is executed (capabilities(7)).
pub fn check_capabilities(process: &Process) -> io::Result<()> {
    let beyond = |sets: &LinuxCapabilities| (mask(sets.inheritable()) | mask(sets.ambient())) & !mask(sets.bounding()) != 0;
    if process.capabilities().as_ref().is_some_and(beyond) {
        let why = "EPERM: process.capabilities has inheritable ones that are not in its bounding set";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// Takes on the process's identity, capabilities and filter; a filter's listener is sent over the line.
pub fn become_process(process: &Process, filter: Option<&Filter>, line: &UnixStream, proc: &OwnedFd) -> io::Result<()> {
    let promised = process.no_new_privileges() == Some(true);
    check_capabilities(process)?;
    confine::confine(process, proc)?;
    if promised {
        sys::forbid_new_privileges()?;
    } else if let Some(filter) = filter {
        // Without that promise a filter needs CAP_SYS_ADMIN, so it comes before that is dropped.
        listener::hand_over(line, filter.install()?)?;
    }
    let sets = process.capabilities().clone().unwrap_or_default();
    let had = sys::permitted_capabilities();
    if process.capabilities().is_some() {
        at("cannot bound the capabilities", sys::drop_bounding(mask(sets.bounding())))?;
    }
    sys::keep_capabilities(true)?;
    // Before and after the change of user: either may have the right to enter (runc#2086).
    let cwd = process.cwd();
    let entered = nix::unistd::chdir(cwd.as_path()).or_else(|error| {
        if error == nix::errno::Errno::ENOENT && std::fs::create_dir_all(cwd).is_ok() {
            nix::unistd::chdir(cwd.as_path())
        } else {
            Err(error)
        }
    });
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    at("cannot change to the user", sys::become_user(user.uid(), user.gid(), &groups))?;
    sys::keep_capabilities(false)?;
    if entered.is_err() {
        at(&format!("cannot enter the working directory {}", cwd.display()), nix::unistd::chdir(cwd.as_path()))?;
    }
    // A working directory outside the root could be left behind (CVE-2024-21626).
    if !std::env::current_dir()?.starts_with("/") {
        return Err(io::Error::other("the working directory is outside of the container"));
    }
    let (effective, permitted, inheritable, ambient) =
        (mask(sets.effective()) & had, mask(sets.permitted()) & had, mask(sets.inheritable()) & had, mask(sets.ambient()));
    if process.capabilities().is_some() {
        at("cannot set the capabilities", sys::set_capability_sets(effective & permitted, permitted, inheritable, ambient))?;
    }
    if let Some(filter) = filter.filter(|_| promised) {
        listener::hand_over(line, filter.install()?)?;
    }
    Ok(())
}

/// A program that was found, with its arguments and environment.
pub type Ready = (CString, Vec<CString>, Vec<CString>);

/// Finds the process's program in its own `PATH`.
pub fn find(process: &Process) -> Result<Ready, StartError> {
    let text =
        |text: &str| CString::new(text).map_err(|_| StartError { message: format!("{text:?} holds a NUL byte"), status: 126 });
    let arguments = process.args().clone().unwrap_or_default();
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|pair| pair.starts_with("HOME=")) {
        let home = Root::at(Path::new("/"))
            .and_then(|root| crate::runtime::identity(&root.fd, &process.user().uid().to_string(), &[]))
            .map_or_else(|_| "/".to_owned(), |identity| identity.home);
        environment.push(format!("HOME={home}"));
    }
    let path = environment.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(crate::model::PATH).to_owned();
    let name = arguments.first().map_or("", String::as_str);
    let found = program(name, &path).map_err(|error| {
        // The words that podman and docker look for.
        StartError { message: format!("exec: {name:?}: executable file not found in $PATH: {}", error.message), ..error }
    })?;
    if !std::path::Path::new(found.to_str().unwrap_or_default()).exists() {
        return Err(StartError { message: format!("exec: {name:?}: no such file or directory"), status: 127 });
    }
    Ok((
        found,
        arguments.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
        environment.iter().map(|pair| text(pair)).collect::<Result<_, _>>()?,
    ))
}

/// Executes the program; it returns only with why it could not.
pub fn execute(process: &Process, ready: &Ready) -> StartError {
    sys::reset_signals();
    let error = sys::execute(&ready.0, &ready.1, &ready.2);
    let name = process.args().iter().flatten().next().cloned().unwrap_or_default();
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    StartError { message: format!("exec {name:?}: {error}"), status }
}

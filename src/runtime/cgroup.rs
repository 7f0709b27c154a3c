//! Cgroups: one per container, on v1, hybrid and v2 hosts.
//!
//! Where v2 is mounted, even if v1 is mounted as well (a hybrid host), the v2 tree is used to start processes inside the
//! cgroup and to freeze or kill all of them at once. `limits` decides which limits there are; this module writes them and
//! reads them back. (`cgroups-rs` is not used: it ignores the v2 tree of hybrid hosts and drops write errors.)

use super::controls::Setting;
use super::host::Host;
use super::limits;
use super::spec::Blueprint;
use crate::model::Size;
use crate::project::Limits;
use crate::sys::{self, DeviceRule};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The devices that every container may open, in the syntax of cgroup v1: those of Docker (null zero full random urandom tty
/// ptmx) and the container's own terminals. Any device node may be created. The console (5:1) belongs to the host.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// How the names of cgroups begin that are for one process of a container and what it starts.
const PART: &str = "stead-part-";

/// Converts a rule of the specification: whether it allows access, and its text in the syntax of cgroup v1.
fn written(rule: &LinuxDeviceCgroup) -> (bool, String) {
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
        _ => "a",
    };
    let number = |value: Option<i64>| value.filter(|value| *value >= 0).map_or_else(|| "*".to_owned(), |value| value.to_string());
    let mut access = rule.access().clone().unwrap_or_else(|| "rwm".into());
    access.retain(|letter| "rwm".contains(letter));
    let text =
        if kind == "a" { "a".to_owned() } else { format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor())) };
    (rule.allow(), text)
}

/// A container's cgroup in all hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    /// Directories of v1 hierarchies.
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// Creates the cgroup of a project's container, with its limits and device rules.
    ///
    /// # Errors
    /// Fails when this host cannot apply a limit, or a limit reads back differently than it was written.
    pub fn create(host: &Host, blueprint: &Blueprint) -> io::Result<Self> {
        let (path, wanted) = (blueprint.cgroup(), &blueprint.beyond.limits);
        if let Some(refusal) = limits::refusal(host, wanted) {
            return Err(io::Error::other(refusal.why));
        }
        // Without rules the container could open every device of the host.
        if blueprint.device_rules().is_empty() {
            return Err(io::Error::other("the container has no device rules, so access to devices cannot be restricted"));
        }
        let controllers: Vec<&str> = limits::controllers(wanted).into_iter().map(|(name, _)| name).collect();
        let group = Self::make(host, &path, &controllers)?;
        sys::doing("cannot restrict the container's access to devices", group.devices(host, &path, blueprint.device_rules()))?;
        group.apply(host, &path, &limits::settings(host, wanted).map_err(|refusal| io::Error::other(refusal.why))?)?;
        Ok(group)
    }

    /// Creates a cgroup without limits. `wanted` are controllers that must be switched on for it in v2.
    ///
    /// # Errors
    /// Fails when a directory cannot be created or a controller cannot be switched on.
    pub fn make(host: &Host, path: &str, wanted: &[&str]) -> io::Result<Self> {
        let group = Self { v1: host.hierarchies(path), v2: host.v2.as_ref().map(|place| place.join(path)) };
        if let Some(root) = &host.v2 {
            enable(root, path, &host.v2_controllers, wanted.contains(&"hugetlb"))?;
        }
        for folder in group.v1.iter().chain(&group.v2) {
            fs::create_dir_all(folder)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot make the cgroup {}: {error}", folder.display())))?;
        }
        if let Some(root) = host.place("cpuset") {
            fill_cpuset(root, path)?;
        }
        Ok(group)
    }

    /// Removes our empty directories above a path, in every hierarchy.
    pub fn remove_parents_of(host: &Host, path: &str) {
        let v1 = host.v1.iter().map(|(_, place)| place.join(path)).collect();
        Self { v1, v2: host.v2.as_ref().map(|place| place.join(path)) }.remove_parents();
    }

    /// Opens an existing cgroup, below the root of each hierarchy.
    pub fn open(host: &Host, path: &str) -> Self {
        Self {
            v1: {
                let places: std::collections::BTreeSet<&PathBuf> = host.v1.iter().map(|(_, place)| place).collect();
                places.into_iter().map(|place| place.join(path)).filter(|path| path.is_dir()).collect()
            },
            v2: host.v2.as_ref().map(|place| place.join(path)).filter(|path| path.is_dir()),
        }
    }

    /// Changes the limits of a cgroup that is in use.
    ///
    /// # Errors
    /// Fails when this host cannot apply a limit. The limits before it stay applied.
    pub fn change(&self, host: &Host, path: &str, new: &Limits, old: &Limits) -> io::Result<()> {
        if let Some(refusal) = limits::refusal(host, new) {
            return Err(io::Error::other(refusal.why));
        }
        // The container started without this controller, which costs time in every cgroup; it can be switched on later.
        if let (Some(root), false) = (&host.v2, new.hugepages.is_empty()) {
            enable(root, path, &host.v2_controllers, true)?;
        }
        self.make_room(host, path, new)?;
        let mut settings = limits::resets(host, old, new);
        settings.extend(limits::settings(host, new).map_err(|refusal| io::Error::other(refusal.why))?);
        self.apply(host, path, &settings)
    }

    /// Checks that what the cgroup uses is within its new limit on memory, after the kernel has freed what it can: on v2 it
    /// would otherwise kill processes to keep to the limit.
    fn make_room(&self, host: &Host, path: &str, new: &Limits) -> io::Result<()> {
        let (Some(limit), Some(place)) = (new.memory, host.place("memory").or(host.v2.as_deref())) else { return Ok(()) };
        let folder = place.join(path);
        let used = || -> io::Result<Option<u64>> {
            for name in ["memory.current", "memory.usage_in_bytes"] {
                match fs::read_to_string(folder.join(name)) {
                    Ok(text) => return text.trim().parse().map(Some).map_err(io::Error::other),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        };
        let Some(excess) = used()?.and_then(|used| used.checked_sub(limit.0)).filter(|excess| *excess > 0) else { return Ok(()) };
        if host.place("memory").is_some() {
            // v1 frees what it can on a write of the limit, and refuses the limit if that is not enough.
            if fs::write(folder.join("memory.limit_in_bytes"), limit.0.to_string()).is_ok() {
                return Ok(());
            }
        } else {
            // v2 would kill. A process may take some of what was freed meanwhile, so there are several attempts, each with a
            // little more. Kernels before 5.19 free on a write of `memory.high`.
            for attempt in 1..=5 {
                let more = excess + (attempt << 20);
                let high = |value: &str| fs::write(folder.join("memory.high"), value);
                if fs::write(folder.join("memory.reclaim"), more.to_string())
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
                {
                    high(&limit.0.to_string())?;
                    std::thread::sleep(Duration::from_millis(20));
                    high("max")?;
                }
                if used()?.is_none_or(|used| used <= limit.0) {
                    return Ok(());
                }
            }
        }
        let left = used()?.unwrap_or(0);
        let used = Size(left);
        Err(io::Error::other(format!("memory \"{limit}\": it uses {used} now, and cannot do with less")))
    }

    /// Writes settings and checks that the kernel accepted them.
    ///
    /// # Errors
    /// Fails when the kernel refuses a setting, or it reads back differently than it was written.
    pub fn apply(&self, host: &Host, path: &str, settings: &[Setting]) -> io::Result<()> {
        let file = |setting: &Setting| {
            let root = host.place(setting.controller).or(host.v2.as_deref()).unwrap_or(Path::new("/"));
            root.join(path).join(&setting.file)
        };
        let write = |setting: &Setting| fs::write(file(setting), &setting.value);
        // The limits on memory and on memory with swap bound each other, so a failed write is tried again after the others.
        let late: Vec<&Setting> = settings.iter().filter(|setting| write(setting).is_err()).collect();
        for setting in late {
            write(setting).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot apply `{}` ({}): {error}", setting.what, setting.file))
            })?;
        }
        for setting in settings {
            let text = fs::read_to_string(file(setting)).unwrap_or_default();
            if !setting.taken(&text) {
                return Err(io::Error::other(format!(
                    "the kernel did not take `{}`: {} is {:?}",
                    setting.what,
                    setting.file,
                    text.trim()
                )));
            }
        }
        Ok(())
    }

    /// Whether every process inside is frozen.
    pub fn is_frozen(&self) -> bool {
        let told = |folder: &PathBuf| {
            let v2 = fs::read_to_string(folder.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1"));
            v2 || fs::read_to_string(folder.join("freezer.state")).is_ok_and(|text| text.starts_with("FROZEN"))
        };
        self.v2.iter().chain(&self.v1).any(told)
    }

    /// Applies the rules for devices in their order, then the rules for the devices that every container has. On v2 only the
    /// rules after the last one for all devices count, and each that allows a device allows every kind of access.
    ///
    /// # Errors
    /// Fails when the kernel refuses a rule.
    pub fn devices(&self, host: &Host, path: &str, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        let always = DEVICES.iter().map(|rule| (true, (*rule).to_owned()));
        let rules: Vec<(bool, String)> = rules.iter().map(written).chain(always).collect();
        if let Some(place) = host.place("devices") {
            let folder = place.join(path);
            let open = |name: &str| fs::File::options().write(true).open(folder.join(name));
            let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
            return rules.iter().try_for_each(|(allows, rule)| (if *allows { &allow } else { &deny }).write_all(rule.as_bytes()));
        }
        let from = rules.iter().rposition(|(_, rule)| rule.starts_with('a')).unwrap_or(0);
        if rules[from].0 {
            return Ok(());
        }
        let allowed = rules[from + 1..].iter().filter(|(allow, rule)| *allow && !rule.contains("*:*"));
        let allowed: Vec<DeviceRule> = allowed
            .filter_map(|(_, rule)| {
                let mut words = rule.split(' ');
                let character = words.next()? == "c";
                let (major, minor) = words.next()?.split_once(':')?;
                Some(DeviceRule { character, major: major.parse().ok()?, minor: minor.parse().ok() })
            })
            .collect();
        match self.entrance()? {
            Some(folder) => sys::allow_devices(&folder, &allowed),
            None => Err(io::Error::other("this host has no cgroups, so access to devices cannot be restricted")),
        }
    }

    /// Freezes every process inside, or thaws them, and returns when that is done.
    ///
    /// # Errors
    /// Fails when writing fails, the cgroup is gone, or the processes are not frozen or thawed within ten seconds.
    pub fn freeze(&self, host: &Host, frozen: bool) -> io::Result<()> {
        let (file, value, told, line) = match (&self.v2, host.place("freezer")) {
            (Some(folder), _) => (
                folder.join("cgroup.freeze"),
                if frozen { "1" } else { "0" },
                folder.join("cgroup.events"),
                if frozen { "frozen 1" } else { "frozen 0" },
            ),
            (None, Some(place)) => {
                let folder = self.v1.iter().find(|folder| folder.starts_with(place));
                let folder = folder.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its cgroup is gone"))?;
                let word = if frozen { "FROZEN" } else { "THAWED" };
                (folder.join("freezer.state"), word, folder.join("freezer.state"), word)
            }
            (None, None) => return Err(io::Error::other("this host has no freezer")),
        };
        fs::write(&file, value)?;
        for _ in 0..10_000 {
            if fs::read_to_string(&told).is_ok_and(|text| text.lines().any(|found| found == line)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("its processes did not freeze or thaw within ten seconds"))
    }

    /// The directories of the container's cgroup: those of v1, then that of v2.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().chain(&self.v2).map(PathBuf::as_path)
    }

    /// The same cgroup, except that some hierarchies use an existing cgroup below it: `[CONTROLLERS:]PATH`.
    ///
    /// # Errors
    /// Fails when a path contains `..` or does not exist, and when there is no such controller.
    pub fn below(&self, host: &Host, wishes: &[String]) -> io::Result<Self> {
        let mut group = Self { v1: self.v1.clone(), v2: self.v2.clone() };
        for wish in wishes {
            let (controllers, path) = wish.split_once(':').map_or((None, wish.as_str()), |(names, path)| (Some(names), path));
            let path = Path::new(path.trim_start_matches('/'));
            // A path with `..` could lead to the cgroup of another container (crun 1.28, 1.29).
            if path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                return Err(io::Error::other(format!("{wish} is not a sub cgroup path")));
            }
            let names: Option<Vec<&str>> = controllers.map(|names| names.split(',').collect());
            if let Some(unknown) = names.iter().flatten().find(|name| !name.is_empty() && host.version(name).is_none()) {
                return Err(io::Error::other(format!("unknown controller {unknown}: this host has no such cgroup controller")));
            }
            for folder in group.v1.iter_mut().chain(&mut group.v2) {
                let place = host.v1.iter().find(|(_, place)| folder.starts_with(place)).map(|(name, _)| name.as_str());
                let meant = names.as_ref().is_none_or(|names| place.is_some_and(|place| names.contains(&place)));
                if meant {
                    folder.push(path);
                    if !folder.is_dir() {
                        return Err(io::Error::other(format!(
                            "error adding pid to {}/cgroup.procs: no such file or directory",
                            folder.display()
                        )));
                    }
                }
            }
        }
        Ok(group)
    }

    /// The same cgroup, except that one hierarchy uses a new cgroup below it. What a process in it starts stays in it, so that
    /// all of that can be ended together, by [`kill`](Self::kill). There is one process of a `kind` at a time.
    ///
    /// # Errors
    /// Fails when the directory cannot be made.
    pub fn part(&self, kind: &str) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut part = Self { v1: self.v1.clone(), v2: self.v2.clone() };
        let prefix = format!("{PART}{kind}-");
        let folder = if let Some(folder) = &mut part.v2 {
            // Earlier ones that cannot be removed yet are removed next time, or with the container.
            for old in sys::names(folder)?.iter().filter(|name| name.starts_with(&prefix)) {
                let _ = fs::remove_dir(folder.join(old));
            }
            // A name is not used twice: what is cloned into a cgroup that was killed once is killed (Linux 6.18).
            folder.push(format!("{prefix}{}", COUNT.fetch_add(1, Ordering::Relaxed)));
            folder
        } else {
            // Of the hierarchies of v1, not all pass limits on to cgroups below. The first is the one whose processes are killed.
            let passes_on =
                |folder: &PathBuf| folder.components().any(|part| part.as_os_str() == "pids" || part.as_os_str() == "freezer");
            let at = part.v1.iter().position(passes_on).unwrap_or(0);
            let Some(folder) = part.v1.get_mut(at) else { return Ok(part) };
            folder.push(&prefix);
            part.v1.swap(0, at);
            &mut part.v1[0]
        };
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io::Error::new(error.kind(), format!("cannot make the cgroup {}: {error}", folder.display())))
            }
            _ => Ok(part),
        }
    }

    /// Kills every process inside, without waiting until they are gone.
    pub fn kill(&self) {
        if self.v2.as_ref().is_some_and(|folder| fs::write(folder.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        // What is started while the list is read is in the next one.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }

    /// Opens the v2 directory so that a process can be cloned into it.
    ///
    /// # Errors
    /// Fails when it cannot be opened: without it the process would have no limits and could open every device.
    pub fn entrance(&self) -> io::Result<Option<OwnedFd>> {
        let Some(folder) = &self.v2 else { return Ok(None) };
        let opened = fs::File::open(folder).map(|folder| Some(OwnedFd::from(folder)));
        sys::doing(&format!("cannot open the cgroup {}", folder.display()), opened)
    }

    /// Moves this process, which must have one thread, into the v1 hierarchies, and into v2 if it was not
    /// started there.
    ///
    /// A thread that moves itself does not need the lock on all threads of the machine. Taking that lock for the first time
    /// after a pause costs an RCU grace period of 5 to 15 ms (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
    ///
    /// # Errors
    /// Fails when `tasks` or `cgroup.procs` cannot be written.
    pub fn enter(&self, inside_v2: bool) -> io::Result<()> {
        let v2 = self.v2.as_ref().filter(|_| !inside_v2).map(|folder| folder.join("cgroup.procs"));
        for file in self.v1.iter().map(|folder| folder.join("tasks")).chain(v2) {
            fs::write(&file, "0")
                .map_err(|error| io::Error::new(error.kind(), format!("cannot enter the cgroup {}: {error}", file.display())))?;
        }
        Ok(())
    }

    /// All processes inside, those of cgroups below included.
    pub fn processes(&self) -> Vec<i32> {
        let Some(folder) = self.v2.as_ref().or(self.v1.first()) else { return Vec::new() };
        let within = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let texts: Vec<String> = beneath(folder).iter().chain([folder]).map(within).collect();
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything inside, removes the cgroup, and returns when nothing is left. The project's and the
    /// installation's directories are removed with their last container.
    ///
    /// # Errors
    /// Fails when processes do not die within ten seconds.
    pub fn destroy(&self) -> io::Result<()> {
        self.empty()?;
        self.remove_parents();
        Ok(())
    }

    /// Like [`destroy`](Self::destroy), but leaves the project's directories for the next container.
    ///
    /// # Errors
    /// Fails when processes do not die within ten seconds.
    pub fn empty(&self) -> io::Result<()> {
        let mut wait = Duration::from_micros(200);
        let mut waited = Duration::ZERO;
        loop {
            let killed_at_once = self.v2.as_ref().is_some_and(|folder| fs::write(folder.join("cgroup.kill"), "1").is_ok());
            let left = self.processes();
            if !killed_at_once {
                // In v1 a frozen process dies only after it is thawed.
                for folder in &self.v1 {
                    let _ = fs::write(folder.join("freezer.state"), "THAWED");
                }
                for pid in &left {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
            if left.is_empty() && self.remove() {
                return Ok(());
            }
            if waited > Duration::from_secs(10) {
                return Err(io::Error::other(format!("processes of the container did not die within ten seconds: {left:?}")));
            }
            std::thread::sleep(wait);
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(20));
        }
    }

    /// Removes the project's and the installation's directories if they are empty.
    fn remove_parents(&self) {
        let ours = |parent: &&Path| parent.components().any(|part| part.as_os_str().to_string_lossy().starts_with("stead-"));
        for folder in self.v1.iter().chain(&self.v2) {
            for parent in folder.ancestors().skip(1).take(2).take_while(ours) {
                let _ = fs::remove_dir(parent);
            }
        }
    }

    /// Removes the directories, and returns whether none is left.
    fn remove(&self) -> bool {
        let mut gone = true;
        for folder in self.v1.iter().chain(&self.v2) {
            let removed = fs::remove_dir(folder).or_else(|error| {
                // The container may have created cgroups inside.
                let inner = beneath(folder);
                if inner.is_empty() {
                    return Err(error);
                }
                inner.iter().try_for_each(fs::remove_dir).and_then(|()| fs::remove_dir(folder))
            });
            match removed {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => gone = false,
            }
        }
        gone
    }

    /// How often a process inside was killed because memory ran out.
    pub fn out_of_memory_kills(&self) -> u64 {
        let count = |path: PathBuf, key: &str| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        };
        let v1 = self.v1.iter().find_map(|folder| count(folder.join("memory.oom_control"), "oom_kill "));
        let v2 = self.v2.as_ref().and_then(|folder| count(folder.join("memory.events"), "oom_kill "));
        v1.or(v2).unwrap_or(0)
    }
}

/// All cgroups below one, the deepest first.
fn beneath(folder: &Path) -> Vec<PathBuf> {
    // Each subdirectory adds one to the link count, so most directories need not be listed (kernfs).
    if fs::metadata(folder).map_or(0, |metadata| metadata.nlink()) <= 2 {
        return Vec::new();
    }
    // A directory that is removed meanwhile counts as empty. If one cannot be listed, its parents cannot be removed either.
    let names = sys::names(folder).unwrap_or_default();
    names
        .into_iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_dir())
        .flat_map(|path| {
            let mut all = beneath(&path);
            all.push(path);
            all
        })
        .collect()
}

/// Copies the parent's processors and memory nodes to every v1 cpuset along the path. A new cpuset has none, unless its parent
/// passes them on (cpusets(7), `cgroup.clone_children`), as ours do.
fn fill_cpuset(root: &Path, path: &str) -> io::Result<()> {
    let files = ["cpuset.cpus", "cpuset.mems"];
    let mut folder = root.join(path);
    let is_empty = |folder: &Path| -> io::Result<bool> {
        for file in files {
            if fs::read_to_string(folder.join(file))?.trim().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if !is_empty(&folder)? {
        return Ok(());
    }
    folder = root.to_owned();
    for part in path.split('/') {
        let parent = folder.clone();
        folder.push(part);
        if is_empty(&folder)? {
            for file in files {
                fs::write(folder.join(file), fs::read_to_string(parent.join(file))?)?;
            }
        }
        fs::write(folder.join("cgroup.clone_children"), "1")?;
    }
    Ok(())
}

/// Switches controllers on along a path of the v2 tree, from its root to the cgroup's parent.
fn enable(root: &Path, path: &str, controllers: &[String], pages: bool) -> io::Result<()> {
    let always = ["cpu", "memory", "pids", "io", "cpuset"];
    let wanted: Vec<&String> =
        controllers.iter().filter(|name| always.contains(&name.as_str()) || pages && *name == "hugetlb").collect();
    let mut folder = root.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for part in &parts {
        for name in &wanted {
            let file = folder.join("cgroup.subtree_control");
            let on = fs::read_to_string(&file).is_ok_and(|text| text.split_whitespace().any(|known| known == *name));
            if !on {
                fs::write(&file, format!("+{name}")).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot switch the `{name}` controller on in {}: {error}", folder.display()),
                    )
                })?;
            }
        }
        folder.push(part);
        if folder != root.join(path) {
            fs::create_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_neither_frozen_nor_let_go() {
        let host = Host { v1: vec![("freezer".to_owned(), "/nowhere/freezer".into())], v2: None, v2_controllers: Vec::new() };
        let gone = Cgroup::open(&host, "gone");
        for frozen in [true, false] {
            assert_eq!(gone.freeze(&host, frozen).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        }
    }
}

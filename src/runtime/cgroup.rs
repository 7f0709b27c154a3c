//! Cgroups: one per container, on v1, hybrid and v2 hosts.
//!
//! `cgroups-rs` sets the limits; since it drops errors of the memory controller and limits of absent
//! controllers, every limit is read back here. Placing, killing and removing are done by hand: on a
//! hybrid host the v2 half (which the crate ignores) starts processes inside and kills them at once.

use super::spec::CgroupSpec;
use crate::sys::{self, DeviceRule};
use cgroups_rs::fs::{MaxValue, Resources, hierarchies};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How this host's cgroups are laid out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// v1 controllers with where they are mounted.
    pub v1: Vec<(String, PathBuf)>,
    /// Where the v2 tree is mounted.
    pub v2: Option<PathBuf>,
    /// Controllers of the v2 tree.
    pub v2_controllers: Vec<String>,
}

/// Finds the host's hierarchies.
pub fn host() -> Host {
    let mut host = Host { v1: Vec::new(), v2: None, v2_controllers: Vec::new() };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(place) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") if host.v2.is_none() => host.v2 = Some(place),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                for controller in ["cpu", "cpuacct", "memory", "pids", "freezer", "devices", "blkio", "cpuset"] {
                    if options.split(',').any(|option| option == controller)
                        && !host.v1.iter().any(|(known, _)| known == controller)
                    {
                        host.v1.push((controller.to_owned(), place.clone()));
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(v2) = &host.v2 {
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        host.v2_controllers = controllers.split_whitespace().map(str::to_owned).collect();
    }
    host
}

/// Controllers that a container is always in, so that its usage can be told.
const ALWAYS: [&str; 5] = ["memory", "pids", "cpuacct", "freezer", "devices"];

/// Devices that every container may open: Docker's (null zero full random urandom tty console ptmx), and its own terminals.
const DEVICES: [(u32, Option<u32>); 9] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(1)), (5, Some(2)), (136, None)];

impl Host {
    /// Why a limit cannot be applied here, if it cannot.
    pub fn refuses(&self, spec: &CgroupSpec) -> Option<String> {
        let wanted = [("cpu", spec.cpus.is_some()), ("memory", spec.memory.is_some()), ("pids", spec.pids.is_some())];
        let has =
            |name: &str| self.v1.iter().any(|(known, _)| known == name) || self.v2_controllers.iter().any(|known| known == name);
        let missing = wanted.iter().find(|(name, wanted)| *wanted && !has(name))?;
        Some(format!("this host has no `{}` cgroup controller", missing.0))
    }

    fn controllers(&self, spec: &CgroupSpec) -> Vec<(&str, &Path)> {
        let used = |name: &str| ALWAYS.contains(&name) || name == "cpu" && spec.cpus.is_some();
        self.v1.iter().filter(|(name, _)| used(name)).map(|(name, place)| (name.as_str(), place.as_path())).collect()
    }
}

/// A container's cgroup in all hierarchies that matter.
#[derive(Debug)]
pub struct Cgroup {
    /// Folders of v1 hierarchies.
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// Makes a cgroup and applies its limits.
    ///
    /// # Errors
    /// A limit that this host cannot apply, or that reads back otherwise than written.
    pub fn create(host: &Host, spec: &CgroupSpec) -> io::Result<Self> {
        if let Some(why) = host.refuses(spec) {
            return Err(io::Error::other(why));
        }
        let group = Self {
            v1: host.controllers(spec).iter().map(|(_, place)| place.join(&spec.path)).collect(),
            v2: host.v2.as_ref().map(|place| place.join(&spec.path)),
        };
        if let Some(root) = &host.v2 {
            enable(root, &spec.path, &host.v2_controllers)?;
        }
        for folder in group.v1.iter().chain(&group.v2) {
            fs::create_dir_all(folder)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot make the cgroup {}: {error}", folder.display())))?;
        }
        group.devices(host, spec)?;
        group.limit(host, spec)?;
        Ok(group)
    }

    /// A cgroup that was made before.
    pub fn open(host: &Host, spec: &CgroupSpec) -> Self {
        Self {
            v1: host.v1.iter().map(|(_, place)| place.join(&spec.path)).filter(|path| path.is_dir()).collect(),
            v2: host.v2.as_ref().map(|place| place.join(&spec.path)).filter(|path| path.is_dir()),
        }
    }

    /// Closes every device but the harmless ones: a container's root may make nodes for any of them.
    fn devices(&self, host: &Host, spec: &CgroupSpec) -> io::Result<()> {
        let mut rules: Vec<DeviceRule> =
            DEVICES.iter().map(|(major, minor)| DeviceRule { character: true, major: *major, minor: *minor }).collect();
        for path in &spec.devices {
            let metadata =
                fs::metadata(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            rules.push(DeviceRule {
                character: metadata.file_type().is_char_device(),
                major: number(nix::sys::stat::major(metadata.rdev())),
                minor: Some(number(nix::sys::stat::minor(metadata.rdev()))),
            });
        }
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot close the host's devices to the container: {error}"));
        if let Some((_, place)) = host.v1.iter().find(|(name, _)| name == "devices") {
            let folder = place.join(&spec.path);
            fs::write(folder.join("devices.deny"), "a").map_err(failed)?;
            let written = rules.iter().map(|rule| {
                let minor = rule.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
                format!("{} {}:{minor} rwm", if rule.character { 'c' } else { 'b' }, rule.major)
            });
            return ["c *:* m".to_owned(), "b *:* m".to_owned()]
                .into_iter()
                .chain(written)
                .try_for_each(|rule| fs::write(folder.join("devices.allow"), rule))
                .map_err(failed);
        }
        match self.entrance() {
            Some(folder) => sys::allow_devices(&folder, &rules).map_err(failed),
            None => Ok(()),
        }
    }

    fn limit(&self, host: &Host, spec: &CgroupSpec) -> io::Result<()> {
        if spec.cpus.is_none() && spec.memory.is_none() && spec.pids.is_none() {
            return Ok(());
        }
        let mut wanted: Vec<String> = Vec::new();
        let mut resources = Resources::default();
        if let Some(cpus) = spec.cpus {
            wanted.push("cpu".into());
            resources.cpu.period = Some(100_000);
            #[expect(clippy::cast_possible_truncation, reason = "a quota of microseconds; whole ones are meant")]
            let quota = ((cpus * 100_000.0).round() as i64).max(1000);
            resources.cpu.quota = Some(quota);
        }
        if let Some(memory) = spec.memory {
            wanted.push("memory".into());
            resources.memory.memory_hard_limit = Some(i64::try_from(memory.0).unwrap_or(i64::MAX));
        }
        if let Some(pids) = spec.pids {
            wanted.push("pids".into());
            resources.pid.maximum_number_of_processes = Some(MaxValue::Value(i64::from(pids)));
        }
        let group = cgroups_rs::fs::Cgroup::load_with_specified_controllers(hierarchies::auto(), &spec.path, wanted);
        group.apply(&resources).map_err(|error| io::Error::other(format!("cannot apply the limits: {error}")))?;
        self.read_back(host, spec)
    }

    /// Checks that the kernel took the limits.
    fn read_back(&self, host: &Host, spec: &CgroupSpec) -> io::Result<()> {
        let file = |controller: &str, v1: &str, v2: &str| {
            let place = host.v1.iter().find(|(name, _)| name == controller).map(|(_, place)| place.join(&spec.path).join(v1));
            place.or_else(|| self.v2.as_ref().map(|folder| folder.join(v2)))
        };
        let number = |path: Option<PathBuf>| {
            path.and_then(|path| fs::read_to_string(path).ok())
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        };
        if let Some(memory) = spec.memory {
            let found = number(file("memory", "memory.limit_in_bytes", "memory.max"));
            // The kernel rounds down to whole pages.
            if found.is_none_or(|found| found > memory.0 || memory.0 - found >= 65536) {
                return Err(io::Error::other(format!("the kernel did not take the memory limit of {memory}")));
            }
        }
        if let Some(pids) = spec.pids
            && number(file("pids", "pids.max", "pids.max")) != Some(u64::from(pids))
        {
            return Err(io::Error::other("the kernel did not take the limit of processes"));
        }
        Ok(())
    }

    /// The v2 folder, opened so that a process can be cloned into it.
    pub fn entrance(&self) -> Option<OwnedFd> {
        fs::File::open(self.v2.as_ref()?).ok().map(OwnedFd::from)
    }

    /// Moves a process into the v1 hierarchies, and into v2 if it was not started there.
    ///
    /// # Errors
    /// Those of writing `cgroup.procs`.
    pub fn place(&self, pid: i32, inside_v2: bool) -> io::Result<()> {
        let v2 = self.v2.as_ref().filter(|_| !inside_v2);
        for folder in self.v1.iter().chain(v2) {
            fs::write(folder.join("cgroup.procs"), pid.to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot move a process into {}: {error}", folder.display()))
            })?;
        }
        Ok(())
    }

    /// All processes inside.
    pub fn processes(&self) -> Vec<i32> {
        let folder = self.v2.as_ref().or(self.v1.first());
        let text = folder.and_then(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything inside and removes the cgroup; returns when nothing is left.
    ///
    /// # Errors
    /// When processes do not die within ten seconds.
    pub fn destroy(&self) -> io::Result<()> {
        let mut wait = Duration::from_micros(200);
        let mut waited = Duration::ZERO;
        loop {
            let killed_at_once = self.v2.as_ref().is_some_and(|folder| fs::write(folder.join("cgroup.kill"), "1").is_ok());
            let left = self.processes();
            if !killed_at_once {
                for pid in &left {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
            if left.is_empty() && self.remove() {
                return Ok(());
            }
            if waited > Duration::from_secs(10) {
                return Err(io::Error::other(format!("processes of a container do not die: {left:?}")));
            }
            std::thread::sleep(wait);
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(20));
        }
    }

    /// Removes the folders, and their parents where they are empty; tells whether none is left.
    fn remove(&self) -> bool {
        let mut gone = true;
        for folder in self.v1.iter().chain(&self.v2) {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => gone = false,
            }
            // The project's and the installation's folders go with their last container.
            let parents = folder.ancestors().skip(1).take(2);
            for parent in parents
                .take_while(|parent| parent.components().any(|part| part.as_os_str().to_string_lossy().starts_with("stead-")))
            {
                let _ = fs::remove_dir(parent);
            }
        }
        gone
    }

    /// How often a process inside was killed for want of memory.
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

/// Switches controllers on along a path of the v2 tree, from its root to the cgroup's parent.
fn enable(root: &Path, path: &str, controllers: &[String]) -> io::Result<()> {
    let wanted: Vec<&String> =
        controllers.iter().filter(|name| matches!(name.as_str(), "cpu" | "memory" | "pids" | "io" | "cpuset")).collect();
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

//! Translates a project's description of a container to an OCI runtime specification. It is a pure function, so that a test
//! shows what a container may do.
//!
//! What a project cannot set is the same as in Docker (`oci/defaults.go`, `daemon/oci_linux.go`).

use super::controls::{PERIOD, page_name};
use super::limits::{quota, shares};
use super::spec::{Beyond, Blueprint, ContainerSpec, MountKind, MountSpec, NetSpec, ProcessSpec, SecuritySpec};
use crate::model::{PATH, capability};
use crate::project::{Limits, Propagation};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType,
    LinuxHugepageLimit, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources, Mount, PosixRlimitBuilder,
    PosixRlimitType, Process, Root, Spec,
};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The version of the specification that blueprints are written in.
pub const SPECIFICATION: &str = "1.2.0";

/// Docker's masked paths (`oci/defaults.go`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Compiles the specification of a container.
///
/// # Errors
/// Fails for a mount in /proc, and for names that the specification does not have.
pub fn compile(container: ContainerSpec) -> io::Result<Blueprint> {
    let ContainerSpec {
        hostname,
        layers,
        root,
        scratch,
        process,
        mounts,
        files,
        devices,
        sysctls,
        shm,
        network,
        host_pid,
        host_ipc,
        init,
        security,
        cgroup,
        limits,
        processors,
    } = container;
    let (interfaces, own_network) = match network {
        NetSpec::Host => (Vec::new(), false),
        NetSpec::Own { interfaces } => (interfaces, true),
    };
    let travels = mounts
        .iter()
        .any(|mount| matches!(&mount.kind, MountKind::Bind { propagation, .. } if *propagation != Propagation::Private));
    let own = |kind, own: bool| own.then(|| namespace(kind));
    let namespaces = [
        own(LinuxNamespaceType::Mount, true),
        own(LinuxNamespaceType::Uts, true),
        own(LinuxNamespaceType::Cgroup, true),
        own(LinuxNamespaceType::Network, own_network),
        own(LinuxNamespaceType::Ipc, !host_ipc),
        own(LinuxNamespaceType::Pid, !host_pid),
    ];
    let mut openable = LinuxResources::default();
    openable.set_devices(Some(device_rules(&devices, security.privileged)));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces.into_iter().flatten().collect()))
        .set_cgroups_path(Some(Path::new("/").join(cgroup)))
        .set_resources(Some(openable))
        .set_sysctl(Some(sysctls.into_iter().collect()))
        .set_rootfs_propagation(Some(if travels { "slave" } else { "private" }.into()))
        .set_masked_paths(Some(if security.privileged { Vec::new() } else { masked(processors) }))
        .set_readonly_paths(Some(if security.privileged { Vec::new() } else { READ_ONLY.map(str::to_owned).to_vec() }))
        .set_devices(Some(devices));
    let mut beyond = Beyond {
        layers: Some(layers),
        scratch,
        user: Some(process.user.clone()),
        files,
        interfaces,
        limits,
        filter: security.filter.clone(),
        init,
        ..Beyond::default()
    };
    let mut top = Root::default();
    top.set_path(root).set_readonly(Some(security.read_only));
    let mounts = all_mounts(mounts, &kernels(&security, shm.0, host_ipc)?, &mut beyond)?;
    let mut oci = Spec::default();
    oci.set_version(SPECIFICATION.into())
        .set_process(Some(first_process(process, &hostname, &security)?))
        .set_root(Some(top))
        .set_mounts(Some(mounts))
        .set_linux(Some(linux));
    oci.set_hostname(Some(hostname));
    Ok(Blueprint { oci, beyond })
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace
}

/// The value of an enum of the specification, by its name there.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> io::Result<T> {
    Ok(serde_json::from_value(name.into())?)
}

fn first_process(process: ProcessSpec, hostname: &str, security: &SecuritySpec) -> io::Result<Process> {
    let names = capability::names(security.capabilities);
    // The crate uses the same names as we do, without `CAP_`.
    let all = names.iter().map(|name| Capability::from_str(name).map_err(io::Error::other));
    let all = all.collect::<io::Result<Capabilities>>()?;
    let mut capabilities = LinuxCapabilities::default();
    // A user other than root loses these when the program is executed; nothing has to be done for that (capabilities(7)).
    capabilities
        .set_bounding(Some(all.clone()))
        .set_effective(Some(all.clone()))
        .set_permitted(Some(all))
        .set_inheritable(None)
        .set_ambient(None);
    let mut rlimits = Vec::new();
    for limit in &security.ulimits {
        let kind: PosixRlimitType = named(&format!("RLIMIT_{}", limit.name.to_uppercase()))?;
        let rlimit = PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build();
        rlimits.push(rlimit.map_err(io::Error::other)?);
    }
    // The container's variables override these defaults of Docker. HOME is set later, from the container's own files.
    let mut env = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if process.tty {
        env.push("TERM=xterm".into());
    }
    env.retain(|pair| pair.split_once('=').is_none_or(|(name, _)| !process.env.contains_key(name)));
    env.extend(process.env.iter().map(|(name, value)| format!("{name}={value}")));
    let workdir = if process.workdir.is_empty() { "/" } else { &process.workdir };
    let mut made = Process::default();
    made.set_terminal(Some(process.tty))
        .set_args(Some(process.args))
        .set_env(Some(env))
        .set_cwd(Path::new("/").join(workdir))
        .set_capabilities(Some(capabilities))
        .set_rlimits(Some(rlimits))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_oom_score_adj(security.oom_score);
    Ok(made)
}

/// The kernel's own file systems, which every container has.
fn kernels(security: &SecuritySpec, shm: u64, host_ipc: bool) -> io::Result<Vec<Mount>> {
    let written = if security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ];
    if host_ipc {
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["bind", "private"]));
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        let size = format!("size={shm}");
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    }
    // Paths in these are masked with the null device, which exists by now.
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", written]));
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", written]));
    mounts.push(mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]));
    Ok(mounts)
}

fn mount(to: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(to.into())
        .set_typ(Some(kind.into()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// The kernel's mounts, then those of the project, the outermost first.
fn all_mounts(mut wanted: Vec<MountSpec>, kernels: &[Mount], beyond: &mut Beyond) -> io::Result<Vec<Mount>> {
    let cgroups = Path::new("/sys/fs/cgroup");
    // The project may mount something else there, and its plan shows that.
    let covered = wanted.iter().any(|mount| cgroups.starts_with(&mount.to));
    let mut all: Vec<Mount> = kernels.iter().filter(|mount| !covered || mount.destination() != cgroups).cloned().collect();
    wanted.sort_by_key(|mount| mount.to.components().count());
    for MountSpec { kind, to, read_only } in wanted {
        let shown = to.display().to_string();
        if to.starts_with("/proc") {
            let why = format!("cannot mount {shown}: /proc is the kernel's own, nothing can be mounted in it");
            return Err(io::Error::other(why));
        }
        let index = all.len();
        all.push(match kind {
            MountKind::Bind { source, subpath, propagation } => {
                let travel = match propagation {
                    Propagation::Private => "rprivate",
                    Propagation::Slave => "rslave",
                    Propagation::Shared => "rshared",
                };
                // `rro` makes everything that is mounted below it read-only, too.
                let options = if read_only { &["rbind", travel, "ro", "rro"][..] } else { &["rbind", travel] };
                beyond.subpaths.extend(subpath.map(|subpath| (index, subpath)));
                mount(&shown, "bind", &source.to_string_lossy(), options)
            }
            MountKind::Tmpfs { size, mode } => {
                let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), format!("mode={mode:o}")];
                options.extend(size.map(|size| format!("size={}", size.0)));
                let mut made = mount(&shown, "tmpfs", "tmpfs", &[]);
                made.set_options(Some(options));
                made
            }
            MountKind::Image(image) => {
                let written = if image.writes.is_some() { "rw" } else { "ro" };
                let lower: Vec<_> = image.layers.iter().map(|layer| layer.to_string_lossy()).collect();
                let made = mount(&shown, "overlay", "overlay", &[written, &format!("lowerdir={}", lower.join(":"))]);
                beyond.images.insert(index, image);
                made
            }
        });
    }
    Ok(all)
}

/// Docker's masked paths, some of which exist once for each processor.
fn masked(processors: u32) -> Vec<String> {
    let throttles = (0..processors).map(|number| format!("/sys/devices/system/cpu/cpu{number}/thermal_throttle"));
    MASKED.iter().map(|path| (*path).to_owned()).chain(throttles).collect()
}

/// The rules for which devices may be opened. The devices that every container has are added when the rules are applied.
fn device_rules(devices: &[LinuxDevice], privileged: bool) -> Vec<LinuxDeviceCgroup> {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(privileged).set_access(Some("rwm".into()));
    let mut rules = vec![rule];
    if !privileged {
        rules.extend(devices.iter().map(LinuxDeviceCgroup::from));
    }
    rules
}

/// Limits in the form of the specification. It has no way to express limits on a disk by its name.
fn resources(limits: &Limits) -> LinuxResources {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut resources = LinuxResources::default();
    if limits.cpus.is_some() || limits.cpu_weight.is_some() || limits.cpuset.is_some() {
        let mut cpu = LinuxCpu::default();
        if let Some(cpus) = limits.cpus {
            cpu.set_period(Some(PERIOD)).set_quota(Some(whole(quota(cpus))));
        }
        cpu.set_shares(limits.cpu_weight.map(shares));
        cpu.set_cpus(limits.cpuset.clone());
        resources.set_cpu(Some(cpu));
    }
    if limits.memory.is_some() || limits.memory_reservation.is_some() {
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(limits.memory.map(|size| whole(size.0)))
            .set_reservation(limits.memory_reservation.map(|size| whole(size.0)))
            // The specification counts memory and swap together, a project counts swap alone.
            .set_swap(limits.memory.zip(limits.swap).map(|(memory, swap)| whole(memory.0 + swap.0)));
        resources.set_memory(Some(memory));
    }
    if let Some(pids) = limits.pids {
        let mut most = LinuxPids::default();
        most.set_limit(i64::from(pids));
        resources.set_pids(Some(most));
    }
    if !limits.hugepages.is_empty() {
        let pages = limits.hugepages.iter().map(|(page, room)| {
            let mut limit = LinuxHugepageLimit::default();
            limit.set_page_size(page_name(page.0)).set_limit(whole(room.0));
            limit
        });
        resources.set_hugepage_limits(Some(pages.collect()));
    }
    resources
}

impl Blueprint {
    /// The specification for readers outside of this program. It includes the project's limits, which are otherwise applied
    /// from the project's own description. The text is always the same for the same container.
    pub fn specification(&self) -> serde_json::Value {
        let mut oci = self.oci.clone();
        if let (Some(linux), None) = (oci.linux_mut(), &self.beyond.bundle) {
            let mut limited = resources(&self.beyond.limits);
            limited.set_devices(linux.resources().as_ref().and_then(|own| own.devices().clone()));
            linux.set_resources(Some(limited));
        }
        let mut value = serde_json::to_value(&oci).unwrap_or_default();
        let sets = value["process"]["capabilities"].as_object_mut();
        // The crate keeps them in no particular order.
        for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(serde_json::Value::as_array_mut) {
            set.sort_by_key(|name| name.as_str().map(str::to_owned));
        }
        value
    }
}

/// The host's device at a path, for a container that has it at another path.
///
/// # Errors
/// Fails when it is not a device or does not exist.
pub fn device(source: &Path, to: PathBuf) -> io::Result<LinuxDevice> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = std::fs::metadata(source).map_err(|error| crate::sys::in_words(&source.display().to_string(), error))?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Err(io::Error::other(format!("{} is not a device", source.display()))),
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut device = LinuxDevice::default();
    device
        .set_path(to)
        .set_typ(kind)
        .set_major(number(nix::sys::stat::major(found.rdev())))
        .set_minor(number(nix::sys::stat::minor(found.rdev())))
        .set_file_mode(Some(found.mode() & 0o777))
        .set_uid(Some(found.uid()))
        .set_gid(Some(found.gid()));
    Ok(device)
}

/// Every device of the host, at the same path, as in Docker's privileged containers.
///
/// # Errors
/// Fails when a directory cannot be read.
pub fn all_devices(folder: &Path) -> io::Result<Vec<LinuxDevice>> {
    let mut found = Vec::new();
    for name in crate::sys::names(folder)? {
        let path = folder.join(&name);
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // The device was removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() && !["pts", "shm", "fd", "mqueue"].contains(&name.as_str()) {
            found.extend(all_devices(&path)?);
        } else if std::os::unix::fs::FileTypeExt::is_char_device(&kind) || std::os::unix::fs::FileTypeExt::is_block_device(&kind)
        {
            match device(&path, path.clone()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                device => found.push(device?),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Size, capability};
    use crate::project::{IoLimit, Ulimit};
    use crate::runtime::spec::{FileSpec, ImageSpec, Interface, Layers, UserSpec};

    fn plain() -> ContainerSpec {
        ContainerSpec {
            hostname: "web".into(),
            layers: Layers {
                trees: vec!["/store/b".into(), "/store/a".into()],
                upper: "/own/upper".into(),
                work: "/own/work".into(),
            },
            root: "/run/root".into(),
            scratch: "/run/scratch".into(),
            process: ProcessSpec {
                args: ["serve", "--port", "80"].map(str::to_owned).to_vec(),
                env: [("PATH".to_owned(), "/opt/bin".to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())].into(),
                workdir: "srv".into(),
                user: UserSpec { user: "www-data".into(), groups: vec!["tty".into()] },
                tty: false,
            },
            mounts: Vec::new(),
            files: Vec::new(),
            devices: Vec::new(),
            sysctls: [("net.core.somaxconn".to_owned(), "512".to_owned())].into(),
            shm: Size::mib(64),
            network: NetSpec::Own { interfaces: Vec::new() },
            host_pid: false,
            host_ipc: false,
            init: true,
            security: SecuritySpec {
                capabilities: capability::mask(["CHOWN", "NET_BIND_SERVICE"]),
                filter: Some("/run/seccomp.bpf".into()),
                ..SecuritySpec::default()
            },
            cgroup: "stead-1/shop/web-1".into(),
            limits: Limits::default(),
            processors: 2,
        }
    }

    fn shown(container: ContainerSpec) -> String {
        let blueprint = compile(container).unwrap();
        // Writing and reading it gives the same blueprint.
        let text = serde_json::to_string(&blueprint).unwrap();
        assert_eq!(serde_json::from_str::<Blueprint>(&text).unwrap(), blueprint);
        let value = serde_json::json!({ "oci": blueprint.specification(), "beyond": blueprint.beyond });
        serde_json::to_string_pretty(&value).unwrap()
    }

    #[test]
    fn a_container() {
        let mut container = plain();
        let bind = |source: &str, propagation| MountKind::Bind { source: source.into(), subpath: None, propagation };
        let mount = |kind, to: &str, read_only| MountSpec { kind, to: to.into(), read_only };
        let image = ImageSpec { layers: vec!["/store/c".into()], subpath: Some("share".into()), writes: None };
        container.mounts = vec![
            mount(bind("/srv/data/deep", Propagation::Shared), "/data/deep", false),
            mount(
                MountKind::Bind { source: "/srv/data".into(), subpath: Some("x".into()), propagation: Propagation::Private },
                "/data",
                true,
            ),
            mount(MountKind::Tmpfs { size: Some(Size::mib(1)), mode: 0o1777 }, "/tmp", false),
            mount(MountKind::Image(image), "/usr/share/other", true),
        ];
        container.files = vec![FileSpec { to: "/run/secrets/token".into(), mode: 0o400, owner: None, content: 0 }];
        let mut fuse = LinuxDevice::default();
        fuse.set_path("/dev/fuse".into()).set_typ(LinuxDeviceType::C).set_major(10).set_minor(229);
        container.devices = vec![fuse];
        container.network = NetSpec::Own {
            interfaces: vec![Interface {
                name: "eth0".into(),
                host: "vst1".into(),
                bridge: "br-st1".into(),
                address: [10, 1, 0, 2].into(),
                prefix: 24,
                gateway: Some([10, 1, 0, 1].into()),
                mtu: 1500,
                group: 7,
            }],
        };
        container.security.read_only = true;
        container.security.no_new_privileges = true;
        container.security.oom_score = Some(300);
        container.security.ulimits = vec![Ulimit { name: "nofile".into(), soft: 100, hard: 200 }];
        container.limits = Limits {
            cpus: Some(1.5),
            cpu_weight: Some(200),
            cpuset: Some("0-1".into()),
            memory: Some(Size::mib(64)),
            memory_reservation: Some(Size::mib(32)),
            swap: Some(Size::mib(8)),
            pids: Some(9),
            hugepages: vec![(Size::mib(2), Size::mib(4))],
            io: vec![IoLimit { device: "/dev/vda".into(), read: Some(Size::mib(1)), ..IoLimit::default() }],
            ..Limits::default()
        };
        insta::assert_snapshot!(shown(container));
    }

    #[test]
    fn a_one_off_at_a_terminal_with_everything_of_the_hosts() {
        let mut container = plain();
        container.process.tty = true;
        container.process.args = vec!["sh".into()];
        container.network = NetSpec::Host;
        (container.host_pid, container.host_ipc, container.init) = (true, true, false);
        container.sysctls.clear();
        container.security = SecuritySpec { capabilities: capability::ALL, privileged: true, ..SecuritySpec::default() };
        insta::assert_snapshot!(shown(container));
    }

    #[test]
    fn a_build_step() {
        let mut container = plain();
        container.hostname = "build".into();
        container.process.user = UserSpec::default();
        container.process.workdir = String::new();
        container.sysctls.clear();
        container.mounts = vec![MountSpec {
            kind: MountKind::Image(ImageSpec {
                layers: vec!["/store/c".into()],
                subpath: None,
                writes: Some(("/staging/writes".into(), "/staging/work".into())),
            }),
            to: "/mnt".into(),
            read_only: false,
        }];
        insta::assert_snapshot!(shown(container));
    }

    #[test]
    fn what_the_project_puts_over_the_kernels_own() {
        let with = |to: &str| {
            let mut container = plain();
            let kind = MountKind::Tmpfs { size: None, mode: 0o755 };
            container.mounts = vec![MountSpec { kind, to: to.into(), read_only: false }];
            compile(container).map(|blueprint| {
                let mounts = blueprint.oci.mounts().clone().unwrap_or_default();
                mounts.iter().filter(|mount| mount.destination() == Path::new("/sys/fs/cgroup")).count()
            })
        };
        assert_eq!(with("/srv").unwrap(), 1);
        assert_eq!(with("/sys").unwrap(), 0, "none of our mounts is beneath it");
        let refused = with("/proc/sys").unwrap_err().to_string();
        assert!(refused.contains("/proc is the kernel's own"), "{refused}");
    }
}

//! `run` steps: a command runs in our own runtime, and its writes become a layer.
//!
//! A helper process starts the container, because a multi-threaded process must not clone.

use super::clean::clean;
use crate::model::{Context, Error, Result, Size, capability};
use crate::network::Servers;
use crate::plan::Pending;
use crate::project::{Limits, Propagation, Run, RunNetwork};
use crate::runtime::{
    self, Blueprint, Cgroup, ContainerSpec, FileSpec, Interface, Layers, MountKind, MountSpec, NetSpec, ProcessSpec,
    SecuritySpec, Stdio, TARGETS, UserSpec, compile, seccomp,
};
use crate::store::{CACHE_QUOTA, Cache, Staging, Store};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};

/// The cgroup above those of commands.
const BUILDS: &str = "stead-build";

/// How many of a failing command's last lines are shown.
const LAST: usize = 20;

/// What a command gets in addition to the image while it runs.
#[derive(Default)]
pub struct Around {
    pub mounts: Vec<MountSpec>,
    /// Caches, held while the command runs.
    pub caches: Vec<Cache>,
    /// Variables that come from the mounts.
    pub env: BTreeMap<String, String>,
    files: Vec<FileSpec>,
    contents: Vec<Vec<u8>>,
}

impl Around {
    /// Adds a file in memory.
    pub fn file(&mut self, to: &str, mode: u32, owner: (u32, u32), content: Vec<u8>) {
        let owner = Some(format!("{}:{}", owner.0, owner.1));
        self.files.push(FileSpec { to: to.into(), mode, owner, content: self.contents.len() });
        self.contents.push(content);
    }

    /// The contents of the files in memory.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        self.contents.clone()
    }

    fn targets(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(|mount| mount.to.as_path()).chain(self.files.iter().map(|file| file.to.as_path()))
    }
}

/// Makes the directories that a command needs beside its tree.
///
/// # Errors
/// Fails when a directory cannot be made.
pub fn folders(staging: &Staging) -> Result<()> {
    for name in ["work", "root", "scratch", "empty"] {
        fs::create_dir(staging.join(name)).context(|| "cannot make a staging directory".into())?;
    }
    Ok(())
}

/// Runs a step's command; its writes are in `tree` afterwards. Returns the paths of devices that it made, which are left out.
///
/// # Errors
/// Fails when the command fails; the error has its last lines.
pub fn run(
    run: &Run,
    pending: &Pending,
    mut around: Around,
    interface: Option<Interface>,
    layers: &[PathBuf],
    (store, staging, tree): (&Store, &Staging, &Path),
    report: &dyn Fn(String),
) -> Result<Vec<PathBuf>> {
    folders(staging)?;
    // Files that are already in the tree belong to the image, too.
    let missing = missing_targets(&[layers, &[tree.to_owned()]].concat(), &around);
    let (contents, caches) = (around.contents.clone(), std::mem::take(&mut around.caches));
    let spec = spec(run, pending, around, interface, layers, staging, tree)?;
    let blueprint = compile(spec).context(|| "cannot describe the command".into())?;
    let ended = command(&(blueprint, contents), report);
    store.caches_used(caches, CACHE_QUOTA);
    ended?;
    clean(tree, layers, &missing).context(|| "cannot clean up after the command".into())
}

/// Runs a command in the helper process, and reports its output.
fn command(described: &(Blueprint, Vec<Vec<u8>>), report: &dyn Fn(String)) -> Result<()> {
    let mut child = Command::new(sys::own_program().context(|| "cannot protect this program's file".into())?)
        .arg0("stead")
        .arg("build-step")
        .env_clear()
        .stdin(ProcessStdio::piped())
        .stdout(ProcessStdio::piped())
        .stderr(ProcessStdio::inherit())
        .spawn()
        .context(|| "cannot start the build's helper".into())?;
    let text = serde_json::to_vec(described).context(|| "cannot describe the step".into())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).context(|| "the build's helper is gone".into())?;
    }
    let mut last: Vec<String> = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let went_on = lines_of(stdout, |line| {
            last.push(line.clone());
            if last.len() > LAST {
                last.remove(0);
            }
            report(line);
        });
        if !went_on {
            // The container ends with its helper, so what the helper would have cleaned up is cleaned up here.
            // They may have ended already; the next sweep finds what does not end now.
            let _ = child.kill();
            let _ = child.wait();
            let _ = Cgroup::open(runtime::host(), &described.0.cgroup()).destroy();
            return Err(Error::new("interrupted"));
        }
    }
    let status = child.wait().context(|| "the build's helper is gone".into())?;
    if !status.success() {
        let shown: String = last.iter().map(|line| format!("\n    {line}")).collect();
        let code = status.code().map_or_else(|| "was killed".to_owned(), |code| format!("ended with exit status {code}"));
        let error = Error::new(format!("the command {code}{shown}"));
        return Err(match way_out(&last) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    Ok(())
}

/// What to do about a failed command, judged by its last lines.
fn way_out(lines: &[String]) -> Option<String> {
    let lines = || lines.iter().rev();
    // dash says "sh: 1: curl: not found", bash "bash: line 1: curl: command not found".
    let absent = lines().find_map(|line| {
        let said = line.strip_suffix(": command not found").or_else(|| line.strip_suffix(": not found"))?;
        said.rsplit(": ").next().filter(|program| !program.is_empty() && !program.contains(char::is_whitespace))
    });
    match absent {
        Some("apt-get" | "apt") => Some("packages are named in the image: debian \"bookworm\" { package \"vim\" }".into()),
        Some(program) => Some(format!(
            "the image has no `{program}`: name the package that has it, debian \"bookworm\" {{ package \"{}\" }}, or copy it in",
            package_of(program)
        )),
        None if lines().any(|line| ["invalid user", "invalid group", "unknown user"].iter().any(|said| line.contains(said))) => {
            Some("users and groups that a package's own scripts make are there with `configure #true` in `debian`".into())
        }
        None => None,
    }
}

/// The Debian package that has a program, where it has another name.
fn package_of(program: &str) -> &str {
    match program {
        "node" => "nodejs",
        "python" => "python3",
        "pip" | "pip3" => "python3-pip",
        "ps" | "top" => "procps",
        "ping" => "iputils-ping",
        "vi" => "vim",
        "nc" => "netcat-openbsd",
        "dig" => "bind9-dnsutils",
        "ip" => "iproute2",
        "ifconfig" => "net-tools",
        "ssh" => "openssh-client",
        "psql" => "postgresql-client",
        "mysql" => "default-mysql-client",
        "redis-cli" => "redis-tools",
        "java" => "default-jre-headless",
        "go" => "golang-go",
        "docker" => "docker.io",
        other => other,
    }
}

/// Passes every line on until the end of the stream; returns false on an interruption.
fn lines_of(mut from: impl Read + AsFd, mut tell: impl FnMut(String)) -> bool {
    let (mut held, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let interruption = sys::interruption();
        let mut waited: Vec<&dyn AsFd> = vec![&from];
        waited.extend(interruption.as_ref().map(|came| came as &dyn AsFd));
        // If polling fails, the read below blocks instead.
        let ready = sys::wait_readable(&waited, None).map_or(true, |ready| ready[0]);
        if sys::interrupted().is_some() {
            return false;
        }
        if !ready {
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => held.extend_from_slice(&buffer[..length]),
        }
        while let Some(end) = memchr::memchr(b'\n', &held) {
            tell(String::from_utf8_lossy(&held[..end]).into_owned());
            held.drain(..=end);
        }
    }
    if !held.is_empty() {
        tell(String::from_utf8_lossy(&held).into_owned());
    }
    true
}

/// Describes a command's container; `interface` connects it to the build's network, if it asked for that.
///
/// # Errors
/// Fails when the host's name servers cannot be read, or the system call filter cannot be stored.
pub fn spec(
    run: &Run,
    pending: &Pending,
    around: Around,
    interface: Option<Interface>,
    layers: &[PathBuf],
    staging: &Staging,
    tree: &Path,
) -> Result<ContainerSpec> {
    let words = if run.shell { [pending.config.shell(), run.words.clone()].concat() } else { run.words.clone() };
    let mut env = pending.config.env.clone();
    for more in [&pending.args, &run.env, &around.env] {
        env.extend(more.clone());
    }
    let mut lower: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    if lower.is_empty() {
        lower.push(staging.join("empty"));
    }
    let resolver = resolver(run.network, staging)?;
    let hosts = hosts(staging)?;
    let security = if run.privileged {
        SecuritySpec { capabilities: capability::ALL, privileged: true, ..SecuritySpec::default() }
    } else {
        // Raw sockets can read and forge any packet; neither package scripts nor downloads need them.
        let capabilities = capability::with(&[], &["NET_RAW".into()]);
        // The filter is Docker's default profile, as for containers; it is kept beside the steps' trees.
        let filter = seccomp::keep(&staging.join(".."), None, capabilities);
        SecuritySpec {
            capabilities,
            filter: Some(filter.context(|| "cannot make the command's system call filter".into())?),
            ..SecuritySpec::default()
        }
    };
    let devices = if run.privileged { runtime::all_devices(Path::new("/dev")) } else { Ok(Vec::new()) };
    Ok(ContainerSpec {
        hostname: HOSTNAME.into(),
        layers: Layers { trees: lower, upper: tree.to_owned(), work: staging.join("work") },
        root: staging.join("root"),
        scratch: staging.join("scratch"),
        process: ProcessSpec {
            args: words,
            env,
            workdir: pending.config.workdir.clone(),
            user: UserSpec { user: run.user.clone().unwrap_or_else(|| pending.config.user.clone()), groups: Vec::new() },
            tty: false,
        },
        mounts: resolver.into_iter().chain([hosts]).chain(around.mounts).collect(),
        files: around.files,
        devices: devices.context(|| "cannot list the devices".into())?,
        sysctls: BTreeMap::new(),
        shm: Size::mib(64),
        network: match run.network {
            RunNetwork::Host => NetSpec::Host,
            RunNetwork::Own | RunNetwork::None => NetSpec::Own { interfaces: interface.into_iter().collect() },
        },
        host_pid: false,
        host_ipc: false,
        init: true,
        security,
        cgroup: format!("{BUILDS}/{}", sys::unique()),
        limits: Limits::default(),
        processors: runtime::possible_processors().context(|| "cannot count the processors".into())?,
    })
}

/// Destroys the cgroups that killed builds left behind, with any processes in them. The name of each begins with the id of
/// the process that made it.
pub fn sweep() {
    let at = |path: String| Cgroup::open(runtime::host(), &path);
    let mut left = BTreeSet::new();
    for folder in at(BUILDS.into()).folders() {
        // If this cannot be listed now, the next sweep finds it.
        let names = sys::names(folder).unwrap_or_default();
        left.extend(names.into_iter().filter(|name| folder.join(name).is_dir()));
    }
    for name in left {
        let maker = name.split('-').next().and_then(|number| number.parse::<u32>().ok());
        if maker.is_some_and(|pid| matches!(fs::exists(format!("/proc/{pid}")), Ok(false))) {
            // If this cannot be destroyed now, the next sweep finds it.
            let _ = at(format!("{BUILDS}/{name}")).destroy();
        }
    }
}

/// The name of the machine that a command runs on.
const HOSTNAME: &str = "build";

/// Makes the mount of `/etc/resolv.conf` for a command.
fn resolver(network: RunNetwork, staging: &Staging) -> Result<Option<MountSpec>> {
    let servers = match network {
        RunNetwork::None => return Ok(None),
        RunNetwork::Own => Servers::Reachable,
        RunNetwork::Host => Servers::All,
    };
    mounted("resolv.conf", &crate::network::resolver(servers)?, staging).map(Some)
}

/// Makes the mount of `/etc/hosts`, by which a command finds itself and `localhost`. As in BuildKit, `/etc/hostname` is the
/// image's own.
fn hosts(staging: &Staging) -> Result<MountSpec> {
    mounted("hosts", &format!("127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n"), staging)
}

/// Writes a file of /etc for a command, and makes its mount.
fn mounted(name: &str, text: &str, staging: &Staging) -> Result<MountSpec> {
    let path = staging.join(name);
    let kept = || {
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        MountKind::bind(&path, None, Propagation::Private)
    };
    let kind = kept().context(|| format!("cannot write the command's /etc/{name}"))?;
    Ok(MountSpec { kind, to: format!("/etc/{name}").into(), read_only: true })
}

/// The helper's `main`: reads a description, runs it, and returns the command's exit status.
///
/// # Errors
/// Fails when the command could not be started.
pub fn helper() -> Result<i32> {
    runtime::start_anew().context(|| "cannot let go of the caller".into())?;
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).context(|| "cannot read the step".into())?;
    let (blueprint, contents): (Blueprint, Vec<Vec<u8>>) =
        serde_json::from_slice(&text).context(|| "cannot read the step".into())?;
    sys::die_with_parent().context(|| "cannot tie the helper to the build".into())?;
    let host = runtime::host();
    let cgroup = Cgroup::create(host, &blueprint).context(|| "cannot make a cgroup".into())?;
    let outcome = (|| {
        let null = fs::File::open("/dev/null").context(|| "cannot open /dev/null".into())?;
        #[expect(unsafe_code, reason = "this process owns its standard output")]
        // SAFETY: the parent placed this helper's output at descriptor 1, and nothing else in this process owns it.
        let taken = unsafe { sys::take_descriptor(1) };
        let stdout = taken.context(|| "no standard output".into())?;
        let twin = stdout.try_clone().context(|| "no standard output".into())?;
        let stdio = Stdio::Files { stdin: null.into(), stdout, stderr: twin };
        let running = runtime::start(&blueprint, &contents, stdio, host, &cgroup, |pid, process| {
            crate::network::connect(pid, process, &blueprint)
        });
        let running = running.map_err(|error| Error::new(error.message).status(u8::try_from(error.status).unwrap_or(125)))?;
        let _ = sys::wait_readable(&[&running.line], None);
        let status = running.ended().unwrap_or(137);
        let _ = sys::wait_for(running.guard);
        Ok(status)
    })();
    let _ = cgroup.destroy();
    outcome
}

/// Paths that the image does not have, and that the runtime makes because something is mounted there.
fn missing_targets(layers: &[PathBuf], around: &Around) -> Vec<PathBuf> {
    let view = super::View::new(layers.to_vec());
    let always = TARGETS.iter().map(|target| Path::new("/").join(target));
    let with_parents = |path: &Path| -> Vec<PathBuf> { view.resolve(path).ancestors().map(Path::to_owned).collect() };
    let all = always.chain(around.targets().map(Path::to_owned)).flat_map(|path| with_parents(&path));
    let mut missing: Vec<PathBuf> = all.filter(|path| path != Path::new("/") && view.entry(path).is_none()).collect();
    // Deeper paths come first, so that a directory is empty when its turn comes.
    missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    missing.dedup();
    missing
}

#[cfg(test)]
mod tests {
    use super::way_out;

    #[test]
    fn a_missing_program_or_user_has_a_way_out() {
        let told = |line: &str| way_out(&["first".into(), line.to_owned()]).unwrap_or_default();
        for line in ["/bin/sh: 1: curl: not found", "bash: line 1: curl: command not found"] {
            assert!(told(line).contains("package \"curl\""), "{line}: {}", told(line));
        }
        assert!(told("sh: 1: apt-get: not found").contains("named in the image"));
        assert!(told("sh: 1: node: not found").contains("package \"nodejs\""));
        assert!(told("install: invalid user 'postgres'").contains("configure #true"));
        for line in ["", "all is well", "page: not found here", ": not found"] {
            assert_eq!(told(line), "", "{line}");
        }
    }
}

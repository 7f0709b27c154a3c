//! A project directory with an installation of its own, in which `stead` runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The image that most tests run: Essential packages, busybox, Python.
pub const BASE: &str = r#"
image "base" { debian "bookworm" { package "busybox-static" "python3" "libcap2-bin" } }
"#;

pub struct World {
    pub root: PathBuf,
    pub folder: PathBuf,
}

/// The result of running `stead`.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The program under test: this build's, unless `STEAD_BINARY` names another.
pub fn stead() -> PathBuf {
    std::env::var_os("STEAD_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_stead").into(), PathBuf::from)
}

pub fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("real")
}

/// Reports why a test cannot run here; in CI that is a failure.
pub fn skip(reason: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {reason}");
    tell_skipped(reason);
    true
}

/// Reports why a test does not run, where that is no failure in CI either. The output of a passing test is not shown,
/// so the reason is written to a file, which `tests/run` prints at the end.
pub fn tell_skipped(reason: &str) {
    println!("skipped: {reason}");
    let list = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let mut list = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
    std::io::Write::write_all(&mut list, format!("{reason}\n").as_bytes()).unwrap();
}

pub fn is_root() -> bool {
    nix_geteuid() == 0 || !skip("real containers need root")
}

fn nix_geteuid() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

impl World {
    /// A world with a project file, in which `image "base"` is declared, locked and built.
    pub fn new(name: &str, project: &str) -> Self {
        let world = Self::bare(name, &format!("project \"{name}\"\n{BASE}{project}"));
        world.share_lock();
        world
    }

    /// A world with exactly this project file, and the store that tests share.
    pub fn bare(name: &str, text: &str) -> Self {
        let base = scratch().join(name);
        let (root, folder) = (base.join("root"), base.join("project"));
        let world = Self { root, folder };
        world.end();
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&world.root).unwrap();
        fs::create_dir_all(&world.folder).unwrap();
        let shared = scratch().join("store");
        fs::create_dir_all(&shared).unwrap();
        std::os::unix::fs::symlink(&shared, world.root.join("store")).unwrap();
        world.write("stead.kdl", text);
        world
    }

    /// Copies the base image's lock, made once by whichever test comes first.
    fn share_lock(&self) {
        let base = scratch().join("base");
        fs::create_dir_all(&base).unwrap();
        let gate = fs::File::create(base.join("gate")).unwrap();
        gate.lock().unwrap();
        if !base.join("stead.lock").exists() {
            fs::write(base.join("stead.kdl"), format!("project \"base\"\n{BASE}")).unwrap();
            let status = Command::new(stead()).current_dir(&base).env("STEAD_ROOT", &self.root).args(["build"]).status().unwrap();
            assert!(status.success(), "the base image cannot be built");
        }
        fs::copy(base.join("stead.lock"), self.folder.join("stead.lock")).unwrap();
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces text in the project file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.join("stead.kdl")).unwrap();
        assert!(text.contains(from), "{from:?} is not in the project file");
        self.write("stead.kdl", &text.replace(from, to));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(stead());
        command.current_dir(&self.folder).args(args).env("STEAD_ROOT", &self.root).env("NO_COLOR", "1").stdin(Stdio::null());
        // The tests' own projects are trusted; those of `attacks/consent.rs` are not.
        command.env("STEAD_ALLOW", "all");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// Runs a command, fails the test unless it succeeds, and returns its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "stead {args:?}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs a command, fails the test unless it fails, and returns both outputs.
    pub fn fails(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_ne!(ran.code, 0, "stead {args:?}\n{}{}", ran.out, ran.err);
        ran
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What a command prints inside a container.
    pub fn exec(&self, container: &str, script: &str) -> String {
        self.ok(&["exec", "-T", container, "sh", "-c", script]).trim().to_owned()
    }

    /// The containers, as `ps --all --json` lists them.
    pub fn ps(&self) -> Vec<serde_json::Value> {
        let value: serde_json::Value = serde_json::from_str(&self.ok(&["ps", "--all", "--json"])).unwrap();
        value["containers"].as_array().unwrap().clone()
    }

    pub fn container(&self, name: &str) -> serde_json::Value {
        self.ps().into_iter().find(|container| container["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"))
    }

    pub fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.container(name)["pid"].as_i64().unwrap()).unwrap()
    }

    /// A short hash of the installation, which the names of its kernel objects contain.
    pub fn tag(&self) -> String {
        let digest = stead::tested::model::Digest::of(self.root.join("store").as_os_str().as_encoded_bytes());
        digest.short(4)
    }

    fn end(&self) {
        if self.folder.join("stead.kdl").exists() && self.root.exists() {
            let _ = self.command(&["down", "--volumes"]).output();
        }
    }

    /// Fails the test if anything of this installation is left in the kernel.
    pub fn assert_nothing_left(&self) {
        let tag = self.tag();
        let links: Vec<String> =
            fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(!links.iter().any(|link| link.starts_with(&format!("br-st{tag}"))), "{links:?}");
        let root = self.root.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&root), "a mount is left");
        let monitors =
            processes().into_iter().filter(|(_, folder, line)| line.starts_with("stead ") && folder.starts_with(&self.root));
        assert_eq!(monitors.collect::<Vec<_>>(), Vec::new(), "processes are left");
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let path = hierarchy.path().join(format!("stead-{tag}"));
            assert!(!path.exists(), "{} is left", path.display());
        }
        let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&tables.stdout).contains(&format!("stead-{tag}")), "a firewall table is left");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// All processes: PID, working directory, command line.
pub fn processes() -> Vec<(i32, PathBuf, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let folder = fs::read_link(entry.path().join("cwd")).ok()?;
            Some((pid, folder, String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()))
        })
        .collect()
}

pub fn alive(pid: i32) -> bool {
    // A zombie that is not reaped yet does not count as alive.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a condition holds, for at most ten seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of a page, fetched over HTTP/1.0, or an error.
pub fn get(address: &str, path: &str) -> Result<String, String> {
    use std::io::{Read, Write};
    let address: std::net::SocketAddr = address.parse().unwrap();
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The request is sent in one piece: a simple server answers, and closes, after the first part.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(text)
}

/// Copies a directory.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy_folder(&entry.path(), &target) } else { assert!(fs::copy(entry.path(), target).is_ok()) }
    }
}

/// A small file system that holds some of an installation's directories. It ends with the test.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a disk of 24 MiB, and binds directories of it below `root`.
    pub fn below(root: &Path, folders: &[&str]) -> Self {
        let (image, place) = (root.join("disk"), root.join("mount"));
        fs::create_dir_all(&place).unwrap();
        fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        let sh = |line: &str| assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
        sh(&format!("mkfs.ext4 -q -N 4096 {0} && mount -o loop {0} {1}", image.display(), place.display()));
        let disk = Self(root.to_owned());
        for folder in folders {
            for made in [root.join(folder), place.join(folder)] {
                fs::create_dir_all(made).unwrap();
            }
            sh(&format!("mount --bind {} {}", place.join(folder).display(), root.join(folder).display()));
        }
        disk
    }

    /// Takes all the room that is left, and returns the file that does.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.0.join("mount/ballast");
        let mut file = fs::File::options().append(true).create(true).open(&ballast).unwrap();
        for size in [1 << 20, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let root = self.0.display();
        let line = format!("for place in {root}/state {root}/run {root}/mount; do umount -l $place 2>/dev/null; done");
        let _ = Command::new("sh").args(["-c", &line]).status();
    }
}

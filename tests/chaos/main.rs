//! Chaos: for a while this runs random commands in two checkouts of one project. In between it kills our processes,
//! fills the disk, renames directories and flushes the packet filter. At the end `up` converges, `down` leaves nothing,
//! and nothing on the host has changed.
//!
//! `STEAD_CHAOS_SECONDS` sets the time (20 by default), `STEAD_CHAOS_SEED` repeats a run. Everything happens in mount
//! and network namespaces of its own, on a small file system in a file, with an image that holds one busybox.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

#[path = "../real/world.rs"]
#[allow(dead_code, reason = "the real tests use the rest of it")]
mod world;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PROJECT: &str = r#"
project "chaos"
image "box" { copy "box/" to="/"; env PATH="/bin"; }
image "app" { from "box"; copy "app/" to="/app"; run "cat /app/text > /app/built"; }
volume "data"
config "motd" file="motd"
container "web" {
    image "app"
    replicas 2
    mount volume="data" to="/data"
    config "motd" to="/etc/motd"
    publish 24801 to=80
    stop-grace "300ms"
    restart "on-failure" max=3
    healthcheck interval="1s" { tcp 80; }
    depends-on "base" until="started"
    cmd "sh" "-c" "echo $HOSTNAME >> /data/lines; exec httpd -f -p 80 -h /app"
}
container "base" { image "box"; init #true; stop-grace "100ms"; cmd "sleep" "100000"; }
"#;

/// A pseudorandom number generator (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

struct Ground {
    disk: PathBuf,
    root: PathBuf,
    checkouts: [PathBuf; 2],
    canary: PathBuf,
}

impl Ground {
    fn stead(&self, checkout: usize, words: &[&str]) -> Command {
        let mut command = Command::new(world::stead());
        command.arg("-C").arg(&self.checkouts[checkout]).args(words);
        command.env("STEAD_ROOT", &self.root).env("STEAD_ALLOW", "all").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, for at most a minute; returns its exit code and its output.
    fn run(&self, checkout: usize, words: &[&str]) -> (i32, String) {
        finish(self.stead(checkout, words).spawn().unwrap(), words, Duration::from_secs(60))
    }

    /// The processes of this installation.
    fn processes(&self) -> Vec<i32> {
        let all = world::processes().into_iter();
        let ours = all.filter(|(_, folder, line)| line.starts_with("stead ") && folder.starts_with(&self.root));
        ours.map(|(pid, ..)| pid).collect()
    }
}

fn finish(mut child: Child, words: &[&str], patience: Duration) -> (i32, String) {
    // The output is read while the command runs, because a full pipe would block it.
    let read = |from: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = from.unwrap().read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let (out, err) =
        (read(child.stdout.take().map(|out| Box::new(out) as _)), read(child.stderr.take().map(|err| Box::new(err) as _)));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < patience, "{words:?} hangs (process {})", child.id());
        std::thread::sleep(Duration::from_millis(5));
    };
    let code = status.code().unwrap_or(-1);
    (code, format!("{}{}", out.join().unwrap(), err.join().unwrap()))
}

fn listing(folder: &Path) -> String {
    let script = "find . -printf '%p %y %m %U:%G %s %T@ %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum";
    String::from_utf8(Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap().stdout).unwrap()
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

fn prepare() -> Ground {
    let base = world::scratch().join("chaos");
    let _ = fs::remove_dir_all(&base);
    let disk = base.join("disk");
    fs::create_dir_all(&disk).unwrap();
    let image = base.join("image");
    fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
    sh(&format!("mkfs.ext4 -qF {0}; mount -o loop {0} {1}; ip link set lo up", image.display(), disk.display()));
    // A new /sys that shows this namespace's network, with the cgroups of the old one.
    let sys = base.join("sys");
    fs::create_dir_all(&sys).unwrap();
    sh(&format!("mount -t sysfs sys {0}; mount --rbind /sys/fs/cgroup {0}/fs/cgroup; mount --move {0} /sys", sys.display()));
    let checkouts = [base.join("one"), base.join("two")];
    for checkout in &checkouts {
        for folder in ["box/bin", "box/etc", "app"] {
            fs::create_dir_all(checkout.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", checkout.join("box/bin/busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "httpd", "sleep", "head", "wget", "true"] {
            std::os::unix::fs::symlink("busybox", checkout.join("box/bin").join(applet)).unwrap();
        }
        fs::write(checkout.join("app/text"), "first").unwrap();
        fs::write(checkout.join("motd"), "hello").unwrap();
        fs::write(checkout.join("stead.kdl"), PROJECT).unwrap();
    }
    let canary = base.join("canary");
    fs::create_dir_all(canary.join("deep")).unwrap();
    fs::write(canary.join("deep/file"), "the host's").unwrap();
    std::os::unix::fs::symlink("deep/file", canary.join("link")).unwrap();
    Ground { root: disk.join("stead"), disk, checkouts, canary }
}

/// Does one random thing, which may go well or wrong.
fn act(ground: &Ground, dice: &mut Dice, told: &mut Vec<String>) {
    let at = usize::try_from(dice.below(2)).unwrap();
    let commands: [&[&str]; 22] = [
        &["up"],
        &["up"],
        &["up"],
        &["down"],
        &["stop", "web"],
        &["start", "web"],
        &["restart", "web"],
        &["restart", "base"],
        &["kill", "web"],
        &["scale", "web=1"],
        &["scale", "web=3"],
        &["pause", "web"],
        &["unpause", "web"],
        &["ps"],
        &["logs", "web"],
        &["gc"],
        &["plan"],
        &["build"],
        &["exec", "-T", "base", "true"],
        &["run", "-T", "app", "cat", "/app/built"],
        &["rm", "-f", "web"],
        &["status"],
    ];
    let what = dice.below(100);
    let mut tell = |text: String| told.push(text);
    match what {
        0..=54 => {
            let words = *dice.one(&commands);
            let (code, text) = ground.run(at, words);
            tell(format!("{at} {words:?} → {code}"));
            assert!(!text.contains("panicked") && code != 134, "{words:?}: {text}");
        }
        55..=69 => {
            // A command is killed in the middle.
            let words = *dice.one(&commands[..8]);
            let mut child = ground.stead(at, words).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(dice.below(150)));
            let _ = child.kill();
            finish(child, words, Duration::from_secs(20));
            tell(format!("{at} {words:?} killed"));
        }
        70..=77 => {
            let ours = ground.processes();
            if !ours.is_empty() {
                let victim = *dice.one(&ours);
                let _ = Command::new("kill").args(["-9", &victim.to_string()]).stderr(Stdio::null()).status();
                tell(format!("kill -9 {victim}"));
            }
        }
        78..=84 => {
            fs::write(ground.checkouts[at].join("app/text"), format!("text {}", dice.below(1000))).unwrap();
            tell(format!("{at} edited"));
        }
        85..=88 => {
            // Both checkouts run `up` at once.
            let children: Vec<Child> = (0..2).map(|at| ground.stead(at, &["up"]).spawn().unwrap()).collect();
            for child in children {
                finish(child, &["up", "(both)"], Duration::from_secs(60));
            }
            tell("both up".into());
        }
        89..=92 => {
            let filler = ground.disk.join("filler");
            let mut file = fs::File::create(&filler).unwrap();
            let block = vec![1; 1 << 20];
            while file.write_all(&block).is_ok() {}
            let words = *dice.one(&commands);
            let (code, _) = ground.run(at, words);
            drop(file);
            fs::remove_file(&filler).unwrap();
            tell(format!("{at} {words:?} on a full disk → {code}"));
        }
        93..=95 => {
            let (here, away) = (&ground.checkouts[at], ground.checkouts[at].with_extension("away"));
            fs::rename(here, &away).unwrap();
            ground.run(1 - at, &["gc"]);
            ground.run(1 - at, &["ps"]);
            fs::rename(&away, here).unwrap();
            tell(format!("{at} was away"));
        }
        _ => {
            sh("nft flush ruleset");
            tell("packet filter flushed".into());
        }
    }
}

/// Checks everything that must hold when the chaos is over.
fn calm(ground: &Ground) {
    for at in 0..2 {
        // A container that was paused or stopped by hand stays so until a command changes that.
        ground.run(at, &["unpause", "web"]);
        let mut said = String::new();
        let up = (0..3).any(|_| {
            let (code, text) = ground.run(at, &["up"]);
            said = text;
            code == 0
        });
        assert!(up, "checkout {at} does not come up: {said}");
        let (code, text) = ground.run(at, &["up"]);
        assert!(code == 0 && text.contains("nothing to do"), "checkout {at}: {text}");
        let (code, text) = ground.run(at, &["exec", "-T", "web", "cat", "/app/built"]);
        assert_eq!(text, fs::read_to_string(ground.checkouts[at].join("app/text")).unwrap(), "checkout {at}: {code}");
    }
    for at in 0..2 {
        let (code, text) = ground.run(at, &["down", "--volumes"]);
        assert_eq!(code, 0, "checkout {at}: {text}");
    }
    let start = Instant::now();
    while !ground.processes().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "processes are left: {:?}", ground.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains("br-st") && !links.contains("vst"), "links are left: {links}");
    let tables = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tables.stdout), "", "a packet filter is left");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts.lines().filter(|line| line.contains(&ground.root.display().to_string()));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new(), "mounts are left");
    let tag = stead::tested::model::Digest::of(ground.root.join("store").as_os_str().as_encoded_bytes()).short(4);
    let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("stead-{tag}*")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&groups.stdout), "", "cgroups are left");
}

#[test]
fn whatever_happens_up_converges_and_down_leaves_nothing() {
    if !world::is_root() {
        return;
    }
    if std::env::var_os("STEAD_CHAOS_INSIDE").is_none() {
        // The test runs in namespaces of its own: only its own packet filter is flushed, and its mounts end with the process.
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "whatever_happens_up_converges_and_down_leaves_nothing", "--nocapture"]);
        assert!(command.env("STEAD_CHAOS_INSIDE", "1").status().unwrap().success());
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("STEAD_CHAOS_SECONDS").unwrap_or(20);
    let clock = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % (1 << 60)).unwrap();
    let seed = number("STEAD_CHAOS_SEED").unwrap_or_else(clock) | 1;
    println!("STEAD_CHAOS_SEED={seed} for {seconds} s");
    let ground = prepare();
    let before = listing(&ground.canary);
    let mut dice = Dice(seed);
    let mut told = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        while Instant::now() < end {
            act(&ground, &mut dice, &mut told);
        }
        calm(&ground);
    }));
    if let Err(why) = acted {
        println!("{}", told.iter().rev().take(30).rev().cloned().collect::<Vec<_>>().join("\n"));
        for pid in ground.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        std::panic::resume_unwind(why);
    }
    println!("{} acts", told.len());
    assert_eq!(listing(&ground.canary), before, "something of the host has changed");
    sh(&format!("umount -l {}", ground.disk.display()));
}

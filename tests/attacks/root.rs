//! Ways out through the root file system: links in place of the kernel's directories, read-only binds with writable
//! submounts, the host's own /sys and /proc, bind sources that change between two starts, the working directory of
//! process 1.

use crate::ground::{SLEEP, canary, ground, is_root, tries};
use crate::world::{World, eventually};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a script in a mount namespace of its own, with `stead` in its `PATH` and the world's installation.
fn apart(world: &World, script: &str) -> Output {
    let bin = world.folder.with_file_name("bin");
    fs::create_dir_all(&bin).unwrap();
    let link = bin.join("stead");
    if !link.exists() {
        symlink(crate::world::stead(), &link).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("busybox");
    command.args([
        "unshare",
        "-m",
        "sh",
        "-ec",
        &format!("mount --make-rprivate / 2>/dev/null || busybox mount --make-rprivate /; {script}"),
    ]);
    command
        .current_dir(&world.folder)
        .env("STEAD_ROOT", &world.root)
        .env("STEAD_ALLOW", "all")
        .env("PATH", path)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A tmpfs of the test's own, unmounted when the test ends.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(place: &Path, options: &str) -> Self {
        fs::create_dir_all(place).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "attack"]).arg(place).status().unwrap();
        assert!(mounted.success());
        Self(place.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_kernels_folders_are_no_links() {
    if !is_root() {
        return;
    }
    // CVE-2019-19921: /proc is a link into a volume that a neighbour changes, so the masks would be applied elsewhere.
    for name in ["proc", "sys", "dev"] {
        let world = ground(
            "kernel-links",
            &[],
            &format!(
                r#"
image "evil" {{ from "box"; copy "evil/" to="/"; }}
volume "data"
container "c" {{ image "evil"; mount volume="data" to="/data"; {SLEEP}; }}
"#
            ),
        );
        fs::create_dir_all(world.folder.join("evil/data")).unwrap();
        symlink("/data/l", world.folder.join("evil").join(name)).unwrap();
        let ran = world.fails(&["up"]);
        assert!(ran.err.contains(&format!("/{name} must be mounted on an ordinary directory")), "{ran:?}");
    }
}

#[test]
fn a_race_for_proc_leaves_nothing_unmasked() {
    if !is_root() {
        return;
    }
    // The image's /proc links into the volume, and the neighbour swaps the link's target for ever.
    let world = ground(
        "proc-race",
        &["exchange"],
        r#"
image "evil" { from "box"; copy "evil/" to="/"; }
volume "data"
container "flip" {
    image "box"; mount volume="data" to="/data"; stop-grace "50ms"
    cmd "sh" "-c" "mkdir -p /data/p1 /data/m; ln -sfn p1 /data/l; ln -sfn m /data/k; exec exchange /data/l /data/k"
}
container "c" {
    image "evil"; mount volume="data" to="/data"; stop-grace "50ms"; restart "no"
    cmd "sh" "-c" "for d in /proc /data/p1 /data/m; do grep -q . $d/sys/kernel/core_pattern 2>/dev/null && (: >> $d/sys/kernel/core_pattern) 2>/dev/null && echo WRITABLE $d; done; sleep 1000"
}
"#,
    );
    fs::create_dir_all(world.folder.join("evil")).unwrap();
    symlink("/data/l", world.folder.join("evil/proc")).unwrap();
    let _ = world.run(&["up"]);
    for _ in 0..tries() / 4 {
        let _ = world.run(&["restart", "c"]);
        std::thread::sleep(std::time::Duration::from_millis(120));
        let logs = world.run(&["logs", "c"]);
        assert!(!logs.out.contains("WRITABLE"), "{}", logs.out);
    }
    // The neighbour did swap it: a race that never ran would prove nothing.
    assert_eq!(world.container("flip-1")["state"], "running");
}

#[test]
fn read_only_holds_for_all_that_is_mounted_below() {
    if !is_root() {
        return;
    }
    let world = ground(
        "read-only",
        &[],
        &format!(
            r#"
container "c" {{
    image "box"
    mount bind="src" to="/src" read-only=#true
    mount bind="src" to="/slave" read-only=#true propagation="slave"
    mount bind="/" to="/host" read-only=#true
    {SLEEP}
}}
"#
        ),
    );
    let _below = Tmpfs::new(&world.folder.join("src/sub"), "size=1m");
    let _deeper = Tmpfs::new(&world.folder.join("src/sub/deeper"), "size=1m");
    world.ok(&["up"]);
    for place in ["/src", "/src/sub", "/src/sub/deeper", "/slave/sub", "/slave/sub/deeper"] {
        let ran = world.run(&["exec", "-T", "c", "touch", &format!("{place}/new")]);
        assert!(ran.code != 0 && ran.err.contains("Read-only"), "{place}: {ran:?}");
    }
    // No mount of the whole host is writable. That includes /proc/sys, cgroups and /dev/shm.
    let writable = world.exec("c", "awk '$5 ~ \"^/(host|src|slave)(/|$)\" && $6 !~ /^ro/ {print $5}' /proc/self/mountinfo");
    assert_eq!(writable, "");
}

#[test]
fn a_bind_keeps_what_its_source_forbids() {
    if !is_root() {
        return;
    }
    let world = ground(
        "forbids",
        &[],
        &format!(
            r#"container "c" {{ image "box"; mount bind="ns" to="/ro" read-only=#true; mount bind="ns" to="/rw"; mount bind="ns" to="/sub" subpath="deep" read-only=#true; {SLEEP}; }}"#
        ),
    );
    let source = Tmpfs::new(&world.folder.join("ns"), "nosuid,nodev,noexec");
    fs::create_dir_all(source.0.join("deep")).unwrap();
    world.ok(&["up"]);
    for (place, first) in [("/ro", "ro,"), ("/rw", "rw,"), ("/sub", "ro,")] {
        let options = world.exec("c", &format!("awk '$5 == \"{place}\" {{print $6}}' /proc/self/mountinfo"));
        assert!(options.starts_with(first), "{place}: {options}");
        assert!(["nosuid", "nodev", "noexec"].iter().all(|flag| options.contains(flag)), "{place}: {options}");
    }
}

#[test]
fn the_hosts_network_brings_no_mounts_of_the_hosts_sys() {
    if !is_root() {
        return;
    }
    let world = ground("host-sys", &[], &format!(r#"container "c" {{ image "box"; namespace network="host"; {SLEEP}; }}"#));
    // As on every systemd host, something writable is mounted below /sys.
    let output = apart(
        &world,
        "for d in kernel/debug kernel/tracing kernel/security fs/bpf fs/fuse/connections; do [ ! -d /sys/$d ] || mount -t tmpfs hostmark /sys/$d; done; \
         grep -q hostmark /proc/self/mountinfo; stead up; \
         stead exec -T c sh -c 'grep -c hostmark /proc/self/mountinfo; awk \"\\$5 ~ /^\\/sys/ && \\$6 !~ /^ro/\" /proc/self/mountinfo; awk \"\\$5 == \\\"/sys\\\" {print \\$6}\" /proc/self/mountinfo' || true",
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| *line == "0").unwrap_or_else(|| panic!("the host's mounts are there: {text}"));
    let options = lines[at + 1];
    assert!(options.starts_with("ro,") && options.contains("nosuid,nodev,noexec"), "{text}");
}

#[test]
fn the_hosts_processes_bring_no_mounts_of_the_hosts_proc() {
    if !is_root() {
        return;
    }
    let world = ground("host-proc", &[], &format!(r#"container "c" {{ image "box"; namespace pid="host"; {SLEEP}; }}"#));
    let output = apart(
        &world,
        "mount -t tmpfs hostmark /proc/sys/fs/binfmt_misc 2>/dev/null || mount -t tmpfs hostmark /proc/sys/fs; stead up; \
         stead exec -T c sh -c 'grep -c hostmark /proc/self/mountinfo; touch /proc/sys/fs/binfmt_misc/x && echo WRITTEN; head -c1 /proc/kcore | wc -c; ls -d /proc/self' || true",
    );
    let text = said(&output);
    assert!(output.status.success() && !text.contains("WRITTEN"), "{text}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines.contains(&"0") && !lines.contains(&"1"), "{text}");
}

#[test]
fn a_network_step_of_a_build_has_no_mounts_of_the_host() {
    if !is_root() {
        return;
    }
    let world = ground(
        "build-sys",
        &[],
        &format!(
            r#"image "i" {{ from "box"; run "true {}; ! grep hostmark /proc/self/mountinfo && ! awk '$5 ~ \"^/sys\" && $6 !~ /^ro/' /proc/self/mountinfo | grep ." network=#true; }}"#,
            std::process::id()
        ),
    );
    let output =
        apart(&world, "mount -t tmpfs hostmark /sys/kernel/debug 2>/dev/null || mount -t tmpfs hostmark /sys/fs; stead build i");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_mount_below_a_shared_volume_stays_read_only_wherever_it_lands() {
    if !is_root() {
        return;
    }
    let world = ground(
        "landing",
        &["exchange"],
        r#"
volume "data"
container "flip" {
    image "box"; mount volume="data" to="/data"; stop-grace "50ms"
    cmd "sh" "-c" "mkdir -p /data/sub; ln -sfn /dev/shm /data/l; exec exchange /data/sub /data/l"
}
container "c" {
    image "box"; mount volume="data" to="/data"; mount bind="hostdir" to="/data/sub" read-only=#true; stop-grace "50ms"
    cmd "sleep" "1000"
}
"#,
    );
    world.write("hostdir/file", "the host's");
    let _ = world.run(&["up"]);
    let mut seen = 0;
    for _ in 0..tries() / 2 {
        let _ = world.run(&["restart", "c"]);
        std::thread::sleep(std::time::Duration::from_millis(60));
        let found = world.run(&["exec", "-T", "c", "sh", "-c", "grep hostdir /proc/self/mountinfo"]);
        for line in found.out.lines() {
            seen += 1;
            assert!(line.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{line}");
        }
    }
    assert!(seen > 0, "the mount was never there");
    assert_eq!(fs::read_to_string(world.folder.join("hostdir/file")).unwrap(), "the host's");
}

#[test]
fn a_source_that_became_a_link_is_not_followed_at_the_next_start() {
    if !is_root() {
        return;
    }
    let world = ground(
        "swapped",
        &[],
        &format!(
            r#"
container "a" {{ image "box"; mount bind="app" to="/app"; {SLEEP}; }}
container "b" {{ image "box"; mount bind="app/sub" to="/sub"; restart "always"; {SLEEP}; }}
"#
        ),
    );
    let host = canary(&world);
    world.write("app/sub/file", "the project's");
    world.ok(&["up"]);
    world.exec("a", &format!("mv /app/sub /app/gone; ln -s {} /app/sub", host.display()));
    // When its monitor starts it again, it must not get what the link leads to now.
    nix_kill(world.pid("b-1"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    let ran = world.run(&["exec", "-T", "b", "cat", "/sub/secret"]);
    assert!(!ran.out.contains("the host's secret"), "{ran:?}");
}

fn nix_kill(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn process_one_stands_inside_and_behind_the_filter() {
    if !is_root() {
        return;
    }
    let world = ground(
        "guard",
        &[],
        &format!(
            r#"
container "c" {{ image "box"; init #true; security {{ capability add="SYS_PTRACE"; }}; {SLEEP}; }}
container "d" {{ image "box"; init #true; user "nobody"; security {{ no-new-privileges #true; }}; {SLEEP}; }}
"#
        ),
    );
    canary(&world);
    world.ok(&["up"]);
    // Every process in its namespace has its root and its working directory inside the container.
    let look = "for p in /proc/[0-9]*; do echo $(readlink $p/cwd) $(readlink $p/root) $(sed -n 's/^Seccomp:.//p' $p/status); done | sort -u";
    for line in world.exec("c", look).lines() {
        // (The shell's own children may have ended already.)
        assert!(line.is_empty() || line == "/ / 2", "{line}");
    }
    for climb in ["/proc/1/cwd/../canary/secret", "/proc/1/cwd/../../../../../canary/secret", "/proc/1/root/../canary/secret"] {
        assert_ne!(world.run(&["exec", "-T", "c", "cat", climb]).code, 0, "{climb}");
    }
    let climbing = world.run(&["exec", "-T", "c", "sh", "-c", "ls /proc/1/cwd/control /proc/1/cwd/spec.json"]);
    assert_ne!(climbing.code, 0, "{climbing:?}");
    for name in ["c", "d"] {
        assert_eq!(world.exec(name, "sed -n 's/^NoNewPrivs:.//p; s/^Seccomp:.//p' /proc/1/status"), "1\n2");
    }
    // Process 1 still does its work: signals arrive, and orphans are reaped.
    world.exec("c", "(sleep 0.1 &) ; sleep 0.3");
    eventually("nothing is left unreaped", || !world.exec("c", "cat /proc/[0-9]*/stat 2>/dev/null").contains(") Z "));
    world.ok(&["stop", "c"]);
}

/// Found when the two runtimes became one: a device was a bind mount of the host's node, so its permissions were the host's.
#[test]
fn a_device_is_a_node_of_its_own() {
    if !is_root() {
        return;
    }
    let world = ground("own-node", &[], "");
    // The test makes its own node, because it must not touch those of the machine.
    let node = world.folder.with_file_name("node");
    let made = Command::new("mknod").arg("-m").arg("640").arg(&node).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success());
    let shown = node.display();
    let project = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write(
        "stead.kdl",
        &format!("{project}\ncontainer \"c\" {{ image \"box\"; device \"{shown}\" to=\"/dev/given\"; {SLEEP}; }}\n"),
    );
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "echo x > /dev/given && stat -c '%a %t:%T' /dev/given"), "640 1:3");
    world.exec("c", "chmod 777 /dev/given && chown 5:5 /dev/given");
    let now = fs::metadata(&node).unwrap();
    assert_eq!((now.mode() & 0o777, now.uid()), (0o640, 0), "the host's node has changed");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

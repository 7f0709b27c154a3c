//! Other users of the machine cannot reach what we store, and nothing of the user who types a command reaches a monitor
//! or a container.

use crate::ground::{SLEEP, ground, is_root, tool};
use crate::world::{World, stead};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether another user of the machine can run a program on a path.
fn nobody_can(program: &str, path: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg(path).uid(65534).gid(65534).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Nobody finds a device node for a disk in a layer: not in a copy of our directories that lost its permissions, and
/// not as somebody who is root for a moment.
#[test]
fn no_layer_has_device_nodes() {
    if !is_root() {
        return;
    }
    let world = ground(
        "nodes",
        &[],
        &format!(
            r#"
image "step" {{ from "box"; run "mknod -m 666 /disk b 7 0; mkfifo /kept; rm /etc/hidden; mknod /etc/hidden c 1 3"; }}
container "c" {{ image "box"; {SLEEP}; }}
"#
        ),
    );
    // This world has a store of its own, so that layers of other tests are not searched.
    fs::remove_file(world.root.join("store")).unwrap();
    world.write("box/etc/hidden", "the image's");
    let (folder, tar) = (world.folder.with_file_name("nodes"), world.folder.with_file_name("nodes.tar"));
    fs::create_dir_all(folder.join("dev")).unwrap();
    let making = "mknod -m 666 dev/disk b 7 0 && mkfifo pipe && tar -cf ../nodes.tar . && rm dev/disk pipe";
    assert!(Command::new("sh").current_dir(&folder).args(["-c", making]).status().unwrap().success());
    world.ok(&["build", "step"]);
    world.ok(&["import", tar.to_str().unwrap(), "nodes:1"]);
    world.ok(&["up"]);
    world.exec("c", "mknod -m 666 /disk b 7 0; mkfifo /pipe");
    let refused = world.fails(&["commit", "c", "nodes-2"]).err;
    assert!(refused.contains("/disk is a device, and images have none"), "{refused}");
    world.exec("c", "rm /disk");
    world.ok(&["commit", "c", "nodes-2"]);
    let (mut devices, mut fifos) = (Vec::new(), 0);
    let mut folders = vec![world.root.join("store/layers")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, found) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            let kind = found.file_type();
            fifos += u32::from(kind.is_fifo());
            // Device 0:0 is how overlayfs marks a deleted file (a whiteout).
            if kind.is_block_device() || kind.is_char_device() && found.rdev() != 0 {
                devices.push(path.clone());
            }
            if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(devices.is_empty() && fifos == 3, "{devices:?}; FIFOs stand, and there are {fifos}");
    // The file that the device node replaced stays hidden.
    let shown = world.ok(&["run", "step", "ls", "/etc"]);
    assert!(!shown.contains("hidden"), "{shown}");
}

#[test]
fn what_is_kept_is_closed_to_other_users() {
    if !is_root() {
        return;
    }
    let world = ground(
        "closed",
        &[],
        &format!(
            r#"
volume "data"
image "i" {{ from "box"; copy "private" to="/private" mode="0644"; copy "box/bin/busybox" to="/rootshell" mode="4755"; }}
container "c" {{ image "i"; mount volume="data" to="/data"; {SLEEP}; }}
"#
        ),
    );
    world.write("private", "an image's secret");
    world.ok(&["up"]);
    world
        .exec("c", "cp /bin/busybox /data/rootshell; chmod 4755 /data/rootshell; echo secret > /data/file; chmod 644 /data/file");
    let find = |name: &str| {
        let out = Command::new("find")
            .args([&world.root.join("store/"), &world.root.join("state/")])
            .args(["-name", name])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().lines().map(std::path::PathBuf::from).collect::<Vec<_>>()
    };
    let all: Vec<_> = [find("rootshell"), find("private"), find("file")].concat();
    assert!(all.len() >= 4, "{all:?}");
    for path in &all {
        assert!(!nobody_can("cat", path), "{}", path.display());
    }
    for folder in ["store", "state", "run"] {
        assert_eq!(mode(&world.root.join(folder)), 0o700, "{folder}");
    }
    // Directories that an earlier version left open are closed by the next command, whichever it is.
    for folder in ["store", "state", "run"] {
        fs::set_permissions(world.root.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.ok(&["ps"]);
    for folder in ["store", "state", "run"] {
        assert_eq!(mode(&world.root.join(folder)), 0o700, "{folder}");
    }
    // We keep nothing in a directory that somebody else made.
    let theirs = world.folder.with_file_name("theirs");
    fs::create_dir_all(theirs.join("state")).unwrap();
    std::os::unix::fs::chown(theirs.join("state"), Some(65534), Some(65534)).unwrap();
    let ran = Command::new(stead()).arg("images").env("STEAD_ROOT", &theirs).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && said.contains("belongs to another user"), "{said}");
    assert_eq!(fs::metadata(theirs.join("state")).unwrap().uid(), 65534);
}

/// Runs `stead` from a process with unusual settings (`tools/caller.c`).
fn with_habits(world: &World, secret: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(tool("caller"));
    command.arg(secret).arg(stead()).args(arguments).current_dir(&world.folder);
    command.env("STEAD_ROOT", &world.root).env("NO_COLOR", "1").env("STEAD_ALLOW", "all").output().unwrap()
}

#[test]
fn nothing_of_the_caller_reaches_a_monitor_or_a_container() {
    if !is_root() {
        return;
    }
    let world = ground(
        "habits",
        &["keys"],
        &format!(
            r#"
container "c" {{ image "box"; {SLEEP}; }}
container "open" {{ image "box"; security {{ seccomp "unconfined"; }}; {SLEEP}; }}
"#
        ),
    );
    let secret = world.folder.with_file_name("habit");
    fs::write(&secret, "the caller's").unwrap();
    let output = with_habits(&world, &secret, &["up"]);
    assert!(output.status.success(), "{output:?}");
    let processors = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = |text: &str| text.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap().trim().to_owned();
    for name in ["c-1", "open-1"] {
        let status = world.container(name);
        for pid in [status["pid"].as_i64().unwrap(), status["monitor"].as_i64().unwrap_or(0)] {
            if pid == 0 {
                continue;
            }
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            assert_eq!(allowed(&read("status")), allowed(&processors), "{name}: processors");
            let stat = read("stat");
            let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned();
            assert_eq!(nice, "0", "{name}: niceness");
            assert_eq!(read("personality").trim().trim_start_matches('0'), "", "{name}: personality");
            let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            assert!(files.filter_map(|entry| fs::read_link(entry.path()).ok()).all(|path| path != secret), "{name}: descriptors");
        }
        let pid = status["pid"].as_i64().unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(files.split_whitespace().nth(3), Some("1024"), "{files}");
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "0", "{name}: score");
        // Its cgroup is not its caller's, in any hierarchy.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.lines().all(|line| line.ends_with(&format!("/{name}"))), "{groups}");
    }
    // The keys of the host's root are out of reach, even where no filter forbids asking for them, by `exec` and by `run`.
    assert_eq!(world.exec("open", "keys"), "");
    let output = with_habits(&world, &secret, &["exec", "-T", "open", "keys"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let output = with_habits(&world, &secret, &["run", "-T", "open", "sh", "-c", "keys; ls /proc/self/fd | wc -l"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "4", "{output:?}");
}

#[test]
fn a_container_opens_no_file_of_the_host_anew() {
    if !is_root() {
        return;
    }
    let world = ground("streams", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let log = world.folder.with_file_name("log");
    for words in [&["exec", "-T", "c"][..], &["run", "-T", "c"]] {
        fs::write(&log, "the host's log\n").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
        let open = || fs::OpenOptions::new().append(true).open(&log).unwrap();
        let script = "dd if=/proc/$$/fd/1 2>/dev/null | head -c 20 | tr a-z A-Z; : > /proc/$$/fd/1; : > /proc/$$/fd/0; echo told; echo error >&2; echo last";
        let mut command = world.command(&[words, &["sh", "-c", script]].concat());
        command.stdin(fs::File::open(&log).unwrap()).stdout(open()).stderr(open());
        let started = std::time::Instant::now();
        let mut child = command.spawn().unwrap();
        // A command that reads its own output would never end.
        while child.try_wait().unwrap().is_none() {
            if started.elapsed().as_secs() > 5 {
                child.kill().unwrap();
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("the host's log\n") && !text.contains("THE HOST"), "{words:?}: {text}");
    }
    // Output still arrives in order, and so does input.
    fs::write(&log, "").unwrap();
    let open = || fs::OpenOptions::new().append(true).open(&log).unwrap();
    let input = world.folder.with_file_name("input");
    fs::write(&input, "typed\n").unwrap();
    let script = "cat; echo one; echo two >&2; echo three; (sleep 100 &)";
    let mut command = world.command(&["exec", "-T", "c", "sh", "-c", script]);
    let status = command.stdin(fs::File::open(&input).unwrap()).stdout(open()).stderr(open()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(&log).unwrap(), "typed\none\ntwo\nthree\n");
}

#[test]
fn devices_and_calls_that_nothing_needs_are_closed() {
    if !is_root() {
        return;
    }
    let world = ground("closed-calls", &["socketcall"], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let console = world.run(&["exec", "-T", "c", "sh", "-c", "mknod /tmp/console c 5 1; : > /tmp/console"]);
    assert!(console.code != 0 && console.err.contains("not permitted"), "{console:?}");
    for result in world.exec("c", "socketcall").lines() {
        assert_eq!(result, "-38", "a socket of a forbidden family by socketcall");
    }
    // A container sees its own cgroup as the root of each hierarchy, and no release agent.
    let seen = world.exec("c", "find /sys/fs/cgroup -mindepth 2 -type d; find /sys/fs/cgroup -name release_agent; cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(seen, "/");
}

#[test]
fn caches_belong_to_their_project() {
    if !is_root() {
        return;
    }
    let step = |command: &str, more: &str| {
        format!(
            "image \"i\" {{ from \"box\"; run \"{command}; true {}\" {{ mount cache=\"attack\" to=\"/cache\" {more}; }}; }}",
            std::process::id()
        )
    };
    let one = ground("cache-one", &[], &step("echo poison > /cache/x", ""));
    one.ok(&["build"]);
    let two = ground("cache-two", &[], &step("test ! -e /cache/x", ""));
    two.ok(&["build"]);
    // Sharing works if both projects ask for it.
    let three = ground("cache-one", &[], &step("echo shared > /cache/y", "shared=#true"));
    three.ok(&["build"]);
    let four = ground("cache-two", &[], &step("grep shared /cache/y", "shared=#true"));
    four.ok(&["build"]);
}

#[test]
fn a_run_that_was_told_to_end_does() {
    if !is_root() {
        return;
    }
    let world = ground("told", &[], r#"container "c" { image "box"; }"#);
    let mut child = world.spawn(&["run", "-T", "c", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let started = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed().as_secs() > 20 {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A process in the container stops every process that enters it before its program is executed. The monitor must not
/// wait for those.
#[test]
fn a_container_holds_no_monitor() {
    if !is_root() {
        return;
    }
    let stopper = r#"cmd "sh" "-c" "trap '' TERM; while :; do kill -STOP -1; done"; stop-grace "200ms""#;
    let world = ground("stopper", &[], &format!(r#"container "c" {{ image "box"; {stopper}; }}"#));
    world.ok(&["up"]);
    // One of these is stopped on its way in; when that happens is a matter of chance.
    let mut all: Vec<std::process::Child> = (0..20).map(|_| world.spawn(&["exec", "-T", "c", "true"])).collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let held = all.iter_mut().map(std::process::Child::try_wait).filter(|ended| matches!(ended, Ok(None))).count();
    assert!(held > 0, "none was caught");
    for words in [&["pause", "c"][..], &["unpause", "c"], &["stop", "c"]] {
        let mut child = world.spawn(words);
        let started = std::time::Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed().as_secs() > 8 {
                child.kill().unwrap();
                all.iter_mut().for_each(|child| drop(child.kill()));
                panic!("{words:?} waits for what the container holds");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    for mut child in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// A process that a container stopped on its way in is ended when its request is refused.
#[test]
fn what_a_container_stopped_on_its_way_in_is_ended() {
    if !is_root() {
        return;
    }
    let stopper = r#"cmd "sh" "-c" "trap '' TERM; while :; do kill -STOP -1; done"; stop-grace "200ms""#;
    let check = r#"healthcheck interval="200ms" timeout="1s" retries=1000 { exec "true"; }"#;
    let world = ground("stopper-check", &[], &format!(r#"container "c" {{ image "box"; {stopper}; {check} }}"#));
    let mut up = world.spawn(&["up"]);
    std::thread::sleep(std::time::Duration::from_secs(6));
    up.kill().unwrap();
    up.wait().unwrap();
    let inside = world.ok(&["top", "c"]).lines().count();
    // The header, the loop, the current check, and one that may just be ending.
    assert!(inside <= 4, "{}", world.ok(&["top", "c"]));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_container_may_what_dockers_may_and_no_more() {
    if !is_root() {
        return;
    }
    let world = ground("as-docker", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let facts = include_str!("../docker/defaults.txt");
    let of = |kind: &str| facts.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect::<Vec<_>>();
    // Bit numbers from linux/capability.h.
    let numbers = [
        ("CHOWN", 0),
        ("DAC_OVERRIDE", 1),
        ("FOWNER", 3),
        ("FSETID", 4),
        ("KILL", 5),
        ("SETGID", 6),
        ("SETUID", 7),
        ("SETPCAP", 8),
        ("NET_BIND_SERVICE", 10),
        ("NET_RAW", 13),
        ("SYS_CHROOT", 18),
        ("MKNOD", 27),
        ("AUDIT_WRITE", 29),
        ("SETFCAP", 31),
    ];
    let set =
        of("capability ").iter().fold(0u64, |set, name| set | 1 << numbers.iter().find(|(known, _)| known == name).unwrap().1);
    let sets = world.exec("c", "sed -n 's/^Cap\\(Bnd\\|Eff\\|Prm\\):.//p' /proc/self/status | sort -u");
    assert_eq!(u64::from_str_radix(&sets, 16).unwrap(), set, "{sets}");
    let mounts = world.exec("c", "cat /proc/self/mountinfo");
    let covered = |path: &str| mounts.lines().any(|line| line.split(' ').nth(4) == Some(path));
    for path in of("masked ") {
        // A path that this kernel does not have needs no mask.
        let there = fs::exists(&path).unwrap();
        assert_eq!(covered(&path), there, "{path}");
    }
    for path in of("read-only ").iter().filter(|path| fs::exists(path).unwrap()) {
        let line =
            mounts.lines().find(|line| line.split(' ').nth(4) == Some(path)).unwrap_or_else(|| panic!("{path} can be written"));
        assert!(line.split(' ').nth(5).unwrap().starts_with("ro,"), "{line}");
    }
}

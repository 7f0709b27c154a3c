//! The commands that Docker's users know, each on real containers.

use crate::world::{Ran, World, alive, copy_folder, eventually, is_root};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const SLEEP: &str = r#"stop-grace "100ms"; cmd "sleep" "1000""#;

#[test]
fn every_limit_is_applied_told_and_changed_while_it_runs() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "every-limit",
        &format!(
            r#"container "c" {{ image "base"; {SLEEP}; limits {{
    cpus 0.5
    cpu-weight 200
    cpuset "0"
    memory "64MiB"
    memory-reservation "32MiB"
    pids 50
    ulimit "nofile" soft=100 hard=200
    ulimit "core" soft=0
    oom-score 500
    shm "8MiB"
}} }}"#
        ),
    );
    world.ok(&["up"]);
    let read = |v1: &str, v2: &str| world.exec("c", &format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}"));
    assert!(["50000", "50000 100000"].contains(&read("cpu/cpu.cfs_quota_us", "cpu.max").as_str()));
    assert!(["2048", "200"].contains(&read("cpu/cpu.shares", "cpu.weight").as_str()));
    assert_eq!(read("cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(world.exec("c", "nproc"), "1");
    assert_eq!(read("memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read("memory/memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(
        world.exec(
            "c",
            "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -1 | awk '{print $2}'"
        ),
        "100\n200\n0\n500\n8192"
    );
    world.edit("soft=100 hard=200", "soft=90 hard=200");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("(replace)") && plan.contains("limits.ulimit changed"), "{plan}");
    world.edit("soft=90 hard=200", "soft=100 hard=200");
    // These limits change while the container runs: the process is the same, without a restart.
    let pid = world.pid("c-1");
    world.edit("memory \"64MiB\"", "memory \"96MiB\"");
    world.edit("cpus 0.5", "cpus 1");
    world.edit("pids 50", "");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("~ container c-1 (while it runs)") && plan.contains("limits.memory \"64 MiB\" → \"96 MiB\""), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.pid("c-1"), pid);
    assert_eq!(read("memory/memory.limit_in_bytes", "memory.max"), "100663296");
    assert!(["100000", "100000 100000"].contains(&read("cpu/cpu.cfs_quota_us", "cpu.max").as_str()));
    assert_eq!(read("pids/pids.max", "pids.max"), "max");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    // The changed limits also survive a restart.
    world.ok(&["restart", "c"]);
    assert_eq!(read("memory/memory.limit_in_bytes", "memory.max"), "100663296");
    // A change of other limits replaces the container.
    world.edit("oom-score 500", "oom-score 600");
    assert!(world.ok(&["plan"]).contains("(replace)"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn pause_and_unpause_stop_every_process_and_let_it_go_on() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "pause",
        r#"container "c" { image "base"; stop-grace "500ms"; healthcheck interval="50ms" timeout="200ms" retries=1 { exec "true" }; cmd "sh" "-c" "while :; do date +%N > /tick; sleep 0.01; done"; }"#,
    );
    world.ok(&["up"]);
    world.ok(&["pause", "c"]);
    let paused = world.container("c-1");
    assert_eq!(paused["state"], "paused");
    let tick = || {
        let root = format!("/proc/{}/root/tick", world.pid("c-1"));
        fs::read_to_string(root).unwrap()
    };
    let first = tick();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(tick(), first, "nothing runs");
    assert_eq!(world.container("c-1")["health"], "healthy", "a paused container fails no check");
    assert!(world.ok(&["ps"]).contains("paused"));
    world.ok(&["unpause", "c"]);
    eventually("it goes on", || tick() != first);
    world.ok(&["pause", "c"]);
    world.ok(&["stop", "c"]);
    assert_eq!(world.container("c-1")["state"], "exited", "what is paused can be stopped");
    world.fails(&["pause", "c"]);
    world.ok(&["start", "c"]);
    world.ok(&["pause", "c"]);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn what_hands_do_is_drift_that_status_shows_and_up_undoes() {
    if !is_root() {
        return;
    }
    let world = World::new("drift", &format!(r#"container "c" {{ image "base"; replicas 2; {SLEEP}; }}"#));
    world.ok(&["up"]);
    world.ok(&["scale", "c=3"]);
    assert_eq!(world.ps().len(), 3);
    assert!(world.ok(&["status"]).contains("- container c-3"), "{}", world.ok(&["status"]));
    world.ok(&["up"]);
    assert_eq!(world.ps().len(), 2);
    world.ok(&["scale", "c=1"]);
    assert_eq!(world.ps().len(), 1);
    assert!(world.ok(&["status"]).contains("+ container c-2"));
    world.ok(&["up"]);
    assert!(world.fails(&["rm", "c-1"]).err.contains("stead rm --force"));
    world.ok(&["rm", "-f", "c-1"]);
    assert!(world.ok(&["status"]).contains("+ container c-1"));
    world.ok(&["up"]);
    assert_eq!(world.ps().len(), 2);
    world.ok(&["stop", "c-2"]);
    assert!(world.ok(&["status"]).contains("somebody stopped it"));
    world.ok(&["up"]);
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    assert!(world.fails(&["scale", "d=3"]).err.contains("no container \"d\""));
    assert_eq!(world.fails(&["scale", "c"]).code, 2);
}

#[test]
fn events_wait_and_exit_codes_tell_what_happened() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "events",
        r#"
container "c" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "trap 'exit 5' TERM USR1; while :; do sleep 0.02; done"; restart "always"; healthcheck interval="50ms" { exec "test" "!" "-e" "/sick" }; }
container "eater" { image "base"; cmd "sh" "-c" "sleep 0.5; exec python3 -c 'x = bytearray(200 << 20)'"; limits { memory "32MiB"; swap "0B"; }; }
"#,
    );
    // Without swap accounting, the limit on memory alone must do.
    if !world.run(&["up"]).err.is_empty() && world.ps().is_empty() {
        world.edit("swap \"0B\";", "");
        let _ = world.run(&["up"]);
    }
    let waiting = world.spawn(&["wait", "eater"]);
    let out = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "137\n", "{out:?}");
    assert_eq!(out.status.code(), Some(137));
    world.ok(&["exec", "-T", "c", "touch", "/sick"]);
    eventually("it turns unhealthy", || world.container("c-1")["health"] == "unhealthy");
    world.ok(&["pause", "c"]);
    world.ok(&["unpause", "c"]);
    world.ok(&["kill", "-s", "USR1", "c"]);
    eventually("it is started again", || world.container("c-1")["restarts"] == 1 && world.container("c-1")["state"] == "running");
    world.ok(&["stop", "c"]);
    let text = world.ok(&["events", "--since", "1h", "--until", "0s", "--json", "c"]);
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = events.iter().map(|event| event["action"].as_str().unwrap()).collect();
    let health: Vec<&str> = events.iter().filter_map(|event| event["attributes"]["health"].as_str()).collect();
    assert_eq!(health[..2], ["healthy", "unhealthy"], "{text}");
    let others: Vec<&str> = actions.iter().copied().filter(|action| *action != "health_status").collect();
    assert_eq!(others, ["start", "pause", "unpause", "kill", "die", "restart", "start", "stop", "die"], "{text}");
    assert!(events.iter().any(|event| event["action"] == "die" && event["attributes"]["exit"] == "5"));
    let eater = world.ok(&["events", "--since", "1h", "--until", "0s", "eater"]);
    assert!(eater.contains("oom eater-1") && eater.contains("die eater-1 (exit=137)"), "{eater}");
    assert_eq!(world.ok(&["events", "--until", "1h"]), "", "nothing happened that long ago");
    assert_eq!(world.fails(&["events", "--since", "yesterday"]).code, 2);
}

#[test]
fn a_container_that_turns_unhealthy_is_started_again_if_asked() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "unhealthy",
        r#"container "c" { image "base"; stop-grace "100ms"; restart "on-failure" max=3 unhealthy=#true; cmd "sh" "-c" "rm -f /tmp/sick; exec sleep 1000"; healthcheck interval="50ms" retries=2 { exec "test" "!" "-e" "/tmp/sick" }; }"#,
    );
    world.ok(&["up"]);
    world.ok(&["exec", "-T", "c", "touch", "/tmp/sick"]);
    eventually("it is started again", || {
        let now = world.container("c-1");
        now["restarts"] == 1 && now["health"] == "healthy"
    });
    assert!(world.ok(&["logs", "c"]).contains("the container is unhealthy and is restarted"));
}

#[test]
fn top_stats_metrics_port_and_inspect_tell_what_is() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "look",
        r#"
secret "s" file="s"
container "c" { image "base"; stop-grace "100ms"; publish 18800 to=80; publish 18801 to=53 protocol="udp"; secret "s"; limits { memory "64MiB"; cpus 0.2; }; cmd "sh" "-c" "while :; do :; done"; }"#,
    );
    world.write("s", "TOP-SECRET");
    world.ok(&["up"]);
    // A process that is just being started appears twice for a moment.
    eventually("top shows one process", || {
        let top = world.ok(&["top", "c"]);
        top.contains("while :; do :; done") && top.lines().count() == 2
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let line = world.ok(&["stats", "--no-stream", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&line).unwrap();
    let c = &stats["containers"][0];
    assert_eq!((c["name"].as_str(), c["memory_limit"].as_u64()), (Some("c-1"), Some(64 << 20)));
    assert!((5.0..60.0).contains(&c["cpu_percent"].as_f64().unwrap()), "a fifth of a processor: {c}");
    assert!(c["memory"].as_u64().unwrap() > 0 && c["pids"].as_u64().unwrap() >= 2, "{c}");
    assert!(c["throttled_periods"].as_u64().unwrap() > 0 && c["throttled"].as_u64().unwrap() > 0, "{c}");
    assert!(c["networks"]["eth0"]["received_packets"].is_u64(), "{c}");
    let table = world.ok(&["stats", "--no-stream"]);
    assert!(table.contains("64.0 MiB") && table.contains("THROTTLED"), "{table}");
    let metrics = world.ok(&["metrics"]);
    for name in [
        "container_cpu_usage_seconds_total{id=\"/stead-",
        "container_memory_working_set_bytes{",
        "container_network_receive_bytes_total{",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(
        metrics
            .lines()
            .all(|line| line.starts_with('#') || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()))
    );
    assert_eq!(world.ok(&["port", "c"]), "53/udp -> 127.0.0.1:18801\n80/tcp -> 127.0.0.1:18800\n");
    assert_eq!(world.ok(&["port", "c", "80"]), "127.0.0.1:18800\n");
    world.fails(&["port", "c", "81"]);
    let inspect = world.ok(&["inspect", "c"]);
    let value: serde_json::Value = serde_json::from_str(&inspect).unwrap();
    assert_eq!(value[0]["spec"]["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert!(!inspect.contains("TOP-SECRET"));
    // Prometheus's own checker, if it is installed, accepts what we print.
    if let Ok(mut checker) = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn() {
        use std::io::Write;
        checker.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
        assert!(checker.wait().unwrap().success());
    }
}

#[test]
fn files_go_in_and_out_and_links_lead_nowhere() {
    if !is_root() {
        return;
    }
    let world = World::new("files", &format!(r#"container "c" {{ image "base"; {SLEEP}; tmpfs "/memory"; }}"#));
    let folder = &world.folder;
    world.ok(&["up"]);
    world.write("tree/a/b.txt", "in");
    std::os::unix::fs::symlink("b.txt", folder.join("tree/a/link")).unwrap();
    world.ok(&["cp", "tree", "c:/opt"]);
    assert_eq!(world.exec("c", "cat /opt/tree/a/link; stat -c %u /opt/tree/a/b.txt"), "in0");
    world.ok(&["cp", "tree/.", "c:/opt"]);
    assert_eq!(world.exec("c", "cat /opt/a/b.txt"), "in");
    world.ok(&["cp", "tree/a/b.txt", "c:/memory/renamed"]);
    assert_eq!(world.exec("c", "cat /memory/renamed"), "in", "mounts are seen");
    world
        .exec("c", "mkdir /out && echo x > /out/file && ln -s /etc/shadow /out/host && ln -s / /out/root && chmod 640 /out/file");
    world.ok(&["cp", "c:/out", "got"]);
    assert_eq!(fs::read_to_string(folder.join("got/file")).unwrap(), "x\n");
    assert_eq!(fs::read_link(folder.join("got/host")).unwrap().to_str(), Some("/etc/shadow"), "a link stays a link");
    // A path through a link of the container is resolved inside it, and never on the host.
    let secret = folder.with_file_name("host-secret");
    fs::write(&secret, "the host's").unwrap();
    world.exec("c", &format!("ln -s {} /leak; ln -s ../../../../../../.. /up", secret.display()));
    let leak = world.fails(&["cp", "c:/leak/", "leaked"]);
    assert!(leak.err.contains("container c-1 has no /leak/"), "{}", leak.err);
    assert!(world.run(&["cp", &format!("c:/up{}", secret.display()), "leaked"]).code != 0 && !folder.join("leaked").exists());
    world.fails(&["cp", "tree/a/b.txt", "c:/leak/x"]);
    let _ = world.run(&["cp", "tree/a/b.txt", "c:/leak"]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the host's");
    // A link on the host at the target's path is replaced, not followed.
    std::os::unix::fs::symlink(&secret, folder.join("here")).unwrap();
    world.ok(&["cp", "c:/out/file", "here"]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the host's");
    // Changes, export and commit; they also work on a stopped container.
    world.exec("c", "rm /bin/bash; echo more >> /etc/profile; touch /new");
    let changes = world.ok(&["changes", "c"]);
    for line in ["A /new", "C /etc/profile", "D /usr/bin/bash", "A /out/file"] {
        assert!(changes.lines().any(|found| found == line), "{line} in {changes}");
    }
    assert!(!changes.contains("/etc/hosts"), "{changes}");
    world.ok(&["export", "c", "-o", "c.tar"]);
    let list = Command::new("tar").args(["tf", "c.tar"]).current_dir(folder).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("new\n") && list.contains("usr/bin/busybox\n") && !list.contains("usr/bin/bash\n"), "{}", list.len());
    world.ok(&["stop", "c"]);
    let made = world.ok(&["commit", "c", "patched"]);
    assert!(made.starts_with("files/patched sha256:"), "{made}");
    assert_eq!(world.ok(&["commit", "c", "patched"]), made, "the same bytes again");
    world.ok(&["commit", "c", "changed", "--change", "ENV GREETING=hi", "-c", "CMD [\"sh\", \"-c\", \"echo $GREETING\"]"]);
    assert_eq!(world.ok(&["run", "-T", "files/changed"]), "hi\n");
    let ran = world.fails(&["commit", "c", "changed", "--change", "RUN true"]);
    assert!(ran.code == 2 && ran.err.contains("RUN true"), "{}", ran.err);
    assert!(world.ok(&["images"]).contains("files/patched"));
    world.ok(&["cp", "tree/a/b.txt", "c:/while-stopped"]);
    world.ok(&["cp", "c:/while-stopped", "back"]);
    assert_eq!(fs::read_to_string(folder.join("back")).unwrap(), "in");
    world.ok(&["start", "c"]);
    assert_eq!(world.exec("c", "cat /while-stopped"), "in");
    assert_eq!(world.fails(&["cp", "a", "b"]).code, 2);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&world.root.display().to_string()), "no mount is left on the host");
}

#[test]
fn attach_shows_output_passes_input_and_signals_and_lets_go() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "attach",
        r#"
container "term" { image "base"; tty #true; stop-grace "100ms"; cmd "sh" "-c" "while read line; do stty size; echo got $line; [ $line = end ] && exit 4; done"; }
container "plain" { image "base"; cmd "sh" "-c" "trap 'echo caught; exit 3' INT; echo begun; while :; do echo tick; sleep 0.05; done"; }
"#,
    );
    world.ok(&["up"]);
    let stead = env!("CARGO_BIN_EXE_stead");
    let script = |typed: &str, wait: &str| {
        let line = format!(
            "(sleep 0.4; printf '{typed}'; {wait}) | script -qec 'stty rows 33 cols 99; {stead} attach term' /dev/null; echo status $?"
        );
        let out =
            Command::new("bash").args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).output().unwrap();
        String::from_utf8_lossy(&out.stdout).replace('\r', "")
    };
    let left = script("one\\n", "sleep 0.4; printf '\\020\\021'; sleep 0.3");
    assert!(left.contains("33 99\ngot one") && left.contains("left term-1 running"), "{left}");
    assert_eq!(world.container("term-1")["state"], "running");
    let ended = script("end\\n", "sleep 0.6");
    assert!(ended.contains("got end"), "{ended}");
    eventually("it ended", || world.container("term-1")["exit_code"] == 4);
    // What was shown on the terminal is in the log, too.
    assert!(world.ok(&["logs", "term"]).contains("got one"));
    let attached = world.spawn(&["attach", "plain"]);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(alive(i32::try_from(attached.id()).unwrap()));
    Command::new("kill").args(["-INT", &attached.id().to_string()]).status().unwrap();
    let out = attached.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("tick\n") && said.contains("caught") && out.status.code() == Some(3), "{out:?}");
}

#[test]
fn exec_carries_everything_and_leaks_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new("execs", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let monitor = || {
        let folder =
            fs::read_dir(world.root.join("run")).unwrap().flatten().find(|entry| entry.path().join("c-1").exists()).unwrap();
        let status: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("c-1/status.json")).unwrap()).unwrap();
        status["content"]["monitor"].as_u64().unwrap()
    };
    let held = || {
        let pid = monitor();
        // The last session may still be ending.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let private: u64 = rollup
            .lines()
            .filter(|line| line.starts_with("Private_"))
            .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
            .sum();
        (fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), private)
    };
    let exec = |count: u32| {
        let line = format!("for i in $(seq {count}); do {} exec -T c true || exit 1; done", env!("CARGO_BIN_EXE_stead"));
        assert!(
            Command::new("sh")
                .args(["-c", &line])
                .current_dir(&world.folder)
                .env("STEAD_ROOT", &world.root)
                .stdin(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    };
    exec(50);
    let before = held();
    exec(1000);
    let after = held();
    assert_eq!(before.0, after.0, "descriptors");
    assert!(after.1 <= before.1 + 64, "{} KiB of private memory grew to {} KiB", before.1, after.1);
    let group = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|text| text.contains(&format!("stead-{}", world.tag())))
    });
    assert_eq!(group.count(), 2, "the guard and the command");
    // A gigabyte passes through completely, and the command sees the end of its input.
    let line = format!("{} exec -T c head -c 1073741824 /dev/zero | wc -c", env!("CARGO_BIN_EXE_stead"));
    let out = Command::new("sh").args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "1073741824");
    let line = format!("printf 'abc' | {} exec -T c sh -c 'cat; echo .; sleep 0.1; echo done'", env!("CARGO_BIN_EXE_stead"));
    let out = Command::new("sh").args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "abc.\ndone\n");
    world.ok(&["stop", "c"]);
    let stopped = world.fails(&["exec", "-T", "c", "true"]);
    assert!(stopped.err.contains("not running") && stopped.err.contains("stead up"), "{}", stopped.err);
}

#[test]
fn after_a_reboot_up_starts_clean_and_the_unit_starts_what_should_run() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "boot",
        r#"
container "always" { image "base"; restart "always"; depends-on "base"; stop-grace "50ms"; cmd "sleep" "1000"; publish 18810 to=80; }
container "base" { image "base"; stop-grace "50ms"; cmd "sleep" "1000"; }
container "kept" { image "base"; restart "unless-stopped"; stop-grace "50ms"; cmd "sleep" "1000"; }
container "no" { image "base"; stop-grace "50ms"; cmd "sleep" "1000"; }
"#,
    );
    world.ok(&["up"]);
    world.ok(&["stop", "kept"]);
    let units = world.folder.with_file_name("units");
    let at = units.display().to_string();
    let said = world.run(&["boot", "enable", "--units", &at]);
    assert_eq!(said.code, 0, "{}", said.err);
    let unit = fs::read_dir(&units).unwrap().flatten().find(|entry| entry.path().is_file()).unwrap().path();
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains("boot start") && text.contains("KillMode=mixed"), "{text}");
    assert!(fs::canonicalize(units.join("multi-user.target.wants").join(unit.file_name().unwrap())).is_ok());
    if let Ok(verified) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output() {
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(!said.contains("stead-"), "{said}");
    }
    // A simulated reboot: no process, cgroup, link or table is left, and the files on the memory file system are outdated.
    let pids: Vec<i32> =
        world.ps().iter().map(|row| i32::try_from(row["pid"].as_i64().unwrap()).unwrap()).filter(|pid| *pid > 0).collect();
    for row in world.ps().iter().filter(|row| row["state"] == "running") {
        let name = row["name"].as_str().unwrap();
        let instance =
            fs::read_dir(world.root.join("run")).unwrap().flatten().find(|entry| entry.path().join(name).exists()).unwrap();
        let status: serde_json::Value =
            serde_json::from_slice(&fs::read(instance.path().join(name).join("status.json")).unwrap()).unwrap();
        Command::new("kill").args(["-9", &status["content"]["monitor"].to_string()]).status().unwrap();
    }
    eventually("all is dead", || pids.iter().all(|pid| !alive(*pid)));
    for line in String::from_utf8(Command::new("ip").args(["-o", "link"]).output().unwrap().stdout).unwrap().lines() {
        let name = line.split(": ").nth(1).unwrap_or_default();
        if name.contains(&world.tag()) {
            Command::new("ip").args(["link", "delete", name]).status().unwrap();
        }
    }
    Command::new("nft").args(["delete", "table", "ip", &format!("stead-{}", world.tag())]).output().unwrap();
    let line = format!("sed -i 's/\"boot\":\"[^\"]*\"/\"boot\":\"another\"/' {}/run/*/*/status.json", world.root.display());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    world.ok(&["boot", "start"]);
    let state = |name: &str| world.container(name)["state"].as_str().unwrap().to_owned();
    assert_eq!((state("always-1").as_str(), state("base-1").as_str()), ("running", "running"));
    assert_ne!(state("kept-1"), "running", "somebody had stopped it");
    assert_ne!(state("no-1"), "running");
    world.ok(&["up"]);
    assert!(["always-1", "base-1", "kept-1", "no-1"].iter().all(|name| state(name) == "running"));
    world.ok(&["boot", "disable", "--units", &at]);
    assert!(!unit.exists());
    // A unit that cannot be removed is an error, not "not enabled".
    fs::create_dir(&unit).unwrap();
    let kept = world.fails(&["boot", "disable", "--units", &at]);
    assert!(kept.err.contains("cannot remove"), "{}{}", kept.out, kept.err);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

/// A loop device with the BFQ scheduler; both are undone when it is dropped.
struct Loop(String);

impl Loop {
    fn new(file: &std::path::Path) -> Option<Self> {
        fs::write(file, vec![0; 1 << 20]).unwrap();
        let out = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let made = Self(String::from_utf8_lossy(&out.stdout).trim().trim_start_matches("/dev/").to_owned());
        (out.status.success() && fs::write(made.scheduler(), "bfq").is_ok()).then_some(made)
    }

    fn scheduler(&self) -> String {
        format!("/sys/block/{}/queue/scheduler", self.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = fs::write(self.scheduler(), "none");
        let _ = Command::new("losetup").args(["-d", &format!("/dev/{}", self.0)]).status();
    }
}

#[test]
fn a_weight_is_applied_where_bfq_is_active() {
    if !is_root() {
        return;
    }
    let world = World::new("weight", "");
    let Some(disk) = Loop::new(&world.folder.join("disk")) else {
        crate::world::tell_skipped("this kernel has no BFQ or no loop devices");
        return;
    };
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let container = "container \"c\" { image \"base\"; init #true; cmd \"sleep\" \"1000\"; stop-grace \"100ms\"; limits { io \"/dev/DISK\" weight=250; }; }";
    world.write("stead.kdl", &format!("{text}\n{}", container.replace("DISK", &disk.0)));
    world.ok(&["up"]);
    let pid = world.ps()[0]["pid"].as_i64().unwrap();
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = |kind: &str| group.lines().find_map(|line| Some(line.split_once(kind)?.1.to_owned()));
    let weights = || match own(":blkio:") {
        Some(path) => fs::read_to_string(format!("/sys/fs/cgroup/blkio{path}/blkio.bfq.weight_device")).unwrap(),
        None => fs::read_to_string(format!("/sys/fs/cgroup{}/io.bfq.weight", own("0::").unwrap())).unwrap(),
    };
    assert!(weights().lines().any(|line| line.ends_with(" 250")), "{}", weights());
    world.edit("weight=250", "weight=700");
    assert!(world.run(&["up"]).err.contains("while it runs"));
    assert!(weights().lines().any(|line| line.ends_with(" 700")), "{}", weights());
    fs::write(disk.scheduler(), "none").unwrap();
    world.edit("weight=700", "weight=800");
    assert!(world.fails(&["up"]).err.contains("BFQ"), "where nothing would obey, nothing is said to");
}

/// While a hook runs, output is read and requests are answered, because the hook may wait for the container's output.
#[test]
fn hooks_run_beside_everything_else() {
    if !is_root() {
        return;
    }
    let say = "trap 'exit 0' TERM; until [ -e /go ]; do sleep 0.05; done; seq 300000; touch /said; while :; do sleep 0.1; done";
    let text = format!(
        r#"container "c" {{
    image "base"; restart "no"; stop-grace "20s"; cmd "sh" "-c" "{say}"
    on "start" {{ exec "sh" "-c" "sleep 0.5; touch /started"; }}
    on "start" {{ exec "sh" "-c" "exit 3"; }}
    on "start" {{ exec "no-such-program"; }}
    on "stop" {{ exec "sh" "-c" "touch /go; until [ -e /said ]; do sleep 0.05; done; sleep 1"; }}
}}"#
    );
    let world = World::new("hooks", &text);
    world.ok(&["up"]);
    // `up` returns when the hooks are done, because they may prepare what others wait for.
    assert_eq!(world.exec("c", "ls /started"), "/started");
    let log = world.ok(&["logs", "c"]);
    assert!(log.contains("start hook [\"sh\", \"-c\", \"exit 3\"] failed: exit status 3"), "{log}");
    assert!(log.contains("start hook [\"no-such-program\"] failed: ") && log.contains("no-such-program"), "{log}");
    let mut stop = world.spawn(&["stop", "c"]);
    eventually("the hook waits for what the container says", || world.run(&["exec", "-T", "c", "ls", "/said"]).code == 0);
    assert!(stop.try_wait().unwrap().is_none(), "it is not stopped before its hooks are done");
    assert_eq!(world.exec("c", "echo here"), "here");
    assert!(stop.wait().unwrap().success());
    assert!(world.ok(&["logs", "-n", "1", "c"]).contains("300000"));
    // A container that is started again runs its hooks, even when nothing else happens.
    let again = r#"container "again" { image "base"; restart "always"; stop-grace "200ms"; cmd "sh" "-c" "sleep 1"; on "start" { exec "sh" "-c" "echo x >> /begun"; } }"#;
    world.write("stead.kdl", &format!("{}\n{again}", std::fs::read_to_string(world.folder.join("stead.kdl")).unwrap()));
    world.ok(&["up"]);
    eventually("its hook runs each time", || world.run(&["exec", "-T", "again", "cat", "/begun"]).out.matches('x').count() >= 3);
    // A stop does not wait for start hooks that are still running.
    world.edit("sleep 0.5;", "sleep 1000;");
    let mut up = world.spawn(&["up"]);
    eventually("it runs", || world.container("c-1")["state"] == "running");
    world.ok(&["stop", "c"]);
    assert!(up.wait().is_ok());
}

#[test]
fn clients_that_leave_are_dropped() {
    if !is_root() {
        return;
    }
    let world = World::new("leave", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let monitor = {
        let inspected: serde_json::Value = serde_json::from_str(&world.ok(&["inspect", "c"])).unwrap();
        inspected[0]["status"]["monitor"].as_u64().unwrap()
    };
    let open = || fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    let before = open();
    for command in ["wait", "attach"] {
        let mut clients: Vec<_> = (0..10).map(|_| world.spawn(&[command, "c"])).collect();
        eventually(&format!("all {command}"), || open() >= before + 10);
        for client in &mut clients {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        eventually(&format!("nobody of {command} is kept"), || open() <= before);
    }
    world.ok(&["down"]);
}

#[test]
fn a_copy_replaces_no_device_and_no_fifo() {
    if !is_root() {
        return;
    }
    let world = World::new("cp-device", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    world.exec("c", "echo text > /f; mkfifo /pipe");
    world.write("f", "text");
    // A device like the one that every program writes to, but not that one.
    for made in [&["mknod", "null", "c", "1", "3"][..], &["mkfifo", "pipe"]] {
        assert!(Command::new(made[0]).args(&made[1..]).current_dir(&world.folder).status().unwrap().success());
        let ran = world.fails(&["cp", "c:/f", made[1]]);
        assert!(ran.err.contains("a copy does not replace"), "{}", ran.err);
        assert!(!fs::symlink_metadata(world.folder.join(made[1])).unwrap().is_file());
    }
    for to in ["c:/dev/null", "c:/pipe"] {
        assert!(world.fails(&["cp", "f", to]).err.contains("a copy does not replace"));
    }
    assert_eq!(world.exec("c", "test -c /dev/null && test -p /pipe && echo kept"), "kept");
    world.ok(&["cp", "c:/f", "f"]);
    world.ok(&["down"]);
}

/// Whatever controllers its cgroup had at the start; and less memory than is used is refused, not enforced by a kill.
#[test]
fn limits_that_were_not_there_apply_while_it_runs() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "late-limits",
        r#"container "c" { image "base"; stop-grace "100ms"; cmd "python3" "-c" "import time; x = bytearray(60 << 20); time.sleep(1000)" }"#,
    );
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    let pages = std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists();
    let huge = if pages { "hugepages \"2MiB\" limit=\"4MiB\";" } else { "" };
    let limits = format!("limits {{ cpus 0.5; cpu-weight 200; cpuset \"0\"; pids 100; {huge} }}");
    world.edit("stop-grace", &format!("{limits}; stop-grace"));
    let up = world.run(&["up"]);
    assert!(up.code == 0 && up.err.contains("while it runs"), "{up:?}");
    assert_eq!(
        world
            .exec("c", "grep -c ^processor /proc/cpuinfo; grep Cpus_allowed_list /proc/self/status | tr -dc 0-9 | tail -c 2")
            .lines()
            .last(),
        Some("0")
    );
    if pages {
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let of = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
        let paths = group.lines().filter_map(of).flat_map(|path| {
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/hugetlb"].map(|root| format!("{root}{path}"))
        });
        let read = |path: String| {
            ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"]
                .iter()
                .find_map(|name| fs::read_to_string(format!("{path}/{name}")).ok())
        };
        assert!(paths.filter_map(read).any(|text| text.trim() == "4194304"), "{group}");
    }
    eventually("its memory is in use", || {
        let stats = world.ok(&["stats", "--no-stream", "--json", "c"]);
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        stats["containers"][0]["memory"].as_u64().is_some_and(|used| used > 60 << 20)
    });
    world.edit("cpus 0.5", "cpus 0.5; memory \"16MiB\"; swap \"0B\"");
    let refused = world.fails(&["up"]);
    assert!(refused.err.contains("memory \"16 MiB\": it uses ") && refused.err.contains("MiB now"), "{}", refused.err);
    assert_eq!(world.pid("c-1"), pid);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

/// What was never up is started with what it depends on, also where that was stopped; the rest of the project is not.
#[test]
fn one_container_starts_with_what_it_needs() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "start-one",
        &format!(
            "container \"db\" {{ image \"base\"; {SLEEP} }}\ncontainer \"app\" {{ image \"base\"; depends-on \"db\"; {SLEEP} }}\n\
             container \"other\" {{ image \"base\"; {SLEEP} }}\n"
        ),
    );
    let running = || world.ps().iter().map(|found| found["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    world.ok(&["start", "db"]);
    assert_eq!(running(), ["db-1"]);
    world.ok(&["stop", "db"]);
    world.ok(&["start", "app"]);
    assert_eq!(running(), ["app-1", "db-1"]);
    world.ok(&["down"]);
}

/// Whatever a command meets of a container that is ending, it says that it is not running.
#[test]
fn who_comes_as_a_container_ends_is_told_that_it_does_not_run() {
    if !is_root() {
        return;
    }
    let world = World::new("races-end", &format!("container \"c\" {{ image \"base\"; {SLEEP} }}\n"));
    for round in 0..8 {
        world.ok(&["up"]);
        let mut killer = world.spawn(&["kill", "c"]);
        let mut others: Vec<_> = [&["exec", "-T", "c", "true"][..], &["pause", "c"], &["exec", "-T", "c", "true"]]
            .map(|words| world.command(words).output().unwrap())
            .into();
        assert!(killer.wait().unwrap().success());
        others.push(world.command(&["exec", "-T", "c", "true"]).output().unwrap());
        for other in others.iter().filter(|other| !other.status.success()) {
            let said = String::from_utf8_lossy(&other.stderr);
            // What was running already is killed with the container.
            let killed = other.status.code() == Some(137) && said.is_empty();
            // It may have been paused before it was killed.
            let told = said.contains("c-1 is not running") || said.contains("the container is paused");
            assert!(killed || told, "round {round}: {said}");
        }
        world.run(&["unpause", "c"]);
    }
    world.ok(&["down"]);
}

/// The plan says what somebody did by hand, and who has a port, all of them at once.
#[test]
fn plans_and_errors_say_what_happened() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "told-why",
        &format!(
            "container \"a\" {{ image \"base\"; replicas 3; {SLEEP} }}\nimage \"spare\" {{ from \"base\"; copy \"stead.kdl\" to=\"/x\" }}\n"
        ),
    );
    world.ok(&["up"]);
    world.ok(&["rm", "--force", "a-2"]);
    assert!(world.ok(&["plan"]).contains("+ container a-2 (image base)  ← somebody removed it"), "{}", world.ok(&["plan"]));
    world.ok(&["up"]);
    assert!(world.ok(&["why", "spare"]).contains("no container uses it"));
    let taken: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = taken.iter().map(|port| port.local_addr().unwrap().port()).collect();
    let nodes: String = ports.iter().map(|port| format!("publish {port} to=80; ")).collect();
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("stead.kdl", &format!("{text}container \"b\" {{ image \"base\"; {nodes}{SLEEP} }}\n"));
    let refused = world.fails(&["up"]).err;
    assert!(ports.iter().all(|port| refused.contains(&format!("cannot publish 127.0.0.1:{port}"))), "{refused}");
    world.ok(&["down"]);
}

/// A directory that was moved keeps what it had where it was: who goes up in the new place is told.
#[test]
fn a_moved_directory_keeps_what_it_has() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "moved-away",
        &format!("container \"a\" {{ image \"base\"; mount volume=\"v\" to=\"/v\"; {SLEEP} }}\nvolume \"v\"\n"),
    );
    world.ok(&["up"]);
    world.exec("a", "echo kept > /v/file");
    let pid = world.pid("a-1");
    let moved = world.folder.with_file_name("moved");
    let there = |folder: &Path, words: &[&str]| Ran::from(world.command(words).current_dir(folder).output().unwrap());
    let ok = |folder: &Path, words: &[&str]| {
        let ran = there(folder, words);
        assert_eq!(ran.code, 0, "{words:?} {}", ran.err);
        ran
    };
    let pid_in = |folder: &Path| {
        let listed: serde_json::Value = serde_json::from_str(&ok(folder, &["ps", "--json"]).out).unwrap();
        i32::try_from(listed["containers"][0]["pid"].as_i64().unwrap_or_default()).unwrap()
    };
    fs::rename(&world.folder, &moved).unwrap();
    assert_eq!(pid_in(&moved), pid, "it is seen before anything is done");
    let up = ok(&moved, &["up"]);
    assert!(up.err.contains("nothing to do") && !up.err.contains("which is gone"), "{}", up.err);
    assert_eq!(pid_in(&moved), pid);
    let roots = fs::read_dir(world.root.join("store/roots")).unwrap().flatten();
    let named = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("{}\"", moved.display())));
    assert!(roots.filter(|root| named(&root.path())).count() >= 2, "what it keeps in the store is its own still");
    let listed: serde_json::Value = serde_json::from_str(&ok(&moved, &["ps", "--projects", "--json"]).out).unwrap();
    let projects = listed["projects"].as_array().unwrap();
    assert_eq!(projects.len(), 1, "{listed}");
    assert_eq!(projects[0]["folder"].as_str().unwrap(), moved.display().to_string());
    assert_eq!(projects[0]["gone"], false);
    // A copy is an instance of its own, also at the path that was the first one's.
    copy_folder(&moved, &world.folder);
    let plan = ok(&world.folder, &["plan"]).out;
    assert!(plan.contains("+ container a-1") && plan.contains("+ volume v"), "{plan}");
    world.ok(&["up"]);
    assert_ne!(world.pid("a-1"), pid);
    assert_eq!(world.exec("a", "ls /v"), "");
    assert_eq!(pid_in(&moved), pid);
    ok(&moved, &["rollback", "1"]);
    assert_eq!(ok(&moved, &["exec", "-T", "a", "cat", "/v/file"]).out.trim(), "kept");
    // Both at once, from the moved one and from the other.
    let both = [&moved, &world.folder].map(|folder| world.command(&["up"]).current_dir(folder).spawn().unwrap());
    both.into_iter().for_each(|mut one| assert!(one.wait().unwrap().success()));
    assert_eq!(pid_in(&moved), pid);
    ok(&moved, &["down", "-v"]);
    world.ok(&["down", "-v"]);
    world.assert_nothing_left();
}

#[test]
fn a_moved_worktree_keeps_what_it_has() {
    if !is_root() {
        return;
    }
    let world = World::new("moved-worktree", &format!("container \"a\" {{ image \"base\"; {SLEEP} }}\n"));
    let git = |words: &str| {
        let line = format!("git -c user.name=a -c user.email=a@b {words}");
        assert!(Command::new("sh").args(["-c", &line]).current_dir(&world.folder).status().unwrap().success(), "{line}");
    };
    git("init -q -b main && git add . && git -c user.name=a -c user.email=a@b commit -qm one");
    git("worktree add -q ../tree -b other");
    let (tree, moved) = (world.folder.with_file_name("tree"), world.folder.with_file_name("tree-moved"));
    let there = |folder: &Path, words: &[&str]| {
        let ran = Ran::from(world.command(words).current_dir(folder).output().unwrap());
        assert_eq!(ran.code, 0, "{words:?} {}", ran.err);
        ran
    };
    world.ok(&["up"]);
    there(&tree, &["up"]);
    let before = world.pid("a-1");
    let listed = there(&tree, &["ps", "--json"]).out;
    git("worktree move ../tree ../tree-moved");
    assert!(there(&moved, &["up"]).err.contains("nothing to do"));
    assert_eq!(there(&moved, &["ps", "--json"]).out.matches("\"pid\"").count(), listed.matches("\"pid\"").count());
    assert_eq!(world.pid("a-1"), before, "the other worktree is not touched");
    there(&moved, &["down", "-v"]);
    assert_eq!(world.pid("a-1"), before);
}

/// A directory that was copied to another disk and removed is another one, and its containers are told of.
#[test]
fn who_goes_up_in_a_copy_of_a_deleted_directory_is_told_what_stayed() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "moved-by-copy",
        &format!("container \"a\" {{ image \"base\"; mount volume=\"v\" to=\"/v\"; {SLEEP} }}\nvolume \"v\"\n"),
    );
    world.ok(&["up"]);
    let moved = world.folder.with_file_name("moved");
    copy_folder(&world.folder, &moved);
    fs::remove_dir_all(&world.folder).unwrap();
    let there = |words: &[&str]| world.command(words).current_dir(&moved).output().unwrap();
    for words in [&["plan"][..], &["up"]] {
        let said = String::from_utf8_lossy(&there(words).stderr).into_owned();
        let way = format!("stead -C {} down", world.folder.display());
        assert!(said.contains("which is gone") && said.contains(&way), "{words:?}: {said}");
    }
    assert!(there(&["down", "-v"]).status.success());
    assert!(there(&["-C", world.folder.to_str().unwrap(), "down", "-v"]).status.success());
    world.assert_nothing_left();
}

#[test]
fn a_copy_of_a_link_is_a_link() {
    if !is_root() {
        return;
    }
    let world = World::new("cp-link", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    world.exec(
        "c",
        "mkdir /d && echo text > /d/f && ln -s d/f /link && ln -s nowhere /dangling && ln -s d /to-d && chmod 4755 /d/f",
    );
    for (from, leads) in [("c:/link", "d/f"), ("c:/dangling", "nowhere"), ("c:/to-d", "d")] {
        world.ok(&["cp", from, "out"]);
        assert_eq!(fs::read_link(world.folder.join("out")).unwrap().to_str(), Some(leads), "{from}");
        fs::remove_file(world.folder.join("out")).unwrap();
    }
    world.ok(&["cp", "c:/to-d/", "whole"]);
    world.ok(&["cp", "c:/link/", "file"]);
    assert_eq!(fs::read_to_string(world.folder.join("file")).unwrap(), "text\n");
    world.write("there/x", "x");
    std::os::unix::fs::symlink("there", world.folder.join("to-there")).unwrap();
    world.ok(&["cp", "to-there/", "c:/followed"]);
    assert_eq!(world.exec("c", "cat /followed/x"), "x");
    // What comes from a container belongs to somebody else here, so it gains nothing.
    let mode = fs::metadata(world.folder.join("whole/f")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777, 0o755);
    for name in ["here", "dangling"] {
        std::os::unix::fs::symlink("somewhere", world.folder.join(name)).unwrap();
        world.ok(&["cp", name, "c:/in"]);
        assert_eq!(world.exec("c", "readlink /in && rm /in"), "somewhere");
    }
    world.write("tool", "#!/bin/sh\n");
    fs::set_permissions(world.folder.join("tool"), std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    world.ok(&["cp", "tool", "c:/tool"]);
    assert_eq!(world.exec("c", "stat -c %a /tool"), "6755");
    for (from, to) in [("c:/dev/null", "null"), ("/dev/null", "c:/null")] {
        assert!(world.fails(&["cp", from, to]).err.contains("is a device, a FIFO or a socket"), "{from}");
    }
    world.ok(&["down"]);
}

/// What a check or a hook has started ends with it, whether it is done or has taken too long; what it says is in the log.
#[test]
fn what_checks_and_hooks_start_ends_with_them() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "leavings",
        r#"container "slow" { image "base"; init #true; stop-grace "300ms"; cmd "sleep" "1000"
    healthcheck interval="300ms" timeout="200ms" retries=2 { exec "sh" "-c" "sleep 3000 & setsid sleep 4000 & (setsid sleep 5000 &); sleep 6000; true" }
}
container "quick" { image "base"; stop-grace "300ms"; cmd "sleep" "1000"
    healthcheck interval="200ms" { exec "sh" "-c" "setsid sleep 3000 > /dev/null 2>&1 & true" }
    on "start" { exec "sh" "-c" "echo step 1; setsid sleep 4000 & echo REASON >&2; printf 'no end'; exit 7"; }
    on "start" { exec "sh" "-c" "sleep 5000 & sleep 6000"; }
}"#,
    );
    let mut up = world.spawn(&["up"]);
    let sleeping = |container: &str| -> usize {
        let script = "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p; echo; done 2>/dev/null | grep -c '^sleep [2-9]'";
        world.run(&["exec", "-T", container, "sh", "-c", script]).out.trim().parse().unwrap_or(0)
    };
    eventually("it is unhealthy", || world.ps().iter().any(|found| found["name"] == "slow-1" && found["health"] == "unhealthy"));
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(sleeping("slow"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(most > 0 && most <= 8, "{most} processes are left of checks that took too long");
    up.kill().unwrap();
    up.wait().unwrap();
    eventually("the hooks are over", || world.run(&["logs", "quick"]).out.contains("longer than the grace period"));
    eventually("nothing is left of checks and hooks", || sleeping("quick") == 0);
    let log = world.ok(&["logs", "quick"]);
    for wanted in ["step 1\n", "REASON\n", "no end\n", "failed: exit status 7\n"] {
        assert!(log.contains(wanted), "{wanted:?} is not in {log}");
    }
    // The monitor reaps what they leave, not the host's first process, which may not expect that. (Within the container that
    // is up to its own first process.)
    let zombies = Command::new("sh").args(["-c", "ps -eo stat,ppid,comm | grep -c '^Z *1 sleep'"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&zombies.stdout).trim(), "0");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

/// What the kernel takes, a container can be asked to run.
#[test]
fn long_arguments_and_variables_are_passed_on() {
    if !is_root() {
        return;
    }
    let big = "x".repeat(100_000);
    let world = World::new(
        "long-arguments",
        &format!(r#"container "c" {{ image "base"; env A="{big}" B="{big}" C="{big}"; {SLEEP}; }}"#),
    );
    world.ok(&["up"]);
    let script = "echo $# ${#A} ${#3}";
    assert_eq!(
        world.ok(&["exec", "-T", "c", "sh", "-c", script, "x", &big, &big, &"\u{1}\"\\".repeat(30_000)]),
        "3 100000 90000\n"
    );
    // Half a request keeps nobody waiting.
    let control = fs::canonicalize(
        fs::read_dir(world.root.join("run"))
            .unwrap()
            .flatten()
            .find(|entry| entry.path().join("c-1").exists())
            .unwrap()
            .path()
            .join("c-1/control"),
    )
    .unwrap();
    let short = scratch_link(&control);
    let mut half = std::os::unix::net::UnixStream::connect(&short).unwrap();
    std::io::Write::write_all(&mut half, b"{\"op\":").unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(world.exec("c", "echo here"), "here");
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    fs::remove_file(short).unwrap();
    world.ok(&["down"]);
}

/// A short name for a socket: the address of one has at most 107 bytes (unix(7)).
fn scratch_link(socket: &std::path::Path) -> std::path::PathBuf {
    let link = std::env::temp_dir().join(format!("stead-test-{}", std::process::id()));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(socket, &link).unwrap();
    link
}

#[test]
fn nobody_waits_for_a_container_that_is_paused() {
    if !is_root() {
        return;
    }
    let world =
        World::new("waits-paused", &format!(r#"container "db" {{ image "base"; {SLEEP}; healthcheck {{ exec "true" }} }}"#));
    world.ok(&["up"]);
    world.ok(&["pause", "db"]);
    let attached = world.fails(&["attach", "db"]).err;
    assert!(attached.contains("paused; `stead unpause` resumes it"), "{attached}");
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    for until in ["healthy", "started"] {
        world.write(
            "stead.kdl",
            &format!("{text}\ncontainer \"web\" {{ image \"base\"; {SLEEP}; depends-on \"db\" until=\"{until}\" }}\n"),
        );
        let failed = world.fails(&["up"]).err;
        assert!(failed.contains("db-1, which is paused (`stead unpause` resumes it)"), "{failed}");
    }
    world.ok(&["unpause", "db"]);
    world.ok(&["up"]);
    world.ok(&["down"]);
}

/// A container whose replacement waits for a migration goes on until that is done, and after it if it fails.
#[test]
fn what_waits_for_another_goes_on_until_its_turn() {
    if !is_root() {
        return;
    }
    let text = |version: &str, migrate: &str| {
        format!(
            r#"container "migrate" {{ image "base"; restart "no"; env V="{version}"; cmd "sh" "-c" "{migrate}"; }}
container "app" {{ image "base"; {SLEEP}; env V="{version}"; depends-on "migrate" until="completed" }}
container "web" {{ image "base"; {SLEEP}; env V="{version}"; depends-on "app" }}"#
        )
    };
    let world = World::new("order", &text("1", "true"));
    world.ok(&["up"]);
    let base = fs::read_to_string(world.folder.join("stead.kdl")).unwrap().replace(&text("1", "true"), "");
    let change = |version: &str, migrate: &str| world.write("stead.kdl", &format!("{base}\n{}", text(version, migrate)));
    let pids = || (world.pid("app-1"), world.pid("web-1"));
    let before = pids();
    // It fails: the old ones go on, and the next plan still wants to replace them.
    change("2", "sleep 1; exit 3");
    let mut up = world.spawn(&["up"]);
    eventually("the migration runs", || world.container("migrate-1")["state"] == "running");
    assert_eq!(pids(), before, "nothing is stopped before its turn");
    assert!(!up.wait().unwrap().success());
    assert_eq!(pids(), before, "the old ones go on");
    let plan = world.ok(&["plan"]);
    for wanted in ["container app-1 (replace)", "container web-1 (replace)", "env.V \"1\" → \"2\""] {
        assert!(plan.contains(wanted), "{wanted:?} is not in {plan}");
    }
    let again = world.fails(&["up"]).err;
    assert!(again.contains("app-1: it depends on migrate-1, which ended with exit status 3"), "{again}");
    assert!(again.contains("web-1: it depends on app-1, which failed: it depends on migrate-1"), "{again}");
    assert_eq!(pids(), before);
    // It works: both are replaced.
    change("3", "sleep 0.3");
    world.ok(&["up"]);
    assert_eq!((world.exec("app", "echo $V"), world.exec("web", "echo $V")), ("3".into(), "3".into()));
    assert!(world.ok(&["plan"]).contains("nothing to do"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn signals_are_passed_on_and_kill_is_an_end() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "signals",
        &format!(
            r#"container "c" {{ image "base"; {SLEEP}; restart "always" }}
container "few" {{ image "base"; {SLEEP}; limits {{ ulimit "nofile" soft=4 hard=4; }} }}"#
        ),
    );
    // Redirected to a file, the output goes through threads, which a signal must not end.
    let out = fs::File::create(world.folder.join("out")).unwrap();
    let script = "import signal, sys; names = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH, signal.SIGHUP, signal.SIGRTMIN + 3]; [signal.signal(name, lambda number, frame: print(number, flush=True)) for name in names]; signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7)); print('ready', flush=True)\nwhile True: signal.pause()";
    let mut run = world.command(&["run", "-T", "base", "python3", "-c", script]).stdout(out).spawn().unwrap();
    let said = || fs::read_to_string(world.folder.join("out")).unwrap();
    eventually("it is ready", || said().contains("ready"));
    for signal in [10, 12, 14, 28, 1, 37] {
        assert!(Command::new("kill").args([format!("-{signal}"), run.id().to_string()]).status().unwrap().success());
        eventually("the signal has come", || said().lines().any(|line| line == signal.to_string()));
    }
    assert!(Command::new("kill").arg(run.id().to_string()).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(7));
    world.ok(&["up"]);
    // The runtime itself needs more descriptors than this container may have.
    assert_eq!(world.container("few-1")["state"], "running");
    assert_eq!(world.exec("few", "ulimit -n"), "4");
    world.ok(&["kill", "c"]);
    eventually("it has ended", || world.container("c-1")["state"] == "exited");
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(world.container("c-1")["state"], "exited", "it is not started again");
    world.ok(&["up"]);
    assert_eq!(world.container("c-1")["state"], "running");
    world.ok(&["down"]);
}

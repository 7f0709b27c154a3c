//! The life of containers: exit codes, limits, restarts, health, logs, exec, run, stop and start.

use crate::world::{World, eventually, is_root};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

#[test]
fn exec_and_run_carry_exit_codes_output_and_terminals() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "exec",
        r#"container "c" { image "base"; stop-grace "100ms"; env A="1"; workdir "/srv/deep"; cmd "sleep" "1000"; }"#,
    );
    world.ok(&["up"]);
    assert_eq!(world.run(&["exec", "-T", "c", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(world.run(&["exec", "-T", "c", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(world.run(&["exec", "-T", "c", "nosuch"]).code, 127);
    assert_eq!(world.run(&["exec", "-T", "c", "/etc/passwd"]).code, 126);
    assert_eq!(world.exec("c", "pwd; echo $A; hostname; id -u"), "/srv/deep\n1\nc-1\n0");
    assert_eq!(
        world.ok(&["exec", "-T", "-u", "nobody", "-e", "B=2", "-w", "/tmp", "c", "sh", "-c", "id -un; echo $B; pwd"]),
        "nobody\n2\n/tmp\n"
    );
    let terminal = Command::new("script")
        .args([
            "-qec",
            &format!("{} -C {} exec c sh -c 'tty; stty size; exit 3'", env!("CARGO_BIN_EXE_stead"), world.folder.display()),
            "/dev/null",
        ])
        .env("STEAD_ROOT", &world.root)
        .output()
        .unwrap();
    assert_eq!(terminal.status.code(), Some(3), "{terminal:?}");
    assert!(String::from_utf8_lossy(&terminal.stdout).contains("/dev/pts/"), "{terminal:?}");
    assert_eq!(world.run(&["run", "-T", "c", "sh", "-c", "echo $A; exit 5"]).out, "1\n");
    assert_eq!(world.run(&["run", "-T", "base", "sh", "-c", "exit 5"]).code, 5);
    let other = ["run", "-T", "--env", "A=2", "-e", "HERE", "--user", "33:33", "--workdir", "/tmp", "--entrypoint", "sh", "c"];
    let mut told = world.command(&[&other[..], &["-c", "echo $A $HERE; id -u; pwd"]].concat());
    assert_eq!(told.env("HERE", "here").output().unwrap().stdout, b"2 here\n33\n/tmp\n");
    assert_eq!(world.ok(&["run", "-T", "--entrypoint", "", "c", "echo", "plain"]), "plain\n");
    assert!(world.fails(&["run", "-T", "--user", "nosuch", "c", "true"]).err.contains("nosuch"));
    assert_eq!(world.run(&["run", "-T", "base", "nosuch"]).code, 127);
    assert!(world.fails(&["run", "-T", "bse", "true"]).err.contains("perhaps \"base\""));
    assert_eq!(world.ps().len(), 1, "one-off containers are gone");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn bytes_that_are_not_text_reach_the_command_as_they_are() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "bytes",
        r#"image "entered" { from "base"; entrypoint "/bin/sh" "-c" "printf '%s|' \"$@\"" "sh"; }
container "c" { image "base"; stop-grace "100ms"; env A="1"; cmd "sleep" "1000"; }"#,
    );
    world.ok(&["up"]);
    let os = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    let said = |words: &[&str], more: &[&[u8]]| {
        let out = world.command(words).args(more.iter().map(|bytes| os(bytes))).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let script = b"printf '%s|%s|%s|' \"$1\" \"$A\" \"$B\"; pwd";
    for command in ["exec", "run"] {
        let more: [&[u8]; 12] =
            [b"-e", b"A=\xff", b"-e", b"B=\xc3\xa9", b"-w", b"/tmp/\xe9", b"c", b"sh", b"-c", script, b"sh", b"a\x80b \xf0"];
        assert_eq!(said(&[command, "-T"], &more), b"a\x80b \xf0|\xff|\xc3\xa9|/tmp/\xe9\n", "{command}");
        // The last variable of a name counts, whatever it is made of.
        let more: [&[u8]; 8] = [b"-e", b"A=\xff", b"-e", b"A=text", b"c", b"sh", b"-c", b"printf %s \"$A\""];
        assert_eq!(said(&[command, "-T"], &more), b"text", "{command}");
        assert_eq!(world.command(&[command, "-T", "c"]).arg(os(b"no\xff")).output().unwrap().status.code(), Some(127));
    }
    // The words of an entrypoint come first, and a program's own name may be bytes, too.
    assert_eq!(said(&["run", "-T", "entered"], &[b"\xff", b"plain"]), b"\xff|plain|");
    world.exec("c", "p=$(printf '/tmp/p\\351'); printf '#!/bin/sh\\necho \"$1\"\\n' > \"$p\"; chmod +x \"$p\"");
    assert_eq!(said(&["exec", "-T", "c"], &[b"/tmp/p\xe9", b"\xe9"]), b"\xe9\n");
    assert_eq!(said(&["exec", "-T", "-e", "PATH=/tmp", "c"], &[b"p\xe9", b"\xff"]), b"\xff\n");
    world.ok(&["down"]);
}

#[test]
fn the_sandbox_is_as_docker_makes_it() {
    if !is_root() {
        return;
    }
    let world = World::new("sandbox", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    world.ok(&["up"]);
    assert!(world.exec("c", "grep CapEff /proc/self/status").ends_with("00000000a80425fb"));
    assert!(world.exec("c", "grep CapInh /proc/self/status").ends_with("0000000000000000"));
    assert_eq!(world.exec("c", "cat /proc/1/comm"), "sleep");
    assert_eq!(world.exec("c", "ls /proc/self/fd | wc -l"), "4", "0, 1, 2 and the directory itself");
    assert_eq!(
        world.exec("c", "ls /dev | sort | tr '\\n' ' '"),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    for script in [
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /sys/kernel/uevent_helper",
        "mount -t tmpfs x /mnt",
        "cat /proc/kcore | head -c1 | grep .",
    ] {
        let ran = world.run(&["exec", "-T", "c", "sh", "-c", script]);
        assert_ne!(ran.code, 0, "{script}: {}", ran.out);
    }
    assert_eq!(
        world.ok(&["exec", "-T", "-u", "nobody", "c", "sh", "-c", "echo x > /dev/null && ls -l /dev/null | cut -c1-10"]),
        "crw-rw-rw-\n"
    );
    // Device nodes can be made, as in Docker, but the host's devices cannot be opened.
    for (kind, number) in [("c", "1 11"), ("c", "10 237"), ("b", "7 0")] {
        let script = format!("rm -f /tmp/node; mknod /tmp/node {kind} {number} && exec 3< /tmp/node");
        let opened = world.run(&["exec", "-T", "c", "sh", "-c", &script]);
        assert!(opened.code != 0 && opened.err.contains("not permitted"), "{kind} {number}: {opened:?}");
    }
    assert_eq!(world.exec("c", "stat -L -c %t:%T /proc/interrupts /proc/keys /proc/timer_list"), "1:3\n1:3\n1:3", "masked");
    assert_eq!(world.exec("c", "ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v : | tr -d '\\n' | wc -c"), "0", "masked");
    // Nothing of the host's file system, network, processes or System V shared memory is visible.
    assert_eq!(world.exec("c", "ls /proc | grep -c '^[0-9]'"), "4", "sleep, sh, ls and grep");
    assert_eq!(world.exec("c", "ls /sys/class/net | tr '\\n' ' '"), "eth0 lo");
    world.ok(&["down"]);
}

#[test]
fn limits_hold() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "limits",
        r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; limits { cpus 0.5; memory "48MiB"; pids 20; }; }
container "eater" { image "base"; cmd "python3" "-c" "x = bytearray(200 << 20)"; limits { memory "48MiB"; }; }"#,
    );
    // The container may die while `up` is still watching, or a moment later.
    let _ = world.run(&["up"]);
    eventually("the kernel ends it", || world.container("eater-1")["state"] == "exited");
    let eater = world.container("eater-1");
    assert_eq!((eater["out_of_memory"].as_bool(), eater["exit_code"].as_i64()), (Some(true), Some(137)));
    assert!(world.ok(&["ps", "--all"]).contains("out of memory"));
    assert!(world.ok(&["logs", "eater"]).contains("because memory ran out"));
    let quota = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    let read = format!("cat {quota} 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max");
    assert_eq!(world.exec("c", &read), "50000");
    let ran = world.run(&["exec", "-T", "c", "sh", "-c", "for i in $(seq 40); do sleep 5 & done; wait"]);
    assert!(ran.err.contains("fork") || ran.err.contains("esource"), "{ran:?}");
}

#[test]
fn restarts_health_and_ends() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "life",
        r#"
container "once" { image "base"; cmd "true"; }
container "again" { image "base"; cmd "sh" "-c" "sleep 0.3; exit 3"; restart "on-failure" max=2; }
container "sick" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; healthcheck interval="100ms" retries=2 { exec "false" }; }
container "gone" { image "base"; cmd "nosuch"; }
container "quick" { image "base"; cmd "sh" "-c" "echo last words; exit 4"; }
"#,
    );
    let up = world.run(&["up"]);
    assert_eq!(up.code, 1);
    for (name, text) in [("sick-1", "unhealthy"), ("gone-1", "\"nosuch\" is not in the image"), ("quick-1", "exit status 4")] {
        assert!(up.err.contains(&format!("failed: {name}: ")) && up.err.contains(text), "{name}: {}", up.err);
    }
    assert!(up.err.contains("    last words"), "{}", up.err);
    assert_eq!(world.container("once-1")["state"], "exited");
    assert_eq!(world.container("gone-1")["state"], "dead");
    eventually("it is restarted twice", || {
        let again = world.container("again-1");
        again["state"] == "exited" && again["restarts"] == 2 && again["exit_code"] == 3
    });
    let plan = world.ok(&["plan"]);
    assert!(!plan.contains("once-1"), "what finished well is left alone: {plan}");
}

#[test]
fn stop_start_kill_and_drift() {
    if !is_root() {
        return;
    }
    let trap = r#"container "c" { image "base"; restart "always"; cmd "sh" "-c" "trap 'echo bye; exit 0' TERM; trap 'echo hup' HUP; echo hi; while :; do sleep 0.05; done"; }"#;
    let world = World::new("stop", trap);
    world.ok(&["up"]);
    world.ok(&["kill", "-s", "HUP", "c"]);
    eventually("the signal arrives", || world.ok(&["logs", "c"]).contains("hup"));
    world.ok(&["stop", "c"]);
    assert!(world.ok(&["logs", "c"]).ends_with("bye\n"));
    assert_eq!(world.container("c-1")["state"], "exited", "stopped by hand, it is not restarted");
    assert!(world.ok(&["status"]).contains("somebody stopped it"));
    world.ok(&["start", "c"]);
    assert!(world.run(&["start", "c"]).err.contains("nothing to do"));
    let before = world.pid("c-1");
    world.ok(&["restart", "c"]);
    assert_ne!(world.pid("c-1"), before);
    // When its process is killed from outside, its restart policy starts it again.
    let killed = Command::new("kill").args(["-9", &world.pid("c-1").to_string()]).status().unwrap();
    assert!(killed.success());
    eventually("it is restarted", || {
        world.container("c-1")["restarts"].as_i64() >= Some(1) && world.container("c-1")["state"] == "running"
    });
    world.ok(&["stop"]);
    world.ok(&["up"]);
    assert_eq!(world.container("c-1")["state"], "running");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn logs_of_replicas_are_told_apart() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "logs",
        r#"container "c" { image "base"; replicas 2; init #true; cmd "sh" "-c" "echo out; echo err >&2; printf part; exec sleep 1000"; }"#,
    );
    world.ok(&["up"]);
    eventually("both have spoken", || world.ok(&["logs"]).lines().filter(|line| line.ends_with("| err")).count() == 2);
    let all = world.ok(&["logs"]);
    assert!(all.contains("c-1 | out\n") && all.contains("c-2 | err\n"), "{all}");
    assert_eq!(world.ok(&["logs", "c-1", "-n", "1"]), "err\n");
    assert_eq!(world.ok(&["logs", "-n", "all"]), all);
    let many = world.fails(&["logs", "-n", "many"]);
    assert!(many.code == 2 && many.err.contains("not a number of lines"), "{}", many.err);
    assert!(world.ok(&["logs", "-t", "c-1"]).starts_with("20"), "with its time");
    world.ok(&["down"]);
    assert!(world.ok(&["logs", "c-1"]).contains("part"), "an unfinished last line is kept");
}

#[test]
fn ordinary_users_are_told_what_to_type() {
    if !is_root() {
        return;
    }
    // The binary must be where everybody can reach it.
    let binary = std::env::temp_dir().join(format!("stead-test-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_stead"), &binary).unwrap();
    let folder = std::env::temp_dir().join(format!("stead-project-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("stead.kdl"), "project \"p\"\nimage \"a\" { }\ncontainer \"c\" { image \"a\" }\n").unwrap();
    let run = |command: &str| {
        let line = format!("{} -C {} {command}", binary.display(), folder.display());
        Command::new("su")
            .args(["-s", "/bin/sh", "nobody", "-c", &line])
            .env("STEAD_ROOT", "/tmp/nobody-has-this")
            .output()
            .unwrap()
    };
    let (up, check) = (run("up"), run("check"));
    std::fs::remove_file(&binary).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(up.status.code(), Some(1));
    let text = String::from_utf8_lossy(&up.stderr);
    assert!(text.contains("as root only, for now") && text.contains("sudo"), "{text}");
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn two_ups_of_one_instance_queue() {
    if !is_root() {
        return;
    }
    let world = World::new("queue", r#"container "c" { image "base"; replicas 3; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    let both = [world.spawn(&["up"]), world.spawn(&["up"])];
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(world.ps().len(), 3);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn monitors_of_another_release_are_commanded() {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    if !is_root() {
        return;
    }
    let world = World::new("releases", r#"container "c" { image "base"; cmd "sleep" "600"; stop-grace "1s"; }"#);
    world.ok(&["up"]);
    let run = std::fs::read_dir(world.root.join("run")).unwrap().flatten().map(|entry| entry.path());
    let folder = run.map(|instance| instance.join("c-1")).find(|folder| folder.join("control").exists()).unwrap();
    // The path of a socket must be short, but a test's directory may have a long path.
    let opened = std::fs::File::open(&folder).unwrap();
    let ask = |request: &str| {
        let mut stream =
            std::os::unix::net::UnixStream::connect(format!("/proc/self/fd/{}/control", opened.as_raw_fd())).unwrap();
        writeln!(stream, "{request}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // A monitor ignores fields that a newer stead adds to a request, and names an operation that it does not know.
    assert!(ask(r#"{"op":"signal","signal":0,"colour":"green"}"#).contains("\"done\":true"));
    let refused = ask(r#"{"op":"dance"}"#);
    assert!(refused.contains("dance") && refused.contains("`stead restart`"), "{refused}");
    // An older stead can read a status with fields that a newer monitor added.
    let status = std::fs::read_to_string(folder.join("status.json")).unwrap();
    std::fs::write(folder.join("status.json"), status.replacen("\"content\":{", "\"content\":{\"colour\":\"green\",", 1))
        .unwrap();
    assert_eq!(world.container("c-1")["state"], "running");
    world.ok(&["down"]);
}

#[test]
fn a_replica_takes_no_other_containers_name() {
    if !is_root() {
        return;
    }
    let world = World::new("clash", "container \"web\" { image \"base\"; }\ncontainer \"web-2\" { image \"base\"; }");
    let ran = world.fails(&["scale", "web=2"]);
    assert!(ran.err.contains("\"web-2\" is the name of replica 2"), "{ran:?}");
}

//! Attacks: hostile images and racing processes, for each class of bug that broke other runtimes.

use crate::world::{World, eventually, is_root};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const SLEEP: &str = r#"stop-grace "50ms"; cmd "sleep" "1000""#;

/// A file of the host that no container may read or write.
fn victim(world: &World) -> std::path::PathBuf {
    let path = world.folder.with_file_name("victim");
    fs::write(&path, "the host's").unwrap();
    path
}

fn untouched(path: &std::path::Path) {
    assert_eq!(fs::read_to_string(path).unwrap(), "the host's");
}

#[test]
fn links_in_an_image_lead_nowhere_but_into_it() {
    if !is_root() {
        return;
    }
    // Every place where the runtime mounts or writes is a link to a directory of the host.
    let host = crate::world::scratch().join("links").join("host");
    let inside = host.display().to_string();
    let world = World::new(
        "links",
        &format!(
            r#"
image "evil" {{ from "base"; run "rm -rf /opt; rm -f /etc/hostname /etc/resolv.conf"; copy "same/" to="{inside}"; copy "evil/" to="/"; }}
secret "s" file="secret"
config "k" {{ content "k" }}
volume "v"
container "c" {{
    image "evil"
    workdir "/links-job/deep"
    mount volume="v" to="/mnt/volume"
    mount bind="shared" to="/mnt/bind" create=#true
    tmpfs "/mnt/memory"
    secret "s" to="/mnt/secret/file"
    config "k" to="/mnt/config/file"
    cmd "sleep" "1000"
    stop-grace "50ms"
}}
"#
        ),
    );
    fs::create_dir_all(&host).unwrap();
    world.write("secret", "s");
    // The image has the same directories, so that the links work when they are resolved in its root, and would work on
    // the host, too.
    for folder in ["job", "volume", "bind", "memory", "secret", "config"] {
        world.write(&format!("same/{folder}/keep"), "");
        fs::create_dir_all(host.join(folder)).unwrap();
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        world.write(&format!("same/{name}"), "the image's");
        fs::write(host.join(name), "the host's").unwrap();
    }
    fs::create_dir_all(world.folder.join("evil/mnt")).unwrap();
    fs::create_dir_all(world.folder.join("evil/etc")).unwrap();
    for (name, target) in [
        ("links-job", "job"),
        ("mnt/volume", "volume"),
        ("mnt/bind", "bind"),
        ("mnt/memory", "memory"),
        ("mnt/secret", "secret"),
        ("mnt/config", "config"),
    ] {
        symlink(host.join(target), world.folder.join("evil").join(name)).unwrap();
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        symlink(host.join(name), world.folder.join("evil/etc").join(name)).unwrap();
    }
    world.ok(&["up"]);
    let listing = || {
        let out = Command::new("find").arg(&host).args(["-printf", "%P %s\n"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let before = listing();
    // Inside, everything is where it should be, and nothing was done to the same paths of the host.
    let check = format!(
        "test -c /dev/null && cat /mnt/secret/file /mnt/config/file && pwd -P && grep -c c-1 /etc/hosts && grep -cE ' {inside}/(memory|volume|bind) ' /proc/mounts"
    );
    let said = world.exec("c", &check);
    assert_eq!(said, format!("sk{inside}/job/deep\n1\n3"));
    world.exec("c", "echo gone > /etc/hosts; echo gone > /mnt/volume/x; echo gone > /mnt/memory/x");
    assert_eq!(listing(), before);
    assert!(!host.join("job/deep").exists() && !host.join("volume/x").exists());
    untouched(&host.join("hosts"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&format!("{inside}/")), "{mounts}");
}

#[test]
fn proc_and_sys_as_links_are_refused() {
    if !is_root() {
        return;
    }
    // This directory exists on the host, too: a runtime that follows the link outside the image mounts over it.
    let host = crate::world::scratch().join("faces").join("host");
    fs::create_dir_all(&host).unwrap();
    let outside = host.to_str().unwrap();
    for (name, target) in [("proc", "/tmp/fake"), ("sys", "/"), ("dev", "../../../.."), ("proc", outside), ("sys", outside)] {
        let world = World::new(
            "faces",
            &format!(
                r#"
image "evil" {{ from "scratch"; copy "/" from="base" to="/"; copy "evil/" to="/"; copy "keep" to="{outside}/"; }}
container "c" {{ image "evil"; sysctl net.core.somaxconn=777; {SLEEP}; }}
"#
            ),
        );
        world.write("keep", "");
        let before = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        fs::create_dir_all(world.folder.join("evil/tmp/fake/sys/net/core")).unwrap();
        symlink(target, world.folder.join("evil").join(name)).unwrap();
        let up = world.fails(&["up"]);
        assert!(up.err.contains("ordinary directory"), "{name} {target}: {up:?}");
        assert_eq!(fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap(), before, "the host's setting");
    }
}

#[test]
fn a_racing_neighbour_moves_no_mount_onto_the_host() {
    if !is_root() {
        return;
    }
    // One container swaps a directory of a volume for a link, while another mounts below it again and again.
    let world = World::new(
        "race",
        r#"
volume "v"
container "swap" {
    image "base"
    mount volume="v" to="/v"
    stop-grace "50ms"
    cmd "python3" "-c" "import os\nos.makedirs('/v/a', exist_ok=True)\ntry: os.symlink('/etc', '/v/b')\nexcept OSError: pass\nimport ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.renameat2(-100, b'/v/a', -100, b'/v/b', 2)"
}
container "c" { image "base"; mount volume="v" to="/v"; tmpfs "/v/a/deep"; restart "always"; stop-grace "50ms"; cmd "sh" "-c" "findmnt -rno TARGET | grep deep; sleep 1000"; }
"#,
    );
    let _ = world.run(&["up"]);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let swaps = || world.exec("swap", "for i in 1 2 3 4 5 6 7 8 9; do [ -L /v/a ] && echo link || echo folder; done");
    let (mut started, mut seen) = (0, String::new());
    for _ in 0..25 {
        started += i32::from(world.run(&["restart", "c"]).code == 0);
        seen.push_str(&swaps());
        let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(now.lines().filter(|line| line.contains("/etc/deep")).count(), 0, "{now}");
        assert_eq!(before.lines().count(), now.lines().count());
        assert!(!std::path::Path::new("/etc/deep").exists(), "a directory was made on the host");
    }
    // Both sides took part in the race.
    assert!(started > 0, "no start of 25 came about");
    assert!(seen.contains("link") && seen.contains("folder"), "{seen}");
}

#[test]
fn the_binary_of_the_host_cannot_be_written() {
    if !is_root() {
        return;
    }
    // `#!/proc/self/exe` makes the kernel run our own file in the container; the attacker opens it
    // there, waits for it to end, and opens it again for writing (CVE-2019-5736).
    let attack = r#"
import os, time, sys
size, found = int(sys.argv[1]), None
end = time.time() + 5
while time.time() < end and found is None:
    for pid in os.listdir('/proc'):
        try:
            fd = os.open(f'/proc/{pid}/exe', os.O_RDONLY)
            if os.fstat(fd).st_size == size: found = fd; break
            os.close(fd)
        except OSError: pass
if found is None: print('NEVER SEEN'); sys.exit()
for _ in range(400):
    try:
        # Truncation asks the mount first; else the file's being executed would hide what the mount says.
        os.open(f'/proc/self/fd/{found}', os.O_WRONLY | os.O_TRUNC)
        print('WRITABLE'); sys.exit()
    except OSError as error:
        last = error.errno
        if last != 26: break
        time.sleep(0.01)
print('ERRNO', last)
"#;
    let world = World::new(
        "binary",
        &format!(
            r##"
image "evil" {{ from "base"; copy "shebang" to="/shebang" mode="0755"; copy "attack.py" to="/attack.py"; }}
container "c" {{ image "evil"; {SLEEP}; }}
"##
        ),
    );
    world.write("shebang", "#!/proc/self/exe build-step\n");
    world.write("attack.py", attack);
    world.ok(&["up"]);
    let binary = env!("CARGO_BIN_EXE_stead");
    let before = stead::tested::model::Digest::of(fs::read(binary).unwrap());
    let size = fs::metadata(binary).unwrap().len().to_string();
    let mut attacker = world.spawn(&["exec", "-T", "c", "python3", "/attack.py", &size]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    // The bait ends soon each time, because it cannot do its work in a container.
    while attacker.try_wait().unwrap().is_none() {
        let bait = world.run(&["exec", "-T", "c", "/shebang"]);
        assert!(bait.err.contains("cannot let go of the caller"), "{}", bait.err);
    }
    let said = attacker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("ERRNO 30"), "EROFS was expected: {said}");
    assert_eq!(stead::tested::model::Digest::of(fs::read(binary).unwrap()), before);
}

#[test]
fn nothing_of_the_host_leaks_by_descriptor_or_folder() {
    if !is_root() {
        return;
    }
    let world = World::new("leaks", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "ls /proc/1/fd | tr '\\n' ' '"), "0 1 2");
    // A working directory through an inherited descriptor (CVE-2024-21626).
    for number in 3..12 {
        for script in [&["exec", "-T", "-w"][..], &["run", "-T"]] {
            let folder = format!("/proc/self/fd/{number}");
            let args: Vec<&str> = if script[0] == "exec" {
                vec!["exec", "-T", "-w", &folder, "c", "cat", "../../../../../../etc/hostname"]
            } else {
                vec!["run", "-T", "base", "sh", "-c", "cd /proc/self/fd/3 2>/dev/null && pwd -P"]
            };
            let ran = world.run(&args);
            assert!(ran.code != 0 || !ran.out.contains(fs::read_to_string("/etc/hostname").unwrap().trim()), "{args:?} {ran:?}");
        }
    }
    // Descriptors that the caller has open do not reach the container either.
    let fd = fs::File::open("/etc/shadow").unwrap();
    let line = format!("exec 9</etc/shadow; exec {} run -T base sh -c 'ls /proc/self/fd | wc -l'", env!("CARGO_BIN_EXE_stead"));
    let out = Command::new("sh").args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).output().unwrap();
    drop(fd);
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "4", "{out:?}");
}

#[test]
fn users_are_who_they_say() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "users",
        &format!(
            r#"
image "evil" {{ from "base"; run "printf '1:x:0:0:trap:/:/bin/sh\nbad:x:7:7::/h\tome:/bin/sh\n' >> /etc/passwd"; }}
container "c" {{ image "evil"; {SLEEP}; }}
"#
        ),
    );
    world.ok(&["up"]);
    let id = |user: &str| world.run(&["exec", "-T", "-u", user, "c", "id", "-u"]);
    assert_eq!(id("1").out, "1\n", "a number is never looked up as a name (CVE-2026-30892)");
    for user in ["4294967295", "4294967296", "18446744073709551616", "-1", "0x0", "1:4294967295"] {
        let ran = id(user);
        assert!(ran.code != 0 && ran.out.is_empty(), "{user}: {ran:?}");
    }
    assert_eq!(world.ok(&["exec", "-T", "-u", "bad", "c", "sh", "-c", "echo $HOME"]), "/\n", "no control characters in HOME");
    let sets = world.exec("c", "grep -E 'CapInh|CapAmb' /proc/self/status | cut -f2 | sort -u");
    assert_eq!(sets, "0000000000000000");
    let other = world.ok(&[
        "exec",
        "-T",
        "-u",
        "33:33",
        "c",
        "sh",
        "-c",
        "grep -E 'CapEff|CapPrm' /proc/self/status | cut -f2 | sort -u; id -G",
    ]);
    assert_eq!(other, "0000000000000000\n33\n");
}

#[test]
fn cgroups_are_no_way_out() {
    if !is_root() {
        return;
    }
    let world = World::new("cgroups", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    for script in [
        "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do echo /x > $f && exit 0; done; exit 1",
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x && exit 0; done; exit 1",
        "mkdir -p /tmp/c && busybox mount -t cgroup -o memory c /tmp/c",
        "mkdir -p /tmp/c && busybox mount -t cgroup2 c /tmp/c",
        "busybox unshare -m true",
    ] {
        assert_ne!(world.run(&["exec", "-T", "c", "sh", "-c", script]).code, 0, "{script}");
    }
    // The container sees its own cgroup as the root.
    assert!(
        world.exec("c", "cat /proc/self/cgroup").lines().all(|line| line.ends_with(":/")),
        "{}",
        world.exec("c", "cat /proc/self/cgroup")
    );
}

#[test]
fn logs_follow_no_link() {
    if !is_root() {
        return;
    }
    // There are links where the log's next files will be (CVE-2026-53489).
    let world = World::new(
        "loglink",
        r#"container "c" { image "base"; log size="64KiB" files=9; stop-grace "50ms"; cmd "sh" "-c" "echo first; until [ -e /tmp/go ]; do sleep 0.02; done; seq 100000; touch /tmp/done; sleep 1000"; }"#,
    );
    let victim = victim(&world);
    world.ok(&["up"]);
    let instance = fs::read_dir(world.root.join("state/instances")).unwrap().flatten().next().unwrap().path();
    let logs = instance.join("logs/c-1/1");
    eventually("the first line is kept", || fs::read_to_string(logs.join("1.log")).is_ok_and(|text| text.contains("first")));
    for number in 2..20 {
        symlink(&victim, logs.join(format!("{number}.log"))).unwrap();
    }
    world.exec("c", "touch /tmp/go; until [ -e /tmp/done ]; do sleep 0.02; done");
    untouched(&victim);
    assert!(fs::metadata(logs.join("1.log")).unwrap().len() >= 64 << 10, "its turn did not come");
    assert_eq!(world.run(&["stop", "c"]).code, 0);
    untouched(&victim);
}

#[test]
fn the_filter_closes_what_dockers_closes() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "filter",
        &format!(
            r#"
container "c" {{ image "base"; {SLEEP}; }}
container "open" {{ image "base"; security {{ seccomp "unconfined" }}; {SLEEP}; }}
container "own" {{ image "base"; security {{ seccomp "no-chmod.json" }}; {SLEEP}; }}
container "tight" {{ image "base"; user "nobody"; security {{ no-new-privileges #true; read-only #true; capability drop="ALL"; }}; {SLEEP}; }}
container "admin" {{ image "base"; security {{ capability add="SYS_ADMIN" drop="CHOWN"; }}; {SLEEP}; }}
"#
        ),
    );
    world.write(
        "no-chmod.json",
        r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ { "names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 } ] }"#,
    );
    world.ok(&["up"]);
    assert!(world.exec("c", "grep Seccomp: /proc/self/status").ends_with('2'));
    assert!(world.exec("open", "grep Seccomp: /proc/self/status").ends_with('0'));
    let python = |container: &str, code: &str| world.run(&["exec", "-T", container, "python3", "-c", code]).out;
    let call = |number: u32| {
        format!(
            "import ctypes; l = ctypes.CDLL(None, use_errno=True); r = l.syscall({number}, 0, 0, 0, 0, 0, 0); print(r, ctypes.get_errno())"
        )
    };
    // The filter forbids AF_ALG and AF_VSOCK; keyctl, bpf, userfaultfd, io_uring_setup, clone3; a new user namespace.
    assert_eq!(
        python(
            "c",
            "import socket\nfor f in (38, 40):\n  try: socket.socket(f, 5); print('open')\n  except OSError as e: print(e.errno)"
        ),
        "1\n1\n"
    );
    for number in [250, 321, 323, 425] {
        assert_eq!(python("c", &call(number)), "-1 1\n", "system call {number}");
    }
    assert_eq!(python("c", &call(435)), "-1 38\n", "clone3 is unknown, so that C libraries use clone");
    assert_ne!(world.run(&["exec", "-T", "c", "unshare", "-U", "true"]).code, 0);
    assert_eq!(world.run(&["exec", "-T", "open", "unshare", "-U", "true"]).code, 0);
    assert_eq!(
        python("own", "import os\ntry: os.chmod('/tmp', 0o777); print('done')\nexcept OSError as e: print(e.errno)"),
        "99\n"
    );
    // Privileges: setuid gives none, none are left, and nothing can be written; one capability more and one less.
    let tight = |script: &str| world.run(&["exec", "-T", "tight", "sh", "-c", script]);
    assert!(tight("grep NoNewPrivs /proc/self/status").out.trim().ends_with('1'));
    assert!(tight("grep CapBnd /proc/self/status").out.trim().ends_with("0000000000000000"));
    assert_ne!(tight("su root -c id").code, 0);
    assert!(tight("echo x > /tmp/x").err.contains("Read-only file system"));
    assert_eq!(world.exec("admin", "mkdir -p /m && busybox mount -t tmpfs x /m && echo mounted"), "mounted");
    assert_ne!(world.run(&["exec", "-T", "admin", "chown", "33", "/m"]).code, 0);
}

#[test]
fn terminals_take_no_typed_commands() {
    if !is_root() {
        return;
    }
    let world = World::new("tiocsti", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    // Typing into the caller's terminal (CVE-2017-5226) fails: even on the terminal from which everything was started,
    // the container has a session of its own.
    world.write("type.py", "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')\nprint('typed')\n");
    let stead = env!("CARGO_BIN_EXE_stead");
    let typed = |line: &str| {
        let mut script = Command::new("script");
        let out = script.args(["-qec", line, "/dev/null"]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).output();
        String::from_utf8_lossy(&out.unwrap().stdout).into_owned()
    };
    let attack = "python3 -c \"$(cat type.py)\"";
    let entered = typed(&format!("{stead} up && {stead} exec -T c {attack}"));
    assert!(entered.contains("PermissionError") && !entered.contains("typed"), "{entered}");
    let begun = typed(&format!("{stead} run -T base {attack}"));
    assert!(begun.contains("PermissionError") && !begun.contains("typed"), "{begun}");
}

#[test]
fn the_plan_marks_what_widens_trust() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "trust",
        r#"
container "plain" { image "base"; cmd "sleep" "9"; publish 18700 to=80; }
container "wide" {
    image "base"
    cmd "sleep" "9"
    security { capability add="NET_ADMIN"; seccomp "unconfined"; }
    device "/dev/null" to="/dev/zilch"
    mount bind="/etc" to="/host-etc"
    namespace pid="host"
    publish 18701 to=80 address="0.0.0.0"
}
"#,
    );
    let plan = world.ok(&["plan"]);
    let marks: Vec<&str> = plan.lines().filter_map(|line| line.trim().strip_prefix("! ")).collect();
    assert_eq!(marks.len(), 6, "{plan}");
    for mark in [
        "has the capability NET_ADMIN (stead.kdl:9)",
        "has no system call filter (stead.kdl:9)",
        "sees the host's processes (stead.kdl:12)",
        "writes /etc of the host (stead.kdl:11)",
        "has the device /dev/null (stead.kdl:10)",
        "publishes port 18701 on every address: other hosts reach it (stead.kdl:13)",
    ] {
        assert!(marks.contains(&mark), "{mark} in {plan}");
    }
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["plan", "--json"])).unwrap();
    assert!(
        json["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|task| task["changes"].as_array().into_iter().flatten())
            .any(|change| change["trust"].as_array().is_some_and(|list| list.len() == 6))
    );
}

#[test]
fn what_cannot_be_given_is_refused_before_anything_starts() {
    if !is_root() {
        return;
    }
    for (node, says) in [
        (r#"security { seccomp "broken.json" }"#, "\"broken.json\" is no system call filter: "),
        (r#"security { seccomp "absent.json" }"#, "cannot read the system call filter"),
        (r#"device "/dev/nosuch""#, "container c: no device /dev/nosuch"),
        (r#"limits { cpuset "0-999" }"#, "container c: cpuset \"0-999\": there is no processor"),
        (r#"limits { io "/dev/null" read="1MiB" }"#, "it is not a block device"),
        (r#"mount bind="nosuch" to="/x""#, "container c: there is no "),
        (r#"limits { memory "1MiB" }"#, "nothing starts with 1 MiB of memory"),
        (r#"security { capability add="NET_ADMN" }"#, "write \"NET_ADMIN\""),
        (r#"sysctl kernel.panic=1"#, "kernel.panic"),
    ] {
        let world = World::new(
            "refused",
            &format!(
                "container \"a\" {{ image \"base\"; {SLEEP}; }} \ncontainer \"c\" {{ image \"base\"; cmd \"true\"; {node}; }}"
            ),
        );
        world.write("broken.json", "{ \"defaultAction\": \"SCMP_ACT_ALOW\" }");
        let ran = world.fails(&["up"]);
        assert!(ran.err.contains(says), "{node}: {}", ran.err);
        // The error shows the line of the project file.
        assert!(ran.err.contains("[stead.kdl:5:") && ran.err.contains(&format!("{node};")), "{node}: {}", ran.err);
        assert!(world.ps().iter().all(|container| container["state"] != "running"), "{node}: something started");
    }
    let world = World::new("kept", &format!(r#"container "c" {{ image "base"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    world.edit("stop-grace", "limits { cpuset \"0-999\" }; stop-grace");
    world.fails(&["up"]);
    eventually("the container is as before", || world.pid("c-1") == pid);
}

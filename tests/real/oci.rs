//! `stead oci`, called by hand as runc is, and called by podman and by dockerd.

use crate::peers::{Dockerd, podman};
use crate::world::{World, alive, eventually, is_root, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A bundle made of the base image, and a state directory for the runtime.
struct Bundles {
    world: World,
    bundle: PathBuf,
    root: PathBuf,
    /// The program under the name that makes it act as a runtime.
    program: PathBuf,
}

impl Bundles {
    fn new(name: &str) -> Self {
        let world = World::new(name, r#"container "c" { image "base"; cmd "true"; }"#);
        let bundle = world.folder.join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        world.ok(&["up"]);
        world.ok(&["export", "c", "-o", "base.tar"]);
        assert!(
            Command::new("tar")
                .args(["xf", "base.tar", "-C", "bundle/rootfs"])
                .current_dir(&world.folder)
                .status()
                .unwrap()
                .success()
        );
        let program = world.folder.join("stead-oci");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_stead"), &program).unwrap();
        let root = world.folder.join("containers");
        let it = Self { world, bundle, root, program };
        assert!(it.run(&["spec", "--bundle", it.bundle.to_str().unwrap()]).status.success());
        it.config(|config| {
            config["process"]["terminal"] = false.into();
            config["root"]["readonly"] = false.into();
        });
        it
    }

    fn config(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    fn args(&self, args: &[&str]) {
        self.config(|config| config["process"]["args"] = args.into());
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut all = vec!["--root", self.root.to_str().unwrap()];
        all.extend(args);
        Command::new(&self.program).args(&all).current_dir(&self.bundle).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// `create` passes its streams on to the container, so nothing may wait for their end.
    fn create(&self, id: &str) {
        let status = Command::new(&self.program)
            .args(["--root", self.root.to_str().unwrap(), "create", id])
            .current_dir(&self.bundle)
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.bundle.join("out")).unwrap())
            .stderr(fs::File::create(self.bundle.join("err")).unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "{}", fs::read_to_string(self.bundle.join("err")).unwrap());
    }

    fn status(&self, id: &str) -> String {
        let state: serde_json::Value = serde_json::from_str(&self.ok(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        let ids = String::from_utf8_lossy(&self.run(&["list", "-q"]).stdout).into_owned();
        for id in ids.lines() {
            self.run(&["delete", "--force", id]);
        }
    }
}

#[test]
fn a_container_lives_as_the_specification_says() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci");
    bundles.args(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let ran = bundles.run(&["run", "one"]);
    assert_eq!((ran.status.code(), ran.stdout.as_slice(), ran.stderr.as_slice()), (Some(7), &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(bundles.ok(&["list", "-q"]), "", "it is deleted when it ends");
    bundles.args(&["sh", "-c", "echo begun; sleep 1000"]);
    bundles.config(|config| {
        config["hooks"] = serde_json::json!({
            "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat > ../hook-created"] }],
            "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat > ../hook-stopped"] }],
        });
        config["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = serde_json::json!({ "limit": 30 });
    });
    bundles.create("two");
    assert_eq!(bundles.status("two"), "created");
    assert_eq!(fs::read_to_string(bundles.bundle.join("out")).unwrap(), "", "its program waits for the start");
    let hook: serde_json::Value = serde_json::from_slice(&fs::read(bundles.world.folder.join("hook-created")).unwrap()).unwrap();
    assert_eq!((hook["id"].as_str(), hook["status"].as_str()), (Some("two"), Some("creating")));
    assert!(!bundles.run(&["create", "two"]).status.success(), "a name is taken once");
    bundles.ok(&["start", "two"]);
    assert!(!bundles.run(&["start", "two"]).status.success());
    eventually("it says so", || fs::read_to_string(bundles.bundle.join("out")).unwrap() == "begun\n");
    assert_eq!(bundles.status("two"), "running");
    let exec = bundles.run(&[
        "exec",
        "-e",
        "A=1",
        "--cwd",
        "/tmp",
        "--user",
        "33:33",
        "two",
        "sh",
        "-c",
        "echo $A $(pwd) $(id -u); exit 9",
    ]);
    assert_eq!((exec.status.code(), String::from_utf8_lossy(&exec.stdout).into_owned()), (Some(9), "1 /tmp 33\n".into()));
    let pids: Vec<i32> = serde_json::from_str(&bundles.ok(&["ps", "--format", "json", "two"])).unwrap();
    assert_eq!(pids.len(), 2, "sh and sleep");
    let stats: serde_json::Value = serde_json::from_str(&bundles.ok(&["events", "--stats", "two"])).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!(stats["data"]["pids"]["limit"], 30);
    bundles.ok(&["update", "--memory", "100000000", "--pids-limit", "40", "two"]);
    let stats: serde_json::Value = serde_json::from_str(&bundles.ok(&["events", "--stats", "two"])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 40);
    bundles.ok(&["pause", "two"]);
    assert_eq!(bundles.status("two"), "paused");
    bundles.ok(&["resume", "two"]);
    assert!(!bundles.run(&["delete", "two"]).status.success(), "what runs is not deleted");
    bundles.ok(&["kill", "two", "KILL"]);
    eventually("it is stopped", || bundles.status("two") == "stopped");
    assert!(!bundles.run(&["kill", "two", "KILL"]).status.success());
    bundles.ok(&["delete", "two"]);
    assert!(bundles.world.folder.join("hook-stopped").exists());
    let gone = bundles.run(&["state", "two"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("does not exist"));
    assert!(pids.iter().all(|pid| !alive(*pid)));
    let log = bundles.world.folder.join("log.json");
    let failed = bundles.run(&["--log", log.to_str().unwrap(), "--log-format", "json", "start", "nosuch"]);
    assert!(!failed.status.success());
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("error"), Some("container nosuch does not exist")));
    let features: serde_json::Value = serde_json::from_str(&bundles.ok(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

#[test]
fn a_filter_may_ask_a_program_beside_the_container() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-notify");
    let place = bundles.bundle.join("agent.sock");
    bundles.args(&["sh", "-c", "mkdir /tmp/asked"]);
    bundles.config(|config| {
        config["linux"]["seccomp"] = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place, "listenerMetadata": "bar",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
    let out = bundles.run(&["run", "one"]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("seccomp agent"), "nobody listens: {out:?}");
    let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The agent does not take the descriptor in the message, so it is closed, and the calls fail with ENOSYS
        // (seccomp_unotify(2)).
        let mut said = vec![0; 4096];
        let length = std::io::Read::read(&mut stream, &mut said).unwrap();
        serde_json::from_slice::<serde_json::Value>(&said[..length]).unwrap()
    });
    let out = bundles.run(&["run", "one"]);
    let told = agent.join().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("Function not implemented"), "{out:?}");
    assert_eq!((told["metadata"].as_str(), told["state"]["id"].as_str()), (Some("bar"), Some("one")));
    assert_eq!(told["fds"], serde_json::json!(["seccompFd"]));
    // The agent is asked while the container is created, before it is started, with `noNewPrivileges` or without.
    for promise in [false, true] {
        bundles.config(|config| config["process"]["noNewPrivileges"] = promise.into());
        fs::remove_file(&place).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
        let agent = std::thread::spawn(move || {
            let mut said = vec![0; 4096];
            let length = std::io::Read::read(&mut listener.accept().unwrap().0, &mut said).unwrap();
            serde_json::from_slice::<serde_json::Value>(&said[..length]).unwrap()
        });
        bundles.create("two");
        assert_eq!(agent.join().unwrap()["state"]["status"], "creating");
        bundles.ok(&["start", "two"]);
        bundles.ok(&["delete", "--force", "two"]);
    }
}

#[test]
fn what_runc_does_beside_the_specification_is_done() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-habits");
    let said = |args: &[&str]| bundles.ok(args).trim().to_owned();
    let fresh = fs::read(bundles.bundle.join("config.json")).unwrap();
    let again = || fs::write(bundles.bundle.join("config.json"), &fresh).unwrap();
    // The loopback is up, and a missing working directory is made although the root is read-only.
    bundles.args(&["sh", "-c", "cat /sys/class/net/lo/flags; pwd"]);
    bundles.config(|config| {
        config["root"]["readonly"] = true.into();
        config["process"]["cwd"] = "/made/deep".into();
    });
    assert_eq!(said(&["run", "one"]), "0x9\n/made/deep");
    again();
    // Permitted capabilities outside the bounding set are gone once the program runs; inheritable ones outside it are refused.
    bundles.args(&["grep", "CapPrm", "/proc/self/status"]);
    let sets = |inheritable: &[&str]| serde_json::json!({ "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": [], "inheritable": inheritable, "ambient": [] });
    bundles.config(|config| config["process"]["capabilities"] = sets(&[]));
    assert_eq!(said(&["run", "one"]), "CapPrm:\t0000000000000001");
    bundles.config(|config| config["process"]["capabilities"] = sets(&["CAP_KILL"]));
    assert!(String::from_utf8_lossy(&bundles.run(&["create", "one"]).stderr).contains("EPERM"), "before anything is made");
    assert!(!bundles.run(&["state", "one"]).status.success());
    again();
    // The scheduler's flags by their names, a real-time share in a nested cgroup, and a filter that forbids umask.
    bundles.args(&["cut", "-d", " ", "-f19,41", "/proc/self/stat"]);
    bundles.config(|config| {
        config["process"]["scheduler"] = serde_json::json!({ "policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
        config["linux"]["seccomp"] = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["umask"], "action": "SCMP_ACT_ERRNO" }] });
        if Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
            config["linux"]["resources"]["cpu"] = serde_json::json!({ "realtimeRuntime": 1000, "realtimePeriod": 100_000 });
        }
    });
    assert_eq!(said(&["run", "one"]), "5 3", "its nice value and policy (proc_pid_stat(5))");
    again();
    // Hooks without an environment get ours; all poststop hooks run, whatever becomes of each.
    bundles.args(&["true"]);
    bundles.config(|config| {
        config["hooks"] = serde_json::json!({
            "prestart": [{ "path": "/bin/sh", "args": ["sh", "-c", "test -n \"$PATH\""] }],
            "poststop": [{ "path": "/bin/false" }, { "path": "/bin/sh", "args": ["sh", "-c", "echo second > ../last"] }],
        });
    });
    let out = bundles.run(&["run", "one"]);
    assert!(
        out.status.success() && String::from_utf8_lossy(&out.stderr).contains("warning: error running hook /bin/false"),
        "{out:?}"
    );
    assert_eq!(fs::read_to_string(bundles.world.folder.join("last")).unwrap(), "second\n");
    bundles.config(|config| config["hooks"] = serde_json::json!({ "poststart": [{ "path": "/bin/false" }] }));
    bundles.args(&["sleep", "1000"]);
    bundles.create("two");
    assert!(!bundles.run(&["start", "two"]).status.success());
    assert_eq!(bundles.ok(&["list", "-q"]), "", "what follows its start failed: it is undone");
    again();
    // Limits that cannot be enforced are refused, and so is a log that cannot be written.
    for (kind, value, word) in [
        ("rdma", serde_json::json!({ "mlx5_1": { "hcaHandles": 3 } }), "rdma"),
        ("network", serde_json::json!({ "classID": 7 }), "network"),
        ("hugepageLimits", serde_json::json!([{ "pageSize": "", "limit": 0 }]), "not a page size"),
    ] {
        bundles.config(|config| config["linux"]["resources"][kind] = value);
        let out = bundles.run(&["run", "one"]);
        assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains(word), "{kind}: {out:?}");
        again();
    }
    assert!(!bundles.run(&["--log", "/nonexistent/log", "list"]).status.success());
}

#[test]
fn processes_join_the_clocks_and_the_personality_of_a_container() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-clocks");
    bundles.args(&["sleep", "1000"]);
    bundles.config(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = serde_json::json!({ "boottime": { "secs": 1_000_000, "nanosecs": 0 } });
        config["linux"]["personality"] = serde_json::json!({ "domain": "LINUX32" });
    });
    bundles.create("one");
    bundles.ok(&["start", "one"]);
    let uptime: f64 = bundles.ok(&["exec", "one", "cat", "/proc/uptime"]).split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{uptime}");
    assert_eq!(
        bundles.ok(&["exec", "one", "readlink", "/proc/self/ns/time"]),
        bundles.ok(&["exec", "one", "readlink", "/proc/1/ns/time"])
    );
    assert_eq!(bundles.ok(&["exec", "one", "uname", "-m"]).trim(), "i686");
}

#[test]
fn one_container_of_a_shared_cgroup_ends_alone() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-shared");
    bundles.args(&["sleep", "1000"]);
    bundles.config(|config| config["linux"]["cgroupsPath"] = "/stead-test-shared".into());
    for id in ["one", "two"] {
        bundles.create(id);
        bundles.ok(&["start", id]);
    }
    assert!(fs::read_to_string(bundles.bundle.join("err")).unwrap().contains("container's cgroup is not empty"));
    bundles.ok(&["delete", "--force", "one"]);
    assert_eq!(bundles.status("two"), "running");
    bundles.ok(&["delete", "--force", "two"]);
    let left = Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "3", "-name", "stead-test-shared"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "the last one takes it away");
}

#[test]
fn without_pivot_the_root_is_a_wall_too() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-moved");
    // A process that may call chroot climbs out of a root that is only a chroot (chroot(2), NOTES).
    let attack = "import os\nos.makedirs('/deep', exist_ok=True)\nos.chroot('/deep')\nfor _ in range(64): os.chdir('..')\nos.chroot('.')\nprint(sorted(os.listdir('/')))";
    bundles.args(&["python3", "-c", attack]);
    bundles.config(|config| {
        for set in ["bounding", "permitted", "effective"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_CHROOT".into());
        }
    });
    let plain = bundles.ok(&["run", "one"]);
    assert!(plain.contains("'deep'"), "{plain}");
    assert_eq!(bundles.ok(&["run", "--no-pivot", "one"]), plain);
    // And nothing of the host's /proc is left that would allow mounting a complete new one.
    let attack = "busybox mount -t proc none /proc 2>&1 && echo whole; true";
    bundles.args(&["busybox", "unshare", "-mrpf", "sh", "-c", attack]);
    bundles.config(|config| {
        for set in ["bounding", "permitted", "effective"] {
            let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
            set.extend(["CAP_SYS_ADMIN", "CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"].map(Into::into));
        }
    });
    for arguments in [&["run", "one"][..], &["run", "--no-pivot", "one"]] {
        let said = bundles.ok(arguments);
        assert!(said.contains("permission denied") && !said.contains("whole"), "{arguments:?} {said}");
    }
}

#[test]
fn user_namespaces_are_made_and_joined() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-users");
    let hidden = bundles.bundle.join("hidden");
    fs::create_dir_all(hidden.join("inside")).unwrap();
    fs::write(hidden.join("inside/file"), "bound").unwrap();
    fs::create_dir(bundles.bundle.join("rootfs/covered")).unwrap();
    fs::write(bundles.bundle.join("rootfs/covered/file"), "copied").unwrap();
    fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mapping = |host: u32| serde_json::json!([{ "containerID": 0, "hostID": host, "size": 65534 }]);
    bundles.args(&["sleep", "1000"]);
    bundles.config(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
        config["linux"]["uidMappings"] = mapping(100_000);
        config["linux"]["gidMappings"] = mapping(200_000);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(serde_json::json!({ "source": "hidden/inside", "destination": "/srv", "options": ["bind"] }));
        mounts
            .push(serde_json::json!({ "source": "tmpfs", "type": "tmpfs", "destination": "/covered", "options": ["tmpcopyup"] }));
    });
    bundles.create("first");
    bundles.ok(&["start", "first"]);
    assert_eq!(bundles.ok(&["exec", "first", "cat", "/srv/file"]), "bound", "its source is out of reach from inside");
    assert_eq!(bundles.ok(&["exec", "first", "cat", "/covered/file"]), "copied", "what a tmpfs covers");
    let state: serde_json::Value = serde_json::from_str(&bundles.ok(&["state", "first"])).unwrap();
    bundles.config(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "user" {
                namespace["path"] = format!("/proc/{}/ns/user", state["pid"]).into();
            }
        }
        for kind in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(kind);
        }
    });
    bundles.create("second");
    bundles.ok(&["start", "second"]);
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words(bundles.ok(&["exec", "second", "cat", "/proc/self/uid_map"])), "0 100000 65534");
    assert_eq!(bundles.ok(&["exec", "second", "hostname"]).trim(), "stead", "its other namespaces are its own");
}

#[test]
fn hostile_and_wrong_bundles_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-bad");
    bundles.args(&["true"]);
    let good = fs::read_to_string(bundles.bundle.join("config.json")).unwrap();
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 7] = [
        ("contains `..`", |config| config["linux"]["cgroupsPath"] = "../../escape".into()),
        ("setting of the host", |config| config["linux"]["sysctl"] = serde_json::json!({ "kernel.panic": "1" })),
        ("executable file not found", |config| config["process"]["args"] = serde_json::json!(["nosuch"])),
        ("named twice", |config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.push(list[0].clone());
        }),
        ("not an absolute path", |config| config["process"]["cwd"] = "tmp".into()),
        ("cannot read the root file system|no root file system", |config| config["root"]["path"] = "nosuch".into()),
        ("is not valid", |config| config["mounts"] = "none".into()),
    ];
    for (says, change) in cases {
        fs::write(bundles.bundle.join("config.json"), &good).unwrap();
        bundles.config(change);
        let out = bundles.run(&["run", "bad"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && says.split('|').any(|says| said.contains(says)), "{says}: {said}");
        assert_eq!(bundles.ok(&["list", "-q"]), "", "{says}");
    }
    for id in ["..", "a/b", "", "a b"] {
        assert!(!bundles.run(&["state", id]).status.success(), "{id:?}");
    }
    // The root file system has links where the runtime mounts and makes devices.
    fs::write(bundles.bundle.join("config.json"), &good).unwrap();
    bundles.args(&["sh", "-c", "test -c /dev/null"]);
    let host = bundles.world.folder.join("host");
    fs::create_dir_all(&host).unwrap();
    let rootfs = bundles.bundle.join("rootfs");
    for name in ["dev", "proc", "sys"] {
        let _ = fs::remove_dir_all(rootfs.join(name));
        std::os::unix::fs::symlink(&host, rootfs.join(name)).unwrap();
    }
    let _ = bundles.run(&["run", "links"]);
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0, "nothing was made on the host");
}

#[test]
fn podman_runs_on_it() {
    if !is_root() {
        return;
    }
    if Command::new("podman").arg("--version").output().is_err() {
        skip("podman is not installed");
        return;
    }
    let bundles = Bundles::new("oci-podman");
    // podman refuses a run root of more than 50 characters, and the path of a checkout may be long.
    let folder = Path::new("/tmp").join(format!("stead-podman-{}", std::process::id()));
    let base = podman(&folder, &bundles.program);
    let run = |args: &[&str]| Command::new("podman").args(&base).args(args).stdin(Stdio::null()).output().unwrap();
    let ok = |args: &[&str]| {
        let out = run(args);
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let tar = bundles.world.folder.join("base.tar");
    ok(&["import", tar.to_str().unwrap(), "base"]);
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none"];
    let with = |first: &[&'static str], rest: &[&'static str]| -> Vec<&str> { [first, &limits, rest].concat() };
    let ran = run(&with(&["run", "--rm"], &["base", "sh", "-c", "id -u; exit 5"]));
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(5), &b"0\n"[..]), "{ran:?}");
    assert_eq!(run(&with(&["run", "--rm"], &["base", "nosuch"])).status.code(), Some(127));
    ok(&with(
        &["run", "-d", "--name", "x", "--memory", "64m", "--pids-limit", "50"],
        &["base", "sh", "-c", "echo said; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
    ));
    assert_eq!(run(&["exec", "x", "sh", "-c", "exit 6"]).status.code(), Some(6));
    assert_eq!(ok(&["exec", "-u", "33", "-w", "/tmp", "-e", "A=b", "x", "sh", "-c", "id -u; pwd; echo $A"]), "33\n/tmp\nb");
    eventually("its log is kept", || ok(&["logs", "x"]) == "said");
    let pid: i32 = ok(&["inspect", "-f", "{{.State.Pid}}", "x"]).parse().unwrap();
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path =
        group.lines().find_map(|line| line.split_once(":memory:").or_else(|| line.split_once("0::"))).unwrap().1.to_owned();
    let limit = fs::read_to_string(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))
        .or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")))
        .unwrap();
    assert_eq!(limit.trim(), "67108864");
    ok(&["pause", "x"]);
    ok(&["unpause", "x"]);
    assert!(ok(&["top", "x"]).contains("sleep"));
    ok(&["kill", "-s", "TERM", "x"]);
    assert_eq!(ok(&["wait", "x"]), "0");
    ok(&["rm", "x"]);
    let line = format!(
        "podman {} run --rm -t {} base sh -c 'test -t 0 && stty size; ls -l /dev/console'",
        base.join(" "),
        limits.join(" ")
    );
    let out = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("136,"), "{out:?}");
    let _ = run(&["rm", "-fa"]);
    let _ = run(&["rmi", "-fa"]);
    let _ = Command::new("sh")
        .args(["-c", &format!("umount -R {0}/root/overlay 2>/dev/null; rm -rf {0}", folder.display())])
        .status();
}

#[test]
fn dockerd_runs_on_it() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-docker");
    let folder = bundles.world.folder.with_file_name("docker-oci");
    let runtime = format!("stead={}", bundles.program.display());
    let Some(daemon) = Dockerd::start(&folder, &["--add-runtime", &runtime, "--default-runtime", "stead"]) else { return };
    let (run, ok) = (|args: &[&str]| daemon.run(args), |args: &[&str]| daemon.ok(args));
    let tar = bundles.world.folder.join("base.tar");
    ok(&["import", tar.to_str().unwrap(), "base"]);
    let ran = run(&["run", "--rm", "--network", "none", "base", "sh", "-c", "echo hi; exit 5"]);
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(5), &b"hi\n"[..]), "{ran:?}");
    assert_eq!(run(&["run", "--rm", "--network", "none", "base", "nosuch"]).status.code(), Some(127));
    ok(&[
        "run",
        "-d",
        "--name",
        "xx",
        "--network",
        "none",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "base",
        "sh",
        "-c",
        "echo said; trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ]);
    assert_eq!(ok(&["exec", "-u", "33", "-w", "/tmp", "-e", "A=b", "xx", "sh", "-c", "id -u; pwd; echo $A"]), "33\n/tmp\nb");
    assert_eq!(run(&["exec", "xx", "sh", "-c", "exit 6"]).status.code(), Some(6));
    eventually("its log is kept", || ok(&["logs", "xx"]) == "said");
    assert!(ok(&["top", "xx"]).contains("sleep"));
    assert!(ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "xx"]).contains("64MiB"));
    ok(&["update", "--memory", "96m", "--memory-swap", "-1", "xx"]);
    ok(&["pause", "xx"]);
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}}", "xx"]), "paused");
    ok(&["unpause", "xx"]);
    ok(&["stop", "-t", "5", "xx"]);
    assert_eq!(ok(&["inspect", "-f", "{{.State.ExitCode}}", "xx"]), "3");
    ok(&["rm", "xx"]);
    let line = format!("docker -H {} run --rm -t --network none base sh -c 'test -t 0 && ls -l /dev/console'", daemon.socket);
    let out = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("/dev/console"), "{out:?}");
}

/// Prints what a process can see of its confinement.
const FACTS: &str = r#"grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|Umask)' /proc/self/status
ulimit -n; pwd; hostname; env | sort | grep -v ^_; cat /proc/sys/net/core/somaxconn
stat -c "%n %F %a %u %g %t:%T" /dev/* /tmp | grep -v "^/dev/core "; ls -l /proc/self/fd/../fd >/dev/null
cat /proc/keys /proc/timer_list | wc -c; echo x 2>/dev/null >/proc/sysrq-trigger || echo kept
cat /proc/self/cgroup | wc -l; id"#;

#[test]
fn a_container_is_what_its_specification_says() {
    if !is_root() {
        return;
    }
    let bundles = Bundles::new("oci-same");
    let world = &bundles.world;
    fs::create_dir_all(world.folder.join("data")).unwrap();
    let mounts = r#"awk '$5 != "/" { print $5, $6, $(NF-2), ($7 == "-" ? "" : "travels") }' /proc/self/mountinfo | sort"#;
    let script = format!("{FACTS}\n{mounts}");
    fs::write(world.folder.join("data/facts"), &script).unwrap();
    world.edit(
        r#"container "c" { image "base"; cmd "true"; }"#,
        r#"
container "c" {
    image "base"
    cmd "sh" "-c" ". /data/facts; echo told; exec sleep 1000"
    user "daemon:tty"
    workdir "/data"
    mount bind="data" to="/data" read-only=#true
    tmpfs "/tmp" size="1MiB"
    env COLOUR="blue"
    sysctl net.core.somaxconn=99
    security { read-only #true; capability drop="CHOWN"; no-new-privileges #true; }
    limits { memory "32MiB"; pids 50; ulimit "nofile" soft=100 hard=200; }
}
"#,
    );
    world.ok(&["up"]);
    eventually("it has told", || world.ok(&["logs", "c"]).contains("told"));
    let told: String = world
        .ok(&["logs", "c"])
        .lines()
        .map(|line| line.split_once("| ").map_or(line, |(_, line)| line).to_owned() + "\n")
        .collect();
    let told = told.trim_end().strip_suffix("told").unwrap().to_owned();
    let specification: serde_json::Value = serde_json::from_str(&world.ok(&["inspect", "--oci", "c"])).unwrap();
    assert_eq!(specification["process"]["user"]["uid"], 1);
    let bundle = |args: &str| {
        let mut config = specification.clone();
        config["root"]["path"] = "rootfs".into();
        config["linux"]["cgroupsPath"] = format!("/stead-same-{}", std::process::id()).into();
        config["process"]["args"] = serde_json::json!(["sh", "-c", args]);
        fs::write(bundles.bundle.join("config.json"), config.to_string()).unwrap();
    };
    bundle(". /data/facts");
    assert_eq!(bundles.ok(&["run", "same"]), told, "as its own bundle");
    if Command::new("runc").arg("--version").output().is_err() {
        skip("runc is not installed");
        return;
    }
    fs::write(world.folder.join("data/facts"), FACTS).unwrap();
    let ours = bundles.ok(&["run", "same"]);
    let root = world.folder.join("runc");
    let runc = Command::new("runc").arg("--root").arg(root).args(["run", "same"]).current_dir(&bundles.bundle).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&runc.stdout), ours, "{}", String::from_utf8_lossy(&runc.stderr));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

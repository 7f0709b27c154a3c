//! Things that go wrong around stead: a full disk, missing pieces, a plan that must not write.

use crate::world::{World, is_root};
use std::fs;
use std::process::Command;

#[test]
fn a_plan_opens_nothing_for_writing() {
    if !is_root() {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        crate::world::skip("strace is not installed");
        return;
    }
    let world = World::new("dry", r#"container "c" { image "base"; publish 18140; cmd "sleep" "1"; }"#);
    let trace = world.folder.with_file_name("trace");
    for args in [&["plan"][..], &["plan", "--json"], &["up", "--dry-run"], &["check"], &["why", "c"]] {
        let status = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&trace)
            .args(["-e", "trace=open,openat,openat2,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknod,mknodat,truncate,ftruncate,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,mount,connect"])
            .arg(env!("CARGO_BIN_EXE_stead"))
            .args(args)
            .current_dir(&world.folder)
            .env("STEAD_ROOT", &world.root)
            .output()
            .unwrap();
        assert!(status.status.success(), "{args:?}: {}", String::from_utf8_lossy(&status.stderr));
        for line in fs::read_to_string(&trace).unwrap().lines() {
            let call = line.split_whitespace().nth(1).unwrap_or_default();
            let opens = call.starts_with("open");
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| line.contains(flag));
            assert!(opens && !writes || call.starts_with("+++") || call.starts_with("---"), "{args:?}: {line}");
        }
    }
}

#[test]
fn a_saved_plan_is_applied_exactly_or_refused() {
    if !is_root() {
        return;
    }
    let world = World::new("saved", r#"container "c" { image "base"; stop-grace "100ms"; env A="1"; cmd "sleep" "1000"; }"#);
    world.write("plan.json", &world.ok(&["plan", "--json"]));
    world.edit("A=\"1\"", "A=\"2\"");
    world.ok(&["up"]);
    let refused = world.fails(&["apply", "plan.json"]);
    assert!(refused.err.contains("the plan is out of date"), "{}", refused.err);
    world.edit("A=\"2\"", "A=\"3\"");
    world.write("plan.json", &world.ok(&["plan", "--json"]));
    world.ok(&["apply", "plan.json"]);
    assert_eq!(world.exec("c", "echo $A"), "3");
    assert!(world.fails(&["apply", "stead.kdl"]).err.contains("is not a plan"));
}

/// A saved plan states what it wants: if a file changes afterwards, it is out of date, even where its wording is the same.
#[test]
fn a_saved_plan_is_refused_when_what_it_wants_changed() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "saved-wants",
        r#"
image "own" { from "base"; copy "file" to="/file"; run "echo one > /one"; label a="1"; }
secret "s" file="secret"
network "n" mtu=1400
volume "v" { label a="1"; }
container "c" { image "own"; secret "s"; network "n"; mount volume="v" to="/v"; mount bind="data" to="/data" read-only=#true; publish 18931 to=80; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    for (file, text) in [("file", "one"), ("secret", "one"), ("data/x", "one")] {
        world.write(file, text);
    }
    let plain = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let refused = |what: &str| {
        let ran = world.fails(&["apply", "plan.json"]);
        assert!(ran.err.contains("the plan is out of date"), "{what}: {}", ran.err);
        assert!(world.ps().is_empty(), "{what}");
    };
    let edits = [
        ("cmd \"sleep\" \"1000\"", "cmd \"sleep\" \"1001\""),
        ("to=\"/data\"", "to=\"/data2\""),
        ("read-only=#true", "read-only=#false"),
        ("echo one > /one", "echo two > /one"),
        ("publish 18931 to=80", "publish 18931 to=81"),
        ("mtu=1400", "mtu=1300"),
        ("label a=\"1\"; }\nsecret", "label a=\"2\"; }\nsecret"),
        ("stop-grace \"100ms\"", "stop-grace \"200ms\""),
    ];
    // This holds before the image is built, and after.
    for built in [false, true] {
        if built {
            world.ok(&["build"]);
        }
        world.write("plan.json", &world.ok(&["plan", "--json"]));
        for (from, to) in edits {
            assert!(plain.contains(from), "{from}");
            world.write("stead.kdl", &plain.replacen(from, to, 1));
            refused(to);
        }
        world.write("stead.kdl", &plain);
        for file in ["file", "secret"] {
            world.write(file, "two");
            refused(file);
            world.write(file, "one");
        }
    }
    // Files that no step reads may change.
    world.write("data/x", "two");
    world.write("stead.kdl", &format!("// a comment\n{plain}"));
    world.write("plan.json", &world.ok(&["plan", "--json"]));
    world.ok(&["apply", "plan.json"]);
    assert_eq!(world.exec("c", "cat /one /file /data/x"), "one\nonetwo");
    // A plan of another version cannot be compared.
    let older = world.ok(&["plan", "--json"]).replace("\"version\": 4", "\"version\": 2");
    world.write("plan.json", &older);
    assert!(world.fails(&["apply", "plan.json"]).err.contains("out of date"));
}

/// Everything is read once: files that are saved while images are built belong to the next plan. What must be looked up
/// again (where a link leads) may cause nothing that the saved plan did not state.
#[test]
fn a_saved_plan_is_applied_exactly_whatever_is_saved_while_it_builds() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "saved-moves",
        r#"
image "own" { from "base"; run "sleep 2"; }
secret "s" file="secret"
container "c" { image "own"; secret "s"; mount bind="data" to="/data" read-only=#true; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("secret", "one");
    world.write("data/x", "one");
    world.write("other/x", "two");
    world.ok(&["build", "base"]);
    // All tests share the store, and so does the next test run.
    let once = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    world.edit("sleep 2", &format!("sleep 2; : {once}"));
    let apply_and = |change: &dyn Fn()| {
        world.write("plan.json", &world.ok(&["plan", "--json"]));
        let child = world.spawn(&["apply", "plan.json"]);
        std::thread::sleep(std::time::Duration::from_millis(1000));
        change();
        let done = child.wait_with_output().unwrap();
        done.status.success()
    };
    let data = world.folder.join("data");
    let moved = apply_and(&|| {
        fs::rename(&data, world.folder.join("away")).unwrap();
        std::os::unix::fs::symlink("other", &data).unwrap();
    });
    assert!(!moved, "{}", world.run(&["ps"]).out);
    assert!(world.ps().is_empty());
    fs::remove_file(&data).unwrap();
    fs::rename(world.folder.join("away"), &data).unwrap();
    world.edit("sleep 2", "sleep 1.9");
    let text = world.folder.join("stead.kdl");
    assert!(apply_and(&|| {
        world.write("secret", "two");
        fs::write(&text, fs::read_to_string(&text).unwrap().replace("1000", "2000")).unwrap();
    }));
    assert_eq!(world.exec("c", "cat /run/secrets/s /data/x; tr '\\0' ' ' < /proc/1/cmdline"), "oneonesleep 1000");
    assert_eq!(world.run(&["plan", "--check"]).code, 2);
}

#[test]
fn a_full_disk_is_told_and_nothing_half_made_is_left() {
    if !is_root() {
        return;
    }
    let world = World::new("full", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    let disk = world.folder.with_file_name("disk");
    let mount = world.folder.with_file_name("mount");
    fs::create_dir_all(&mount).unwrap();
    let sh = |line: String| Command::new("sh").args(["-c", &line]).status().unwrap().success();
    let (disk, place) = (disk.display(), mount.display());
    if !sh(format!("truncate -s 40M {disk} && mkfs.ext4 -q {disk} && mount -o loop {disk} {place}")) {
        crate::world::skip("no loop devices");
        return;
    }
    let ran = world.command(&["up"]).env("STEAD_ROOT", &mount).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    let layers = fs::read_dir(mount.join("store/layers")).map(Iterator::count).unwrap_or(0);
    let staging = fs::read_dir(mount.join("store/tmp")).map(Iterator::count).unwrap_or(0);
    assert!(sh(format!("umount {place}")));
    assert_eq!(ran.status.code(), Some(1), "{text}");
    assert!(text.contains("the disk is full") && text.contains("stead gc"), "{text}");
    assert_eq!((layers, staging), (0, 0), "{text}");
}

#[test]
fn what_is_not_supported_yet_is_refused_by_up_and_not_by_check() {
    if !is_root() {
        return;
    }
    let world =
        World::new("later", r#"container "c" { image "docker.io/library/redis:7"; limits { egress "1MiB"; ingress "1MiB"; }; }"#);
    assert_eq!(world.run(&["check"]).code, 0);
    let ran = world.fails(&["up"]);
    assert_eq!(ran.err.matches("help: the file is valid").count(), 2, "{}", ran.err);
}

#[test]
fn commands_without_a_project_say_so() {
    let folder = std::env::temp_dir().join(format!("stead-empty-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for args in [&["up"][..], &["plan"], &["check"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_stead"))
            .args(args)
            .current_dir(&folder)
            .env("STEAD_ROOT", folder.join("root"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("there is no stead.kdl") || text.contains("as root only"), "{text}");
    }
    assert!(!folder.join("root").exists());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn watch_applies_what_changes() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch",
        r#"image "made" { from "base"; copy "page" to="/page"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("page", "one");
    let mut watch = world.spawn(&["watch"]);
    let page = || world.run(&["exec", "-T", "c", "cat", "/page"]).out;
    crate::world::eventually("it is up", || page() == "one");
    std::thread::sleep(std::time::Duration::from_millis(300));
    world.write("page", "two");
    crate::world::eventually("the file arrives", || page() == "two");
    world.edit("sleep\" \"1000", "sleep\" \"2000");
    crate::world::eventually("the project file, too", || {
        world.run(&["exec", "-T", "c", "cat", "/proc/1/cmdline"]).out.contains("2000")
    });
    world.write("stead.kdl", "nonsense {");
    std::thread::sleep(std::time::Duration::from_millis(500));
    watch.kill().unwrap();
    let output = watch.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        (text.contains("page → c-1") || text.contains("page changed"))
            && (text.contains("stead.kdl has 2 errors") || text.contains("stead.kdl has 1 error")),
        "{text}"
    );
}

#[test]
fn a_reader_that_leaves_does_not_stop_an_up_half_way() {
    if !is_root() {
        return;
    }
    let world =
        World::new("leaves", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; limits { pids 20 }; }"#);
    world.ok(&["up"]);
    world.edit("pids 20", "pids 30");
    let line = format!("{} up 2>&1 | head -n 1; sleep 1", env!("CARGO_BIN_EXE_stead"));
    let status =
        std::process::Command::new("sh").args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).status();
    assert!(status.unwrap().success());
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
}

/// All errors that planning finds in a project are reported at once, with their place in its text, and also as JSON.
#[test]
fn what_planning_finds_is_told_at_once() {
    if !is_root() {
        return;
    }
    let world = World::bare(
        "all-at-once",
        r#"project "p"
image "gone" { from "scratch"; copy "nosuch" to="/x"; }
network "n" subnet="10.9.0.0/24"
container "a" { image "gone"; cmd "/x"; env-file "a.env"; network "n" address="10.200.0.1"; }
container "b" { image "gone"; cmd "/x"; env-file "b.env" required=#false; secret "s" to="/s"; }
secret "s" file="absent"
"#,
    );
    let secret = world.fails(&["plan"]);
    assert!(secret.err.contains("[stead.kdl:6:") && secret.err.contains("the file of the secret"), "{}", secret.err);
    world.write("absent", "x");
    let ran = world.fails(&["plan", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let lines: Vec<u64> =
        told["diagnostics"].as_array().unwrap().iter().map(|one| one["place"]["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4, 4], "{told}");
    for says in ["there is no \"nosuch\" to copy", "the address 10.200.0.1 is not free", "the env-file \"a.env\" is not there"] {
        assert!(ran.err.contains(says) && ran.out.contains(&says.replace('"', "\\\"")), "{says}: {}", ran.err);
    }
    assert!(ran.err.contains("╰── here") && !ran.err.contains("b.env\" is not there"), "{}", ran.err);
}

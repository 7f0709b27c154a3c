//! The first hour: `stead init` and `up` of what it writes, and what a new user meets. (That ordinary users are told to use
//! `sudo` is in `containers.rs`, and a port that is taken is in `network.rs`.)

use crate::fits::fits;
use crate::world::{World, eventually, get, is_root};
use std::fs;
use std::process::Command;

#[test]
fn what_init_writes_comes_up_and_follows_files() {
    if !is_root() {
        return;
    }
    let world = World::bare("init", "");
    fs::remove_file(world.folder.join("stead.kdl")).unwrap();
    world.write("page.txt", "one");
    world.ok(&["init"]);
    // Other tests have the port, and this one has a suite of its own.
    world.edit("publish 8080 to=8080", "publish 18087 to=8080");
    world.edit("debian \"trixie\"", "debian \"bookworm\"");
    world.ok(&["up"]);
    eventually("it answers", || get("127.0.0.1:18087", "/page.txt").is_ok_and(|text| text == "one"));
    let refused = get("127.0.0.1:18087", "/stead.kdl");
    assert!(refused.is_err() || refused.is_ok_and(|text| !text.contains("project")), "the project file is not in the image");
    world.ok(&["watch", "--detach"]);
    world.write("page.txt", "two");
    eventually("a saved file is served", || get("127.0.0.1:18087", "/page.txt").is_ok_and(|text| text == "two"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_mirror_that_does_not_answer_and_one_that_is_not_known_are_told_apart() {
    if !is_root() {
        return;
    }
    let image = "image \"a\" { debian \"bookworm\" { package \"busybox-static\" }; }\n";
    let world = World::bare("no-mirror", &format!("project \"no-mirror\"\nmirror \"http://127.0.0.1:9/debian\"\n{image}"));
    let silent = world.fails(&["build"]);
    assert!(silent.err.contains("cannot reach ") && silent.err.contains("127.0.0.1:9"), "{}", silent.err);
    assert!(silent.err.contains("check the address and the network"), "{}", silent.err);
    world.edit("mirror \"http://127.0.0.1:9/debian\"\n", "");
    let config = world.folder.with_file_name("config");
    fs::create_dir_all(&config).unwrap();
    let script = "mount -t tmpfs none /etc/apt && exec \"$0\" build";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_stead")])
        .current_dir(&world.folder)
        .env("STEAD_ROOT", &world.root)
        .env("XDG_CONFIG_HOME", &config)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("nothing says where packages of \"bookworm\" come from"), "{told}");
    assert!(told.contains("write `mirror \"URL\"` in the project file"), "{told}");
}

#[test]
fn a_registry_that_does_not_answer_is_named_with_its_place() {
    if !is_root() {
        return;
    }
    let world = World::bare("no-registry", "project \"no-registry\"\ncontainer \"c\" { image \"127.0.0.1:9/app:1\"; }\n");
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("cannot reach 127.0.0.1:9") && ran.err.contains("stead.kdl:2"), "{}", ran.err);
    assert!(ran.err.contains("check that the registry runs and the network reaches it"), "{}", ran.err);
    assert!(world.ps().is_empty() && !world.folder.join("stead.lock").exists(), "nothing is half done");
}

/// What commands print as JSON fits the schemas that `stead schema` prints.
#[test]
fn what_is_printed_as_json_fits_its_schema() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "json",
        r#"image "own" { from "base"; copy "stead.kdl" to="/x"; }
volume "v"
container "c" { image "own"; publish 18088 to=80; mount volume="v" to="/v"; label a="1"; stop-grace "100ms"; healthcheck { exec "true" }; cmd "sleep" "1000"; }
container "over" { image "base"; cmd "false"; }"#,
    );
    let json = |words: &[&str]| -> serde_json::Value { serde_json::from_str(&world.ok(words)).unwrap() };
    fits("plan", &json(&["plan", "--json"]));
    world.run(&["up"]);
    fits("plan", &json(&["plan", "--json"]));
    world.exec("c", "echo x > /new");
    world.ok(&["volume", "snapshot", "v", "one"]);
    for (name, words) in [
        ("ps", &["ps", "--all", "--json"][..]),
        ("ps", &["ps", "--all", "--projects", "--json"]),
        ("history", &["history", "--json"]),
        ("images", &["images", "--json"]),
        ("image-history", &["image", "history", "own", "--json"]),
        ("volume-ls", &["volume", "ls", "--json"]),
        ("volume-ls-snapshots", &["volume", "ls", "--snapshots", "--json"]),
        ("volume-inspect", &["volume", "inspect", "v"]),
        ("changes", &["changes", "c", "--json"]),
        ("gc", &["gc", "--dry-run", "--json"]),
    ] {
        fits(name, &json(words));
    }
    let events = world.ok(&["events", "--since", "1h", "--until", "0s", "--json"]);
    assert!(events.lines().count() > 2, "{events}");
    events.lines().for_each(|line| fits("events", &serde_json::from_str(line).unwrap()));
}

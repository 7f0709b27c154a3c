//! If a monitor dies, its container dies, also with other users, setuid programs and programs with file capabilities.

use crate::world::{World, alive, eventually, is_root};

/// Kills the monitor of the only container; no process of the container may be left.
fn dies_with_its_monitor(name: &str, container: &str, comm: &str) {
    if !is_root() {
        return;
    }
    let world = World::new(name, container);
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    // The container must be running its program by now, as the user that it changes to.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(alive(pid), "{}", world.ok(&["logs"]));
    assert!(world.ok(&["exec", "-T", "c", "sh", "-c", "cat /proc/*/comm"]).contains(comm));
    let status =
        std::fs::read_to_string(world.root.join("run").join(world.ps()[0]["instance"].as_str().unwrap()).join("c-1/status.json"))
            .unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let group = std::fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join(format!("stead-{}", world.tag())).exists());
    let instance = world.ps()[0]["instance"].as_str().unwrap().to_owned();
    let procs = group.unwrap().join(format!("stead-{}/{instance}/c-1/cgroup.procs", world.tag()));
    assert!(std::fs::read_to_string(&procs).unwrap().lines().count() >= 2, "the guard and the command");
    let killed = std::process::Command::new("kill").args(["-9", &status["content"]["monitor"].to_string()]).status().unwrap();
    assert!(killed.success());
    eventually("the container dies", || !alive(pid) && std::fs::read_to_string(&procs).unwrap_or_default().trim().is_empty());
    assert_eq!(world.container("c-1")["state"], "dead");
    world.ok(&["up"]);
    assert_eq!(world.container("c-1")["state"], "running", "the next up repairs");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_plain_command() {
    dies_with_its_monitor("death-plain", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#, "sleep");
}

#[test]
fn a_command_of_another_user() {
    dies_with_its_monitor(
        "death-user",
        r#"container "c" { image "base"; stop-grace "100ms"; user "nobody"; cmd "sleep" "1000"; }"#,
        "sleep",
    );
}

#[test]
fn a_setuid_program() {
    dies_with_its_monitor(
        "death-setuid",
        r#"container "c" { image "base"; stop-grace "100ms"; cmd "su" "-s" "/bin/sh" "nobody" "-c" "exec sleep 1000"; }"#,
        "sleep",
    );
}

#[test]
fn a_setuid_program_with_init() {
    dies_with_its_monitor(
        "death-setuid-init",
        r#"container "c" { image "base"; stop-grace "100ms"; init #true; cmd "su" "-s" "/bin/sh" "nobody" "-c" "exec sleep 1000"; }"#,
        "sleep",
    );
}

#[test]
fn a_program_with_file_capabilities() {
    let image = r#"image "caps" { from "base"; run "cp /bin/sleep /usr/local/bin/powerful && setcap cap_net_raw+ep /usr/local/bin/powerful"; }"#;
    let container = r#"container "c" { image "caps"; stop-grace "100ms"; user "nobody"; cmd "powerful" "1000"; }"#;
    dies_with_its_monitor("death-caps", &format!("{image}\n{container}"), "powerful");
}

#[test]
fn a_program_with_file_capabilities_and_init() {
    let image = r#"image "caps" { from "base"; run "cp /bin/sleep /usr/local/bin/powerful && setcap cap_net_raw+ep /usr/local/bin/powerful"; }"#;
    let container = r#"container "c" { image "caps"; stop-grace "100ms"; user "nobody"; init #true; cmd "powerful" "1000"; }"#;
    dies_with_its_monitor("death-caps-init", &format!("{image}\n{container}"), "powerful");
}

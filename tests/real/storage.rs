//! Volumes, mounts, tmpfs, secrets, configs, env files.

use crate::world::{SmallDisk, World, eventually, is_root};
use std::fs;

#[test]
fn volumes_mounts_and_files() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "storage",
        r#"
image "seeded" { from "base"; run "mkdir /data && echo seed > /data/file && chown nobody:nogroup /data /data/file"; }
volume "data"
secret "token" file="token"
config "motd" { content "hello ${who}" }
config "file" file="conf/app.conf"
param "who" default="world"
container "c" {
    image "seeded"
    stop-grace "100ms"
    cmd "sleep" "1000"
    mount volume="data" to="/data"
    mount volume="data" to="/part" subpath="sub" read-only=#true
    mount bind="shared" to="/shared" create=#true
    mount bind="token" to="/bound" read-only=#true
    mount image="base" to="/base" subpath="etc"
    tmpfs "/cache" size="1MiB" mode="0700"
    secret "token" mode="0440" owner="nobody"
    config "motd" to="/etc/motd.stead"
    config "file"
    env-file "vars.env"
    env-file "absent.env" required=#false
    env OVER="container"
    sysctl net.core.somaxconn="77"
    extra-host "db" "10.1.2.3"
    device "/dev/null" to="/dev/nothing"
    on "start" { exec "sh" "-c" "echo started > /cache/hook" }
}
container "other" { image "seeded"; stop-grace "100ms"; cmd "sleep" "1000"; }
"#,
    );
    world.write("token", "s3cret");
    world.write("conf/app.conf", "a=1");
    world.write("vars.env", "# comment\nexport FROM_FILE=\"yes\"\nOVER=file\n");
    fs::create_dir_all(world.root.join("x")).unwrap();
    let refused = world.fails(&["up"]);
    assert!(refused.err.contains("sub"), "a subpath that is not there: {}", refused.err);
    world.edit("mount volume=\"data\" to=\"/part\" subpath=\"sub\" read-only=#true\n", "");
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "cat /data/file; stat -c %U /data"), "seed\nnobody", "a new volume fills from the image");
    world.exec("c", "echo mine > /data/file; mkdir /data/sub; echo s > /data/sub/x; echo b > /shared/x");
    assert_eq!(fs::read_to_string(world.folder.join("shared/x")).unwrap(), "b\n");
    assert_ne!(world.run(&["exec", "-T", "c", "sh", "-c", "echo x > /bound"]).code, 0, "read-only");
    assert_ne!(world.run(&["exec", "-T", "c", "sh", "-c", "echo x > /base/x"]).code, 0, "an image's files are read-only");
    assert!(world.exec("c", "head -1 /base/passwd").starts_with("root:"));
    assert_eq!(
        world.exec("c", "stat -f -c %T /run/secrets/token; stat -c '%a %U' /run/secrets/token; cat /run/secrets/token"),
        "tmpfs\n440 nobody\ns3cret"
    );
    assert_eq!(
        world.exec("c", "cat /etc/motd.stead; cat /run/configs/file; echo; echo $FROM_FILE $OVER; stat -c %a /cache"),
        "hello worlda=1\nyes container\n700"
    );
    assert_eq!(
        world.exec("c", "cat /proc/sys/net/core/somaxconn; grep db /etc/hosts; test -c /dev/nothing && cat /cache/hook"),
        "77\n10.1.2.3\tdb\nstarted"
    );
    // The secret is only in memory.
    let state = std::process::Command::new("grep")
        .args(["-rl", "s3cret"])
        .arg(world.root.join("state"))
        .arg(world.root.join("run"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&state.stdout), "");
    let before = [world.pid("c-1"), world.pid("other-1")];
    world.exec("c", "echo kept > /root/kept");
    world.write("token", "0ther");
    assert!(world.ok(&["plan"]).contains("secret.token changed"));
    world.ok(&["up"]);
    assert_ne!(world.pid("c-1"), before[0]);
    assert_eq!(world.pid("other-1"), before[1], "exactly its users");
    assert_eq!(world.exec("c", "cat /run/secrets/token; cat /root/kept"), "0therkept", "restarted, not replaced");
    world.ok(&["down"]);
    world.edit("to=\"/data\"\n", "to=\"/data\"\n    mount volume=\"data\" to=\"/part\" subpath=\"sub\" read-only=#true\n");
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "cat /data/file /part/x"), "mine\ns", "volumes outlive down");
    world.ok(&["down", "--volumes"]);
    world.ok(&["build"]);
    assert!(!world.root.join("state/volumes").read_dir().unwrap().any(|entry| entry.unwrap().path().join("data").exists()));
}

/// On a full disk a container's end and its health are still told, and it can be stopped and taken down.
#[test]
fn what_is_up_ends_in_order_on_a_full_disk() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "full-disk",
        r#"container "ends" { image "base"; restart "no"; cmd "sh" "-c" "until [ -e /tmp/go ]; do sleep 0.05; done; exit 5"; tmpfs "/tmp"; }
container "turns" { image "base"; restart "no"; stop-grace "100ms"; cmd "sleep" "1000"; tmpfs "/tmp"; healthcheck interval="100ms" retries=2 { exec "sh" "-c" "[ ! -e /tmp/go ]" } }
container "stays" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }
network "net"
"#,
    );
    let disk = SmallDisk::below(&world.root, &["state", "run"]);
    world.ok(&["up"]);
    disk.fill();
    world.ok(&["exec", "-T", "turns", "touch", "/tmp/go"]);
    world.ok(&["exec", "-T", "ends", "touch", "/tmp/go"]);
    eventually("how it ended is told", || world.container("ends-1")["exit_code"] == 5);
    eventually("its health is told", || world.container("turns-1")["health"] == "unhealthy");
    world.ok(&["stop", "stays"]);
    assert_eq!(world.container("stays-1")["state"], "exited");
    world.ok(&["down"]);
    drop(disk);
    world.assert_nothing_left();
}

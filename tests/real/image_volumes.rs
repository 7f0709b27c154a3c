//! What an image declares as data: a volume of each replica, and one that goes with a command that runs once.

use crate::world::{World, is_root};
use std::fs;

const PROJECT: &str = r#"
image "below" {
    from "base"
    run "mkdir -p /var/lib/x && echo first > /var/lib/x/from-image && chown 7:8 /var/lib/x && chmod 750 /var/lib/x"
    volume "/var/lib/x"
}
image "db" { from "below"; volume "/cache"; }
volume "declared"
container "db" {
    image "db"
    cmd "sleep" "1000"
    env LEVEL="info"
    replicas 2
    stop-grace "100ms"
}
container "closed" {
    image "db"
    cmd "sleep" "1000"
    mount volume="declared" to="/cache"
    security { read-only #true; }
    stop-grace "100ms"
}
job "once" { image "db"; cmd "sh" "-c" "cat /var/lib/x/from-image && echo > /var/lib/x/of-a-job"; }
"#;

#[test]
fn data_of_an_image_outlives_the_container_and_not_the_volumes() {
    if !is_root() {
        return;
    }
    let world = World::new("image-volumes", PROJECT);
    world.ok(&["up"]);
    let rows = world.ok(&["volume", "ls"]);
    // After each there is a digest.
    for name in ["db-1-cache", "db-1-var-lib-x", "db-2-cache", "db-2-var-lib-x", "closed-1-var-lib-x", "declared"] {
        assert!(rows.contains(name), "{name}: {rows}");
    }
    assert_eq!(rows.lines().count(), 7, "nothing for what is mounted, nor for the job: {rows}");
    let facts = "cat /var/lib/x/from-image; stat -c '%u:%g %a' /var/lib/x";
    assert_eq!(world.exec("db-1", facts), "first\n7:8 750");
    assert!(world.ok(&["logs", "once"]).contains("first"));
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    // Replaced, it finds what it wrote there; the other replica has a volume of its own.
    world.exec("db-1", "echo mine > /var/lib/x/mine; echo gone > /gone");
    world.edit("LEVEL=\"info\"", "LEVEL=\"warn\"");
    let plan = world.ok(&["plan"]);
    let (_, lost) = plan.split_once("data that would be lost:").unwrap();
    assert!(lost.contains("db-1: the files that it wrote outside of its volumes (it is replaced)"), "{plan}");
    assert!(!lost.contains("db-2"), "{plan}");
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["plan", "--json"])).unwrap();
    assert_eq!((&json["losses"][0]["what"], &json["losses"][0]["of"]), (&"written".into(), &"db-1".into()), "{json}");
    world.ok(&["up"]);
    assert_eq!(world.exec("db-1", "cat /var/lib/x/mine; test -e /gone || echo no"), "mine\nno");
    assert_eq!(world.exec("db-2", "ls /var/lib/x"), "from-image");
    world.edit("LEVEL=\"warn\"", "LEVEL=\"info\"");
    assert!(!world.ok(&["plan"]).contains("data that would be lost"), "it has written nothing since");
    // A read-only root has a volume that can be written.
    assert_eq!(
        world.exec("closed", "touch /var/lib/x/a && ls /var/lib/x && ! touch /a 2>/dev/null && echo closed"),
        "a\nfrom-image\nclosed"
    );
    world.ok(&["down"]);
    let told = world.run(&["volume", "prune", "--yes"]);
    assert!(told.code == 0 && world.ok(&["volume", "ls"]).contains("db-1-var-lib-x"), "{told:?}");
    world.ok(&["up"]);
    assert_eq!(world.exec("db-1", "cat /var/lib/x/mine"), "mine");
    let rows = world.ok(&["volume", "ls"]);
    let own = rows.split_whitespace().find(|word| word.starts_with("db-1-var-lib-x-")).unwrap();
    assert!(world.fails(&["volume", "rm", own]).err.contains("is in use"), "{own}");
    world.ok(&["down", "--volumes"]);
    assert_eq!(world.ok(&["volume", "ls"]), "");
    world.assert_nothing_left();
}

#[test]
fn what_a_command_of_a_moment_writes_there_goes_with_it() {
    if !is_root() {
        return;
    }
    let world = World::new("image-volumes-once", PROJECT);
    world.ok(&["up"]);
    world.exec("db-1", "echo mine > /var/lib/x/mine");
    let before = world.ok(&["volume", "ls"]);
    for name in ["db", "closed"] {
        let out = world.ok(&["run", "-T", name, "sh", "-c", "ls /var/lib/x; touch /var/lib/x/gone && stat -c %u /var/lib/x"]);
        assert_eq!(out, "from-image\n7\n", "{name}");
    }
    assert_eq!(world.ok(&["volume", "ls"]), before);
    let instance = fs::read_dir(world.root.join("state/instances")).unwrap().flatten().next().unwrap();
    let roots = fs::read_dir(instance.path().join("roots")).unwrap().flatten();
    let left: Vec<_> = roots.filter(|entry| entry.file_name().to_string_lossy().starts_with("run-")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.exec("db-1", "ls /var/lib/x"), "from-image\nmine");
    world.ok(&["down", "--volumes"]);
}

#[test]
fn replaced_in_turns_each_replica_finds_its_data_and_none_stands_in() {
    if !is_root() {
        return;
    }
    let world = World::new("image-volumes-turns", PROJECT);
    world.edit("replicas 2", "replicas 2; update { parallel 1; }");
    world.ok(&["up"]);
    for name in ["db-1", "db-2"] {
        world.exec(name, &format!("echo {name} > /var/lib/x/mine"));
    }
    world.edit("LEVEL=\"info\"", "LEVEL=\"warn\"");
    world.ok(&["up"]);
    for name in ["db-1", "db-2"] {
        assert_eq!(world.exec(name, "cat /var/lib/x/mine; echo $LEVEL"), format!("{name}\nwarn"));
    }
    // A further replica would lose what it writes there.
    let before = (world.pid("db-1"), world.pid("db-2"));
    world.edit("update { parallel 1; }", "update { order \"start-first\"; }");
    world.edit("LEVEL=\"warn\"", "LEVEL=\"info\"");
    let refused = world.fails(&["up"]);
    assert!(refused.err.contains("\"start-first\" needs a further replica") && refused.err.contains("stop-first"), "{refused:?}");
    assert_eq!((world.pid("db-1"), world.pid("db-2")), before, "nothing has ended");
    world.ok(&["down", "--volumes"]);
    world.assert_nothing_left();
}

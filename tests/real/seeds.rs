//! Volumes that a job fills once: before anything else has them, kept, brought back, and used by other directories.

use crate::world::{World, alive, eventually, is_root};
use std::fs;
use std::process::Command;

/// The job leaves what it read, and something that no second run would leave.
const PROJECT: &str = r#"
volume "db" { seed from="job:load"; }
job "load" {
    image "base"
    cmd "sh" "-c" "cat /seed/a.sql > /data/state; head -c 12 /dev/urandom | od -An -tx1 | tr -d ' ' > /data/once; sleep 0.2"
    inputs "seed/"
    mount volume="db" to="/data"
    mount bind="seed" to="/seed" read-only=#true
    stop-grace "100ms"
}
container "web" {
    image "base"
    cmd "sh" "-c" "cp /data/state /first; exec sleep 1000"
    mount volume="db" to="/data"
    stop-grace "100ms"
}
"#;

#[test]
fn a_volume_is_filled_once_and_reset_to_that() {
    if !is_root() {
        return;
    }
    let world = World::new("seeds", PROJECT);
    world.write("seed/a.sql", "one\n");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("volume db (filled by job load)") && plan.contains("job load-1 (run)"), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /first"), "one", "it waited");
    let once = world.exec("web", "cat /data/once");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    assert!(world.ok(&["volume", "ls", "--snapshots"]).contains("seed-"));
    // What only looks like a seed is a user's, and what is one is not.
    let like_one = format!("seed-{}-here", "0".repeat(24));
    let refused = world.fails(&["volume", "snapshot", "db", &like_one]);
    assert!(refused.err.contains("is a name for what a job has filled"), "{}", refused.err);
    for name in ["seed-a", "seed-b", "seed-c", "seed-d"] {
        world.ok(&["volume", "snapshot", "db", name]);
    }
    world.exec("web", "echo mine > /data/state; echo more > /data/more");
    // What is written into it stays, whatever becomes of the job.
    world.write("seed/a.sql", "two\n");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    world.write("seed/a.sql", "one\n");

    let refused = world.fails(&["volume", "reset", "db"]);
    assert!(refused.err.contains("web-1") && refused.err.contains("--stop"), "{}", refused.err);
    assert_eq!(world.exec("web", "cat /data/state"), "mine");
    let reset = world.run(&["volume", "reset", "db", "--stop"]);
    assert!(reset.code == 0 && reset.err.contains("as its job left it again"), "{}", reset.err);
    assert!(reset.err.contains("cloned") || reset.err.contains("that was a copy"), "{}", reset.err);
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /data/state /data/once; ls /data"), format!("one\n{once}\nonce\nstate"));
    // For other inputs, no state is kept.
    world.write("seed/a.sql", "two\n");
    let reset = world.run(&["volume", "reset", "db", "--stop"]);
    assert!(reset.code == 0 && reset.err.contains("deleted the volume db"), "{}", reset.err);
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /data/state"), "two");
    assert_ne!(world.exec("web", "cat /data/once"), once, "the job ran again");
    let kept = world.ok(&["volume", "ls", "--snapshots"]);
    assert!(["seed-a", "seed-b", "seed-c", "seed-d"].iter().all(|name| kept.contains(name)), "{kept}");
    // And back: both are kept.
    world.write("seed/a.sql", "one\n");
    world.ok(&["volume", "reset", "db", "--stop"]);
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /data/once"), once);
    // A volume that is gone is filled from what is kept.
    world.ok(&["down"]);
    world.ok(&["volume", "rm", "db"]);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("as job load has filled it before") && plan.contains("job load-1 (its result is kept)"), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /data/once"), once);
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");

    let refused = world.fails(&["run", "--again", "load"]);
    assert!(refused.err.contains("fills the volume db") && refused.err.contains("volume reset db"), "{}", refused.err);
    assert!(world.fails(&["volume", "reset", "dp"]).err.contains("perhaps \"db\""));
    world.ok(&["down", "--volumes"]);
    assert_eq!(world.ok(&["volume", "ls", "--snapshots"]), "");
    world.ok(&["up"]);
    assert_ne!(world.exec("web", "cat /data/once"), once, "nothing is kept any more");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

/// The same project in a directory beside the first one.
fn beside(world: &World, name: &str) -> World {
    let other = World { root: world.root.clone(), folder: world.folder.with_file_name(name) };
    for file in ["stead.kdl", "stead.lock", "seed/a.sql"] {
        other.write(file, &fs::read_to_string(world.folder.join(file)).unwrap());
    }
    other
}

#[test]
fn another_directory_of_the_project_begins_with_the_seed_if_all_is_the_same() {
    if !is_root() {
        return;
    }
    let world = World::new("seeds-beside", PROJECT);
    world.write("seed/a.sql", "one\n");
    world.ok(&["up"]);
    let once = world.exec("web", "cat /data/once");
    world.exec("web", "echo private > /data/state");
    let same = beside(&world, "same");
    let plan = same.ok(&["plan"]);
    assert!(plan.contains("its result is kept") && plan.contains(&world.folder.display().to_string()), "{plan}");
    same.ok(&["up"]);
    assert_eq!(same.exec("web", "cat /data/state /data/once"), format!("one\n{once}"), "the seed, not what came after it");
    assert!(same.ok(&["ps", "--all"]).contains("done"));
    // It has a seed of its own now.
    same.exec("web", "echo changed > /data/state");
    same.ok(&["volume", "reset", "db", "--stop"]);
    same.ok(&["up"]);
    assert_eq!(same.exec("web", "cat /data/state"), "one");
    // One whose containers could have given the job something else runs it itself.
    let other = beside(&world, "other");
    other.edit("cp /data/state /first", "cp /data/state /second");
    other.ok(&["up"]);
    assert_ne!(other.exec("web", "cat /data/once"), once);
    // While something is changed there, a seed may be about to be deleted.
    let instances = fs::read_dir(world.root.join("state/instances")).unwrap().flatten();
    let locks: Vec<fs::File> = instances.filter_map(|one| fs::File::open(one.path().join("lock")).ok()).collect();
    assert!(locks.len() >= 3, "{locks:?}");
    let late = beside(&world, "late");
    assert!(late.ok(&["plan"]).contains("its result is kept"));
    locks.iter().for_each(|lock| lock.lock().unwrap());
    let done = late.run(&["up"]);
    drop(locks);
    assert_eq!(done.code, 0, "{done:?}");
    assert_ne!(late.exec("web", "cat /data/once"), once, "the job ran");
    for one in [&late, &other, &same, &world] {
        one.ok(&["down", "--volumes"]);
    }
    world.assert_nothing_left();
}

/// A job that must find an empty volume, waits in the middle, and can fail there.
const HALF: &str = r#"
volume "db" { seed from="job:load"; }
job "load" {
    image "base"
    cmd "sh" "-c" "test -e /data/half && exit 9; echo half > /data/half; while ! test -e /gate/go; do sleep 0.05; done; test -e /gate/fine || exit 4; echo whole > /data/whole"
    mount volume="db" to="/data"
    mount bind="gate" to="/gate" create=#true
    stop-grace "100ms"
}
container "web" { image "base"; cmd "sleep" "1000"; mount volume="db" to="/data"; stop-grace "100ms"; }
"#;

#[test]
fn a_seed_that_fails_half_way_leaves_nothing_and_is_tried_again() {
    if !is_root() {
        return;
    }
    let world = World::new("seeds-half", HALF);
    world.write("gate/go", "");
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("it ended with exit status 4; the volume db is not filled"), "{}", ran.err);
    assert!(ran.err.contains("it depends on load-1"), "{}", ran.err);
    assert_eq!(world.ok(&["volume", "ls"]), "", "half of it is left");
    assert_eq!(world.ok(&["volume", "ls", "--snapshots"]), "");
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("exit status 4"), "it found something of the first run: {}", ran.err);
    world.write("gate/fine", "");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "ls /data"), "half\nwhole");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    world.ok(&["down", "--volumes"]);
}

#[test]
fn a_seed_whose_command_was_killed_is_begun_anew_or_waited_for() {
    if !is_root() {
        return;
    }
    let world = World::new("seeds-killed", HALF);
    world.write("gate/fine", "");
    let killed = || {
        let mut up = world.spawn(&["up"]);
        eventually("it runs", || world.run(&["exec", "-T", "load", "cat", "/data/half"]).out == "half\n");
        let pid = i32::try_from(up.id()).unwrap();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        up.wait().unwrap();
        assert!(!alive(pid));
    };
    killed();
    world.ok(&["stop", "load"]);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("has not filled it to the end") && plan.contains("somebody stopped it"), "{plan}");
    world.write("gate/go", "");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "ls /data"), "half\nwhole", "the job found an empty volume");
    world.ok(&["down", "--volumes"]);
    // The other way: the job goes on, and is done before anybody waits for it.
    fs::remove_file(world.folder.join("gate/go")).unwrap();
    killed();
    world.write("gate/go", "");
    eventually("it is done", || world.container("load-1")["exit_code"] == 0);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("volume db (its seed is kept)") && !plan.contains("job load-1"), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "ls /data"), "half\nwhole");
    assert!(world.ok(&["volume", "ls", "--snapshots"]).contains("seed-"));
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    // What somebody imports in its place counts as filled.
    world.ok(&["volume", "export", "db", "-o", "db.tar"]);
    world.ok(&["down", "--volumes"]);
    world.ok(&["volume", "import", "db", "db.tar"]);
    world.ok(&["up"]);
    assert!(world.ps().iter().all(|row| row["name"] != "load-1" || row["state"] != "running"));
    assert_eq!(world.exec("web", "ls /data"), "half\nwhole");
    world.ok(&["down", "--volumes"]);
    world.assert_nothing_left();
}

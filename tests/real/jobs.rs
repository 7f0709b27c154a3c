//! Jobs: commands that run to their end before what depends on them, and once for the same inputs.

use crate::world::{World, alive, eventually, is_root};
use std::fs;
use std::path::PathBuf;

/// A job that notes each of its runs in a volume, and a container that waits for it.
const PROJECT: &str = r#"
volume "data"
job "migrate" {
    image "base"
    cmd "sh" "-c" "sleep 0.3; echo ran >> /data/runs; echo migrated"
    inputs "migrations/"
    mount volume="data" to="/data"
    stop-grace "100ms"
}
container "web" {
    image "base"
    cmd "sh" "-c" "wc -l < /data/runs > /seen; exec sleep 1000"
    mount volume="data" to="/data"
    depends-on "migrate" until="done"
    stop-grace "100ms"
}
"#;

fn volume(world: &World) -> PathBuf {
    let instance = fs::read_dir(world.root.join("state/volumes")).unwrap().flatten().next().unwrap();
    instance.path().join("data")
}

/// How often the job has run with the volume that there is now.
fn runs(world: &World) -> usize {
    fs::read_to_string(volume(world).join("runs")).unwrap_or_default().lines().count()
}

#[test]
fn a_job_runs_once_for_the_same_inputs_and_what_depends_on_it_waits() {
    if !is_root() {
        return;
    }
    let world = World::new("jobs", PROJECT);
    world.write("migrations/001.sql", "one");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("job migrate-1 (run)"), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "cat /seen"), "1", "it was over before");
    let job = world.container("migrate-1");
    assert_eq!((job["state"].as_str(), job["exit_code"].as_i64(), job["job"].as_bool()), (Some("exited"), Some(0), Some(true)));
    assert!(world.container("web-1").get("job").is_none());
    let pid = world.pid("web-1");
    assert!(world.ok(&["logs", "migrate"]).contains("migrated"));
    assert!(!world.ok(&["ps"]).contains("migrate-1"));
    assert!(world.ok(&["ps", "--all"]).contains("done"), "{}", world.ok(&["ps", "--all"]));
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    world.ok(&["up"]);
    world.write("other.sql", "no input");
    world.ok(&["up"]);
    assert_eq!(runs(&world), 1);
    // Another input; what waits for the job goes on.
    world.write("migrations/002.sql", "two");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("migrations/002.sql is new") && plan.contains("stead.kdl:"), "{plan}");
    world.ok(&["up"]);
    assert_eq!((runs(&world), world.pid("web-1")), (2, pid));
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    // The result outlives what a boot loses.
    let instance = fs::read_dir(world.root.join("run")).unwrap().flatten().find(|entry| entry.path().join("migrate-1").is_dir());
    fs::remove_dir_all(instance.unwrap().path().join("migrate-1")).unwrap();
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    assert_eq!(world.container("migrate-1")["state"], "exited");
    // Once more, by hand.
    world.ok(&["run", "--again", "migrate"]);
    assert_eq!((runs(&world), world.pid("web-1")), (3, pid));
    assert!(world.fails(&["run", "--again", "migrat"]).err.contains("perhaps \"migrate\""));
    assert_eq!(world.fails(&["run", "--again"]).code, 2);
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    world.ok(&["run", "-T", "migrate", "true"]);
    assert_eq!(runs(&world), 3, "a one-off is no run of the job");
    // `down` forgets the result, and what is in the volume stays.
    world.ok(&["down"]);
    world.ok(&["up"]);
    assert_eq!(runs(&world), 4);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_job_runs_again_with_a_volume_that_was_made_again() {
    if !is_root() {
        return;
    }
    let world = World::new("jobs-volume", &PROJECT.replace("    inputs \"migrations/\"\n", ""));
    world.ok(&["up"]);
    world.ok(&["up"]);
    assert_eq!(runs(&world), 1);
    world.ok(&["stop"]);
    // Somebody takes it away, and `up` makes another one.
    let all = std::fs::read_dir(world.root.join("state/volumes")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(all.join("data"), world.folder.join("moved")).unwrap();
    world.ok(&["up"]);
    assert_eq!(runs(&world), 1, "once with the new volume");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
}

#[test]
fn a_job_that_fails_stops_only_what_depends_on_it() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "jobs-fail",
        r#"
job "migrate" { image "base"; cmd "sh" "-c" "echo no such table; test -e /input/fine || exit 3"; mount bind="input" to="/input" create=#true; }
job "after" { image "base"; cmd "true"; depends-on "migrate"; }
container "web" { image "base"; cmd "sleep" "1000"; stop-grace "100ms"; depends-on "after"; }
container "other" { image "base"; cmd "sleep" "1000"; stop-grace "100ms"; }
"#,
    );
    let ran = world.fails(&["up"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("failed: migrate-1: it ended with exit status 3"), "{}", ran.err);
    assert!(ran.err.contains("    no such table") && ran.err.contains("it depends on migrate-1"), "{}", ran.err);
    let state = |name: &str| world.container(name)["state"].as_str().unwrap().to_owned();
    assert_eq!((state("other-1").as_str(), state("migrate-1").as_str()), ("running", "exited"));
    assert!(state("web-1") != "running" && state("after-1") != "exited", "{:?}", world.ps());
    assert!(world.ok(&["ps", "--all"]).contains("failed (3)"));
    assert!(world.ok(&["plan"]).contains("its command ended with exit status 3"));
    let why = world.ok(&["why", "web"]);
    assert!(
        why.contains("it depends on after-1, which was not started ← it depends on migrate-1, which ended with exit status 3"),
        "{why}"
    );
    // It runs again, and the rest follows.
    let pid = world.pid("other-1");
    world.fails(&["up"]);
    world.write("input/fine", "");
    world.ok(&["up"]);
    assert_eq!((state("web-1").as_str(), world.pid("other-1")), ("running", pid));
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
}

#[test]
fn a_job_that_takes_too_long_is_killed_and_one_that_is_waited_for_can_be_left() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "jobs-timeout",
        r#"
job "slow" { image "base"; cmd "sh" "-c" "trap '' TERM; echo begun; while :; do sleep 0.05; done"; timeout "500ms"; stop-grace "100ms"; }
container "web" { image "base"; cmd "sleep" "1000"; stop-grace "100ms"; depends-on "slow"; }
"#,
    );
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("slow-1: it timed out after 500ms"), "{}", ran.err);
    assert!(ran.err.contains("it depends on slow-1, which timed out after 500ms"), "{}", ran.err);
    assert_eq!(world.container("slow-1")["exit_code"], 137);
    // That is remembered.
    assert!(world.ok(&["ps", "--all"]).contains("timed out after 500ms"), "{}", world.ok(&["ps", "--all"]));
    let why = world.ok(&["why", "slow"]);
    assert!(why.contains("job slow") && why.contains("it timed out after 500ms"), "{why}");
    let why = world.ok(&["why", "web"]);
    assert!(why.contains("it depends on slow-1, which timed out after 500ms (stead.kdl:"), "{why}");
    let again = world.fails(&["up"]);
    assert!(again.err.contains("timed out after 500ms"), "{}", again.err);
    // Without a timeout it takes as long as it takes, and whoever waits for it can stop waiting.
    world.edit("timeout \"500ms\"; ", "");
    let up = world.spawn(&["up"]);
    eventually("it runs", || world.container("slow-1")["state"] == "running");
    let pid = i32::try_from(up.id()).unwrap();
    let status = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(status.success());
    let out = up.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!alive(pid));
    assert_eq!(world.container("slow-1")["state"], "running", "it goes on");
    world.ok(&["stop", "slow"]);
    assert!(world.ok(&["plan"]).contains("somebody stopped it"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_job_whose_inputs_are_saved_while_it_runs_runs_again() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "jobs-saved-meanwhile",
        r#"
volume "data"
job "load" {
    image "base"
    cmd "sh" "-c" "echo ran >> /data/runs; while ! test -e /gate/open; do sleep 0.05; done"
    inputs "seed/"
    mount volume="data" to="/data"
    mount bind="gate" to="/gate" create=#true
    stop-grace "100ms"
}
"#,
    );
    world.write("seed/a.sql", "one");
    let up = world.spawn(&["up"]);
    eventually("it runs", || world.ps().iter().any(|one| one["name"] == "load-1" && one["state"] == "running"));
    world.write("seed/a.sql", "two");
    world.write("gate/open", "");
    let out = up.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("job load-1 (run)") && plan.contains("seed/a.sql changed"), "{plan}");
    world.ok(&["up"]);
    assert_eq!((runs(&world), world.ok(&["plan"]).as_str()), (2, "nothing to do\n"));
    // The same if nobody waits for it: what is running has the old input.
    std::fs::remove_file(world.folder.join("gate/open")).unwrap();
    world.write("seed/b.sql", "three");
    let mut up = world.spawn(&["up"]);
    eventually("it runs again", || runs(&world) == 3);
    let pid = i32::try_from(up.id()).unwrap();
    assert!(std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    up.wait().unwrap();
    world.write("seed/b.sql", "four");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("seed/b.sql changed"), "{plan}");
    world.write("gate/open", "");
    world.ok(&["up"]);
    assert_eq!((runs(&world), world.ok(&["plan"]).as_str()), (4, "nothing to do\n"));
}

#[test]
fn unknown_names_are_told_what_there_is() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "jobs-names",
        r#"
job "migrate" { image "base"; cmd "true"; }
container "web" { image "base"; cmd "sleep" "1000"; stop-grace "100ms"; }
task "test" { container "web"; cmd "true"; }
"#,
    );
    for command in [["run", "nope"], ["shell", "nope"]] {
        let told = world.fails(&command).err;
        assert!(told.contains("no task, job, container or image \"nope\""), "{told}");
        assert!(told.contains("tasks: test; jobs: migrate; containers: web; images: base"), "{told}");
    }
    let told = world.fails(&["run", "migrat"]).err;
    assert!(told.contains("perhaps \"migrate\""), "{told}");
    let told = world.fails(&["run", "--again", "web"]).err;
    assert!(told.contains("\"web\" is a container, not a job") && told.contains("stead restart"), "{told}");
    assert!(told.contains("jobs: migrate"), "{told}");
    let told = world.fails(&["run", "--again", "test"]).err;
    assert!(told.contains("\"test\" is a task, not a job"), "{told}");
    assert!(world.fails(&["run", "--again", "nope"]).err.contains("the project has the jobs migrate"));
}

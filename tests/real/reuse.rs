//! Includes, templates, profiles and `.env`, with containers that run.

use crate::world::{World, is_root};
use std::fs;

const PROJECT: &str = r#"include "parts/web.kdl"
param "greeting" env="REUSE_GREETING" default="hello"
container "web" template="sleeper" { env GREETING="${greeting}"; }
profile "ci" { container "probe" template="sleeper"; container "web" { env GREETING="ci"; unset "env.EXTRA"; } }
"#;

const PARTS: &str = r#"template "sleeper" {
    param "seconds" type="integer" default=1000
    image "base"
    cmd "sleep" "${seconds}"
    stop-grace "100ms"
    env EXTRA="1"
    env-file "web.env"
    mount bind="shared" to="/shared" read-only=#true
}
"#;

fn world(name: &str) -> World {
    let world = World::new(name, PROJECT);
    world.write("parts/web.kdl", PARTS);
    world.write("parts/web.env", "FROM_FILE=yes\n");
    world.write("parts/shared/file", "content\n");
    world
}

const SEEN: &str = "echo $GREETING $EXTRA $FROM_FILE; cat /shared/file";

#[test]
fn a_container_of_a_template_in_another_file_runs() {
    if !is_root() {
        return;
    }
    let world = world("reuse-template");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", SEEN), "hello 1 yes\ncontent");
    let again = world.run(&["up"]);
    assert!(again.err.contains("nothing to do") || again.out.contains("nothing to do"), "{again:?}");
    // Replaced by what the template says now, with the template's place as the cause.
    world.write("parts/web.kdl", &PARTS.replace("EXTRA=\"1\"", "EXTRA=\"2\""));
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("env.EXTRA \"1\" → \"2\" (parts/web.kdl:6)"), "{plan}");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", SEEN), "hello 2 yes\ncontent");
}

#[test]
fn what_a_profile_adds_goes_with_a_cause() {
    if !is_root() {
        return;
    }
    let world = world("reuse-profile");
    world.ok(&["--profile", "ci", "up"]);
    assert_eq!(world.exec("web", SEEN), "ci yes\ncontent");
    assert_eq!(world.exec("probe", SEEN), "1 yes\ncontent");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("- container probe-1") && plan.contains("added by profile ci, which is not chosen now"), "{plan}");
    let with = world.command(&["plan"]).env("STEAD_PROFILE", "ci").output().unwrap();
    assert!(String::from_utf8_lossy(&with.stdout).contains("nothing to do"), "{with:?}");
    assert!(String::from_utf8_lossy(&with.stderr).contains("profiles: ci"), "{with:?}");
    world.ok(&["up"]);
    let names: Vec<String> = world.ps().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("web")) && !names.iter().any(|name| name.starts_with("probe")), "{names:?}");
    assert_eq!(world.exec("web", SEEN), "hello 1 yes\ncontent");
}

/// The decoded project is kept between two commands, and must not be older than `.env`.
#[test]
fn a_changed_env_file_is_noticed() {
    if !is_root() {
        return;
    }
    let world = world("reuse-env");
    world.write(".env", "REUSE_GREETING=one-value\nOTHER=x\n");
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "echo $GREETING $OTHER"), "one-value");
    world.write(".env", "REUSE_GREETING=two-value\n");
    let plan = world.run(&["plan"]);
    assert!(plan.out.contains("env.GREETING changed") && !plan.out.contains("-value"), "{}", plan.out);
    assert!(plan.err.contains("parameters: greeting from REUSE_GREETING in .env"), "{}", plan.err);
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "echo $GREETING"), "two-value");
    fs::remove_file(world.folder.join(".env")).unwrap();
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "echo $GREETING"), "hello");
}

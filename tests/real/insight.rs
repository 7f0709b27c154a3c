//! What a user can find out: how long tasks took, why something changes, what is on the machine.

use crate::registries::{possible, publish, sample};
use crate::registry::Registry;
use crate::world::{Ran, World, alive, is_root};
use serde_json::Value;
use std::fs;

const SLEEP: &str = r#"stop-grace "100ms"; cmd "sleep" "1000""#;

/// The complete event of this name in a trace.
fn event<'t>(trace: &'t Value, name: &str) -> &'t Value {
    let all = trace["traceEvents"].as_array().unwrap();
    all.iter().find(|event| event["ph"] == "X" && event["name"] == name).unwrap_or_else(|| panic!("{name}: {trace:#}"))
}

/// When an event begins and ends, in microseconds, and its track.
fn time(event: &Value) -> (u64, u64, u64) {
    let number = |key: &str| event[key].as_u64().unwrap();
    (number("ts"), number("ts") + number("dur"), number("tid"))
}

#[test]
fn a_trace_has_every_task_and_the_steps_inside() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "traced",
        &format!("image \"app\" {{ from \"base\"; copy \"one\" to=\"/one\"; }}\ncontainer \"c\" {{ image \"app\"; {SLEEP} }}\n"),
    );
    // The store is shared: nobody has built this before.
    world.write("one", &format!("{:?} {}", std::time::SystemTime::now(), std::process::id()));
    let trace = || -> Value { serde_json::from_str(&fs::read_to_string(world.folder.join("trace.json")).unwrap()).unwrap() };
    world.ok(&["up", "--trace", "trace.json"]);
    let up = trace();
    let start = event(&up, "start c-1");
    assert!(start["dur"].as_u64().unwrap() > 0 && start["args"]["waited"].is_u64(), "{start}");
    let names = up["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "thread_name");
    let tracks: Vec<&Value> = names.filter(|event| event["tid"] == start["tid"]).collect();
    assert!(tracks.len() == 1 && tracks[0]["args"]["name"].as_str().unwrap().starts_with("start"), "{tracks:?}");
    let ((from, to, track), (begins, ends, inner)) = (time(event(&up, "build app")), time(event(&up, "copy one to /one")));
    assert!(from <= begins && ends <= to && track == inner, "{up:#}");
    // What is built is explained: its steps have their times.
    let told = world.ok(&["why", "app"]);
    assert!(told.contains("would not change image app") && told.contains("image base sha256:"), "{told}");
    assert!(told.contains("step 1 copy one to /one (stead.kdl:") && told.contains(", took "), "{told}");
    assert!(told.contains("what depends on it:\n  container c\n"), "{told}");
    assert!(world.ok(&["why", "app/1"]).contains("would not change step 1 of image app"));
    world.write("one", &format!("{:?} {} again", std::time::SystemTime::now(), std::process::id()));
    assert!(world.ok(&["why", "app/1"]).contains("step 1 of image app ← one changed"), "{}", world.ok(&["why", "app/1"]));
    let told = world.ok(&["why", "c"]);
    assert!(told.contains("c-1 ← the image app is rebuilt ← one changed"), "{told}");
    // The plan says how much is built, how long that took last time, and what comes of it.
    let told = world.ok(&["plan", "-v"]);
    for wanted in
        ["image app ", "is built: 0 of 1 steps are cached (", ", the others took ", "used by container c", "generation 2"]
    {
        assert!(told.contains(wanted), "{wanted:?} is not in {told}");
    }
    assert!(!world.ok(&["plan"]).contains("generation 2"), "{told}");
    let plan: Value = serde_json::from_str(&world.ok(&["plan", "--json"])).unwrap();
    let outlook = &plan["outlook"];
    assert_eq!((&outlook["generation"], &outlook["downtime"][0][0]), (&2.into(), &"c-1".into()), "{outlook:#}");
    assert!(outlook["images"][0]["millis"].is_u64(), "{outlook:#}");
    assert!(world.fails(&["why", "app/2"]).err.contains("has no step 2"));
    assert!(world.fails(&["why", "ap"]).err.contains("perhaps \"app\""));
    // A trace is also written of what fails.
    world.edit("\"sleep\" \"1000\"", "\"false\"");
    world.fails(&["up", "--trace", "trace.json"]);
    assert_eq!(event(&trace(), "settle c-1")["args"]["outcome"], "failed");
    assert_eq!(world.fails(&["up", "--trace", "nowhere/trace.json"]).code, 2);
    world.ok(&["graph", "--output", "graph.svg"]);
    assert!(fs::read_to_string(world.folder.join("graph.svg")).unwrap().contains(">app</text>"));
    assert!(world.ok(&["graph"]).contains("\"container c\" -> \"image app\""));
}

#[test]
fn after_an_update_the_lock_is_the_cause() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let (_other, other) = sample(&[2000, 3000]);
    let registry = Registry::plain();
    let old = publish(&made, &registry, "app:1");
    let name = format!("{}/app:1", registry.address);
    let world = crate::registries::world(
        "moved-cause",
        &format!(
            "image \"main\" {{ from \"{name}\"; env A=\"1\"; }}\ncontainer \"c\" {{ image \"main\"; cmd \"/bin/hello\"; }}\n"
        ),
    );
    world.ok(&["build"]);
    let new = publish(&other, &registry, "app:1");
    world.ok(&["update", &name]);
    let cause = format!("stead.lock: {name} {}… → {}…", &old[..19], &new[..19]);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains(&format!("the image {name} is rebuilt ← {cause}")), "{plan}");
    // The same holds where the image that it starts from is there already.
    world.ok(&["build", &name]);
    let told = world.ok(&["why", "main"]);
    assert!(told.contains(&format!("main ← {cause}")), "{told}");
    assert!(world.run(&["build", "--why"]).code == 0 && world.ok(&["why", "main"]).contains("would not change image main"));
}

#[test]
fn what_a_deleted_directory_left_is_ended_by_its_id() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "left-over",
        &format!("volume \"data\"\ncontainer \"c\" {{ image \"base\"; mount volume=\"data\" to=\"/data\"; {SLEEP} }}\n"),
    );
    world.write(".git/HEAD", "ref: refs/heads/feature/x\u{1b}[2J\n");
    world.ok(&["up"]);
    let listed = world.ok(&["ps", "--projects"]);
    assert!(listed.contains("feature/x\\u{1b}[2J") && !listed.contains('\u{1b}'), "{listed}");
    assert!(!listed.contains("gone"), "{listed}");
    let pid = world.pid("c-1");
    fs::remove_dir_all(&world.folder).unwrap();
    // Its directory is no longer there to go to.
    let run = |args: &[&str]| Ran::from(world.command(args).current_dir(&world.root).output().unwrap());
    let projects = || -> Vec<Value> {
        let all: Value = serde_json::from_str(&run(&["ps", "--projects", "--json"]).out).unwrap();
        all["projects"].as_array().unwrap().clone()
    };
    let all = projects();
    assert!(all.len() == 1 && all[0]["gone"] == true && all[0]["branch"].is_null(), "{all:?}");
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let listed = run(&["ps", "--projects"]);
    assert!(listed.out.contains("(gone)") && listed.out.contains("1 container, 1 volume"), "{listed:?}");
    assert!(listed.err.contains("stead down --project ID"), "{listed:?}");
    let unknown = run(&["down", "--project", "zz"]);
    assert!(unknown.code == 2 && unknown.err.contains(&id), "{unknown:?}");
    assert!(alive(pid));
    let down = run(&["down", "--project", &id[..5]]);
    assert!(down.code == 0 && down.err.contains("volumes stay, with their data: data"), "{down:?}");
    assert!(!alive(pid));
    let all = projects();
    assert!(all.len() == 1 && all[0]["containers"] == serde_json::json!([]), "{all:?}");
    let down = run(&["down", "--project", &id, "--volumes"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert_eq!(projects(), Vec::<Value>::new());
    let again = run(&["down", "--project", &id]);
    assert!(again.code == 0 && again.err.contains("nothing is up"), "{again:?}");
    world.assert_nothing_left();
}

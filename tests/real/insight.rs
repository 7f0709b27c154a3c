//! What a user can find out: how long tasks took, why something changes, what is on the machine.

use crate::world::{World, is_root};
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
    // A trace is also written of what fails.
    world.edit("\"sleep\" \"1000\"", "\"false\"");
    world.fails(&["up", "--trace", "trace.json"]);
    assert_eq!(event(&trace(), "settle c-1")["args"]["outcome"], "failed");
    assert_eq!(world.fails(&["up", "--trace", "nowhere/trace.json"]).code, 2);
    world.ok(&["graph", "--output", "graph.svg"]);
    assert!(fs::read_to_string(world.folder.join("graph.svg")).unwrap().contains(">app</text>"));
    assert!(world.ok(&["graph"]).contains("\"container c\" -> \"image app\""));
}

//! What is printed as JSON fits the schemas of `schemas/`: here what needs no root, in `tests/real/first.rs` the rest.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

#[path = "real/fits.rs"]
mod fits;

use fits::fits;
use std::fs;
use std::process::Command;

fn json(folder: &std::path::Path, words: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(words)
        .current_dir(folder)
        .env("STEAD_ROOT", folder.join("root"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}"))
}

#[test]
fn findings_and_plans_fit_their_schemas() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| fs::write(folder.path().join("stead.kdl"), text).unwrap();
    write(
        "project \"shop\"\nimage \"app\" { copy \"stead.kdl\" to=\"/x\"; cmd \"/x\"; }\nnetwork \"n\"\nvolume \"v\"\n\
         container \"web\" {\n    image \"app\"\n    network \"n\"\n    mount volume=\"v\" to=\"/v\"\n    mount bind=\"/etc\" to=\"/e\"\n    \
         publish 8080 address=\"0.0.0.0\"\n    limits { dns \"x\"; }\n}\n",
    );
    let wrong = json(folder.path(), &["check", "--json"]);
    assert!(!wrong["diagnostics"].as_array().unwrap().is_empty());
    fits("check", &wrong);
    let text = fs::read_to_string(folder.path().join("stead.kdl")).unwrap().replace("    limits { dns \"x\"; }\n", "");
    write(&text);
    let right = json(folder.path(), &["check", "--json"]);
    fits("check", &right);
    let plan = json(folder.path(), &["plan", "--json"]);
    assert!(plan["tasks"].as_array().unwrap().len() > 5, "{plan:#}");
    fits("plan", &plan);
    // Two places belong to a clash.
    write(&format!("{text}container \"other\" {{ image \"app\"; publish 8080 address=\"0.0.0.0\"; }}\n"));
    fits("check", &json(folder.path(), &["check", "--json"]));
}

#[test]
fn the_check_of_schemas_finds_what_does_not_fit() {
    let good = serde_json::json!({ "version": 1, "ok": true, "diagnostics": [], "unsupported": [] });
    fits("check", &good);
    for (name, value) in [("version", serde_json::json!(2)), ("ok", serde_json::json!("yes")), ("more", serde_json::json!(1))] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(std::panic::catch_unwind(|| fits("check", &bad)).is_err(), "{name}");
    }
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().remove("unsupported");
    assert!(std::panic::catch_unwind(|| fits("check", &bad)).is_err());
    bad = good;
    bad["diagnostics"] = serde_json::json!([{ "code": "x", "severity": "loud", "message": "x", "place": {} }]);
    assert!(std::panic::catch_unwind(|| fits("check", &bad)).is_err());
}

#[test]
fn schemas_are_listed_and_printed_by_name() {
    let run = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_stead")).args(words).env("NO_COLOR", "1").output().unwrap();
    let list = String::from_utf8(run(&["schema", "--list"]).stdout).unwrap();
    for name in ["language", "project", "lock", "plan", "ps"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}\n{list}");
        let printed = run(&["schema", name]);
        assert!(printed.status.success() && !printed.stdout.is_empty(), "{name}");
    }
    assert_eq!(run(&["schema"]).stdout, run(&["schema", "language"]).stdout);
    assert_eq!(run(&["schema", "--reference"]).stdout, run(&["schema", "reference"]).stdout);
    let wrong = run(&["schema", "plam"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("perhaps `stead schema plan`"));
}

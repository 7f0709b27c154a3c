//! The two examples, driven through HTTP.

use crate::world::{World, copy_folder, get, is_root};
use std::path::Path;

/// A world with a copy of an example; its published port is changed, so that tests do not collide.
pub fn example(name: &str, world: &str, from: &str, to: &str) -> World {
    let it = World::bare(world, "");
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name), &it.folder);
    it.edit(from, to);
    it
}

#[test]
fn hello_is_up_changed_and_down() {
    if !is_root() {
        return;
    }
    let world = example("hello", "hello", "publish 8080", "publish 18080");
    world.ok(&["up"]);
    assert!(get("127.0.0.1:18080", "/").unwrap().contains("Hello from stead"));
    let before = world.pid("web-1");
    let again = world.run(&["up"]);
    assert!(again.err.contains("nothing to do"), "{}", again.err);
    assert_eq!(world.pid("web-1"), before, "a second up touches nothing");
    assert_eq!(world.run(&["plan", "--check"]).code, 0);
    world.write("site/index.html", "<p>changed</p>");
    assert_eq!(world.run(&["plan", "--check"]).code, 2);
    assert!(world.ok(&["plan"]).contains("site/index.html changed"));
    world.ok(&["up"]);
    assert!(get("127.0.0.1:18080", "/").unwrap().contains("changed"));
    assert!(world.ok(&["why", "web"]).contains("site/index.html changed"));
    assert!(world.ok(&["logs", "web"]).contains("GET / HTTP"));
    world.ok(&["down"]);
    assert!(get("127.0.0.1:18080", "/").is_err());
    world.assert_nothing_left();
    assert!(world.ok(&["logs", "web"]).contains("GET / HTTP"), "logs stay");
}

#[test]
fn shop_counts_across_replicas_and_replaces_only_what_changed() {
    if !is_root() {
        return;
    }
    let world = example("shop", "shop", "publish 8081", "publish 18081");
    world.ok(&["up"]);
    let mut replicas = std::collections::BTreeSet::new();
    for visit in 1..=12 {
        let page: serde_json::Value = serde_json::from_str(&get("127.0.0.1:18081", "/").unwrap()).unwrap();
        assert_eq!(page["visits"], visit);
        replicas.insert(page["replica"].as_str().unwrap().to_owned());
    }
    assert_eq!(replicas.len(), 2, "both replicas answer: {replicas:?}");
    let pids = |world: &World| ["app-1", "app-2", "cache-1", "front-1"].map(|name| world.pid(name));
    let before = pids(&world);
    world.edit("The shop", "Another shop");
    world.ok(&["up"]);
    let after = pids(&world);
    assert!(before[0] != after[0] && before[1] != after[1], "an env replaces its container");
    assert_eq!(before[2..], after[2..], "and no other");
    let page = get("127.0.0.1:18081", "/").unwrap();
    assert!(page.contains("Another shop"), "{page}");
    // A comment or a touched file changes nothing.
    world.edit("project \"shop\"", "project \"shop\" // a comment");
    world.write("app/app.py", &std::fs::read_to_string(world.folder.join("app/app.py")).unwrap());
    assert!(world.run(&["up"]).err.contains("nothing to do"));
    // A container that is deleted from the file is removed; those that only it depended on keep running.
    let text = std::fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let (kept, _) = text.split_once("container \"front\"").unwrap();
    world.write("stead.kdl", kept);
    world.ok(&["up"]);
    assert_eq!(world.ps().len(), 3);
    world.ok(&["down", "--volumes"]);
    world.assert_nothing_left();
}

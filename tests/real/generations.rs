//! Generations: what was up is brought back exactly, from what is in the store.

use crate::world::{World, is_root};
use std::fs;

const SHOP: &str = r#"image "made" { from "base"; copy "app" to="/srv/app"; }
config "motd" file="motd"
volume "data"
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; env A="1"; config "motd"; env-file "c.env"
    mount volume="data" to="/data"; }"#;

/// What the container sees.
const SEEN: &str = "cat /run/configs/motd /srv/app/a; echo $A $B; tr '\\0' ' ' < /proc/1/cmdline";

#[test]
fn what_was_up_comes_back_and_goes_forward_again() {
    if !is_root() {
        return;
    }
    let world = World::new("generations", SHOP);
    let mut seen = Vec::new();
    for number in ["1", "2", "3"] {
        world.write("app/a", &format!("file {number}\n"));
        world.write("motd", &format!("motd {number}\n"));
        world.write("c.env", &format!("B={number}\n"));
        if number != "1" {
            let before: u32 = number.parse::<u32>().unwrap() - 1;
            world.edit(&format!("A=\"{before}\""), &format!("A=\"{number}\""));
        }
        world.ok(&["up"]);
        seen.push(world.exec("c", SEEN));
    }
    world.exec("c", "echo kept > /data/file");
    assert_eq!(world.ok(&["up"]).lines().count(), 2, "nothing changes, so no generation is made");
    let differences = world.ok(&["diff", "1", "3"]);
    for line in
        ["~ image made", "step 1 what it takes is different", "env.A \"1\" → \"3\"", "env-file.B changed", "config.motd changed"]
    {
        assert!(differences.contains(line), "{line}: {differences}");
    }
    // The disk says something else by now, and does not matter.
    fs::remove_dir_all(world.folder.join("app")).unwrap();
    fs::remove_file(world.folder.join("motd")).unwrap();
    world.write("stead.kdl", "nonsense {");
    world.ok(&["rollback"]);
    assert_eq!(world.exec("c", SEEN), seen[1]);
    world.ok(&["rollback"]);
    assert_eq!(world.exec("c", SEEN), seen[0], "twice goes two back");
    assert!(world.fails(&["rollback"]).err.contains("no earlier generation"));
    world.ok(&["rollback", "3"]);
    assert_eq!(world.exec("c", SEEN), seen[2], "and forward again");
    assert_eq!(world.exec("c", "cat /data/file"), "kept", "data stays");
    let told = world.run(&["rollback", "3"]);
    assert!(told.err.contains("nothing to do"), "{}", told.err);
    world.ok(&["up", "--at", "2"]);
    assert_eq!(world.exec("c", SEEN), seen[1]);
    assert!(world.ok(&["rollback", "--dry-run", "1"]).contains("env.A \"2\" → \"1\""));
    assert_eq!(world.exec("c", SEEN), seen[1], "a dry run does nothing");
    let history: serde_json::Value = serde_json::from_str(&world.ok(&["history", "--json"])).unwrap();
    let same: Vec<Option<u64>> = history["generations"].as_array().unwrap().iter().map(|one| one["same_as"].as_u64()).collect();
    assert_eq!(same, [None, None, None, Some(2), Some(1), Some(3), Some(3), Some(2)]);
    assert!(world.ok(&["show", "4"]).contains("`rollback`"));
    assert!(world.fails(&["show", "99"]).err.contains("`stead history` lists 1 to 8"));
}

#[test]
fn a_generation_whose_bytes_were_collected_says_which() {
    if !is_root() {
        return;
    }
    // A store of its own, because this one collects.
    let world = World::bare(
        "generations-gone",
        r#"project "p"
image "made" { copy "app" to="/app"; entrypoint "/app/busybox"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    fs::remove_file(world.root.join("store")).unwrap();
    let busybox = fs::read("/bin/busybox").unwrap();
    fs::create_dir_all(world.folder.join("app")).unwrap();
    fs::write(world.folder.join("app/busybox"), busybox).unwrap();
    fs::set_permissions(world.folder.join("app/busybox"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.ok(&["up"]);
    world.write("app/x", "2");
    world.ok(&["up"]);
    world.ok(&["gc"]);
    world.ok(&["rollback"]);
    world.ok(&["rollback", "2"]);
    assert!(world.fails(&["gc", "--keep", "0"]).err.contains("`--keep 1` forgets all others"));
    assert!(world.run(&["gc", "--keep", "1"]).err.contains("forgot 3 generations"));
    assert!(world.fails(&["rollback", "1"]).err.contains("there is no generation 1"));
    // One whose layers vanished in another way.
    world.write("app/x", "3");
    world.ok(&["up"]);
    let newest = world.ok(&["show", "--resolved"]);
    assert!(newest.contains("\"project\""), "{newest}");
    world.write("app/x", "4");
    world.ok(&["up"]);
    let shown: serde_json::Value = serde_json::from_str(&world.ok(&["history", "--json"])).unwrap();
    let number = shown["generations"].as_array().unwrap().iter().rev().nth(1).unwrap()["generation"].as_u64().unwrap();
    for root in fs::read_dir(world.root.join("store/roots")).unwrap().flatten() {
        if root.file_name().to_str().unwrap().ends_with(&format!("-{number}")) {
            fs::remove_file(root.path()).unwrap();
        }
    }
    world.ok(&["gc"]);
    let gone = world.fails(&["rollback", &number.to_string()]);
    assert!(gone.err.contains("made is no longer in the store") && gone.err.contains("stead.lock"), "{}", gone.err);
    assert_eq!(world.ok(&["exec", "-T", "c", "/app/busybox", "cat", "/app/x"]), "4", "what runs goes on");
}

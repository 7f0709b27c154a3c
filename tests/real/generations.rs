//! Generations: what was up is brought back exactly, from what is in the store.

use crate::world::{World, is_root};
use std::fs;
use std::process::Command;

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
    let present = world.ok(&["show", "--resolved", "--origin"]);
    assert!(present.contains("project \"p\" // stead.kdl:1"), "{present}");
    assert!(present.contains("    copy \"app\" to=\"/app\" // stead.kdl:2"), "{present}");
    let history: serde_json::Value = serde_json::from_str(&world.ok(&["history", "--json"])).unwrap();
    let newest = history["generations"].as_array().unwrap().last().unwrap()["generation"].to_string();
    let newest = world.ok(&["show", "--resolved", &newest]);
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

/// Runs git in the project's directory.
fn git(world: &World, words: &[&str]) -> String {
    let named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").args(named).args(words).current_dir(&world.folder).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const AT: &str = r#"image "made" { from "base"; copy "app" to="/srv/app"; }
config "motd" file="motd"
secret "token" file="token"
volume "data"
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; env A="1"; config "motd"; secret "token"; env-file ".env"
    mount volume="data" to="/data"; }
"#;

#[test]
fn another_commit_is_up_and_the_working_tree_stays() {
    if !is_root() {
        return;
    }
    let world = World::new("at-commit", AT);
    world.write(".gitignore", "token\n.env\n");
    world.write("token", "secret");
    world.write(".env", "B=env\n");
    git(&world, &["init", "-q"]);
    for number in ["1", "2", "3"] {
        world.write("app/a", &format!("file {number}\n"));
        world.write("motd", &format!("motd {number}\n"));
        git(&world, &["add", "."]);
        git(&world, &["commit", "-qm", number]);
        if number == "1" {
            git(&world, &["tag", "first"]);
            world.edit("env A=\"1\"", "env A=\"2\"");
        }
    }
    let see = || world.exec("c", "cat /srv/app/a /run/configs/motd /run/secrets/token; echo; echo $A $B");
    world.ok(&["up"]);
    let now = see();
    assert!(now.contains("file 3") && now.contains("secret") && now.contains("2 env"), "{now}");
    world.exec("c", "echo kept > /data/file");
    // The working tree is in the middle of something.
    world.write("app/a", "unfinished\n");
    fs::remove_file(world.folder.join("motd")).unwrap();
    let before = git(&world, &["status", "--porcelain"]);
    let planned = world.ok(&["up", "--at", "main~1", "--dry-run"]);
    assert!(planned.contains("container c-1 ("), "{planned}");
    assert_eq!(see(), now, "a dry run does nothing");
    for (revision, wanted) in
        [("main~2", "1"), ("HEAD~1", "2"), ("first", "1"), (&git(&world, &["rev-parse", "main"])[..10], "3")]
    {
        world.ok(&["up", "--at", revision]);
        let seen = see();
        let env = if wanted == "1" { "1 env" } else { "2 env" };
        for line in [&format!("file {wanted}"), &format!("motd {wanted}"), "secret", env] {
            assert!(seen.contains(line), "{revision}: {line}: {seen}");
        }
    }
    assert_eq!(world.exec("c", "cat /data/file"), "kept", "it is the same instance");
    assert_eq!(git(&world, &["status", "--porcelain"]), before);
    let history: serde_json::Value = serde_json::from_str(&world.ok(&["history", "--json"])).unwrap();
    let commits: Vec<&str> = history["generations"].as_array().unwrap().iter().filter_map(|one| one["commit"].as_str()).collect();
    let named = |revision: &str| git(&world, &["rev-parse", revision]);
    assert_eq!(commits, ["main", "main~2", "main~1", "main~2", "main"].map(named));
    world.ok(&["rollback", "2"]);
    assert!(see().contains("file 1"), "a generation of a commit is one as any other");
    assert!(world.ok(&["up", "--at", "1"]).contains("c-1"), "a number is a generation first");
    assert!(see().contains("file 3"));
    let is_ours = |place: &std::path::Path| {
        fs::read_to_string(place.join("commit/stead.kdl")).is_ok_and(|text| text.contains("project \"at-commit\"\n"))
    };
    let left = fs::read_dir(world.root.join("store/tmp")).unwrap().flatten().filter(|entry| is_ours(&entry.path()));
    assert_eq!(left.count(), 0, "a checkout is left");
    // What the working tree says is up again.
    world.write("motd", "motd now\n");
    world.ok(&["up"]);
    assert!(see().contains("unfinished") && see().contains("motd now"));
}

#[test]
fn a_commit_that_cannot_be_up_is_told_before_anything_is_done() {
    if !is_root() {
        return;
    }
    let world = World::new("at-commit-wrong", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    let told = |revision: &str| world.fails(&["up", "--at", revision]).err;
    assert!(told("7").contains("there is no generation 7"));
    git(&world, &["init", "-q"]);
    git(&world, &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    git(&world, &["tag", "empty"]);
    git(&world, &["add", "."]);
    git(&world, &["commit", "-qm", "project"]);
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("stead.kdl", &text.replace("stop-grace", "mount bind=\"app\" to=\"/app\"; stop-grace"));
    world.write("app/a", "1");
    git(&world, &["add", "."]);
    git(&world, &["commit", "-qm", "bind"]);
    git(&world, &["tag", "bind"]);
    world.write("stead.kdl", &text.replace("stop-grace", "stopp-grace"));
    git(&world, &["commit", "-qam", "broken"]);
    git(&world, &["tag", "broken"]);
    world.write("stead.kdl", &text);
    git(&world, &["rm", "-q", "--cached", "stead.lock"]);
    git(&world, &["commit", "-qam", "no lock"]);
    git(&world, &["tag", "unlocked"]);
    for (revision, wanted) in [
        ("mian", "perhaps \"main\""),
        ("empty", "has no stead.kdl"),
        ("bind", "container c binds \"app\" of the project"),
        ("broken", "stopp-grace"),
        ("unlocked", "stead.lock has no packages"),
        ("main@{1}", "git rev-parse"),
    ] {
        let said = told(revision);
        assert!(said.contains(wanted), "{revision}: {said}");
    }
    assert_eq!(world.pid("c-1"), pid, "nothing was touched");
    world.ok(&["up", "--at", "bind~1"]);
    assert_eq!(world.pid("c-1"), pid, "that commit is what is up");
}
